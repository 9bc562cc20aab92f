//! About how much lies in a range of keys: by what the manifest says of tables, by an index and a block of those that the range cuts, and by the nodes of memtables. Never by walking.

use crate::engine::Engine;
use crate::error::Result;
use crate::keyspace::Keyspace;
use crate::memory::CountedTable;
use crate::range::{KeyRange, to_bounds};
use crate::read::{ReadState, overlaps};
use crate::tables::OpenTable;
use esker_format::{InternalKey, Slice};
use esker_iterator::Bounds;
use std::ops::Bound;

/// Where a range begins and ends among versions.
struct Span<'a> {
    bounds: &'a Bounds,
    /// All versions from here on; `None` from the first.
    from: Option<InternalKey<'a>>,
    /// Up to here; `None` to the last.
    to: Option<InternalKey<'a>>,
}

impl<'a> Span<'a> {
    fn of(bounds: &'a Bounds) -> Self {
        let from = match &bounds.lower {
            Bound::Included(key) => Some(InternalKey::before_all(key)),
            Bound::Excluded(key) => Some(InternalKey::behind_all(key)),
            Bound::Unbounded => None,
        };
        let to = match &bounds.upper {
            Bound::Included(key) => Some(InternalKey::behind_all(key)),
            Bound::Excluded(key) => Some(InternalKey::before_all(key)),
            Bound::Unbounded => None,
        };
        Self { bounds, from, to }
    }

    /// The share of a table that lies within.
    fn of_table(&self, open: &OpenTable) -> Result<f64> {
        if !overlaps(open, self.bounds) {
            return Ok(0.0);
        }
        let before = match self.from {
            Some(from) if from > open.meta.smallest.as_ref() => open.table()?.share_before(from)?,
            _ => 0.0,
        };
        let up_to = match self.to {
            Some(to) if to <= open.meta.largest.as_ref() => open.table()?.share_before(to)?,
            _ => 1.0,
        };
        Ok((up_to - before).max(0.0))
    }

    /// The share of a memtable that lies within.
    fn of_memtable(&self, memtable: &CountedTable) -> f64 {
        let before = self.from.map_or(0.0, |from| memtable.table.share_before(from));
        let up_to = self.to.map_or(1.0, |to| memtable.table.share_before(to));
        (up_to - before).max(0.0)
    }
}

impl ReadState {
    fn approximate_len(&self, bounds: &Bounds) -> Result<u64> {
        let span = Span::of(bounds);
        // Each deletion is an entry itself, and hides one.
        let keys = |entries: u64, deletions: u64| entries as f64 - 2.0 * deletions as f64;
        let mut len = 0.0;
        for open in self.view.tables() {
            len += span.of_table(open)? * keys(open.meta.entries, open.meta.deletions);
        }
        for memtable in self.memtables() {
            let table = &memtable.table;
            len += span.of_memtable(memtable) * keys(table.len() as u64, table.deletions() as u64);
        }
        Ok(len.max(0.0).round() as u64)
    }

    fn approximate_size(&self, bounds: &Bounds) -> Result<u64> {
        let span = Span::of(bounds);
        let mut bytes = 0.0;
        for open in self.view.tables() {
            let blobs: u64 = open.meta.blobs.iter().map(|blob| blob.bytes).sum();
            bytes += span.of_table(open)? * (open.meta.file_bytes + blobs) as f64;
        }
        for memtable in self.memtables().filter(|memtable| !memtable.table.is_empty()) {
            bytes += span.of_memtable(memtable) * memtable.table.memory_bytes() as f64;
        }
        Ok(bytes.round() as u64)
    }
}

impl Keyspace {
    /// As [`Engine::approximate_len`].
    pub fn approximate_len(&self, range: impl KeyRange) -> Result<u64> {
        self.estimate(&range, ReadState::approximate_len)
    }

    /// As [`Engine::approximate_size`].
    pub fn approximate_size(&self, range: impl KeyRange) -> Result<u64> {
        self.estimate(&range, ReadState::approximate_size)
    }

    fn estimate(&self, range: &impl KeyRange, of: fn(&ReadState, &Bounds) -> Result<u64>) -> Result<u64> {
        self.handle.core.check_open()?;
        self.check()?;
        let bounds = to_bounds(range);
        if bounds.is_empty() { Ok(0) } else { of(&self.core.read.load_full(), &bounds) }
    }
}

