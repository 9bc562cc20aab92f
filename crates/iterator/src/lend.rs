//! [`Lend`]: entries that follow one another and need no second thought, lent by their source to who walks over them.
//!
//! ```text
//!   VisibleIterator ── steps ──> what is lent: an entry of a block, and how to get to its neighbours
//!         |                          ^
//!   MergingIterator                  | taken, and given back where the walk is by then
//!         |                          |
//!   ConcatIterator ───────────── table
//! ```
//! A walk that goes from entry to entry asks at each of them, in every layer, whether there is anything to it: the end of a block, another source, an older version, a tombstone, a bound. Most often there
//! is nothing, for as long as a block is, and a source knows so without a look at any entry. So it is asked once, and lends what it stands on.

use crate::{Bounds, InternalIterator};
use esker_format::{SeqNo, Slice, Trailer};
use std::ops::Bound;

/// Which way a walk goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Keys ascend.
    Forward,
    /// Keys descend.
    Backward,
}

/// What all entries that are lent must be: values that do not expire, each the only version of its key that its source has, and seen.
#[derive(Debug, Clone, Copy)]
pub struct Plain<'a> {
    /// None is newer.
    pub newest: SeqNo,
    /// None is older.
    pub oldest: SeqNo,
    /// In the direction of travel, all keys come before this one.
    pub until: Option<&'a [u8]>,
    /// How many steps at most.
    pub steps: usize,
    /// Whether the entry that the source stands on must be so too.
    pub from_here: bool,
}

impl<'a> Plain<'a> {
    /// Whether a version of this trailer is so.
    #[inline]
    pub fn takes(&self, trailer: Trailer) -> bool {
        trailer.seq() <= self.newest && trailer.seq() >= self.oldest && trailer.is_value()
    }

    /// What is seen from `oldest` to `newest` within `bounds`. A bound that belongs to the range is not reached.
    pub fn within(bounds: &'a Bounds, way: Way, oldest: SeqNo, newest: SeqNo) -> Self {
        let bound = if way == Way::Forward { &bounds.upper } else { &bounds.lower };
        let until = match bound {
            Bound::Included(key) | Bound::Excluded(key) => Some(&**key),
            Bound::Unbounded => None,
        };
        Self { newest, oldest, until, steps: usize::MAX, from_here: false }
    }
}

/// An entry, and a way to its neighbours. One that was made by `Default` has nothing.
pub trait Lent: Default {
    /// Moves to the entry behind in key order; only within what was lent. `false` if it can't: what was lent ends earlier than was said, it goes the other way only, or the bytes it reads are not what they were.
    /// Then it is to be given back, which tells where that [ends](Lend::take_back), and not to be looked at before. An end stays the end, however often it is tried.
    fn next(&mut self) -> bool;

    /// Moves to the entry before, likewise.
    fn prev(&mut self) -> bool;

    /// The user key.
    fn key(&self) -> &[u8];

    /// Which version it is.
    fn trailer(&self) -> Trailer;

    /// The value.
    fn value(&self) -> &[u8];
}

/// A source that may lend.
pub trait Lend: InternalIterator {
    /// What it lends.
    type Lent: Lent;

    /// Exchanges `lent` for the entry that it stands on, if it is known, at next to no cost, that there are entries behind it in this direction which are as `plain` says: how many, at most.
    /// Until it has it [back](Self::take_back), nothing else may be asked of it. With 0 nothing has happened.
    ///
    /// # Panics
    /// If the iterator is not valid.
    fn lend(&mut self, way: Way, plain: &Plain<'_>, lent: &mut Self::Lent) -> usize {
        let _ = (way, plain, lent);
        0
    }

    /// Takes back what it lent, and stands on the entry that it is on by now, perhaps behind older versions of its key; if a step failed, and this says `true`, on the next one in the direction in which it lent, of which nothing is known.
    ///
    /// # Panics
    /// If it lent nothing.
    fn take_back(&mut self, lent: &mut Self::Lent) -> bool {
        let _ = lent;
        panic!("{NOTHING}")
    }

    /// The value of the entry that was lent, owned; as [`InternalIterator::value_slice`].
    fn lent_value_slice(&self, lent: &Self::Lent) -> Slice {
        Slice::from(lent.value())
    }
}

/// What a source lends that lends nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NothingLent;

const NOTHING: &str = "nothing was lent";

impl Lent for NothingLent {
    fn next(&mut self) -> bool {
        panic!("{NOTHING}")
    }

    fn prev(&mut self) -> bool {
        panic!("{NOTHING}")
    }

    fn key(&self) -> &[u8] {
        panic!("{NOTHING}")
    }

    fn trailer(&self) -> Trailer {
        panic!("{NOTHING}")
    }

    fn value(&self) -> &[u8] {
        panic!("{NOTHING}")
    }
}
