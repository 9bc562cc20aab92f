//! [`CompactionError`]: which file was the reason, and which files were made in vain.

use esker_blob::BlobError;
use esker_format::{DecodeError, FileNo, InternalKeyBuf};
use esker_sstable::TableError;
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Why a job ended without a result. Nothing of it is installed, and its inputs are as they were.
#[derive(Clone)]
pub struct CompactionError(Box<Inner>);

#[derive(Clone)]
struct Inner {
    cause: Cause,
    created: Vec<FileNo>,
}

/// What a [`CompactionError`] is about.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// An input could not be opened or read. If it is damaged, it must be kept out of later plans.
    #[error("compaction input {number}: {source}")]
    Input {
        /// The table.
        number: FileNo,
        /// What is wrong with it.
        source: TableError,
    },
    /// The inputs did not hold as many entries as their descriptions say, so some may have been missed.
    #[error("compaction inputs hold {found} entries, expected {expected}")]
    EntryCount {
        /// What the descriptions say.
        expected: u64,
        /// What was read.
        found: u64,
    },
    /// An output could not be written.
    #[error("compaction output {number}: {source}")]
    Output {
        /// The table.
        number: FileNo,
        /// What went wrong.
        source: TableError,
    },
    /// A value could not be read from its blob file. If that is damaged, it must be kept out of what is collected.
    #[error("compaction input {number}: {source}")]
    BlobInput {
        /// The blob file.
        number: FileNo,
        /// What is wrong with it.
        source: BlobError,
    },
    /// A blob file could not be written.
    #[error("compaction output {number}: {source}")]
    BlobOutput {
        /// The blob file.
        number: FileNo,
        /// What went wrong.
        source: BlobError,
    },
    /// An entry does not say where its value lies.
    #[error("compaction input: entry {key:?}: {source}")]
    Reference {
        /// The entry.
        key: InternalKeyBuf,
        /// What is wrong with its reference.
        source: DecodeError,
    },
    /// A compaction filter failed.
    #[error("compaction filter: {what}")]
    Filter {
        /// How.
        what: String,
    },
    /// The operating system refused something that [`Tables`](crate::Tables) asked of it.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, to which file.
        doing: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// [`Tables`](crate::Tables) refused for a reason of its own.
    #[error(transparent)]
    Refused(Arc<dyn Error + Send + Sync>),
    /// The job was told to stop.
    #[error("compaction stopped")]
    Stopped,
}

impl CompactionError {
    pub(crate) fn new(cause: Cause) -> Self {
        Self(Box::new(Inner { cause, created: Vec::new() }))
    }

    pub(crate) fn input(number: FileNo) -> impl FnOnce(TableError) -> Self {
        move |source| Self::new(Cause::Input { number, source })
    }

    pub(crate) fn output(number: FileNo) -> impl FnOnce(TableError) -> Self {
        move |source| Self::new(Cause::Output { number, source })
    }

    pub(crate) fn blob_input(number: FileNo) -> impl FnOnce(BlobError) -> Self {
        move |source| Self::new(Cause::BlobInput { number, source })
    }

    pub(crate) fn blob_output(number: FileNo) -> impl FnOnce(BlobError) -> Self {
        move |source| Self::new(Cause::BlobOutput { number, source })
    }

    /// For [`Tables`](crate::Tables): the operating system refused. `doing` says what, to which file.
    pub fn io(doing: impl Into<String>, source: io::Error) -> Self {
        Self::new(Cause::Io { doing: doing.into(), source: Arc::new(source) })
    }

    /// For [`Tables`](crate::Tables): any other reason, which the caller of the job finds again in [`Cause::Refused`].
    pub fn refused(reason: impl Error + Send + Sync + 'static) -> Self {
        Self::new(Cause::Refused(Arc::new(reason)))
    }

    pub(crate) fn with_created(mut self, created: Vec<FileNo>) -> Self {
        self.0.created = created;
        self
    }

    /// What it is about.
    pub fn cause(&self) -> &Cause {
        &self.0.cause
    }

    /// The tables and blob files that the job made, whole or in part, before it ended. Nobody needs them.
    pub fn created(&self) -> &[FileNo] {
        &self.0.created
    }

    /// The input, table or blob file, that is damaged, or can't be read as long as it is open, if that is the reason.
    pub fn damaged_input(&self) -> Option<FileNo> {
        match self.cause() {
            Cause::Input { number, source } if source.is_corruption() || source.is_lasting() => Some(*number),
            Cause::BlobInput { number, source } if source.is_corruption() || source.is_lasting() => Some(*number),
            _ => None,
        }
    }

