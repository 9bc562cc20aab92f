//! Entries that the source has lent: how far they go, and when it is asked for more.

use super::{Place, VisibleIterator};
use crate::{Lend, Lent, Plain, Way};
use esker_format::ValueKind;

/// After a source had nothing to lend, it is asked again after 0, 1, 3, 7, .. steps: the first time it may be the end of a block. One that never lent begins as if it had refused some times: few steps behind a seek are not worth
/// asking a memtable again and again. What is given back fewer steps away than [`WORTH_STEPS`] counts as nothing.
const REFUSALS_MAX: u32 = 6;
const REFUSALS_AT_FIRST: u32 = 3;
const WORTH_STEPS: usize = 4;

/// What comes of asking for entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Borrowed {
    /// The next one is shown.
    Next,
    /// It stands on the next one, of which nothing is known.
    Past,
    Nothing,
}

/// How far what was lent goes, and when to ask for it again.
#[derive(Debug)]
pub(super) struct Lending {
    way: Way,
    /// Steps that are left towards greater keys, and towards lesser ones: none where nothing is lent.
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
        *self = Self { way, ahead, behind, ..*self };
    }

    fn given_back(&mut self) {
        if self.made() >= WORTH_STEPS {
            (self.wait, self.refusals) = (0, 0);
        } else {
            self.refused();
        }
        (self.ahead, self.behind) = (0, 0);
    }

    /// Steps made, in the direction in which it was lent.
    fn made(&self) -> usize {
        if self.way == Way::Forward { self.behind } else { self.ahead }
    }
}

impl<I: Lend> VisibleIterator<I> {
    /// Moves to the next entry, if that was lent: whether it was. The beginning of [`next`](Self::next), small enough to be a part of its callers, which is to be called if this says `false`, and before anything else: until then it shows no entry in particular.
    #[inline(always)]
    pub fn next_lent(&mut self) -> bool {
        self.lending.ahead > 0 && self.step_lent(Way::Forward)
    }

    /// As [`Self::next_lent`], to the entry before.
    #[inline(always)]
    pub fn prev_lent(&mut self) -> bool {
        self.lending.behind > 0 && self.step_lent(Way::Backward)
    }

    #[inline(always)]
    fn step_lent(&mut self, way: Way) -> bool {
        let Lending { ahead, behind, .. } = self.lending;
        let (moves, ahead, behind) = match way {
            Way::Forward => (self.lent.next(), ahead.wrapping_sub(1), behind + 1),
            Way::Backward => (self.lent.prev(), ahead + 1, behind.wrapping_sub(1)),
        };
        if moves {
            (self.lending.ahead, self.lending.behind) = (ahead, behind);
        }
        moves
    }

    /// The user key, if the entry was lent.
    #[inline(always)]
    pub fn lent_key(&self) -> Option<&[u8]> {
        (self.place == Place::Lent).then(|| self.lent.key())
    }

    /// The value, if the entry was lent and is of kind [`ValueKind::Put`]. The beginning of [`put_value`](Self::put_value), small enough to be a part of its callers.
    #[inline(always)]
    pub fn lent_value(&self) -> Option<&[u8]> {
        (self.place == Place::Lent && self.lent.trailer().is(ValueKind::Put)).then(|| self.lent.value())
    }

    /// The value, if it is of kind [`ValueKind::Put`] and stands in a source: [`value`](Self::value) for who has other ways for others.
    #[inline(always)]
    pub fn put_value(&self) -> Option<&[u8]> {
        match self.place {
            Place::Inner | Place::InnerFromBehind if self.trailer.is(ValueKind::Put) => Some(self.inner.value()),
            _ => self.lent_value(),
        }
    }

    /// From an entry of `inner`: has it lend the next ones, and shows the first of them.
    #[inline(never)]
    pub(super) fn borrow(&mut self, way: Way) -> Borrowed {
        let plain = Plain::within(&self.bounds, way, self.least, self.seq);
        let steps = self.inner.lend(way, &plain, &mut self.lent);
        if steps == 0 {
            self.lending.refused();
            return Borrowed::Nothing;
        }
        self.lending.lent(way, steps);
        self.place = Place::Lent;
        let moved = if way == Way::Forward { self.next_lent() } else { self.prev_lent() };
        match moved {
            true => Borrowed::Next,
            false if self.give_back() => Borrowed::Past,
            false => Borrowed::Nothing,
        }
    }

    /// Has `inner` stand on the entry shown, if that was lent; or, and says so, on the next one.
    #[inline]
    pub(super) fn give_back(&mut self) -> bool {
        self.place == Place::Lent && self.give_back_lent()
    }

    #[inline(never)]
    fn give_back_lent(&mut self) -> bool {
        self.trailer = self.lent.trailer();
        let is_past = self.inner.take_back(&mut self.lent);
        self.place = if self.lending.way == Way::Forward { Place::Inner } else { Place::InnerFromBehind };
        self.lending.given_back();
        is_past
    }

    /// Before a seek: stands nowhere, and `inner` has all that it lent.
    #[inline]
    pub(super) fn leave(&mut self) {
        self.give_back();
        self.place = Place::Nowhere;
        self.lending = Lending::NOT_YET;
    }
}
