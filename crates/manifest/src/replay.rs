//! Reading a manifest: edit by edit, or whole, to the version it ends with.

use crate::edit::VersionEdit;
use crate::error::{ManifestError, RecordError};
use crate::version::Version;
use crate::{Lsn, current};
use esker_format::{FileKind, FileNo};
use esker_vfs::{ReadableFile, Vfs};
use esker_wal::{LogEnd, LogHeader, Reader, RecordKind};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Reads the edits of one manifest file, and says where they end. Judges nothing: an edit need not fit what came before.
#[derive(Debug)]
pub struct EditReader {
    name: String,
    reader: Reader,
}

impl EditReader {
    /// Reads the file's header.
    ///
    /// # Errors
    /// [`ManifestError::Wal`], if it can't be read, is not whole, or is of a version not known here.
    pub fn open(file: Arc<dyn ReadableFile>, name: &str) -> Result<Self, ManifestError> {
        Ok(Self { name: name.to_owned(), reader: Reader::open(file, name)? })
    }

    /// The file's header.
    pub fn header(&self) -> &LogHeader {
        self.reader.header()
    }

    /// The next edit and where its record starts; `None` at the first record that is not whole, and [`EditReader::end`] then tells why.
    ///
    /// # Errors
    /// The file can't be read, or a whole record is no edit.
    pub fn next_edit(&mut self) -> Result<Option<(Lsn, VersionEdit)>, ManifestError> {
        while let Some(record) = self.reader.next()? {
            if record.kind == RecordKind::Data {
                let edit = VersionEdit::decode(record.payload);
                return edit.map(|edit| Some((record.position, edit))).map_err(|source| ManifestError::Record {
                    name: self.name.clone(),
                    position: record.position,
                    source: source.into(),
                });
            }
        }
        Ok(None)
    }

    /// Goes on behind a break, for whoever makes do with what is left: see [`Reader::skip_break`].
    ///
    /// # Errors
    /// The file can't be read.
    pub fn skip_break(&mut self) -> Result<Option<Lsn>, ManifestError> {
        Ok(self.reader.skip_break()?)
    }

    /// Where and why reading ended; `None` before that.
    pub fn end(&self) -> Option<&LogEnd> {
        self.reader.end()
    }
}

/// What a manifest holds.
#[derive(Debug, Clone)]
pub struct Recovered {
    /// The version that the last whole edit made.
    pub version: Arc<Version>,
    /// The oldest log that is needed begins here; in manifests that don't tell, here or before: so far the logs were known to be on stable storage when it became the oldest. Where
    /// `Version::log_durable` lies behind, that log has been synced since, its header too.
    pub log_begun: Lsn,
    /// The number of the manifest.
    pub manifest: FileNo,
    /// How many whole edits it holds, the snapshot at its front included.
    pub edits: u64,
    /// Where and why they end. Behind that may lie part of an edit that was never acknowledged.
    pub end: LogEnd,
}

/// Reads the manifest `number` to its end.
pub(crate) fn replay(vfs: &dyn Vfs, directory: &Path, number: FileNo) -> Result<Recovered, ManifestError> {
    let kind = FileKind::Manifest(number);
    let name = kind.name();
    let path = kind.path(directory);
    let file = vfs.open_read(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            ManifestError::ManifestMissing { path: FileKind::Current.path(directory), name: name.clone() }
        }
        _ => ManifestError::io_at("open", &path)(error),
    })?;
    let mut reader = EditReader::open(file, &name)?;
    if reader.header().number != number {
        return Err(ManifestError::WrongNumber { name, found: reader.header().number });
    }
    let mut version = Version::nothing();
    let (mut edits, mut log_begun) = (0, Lsn(0));
    while let Some((position, edit)) = reader.next_edit()? {
        let applied = if edit.snapshot == (edits == 0) {
            crate::apply::apply(&version, &edit).map_err(RecordError::Edit)
        } else {
            Err(RecordError::Snapshot)
        };
        let next = applied.map_err(|source| ManifestError::Record { name: name.clone(), position, source })?;
        if next.oldest_log != version.oldest_log {
            log_begun = next.log_durable;
        }
        version = next;
        edits += 1;
    }
    let log_begun = version.log_start.unwrap_or(log_begun);
    let end = reader.end().cloned().ok_or_else(|| ManifestError::NoEdit { name: name.clone() })?;
    if end.vouched > end.position {
        return Err(ManifestError::Break { name, position: end.position, vouched: end.vouched });
    }
    if edits == 0 {
        return Err(ManifestError::NoEdit { name });
    }
    Ok(Recovered { version: Arc::new(version), log_begun, manifest: number, edits, end })
}

/// Reads the manifest that CURRENT names.
pub(crate) fn replay_current(vfs: &dyn Vfs, directory: &Path) -> Result<Recovered, ManifestError> {
    replay(vfs, directory, current::read(vfs, directory)?)
}
