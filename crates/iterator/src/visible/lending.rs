//! Entries that the source has lent: how far they go, and when it is asked for more.

use super::{Place, VisibleIterator};
use crate::{Lend, Lent, Plain, Way};

/// After a source had nothing to lend, it is asked again after 0, 1, 3, 7, .. steps: the first time it may be the end of a block. One that never lent begins as if it had refused some times: few steps behind a seek are not worth
/// asking a memtable again and again.
const REFUSALS_MAX: u32 = 6;
const REFUSALS_AT_FIRST: u32 = 3;

/// How far what was lent goes, and when to ask for it again.
#[derive(Debug)]
pub(super) struct Lending {
    way: Way,
    /// Steps that are left towards greater keys, and towards lesser ones.
    pub(super) ahead: usize,
    pub(super) behind: usize,
    /// Steps until a source is asked again, and how often in a row it had nothing.
    wait: u32,
    refusals: u32,
}

impl Lending {
    pub(super) const NOT_YET: Self =
        Self { way: Way::Forward, ahead: 0, behind: 0, wait: 0, refusals: REFUSALS_AT_FIRST };

    /// Whether it is time to ask.
    #[inline]
    pub(super) fn is_due(&mut self) -> bool {
        match self.wait.checked_sub(1) {
            Some(wait) => {
                self.wait = wait;
                false
            }
            None => true,
        }
    }

    fn refused(&mut self) {
        self.wait = (1 << self.refusals) - 1;
        self.refusals = (self.refusals + 1).min(REFUSALS_MAX);
    }

    fn lent(&mut self, way: Way, steps: usize) {
        let (ahead, behind) = if way == Way::Forward { (steps, 0) } else { (0, steps) };
        *self = Self { way, ahead, behind, wait: 0, refusals: 0 };
    }

    /// Steps made, in the direction in which it was lent.
    fn made(&self) -> usize {
        if self.way == Way::Forward { self.behind } else { self.ahead }
    }
}

impl<I: Lend> VisibleIterator<I> {
    /// From an entry of `inner`: whether it has lent the next ones, and the first of them is shown.
    #[inline(never)]
    pub(super) fn borrow(&mut self, way: Way) -> bool {
        let plain = Plain::within(&self.bounds, way, self.least, self.seq);
        let steps = self.inner.lend(way, &plain, &mut self.lent);
        if steps == 0 {
            self.lending.refused();
            return false;
        }
        self.lending.lent(way, steps);
        self.place = Place::Lent;
        let moved = if way == Way::Forward { self.lent.next() } else { self.lent.prev() };
        if !moved {
            self.give_back();
            return false;
        }
        let Lending { ahead, behind, .. } = &mut self.lending;
        (*ahead, *behind) = if way == Way::Forward { (steps - 1, 1) } else { (1, steps - 1) };
        true
    }

    /// Has `inner` stand on the entry shown, if that was lent.
    #[inline(never)]
    pub(super) fn give_back(&mut self) {
        if self.place == Place::Lent {
            self.trailer = self.lent.trailer();
            self.inner.take_back(&mut self.lent, self.lending.made());
            self.place = if self.lending.way == Way::Forward { Place::Inner } else { Place::InnerFromBehind };
        }
    }

    /// Before a seek: stands nowhere, and `inner` has all that it lent.
    #[inline]
    pub(super) fn leave(&mut self) {
        self.give_back();
        self.place = Place::Nowhere;
        self.lending = Lending::NOT_YET;
    }
}
