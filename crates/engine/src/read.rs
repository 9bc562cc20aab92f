//! What a read of one keyspace sees: memtables and levels, as one immutable state.
//!
//! ```text
//! ReadState ── active memtable          newest
//!           ── sealed memtables ...
//!           ── LevelView ── L0 table ...      newest first, may overlap
//!                        ── L1 .. L6          sorted, disjoint              oldest
//! ```
//! A read takes the state and a sequence number that belong together ([`read_at`]) and then needs no lock: whatever is
//! sealed, flushed or compacted meanwhile makes a new state and leaves this one alone.

use crate::blobs::{self, OpenBlob};
use crate::error::Result;
use crate::locate::{Candidates, Fences};
use crate::memory::CountedTable;
use crate::source::{LevelRun, Source};
use crate::tables::{OpenTable, TableSet};
use crate::toll::Toll;
use arc_swap::{ArcSwap, Guard};
use esker_blob::BlobRef;
use esker_compaction::Picker;
use esker_format::{KeyHash, SeqNo, Slice, Trailer, ValueKind};
use esker_iterator::{Bounds, ConcatIterator, MergingIterator, VisibleIterator};
use esker_manifest::KeyspaceVersion;
use esker_sstable::{Spot, Table, TableError};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// All tables of one keyspace, open.
#[derive(Debug)]
pub(crate) struct LevelView {
    /// What the manifest says; `levels` holds the same tables in the same places.
    pub(crate) version: Arc<KeyspaceVersion>,
    pub(crate) levels: Vec<Vec<Arc<OpenTable>>>,
    /// The blob files that the tables refer to, by number.
    pub(crate) blobs: Vec<Arc<OpenBlob>>,
    /// What walks pay for runs that overlap.
    pub(crate) toll: Toll,
    /// The greatest sequence number in any table.
    pub(crate) newest_seq: SeqNo,
    /// Where they begin and end.
    fences: Fences,
}

impl LevelView {
    /// Opens what is not open yet. Does I/O: not under the state lock. `before` is the view that this one follows.
    pub(crate) fn open(
        version: &Arc<KeyspaceVersion>,
        tables: &TableSet,
        picker: &Picker,
        before: Option<&Self>,
    ) -> Result<Arc<Self>> {
        let open_level = |level: &Vec<_>| level.iter().map(|meta| tables.get(meta)).collect();
        let levels: Vec<Vec<_>> = version.levels.iter().map(open_level).collect::<Result<_>>()?;
        let blobs = version.blobs.values().map(|blob| tables.blobs.get(blob)).collect::<Result<_>>()?;
        let toll = Toll::new(picker.relief(version), &levels[0], before.map(|view| (&view.levels[0][..], &view.toll)));
        let newest_seq = levels.iter().flatten().map(|open| open.meta.largest_seq).max().unwrap_or_default();
        Ok(Arc::new(Self {
            version: Arc::clone(version),
            fences: Fences::new(&levels),
            levels,
            blobs,
            toll,
            newest_seq,
        }))
    }

    /// The tables that may hold `user_key`, newest first.
    pub(crate) fn candidates<'a>(&'a self, user_key: &'a [u8]) -> Candidates<'a> {
        self.fences.candidates(user_key)
    }

    /// Tables of L0, and levels below it that have any.
    pub(crate) fn runs(&self) -> usize {
        self.fences.runs()
    }

    pub(crate) fn tables(&self) -> impl Iterator<Item = &Arc<OpenTable>> {
        self.levels.iter().flatten()
    }

    /// The value of an entry, of which `stored` is what stands in the table.
    #[inline]
    pub(crate) fn resolve(&self, trailer: Trailer, stored: Slice) -> Result<Slice> {
        if trailer.kind() == ValueKind::Blob { self.blob_value(&stored) } else { Ok(stored) }
    }

    /// The value that a reference leads to.
    #[inline(never)]
    pub(crate) fn blob_value(&self, reference: &[u8]) -> Result<Slice> {
        let reference = BlobRef::decode(reference)?;
        Ok(blobs::find(&self.blobs, reference.file)?.get(reference)?)
    }
}

/// A state as a user sees it at one sequence number.
pub(crate) type View = VisibleIterator<MergingIterator<Source>>;

/// One state of a keyspace.
#[derive(Debug)]
pub(crate) struct ReadState {
    pub(crate) active: Arc<CountedTable>,
    /// Newest first.
    pub(crate) sealed: Vec<Arc<CountedTable>>,
    pub(crate) view: Arc<LevelView>,
}

impl ReadState {
    /// Active and sealed ones, newest first.
    pub(crate) fn memtables(&self) -> impl Iterator<Item = &Arc<CountedTable>> {
        std::iter::once(&self.active).chain(&self.sealed)
    }

