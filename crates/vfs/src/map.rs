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
