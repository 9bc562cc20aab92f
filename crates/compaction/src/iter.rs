//! What of a merged stream is still needed: the rules of dropping, and nothing else.
//!
//! ```text
//! one user key, newest first            snapshots 4 and 7, horizon 9
//!
//!  #12 #11 | #9 #8 | #7 #5 | #3 #2       stripes end at 9, 7, 4
//!   k   k     k  x    k  x    k  x       k keep, x drop
//!   above     newest of each stripe
//! ```
//! - A *stripe* reaches from one snapshot (not included) to the next (included); the last one ends at the horizon. A reader sees of each key the newest
//!   version at or below its sequence number, so all readers of a stripe's end need the newest version within it, and nobody needs
//!   the others.
//! - Above the horizon nothing is judged: readers may begin there while the job runs.
//! - Versions that a range tombstone of their stripe hides go with those that a newer version hides (`ranges`).
//! - Of a stripe whose newest version is a merge operand, those down to the first that is none are needed, and folded if there is an operator (`iter/fold.rs`).
//! - A tombstone goes if it lies in the oldest stripe and nothing older of its key can lie outside the inputs. What it hides goes with it.
//! - What has expired for all who may read it is a tombstone (`expiry`).

mod fold;

use crate::changed::Changed;
use crate::expiry::{Gone, Times};
use crate::ranges::{Ranges, Stripes, Written};
use crate::values::BlobConfig;
use esker_format::{InternalKey, SeqNo, Trailer, ValueKind};
use esker_iterator::{InternalIterator, RangeTombstone};
use fold::Fold;

/// The entries of `inner` that are still needed, in order. Walks forward only, and copies nothing but one user key at a time, into a buffer that is kept.
///
/// ```
/// use esker_compaction::CompactionIter;
/// use esker_format::{InternalKey, SeqNo, ValueKind};
/// use esker_iterator::VecIterator;
///
/// let entry = |key: &str, seq, kind, value: &str| {
///     (InternalKey::new(key.as_bytes(), SeqNo(seq), kind).to_buf(), value.as_bytes().to_vec())
/// };
/// let entries = vec![
///     entry("a", 9, ValueKind::Delete, ""),
///     entry("a", 3, ValueKind::Put, "old"),
///     entry("b", 5, ValueKind::Put, "new"),
/// ];
/// let mut iter = CompactionIter::new(VecIterator::new(entries), &[], SeqNo(9), |_| false);
/// iter.seek_to_first()?;
/// assert_eq!(format!("{:?}", iter.key()), "b#5,PUT");
/// iter.next()?;
/// assert!(!iter.valid());
/// # Ok::<(), std::convert::Infallible>(())
/// ```
#[derive(Debug)]
pub struct CompactionIter<I, K> {
    inner: I,
    keep_tombstone: K,
    stripes: Stripes,
    ranges: Ranges,
    has_ranges: bool,
    gone: Gone,
    user_key: Vec<u8>,
    /// The last bytes of `user_key`, which nearly always say that the next one is another.
    tail: u64,
    /// The stripe of the key's version that came last; [`NO_STRIPE`] if that was above the horizon, or there was none.
    stripe: SeqNo,
    starts_user_key: bool,
    /// What is shown in place of trailer and value of `inner`.
    changed: Option<Changed>,
    /// Whether `inner` has gone past what `changed` was made of, to an entry that was not judged yet.
    is_ahead: bool,
    /// Where there is a merge operator.
    fold: Option<Box<Fold>>,
    counts: Counts,
}

/// No stripe ends here.
const NO_STRIPE: SeqNo = SeqNo(u64::MAX);

/// What becomes of an entry.
enum Verdict {
    Keep,
    Drop,
    /// It is an operand, with which a fold begins.
    Fold,
}

/// What came in and what was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Entries read.
    pub entries_in: u64,
    /// Versions left out because a newer one, or a range tombstone, in their stripe hides them.
    pub hidden: u64,
    /// Tombstones, and versions that had expired or were removed by a filter, left out because nothing is left for them to hide.
    pub tombstones: u64,
    /// Versions that had expired: left out, or made tombstones of.
    pub expired: u64,
    /// By how many there are fewer since merge operands were folded.
    pub folded: u64,
    /// Stacks of merge operands, each of one key, that were kept as they are because the operator failed.
    pub not_folded: u64,
    /// Versions that a filter had removed or replaced.
    pub filtered: u64,
}

