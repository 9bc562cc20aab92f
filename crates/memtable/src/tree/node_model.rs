//! How entries come into a node that is read, in every order of the threads and with every value that the orderings allow a load to see: `node.rs` itself, compiled a second time, with loom's
//! atomics, and the commits around it.
//!
//! ```text
//! commits     one at a time: number, record, leaf, then the number is visible        as the engine's commits do
//! readers     take what is visible; all of it is in the leaf, in order, both ways, with what its records say
//!
//! division    a child that was divided: the key between, then the left half in the child's place
//! searches    never come to the left half with a key that is in the right one
//! ```
//! The world around the nodes, records and commits, is the model's own, as weak as it is asked to be there.
#![cfg(test)]

use super::bytes;

mod sync {
    pub(super) use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64};
}

mod records {
    use esker_format::{InternalKey, SeqNo, ValueKind};
    use loom::sync::atomic::{AtomicBool, Ordering::Relaxed};

    pub(super) type Name = u32;
    pub(super) const NONE: Name = 0;

    /// One record for each name: its key is the name as one byte. Nothing in here orders who writes and who reads.
    pub(super) struct Records {
        written: Vec<(Vec<u8>, AtomicBool)>,
    }

    pub(super) struct Record<'a>(&'a [u8]);

    impl Records {
        pub(super) fn new(count: u8, written: &[u8]) -> Self {
            let record = |name: u8| (vec![name], AtomicBool::new(written.contains(&name)));
            Self { written: (0..count).map(record).collect() }
        }

        pub(super) fn write(&self, name: Name) {
            self.written[name as usize].1.store(true, Relaxed);
        }

        pub(super) fn get(&self, name: Name) -> Record<'_> {
            let (key, is_written) = &self.written[name as usize];
            assert!(is_written.load(Relaxed), "record {name} is found before it is written");
            Record(key)
        }
    }

    impl<'a> Record<'a> {
        pub(super) fn user_key(&self) -> &'a [u8] {
            self.0
        }

        pub(super) fn key(&self) -> InternalKey<'a> {
            InternalKey::new(self.0, SeqNo(1), ValueKind::Put)
        }
    }
}

#[path = "node.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "compiled again with other atomics, and called in part")]
mod node;

use esker_format::{InternalKey, SeqNo, ValueKind};
use loom::sync::Mutex;
use loom::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release};
use node::{Entry, Inner, Leaf};
use records::{NONE, Name, Records};
use std::sync::Arc;

/// More switches of threads than this at places where none was due are not tried.
const PREEMPTIONS_MAX: usize = 3;

fn model(run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS_MAX);
    builder.check(run);
}

fn key(name: Name) -> [u8; 1] {
    [name as u8]
}

fn entry(name: Name) -> Entry {
    Entry { record: name, head: bytes::head(&key(name), 0) }
}

/// A leaf, and commits into it.
struct World {
    leaf: Leaf<4>,
    records: Records,
    /// Held by the one who commits: what is committed.
    commit: Mutex<u64>,
    visible: AtomicU64,
    /// The record of each commit, from number 1 on.
    order: &'static [Name],
}

impl World {
    /// The first `there` of `order` are committed.
    fn new(order: &'static [Name], there: usize) -> Arc<Self> {
        let mut names = order[..there].to_vec();
        names.sort();
        let written: Vec<u8> = names.iter().map(|name| *name as u8).collect();
        let records = Records::new(10, &written);
        let mut leaf = Leaf::new();
        leaf.fill((NONE, NONE), &names.iter().map(|name| entry(*name)).collect::<Vec<_>>(), 0, true, &records);
        let (commit, visible) = (Mutex::new(there as u64), AtomicU64::new(there as u64));
        Arc::new(Self { leaf, records, commit, visible, order })
    }

