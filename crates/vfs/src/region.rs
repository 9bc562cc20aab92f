//! [`Region`]: the one place that writes to mapped memory.

use std::fmt;
use std::fs::File;
use std::io;

use memmap2::{Advice, MmapOptions, MmapRaw};

/// Address space in which the beginning of a file is seen, and may be written. It may be longer than the file.
pub(crate) struct Region(MmapRaw);

impl Region {
    pub(crate) fn of_file(file: &File, len_bytes: u64) -> io::Result<Self> {
        let len = usize::try_from(len_bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
        MmapOptions::new().len(len).map_raw(file).map(Self)
    }

    pub(crate) fn len_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    /// Copies `bytes` into the file at `offset`. Where the file has no bytes, the process dies by `SIGBUS`.
    ///
    /// # Panics
    /// If the region ends before `bytes` do.
    #[inline]
    #[expect(
        unsafe_code,
        reason = "a mapped file is memory that nobody owns, and no slice may be made of what others can change"
    )]
    pub(crate) fn store(&self, offset: u64, bytes: &[u8]) {
        let fits = offset.checked_add(bytes.len() as u64).is_some_and(|end| end <= self.len_bytes());
        assert!(fits, "{} bytes at {offset} in a region of {}", bytes.len(), self.len_bytes());
        // SAFETY: the target lies within the map, as was just checked, and `bytes` is no part of it: no reference into the map is ever
        // made. Two threads do not store at once: the only caller, `OsLog::store`, has its log, the only one of its file, by `&mut`.
        // The rest of the world sees the bytes through the kernel alone (`pread`, write-back).
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.as_mut_ptr().add(offset as usize), bytes.len()) };
    }

    /// Makes the pages of a range present and writable. A hint.
    pub(crate) fn populate(&self, from: u64, to: u64) {
        if from < to && to <= self.len_bytes() {
            // Kernels before 5.14 don't know it.
            let _ = self.0.advise_range(Advice::PopulateWrite, from as usize, (to - from) as usize);
        }
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Region({} bytes)", self.0.len())
    }
}
