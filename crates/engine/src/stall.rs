//! Back-pressure: writers wait when flush and compaction are behind, first a little, then until there is room.
//!
//! | signal | slows | stops |
//! |---|---|---|
//! | tables in L0 | from `l0_slowdown` on | at `l0_stop` |
//! | bytes that compaction owes | from `debt_slowdown_bytes` on | at `debt_stop_bytes` |
//! | memory held by memtables | - | at its share of the budget, while there is something to flush |
//!
//! A slowed write pays for its bytes at a rate that falls as the debt grows; payments add up on one clock, so the rate holds for all writers
//! together. Never a spin and never a sleep of fixed length: a stopped writer is woken by what it waits for.

use crate::background::works_for;
use crate::batch::WriteBatch;
use crate::core::{Core, KeyspaceCore, State};
use crate::error::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// The rate at which a writer is let through when slowing begins, and when it has nearly come to a stop, in bytes a second.
const RATE_FAST: f64 = 64e6;
const RATE_SLOW: f64 = 1e6;
/// Payments below this are saved up: a shorter sleep costs more than it is worth.
const SLEEP_MIN: Duration = Duration::from_millis(1);
/// The longest a single write is slowed: a huge batch pays the rest by slowing those behind it.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// How far behind the background work of one keyspace is. Set when a state is installed, read by every write.
#[derive(Debug, Default)]
pub(crate) struct Pressure {
    /// Bytes a second to let through; 0: as many as come.
    rate: AtomicU64,
    stop: AtomicBool,
    /// Whether it is counted in `Core::strained`.
    strained: AtomicBool,
    /// Held by who works it out, so that the last to do so has seen the newest state. Else what was so before a compaction could be stored after what is so behind it, and
    /// writers would stop for want of nothing, with no work left that ends it.
    turn: Mutex<()>,
}

impl Core {
    /// Works out the pressure of a keyspace anew, after its state changed. One that was dropped slows and stops nobody, also when a job of it ends behind.
    pub(crate) fn update_pressure(&self, keyspace: &KeyspaceCore) {
        let knobs = &self.options.compaction;
        let _turn = keyspace.pressure.turn.lock();
        let is_dropped = keyspace.dropped.load(Ordering::Acquire);
        let state = keyspace.read.load();
        let l0_tables = state.view.levels[0].len();
        let debt = self.picker.debt_bytes(&state.view.version);
        let between = |value: f64, low: f64, high: f64| ((value - low) / (high - low)).clamp(0.0, 1.0);
        let by_l0 = between(l0_tables as f64, knobs.l0_slowdown as f64 - 1.0, knobs.l0_stop as f64);
        let by_debt = between(debt as f64, knobs.debt_slowdown_bytes as f64, knobs.debt_stop_bytes as f64);
        let severity = if is_dropped { 0.0 } else { by_l0.max(by_debt) };
        // Geometric: each step of severity slows by the same factor.
        let rate = if severity == 0.0 { 0.0 } else { RATE_FAST * (RATE_SLOW / RATE_FAST).powf(severity) };
        // Relaxed: a writer that sees the older figure is late by one write.
        keyspace.pressure.rate.store(rate as u64, Ordering::Relaxed);
        let stop = !is_dropped && (l0_tables >= knobs.l0_stop || debt >= knobs.debt_stop_bytes);
        keyspace.pressure.stop.store(stop, Ordering::Relaxed);
        let strained = stop || rate > 0.0;
        match (keyspace.pressure.strained.swap(strained, Ordering::Relaxed), strained) {
            (false, true) => self.strained.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.strained.fetch_sub(1, Ordering::Relaxed),
            _ => 0,
        };
    }

    /// Waits until there is room for `batch`.
    ///
    /// # Errors
    /// `Stalled` instead of waiting if `no_stall`, or if nobody works in the background to wait for. The failure of background work, if that is
    /// what keeps the room from becoming free.
    pub(crate) fn wait_for_room(&self, batch: &WriteBatch, no_stall: bool) -> Result<()> {
        self.show_background_error(batch.only_deletes())?;
        // Nearly every write ends here: two loads.
        let strained = self.strained.load(Ordering::Relaxed) > 0;
        if !strained && self.memory.bytes() < self.options.memtables_bytes_max() {
            return Ok(());
        }
        let mut rate = 0;
        for id in batch.keyspaces() {
            let Some(keyspace) = self.keyspace_by_id(*id) else { continue };
            if self.must_stop(&keyspace) {
                self.stop_until_room(&keyspace, batch.only_deletes(), no_stall)?;
            }
            let this = keyspace.pressure.rate.load(Ordering::Relaxed);
            rate = if rate == 0 || this == 0 { rate.max(this) } else { rate.min(this) };
        }
        if rate > 0 {
            self.pay(batch.size_bytes(), rate, no_stall)?;
        }
        Ok(())
    }

