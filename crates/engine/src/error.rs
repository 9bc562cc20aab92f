//! [`Error`]: one type over the facts of all layers, with advice by [`Error::kind`].

use esker_blob::BlobError;
use esker_compaction::{Cause, CompactionError};
use esker_format::{BatchError, DecodeError};
use esker_manifest::ManifestError;
use esker_sstable::TableError;
use esker_wal::WalError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A `Result` whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, coarsely: enough to decide what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused a read, a write or a sync.
    Io,
    /// The file system is full. Nothing is lost; reads go on, and writing resumes by itself when there is space.
    NoSpace,
    /// A file does not hold what was written to it. The message names the file and the place.
    Corruption,
    /// The call can't be right, whatever the state of the engine.
    InvalidArgument,
    /// Another engine, of this process or another, has the directory open.
    Locked,
    /// The engine does not write: it was opened so, or a write failed and [`crate::Engine::resume`] has not been called yet.
    ReadOnly,
    /// The engine was closed.
    Closed,
    /// A transaction lost against another write. Run it again.
    Conflict,
    /// The write would have had to wait, and was told not to.
    Stalled,
    /// There is no such keyspace, or it was dropped; or there is no engine in the directory.
    NotFound,
    /// The feed of changes does not reach back so far: see [`Error::changes_from`].
    Gap,
    /// A format, option or operator that this version does not know.
    Unsupported,
    /// A user's own function failed.
    Other,
}

/// An error of the engine. Cheap to clone.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    /// What was being done or is wrong, for a person; the source's words are appended.
    message: String,
    path: Option<PathBuf>,
    offset: Option<u64>,
    outcome_unknown: bool,
    changes_from: Option<u64>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            path: None,
            offset: None,
            outcome_unknown: false,
            changes_from: None,
            source: None,
        }))
    }

    fn from_source(kind: ErrorKind, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: String::new(),
            path: None,
            offset: None,
            outcome_unknown: false,
            changes_from: None,
            source: Some(Arc::new(source)),
        }))
    }

    /// The same, with words of what was being done.
    pub(crate) fn from_source_with(
        kind: ErrorKind,
        message: String,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Inner {
            kind,
            message,
            path: None,
            offset: None,
            outcome_unknown: false,
            changes_from: None,
            source: Some(Arc::new(source)),
        }))
    }

    /// An operating system's error at `path`.
    pub(crate) fn io(doing: &str, path: &Path, error: io::Error) -> Self {
        Self(Arc::new(Inner {
            kind: kind_of_io(&error),
            message: format!("{doing} {}", path.display()),
            path: Some(path.to_owned()),
            offset: None,
            outcome_unknown: false,
            changes_from: None,
            source: Some(Arc::new(error)),
        }))
    }

    /// The same failure seen from a later call: writing stopped because of it.
    pub(crate) fn read_only_because(cause: &Error) -> Self {
        Self(Arc::new(Inner {
            kind: ErrorKind::ReadOnly,
            message: "writing has stopped after a failure; when its cause is mended, call resume() or reopen".into(),
            path: cause.0.path.clone(),
            offset: cause.0.offset,
            outcome_unknown: false,
            changes_from: None,
            source: Some(Arc::new(cause.clone())),
        }))
    }

    pub(crate) fn with_outcome_unknown(self) -> Self {
        let inner = &self.0;
        Self(Arc::new(Inner {
            kind: inner.kind,
            message: inner.message.clone(),
            path: inner.path.clone(),
            offset: inner.offset,
            outcome_unknown: true,
            changes_from: inner.changes_from,
            source: inner.source.clone(),
        }))
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    pub(crate) fn closed() -> Self {
        Self::new(ErrorKind::Closed, "the engine was closed")
    }

    pub(crate) fn corruption(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corruption, message)
    }

    /// Wraps a failure of the user's own, to be returned from a closure the engine calls.
    ///
    /// ```
    /// let error = esker::Error::other("out of stock");
    /// assert_eq!(error.kind(), esker::ErrorKind::Other);
    /// ```
    pub fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(Arc::new(Inner {
            kind: ErrorKind::Other,
            message: String::new(),
            path: None,
            offset: None,
            outcome_unknown: false,
            changes_from: None,
            source: Some(Arc::from(error.into())),
        }))
    }

    /// What went wrong, coarsely.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the write that failed may nevertheless be found after reopening. If it was its sync that failed, it stays visible in this process.
    pub fn outcome_unknown(&self) -> bool {
        self.0.outcome_unknown
    }

    /// Of a gap in the feed of changes: the first sequence number to ask for behind it.
    pub fn changes_from(&self) -> Option<u64> {
        self.0.changes_from
    }

    pub(crate) fn gap(since: u64, from: u64, why: &str) -> Self {
        Self(Arc::new(Inner {
            kind: ErrorKind::Gap,
            message: format!("what came right behind sequence number {since} can't be told any more: {why}"),
            path: None,
            offset: None,
            outcome_unknown: false,
            changes_from: Some(from),
            source: None,
        }))
    }

    /// The same gap, which reaches farther.
    pub(crate) fn with_changes_from(&self, from: u64) -> Self {
        Self(Arc::new(Inner {
            kind: self.0.kind,
            message: self.0.message.clone(),
            path: None,
            offset: None,
            outcome_unknown: false,
            changes_from: Some(from),
            source: None,
        }))
    }

    /// The file concerned, where there is one and it was the operating system that refused.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// The operating system's error at the root, if there is one.
    pub fn io_error(&self) -> Option<&io::Error> {
        io_of(self)
    }

    /// The byte offset in the file, where there is one.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }
}

