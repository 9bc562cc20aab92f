//! [`TableError`]: what went wrong with a table, as facts. Advice is the caller's.

use crate::frame::BlockKind;
use esker_format::{DecodeError, InternalKeyBuf};
use esker_vfs::UnreadablePage;
use std::io;
use std::sync::Arc;
use thiserror::Error;

/// Why a table could not be built or read.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum TableError {
    /// The operating system failed.
    #[error("table {table}: {doing}: {source}")]
    Io {
        /// The table's name.
        table: Arc<str>,
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// A checksum does not match the bytes it covers.
    #[error("table {table}: {part} at {offset}: checksum {found:#010x}, expected {expected:#010x}")]
    Checksum {
        /// The table's name.
        table: Arc<str>,
        /// Which part of the file.
        part: BlockKind,
        /// Where it starts in the file.
        offset: u64,
        /// The checksum that is stored.
        expected: u32,
        /// The checksum that the bytes have.
        found: u32,
    },
    /// A number in the file, or the file's length, is not what it must be.
    #[error("table {table}: {part} at {offset}: {what} {found}, expected {expected}")]
    Mismatch {
        /// The table's name.
        table: Arc<str>,
        /// Which part of the file.
        part: BlockKind,
        /// Where that part starts in the file.
        offset: u64,
        /// Which number.
        what: &'static str,
        /// What it must be.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// The bytes have a right checksum, or none yet, and make no sense.
    #[error("table {table}: {part} at {offset}: {what}")]
    Damaged {
        /// The table's name.
        table: Arc<str>,
        /// Which part of the file.
        part: BlockKind,
        /// Where that part starts in the file.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A field does not decode. The inner offset counts from the start of the part.
    #[error("table {table}: {part} at {offset}: {source}")]
    Field {
        /// The table's name.
        table: Arc<str>,
        /// Which part of the file.
        part: BlockKind,
        /// Where that part starts in the file.
        offset: u64,
        /// What is wrong.
        source: DecodeError,
    },
    /// The file uses something that this build does not know; a newer one, or one with other features, may.
    #[error("table {table}: {part} at {offset}: {what} {found} is not known to this version")]
    Unsupported {
        /// The table's name.
        table: Arc<str>,
        /// Which part of the file.
        part: BlockKind,
        /// Where that part starts in the file; 0 while building.
        offset: u64,
        /// What is not known.
        what: &'static str,
        /// Its number.
        found: u64,
    },
    /// An entry was added that does not sort behind the one before. It is not in the table.
    #[error("table {table}: entry {key:?} does not sort behind {previous:?}")]
    OutOfOrder {
        /// The table's name.
        table: Arc<str>,
        /// The last entry that was added.
        previous: InternalKeyBuf,
        /// The entry that was refused.
        key: InternalKeyBuf,
    },
    /// An entry was added that a table can't hold. It is not in the table.
    #[error("table {table}: {what} of {bytes} bytes: at most {bytes_max}")]
    TooLong {
        /// The table's name.
        table: Arc<str>,
        /// Key or value.
        what: &'static str,
        /// Its length.
        bytes: u64,
        /// The longest allowed.
        bytes_max: u64,
    },
    /// Range tombstones were added in a form in which a table can't hold them. They are not in the table.
    #[error("table {table}: {what}")]
    BadLayer {
        /// The table's name.
        table: Arc<str>,
        /// What is wrong.
        what: &'static str,
    },
    /// A table was finished that has neither entries nor range tombstones; there are no empty tables.
    #[error("table {table}: no entries")]
    Empty {
        /// The table's name.
        table: Arc<str>,
    },
}

impl TableError {
    /// An operating system's error at a table, told by whoever opens its file.
    pub fn from_io(table: &Arc<str>, doing: &'static str, source: io::Error) -> Self {
        Self::Io { table: Arc::clone(table), doing, source: Arc::new(source) }
    }

    /// The error of the operating system, if it was one.
    pub fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }

    /// The table's name.
    pub fn table(&self) -> &str {
        match self {
            Self::Io { table, .. }
            | Self::Checksum { table, .. }
            | Self::Mismatch { table, .. }
            | Self::Damaged { table, .. }
            | Self::Field { table, .. }
            | Self::Unsupported { table, .. }
            | Self::OutOfOrder { table, .. }
            | Self::TooLong { table, .. }
            | Self::BadLayer { table, .. }
            | Self::Empty { table } => table,
        }
    }

    /// Where in the file the part starts that the error is about.
    pub fn offset(&self) -> Option<u64> {
        match self {
            Self::Checksum { offset, .. }
            | Self::Mismatch { offset, .. }
            | Self::Damaged { offset, .. }
            | Self::Field { offset, .. }
            | Self::Unsupported { offset, .. } => Some(*offset),
            _ => None,
        }
    }

    /// Whether the file system is full.
    pub fn is_no_space(&self) -> bool {
        let full = |kind| matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        self.io().is_some_and(|error| full(error.kind()))
    }

    /// Whether a newer build, or one with other features, may be able to read the table.
    pub fn is_unsupported(&self) -> bool {
        match self {
            Self::Unsupported { .. } => true,
            Self::Field { source, .. } => source.is_unsupported(),
            _ => false,
        }
    }

    /// Whether it is an error of the operating system that stays as long as the table is open ([`UnreadablePage`]).
    pub fn is_lasting(&self) -> bool {
        self.io().and_then(UnreadablePage::of).is_some()
    }

    /// Whether the file's bytes are not those that were written.
    pub fn is_corruption(&self) -> bool {
        match self {
            Self::Checksum { .. } | Self::Mismatch { .. } | Self::Damaged { .. } => true,
            Self::Field { source, .. } => !source.is_unsupported(),
            Self::Io { source, .. } => source.kind() == io::ErrorKind::UnexpectedEof,
            _ => false,
        }
    }
}

/// What a decoder finds wrong in a block, before anyone says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Damaged(&'static str),
    Unsupported { what: &'static str, found: u64 },
}

#[cfg(test)]
mod tests {
    use super::*;
    use esker_format::{InternalKey, Trailer};

    /// One of each kind and case, with whether it is corruption, unsupported, lasting.
    fn all() -> Vec<(TableError, [bool; 3])> {
        let table: Arc<str> = "000012.sst".into();
        let table = || Arc::clone(&table);
        let (part, offset, what) = (BlockKind::Index, 40, "it");
        let io = |source| TableError::from_io(&table(), "read", source);
        let field = |source| TableError::Field { table: table(), part, offset, source };
        let key = || InternalKey { user_key: b"k", trailer: Trailer::MIN }.to_buf();
        let [corruption, unsupported, lasting] = [[true, false, false], [false, true, false], [false, false, true]];
        let neither = [false; 3];
        vec![
            (io(io::ErrorKind::UnexpectedEof.into()), corruption),
            (io(io::ErrorKind::PermissionDenied.into()), neither),
            (io(io::Error::other(UnreadablePage { offset })), lasting),
            (TableError::Checksum { table: table(), part, offset, expected: 1, found: 2 }, corruption),
            (TableError::Mismatch { table: table(), part, offset, what, expected: 1, found: 2 }, corruption),
            (TableError::Damaged { table: table(), part, offset, what }, corruption),
            (field(DecodeError::Truncated { what, offset: 0, need: 2, have: 1 }), corruption),
            (field(DecodeError::Invalid { what, offset: 0, found: 1 }), corruption),
            (field(DecodeError::Unsupported { what, offset: 0, found: 1 }), unsupported),
            (TableError::Unsupported { table: table(), part, offset, what, found: 1 }, unsupported),
            (TableError::OutOfOrder { table: table(), previous: key(), key: key() }, neither),
            (TableError::TooLong { table: table(), what, bytes: 2, bytes_max: 1 }, neither),
            (TableError::BadLayer { table: table(), what }, neither),
            (TableError::Empty { table: table() }, neither),
        ]
    }

    #[test]
    fn each_says_which_table_and_what_can_be_made_of_it() {
        for (error, facts) in all() {
            assert_eq!([error.is_corruption(), error.is_unsupported(), error.is_lasting()], facts, "{error}");
            assert_eq!(error.table(), "000012.sst", "{error}");
            assert!(error.to_string().starts_with("table 000012.sst: "), "{error}");
        }
    }
}
