//! Group sync: one thread syncs for all who wait.
//!
//! ```text
//! logs     | sealed ........ | sealed ....... | being written .......
//! line     ------------------^ durable -------------------^ pushed ---^ buffered in the writer
//! ```
//! Whoever finds nobody leading leads a round: notes how far each log has been pushed, syncs the logs oldest first, moves `durable` to
//! what was noted, wakes those whom that serves and one more, who leads the next round. All who come while a round is under way wait for
//! its end.
//!
//! Invariants
//! - Everything below `durable` was handed to the operating system before a sync of its file began that then succeeded, or was given up
//!   by [`GroupSync::retire`]. `durable` never decreases.
//! - A round passes the end of a log only if the log is sealed and synced; all logs but the newest are sealed.
//! - At most one thread leads. If any wait, one leads or has been woken to lead.
//! - Once `failed` is set nobody leads again, `durable` is not moved by a sync, and no call succeeds.

use crate::error::WalError;
use crate::frame::Lsn;
use esker_vfs::FileSync;
// From beside this module, since its model puts others in their place.
use super::sync::{AtomicU64, Mutex, MutexGuard, OnceLock, Thread, current, park, yield_now};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// How often a leader lets others run, as long as that brings more of them into the group.
const GATHER_YIELDS_MAX: usize = 4;

/// Shared by the logs of one series: knows how far the line of positions is on stable storage, and moves that on.
///
/// Any number of threads may call it at once.
#[derive(Debug)]
pub struct GroupSync {
    durable: AtomicU64,
    syncs: AtomicU64,
    failed: OnceLock<WalError>,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(crate) struct State {
    /// Not yet synced to the end, oldest first.
    pub(crate) logs: VecDeque<Arc<Log>>,
    /// Whether the newest log is still being written.
    open: bool,
    /// Where the newest log was sealed, or where the line began.
    end: Lsn,
    leading: bool,
    /// Whether anybody waited in the last round.
    pub(crate) shared: bool,
    pub(crate) waiters: Vec<Waiter>,
}

#[derive(Debug)]
pub(crate) struct Waiter {
    upto: Lsn,
    thread: Thread,
}

/// What the group knows of a log.
#[derive(Debug)]
pub(crate) struct Log {
    name: Arc<str>,
    start: Lsn,
    syncer: Arc<dyn FileSync>,
    /// The end of the last record that was handed to the operating system.
    pushed: AtomicU64,
}

impl Log {
    /// Says that everything below `end` is with the operating system. `end` is the end of a record.
    pub(crate) fn set_pushed(&self, end: Lsn) {
        // Pairs with the load in `pushed`: a leader who sees `end` syncs after the write.
        self.pushed.store(end.0, Ordering::Release);
    }

    fn pushed(&self) -> Lsn {
        Lsn(self.pushed.load(Ordering::Acquire))
    }
}

impl GroupSync {
    /// A group without logs. Everything below `durable` is known to be on stable storage, or not to matter.
    pub fn new(durable: Lsn) -> Arc<Self> {
        let (logs, waiters) = (VecDeque::new(), Vec::new());
        let state = State { logs, open: false, end: durable, leading: false, shared: false, waiters };
        Arc::new(Self {
            durable: AtomicU64::new(durable.0),
            syncs: AtomicU64::new(0),
            failed: OnceLock::new(),
            state: Mutex::new(state),
        })
    }

    /// How far the line is on stable storage.
    pub fn durable(&self) -> Lsn {
        // Pairs with the update in `advance`.
        Lsn(self.durable.load(Ordering::Acquire))
    }

    /// How many times a file has been synced, successfully or not.
    pub fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// The error that ended it all, if a sync has failed.
    pub fn failed(&self) -> Option<WalError> {
        self.failed.get().cloned()
    }

    /// Returns when everything below `upto` is on stable storage: at once if it is, else after a sync by this thread or another.
    ///
    /// # Errors
    /// A sync has failed, now or before: this and all later calls return that error, since a later sync would prove nothing. Whether the
    /// bytes at or above [`GroupSync::durable`] are on stable storage is then unknown. [`WalError::NotPushed`] if `upto` lies beyond what
    /// the writers pushed before the call.
    pub fn sync_to(&self, upto: Lsn) -> Result<(), WalError> {
        if let Some(error) = self.failed.get() {
            return Err(error.clone());
        }
        while self.durable() < upto {
            let mut state = self.lock();
            // Set under the lock by those who lead, so it is looked at again under the lock.
            if self.durable() >= upto {
                break;
            }
            if let Some(error) = self.failed.get() {
                return Err(error.clone());
            }
            let pushed = state.logs.back().map_or(state.end, |log| log.pushed());
            if upto > pushed {
                return Err(WalError::NotPushed { upto, pushed });
            }
            if state.leading {
                state.waiters.push(Waiter { upto, thread: current() });
                drop(state);
                park();
                continue;
            }
            state.leading = true;
            let waiting = state.waiters.len();
            // Who is alone would give up the processor for nobody: on a busy machine for as long as a sync takes, or longer.
            // Who waits by now did so when the last round ended, as others wait for a leader alone.
            let gathers = state.shared;
            drop(state);
            self.lead(gathers.then_some(waiting));
        }
        Ok(())
    }

