//! Memory that dropped tables leave for the next ones.
//!
//! The first touch of a page of fresh memory costs a fault, some 1,400 ns; a table of 64 MiB takes 16,000 of them in the midst of
//! its inserts. So chunks, leaves and index pages go from table to table, and [`ArenaPool::prepare`] has fresh ones faulted in by
//! whoever has time. What the pool makes it makes by regions of huge pages ([`crate::room`]), unless it is so small that a few of them are much of it.

use crate::SLOTS;
use crate::arena::Chunk;
use crate::room::{REGION_BYTES, Room};
use crate::tree::index::{Page, empty_page};
use crate::tree::node::Leaf;
use crate::tree::records::LARGEST_CHUNK_BYTES;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

/// Memory for memtables, shared by the tables of an engine. Clones are the same pool.
///
/// It takes back what a dropped table held, up to a limit (beyond it what lies in regions that tables use as well, until they come back), and gives it to the next one. Only tables that have outgrown a first
/// few hundred KiB draw from it.
#[derive(Clone)]
pub struct ArenaPool(pub(crate) Arc<Pool<SLOTS>>);

impl ArenaPool {
    /// An empty pool that keeps up to `bytes_max`.
    pub fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Pool::new(bytes_max)))
    }

    /// Bytes that lie in it.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// Makes fresh memory ready to be written, until there is as much of it as some `bytes` of entries take: to be called by a
    /// thread that has time, before a table needs it. Whether any was made.
    pub fn prepare(&self, bytes: usize) -> bool {
        self.0.prepare(bytes.min(self.0.bytes_max))
    }

    /// Frees what lies beyond `bytes`, as far as nothing in use lies beside it.
    pub fn shrink_to(&self, bytes: usize) {
        self.0.shrink_to(bytes);
    }
}

impl fmt::Debug for ArenaPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArenaPool").field("bytes", &self.bytes()).field("bytes_max", &self.0.bytes_max).finish()
    }
}

/// The pool of trees with `N` slots a node.
pub(crate) struct Pool<const N: usize> {
    stock: Mutex<Stock<N>>,
    bytes: AtomicUsize,
    bytes_max: usize,
}

struct Stock<const N: usize> {
    chunks: Shelf<Chunk>,
    leaves: Shelf<Leaf<N>>,
    pages: Shelf<Page>,
}

impl<const N: usize> Default for Stock<N> {
    fn default() -> Self {
        Self {
            chunks: Shelf::new(LARGEST_CHUNK_BYTES, |chunk| Chunk::region_address(chunk)),
            leaves: Shelf::new(size_of::<Leaf<N>>(), Room::region_address),
            pages: Shelf::new(size_of::<Page>(), Room::region_address),
        }
    }
}

impl<const N: usize> Stock<N> {
    fn bytes(&self) -> usize {
        self.chunks.bytes() + self.leaves.bytes() + self.pages.bytes()
    }
}

/// Items of one kind.
///
/// Invariant: of a region, either all items are alive, here or in tables, or none. So what lies here and what tables hold is all the memory there is.
struct Shelf<T> {
    rooms: Vec<Room<T>>,
    item_bytes: usize,
    /// Where the region is in which an item lies.
    region: fn(&Room<T>) -> Option<usize>,
    /// Whether less could be freed than was asked for, and nothing has come back since.
    is_stuck: bool,
}

impl<T> Shelf<T> {
    fn new(item_bytes: usize, region: fn(&Room<T>) -> Option<usize>) -> Self {
        Self { rooms: Vec::new(), item_bytes, region, is_stuck: false }
    }

    fn bytes(&self) -> usize {
        self.rooms.len() * self.item_bytes
    }

    fn put(&mut self, rooms: impl IntoIterator<Item = Room<T>>) {
        self.rooms.extend(rooms);
        self.is_stuck = false;
    }

