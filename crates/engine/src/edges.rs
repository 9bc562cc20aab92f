//! What is known of the edges of a keyspace: up to where it is empty, from either end. So that `first`, `last` and `is_empty` pass what was deleted once and not each time.
//!
//! ```text
//!   deleted one by one, not compacted away yet            what is left
//!   x x x x x x x x x x x x x x x x x x x x x x x x x x x  k  k x k k
//!   |------------------- known to be empty -------------| ^ `first` begins here
//!                     ^ a put lowers the edge to here
//! ```
//! - Nothing is kept until such a call has passed [`PASSED_MIN`] entries in vain: until then a write pays one flag, and so does the call. It is kept in memory alone.
//! - An edge is as of the instant of the walk that found it: all that reads at that instant or later may begin there. What is deleted, or expires, leaves it true; whatever is written beyond it moves it back, under the commit
//!   lock and before it becomes visible.
//! - What is written while a walk is under way, and it does not see, is noted too: the edge goes no further than that.
//! - So who has seen an edge's instant, or a later one, knows that beyond it nothing was to be seen then and nothing but deletions has come since: a transaction that has come over it looks there for nothing else when it commits.

use crate::core::Core;
use crate::error::Result;
use crate::expiry::AsOf;
use crate::read::View;
use crate::reads::Reads;
use crate::walk::Walk;
use arc_swap::Guard;
use esker_format::{KeyspaceId, SeqNo, Slice, ValueKind, WriteBatch as EncodedBatch};
use esker_iterator::Bounds;
use esker_manifest::TableMeta;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};

/// Entries passed in vain by one call that make it worth while to remember: some microseconds.
const PASSED_MIN: u64 = if cfg!(test) { 2 } else { 64 };
/// Keys written in a row, without a call that asks, after which a keyspace is forgotten.
const UNASKED_MAX: u32 = 1 << 20;

/// The first key or the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extreme {
    First,
    Last,
}

impl Extreme {
    /// Whether `key` is nearer to this end than `other`.
    pub(crate) fn is_nearer(self, key: &[u8], other: &[u8]) -> bool {
        match self {
            Self::First => key < other,
            Self::Last => key > other,
        }
    }
}

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct Edges {
    is_on: AtomicBool,
    known: Mutex<BTreeMap<KeyspaceId, Known>>,
}

/// What is known of one keyspace.
#[derive(Debug, Default)]
struct Known {
    first: Side,
    last: Side,
    /// Up to here, what was written may not have been noted, or is noted and not visible yet.
    noted: SeqNo,
    /// Since somebody asked.
    unasked: u32,
}

#[derive(Debug, Default)]
struct Side {
    edge: Option<Edge>,
    /// Walks under way.
    walks: usize,
    /// The key nearest to the end of those written since the first of them began.
    written: Option<Box<[u8]>>,
}

#[derive(Debug, Clone)]
struct Edge {
    /// Nothing is to be seen that is nearer to the end; `None`: nothing at all.
    key: Option<Box<[u8]>>,
    at: AsOf,
}

impl Edge {
    /// Whether it is known as of an instant: no earlier, nor where more has expired.
    fn is_known_at(&self, at: AsOf) -> bool {
        self.at.seq <= at.seq && self.at.unix_ms <= at.unix_ms
    }
}

impl Known {
    fn side(&mut self, end: Extreme) -> &mut Side {
        match end {
            Extreme::First => &mut self.first,
            Extreme::Last => &mut self.last,
        }
    }

    fn note(&mut self, key: &[u8]) {
        for end in [Extreme::First, Extreme::Last] {
            let side = self.side(end);
            if let Some(edge) = &mut side.edge
                && edge.key.as_ref().is_none_or(|known| end.is_nearer(key, known))
            {
                edge.key = Some(key.into());
            }
            if side.walks > 0 && side.written.as_ref().is_none_or(|written| end.is_nearer(key, written)) {
                side.written = Some(key.into());
            }
        }
    }
}

