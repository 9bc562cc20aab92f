//! [`Finding`]: something that is to be said of a file, for whoever has to decide what to do. [`Progress`] of what looks for them.

use std::fmt;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Gravity {
    /// Nothing is wrong.
    Note,
    /// It could not be read, for want of rights, descriptors or memory: whether anything is wrong is not known.
    Unread,
    /// Something is not as it was written.
    Damage,
}

/// Something found in a directory, with what it means and what can be done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// How bad it is.
    pub gravity: Gravity,
    /// The file's name within the directory.
    pub file: String,
    /// Where in the file, in bytes, if it is about a place.
    pub offset: Option<u64>,
    /// What was found.
    pub what: String,
    /// What it means for who uses the engine.
    pub meaning: String,
    /// What to do.
    pub advice: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.what)
    }
}

/// How far a walk over a directory has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes of files that were read.
    pub done_bytes: u64,
    /// Bytes of all files that are to be read, some of them perhaps twice.
    pub total_bytes: u64,
}