    /// The value of `user_key` at `seq`.
    #[inline]
    pub(crate) fn get(&self, user_key: &[u8], seq: SeqNo) -> Result<Option<Slice>> {
        let in_table = |table: &Table, spot: &Spot, hash| table.get_at(spot, user_key, hash, seq);
        let found = self.find(user_key, seq, |trailer, value| (trailer, Slice::from(value)), in_table)?;
        match found {
            Some((trailer, stored)) if trailer.kind().is_value() => self.view.resolve(trailer, stored).map(Some),
            _ => Ok(None),
        }
    }

    /// Whether `user_key` has a value at `seq`; the value is not touched.
    #[inline]
    pub(crate) fn contains(&self, user_key: &[u8], seq: SeqNo) -> Result<bool> {
        let in_table = |table: &Table, spot: &Spot, hash| table.trailer_at(spot, user_key, hash, seq);
        let found = self.find(user_key, seq, |trailer, _| trailer, in_table)?;
        Ok(found.is_some_and(|trailer| trailer.kind().is_value()))
    }

    /// The newest version of `user_key` at or below `seq`, wherever it is.
    #[inline(always)]
    fn find<T>(
        &self,
        user_key: &[u8],
        seq: SeqNo,
        in_memory: impl Fn(Trailer, &[u8]) -> T,
        in_table: impl Fn(&Table, &Spot, KeyHash) -> Result<Option<T>, TableError>,
    ) -> Result<Option<T>> {
        let hash = KeyHash::of(user_key);
        if let Some((trailer, value)) = self.memory(user_key, hash, seq) {
            return Ok(Some(in_memory(trailer, value)));
        }
        let candidates = self.view.fences.candidates(user_key);
        if candidates.may_be_many() {
            prefetch_filters(&candidates, hash);
        }
        for open in candidates {
            let table = open.table()?;
            if table.may_contain(hash)?
                && let Some(spot) = table.spot(user_key, seq)?
                && let Some(found) = in_table(table, &spot, hash)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The newest version of `user_key` at or below `seq` in a memtable.
    #[inline]
    fn memory(&self, user_key: &[u8], hash: KeyHash, seq: SeqNo) -> Option<(Trailer, &[u8])> {
        self.memtables().find_map(|memtable| memtable.get(user_key, hash, seq))
    }

    /// The values of some keys at `seq`, each put in its place in `values`; what is there already stays where a key has none.
    ///
    /// The keys go through the steps of a look-up together (filters, indexes, blocks, entries), and each step begins to fetch for all of them what the next
    /// looks at: they wait for memory once where one after the other each would wait.
    pub(crate) fn get_together<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
        seq: SeqNo,
        values: &mut [Option<Slice>],
    ) -> Result<()> {
        let mut wanted = Vec::with_capacity(keys.len());
        for (key, value) in keys.iter().zip(values) {
            let user_key = key.as_ref();
            let hash = KeyHash::of(user_key);
            match self.memory(user_key, hash, seq) {
                Some((trailer, bytes)) => *value = (trailer.kind() == ValueKind::Put).then(|| Slice::from(bytes)),
                None => {
                    let candidates = self.view.fences.candidates(user_key);
                    prefetch_filters(&candidates, hash);
                    wanted.push(Wanted { user_key, hash, value, candidates, table: None, spot: None });
                }
            }
        }
        // In each round a key is looked up in one more table whose filter knows it.
        loop {
            for wanted in &mut wanted {
                wanted.next_table()?;
            }
            wanted.retain(|wanted| wanted.table.is_some());
            if wanted.is_empty() {
                return Ok(());
            }
            for wanted in &mut wanted {
                wanted.spot = wanted.table.map_or(Ok(None), |table| table.spot(wanted.user_key, seq))?;
            }
            for wanted in &wanted {
                if let (Some(table), Some(spot)) = (wanted.table, &wanted.spot) {
                    table.aim(spot, wanted.hash);
                }
            }
            for wanted in &mut wanted {
                if let (Some(table), Some(spot)) = (wanted.table, &wanted.spot)
                    && let Some((trailer, value)) = table.get_at(spot, wanted.user_key, wanted.hash, seq)?
                {
                    *wanted.value = match trailer.kind().is_value() {
                        true => Some(self.view.resolve(trailer, value)?),
                        false => None,
                    };
                    wanted.table = None;
                }
            }
            wanted.retain(|wanted| wanted.table.is_some());
        }
    }

    /// What a user sees of this state at `seq`, within `bounds`, in both directions; and how many runs of tables it would look into less if level 0 were merged with what is below
    /// it.
    pub(crate) fn iter(&self, seq: SeqNo, bounds: Bounds) -> (View, u32) {
        let count = 1 + self.sealed.len() + self.view.runs();
        let mut children: Vec<Source> = Vec::with_capacity(count);
        let memtables = self.memtables().filter(|memtable| !memtable.table.is_empty());
        children.extend(memtables.map(|memtable| Source::Memory(memtable.iter())));
        let memtables = children.len();
        let (l0, sorted) = self.view.levels.split_first().expect("there are always seven levels");
        children.extend(l0.iter().filter(|open| overlaps(open, &bounds)).map(|open| Source::table(open)));
        let level_0 = children.len() - memtables;
        for (i, level) in sorted.iter().enumerate() {
            if level.iter().any(|open| overlaps(open, &bounds)) {
                children.push(Source::Level(ConcatIterator::new(LevelRun::new(Arc::clone(&self.view), i + 1))));
            }
        }
        // However many levels are below, they stay.
        let below = children.len() - memtables - level_0;
        let runs = (level_0 + below.min(1)).saturating_sub(1) as u32;
        (VisibleIterator::new(MergingIterator::new(children), seq, bounds), runs)
    }
}

/// Whether the table may hold keys in `bounds`.
pub(crate) fn overlaps(open: &OpenTable, bounds: &Bounds) -> bool {
    let (smallest, largest) = (&open.meta.smallest.user_key, &open.meta.largest.user_key);
    let below = match &bounds.upper {
        Bound::Included(upper) => smallest <= upper,
        Bound::Excluded(upper) => smallest < upper,
        Bound::Unbounded => true,
    };
    let above = match &bounds.lower {
        Bound::Included(lower) => largest >= lower,
        Bound::Excluded(lower) => largest > lower,
        Bound::Unbounded => true,
    };
    below && above
}

/// How many keys go together in [`ReadState::get_together`], at most: about as many loads as a processor has in flight.
pub(crate) const TOGETHER_MAX: usize = 16;

/// A key of [`ReadState::get_together`] that no memtable has.
struct Wanted<'a> {
    user_key: &'a [u8],
    hash: KeyHash,
    value: &'a mut Option<Slice>,
    candidates: Candidates<'a>,
    /// The table that it is looked up in now; `None` once there is nothing more to find.
    table: Option<&'a Table>,
    spot: Option<Spot>,
}