impl Edges {
    /// Whether anything is to be noted. Without the commit lock it may be told late.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        // Relaxed: it is set under the commit lock.
        self.is_on.load(Ordering::Relaxed)
    }

    /// Notes what a batch writes, up to the sequence number `last`. Under the commit lock, before it becomes visible.
    #[cold]
    pub(crate) fn note(&self, batch: &EncodedBatch, last: SeqNo) {
        let mut all = self.known.lock();
        for op in batch.ops() {
            if !matches!(op.kind, ValueKind::Delete | ValueKind::RangeDelete)
                && let Some(known) = all.get_mut(&op.keyspace)
            {
                known.note(op.key);
                known.noted = last;
                known.unasked += 1;
                if known.unasked > UNASKED_MAX && known.first.walks + known.last.walks == 0 {
                    all.remove(&op.keyspace);
                }
            }
        }
        self.is_on.store(!all.is_empty(), Ordering::Relaxed);
    }

    /// As [`Self::note`], of a table that is ingested.
    pub(crate) fn note_table(&self, keyspace: KeyspaceId, table: &TableMeta, seq: SeqNo) {
        if let Some(known) = self.known.lock().get_mut(&keyspace) {
            known.note(&table.smallest.user_key);
            known.note(&table.largest.user_key);
            known.noted = seq;
        }
    }

    /// Notes from now on what is written to a keyspace. Under the commit lock.
    fn begin(&self, keyspace: KeyspaceId, last_seq: SeqNo) {
        let mut all = self.known.lock();
        all.entry(keyspace).or_insert_with(|| Known { noted: last_seq, ..Known::default() });
        self.is_on.store(true, Ordering::Relaxed);
    }

    /// The bounds of a keyspace within which anything can have been seen at an instant, or was written since, but for deletions of nothing. All that was committed before it is asked is known by then.
    pub(crate) fn reach(&self, keyspace: KeyspaceId, at: AsOf) -> Bounds {
        let mut reach = Bounds::default();
        if !self.is_on() {
            return reach;
        }
        let all = self.known.lock();
        let Some(known) = all.get(&keyspace) else { return reach };
        for (side, bound) in [(&known.first, &mut reach.lower), (&known.last, &mut reach.upper)] {
            match side.edge.as_ref().filter(|edge| edge.is_known_at(at)) {
                Some(Edge { key: Some(key), .. }) => *bound = Bound::Included(key.clone()),
                Some(Edge { key: None, .. }) => return Bounds::new(Bound::Unbounded, Bound::Excluded(&[])),
                None => {}
            }
        }
        reach
    }

    pub(crate) fn forget(&self, keyspace: KeyspaceId) {
        self.known.lock().remove(&keyspace);
    }

    /// Begins a walk; `None` if nothing is kept of the keyspace.
    fn ask(&self, keyspace: KeyspaceId, end: Extreme) -> Option<Asked<'_>> {
        if !self.is_on() {
            return None;
        }
        let mut all = self.known.lock();
        let known = all.get_mut(&keyspace)?;
        known.unasked = 0;
        let noted = known.noted;
        let side = known.side(end);
        if side.walks == 0 {
            side.written = None;
        }
        side.walks += 1;
        Some(Asked { edges: self, keyspace, end, noted })
    }
}

/// A walk under way, from one end.
struct Asked<'a> {
    edges: &'a Edges,
    keyspace: KeyspaceId,
    end: Extreme,
    /// What it must see to know more.
    noted: SeqNo,
}

