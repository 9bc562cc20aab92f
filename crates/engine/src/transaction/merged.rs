//! [`Merged`]: a walk over what a transaction sees: a snapshot, and over it what the transaction has written itself.
//!
//! ```text
//! snapshot   a=1        c=3   d=4
//! own         a+2  b=2  c=x   d deleted    f=6
//! seen       a=1+2 b=2  c=x                f=6
//! ```
//! Ranges that the transaction has deleted hide what there is of them in the snapshot, as range tombstones of a newer source would, so the walk never comes upon it.
//! Both stand at their first entry at or behind the place of the walk (backward: their last one at or before it), and the nearer one is shown; at one key the own one. Turning seeks anew.
//! So where an own entry is shown that is merged into what lies below, the snapshot's stands either on the same key or has none of it; what both amount to is made when it is asked for, and then counts as read.
//! A walk to one end begins where the snapshot's own has come to, which [remembers](crate::edges) up to where it has found nothing; what the transaction has written itself is looked for from the very end on, and all up to where the walk stands is read, as if it had gone all the way.
//!
//! Every move tells the transaction's reads how far the walk has looked, so that what nobody asked for is not part of them.

use super::operands::OwnOperands;
use super::own::{Own, OwnEntry, OwnWrite};
use crate::core::KeyspaceCore;
use crate::cursor::Cursor;
use crate::edges::Extreme;
use crate::ends::End;
use crate::error::{Error, Result};
use crate::expiry::AsOf;
use crate::read::ReadState;
use crate::read_set::{Edge, ReadSet};
use crate::walk::Walk;
use esker_format::Slice;
use esker_iterator::{Bounds, Covering, Covers};
use parking_lot::Mutex;
use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::{Arc, OnceLock};

/// What a transaction has read; `None` once it has ended.
pub(super) type Tracked = Arc<Mutex<Option<ReadSet>>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Nowhere,
    Base,
    Own,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
}

/// A walk over a keyspace as a transaction sees it, within bounds.
pub(super) struct Merged {
    base: Cursor,
    own: Own,
    own_at: Option<OwnEntry>,
    bounds: Bounds,
    at: At,
    direction: Direction,
    failed: Option<Error>,
    scan: Option<Scanning>,
    /// What operands of its own make at the key shown, once that was asked for.
    loaded: OnceLock<Slice>,
}

/// The walk's part of what is read.
struct Scanning {
    tracked: Tracked,
    keyspace: Arc<KeyspaceCore>,
    number: Option<usize>,
}

impl Scanning {
    fn begin(&mut self, at: Edge<&[u8]>, own: &Own) {
        self.end();
        self.number = self.tracked.lock().as_mut().map(|reads| reads.begin_scan(&self.keyspace, at, own));
    }

    fn came_to(&self, edge: Edge<&[u8]>) {
        if let (Some(number), Some(reads)) = (self.number, &mut *self.tracked.lock()) {
            reads.scan_came_to(number, edge);
        }
    }

    /// The value of a key was asked for, of which the transaction has not written all.
    fn has_read(&self, key: &[u8]) {
        if let Some(reads) = &mut *self.tracked.lock() {
            reads.add_key(&self.keyspace, key);
        }
    }

    fn end(&mut self) {
        if let (Some(number), Some(reads)) = (self.number.take(), &mut *self.tracked.lock()) {
            reads.end_scan(number);
        }
    }
}

impl Drop for Scanning {
    fn drop(&mut self) {
        self.end();
    }
}

/// What a transaction sees of a range: all that a walk over it needs.
pub(super) struct Seen {
    pub(super) state: Arc<ReadState>,
    pub(super) at: AsOf,
    pub(super) own: Own,
    pub(super) bounds: Bounds,
    pub(super) keyspace: Arc<KeyspaceCore>,
    /// Where to tell what is read, unless nobody asks.
    pub(super) tracked: Option<Tracked>,
}

impl Seen {
    /// What the transaction has deleted by ranges hides all there is in its snapshot.
    fn own_ranges(&self) -> Covers {
        let mut covers = Covers::new();
        if self.own.has_ranges() {
            covers.push(0, Arc::clone(&self.own) as Arc<dyn Covering>);
        }
        covers
    }

    pub(super) fn walk(&self) -> Merged {
        self.walk_over(self.base())
    }

    /// A walk that stands at one end of it all, where that of the snapshot stands on `below`, or has found nothing.
    pub(super) fn walk_to(&self, end: Extreme, below: Option<Walk>) -> Result<Merged> {
        debug_assert_eq!(self.bounds, Bounds::default());
        let (base, sought) = match below {
            None => (self.base(), Ok(())),
            // Which may lie in one of them.
            Some(below) if self.own.has_ranges() => {
                let mut base = self.base();
                let sought = match end {
                    Extreme::First => base.seek(below.key()),
                    Extreme::Last => base.seek_for_prev(below.key()),
                };
                (base, sought)
            }
            // What its bounds leave out is nothing.
            Some(below) => (Cursor::standing(below, self.at, Bounds::default()), Ok(())),
        };
        let mut walk = self.walk_over(base);
        walk.begin_at(end);
        walk.settle(sought)?;
        Ok(walk)
    }

