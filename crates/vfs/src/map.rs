//! [`Map`]: the one place that hands out the bytes of a mapped file.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::sync::Arc;

/// The bytes of a whole file that does not change any more; cheap to clone.
///
/// Real maps and those of simulated file systems look alike.
#[derive(Clone)]
pub struct Map(Arc<Repr>);

enum Repr {
    File(memmap2::Mmap),
    Memory(Box<[u8]>),
}

impl Map {
    /// A map of bytes in memory, for file systems that live there.
    pub fn from_bytes(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(Arc::new(Repr::Memory(bytes.into())))
    }

    /// Sends for the cache line that holds byte `at`, and does not wait for it. Beyond the end, and on processors that it is not
    /// known for, it does nothing.
    #[inline]
    #[cfg_attr(
        all(target_arch = "x86_64", not(miri)),
        expect(
            unsafe_code,
            reason = "the instruction takes a pointer, though it reads nothing that a program could see"
        )
    )]
    pub fn prefetch(&self, at: usize) {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        if let Some(byte) = self.get(at) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a prefetch is a hint and never faults; the pointer is that of a live byte all the same, by the check above. SSE,
            // which it belongs to, is part of x86-64.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(byte).cast()) };
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        let _ = at;
    }

    /// Maps a whole file, which must not change any more.
    #[expect(unsafe_code, reason = "a mapped file is safe to read only while nobody changes it, which no type can say")]
    pub(crate) fn of_file(file: &File) -> io::Result<Self> {
        // SAFETY: `ReadableFile::map`, the only caller, is for files that do not change any more: Esker maps only what it has finished
        // writing (it writes files once and under a name that is used once), and holds the directory's lock against a second Esker. What
        // stays is another program that overwrites or cuts a file of ours under our feet, as with every mapped file; docs/unsafe.md says so.
        let map = unsafe { memmap2::Mmap::map(file)? };
        Ok(Self(Arc::new(Repr::File(map))))
    }
}

impl Deref for Map {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &*self.0 {
            Repr::File(map) => map,
            Repr::Memory(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Map {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Map({} bytes)", self.len())
    }
}
