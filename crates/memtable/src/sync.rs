//! Where [`crate::list`] and the nodes of the tree take their lock and atomics from, so that their models (`list_model.rs`, `tree/node_model.rs`) can put in their place those that try every order.

pub(crate) use std::sync::Mutex;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize};