    /// What of it is the snapshot's.
    fn base(&self) -> Cursor {
        Cursor::under(self.own_ranges(), Arc::clone(&self.state), self.at, self.bounds.clone())
    }

    fn walk_over(&self, base: Cursor) -> Merged {
        let scanning =
            |tracked| Scanning { tracked: Arc::clone(tracked), keyspace: Arc::clone(&self.keyspace), number: None };
        Merged {
            base,
            own: Arc::clone(&self.own),
            own_at: None,
            bounds: self.bounds.clone(),
            at: At::Nowhere,
            direction: Direction::Forward,
            failed: None,
            scan: self.tracked.as_ref().map(scanning),
            loaded: OnceLock::new(),
        }
    }
}

impl End for Merged {
    fn valid(&self) -> bool {
        self.at != At::Nowhere
    }

    /// # Panics
    /// If it stands nowhere.
    fn key(&self) -> &[u8] {
        match self.at {
            At::Base => self.base.key(),
            At::Own => &self.own_entry().0,
            At::Nowhere => panic!("key() of a cursor that stands nowhere"),
        }
    }

    fn value_slice(&self) -> Result<Slice> {
        match self.at {
            At::Base => self.base.value_slice(),
            _ => match self.own_entry() {
                (_, OwnWrite::Put(value)) => Ok(value.clone()),
                (key, OwnWrite::Merged(operands)) => self.merged(key, operands).cloned(),
                (_, OwnWrite::Deleted) => unreachable!("what was deleted is not shown"),
            },
        }
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.begin_at(Extreme::First);
        let sought = self.base.seek_to_first();
        self.settle(sought)
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.begin_at(Extreme::Last);
        let sought = self.base.seek_to_last();
        self.settle(sought)
    }

    /// To the next key; nowhere, it stays there.
    fn next(&mut self) -> Result<()> {
        if self.at == At::Nowhere {
            return self.failed.clone().map_or(Ok(()), Err);
        }
        let moved = match self.direction {
            Direction::Forward => self.leave(Cursor::next, Self::own_from),
            Direction::Backward => self.turn(Direction::Forward, Cursor::seek, Cursor::next, Self::own_from),
        };
        self.settle(moved)
    }

    /// To the key before; nowhere, it stays there.
    fn prev(&mut self) -> Result<()> {
        if self.at == At::Nowhere {
            return self.failed.clone().map_or(Ok(()), Err);
        }
        let moved = match self.direction {
            Direction::Backward => self.leave(Cursor::prev, Self::own_to),
            Direction::Forward => self.turn(Direction::Backward, Cursor::seek_for_prev, Cursor::prev, Self::own_to),
        };
        self.settle(moved)
    }
}

impl Merged {
    /// # Panics
    /// If it stands nowhere.
    pub(super) fn value(&self) -> Result<&[u8]> {
        match self.at {
            At::Base => self.base.value(),
            At::Own => match self.own_entry() {
                (_, OwnWrite::Put(value)) => Ok(value),
                (key, OwnWrite::Merged(operands)) => self.merged(key, operands).map(|value| &**value),
                (_, OwnWrite::Deleted) => unreachable!("what was deleted is not shown"),
            },
            At::Nowhere => panic!("value() of a cursor that stands nowhere"),
        }
    }

    /// What operands of its own make of what lies below them, at the key shown.
    fn merged(&self, key: &[u8], operands: &OwnOperands) -> Result<&Slice> {
        if let Some(value) = self.loaded.get() {
            return Ok(value);
        }
        let upon_snapshot = operands.needs_snapshot();
        if upon_snapshot && let Some(scan) = &self.scan {
            scan.has_read(key);
        }
        let value = self.base.merged_under(key, operands.stack(), upon_snapshot)?;
        Ok(self.loaded.get_or_init(|| value))
    }

    /// How many keys of the snapshot it has passed because they are deleted or have expired.
    #[cfg(test)]
    pub(super) fn passed(&self) -> u64 {
        self.base.passed()
    }

    fn own_entry(&self) -> &OwnEntry {
        self.own_at.as_ref().expect("it stands on one of its own")
    }

