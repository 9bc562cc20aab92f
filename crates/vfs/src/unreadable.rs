//! [`UnreadablePage`]: why a guarded map could not be read.

use std::fmt;
use std::io;

/// A page of a mapped file that the system could not read: inside the [`io::Error`] that a read of a guarded map ends with ([`crate::ReadableFile::map_guarded`]).
///
/// It lasts: the same page fails again until the file is opened anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnreadablePage {
    /// The first byte of the file that was asked for and could not be read.
    pub offset: u64,
}

impl UnreadablePage {
    /// What `error` says of it, if it is one.
    pub fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref::<Self>().copied()
    }
}

impl fmt::Display for UnreadablePage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset } = self;
        write!(
            f,
            "the page at {offset} of the mapped file could not be read: the device failed, or another program has cut the file; \
             look at the system's log, copy what can be read, and open anew when the device is mended"
        )
    }
}

impl std::error::Error for UnreadablePage {}
