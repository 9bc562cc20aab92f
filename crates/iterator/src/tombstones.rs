//! Range tombstones in a form in which they can be looked up.
//!
//! ```text
//!   given       [a ------- m)#3      [f ------------ t)#7
//!   fragments   [a -- f)#3           [f ------------ t)#7       cut where others begin and end; over one another, the newest is left
//! ```
//! Fragments do not overlap, so one is found by key in a binary search. Those of which each reader sees all or none may be cut against one another: then what is newest for one reader is so for
//! all, and there are at most twice as many as were given. Where readers may be in between, tombstones are kept in several [`Fragments`]: [layers](RangeTombstones).
//!
//! For scans a look-up answers with a [`Stretch`]: how far, to both sides, the answer is the same. As long as a scan stays in it, nothing is looked up.

use esker_format::{KEY_BYTES_MAX, SeqNo};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::fmt;
use std::sync::Arc;

/// A deletion of the user keys from `begin` on, up to `end`, which is not among them; an empty `end` is no end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RangeTombstone<'a> {
    /// The first key that is gone.
    pub begin: &'a [u8],
    /// The first key behind that is not; empty: there is none.
    pub end: &'a [u8],
    /// When it was deleted: what is newer stays.
    pub seq: SeqNo,
}

impl RangeTombstone<'_> {
    /// Whether it holds no key.
    pub fn is_empty(&self) -> bool {
        !self.end.is_empty() && self.end <= self.begin
    }

    /// Whether `user_key` lies in it.
    pub fn covers(&self, user_key: &[u8]) -> bool {
        self.begin <= user_key && is_before_end(user_key, self.end)
    }

    /// The least key that it may cover; `None` if it begins behind all keys. Where a table ends with the longest key there is, what goes on behind it begins in a place that is no key.
    pub fn first_key(&self) -> Option<Cow<'_, [u8]>> {
        let Some(longest) = self.begin.get(..KEY_BYTES_MAX).filter(|key| key.len() < self.begin.len()) else {
            return Some(Cow::Borrowed(self.begin));
        };
        let last = longest.iter().rposition(|byte| *byte != 0xff)?;
        let mut key = longest[..=last].to_vec();
        key[last] += 1;
        Some(Cow::Owned(key))
    }

    /// A key that none it covers lies behind: the greatest of them if its end is the place right behind a key, else the end, for want of one.
    ///
    /// # Panics
    /// If it has no end.
    pub fn last_key(&self) -> &[u8] {
        assert!(!self.end.is_empty(), "no last key without an end");
        self.end.strip_suffix(&[0]).unwrap_or(self.end)
    }

    /// A copy that owns its keys.
    pub fn to_buf(self) -> RangeTombstoneBuf {
        RangeTombstoneBuf { begin: self.begin.into(), end: self.end.into(), seq: self.seq }
    }
}

impl fmt::Debug for RangeTombstone<'_> {
    /// `[a, m)#3`, or `[a, ..)#3` without an end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, ", self.begin.escape_ascii())?;
        match self.end {
            [] => f.write_str("..")?,
            end => write!(f, "{}", end.escape_ascii())?,
        }
        write!(f, ")#{}", self.seq)
    }
}

/// A [`RangeTombstone`] that owns its keys.
#[derive(Clone, PartialEq, Eq)]
pub struct RangeTombstoneBuf {
    /// The first key that is gone.
    pub begin: Box<[u8]>,
    /// The first key behind that is not; empty: there is none.
    pub end: Box<[u8]>,
    /// When it was deleted.
    pub seq: SeqNo,
}

impl RangeTombstoneBuf {
    /// The borrowed form.
    pub fn as_ref(&self) -> RangeTombstone<'_> {
        RangeTombstone { begin: &self.begin, end: &self.end, seq: self.seq }
    }
}

impl fmt::Debug for RangeTombstoneBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

/// Whether a key lies before an end, of which an empty one is none.
#[inline]
pub fn is_before_end(user_key: &[u8], end: &[u8]) -> bool {
    end.is_empty() || user_key < end
}

/// Which of two ends comes first.
fn cmp_ends(a: &[u8], b: &[u8]) -> Ordering {
    a.is_empty().cmp(&b.is_empty()).then_with(|| a.cmp(b))
}

/// User keys side by side for which a look-up at one sequence number has the same answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch<'a> {
    /// The first of them.
    pub begin: &'a [u8],
    /// The first behind them; empty: there is none.
    pub end: &'a [u8],
    /// The newest tombstone that covers them.
    pub seq: Option<SeqNo>,
}

impl<'a> Stretch<'a> {
    /// All keys, not covered.
    pub const ALL: Self = Self { begin: &[], end: &[], seq: None };

    /// What both hold, with the newer answer.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            begin: self.begin.max(other.begin),
            end: if cmp_ends(self.end, other.end).is_le() { self.end } else { other.end },
            seq: self.seq.max(other.seq),
        }
    }
}

