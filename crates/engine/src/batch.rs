//! [`WriteBatch`]: operations on any keyspaces of one engine, committed together.

use crate::error::{Error, Result};
use crate::expiry;
use crate::keyspace::Keyspace;
use esker_format::{KeyspaceId, WriteBatch as EncodedBatch};
use std::fmt;
use std::time::{Duration, SystemTime};

/// Operations that become visible and durable together: in memory, in the log, across a crash, across flush.
///
/// Of two operations on one key the later wins. A bad key, value or range, or a keyspace of another engine, is kept in the batch and returned by
/// [`crate::Engine::write`] before anything is logged; so building one needs no error handling.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use esker::{Engine, WriteBatch};
/// let engine = Engine::open(dir.path())?;
/// let mut batch = WriteBatch::new();
/// batch.put(b"a", b"1").delete(b"b");
/// engine.write(&batch)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct WriteBatch {
    encoded: EncodedBatch,
    /// The engine whose keyspaces were named, by its number in this process.
    engine: Option<u64>,
    /// The first failure that the encoded batch can't know of.
    error: Option<Error>,
    /// Each keyspace once, in order of first use.
    keyspaces: Vec<KeyspaceId>,
    /// Whether any operation is a put or a merge; a batch of deletions alone may use the reserve of a full disk.
    puts: bool,
    /// Whether any is a range delete.
    ranges: bool,
    /// Whether any says when it expires, or is known to be for a keyspace in which all does.
    expires: bool,
    /// Whether any is a merge operand of which nobody knows yet whether its keyspace takes it.
    merges: bool,
    /// Whether any is a merge operand.
    operands: bool,
}

