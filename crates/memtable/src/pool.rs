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
/// It takes back what a dropped table held, up to a limit, and gives it to the next one. Only tables that have outgrown a first
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
    /// thread that has time, before a table needs it. Whether any was missing.
    pub fn prepare(&self, bytes: usize) -> bool {
        self.0.prepare(bytes.min(self.0.bytes_max))
    }

    /// Frees what lies beyond `bytes`.
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
    chunks: Vec<Room<Chunk>>,
    leaves: Vec<Room<Leaf<N>>>,
    pages: Vec<Room<Page>>,
}

impl<const N: usize> Default for Stock<N> {
    fn default() -> Self {
        Self { chunks: Vec::new(), leaves: Vec::new(), pages: Vec::new() }
    }
}

impl<const N: usize> Stock<N> {
    fn bytes(&self) -> usize {
        self.chunks.len() * LARGEST_CHUNK_BYTES
            + self.leaves.len() * size_of::<Leaf<N>>()
            + self.pages.len() * size_of::<Page>()
    }

    /// Puts neighbours in memory side by side, so that whole regions are freed.
    fn sort(&mut self) {
        self.chunks.sort_unstable_by_key(|chunk| chunk.address());
        self.leaves.sort_unstable_by_key(|leaf| (&raw const **leaf).addr());
        self.pages.sort_unstable_by_key(|page| (&raw const **page).addr());
    }

    /// Takes out something to be freed: the kind of which there is most.
    fn pop(&mut self) -> Option<Discarded<N>> {
        let leaves = self.leaves.len() * size_of::<Leaf<N>>();
        let pages = self.pages.len() * size_of::<Page>();
        if self.chunks.len() * LARGEST_CHUNK_BYTES >= leaves.max(pages) && !self.chunks.is_empty() {
            return self.chunks.pop().map(Discarded::Chunk);
        }
        if leaves >= pages { self.leaves.pop().map(Discarded::Leaf) } else { self.pages.pop().map(Discarded::Page) }
    }
}

/// What the pool lets go of. Freed outside its lock.
#[expect(dead_code, reason = "held to be dropped")]
enum Discarded<const N: usize> {
    Chunk(Room<Chunk>),
    Leaf(Room<Leaf<N>>),
    Page(Room<Page>),
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
        self.take(|stock| &mut stock.chunks, make.then_some(new_chunks))
    }

    /// As [`Pool::take_chunk`].
    pub(crate) fn take_leaf(&self, make: bool) -> Option<Room<Leaf<N>>> {
        self.take(|stock| &mut stock.leaves, make.then_some(|| Room::many(Leaf::new)))
    }

    /// As [`Pool::take_chunk`].
    pub(crate) fn take_page(&self, make: bool) -> Option<Room<Page>> {
        self.take(|stock| &mut stock.pages, make.then_some(|| Room::many(empty_page)))
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
            stock.chunks.extend(chunks.into_iter().filter(|chunk| chunk.capacity() == LARGEST_CHUNK_BYTES));
            stock.leaves.extend(leaves);
            stock.pages.extend(pages);
        });
        self.shrink_to(self.bytes_max);
    }

    pub(crate) fn shrink_to(&self, bytes: usize) {
        let freed: Vec<_> = self.change(|stock| {
            if stock.bytes() > bytes {
                stock.sort();
            }
            std::iter::from_fn(|| if stock.bytes() > bytes { stock.pop() } else { None }).collect()
        });
        drop(freed);
    }

    fn prepare(&self, bytes: usize) -> bool {
        // Entries of some 100 bytes fill chunks, leaves and pages about 10 : 3 : 1.
        let chunks = bytes / 14 * 10 / LARGEST_CHUNK_BYTES;
        let leaves = bytes / 14 * 3 / size_of::<Leaf<N>>();
        let pages = bytes / 14 / size_of::<Page>();
        let (chunks, leaves, pages) = {
            let stock = self.lock();
            let missing = |wanted: usize, there: usize| wanted.saturating_sub(there);
            (
                missing(chunks, stock.chunks.len()),
                missing(leaves, stock.leaves.len()),
                missing(pages, stock.pages.len()),
            )
        };
        if chunks + leaves + pages == 0 {
            return false;
        }
        // A few at a time, so that who needs one meanwhile finds it.
        let mut made = 0;
        while made < chunks {
            let mut some = if self.in_regions() {
                new_chunks()
            } else {
                vec![Box::new(Chunk::with_capacity(LARGEST_CHUNK_BYTES).0).into()]
            };
            made += some.len();
            some.iter_mut().for_each(|chunk| chunk.touch());
            self.give_back(some, Vec::new(), Vec::new());
        }
        let leaves = self.make(leaves, Leaf::new);
        let pages = self.make(pages, empty_page);
        self.give_back(Vec::new(), leaves, pages);
        true
    }

    /// At least `count` items.
    fn make<T>(&self, count: usize, make: impl Fn() -> T) -> Vec<Room<T>> {
        let mut rooms = Vec::new();
        while rooms.len() < count {
            if self.in_regions() {
                rooms.append(&mut Room::many(&make));
            } else {
                rooms.push(Box::new(make()).into());
            }
        }
        rooms
    }
}

fn new_chunks() -> Vec<Room<Chunk>> {
    Chunk::many(LARGEST_CHUNK_BYTES).map(|chunk| Box::new(chunk).into()).collect()
}
