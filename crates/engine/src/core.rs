//! [`Core`]: what all handles of one engine share, and the order of its locks.
//!
//! # Locks, in the order in which they may be taken
//! | lock | orders | I/O under it |
//! |---|---|---|
//! | `ddl` | making and dropping keyspaces, checkpoint, resume, close | yes |
//! | `commit` | writes: log position, sequence numbers, memtables, publication | appends to the log, an edit for an ingest; never a sync of the log |
//! | `manifest` | version edits | appends and syncs the manifest |
//! | `state` | which memtables are sealed, which jobs run, which logs are needed; swaps of read states | **none** |
//!
//! Readers take none of them.

use crate::commit::{Commit, Health};
use crate::edges::Edges;
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::{self, AsOf, Time};
use crate::feed::Feed;
use crate::filter::{FilterRest, Filters};
use crate::listener::{Event, Listener};
use crate::logs::LogFiles;
use crate::memory::{CountedTable, MemoryUse};
use crate::merging::{Merging, Operators};
use crate::metrics::Counters;
use crate::options::{KeyspaceOptions, MEMTABLE_BYTES_MAX, Options};
use crate::publish::{Current, Visible};
use crate::read::{LevelView, ReadState};
use crate::recovery::ReplayedLog;
use crate::removals::Removals;
use crate::snapshot::SnapshotList;
use crate::stall::Pressure;
use crate::tables::TableSet;
use arc_swap::Guard;
use esker_compaction::{Busy, Picker};
use esker_format::{FileId, FileNo, KeyspaceId, SeqNo};
use esker_manifest::{KeyspaceVersion, Version, VersionSet};
use esker_vfs::{FileLock, Vfs};
use esker_wal::Lsn;
use parking_lot::{Condvar, Mutex};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What all handles of one engine share.
pub(crate) struct Core {
    /// Tells engines of one process apart.
    pub(crate) number: u64,
    pub(crate) dir: PathBuf,
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) options: Options,
    pub(crate) read_only: bool,
    pub(crate) listener: Option<Arc<dyn Listener>>,
    /// What the listener is still to be told, by whoever next holds no lock.
    pub(crate) events: Mutex<VecDeque<Event>>,

    pub(crate) ddl: Mutex<()>,
    pub(crate) commit: Mutex<Commit>,
    /// Signalled when whoever had the turn has had it; waited for with `commit`.
    pub(crate) turn_over: Condvar,
    /// What all transactions remember of their reads, in bytes.
    pub(crate) tracking_bytes: AtomicUsize,
    /// `None` in an engine opened for reading only.
    pub(crate) manifest: Mutex<Option<VersionSet>>,
    pub(crate) state: Mutex<State>,
    /// Signalled when a job ends, a read state changes, or work appears; waited for with `state`.
    pub(crate) changed: Condvar,

    /// The newest sequence number that readers may see.
    pub(crate) visible: Visible,
    pub(crate) health: Health,
    pub(crate) snapshots: SnapshotList,
    pub(crate) edges: Edges,
    pub(crate) time: Time,
    /// How often `resume` was called: what was begun before says nothing of what is now.
    pub(crate) resumes: AtomicU64,
    /// How often writing has resumed by itself: likewise of space.
    pub(crate) own_resumes: AtomicU64,
    /// Whether `State::unseen_error` holds one.
    pub(crate) unseen: AtomicBool,
    /// Until when slowed writers have paid, by the engine's clock.
    pub(crate) paid_until: Mutex<Duration>,
    /// The keyspace `default`, set when the engine has opened.
    pub(crate) default: OnceLock<Arc<KeyspaceCore>>,
    /// What the manifest says, in an engine opened for reading only.
    pub(crate) read_only_version: OnceLock<Arc<Version>>,
    /// What recovery did not replay, and why, set when the engine has opened.
    pub(crate) left_out: OnceLock<Vec<String>>,
    /// The text of the file of options, as it was when the engine was opened.
    pub(crate) stored_options: OnceLock<String>,
    pub(crate) operators: Operators,
    pub(crate) tables: TableSet,
    pub(crate) removals: Arc<Removals>,
    pub(crate) log_files: LogFiles,
    pub(crate) memory: Arc<MemoryUse>,
    /// `visible` when upkeep last looked after memory.
    pub(crate) visible_at_last_look: AtomicU64,
    pub(crate) picker: Picker,
    pub(crate) filters: Filters,
    pub(crate) counters: Counters,
    /// How many keyspaces slow or stop their writers: while none does, a write looks no further.
    pub(crate) strained: AtomicUsize,
    /// Set once, at the beginning of close.
    pub(crate) closing: AtomicBool,
    /// Held while the engine is open.
    pub(crate) lock: Mutex<Option<Box<dyn FileLock>>>,
    pub(crate) workers: Mutex<Vec<crate::background::Worker>>,
    /// Whether `step` is called by the user and not by threads.
    pub(crate) manual: bool,
    /// The result of the first close, for those that follow.
    pub(crate) closed: Mutex<Option<Result<()>>>,
}

