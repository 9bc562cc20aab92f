//! [`WalError`]: what went wrong in which log, with the evidence.

use crate::frame::Lsn;
use crate::reader::EndCause;
use std::io;
use std::sync::Arc;
use thiserror::Error;

/// Why a log could not be written or read. Offsets are those in the file `name`.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum WalError {
    /// The file system failed.
    #[error("log {name}: {operation} at {offset}: {source}")]
    Io {
        /// The file.
        name: Arc<str>,
        /// What was being done.
        operation: &'static str,
        /// How far the file was written or read.
        offset: u64,
        /// The file system's error.
        source: Arc<io::Error>,
    },
    /// The file does not begin with a whole header: it was never finished, or it is damaged.
    #[error("log {name}: the file header is not whole: {cause}")]
    NoHeader {
        /// The file.
        name: Arc<str>,
        /// What is there instead.
        cause: EndCause,
    },
    /// The checksum is right, but this version does not know the value; a newer one may.
    #[error("log {name}: {what} at {offset} is not known to this version: {found}")]
    Unsupported {
        /// The file.
        name: Arc<str>,
        /// The field.
        what: &'static str,
        /// Where the header with the field starts.
        offset: u64,
        /// What it holds.
        found: u64,
    },
    /// The checksum is right, but no log holds such a value.
    #[error("log {name}: {what} at {offset} is not valid: {found}")]
    Invalid {
        /// The file.
        name: Arc<str>,
        /// The field.
        what: &'static str,
        /// Where the header with the field starts.
        offset: u64,
        /// What it holds.
        found: u64,
    },
    /// The payload is longer than 2^32 - 1 bytes. Nothing was written.
    #[error("log {name}: a payload of {bytes} bytes; the longest is {}", u32::MAX)]
    TooLong {
        /// The file.
        name: Arc<str>,
        /// Length of the payload.
        bytes: u64,
    },
    /// A new log would start before the end of its series, or while the log before it is not sealed.
    #[error("log {name}: starts at {start}, but the logs before it are {}", match end {
        Some(end) => format!("sealed at {end}"),
        None => "not sealed".into(),
    })]
    OutOfLine {
        /// The file.
        name: Arc<str>,
        /// Where it was to start.
        start: Lsn,
        /// Where the line ends; `None` while a log is being written.
        end: Option<Lsn>,
    },
    /// A sync was asked for beyond what was handed to the operating system. Nothing was synced.
    #[error("sync to {upto}, but only {pushed} has been pushed")]
    NotPushed {
        /// What was asked for.
        upto: Lsn,
        /// How far the logs have been pushed.
        pushed: Lsn,
    },
    /// A thread panicked while it synced for the others; what reached stable storage is not known.
    #[error("a sync was interrupted by a panic")]
    Interrupted,
}

impl WalError {
    /// Whether the file system is full, or a quota is used up.
    pub fn is_no_space(&self) -> bool {
        self.io().is_some_and(is_no_space)
    }

    /// Whether a newer version may be able to read the file.
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::Unsupported { .. })
    }

    /// The file system's error, if it was one.
    pub fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }

    pub(crate) fn from_io(name: &Arc<str>, operation: &'static str, offset: u64, error: io::Error) -> Self {
        Self::Io { name: name.clone(), operation, offset, source: Arc::new(error) }
    }
}

/// Whether the file system is full, or a quota is used up.
pub fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
