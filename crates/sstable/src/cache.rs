//! [`BlockCache`]: blocks that are not read from a map in place: decompressed ones, and those read into private copies.

use esker_format::mix;
use quick_cache::sync::Cache;
use quick_cache::{OptionsBuilder, Weighter};
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Bytes a cached block takes besides its payload: the cache's slot, the `Arc`.
const OVERHEAD_BYTES: u64 = 128;
/// For sizing the cache's own tables.
const TYPICAL_BLOCK_BYTES: u64 = 4096 + OVERHEAD_BYTES;

/// A cache of blocks, shared by any number of tables and threads, bounded by the bytes it holds.
///
/// Blocks of uncompressed tables that are read through a map never go in here. A block that is larger than a shard of the cache is
/// read each time. Blocks of tables that are gone make room as others come.
pub struct BlockCache {
    blocks: Cache<BlockKey, Arc<CachedBlock>, ByBytes, BuildHasherDefault<BlockKeyHasher>>,
    counts: [Counts; STRIPES],
}

/// Threads count look-ups apart, so that none waits for the line of another's counter.
const STRIPES: usize = 16;

/// How often a block was found and not found by some of the threads, on cache lines of their own: processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
}

/// Which of the counts this thread adds to.
fn stripe() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        // Relaxed: only to tell threads apart.
        static STRIPE: usize = THREADS.fetch_add(1, Ordering::Relaxed) % STRIPES;
    }
    // A thread that is ending may have lost its own.
    STRIPE.try_with(|stripe| *stripe).unwrap_or(0)
}

/// Hashes a [`BlockKey`], two numbers that are given out in order and that nobody chooses, by one multiplication each.
#[derive(Debug, Default)]
struct BlockKeyHasher(u64);

impl Hasher for BlockKeyHasher {
    #[inline]
    fn write_u64(&mut self, number: u64) {
        self.0 = mix(self.0 ^ number, 0x9e37_79b9_7f4a_7c15);
    }

    #[inline]
    fn write_u32(&mut self, number: u32) {
        self.0 = mix(self.0 ^ u64::from(number).rotate_left(32), 0xd6e8_feb8_6659_fd93);
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

/// Which block: its table's process-unique number, and its own within the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct BlockKey {
    pub(crate) table: u64,
    pub(crate) block: u32,
}

/// A payload that was checked as it was loaded, and does not change.
#[derive(Debug)]
pub(crate) struct CachedBlock {
    bytes: Box<[u8]>,
    payload_len: usize,
}

impl CachedBlock {
    /// The payload is the first `payload_len` of `bytes`.
    pub(crate) fn new(bytes: Box<[u8]>, payload_len: usize) -> Self {
        assert!(payload_len <= bytes.len());
        Self { bytes, payload_len }
    }
}

impl AsRef<[u8]> for CachedBlock {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.payload_len]
    }
}

#[derive(Debug, Clone)]
struct ByBytes;

impl Weighter<BlockKey, Arc<CachedBlock>> for ByBytes {
    fn weight(&self, _: &BlockKey, block: &Arc<CachedBlock>) -> u64 {
        block.bytes.len() as u64 + OVERHEAD_BYTES
    }
}

impl BlockCache {
    /// A cache that holds up to `capacity_bytes`, its own overhead counted; 0 keeps nothing.
    pub fn new(capacity_bytes: u64) -> Arc<Self> {
        let options = OptionsBuilder::new()
            .estimated_items_capacity((capacity_bytes / TYPICAL_BLOCK_BYTES) as usize)
            .weight_capacity(capacity_bytes)
            .build()
            .expect("both capacities are set");
        let blocks = Cache::with_options(options, ByBytes, BuildHasherDefault::default(), Default::default());
        Arc::new(Self { blocks, counts: Default::default() })
    }

    /// Bytes held now, overhead counted.
    pub fn usage_bytes(&self) -> u64 {
        self.blocks.weight()
    }

    /// Bytes that may be held.
    pub fn capacity_bytes(&self) -> u64 {
        self.blocks.capacity()
    }

    /// Changes how many bytes may be held; what is too much goes at once.
    pub fn set_capacity(&self, capacity_bytes: u64) {
        self.blocks.set_capacity(capacity_bytes);
    }