/// One keyspace while the engine is open.
pub(crate) struct KeyspaceCore {
    pub(crate) id: KeyspaceId,
    pub(crate) name: Arc<str>,
    pub(crate) options: Mutex<KeyspaceOptions>,
    pub(crate) read: Current<ReadState>,
    /// What makes values of merge operands, if the keyspace was made with it.
    pub(crate) merging: Option<Arc<Merging>>,
    pub(crate) dropped: AtomicBool,
    pub(crate) pressure: Pressure,
    /// How long what is put lives, unless a write says otherwise, in milliseconds.
    pub(crate) ttl_ms: Option<u64>,
    /// Whether anything in it expires, or ever did since it was opened: if not, reads need not know what time it is.
    pub(crate) expires: AtomicBool,
    /// Since its compaction filter failed.
    pub(crate) filter_rest: Mutex<FilterRest>,
    /// Size at which the active memtable is sealed: from `options`, for writers, who don't take their lock.
    memtable_bytes: AtomicUsize,
}

impl KeyspaceCore {
    pub(crate) fn new(
        version: &KeyspaceVersion,
        options: KeyspaceOptions,
        engine: &Options,
        active: Arc<CountedTable>,
        view: Arc<LevelView>,
        merging: Option<Arc<Merging>>,
    ) -> Arc<Self> {
        let read = ReadState::new(active, Vec::new(), view).with_merging(&merging);
        let memtable_bytes = options.memtable_bytes.map_or(engine.memtable_bytes(), |own| own.min(MEMTABLE_BYTES_MAX));
        let ttl_ms = options.ttl.and_then(|ttl| expiry::ttl_ms(ttl).ok());
        let expires = version.tables().any(|(_, table)| table.expiries.is_some());
        Arc::new(Self {
            id: version.id,
            name: Arc::clone(&version.name),
            options: Mutex::new(options),
            read: Current::new(read),
            merging,
            dropped: AtomicBool::new(false),
            pressure: Pressure::default(),
            ttl_ms,
            expires: AtomicBool::new(expires),
            filter_rest: Mutex::default(),
            memtable_bytes: AtomicUsize::new(memtable_bytes),
        })
    }

