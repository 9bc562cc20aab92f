//! [`Transaction`]: reads and writes that are one step to everybody else.
//!
//! ```text
//! snapshot ──> reads, remembered ─┐
//!              own writes ────────┴─> commit: nothing that was read was written since? ─> one batch
//!                                                                            no: Conflict
//! ```
//! Optimistic: a transaction takes no lock and holds up nobody until it commits. It sees one instant and, over it, what it has written itself. Committing [checks](crate::validation) what it
//! has read against all that was committed since, by whomever and in whichever way, and writes its batch under the same lock; so it is as if all of it had happened at that moment, which is to be
//! serializable. One that writes nothing is as of its snapshot, and needs no check.
//!
//! Deliberately absent: locks on keys, a wait for another transaction, a deadlock.

mod cursor;
mod iter;
mod merged;
mod own;
mod writes;

use crate::core::KeyspaceCore;
use crate::edges::Extreme;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::exclusive::Exclusive;
use crate::keyspace::Keyspace;
use crate::options::{ReadOptions, WriteOptions};
use crate::range::{KeyRange, to_bounds};
use crate::read_set::ReadSet;
use crate::reads::{Reads, read_methods};
use crate::snapshot::Snapshot;
use crate::validation::{ReadSince, Terms, What};
use arc_swap::Guard;
use esker_format::{BatchError, KEY_BYTES_MAX, Slice, VALUE_BYTES_MAX};
use esker_iterator::Bounds;
use merged::{Seen, Tracked};
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use cursor::TransactionCursor;
pub use iter::{TransactionIter, TransactionKeys};
pub(crate) use own::Own;
#[cfg(test)]
pub(crate) use own::OwnWrites;
pub use writes::Savepoint;
use writes::Writes;

/// How often [`Engine::transact`] tries before it has other writers wait.
const TRIES_MAX: u32 = 16;
/// The longest wait before the second try, and before any.
const WAIT_FIRST: Duration = Duration::from_micros(50);
const WAIT_MAX: Duration = Duration::from_millis(10);

/// Reads and writes over any keyspaces of one engine that happen together or not at all, as if nobody else had done anything meanwhile. Made by [`Engine::transaction`].
///
/// It reads one instant, with its own writes over it. Nobody else sees these until [`commit`](Self::commit), which fails with [`ErrorKind::Conflict`] if anything that was read, a key that was not there and
/// the range that a scan has come over included, was written to since; then nothing is written, and it is to be run again: [`Engine::transact`] does. Dropping it writes nothing.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let engine = esker::Engine::open(dir.path())?;
/// # engine.put("stock", "3")?;
/// use esker::ErrorKind;
/// let mut tx = engine.transaction();
/// let stock = tx.get("stock")?.expect("it is there");
/// engine.put("stock", "2")?;
/// tx.put("sold", stock)?;
/// assert_eq!(tx.commit().unwrap_err().kind(), ErrorKind::Conflict);
/// assert_eq!(engine.get("sold")?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Transaction {
    snapshot: Snapshot,
    /// `None` if nobody can write beside it.
    reads: Option<Tracked>,
    writes: Writes,
    /// The number of the turn it has.
    turn: Option<u64>,
    /// Why it could not begin.
    failed: Option<Error>,
}

impl Transaction {
    fn begin(engine: &Engine) -> Self {
        Self {
            snapshot: engine.snapshot(),
            reads: Some(Arc::new(Mutex::new(Some(ReadSet::new(&engine.handle.core))))),
            writes: Writes::default(),
            turn: None,
            failed: None,
        }
    }

    /// One that has the turn with a number, and sees `snapshot`; or why there is none.
    pub(crate) fn exclusive(snapshot: Snapshot, turn: Result<u64>) -> Self {
        let (turn, failed) = match turn {
            Ok(number) => (Some(number), None),
            Err(error) => (None, Some(error)),
        };
        Self { snapshot, reads: None, writes: Writes::default(), turn, failed }
    }

