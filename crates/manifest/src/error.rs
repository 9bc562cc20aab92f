//! What can go wrong, with the facts.

use crate::{Level, Lsn};
use esker_format::{DecodeError, FileNo, KeyspaceId, SeqNo};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use thiserror::Error;

/// Why an edit does not fit the version it is applied to, or a version does not hold together.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EditError {
    /// There is no keyspace of that id.
    #[error("there is no keyspace {0}")]
    NoKeyspace(KeyspaceId),
    /// The id was given out before, or is the one that never is.
    #[error("keyspace id {id} can't be given out, the next one is {next}")]
    KeyspaceId {
        /// The id.
        id: KeyspaceId,
        /// The least id not given out.
        next: KeyspaceId,
    },
    /// The name is taken.
    #[error("there is a keyspace {0:?} already")]
    KeyspaceName(String),
    /// The keyspace `default` always exists.
    #[error("the keyspace `default` can't be dropped, renamed, or missing")]
    DefaultKeyspace,
    /// No such level.
    #[error("{0} is not a level")]
    NoLevel(Level),
    /// The table to remove is not where the edit says.
    #[error("table {number} is not in keyspace {keyspace} {level}")]
    NoTable {
        /// The table.
        number: FileNo,
        /// Where it should have been.
        keyspace: KeyspaceId,
        /// Where it should have been.
        level: Level,
    },
    /// The table to add is in the version already.
    #[error("table {0} is there already")]
    TableExists(FileNo),
    /// A table's description contradicts itself or the version's counters.
    #[error("table {number}: {what}")]
    Table {
        /// The table.
        number: FileNo,
        /// What does not fit.
        what: &'static str,
    },
    /// A blob file's description contradicts itself, the version's counters, or the tables.
    #[error("blob file {number}: {what}")]
    Blob {
        /// The file.
        number: FileNo,
        /// What does not fit.
        what: &'static str,
    },
    /// What is told of an ingest contradicts itself, the counters, or the ingests before it.
    #[error("ingest {seq}: {what}")]
    Ingest {
        /// Its sequence number.
        seq: SeqNo,
        /// What does not fit.
        what: &'static str,
    },
    /// The tables of a level are out of order, or two below level 0 share a user key.
    #[error("keyspace {keyspace} {level}: tables {left} and {right} are out of order or overlap")]
    Overlap {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The level.
        level: Level,
        /// The table that comes first.
        left: FileNo,
        /// The one after.
        right: FileNo,
    },
    /// Only a manifest itself begins with a snapshot.
    #[error("a snapshot can't be committed")]
    Snapshot,
    /// A counter that only grows would shrink.
    #[error("{what} would go back from {from} to {to}")]
    GoesBack {
        /// The counter.
        what: &'static str,
        /// What it is.
        from: u64,
        /// What it would become.
        to: u64,
    },
    /// A number lies beyond what was reserved.
    #[error("{what} {found} is not below the limit {limit}")]
    Beyond {
        /// The number.
        what: &'static str,
        /// What it is.
        found: u64,
        /// What it must stay below.
        limit: u64,
    },
}

/// What is wrong with a record of a manifest whose checksum is right.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The bytes are no edit.
    #[error("{0}")]
    Decode(#[from] DecodeError),
    /// The edit does not fit the version that the edits before it make.
    #[error("{0}")]
    Edit(#[from] EditError),
    /// The first edit is not a snapshot, or a later one is.
    #[error("the first edit, and no other, must be a snapshot")]
    Snapshot,
}

/// What can go wrong with a manifest. Cheap to clone.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The operating system refused something.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The answer.
        source: Arc<io::Error>,
    },
    /// The record log failed, or is damaged.
    #[error(transparent)]
    Wal(#[from] esker_wal::WalError),
    /// An edit that the caller made does not fit the version. Nothing was written.
    #[error("{0}")]
    Edit(#[from] EditError),
    /// A record is whole, but what it says can't be.
    #[error("{name}: edit at {position}: {source}")]
    Record {
        /// The manifest's file name.
        name: String,
        /// Where the record starts.
        position: Lsn,
        /// What is wrong.
        source: RecordError,
    },
    /// The manifest breaks off before something that is known to have been on stable storage.
    #[error("{name}: damaged at {position}, but everything up to {vouched} was on stable storage")]
    Break {
        /// The manifest's file name.
        name: String,
        /// Where the last whole record ends.
        position: Lsn,
        /// How far a record vouches.
        vouched: Lsn,
    },
    /// The number in a manifest's header is not the one in its name.
    #[error("{name}: this is manifest {found}")]
    WrongNumber {
        /// The manifest's file name.
        name: String,
        /// The number in the header.
        found: FileNo,
    },
    /// A manifest holds no whole edit, though CURRENT names it only once it has one.
    #[error("{name}: holds no whole edit")]
    NoEdit {
        /// The manifest's file name.
        name: String,
    },
    /// CURRENT holds something else than one line with a manifest's name and its checksum.
    #[error("{}: not the name of a manifest and its checksum: \"{found}\"", path.display())]
    Current {
        /// The file.
        path: PathBuf,
        /// Its first bytes, escaped.
        found: String,
    },
    /// CURRENT names a manifest that is not there.
    #[error("{} names {name}, which is missing", path.display())]
    ManifestMissing {
        /// The file CURRENT.
        path: PathBuf,
        /// What it names.
        name: String,
    },
    /// CURRENT is missing, though files of an engine are there.
    #[error("{} is missing, but {found} is there: this was an engine", path.display())]
    CurrentMissing {
        /// The file CURRENT.
        path: PathBuf,
        /// A file that shows that an engine was here.
        found: String,
    },
    /// No engine has been created in the directory.
    #[error("{}: no engine here", .0.display())]
    NoEngine(PathBuf),
    /// The directory holds an engine already.
    #[error("{}: there is an engine already", .0.display())]
    EngineExists(PathBuf),
}

impl ManifestError {
    /// The error of the operating system at the root, if there is one.
    pub fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Wal(error) => error.io(),
            _ => None,
        }
    }

    /// Whether the cause is a full disk.
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Wal(error) => error.is_no_space(),
            _ => false,
        }
    }

    /// Whether a newer version may be able to read what this one can't.
    pub fn is_unsupported(&self) -> bool {
        match self {
            Self::Wal(error) => error.is_unsupported(),
            Self::Record { source: RecordError::Decode(error), .. } => error.is_unsupported(),
            _ => false,
        }
    }

    /// Whether files are damaged, missing or contradict each other.
    pub fn is_corruption(&self) -> bool {
        match self {
            Self::Io { .. } | Self::Edit(_) | Self::NoEngine(_) | Self::EngineExists(_) => false,
            Self::Wal(_) => self.io().is_none() && !self.is_unsupported() && !self.is_no_space(),
            Self::Record { .. } => !self.is_unsupported(),
            Self::Break { .. }
            | Self::WrongNumber { .. }
            | Self::NoEdit { .. }
            | Self::Current { .. }
            | Self::ManifestMissing { .. }
            | Self::CurrentMissing { .. } => true,
        }
    }

    pub(crate) fn io_at(action: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source: Arc::new(source) }
    }
}
