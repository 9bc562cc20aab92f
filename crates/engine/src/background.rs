//! Background work: what there is to do, one step at a time, and the threads that do it.
//!
//! All work is a *step*: [`Core::step_flush`], [`Core::step_compact`], [`Core::step_upkeep`]. Threads only call them, so with [`Background::Manual`] a test calls them by
//! hand and a whole run repeats. This is the only module that starts threads.

use crate::commit::{Commit, SpareLog};
use crate::core::{Core, KeyspaceCore, Retry, State};
use crate::error::{Error, ErrorKind, Result};
use esker_format::{FileKind, SeqNo};
use esker_wal::{RecordKind, Reserve, Writer};
use std::cell::Cell;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle, Scope};
use std::time::Duration;

/// Who does the background work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Background {
    /// Threads of the engine: one that flushes, and [`crate::Options::background_threads`] that compact.
    #[default]
    Threads,
    /// The user, by [`crate::Engine::step`]. A write that would have to wait gets `Stalled`.
    Manual,
}

/// How often a thread looks around when nothing wakes it.
const TICK: Duration = Duration::from_millis(250);

/// When nothing has been written for so long, logs made ahead are given back.
const PAUSE: Duration = Duration::from_secs(3);

/// A thread of the engine.
pub(crate) struct Worker(JoinHandle<()>);

impl Worker {
    /// Waits for it to end.
    pub(crate) fn join(self) {
        // A panic of a worker was printed when it happened; there is nobody to pass it on to.
        let _ = self.0.join();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Flushes and looks after everything that goes by the clock.
    Flush,
    Compact,
}

/// How often writing had resumed when something began. Counted under the state lock.
#[derive(Clone, Copy)]
pub(crate) struct Began {
    resumes: u64,
    own: u64,
}

thread_local! {
    /// The number of the engine whose thread this is; 0 if it is none's.
    static WORKS_FOR: Cell<u64> = const { Cell::new(0) };
}

/// Whether this is one of the engine's own threads, where a listener calls it: what it would wait for, only this thread may be able to do.
pub(crate) fn works_for(core: &Core) -> bool {
    WORKS_FOR.get() == core.number
}

/// Closes an engine. On one of the engine's own threads, where a listener may ask for it, another thread closes, since closing waits for this one.
pub(crate) fn close(core: &Arc<Core>) -> Result<()> {
    if !works_for(core) {
        return core.close();
    }
    let closer = Arc::clone(core);
    let begun = thread::Builder::new().name("esker-close".into()).spawn(move || closer.close());
    begun.map(drop).map_err(|error| Error::io("start a thread to close", &core.dir, error))
}

/// Closes an engine whose last handle is gone.
pub(crate) fn close_abandoned(core: &Arc<Core>) {
    // Nobody is left to tell but the listener, which close told. If no thread can be made the process is in no state to close in order; the next open recovers.
    let _ = close(core);
}

/// Starts the threads.
pub(crate) fn start(core: &Arc<Core>) -> io::Result<()> {
    let number = core.number;
    let mut workers = core.workers.lock();
    let compactors = (0..core.options.background_threads).map(|i| (Role::Compact, format!("esker-compact-{i}")));
    for (role, name) in std::iter::once((Role::Flush, "esker-flush".to_owned())).chain(compactors) {
        // A weak reference: threads do not keep an engine alive that nobody uses.
        let core = Arc::downgrade(core);
        workers.push(Worker(thread::Builder::new().name(name).spawn(move || {
            WORKS_FOR.set(number);
            work(&core, role);
        })?));
    }
    Ok(())
}

/// Runs `work`, which may have [another thread](beside) help it, to the end of both. If either panics, so does this.
pub(crate) fn helped<'env, T>(work: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T) -> T {
    thread::scope(work)
}

/// Has another thread `work`, at most until the scope ends.
pub(crate) fn beside<'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() + Send + 'scope,
) -> io::Result<()> {
    thread::Builder::new().name(name.into()).spawn_scoped(scope, work).map(drop)
}

fn work(core: &Weak<Core>, role: Role) {
    while let Some(core) = core.upgrade() {
        if core.closing() {
            return;
        }
        let did = match role {
            Role::Flush => core.step_flush() | core.step_upkeep(),
            Role::Compact => core.step_compact(),
        };
        core.deliver();
        if !did {
            core.wait_for_work(role);
        }
    }
}

