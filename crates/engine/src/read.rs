//! What a read of one keyspace sees: memtables and levels, as one immutable state.
//!
//! ```text
//! ReadState ── active memtable          newest
//!           ── sealed memtables ...
//!           ── LevelView ── L0 table ...      newest first, may overlap
//!                        ── L1 .. L6          sorted, disjoint              oldest
//! ```
//! A read takes the state and a sequence number that belong together ([`Current::load_at`](crate::publish::Current::load_at)) and then needs no lock: whatever is
//! sealed, flushed or compacted meanwhile makes a new state and leaves this one alone.

mod merged;

use crate::blobs::{self, OpenBlob};
use crate::error::{Error, Result};
use crate::expiry::AsOf;
use crate::locate::{Candidates, Fences};
use crate::memory::CountedTable;
use crate::merging::Merging;
use crate::metrics::Counter;
use crate::source::{LevelRun, Source};
use crate::tables::{OpenTable, TableSet};
use crate::toll::Toll;
use esker_blob::BlobRef;
use esker_compaction::Picker;
use esker_format::{EXPIRY_BYTES, FileNo, KeyHash, SeqNo, Slice, Trailer, ValueKind, expiry::decode_expiry};
use esker_iterator::{
    Bounds, ConcatIterator, Covering, Covers, MergingIterator, RangeTombstones, TombstoneRun, VisibleIterator,
};
use esker_manifest::KeyspaceVersion;
use esker_sstable::{Spot, Table, TableError};
use std::sync::Arc;

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
    /// How many of them have failed.
    pub(crate) read_errors: Arc<Counter>,
    /// The greatest sequence number in any table.
    pub(crate) newest_seq: SeqNo,
    /// Where they begin and end.
    fences: Fences,
    /// The range tombstones of each level below 0 that has any; of level 0 each table's own are asked for.
    ranges: Vec<Option<Arc<TombstoneRun>>>,
    /// Whether any table has range tombstones: if not, nothing is asked for.
    has_ranges: bool,
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
        let ranges = levels[1..].iter().map(|level| range_run(level)).collect();
        let has_ranges = levels.iter().flatten().any(|open| ranges_of(open).is_some());
        let fences = Fences::new(&levels);
        let (version, read_errors) = (Arc::clone(version), Arc::clone(&tables.read_errors));
        Ok(Arc::new(Self { version, fences, levels, blobs, toll, read_errors, newest_seq, ranges, has_ranges }))
    }

    /// The files that could not be opened, and why.
    pub(crate) fn out_of_use(&self) -> impl Iterator<Item = (FileNo, Error)> {
        let tables = self.tables().filter_map(|open| Some((open.meta.number, open.table().err()?)));
        tables.chain(self.blobs.iter().filter_map(|open| Some((open.meta.number, open.file().err()?))))
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

    /// The value of an entry that is shown, of which `stored` is what stands in the table.
    #[inline]
    pub(crate) fn resolve(&self, trailer: Trailer, stored: Slice) -> Result<Slice> {
        if trailer.is(ValueKind::Put) { Ok(stored) } else { self.resolve_stored(trailer, stored) }
    }

    #[inline(never)]
    fn resolve_stored(&self, trailer: Trailer, stored: Slice) -> Result<Slice> {
        match trailer.kind() {
            ValueKind::Blob => self.blob_value(&stored),
            ValueKind::Expiring => {
                decode_expiry(&stored)?;
                Ok(stored.without_first(EXPIRY_BYTES))
            }
            ValueKind::ExpiringBlob => self.blob_value(decode_expiry(&stored)?.1),
            ValueKind::Put | ValueKind::Delete | ValueKind::RangeDelete | ValueKind::Merge => Ok(stored),
        }
    }

    /// What a look-up that came upon this entry shows, as of a time.
    #[inline]
    pub(crate) fn seen(&self, trailer: Trailer, stored: Slice, unix_ms: u64) -> Result<Option<Slice>> {
        match trailer.kind() {
            ValueKind::Put => Ok(Some(stored)),
            ValueKind::Delete | ValueKind::RangeDelete => Ok(None),
            kind if kind.expires() && decode_expiry(&stored)?.0 <= unix_ms => Ok(None),
            _ => self.resolve_stored(trailer, stored).map(Some),
        }
    }

    /// The value that a reference leads to.
    #[inline(never)]
    pub(crate) fn blob_value(&self, reference: &[u8]) -> Result<Slice> {
        let reference = BlobRef::decode(reference)?;
        Ok(blobs::find(&self.blobs, reference.file)?.get(reference)?)
    }
}

