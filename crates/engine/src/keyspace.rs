//! [`Keyspace`]: an ordered map of its own within an engine.

use crate::batch::WriteBatch;
use crate::bulk::BulkWriter;
use crate::core::KeyspaceCore;
use crate::engine::Handle;
use crate::error::Result;
use crate::ingest::{IngestOptions, Ingested};
use crate::options::WriteOptions;
use crate::range::{KeyRange, to_bounds};
use crate::reads::{Reads, read_methods};
use crate::validation::Terms;
use esker_format::KeyspaceId;
use std::cell::Cell;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A handle to a keyspace: an ordered map of byte-string keys to byte-string values. Cheap to clone.
///
/// All keyspaces of an engine share one log and one line of sequence numbers, so a [`WriteBatch`] over several of them is atomic. After
/// [`crate::Engine::drop_keyspace`] its handles get `NotFound`; iterators and snapshots taken before stay whole.
#[derive(Clone)]
pub struct Keyspace {
    pub(crate) handle: Arc<Handle>,
    pub(crate) core: Arc<KeyspaceCore>,
}

impl Keyspace {
    /// The keyspace's name.
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// The keyspace's number, never used again once given out.
    pub fn id(&self) -> KeyspaceId {
        self.core.id
    }

    pub(crate) fn engine_number(&self) -> u64 {
        self.handle.core.number
    }

    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        self.core.check()
    }

    fn reads(&self) -> Result<Reads<'_>> {
        Ok(Reads { keyspace: self, at: None })
    }

    /// As [`crate::Engine::put`].
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.put_with(key, value, &WriteOptions::default())
    }

    /// As [`crate::Engine::put_with`].
    pub fn put_with(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>, options: &WriteOptions) -> Result<()> {
        self.write_one(options, |batch| {
            batch.put_id(self.id(), key.as_ref(), value.as_ref());
        })
    }

    /// As [`crate::Engine::merge`].
    pub fn merge(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<()> {
        self.merge_with(key, operand, &WriteOptions::default())
    }

    /// As [`crate::Engine::merge_with`].
    pub fn merge_with(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>, options: &WriteOptions) -> Result<()> {
        let operand = operand.as_ref();
        self.check()?;
        self.core.check_operand(operand)?;
        self.write_one(options, |batch| {
            batch.merge_id(self.id(), key.as_ref(), operand);
        })
    }

    /// The name of the merge operator that it was made with, if it was.
    pub fn merge_operator(&self) -> Option<&str> {
        self.core.merging.as_ref().map(|merging| merging.name())
    }

    /// As [`crate::Engine::delete`].
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        self.delete_with(key, &WriteOptions::default())
    }

    /// As [`crate::Engine::delete_with`].
    pub fn delete_with(&self, key: impl AsRef<[u8]>, options: &WriteOptions) -> Result<()> {
        self.write_one(options, |batch| {
            batch.delete_id(self.id(), key.as_ref());
        })
    }

    /// As [`crate::Engine::delete_range`].
    pub fn delete_range(&self, begin: impl AsRef<[u8]>, end: impl AsRef<[u8]>) -> Result<()> {
        self.delete_range_with(begin, end, &WriteOptions::default())
    }

    /// As [`crate::Engine::delete_range_with`].
    pub fn delete_range_with(
        &self,
        begin: impl AsRef<[u8]>,
        end: impl AsRef<[u8]>,
        options: &WriteOptions,
    ) -> Result<()> {
        self.write_one(options, |batch| {
            batch.delete_range_id(self.id(), begin.as_ref(), end.as_ref());
        })
    }

    /// As [`crate::Engine::clear`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let engine = esker::Engine::open(dir.path())?;
    /// # use esker::KeyspaceOptions;
    /// let sessions = engine.keyspace("sessions", KeyspaceOptions::default())?;
    /// sessions.put("7", "ada")?;
    /// sessions.clear()?;
    /// assert_eq!(sessions.iter().count(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn clear(&self) -> Result<()> {
        self.write_one(&WriteOptions::default(), |batch| {
            batch.delete_all_id(self.id());
        })
    }

    fn write_one(&self, options: &WriteOptions, fill: impl FnOnce(&mut WriteBatch)) -> Result<()> {
        self.write_one_on(&Terms::NONE, options, fill)
    }

    /// Writes one operation by way of a batch that this thread keeps, so that a put allocates nothing once it has grown.
    pub(crate) fn write_one_on(
        &self,
        terms: &Terms<'_>,
        options: &WriteOptions,
        fill: impl FnOnce(&mut WriteBatch),
    ) -> Result<()> {
        /// A larger buffer is not kept.
        const KEPT_BYTES_MAX: usize = 64 << 10;
        thread_local! {
            static SCRATCH: Cell<Option<Box<WriteBatch>>> = const { Cell::new(None) };
        }
        self.check()?;
        // Taken out while in use: a listener called by the write may write on this thread.
        let mut batch: Box<WriteBatch> = SCRATCH.take().unwrap_or_default();
        fill(&mut batch);
        if self.core.ttl_ms.is_some() {
            batch.may_expire();
        }
        let result = self.handle.core.write_on(terms, &batch, options);
        if batch.size_bytes() <= KEPT_BYTES_MAX {
            batch.clear();
            SCRATCH.set(Some(batch));
        }
        result
    }

    /// As [`crate::Engine::ingest`].
    pub fn ingest<P: AsRef<Path>>(
        &self,
        paths: impl IntoIterator<Item = P>,
        options: &IngestOptions,
    ) -> Result<Ingested> {
        let paths: Vec<PathBuf> = paths.into_iter().map(|path| path.as_ref().to_owned()).collect();
        let result = self.handle.core.ingest(&self.core, &paths, options);
        self.handle.core.deliver();
        result
    }

    /// As [`crate::Engine::bulk_writer`].
    pub fn bulk_writer(&self) -> Result<BulkWriter> {
        self.handle.core.check_writable()?;
        self.check()?;
        Ok(BulkWriter::new(self))
    }

    /// As [`crate::Engine::bulk_load`].
    pub fn bulk_load<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Ingested> {
        let mut writer = self.bulk_writer()?;
        for (key, value) in entries {
            writer.put(key, value)?;
        }
        let result = writer.finish();
        self.handle.core.deliver();
        result
    }

    read_methods!();

    /// As [`crate::Engine::compact_range`].
    pub fn compact_range(&self, range: impl KeyRange) -> Result<()> {
        self.check()?;
        self.handle.core.compact_range(&self.core, &to_bounds(&range))
    }
}

impl fmt::Debug for Keyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyspace({:?}, {})", self.core.name, self.core.id)
    }
}
