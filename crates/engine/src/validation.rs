//! Whether what a write rests on still stands: nothing that was read has been written to since.
//!
//! ```text
//! lock ─ nothing written since, or a look into memory tells? ─yes────────────────────────────────> commit, all under one lock
//!          │ no: have what is written from now on noted down                                          ^
//! unlock ─ look through memtables and tables for newer versions of what was read (may do I/O)         │
//! lock ─── look through what was noted down ──────────────────────────────────────────────────────────┘
//! ```
//! Nobody does I/O under the commit lock, and how long it is held depends on what was written meanwhile, not on how much was read. The first look goes by sequence
//! numbers: a key was written to if its newest version, a tombstone too, is newer than what the reader saw. While somebody who saw `since` holds a snapshot of it, compaction keeps that
//! version wherever it could be missed, so the caller has to hold one.
//!
//! Invariants
//! - What is written between the two locks is noted down while any look is under way, and costs other writes nothing else: see [`Watch`].
//! - A miss is read too: a version that came since is newer than nothing.
//! - A range deleted since counts as written to all of it, whatever was there.
//! - Of a range that was scanned, what lies beyond a known [edge](crate::edges) of the keyspace is not looked through: the reader saw nothing there, and nothing but deletions has come since. So a look does not pass each time what the scan has not passed either.
//! - What cannot be looked through, such as a damaged table, is an error and never an answer.

use crate::commit::Commit;
use crate::core::{Core, KeyspaceCore};
use crate::error::{Error, ErrorKind, Result};
use crate::memory::CountedTable;
use crate::read::ReadState;
use crate::read_set::{Edge, Interval, ReadSet};
use crate::snapshot::Taken;
use crate::tables::OpenTable;
use esker_format::{InternalKey, KeyHash, KeyspaceId, SeqNo, Trailer, ValueKind, WriteBatch as EncodedBatch};
use esker_iterator::{Bounds, InternalIterator, RangeTombstone, RangeTombstones};
use esker_manifest::TableMeta;
use parking_lot::MutexGuard;
use std::collections::VecDeque;
use std::sync::Arc;

/// What is noted down for those who look may take this much, in bytes; behind it they begin again, from where they were, and may have twice as much, so that they come to an end.
const WATCHED_BYTES: usize = 1 << 20;
/// How often it is doubled.
const DOUBLED_MAX: u32 = 6;
/// Up to so many keys are looked up in memory under the lock, which costs about as much as having them watched.
const KEYS_UNDER_LOCK_MAX: usize = 16;

/// What a write asks for before it is made.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'a> {
    /// What must not have been written to.
    pub(crate) reads: Option<ReadSince<'a>>,
    /// The number of the turn it is made in, if other writers wait for it: see [`crate::exclusive`].
    pub(crate) turn: Option<u64>,
}

impl Terms<'_> {
    /// A plain write asks for nothing.
    pub(crate) const NONE: Self = Self { reads: None, turn: None };

    /// Whether it is not a plain write.
    pub(crate) fn are_some(&self) -> bool {
        self.reads.is_some() || self.turn.is_some()
    }
}

/// What was read, and when.
#[derive(Clone, Copy)]
pub(crate) struct ReadSince<'a> {
    pub(crate) what: What<'a>,
    /// The snapshot at which it was read, which the caller holds.
    pub(crate) at: &'a Taken,
}

#[derive(Clone, Copy)]
pub(crate) enum What<'a> {
    Key(&'a Arc<KeyspaceCore>, &'a [u8]),
    Set(&'a ReadSet),
}

impl What<'_> {
    /// Calls `f` with each keyspace, and what was read there, until it fails.
    fn each(self, mut f: impl FnMut(&KeyspaceCore, Part<'_>) -> Result<()>) -> Result<()> {
        match self {
            Self::Key(keyspace, key) => f(keyspace, Part::Key(key)),
            Self::Set(set) => set.parts().try_for_each(|(keyspace, intervals)| f(keyspace, Part::Intervals(intervals))),
        }
    }

    /// Whether any of it was written to by what was noted down.
    fn meets(self, written: &Written) -> bool {
        let key = &*written.key;
        match (self, &written.end) {
            (Self::Key(own, own_key), None) => own.id == written.keyspace && own_key == key,
            (Self::Set(set), None) => set.covers(written.keyspace, key),
            (Self::Key(own, own_key), Some(end)) => {
                own.id == written.keyspace && key <= own_key && (end.is_empty() || own_key < &**end)
            }
            (Self::Set(set), Some(end)) => set.meets(written.keyspace, key, end),
        }
    }
}