impl<I: InternalIterator, K: FnMut(&[u8]) -> bool> CompactionIter<I, K> {
    /// Judges the entries of `inner`.
    ///
    /// `snapshots`, ascending, are all sequence numbers at or below `horizon` that a reader may hold; new readers come in at `horizon` or above.
    /// `keep_tombstone` tells whether something older of a user key may lie outside `inner`; it is asked with keys in ascending order.
    pub fn new(inner: I, snapshots: &[SeqNo], horizon: SeqNo, keep_tombstone: K) -> Self {
        Self {
            inner,
            keep_tombstone,
            stripes: Stripes::new(snapshots, horizon),
            ranges: Ranges::default(),
            has_ranges: false,
            gone: Gone::default(),
            user_key: Vec::new(),
            tail: 0,
            stripe: NO_STRIPE,
            starts_user_key: false,
            changed: None,
            is_ahead: false,
            fold: None,
            counts: Counts::default(),
        }
    }

    /// The same, with range tombstones that hide entries, and are written with them by [`write_tables`](crate::write_tables), each of which must have an end. `keep` tells whether something older may lie outside `inner` between
    /// their begin and their end.
    #[must_use]
    pub fn with_range_tombstones<'a>(
        self,
        tombstones: impl IntoIterator<Item = RangeTombstone<'a>>,
        keep: impl FnMut(RangeTombstone<'_>) -> bool,
    ) -> Self {
        let ranges = Ranges::new(tombstones, &self.stripes, keep);
        self.with_ranges(ranges)
    }

    /// The same, of entries of which some may have expired. `snapshots` and `horizon` are those that it was made with.
    #[must_use]
    pub fn as_of(self, snapshots: &[SeqNo], horizon: SeqNo, times: Times<'_>) -> Self {
        Self { gone: Gone::new(snapshots, horizon, times), ..self }
    }

    pub(crate) fn with_ranges(self, ranges: Ranges) -> Self {
        Self { has_ranges: !ranges.is_empty(), ranges, ..self }
    }

    /// The range tombstones to write.
    pub(crate) fn take_written(&mut self) -> Written {
        self.ranges.take_written()
    }

    /// Whether there is an entry.
    #[inline]
    pub fn valid(&self) -> bool {
        self.changed.is_some() || self.inner.valid()
    }

    /// Moves to the first entry that is needed. To be called once, first.
    ///
    /// # Errors
    /// Those of the inner iterator; they stick.
    pub fn seek_to_first(&mut self) -> Result<(), I::Error> {
        self.start()?;
        self.skip_all_unneeded()
    }

