//! An append-only list that never moves what it holds: one thread appends, any number read.
//!
//! ```text
//!   directories   16 blocks   32 blocks   64 blocks   ...        made when the first block of each is
//!                  | | |
//!                  | | block 2                                   a block: `BLOCK` slots, made when the first of them is
//!                  | block 1
//!                  block 0: [slot][slot][slot]...
//! ```
//! So an empty list owns nothing, a list of one entry owns one block, and no append copies or clears more than a directory.

use std::sync::OnceLock;

/// Blocks in the first directory; each further directory has twice as many as the one before.
const FIRST_DIRECTORY: usize = 16;

/// Directories: enough for every index below `Slots::MAX`.
const DIRECTORIES: usize = 21;

type Block<T, const BLOCK: usize> = Box<[T; BLOCK]>;
type Directory<T, const BLOCK: usize> = Box<[OnceLock<Block<T, BLOCK>>]>;

/// A list of slots, all of which begin as `T::default()`.
pub(crate) struct Slots<T, const BLOCK: usize> {
    directories: [OnceLock<Directory<T, BLOCK>>; DIRECTORIES],
}

impl<T: Default, const BLOCK: usize> Slots<T, BLOCK> {
    /// How many slots there can be.
    pub(crate) const MAX: usize = FIRST_DIRECTORY * ((1 << DIRECTORIES) - 1) * BLOCK;

    pub(crate) fn new() -> Self {
        Self { directories: [const { OnceLock::new() }; DIRECTORIES] }
    }

    /// The directory of the block of `index`, and the block's place in it.
    #[inline]
    fn place(index: usize) -> (usize, usize) {
        let block = index / BLOCK + FIRST_DIRECTORY;
        let directory = (block.ilog2() - FIRST_DIRECTORY.ilog2()) as usize;
        (directory, block - (FIRST_DIRECTORY << directory))
    }

    /// The slot of `index`, if its block has been made.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        let (directory, block) = Self::place(index);
        self.directories.get(directory)?.get()?[block].get()?.get(index % BLOCK)
    }

    /// The slot of `index`, and the bytes allocated for it.
    ///
    /// # Panics
    /// If `index` is not below [`Slots::MAX`].
    pub(crate) fn get_or_make(&self, index: usize) -> (&T, usize) {
        assert!(index < Self::MAX, "a list of {index} entries is full");
        let (directory, block) = Self::place(index);
        let mut bytes = 0;
        let blocks = self.directories[directory].get_or_init(|| {
            let blocks = FIRST_DIRECTORY << directory;
            bytes += blocks * size_of::<OnceLock<Block<T, BLOCK>>>();
            (0..blocks).map(|_| OnceLock::new()).collect()
        });
        let slots = blocks[block].get_or_init(|| {
            bytes += BLOCK * size_of::<T>();
            Box::new(std::array::from_fn(|_| T::default()))
        });
        (&slots[index % BLOCK], bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn every_index_has_its_own_slot_and_the_bytes_add_up() {
        let slots = Slots::<AtomicUsize, 8>::new();
        assert!(slots.get(0).is_none());
        let bytes: usize = (0..801)
            .map(|i| {
                let (slot, bytes) = slots.get_or_make(i);
                assert_eq!(slot.swap(i + 1, Ordering::Relaxed), 0, "slot {i} was given twice");
                bytes
            })
            .sum();
        assert!((0..801).all(|i| slots.get(i).unwrap().load(Ordering::Relaxed) == i + 1));
        // 101 blocks lie in directories of 16, 32 and 64.
        assert_eq!(bytes, 101 * 8 * size_of::<AtomicUsize>() + 112 * size_of::<OnceLock<Block<AtomicUsize, 8>>>());
        assert!(slots.get(808).is_none() && slots.get(usize::MAX).is_none());
    }

    #[test]
    fn the_last_index_has_a_place() {
        let (directory, block) = Slots::<u8, 128>::place(Slots::<u8, 128>::MAX - 1);
        assert_eq!((directory, block), (DIRECTORIES - 1, (FIRST_DIRECTORY << directory) - 1));
    }
}
