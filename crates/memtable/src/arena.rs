//! Append-only chunks of bytes: one writes at the end while others read what is there.
//!
//! ```text
//!            written, never again            free
//!   +------------------------------------+------------+
//!   |                                    |            |
//!   +------------------------------------+------------+
//!                                        ^ len                 stored by the writer when a string is whole (Release),
//!                                                              loaded by every reader before it looks (Acquire)
//! ```
//! Its face is safe whatever a caller does: there is one [`Right`] to append to a chunk, and no reader gets a byte that `len`
//! does not cover.
#![expect(unsafe_code, reason = "bytes that are shared while more are appended behind them")]

use crate::room::Bytes;
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Bytes of a page of memory, at the least: what the first touch of costs a fault.
const PAGE_BYTES: usize = 4096;

/// A chunk, which anyone may read who can name it.
pub(crate) struct Chunk {
    bytes: Bytes<UnsafeCell<u8>>,
    /// How many bytes are written for good. Only who holds the [`Right`] stores it.
    len: AtomicUsize,
    /// The one right that is for this chunk.
    right: u64,
}

/// The right to append to one chunk. There is one for each, and it cannot be cloned.
pub(crate) struct Right(u64);

impl Right {
    /// One that no chunk knows yet.
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Relaxed: only that no number comes twice matters. 64 bits do not run out.
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

// SAFETY: bytes below `len` are only read; bytes at or behind it are touched by `append` alone, which has the chunk's one `Right`
// borrowed mutably, so that one thread at a time is there. The Release store of `len` comes after the writes it covers, and
// readers load it with Acquire.
unsafe impl Sync for Chunk {}

impl Chunk {
    /// Room for `capacity` bytes. They are not touched before they are written.
    pub(crate) fn with_capacity(capacity: usize) -> (Self, Right) {
        Self::of(Box::new_uninit_slice(capacity).into())
    }

    /// Chunks with room for `capacity` bytes each, as many as there is space for in one region.
    pub(crate) fn many(capacity: usize) -> impl Iterator<Item = Self> {
        Bytes::many_uninit(capacity).into_iter().map(|bytes| Self::of(bytes).0)
    }

    fn of(bytes: Bytes<UnsafeCell<u8>>) -> (Self, Right) {
        let right = Right::new();
        (Self { bytes, len: AtomicUsize::new(0), right: right.0 }, right)
    }

    /// How many bytes there is room for.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Where the region is in which its bytes lie, if they lie in one.
    pub(crate) fn region_address(&self) -> Option<usize> {
        self.bytes.region_address()
    }

    /// Empties it. The right there was is void.
    pub(crate) fn reset(&mut self) -> Right {
        let right = Right::new();
        *self.len.get_mut() = 0;
        self.right = right.0;
        right
    }

    /// Empties it and writes to each of its pages, so that the operating system provides them now.
    pub(crate) fn touch(&mut self) {
        *self.len.get_mut() = 0;
        self.bytes.iter_mut().step_by(PAGE_BYTES).for_each(|byte| *byte = MaybeUninit::new(UnsafeCell::new(0)));
    }

    /// All that is written from `offset` on.
    ///
    /// # Panics
    /// If nothing is written there, nor right before.
    #[inline]
    pub(crate) fn since(&self, offset: usize) -> &[u8] {
        // Acquire, for the Release in `append`.
        let len = self.len.load(Ordering::Acquire);
        assert!(offset <= len, "byte {offset} of {len}");
        // SAFETY: `offset..len` lies in the allocation, as `append` stores no `len` beyond it. Those bytes are initialised
        // and never written again while the chunk is borrowed: `append` writes at or behind `len` only, and has stored a `len`
        // past what it wrote; `reset` and `touch` need `&mut`.
        unsafe { std::slice::from_raw_parts(self.bytes.as_ptr().cast::<u8>().add(offset), len - offset) }
    }