    /// As [`Core::wait_for_room`], for what comes as tables, past memory.
    pub(crate) fn wait_for_room_of(&self, keyspace: &KeyspaceCore) -> Result<()> {
        self.show_background_error(false)?;
        if self.must_stop(keyspace) {
            self.stop_until_room(keyspace, false, false)?;
        }
        Ok(())
    }

    fn keyspace_by_id(&self, id: esker_format::KeyspaceId) -> Option<Arc<KeyspaceCore>> {
        if id == esker_format::KeyspaceId::DEFAULT {
            return Some(Arc::clone(self.default_keyspace()));
        }
        self.state.lock().keyspaces.get(&id).map(Arc::clone)
    }

    fn must_stop(&self, keyspace: &KeyspaceCore) -> bool {
        keyspace.pressure.stop.load(Ordering::Relaxed) || self.memory.bytes() >= self.options.memtables_bytes_max()
    }

    /// Waits for the stop to end, and sees to it that there is work under way that ends it.
    fn stop_until_room(&self, keyspace: &KeyspaceCore, only_deletes: bool, no_stall: bool) -> Result<()> {
        let begin = self.vfs.clock().now();
        while self.must_stop(keyspace) {
            self.check_open()?;
            self.health.check()?;
            let short_of_memory = self.memory.bytes() >= self.options.memtables_bytes_max();
            let behind = || keyspace.pressure.stop.load(Ordering::Relaxed);
            if short_of_memory && !self.make_memory_flushable()? && !behind() {
                // What fills the memory is pinned by readers; waiting for them could be for ever.
                break;
            }
            if no_stall || self.manual || works_for(self) {
                self.counters.stalls.add(1);
                return Err(Error::new(ErrorKind::Stalled, "flush or compaction is behind; write again later"));
            }
            let mut state = self.state.lock();
            if behind() && self.damage_blocks(&state, keyspace) {
                let blocked =
                    "compaction can't go on past damaged tables, which verify() names; restore them from a copy";
                return Err(Error::corruption(blocked));
            }
            if let Some(error) = state.flush_retry.error.as_ref().or(state.compact_retry.error.as_ref()) {
                match error.kind() {
                    // What frees space is taken as long as the log's reserve lasts.
                    ErrorKind::NoSpace if only_deletes => break,
                    ErrorKind::NoSpace => return Err(error.clone()),
                    _ => return Err(Error::read_only_because(error)),
                }
            }
            if self.must_stop(keyspace) {
                // The time-out is for the checks above; what frees room wakes this up.
                self.changed.wait_for(&mut state, Duration::from_secs(1));
            }
        }
        let waited = self.vfs.clock().now().saturating_sub(begin);
        self.counters.stalls.add(1);
        self.counters.stall_us.add(waited.as_micros() as u64);
        Ok(())
    }

    /// Whether compaction of `keyspace` has come to an end because of tables in quarantine: waiting for it would be for ever.
    fn damage_blocks(&self, state: &State, keyspace: &KeyspaceCore) -> bool {
        let version = &keyspace.read.load().view.version;
        let damaged = self.tables.quarantined();
        let holds_damage = version.tables().any(|(_, table)| damaged.contains(&table.number));
        let runs = state.paused > 0 || state.busy.plans(keyspace.id) > 0;
        holds_damage && !runs && self.picker.pick(version, &state.busy).is_none()
    }

    /// Whether there is any memtable worth waiting for; if none is sealed, the largest is sealed now. Where readers pin most of the memory, what is active may
    /// be next to nothing: flushing that at every write would free nothing and leave a table each time.
    pub(crate) fn make_memory_flushable(&self) -> Result<bool> {
        let keyspaces = self.keyspaces();
        let sealed = keyspaces.iter().any(|keyspace| !keyspace.read.load().sealed.is_empty());
        // A flush that is installed still holds its memtables for a moment.
        if sealed || !self.state.lock().flushing.is_empty() {
            return Ok(true);
        }
        let active_bytes = |keyspace: &Arc<KeyspaceCore>| keyspace.read.load().active.table.memory_bytes();
        let all: usize = keyspaces.iter().map(active_bytes).sum();
        let Some(largest) = keyspaces.iter().max_by_key(|keyspace| active_bytes(keyspace)) else { return Ok(false) };
        if all < self.options.memtable_bytes().min(self.options.memtables_bytes_max()) / 2 {
            return Ok(false);
        }
        self.seal(&mut self.commit.lock(), largest)?;
        Ok(true)
    }

