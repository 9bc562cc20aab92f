//! [`SstWriter`]: builds a sorted table outside an engine, to be [ingested](crate::Keyspace::ingest) later.
//!
//! Its entries have sequence number 0, and are given one when an engine takes the table in; till then it belongs to none, and any will do. The file is written under a temporary name, of this writer alone and in the same directory, and gets its own when it
//! is whole and on stable storage, so nothing half written passes as a table, and of two writers of one table the second to end finds that there is one.

use crate::error::{Error, ErrorKind, Result};
use esker_format::{FileId, InternalKey, SeqNo, ValueKind};
use esker_sstable::{Builder, BuilderOptions, Built, Codec, TableError};
use esker_vfs::{OsVfs, Vfs};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How a table is built outside an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SstOptions {
    /// As [`crate::Options::block_size_bytes`], by default 4,096.
    pub block_size_bytes: usize,
    /// By default none, as in the upper levels of an engine.
    pub compression: Codec,
    /// As [`crate::Options::filter_bits_per_key`], by default 12.
    pub filter_bits_per_key: u32,
}

impl Default for SstOptions {
    fn default() -> Self {
        let BuilderOptions { block_size_bytes, codec, filter_bits_per_key, .. } = BuilderOptions::default();
        Self { block_size_bytes, compression: codec, filter_bits_per_key }
    }
}

impl SstOptions {
    fn check(&self) -> Result<()> {
        let engine = crate::Options::default();
        let options = crate::Options {
            block_size_bytes: self.block_size_bytes,
            filter_bits_per_key: self.filter_bits_per_key,
            compression: [self.compression; esker_manifest::LEVELS],
            ..engine
        };
        options.check()
    }
}

/// What [`SstWriter::finish`] has written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SstFacts {
    /// Where it lies.
    pub path: PathBuf,
    /// How many keys it puts or deletes.
    pub entries: u64,
    /// How many of these it deletes.
    pub deletions: u64,
    /// The file's length, in bytes.
    pub file_bytes: u64,
    /// The first key.
    pub smallest: Vec<u8>,
    /// The last key.
    pub largest: Vec<u8>,
}

/// Builds a sorted table in a file of its own, for [`Keyspace::ingest`](crate::Keyspace::ingest). Keys come in ascending order, each once.
///
/// Dropped before [`finish`](Self::finish), it leaves nothing. A process that dies leaves what it has written, in the directory of the table, as `esker-` with 16 hexadecimal digits and `.sst.tmp` behind it. Nobody clears that away, since it can't be told from the file of a writer that is at work in another process: remove it where
/// you know that none is.
///
/// It needs no engine, and holds one block in memory, some bytes for each key, and up to a few MiB not yet written.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use esker::{Engine, IngestOptions, SstOptions, SstWriter};
/// let path = dir.path().join("users.sst");
/// let mut table = SstWriter::create(&path, &SstOptions::default())?;
/// table.put("user:1", "ada")?;
/// table.delete("user:2")?;
/// table.put("user:3", "grace")?;
/// let facts = table.finish()?;
/// assert_eq!((facts.entries, facts.deletions), (3, 1));
///
/// let engine = Engine::open(dir.path().join("data"))?;
/// engine.put("user:2", "gone soon")?;
/// engine.ingest([&path], &IngestOptions::default())?;
/// assert_eq!(engine.get("user:1")?.unwrap(), b"ada");
/// assert_eq!(engine.get("user:2")?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SstWriter {
    vfs: Arc<dyn Vfs>,
    path: PathBuf,
    /// What it is called until it is finished.
    temp: PathBuf,
    /// `None` once it is finished.
    table: Option<NewTable>,
}

impl SstWriter {
    /// Begins a table that is to become the file `path`, which must not exist yet.
    ///
    /// # Errors
    /// `InvalidArgument` if `path` exists or the options can't work; `Unsupported` for a codec that this build does not have; `Io`, `NoSpace`.
    pub fn create(path: impl AsRef<Path>, options: &SstOptions) -> Result<Self> {
        Self::create_on(Arc::new(OsVfs), path, options)
    }