    /// Moves to the next entry that is needed.
    ///
    /// # Errors
    /// Those of the inner iterator; they stick.
    ///
    /// # Panics
    /// If the iterator is not valid and has no error to return.
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "a cursor that lends its entries, named as the inner one is")]
    pub fn next(&mut self) -> Result<(), I::Error> {
        self.step()?;
        self.skip_all_unneeded()
    }

    /// The entry's key.
    ///
    /// # Panics
    /// If the iterator is not valid.
    #[inline]
    pub fn key(&self) -> InternalKey<'_> {
        match &self.changed {
            Some(changed) => InternalKey { user_key: &self.user_key, trailer: changed.trailer },
            None => self.inner.key(),
        }
    }

    /// The entry's value.
    ///
    /// # Panics
    /// If the iterator is not valid.
    #[inline]
    pub fn value(&self) -> &[u8] {
        match &self.changed {
            Some(changed) => &changed.value,
            None => self.inner.value(),
        }
    }

    /// Whether this is the first entry of its user key to come out: only here may a table end.
    #[inline]
    pub fn starts_user_key(&self) -> bool {
        self.starts_user_key
    }

    /// What came in and what was left out so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether the entry at hand is the newest of its user key, among those that came in, and no snapshot sees it.
    pub(crate) fn is_newest_and_unheld(&self) -> bool {
        self.starts_user_key && self.stripes.is_last_and_unheld(self.key().trailer.seq())
    }

    /// Has something else come out in the place of the entry at hand.
    pub(crate) fn change(&mut self, changed: Changed) {
        self.counts.filtered += 1;
        self.changed = Some(changed);
    }

    /// Makes a tombstone of the entry at hand; `false` if there is nothing for it to hide, so that it can be left out.
    pub(crate) fn bury(&mut self) -> bool {
        let seq = self.key().trailer.seq();
        let oldest = self.stripes.oldest();
        if seq <= oldest && !(self.keep_tombstone)(&self.user_key) {
            self.counts.filtered += 1;
            self.counts.tombstones += 1;
            return false;
        }
        self.change(Changed { trailer: Trailer::new(seq, ValueKind::Delete), value: Vec::new() });
        true
    }

    /// Moves to the first entry, needed or not; [`Self::skip_unneeded`] must follow.
    pub(crate) fn start(&mut self) -> Result<(), I::Error> {
        self.inner.seek_to_first()?;
        if self.inner.valid() {
            // Whatever the first key is, it is another one.
            self.tail = !tail_of(self.inner.key().user_key);
        }
        Ok(())
    }

    /// Moves to the next entry, needed or not; [`Self::skip_unneeded`] must follow.
    #[inline]
    pub(crate) fn step(&mut self) -> Result<(), I::Error> {
        self.starts_user_key = false;
        if self.changed.is_some() { self.step_changed() } else { self.inner.next() }
    }

    #[inline(never)]
    fn step_changed(&mut self) -> Result<(), I::Error> {
        if self.is_ahead {
            self.step_folded();
            return Ok(());
        }
        self.changed = None;
        self.inner.next()
    }

    /// Moves on to an entry that is needed, or to the end; `false` if neither was met within `limit` entries: then it must be called
    /// again. A fold reads what lies in `blobs`.
    #[inline]
    pub(crate) fn skip_unneeded(&mut self, limit: u32, blobs: Option<&BlobConfig<'_>>) -> Result<bool, I::Error> {
        let mut left = limit;
        if self.is_ahead {
            return Ok(true);
        }
        while self.inner.valid() {
            if left == 0 {
                return Ok(false);
            }
            match self.judge() {
                Verdict::Keep => return Ok(true),
                Verdict::Drop => {}
                Verdict::Fold => {
                    self.fold(blobs)?;
                    return Ok(true);
                }
            }
            self.inner.next()?;
            left -= 1;
        }
        Ok(true)
    }

    #[inline]
    fn skip_all_unneeded(&mut self) -> Result<(), I::Error> {
        while !self.skip_unneeded(u32::MAX, None)? {}
        Ok(())
    }

    /// Judges the entry that `inner` stands on.
    #[inline]
    fn judge(&mut self) -> Verdict {
        let InternalKey { user_key, trailer } = self.inner.key();
        self.counts.entries_in += 1;
        let tail = tail_of(user_key);
        if self.tail != tail || self.user_key != user_key {
            self.user_key.clear();
            self.user_key.extend_from_slice(user_key);
            self.tail = tail;
            self.stripe = NO_STRIPE;
            self.starts_user_key = true;
        }
        let seq = trailer.seq();
        let oldest = self.stripes.oldest();
        let stripe = match seq <= oldest {
            true => oldest,
            false => match self.stripes.above_oldest(seq) {
                Some(stripe) => stripe,
                None => return Verdict::Keep,
            },
        };
        if self.stripe == stripe {
            self.counts.hidden += 1;
            return Verdict::Drop;
        }
        self.stripe = stripe;
        if self.has_ranges && self.ranges.hide(&self.user_key, seq, stripe) {
            self.counts.hidden += 1;
            return Verdict::Drop;
        }
        if trailer.is_value() { Verdict::Keep } else { self.judge_other(trailer, stripe) }
    }

    /// Judges the entry that `inner` stands on, the newest of its stripe, and no plain value.
    #[inline(never)]
    fn judge_other(&mut self, trailer: Trailer, stripe: SeqNo) -> Verdict {
        if trailer.is(ValueKind::Merge) { self.judge_operand() } else { self.judge_what_may_go(trailer, stripe) }
    }

    /// A tombstone, or one that expires.
    fn judge_what_may_go(&mut self, trailer: Trailer, stripe: SeqNo) -> Verdict {
        let has_expired = trailer.kind().expires() && self.gone.has(self.inner.value(), stripe, &self.stripes);
        if !has_expired && trailer.kind() != ValueKind::Delete {
            return Verdict::Keep;
        }
        self.counts.expired += u64::from(has_expired);
        if stripe == self.stripes.oldest() && !(self.keep_tombstone)(&self.user_key) {
            self.counts.tombstones += 1;
            return Verdict::Drop;
        }
        if has_expired {
            self.changed = Some(Changed { trailer: Trailer::new(trailer.seq(), ValueKind::Delete), value: Vec::new() });
        }
        Verdict::Keep
    }

    /// An operand that is the newest version of its stripe. Without an operator it stays, and what comes next is judged as if it were the newest.
    #[cold]
    fn judge_operand(&mut self) -> Verdict {
        if self.fold.is_some() {
            return Verdict::Fold;
        }
        self.stripe = NO_STRIPE;
        Verdict::Keep
    }
}

/// The last eight bytes of a key, 0 for shorter ones: where keys ascend, neighbours differ at the end.
#[inline]
fn tail_of(user_key: &[u8]) -> u64 {
    user_key.last_chunk().map_or(0, |tail| u64::from_le_bytes(*tail))
}