    /// The error of the operating system, if it was one.
    pub fn io_error(&self) -> Option<&io::Error> {
        match self.cause() {
            Cause::Input { source, .. } | Cause::Output { source, .. } => source.io(),
            Cause::BlobInput { source, .. } | Cause::BlobOutput { source, .. } => source.io(),
            Cause::Io { source, .. } => Some(source),
            _ => None,
        }
    }

    /// Whether the file system is full.
    pub fn is_no_space(&self) -> bool {
        let full = |kind| matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        self.io_error().is_some_and(|error| full(error.kind()))
    }

    /// Whether an input uses something that a newer build may know.
    pub fn is_unsupported(&self) -> bool {
        match self.cause() {
            Cause::Input { source, .. } | Cause::Output { source, .. } => source.is_unsupported(),
            Cause::BlobInput { source, .. } => source.is_unsupported(),
            _ => false,
        }
    }

    /// Whether an input's bytes are not those that were written, or entries are missing.
    pub fn is_corruption(&self) -> bool {
        match self.cause() {
            Cause::Input { source, .. } => source.is_corruption(),
            // What was read can't be written in order.
            Cause::Output { source, .. } => matches!(source, TableError::OutOfOrder { .. }),
            Cause::BlobInput { source, .. } => source.is_corruption(),
            Cause::EntryCount { .. } | Cause::Reference { .. } => true,
            _ => false,
        }
    }

    /// Whether the job was told to stop.
    pub fn is_stopped(&self) -> bool {
        matches!(self.cause(), Cause::Stopped)
    }
}

impl fmt::Display for CompactionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.cause.fmt(f)
    }
}

impl fmt::Debug for CompactionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompactionError").field("cause", &self.0.cause).field("created", &self.0.created).finish()
    }
}

impl Error for CompactionError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.cause.source()
    }
}

/// Sources in memory do not fail.
impl From<Infallible> for CompactionError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> io::Error {
        io::ErrorKind::StorageFull.into()
    }

    fn table(source: TableError) -> [CompactionError; 2] {
        [CompactionError::input(FileNo(4))(source.clone()), CompactionError::output(FileNo(4))(source)]
    }

    fn blob(source: BlobError) -> [CompactionError; 2] {
        [CompactionError::blob_input(FileNo(5))(source.clone()), CompactionError::blob_output(FileNo(5))(source)]
    }

    #[test]
    fn an_error_of_the_system_is_found_wherever_it_came_up() {
        let name: Arc<str> = "x".into();
        let tables = table(TableError::from_io(&name, "write", full()));
        let blobs = blob(BlobError::from_io(&name, "write", full()));
        for error in tables.into_iter().chain(blobs).chain([CompactionError::io("create x", full())]) {
            assert!(error.is_no_space() && error.io_error().is_some(), "{error}");
            assert!(!error.is_corruption() && !error.is_unsupported() && !error.is_stopped(), "{error}");
            assert!(error.source().is_some(), "{error}");
        }
        let stopped = CompactionError::new(Cause::Stopped);
        assert!(stopped.is_stopped() && stopped.io_error().is_none() && !stopped.is_unsupported());
    }

    #[test]
    fn what_a_newer_build_may_know_is_no_damage() {
        let file: Arc<str> = "x".into();
        let part = esker_sstable::BlockKind::Data;
        for error in
            table(TableError::Unsupported { table: Arc::clone(&file), part, offset: 0, what: "codec", found: 9 })
        {
            assert!(error.is_unsupported() && !error.is_corruption() && error.damaged_input().is_none(), "{error}");
        }
        let [read, _] = blob(BlobError::Unsupported { file, what: "version", found: 9 });
        assert!(read.is_unsupported() && !read.is_corruption() && read.damaged_input().is_none(), "{read}");
    }

    /// What was read can't be written in order: then it is the inputs that are wrong, and nobody knows which.
    #[test]
    fn entries_out_of_order_are_damage_of_the_inputs() {
        let key = |key: &[u8]| {
            esker_format::InternalKey::new(key, esker_format::SeqNo(1), esker_format::ValueKind::Put).to_buf()
        };
        let [_, write] = table(TableError::OutOfOrder { table: "x".into(), previous: key(b"b"), key: key(b"a") });
        assert!(write.is_corruption() && write.damaged_input().is_none(), "{write}");
        let [_, other] = table(TableError::Empty { table: "x".into() });
        assert!(!other.is_corruption(), "{other}");
    }

    #[test]
    fn shown_in_full_it_names_the_files_that_nobody_needs() {
        let shown = format!("{:?}", CompactionError::new(Cause::Stopped).with_created(vec![FileNo(77)]));
        assert!(shown.contains("Stopped") && shown.contains("77"), "{shown}");
    }
}
