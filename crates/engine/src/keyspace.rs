//! [`Keyspace`]: an ordered map of its own within an engine.

use crate::batch::WriteBatch;
use crate::core::KeyspaceCore;
use crate::cursor::Cursor;
use crate::engine::Handle;
use crate::error::Result;
use crate::iter::Iter;
use crate::options::{ReadOptions, WriteOptions};
use crate::range::{KeyRange, to_bounds};
use crate::read::{ReadState, read_at};
use esker_format::{KeyspaceId, SeqNo, Slice};
use esker_iterator::Bounds;
use std::fmt;
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

    pub(crate) fn check(&self) -> Result<()> {
        self.core.check()
    }

    fn reads(&self) -> Reads<'_> {
        Reads { keyspace: self, at: None }
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

    /// Writes one operation by way of a batch that this thread keeps, so that a put allocates nothing once it has grown.
    fn write_one(&self, options: &WriteOptions, fill: impl FnOnce(&mut WriteBatch)) -> Result<()> {
        /// A larger buffer is not kept.
        const KEPT_BYTES_MAX: usize = 64 << 10;
        thread_local! {
            static SCRATCH: std::cell::Cell<Option<WriteBatch>> = const { std::cell::Cell::new(None) };
        }
        self.check()?;
        // Taken out while in use: a listener called by the write may write on this thread.
        let mut batch = SCRATCH.take().unwrap_or_default();
        fill(&mut batch);
        let result = self.handle.core.write(&batch, options);
        if batch.size_bytes() <= KEPT_BYTES_MAX {
            batch.clear();
            SCRATCH.set(Some(batch));
        }
        result
    }

    /// As [`crate::Engine::get`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        self.reads().get(key.as_ref())
    }

    /// As [`crate::Engine::contains_key`].
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get(key)?.is_some())
    }

    /// As [`crate::Engine::multi_get`].
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<Slice>>> {
        self.reads().multi_get(keys)
    }

    /// As [`crate::Engine::range`].
    pub fn range(&self, range: impl KeyRange) -> Iter {
        self.reads().range(range)
    }

    /// As [`crate::Engine::prefix`].
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Iter {
        self.reads().prefix(prefix.as_ref())
    }

    /// As [`crate::Engine::iter`].
    pub fn iter(&self) -> Iter {
        self.range(..)
    }

    /// As [`crate::Engine::cursor`].
    pub fn cursor(&self) -> Cursor {
        self.cursor_with(ReadOptions::default())
    }

    /// As [`crate::Engine::cursor_with`].
    pub fn cursor_with(&self, options: ReadOptions) -> Cursor {
        self.reads().cursor(options)
    }

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

/// Reads of one keyspace: of its newest state, or of a snapshot's.
pub(crate) struct Reads<'a> {
    pub(crate) keyspace: &'a Keyspace,
    pub(crate) at: Option<SeqNo>,
}

impl Reads<'_> {
    /// The state to read and the sequence number to read it at.
    fn state(&self) -> Result<(Arc<ReadState>, SeqNo)> {
        let core = &self.keyspace.handle.core;
        core.check_open()?;
        match self.at {
            // What a held snapshot sees is in every later state, also in the last one of a dropped keyspace.
            Some(seq) => Ok((self.keyspace.core.read.load_full(), seq)),
            None => {
                self.keyspace.check()?;
                Ok(read_at(&self.keyspace.core.read, &core.visible))
            }
        }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Slice>> {
        let (state, seq) = self.state()?;
        self.seen(state.get(key, seq))
    }

    pub(crate) fn multi_get<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<Slice>>> {
        let (state, seq) = self.state()?;
        self.seen(keys.into_iter().map(|key| state.get(key.as_ref(), seq)).collect())
    }

    pub(crate) fn range(&self, range: impl KeyRange) -> Iter {
        self.iter(to_bounds(&range))
    }

    pub(crate) fn prefix(&self, prefix: &[u8]) -> Iter {
        self.iter(Bounds::prefix(prefix))
    }

    fn iter(&self, bounds: Bounds) -> Iter {
        self.state().map_or_else(Iter::failed, |(state, seq)| Iter::new(state, seq, bounds))
    }

    pub(crate) fn cursor(&self, options: ReadOptions) -> Cursor {
        let bounds =
            Bounds { lower: options.lower.map(Vec::into_boxed_slice), upper: options.upper.map(Vec::into_boxed_slice) };
        let newest = self.at.is_none();
        match self.state() {
            Ok((state, seq)) => Cursor::new(self.keyspace, newest, state, seq, bounds),
            Err(error) => Cursor::failed(error),
        }
    }

    /// Counts damage that a read came upon.
    fn seen<T>(&self, result: Result<T>) -> Result<T> {
        if result.is_err() {
            self.keyspace.handle.core.counters.read_errors.add(1);
        }
        result
    }
}
