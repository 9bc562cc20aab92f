//! [`BlobError`]: what went wrong with a blob file, as facts. Advice is the caller's.

use esker_vfs::UnreadablePage;
use std::fmt;
use std::io;
use std::sync::Arc;
use thiserror::Error;

/// A part of a blob file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The first bytes.
    Header,
    /// A value and what stands around it.
    Record,
    /// The last bytes.
    Footer,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Record => "record",
            Self::Footer => "footer",
        })
    }
}

/// Why a blob file could not be written or read.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum BlobError {
    /// The operating system failed.
    #[error("blob file {file}: {doing}: {source}")]
    Io {
        /// The file's name.
        file: Arc<str>,
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// A checksum does not match the bytes it covers.
    #[error("blob file {file}: {part} at {offset}: checksum {found:#010x}, expected {expected:#010x}")]
    Checksum {
        /// The file's name.
        file: Arc<str>,
        /// Which part of it.
        part: Part,
        /// Where that starts.
        offset: u64,
        /// The checksum that is stored.
        expected: u32,
        /// The checksum that the bytes have.
        found: u32,
    },
    /// A number in the file, or the file's length, is not what it must be.
    #[error("blob file {file}: {part} at {offset}: {what} {found}, expected {expected}")]
    Mismatch {
        /// The file's name.
        file: Arc<str>,
        /// Which part of it.
        part: Part,
        /// Where that starts.
        offset: u64,
        /// Which number.
        what: &'static str,
        /// What it must be.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// The bytes make no sense, or a reference leads outside the records.
    #[error("blob file {file}: {part} at {offset}: {what}")]
    Damaged {
        /// The file's name.
        file: Arc<str>,
        /// Which part of it.
        part: Part,
        /// Where that starts.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The file uses something that this build does not know.
    #[error("blob file {file}: {what} {found} is not known to this version")]
    Unsupported {
        /// The file's name.
        file: Arc<str>,
        /// What is not known.
        what: &'static str,
        /// Its number.
        found: u64,
    },
    /// A value that no record can hold. It is not in the file.
    #[error("blob file {file}: value of {bytes} bytes: at most {bytes_max}")]
    TooLong {
        /// The file's name.
        file: Arc<str>,
        /// Its length.
        bytes: u64,
        /// The longest allowed.
        bytes_max: u64,
    },
}

impl BlobError {
    /// An operating system's error at a blob file, told by whoever opens it.
    pub fn from_io(file: &Arc<str>, doing: &'static str, source: io::Error) -> Self {
        Self::Io { file: Arc::clone(file), doing, source: Arc::new(source) }
    }

    /// The error of the operating system, if it was one.
    pub fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }

    /// Whether the file system is full.
    pub fn is_no_space(&self) -> bool {
        let full = |kind| matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        self.io().is_some_and(|error| full(error.kind()))
    }

    /// Whether a newer build may be able to read the file.
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::Unsupported { .. })
    }

    /// Whether it is an error of the operating system that stays as long as the file is open ([`UnreadablePage`]).
    pub fn is_lasting(&self) -> bool {
        self.io().and_then(UnreadablePage::of).is_some()
    }

    /// Whether the file's bytes are not those that were written.
    pub fn is_corruption(&self) -> bool {
        match self {
            Self::Checksum { .. } | Self::Mismatch { .. } | Self::Damaged { .. } => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::UnexpectedEof,
            Self::Unsupported { .. } | Self::TooLong { .. } => false,
        }
    }
}