    /// # Errors
    /// `NotFound` if it was dropped.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        // Acquire: pairs with the Release in `drop_keyspace`.
        if self.dropped.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::NotFound, format!("the keyspace {} was dropped", self.name)));
        }
        Ok(())
    }

    /// The state to read now, and the instant to read it at.
    #[inline(always)]
    pub(crate) fn now(&self, core: &Core) -> (Guard<Arc<ReadState>>, AsOf) {
        let (state, seq) = self.read.load_at(&core.visible);
        // Relaxed: set before anything that expires became visible, which the number above says. The time is taken behind the state, so that it is no earlier than what a compaction went by.
        let unix_ms = if self.expires.load(Ordering::Relaxed) { core.now_ms() } else { 0 };
        (state, AsOf { seq, unix_ms })
    }

    /// Puts a new read state in place. Only under the state lock.
    pub(crate) fn swap(&self, change: impl FnOnce(&ReadState) -> ReadState) {
        let now = self.read.load();
        let next = change(&now).with_merging(&self.merging);
        self.read.store(Arc::new(next));
    }

    pub(crate) fn memtable_bytes(&self) -> usize {
        // Relaxed: a writer that sees the older figure seals by it once more.
        self.memtable_bytes.load(Ordering::Relaxed)
    }

    /// Replaces what `given` sets, until the engine is closed.
    ///
    /// # Errors
    /// `InvalidArgument` if it sets what is part of the keyspace otherwise than it was made with.
    pub(crate) fn override_options(&self, given: KeyspaceOptions) -> Result<()> {
        self.check_baked_in(&given)?;
        let mut options = self.options.lock();
        if let Some(bytes) = given.memtable_bytes {
            self.memtable_bytes.store(bytes.min(MEMTABLE_BYTES_MAX), Ordering::Relaxed);
        }
        *options = KeyspaceOptions {
            memtable_bytes: given.memtable_bytes.or(options.memtable_bytes),
            block_size_bytes: given.block_size_bytes.or(options.block_size_bytes),
            compression: given.compression.or(options.compression),
            filter_bits_per_key: given.filter_bits_per_key.or(options.filter_bits_per_key),
            blob_bytes_min: given.blob_bytes_min.or(options.blob_bytes_min),
            ttl: options.ttl,
            // Never another: see `check_merging`.
            merge_operator: options.merge_operator.take(),
            compaction_filter: given.compaction_filter.or(options.compaction_filter.take()),
        };
        Ok(())
    }

    /// Compares what can't change with what the keyspace was made with.
    fn check_baked_in(&self, given: &KeyspaceOptions) -> Result<()> {
        let Some(ttl) = given.ttl else { return Ok(()) };
        let given_ms = expiry::ttl_ms(ttl)?;
        if self.ttl_ms == Some(given_ms) {
            return Ok(());
        }
        let made_with = self.ttl_ms.map_or("no time to live".to_owned(), |ms| format!("a time to live of {ms} ms"));
        Err(Error::invalid(format!("keyspace {}: it was made with {made_with}, not {given_ms} ms", self.name)))
    }
}

impl fmt::Debug for KeyspaceCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyspaceCore({:?}, {})", self.name, self.id)
    }
}

/// What the state lock guards.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) keyspaces: BTreeMap<KeyspaceId, Arc<KeyspaceCore>>,
    pub(crate) names: BTreeMap<Arc<str>, KeyspaceId>,
    /// Keyspaces whose sealed memtables are being written.
    pub(crate) flushing: HashSet<KeyspaceId>,
    /// Compactions that are running.
    pub(crate) busy: Busy,
    /// Logs that may still be needed, oldest first; the last is being written.
    pub(crate) logs: Vec<LogFile>,
    /// What the feed of changes can tell.
    pub(crate) feed: Feed,
    /// A background failure that no writer has been shown yet.
    pub(crate) unseen_error: Option<Error>,
    /// Failed work that is to be tried again.
    pub(crate) flush_retry: Retry,
    pub(crate) compact_retry: Retry,
    /// Calls in flight that touch the directory; close waits for them.
    pub(crate) calls: usize,
    /// While set, no flush and no compaction starts.
    pub(crate) paused: usize,
}

/// A log that may still be needed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogFile {
    pub(crate) number: FileNo,
    /// The last sequence number in it; `None` for the one being written.
    pub(crate) last_seq: Option<SeqNo>,
    pub(crate) bytes: u64,
    /// Where it starts on the line of positions.
    pub(crate) start: Lsn,
}

impl LogFile {
    /// The last number in it, or of all that came before; `None` while it is written to, and where that is not known: it was replayed, and had nothing in it, nor had those that were replayed before it.
    pub(crate) fn newest_seq(&self) -> Option<SeqNo> {
        self.last_seq.filter(|seq| *seq > SeqNo::ZERO)
    }
}

impl From<&ReplayedLog> for LogFile {
    fn from(log: &ReplayedLog) -> Self {
        Self { number: log.number, last_seq: Some(log.last_seq), bytes: log.end.0 - log.start.0, start: log.start }
    }
}

/// Failed background work, and when it may be tried again: later after each failure in a row.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    pub(crate) not_before: Duration,
    pub(crate) failures: u32,
    pub(crate) error: Option<Error>,
}

