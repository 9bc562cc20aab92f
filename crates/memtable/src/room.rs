//! [`Room`]: a box that may stand among others in one [`Region`], which the system can back by a single page.
//!
//! ```text
//!   region, 2 MiB at a multiple of 2 MiB   [ item ][ item ][ item ] ...        one page of memory, if the system has one so large
//!                                             ^       ^
//!   rooms                                     |       └── { item, region }      the region is freed with its last room
//!                                             └────────── { item, region }
//! ```
//! An insert or a look-up goes to a dozen places of a table of 64 MiB. In pages of 4 KiB nearly each of them misses the processor's page tables too, and each page costs a fault
//! at its first use; in pages of 2 MiB the tables hold all of it, and there are 32 faults.
#![expect(unsafe_code, reason = "memory that is shared by several owners, each of a part")]

#[cfg(not(all(target_os = "linux", not(miri))))]
use std::alloc::Layout;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// The length of a region, and what its address is a multiple of: a huge page on x86-64 and on most others, in bytes.
pub(crate) const REGION_BYTES: usize = 2 << 20;

#[cfg(not(all(target_os = "linux", not(miri))))]
const LAYOUT: Layout = match Layout::from_size_align(REGION_BYTES, REGION_BYTES) {
    Ok(layout) => layout,
    Err(_) => panic!("a power of two"),
};

/// Memory for the items of several rooms.
pub(crate) struct Region {
    start: NonNull<u8>,
}

// SAFETY: a region owns its memory and gives no access to it; rooms do, each to its part.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// None if the system has no such piece left.
    fn new() -> Option<Arc<Self>> {
        let start = pages::take()?;
        #[cfg(test)]
        ALIVE.with(|alive| alive.set(alive.get() + 1));
        Some(Arc::new(Self { start }))
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        #[cfg(test)]
        ALIVE.with(|alive| alive.set(alive.get().wrapping_sub(1)));
        // SAFETY: taken in `new`. Every room in it holds the region, so none is left.
        unsafe { pages::give_back(self.start) };
    }
}

#[cfg(test)]
thread_local! {
    static ALIVE: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// How many regions this thread has made and freed not yet; for tests that leave them to it alone.
#[cfg(test)]
pub(crate) fn regions_alive() -> usize {
    ALIVE.with(std::cell::Cell::get)
}

/// Regions, to be found by what lies in them.
pub(crate) struct Regions(Vec<Arc<Region>>);

impl Regions {
    /// Of `regions`, one of which may stand there several times.
    pub(crate) fn new(mut regions: Vec<Arc<Region>>) -> Self {
        regions.sort_unstable_by_key(|region| region.start);
        regions.dedup_by_key(|region| region.start);
        Self(regions)
    }

    /// The one in which `item` lies.
    pub(crate) fn of<T>(&self, item: *const T) -> Option<Arc<Region>> {
        let behind = self.0.partition_point(|region| region.start.addr().get() <= item.addr());
        let region = self.0.get(behind.checked_sub(1)?)?;
        (item.addr() - region.start.addr().get() < REGION_BYTES).then(|| Arc::clone(region))
    }
}

/// Where regions come from: from the system itself. An allocator that is asked for so much at such a place keeps what is around it, and what is freed, as pages in use.
#[cfg(all(target_os = "linux", not(miri)))]
mod pages {
    use super::REGION_BYTES;
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
    use std::ptr::{self, NonNull};

    /// A region, all zeros.
    pub(super) fn take() -> Option<NonNull<u8>> {
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: new memory, where the system wants it.
        let twice = unsafe { mmap_anonymous(ptr::null_mut(), 2 * REGION_BYTES, access, flags) };
        let first = twice.ok()?.cast::<u8>();
        let before = first.addr().next_multiple_of(REGION_BYTES) - first.addr();
        let start = first.wrapping_add(before);
        for (from, bytes) in [(first, before), (start.wrapping_add(REGION_BYTES), REGION_BYTES - before)] {
            if bytes > 0 {
                // SAFETY: a part of what was mapped above, in whole pages, that nobody knows of.
                let _ = unsafe { munmap(from.cast(), bytes) };
            }
        }
        // A hint: where there is no huge page, pages are small.
        // SAFETY: what is left of the map, of which the advice changes nothing.
        let _ = unsafe { madvise(start.cast(), REGION_BYTES, Advice::LinuxHugepage) };
        NonNull::new(start)
    }

    /// Unmaps a region.
    ///
    /// # Safety
    /// It was taken here, is not given back twice, and nobody uses it any more.
    pub(super) unsafe fn give_back(start: NonNull<u8>) {
        // SAFETY: the caller's promise.
        let _ = unsafe { munmap(start.as_ptr().cast(), REGION_BYTES) };
    }
}

/// As above, by the allocator.
#[cfg(not(all(target_os = "linux", not(miri))))]
mod pages {
    use super::LAYOUT;
    use std::alloc::{alloc, dealloc};
    use std::ptr::NonNull;

    pub(super) fn take() -> Option<NonNull<u8>> {
        // SAFETY: the layout is not empty.
        NonNull::new(unsafe { alloc(LAYOUT) })
    }

    /// # Safety
    /// As above.
    pub(super) unsafe fn give_back(start: NonNull<u8>) {
        // SAFETY: the caller's promise; it was allocated with this layout.
        unsafe { dealloc(start.as_ptr(), LAYOUT) };
    }
}

/// Owns an item, alone or in a region with others.
///
/// Invariant: `item` is valid and owned by this room alone; without a region it is a box's.
pub(crate) struct Room<T: ?Sized> {
    item: NonNull<T>,
    region: Option<Arc<Region>>,
}

// SAFETY: a room is a box in all but where it lies, and a region may go to any thread.
unsafe impl<T: ?Sized + Send> Send for Room<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Sync> Sync for Room<T> {}

impl<T: ?Sized> Room<T> {
    /// Where the region is in which the item lies, if it lies in one.
    pub(crate) fn region_address(&self) -> Option<usize> {
        self.region.as_ref().map(|region| region.start.addr().get())
    }

    /// What it is made of. Who does not put it together again leaks the item.
    pub(crate) fn into_parts(self) -> (NonNull<T>, Option<Arc<Region>>) {
        let mut room = std::mem::ManuallyDrop::new(self);
        (room.item, room.region.take())
    }

    /// A room of its parts.
    ///
    /// # Safety
    /// The parts are those of one room, which was not put together from them since.
    pub(crate) unsafe fn from_parts(item: NonNull<T>, region: Option<Arc<Region>>) -> Self {
        Self { item, region }
    }
}

impl<T: ?Sized> From<Box<T>> for Room<T> {
    fn from(item: Box<T>) -> Self {
        Self { item: NonNull::from(Box::leak(item)), region: None }
    }
}

impl<T> Room<T> {
    /// As many rooms as there is space for in one region, each with what `make` gives. None of them for items that are too large, or if there is no region to be had.
    pub(crate) fn many(make: impl Fn() -> T) -> Vec<Self> {
        const { assert!(size_of::<T>() > 0 && align_of::<T>() <= REGION_BYTES) };
        let Some(region) = Region::new() else { return Vec::new() };
        let room = |i| {
            // SAFETY: item `i` lies in the region, which nobody else has: the index is below what fits. The region is aligned for any item, and
            // so is each at a multiple of its size.
            let item = unsafe { region.start.cast::<T>().add(i) };
            // SAFETY: as above; what is there is not initialised.
            unsafe { item.write(make()) };
            Self { item, region: Some(Arc::clone(&region)) }
        };
        (0..REGION_BYTES / size_of::<T>()).map(room).collect()
    }
}

/// Bytes that are not written yet.
pub(crate) type Bytes<U> = Room<[MaybeUninit<U>]>;

impl<U> Bytes<U> {
    /// Rooms of `len` items each, as many as there is space for in one region; none if there is none to be had.
    pub(crate) fn many_uninit(len: usize) -> Vec<Self> {
        const { assert!(size_of::<U>() == 1) };
        let Some(region) = Region::new() else { return Vec::new() };
        let room = |i: usize| {
            // SAFETY: `len` bytes from there on lie in the region: the index is below what fits. Nobody else has them.
            let first = unsafe { region.start.cast::<MaybeUninit<U>>().add(i * len) };
            Self { item: NonNull::slice_from_raw_parts(first, len), region: Some(Arc::clone(&region)) }
        };
        (0..REGION_BYTES / len.max(1)).map(room).collect()
    }
}

impl<T: ?Sized> Drop for Room<T> {
    fn drop(&mut self) {
        match self.region.take() {
            // SAFETY: without a region it came from a box, and it is dropped once.
            None => drop(unsafe { Box::from_raw(self.item.as_ptr()) }),
            // SAFETY: the item is valid, this room's alone, and dropped once. Its memory is freed with the region, which is dropped after it.
            Some(_region) => unsafe { ptr::drop_in_place(self.item.as_ptr()) },
        }
    }
}

impl<T: ?Sized> Deref for Room<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the item is valid as long as the room, which is borrowed.
        unsafe { self.item.as_ref() }
    }
}