    fn reads(&self) -> Result<TransactionReads<'_>> {
        TransactionReads::new(self, self.snapshot.default_keyspace())
    }

    /// What the transaction sees of another keyspace; writes there go by [`put_in`](Self::put_in), [`delete_in`](Self::delete_in), [`delete_range_in`](Self::delete_range_in) and
    /// [`clear_in`](Self::clear_in).
    ///
    /// # Errors
    /// Reads of a keyspace of another engine are refused as `InvalidArgument`, those of one that was dropped as `NotFound`. One that was made since reads as empty.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let engine = esker::Engine::open(dir.path())?;
    /// let users = engine.keyspace("users", Default::default())?;
    /// let mut tx = engine.transaction();
    /// tx.put_in(&users, "id", "ada")?;
    /// assert_eq!(tx.of(&users).get("id")?.unwrap(), b"ada");
    /// assert_eq!(tx.get_in(&users, "id")?.unwrap(), b"ada");
    /// assert_eq!(tx.of(&users).iter().count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn of<'a>(&'a self, keyspace: &'a Keyspace) -> TransactionOf<'a> {
        TransactionOf { transaction: self, keyspace }
    }

    read_methods!(TransactionIter, TransactionCursor);

    /// The value of `key` in `keyspace`.
    ///
    /// # Errors
    /// As [`of`](Self::of), and as [`Engine::get`].
    pub fn get_in(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        self.of(keyspace).get(key)
    }

    /// Sets `key` to `value`, to be seen by this transaction alone until it commits.
    ///
    /// # Errors
    /// `InvalidArgument` for a key over 65,535 bytes or a value over 2^32 - 1; nothing changes then.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        let keyspace = self.snapshot.default_keyspace().clone();
        self.set(&keyspace, key.as_ref(), Some(value.as_ref()))
    }

    /// Removes `key`; fine if it is not there.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        let keyspace = self.snapshot.default_keyspace().clone();
        self.set(&keyspace, key.as_ref(), None)
    }

    /// As [`put`](Self::put), in `keyspace`.
    ///
    /// # Errors
    /// As [`put`](Self::put) and [`of`](Self::of).
    pub fn put_in(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.set(keyspace, key.as_ref(), Some(value.as_ref()))
    }

    /// As [`delete`](Self::delete), in `keyspace`.
    ///
    /// # Errors
    /// As [`put_in`](Self::put_in).
    pub fn delete_in(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<()> {
        self.set(keyspace, key.as_ref(), None)
    }

    fn set(&mut self, keyspace: &Keyspace, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        self.check(keyspace)?;
        match value {
            _ if key.len() > KEY_BYTES_MAX => return Err(BatchError::KeyTooLong(key.len()).into()),
            Some(value) if value.len() > VALUE_BYTES_MAX => return Err(BatchError::ValueTooLong(value.len()).into()),
            _ => self.writes.set(keyspace, key, value),
        }
        Ok(())
    }

    /// Removes the keys from `begin` on, up to `end`, which stays: all that the transaction sees there, and all that has come there when it commits. What it puts there later stays.
    ///
    /// Costs no more where the range holds many keys, and reads none of them: what others write there meanwhile is no conflict, and is gone.
    ///
    /// # Errors
    /// `InvalidArgument` if `begin` does not come before `end`, and as [`put`](Self::put); nothing changes then.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let engine = esker::Engine::open(dir.path())?;
    /// # for day in ["2026-01-01", "2026-01-31", "2026-02-01"] { engine.put(day, "..")?; }
    /// engine.transact(|tx| {
    ///     tx.delete_range("2026-01", "2026-02")?;
    ///     tx.put("2026-01", "archived")?;
    ///     assert_eq!(tx.iter().count(), 2);
    ///     Ok(())
    /// })?;
    /// let left: Result<Vec<_>, _> = engine.iter().keys().collect();
    /// assert_eq!(left?, ["2026-01", "2026-02-01"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn delete_range(&mut self, begin: impl AsRef<[u8]>, end: impl AsRef<[u8]>) -> Result<()> {
        let keyspace = self.snapshot.default_keyspace().clone();
        self.delete_range_in(&keyspace, begin, end)
    }

    /// As [`delete_range`](Self::delete_range), in `keyspace`.
    ///
    /// # Errors
    /// As [`delete_range`](Self::delete_range) and [`of`](Self::of).
    pub fn delete_range_in(
        &mut self,
        keyspace: &Keyspace,
        begin: impl AsRef<[u8]>,
        end: impl AsRef<[u8]>,
    ) -> Result<()> {
        self.check(keyspace)?;
        let (begin, end) = (begin.as_ref(), end.as_ref());
        match begin.len().max(end.len()) {
            len if len > KEY_BYTES_MAX => return Err(BatchError::KeyTooLong(len).into()),
            _ if begin >= end => return Err(BatchError::EmptyRange.into()),
            _ => self.writes.delete_range(keyspace, begin, end),
        }
        Ok(())
    }

    /// Removes all keys of `default`, as [`delete_range`](Self::delete_range) of a range that holds every key.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn clear(&mut self) -> Result<()> {
        let keyspace = self.snapshot.default_keyspace().clone();
        self.clear_in(&keyspace)
    }

    /// As [`clear`](Self::clear), in `keyspace`.
    ///
    /// # Errors
    /// As [`put_in`](Self::put_in).
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let engine = esker::Engine::open(dir.path())?;
    /// let cache = engine.keyspace("cache", Default::default())?;
    /// cache.put("page/1", "old")?;
    /// engine.transact(|tx| {
    ///     tx.clear_in(&cache)?;
    ///     tx.put("version", "2")
    /// })?;
    /// assert!(cache.is_empty()? && engine.contains_key("version")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn clear_in(&mut self, keyspace: &Keyspace) -> Result<()> {
        self.check(keyspace)?;
        self.writes.delete_range(keyspace, &[], &[]);
        Ok(())
    }

    /// Whether the transaction, and a keyspace in it, can be used.
    fn check(&self, keyspace: &Keyspace) -> Result<()> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if keyspace.engine_number() != self.snapshot.handle().core.number {
            return Err(Error::invalid("the keyspace belongs to another engine than the transaction"));
        }
        keyspace.check()
    }

    /// A point to go back to: what is written from here on can be undone.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let engine = esker::Engine::open(dir.path())?;
    /// let mut tx = engine.transaction();
    /// tx.put("a", "1")?;
    /// let savepoint = tx.savepoint();
    /// tx.put("a", "2")?;
    /// tx.rollback_to(savepoint)?;
    /// tx.commit()?;
    /// assert_eq!(engine.get("a")?.unwrap(), b"1");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn savepoint(&mut self) -> Savepoint {
        self.writes.savepoint()
    }

    /// Undoes what was written since `savepoint`, which stays, so that it can be gone back to again; later ones do not. What was read stays read.
    ///
    /// # Errors
    /// `InvalidArgument` for a savepoint of another transaction, or one behind another that was gone back to.
    pub fn rollback_to(&mut self, savepoint: Savepoint) -> Result<()> {
        self.writes.rollback_to(savepoint)
    }

    /// Ends the transaction and writes nothing, as dropping it does.
    pub fn rollback(self) {}

    /// Commits, at the engine's durability level: all writes or none, over all keyspaces.
    ///
    /// # Errors
    /// `Conflict` if anything that was read was written to since: nothing is written, and the transaction is to be run again. Never in one that has written nothing. Else as
    /// [`Engine::write`]; and those of reading tables, if a conflict can't be ruled out because of them.
    pub fn commit(self) -> Result<()> {
        self.commit_with(&WriteOptions::default())
    }

    /// As [`commit`](Self::commit), at another durability level. With `Sync` a transaction that has written nothing returns when all that was committed before, and so all that it saw, is on stable storage.
    ///
    /// # Errors
    /// As [`commit`](Self::commit), and `Stalled` if waiting was forbidden.
    pub fn commit_with(self, options: &WriteOptions) -> Result<()> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.writes.is_empty() {
            return self.snapshot.handle().core.wrote_nothing(options);
        }
        let mut reads = self.reads.and_then(|tracked| tracked.lock().take());
        if let Some(reads) = &mut reads {
            reads.settle();
        }
        let since = self.snapshot.seq_no();
        let terms =
            Terms { reads: reads.as_ref().map(|set| ReadSince { what: What::Set(set), since }), turn: self.turn };
        self.snapshot.handle().core.write_on(&terms, &self.writes.to_batch(), options)
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("seq", &self.snapshot.seq()).finish_non_exhaustive()
    }
}

