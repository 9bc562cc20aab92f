//! Test equipment that Esker's crates share. Development only: nothing here is part of the engine.
//!
//! Suites are called from a crate's `tests/`, never from its unit tests: there the crate would exist twice.
#![deny(unsafe_code)]

pub mod disk;
pub mod heap;
pub mod iterator_suite;
pub mod model;
pub mod options;
pub mod random;
pub mod sparse;
pub mod stress;
pub mod vfs_suite;
