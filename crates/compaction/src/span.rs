//! Ranges of user keys, both ends included, and the tables of a level that lie in one.

use esker_format::{common_prefix, head_of};
use esker_manifest::TableMeta;
use std::ops::Bound;
use std::sync::Arc;

/// From `lo` to `hi`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span<'a> {
    pub(crate) lo: &'a [u8],
    pub(crate) hi: &'a [u8],
}

impl<'a> Span<'a> {
    pub(crate) fn of(table: &'a TableMeta) -> Self {
        Self { lo: &table.smallest.user_key, hi: &table.largest.user_key }
    }

    /// The least span that covers all `tables`; `None` if there are none.
    pub(crate) fn hull(tables: impl IntoIterator<Item = &'a Arc<TableMeta>>) -> Option<Self> {
        tables.into_iter().map(|table| Self::of(table)).reduce(Self::join)
    }

    pub(crate) fn join(self, other: Self) -> Self {
        Self { lo: self.lo.min(other.lo), hi: self.hi.max(other.hi) }
    }

    pub(crate) fn overlaps(self, other: Span<'_>) -> bool {
        self.lo <= other.hi && other.lo <= self.hi
    }

    /// Whether a key within the bounds may lie in this span.
    pub(crate) fn meets(self, lower: Bound<&[u8]>, upper: Bound<&[u8]>) -> bool {
        let from = match lower {
            Bound::Included(key) => self.hi >= key,
            Bound::Excluded(key) => self.hi > key,
            Bound::Unbounded => true,
        };
        let to = match upper {
            Bound::Included(key) => self.lo <= key,
            Bound::Excluded(key) => self.lo < key,
            Bound::Unbounded => true,
        };
        from && to
    }
}

impl Span<'_> {
    /// Whether half of its keys lie from `begin` on and before `end`, as far as [`Self::share_in`] knows.
    pub(crate) fn lies_half_in(self, begin: &[u8], end: &[u8]) -> bool {
        self.share_in(begin, end).is_some_and(|(part, all)| u128::from(part) * 2 >= u128::from(all))
    }

    /// So much of `amount` belongs to the keys from `begin` on and before `end`, if all of it is spread over its keys evenly.
    pub(crate) fn part_in(self, begin: &[u8], end: &[u8], amount: u64) -> u64 {
        match self.share_in(begin, end) {
            None => 0,
            // All of its keys are alike in their first bytes, and some lie there.
            Some((_, 0)) => amount,
            Some((part, all)) => (u128::from(amount) * u128::from(part) / u128::from(all)) as u64,
        }
    }

    /// How many of how many places lie from `begin` on and before `end`, if keys lie as evenly as the eight bytes behind what its ends have in common; `None` if none do.
    fn share_in(self, begin: &[u8], end: &[u8]) -> Option<(u64, u64)> {
        if begin > self.hi || end <= self.lo {
            return None;
        }
        let (from, to) = (self.lo.max(begin), self.hi.min(end));
        let shared = common_prefix(self.lo, self.hi);
        let [lo, from, to, hi] = [self.lo, from, to, self.hi].map(|key| head_of(&key[shared..]));
        Some((to - from, hi - lo))
    }
}

/// The tables of a sorted, disjoint level that overlap `span`.
pub(crate) fn overlapping<'v>(level: &'v [Arc<TableMeta>], span: Span<'_>) -> &'v [Arc<TableMeta>] {
    let from = level.partition_point(|table| &*table.largest.user_key < span.lo);
    let len = level[from..].partition_point(|table| &*table.smallest.user_key <= span.hi);
    &level[from..from + len]
}

pub(crate) fn bytes_of(tables: &[Arc<TableMeta>]) -> u64 {
    tables.iter().fold(0, |sum, table| sum.saturating_add(table.file_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_a_span_is_told_by_the_bytes_in_which_its_ends_differ() {
        let span = Span { lo: b"key0", hi: b"key8" };
        let half_in = |begin: &[u8], end: &[u8]| span.lies_half_in(begin, end);
        assert!(
            half_in(b"", b"z") && half_in(b"key0", b"key4") && half_in(b"key4", b"key9") && half_in(b"key2", b"key6")
        );
        assert!(
            !half_in(b"key0", b"key3") && !half_in(b"key5", b"z") && !half_in(b"key8\0", b"z") && !half_in(b"a", b"b")
        );
        assert_eq!(span.part_in(b"key2", b"key6", 80), 40);
        assert_eq!((span.part_in(b"", b"z", 80), span.part_in(b"key9", b"z", 80)), (80, 0));
        let one = Span { lo: b"k", hi: b"k" };
        assert_eq!((one.part_in(b"k", b"l", 80), one.part_in(b"l", b"m", 80)), (80, 0));
        assert!(one.lies_half_in(b"k", b"l") && !one.lies_half_in(b"j", b"k") && !one.lies_half_in(b"l", b"m"));
    }

    #[test]
    fn a_span_meets_bounds_that_may_hold_one_of_its_keys() {
        let span = Span { lo: b"c", hi: b"e" };
        let meets = |lower, upper| span.meets(lower, upper);
        let (in_c, ex_c) = (Bound::Included(&b"c"[..]), Bound::Excluded(&b"c"[..]));
        let (in_e, ex_e) = (Bound::Included(&b"e"[..]), Bound::Excluded(&b"e"[..]));
        assert!(meets(Bound::Unbounded, Bound::Unbounded));
        assert!(meets(in_e, Bound::Unbounded) && !meets(ex_e, Bound::Unbounded));
        assert!(meets(Bound::Unbounded, in_c) && !meets(Bound::Unbounded, ex_c));
        assert!(meets(ex_c, ex_e) && meets(in_c, in_c) && meets(in_e, in_e));
    }
}
