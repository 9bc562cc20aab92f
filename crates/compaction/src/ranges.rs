//! What the range tombstones of a job's inputs hide, and what of them is written again.
//!
//! ```text
//! snapshot 4, horizon 9        stripe 9   [c ------ m)#8            hides versions #5 to #7 of c to m
//!                              stripe 4   [a -- f)#3   [k -- t)#2   hides versions older than #3, and #2
//! outputs                      a . . . e | f . . k | m . . .        each takes along what lies in its part of the keys
//! ```
//! - Between two snapshots there is no reader, so the tombstones of a [stripe](crate::CompactionIter) are cut against one another, and of those over one another the newest is left: of `n` that came in, at most twice as many go out.
//! - A version is hidden by a newer tombstone of its own stripe alone.
//! - A tombstone goes if it lies in the oldest stripe and nothing older that it covers can lie outside the inputs. What it hides goes with it.
//! - Outputs end right behind their last key, so the place where tombstones are cut apart is one that both sides can name, and no two tables cover a key.

use esker_format::SeqNo;
use esker_iterator::{Fragments, RangeTombstone, is_before_end};
use esker_manifest::TableMeta;
use std::collections::BTreeMap;

/// Where stripes end, ascending; the last one is the horizon.
#[derive(Debug)]
pub(crate) struct Stripes {
    ends: Vec<SeqNo>,
    /// The newest snapshot.
    held: Option<SeqNo>,
}

impl Stripes {
    pub(crate) fn new(snapshots: &[SeqNo], horizon: SeqNo) -> Self {
        debug_assert!(snapshots.is_sorted());
        let below = snapshots.iter().copied().filter(|&snapshot| snapshot < horizon);
        Self { ends: below.chain([horizon]).collect(), held: snapshots.last().copied() }
    }

    /// Which one, the oldest being 0, ends at `end`.
    pub(crate) fn nth(&self, end: SeqNo) -> usize {
        self.ends.partition_point(|&other| other < end)
    }

    /// The end of the oldest.
    #[inline]
    pub(crate) fn oldest(&self) -> SeqNo {
        self.ends[0]
    }

    /// The end of the one that `seq` lies in; `None` above the horizon.
    pub(crate) fn of(&self, seq: SeqNo) -> Option<SeqNo> {
        if seq <= self.oldest() { Some(self.oldest()) } else { self.above_oldest(seq) }
    }

    /// Whether `seq` is newer than every snapshot, and no newer than the horizon.
    pub(crate) fn is_last_and_unheld(&self, seq: SeqNo) -> bool {
        self.held.is_none_or(|held| seq > held) && self.ends.last().is_some_and(|horizon| seq <= *horizon)
    }

    pub(crate) fn above_oldest(&self, seq: SeqNo) -> Option<SeqNo> {
        let at = self.ends.partition_point(|&end| end < seq);
        self.ends.get(at).copied()
    }
}

/// The range tombstones of one stripe.
#[derive(Debug)]
struct Stripe {
    /// Where the stripe ends; above the horizon, the number of the one tombstone.
    end: SeqNo,
    fragments: Fragments,
    /// How many end at or before the key that was asked for last.
    passed: usize,
}

/// The range tombstones of all inputs.
#[derive(Debug, Default)]
pub(crate) struct Ranges {
    /// The newest first.
    stripes: Vec<Stripe>,
    written: Written,
}

