//! Many sorted sources as one.
//!
//! A tournament: each inner node of a binary tree keeps the child that *lost* there, so after the winner has moved one walk from
//! its leaf to the root finds the next winner. Children are named by index, and keys are compared where they lie, most of them
//! by their [heads](crate::heads) alone.
//!
//! ```text
//!          winner 2            node 1 is the root; the children of node i are 2i and 2i + 1
//!             |                leaf of child c is node n + c
//!          [1: 0]
//!          /    \
//!      [2: 3]   [3: 1]         a loser stands in [brackets]
//!      /    \   /    \
//!     2      3 0      1
//! ```
//! When a child wins twice in a row it is likely to win again (runs of one source: old data under new, sorted loads). Then the
//! runner-up, the best of those that lost to it, is looked up once, and each further step costs one comparison until the
//! runner-up takes over. If the runner-up is at its end, so are all others, and nothing is compared any more until the next seek or turn:
//! one live child costs what it costs alone.
//!
//! Invariant: going forward, each child but the winner stands on its first entry behind the winner's; going backward, on its
//! last one before it. A turn restores that by seeks, which also hold when entries have come into a child meanwhile.

use crate::InternalIterator;
use crate::heads::Heads;
use esker_format::{InternalKey, Slice, Trailer};

/// No child.
const NONE: usize = usize::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
}

/// Merges sources that are each in internal-key order.
///
/// Internal keys are expected to be unique over all sources. Should two sources hold the same one, both entries come, that
/// of the earlier source first (and last, going backward). Give the newest source first.
#[derive(Debug)]
pub struct MergingIterator<I> {
    children: Vec<I>,
    /// `losers[i]` is the child that lost at node `i`; `losers[0]` is not used. Made by the first match.
    losers: Vec<usize>,
    heads: Heads,
    /// The child whose entry is shown. `NONE` before the first seek, at the end, and after an error.
    winner: usize,
    /// The best child after the winner, if it has been looked up.
    runner_up: usize,
    /// Whether all other children are at their ends.
    alone: bool,
    direction: Direction,
    /// The child that returned an error, and will return it again.
    failed: usize,
}

impl<I: InternalIterator> MergingIterator<I> {
    /// Merges `children`, the newest first. It is not valid until a seek.
    pub fn new(children: Vec<I>) -> Self {
        Self {
            alone: children.len() == 1,
            children,
            losers: Vec::new(),
            heads: Heads::new(),
            winner: NONE,
            runner_up: NONE,
            direction: Direction::Forward,
            failed: NONE,
        }
    }

    /// The source of the entry it stands on.
    #[inline]
    pub fn current(&self) -> Option<&I> {
        self.children.get(self.winner)
    }

    /// The sources, in the order they were given.
    pub fn children(&self) -> &[I] {
        &self.children
    }

    /// Whether the entry of child `a` comes before that of child `b` in the direction of travel.
    #[inline]
    fn leads(&mut self, a: usize, b: usize) -> bool {
        self.heads.leads(a, b).unwrap_or_else(|| self.leads_by_key(a, b))
    }

    #[cold]
    fn leads_by_key(&mut self, a: usize, b: usize) -> bool {
        self.heads.tie();
        let (left, right) = (&self.children[a], &self.children[b]);
        if !left.valid() || !right.valid() {
            return left.valid();
        }
        let order = left.key().cmp(&right.key()).then(a.cmp(&b));
        match self.direction {
            Direction::Forward => order.is_lt(),
            Direction::Backward => order.is_gt(),
        }
    }

    #[cold]
    fn take_all_heads(&mut self) {
        let backward = self.direction == Direction::Backward;
        self.heads.set_all(backward, self.children.iter().map(user_key));
    }

    /// Plays every match anew.
    fn play_all(&mut self) {
        self.runner_up = NONE;
        self.alone = self.children.len() == 1;
        match self.children.len() {
            0 => {}
            1 => self.show(0),
            children => {
                self.losers.resize(children, NONE);
                self.take_all_heads();
                let winner = self.play(1);
                self.show(winner);
            }
        }
    }