/// What was read of one keyspace.
#[derive(Clone, Copy)]
enum Part<'a> {
    Key(&'a [u8]),
    /// Ascending.
    Intervals(&'a [Interval]),
}

impl Part<'_> {
    fn is_few_keys(self) -> bool {
        match self {
            Self::Key(_) => true,
            Self::Intervals(intervals) => {
                intervals.len() <= KEYS_UNDER_LOCK_MAX && intervals.iter().all(|i| matches!(i, Interval::Key(_)))
            }
        }
    }

    /// Fails if any of it was written to behind `since`, in memtables or (if `tables`) anywhere. Of ranges it looks at what lies within the bounds that `reach` tells.
    fn check(
        self,
        keyspace: &KeyspaceCore,
        state: &ReadState,
        since: SeqNo,
        tables: bool,
        reach: impl FnOnce() -> Bounds,
    ) -> Result<()> {
        let newer = Newer::of(state, since, tables);
        match self {
            Self::Key(key) if newer.has_key(key)? => Err(conflict(&keyspace.name, key)),
            Self::Key(_) => Ok(()),
            Self::Intervals(intervals) => {
                let reach = reach();
                let (lower, upper) = Edge::of_bounds(&reach);
                let mut intervals = intervals.iter().filter_map(|interval| interval.within(lower, upper));
                intervals.try_for_each(|interval| match newer.in_interval(&interval)? {
                    Some(key) => Err(conflict(&keyspace.name, &key)),
                    None => Ok(()),
                })
            }
        }
    }
}

fn conflict(keyspace: &str, key: &[u8]) -> Error {
    let key = key.escape_ascii();
    Error::new(ErrorKind::Conflict, format!("{key} of keyspace {keyspace} was read and then written by another"))
}

/// The parts of a state that hold anything newer than a sequence number.
struct Newer<'a> {
    state: &'a ReadState,
    since: SeqNo,
    /// None if they are not asked.
    tables: Vec<&'a OpenTable>,
}

impl<'a> Newer<'a> {
    fn of(state: &'a ReadState, since: SeqNo, tables: bool) -> Self {
        let is_newer = |open: &&Arc<OpenTable>| open.meta.largest_seq > since;
        let tables = match tables && state.view.newest_seq > since {
            true => state.view.tables().filter(is_newer).map(|open| &**open).collect(),
            false => Vec::new(),
        };
        Self { state, since, tables }
    }