impl Ranges {
    /// Sorts tombstones by stripes. `keep` tells whether something older than the inputs may lie between begin and end.
    pub(crate) fn new<'a>(
        tombstones: impl IntoIterator<Item = RangeTombstone<'a>>,
        stripes: &Stripes,
        mut keep: impl FnMut(RangeTombstone<'_>) -> bool,
    ) -> Self {
        let mut by_stripe: BTreeMap<SeqNo, Vec<RangeTombstone<'a>>> = BTreeMap::new();
        for tombstone in tombstones {
            // Readers may begin anywhere above the horizon.
            by_stripe.entry(stripes.of(tombstone.seq).unwrap_or(tombstone.seq)).or_default().push(tombstone);
        }
        let stripe = |(end, of): (SeqNo, Vec<_>)| Stripe { end, fragments: Fragments::cut(of), passed: 0 };
        let found: Vec<Stripe> = by_stripe.into_iter().rev().map(stripe).collect();
        let kept = found.iter().map(|stripe| {
            let mut kept = Fragments::default();
            for fragment in stripe.fragments.iter() {
                if stripe.end > stripes.oldest() || keep(fragment) {
                    let pushed = kept.push(fragment);
                    debug_assert!(pushed, "they were in order");
                }
            }
            (kept, 0)
        });
        let written = Written { layers: kept.filter(|(layer, _)| !layer.is_empty()).collect(), low: Vec::new() };
        Self { written, stripes: found }
    }

    /// Whether a version is hidden, of a stripe that ends at `stripe`. To be asked with ascending keys.
    #[inline(never)]
    pub(crate) fn hide(&mut self, user_key: &[u8], seq: SeqNo, stripe: SeqNo) -> bool {
        let Some(stripe) = self.stripes.iter_mut().find(|other| other.end == stripe) else { return false };
        while stripe.passed < stripe.fragments.len() {
            let fragment = stripe.fragments.get(stripe.passed);
            if is_before_end(user_key, fragment.end) {
                return fragment.begin <= user_key && fragment.seq > seq;
            }
            stripe.passed += 1;
        }
        false
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.stripes.is_empty()
    }

    /// Whether nothing that is in a table is needed: all of it lies in one stripe, and newer tombstones of that stripe cover its keys from the first to the last.
    pub(crate) fn hide_all_of(&self, table: &TableMeta, stripes: &Stripes) -> bool {
        let stripe = stripes.of(table.smallest_seq).filter(|stripe| stripes.of(table.largest_seq) == Some(*stripe));
        let Some(stripe) = self.stripes.iter().find(|other| Some(other.end) == stripe) else { return false };
        let (mut from, last) = (&*table.smallest.user_key, &*table.largest.user_key);
        loop {
            let here = stripe.fragments.stretch(from);
            if here.seq.is_none_or(|seq| seq <= table.largest_seq) {
                return false;
            }
            if is_before_end(last, here.end) {
                return true;
            }
            from = here.end;
        }
    }

    /// What is to be written, once.
    pub(crate) fn take_written(&mut self) -> Written {
        std::mem::take(&mut self.written)
    }
}

/// What of the tombstones is still to be written, while outputs take what is theirs.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// The newest first, and how many of each lie before `low` as a whole.
    layers: Vec<(Fragments, usize)>,
    /// Where the outputs so far end.
    low: Vec<u8>,
}

impl Written {
    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.layers.iter().all(|(layer, passed)| *passed == layer.len())
    }

    /// What lies in the part of the keys that an output has which ends with `last`, or takes all that is left. By layers, the newest first, none of them empty.
    pub(crate) fn take(&mut self, last: Option<&[u8]>) -> Vec<Fragments> {
        // The place right behind the key. Nothing is behind all places.
        let high = last.map_or_else(Vec::new, |last| [last, &[0]].concat());
        let low = std::mem::replace(&mut self.low, high.clone());
        let taken = self.layers.iter_mut().map(|(layer, passed)| {
            let mut taken = Fragments::default();
            while *passed < layer.len() {
                let fragment = layer.get(*passed);
                let begin = fragment.begin.max(&low);
                if !is_before_end(begin, &high) {
                    break;
                }
                let ends_here = high.is_empty() || !fragment.end.is_empty() && fragment.end <= &high[..];
                let part = RangeTombstone { begin, end: if ends_here { fragment.end } else { &high }, ..fragment };
                // Behind the longest key of all bytes there is no other key.
                if part.first_key().is_some() {
                    let _ = taken.push(part);
                }
                if !ends_here {
                    break;
                }
                *passed += 1;
            }
            taken
        });
        taken.filter(|layer| !layer.is_empty()).collect()
    }
}
