//! What a merge lends: what its children lend, in turns.
//!
//! ```text
//!   child   stands on, and lends                  17  21  22  25  40  60: without a word to any layer,
//!     2     17 25#9 80                            then it is over: 61 is not lent, and 70 is behind it
//!     0     21 22 40 70
//!     3     25#7 60 90                            25#7 is passed when 25#9 is reached: of one key the newest is shown
//!     1     61, and lends nothing: the limit
//! ```
//! That some step goes too far is known when it has been made. It is not taken back: [`Lend::take_back`] tells of it.

use super::{MergingIterator, Standing, order};
use crate::heads::Heads;
use crate::{Lend, Lent, Plain, Way};
use esker_format::{Slice, Trailer};
use std::cmp::Ordering;
use std::hint::select_unpredictable;

/// What a [`MergingIterator`] lends: the entries of one child, or of several in turns. Of several it goes one way only, that of the merge, and shows the newest version of each key.
#[derive(Debug, Default)]
pub struct LentMerge<L> {
    first: L,
    /// Which part is shown: 0 is `first`.
    shown: usize,
    /// Whether there are others.
    has_turns: bool,
    /// Kept from one time to the next.
    turns: Option<Box<Turns<L>>>,
}

/// Of several.
#[derive(Debug)]
struct Turns<L> {
    others: Vec<L>,
    /// In the order in which their entries come; of one key, the newest first.
    order: Vec<Turn>,
    /// Which child each part is of.
    children: Vec<u32>,
    way: Way,
    /// Those of the merge.
    heads: Heads,
    /// The head of the next child, which lends nothing.
    limit: Option<u64>,
    is_over: bool,
    /// It is over, and the parts stand behind the entry that is shown.
    is_past: bool,
    /// The head of a part is not known.
    is_astray: bool,
}

/// A child that has lent something.
#[derive(Debug, Clone, Copy)]
struct Turn {
    head: u64,
    /// Steps that are left of it.
    left: u32,
    part: u32,
}

impl<L: Lent> Turns<L> {
    fn new() -> Self {
        Self {
            others: Vec::new(),
            order: Vec::new(),
            children: Vec::new(),
            way: Way::Forward,
            heads: Heads::new(),
            limit: None,
            is_over: false,
            is_past: false,
            is_astray: false,
        }
    }

    /// From the order in which the children stand.
    fn begin(&mut self, first: &mut L, way: Way) {
        (self.way, self.is_past, self.is_astray) = (way, false, false);
        if way == Way::Backward {
            // Of one key the oldest comes first there.
            self.place_by_keys(first, 1);
        }
        // Older versions of the key that is shown may be where nothing is lent.
        self.is_over = !self.pass_older(first) || self.limit == Some(self.order[0].head);
    }

    /// Moves to the next key of all parts. Which one shows it.
    fn step(&mut self, first: &mut L, way: Way) -> Option<usize> {
        if way != self.way || self.is_over {
            return None;
        }
        let moved = self.advance(first, 0);
        if moved && self.pass_older(first) && self.limit.is_none_or(|limit| self.order[0].head < limit) {
            return Some(self.order[0].part as usize);
        }
        (self.is_over, self.is_past) = (true, moved || self.is_astray);
        None
    }

    /// Moves those on that stand on older versions of the first one's key.
    #[inline(always)]
    fn pass_older(&mut self, first: &mut L) -> bool {
        while let [newest, other, ..] = self.order[..]
            && newest.head == other.head
            && part(first, &self.others, newest.part).key() == part(first, &self.others, other.part).key()
        {
            if !self.advance(first, 1) {
                return false;
            }
        }
        true
    }

    /// Moves one part on, and finds its new turn. `false` if it has no more, or no head.
    #[inline(always)]
    fn advance(&mut self, first: &mut L, at: usize) -> bool {
        let mut turn = self.order[at];
        let moving = part_mut(first, &mut self.others, turn.part);
        if turn.left == 0 || !(if self.way == Way::Forward { moving.next() } else { moving.prev() }) {
            return false;
        }
        turn.left -= 1;
        let Some(head) = self.heads.head(moving.key()) else {
            self.is_astray = true;
            return false;
        };
        turn.head = head;
        self.place(first, at, turn);
        true
    }

