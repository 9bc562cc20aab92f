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
//! The only unsafe code of this crate. Its face is safe whatever a caller does: there is one [`ChunkWriter`] for a chunk, and
//! no reader gets a byte that `len` does not cover.
#![expect(unsafe_code, reason = "bytes that are shared while more are appended behind them")]

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A chunk as readers see it.
pub(crate) struct Chunk {
    bytes: Box<[MaybeUninit<UnsafeCell<u8>>]>,
    /// How many bytes are written for good. Only the one [`ChunkWriter`] stores it.
    len: AtomicUsize,
    number: u32,
}

// SAFETY: bytes below `len` are only read, bytes at or behind it are touched by the one `ChunkWriter` alone, which needs
// `&mut self` to do so. The Release store of `len` comes after the writes it covers, and readers load it with Acquire.
unsafe impl Sync for Chunk {}

impl Chunk {
    /// What an allocation of a chunk takes, besides its bytes.
    pub(crate) const OVERHEAD_BYTES: usize = size_of::<Self>() + 2 * size_of::<usize>();

    /// Room for `capacity` bytes. They are not touched before they are written. The number is the caller's.
    pub(crate) fn with_capacity(number: u32, capacity: usize) -> ChunkWriter {
        let bytes = Box::new_uninit_slice(capacity);
        ChunkWriter { chunk: Arc::new(Self { bytes, len: AtomicUsize::new(0), number }) }
    }

    /// The number it was given.
    #[inline]
    pub(crate) fn number(&self) -> u32 {
        self.number
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
        // and never written again: `append` writes at or behind `len` only, and has stored a `len` past what it wrote.
        unsafe { std::slice::from_raw_parts(self.bytes.as_ptr().cast::<u8>().add(offset), len - offset) }
    }
}

/// The right to append to a chunk. There is one for each, and it cannot be cloned.
pub(crate) struct ChunkWriter {
    chunk: Arc<Chunk>,
}

impl ChunkWriter {
    /// The chunk, to read.
    pub(crate) fn chunk(&self) -> &Arc<Chunk> {
        &self.chunk
    }

    /// Appends `parts`, one behind the other; returns where they begin. `None`, and nothing written, if there is no room.
    pub(crate) fn append(&mut self, parts: [&[u8]; 3]) -> Option<usize> {
        let chunk = &*self.chunk;
        // Relaxed: only this writer stores it.
        let start = chunk.len.load(Ordering::Relaxed);
        let mut end = start;
        for part in parts {
            let free = chunk.bytes.get(end..).and_then(|free| free.get(..part.len()))?;
            let to = UnsafeCell::raw_get(free.as_ptr().cast::<UnsafeCell<u8>>());
            // SAFETY: `free` is `part.len()` bytes of the allocation at or behind `len`, which nobody reads, and which nobody
            // else writes: this is the one writer, borrowed mutably. So `part`, which is initialised, is none of them.
            unsafe { part.as_ptr().copy_to_nonoverlapping(to, part.len()) };
            end += part.len();
        }
        // Release, for the Acquire in `since`: the bytes come before the `len` that covers them.
        chunk.len.store(end, Ordering::Release);
        Some(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_appended_is_read_from_where_it_began() {
        let mut writer = Chunk::with_capacity(7, 10);
        let chunk = Arc::clone(writer.chunk());
        assert_eq!(chunk.since(0), b"");
        assert_eq!(writer.append([b"ab", b"", b"c"]), Some(0));
        let early = chunk.since(1);
        assert_eq!(writer.append([b"", b"", b""]), Some(3));
        assert_eq!(writer.append([b"0123", b"45", b"67"]), None, "one byte too many");
        assert_eq!(writer.append([b"0123", b"45", b"6"]), Some(3));
        assert_eq!((early, chunk.since(3), chunk.since(10)), (&b"bc"[..], &b"0123456"[..], &b""[..]));
        assert_eq!(writer.append([b"", b"x", b""]), None);
    }

    #[test]
    fn an_empty_chunk_takes_nothing() {
        let mut writer = Chunk::with_capacity(7, 0);
        assert_eq!(writer.append([b"", b"", b""]), Some(0));
        assert_eq!(writer.append([b"x", b"", b""]), None);
    }

    #[test]
    #[should_panic = "byte 4 of 3"]
    fn what_is_not_written_is_not_read() {
        let mut writer = Chunk::with_capacity(7, 10);
        writer.append([b"abc", b"", b""]);
        writer.chunk().since(4);
    }

    /// One appends its own offset again and again, others read all there is and find nothing else.
    #[test]
    fn readers_see_whole_strings_while_one_appends() {
        let rounds = if cfg!(miri) { 100 } else { 100_000 };
        let mut writer = Chunk::with_capacity(7, rounds * 8);
        let chunk = Arc::clone(writer.chunk());
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
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
                assert_eq!(writer.append([&word[..3], &word[3..5], &word[5..]]), Some(8 * i));
            }
        });
    }
}