    fn memtables(&self) -> impl Iterator<Item = &'a Arc<CountedTable>> {
        let since = Some(self.since);
        self.state.memtables().filter(move |memtable| memtable.last_seq() > since)
    }

    /// Whether the newest version of a key, wherever it is, is newer.
    fn has_key(&self, user_key: &[u8]) -> Result<bool> {
        let hash = KeyHash::of(user_key);
        let is_newer = |trailer: Trailer| trailer.seq() > self.since;
        let written = |memtable: &Arc<CountedTable>| {
            memtable.get(user_key, hash, SeqNo::MAX).is_some_and(|(trailer, _)| is_newer(trailer))
                || self.is_since(memtable.table.newest_covering(user_key, SeqNo::MAX))
        };
        if self.memtables().any(written) {
            return Ok(true);
        }
        if self.tables.is_empty() {
            return Ok(false);
        }
        for open in self.state.view.candidates(user_key).filter(|open| open.meta.largest_seq > self.since) {
            let table = open.table()?;
            let ranges = table.range_tombstones();
            if self.is_since(ranges.and_then(|ranges| ranges.newest_covering(user_key, SeqNo::MAX))) {
                return Ok(true);
            }
            if table.may_contain(hash)?
                && let Some(spot) = table.spot(user_key, SeqNo::MAX)?
                && let Some(trailer) = table.trailer_at(&spot, user_key, hash, SeqNo::MAX)?
                && is_newer(trailer)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_since(&self, seq: Option<SeqNo>) -> bool {
        seq.is_some_and(|seq| seq > self.since)
    }

    /// The first key of a range deleted since, of which some of the interval is part.
    fn in_ranges(&self, ranges: Option<&RangeTombstones>, interval: &Interval) -> Option<Box<[u8]>> {
        let newer = |range: &RangeTombstone<'_>| range.seq > self.since && interval.meets(range.begin, range.end);
        ranges?.iter().find(newer).map(|range| range.begin.into())
    }

    /// A key of the interval that was written to.
    fn in_interval(&self, interval: &Interval) -> Result<Option<Box<[u8]>>> {
        if let Interval::Key(key) = interval {
            return Ok(self.has_key(key)?.then(|| key.clone()));
        }
        for memtable in self.memtables() {
            let ranges = memtable.table.range_tombstones(SeqNo::MAX);
            if let Some(found) = self.in_ranges(ranges.as_ref(), interval) {
                return Ok(Some(found));
            }
            let Ok(found) = first_newer(&mut memtable.iter(), interval, self.since);
            if found.is_some() {
                return Ok(found);
            }
        }
        for open in &self.tables {
            let (smallest, largest) = (&open.meta.smallest.user_key, &open.meta.largest.user_key);
            if interval.begins_behind(largest) || interval.ends_before(smallest) {
                continue;
            }
            let table = open.table()?;
            if let Some(found) = self.in_ranges(table.range_tombstones().map(|ranges| &**ranges), interval) {
                return Ok(Some(found));
            }
            let found = first_newer(&mut table.iter_once(), interval, self.since)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

/// The first key in `interval` with a version newer than `since`. Costs as much as walking over the interval in this source, unless it meets one.
fn first_newer<I: InternalIterator>(
    iter: &mut I,
    interval: &Interval,
    since: SeqNo,
) -> Result<Option<Box<[u8]>>, I::Error> {
    iter.seek(InternalKey::before_all(interval.lower_key()))?;
    while iter.valid() {
        let key = iter.key();
        if interval.ends_before(key.user_key) {
            break;
        }
        if key.trailer.seq() > since && interval.contains(key.user_key) {
            return Ok(Some(key.user_key.into()));
        }
        iter.next()?;
    }
    Ok(None)
}

/// A key that was written, or a range that was deleted.
#[derive(Debug)]
struct Written {
    keyspace: KeyspaceId,
    key: Box<[u8]>,
    /// The first key behind the range; an empty one is no end.
    end: Option<Box<[u8]>>,
}

impl Written {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.key.len() + self.end.as_ref().map_or(0, |end| end.len())
    }
}

/// What is written while somebody looks at older versions: each begins at the end of the list, and reads from there when the look is over.
///
/// Keys alone are noted down, not values. Guarded by the commit lock.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// How often the limit was doubled for one of those who look.
    doubled: u32,
    written: VecDeque<Written>,
    /// The number of the first of them; numbers go on for ever.
    first: u64,
    bytes: usize,
    /// Where those who look began.
    begun: Vec<u64>,
}

impl Watch {
    /// Whether anybody looks.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        !self.begun.is_empty()
    }

    /// Notes down what a batch writes.
    #[cold]
    pub(crate) fn note(&mut self, batch: &EncodedBatch) {
        for op in batch.ops() {
            let end = match op.kind {
                ValueKind::RangeDelete => Some(op.value.into()),
                _ => None,
            };
            let written = Written { keyspace: op.keyspace, key: op.key.into(), end };
            self.bytes += written.bytes();
            self.written.push_back(written);
            if self.bytes > WATCHED_BYTES << self.doubled {
                self.first += self.written.len() as u64;
                self.written.clear();
                self.bytes = 0;
            }
        }
    }

    /// Notes down what an ingested table writes: all that lies within its bounds.
    #[cold]
    pub(crate) fn note_table(&mut self, keyspace: KeyspaceId, table: &TableMeta) {
        let end = [&*table.largest.user_key, &[0]].concat().into();
        let written = Written { keyspace, key: table.smallest.user_key.clone(), end: Some(end) };
        self.bytes += written.bytes();
        self.written.push_back(written);
    }

    /// For somebody who has begun in vain so many times.
    fn begin(&mut self, in_vain: u32) -> u64 {
        self.doubled = self.doubled.max(in_vain.min(DOUBLED_MAX));
        let number = self.first + self.written.len() as u64;
        self.begun.push(number);
        number
    }

    /// What was written since; `None` if it was too much to remember.
    fn since(&self, begun: u64) -> Option<impl Iterator<Item = &Written>> {
        let skipped = begun.checked_sub(self.first)?;
        Some(self.written.iter().skip(skipped as usize))
    }

    fn end(&mut self, begun: u64) {
        if let Some(i) = self.begun.iter().position(|other| *other == begun) {
            self.begun.swap_remove(i);
        }
        if self.begun.is_empty() {
            self.doubled = 0;
        }
        // Nobody needs what came before the first who is left.
        let needed = self.begun.iter().min().copied().unwrap_or(u64::MAX);
        while self.first < needed
            && let Some(written) = self.written.pop_front()
        {
            self.bytes -= written.bytes();
            self.first += 1;
        }
    }
}

/// Ends a watch however the look ends.
struct Watching<'a> {
    core: &'a Core,
    begun: Option<u64>,
}

