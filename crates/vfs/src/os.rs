//! The operating system's file system.

/// The operating system's file system, clock and randomness.
#[derive(Debug, Default)]
pub struct OsVfs;