    /// Takes out some `bytes`, if there are so many that can be freed: what is in boxes, and regions all of which is here.
    fn take_freeable(&mut self, bytes: usize) -> Vec<Room<T>> {
        if self.is_stuck || bytes == 0 {
            return Vec::new();
        }
        let per_region = REGION_BYTES / self.item_bytes;
        let rooms = &mut self.rooms;
        rooms.sort_unstable_by_key(self.region);
        let (mut freeable, mut kept) = (Vec::new(), Vec::new());
        while freeable.len() * self.item_bytes < bytes
            && let Some(last) = rooms.last()
        {
            let region = (self.region)(last);
            let count = match region {
                None => 1,
                Some(_) => rooms.iter().rev().take_while(|room| (self.region)(room) == region).count(),
            };
            let is_whole = region.is_none() || count == per_region;
            let some = rooms.drain(rooms.len() - count..);
            if is_whole { freeable.extend(some) } else { kept.extend(some) }
        }
        // At the end, from which tables take: regions that are in use anyway are used up before whole ones are begun.
        rooms.append(&mut kept);
        self.is_stuck = freeable.len() * self.item_bytes < bytes;
        freeable
    }
}

impl<const N: usize> Pool<N> {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { stock: Mutex::default(), bytes: AtomicUsize::new(0), bytes_max }
    }

    pub(crate) fn bytes(&self) -> usize {
        // Relaxed: a figure; it publishes nothing.
        self.bytes.load(Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Stock<N>> {
        self.stock.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Runs on the stock, then brings the figure up to date.
    fn change<T>(&self, run: impl FnOnce(&mut Stock<N>) -> T) -> T {
        let mut stock = self.lock();
        let result = run(&mut stock);
        // Relaxed: see `bytes`.
        self.bytes.store(stock.bytes(), Relaxed);
        result
    }

    /// Whether it makes regions.
    fn in_regions(&self) -> bool {
        self.bytes_max >= 16 * REGION_BYTES
    }

    /// A chunk of the largest size, if there is one, or `make` asks for one to be made.
    pub(crate) fn take_chunk(&self, make: bool) -> Option<Room<Chunk>> {
        self.take(|stock| &mut stock.chunks.rooms, make.then_some(new_chunks))
    }

    /// As [`Pool::take_chunk`].
    pub(crate) fn take_leaf(&self, make: bool) -> Option<Room<Leaf<N>>> {
        self.take(|stock| &mut stock.leaves.rooms, make.then_some(|| Room::many(Leaf::new)))
    }

    /// As [`Pool::take_chunk`].
    pub(crate) fn take_page(&self, make: bool) -> Option<Room<Page>> {
        self.take(|stock| &mut stock.pages.rooms, make.then_some(|| Room::many(empty_page)))
    }

    fn take<T>(
        &self,
        kind: fn(&mut Stock<N>) -> &mut Vec<Room<T>>,
        many: Option<fn() -> Vec<Room<T>>>,
    ) -> Option<Room<T>> {
        let taken = self.change(|stock| kind(stock).pop());
        match many {
            Some(many) if taken.is_none() && self.in_regions() => {
                let mut rooms = many();
                let room = rooms.pop();
                self.change(|stock| kind(stock).append(&mut rooms));
                room
            }
            _ => taken,
        }
    }

    /// Takes what a table held, as far as there is room.
    pub(crate) fn give_back(&self, chunks: Vec<Room<Chunk>>, leaves: Vec<Room<Leaf<N>>>, pages: Vec<Room<Page>>) {
        self.change(|stock| {
            stock.chunks.put(chunks.into_iter().filter(|chunk| chunk.capacity() == LARGEST_CHUNK_BYTES));
            stock.leaves.put(leaves);
            stock.pages.put(pages);
        });
        self.shrink_to(self.bytes_max);
    }

    /// Frees what lies beyond `bytes`, as far as nothing in use lies beside it.
    pub(crate) fn shrink_to(&self, bytes: usize) {
        // Freed outside the lock. Chunks first, which are most of it.
        let _freed = self.change(|stock| {
            let over = |stock: &Stock<N>| stock.bytes().saturating_sub(bytes);
            if over(stock) == 0 {
                return None;
            }
            let chunks = stock.chunks.take_freeable(over(stock));
            let leaves = stock.leaves.take_freeable(over(stock));
            Some((chunks, leaves, stock.pages.take_freeable(over(stock))))
        });
    }

    fn prepare(&self, bytes: usize) -> bool {
        // Entries of some 100 bytes fill chunks, leaves and pages about 10 : 3 : 1.
        let chunks = bytes / 14 * 10 / LARGEST_CHUNK_BYTES;
        let leaves = bytes / 14 * 3 / size_of::<Leaf<N>>();
        let pages = bytes / 14 / size_of::<Page>();
        let (chunks, leaves, pages) = {
            let stock = self.lock();
            (
                self.missing(chunks, &stock.chunks),
                self.missing(leaves, &stock.leaves),
                self.missing(pages, &stock.pages),
            )
        };
        if chunks + leaves + pages == 0 {
            return false;
        }
        // A few at a time, so that who needs one meanwhile finds it.
        let mut made = 0;
        while made < chunks {
            let mut some = self.some(new_chunks, || Chunk::with_capacity(LARGEST_CHUNK_BYTES).0);
            made += some.len();
            some.iter_mut().for_each(|chunk| chunk.touch());
            self.give_back(some, Vec::new(), Vec::new());
        }
        let (mut new_leaves, mut new_pages) = (Vec::new(), Vec::new());
        while new_leaves.len() < leaves {
            new_leaves.append(&mut self.some(|| Room::many(Leaf::new), Leaf::new));
        }
        while new_pages.len() < pages {
            new_pages.append(&mut self.some(|| Room::many(empty_page), empty_page));
        }
        self.give_back(Vec::new(), new_leaves, new_pages);
        true
    }

    /// How many of `wanted` are to be made: whole regions of them, so that no more are made than wanted.
    fn missing<T>(&self, wanted: usize, shelf: &Shelf<T>) -> usize {
        let at_once = if self.in_regions() { REGION_BYTES / shelf.item_bytes } else { 1 };
        wanted.saturating_sub(shelf.rooms.len()) / at_once * at_once
    }

    /// The items of a region, or one where there is none to be had.
    fn some<T>(&self, many: impl Fn() -> Vec<Room<T>>, one: impl Fn() -> T) -> Vec<Room<T>> {
        let rooms = if self.in_regions() { many() } else { Vec::new() };
        if rooms.is_empty() { vec![Box::new(one()).into()] } else { rooms }
    }
}

fn new_chunks() -> Vec<Room<Chunk>> {
    Chunk::many(LARGEST_CHUNK_BYTES).map(|chunk| Box::new(chunk).into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::regions_alive;

    #[test]
    fn what_is_prepared_comes_to_an_end() {
        for bytes_max in [REGION_BYTES, 16 * REGION_BYTES] {
            let pool = Pool::<128>::new(bytes_max);
            assert!(pool.prepare(bytes_max - 1));
            let bytes = pool.bytes();
            assert!(!pool.prepare(bytes_max - 1) && pool.bytes() == bytes && bytes <= bytes_max, "{bytes}");
        }
    }

    /// Leaves that tables went on holding once kept regions alive whose other leaves the pool had freed: memory that nobody counted, more with each table.
    #[test]
    fn no_region_is_alive_that_is_not_counted() {
        let pool = Pool::<128>::new(16 * REGION_BYTES);
        let mut held = std::collections::VecDeque::new();
        for round in 0..60 {
            pool.prepare(10 * REGION_BYTES);
            // Few leaves, for the table's records are long.
            let taken: Vec<_> = (0..90).filter_map(|_| pool.take_leaf(true)).collect();
            let chunks: Vec<_> = (0..25).filter_map(|_| pool.take_chunk(round % 2 == 0)).collect();
            held.push_back((chunks, taken));
            if held.len() > 3 {
                let (chunks, leaves) = held.pop_front().unwrap();
                pool.give_back(chunks, leaves, Vec::new());
            }
            let in_use: usize = held
                .iter()
                .map(|(chunks, leaves)| chunks.len() * LARGEST_CHUNK_BYTES + leaves.len() * size_of::<Leaf<128>>())
                .sum();
            // A region has a little room behind its last item.
            let counted = (pool.bytes() + in_use) * 101 / 100;
            assert!(regions_alive() * REGION_BYTES <= counted, "{} regions for {counted} bytes", regions_alive());
        }
        for (chunks, leaves) in held {
            pool.give_back(chunks, leaves, Vec::new());
        }
        assert!(pool.bytes() <= 16 * REGION_BYTES, "all of it may be freed now: {}", pool.bytes());
        pool.shrink_to(0);
        assert_eq!((pool.bytes(), regions_alive()), (0, 0));
    }
}
