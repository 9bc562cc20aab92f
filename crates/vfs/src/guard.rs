//! [`GuardedMap`]: a mapped file of which nothing but copies is handed out, so that what can't be read is an error and not the end of the process.
//!
//! ```text
//! read_exact_at:   copy out of the map  ->  look at the slot  ->  the copy, or an error
//!                        | a page that can't be read
//!                        v
//! SIGBUS handler:  note the page in the slot  ->  put a page of zeros in its place  ->  the copy goes on
//! ```
//! Invariants
//! - The page is noted before there are zeros in its place. So whoever has copied zeros that are not the file's finds the note when looking behind the copy.
//! - A page that was noted stays so as long as the map lives, and is an error at each read that touches it.
//! - The map's slot is given up before its address space is: the handler never puts zeros where something else may lie by now.
//! - No reference into the map is ever made. Bytes that another program changes are copied as they come, once, and looked at in the copy alone.
//!
//! Absent on purpose: maps that are written ([`crate::LogMap`]), and reads in place ([`crate::Map`]).

mod signal;
mod slot;
mod slot_model;
mod slots;
mod sync;

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use memmap2::{Advice, MmapOptions, MmapRaw};
use slot::Slot;

use crate::{Mapped, ReadableFile, UnreadablePage};

/// Ranges from this length on are sent for before they are copied: less comes in a few touches, each of which reads a page that is not in memory.
const READ_AHEAD_BYTES_MIN: usize = 16 << 10;

/// A whole file, mapped, for reading by copies.
pub(crate) struct GuardedMap {
    /// Before the map: it is dropped first.
    slot: Option<Registered>,
    /// None of an empty file, which can't be mapped.
    map: Option<MmapRaw>,
}

/// A slot in use.
struct Registered(&'static Slot);

impl Drop for Registered {
    fn drop(&mut self) {
        slots::release(self.0);
    }
}

impl GuardedMap {
    pub(crate) fn of_file(file: &File) -> io::Result<Arc<Self>> {
        signal::install()?;
        let len = usize::try_from(file.metadata()?.len()).map_err(|_| io::ErrorKind::OutOfMemory)?;
        if len == 0 {
            return Ok(Arc::new(Self { slot: None, map: None }));
        }
        let map = MmapOptions::new().len(len).map_raw_read_only(file)?;
        // As of maps that are read in place.
        let _ = map.advise(Advice::Random);
        let slot = Registered(slots::take(map.as_ptr().addr(), len));
        Ok(Arc::new(Self { slot: Some(slot), map: Some(map) }))
    }

    fn len(&self) -> usize {
        self.map.as_ref().map_or(0, MmapRaw::len)
    }

    fn send_for(&self, from: usize, len: usize) {
        if let Some(map) = &self.map {
            let _ = map.advise_range(Advice::WillNeed, from, len);
        }
    }
}

impl ReadableFile for GuardedMap {
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    #[expect(
        unsafe_code,
        reason = "what others may change or cut is memory that nobody owns: no slice may be made of it"
    )]
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if buffer.is_empty() {
            return Ok(());
        }
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= self.len() as u64);
        let (Some(_), Some(map), Some(slot)) = (end, &self.map, &self.slot) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let from = offset as usize;
        if buffer.len() >= READ_AHEAD_BYTES_MIN {
            self.send_for(from, buffer.len());
        }
        // SAFETY: the source lies within the map, as was just checked, and the map lives while `self` is borrowed; the target is a buffer of the
        // caller's own. No reference into the map exists, so that the file's bytes may change is nobody's business but the copy's. Pages that can't be
        // read become zeros under the copy: `signal::install` has returned, and the slot covers all of the map.
        unsafe { std::ptr::copy_nonoverlapping(map.as_ptr().add(from), buffer.as_mut_ptr(), buffer.len()) };
        // Pairs with that of `Slot::note`, which comes before zeros in the place of a page: whoever has copied such zeros sees the note.
        fence(Ordering::Acquire);
        match slot.0.first_noted(from..from + buffer.len(), signal::page_bytes()) {
            None => Ok(()),
            Some(offset) => Err(io::Error::other(UnreadablePage { offset: offset as u64 })),
        }
    }

    fn map(&self) -> io::Result<crate::Map> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn read_ahead(&self, range: Range<u64>) {
        let len = self.len() as u64;
        let (from, to) = (range.start.min(len), range.end.min(len));
        if from < to {
            self.send_for(from as usize, (to - from) as usize);
        }
    }

    fn mapped(&self) -> Mapped {
        let pages = self.slot.as_ref().map_or(0, |slot| slot.0.noted(signal::page_bytes()));
        Mapped { bytes: self.len() as u64, unreadable_pages: pages as u64 }
    }
}