    /// Shows the entry of the winner; if even that has none, all are at their end.
    #[inline]
    fn show(&mut self, winner: usize) {
        self.winner = if self.children[winner].valid() { winner } else { NONE };
    }

    /// Plays the matches at `node` and below; returns who wins them.
    fn play(&mut self, node: usize) -> usize {
        let children = self.children.len();
        if node >= children {
            return node - children;
        }
        let (a, b) = (self.play(2 * node), self.play(2 * node + 1));
        let (winner, loser) = if self.leads(a, b) { (a, b) } else { (b, a) };
        self.losers[node] = loser;
        winner
    }

    /// Finds the new winner after the old one has moved in the direction of travel.
    #[inline]
    fn play_winner(&mut self) {
        let winner = self.winner;
        if self.alone {
            self.show(winner);
            return;
        }
        if !self.heads.set(winner, user_key(&self.children[winner])) {
            self.take_all_heads();
        }
        if self.runner_up == NONE || !self.leads(winner, self.runner_up) {
            self.play_up();
        }
    }

    /// Lets the winner, which has moved, play on its way to the root.
    fn play_up(&mut self) {
        let moved = self.winner;
        let mut winner = moved;
        let mut node = (self.children.len() + moved) / 2;
        while node > 0 {
            let loser = self.losers[node];
            if self.leads(loser, winner) {
                self.losers[node] = winner;
                winner = loser;
            }
            node /= 2;
        }
        self.runner_up = NONE;
        if winner == moved {
            self.look_up_runner_up(winner);
        }
        self.show(winner);
    }

    /// Remembers the second best.
    fn look_up_runner_up(&mut self, winner: usize) {
        self.runner_up = self.find_runner_up(winner);
        self.alone = !self.children[self.runner_up].valid();
    }

    /// The second best lost to the winner itself, so it stands on the winner's way to the root.
    fn find_runner_up(&mut self, winner: usize) -> usize {
        let mut best = NONE;
        let mut node = (self.children.len() + winner) / 2;
        while node > 0 {
            let loser = self.losers[node];
            if best == NONE || self.leads(loser, best) {
                best = loser;
            }
            node /= 2;
        }
        best
    }

    /// Whether the other children stand on that side of the winner; a single child has none.
    #[inline]
    fn travels(&self, direction: Direction) -> bool {
        self.direction == direction || self.children.len() == 1
    }

    /// Whether no other child has an entry of the winner's user key in the direction of travel.
    #[inline]
    fn is_only_one_of_its_key(&mut self) -> bool {
        if self.alone {
            return true;
        }
        if self.runner_up == NONE {
            self.look_up_runner_up(self.winner);
        }
        // All others stand at or behind the runner-up.
        self.heads.leads(self.winner, self.runner_up).is_some() || self.is_before_by_key()
    }

    #[cold]
    fn is_before_by_key(&self) -> bool {
        let (winner, other) = (&self.children[self.winner], &self.children[self.runner_up]);
        !other.valid() || winner.key().user_key != other.key().user_key
    }

    /// Seeks every child, then plays.
    fn seek_all(
        &mut self,
        direction: Direction,
        mut seek: impl FnMut(&mut I) -> Result<(), I::Error>,
    ) -> Result<(), I::Error> {
        (self.direction, self.winner, self.failed) = (direction, NONE, NONE);
        for c in 0..self.children.len() {
            let sought = seek(&mut self.children[c]);
            self.check(c, sought)?;
        }
        self.play_all();
        Ok(())
    }

    /// Moves all children but the winner to the other side of the winner's entry.
    fn turn(&mut self, to: Direction) -> Result<(), I::Error> {
        self.direction = to;
        let winner = self.winner;
        for c in (0..self.children.len()).filter(|c| *c != winner) {
            let [child, winning] = self.children.get_disjoint_mut([c, winner]).expect("two children");
            let key = winning.key();
            let sought = match to {
                Direction::Forward => child.seek(key),
                Direction::Backward => child.seek_for_prev(key),
            };
            // Of equal keys, those of earlier children come first.
            let is_same = sought.is_ok() && child.valid() && child.key() == key;
            let moved = match to {
                Direction::Forward if is_same && c < winner => child.next(),
                Direction::Backward if is_same && c > winner => child.prev(),
                _ => sought,
            };
            self.check(c, moved)?;
        }
        Ok(())
    }