    /// Puts a turn that was in place `at`, or before, where it belongs now. Which part comes next nobody foresees, so nothing branches on it.
    #[inline(always)]
    fn place(&mut self, first: &L, at: usize, mut turn: Turn) {
        let mut ties = false;
        for i in at + 1..self.order.len() {
            let other = self.order[i];
            ties |= other.head == turn.head;
            let leads = other.head < turn.head;
            self.order[i - 1] = select_unpredictable(leads, other, turn);
            turn = select_unpredictable(leads, turn, other);
        }
        if let Some(last) = self.order.last_mut() {
            *last = turn;
        }
        if ties {
            self.place_by_keys(first, at);
        }
    }

    /// Puts those in order whose heads are equal.
    #[cold]
    fn place_by_keys(&mut self, first: &L, from: usize) {
        for behind in from + 1..self.order.len() {
            let mut at = behind;
            while at > from && self.leads(first, self.order[at], self.order[at - 1]) {
                self.order.swap(at, at - 1);
                at -= 1;
            }
        }
    }

    #[inline(always)]
    fn leads(&mut self, first: &L, a: Turn, b: Turn) -> bool {
        if a.head == b.head { self.leads_by_key(first, a, b) } else { a.head < b.head }
    }

    #[cold]
    fn leads_by_key(&mut self, first: &L, a: Turn, b: Turn) -> bool {
        let (child_of_a, child_of_b) = (self.children[a.part as usize], self.children[b.part as usize]);
        let (a, b) = (part(first, &self.others, a.part), part(first, &self.others, b.part));
        let by_key = if self.way == Way::Forward { a.key().cmp(b.key()) } else { b.key().cmp(a.key()) };
        if by_key == Ordering::Equal {
            return (a.trailer(), child_of_b) > (b.trailer(), child_of_a);
        }
        self.heads.tie();
        by_key.is_lt()
    }
}

#[inline(always)]
fn part<'a, L>(first: &'a L, others: &'a [L], part: u32) -> &'a L {
    if part == 0 { first } else { &others[part as usize - 1] }
}

#[inline(always)]
fn part_mut<'a, L>(first: &'a mut L, others: &'a mut [L], part: u32) -> &'a mut L {
    if part == 0 { first } else { &mut others[part as usize - 1] }
}

impl<L: Lent> LentMerge<L> {
    #[inline(always)]
    fn part(&self) -> &L {
        if self.shown == 0 { &self.first } else { self.other() }
    }

    #[inline(always)]
    fn other(&self) -> &L {
        &self.turns.as_ref().expect("it is lent in turns").others[self.shown - 1]
    }

    #[inline(never)]
    fn step(&mut self, way: Way) -> bool {
        let turns = self.turns.as_mut().expect("it is lent in turns");
        let next = turns.step(&mut self.first, way);
        self.shown = next.unwrap_or(self.shown);
        next.is_some()
    }
}

impl<L: Lent> Lent for LentMerge<L> {
    #[inline(always)]
    fn next(&mut self) -> bool {
        if self.has_turns { self.step(Way::Forward) } else { self.first.next() }
    }

    #[inline(always)]
    fn prev(&mut self) -> bool {
        if self.has_turns { self.step(Way::Backward) } else { self.first.prev() }
    }

    #[inline(always)]
    fn key(&self) -> &[u8] {
        self.part().key()
    }

    #[inline(always)]
    fn trailer(&self) -> Trailer {
        self.part().trailer()
    }

    #[inline(always)]
    fn value(&self) -> &[u8] {
        self.part().value()
    }
}