/// What a [`Transaction`] sees of one keyspace.
#[derive(Clone, Copy, Debug)]
pub struct TransactionOf<'a> {
    transaction: &'a Transaction,
    keyspace: &'a Keyspace,
}

impl TransactionOf<'_> {
    fn reads(&self) -> Result<TransactionReads<'_>> {
        TransactionReads::new(self.transaction, self.keyspace)
    }

    read_methods!(TransactionIter, TransactionCursor);
}

/// Reads of one keyspace within a transaction.
struct TransactionReads<'a> {
    transaction: &'a Transaction,
    keyspace: &'a Keyspace,
}

impl<'a> TransactionReads<'a> {
    fn new(transaction: &'a Transaction, keyspace: &'a Keyspace) -> Result<Self> {
        transaction.check(keyspace)?;
        Ok(Self { transaction, keyspace })
    }

    fn core(&self) -> &Arc<KeyspaceCore> {
        &self.keyspace.core
    }

    fn at_snapshot(&self) -> Reads<'a> {
        Reads { keyspace: self.keyspace, at: Some(self.transaction.snapshot.taken()) }
    }

    /// What the transaction has written to a key, if anything; else the key counts as read.
    fn own(&self, key: &[u8]) -> Option<Option<&'a Slice>> {
        let own = self.transaction.writes.get(self.keyspace.id(), key);
        if own.is_none()
            && let Some(tracked) = &self.transaction.reads
            && let Some(reads) = &mut *tracked.lock()
        {
            reads.add_key(self.core(), key);
        }
        own
    }

    fn get(&self, key: &[u8]) -> Result<Option<Slice>> {
        self.own(key).map_or_else(|| self.at_snapshot().get(key), |own| Ok(own.cloned()))
    }

    fn contains_key(&self, key: &[u8]) -> Result<bool> {
        self.own(key).map_or_else(|| self.at_snapshot().contains_key(key), |own| Ok(own.is_some()))
    }

    fn multi_get<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<Slice>>> {
        let mut values = Vec::new();
        let mut others = Vec::new();
        for key in keys {
            let own = self.own(key.as_ref());
            if own.is_none() {
                others.push((values.len(), key));
            }
            values.push(own.flatten().cloned());
        }
        let found = self.at_snapshot().multi_get(others.iter().map(|(_, key)| key))?;
        for ((nth, _), value) in others.iter().zip(found) {
            values[*nth] = value;
        }
        Ok(values)
    }

    fn range(&self, range: impl KeyRange) -> TransactionIter {
        self.seen(to_bounds(&range)).map_or_else(TransactionIter::failed, TransactionIter::new)
    }

    fn prefix(&self, prefix: &[u8]) -> TransactionIter {
        self.seen(Bounds::prefix(prefix)).map_or_else(TransactionIter::failed, TransactionIter::new)
    }

    fn extreme(&self, end: Extreme) -> Result<Option<(Slice, Slice)>> {
        let mut iter = self.range(..);
        let found = match end {
            Extreme::First => iter.next(),
            Extreme::Last => iter.next_back(),
        };
        found.transpose()
    }

    fn is_empty(&self) -> Result<bool> {
        Ok(self.range(..).keys().next().transpose()?.is_none())
    }

    fn cursor(&self, options: ReadOptions) -> TransactionCursor {
        let seen = self.seen(options.into_bounds());
        seen.map_or_else(TransactionCursor::failed, |seen| TransactionCursor::new(seen.walk()))
    }

    fn seen(&self, bounds: Bounds) -> Result<Seen> {
        let (state, at) = self.at_snapshot().state()?;
        Ok(Seen {
            state: Guard::into_inner(state),
            at,
            own: self.transaction.writes.own(self.keyspace.id()),
            bounds,
            keyspace: Arc::clone(self.core()),
            tracked: self.transaction.reads.clone(),
        })
    }
}