impl WriteBatch {
    /// A batch of no operations.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds "set `key` to `value`" in `default`.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Self {
        self.put_id(KeyspaceId::DEFAULT, key.as_ref(), value.as_ref())
    }

    /// Adds "set `key` to `value`, to live so long" in `default`; as [`crate::WriteOptions::ttl`] for this operation alone. Zero is kept in the batch as an error.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let engine = esker::Engine::open(dir.path())?;
    /// # use esker::WriteBatch;
    /// use std::time::Duration;
    /// let mut batch = WriteBatch::new();
    /// batch.put("user/ada", "..").put_expiring("session/7", "ada", Duration::from_secs(1800));
    /// engine.write(&batch)?;
    /// let (_, expiry) = engine.get_with_expiry("session/7")?.unwrap();
    /// assert!(expiry.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put_expiring(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>, ttl: Duration) -> &mut Self {
        self.put_expiring_id(KeyspaceId::DEFAULT, key.as_ref(), value.as_ref(), ttl)
    }

    /// Adds "set `key` to `value`, until `time`" in `default`, exact to the millisecond: for what is to expire at the same time as something else, a replica of it say. A time that is past is fine: the key then reads as deleted.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let engine = esker::Engine::open(dir.path())?;
    /// # use esker::WriteBatch;
    /// use std::time::{Duration, SystemTime, UNIX_EPOCH};
    /// let mut batch = WriteBatch::new();
    /// batch.put_until("past", "1", UNIX_EPOCH).put_until("a", "1", SystemTime::now() + Duration::from_secs(60));
    /// engine.write(&batch)?;
    /// assert!(!engine.contains_key("past")? && engine.contains_key("a")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put_until(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>, time: SystemTime) -> &mut Self {
        self.put_until_id(KeyspaceId::DEFAULT, key.as_ref(), value.as_ref(), expiry::until(time))
    }

    /// Adds "set `key` to `value`, for ever" in `default`, whatever [`crate::WriteOptions::ttl`] or [`crate::KeyspaceOptions::ttl`] say; as [`put_expiring`](Self::put_expiring) with [`Duration::MAX`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # use esker::{Engine, KeyspaceOptions, WriteBatch};
    /// # use std::time::Duration;
    /// let options = KeyspaceOptions { ttl: Some(Duration::from_secs(60)), ..Default::default() };
    /// let engine = Engine::builder(dir.path()).default_keyspace(options).open()?;
    /// let mut batch = WriteBatch::new();
    /// batch.put("session", "1").put_forever("root", "2");
    /// engine.write(&batch)?;
    /// assert!(engine.get_with_expiry("session")?.unwrap().1.is_some());
    /// assert!(engine.get_with_expiry("root")?.unwrap().1.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put_forever(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Self {
        self.put_until_id(KeyspaceId::DEFAULT, key.as_ref(), value.as_ref(), expiry::NEVER_MS)
    }

    /// Adds "merge `operand` into the value of `key`" in `default`: see [`crate::Engine::merge`]. It is applied to what was written before it in the batch.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # use esker::{Engine, KeyspaceOptions, WriteBatch};
    /// # let options = KeyspaceOptions { merge_operator: Some("esker.append".into()), ..Default::default() };
    /// # let engine = Engine::builder(dir.path()).default_keyspace(options).open()?;
    /// let mut batch = WriteBatch::new();
    /// batch.merge("k", "lost").put("k", "a").merge("k", "b").merge("k", "c");
    /// engine.write(&batch)?;
    /// assert_eq!(engine.get("k")?.unwrap(), b"abc");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn merge(&mut self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> &mut Self {
        self.merges = true;
        self.merge_id(KeyspaceId::DEFAULT, key.as_ref(), operand.as_ref())
    }

    /// Adds "remove `key`" in `default`.
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> &mut Self {
        self.delete_id(KeyspaceId::DEFAULT, key.as_ref())
    }

    /// Adds "remove all keys from `begin` on, up to `end`, which stays" in `default`: see [`crate::Engine::delete_range`]. What is put later in the batch stays.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let engine = esker::Engine::open(dir.path())?;
    /// # use esker::WriteBatch;
    /// let mut batch = WriteBatch::new();
    /// batch.put("day/1", "old").delete_range("day/", "day0").put("day/2", "new");
    /// engine.write(&batch)?;
    /// assert!(!engine.contains_key("day/1")? && engine.contains_key("day/2")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn delete_range(&mut self, begin: impl AsRef<[u8]>, end: impl AsRef<[u8]>) -> &mut Self {
        self.delete_range_id(KeyspaceId::DEFAULT, begin.as_ref(), end.as_ref())
    }

    /// Adds "set `key` to `value`" in `keyspace`.
    pub fn put_in(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Self {
        self.belongs(keyspace).put_id(keyspace.id(), key.as_ref(), value.as_ref())
    }

    /// Adds "set `key` to `value`, to live so long" in `keyspace`: see [`put_expiring`](Self::put_expiring).
    pub fn put_expiring_in(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Duration,
    ) -> &mut Self {
        self.belongs(keyspace).put_expiring_id(keyspace.id(), key.as_ref(), value.as_ref(), ttl)
    }

    /// Adds "set `key` to `value`, until `time`" in `keyspace`: see [`put_until`](Self::put_until).
    pub fn put_until_in(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        time: SystemTime,
    ) -> &mut Self {
        self.belongs(keyspace).put_until_id(keyspace.id(), key.as_ref(), value.as_ref(), expiry::until(time))
    }

    /// Adds "set `key` to `value`, for ever" in `keyspace`: see [`put_forever`](Self::put_forever).
    pub fn put_forever_in(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Self {
        self.belongs(keyspace).put_until_id(keyspace.id(), key.as_ref(), value.as_ref(), expiry::NEVER_MS)
    }

    /// Adds "merge `operand` into the value of `key`" in `keyspace`.
    pub fn merge_in(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> &mut Self {
        self.merges = true;
        self.belongs(keyspace).merge_id(keyspace.id(), key.as_ref(), operand.as_ref())
    }

    /// Adds "remove `key`" in `keyspace`.
    pub fn delete_in(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> &mut Self {
        self.belongs(keyspace).delete_id(keyspace.id(), key.as_ref())
    }

    /// Adds "remove all keys from `begin` on, up to `end`, which stays" in `keyspace`.
    pub fn delete_range_in(
        &mut self,
        keyspace: &Keyspace,
        begin: impl AsRef<[u8]>,
        end: impl AsRef<[u8]>,
    ) -> &mut Self {
        self.belongs(keyspace).delete_range_id(keyspace.id(), begin.as_ref(), end.as_ref())
    }

    /// How many operations there are.
    pub fn len(&self) -> usize {
        self.encoded.count() as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.encoded.is_empty()
    }

    /// Its size as logged, in bytes.
    pub fn size_bytes(&self) -> usize {
        self.encoded.as_bytes().len()
    }

    /// Removes all operations and errors, and keeps the buffer.
    pub fn clear(&mut self) {
        self.encoded.clear();
        self.engine = None;
        self.error = None;
        self.keyspaces.clear();
        self.puts = false;
        self.ranges = false;
        self.expires = false;
        self.merges = false;
        self.operands = false;
    }

    fn belongs(&mut self, keyspace: &Keyspace) -> &mut Self {
        let engine = keyspace.engine_number();
        if *self.engine.get_or_insert(engine) != engine {
            self.error.get_or_insert_with(|| Error::invalid("a batch names keyspaces of two engines"));
        }
        if keyspace.core.ttl_ms.is_some() {
            self.may_expire();
        }
        self
    }

    pub(crate) fn put_id(&mut self, keyspace: KeyspaceId, key: &[u8], value: &[u8]) -> &mut Self {
        self.encoded.put(keyspace, key, value);
        self.puts = true;
        self.touches(keyspace)
    }

    fn put_expiring_id(&mut self, keyspace: KeyspaceId, key: &[u8], value: &[u8], ttl: Duration) -> &mut Self {
        match expiry::ttl_ms(ttl) {
            Ok(ttl_ms) => self.put_until_id(keyspace, key, value, expiry::to_live(ttl_ms)),
            Err(error) => {
                self.error.get_or_insert(error);
                self
            }
        }
    }

    /// Puts with a time to live, as [`expiry::to_live`] makes it, or with a time in milliseconds since 1970.
    pub(crate) fn put_until_id(&mut self, keyspace: KeyspaceId, key: &[u8], value: &[u8], until: u64) -> &mut Self {
        self.encoded.put_expiring(keyspace, key, value, until);
        self.puts = true;
        self.expires = true;
        self.touches(keyspace)
    }

    /// Something in it may be for a keyspace in which all expires: then it is looked at for that before the commit, not in it.
    pub(crate) fn may_expire(&mut self) {
        self.expires = true;
    }

    /// An operand that the keyspace takes.
    pub(crate) fn merge_id(&mut self, keyspace: KeyspaceId, key: &[u8], operand: &[u8]) -> &mut Self {
        self.encoded.merge(keyspace, key, operand);
        self.puts = true;
        self.operands = true;
        self.touches(keyspace)
    }

    pub(crate) fn delete_id(&mut self, keyspace: KeyspaceId, key: &[u8]) -> &mut Self {
        self.encoded.delete(keyspace, key);
        self.touches(keyspace)
    }

    pub(crate) fn delete_range_id(&mut self, keyspace: KeyspaceId, begin: &[u8], end: &[u8]) -> &mut Self {
        self.encoded.delete_range(keyspace, begin, end);
        self.ranges = true;
        self.touches(keyspace)
    }

    /// As [`Self::delete_range_id`]; an empty end is none, so that all keys from `begin` on go.
    pub(crate) fn delete_range_or_all_id(&mut self, keyspace: KeyspaceId, begin: &[u8], end: &[u8]) -> &mut Self {
        if !end.is_empty() {
            return self.delete_range_id(keyspace, begin, end);
        }
        self.encoded.delete_from(keyspace, begin);
        self.ranges = true;
        self.touches(keyspace)
    }

    pub(crate) fn delete_all_id(&mut self, keyspace: KeyspaceId) -> &mut Self {
        self.delete_range_or_all_id(keyspace, b"", b"")
    }

    fn touches(&mut self, keyspace: KeyspaceId) -> &mut Self {
        if self.keyspaces.last() != Some(&keyspace) && !self.keyspaces.contains(&keyspace) {
            self.keyspaces.push(keyspace);
        }
        self
    }

    /// The first error of an operation that was not added, or of a keyspace that is not engine `number`'s.
    pub(crate) fn check(&self, number: u64) -> Result<()> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        self.encoded.check()?;
        match self.engine {
            Some(engine) if engine != number => Err(Error::invalid("the batch names keyspaces of another engine")),
            _ => Ok(()),
        }
    }

    pub(crate) fn encoded(&self) -> &EncodedBatch {
        &self.encoded
    }

    pub(crate) fn keyspaces(&self) -> &[KeyspaceId] {
        &self.keyspaces
    }

    pub(crate) fn has_ranges(&self) -> bool {
        self.ranges
    }

    pub(crate) fn expires(&self) -> bool {
        self.expires
    }

    /// Whether there are operands that are still to be checked.
    pub(crate) fn has_unchecked_merges(&self) -> bool {
        self.merges
    }

    pub(crate) fn has_operands(&self) -> bool {
        self.operands
    }

    pub(crate) fn only_deletes(&self) -> bool {
        !self.puts
    }
}

impl fmt::Debug for WriteBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriteBatch({} operations, {} bytes)", self.len(), self.size_bytes())
    }
}