impl fmt::Debug for GuardedMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GuardedMap({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::io::Write as _;

    fn page() -> usize {
        signal::page_bytes()
    }

    /// A file of so many pages, each full of its number, and a guarded map of it.
    fn mapped(pages: usize) -> (File, Arc<GuardedMap>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let mut file =
            OpenOptions::new().read(true).write(true).create_new(true).open(dir.path().join("file")).unwrap();
        (0..pages).for_each(|n| file.write_all(&vec![n as u8 + 1; page()]).unwrap());
        let map = GuardedMap::of_file(&file).unwrap();
        (file, map, dir)
    }

    fn read(map: &GuardedMap, range: Range<usize>) -> Result<Vec<u8>, u64> {
        let mut bytes = vec![0xee; range.len()];
        match map.read_exact_at(&mut bytes, range.start as u64) {
            Ok(()) => Ok(bytes),
            Err(error) => Err(UnreadablePage::of(&error).unwrap_or_else(|| panic!("{error}")).offset),
        }
    }

    #[test]
    fn all_that_a_file_is_read_by_holds_of_its_map() {
        let (_file, map, _dir) = mapped(8);
        assert_eq!(map.len_bytes().unwrap(), 8 * page() as u64);
        assert_eq!(read(&map, page() - 1..page() + 1).unwrap(), [1, 2]);
        assert_eq!(
            read(&map, 0..8 * page()).unwrap().iter().map(|byte| u64::from(*byte)).sum::<u64>(),
            36 * page() as u64
        );
        assert_eq!(read(&map, 8 * page()..8 * page()), Ok(vec![]));
        for (len, offset) in [(2, 8 * page() as u64 - 1), (1, u64::MAX), (1, 8 * page() as u64)] {
            let error = map.read_exact_at(&mut vec![0; len], offset).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
        for range in [0..1, 5..u64::MAX, 100_000_000..200_000_000] {
            map.read_ahead(range);
        }
        assert_eq!(map.mapped(), Mapped { bytes: 8 * page() as u64, unreadable_pages: 0 });
        let (_file, empty, _dir) = mapped(0);
        assert_eq!((empty.len_bytes().unwrap(), read(&empty, 0..0)), (0, Ok(vec![])));
        assert_eq!(empty.read_exact_at(&mut [0], 0).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_page_that_another_program_has_cut_off_is_an_error_and_stays_one() {
        let (file, map, _dir) = mapped(8);
        file.set_len(3 * page() as u64).unwrap();
        assert_eq!(read(&map, 2 * page()..3 * page()), Ok(vec![3; page()]));
        assert_eq!(read(&map, 3 * page() + 7..3 * page() + 8), Err(3 * page() as u64 + 7));
        assert_eq!(
            read(&map, 2 * page()..6 * page()),
            Err(3 * page() as u64),
            "from the first byte on that is not there"
        );
        assert_eq!(map.mapped().unreadable_pages, 3, "those that were touched");
        // What the file has again is not what was mapped.
        file.set_len(8 * page() as u64).unwrap();
        assert_eq!(read(&map, 3 * page()..3 * page() + 1), Err(3 * page() as u64));
        assert_eq!(
            read(&map, 7 * page()..7 * page() + 1),
            Ok(vec![0]),
            "not touched before: the file is a hole there now"
        );
        let anew = GuardedMap::of_file(&file).unwrap();
        assert_eq!(read(&anew, 3 * page()..3 * page() + 1), Ok(vec![0]));
        assert_eq!(read(&anew, 0..1), Ok(vec![1]));
    }

    #[test]
    fn a_map_that_is_gone_leaves_nothing_to_the_next() {
        for _ in 0..200 {
            let (file, map, _dir) = mapped(2);
            file.set_len(0).unwrap();
            assert_eq!(read(&map, 0..2 * page()), Err(0));
            drop(map);
            let (_file, map, _dir) = mapped(2);
            assert_eq!(read(&map, page()..page() + 1), Ok(vec![2]));
        }
    }

    /// Threads that fault at once, on the same pages and on others, of maps that come and go, cut so far that some are given up: each read is the file's bytes or an error, and never zeros.
    #[test]
    fn many_threads_that_fault_at_once_read_no_zeros() {
        let pages = 64;
        for cut in [1, 20, 50, 63] {
            let (file, map, _dir) = mapped(pages);
            file.set_len((cut * page()) as u64).unwrap();
            let barrier = std::sync::Barrier::new(8);
            let errors: usize = std::thread::scope(|scope| {
                let reader = |seed: usize| {
                    let (map, barrier) = (&map, &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        let look = |i: usize| {
                            let n = (i * (2 * seed + 1)) % pages;
                            match read(map, n * page()..(n + 1) * page()) {
                                Ok(bytes) => {
                                    assert!(n < cut && bytes == vec![n as u8 + 1; page()], "page {n} of {cut}")
                                }
                                Err(offset) => assert_eq!(offset, (n * page()) as u64),
                            }
                            usize::from(n >= cut)
                        };
                        (0..pages).map(look).sum::<usize>()
                    })
                };
                let readers: Vec<_> = (0..8).map(|thread| reader(thread / 2)).collect();
                readers.into_iter().map(|reader| reader.join().unwrap()).sum()
            });
            assert_eq!(errors, 8 * (pages - cut));
            let noted = map.mapped().unreadable_pages;
            assert_eq!(noted, if pages - cut > 16 { pages } else { pages - cut } as u64);
        }
    }
}