    /// The next of `order`.
    fn commit(&self) {
        let mut committed = self.commit.lock().unwrap();
        let name = self.order[*committed as usize];
        self.records.write(name);
        let target = InternalKey::new(&[name as u8], SeqNo(1), ValueKind::Put).to_buf();
        let (before, _) = self.leaf.keys.floor_to_insert(target.as_ref(), &self.records);
        self.leaf.add(entry(name), before);
        *committed += 1;
        self.visible.store(*committed, Release);
    }

    /// Looks for all that is visible.
    fn read(&self, backward: bool) {
        let visible = self.visible.load(Acquire) as usize;
        let mut seen = Vec::new();
        let mut at = if backward { self.leaf.last() } else { self.leaf.first() };
        while let Some(slot) = at {
            let Entry { record, head } = self.leaf.keys.entry(slot);
            assert_eq!(head, bytes::head(self.records.get(record).user_key(), 0));
            seen.push(record);
            at = if backward { self.leaf.prev(slot) } else { self.leaf.next(slot) };
        }
        assert!(seen.is_sorted_by(|a, b| if backward { a > b } else { a < b }), "{seen:?}");
        let missing: Vec<_> = self.order[..visible].iter().filter(|name| !seen.contains(name)).collect();
        assert!(missing.is_empty(), "{missing:?} of {visible} visible are not in {seen:?}");
        // By a search too: each is the last at or before itself.
        for name in &self.order[..visible] {
            let target = InternalKey::new(&[*name as u8], SeqNo(1), ValueKind::Put).to_buf();
            let (slot, len) = self.leaf.keys.floor(target.as_ref(), true, &self.records);
            assert_eq!(slot.map(|slot| self.leaf.keys.record(slot)), Some(*name), "of {len}");
        }
    }
}

/// Two threads commit, or one twice; another reads.
fn commits_beside_a_reader(order: &'static [Name], there: usize, backward: bool) {
    model(move || {
        let world = World::new(order, there);
        let (other, reader) = (Arc::clone(&world), Arc::clone(&world));
        let other = loom::thread::spawn(move || other.commit());
        let reader = loom::thread::spawn(move || reader.read(backward));
        world.commit();
        other.join().unwrap();
        reader.join().unwrap();
        world.read(!backward);
        assert_eq!(world.leaf.entries().len(), there + 2);
    });
}

#[test]
fn what_is_visible_is_found_between_others() {
    commits_beside_a_reader(&[2, 8, 5, 3], 2, false);
    commits_beside_a_reader(&[2, 8, 5, 3], 2, true);
}

#[test]
fn what_is_visible_is_found_in_front_and_behind() {
    commits_beside_a_reader(&[4, 6, 2], 1, false);
    commits_beside_a_reader(&[4, 6, 2], 1, true);
}

/// Children are told by these numbers: one that holds all, and its halves.
const WHOLE: u32 = 1;
const LEFT: u32 = 2;
const RIGHT: u32 = 3;

#[test]
fn a_search_beside_a_division_comes_to_the_half_it_belongs_in() {
    for (target, half) in [(3, LEFT), (5, RIGHT), (7, RIGHT)] {
        model(move || {
            let records = Arc::new(Records::new(10, &[9]));
            let mut inner = Inner::<8>::new();
            // What is behind 9 lies in a child that this is not about.
            inner.fill(WHOLE, &[(entry(9), 7)], 0, true, &records);
            let inner = Arc::new(inner);
            let (searched, known) = (Arc::clone(&inner), Arc::clone(&records));
            let search = loom::thread::spawn(move || {
                let key = InternalKey::new(&[target], SeqNo(1), ValueKind::Put).to_buf();
                let child = searched.descend(key.as_ref(), true, &known);
                assert!(child == WHOLE || child == half, "{target} is looked for in {child}");
            });
            records.write(5);
            assert!(inner.add(None, LEFT, 5, RIGHT, &records));
            search.join().unwrap();
            let key = InternalKey::new(&[target], SeqNo(1), ValueKind::Put).to_buf();
            assert_eq!(inner.descend(key.as_ref(), true, &records), half);
        });
    }
}
