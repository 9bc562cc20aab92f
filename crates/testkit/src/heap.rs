//! An allocator that counts what each thread has in use.
//!
//! ```
//! use esker_testkit::heap::{Counting, measured};
//!
//! #[global_allocator]
//! static ALLOCATOR: Counting = Counting;
//!
//! let (bytes, peak_bytes) = measured(|| vec![0_u8; 1_000]);
//! assert_eq!((bytes.len(), peak_bytes), (1_000, 1_000));
//! ```

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, each thread's allocations counted by itself.
#[derive(Debug, Clone, Copy)]
pub struct Counting;

thread_local! {
    static HEAP: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator as it came; what is counted is in cells that need no allocation and no destructor.
#[expect(unsafe_code, reason = "an allocator that counts can only be written so")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HEAP.set(HEAP.get().wrapping_add(layout.size()));
        PEAK.set(PEAK.get().max(HEAP.get()));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HEAP.set(HEAP.get().wrapping_sub(layout.size()));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// The heap in the middle of what it can count to: a thread may free what another allocated, or what was there before.
const MIDDLE: usize = usize::MAX / 2;

/// Calls `f`; also how many bytes more than before this thread had in use at once, if [`Counting`] is the allocator.
pub fn measured<R>(f: impl FnOnce() -> R) -> (R, usize) {
    HEAP.set(MIDDLE);
    PEAK.set(MIDDLE);
    let result = f();
    (result, PEAK.get() - MIDDLE)
}
