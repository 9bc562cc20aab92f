//! [`Map`]: the one place that hands out the bytes of a mapped file.

use std::fmt;
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

    pub(crate) fn from_mmap(map: memmap2::Mmap) -> Self {
        Self(Arc::new(Repr::File(map)))
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
