//! [`Slice`]: owned bytes that are cheap to clone and may pin what they point into.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, Range};
use std::sync::Arc;

/// Bytes up to this length are held inside the [`Slice`] itself.
pub const INLINE_BYTES_MAX: usize = 64;

/// Bytes up to this length are copied rather than pinned. Pinning counts in memory that all readers of a table share, which costs more than copying a
/// few cache lines as soon as there are two of them.
pub const COPIED_BYTES_MAX: usize = 256;

/// What a [`Slice`] may pin: a decompressed block, or a mapped file.
pub trait Pinned: AsRef<[u8]> + Send + Sync + 'static {}

impl<T: AsRef<[u8]> + Send + Sync + 'static> Pinned for T {}

/// Owned bytes, cheap to clone, `Send + Sync + 'static`.
///
/// Up to [`INLINE_BYTES_MAX`] bytes are copied into the slice. Longer ones live on the heap or, if there are more than [`COPIED_BYTES_MAX`], may *pin* the
/// block or mapping that they point into, which then stays alive as long as the slice does. [`Slice::detach`] copies and lets go.
///
/// ```
/// use esker_format::Slice;
/// let slice = Slice::from(b"hello");
/// assert_eq!(&slice[1..3], b"el");
/// assert_eq!(slice, b"hello");
/// ```
#[derive(Clone)]
pub struct Slice(Repr);

#[derive(Clone)]
enum Repr {
    Inline { len: u8, bytes: [u8; INLINE_BYTES_MAX] },
    Heap(Arc<[u8]>),
    Pinned { owner: Arc<dyn Pinned>, start: usize, len: usize },
}

impl Slice {
    /// No bytes.
    pub fn empty() -> Self {
        Self(Repr::Inline { len: 0, bytes: [0; INLINE_BYTES_MAX] })
    }

    /// The bytes of `owner` in `range`: copied if short, else pinning `owner`.
    ///
    /// # Panics
    /// If `range` does not lie within `owner`.
    #[inline]
    pub fn pinned(owner: &Arc<impl Pinned>, range: Range<usize>) -> Self {
        let bytes = &owner.as_ref().as_ref()[range.clone()];
        if bytes.len() <= COPIED_BYTES_MAX {
            return Self::from(bytes);
        }
        Self(Repr::Pinned { owner: Arc::clone(owner) as Arc<dyn Pinned>, start: range.start, len: range.len() })
    }

    /// The same without its first `count` bytes; pinning what it pinned.
    ///
    /// # Panics
    /// If there are fewer.
    #[must_use]
    pub fn without_first(self, count: usize) -> Self {
        assert!(count <= self.len(), "{count} bytes of {}", self.len());
        match self.0 {
            Repr::Pinned { owner, start, len } if len - count > COPIED_BYTES_MAX => {
                Self(Repr::Pinned { owner, start: start + count, len: len - count })
            }
            _ => Self::from(&self[count..]),
        }
    }

    /// Whether this slice keeps a block or mapping alive.
    pub fn is_pinned(&self) -> bool {
        matches!(self.0, Repr::Pinned { .. })
    }

    /// The same bytes, pinning nothing.
    #[must_use]
    pub fn detach(&self) -> Self {
        if self.is_pinned() { Self::from(&**self) } else { self.clone() }
    }
}

impl From<&[u8]> for Slice {
    #[inline]
    fn from(bytes: &[u8]) -> Self {
        if bytes.len() > INLINE_BYTES_MAX {
            return Self(Repr::Heap(bytes.into()));
        }
        let mut inline = [0; INLINE_BYTES_MAX];
        inline[..bytes.len()].copy_from_slice(bytes);
        Self(Repr::Inline { len: bytes.len() as u8, bytes: inline })
    }
}

impl<const N: usize> From<&[u8; N]> for Slice {
    fn from(bytes: &[u8; N]) -> Self {
        Self::from(&bytes[..])
    }
}

impl Deref for Slice {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Repr::Heap(bytes) => bytes,
            Repr::Pinned { owner, start, len } => &owner.as_ref().as_ref()[*start..][..*len],
        }
    }
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Borrow<[u8]> for Slice {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl Default for Slice {
    fn default() -> Self {
        Self::empty()
    }
}

impl fmt::Debug for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

impl Eq for Slice {}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Slice {
    fn eq(&self, other: &T) -> bool {
        **self == *other.as_ref()
    }
}

impl Ord for Slice {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl PartialOrd for Slice {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Slice {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_bytes_pin_their_owner_until_detached() {
        let owner = Arc::new(vec![7u8; 600]);
        for len in [0, INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1, COPIED_BYTES_MAX] {
            let short = Slice::pinned(&owner, 10..10 + len);
            assert_eq!((short.is_pinned(), Arc::strong_count(&owner)), (false, 1));
            assert_eq!(short, vec![7; len]);
        }
        let long = Slice::pinned(&owner, 100..101 + COPIED_BYTES_MAX);
        let copy = long.clone();
        assert_eq!((long.is_pinned(), Arc::strong_count(&owner)), (true, 3));
        let free = long.detach();
        drop((long, copy));
        assert_eq!((free.is_pinned(), Arc::strong_count(&owner)), (false, 1));
        assert_eq!(free, vec![7; COPIED_BYTES_MAX + 1]);
    }

    #[test]
    fn lengths_around_the_inline_limit() {
        for len in [0, 1, INLINE_BYTES_MAX - 1, INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1, 1000] {
            let bytes: Vec<u8> = (0..len).map(|i| i as u8).collect();
            assert_eq!(Slice::from(&bytes[..]), bytes);
        }
    }
}