    /// As [`create`](Self::create), on another file system than the operating system's.
    ///
    /// ```
    /// use esker::vfs::{MemVfs, Vfs};
    /// use esker::{SstOptions, SstWriter};
    /// let vfs = MemVfs::new();
    /// let mut table = SstWriter::create_on(vfs.clone(), "/t.sst", &SstOptions::default())?;
    /// table.put("k", "v")?;
    /// table.finish()?;
    /// assert_eq!(vfs.list("/".as_ref())?, ["t.sst"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_on(vfs: Arc<dyn Vfs>, path: impl AsRef<Path>, options: &SstOptions) -> Result<Self> {
        options.check()?;
        let path = path.as_ref().to_owned();
        refuse_existing(&*vfs, &path)?;
        let temp = path.with_file_name(temp_name(vfs.random()));
        let file = vfs.create_new(&temp).map_err(|error| Error::io("create", &temp, error))?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        let builder = BuilderOptions {
            file_id: FileId(vfs.random()),
            block_size_bytes: options.block_size_bytes,
            codec: options.compression,
            filter_bits_per_key: options.filter_bits_per_key,
            created_unix_ms: vfs.clock().unix_ms(),
            ..BuilderOptions::default()
        };
        let table = Builder::new(file, &name, builder).inspect_err(|_| drop(vfs.remove_file(&temp)))?;
        Ok(Self { table: Some(NewTable::new(table)), path, temp, vfs })
    }

    /// Adds "set `key` to `value`".
    ///
    /// # Errors
    /// `InvalidArgument` if `key` does not come behind the last one, or one of both is too long: the writer goes on. Else those of writing, and then the table is lost.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.table().add(key.as_ref(), ValueKind::Put, value.as_ref())
    }

    /// Adds "remove `key`": whatever an engine has there is gone when it takes the table in.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        self.table().add(key.as_ref(), ValueKind::Delete, b"")
    }

    /// How many keys were added.
    pub fn entries(&self) -> u64 {
        self.table.as_ref().map_or(0, NewTable::entries)
    }

    /// How long the file would be, were it finished now, in bytes.
    pub fn estimated_bytes(&self) -> u64 {
        self.table.as_ref().map_or(0, NewTable::estimated_bytes)
    }

    /// Writes what is left and gives the file its name.
    ///
    /// # Durability
    /// On return file and name are on stable storage.
    ///
    /// # Errors
    /// `InvalidArgument` if nothing was added, or something came to lie at its path meanwhile, as the table of another writer that ended first; those of writing. There is no table of this writer then.
    pub fn finish(mut self) -> Result<SstFacts> {
        let result = self.write_out();
        if result.is_err() {
            self.discard();
        }
        result
    }

    fn write_out(&mut self) -> Result<SstFacts> {
        let table = self.table.take().expect("finished once");
        let Built { file_bytes, properties } = table.finish()?;
        self.give_name()?;
        let path = &self.path;
        let dir = directory_of(path);
        if let Err(error) = self.vfs.sync_dir(dir) {
            // Nobody is told of a table whose name may not last, and who writes it anew is not to find it.
            let _ = self.vfs.remove_file(path);
            return Err(Error::io("sync", dir, error));
        }
        Ok(SstFacts {
            path: path.clone(),
            entries: properties.entries,
            deletions: properties.deletions,
            file_bytes,
            smallest: properties.smallest.user_key.into(),
            largest: properties.largest.user_key.into(),
        })
    }

    /// A second name instead of another, where the file system has those: a rename would replace a file that came to lie there meanwhile.
    fn give_name(&self) -> Result<()> {
        let Self { vfs, path, temp, .. } = self;
        match vfs.hard_link(temp, path) {
            Ok(()) => {
                // The table is there: a name that it has besides is no reason to say that it is not.
                let _ = vfs.remove_file(temp);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(exists(path)),
            // Who is refused it by policy gets `PermissionDenied`.
            Err(_) => {
                refuse_existing(&**vfs, path)?;
                vfs.rename(temp, path).map_err(|error| Error::io("rename to", path, error))
            }
        }
    }

    fn table(&mut self) -> &mut NewTable {
        self.table.as_mut().expect("finishing takes the writer")
    }

    fn discard(&self) {
        // It may have its name or not, and be gone already.
        let _ = self.vfs.remove_file(&self.temp);
    }
}

impl Drop for SstWriter {
    fn drop(&mut self) {
        if self.table.take().is_some() {
            self.discard();
        }
    }
}

impl fmt::Debug for SstWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SstWriter({}, {} keys)", self.path.display(), self.entries())
    }
}

fn refuse_existing(vfs: &dyn Vfs, path: &Path) -> Result<()> {
    match vfs.metadata(path) {
        Ok(_) => Err(exists(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("look at", path, error)),
    }
}

fn exists(path: &Path) -> Error {
    Error::invalid(format!("{} exists already; a table is written to a file of its own", path.display()))
}

/// What the file is called until it is whole: nobody else draws the same number. It is as long whatever it becomes, so that any name is fine that the file system takes.
fn temp_name(random: u64) -> String {
    format!("esker-{random:016x}.sst.tmp")
}

/// The directory that a file lies in.
pub(crate) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A table being built whose entries have sequence number 0, each of another key.
pub(crate) struct NewTable {
    builder: Builder,
    last_key: Vec<u8>,
}

impl NewTable {
    pub(crate) fn new(builder: Builder) -> Self {
        Self { builder, last_key: Vec::new() }
    }

    pub(crate) fn entries(&self) -> u64 {
        self.builder.entries()
    }

    pub(crate) fn estimated_bytes(&self) -> u64 {
        self.builder.estimated_bytes()
    }

    pub(crate) fn last_key(&self) -> &[u8] {
        &self.last_key
    }

    pub(crate) fn add(&mut self, key: &[u8], kind: ValueKind, value: &[u8]) -> Result<()> {
        if self.builder.entries() > 0 && key <= &self.last_key[..] {
            return Err(out_of_order(key, &self.last_key));
        }
        self.builder.add(InternalKey::new(key, SeqNo::ZERO, kind), value).map_err(refused)?;
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        Ok(())
    }

    /// On return the file is on stable storage; its name is not.
    pub(crate) fn finish(self) -> Result<Built> {
        self.builder.finish().map_err(refused)
    }
}

pub(crate) fn out_of_order(key: &[u8], last: &[u8]) -> Error {
    Error::invalid(format!(
        "key {} comes behind {}: the keys of a table ascend, each of them once",
        key.escape_ascii(),
        last.escape_ascii()
    ))
}

/// What the builder refuses because of what it was given, as such.
fn refused(error: TableError) -> Error {
    match error {
        TableError::OutOfOrder { .. } | TableError::TooLong { .. } | TableError::Empty { .. } => {
            Error::new(ErrorKind::InvalidArgument, error.to_string())
        }
        error => error.into(),
    }
}