impl Core {
    /// One step of whatever is most urgent; whether there was any.
    pub(crate) fn step(&self) -> bool {
        self.step_flush() || self.step_compact() || self.step_upkeep()
    }

    fn wait_for_work(&self, role: Role) {
        let mut state = self.state.lock();
        // A flush waits in vain while writing has stopped.
        let flush_waits = role == Role::Flush && self.flush_waits(&state) && self.health.check().is_ok();
        if !flush_waits && !self.closing() {
            self.changed.wait_for(&mut state, TICK);
        }
    }

    fn flush_waits(&self, state: &State) -> bool {
        let may_start = state.flush_retry.failures == 0 && state.paused == 0 && state.flushing.is_empty();
        may_start && state.keyspaces.values().any(|keyspace| !keyspace.read.load().sealed.is_empty())
    }

    /// What a piece of background work begins after, to be given back at its end.
    pub(crate) fn begin_background(&self) -> Began {
        // Relaxed: of who begins meanwhile either may be said.
        Began { resumes: self.resumes.load(Ordering::Relaxed), own: self.own_resumes.load(Ordering::Relaxed) }
    }

    /// Keeps, counts and reports the end of a piece of background work that [began](Self::begin_background) so; whether it did what it was to do.
    pub(crate) fn finish_background(
        &self,
        began: Began,
        retry: fn(&mut State) -> &mut Retry,
        result: Result<()>,
    ) -> bool {
        let now = self.vfs.clock().now();
        let error = match result {
            Ok(()) => {
                *retry(&mut self.state.lock()) = Retry::default();
                self.changed.notify_all();
                return true;
            }
            // The engine is closing: the next open does the work.
            Err(error) if error.kind() == ErrorKind::Closed => return false,
            Err(error) => error,
        };
        if error.kind() == ErrorKind::NoSpace {
            // What the writer has made ahead for itself may be what this lacks.
            let mut commit = self.commit.lock();
            commit.written_at.get_or_insert(now);
            self.give_back_logs(&mut commit);
        }
        {
            let mut state = self.state.lock();
            let now_is = self.begin_background();
            let lacked_space = error.kind() == ErrorKind::NoSpace;
            // Whoever has called `resume` meanwhile wants it tried again, and not to hear of how it was before.
            if began.resumes == now_is.resumes && (began.own == now_is.own || !lacked_space) {
                retry(&mut state).failed(now, error.clone());
                // A lack of space passes by itself, so it takes no other failure's place.
                if !lacked_space || state.unseen_error.is_none() {
                    state.unseen_error = Some(error.clone());
                }
            }
        }
        // Relaxed: see `show_background_error`.
        self.unseen.store(true, Ordering::Relaxed);
        self.changed.notify_all();
        self.tell_of_error(error);
        false
    }

    /// What goes by the clock and what was left for later: files to unlink, a disk that has space again, memtables grown old, logs grown too long, sequence numbers to
    /// reserve, the next log's file. Whether anything was done.
    pub(crate) fn step_upkeep(&self) -> bool {
        let removed = self.upkeep_of_feed() | self.removals.pay(&*self.vfs, &self.dir);
        self.tables.forget_closed();
        // Relaxed: a figure to compare with a limit.
        let tracking_bytes = self.tracking_bytes.load(Ordering::Relaxed);
        self.tables.share_budget(self.options.block_cache_bytes(), tracking_bytes);
        let resumed = self.resume_if_space_is_back();
        if self.health.check().is_err() {
            return removed | resumed;
        }
        let now = self.vfs.clock().now();
        if self.state.lock().flush_retry.not_before > now {
            return removed | resumed;
        }
        self.prepare_memory();
        let began = self.begin_background();
        match self.upkeep_of_logs() {
            Ok(did) => removed | resumed | did,
            Err(error) => self.finish_background(began, |state| &mut state.flush_retry, Err(error)),
        }
    }

    /// Has memory ready for the rest of the memtable that grows, so that its writer doesn't wait for the operating system to clear pages; lets some go when
    /// nothing is written. Not work that anyone waits for.
    fn prepare_memory(&self) {
        let visible = self.visible().0;
        // Relaxed: only this thread, or whoever steps in its place, asks.
        if self.visible_at_last_look.swap(visible, Ordering::Relaxed) == visible {
            return self.memory.release_some();
        }
        let growing = |keyspace: &Arc<KeyspaceCore>| {
            let (now, full) = (keyspace.read.load().active.table.memory_bytes(), keyspace.memtable_bytes());
            // Small ones may never become large.
            (now > full / 16).then(|| full.saturating_sub(now))
        };
        if let Some(rest) = self.keyspaces().iter().filter_map(growing).max() {
            self.memory.prepare(rest);
        }
    }