    /// Moves the winner on, after a turn if the last move went the other way.
    #[inline]
    fn step(&mut self, to: Direction, step: impl Fn(&mut I) -> Result<(), I::Error>) -> Result<(), I::Error> {
        let turns = self.direction != to;
        if self.winner == NONE {
            assert!(self.failed != NONE, "a step on an iterator that stands nowhere");
            return step(&mut self.children[self.failed]);
        }
        if turns {
            self.turn(to)?;
        }
        let stepped = step(&mut self.children[self.winner]);
        self.check(self.winner, stepped)?;
        if turns {
            self.play_all();
        } else {
            self.play_winner();
        }
        Ok(())
    }

    /// Remembers a child that failed.
    #[inline]
    fn check(&mut self, child: usize, result: Result<(), I::Error>) -> Result<(), I::Error> {
        if result.is_err() {
            (self.failed, self.winner) = (child, NONE);
        }
        result
    }
}

/// The user key a child stands on.
#[inline]
fn user_key<I: InternalIterator>(child: &I) -> Option<&[u8]> {
    child.valid().then(|| child.key().user_key)
}

impl<I: InternalIterator> InternalIterator for MergingIterator<I> {
    type Error = I::Error;

    #[inline]
    fn valid(&self) -> bool {
        self.winner != NONE
    }

    fn seek_to_first(&mut self) -> Result<(), I::Error> {
        self.seek_all(Direction::Forward, I::seek_to_first)
    }

    fn seek_to_last(&mut self) -> Result<(), I::Error> {
        self.seek_all(Direction::Backward, I::seek_to_last)
    }

    fn seek(&mut self, target: InternalKey<'_>) -> Result<(), I::Error> {
        if self.children.len() == 1 {
            return self.seek_all(Direction::Forward, |child| child.seek(target));
        }
        self.prepare_seek(target);
        self.seek_prepared(target)
    }

    fn prepare_seek(&mut self, target: InternalKey<'_>) {
        self.children.iter_mut().for_each(|child| child.prepare_seek(target));
    }

    fn seek_prepared(&mut self, target: InternalKey<'_>) -> Result<(), I::Error> {
        self.seek_all(Direction::Forward, |child| child.seek_prepared(target))
    }

    fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<(), I::Error> {
        self.seek_all(Direction::Backward, |child| child.seek_for_prev(target))
    }

    #[inline]
    fn next(&mut self) -> Result<(), I::Error> {
        self.step(Direction::Forward, I::next)
    }

    #[inline]
    fn prev(&mut self) -> Result<(), I::Error> {
        self.step(Direction::Backward, I::prev)
    }

    #[inline]
    fn key(&self) -> InternalKey<'_> {
        self.children[self.winner].key()
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.children[self.winner].value()
    }

    fn value_slice(&self) -> Slice {
        self.children[self.winner].value_slice()
    }

    /// Known only in the direction of travel: there the other children stand right behind the winner.
    #[inline]
    fn next_is_other_key(&mut self) -> bool {
        self.children[self.winner].next_is_other_key()
            && (self.travels(Direction::Forward) && self.is_only_one_of_its_key())
    }

    #[inline]
    fn prev_is_other_key(&mut self) -> bool {
        self.children[self.winner].prev_is_other_key()
            && (self.travels(Direction::Backward) && self.is_only_one_of_its_key())
    }

    #[inline]
    fn try_next_key(&mut self) -> Option<Trailer> {
        if self.alone && self.travels(Direction::Forward) {
            return self.children[self.winner].try_next_key();
        }
        if self.direction != Direction::Forward || !self.is_only_one_of_its_key() {
            return None;
        }
        self.children[self.winner].try_next_key()?;
        self.play_winner();
        Some(self.key().trailer)
    }

    /// With several live children it does not go: another may stand on a version of the key before.
    #[inline]
    fn try_prev_key(&mut self) -> Option<Trailer> {
        if self.alone && self.travels(Direction::Backward) {
            return self.children[self.winner].try_prev_key();
        }
        None
    }
}