impl Retry {
    /// Writing resumes within five seconds of room on a disk that was full, and what was waited for takes a while too.
    const WAIT_MAX: Duration = Duration::from_secs(2);

    pub(crate) fn failed(&mut self, now: Duration, error: Error) {
        self.failures += 1;
        let wait = Duration::from_millis(50) * 2u32.pow(self.failures.min(8) - 1);
        self.not_before = now + wait.min(Self::WAIT_MAX);
        self.error = Some(error);
    }
}

thread_local! {
    /// The numbers of the engines whose listeners this thread is calling.
    static TELLS: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// A call in flight that touches the directory.
pub(crate) struct Call<'a>(&'a Core);

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.state.lock().calls -= 1;
        self.0.changed.notify_all();
        self.0.deliver();
    }
}

impl Core {
    /// The newest sequence number that readers may see.
    pub(crate) fn visible(&self) -> SeqNo {
        self.visible.now()
    }

    /// Notes down what the listener is to hear. Locks may be held, so it hears it later: see [`Core::deliver`].
    pub(crate) fn tell(&self, event: Event) {
        if self.listener.is_some() {
            self.events.lock().push_back(event);
        }
    }

    /// Counts an error that no call returns, and tells the listener.
    pub(crate) fn tell_of_error(&self, error: Error) {
        self.counters.background_errors.add(1);
        self.tell(Event::BackgroundError(error));
    }

    /// Tells the listener what was noted down. Called with no lock held and outside any job, so that a listener may call whatever it likes. Within such a call nothing is told: it may hold a lock of its
    /// own, and what is left is told when it has returned.
    pub(crate) fn deliver(&self) {
        let Some(listener) = &self.listener else { return };
        // Where the thread ends, and its variables are gone, nobody calls a listener any more.
        let Ok(is_within) = TELLS.try_with(|tells| tells.borrow().contains(&self.number)) else { return };
        if is_within {
            return;
        }
        loop {
            let next = self.events.lock().pop_front();
            let Some(event) = next else { return };
            TELLS.with_borrow_mut(|tells| tells.push(self.number));
            // A panic was printed when it happened. Let through, it would end a thread that writers wait for.
            let _ = catch_unwind(AssertUnwindSafe(|| listener.on_event(&event)));
            TELLS.with_borrow_mut(Vec::pop);
        }
    }

    #[inline]
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closing() { Err(Error::closed()) } else { Ok(()) }
    }

    #[inline]
    pub(crate) fn closing(&self) -> bool {
        // Acquire: pairs with the Release in `close`.
        self.closing.load(Ordering::Acquire)
    }

    /// For calls that change something.
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.check_open()?;
        if self.read_only {
            return Err(Error::new(ErrorKind::ReadOnly, format!("{} was opened for reading only", self.dir.display())));
        }
        Ok(())
    }

    /// Begins a call that changes something; close waits for its end.
    pub(crate) fn enter(&self) -> Result<Call<'_>> {
        let mut state = self.state.lock();
        self.check_writable()?;
        state.calls += 1;
        Ok(Call(self))
    }

    pub(crate) fn new_file_id(&self) -> FileId {
        FileId(self.vfs.random())
    }

    pub(crate) fn new_memtable(&self) -> Arc<CountedTable> {
        CountedTable::new(&self.memory, &self.vfs)
    }

    pub(crate) fn default_keyspace(&self) -> &Arc<KeyspaceCore> {
        self.default.get().expect("set before any handle exists")
    }

    pub(crate) fn keyspaces(&self) -> Vec<Arc<KeyspaceCore>> {
        self.state.lock().keyspaces.values().map(Arc::clone).collect()
    }

    /// Runs with the version set; an engine opened for reading only has none.
    pub(crate) fn with_manifest<T>(&self, f: impl FnOnce(&mut VersionSet) -> Result<T>) -> Result<T> {
        match &mut *self.manifest.lock() {
            Some(manifest) => f(manifest),
            None => Err(Error::closed()),
        }
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("dir", &self.dir).field("read_only", &self.read_only).finish_non_exhaustive()
    }
}