    /// As [`Core::make_memory_flushable`]; whether something was sealed.
    pub(crate) fn seal_largest_if_none_sealed(&self) -> Result<bool> {
        let sealed = || self.keyspaces().iter().any(|keyspace| !keyspace.read.load().sealed.is_empty());
        Ok(!sealed() && self.make_memory_flushable()?)
    }

    /// Pays for `bytes` at `rate`.
    fn pay(&self, bytes: usize, rate: u64, no_stall: bool) -> Result<()> {
        let clock = self.vfs.clock();
        let now = clock.now();
        let wait = {
            let mut paid_until = self.paid_until.lock();
            let due = paid_until.max(now);
            if no_stall && due - now >= SLEEP_MIN {
                self.counters.stalls.add(1);
                return Err(Error::new(ErrorKind::Stalled, "compaction is behind; write again later"));
            }
            *paid_until = due + Duration::from_secs_f64(bytes as f64 / rate as f64);
            (*paid_until - now).min(SLEEP_MAX)
        };
        // One that must not wait has its bytes paid for by those behind it.
        if wait >= SLEEP_MIN && !self.manual && !no_stall && !works_for(self) {
            clock.sleep(wait);
            self.counters.stalls.add(1);
            self.counters.stall_us.add(wait.as_micros() as u64);
        }
        Ok(())
    }

    /// Shows a writer, once, what failed in the background since the last write. Deletions are let through on a full disk: they make room.
    fn show_background_error(&self, only_deletes: bool) -> Result<()> {
        // Relaxed: the flag only saves the lock; the error itself is behind it. Looked at before it is swapped, which takes the line from other writers.
        if !self.unseen.load(Ordering::Relaxed) || !self.unseen.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        match self.state.lock().unseen_error.take() {
            Some(error) if !(only_deletes && error.kind() == ErrorKind::NoSpace) => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::background::Background;
    use crate::engine::Engine;
    use crate::read::{LevelView, ReadState};
    use crate::tables::tests::open_table;
    use esker_manifest::KeyspaceVersion;
    use esker_vfs::MemVfs;
    use std::sync::Barrier;

    /// A flush fills L0, and a compaction empties it right behind: whoever is late, writers are not stopped by what is past.
    #[test]
    fn of_two_that_install_the_later_state_tells_the_pressure() {
        let builder = Engine::builder("/db").vfs(MemVfs::new()).background(Background::Manual);
        let core = crate::open::open(builder).unwrap();
        let keyspace = core.default_keyspace();
        let empty = Arc::clone(&keyspace.read.load().view);
        let mut full = KeyspaceVersion::clone(&empty.version);
        let stop = core.options.compaction.l0_stop;
        full.levels[0] = (0..stop).map(|i| Arc::clone(&open_table(i as u64 + 1, b"a", b"b").meta)).collect();
        let full = LevelView::open(&Arc::new(full), &core.tables, &core.picker, None).unwrap();
        let install = |view: &Arc<LevelView>| {
            {
                let _state = core.state.lock();
                keyspace.swap(|now| ReadState::new(Arc::clone(&now.active), now.sealed.clone(), Arc::clone(view)));
            }
            core.update_pressure(keyspace);
        };
        const ROUNDS: usize = 20_000;
        let both = Barrier::new(2);
        let mut stopped = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    both.wait();
                    install(&full);
                    both.wait();
                }
            });
            for _ in 0..ROUNDS {
                both.wait();
                while keyspace.read.load().view.levels[0].is_empty() {
                    std::hint::spin_loop();
                }
                install(&empty);
                both.wait();
                stopped += usize::from(keyspace.pressure.stop.load(Ordering::Relaxed));
            }
        });
        assert_eq!(stopped, 0, "stopped for ever, of {ROUNDS} times");
        assert_eq!(core.strained.load(Ordering::Relaxed), 0);
    }
}
