//! Where a tree's memory comes from: the pool, while it has some, else the allocator; and how much it is.

use super::index::{PAGE_SLOTS, Page};
use super::node::{Inner, Leaf};
use super::records::LARGEST_CHUNK_BYTES;
use crate::arena::{Chunk, Right};
use crate::list::List;
use crate::pool::Pool;
use crate::room::{REGION_BYTES, Room};
use std::sync::Arc;

/// One tree's supply.
pub(super) struct Supply<const N: usize> {
    pool: Option<Arc<Pool<N>>>,
    bytes: usize,
}

impl<const N: usize> Supply<N> {
    pub(super) fn new(pool: Option<Arc<Pool<N>>>) -> Self {
        Self { pool, bytes: 0 }
    }

    /// Bytes given out so far.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counts what was allocated otherwise.
    pub(super) fn count(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Puts an item into a list; returns its index.
    pub(super) fn push<T>(&mut self, list: &List<T>, item: Room<T>) -> usize {
        let (index, bytes) = list.push(item);
        self.bytes += bytes;
        index
    }

    /// The pool, and whether it should make what it has not: not for a small table, whose pages would be mostly unused.
    fn pool(&self) -> Option<(&Pool<N>, bool)> {
        self.pool.as_ref().map(|pool| (&**pool, self.bytes >= REGION_BYTES))
    }

    /// A chunk of `capacity` bytes, empty; for `small` records in a region, if the pool makes one.
    pub(super) fn chunk(&mut self, capacity: usize, small: bool) -> (Room<Chunk>, Right) {
        let pool = self.pool().filter(|_| capacity == LARGEST_CHUNK_BYTES);
        let pooled = pool.and_then(|(pool, is_large)| pool.take_chunk(is_large && small));
        self.bytes += capacity + size_of::<Chunk>();
        match pooled {
            Some(mut chunk) => {
                let right = chunk.reset();
                (chunk, right)
            }
            None => {
                let (chunk, right) = Chunk::with_capacity(capacity);
                (Box::new(chunk).into(), right)
            }
        }
    }

    /// A leaf, with anything in it.
    pub(super) fn leaf(&mut self) -> Room<Leaf<N>> {
        let pooled = self.pool().and_then(|(pool, is_large)| pool.take_leaf(is_large));
        self.bytes += size_of::<Leaf<N>>();
        pooled.unwrap_or_else(|| Box::new(Leaf::new()).into())
    }

    /// An inner node, with anything in it.
    pub(super) fn inner(&mut self) -> Room<Inner<N>> {
        self.bytes += size_of::<Inner<N>>();
        Box::new(Inner::new()).into()
    }

    /// A page of the index, all zeros.
    pub(super) fn page(&mut self) -> Room<Page> {
        let pooled = self.pool().and_then(|(pool, is_large)| pool.take_page(is_large));
        self.bytes += PAGE_SLOTS * size_of::<u64>();
        match pooled {
            Some(mut page) => {
                page.iter_mut().for_each(|slot| *slot.get_mut() = 0);
                page
            }
            None => Box::new(super::index::empty_page()).into(),
        }
    }

    /// Gives back to the pool what it may use again.
    pub(super) fn give_back(
        &self,
        chunks: impl FnOnce() -> Vec<Room<Chunk>>,
        leaves: impl FnOnce() -> Vec<Room<Leaf<N>>>,
        pages: impl FnOnce() -> Vec<Room<Page>>,
    ) {
        if let Some(pool) = &self.pool {
            pool.give_back(chunks(), leaves(), pages());
        }
    }
}