impl<T: ?Sized> DerefMut for Room<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and it is this room's alone.
        unsafe { self.item.as_mut() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_each_their_own_and_dropped_once() {
        let dropped = Arc::new(());
        // Large, so that Miri need not make many.
        let mut rooms = Room::many(|| (Arc::clone(&dropped), [0_u8; 300_000]));
        assert_eq!(rooms.len(), REGION_BYTES / size_of::<(Arc<()>, [u8; 300_000])>());
        for (i, room) in rooms.iter_mut().enumerate() {
            room.1[7] = i as u8;
        }
        let last = rooms.pop().unwrap();
        rooms.push(Box::new((Arc::clone(&dropped), [9; 300_000])).into());
        assert_eq!(rooms.iter().map(|room| room.1[7]).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 9]);
        assert_eq!(Arc::strong_count(&dropped), 8);
        drop(rooms);
        assert_eq!((Arc::strong_count(&dropped), last.1[7]), (2, 5), "a region lives as long as a room in it");
        let (item, region) = last.into_parts();
        let start = region.as_ref().unwrap().start;
        let regions = Regions::new([region.clone(), region.clone()].into_iter().flatten().collect());
        assert_eq!((regions.0.len(), regions.of(item.as_ptr()).map(|region| region.start)), (1, Some(start)));
        let around = [start.as_ptr().wrapping_sub(1), start.as_ptr().wrapping_add(REGION_BYTES)];
        assert!(around.iter().all(|outside| regions.of(*outside).is_none()));
        drop(regions);
        // SAFETY: the parts of the room above.
        drop(unsafe { Room::from_parts(item, region) });
        assert_eq!(Arc::strong_count(&dropped), 1);
    }

    #[test]
    fn a_region_is_where_a_huge_page_may_be() {
        let mut rooms = Bytes::<u8>::many_uninit(REGION_BYTES / 2);
        assert_eq!((rooms.len(), rooms[0].as_ptr().addr() % REGION_BYTES), (2, 0));
        assert_eq!(rooms[1].as_ptr().addr(), rooms[0].as_ptr().addr() + REGION_BYTES / 2);
        rooms.iter_mut().for_each(|room| room.iter_mut().step_by(4096).for_each(|byte| *byte = MaybeUninit::new(1)));
        assert!(Bytes::<u8>::many_uninit(REGION_BYTES + 1).is_empty());
    }
}