    /// Gives up the logs that end at or below `below`: what they hold is on stable storage elsewhere, as in tables that a synced manifest
    /// names. They are not synced any more, and `durable` passes them.
    pub fn retire(&self, below: Lsn) {
        let mut retired = Vec::new();
        let mut state = self.lock();
        while let Some(log) = state.oldest_sealed().filter(|log| log.pushed() <= below) {
            self.advance(log.pushed());
            retired.extend(state.logs.pop_front());
        }
        // The one woken to lead may find itself served by this and not lead, so all look again.
        let woken = std::mem::take(&mut state.waiters);
        drop(state);
        // Dropped here, since that may close files.
        drop(retired);
        wake(woken);
    }

    /// Adds a log that an earlier process wrote, from `start` to `end`, before the first of our own: it is with the operating system, and synced by the next round
    /// that passes it. Logs are adopted in their order; one that ends at or below [`GroupSync::durable`] needs no sync and is left out.
    ///
    /// # Errors
    /// [`WalError::OutOfLine`] if a log is being written, the one before it ends behind `start`, or `end` lies before `start`.
    pub fn adopt(&self, name: &str, start: Lsn, end: Lsn, syncer: Arc<dyn FileSync>) -> Result<(), WalError> {
        let mut state = self.lock();
        let before = state.logs.back().map_or(Lsn::ZERO, |log| log.pushed());
        if state.open || start < before || end < start {
            return Err(WalError::OutOfLine { name: name.into(), start, end: (!state.open).then_some(before) });
        }
        if end > self.durable() {
            let log = Log { name: name.into(), start, syncer, pushed: AtomicU64::new(end.0) };
            state.logs.push_back(Arc::new(log));
            state.end = end;
        }
        Ok(())
    }

    /// Adds a log that starts at `start`, of which nothing is pushed yet.
    pub(crate) fn add(&self, name: &Arc<str>, start: Lsn, syncer: Arc<dyn FileSync>) -> Result<Arc<Log>, WalError> {
        let mut state = self.lock();
        if state.open || start < state.end {
            let end = (!state.open).then_some(state.end);
            return Err(WalError::OutOfLine { name: name.clone(), start, end });
        }
        let log = Arc::new(Log { name: name.clone(), start, syncer, pushed: AtomicU64::new(start.0) });
        state.logs.push_back(log.clone());
        state.open = true;
        Ok(log)
    }

    /// Says that the newest log ends where it has been pushed to.
    pub(crate) fn seal(&self, log: &Arc<Log>) {
        let mut state = self.lock();
        state.open = false;
        state.end = log.pushed();
        let done = state.take_done(self.durable());
        drop(state);
        drop(done);
    }

    /// One round. The caller has set `leading`. Others are let in first if it is said how many wait by now.
    fn lead(&self, waiting: Option<usize>) {
        let mut round = Round { group: self, failure: Some(WalError::Interrupted) };
        if let Some(waiting) = waiting {
            self.gather(waiting);
        }
        round.failure = self.sync_logs().err();
    }

    /// Lets others join, as long as they do: on few processors they are about to write what this sync can carry.
    fn gather(&self, mut waiting: usize) {
        for _ in 0..GATHER_YIELDS_MAX {
            yield_now();
            let now = self.lock().waiters.len();
            if now == waiting {
                break;
            }
            waiting = now;
        }
    }

    fn sync_logs(&self) -> Result<(), WalError> {
        let logs: Vec<(Arc<Log>, Lsn)> = self.lock().logs.iter().map(|log| (log.clone(), log.pushed())).collect();
        for (log, pushed) in logs {
            if pushed > self.durable() {
                // A statistic; it orders nothing.
                self.syncs.fetch_add(1, Ordering::Relaxed);
                let offset = pushed.0 - log.start.0;
                log.syncer.sync().map_err(|error| WalError::from_io(&log.name, "sync", offset, error))?;
                self.advance(pushed);
            }
        }
        Ok(())
    }

    fn advance(&self, durable: Lsn) {
        // Pairs with the load in `durable`: who sees the new value sees what was done before it was set.
        self.durable.fetch_max(durable.0, Ordering::AcqRel);
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // No invariant of the state is ever broken between two of its statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn oldest_sealed(&self) -> Option<&Arc<Log>> {
        self.logs.front().filter(|_| self.logs.len() > 1 || !self.open)
    }

    /// Takes out the logs that nobody will ask to sync again.
    fn take_done(&mut self, durable: Lsn) -> Vec<Arc<Log>> {
        let mut done = Vec::new();
        while self.oldest_sealed().is_some_and(|log| log.pushed() <= durable) {
            done.extend(self.logs.pop_front());
        }
        done
    }
}

/// A round under way. However it ends, by a panic of the file system too, those who wait are woken.
struct Round<'a> {
    group: &'a GroupSync,
    failure: Option<WalError>,
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        let group = self.group;
        let mut state = group.lock();
        if let Some(error) = self.failure.take() {
            // The first to be set stays; only a leader sets it, and none leads after that.
            let _ = group.failed.set(error);
        }
        state.leading = false;
        state.shared = !state.waiters.is_empty();
        let durable = group.durable();
        let done = state.take_done(durable);
        let woken = if group.failed.get().is_some() {
            std::mem::take(&mut state.waiters)
        } else {
            let (mut served, mut others): (Vec<_>, Vec<_>) = state.waiters.drain(..).partition(|w| w.upto <= durable);
            served.extend(others.pop());
            state.waiters = others;
            served
        };
        drop(state);
        drop(done);
        wake(woken);
    }
}

fn wake(waiters: Vec<Waiter>) {
    for waiter in waiters {
        waiter.thread.unpark();
    }
}