/// The range tombstones of a table. One in quarantine has none to show: whoever reaches it gets the error.
#[inline]
fn ranges_of(open: &OpenTable) -> Option<&Arc<RangeTombstones>> {
    open.healthy()?.range_tombstones()
}

/// Those of a level below 0.
fn range_run(level: &[Arc<OpenTable>]) -> Option<Arc<TombstoneRun>> {
    let sources: Vec<_> = level.iter().filter_map(|open| ranges_of(open)).map(Arc::clone).collect();
    (!sources.is_empty()).then(|| Arc::new(TombstoneRun::new(sources)))
}

/// What a look-up finds.
trait Found {
    fn seq(&self) -> SeqNo;
}

impl Found for Trailer {
    fn seq(&self) -> SeqNo {
        Trailer::seq(*self)
    }
}

impl Found for (Trailer, Slice) {
    fn seq(&self) -> SeqNo {
        self.0.seq()
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
    /// Whether a range was deleted in any sealed memtable or table.
    has_ranges_below: bool,
    /// What makes values of merge operands, if the keyspace has it. [`KeyspaceCore::swap`](crate::core::KeyspaceCore::swap) hands it on.
    merging: Option<Arc<Merging>>,
}

impl ReadState {
    /// Of an active memtable, of sealed ones, newest first, that nothing more is written to, and of tables.
    pub(crate) fn new(active: Arc<CountedTable>, sealed: Vec<Arc<CountedTable>>, view: Arc<LevelView>) -> Self {
        let is_any_sealed = sealed.iter().any(|memtable| memtable.table.has_range_tombstones());
        Self { has_ranges_below: is_any_sealed || view.has_ranges, active, sealed, view, merging: None }
    }

    /// The same, of a keyspace whose merge operands are merged so.
    pub(crate) fn with_merging(self, merging: &Option<Arc<Merging>>) -> Self {
        Self { merging: merging.clone(), ..self }
    }

    /// Active and sealed ones, newest first.
    pub(crate) fn memtables(&self) -> impl Iterator<Item = &Arc<CountedTable>> {
        std::iter::once(&self.active).chain(&self.sealed)
    }

    /// The value of `user_key` as of an instant.
    #[inline]
    pub(crate) fn get(&self, user_key: &[u8], at: AsOf) -> Result<Option<Slice>> {
        match self.find_stored(user_key, at.seq)? {
            Some((trailer, stored)) if trailer.is(ValueKind::Put) => Ok(Some(stored)),
            Some((trailer, stored)) => self.get_other(user_key, at, trailer, stored),
            None => Ok(None),
        }
    }

    /// The value of a key whose newest version is something other than a plain value.
    #[inline(never)]
    fn get_other(&self, user_key: &[u8], at: AsOf, trailer: Trailer, stored: Slice) -> Result<Option<Slice>> {
        match trailer.kind() {
            ValueKind::Merge => self.merged(user_key, at.seq).map(Some),
            _ => self.view.seen(trailer, stored, at.unix_ms),
        }
    }

    /// The newest version of `user_key` at `seq`, with what is stored for it.
    #[inline(always)]
    pub(crate) fn find_stored(&self, user_key: &[u8], seq: SeqNo) -> Result<Option<(Trailer, Slice)>> {
        let in_table = |table: &Table, spot: &Spot, hash| table.get_at(spot, user_key, hash, seq);
        self.find(user_key, seq, |trailer, value| (trailer, Slice::from(value)), in_table)
    }

    /// Whether `user_key` has a value as of an instant; the value is not touched, unless it expires.
    #[inline]
    pub(crate) fn contains(&self, user_key: &[u8], at: AsOf) -> Result<bool> {
        let in_table = |table: &Table, spot: &Spot, hash| table.trailer_at(spot, user_key, hash, at.seq);
        match self.find(user_key, at.seq, |trailer, _| trailer, in_table)? {
            Some(trailer) if trailer.kind().expires() => self.contains_until(user_key, at),
            Some(trailer) => Ok(trailer.is_value() || trailer.is(ValueKind::Merge)),
            None => Ok(false),
        }
    }

