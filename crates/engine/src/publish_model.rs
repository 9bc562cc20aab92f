//! Reads beside commits, ingests and jobs, in every order of the threads and with every value that the orderings allow a load to see: `publish.rs` itself, compiled a second time, with loom's atomics,
//! and a key with its versions around it.
//!
//! Each number is a version of the key, so a read at a number finds that one, wherever it lies by then.
#![cfg(test)]

use crate::sync::model::{Mutex, check};

mod sync {
    use loom::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::OnceLock;

    pub(super) use loom::sync::atomic::AtomicU64;
    /// Its counts order nothing that is tried here.
    pub(super) use std::sync::Arc;
    pub(super) type Guard<T> = T;

    /// More states than this no model has.
    const STATES_MAX: usize = 4;

    /// That of `arc-swap`, no stronger than it is asked to be: who loads what was stored sees what was done before. One store at a time.
    pub(super) struct ArcSwap<T> {
        /// All that were ever in place, in order.
        states: [OnceLock<Arc<T>>; STATES_MAX],
        now: AtomicUsize,
    }

    impl<T> ArcSwap<T> {
        pub(super) fn from_pointee(state: T) -> Self {
            let states = [const { OnceLock::new() }; STATES_MAX];
            states[0].set(Arc::new(state)).ok();
            Self { states, now: AtomicUsize::new(0) }
        }

        pub(super) fn load(&self) -> Arc<T> {
            let now = self.now.load(Ordering::Acquire);
            Arc::clone(self.states[now].get().expect("set before it is now"))
        }

        pub(super) fn load_full(&self) -> Arc<T> {
            self.load()
        }

        pub(super) fn store(&self, state: Arc<T>) {
            let next = self.states.iter().position(|state| state.get().is_none()).expect("few swaps");
            self.states[next].set(state).ok();
            self.now.store(next, Ordering::Release);
        }
    }
}

#[path = "publish.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "compiled again with other atomics, and called in part")]
mod publish;

use esker_format::SeqNo;
use loom::sync::atomic::{AtomicBool, Ordering::Relaxed};
use loom::thread::{JoinHandle, spawn};
use publish::{Current, Visible};
use std::sync::Arc;

/// Of the version that is there at first.
const FIRST: SeqNo = SeqNo(1);

/// The two versions after the first. Nothing in here orders who writes and who reads.
#[derive(Default)]
struct Memtable([AtomicBool; 2]);

impl Memtable {
    fn slot(&self, seq: SeqNo) -> &AtomicBool {
        &self.0[(seq.0 - FIRST.0 - 1) as usize]
    }

    fn has(&self, seq: SeqNo) -> bool {
        seq > FIRST && self.slot(seq).load(Relaxed)
    }
}

#[derive(Clone)]
struct State {
    active: Arc<Memtable>,
    sealed: Vec<Arc<Memtable>>,
    tables: Vec<SeqNo>,
}

impl State {
    fn has(&self, seq: SeqNo) -> bool {
        self.tables.contains(&seq) || self.sealed.iter().chain([&self.active]).any(|memtable| memtable.has(seq))
    }
}

struct World {
    read: Current<State>,
    visible: Visible,
    /// The last number that was given out.
    commit: Mutex<SeqNo>,
    /// Held while the state is swapped.
    state: Mutex<()>,
}

impl World {
    /// With one version, which is visible.
    fn new() -> Arc<Self> {
        let state = State { active: Arc::default(), sealed: Vec::new(), tables: vec![FIRST] };
        let visible = Visible::new();
        visible.raise(FIRST);
        Arc::new(Self { read: Current::new(state), visible, commit: Mutex::new(FIRST), state: Mutex::new(()) })
    }

    fn swap(&self, change: impl FnOnce(&mut State)) {
        let mut state = State::clone(&self.read.load());
        change(&mut state);
        self.read.store(Arc::new(state));
    }

    fn write(&self) {
        self.commit(false);
    }

    fn write_into_a_new_memtable(&self) {
        self.commit(true);
    }

    fn write_into_what_is_sealed_then(&self) {
        self.write();
        let _commit = self.commit.lock();
        self.seal();
    }

    fn seal(&self) {
        let _state = self.state.lock();
        self.swap(|state| state.sealed.push(std::mem::take(&mut state.active)));
    }

    fn commit(&self, seals: bool) {
        let last = &mut *self.commit.lock();
        if seals {
            self.seal();
        }
        let seq = last.next();
        self.visible.publish(seq, || {
            self.read.load().active.slot(seq).store(true, Relaxed);
            *last = seq;
        });
    }

    fn ingest(&self) {
        let last = &mut *self.commit.lock();
        *last = last.next();
        let _state = self.state.lock();
        self.visible.publish(*last, || self.swap(|state| state.tables.push(*last)));
    }

    /// Keeps of tables, and of what is sealed, the newest version that is visible, and what is newer.
    fn flush(&self) {
        let horizon = self.visible.now();
        let before = self.read.load();
        let mut kept = before.tables.clone();
        for seq in [FIRST.next(), FIRST.next().next()] {
            kept.extend(before.sealed.iter().any(|memtable| memtable.has(seq)).then_some(seq));
        }
        let newest = kept.iter().copied().filter(|seq| *seq <= horizon).max();
        kept.retain(|seq| *seq > horizon || Some(*seq) == newest);
        let _state = self.state.lock();
        self.swap(|now| {
            // What came meanwhile stays.
            now.sealed.retain(|memtable| !before.sealed.iter().any(|other| Arc::ptr_eq(other, memtable)));
            now.tables.retain(|seq| !before.tables.contains(seq));
            now.tables.append(&mut kept);
        });
    }

    fn read(&self) -> SeqNo {
        self.find(self.read.load_at(&self.visible))
    }

    fn read_twice(&self) {
        let first = self.read();
        assert!(self.read() >= first, "what was visible no longer is");
    }

    fn find(&self, (state, seq): (Arc<State>, SeqNo)) -> SeqNo {
        assert!(state.has(seq), "what is visible at {seq} is not there");
        seq
    }
}

/// Runs `others`, each in a thread, and a reader beside them.
fn model(others: &'static [fn(&World)], read: fn(&World)) {
    check(move || {
        let world = World::new();
        let run = |other: &fn(&World)| {
            let (world, other) = (Arc::clone(&world), *other);
            spawn(move || other(&world))
        };
        let others: Vec<JoinHandle<()>> = others.iter().map(run).collect();
        read(&world);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(world.read(), *world.commit.lock(), "all that was committed is visible");
    });
}

fn read(world: &World) {
    world.read();
}

#[test]
fn commits_beside_a_reader() {
    model(&[World::write, World::write], World::read_twice);
}

#[test]
fn a_commit_into_a_new_memtable() {
    model(&[World::write_into_a_new_memtable], World::read_twice);
}

/// The flush drops the first version, if the second is visible by then.
#[test]
fn an_overwritten_version_and_a_flush() {
    model(&[World::write_into_what_is_sealed_then, World::flush], read);
}

#[test]
fn a_table_taken_in_beside_a_commit() {
    model(&[World::ingest, World::write], read);
}

#[test]
fn a_table_taken_in_beside_a_flush() {
    model(&[World::ingest, World::flush], read);
}

/// The model is worth something: without the look at the swaps it finds the read that misses a visible write.
#[test]
#[should_panic(expected = "is not there")]
fn a_state_and_then_a_number_are_not_enough() {
    model(&[World::write_into_a_new_memtable], |world| {
        world.find((world.read.load(), world.visible.now()));
    });
}
