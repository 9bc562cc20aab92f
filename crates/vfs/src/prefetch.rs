//! [`prefetch`]: asks the processor for bytes that will be read soon.

/// Bytes the processor fetches at a time, on every machine that matters here.
pub const CACHE_LINE_BYTES: usize = 64;

/// Begins to fetch the cache line that holds byte `at` of `bytes`, and does not wait for it; where there is no such byte, does nothing.
///
/// A hint: it never changes what a program does, only how long it waits. A look-up that knows several places it will go to asks for all of them
/// and then goes, so that it waits once. On processors for which there is no such instruction here nothing happens.
#[inline(always)]
pub fn prefetch(bytes: &[u8], at: usize) {
    if let Some(byte) = bytes.get(at) {
        fetch(byte);
    }
}

/// [`prefetch`] of all lines that hold bytes of `from..from + len`.
#[inline(always)]
pub fn prefetch_range(bytes: &[u8], from: usize, len: usize) {
    let end = from.saturating_add(len).min(bytes.len());
    let mut at = from;
    while at < end {
        prefetch(bytes, at);
        at += CACHE_LINE_BYTES;
    }
    // The range need not begin where a line does.
    prefetch(bytes, end.wrapping_sub(1));
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[expect(unsafe_code, reason = "the instruction takes a pointer")]
#[inline(always)]
fn fetch(byte: &u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: the instruction reads nothing that a program could see, whatever the address; this one is a reference's. It is part of SSE, which
    // every x86-64 processor has.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(byte).cast()) }
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
#[inline(always)]
fn fetch(_: &u8) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_place_is_wrong() {
        let bytes = [7; 200];
        for at in [0, 63, 199, 200, usize::MAX] {
            prefetch(&bytes, at);
        }
        prefetch_range(&bytes, 10, 1000);
        prefetch_range(&bytes, usize::MAX, usize::MAX);
        prefetch_range(&bytes, 0, 0);
        prefetch_range(&[], 0, 10);
        assert_eq!(bytes, [7; 200]);
    }
}
