//! [`Map`]: the one place that hands out the bytes of a mapped file.
//!
//! ```text
//! Map { start, len, owner } ── Map { start, len, owner }     a part of it
//!           │           └──────────────┬──────┘
//!           v                          v
//!       the bytes <────────────────  Repr, which unmaps or frees them with its last owner
//! ```
//! Where the bytes are stands in the map itself, so that whoever has one is one step from them: a read of a table begins here.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::ptr::NonNull;
use std::sync::Arc;

/// The bytes of a whole file that does not change any more, or part of them; cheap to clone.
///
/// Real maps and those of simulated file systems look alike.
pub struct Map {
    /// Bytes of `owner`.
    bytes: NonNull<[u8]>,
    owner: Arc<Repr>,
}

enum Repr {
    File(memmap2::Mmap),
    Memory(Box<[u8]>),
}

impl Map {
    /// A map of bytes in memory, for file systems that live there.
    pub fn from_bytes(bytes: impl Into<Box<[u8]>>) -> Self {
        Self::of(Repr::Memory(bytes.into()))
    }

    /// Maps a whole file, which must not change any more.
    #[expect(unsafe_code, reason = "a mapped file is safe to read only while nobody changes it, which no type can say")]
    pub(crate) fn of_file(file: &File) -> io::Result<Self> {
        // SAFETY: `ReadableFile::map`, the only caller, is for files that do not change any more: Esker maps only what it has finished
        // writing (it writes files once and under a name that is used once), and holds the directory's lock against a second Esker. What
        // stays is another program that overwrites or cuts a file of ours under our feet, as with every mapped file; docs/unsafe.md says so.
        let map = unsafe { memmap2::Mmap::map(file)? };
        // The kernel would read up to some MiB around each page that is not in memory: for look-ups in more data than memory holds that is all they do. Those who walk say
        // so by `read_ahead`. A hint, as that is: where it can't be had, the kernel guesses.
        #[cfg(unix)]
        let _ = map.advise(memmap2::Advice::Random);
        Ok(Self::of(Repr::File(map)))
    }

    /// Has the system begin to read `range` of the bytes, and does not wait for it; what is beyond the end is left out.
    ///
    /// A hint, for who will read all of it: pages that are not in memory are otherwise read one by one, as they are touched. Costs a system call, and about as much again for every few
    /// hundred pages that are in memory already.
    pub fn read_ahead(&self, range: Range<usize>) {
        let range = range.start.min(self.len())..range.end.min(self.len());
        match &*self.owner {
            #[cfg(unix)]
            Repr::File(map) if !range.is_empty() => {
                let start = self.bytes.cast::<u8>().as_ptr().addr() - map.as_ptr().addr();
                let _ = map.advise_range(memmap2::Advice::WillNeed, start + range.start, range.len());
            }
            _ => {}
        }
    }

    fn of(repr: Repr) -> Self {
        let owner = Arc::new(repr);
        let bytes = match &*owner {
            Repr::File(map) => NonNull::from(&map[..]),
            Repr::Memory(bytes) => NonNull::from(&bytes[..]),
        };
        Self { bytes, owner }
    }

    /// The bytes in `range` as a map of their own, which keeps all of the file mapped; `None` if there are not so many.
    pub fn part(&self, range: Range<usize>) -> Option<Self> {
        self.get(range).map(|bytes| Self { bytes: NonNull::from(bytes), owner: Arc::clone(&self.owner) })
    }

    /// Becomes the bytes in `range` of `whole`, as [`part`](Self::part) makes them; of a map of the same file already, without a touch to what threads share. `false`, and it stays what it is, if there are not so many.
    #[inline]
    pub fn move_to(&mut self, whole: &Self, range: Range<usize>) -> bool {
        let Some(bytes) = whole.get(range).map(NonNull::from) else { return false };
        if Arc::ptr_eq(&self.owner, &whole.owner) {
            self.bytes = bytes;
        } else {
            *self = Self { bytes, owner: Arc::clone(&whole.owner) };
        }
        true
    }
}

impl Clone for Map {
    fn clone(&self) -> Self {
        Self { bytes: self.bytes, owner: Arc::clone(&self.owner) }
    }
}

#[expect(unsafe_code, reason = "where the bytes are is kept beside what owns them, so that a read need not ask it")]
impl Deref for Map {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        // SAFETY: `of`, `part` and `move_to` point into what `owner` owns, and nothing else makes or changes a `Map`. The owner is behind an `Arc` that this map
        // holds, so it lives as long as the result, which borrows the map; it is never changed or moved, and neither are a mapping's or a box's bytes.
        unsafe { self.bytes.as_ref() }
    }
}

// SAFETY: a `Map` gives nothing but shared access to bytes that nobody changes, and its owner may be dropped by any thread: both forms of `Repr` are
// `Send` and `Sync`, as the constant below has the compiler check.
#[expect(unsafe_code, reason = "a pointer is neither by itself")]
unsafe impl Send for Map {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "a pointer is neither by itself")]
unsafe impl Sync for Map {}

const _: () = {
    const fn is_shared<T: Send + Sync>() {}
    is_shared::<Arc<Repr>>();
};

impl AsRef<[u8]> for Map {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Map({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_outlives_the_whole_and_can_be_read_anywhere() {
        let whole = Map::from_bytes((0..100u8).collect::<Vec<_>>());
        let part = whole.part(10..20).unwrap();
        assert!(whole.part(10..101).is_none());
        let copy = part.clone();
        drop((whole, part));
        let inner = copy.part(3..5).unwrap();
        drop(copy);
        assert_eq!(std::thread::spawn(move || inner.to_vec()).join().unwrap(), [13, 14]);
    }

    #[test]
    fn a_part_moves_to_where_there_are_bytes_of_the_same_file_or_another() {
        let (one, other) = (Map::from_bytes(*b"0123456789"), Map::from_bytes(*b"abcdefghij"));
        let mut part = one.part(2..4).unwrap();
        assert!(part.move_to(&one, 7..10));
        assert_eq!(&part[..], b"789");
        assert!(!part.move_to(&one, 7..11));
        assert_eq!((&part[..], Arc::strong_count(&one.owner)), (&b"789"[..], 2));
        assert!(part.move_to(&other, 0..1));
        drop((one, other));
        assert_eq!((&part[..], Arc::strong_count(&part.owner)), (&b"a"[..], 1));
    }

    #[test]
    fn a_file_is_mapped_whole_and_in_part() {
        let mut path = std::env::temp_dir();
        path.push(format!("esker-map-{}", std::process::id()));
        std::fs::write(&path, b"0123456789").unwrap();
        let map = Map::of_file(&File::open(&path).unwrap()).unwrap();
        std::fs::remove_file(&path).unwrap();
        let part = map.part(4..6).unwrap();
        assert_eq!((&map[..], &part[..]), (&b"0123456789"[..], &b"45"[..]));
        for range in [0..10, 3..usize::MAX, 10..12, 9..9] {
            map.read_ahead(range.clone());
            part.read_ahead(range);
        }
        drop(map);
        assert_eq!(&part[..], b"45");
    }
}