    fn upkeep_of_logs(&self) -> Result<bool> {
        let sealed = self.seal_what_is_due()?;
        let kept = self.keep_time()?;
        let mut commit = self.commit.lock();
        let Some(writer) = &commit.writer else { return Ok(sealed | kept) };
        let log_bytes = writer.bytes();
        let wants_seqs = Self::seqs_run_low(&commit);
        if wants_seqs {
            self.reserve_seqs(&mut commit, 0)?;
        }
        self.vouch_when_idle(&mut commit)?;
        let paused = commit.written_at.is_none_or(|at| self.vfs.clock().now().saturating_sub(at) >= PAUSE);
        if paused {
            self.give_back_logs(&mut commit);
            return Ok(sealed | wants_seqs | kept);
        }
        let wants_spare = commit.spare.is_none() && log_bytes > (self.options.memtable_bytes() / 4) as u64;
        drop(commit);
        if wants_spare {
            self.keep_spare(self.prepare_roomy_log()?);
        }
        let grown = self.make_room_ahead()?;
        Ok(sealed | wants_seqs | kept | wants_spare | grown)
    }

    /// Keeps a log's file for later, unless a log with a higher number has begun meanwhile: the line of logs ascends by number.
    fn keep_spare(&self, spare: SpareLog) {
        let mut commit = self.commit.lock();
        let newest = commit.writer.as_ref().map(Writer::number);
        if commit.spare.is_none() && newest.is_some_and(|newest| newest < spare.number) {
            commit.spare = Some(spare);
        } else {
            self.removals.owe(FileKind::Wal(spare.number));
        }
    }

    /// Seals memtables that are old, that pin too much log, or that fill the memory; whether there were any.
    fn seal_what_is_due(&self) -> Result<bool> {
        let keyspaces = self.keyspaces();
        let now = self.vfs.clock().now();
        let oldest_log = {
            let state = self.state.lock();
            let sealed_bytes: u64 = state.logs.iter().map(|log| log.bytes).sum();
            state.logs.first().map(|log| (log.last_seq, sealed_bytes))
        };
        let active_bytes = self.commit.lock().writer.as_ref().map_or(0, Writer::bytes);
        let too_long = oldest_log.is_some_and(|(_, bytes)| bytes + active_bytes > self.options.wal_bytes_max);
        let pins = |first: SeqNo| match oldest_log {
            Some((Some(last), _)) => too_long && first <= last,
            _ => too_long,
        };
        let due = |keyspace: &&Arc<KeyspaceCore>| {
            let state = keyspace.read.load();
            let first = state.active.first_seq();
            first.is_some_and(|first| pins(first) || state.active.filled_since(now) > self.options.memtable_age_max)
        };
        let due: Vec<_> = keyspaces.iter().filter(due).collect();
        if !due.is_empty() {
            let mut commit = self.commit.lock();
            for keyspace in &due {
                self.seal(&mut commit, keyspace)?;
            }
            if too_long && active_bytes > 0 {
                self.rotate(&mut commit)?;
            }
        }
        let full = self.memory.bytes() >= self.options.memtables_bytes_max() / 8 * 7;
        let relieved = full && self.seal_largest_if_none_sealed()?;
        Ok(!due.is_empty() || relieved)
    }

    /// Has the log say how far it is durable when no write has come since the last look to say it: then damage can be told from a torn tail up to its end.
    fn vouch_when_idle(&self, commit: &mut Commit) -> Result<()> {
        let durable = commit.group.durable();
        let idle = std::mem::replace(&mut commit.seq_at_last_look, commit.last_seq) == commit.last_seq;
        if !idle {
            commit.written_at = Some(self.vfs.clock().now());
        }
        let Some(writer) = commit.writer.as_mut().filter(|_| idle && durable > commit.vouched) else { return Ok(()) };
        let marked = writer.append(RecordKind::Marker, &[], Reserve::Keep).and_then(|_| writer.push());
        match marked {
            Ok(()) => commit.vouched = durable,
            // Nothing was appended; the next look tries again.
            Err(error) if error.is_no_space() && writer.failed().is_none() => {}
            Err(error) => return Err(self.stop_writing(error.into())),
        }
        Ok(())
    }
}