impl Asked<'_> {
    /// The edge, for a walk as of an instant, which is known by now: so whatever it sees has moved the edge back already.
    fn edge_at(&self, at: AsOf) -> Option<Edge> {
        let mut all = self.edges.known.lock();
        let edge = all.get_mut(&self.keyspace)?.side(self.end).edge.as_ref()?;
        edge.is_known_at(at).then(|| edge.clone())
    }

    /// The walk found `key` as of an instant, or nothing.
    fn found(&self, key: Option<&[u8]>, at: AsOf) {
        let mut all = self.edges.known.lock();
        if at.seq < self.noted {
            return;
        }
        let Some(known) = all.get_mut(&self.keyspace) else { return };
        let end = self.end;
        let side = known.side(end);
        let is_nearer = |key: &[u8], other: Option<&[u8]>| other.is_none_or(|other| end.is_nearer(key, other));
        let key = match side.written.as_deref() {
            Some(written) if is_nearer(written, key) => Some(written),
            _ => key,
        };
        // One that another walk found meanwhile may reach further.
        let is_further = match (&side.edge, key) {
            (Some(edge), Some(key)) => edge.key.as_deref().is_some_and(|known| end.is_nearer(known, key)),
            _ => true,
        };
        if is_further {
            side.edge = Some(Edge { key: key.map(Into::into), at });
        }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if let Some(known) = self.edges.known.lock().get_mut(&self.keyspace) {
            known.side(self.end).walks -= 1;
        }
    }
}

impl Core {
    /// Has edges of a keyspace kept from now on, unless somebody commits: a reader does not wait, and the next one asks again.
    #[cold]
    fn keep_edges(&self, keyspace: KeyspaceId) {
        if let Some(commit) = self.commit.try_lock()
            && commit.keyspaces.contains_key(&keyspace)
        {
            self.edges.begin(keyspace, commit.last_seq);
        }
    }
}

