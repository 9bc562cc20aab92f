//! An append-only list of rooms: one appends at a time, any number read, and what is in it never moves.
//!
//! ```text
//!   array   [ptr][ptr][ptr][   ]        replaced by one twice as long when it is full; the old ones stay for those who read them
//!             |    |    |
//!             T    T    T
//! ```
//! A look-up is two dependent loads. The memtable's nodes, the pages of its index and the chunks of its arena are found through it.
#![expect(unsafe_code, reason = "readers follow pointers that a writer publishes, without a count or a lock")]

use crate::room::{Region, Regions, Room};
use std::ptr::{self, NonNull};
// From beside this module, since its model puts others in their place.
use super::sync::{AtomicPtr, AtomicUsize, Mutex};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Places in the first array.
const FIRST_PLACES: usize = 4;

/// See the module's page.
pub(crate) struct List<T> {
    /// How many items there are. Only a `push`, under the lock, stores it.
    len: AtomicUsize,
    /// The first of at least `len` pointers.
    array: AtomicPtr<AtomicPtr<T>>,
    owned: Mutex<Owned<T>>,
}

/// What is freed with the list.
struct Owned<T> {
    arrays: Vec<Array<T>>,
    /// Those in which items lie; one may stand here several times.
    regions: Vec<Arc<Region>>,
}

/// An array of pointers, made by `Box::into_raw`.
struct Array<T>(NonNull<[AtomicPtr<T>]>);

// SAFETY: an `Array` is a box in all but name: it owns its pointers and hands them to whoever holds it.
unsafe impl<T: Send> Send for Array<T> {}

// SAFETY: a shared list gives out `&T` on every thread (`T: Sync`), and whoever drops it drops items made on another (`T: Send`).
// All that is changed through `&List` is atomic, or under the lock.
unsafe impl<T: Send + Sync> Sync for List<T> {}

impl<T> List<T> {
    pub(crate) fn new() -> Self {
        let owned = Owned { arrays: Vec::new(), regions: Vec::new() };
        Self { len: AtomicUsize::new(0), array: AtomicPtr::new(ptr::null_mut()), owned: Mutex::new(owned) }
    }

    /// How many items there are.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Acquire)
    }

    /// The item at `index`.
    ///
    /// # Panics
    /// If there is none.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> &T {
        // Acquire, for the Release in `push`: the array loaded next is the one stored before this length, or a later one.
        let len = self.len.load(Acquire);
        assert!(index < len, "item {index} of {len}");
        let array = self.array.load(Acquire);
        // SAFETY: `array` has at least `len` places, as `push` stores it before it stores a length it has room for, and it
        // lives until the list is dropped. Place `index` was stored before the length that covers it, or copied from there,
        // and holds a room's item: a `T` that is freed when the list is dropped and only shared until then.
        unsafe { &*(*array.add(index)).load(Relaxed) }
    }

    /// Appends `item`; returns its index, and the bytes that were allocated for the list itself.
    pub(crate) fn push(&self, item: Room<T>) -> (usize, usize) {
        let mut owned = self.owned.lock().expect("a push does not panic");
        let Owned { arrays, regions } = &mut *owned;
        let index = self.len.load(Relaxed);
        // SAFETY: arrays live as long as the list, and are only shared until it is dropped.
        let newest = arrays.last().map(|array| unsafe { array.0.as_ref() });
        let mut grown = 0;
        let places = match newest {
            Some(places) if index < places.len() => places,
            full => {
                let old = full.unwrap_or_default();
                let count = (2 * old.len()).max(FIRST_PLACES);
                let pointers = old.iter().map(|place| place.load(Relaxed));
                let places: Box<[AtomicPtr<T>]> =
                    pointers.chain(std::iter::repeat(ptr::null_mut())).take(count).map(AtomicPtr::new).collect();
                grown = size_of_val(&*places);
                let array = NonNull::from(Box::leak(places));
                arrays.push(Array(array));
                // Release, for the Acquire in `get`: the copied pointers come before the array.
                self.array.store(array.as_ptr().cast(), Release);
                // SAFETY: as above.
                unsafe { array.as_ref() }
            }
        };
        let (item, region) = item.into_parts();
        if let Some(region) = region
            && !regions.last().is_some_and(|last| Arc::ptr_eq(last, &region))
        {
            regions.push(region);
        }
        places[index].store(item.as_ptr(), Relaxed);
        // Release, for the Acquire in `get`: the pointer, and what it points to, come before the length that covers them.
        self.len.store(index + 1, Release);
        (index, grown)
    }

    /// Takes all items out.
    pub(crate) fn drain(&mut self) -> Vec<Room<T>> {
        // Relaxed, here and below: `&mut self`, so nobody else is there.
        let len = self.len.swap(0, Relaxed);
        let Owned { arrays, regions } = self.owned.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
        let regions = Regions::new(std::mem::take(regions));
        // SAFETY: `&mut self`: nobody else has a reference to an array.
        let newest = arrays.last().map(|array| unsafe { array.0.as_ref() });
        let places = &newest.unwrap_or_default()[..len];
        let room = |place: &AtomicPtr<T>| {
            let item = NonNull::new(place.load(Relaxed)).expect("stored by a push");
            // SAFETY: each of the first `len` places of the newest array holds the item of a room that nobody else puts together
            // again: the length is zero from here on. `&mut self`: no reference to an item is left. Its region, if it had one, is kept, and
            // what lies in a region that is alive was not a box.
            unsafe { Room::from_parts(item, regions.of(item.as_ptr())) }
        };
        places.iter().map(room).collect()
    }
}

impl<T> Drop for List<T> {
    fn drop(&mut self) {
        drop(self.drain());
        let owned = self.owned.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
        for array in owned.arrays.drain(..) {
            // SAFETY: made by leaking a box, and taken out of the list of arrays: freed once, and nobody reads it any more.
            drop(unsafe { Box::from_raw(array.0.as_ptr()) });
        }
    }
}