/// Something that knows of a key whether it was deleted with others: the range tombstones of one source.
pub trait Covering: fmt::Debug + Send + Sync {
    /// The stretch around `user_key` as of `at`. It may be shorter than it could be.
    fn stretch(&self, user_key: &[u8], at: SeqNo) -> Stretch<'_>;
}

/// Range tombstones that do not overlap, in order.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fragments {
    /// Begin and end of each, one behind the other.
    keys: Vec<u8>,
    fragments: Vec<Fragment>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fragment {
    at: usize,
    begin_bytes: u32,
    end_bytes: u32,
    seq: SeqNo,
}

impl Fragments {
    /// Cuts tombstones against one another: of those that cover a key, the newest is left. All must be seen by the same readers.
    ///
    /// ```
    /// use esker_format::SeqNo;
    /// use esker_iterator::{Fragments, RangeTombstone};
    /// let given = [(b"a", b"m", 3), (b"f", b"t", 7)].map(|(begin, end, seq)| RangeTombstone { begin, end, seq: SeqNo(seq) });
    /// let fragments = Fragments::cut(given);
    /// assert_eq!(format!("{:?}", fragments), "[[a, f)#3, [f, t)#7]");
    /// ```
    pub fn cut<'a>(tombstones: impl IntoIterator<Item = RangeTombstone<'a>>) -> Self {
        let mut given: Vec<RangeTombstone<'a>> = tombstones.into_iter().filter(|t| !t.is_empty()).collect();
        given.sort_by(|a, b| a.begin.cmp(b.begin).then(b.seq.cmp(&a.seq)));
        let mut cuts: Vec<&[u8]> = given.iter().flat_map(|t| [t.begin, t.end]).collect();
        // An empty end is none, and the cut at an empty begin is the first anyway.
        cuts.sort_unstable();
        cuts.dedup();
        let mut out = Self::default();
        let mut coming = given.iter().peekable();
        // Those that have begun, the newest first; ended ones are thrown out when they come up.
        let mut under: BinaryHeap<(SeqNo, &[u8])> = BinaryHeap::new();
        let mut last: Option<RangeTombstone<'a>> = None;
        for (i, &begin) in cuts.iter().enumerate() {
            while let Some(tombstone) = coming.next_if(|t| t.begin == begin) {
                under.push((tombstone.seq, tombstone.end));
            }
            while under.peek().is_some_and(|(_, end)| !is_before_end(begin, end)) {
                under.pop();
            }
            let Some((seq, _)) = under.peek().copied() else { continue };
            let end = cuts.get(i + 1).copied().unwrap_or_default();
            match &mut last {
                Some(last) if last.seq == seq && last.end == begin => last.end = end,
                _ => out.extend(last.replace(RangeTombstone { begin, end, seq })),
            }
        }
        out.extend(last);
        out
    }

    /// Appends one that lies behind all there are; `false` if it holds no key or does not.
    #[must_use]
    pub fn push(&mut self, tombstone: RangeTombstone<'_>) -> bool {
        let is_behind = match self.fragments.len() {
            0 => true,
            len => !is_before_end(tombstone.begin, self.get(len - 1).end),
        };
        let lens = (u32::try_from(tombstone.begin.len()), u32::try_from(tombstone.end.len()));
        let (true, false, (Ok(begin_bytes), Ok(end_bytes))) = (is_behind, tombstone.is_empty(), lens) else {
            return false;
        };
        self.fragments.push(Fragment { at: self.keys.len(), begin_bytes, end_bytes, seq: tombstone.seq });
        self.keys.extend_from_slice(tombstone.begin);
        self.keys.extend_from_slice(tombstone.end);
        true
    }

    fn extend(&mut self, tombstone: Option<RangeTombstone<'_>>) {
        if let Some(tombstone) = tombstone {
            let pushed = self.push(tombstone);
            debug_assert!(pushed, "fragments come in order");
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.fragments.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.fragments.is_empty()
    }

    /// The one at `index`.
    ///
    /// # Panics
    /// If there is none.
    #[inline]
    pub fn get(&self, index: usize) -> RangeTombstone<'_> {
        let Fragment { at, begin_bytes, end_bytes, seq } = self.fragments[index];
        let (begin, end) = self.keys[at..][..begin_bytes as usize + end_bytes as usize].split_at(begin_bytes as usize);
        RangeTombstone { begin, end, seq }
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = RangeTombstone<'_>> + ExactSizeIterator {
        (0..self.len()).map(|i| self.get(i))
    }

    /// Bytes of memory behind it.
    pub fn heap_bytes(&self) -> usize {
        self.keys.capacity() + self.fragments.capacity() * size_of::<Fragment>()
    }

    /// How many begin at or before `user_key`.
    #[inline]
    fn begun(&self, user_key: &[u8]) -> usize {
        self.fragments
            .partition_point(|fragment| self.keys[fragment.at..][..fragment.begin_bytes as usize] <= *user_key)
    }

    /// The sequence number of the one that covers `user_key`.
    #[inline]
    pub fn covering(&self, user_key: &[u8]) -> Option<SeqNo> {
        let last = self.get(self.begun(user_key).checked_sub(1)?);
        is_before_end(user_key, last.end).then_some(last.seq)
    }

    /// As [`Covering::stretch`], whose trait this type has not, since it knows of no readers: the answer is that of one who sees all.
    pub fn stretch(&self, user_key: &[u8]) -> Stretch<'_> {
        let begun = self.begun(user_key);
        let end = if begun < self.len() { self.get(begun).begin } else { &[] };
        let Some(last) = begun.checked_sub(1).map(|i| self.get(i)) else {
            return Stretch { begin: &[], end, seq: None };
        };
        match is_before_end(user_key, last.end) {
            true => Stretch { begin: last.begin, end: last.end, seq: Some(last.seq) },
            false => Stretch { begin: last.end, end, seq: None },
        }
    }
}