impl Reads<'_> {
    /// The entry at one end.
    pub(crate) fn extreme(&self, end: Extreme) -> Result<Option<(Slice, Slice)>> {
        self.walk_to(end)?.map(|walk| Ok((Slice::from(walk.key()), walk.value_slice()?))).transpose()
    }

    /// Whether there is no entry.
    pub(crate) fn is_empty(&self) -> Result<bool> {
        Ok(self.walk_to(Extreme::First)?.is_none())
    }

    /// A walk that stands on the entry at one end.
    pub(crate) fn walk_to(&self, end: Extreme) -> Result<Option<Walk>> {
        // Before the state is loaded, so that what is written behind it is noted.
        let asked = self.keyspace.handle.core.edges.ask(self.keyspace.id(), end);
        self.walk_asked(end, asked.as_ref())
    }

    fn walk_asked(&self, end: Extreme, asked: Option<&Asked<'_>>) -> Result<Option<Walk>> {
        let (core, keyspace) = (&self.keyspace.handle.core, self.keyspace.id());
        let (state, at) = self.state()?;
        // One that keeps a state of its own sees what a filter has changed since, of which no number tells.
        let asked = asked.filter(|_| !self.at.is_some_and(|taken| taken.keeps_state_of(&self.keyspace.core)));
        let mut bounds = Bounds::default();
        if let Some(edge) = asked.and_then(|asked| asked.edge_at(at)) {
            match edge.key {
                None => return Ok(None),
                Some(key) if end == Extreme::First => bounds.lower = Bound::Included(key),
                Some(key) => bounds.upper = Bound::Included(key),
            }
        }
        let mut walk = Walk::new(Guard::into_inner(state), at, bounds);
        let sought = walk.seek(match end {
            Extreme::First => View::seek_to_first,
            Extreme::Last => View::seek_to_last,
        });
        sought?;
        let is_worth_while = walk.passed() >= PASSED_MIN;
        match asked {
            Some(asked) if is_worth_while || !walk.valid() => asked.found(walk.valid().then(|| walk.key()), at),
            None if is_worth_while => core.keep_edges(keyspace),
            _ => {}
        }
        Ok(walk.valid().then_some(walk))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Background, Engine, KeyspaceOptions, Options};
    use esker_vfs::MemVfs;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::sync::atomic::AtomicU64;

    fn engine(background: Background) -> Engine {
        let options = Options { memtable_bytes: Some(16 << 10), ..Options::default() };
        Engine::builder("data").vfs(MemVfs::new()).options(options).background(background).open().unwrap()
    }

    fn passed(engine: &Engine, end: Extreme) -> u64 {
        let keyspace = engine.keyspace("default", KeyspaceOptions::default()).unwrap();
        let walk = Reads { keyspace: &keyspace, at: None }.walk_to(end).unwrap();
        walk.map_or(0, |walk| walk.passed())
    }

    fn key(engine: &Engine, end: Extreme) -> Option<u64> {
        let found = match end {
            Extreme::First => engine.first(),
            Extreme::Last => engine.last(),
        };
        found.unwrap().map(|(key, _)| u64::from_be_bytes(key[..].try_into().unwrap()))
    }

    /// What cost most: a queue whose head was looked for from the beginning, over all that had ever been taken out.
    #[test]
    fn what_was_deleted_is_passed_once_or_twice() {
        const ITEMS: u64 = 2_000;
        for end in [Extreme::First, Extreme::Last] {
            let engine = engine(Background::Manual);
            let at = |i: u64| if end == Extreme::First { i } else { ITEMS - i }.to_be_bytes();
            (0..ITEMS).for_each(|i| engine.put(at(i), "item").unwrap());
            let mut all = 0;
            for i in 0..ITEMS - 1 {
                engine.delete(at(i)).unwrap();
                all += passed(&engine, end);
                assert_eq!(key(&engine, end), Some(u64::from_be_bytes(at(i + 1))));
            }
            assert!(all <= 2 * ITEMS, "{all} passed");
            engine.delete(at(ITEMS - 1)).unwrap();
            assert!(engine.is_empty().unwrap() && engine.is_empty().unwrap());
            engine.put(at(7), "again").unwrap();
            assert_eq!(key(&engine, end), Some(u64::from_be_bytes(at(7))));
        }
    }

    #[test]
    fn what_a_walk_under_way_does_not_see_holds_its_edge_back() {
        for (end, written) in [(Extreme::First, 3_u64), (Extreme::Last, 97)] {
            let engine = engine(Background::Manual);
            (0..100_u64).for_each(|i| engine.put(i.to_be_bytes(), "").unwrap());
            (0..100).filter(|i| *i != 50).for_each(|i: u64| engine.delete(i.to_be_bytes()).unwrap());
            assert_eq!(key(&engine, end), Some(50));
            let keyspace = engine.keyspace("default", KeyspaceOptions::default()).unwrap();
            let reads = Reads { keyspace: &keyspace, at: None };
            let asked = keyspace.handle.core.edges.ask(keyspace.id(), end).expect("it has passed many");
            let (_, at) = reads.state().unwrap();
            engine.put(written.to_be_bytes(), "").unwrap();
            asked.found(Some(&50_u64.to_be_bytes()), at);
            drop(asked);
            assert_eq!(key(&engine, end), Some(written));
        }
    }

    /// A key that is moved beyond the edge by one batch is there before it and behind it.
    #[test]
    fn what_is_written_between_the_question_and_the_state_is_seen_whole() {
        for (end, moved) in [(Extreme::First, 3_u64), (Extreme::Last, 97)] {
            let engine = engine(Background::Manual);
            (0..100_u64).for_each(|i| engine.put(i.to_be_bytes(), "").unwrap());
            (0..100).filter(|i| *i != 50).for_each(|i: u64| engine.delete(i.to_be_bytes()).unwrap());
            (0..2).for_each(|_| assert_eq!(key(&engine, end), Some(50)));
            let keyspace = engine.keyspace("default", KeyspaceOptions::default()).unwrap();
            let reads = Reads { keyspace: &keyspace, at: None };
            let asked = keyspace.handle.core.edges.ask(keyspace.id(), end);
            let mut batch = crate::WriteBatch::new();
            batch.delete(50_u64.to_be_bytes()).put(moved.to_be_bytes(), "");
            engine.write(&batch).unwrap();
            let walk = reads.walk_asked(end, asked.as_ref()).unwrap();
            assert_eq!(walk.map(|walk| walk.key().to_vec()), Some(moved.to_be_bytes().to_vec()));
        }
    }

    #[derive(Debug, Clone)]
    enum Op {
        Put(u64),
        Delete(u64),
        DeleteRange(u64, u64),
        Load(u64),
        Flush,
        Hold,
        Look,
        LookBack,
    }

    fn op() -> impl Strategy<Value = Op> {
        let key = || 0..30_u64;
        prop_oneof![
            3 => key().prop_map(Op::Put),
            8 => key().prop_map(Op::Delete),
            1 => (key(), key()).prop_map(|(a, b)| Op::DeleteRange(a.min(b), a.max(b) + 1)),
            1 => key().prop_map(Op::Load),
            1 => Just(Op::Flush),
            1 => Just(Op::Hold),
            3 => Just(Op::Look),
            3 => Just(Op::LookBack),
        ]
    }

    proptest! {
        #[test]
        fn an_edge_never_hides_a_key(ops in proptest::collection::vec(op(), 1..120)) {
            let engine = engine(Background::Manual);
            let mut keys: BTreeSet<u64> = (0..30).collect();
            keys.iter().for_each(|i| engine.put(i.to_be_bytes(), "").unwrap());
            let mut held = (engine.snapshot(), keys.clone());
            for op in ops {
                match op {
                    Op::Put(i) => {
                        engine.put(i.to_be_bytes(), "").unwrap();
                        keys.insert(i);
                    }
                    Op::Delete(i) => {
                        engine.delete(i.to_be_bytes()).unwrap();
                        keys.remove(&i);
                    }
                    Op::DeleteRange(from, to) => {
                        engine.delete_range(from.to_be_bytes(), to.to_be_bytes()).unwrap();
                        keys.retain(|i| !(from..to).contains(i));
                    }
                    Op::Load(i) => {
                        engine.bulk_load([(i.to_be_bytes(), "")]).unwrap();
                        while engine.step().unwrap() {}
                        keys.insert(i);
                    }
                    Op::Flush => {
                        engine.flush().unwrap();
                        while engine.step().unwrap() {}
                    }
                    Op::Hold => held = (engine.snapshot(), keys.clone()),
                    Op::Look => prop_assert_eq!(key(&engine, Extreme::First), keys.first().copied()),
                    Op::LookBack => prop_assert_eq!(key(&engine, Extreme::Last), keys.last().copied()),
                }
                prop_assert_eq!(engine.is_empty().unwrap(), keys.is_empty());
                let first = held.0.first().unwrap().map(|(key, _)| key.to_vec());
                prop_assert_eq!(first, held.1.first().map(|i| i.to_be_bytes().to_vec()));
            }
        }
    }

    /// One writes at the edge, others look for it. A look during which nothing was written must find what is there.
    #[test]
    fn an_edge_goes_back_before_what_was_written_is_seen() {
        let engine = engine(Background::Threads);
        let (rounds, turn, least) = (3_000_u64, AtomicU64::new(0), AtomicU64::new(u64::MAX - 1));
        engine.put((u64::MAX - 1).to_be_bytes(), "").unwrap();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut compared = 0;
                    while turn.load(Ordering::SeqCst) < 2 * rounds || compared == 0 {
                        let (before, expected) = (turn.load(Ordering::SeqCst), least.load(Ordering::SeqCst));
                        let found = key(&engine, Extreme::First);
                        if before % 2 == 0 && turn.load(Ordering::SeqCst) == before {
                            assert_eq!(found, Some(expected));
                            compared += 1;
                        }
                    }
                });
            }
            for i in 0..rounds {
                turn.fetch_add(1, Ordering::SeqCst);
                // Down for a while, so that each put is nearer than the edge, then all at once away.
                if i % 40 == 39 {
                    (0..40).for_each(|i| engine.delete((1_000_u64 - i).to_be_bytes()).unwrap());
                    least.store(u64::MAX - 1, Ordering::SeqCst);
                } else {
                    let key = 1_000 - i % 40;
                    engine.put(key.to_be_bytes(), "").unwrap();
                    least.store(key, Ordering::SeqCst);
                }
                turn.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
}
