//! Many sorted sources as one.
//!
//! The children that stand on an entry are kept in the order in which their entries come, by index, each with the [head](crate::heads) of its key. The first is shown. After it has
//! moved it is put back where it belongs now, and those that come before it move up:
//!
//! ```text
//!   child          2     0     3     1        child 2 moves from 17 to 25       0     3     2     1
//!   head          17    21    24    40                                         21    24    25    40
//!               shown                                                        shown
//! ```
//! Most keys are compared by their heads alone, without a look at any child. The second is always known, so a child that comes first many times in a row (old data under new, sorted
//! loads) costs one comparison a step, and one that is left alone what it costs alone. An LSM tree's sources are few and of growing sizes, so the way back is short. A tournament
//! needs fewer comparisons, the logarithm, but each is a branch that no processor foresees, where these are foreseen but for the last. Far behind, the place is sought by halves.
//!
//! One that came first several times in a row is asked how far it goes before the second's key (so far as the end of a block), and goes so far without any comparison: old data under a few
//! new entries, and sources that [lend](crate::Lend) nothing. Those that lend do so in turns (`lending`).
//!
//! Invariant: going forward, each child but the first stands on its first entry behind the first one's; going backward, on its
//! last one before it. A turn restores that by seeks, which also hold when entries have come into a child meanwhile. (Of what was lent and given back, older versions of the key that is shown may have been passed.)

mod lending;

use crate::heads::Heads;
use crate::{InternalIterator, Stepped, Way};
use esker_format::{InternalKey, Slice, Trailer};
pub use lending::LentMerge;
use std::cmp::Ordering;

/// So many places are tried one by one; those behind, by halves.
const NEAR: usize = 8;
/// A child that has come first so many times in a row is asked how far it goes on.
const WINS: u32 = 4;

/// A child that stands on an entry.
#[derive(Debug, Clone, Copy)]
struct Standing {
    head: u64,
    child: u32,
    /// Whether the child said that this is its newest version of the key. Only asked for, and kept, on the way backward.
    is_newest: bool,
    trailer: Trailer,
}

/// Merges sources that are each in internal-key order.
///
/// Internal keys are expected to be unique over all sources. Should two sources hold the same one, both entries come, that
/// of the earlier source first (and last, going backward). Give the newest source first.
#[derive(Debug)]
pub struct MergingIterator<I> {
    children: Vec<I>,
    /// In the order in which their entries come. Empty before the first seek, at the end, and after an error.
    standing: Vec<Standing>,
    heads: Heads,
    direction: Way,
    /// How often in a row the first child was the first.
    wins: u32,
    /// Steps in the direction of travel after which the first child still stands before the second's user key.
    free: usize,
    /// Whether it has made such steps, and what is noted of it is of an entry behind it.
    is_ahead: bool,
    /// The child that returned an error, and will return it again.
    failed: Option<usize>,
}

impl<I: InternalIterator> MergingIterator<I> {
    /// Merges `children`, the newest first. It is not valid until a seek.
    pub fn new(children: Vec<I>) -> Self {
        Self {
            standing: Vec::with_capacity(children.len()),
            children,
            heads: Heads::new(),
            direction: Way::Forward,
            wins: 0,
            free: 0,
            is_ahead: false,
            failed: None,
        }
    }

    /// The source of the entry it stands on.
    #[inline]
    pub fn current(&self) -> Option<&I> {
        self.standing.first().map(|first| &self.children[first.child as usize])
    }

    /// The sources, in the order they were given.
    pub fn children(&self) -> &[I] {
        &self.children
    }

    #[inline]
    fn first(&self) -> &I {
        self.current().expect("an iterator that stands on an entry")
    }

    #[inline]
    fn first_mut(&mut self) -> &mut I {
        let first = self.standing.first().expect("an iterator that stands on an entry");
        &mut self.children[first.child as usize]
    }