/// The operating system's error that this is, or that is behind it.
pub(crate) fn io_of<'a>(mut error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    loop {
        let shared = || error.downcast_ref::<Arc<io::Error>>().map(Arc::as_ref);
        if let Some(io) = error.downcast_ref().or_else(shared) {
            return Some(io);
        }
        error = error.source()?;
    }
}

fn kind_of_io(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
        _ => ErrorKind::Io,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0.message[..], &self.0.source) {
            ("", Some(source)) => source.fmt(f),
            (message, Some(source)) => write!(f, "{message}: {source}"),
            (message, None) => f.write_str(message),
        }?;
        self.0.changes_from.map_or(Ok(()), |from| write!(f, "; changes can be told from {from} on"))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)?;
        if self.0.outcome_unknown { f.write_str(" (outcome unknown)") } else { Ok(()) }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<BatchError> for Error {
    fn from(error: BatchError) -> Self {
        Self::from_source(ErrorKind::InvalidArgument, error)
    }
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        let kind = if error.is_unsupported() { ErrorKind::Unsupported } else { ErrorKind::Corruption };
        Self::from_source(kind, error)
    }
}

/// The layers below tell facts by the same few questions; this is where they become advice.
macro_rules! from_layer {
    ($($error:ty => $io:ident),*) => {$(
        impl From<$error> for Error {
            fn from(error: $error) -> Self {
                let kind = if error.is_no_space() {
                    ErrorKind::NoSpace
                } else if error.is_unsupported() {
                    ErrorKind::Unsupported
                } else if error.$io().is_some() {
                    ErrorKind::Io
                } else {
                    ErrorKind::Corruption
                };
                Self::from_source(kind, error)
            }
        }
    )*};
}

from_layer!(WalError => io, TableError => io, BlobError => io, ManifestError => io);

impl From<CompactionError> for Error {
    fn from(error: CompactionError) -> Self {
        let kind = match error.cause() {
            // What the engine itself refused a job comes back as it was.
            Cause::Refused(reason) => match reason.downcast_ref::<Self>() {
                Some(reason) => return reason.clone(),
                None => ErrorKind::Other,
            },
            Cause::Stopped => ErrorKind::Closed,
            Cause::Filter { .. } => ErrorKind::Other,
            _ if error.is_no_space() => ErrorKind::NoSpace,
            _ if error.is_unsupported() => ErrorKind::Unsupported,
            _ if error.io_error().is_some() => ErrorKind::Io,
            _ => ErrorKind::Corruption,
        };
        Self::from_source(kind, error)
    }
}