    /// How often a block was found here.
    pub fn hits(&self) -> u64 {
        self.counts.iter().map(|counts| counts.hits.load(Ordering::Relaxed)).sum()
    }

    /// How often a block was not found here and had to be loaded.
    pub fn misses(&self) -> u64 {
        self.counts.iter().map(|counts| counts.misses.load(Ordering::Relaxed)).sum()
    }

    #[inline]
    pub(crate) fn get(&self, key: BlockKey) -> Option<Arc<CachedBlock>> {
        let block = self.blocks.get(&key);
        // Plain counters that nothing else depends on.
        let counts = &self.counts[stripe()];
        let counter = if block.is_some() { &counts.hits } else { &counts.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        block
    }

    pub(crate) fn insert(&self, key: BlockKey, block: &Arc<CachedBlock>) {
        self.blocks.insert(key, Arc::clone(block));
    }
}

impl fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockCache({} of {} bytes)", self.usage_bytes(), self.capacity_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::hash::BuildHasher;

    fn block(bytes: usize) -> Arc<CachedBlock> {
        Arc::new(CachedBlock::new(vec![0; bytes].into(), bytes))
    }

    #[test]
    fn holds_no_more_than_its_capacity() {
        let cache = BlockCache::new(1 << 20);
        for i in 0..1000 {
            cache.insert(BlockKey { table: 1, block: i }, &block(4000));
            assert!(cache.usage_bytes() <= 1 << 20);
        }
        assert!(cache.usage_bytes() > 1 << 19);
        let kept = (0..1000).filter(|i| cache.get(BlockKey { table: 1, block: *i }).is_some()).count() as u64;
        assert_eq!((cache.hits(), cache.misses()), (kept, 1000 - kept));
        assert!(cache.get(BlockKey { table: 2, block: 999 }).is_none(), "another table");
        cache.set_capacity(1 << 16);
        assert!(cache.usage_bytes() <= 1 << 16);
    }

    #[test]
    fn a_cache_of_nothing_and_a_block_too_large_are_fine() {
        let cache = BlockCache::new(0);
        cache.insert(BlockKey { table: 1, block: 0 }, &block(100));
        assert_eq!(cache.usage_bytes(), 0);
        let cache = BlockCache::new(1 << 16);
        cache.insert(BlockKey { table: 1, block: 0 }, &block(1 << 20));
        assert_eq!(cache.usage_bytes(), 0);
    }

    #[test]
    fn says_what_it_may_hold_and_what_it_holds() {
        let cache = BlockCache::new(1 << 20);
        assert_eq!(cache.capacity_bytes(), 1 << 20);
        cache.insert(BlockKey { table: 1, block: 0 }, &block(4000));
        assert_eq!(format!("{cache:?}"), "BlockCache(4128 of 1048576 bytes)");
        cache.set_capacity(1 << 16);
        assert_eq!(cache.capacity_bytes(), 1 << 16);
    }

    /// Equal hashes share a place in the cache's tables, so that each look-up compares its way along all of them.
    #[test]
    fn no_two_of_many_blocks_have_the_same_hash() {
        let hasher = BuildHasherDefault::<BlockKeyHasher>::default();
        let keys = (0..200).flat_map(|table| (0..500).map(move |block| BlockKey { table, block }));
        let hashes: HashSet<u64> = keys.map(|key| hasher.hash_one(key)).collect();
        assert_eq!(hashes.len(), 200 * 500);
        let of_bytes = |bytes: [u8; 2]| {
            let mut hasher = BlockKeyHasher::default();
            hasher.write(&bytes);
            hasher.finish()
        };
        let hashes: HashSet<u64> = (0..=u16::MAX).map(|bytes| of_bytes(bytes.to_le_bytes())).collect();
        assert_eq!(hashes.len(), 1 << 16);
    }

    /// One line for all of them would go from processor to processor at each look-up.
    #[test]
    fn threads_count_in_several_places_and_all_are_summed() {
        let cache = BlockCache::new(1 << 20);
        std::thread::scope(|scope| {
            for block in 0..40 {
                let cache = &cache;
                scope.spawn(move || cache.get(BlockKey { table: 1, block }));
            }
        });
        let places = cache.counts.iter().filter(|counts| counts.misses.load(Ordering::Relaxed) > 0).count();
        assert!(places > 1, "{places}");
        assert_eq!((cache.hits(), cache.misses()), (0, 40));
    }
}
