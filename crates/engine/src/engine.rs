//! [`Engine`] and its [`Builder`].

use crate::background::{self, Background};
use crate::batch::WriteBatch;
use crate::bulk::BulkWriter;
use crate::core::Core;
use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::filter::Filters;
use crate::ingest::{IngestOptions, Ingested};
use crate::iter::Iter;
use crate::keyspace::Keyspace;
use crate::listener::Listener;
use crate::metrics::Metrics;
use crate::open;
use crate::options::{KeyspaceOptions, Options, ReadOptions, WriteOptions};
use crate::range::{KeyRange, to_bounds};
use crate::snapshot::Snapshot;
use crate::transaction::{Transaction, TransactionCursor, TransactionIter};
use crate::verify::VerifyReport;
use esker_compaction::CompactionFilter;
use esker_format::Slice;
use esker_iterator::MergeOperator;
use esker_vfs::{OsVfs, Vfs};
use std::borrow::Borrow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What keeps an engine open. Held by [`Engine`], [`Keyspace`], [`Snapshot`] and [`Transaction`]; the last one closes it.
pub(crate) struct Handle {
    pub(crate) core: Arc<Core>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        background::close_abandoned(&self.core);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt(f)
    }
}

/// An embedded, ordered key-value store in a directory. Cheap to clone; all clones are one engine.
///
/// It holds keyspaces, each an ordered map from byte-string key (0 to 65,535 bytes) to byte-string value (0 to 2^32 - 1 bytes). Its own methods act on the keyspace
/// `default`, which always exists. All methods may be called from any number of threads.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use esker::Engine;
/// let engine = Engine::open(dir.path())?;
/// engine.put("user:1", "ada")?;
/// assert_eq!(engine.get("user:1")?.unwrap(), b"ada");
/// for item in engine.prefix("user:") {
///     let (key, value) = item?;
///     println!("{key:?} = {value:?}");
/// }
/// engine.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Engine {
    pub(crate) handle: Arc<Handle>,
    pub(crate) default: Keyspace,
}

/// Settings and components of an engine about to be opened. Made by [`Engine::builder`].
pub struct Builder {
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) listener: Option<Arc<dyn Listener>>,
    pub(crate) read_only: bool,
    pub(crate) background: Background,
    pub(crate) default_keyspace: KeyspaceOptions,
    pub(crate) operators: Vec<(String, Arc<dyn MergeOperator>)>,
    pub(crate) filters: Filters,
}

impl Builder {
    /// Settings; [`Options::default`] if never called.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// The file system; the operating system's if never called.
    #[must_use]
    pub fn vfs(mut self, vfs: Arc<dyn Vfs>) -> Self {
        self.vfs = vfs;
        self
    }

    /// Hears what happens in the background.
    #[must_use]
    pub fn listener(mut self, listener: impl Listener) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// Open for reading only: no file is changed or made, not even repaired, and other readers may have the directory open too.
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Who does the background work; threads of the engine if never called.
    #[must_use]
    pub fn background(mut self, background: Background) -> Self {
        self.background = background;
        self
    }

