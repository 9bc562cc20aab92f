//! [`Writer`]: writes a blob file, front to back.

use crate::error::BlobError;
use crate::frame::{FOOTER_BYTES, Footer, HEADER_BYTES, Header, PREFETCH_BYTES_MAX, RECORD_ALIGNMENT, record_head};
use crate::reference::BlobRef;
use esker_format::{FileId, FileNo, VALUE_BYTES_MAX};
use esker_vfs::{PIECE_BYTES, WritableFile, prefetch_range, whole_pieces};
use std::fmt;
use std::sync::Arc;

/// What [`Writer::finish`] has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Built {
    /// The file's length, in bytes.
    pub file_bytes: u64,
    /// How many values are in it.
    pub records: u64,
    /// What they take, in bytes.
    pub record_bytes: u64,
}

/// Writes a blob file. Each value is copied once, into a write buffer; a long one not at all. After an error of the file it is lost: every further call gives
/// the same error.
pub struct Writer {
    file: Box<dyn WritableFile>,
    name: Arc<str>,
    header: Header,
    /// Written to the file when long enough; begins at `flushed_bytes` in the file.
    buffer: Vec<u8>,
    /// Values from this length on go to the file from where they are, without a copy.
    piece_bytes: usize,
    flushed_bytes: u64,
    records: u64,
    failed: Option<BlobError>,
}

impl Writer {
    /// Starts in an empty file. `name` is for messages; `file_id` must be random, and known to whoever opens the file.
    pub fn new(file: Box<dyn WritableFile>, name: &str, number: FileNo, file_id: FileId) -> Self {
        let header = Header { file_id, number };
        let buffer = header.encode().to_vec();
        Self {
            file,
            name: name.into(),
            header,
            buffer,
            piece_bytes: PIECE_BYTES,
            flushed_bytes: 0,
            records: 0,
            failed: None,
        }
    }

    /// How much is gathered before it is handed to the file, in bytes; as it is made: [`PIECE_BYTES`], with which a map of the file can have the largest pages.
    pub fn with_piece_bytes(self, piece_bytes: usize) -> Self {
        Self { piece_bytes, ..self }
    }

    /// Adds a value, and says where it lies.
    ///
    /// # Errors
    /// `TooLong`: it was not added, and the writer can go on. Else the file failed.
    pub fn add(&mut self, value: &[u8]) -> Result<BlobRef, BlobError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if value.len() > VALUE_BYTES_MAX {
            let (bytes, bytes_max) = (value.len() as u64, VALUE_BYTES_MAX as u64);
            return Err(BlobError::TooLong { file: Arc::clone(&self.name), bytes, bytes_max });
        }
        let Header { file_id, number } = self.header;
        let offset = self.file_bytes();
        // It comes from a memtable or a map, where its neighbours in key order lie elsewhere.
        prefetch_range(value, 0, value.len().min(PREFETCH_BYTES_MAX));
        self.buffer.extend_from_slice(&record_head(file_id, offset, value));
        if value.len() < self.piece_bytes {
            self.buffer.extend_from_slice(value);
        } else {
            self.flush(self.buffer.len())?;
            self.append(value)?;
        }
        let end = self.file_bytes();
        let pad = end.next_multiple_of(RECORD_ALIGNMENT) - end;
        self.buffer.extend_from_slice(&[0; RECORD_ALIGNMENT as usize][..pad as usize]);
        self.records += 1;
        let whole = whole_pieces(self.flushed_bytes, self.buffer.len(), self.piece_bytes);
        if whole > 0 {
            self.flush(whole)?;
        }
        Ok(BlobRef { file: number, offset, value_bytes: value.len() as u32 })
    }

    /// Where the next record starts, in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.flushed_bytes + self.buffer.len() as u64
    }

    /// Values added so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The file's number.
    pub fn number(&self) -> FileNo {
        self.header.number
    }

    /// The file's id.
    pub fn file_id(&self) -> FileId {
        self.header.file_id
    }

    /// Writes what is left and syncs the file.
    ///
    /// # Durability
    /// On return the file's bytes are on stable storage; its name is so when the directory is synced, which is the caller's.
    ///
    /// # Errors
    /// The file failed, and nothing is known about it.
    ///
    /// # Panics
    /// If nothing was added: there are no empty blob files.
    pub fn finish(mut self) -> Result<Built, BlobError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        assert!(self.records > 0, "a blob file without a value");
        let record_bytes = self.file_bytes() - HEADER_BYTES as u64;
        let footer = Footer { records: self.records, record_bytes, file_id: self.header.file_id };
        self.buffer.extend_from_slice(&footer.encode());
        self.flush(self.buffer.len())?;
        self.file.sync().map_err(|error| BlobError::from_io(&self.name, "sync", error))?;
        let file_bytes = record_bytes + (HEADER_BYTES + FOOTER_BYTES) as u64;
        Ok(Built { file_bytes, records: self.records, record_bytes })
    }

    /// Hands the first `bytes` of what is gathered to the file.
    fn flush(&mut self, bytes: usize) -> Result<(), BlobError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let written = self.append(&buffer[..bytes]);
        buffer.drain(..bytes);
        self.buffer = buffer;
        written
    }

    /// Hands `bytes` to the file, and has the device begin with them.
    fn append(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        let written = self.file.append(bytes).and_then(|()| self.file.begin_write_out());
        if let Err(error) = written {
            let error = BlobError::from_io(&self.name, "write", error);
            self.failed = Some(error.clone());
            return Err(error);
        }
        self.flushed_bytes += bytes.len() as u64;
        Ok(())
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Writer({}: {} records, {} bytes)", self.name, self.records, self.file_bytes())
    }
}
