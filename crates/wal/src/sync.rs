//! Where [`crate::group`] takes locks, atomics and threads from, so that its model (`group_model.rs`) can put in their place those that try every order.

pub(crate) use std::sync::atomic::AtomicU64;
pub(crate) use std::sync::{Mutex, MutexGuard, OnceLock};
pub(crate) use std::thread::{Thread, current, park, yield_now};
