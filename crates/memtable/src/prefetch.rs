//! Asking for memory ahead of its use: a hint, which changes no result.
#![cfg_attr(
    all(target_arch = "x86_64", not(miri)),
    expect(unsafe_code, reason = "the processor's prefetch instruction takes a pointer")
)]

/// Asks for the cache line of `of`'s first byte.
#[inline(always)]
pub(crate) fn prefetch<T: ?Sized>(of: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads and writes nothing the program could see, whatever the address; SSE is there on every x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(of).cast::<i8>()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = of;
}