impl<'a> Watching<'a> {
    fn begin(core: &'a Core, commit: &mut Commit, in_vain: u32) -> Self {
        Self { core, begun: Some(commit.watch.begin(in_vain)) }
    }

    /// Fails if anything was written since that `what` has read; whether all that was written is known.
    fn end(mut self, commit: &mut Commit, what: What<'_>) -> Result<bool> {
        let begun = self.begun.take().expect("it ends once");
        let read = commit.watch.since(begun).map(|mut written| {
            written.find(|written| what.meets(written)).map(|written| {
                let name = commit.keyspaces.get(&written.keyspace).map_or("", |keyspace| &keyspace.name);
                conflict(name, &written.key)
            })
        });
        commit.watch.end(begun);
        match read {
            None => Ok(false),
            Some(None) => Ok(true),
            Some(Some(conflict)) => Err(conflict),
        }
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        if let Some(begun) = self.begun {
            self.core.commit.lock().watch.end(begun);
        }
    }
}

impl Core {
    /// Takes the commit lock for a write on `terms`, which hold when this returns.
    ///
    /// # Errors
    /// `Conflict`; those of reading tables; those of [`Core::await_turn`].
    #[inline]
    pub(crate) fn lock_to_write(&self, terms: &Terms<'_>, no_stall: bool) -> Result<MutexGuard<'_, Commit>> {
        let commit = self.commit.lock();
        // Nearly every write.
        if commit.turn.is_none() && terms.reads.is_none() && terms.turn.is_none() {
            return Ok(commit);
        }
        self.lock_on_terms(commit, terms, no_stall).inspect_err(|error| {
            self.counters.conflicts.add(u64::from(error.kind() == ErrorKind::Conflict));
        })
    }

    #[cold]
    #[inline(never)]
    fn lock_on_terms<'a>(
        &'a self,
        mut commit: MutexGuard<'a, Commit>,
        terms: &Terms<'_>,
        no_stall: bool,
    ) -> Result<MutexGuard<'a, Commit>> {
        self.await_turn(&mut commit, terms.turn, no_stall)?;
        let Some(ReadSince { what, at }) = terms.reads else { return Ok(commit) };
        let mut since = at.at.seq;
        let mut in_vain = 0;
        loop {
            if self.stands_as_memory_tells(&commit, what, since)? {
                return Ok(commit);
            }
            let now = commit.last_seq;
            let watching = Watching::begin(self, &mut commit, in_vain);
            drop(commit);
            what.each(|keyspace, part| {
                let reach = || match at.keeps_state_of(keyspace) {
                    // It may have seen what nobody else does any more.
                    true => Bounds::default(),
                    false => self.edges.reach(keyspace.id, at.at),
                };
                part.check(keyspace, &keyspace.read.load_full(), since, true, reach)
            })?;
            commit = self.commit.lock();
            if watching.end(&mut commit, what)? {
                since = commit.last_seq;
            } else {
                since = now;
                in_vain += 1;
            }
            self.await_turn(&mut commit, terms.turn, no_stall)?;
        }
    }

    /// Whether it is known at little cost that what was read still stands; `false` if it takes a look at more.
    ///
    /// # Errors
    /// `Conflict` if it is known not to stand; `NotFound` if a keyspace was dropped.
    fn stands_as_memory_tells(&self, commit: &Commit, what: What<'_>, since: SeqNo) -> Result<bool> {
        let mut stands = true;
        what.each(|keyspace, part| {
            keyspace.check()?;
            if commit.last_seq <= since {
                return Ok(());
            }
            let state = keyspace.read.load();
            if state.view.newest_seq <= since && part.is_few_keys() {
                return part.check(keyspace, &state, since, false, Bounds::default);
            }
            let newest = state.memtables().filter_map(|memtable| memtable.last_seq()).max();
            stands &= state.view.newest_seq.max(newest.unwrap_or_default()) <= since;
            Ok(())
        })?;
        Ok(stands)
    }
}

#[cfg(test)]
mod tests;