    pub(super) fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.begin_scan(|lower, upper| Edge::before(key).clamp(lower, upper));
        self.direction = Direction::Forward;
        self.own_at = self.own_from(Bound::Included(key));
        let sought = self.base.seek(key);
        self.settle(sought)
    }

    pub(super) fn seek_for_prev(&mut self, key: &[u8]) -> Result<()> {
        self.begin_scan(|lower, upper| Edge::behind(key).clamp(lower, upper));
        self.direction = Direction::Backward;
        self.own_at = self.own_to(Bound::Included(key));
        let sought = self.base.seek_for_prev(key);
        self.settle(sought)
    }

    /// Moves whatever stands on the key shown.
    fn leave(
        &mut self,
        step: fn(&mut Cursor) -> Result<()>,
        own: fn(&Self, Bound<&[u8]>) -> Option<OwnEntry>,
    ) -> Result<()> {
        match &self.own_at {
            Some((key, _)) if self.at == At::Own => {
                let both = self.base.valid() && self.base.key() == &**key;
                self.own_at = own(self, Bound::Excluded(key));
                if both { step(&mut self.base) } else { Ok(()) }
            }
            _ => step(&mut self.base),
        }
    }

    /// Puts both on the other side of the key shown.
    fn turn(
        &mut self,
        direction: Direction,
        seek: fn(&mut Cursor, Slice) -> Result<()>,
        step: fn(&mut Cursor) -> Result<()>,
        own: fn(&Self, Bound<&[u8]>) -> Option<OwnEntry>,
    ) -> Result<()> {
        let key = Slice::from(self.key());
        self.direction = direction;
        self.own_at = own(self, Bound::Excluded(&key));
        seek(&mut self.base, key.clone())?;
        if self.base.valid() && self.base.key() == &*key { step(&mut self.base) } else { Ok(()) }
    }

    /// Shows the nearer of the two, past what the transaction has deleted.
    fn settle(&mut self, mut moved: Result<()>) -> Result<()> {
        if self.loaded.get().is_some() {
            self.loaded.take();
        }
        loop {
            if let Err(error) = moved {
                self.at = At::Nowhere;
                self.failed = Some(error.clone());
                return Err(error);
            }
            let order = match (&self.own_at, self.base.valid()) {
                (None, false) => break self.at = At::Nowhere,
                (None, true) => break self.at = At::Base,
                (Some(_), false) => Ordering::Less,
                (Some((key, _)), true) => match self.direction {
                    Direction::Forward => (**key).cmp(self.base.key()),
                    Direction::Backward => self.base.key().cmp(key),
                },
            };
            match (order, self.own_entry()) {
                (Ordering::Greater, _) => break self.at = At::Base,
                (_, (_, write)) if write.is_there() => break self.at = At::Own,
                _ => {
                    // One that was deleted, with what it hides.
                    self.at = At::Own;
                    moved = match self.direction {
                        Direction::Forward => self.leave(Cursor::next, Self::own_from),
                        Direction::Backward => self.leave(Cursor::prev, Self::own_to),
                    };
                }
            }
        }
        self.failed = None;
        self.came_here();
        Ok(())
    }

    /// The first of its own at or behind a bound, and within the walk's.
    fn own_from(&self, from: Bound<&[u8]>) -> Option<OwnEntry> {
        let lower = self.bounds.lower.as_ref().map(|key| &**key);
        let from = match (from, lower) {
            (Bound::Unbounded, lower) => lower,
            (Bound::Included(key) | Bound::Excluded(key), _) if self.bounds.reaches_down_to(key) => from,
            (_, lower) => lower,
        };
        let (key, write) = self.own.entries((from, Bound::Unbounded)).next()?;
        self.bounds.reaches_up_to(key).then(|| (key.clone(), write.clone()))
    }

    /// The last of its own at or before a bound, and within the walk's.
    fn own_to(&self, to: Bound<&[u8]>) -> Option<OwnEntry> {
        let upper = self.bounds.upper.as_ref().map(|key| &**key);
        let to = match (to, upper) {
            (Bound::Unbounded, upper) => upper,
            (Bound::Included(key) | Bound::Excluded(key), _) if self.bounds.reaches_up_to(key) => to,
            (_, upper) => upper,
        };
        let (key, write) = self.own.entries((Bound::Unbounded, to)).next_back()?;
        self.bounds.reaches_down_to(key).then(|| (key.clone(), write.clone()))
    }

    /// Begins at one end, from where its own is looked for.
    fn begin_at(&mut self, end: Extreme) {
        match end {
            Extreme::First => {
                self.begin_scan(|lower, _| lower);
                self.direction = Direction::Forward;
                self.own_at = self.own_from(Bound::Unbounded);
            }
            Extreme::Last => {
                self.begin_scan(|_, upper| upper);
                self.direction = Direction::Backward;
                self.own_at = self.own_to(Bound::Unbounded);
            }
        }
    }

    fn begin_scan<'a>(&'a mut self, at: impl FnOnce(Edge<&'a [u8]>, Edge<&'a [u8]>) -> Edge<&'a [u8]>) {
        let (lower, upper) = Edge::of_bounds(&self.bounds);
        if let Some(scan) = &mut self.scan
            && lower < upper
        {
            scan.begin(at(lower, upper), &self.own);
        }
    }

    fn came_here(&self) {
        let Some(scan) = &self.scan else { return };
        let (lower, upper) = Edge::of_bounds(&self.bounds);
        scan.came_to(match (self.direction, self.at) {
            (Direction::Forward, At::Nowhere) => upper,
            (Direction::Backward, At::Nowhere) => lower,
            (Direction::Forward, _) => Edge::behind(self.key()),
            (Direction::Backward, _) => Edge::before(self.key()),
        });
    }
}
