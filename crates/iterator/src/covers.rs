//! What the range tombstones of a merge's sources hide: the state that a [`VisibleIterator`](crate::VisibleIterator) has where there are any.
//!
//! ```text
//!   source 0    a . . . . q . .          its entries are newer than all of source 1's, tombstones included
//!   source 1    . [c ------- p) .        hides what it holds older itself, and all of source 2
//!   source 2    a b d e f o q r
//!   stretches   -|-----------|---
//! ```
//! A scan is always in one stretch, within which the same tombstone hides all that is older, or none hides anything. It has a begin and an end, which narrow the bounds of the scan, so that
//! within the stretch a step costs what it costs without tombstones; past its end the next one is looked up. The sources that are older than the one whose tombstone covers the stretch hold nothing in it that
//! can be seen: they are moved past it as soon as one of their entries comes up.

use crate::tombstones::{Covering, Stretch};
use crate::{Bounds, InternalIterator};
use esker_format::{InternalKey, KEY_BYTES_MAX, SeqNo};
use std::ops::Bound;
use std::sync::Arc;

/// No user key is greater.
pub(crate) static GREATEST_KEY: [u8; KEY_BYTES_MAX] = [0xff; KEY_BYTES_MAX];

/// The range tombstones of the sources of a merge.
#[derive(Debug, Default)]
pub struct Covers {
    /// The newest source first: how many sources of the merge are as new as it, or newer; and its tombstones.
    sources: Vec<(usize, Arc<dyn Covering>)>,
    /// What the scan keeps to, tombstones or not.
    pub(crate) bounds: Bounds,
    /// Whether the present stretch is covered: then sources from this one on show nothing in it.
    is_covered: bool,
    newer: usize,
    begin: Vec<u8>,
    end: Vec<u8>,
}

impl Covers {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the tombstones of a source, older than those added before; `newer` sources of the merge, itself included, are not older than it.
    pub fn push(&mut self, newer: usize, tombstones: Arc<dyn Covering>) {
        debug_assert!(self.sources.last().is_none_or(|(last, _)| *last <= newer), "the newest source comes first");
        self.sources.push((newer, tombstones));
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Goes to the stretch around `user_key`: narrows `within` to the part of the bounds that lies in it, and tells the least sequence number that is seen there.
    pub(crate) fn enter(&mut self, user_key: &[u8], at: SeqNo, within: &mut Bounds) -> SeqNo {
        let mut here = Stretch::ALL;
        for (newer, source) in &self.sources {
            here = here.and(source.stretch(user_key, at));
            if here.seq.is_some() {
                self.newer = *newer;
                break;
            }
        }
        self.is_covered = here.seq.is_some();
        debug_assert!(here.begin <= user_key && crate::is_before_end(user_key, here.end));
        copy(&mut self.begin, here.begin);
        copy(&mut self.end, here.end);
        // The end of a stretch lies within the bounds if the key before it does and the bound is not nearer.
        let lower = match borrowed(&self.bounds.lower) {
            Bound::Included(lower) if lower >= here.begin => Bound::Included(lower),
            Bound::Excluded(lower) if lower >= here.begin => Bound::Excluded(lower),
            Bound::Unbounded if here.begin.is_empty() => Bound::Unbounded,
            _ => Bound::Included(here.begin),
        };
        let upper = match borrowed(&self.bounds.upper) {
            Bound::Included(upper) if !here.end.is_empty() && upper >= here.end => Bound::Excluded(here.end),
            Bound::Excluded(upper) if !here.end.is_empty() && upper > here.end => Bound::Excluded(here.end),
            Bound::Unbounded if !here.end.is_empty() => Bound::Excluded(here.end),
            upper => upper,
        };
        set(&mut within.lower, lower);
        set(&mut within.upper, upper);
        here.seq.map_or(SeqNo::ZERO, SeqNo::next)
    }

    /// Seeks; what is hidden in the present stretch, in which `target` lies, is not even looked for.
    pub(crate) fn seek<I: InternalIterator>(&self, inner: &mut I, target: InternalKey<'_>) -> Result<(), I::Error> {
        if self.is_covered { inner.seek_over(target, self.newer, self.behind()) } else { inner.seek(target) }
    }

    /// As [`Self::seek`], to the last entry at or before `target`.
    pub(crate) fn seek_for_prev<I: InternalIterator>(
        &self,
        inner: &mut I,
        target: InternalKey<'_>,
    ) -> Result<(), I::Error> {
        match self.is_covered {
            true => inner.seek_for_prev_over(target, self.newer, InternalKey::before_all(&self.begin)),
            false => inner.seek_for_prev(target),
        }
    }

    /// Where the present stretch ends.
    fn behind(&self) -> InternalKey<'_> {
        match &self.end[..] {
            [] => InternalKey::behind_all(&GREATEST_KEY),
            end => InternalKey::before_all(end),
        }
    }

    /// In a covered stretch: moves what it hides past its end, if an entry of that came up; whether one did.
    pub(crate) fn pass_forward<I: InternalIterator>(&self, inner: &mut I) -> Result<bool, I::Error> {
        inner.pass_over(self.newer, self.behind())
    }

    /// As [`Self::pass_forward`], to before its begin.
    pub(crate) fn pass_backward<I: InternalIterator>(&self, inner: &mut I) -> Result<bool, I::Error> {
        inner.pass_over(self.newer, InternalKey::before_all(&self.begin))
    }
}

fn borrowed(bound: &Bound<Box<[u8]>>) -> Bound<&[u8]> {
    bound.as_ref().map(|key| &**key)
}

/// Sets a bound. Keys are mostly as long as one another, so what it lies in is kept.
fn set(bound: &mut Bound<Box<[u8]>>, to: Bound<&[u8]>) {
    match (bound, to) {
        (Bound::Included(key), Bound::Included(to)) | (Bound::Excluded(key), Bound::Excluded(to))
            if key.len() == to.len() =>
        {
            key.copy_from_slice(to);
        }
        (bound, to) => *bound = to.map(Into::into),
    }
}

fn copy(to: &mut Vec<u8>, from: &[u8]) {
    to.clear();
    to.extend_from_slice(from);
}
