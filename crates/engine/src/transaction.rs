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
mod of;
mod operands;
mod own;
mod writes;

use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::exclusive::Exclusive;
use crate::keyspace::Keyspace;
use crate::options::WriteOptions;
use crate::read_set::ReadSet;
use crate::reads::read_methods;
use crate::snapshot::Snapshot;
use crate::validation::{ReadSince, Terms, What};
use esker_format::{BatchError, KEY_BYTES_MAX, Slice, VALUE_BYTES_MAX};
use merged::Tracked;
use of::TransactionReads;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use cursor::TransactionCursor;
pub use iter::{TransactionIter, TransactionKeys};
pub use of::TransactionOf;
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

    /// What the transaction sees of another keyspace; writes there go by [`put_in`](Self::put_in), [`merge_in`](Self::merge_in), [`delete_in`](Self::delete_in),
    /// [`delete_range_in`](Self::delete_range_in) and [`clear_in`](Self::clear_in).
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

    /// Merges `operand` into the value of `key`: see [`Engine::merge`]. Upon what the transaction has put or deleted there itself; else, at the commit, upon whatever is there then.
    ///
    /// Reads nothing, so transactions that merge into one key and don't look at it meet no conflict. Who asks for its value here sees what the operand makes of it, and has then read the key.
    ///
    /// # Errors
    /// As [`put`](Self::put), and as [`Engine::merge`] if the keyspace takes no such operand; nothing changes then.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # use esker::{Engine, KeyspaceOptions};
    /// # let options = KeyspaceOptions { merge_operator: Some("esker.counter".into()), ..Default::default() };
    /// # let engine = Engine::builder(dir.path()).default_keyspace(options).open()?;
    /// let mut sale = engine.transaction();
    /// sale.merge("stock", (-2i64).to_le_bytes())?;
    /// let mut delivery = engine.transaction();
    /// delivery.merge("stock", 10i64.to_le_bytes())?;
    /// delivery.commit()?;
    /// sale.commit()?;
    /// assert_eq!(engine.get("stock")?.unwrap(), 8i64.to_le_bytes());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn merge(&mut self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<()> {
        let keyspace = self.snapshot.default_keyspace().clone();
        self.merge_in(&keyspace, key, operand)
    }

    /// As [`merge`](Self::merge), in `keyspace`.
    ///
    /// # Errors
    /// As [`merge`](Self::merge) and [`of`](Self::of).
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let engine = esker::Engine::open(dir.path())?;
    /// # use esker::KeyspaceOptions;
    /// let options = KeyspaceOptions { merge_operator: Some("esker.append".into()), ..Default::default() };
    /// let log = engine.keyspace("log", options)?;
    /// engine.transact(|tx| {
    ///     tx.merge_in(&log, "today", "a")?;
    ///     tx.merge_in(&log, "today", "b")?;
    ///     assert_eq!(tx.get_in(&log, "today")?.unwrap(), b"ab");
    ///     Ok(())
    /// })?;
    /// assert_eq!(log.get("today")?.unwrap(), b"ab");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn merge_in(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<()> {
        self.check(keyspace)?;
        let (key, operand) = (key.as_ref(), operand.as_ref());
        check_lengths(key, operand)?;
        keyspace.core.check_operand(operand)?;
        self.writes.merge(keyspace, key, operand);
        Ok(())
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
        check_lengths(key, value.unwrap_or_default())?;
        self.writes.set(keyspace, key, value);
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
            let core = &self.snapshot.handle().core;
            // That the engine syncs by default makes no write of it: what only reads neither waits for a device nor fails where writing has stopped.
            return if core.read_only { Ok(()) } else { core.wrote_nothing(options.durability) };
        }
        let mut reads = self.reads.and_then(|tracked| tracked.lock().take());
        if let Some(reads) = &mut reads {
            reads.settle();
        }
        let at = self.snapshot.taken();
        let terms = Terms { reads: reads.as_ref().map(|set| ReadSince { what: What::Set(set), at }), turn: self.turn };
        self.snapshot.handle().core.write_on(&terms, &self.writes.to_batch(), options)
    }
}

/// # Errors
/// `InvalidArgument` for a key, or a value or operand, that is too long.
fn check_lengths(key: &[u8], value: &[u8]) -> Result<()> {
    match (key.len(), value.len()) {
        (len, _) if len > KEY_BYTES_MAX => Err(BatchError::KeyTooLong(len).into()),
        (_, len) if len > VALUE_BYTES_MAX => Err(BatchError::ValueTooLong(len).into()),
        _ => Ok(()),
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("seq", &self.snapshot.seq()).finish_non_exhaustive()
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
