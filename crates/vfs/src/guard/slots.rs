//! Which guarded maps there are: readable from a signal handler, which may neither lock nor allocate.
//!
//! Slots are never freed, so who finds one may keep it. They are used again.

use std::iter;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::slot::{Noted, Slot};

/// Slots in the first slab; each further one has twice as many as the one before.
const FIRST_SLOTS: usize = 64;
const SLABS: usize = 32;

static SLABS_OF_SLOTS: [OnceLock<Box<[Slot]>>; SLABS] = [const { OnceLock::new() }; SLABS];
/// Slots that no map has.
static FREE: Mutex<Vec<&'static Slot>> = Mutex::new(Vec::new());

/// Where zeros are to be put.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hole {
    pub(super) start: usize,
    pub(super) len: usize,
}

/// A slot for the map that lies at `start`.
pub(super) fn take(start: usize, len: usize) -> &'static Slot {
    let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
    let slot = free.pop().unwrap_or_else(|| {
        let slab = SLABS_OF_SLOTS.iter().enumerate().find(|(_, slab)| slab.get().is_none());
        let (i, slab) = slab.expect("there is not so much address space");
        free.extend(slab.get_or_init(|| iter::repeat_with(Slot::default).take(FIRST_SLOTS << i).collect()));
        free.pop().expect("a slab has slots")
    });
    slot.set(start, len);
    slot
}

/// Gives a slot back. Its map is still there, and nobody reads it.
pub(super) fn release(slot: &'static Slot) {
    slot.set(0, 0);
    FREE.lock().unwrap_or_else(PoisonError::into_inner).push(slot);
}

/// Notes down that the page at `address` can't be read, if it is of a map in a slot. For the handler: no locks, no allocation, no panic.
pub(super) fn note(address: usize, page_bytes: usize) -> Option<Hole> {
    let slots = SLABS_OF_SLOTS.iter().map_while(OnceLock::get).flatten();
    slots.filter_map(|slot| Some((slot, slot.range()?))).find_map(|(slot, range)| {
        let offset = address.checked_sub(range.start).filter(|offset| *offset < range.len())?;
        Some(match slot.note(offset / page_bytes) {
            Noted::Page => Hole { start: address & !(page_bytes - 1), len: page_bytes },
            Noted::Map => Hole { start: range.start, len: range.len().next_multiple_of(page_bytes) },
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::slot::PAGES;
    use super::*;

    const PAGE: usize = 4096;

    #[test]
    fn only_pages_of_maps_are_noted_and_stay_so_until_the_slot_is_given_back() {
        // Far above what a process has.
        let start = 1 << 60;
        let slot = take(start, 10 * PAGE + 5);
        assert_eq!(note(start - 1, PAGE), None);
        assert_eq!(note(start + 10 * PAGE + 5, PAGE), None);
        assert_eq!(slot.first_noted(0..10 * PAGE, PAGE), None);
        for _ in 0..2 {
            let hole = note(start + 3 * PAGE + 17, PAGE);
            assert_eq!(hole, Some(Hole { start: start + 3 * PAGE, len: PAGE }));
            assert_eq!(slot.noted(PAGE), 1);
        }
        for (range, found) in [
            (0..3 * PAGE, None),
            (0..3 * PAGE + 1, Some(3 * PAGE)),
            (4 * PAGE - 1..9 * PAGE, Some(4 * PAGE - 1)),
            (4 * PAGE..9 * PAGE, None),
        ] {
            assert_eq!(slot.first_noted(range.clone(), PAGE), found, "{range:?}");
        }
        release(slot);
        assert_eq!(note(start + 3 * PAGE, PAGE), None);
        let other = take(start, 10 * PAGE);
        assert_eq!((other.noted(PAGE), other.first_noted(0..10 * PAGE, PAGE)), (0, None));
        release(other);
    }

    #[test]
    fn a_map_of_which_too_much_fails_is_given_up() {
        let start = 2 << 60;
        let slot = take(start, 100 * PAGE - 1);
        for page in 0..PAGES {
            let hole = note(start + 2 * page * PAGE, PAGE).unwrap();
            assert_eq!(hole, Hole { start: start + 2 * page * PAGE, len: PAGE });
        }
        assert_eq!(slot.first_noted(PAGE..2 * PAGE, PAGE), None);
        assert_eq!(note(start + 99 * PAGE, PAGE), Some(Hole { start, len: 100 * PAGE }));
        assert_eq!((slot.first_noted(PAGE..2 * PAGE, PAGE), slot.noted(PAGE)), (Some(PAGE), 100));
        release(slot);
    }
}