impl Engine {
    /// About how many keys a range has, at the cost of a few seeks however many there are.
    ///
    /// An estimate in two ways. Where a range cuts a table, entries near the cut count as equally long, and where it cuts what is in memory, nodes of the tree as equally full. And what is not merged yet is guessed at: a key that was
    /// overwritten counts once for each version, and a deletion as one key less, whether there was one or not. After [`Engine::compact_range`] the whole range counts exactly, but for what snapshots keep.
    ///
    /// # Errors
    /// `Corruption` and `Io` if a table that the range cuts can't be read; `Closed`.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let engine = esker::Engine::open(dir.path())?;
    /// for i in 0..1_000u16 {
    ///     engine.put(i.to_be_bytes(), "value")?;
    /// }
    /// engine.flush()?;
    /// assert_eq!(engine.approximate_len(..)?, 1_000);
    /// let half = engine.approximate_len(..500u16.to_be_bytes())?;
    /// assert!((450..550).contains(&half), "{half}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn approximate_len(&self, range: impl KeyRange) -> Result<u64> {
        self.default.approximate_len(range)
    }

    /// About how many bytes a range takes: of tables, as stored; of blob files, what their entries refer to; and of memory, what is not flushed yet. Older versions and deletions that are not compacted away count: it is what is taken, not what
    /// would be read.
    ///
    /// An estimate, as [`Engine::approximate_len`] is, and as cheap.
    ///
    /// # Errors
    /// As [`Engine::approximate_len`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let engine = esker::Engine::open(dir.path())?;
    /// for i in 0..1_000u16 {
    ///     engine.put(i.to_be_bytes(), [7; 100])?;
    /// }
    /// engine.flush()?;
    /// assert!((100_000..130_000).contains(&engine.approximate_size(..)?));
    /// assert!((40_000..60_000).contains(&engine.approximate_size(..400u16.to_be_bytes())?));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn approximate_size(&self, range: impl KeyRange) -> Result<u64> {
        self.default.approximate_size(range)
    }

    /// Whether there is no key.
    ///
    /// # Errors
    /// As [`Engine::first`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let engine = esker::Engine::open(dir.path())?;
    /// assert!(engine.is_empty()?);
    /// engine.put("", "")?;
    /// assert!(!engine.is_empty()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_empty(&self) -> Result<bool> {
        self.default.is_empty()
    }

    /// The first key and its value. Keys that were deleted one by one and not compacted away lie in the way; where they are many, calls after the first begin behind them, so that a queue may be emptied from its head.
    ///
    /// # Errors
    /// As [`Engine::get`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let engine = esker::Engine::open(dir.path())?;
    /// assert_eq!(engine.first()?, None);
    /// engine.put("a", "1")?;
    /// engine.put("b", "2")?;
    /// let (key, value) = engine.first()?.unwrap();
    /// assert_eq!((key, value), (b"a"[..].into(), b"1"[..].into()));
    /// assert_eq!(engine.last()?.unwrap().0, b"b");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn first(&self) -> Result<Option<(Slice, Slice)>> {
        self.default.first()
    }

    /// The last key and its value; as [`Engine::first`] from the other end.
    ///
    /// # Errors
    /// As [`Engine::get`].
    pub fn last(&self) -> Result<Option<(Slice, Slice)>> {
        self.default.last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::tests::open_table;

    /// A table in quarantine counts where the range does not cut it: its file is not asked.
    #[test]
    fn a_table_within_the_range_is_not_looked_into() {
        let open = open_table(1, b"b", b"d");
        let bounds = |lower: Bound<&[u8]>, upper: Bound<&[u8]>| Bounds::new(lower, upper);
        let all = [
            (Bound::Unbounded, Bound::Unbounded),
            (Bound::Included(&b"b"[..]), Bound::Included(&b"d"[..])),
            (Bound::Excluded(&b"a"[..]), Bound::Excluded(&b"e"[..])),
        ];
        for (lower, upper) in all {
            assert_eq!(Span::of(&bounds(lower, upper)).of_table(&open).unwrap(), 1.0, "{lower:?} {upper:?}");
        }
        let none = [(Bound::Excluded(&b"d"[..]), Bound::Unbounded), (Bound::Unbounded, Bound::Excluded(&b"b"[..]))];
        for (lower, upper) in none {
            assert_eq!(Span::of(&bounds(lower, upper)).of_table(&open).unwrap(), 0.0, "{lower:?} {upper:?}");
        }
        assert!(Span::of(&bounds(Bound::Unbounded, Bound::Included(b"c"))).of_table(&open).is_err());
        assert!(Span::of(&bounds(Bound::Excluded(b"b"), Bound::Unbounded)).of_table(&open).is_err());
    }
}
