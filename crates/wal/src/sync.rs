//! Where [`crate::group`] takes locks, atomics and threads from, so that its model (`group_model.rs`) can put in their place those that try every order.

pub(crate) use std::sync::atomic::AtomicU64;
pub(crate) use std::sync::{Mutex, MutexGuard, OnceLock};
#[cfg(not(test))]
pub(crate) use std::thread::yield_now;
pub(crate) use std::thread::{Thread, current, park};
#[cfg(test)]
pub(crate) use tests::yield_now;

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    thread_local! {
        /// How often this thread has let others run.
        pub(crate) static YIELDS: Cell<usize> = const { Cell::new(0) };
    }

    pub(crate) fn yield_now() {
        YIELDS.set(YIELDS.get() + 1);
        std::thread::yield_now();
    }
}
