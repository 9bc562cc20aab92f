//! Turns: one writer at a time, while every other waits.
//!
//! A turn is a mark in what the commit lock guards, so whoever writes sees it under the lock that he takes anyhow, and whoever takes a turn knows that nothing is being written. What
//! is read at the turn's beginning therefore stands until its end. Background work takes no turns: it changes nothing that anybody reads.
//!
//! Invariants
//! - A thread that has the turn never waits for it: a write beside its transaction is refused.
//! - A turn ends with its guard, also by a panic. Close waits for no turn, and whoever waits for one is told that the engine closes.

use crate::background::works_for;
use crate::commit::Commit;
use crate::core::Core;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::options::WriteOptions;
use crate::snapshot::{Snapshot, Taken};
use crate::transaction::Transaction;
use parking_lot::MutexGuard;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::thread::{self, ThreadId};

/// Who has the turn.
#[derive(Debug)]
pub(crate) struct TurnOf {
    thread: ThreadId,
    number: u64,
}

/// A turn, for as long as it is held. It stays with its thread, which is how a write beside it is told from one that may wait.
pub(crate) struct Turn {
    core: Arc<Core>,
    pub(crate) number: u64,
    _stays: PhantomData<*const ()>,
}

impl Core {
    /// Waits for its turn and takes it; with it a snapshot of what stands until its end, to be released.
    ///
    /// # Errors
    /// `InvalidArgument` if this thread has the turn already; `Stalled` if it must not wait, as on a thread of the engine; `Closed`.
    pub(crate) fn take_turn(self: &Arc<Self>, no_stall: bool) -> Result<(Turn, Taken)> {
        let mut commit = self.commit.lock();
        self.check_open()?;
        self.await_turn(&mut commit, None, no_stall)?;
        commit.turns += 1;
        let number = commit.turns;
        commit.turn = Some(TurnOf { thread: thread::current().id(), number });
        // Under the lock, so that nothing comes between.
        let taken = self.snapshots.take(self);
        drop(commit);
        Ok((Turn { core: Arc::clone(self), number, _stays: PhantomData }, taken))
    }

    /// As [`Core::take_turn`], without a snapshot, for who writes nothing that depends on what is there.
    pub(crate) fn take_turn_alone(self: &Arc<Self>) -> Result<Turn> {
        let mut commit = self.commit.lock();
        self.check_open()?;
        self.await_turn(&mut commit, None, false)?;
        commit.turns += 1;
        let number = commit.turns;
        commit.turn = Some(TurnOf { thread: thread::current().id(), number });
        drop(commit);
        Ok(Turn { core: Arc::clone(self), number, _stays: PhantomData })
    }

    /// Waits until nobody has the turn but, perhaps, the one with the number `own`.
    ///
    /// # Errors
    /// `InvalidArgument` if this thread has another turn, or `own` is over; `Stalled` instead of waiting if `no_stall`, or on a thread of the engine; `Closed`.
    pub(crate) fn await_turn(
        &self,
        commit: &mut MutexGuard<'_, Commit>,
        own: Option<u64>,
        no_stall: bool,
    ) -> Result<()> {
        loop {
            match (&commit.turn, own) {
                (None, None) => return Ok(()),
                (Some(turn), Some(own)) if turn.number == own => return Ok(()),
                (_, Some(_)) => return Err(Error::invalid("the exclusive transaction is over")),
                (Some(turn), None) if turn.thread == thread::current().id() => {
                    return Err(Error::invalid(
                        "this thread has an exclusive transaction open: write through that, or end it first",
                    ));
                }
                // Who has it may wait for room that only this thread makes.
                (Some(_), None) if no_stall || works_for(self) => {
                    self.counters.stalls.add(1);
                    return Err(Error::new(ErrorKind::Stalled, "an exclusive transaction is open; write again later"));
                }
                (Some(_), None) => {}
            }
            self.check_open()?;
            let begin = self.vfs.clock().now();
            self.turn_over.wait(commit);
            let waited = self.vfs.clock().now().saturating_sub(begin);
            self.counters.stalls.add(1);
            self.counters.stall_us.add(waited.as_micros() as u64);
            self.check_open()?;
        }
    }

    /// Has those who wait for a turn look whether the engine is closing.
    pub(crate) fn wake_for_close(&self) {
        drop(self.commit.lock());
        self.turn_over.notify_all();
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.core.commit.lock().turn = None;
        self.core.turn_over.notify_all();
    }
}

/// A [`Transaction`] beside which nobody writes: every other writer waits, or gets `Stalled` if it must not, until this one ends. So it meets no `Conflict`, and remembers nothing of what it
/// reads. Made by [`Engine::exclusive`]; it stays with its thread.
///
/// Everybody reads on meanwhile, as of before it commits. A write beside it from the thread that holds it would wait for itself, and is `InvalidArgument`. If it could not begin (the engine is closed; this thread holds another, or is one of the engine's, which don't wait),
/// every call returns why.
///
/// It ends with [`commit`](Self::commit), or without a trace when dropped. Forgotten (`mem::forget`), it has all writers wait until the engine is closed.
pub struct Exclusive {
    transaction: Transaction,
    /// Behind the transaction, whose snapshot goes first.
    _turn: Option<Turn>,
}

impl Exclusive {
    pub(crate) fn begin(engine: &Engine, no_stall: bool) -> Self {
        let begun = engine.handle.core.take_turn(no_stall);
        let (turn, snapshot, number) = match begun {
            Ok((turn, taken)) => {
                let number = turn.number;
                (Some(turn), Snapshot::of_taken(&engine.handle, engine.default.clone(), taken), Ok(number))
            }
            Err(error) => (None, engine.snapshot(), Err(error)),
        };
        Self { transaction: Transaction::exclusive(snapshot, number), _turn: turn }
    }

    /// Commits, at the engine's durability level.
    ///
    /// # Errors
    /// As [`Transaction::commit`], but no `Conflict`.
    pub fn commit(self) -> Result<()> {
        self.transaction.commit()
    }

    /// As [`commit`](Self::commit), at another durability level.
    ///
    /// # Errors
    /// As [`commit`](Self::commit), and `Stalled` if waiting for room was forbidden.
    pub fn commit_with(self, options: &WriteOptions) -> Result<()> {
        self.transaction.commit_with(options)
    }

    /// Ends the transaction and writes nothing, as dropping it does.
    pub fn rollback(self) {}
}

impl fmt::Debug for Exclusive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Exclusive").field(&self.transaction).finish()
    }
}

impl Deref for Exclusive {
    type Target = Transaction;

    fn deref(&self) -> &Transaction {
        &self.transaction
    }
}

impl DerefMut for Exclusive {
    fn deref_mut(&mut self) -> &mut Transaction {
        &mut self.transaction
    }
}

impl Engine {
    /// Begins a transaction beside which nobody writes, as soon as nobody else has one.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let engine = esker::Engine::open(dir.path())?;
    /// use esker::ErrorKind;
    /// let mut tx = engine.exclusive();
    /// let next = tx.get("next")?.map_or(0, |next| next[0]) + 1;
    /// tx.put("next", [next])?;
    /// assert_eq!(engine.put("beside", "it").unwrap_err().kind(), ErrorKind::InvalidArgument);
    /// tx.commit()?;
    /// engine.put("behind", "it")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn exclusive(&self) -> Exclusive {
        Exclusive::begin(self, false)
    }
}
