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
use crate::memory::CountedTable;
use crate::source::{LevelRun, Source};
use crate::tables::{OpenTable, TableSet};
use arc_swap::ArcSwap;
use esker_blob::BlobRef;
use esker_format::{SeqNo, Slice, Trailer, ValueKind};
use esker_iterator::{Bounds, ConcatIterator, MergingIterator, VisibleIterator};
use esker_manifest::KeyspaceVersion;
use esker_sstable::KeyHash;
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
}

impl LevelView {
    /// Opens what is not open yet. Does I/O: not under the state lock.
    pub(crate) fn open(version: &Arc<KeyspaceVersion>, tables: &TableSet) -> Result<Arc<Self>> {
        let open_level = |level: &Vec<_>| level.iter().map(|meta| tables.get(meta)).collect();
        let levels = version.levels.iter().map(open_level).collect::<Result<_>>()?;
        let blobs = version.blobs.values().map(|blob| tables.blobs.get(blob)).collect::<Result<_>>()?;
        Ok(Arc::new(Self { version: Arc::clone(version), levels, blobs }))
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

    /// The newest version at or below `seq` in any table.
    fn get(&self, user_key: &[u8], seq: SeqNo) -> Result<Option<(Trailer, Slice)>> {
        let hash = KeyHash::of(user_key);
        let (l0, sorted) = self.levels.split_first().expect("there are always seven levels");
        let covers = |open: &OpenTable| {
            open.meta.smallest.user_key[..] <= *user_key && *user_key <= open.meta.largest.user_key[..]
        };
        for open in l0.iter().filter(|open| covers(open)) {
            if let Some(found) = open.table()?.get(user_key, hash, seq)? {
                return Ok(Some(found));
            }
        }
        for level in sorted {
            let i = level.partition_point(|open| open.meta.largest.user_key[..] < *user_key);
            if let Some(open) = level.get(i).filter(|open| covers(open))
                && let Some(found) = open.table()?.get(user_key, hash, seq)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

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
    pub(crate) fn get(&self, user_key: &[u8], seq: SeqNo) -> Result<Option<Slice>> {
        for memtable in self.memtables() {
            if let Some((trailer, value)) = memtable.get(user_key, seq) {
                return Ok((trailer.kind() == ValueKind::Put).then(|| Slice::from(value)));
            }
        }
        match self.view.get(user_key, seq)? {
            Some((trailer, stored)) if trailer.kind().is_value() => self.view.resolve(trailer, stored).map(Some),
            _ => Ok(None),
        }
    }

    /// What a user sees of this state at `seq`, within `bounds`, in both directions.
    pub(crate) fn iter(&self, seq: SeqNo, bounds: Bounds) -> VisibleIterator<MergingIterator<Source>> {
        let mut children: Vec<Source> = self
            .memtables()
            .filter(|memtable| !memtable.table.is_empty())
            .map(|memtable| Source::Memory(memtable.iter()))
            .collect();
        let (l0, sorted) = self.view.levels.split_first().expect("there are always seven levels");
        children.extend(l0.iter().filter(|open| overlaps(open, &bounds)).map(|open| Source::table(open)));
        for (i, level) in sorted.iter().enumerate() {
            if level.iter().any(|open| overlaps(open, &bounds)) {
                children.push(Source::Level(ConcatIterator::new(LevelRun::new(Arc::clone(&self.view), i + 1))));
            }
        }
        VisibleIterator::new(MergingIterator::new(children), seq, bounds)
    }
}

/// Whether the table may hold keys in `bounds`.
fn overlaps(open: &OpenTable, bounds: &Bounds) -> bool {
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

/// Loads a state and a sequence number that belong together.
///
/// The state holds all that is visible at the number, since a memtable is put in place before anything in it becomes visible; and nothing
/// visible at the number has been dropped from it, since a flush or compaction that drops a version installs a new state, which
/// the second look would see.
pub(crate) fn read_at(state: &ArcSwap<ReadState>, visible: &AtomicU64) -> (Arc<ReadState>, SeqNo) {
    let mut now = state.load();
    loop {
        // Acquire: pairs with the Release in `commit`, so that the entries up to this number are there to be seen.
        let seq = SeqNo(visible.load(Ordering::Acquire));
        let again = state.load();
        if Arc::ptr_eq(&now, &again) {
            return (arc_swap::Guard::into_inner(again), seq);
        }
        now = again;
    }
}