impl<I: Lend> MergingIterator<I> {
    /// What the first ones of several children lend.
    fn lend_in_turns(&mut self, way: Way, plain: &Plain<'_>, lent: &mut LentMerge<I::Lent>) -> usize {
        // If it is ahead, the head noted of it is of an entry behind it, and comes before the second's as its own does.
        let first = self.standing[0];
        let steps = self.children[first.child as usize].lend(way, plain, &mut lent.first);
        if steps == 0 {
            return 0;
        }
        let turns = lent.turns.get_or_insert_with(|| Box::new(Turns::new()));
        turns.order.clear();
        let turn = |standing: Standing, steps: usize, part: usize| {
            let (left, part) = (steps.min(u32::MAX as usize) as u32, part as u32);
            Turn { head: standing.head, left, part }
        };
        turns.order.push(turn(first, steps, 0));
        turns.children.clear();
        turns.children.push(first.child);
        let mut sum = steps;
        // That of the first is shown already; those of the others will be.
        let plain_from_here = Plain { from_here: true, ..*plain };
        while let Some(standing) = self.standing.get(turns.order.len()) {
            let part = turns.order.len();
            if turns.others.len() < part {
                turns.others.push(I::Lent::default());
            }
            let steps = self.children[standing.child as usize].lend(way, &plain_from_here, &mut turns.others[part - 1]);
            if steps == 0 {
                break;
            }
            turns.order.push(turn(*standing, steps, part));
            turns.children.push(standing.child);
            sum += steps + 1;
        }
        turns.limit = self.standing.get(turns.order.len()).map(|standing| standing.head);
        std::mem::swap(&mut self.heads, &mut turns.heads);
        turns.begin(&mut lent.first, way);
        lent.has_turns = true;
        sum.min(plain.steps)
    }

    /// Takes back what several children lent, and puts all in order. Whether they stand behind the entry that was shown.
    #[inline(never)]
    fn take_back_turns(&mut self, lent: &mut LentMerge<I::Lent>) -> bool {
        let turns = lent.turns.as_mut().expect("it was lent in turns");
        std::mem::swap(&mut self.heads, &mut turns.heads);
        (self.wins, self.free, self.is_ahead) = (0, 0, false);
        let mut is_past = turns.is_past;
        for (standing, turn) in self.standing.iter_mut().zip(&turns.order) {
            let part = part_mut(&mut lent.first, &mut turns.others, turn.part);
            let child = turns.children[turn.part as usize];
            *standing = Standing { head: turn.head, child, is_newest: true, trailer: part.trailer() };
            if self.children[child as usize].take_back(part) {
                turns.is_astray = true;
                is_past |= turn.part as usize == lent.shown;
            }
        }
        if turns.is_astray {
            self.sort_all();
        } else {
            let (children, direction) = (&self.children, self.direction);
            self.standing.sort_unstable_by(|a, b| order(children, direction, a, b));
        }
        is_past
    }
}

impl<I: Lend> Lend for MergingIterator<I> {
    type Lent = LentMerge<I::Lent>;

    fn lend(&mut self, way: Way, plain: &Plain<'_>, lent: &mut Self::Lent) -> usize {
        // Whether another child had a newer version of the key that it stands on is not kept.
        if !self.travels(way) || (plain.from_here && self.children.len() > 1) {
            return 0;
        }
        (lent.shown, lent.has_turns) = (0, false);
        if self.standing.len() == 1 {
            self.first_mut().lend(way, plain, &mut lent.first)
        } else {
            self.lend_in_turns(way, plain, lent)
        }
    }

    fn take_back(&mut self, lent: &mut Self::Lent) -> bool {
        if lent.has_turns { self.take_back_turns(lent) } else { self.first_mut().take_back(&mut lent.first) }
    }

    fn lent_value_slice(&self, lent: &Self::Lent) -> Slice {
        match &lent.turns {
            Some(turns) if lent.has_turns => {
                self.children[turns.children[lent.shown] as usize].lent_value_slice(lent.part())
            }
            _ => self.first().lent_value_slice(&lent.first),
        }
    }
}
