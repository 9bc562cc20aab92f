//! Walking a memtable.

use crate::skiplist::{self, Index};
use crate::tree::Place;
use crate::{Body, MemTable};
use esker_format::{InternalKey, Trailer};
use esker_iterator::{InternalIterator, Lend, NothingLent, Stepped};
use std::convert::Infallible;
use std::sync::Arc;

/// Walks a [`MemTable`], and keeps it alive. Every step is a few loads, forward and backward.
///
/// It sees, in order, every entry whose insert had returned before the walk came to its place. One that is being inserted
/// meanwhile may be seen or not, and may be missing when the walk comes back to it at once. What is inserted loose meanwhile is seen
/// when it has been put in order ([`MemTable::insert_loose`]), which every seek does.
#[derive(Debug, Clone)]
pub struct MemTableIter {
    table: Arc<MemTable>,
    at: At,
}

/// Where it stands.
#[derive(Debug, Clone, Copy)]
enum At {
    Nowhere,
    Tree(Place),
    List(Index),
}

impl From<Place> for At {
    #[inline]
    fn from(place: Place) -> Self {
        if place.is_somewhere() { Self::Tree(place) } else { Self::Nowhere }
    }
}

impl From<Index> for At {
    #[inline]
    fn from(index: Index) -> Self {
        if index == skiplist::NONE { Self::Nowhere } else { Self::List(index) }
    }
}

impl MemTableIter {
    pub(crate) fn new(table: Arc<MemTable>) -> Self {
        Self { table, at: At::Nowhere }
    }
}

/// Puts the iterator where the form says; nowhere in a table that has none yet.
macro_rules! place {
    ($self:ident, $tree:ident => $in_tree:expr, $list:ident => $in_list:expr) => {{
        $self.at = match $self.table.body() {
            None => At::Nowhere,
            Some(Body::Tree($tree)) => {
                $tree.tie_loose();
                $in_tree.into()
            }
            Some(Body::List($list)) => $in_list.into(),
        };
        Ok(())
    }};
}

/// As the form says of where the iterator stands.
macro_rules! here {
    ($self:ident, $tree:ident, $place:ident => $in_tree:expr, $list:ident, $index:ident => $in_list:expr) => {
        match ($self.table.body(), $self.at) {
            (Some(Body::Tree($tree)), At::Tree($place)) => $in_tree,
            (Some(Body::List($list)), At::List($index)) => $in_list,
            _ => panic!("an iterator that stands nowhere"),
        }
    };
}

/// Writers come in between.
impl Lend for MemTableIter {
    type Lent = NothingLent;
}

impl InternalIterator for MemTableIter {
    type Error = Infallible;

    #[inline]
    fn valid(&self) -> bool {
        !matches!(self.at, At::Nowhere)
    }

    fn seek_to_first(&mut self) -> Result<(), Infallible> {
        place!(self, tree => tree.first(), list => list.first())
    }

    fn seek_to_last(&mut self) -> Result<(), Infallible> {
        place!(self, tree => tree.last(), list => list.last())
    }

    fn seek(&mut self, target: InternalKey<'_>) -> Result<(), Infallible> {
        place!(self, tree => tree.forward(target, true), list => list.at_or_behind(target))
    }

    fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<(), Infallible> {
        place!(self, tree => tree.backward(target, true), list => list.at_or_before(target))
    }

    #[inline]
    fn next(&mut self) -> Result<(), Infallible> {
        self.at = here!(self, tree, place => tree.next(place).into(), list, index => list.next(index).into());
        Ok(())
    }

    #[inline]
    fn prev(&mut self) -> Result<(), Infallible> {
        self.at = here!(self, tree, place => tree.prev(place).into(), list, index => list.prev(index).into());
        Ok(())
    }

    #[inline]
    fn key(&self) -> InternalKey<'_> {
        here!(self, tree, place => tree.record(place), list, index => list.record(index)).key()
    }

    #[inline]
    fn value(&self) -> &[u8] {
        here!(self, tree, place => tree.record(place), list, index => list.record(index)).value()
    }

    #[inline]
    fn try_next_key(&mut self) -> Option<Trailer> {
        let (Some(Body::Tree(tree)), At::Tree(place)) = (self.table.body(), self.at) else { return None };
        let next = tree.next(place);
        let differs = next.is_somewhere() && !tree.is_same_key(place, next);
        differs.then(|| {
            self.at = At::Tree(next);
            tree.record(next).trailer()
        })
    }

    #[inline]
    fn try_prev(&mut self) -> Option<Stepped> {
        let (Some(Body::Tree(tree)), At::Tree(place)) = (self.table.body(), self.at) else { return None };
        let prev = tree.prev(place);
        if !prev.is_somewhere() {
            return None;
        }
        let before = tree.prev(prev);
        self.at = At::Tree(prev);
        // A newer version that comes in between from now on is one that no reader of the present sees.
        let is_newest = before.is_somewhere() && !tree.is_same_key(before, prev);
        Some(Stepped { trailer: tree.record(prev).trailer(), is_newest })
    }

    #[inline]
    fn next_is_other_key(&mut self) -> bool {
        let (Some(Body::Tree(tree)), At::Tree(place)) = (self.table.body(), self.at) else { return false };
        let next = tree.next(place);
        next.is_somewhere() && !tree.is_same_key(place, next)
    }

    #[inline]
    fn prev_is_other_key(&mut self) -> bool {
        let (Some(Body::Tree(tree)), At::Tree(place)) = (self.table.body(), self.at) else { return false };
        let prev = tree.prev(place);
        prev.is_somewhere() && !tree.is_same_key(prev, place)
    }
}