impl Wanted<'_> {
    /// Goes on to the next table that has to be looked into.
    fn next_table(&mut self) -> Result<()> {
        for open in &mut self.candidates {
            let table = open.table()?;
            if table.may_contain(self.hash)? {
                self.table = Some(table);
                return Ok(());
            }
        }
        self.table = None;
        Ok(())
    }
}

/// Begins to fetch what the tables' filters will look at. Of a single one, looking is as fast.
#[inline(always)]
fn prefetch_filters(candidates: &Candidates<'_>, hash: KeyHash) {
    for table in candidates.clone().filter_map(OpenTable::healthy) {
        table.prefetch_filter(hash);
    }
}

/// The state of a keyspace that is read now.
///
/// Loading it touches nothing that other threads write: the guard is noted down in memory of this thread's own, and a swap looks there.
pub(crate) struct Current {
    state: ArcSwap<ReadState>,
    /// How often the state was swapped.
    swaps: AtomicU64,
}

impl Current {
    pub(crate) fn new(state: ReadState) -> Self {
        Self { state: ArcSwap::from_pointee(state), swaps: AtomicU64::new(0) }
    }

    #[inline]
    pub(crate) fn load(&self) -> Guard<Arc<ReadState>> {
        self.state.load()
    }

    pub(crate) fn load_full(&self) -> Arc<ReadState> {
        self.state.load_full()
    }

    /// Puts another state in place. Only under the state lock. Nothing that only the new state holds becomes visible before this returns.
    pub(crate) fn store(&self, state: Arc<ReadState>) {
        self.state.store(state);
        // Release: pairs with the Acquire in `load_at`. Behind the store, so that whoever sees the count sees the state.
        self.swaps.fetch_add(1, Ordering::Release);
    }

    /// Loads a state and a sequence number that belong together.
    ///
    /// The state holds all that is visible at the number, since a memtable is put in place before anything in it becomes visible, and a swap in between
    /// is seen; and nothing visible at the number has been dropped from it, since a flush or compaction drops only versions that are hidden
    /// at a number which was visible before, and the number is loaded behind the state.
    #[inline]
    pub(crate) fn load_at(&self, visible: &AtomicU64) -> (Guard<Arc<ReadState>>, SeqNo) {
        settle(
            // Acquire: pairs with the Release in `store`.
            || self.swaps.load(Ordering::Acquire),
            || self.state.load(),
            // Acquire: pairs with the Release in `commit`, so that the entries up to this number, and the swap before the first of them, are there to be seen.
            || SeqNo(visible.load(Ordering::Acquire)),
        )
    }
}

/// The order of the loads, apart from where they load from, so that it can be tried in every interleaving.
#[inline(always)]
fn settle<S>(swaps: impl Fn() -> u64, state: impl Fn() -> S, visible: impl Fn() -> SeqNo) -> (S, SeqNo) {
    let mut before = swaps();
    loop {
        let state = state();
        let seq = visible();
        let after = swaps();
        if before == after {
            return (state, seq);
        }
        before = after;
    }
}

/// [`Current::load_at`] for those who keep the state for long.
pub(crate) fn read_at(current: &Current, visible: &AtomicU64) -> (Arc<ReadState>, SeqNo) {
    let (state, seq) = current.load_at(visible);
    (Guard::into_inner(state), seq)
}

#[cfg(test)]
mod tests;