    /// Whether the entry of `a` comes before that of `b` in the direction of travel.
    #[inline(always)]
    fn leads(&mut self, a: Standing, b: Standing) -> bool {
        if a.head == b.head { self.leads_by_key(a, b) } else { a.head < b.head }
    }

    #[cold]
    fn leads_by_key(&mut self, a: Standing, b: Standing) -> bool {
        self.heads.tie();
        order(&self.children, self.direction, &a, &b).is_lt()
    }

    /// Puts the children in order, wherever they stand.
    #[inline(never)]
    fn sort_all(&mut self) {
        (self.wins, self.free, self.is_ahead) = (0, 0, false);
        let (children, direction) = (&self.children, self.direction);
        self.standing.clear();
        for (child, source) in (0..).zip(children).filter(|(_, source)| source.valid()) {
            self.standing.push(Standing { head: 0, child, is_newest: false, trailer: source.key().trailer });
        }
        // One that is alone is compared with none.
        if self.standing.len() > 1 {
            let user_key = |standing: &Standing| children[standing.child as usize].key().user_key;
            self.heads.share(direction == Way::Backward, self.standing.iter().map(user_key));
            for standing in &mut self.standing {
                standing.head = self.heads.head(user_key(standing)).expect("all keys have the prefix that they share");
            }
            self.standing.sort_unstable_by(|a, b| order(children, direction, a, b));
        }
    }

    /// Finds the place of the first child after it has moved in the direction of travel. `is_newest` is what it said of its entry.
    #[inline]
    fn put_back(&mut self, is_newest: bool) {
        (self.free, self.is_ahead) = (0, false);
        let first = self.first();
        if !first.valid() {
            self.standing.remove(0);
            return;
        }
        if self.standing.len() == 1 {
            return;
        }
        let InternalKey { user_key, trailer } = first.key();
        let Some(head) = self.heads.head(user_key) else { return self.sort_all() };
        let moved = Standing { head, is_newest, trailer, ..self.standing[0] };
        let mut before = 1;
        while before < self.standing.len() && self.leads(self.standing[before], moved) {
            self.standing[before - 1] = self.standing[before];
            before += 1;
            if before > NEAR {
                before = self.pass_by_halves(before, moved);
                break;
            }
        }
        self.standing[before - 1] = moved;
        self.wins = if before == 1 { self.wins + 1 } else { 0 };
        if self.wins == WINS {
            self.look_ahead();
        }
    }

    /// Asks the first child how far it goes before the second one's key.
    #[inline(never)]
    fn look_ahead(&mut self) {
        self.wins = 0;
        let [first, second, ..] = self.standing[..] else { return };
        if let Ok([first, second]) = self.children.get_disjoint_mut([first.child as usize, second.child as usize]) {
            self.free = first.steps_before(self.direction, second.key().user_key);
        }
    }

    /// Moves up those from place `from` on that lead `moved`; returns the place behind them.
    #[cold]
    fn pass_by_halves(&mut self, from: usize, moved: Standing) -> usize {
        let (children, direction) = (&self.children, self.direction);
        let led = self.standing[from..].partition_point(|other| order(children, direction, other, &moved).is_lt());
        self.standing.copy_within(from..from + led, from - 1);
        from + led
    }

    /// Whether the other children stand on that side of the first; a single child has none.
    #[inline]
    fn travels(&self, direction: Way) -> bool {
        self.direction == direction || self.children.len() == 1
    }

    /// Whether no other child has an entry of the first one's user key in the direction of travel: all others stand at or behind the second.
    #[inline]
    fn is_only_one_of_its_key(&self) -> bool {
        match &self.standing[..] {
            [first, second, ..] => self.is_ahead || first.head != second.head || self.is_before_by_key(first, second),
            _ => true,
        }
    }

    #[cold]
    fn is_before_by_key(&self, first: &Standing, second: &Standing) -> bool {
        self.children[first.child as usize].key().user_key != self.children[second.child as usize].key().user_key
    }

