//! Where [`super::slot`] takes its atomics from, so that its model (`slot_model.rs`) can put in their place those that try every order.

pub(super) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