impl fmt::Debug for Fragments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The range tombstones of one source: layers that may lie over one another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RangeTombstones {
    layers: Vec<Arc<Fragments>>,
}

impl RangeTombstones {
    /// Of these layers, in any order.
    pub fn new(layers: Vec<Arc<Fragments>>) -> Self {
        Self { layers }
    }

    /// The layers.
    pub fn layers(&self) -> &[Arc<Fragments>] {
        &self.layers
    }

    /// Every fragment of every layer.
    pub fn iter(&self) -> impl Iterator<Item = RangeTombstone<'_>> {
        self.layers.iter().flat_map(|layer| layer.iter())
    }

    /// How many fragments there are.
    pub fn len(&self) -> usize {
        self.layers.iter().map(|layer| layer.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the first begins and the last ends; `None` if there are none.
    pub fn hull(&self) -> Option<(&[u8], &[u8])> {
        let hulls = self.layers.iter().filter(|layer| !layer.is_empty());
        let hulls = hulls.map(|layer| (layer.get(0).begin, layer.get(layer.len() - 1).end));
        hulls.reduce(|a, b| (a.0.min(b.0), if cmp_ends(a.1, b.1).is_ge() { a.1 } else { b.1 }))
    }

    /// The newest tombstone that covers `user_key`, as of `at`.
    pub fn newest_covering(&self, user_key: &[u8], at: SeqNo) -> Option<SeqNo> {
        let seen = |layer: &Arc<Fragments>| layer.covering(user_key).filter(|seq| *seq <= at);
        self.layers.iter().filter_map(seen).max()
    }

    /// Bytes of memory behind it.
    pub fn heap_bytes(&self) -> usize {
        self.layers.iter().map(|layer| size_of::<Fragments>() + layer.heap_bytes()).sum()
    }
}

impl Covering for RangeTombstones {
    fn stretch(&self, user_key: &[u8], at: SeqNo) -> Stretch<'_> {
        let seen = |stretch: Stretch<'_>| stretch.seq.filter(|seq| *seq <= at);
        let stretches = self.layers.iter().map(|layer| layer.stretch(user_key));
        stretches.fold(Stretch::ALL, |all, stretch| all.and(Stretch { seq: seen(stretch), ..stretch }))
    }
}

/// The range tombstones of a sorted run: of sources in the order of their keys, whose tombstones do not overlap those of another.
#[derive(Debug, Clone, Default)]
pub struct TombstoneRun {
    sources: Vec<Arc<RangeTombstones>>,
}

impl TombstoneRun {
    /// Of these sources, none without a tombstone, in the order of their keys.
    pub fn new(sources: Vec<Arc<RangeTombstones>>) -> Self {
        debug_assert!(sources.iter().all(|source| !source.is_empty()));
        Self { sources }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }
}

impl Covering for TombstoneRun {
    fn stretch(&self, user_key: &[u8], at: SeqNo) -> Stretch<'_> {
        let hull = |i: usize| self.sources.get(i).and_then(|source| source.hull());
        let begun = self.sources.partition_point(|source| source.hull().is_some_and(|(begin, _)| begin <= user_key));
        let end = hull(begun).map_or(&[][..], |(begin, _)| begin);
        match begun.checked_sub(1).and_then(|last| Some((last, hull(last)?.1))) {
            None => Stretch { end, ..Stretch::ALL },
            Some((_, begin)) if !is_before_end(user_key, begin) => Stretch { begin, end, seq: None },
            Some((last, hull_end)) => {
                self.sources[last].stretch(user_key, at).and(Stretch { end: hull_end, ..Stretch::ALL })
            }
        }
    }
}

#[cfg(test)]
mod tests;
