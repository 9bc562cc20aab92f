//! Where a tree's memory comes from: the pool, while it has some, else the allocator; and how much it is.

use super::index::{PAGE_SLOTS, Page};
use super::node::{Inner, Leaf};
use super::records::LARGEST_CHUNK_BYTES;
use crate::arena::{Chunk, Right};
use crate::list::List;
use crate::pool::Pool;
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
    pub(super) fn push<T>(&mut self, list: &List<T>, item: Box<T>) -> usize {
        let (index, bytes) = list.push(item);
        self.bytes += bytes;
        index
    }

    /// A chunk of `capacity` bytes, empty.
    pub(super) fn chunk(&mut self, capacity: usize) -> (Box<Chunk>, Right) {
        self.bytes += capacity + size_of::<Chunk>();
        let pooled = self.pool.as_ref().filter(|_| capacity == LARGEST_CHUNK_BYTES).and_then(|pool| pool.take_chunk());
        match pooled {
            Some(mut chunk) => {
                let right = chunk.reset();
                (chunk, right)
            }
            None => {
                let (chunk, right) = Chunk::with_capacity(capacity);
                (Box::new(chunk), right)
            }
        }
    }

    /// A leaf, with anything in it.
    pub(super) fn leaf(&mut self) -> Box<Leaf<N>> {
        self.bytes += size_of::<Leaf<N>>();
        self.pool.as_ref().and_then(|pool| pool.take_leaf()).unwrap_or_else(|| Box::new(Leaf::new()))
    }

    /// An inner node, with anything in it.
    pub(super) fn inner(&mut self) -> Box<Inner<N>> {
        self.bytes += size_of::<Inner<N>>();
        Box::new(Inner::new())
    }

    /// A page of the index, all zeros.
    pub(super) fn page(&mut self) -> Box<Page> {
        self.bytes += PAGE_SLOTS * size_of::<u64>();
        match self.pool.as_ref().and_then(|pool| pool.take_page()) {
            Some(mut page) => {
                page.iter_mut().for_each(|slot| *slot.get_mut() = 0);
                page
            }
            None => super::index::empty_page(),
        }
    }

    /// Gives back to the pool what it may use again.
    pub(super) fn give_back(
        &self,
        chunks: impl FnOnce() -> Vec<Box<Chunk>>,
        leaves: impl FnOnce() -> Vec<Box<Leaf<N>>>,
        pages: impl FnOnce() -> Vec<Box<Page>>,
    ) {
        if let Some(pool) = &self.pool {
            pool.give_back(chunks(), leaves(), pages());
        }
    }
}