    /// Seeks in every child, then puts them in order.
    fn seek_all(
        &mut self,
        direction: Way,
        mut seek: impl FnMut(&mut I) -> Result<(), I::Error>,
    ) -> Result<(), I::Error> {
        (self.direction, self.failed) = (direction, None);
        self.standing.clear();
        for c in 0..self.children.len() {
            let sought = seek(&mut self.children[c]);
            self.check(c, sought)?;
        }
        self.sort_all();
        Ok(())
    }

    /// Moves all children but the first to the other side of its entry.
    fn turn(&mut self, to: Way) -> Result<(), I::Error> {
        self.direction = to;
        let first = self.standing[0].child as usize;
        for c in (0..self.children.len()).filter(|c| *c != first) {
            let [child, shown] = self.children.get_disjoint_mut([c, first]).expect("two children");
            let key = shown.key();
            let sought = match to {
                Way::Forward => child.seek(key),
                Way::Backward => child.seek_for_prev(key),
            };
            // Of equal keys, those of earlier children come first.
            let is_same = sought.is_ok() && child.valid() && child.key() == key;
            let moved = match to {
                Way::Forward if is_same && c < first => child.next(),
                Way::Backward if is_same && c > first => child.prev(),
                _ => sought,
            };
            self.check(c, moved)?;
        }
        Ok(())
    }

    /// Moves the first child on, after a turn if the last move went the other way.
    #[inline]
    fn step(&mut self, to: Way, step: impl Fn(&mut I) -> Result<(), I::Error>) -> Result<(), I::Error> {
        let turns = self.direction != to;
        let Some(first) = self.standing.first() else {
            let failed = self.failed.expect("a step on an iterator that stands nowhere");
            return step(&mut self.children[failed]);
        };
        let first = first.child as usize;
        if turns {
            self.turn(to)?;
        }
        let stepped = step(&mut self.children[first]);
        self.check(first, stepped)?;
        if turns {
            self.sort_all();
        } else {
            self.put_back(false);
        }
        Ok(())
    }

    /// Remembers a child that failed.
    #[inline]
    fn check(&mut self, child: usize, result: Result<(), I::Error>) -> Result<(), I::Error> {
        if result.is_err() {
            self.failed = Some(child);
            self.standing.clear();
        }
        result
    }
}

/// In which order the entries of two children come. Of equal keys, that of the earlier child comes first, or backward last.
fn order<I: InternalIterator>(children: &[I], direction: Way, a: &Standing, b: &Standing) -> Ordering {
    let by_key = || {
        let order = children[a.child as usize].key().cmp(&children[b.child as usize].key()).then(a.child.cmp(&b.child));
        if direction == Way::Forward { order } else { order.reverse() }
    };
    a.head.cmp(&b.head).then_with(by_key)
}

impl<I: InternalIterator> InternalIterator for MergingIterator<I> {
    type Error = I::Error;

    #[inline]
    fn valid(&self) -> bool {
        !self.standing.is_empty()
    }

    fn seek_to_first(&mut self) -> Result<(), I::Error> {
        self.seek_all(Way::Forward, I::seek_to_first)
    }

    fn seek_to_last(&mut self) -> Result<(), I::Error> {
        self.seek_all(Way::Backward, I::seek_to_last)
    }

    fn seek(&mut self, target: InternalKey<'_>) -> Result<(), I::Error> {
        if self.children.len() == 1 {
            return self.seek_all(Way::Forward, |child| child.seek(target));
        }
        self.prepare_seek(target);
        self.seek_prepared(target)
    }

    fn prepare_seek(&mut self, target: InternalKey<'_>) {
        self.children.iter_mut().for_each(|child| child.prepare_seek(target));
    }

    fn seek_prepared(&mut self, target: InternalKey<'_>) -> Result<(), I::Error> {
        self.seek_all(Way::Forward, |child| child.seek_prepared(target))
    }

    fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<(), I::Error> {
        self.seek_all(Way::Backward, |child| child.seek_for_prev(target))
    }

    #[inline]
    fn next(&mut self) -> Result<(), I::Error> {
        self.step(Way::Forward, I::next)
    }

    #[inline]
    fn prev(&mut self) -> Result<(), I::Error> {
        self.step(Way::Backward, I::prev)
    }

    #[inline]
    fn key(&self) -> InternalKey<'_> {
        self.first().key()
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.first().value()
    }

    fn value_slice(&self) -> Slice {
        self.first().value_slice()
    }

    /// Known only in the direction of travel: there the other children stand right behind the first.
    #[inline]
    fn next_is_other_key(&mut self) -> bool {
        self.first_mut().next_is_other_key() && self.travels(Way::Forward) && self.is_only_one_of_its_key()
    }

    #[inline]
    fn prev_is_other_key(&mut self) -> bool {
        self.first_mut().prev_is_other_key() && self.travels(Way::Backward) && self.is_only_one_of_its_key()
    }

    #[inline]
    fn try_next_key(&mut self) -> Option<Trailer> {
        if !self.travels(Way::Forward) || !self.is_only_one_of_its_key() {
            return None;
        }
        let trailer = self.first_mut().try_next_key()?;
        if self.standing.len() == 1 {
            return Some(trailer);
        }
        if self.free > 0 {
            (self.free, self.is_ahead) = (self.free - 1, true);
            return Some(trailer);
        }
        self.put_back(false);
        Some(self.standing[0].trailer)
    }

    fn seek_over(&mut self, target: InternalKey<'_>, newer: usize, to: InternalKey<'_>) -> Result<(), I::Error> {
        let target_of = |c: usize| if c < newer { target } else { to };
        (0..).zip(&mut self.children).for_each(|(c, child)| child.prepare_seek(target_of(c)));
        let mut targets = (0..).map(target_of);
        let mut next = || targets.next().expect("there are targets without end");
        self.seek_all(Way::Forward, |child| child.seek_prepared(next()))
    }

    fn seek_for_prev_over(
        &mut self,
        target: InternalKey<'_>,
        newer: usize,
        to: InternalKey<'_>,
    ) -> Result<(), I::Error> {
        let mut targets = (0..).map(|c: usize| if c < newer { target } else { to });
        let mut next = || targets.next().expect("there are targets without end");
        self.seek_all(Way::Backward, |child| child.seek_for_prev(next()))
    }

    #[inline(never)]
    fn pass_over(&mut self, newer: usize, to: InternalKey<'_>) -> Result<bool, I::Error> {
        let Some(first) = self.standing.first().filter(|first| first.child as usize >= newer) else { return Ok(false) };
        // A single child may have turned by itself, so it is the target that says which way it goes.
        let way = self.children[first.child as usize].key().cmp(&to);
        for c in newer..self.children.len() {
            let child = &mut self.children[c];
            if !child.valid() {
                continue;
            }
            let sought = match way {
                Ordering::Less if child.key() < to => child.seek(to),
                Ordering::Greater if child.key() > to => child.seek_for_prev(to),
                _ => Ok(()),
            };
            self.check(c, sought)?;
        }
        self.sort_all();
        Ok(way.is_ne())
    }

    #[inline]
    fn try_prev(&mut self) -> Option<Stepped> {
        if !self.travels(Way::Backward) {
            return None;
        }
        let stepped = self.first_mut().try_prev()?;
        if self.standing.len() == 1 {
            return Some(stepped);
        }
        if self.free > 0 {
            (self.free, self.is_ahead) = (self.free - 1, true);
            return Some(stepped);
        }
        self.put_back(stepped.is_newest);
        let Standing { trailer, is_newest, .. } = self.standing[0];
        Some(Stepped { trailer, is_newest: is_newest && self.is_only_one_of_its_key() })
    }
}
