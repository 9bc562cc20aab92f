//! Where [`crate::list`] takes its lock and atomics from, so that its model (`list_model.rs`) can put in their place those that try every order.

pub(crate) use std::sync::Mutex;
pub(crate) use std::sync::atomic::{AtomicPtr, AtomicUsize};
