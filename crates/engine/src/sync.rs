//! Where [`crate::publish`], [`crate::removals`] and [`crate::instants`] take locks, counts and atomics from, so that their models can put in their place those that try every order.

pub(crate) use arc_swap::{ArcSwap, Guard};
pub(crate) use parking_lot::Mutex;
pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64};

/// Those of loom, with the face of these.
#[cfg(test)]
pub(crate) mod model {
    pub(crate) use loom::sync::Arc;
    pub(crate) use loom::sync::atomic::AtomicBool;

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().expect("nobody panics while it is held")
        }
    }

    /// More switches of threads than this at places where none was due are not tried.
    const PREEMPTIONS_MAX: usize = 3;

    /// Runs it in every order.
    pub(crate) fn check(run: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(PREEMPTIONS_MAX);
        builder.check(run);
    }
}
