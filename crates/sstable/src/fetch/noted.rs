//! In the place of the hints of `esker-vfs`: fetches nothing, and notes what it was asked for.

use esker_vfs::CACHE_LINE_BYTES;
use std::cell::RefCell;

thread_local! {
    /// The addresses that this thread has sent for.
    static NOTED: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

pub(crate) fn prefetch(bytes: &[u8], at: usize) {
    if let Some(byte) = bytes.get(at) {
        NOTED.with_borrow_mut(|noted| noted.push(std::ptr::from_ref(byte).addr()));
    }
}

pub(crate) fn prefetch_range(bytes: &[u8], from: usize, len: usize) {
    let end = from.saturating_add(len).min(bytes.len());
    (from..end).step_by(CACHE_LINE_BYTES).for_each(|at| prefetch(bytes, at));
}

/// Where in `bytes` this thread has sent for something since it was last asked about any, in order.
pub(super) fn sent_for(bytes: &[u8]) -> Vec<usize> {
    let start = bytes.as_ptr().addr();
    let within = |at: usize| at.checked_sub(start).filter(|at| *at < bytes.len());
    NOTED.take().into_iter().filter_map(within).collect()
}