    /// The newest version of `user_key` at or below `seq`, wherever it is; none if it was deleted with a range.
    #[inline(always)]
    fn find<T: Found>(
        &self,
        user_key: &[u8],
        seq: SeqNo,
        in_memory: impl Fn(Trailer, &[u8]) -> T,
        in_table: impl Fn(&Table, &Spot, KeyHash) -> Result<Option<T>, TableError>,
    ) -> Result<Option<T>> {
        let hash = KeyHash::of(user_key);
        if self.has_ranges() {
            return self.find_among_ranges(user_key, hash, seq, in_memory, in_table);
        }
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
    #[inline(always)]
    fn memory(&self, user_key: &[u8], hash: KeyHash, seq: SeqNo) -> Option<(Trailer, &[u8])> {
        let in_sealed = || self.sealed.iter().find_map(|memtable| memtable.get(user_key, hash, seq));
        self.active.get(user_key, hash, seq).or_else(in_sealed)
    }

    /// Whether a range was deleted in any source.
    #[inline(always)]
    fn has_ranges(&self) -> bool {
        self.has_ranges_below || self.active.table.has_range_tombstones()
    }

    /// As [`Self::find`], where ranges were deleted. In each source of a key all is newer than in the next, so what covers the key in one hides all that lies in those behind.
    #[inline(never)]
    fn find_among_ranges<T: Found>(
        &self,
        user_key: &[u8],
        hash: KeyHash,
        seq: SeqNo,
        in_memory: impl Fn(Trailer, &[u8]) -> T,
        in_table: impl Fn(&Table, &Spot, KeyHash) -> Result<Option<T>, TableError>,
    ) -> Result<Option<T>> {
        if let Some(found) = self.memory_among_ranges(user_key, hash, seq) {
            return Ok(found.map(|(trailer, value)| in_memory(trailer, value)));
        }
        for open in self.view.fences.candidates(user_key) {
            let table = open.table()?;
            let covering = table.range_tombstones().and_then(|ranges| ranges.newest_covering(user_key, seq));
            if table.may_contain(hash)?
                && let Some(spot) = table.spot(user_key, seq)?
                && let Some(found) = in_table(table, &spot, hash)?
            {
                return Ok(Some(found).filter(|found| covering.is_none_or(|covering| found.seq() > covering)));
            }
            if covering.is_some() {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// As [`Self::memory`], where ranges were deleted; `Some(None)` if the key was in a memtable, so that nothing older is to be looked for.
    fn memory_among_ranges(&self, user_key: &[u8], hash: KeyHash, seq: SeqNo) -> Option<Option<(Trailer, &[u8])>> {
        self.memtables().find_map(|memtable| {
            let found = memtable.get(user_key, hash, seq);
            match memtable.table.newest_covering(user_key, seq) {
                Some(covering) => Some(found.filter(|(trailer, _)| trailer.seq() > covering)),
                None => found.map(Some),
            }
        })
    }

    /// The values of some keys as of an instant, each put in its place in `values`; what is there already stays where a key has none.
    ///
    /// The keys go through the steps of a look-up together (filters, indexes, blocks, entries), and each step begins to fetch for all of them what the next
    /// looks at: they wait for memory once where one after the other each would wait.
    pub(crate) fn get_together<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
        at: AsOf,
        values: &mut [Option<Slice>],
    ) -> Result<()> {
        let AsOf { seq, unix_ms } = at;
        let mut wanted = Vec::with_capacity(keys.len());
        let has_ranges = self.has_ranges();
        for (key, value) in keys.iter().zip(values) {
            let user_key = key.as_ref();
            let hash = KeyHash::of(user_key);
            let found = match has_ranges {
                true => self.memory_among_ranges(user_key, hash, seq),
                false => self.memory(user_key, hash, seq).map(Some),
            };
            match found {
                Some(Some((trailer, _))) if trailer.kind() == ValueKind::Merge => {
                    *value = Some(self.merged(user_key, seq)?);
                }
                Some(Some((trailer, bytes))) => *value = self.view.seen(trailer, Slice::from(bytes), unix_ms)?,
                Some(None) => {}
                None => {
                    let candidates = self.view.fences.candidates(user_key);
                    prefetch_filters(&candidates, hash);
                    wanted.push(Wanted { user_key, hash, value, candidates, table: None, spot: None, covering: None });
                }
            }
        }
        // In each round a key is looked up in one more table whose filter knows it.
        loop {
            for wanted in &mut wanted {
                wanted.next_table(self.view.has_ranges, seq)?;
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
                    let is_shown = wanted.covering.is_none_or(|seq| trailer.seq() > seq);
                    *wanted.value = match trailer.kind() {
                        ValueKind::Merge if is_shown => Some(self.merged(wanted.user_key, seq)?),
                        _ if is_shown => self.view.seen(trailer, value, unix_ms)?,
                        _ => None,
                    };
                    wanted.table = None;
                }
                // What is older was deleted with a range.
                wanted.table = wanted.table.filter(|_| wanted.covering.is_none());
            }
            wanted.retain(|wanted| wanted.table.is_some());
        }
    }

    /// What a user sees of this state as of an instant, within `bounds`, in both directions; and how many runs of tables it would look into less if level 0 were merged with what is below
    /// it.
    ///
    /// `covers` are range tombstones newer than all of it.
    pub(crate) fn iter_under(&self, mut covers: Covers, at: AsOf, bounds: Bounds) -> (View, u32) {
        let AsOf { seq, unix_ms } = at;
        let count = 1 + self.sealed.len() + self.view.runs();
        let mut children: Vec<Source> = Vec::with_capacity(count);
        for memtable in self.memtables().filter(|memtable| !memtable.table.is_empty()) {
            // One that holds nothing but tombstones is no source: there is nothing to seek in.
            if memtable.table.has_entries() {
                children.push(Source::Memory(memtable.iter()));
            }
            if let Some(ranges) = memtable.table.range_tombstones(seq).filter(|ranges| !ranges.is_empty()) {
                covers.push(children.len(), Arc::new(ranges));
            }
        }
        let memtables = children.len();
        let (l0, sorted) = self.view.levels.split_first().expect("there are always seven levels");
        for open in l0.iter().filter(|open| overlaps(open, &bounds)) {
            // As above. One that can't be read is a source for its error.
            if open.meta.entries > 0 || open.healthy().is_none() {
                children.push(Source::table(open));
            }
            if self.view.has_ranges
                && let Some(ranges) = ranges_of(open)
            {
                covers.push(children.len(), Arc::clone(ranges) as Arc<dyn Covering>);
            }
        }
        let level_0 = children.len() - memtables;
        for (level, ranges) in (1..=sorted.len()).zip(&self.view.ranges) {
            if !self.view.levels[level].is_empty()
                && let Some(run) = LevelRun::within(&self.view, level, &bounds)
            {
                children.push(Source::Level(ConcatIterator::new(run)));
                if let Some(ranges) = ranges {
                    covers.push(children.len(), Arc::clone(ranges) as Arc<dyn Covering>);
                }
            }
        }
        // However many levels are below, they stay.
        let below = children.len() - memtables - level_0;
        let runs = (level_0 + below.min(1)).saturating_sub(1) as u32;
        let view = VisibleIterator::with_tombstones(MergingIterator::new(children), seq, bounds, covers);
        (view.at_time(unix_ms), runs)
    }
}

/// Whether the table may hold keys in `bounds`.
pub(crate) fn overlaps(open: &OpenTable, bounds: &Bounds) -> bool {
    reaches_up(open, bounds) && reaches_down(open, bounds)
}

/// Whether the table does not lie above the bounds as a whole.
pub(crate) fn reaches_up(open: &OpenTable, bounds: &Bounds) -> bool {
    bounds.reaches_up_to(&open.meta.smallest.user_key)
}

/// Whether the table does not lie below the bounds as a whole.
pub(crate) fn reaches_down(open: &OpenTable, bounds: &Bounds) -> bool {
    bounds.reaches_down_to(&open.meta.largest.user_key)
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
    /// The newest range tombstone of that table that covers the key.
    covering: Option<SeqNo>,
}

impl Wanted<'_> {
    /// Goes on to the next table that has to be looked into.
    fn next_table(&mut self, has_ranges: bool, seq: SeqNo) -> Result<()> {
        for open in &mut self.candidates {
            let table = open.table()?;
            if has_ranges {
                let ranges = table.range_tombstones();
                self.covering = ranges.and_then(|ranges| ranges.newest_covering(self.user_key, seq));
            }
            if table.may_contain(self.hash)? {
                self.table = Some(table);
                return Ok(());
            }
            if self.covering.is_some() {
                break;
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