impl Engine {
    /// Begins a transaction, which sees what is committed now.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let engine = esker::Engine::open(dir.path())?;
    /// let mut tx = engine.transaction();
    /// assert_eq!(tx.get("a")?, None);
    /// tx.put("a", "1")?;
    /// assert_eq!(tx.range(..).count(), 1);
    /// tx.commit()?;
    /// assert_eq!(engine.get("a")?.unwrap(), b"1");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn transaction(&self) -> Transaction {
        Transaction::begin(self)
    }

    /// Runs `f` in a transaction and commits it, again and again while that meets a `Conflict`, after waits that grow, by chance, up to 10 ms. Where it loses sixteen times it is run in an
    /// [exclusive](Engine::exclusive) transaction, so it comes to its end however much others write.
    ///
    /// `f` may run several times, so whatever it does besides must stand that; and it must write by the transaction alone, nor wait for others who write.
    ///
    /// # Errors
    /// What `f` returns, and then nothing is written: [`Error::other`] makes an error of its own failure. Those of [`Transaction::commit`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let engine = esker::Engine::open(dir.path())?;
    /// # engine.put("stock", [3])?;
    /// use esker::{Error, ErrorKind};
    /// let buy = || engine.transact(|tx| {
    ///     let stock = tx.get("stock")?.map_or(0, |stock| stock[0]);
    ///     let left = stock.checked_sub(1).ok_or_else(|| Error::other("out of stock"))?;
    ///     tx.put("stock", [left])?;
    ///     Ok(left)
    /// });
    /// assert_eq!((buy()?, buy()?, buy()?), (2, 1, 0));
    /// assert_eq!(buy().unwrap_err().kind(), ErrorKind::Other);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn transact<T>(&self, f: impl FnMut(&mut Transaction) -> Result<T>) -> Result<T> {
        self.transact_with(&WriteOptions::default(), f)
    }

    /// As [`Engine::transact`], at another durability level.
    ///
    /// # Errors
    /// As [`Engine::transact`], and `Stalled` if waiting was forbidden: for room, or for an exclusive transaction.
    pub fn transact_with<T>(
        &self,
        options: &WriteOptions,
        mut f: impl FnMut(&mut Transaction) -> Result<T>,
    ) -> Result<T> {
        for nth in 0..TRIES_MAX {
            let mut tx = self.transaction();
            match f(&mut tx).and_then(|done| tx.commit_with(options).map(|()| done)) {
                Err(error) if error.kind() == ErrorKind::Conflict => self.wait_before_try(nth),
                result => return result,
            }
        }
        let mut tx = Exclusive::begin(self, options.no_stall);
        let done = f(&mut tx)?;
        tx.commit_with(options)?;
        Ok(done)
    }

    /// Waits a while, by chance, so that those who met don't meet again.
    fn wait_before_try(&self, nth: u32) {
        let core = &self.handle.core;
        let longest = WAIT_FIRST.saturating_mul(1 << nth.min(16)).min(WAIT_MAX).as_nanos() as u64;
        core.vfs.clock().sleep(Duration::from_nanos(core.vfs.random() % longest));
    }
}

#[cfg(test)]
mod tests;