    /// Settings of the keyspace `default`, as [`Engine::keyspace`] takes them for others: those given when the engine is made are stored with it, those given later hold until it is closed.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use esker::{Codec, Engine, KeyspaceOptions};
    /// let options = KeyspaceOptions { compression: Some(Codec::None), ..Default::default() };
    /// let engine = Engine::builder(dir.path()).default_keyspace(options).open()?;
    /// # engine.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn default_keyspace(mut self, options: KeyspaceOptions) -> Self {
        self.default_keyspace = options;
        self
    }

    /// Registers a merge operator under a name, which keyspaces are made with: [`KeyspaceOptions::merge_operator`]. What is known by a name must be the same for as long as there is a keyspace that has it. Those whose names begin with
    /// `esker.` are registered already: `esker.counter`, `esker.max`, `esker.min` and `esker.append`, of [`crate::operators`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use esker::{Engine, KeyspaceOptions, operators::Append};
    /// let engine = Engine::builder(dir.path()).merge_operator("lines", Append::with_separator("\n")).open()?;
    /// let options = KeyspaceOptions { merge_operator: Some("lines".into()), ..Default::default() };
    /// let notes = engine.keyspace("notes", options)?;
    /// notes.merge("today", "buy milk")?;
    /// notes.merge("today", "call ada")?;
    /// assert_eq!(notes.get("today")?.unwrap(), b"buy milk\ncall ada");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn merge_operator(mut self, name: impl Into<String>, operator: impl MergeOperator) -> Self {
        self.operators.push((name.into(), Arc::new(operator)));
        self
    }

    /// Registers a compaction filter under a name, by which keyspaces choose it: [`KeyspaceOptions::compaction_filter`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use esker::{Engine, FilterDecision, KeyspaceOptions};
    /// let no_drafts = |_level: u8, key: &[u8], _value: &[u8]| match key.starts_with(b"draft/") {
    ///     true => FilterDecision::Remove,
    ///     false => FilterDecision::Keep,
    /// };
    /// let engine = Engine::builder(dir.path()).compaction_filter("no drafts", no_drafts).open()?;
    /// let pages = KeyspaceOptions { compaction_filter: Some("no drafts".into()), ..Default::default() };
    /// let pages = engine.keyspace("pages", pages)?;
    /// pages.put("draft/7", "..")?;
    /// pages.put("page/7", "..")?;
    /// pages.compact_range(..)?;
    /// let left: Result<Vec<_>, _> = pages.iter().keys().collect();
    /// assert_eq!(left?, [b"page/7"]);
    /// # engine.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn compaction_filter(mut self, name: impl Into<String>, filter: impl CompactionFilter) -> Self {
        self.filters.insert(name.into(), Arc::new(filter));
        self
    }

    /// Opens the engine, recovering what was written before.
    ///
    /// # Errors
    /// `NotFound` if there is no engine and none is to be made; `Locked` if it is open elsewhere; `Corruption` if a log or the manifest lacks what was durable;
    /// `Unsupported` if a newer version wrote it; `InvalidArgument` for options that can't work or a path that is no directory; `Io` and `NoSpace`.
    /// A damaged table does not keep the engine from opening: see [`Engine::verify`].
    pub fn open(self) -> Result<Engine> {
        let core = open::open(self)?;
        let default = Arc::clone(core.default_keyspace());
        let handle = Arc::new(Handle { core });
        Ok(Engine { default: Keyspace { handle: Arc::clone(&handle), core: default }, handle })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("dir", &self.dir)
            .field("options", &self.options)
            .field("default_keyspace", &self.default_keyspace)
            .field("read_only", &self.read_only)
            .field("background", &self.background)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens the engine in `dir` with default options; makes directory and engine if there is none.
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Self::builder(dir).open()
    }

    /// Begins to open the engine in `dir`, with settings.
    pub fn builder(dir: impl AsRef<Path>) -> Builder {
        Builder {
            dir: dir.as_ref().to_owned(),
            options: Options::default(),
            vfs: Arc::new(OsVfs),
            listener: None,
            read_only: false,
            background: Background::default(),
            default_keyspace: KeyspaceOptions::default(),
            operators: Vec::new(),
            filters: Filters::new(),
        }
    }

    fn core(&self) -> &Arc<Core> {
        &self.handle.core
    }

    /// Sets `key` to `value`, at the engine's durability level.
    ///
    /// # Errors
    /// `InvalidArgument` for a key over 65,535 bytes or a value over 2^32 - 1; `NoSpace`; `ReadOnly` after a failure that stopped writing, or in an engine opened so;
    /// `Closed`; `Stalled` instead of waiting for room where nobody else makes it: with [`Background::Manual`], and on a thread of the engine; `Io` from the write itself. A failure of background work since the last write is returned once, and the write is not made.
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.default.put(key, value)
    }

    /// As [`Engine::put`], at another durability level.
    ///
    /// # Errors
    /// As [`Engine::put`], and `Stalled` if waiting was forbidden.
    pub fn put_with(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>, options: &WriteOptions) -> Result<()> {
        self.default.put_with(key, value, options)
    }

    /// Merges `operand` into the value of `key`, without reading it: the keyspace's [merge operator](Builder::merge_operator) does that for whoever reads the key, and in the background.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use esker::{Engine, KeyspaceOptions};
    /// let options = KeyspaceOptions { merge_operator: Some("esker.counter".into()), ..Default::default() };
    /// let engine = Engine::builder(dir.path()).default_keyspace(options).open()?;
    /// engine.merge("visits", 1i64.to_le_bytes())?;
    /// engine.merge("visits", 2i64.to_le_bytes())?;
    /// assert_eq!(engine.get("visits")?.unwrap(), 3i64.to_le_bytes());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Engine::put`], and `InvalidArgument` if the keyspace has no merge operator or it takes no such operand; `Unsupported` if nobody has registered it.
    pub fn merge(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<()> {
        self.default.merge(key, operand)
    }

    /// As [`Engine::merge`], at another durability level.
    ///
    /// # Errors
    /// As [`Engine::merge`], and `Stalled` if waiting was forbidden.
    pub fn merge_with(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>, options: &WriteOptions) -> Result<()> {
        self.default.merge_with(key, operand, options)
    }

    /// Removes `key`; fine if it is not there.
    ///
    /// # Errors
    /// As [`Engine::put`].
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        self.default.delete(key)
    }

    /// As [`Engine::delete`], at another durability level.
    ///
    /// # Errors
    /// As [`Engine::put_with`].
    pub fn delete_with(&self, key: impl AsRef<[u8]>, options: &WriteOptions) -> Result<()> {
        self.default.delete_with(key, options)
    }

    /// Removes all keys from `begin` on, up to `end`, which stays: by one record, however many keys there are. Snapshots taken before see them on; what is put there afterwards stays. Scans and
    /// seeks pass the range without visiting what was in it, and its space comes back by compaction.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let engine = esker::Engine::open(dir.path())?;
    /// for day in ["2026-01-01", "2026-01-31", "2026-02-01"] {
    ///     engine.put(day, "..")?;
    /// }
    /// engine.delete_range("2026-01", "2026-02")?;
    /// let left: Result<Vec<_>, _> = engine.iter().keys().collect();
    /// assert_eq!(left?, [b"2026-02-01"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Engine::put`], and `InvalidArgument` if `begin` does not come before `end`.
    pub fn delete_range(&self, begin: impl AsRef<[u8]>, end: impl AsRef<[u8]>) -> Result<()> {
        self.default.delete_range(begin, end)
    }

    /// As [`Engine::delete_range`], at another durability level.
    ///
    /// # Errors
    /// As [`Engine::delete_range`], and `Stalled` if waiting was forbidden.
    pub fn delete_range_with(
        &self,
        begin: impl AsRef<[u8]>,
        end: impl AsRef<[u8]>,
        options: &WriteOptions,
    ) -> Result<()> {
        self.default.delete_range_with(begin, end, options)
    }

    /// Removes all keys of `default`: as [`Engine::delete_range`] of a range that holds every key.
    ///
    /// # Errors
    /// As [`Engine::put`].
    pub fn clear(&self) -> Result<()> {
        self.default.clear()
    }

    /// Commits a batch: all of it or nothing, over any keyspaces.
    ///
    /// # Errors
    /// As [`Engine::put`], and `NotFound` if a keyspace was dropped; nothing is written then.
    pub fn write(&self, batch: impl Borrow<WriteBatch>) -> Result<()> {
        self.write_with(batch, &WriteOptions::default())
    }

    /// As [`Engine::write`], at another durability level.
    ///
    /// # Errors
    /// As [`Engine::write`], `Stalled` if waiting was forbidden, and `InvalidArgument` for a time to live where the batch has merge operands.
    pub fn write_with(&self, batch: impl Borrow<WriteBatch>, options: &WriteOptions) -> Result<()> {
        self.core().write(batch.borrow(), options)
    }

    /// Takes in tables that were built outside, by [`SstWriter`](crate::SstWriter): all of them at once, whole or not at all, newer than all that was committed before. Readers see all of it or
    /// nothing, and snapshots taken before see nothing of it.
    ///
    /// The tables of one call must not overlap. Each is read whole and checked first; then writers wait while what of this keyspace is in memory is flushed, if it overlaps, and one edit is made. A table goes into the lowest level
    /// where nothing overlaps it above or in it. With [`IngestOptions::move_files`] the files are linked into the directory, or copied if that can't be, and removed where they were.
    ///
    /// # Durability
    /// On return it is on stable storage, and with it all that was committed before, whatever the engine's level.
    ///
    /// # Errors
    /// `Corruption` for a file that is damaged, cut short, or no table; `Unsupported` for what this version does not know, such as another order of keys, and for range deletes; `InvalidArgument` if two tables overlap, one is in the engine already, or is no table
    /// built outside. As [`Engine::put`] else, and `Stalled` in an engine without background threads whose compaction is behind. Nothing is changed then, and all files are where they were; but with [`Error::outcome_unknown`],
    /// when writing has stopped, it may be found after [`resume`](Self::resume) or reopening, whole.
    pub fn ingest<P: AsRef<Path>>(
        &self,
        paths: impl IntoIterator<Item = P>,
        options: &IngestOptions,
    ) -> Result<Ingested> {
        self.default.ingest(paths, options)
    }

    /// Begins a load of sorted input, which goes past log and memtable: see [`BulkWriter`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let engine = esker::Engine::open(dir.path())?;
    /// let mut load = engine.bulk_writer()?;
    /// for day in 1..=31 {
    ///     load.put(format!("2026-01-{day:02}"), "..")?;
    /// }
    /// assert!(engine.is_empty()?, "there is nothing to be seen yet");
    /// load.finish()?;
    /// assert_eq!(engine.prefix("2026-01").count(), 31);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `ReadOnly`, `Closed`.
    pub fn bulk_writer(&self) -> Result<BulkWriter> {
        self.default.bulk_writer()
    }

    /// Loads entries whose keys ascend, all at once or, if any call fails, not at all: see [`BulkWriter`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let engine = esker::Engine::open(dir.path())?;
    /// let loaded = engine.bulk_load((0..1000u32).map(|i| (i.to_be_bytes(), "value")))?;
    /// assert_eq!(loaded.entries(), 1000);
    /// assert!(engine.contains_key(7u32.to_be_bytes())?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`BulkWriter::put`] and [`BulkWriter::finish`].
    pub fn bulk_load<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Ingested> {
        self.default.bulk_load(entries)
    }

    /// Makes everything acknowledged before the call durable against power loss.
    ///
    /// # Errors
    /// `Io` with [`Error::outcome_unknown`] if the sync failed; writing has then stopped. `Closed`, `ReadOnly`.
    pub fn sync(&self) -> Result<()> {
        let _call = self.core().enter()?;
        self.core().sync()
    }

    /// The value of `key`, if there is one.
    ///
    /// # Errors
    /// `Corruption` if what should hold it is damaged; `Io`; `Closed`.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        self.default.get(key)
    }

    /// Whether `key` has a value.
    ///
    /// # Errors
    /// As [`Engine::get`].
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.default.contains_key(key)
    }

    /// The values of several keys, all at one instant, in the order of the keys.
    ///
    /// # Errors
    /// As [`Engine::get`].
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<Slice>>> {
        self.default.multi_get(keys)
    }

    /// Keys and values of a range, in key order. Errors come as the iterator's items.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let engine = esker::Engine::open(dir.path())?;
    /// for item in engine.range("a".."m").rev() {
    ///     let (key, value) = item?;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn range(&self, range: impl KeyRange) -> Iter {
        self.default.range(range)
    }

    /// Keys that begin with `prefix`, and their values, in key order.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Iter {
        self.default.prefix(prefix)
    }

    /// All keys and values, in key order.
    pub fn iter(&self) -> Iter {
        self.default.iter()
    }

    /// A cursor over all keys: the walk that copies nothing.
    pub fn cursor(&self) -> Cursor {
        self.default.cursor()
    }

    /// A cursor within bounds.
    pub fn cursor_with(&self, options: ReadOptions) -> Cursor {
        self.default.cursor_with(options)
    }

    /// One instant of all keyspaces, for as long as it is held.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(&self.handle, self.default.clone())
    }

    /// Opens a keyspace, or makes it.
    ///
    /// Options given for one that exists hold until the engine is closed; those it was made with are stored with it. A merge operator is given when it is made, and from then on only the same or none. A name has 1 to 255 bytes.
    ///
    /// # Errors
    /// `NotFound` if it would have to be made and the engine does not write; `InvalidArgument` for a bad name, or another merge operator than it was made with; `Unsupported` if it is to be made with one that nobody has registered; those of writing
    /// the manifest, where with [`Error::outcome_unknown`] the keyspace may be there after reopening.
    pub fn keyspace(&self, name: impl AsRef<str>, options: KeyspaceOptions) -> Result<Keyspace> {
        let core = self.core().keyspace(name.as_ref(), options)?;
        Ok(Keyspace { handle: Arc::clone(&self.handle), core })
    }

    /// The names of all keyspaces, in order of name. `default` is among them.
    pub fn keyspaces(&self) -> Vec<String> {
        self.core().state.lock().names.keys().map(ToString::to_string).collect()
    }

    /// Drops a keyspace and all that is in it. Its number is never used again, so one made later under the same name starts empty; iterators and snapshots taken before stay whole. Its memory and files go with
    /// the last of its handles and iterators.
    ///
    /// # Errors
    /// `NotFound`; `InvalidArgument` for `default`; those of syncing the log and of writing the manifest, where with [`Error::outcome_unknown`] it may be gone after reopening.
    ///
    /// # Durability
    /// On stable storage when this returns, and before it all that had been written when it was called, whatever its level.
    pub fn drop_keyspace(&self, name: impl AsRef<str>) -> Result<()> {
        self.core().drop_keyspace(name.as_ref())
    }

    /// Writes all that is in memory as tables, and returns when that is done.
    ///
    /// # Errors
    /// Those of writing tables; nothing is lost, and the work is tried again in the background.
    pub fn flush(&self) -> Result<()> {
        let _call = self.core().enter()?;
        self.core().flush_keyspaces(&self.core().keyspaces())
    }

    /// Flushes, and brings all that lies in the range to the lowest level that holds any of it; the space of what was overwritten and deleted there comes back,
    /// but for what snapshots see. A compaction filter has been asked about all that was there when it was called and was not written to meanwhile.
    ///
    /// # Errors
    /// Those of reading and writing tables, and `Other` if a compaction filter fails. What was done is kept.
    pub fn compact_range(&self, range: impl KeyRange) -> Result<()> {
        self.core().compact_range(self.core().default_keyspace(), &to_bounds(&range))
    }

    /// Makes a copy of the engine in the directory `to`, as of one instant during the call: every write acknowledged before the call is in it. Tables are
    /// linked where the file system can, else copied, so it costs little space. It opens alone.
    ///
    /// # Errors
    /// `InvalidArgument` if `to` exists and is not an empty directory; `Locked` if somebody else makes or has an engine there, another checkpoint among them; those of reading and writing files, and then what was made is removed again (where the file system has no locks, it is left).
    pub fn checkpoint(&self, to: impl AsRef<Path>) -> Result<()> {
        self.core().checkpoint(to.as_ref())
    }

    /// Reads every table whole and checks it: checksums, order, filters, and what the manifest says of it.
    ///
    /// # Errors
    /// Only if the check could not be made; what it finds is in the report.
    pub fn verify(&self) -> Result<VerifyReport> {
        let report = self.core().verify();
        self.core().deliver();
        report
    }

    /// Goes on writing after a failure stopped it, once its cause is mended. Trusts nothing of the old log: everything in memory is written as
    /// synced tables, a new log and manifest are begun, and only then writes are taken.
    ///
    /// Does nothing if writing has not stopped, but that failed background work is tried again at once. What that had met so far, or meets yet in what it has begun, is told to no write any more.
    ///
    /// # Errors
    /// The cause may still be there: writing stays stopped, nothing is lost, and `resume` may be called again.
    pub fn resume(&self) -> Result<()> {
        let _call = self.core().enter()?;
        self.core().resume()
    }

    /// Does one step of background work, in an engine opened with [`Background::Manual`]; whether there was any to do.
    ///
    /// # Errors
    /// `Closed`, `ReadOnly`. A failure of the work itself is kept as with threads, and shown by the next write.
    pub fn step(&self) -> Result<bool> {
        let _call = self.core().enter()?;
        Ok(self.core().step())
    }

    /// Figures of the running engine.
    pub fn metrics(&self) -> Metrics {
        self.core().metrics()
    }

    /// The options it was opened with.
    pub fn options(&self) -> &Options {
        &self.core().options
    }

    /// The options that the engine in `dir` was last opened with.
    ///
    /// # Errors
    /// `NotFound` if there are none; `Corruption` or `Unsupported` if they can't be read.
    pub fn stored_options(dir: impl AsRef<Path>) -> Result<Options> {
        open::stored_options(&OsVfs, dir.as_ref())
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.core().dir
    }

    /// Closes the engine: refuses new calls, waits for those in flight, flushes (if [`Options::flush_on_close`]), makes everything acknowledged durable, ends its
    /// threads and releases the lock. Handles that are left get `Closed`; iterators, cursors and slices stay valid.
    ///
    /// Idempotent: later calls return what the first did. Dropping the last handle does the same, but has nobody to tell of errors. Called by a listener on a thread of
    /// the engine, for which it would have to wait, it returns at once and another thread goes on.
    ///
    /// # Errors
    /// Those of flush and sync. The engine is closed all the same, and what was acknowledged is as safe as its durability level.
    pub fn close(&self) -> Result<()> {
        background::close(self.core())
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}

const _: () = {
    const fn shared<T: Clone + Send + Sync + 'static>() {}
    const fn sent<T: Send + 'static>() {}
    shared::<Engine>();
    shared::<Keyspace>();
    shared::<Snapshot>();
    shared::<Error>();
    sent::<Transaction>();
    sent::<TransactionIter>();
    sent::<TransactionCursor>();
    sent::<Iter>();
    sent::<Cursor>();
};
