//! [`Slot`]: where a guarded map lies, and which of its pages could not be read.
//!
//! Invariants
//! - Its version is odd while its range changes. The handler looks for the map of the thread that it interrupts, whose slot does not change, so it passes those that do.
//! - A page is noted before there are zeros in its place: who has copied such zeros finds the note.

use std::ops::Range;

use super::sync::{AtomicBool, AtomicUsize, Ordering, fence};

/// So many pages of a map may fail one by one; with one more, the map is given up. That also bounds how many pieces a map's address space is torn into.
pub(super) const PAGES: usize = 16;

/// A guarded map's range, and what of it could not be read.
#[derive(Debug, Default)]
pub(super) struct Slot {
    version: AtomicUsize,
    /// 0 if it is free.
    start: AtomicUsize,
    len: AtomicUsize,
    /// Whether there is anything to look for in what follows.
    any: AtomicBool,
    /// Numbers of pages, plus 1; 0 behind the last.
    pages: [AtomicUsize; PAGES],
    given_up: AtomicBool,
}

/// What was noted down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noted {
    Page,
    Map,
}

impl Slot {
    /// Only one thread at a time: that which took the slot.
    pub(super) fn set(&self, start: usize, len: usize) {
        self.version.fetch_add(1, Ordering::Relaxed);
        // Before what follows, as seen by `range`, whose fence this pairs with.
        fence(Ordering::Release);
        self.start.store(start, Ordering::Relaxed);
        self.len.store(len, Ordering::Relaxed);
        self.any.store(false, Ordering::Relaxed);
        self.given_up.store(false, Ordering::Relaxed);
        self.pages.iter().for_each(|page| page.store(0, Ordering::Relaxed));
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Where its map lies; `None` if it has none, or is being changed.
    pub(super) fn range(&self) -> Option<Range<usize>> {
        let version = self.version.load(Ordering::Acquire);
        let (start, len) = (self.start.load(Ordering::Relaxed), self.len.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        let is_whole = version.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == version;
        (is_whole && start != 0).then(|| start..start + len)
    }

    /// Several threads may note at once, the same page too.
    pub(super) fn note(&self, page: usize) -> Noted {
        // First, so that a reader who sees the zeros of any of them looks at the rest.
        self.any.store(true, Ordering::Relaxed);
        let noted = self.note_page(page);
        // Before the zeros, which come next: pairs with the fence of those who have copied them.
        fence(Ordering::Release);
        noted
    }

    fn note_page(&self, page: usize) -> Noted {
        for place in &self.pages {
            match place.compare_exchange(0, page + 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Noted::Page,
                Err(other) if other == page + 1 => return Noted::Page,
                Err(_) => {}
            }
        }
        self.given_up.store(true, Ordering::Relaxed);
        Noted::Map
    }

    /// The first byte of `range`, which is not empty, that lies in a page that could not be read.
    #[inline]
    pub(super) fn first_noted(&self, range: Range<usize>, page_bytes: usize) -> Option<usize> {
        // The caller's fence orders this, and all that follows, behind its copy.
        if self.any.load(Ordering::Relaxed) { self.look_for(range, page_bytes) } else { None }
    }

    #[cold]
    fn look_for(&self, range: Range<usize>, page_bytes: usize) -> Option<usize> {
        if self.given_up.load(Ordering::Relaxed) {
            return Some(range.start);
        }
        let pages = self.pages.iter().map(|place| place.load(Ordering::Relaxed)).take_while(|page| *page != 0);
        let starts = pages.map(|page| (page - 1) * page_bytes);
        starts
            .filter(|start| *start < range.end && range.start < start + page_bytes)
            .map(|at| at.max(range.start))
            .min()
    }

    /// How many pages could not be read; all of the map's, if it was given up.
    pub(super) fn noted(&self, page_bytes: usize) -> usize {
        // A figure for people: it orders nothing.
        if self.given_up.load(Ordering::Relaxed) {
            return self.len.load(Ordering::Relaxed).div_ceil(page_bytes);
        }
        self.pages.iter().filter(|place| place.load(Ordering::Relaxed) != 0).count()
    }
}