    /// Appends `parts`, one behind the other; returns where they begin. `None`, and nothing written, if there is no room.
    ///
    /// # Panics
    /// If the right is not this chunk's.
    #[inline]
    pub(crate) fn append<const PARTS: usize>(&self, right: &mut Right, parts: [&[u8]; PARTS]) -> Option<usize> {
        assert!(right.0 == self.right, "the right to another chunk");
        // Relaxed: only who holds the right stores it.
        let start = self.len.load(Ordering::Relaxed);
        let mut end = start;
        for part in parts {
            let free = self.bytes.get(end..).and_then(|free| free.get(..part.len()))?;
            let to = UnsafeCell::raw_get(free.as_ptr().cast::<UnsafeCell<u8>>());
            // SAFETY: `free` is `part.len()` bytes of the allocation at or behind `len`, which nobody reads, and which nobody
            // else writes: the chunk's one right is borrowed mutably. So `part`, which is initialised, is none of them.
            unsafe { part.as_ptr().copy_to_nonoverlapping(to, part.len()) };
            end += part.len();
        }
        // Release, for the Acquire in `since`: the bytes come before the `len` that covers them.
        self.len.store(end, Ordering::Release);
        Some(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_appended_is_read_from_where_it_began() {
        let (chunk, mut right) = Chunk::with_capacity(10);
        assert_eq!(chunk.since(0), b"");
        assert_eq!(chunk.append(&mut right, [b"ab", b"", b"c"]), Some(0));
        let early = chunk.since(1);
        assert_eq!(chunk.append(&mut right, [b"", b""]), Some(3));
        assert_eq!(chunk.append(&mut right, [b"0123", b"45", b"67"]), None, "one byte too many");
        assert_eq!(chunk.append(&mut right, [b"0123", b"45", b"6"]), Some(3));
        assert_eq!((early, chunk.since(3), chunk.since(10)), (&b"bc"[..], &b"0123456"[..], &b""[..]));
        assert_eq!(chunk.append(&mut right, [b"x"]), None);
    }

    #[test]
    fn an_empty_chunk_takes_nothing() {
        let (chunk, mut right) = Chunk::with_capacity(0);
        assert_eq!(chunk.append(&mut right, [b""]), Some(0));
        assert_eq!(chunk.append(&mut right, [b"x"]), None);
    }

    #[test]
    fn a_chunk_is_used_again() {
        let (mut chunk, mut right) = Chunk::with_capacity(3 * PAGE_BYTES);
        chunk.append(&mut right, [b"old"]);
        let mut right = chunk.reset();
        assert_eq!((chunk.since(0), chunk.append(&mut right, [b"new"])), (&b""[..], Some(0)));
        assert_eq!(chunk.since(0), b"new");
        chunk.touch();
        assert_eq!(chunk.append(&mut right, [&[7; 3 * PAGE_BYTES]]), Some(0));
        assert_eq!(chunk.since(3 * PAGE_BYTES - 1), [7]);
    }

    #[test]
    #[should_panic = "the right to another chunk"]
    fn a_right_is_void_after_a_reset() {
        let (mut chunk, mut right) = Chunk::with_capacity(10);
        chunk.reset();
        chunk.append(&mut right, [b"x"]);
    }

    #[test]
    #[should_panic = "byte 4 of 3"]
    fn what_is_not_written_is_not_read() {
        let (chunk, mut right) = Chunk::with_capacity(10);
        chunk.append(&mut right, [b"abc"]);
        chunk.since(4);
    }

    /// One appends its own offset again and again, others read all there is and find nothing else.
    #[test]
    fn readers_see_whole_strings_while_one_appends() {
        let rounds = if cfg!(miri) { 100 } else { 100_000 };
        let (chunk, mut right) = Chunk::with_capacity(rounds * 8);
        let chunk = &chunk;
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(move || {
                    let mut seen = 0;
                    while seen < rounds * 8 {
                        let news = chunk.since(seen);
                        assert_eq!(news.len() % 8, 0);
                        for (i, word) in news.chunks_exact(8).enumerate() {
                            assert_eq!(word, (seen + 8 * i).to_le_bytes());
                        }
                        seen += news.len();
                        std::thread::yield_now();
                    }
                });
            }
            for i in 0..rounds {
                let word = (8 * i).to_le_bytes();
                assert_eq!(chunk.append(&mut right, [&word[..3], &word[3..5], &word[5..]]), Some(8 * i));
            }
        });
    }
}
