//! Where the values of a job go: into the table, or into a blob file that the table refers to.
//!
//! ```text
//! in the table, shorter than the bound      -> in the table
//! in the table, at least as long            -> the job's blob file
//! in a blob file                            -> stays there: the reference is passed on as it is
//! a merge operand, however long             -> in the table
//! in a blob file that is to be collected    -> as if it were put now, and one record less is live there
//! ```
//! Nothing is said of values that are left out: what no table refers to is garbage, and that is a matter of counting ([`esker_manifest::BlobState`]).

use crate::error::{Cause, CompactionError};
use esker_blob::{BlobError, BlobRef};
use esker_format::{FileId, FileNo, InternalKey, Slice, ValueKind, expiry::decode_expiry};
use esker_manifest::{BlobMeta, BlobUse};
use esker_vfs::WritableFile;
use std::collections::{BTreeMap, BTreeSet};

/// Where a job gets blob files from, and reads them: the engine.
pub trait BlobFiles {
    /// Makes a file for values: its number, the file, its name in errors, and the random id its checksums will cover.
    ///
    /// # Errors
    /// As [`Tables::create`](crate::Tables::create).
    fn create_blob(&self) -> Result<(FileNo, Box<dyn WritableFile>, String, FileId), CompactionError>;

    /// Told when a blob file is whole and its bytes are on stable storage; the directory is not synced yet. The place for a rename.
    ///
    /// # Errors
    /// As [`Tables::create`](crate::Tables::create).
    fn finished_blob(&self, number: FileNo) -> Result<(), CompactionError>;

    /// Reads a value that is to be moved; checked, whatever was checked before.
    ///
    /// # Errors
    /// Whatever keeps it from being read.
    fn read_blob(&self, reference: BlobRef) -> Result<Slice, BlobError>;
}

/// What a job does with large values.
#[derive(Clone, Copy)]
pub struct BlobConfig<'a> {
    /// From which length on a value is kept in a blob file, in bytes; `usize::MAX` for none.
    pub value_bytes_min: usize,
    /// A blob file that has become this long is ended, in bytes.
    pub file_bytes: u64,
    /// The files whose values are moved elsewhere, so that they can go.
    pub collect: &'a BTreeSet<FileNo>,
    /// Where they come from and go.
    pub files: &'a dyn BlobFiles,
}

/// The blob files of a job.
pub(crate) struct Values<'a> {
    config: Option<BlobConfig<'a>>,
    piece_bytes: usize,
    open: Option<esker_blob::Writer>,
    outputs: Vec<BlobMeta>,
    /// The reference being handed out.
    reference: Vec<u8>,
    /// What is handed out of an entry that expires, if it isn't what came in.
    expiring: Vec<u8>,
    /// The value being moved back into a table.
    moved: Slice,
    /// What ended files have taken, in bytes.
    ended_bytes: u64,
    /// What was read of files that are collected, in bytes.
    read_bytes: u64,
}

/// What of a value stands in the table.
pub(crate) struct Placed<'v> {
    pub(crate) kind: ValueKind,
    pub(crate) stored: &'v [u8],
    /// Where the value lies, if not in the table.
    pub(crate) reference: Option<BlobRef>,
}

impl<'a> Values<'a> {
    pub(crate) fn new(config: Option<BlobConfig<'a>>, piece_bytes: usize) -> Self {
        Self {
            config,
            piece_bytes,
            open: None,
            outputs: Vec::new(),
            reference: Vec::new(),
            expiring: Vec::new(),
            moved: Slice::empty(),
            ended_bytes: 0,
            read_bytes: 0,
        }
    }

    /// Finds the place of a value, and puts it there if that is in a blob file.
    #[inline]
    pub(crate) fn place<'v>(
        &'v mut self,
        key: InternalKey<'_>,
        value: &'v [u8],
        created: &mut Vec<FileNo>,
    ) -> Result<Placed<'v>, CompactionError> {
        let kind = key.trailer.kind();
        match kind {
            ValueKind::Put | ValueKind::Blob => self.place_value(key, kind == ValueKind::Blob, value, created),
            ValueKind::Delete | ValueKind::Merge | ValueKind::RangeDelete => {
                Ok(Placed { kind, stored: value, reference: None })
            }
            ValueKind::Expiring | ValueKind::ExpiringBlob => self.place_expiring(key, value, created),
        }
    }

    /// The same for a value alone, or for the reference to it.
    #[inline]
    fn place_value<'v>(
        &'v mut self,
        key: InternalKey<'_>,
        is_blob: bool,
        value: &'v [u8],
        created: &mut Vec<FileNo>,
    ) -> Result<Placed<'v>, CompactionError> {
        match self.config {
            config if is_blob => self.pass_on(config, key, value, created),
            Some(config) if value.len() >= config.value_bytes_min => {
                let reference = self.write(config, value, created)?;
                Ok(self.referred(reference))
            }
            _ => Ok(Placed { kind: ValueKind::Put, stored: value, reference: None }),
        }
    }

    /// The same for one that expires, whose time goes with it.
    #[inline(never)]
    fn place_expiring<'v>(
        &'v mut self,
        key: InternalKey<'_>,
        stored: &'v [u8],
        created: &mut Vec<FileNo>,
    ) -> Result<Placed<'v>, CompactionError> {
        let (expiry, value) = decode_expiry(stored)
            .map_err(|source| CompactionError::new(Cause::Reference { key: key.to_buf(), source }))?;
        let is_blob = key.trailer.kind() == ValueKind::ExpiringBlob;
        let placed = self.place_value(key, is_blob, value, created)?;
        if !is_blob && placed.reference.is_none() {
            return Ok(Placed { kind: ValueKind::Expiring, stored, reference: None });
        }
        let reference = placed.reference;
        let kind = if reference.is_some() { ValueKind::ExpiringBlob } else { ValueKind::Expiring };
        let with_time = [&expiry.to_le_bytes()[..], placed.stored].concat();
        self.expiring = with_time;
        Ok(Placed { kind, stored: &self.expiring, reference })
    }

    fn pass_on<'v>(
        &'v mut self,
        config: Option<BlobConfig<'a>>,
        key: InternalKey<'_>,
        stored: &'v [u8],
        created: &mut Vec<FileNo>,
    ) -> Result<Placed<'v>, CompactionError> {
        let reference = BlobRef::decode(stored)
            .map_err(|source| CompactionError::new(Cause::Reference { key: key.to_buf(), source }))?;
        let Some(config) = config.filter(|config| config.collect.contains(&reference.file)) else {
            return Ok(Placed { kind: ValueKind::Blob, stored, reference: Some(reference) });
        };
        let value = config.files.read_blob(reference).map_err(CompactionError::blob_input(reference.file))?;
        self.read_bytes += reference.record_bytes();
        if value.len() >= config.value_bytes_min {
            let reference = self.write(config, &value, created)?;
            return Ok(self.referred(reference));
        }
        self.moved = value;
        Ok(Placed { kind: ValueKind::Put, stored: &self.moved, reference: None })
    }

    fn referred(&mut self, reference: BlobRef) -> Placed<'_> {
        self.reference.clear();
        reference.encode_into(&mut self.reference);
        Placed { kind: ValueKind::Blob, stored: &self.reference, reference: Some(reference) }
    }

    fn write(
        &mut self,
        config: BlobConfig<'a>,
        value: &[u8],
        created: &mut Vec<FileNo>,
    ) -> Result<BlobRef, CompactionError> {
        if self.open.as_ref().is_some_and(|open| open.file_bytes() >= config.file_bytes) {
            self.end()?;
        }
        let open = match &mut self.open {
            Some(open) => open,
            none => {
                let (number, file, name, file_id) = config.files.create_blob()?;
                created.push(number);
                none.insert(esker_blob::Writer::new(file, &name, number, file_id).with_piece_bytes(self.piece_bytes))
            }
        };
        open.add(value).map_err(CompactionError::blob_output(open.number()))
    }

    /// Ends the open file, if there is one.
    pub(crate) fn end(&mut self) -> Result<(), CompactionError> {
        let (Some(open), Some(config)) = (self.open.take(), self.config) else { return Ok(()) };
        let (number, file_id) = (open.number(), open.file_id());
        let built = open.finish().map_err(CompactionError::blob_output(number))?;
        config.files.finished_blob(number)?;
        self.ended_bytes += built.file_bytes;
        let esker_blob::Built { file_bytes, records, record_bytes } = built;
        self.outputs.push(BlobMeta { number, file_id, file_bytes, records, record_bytes });
        Ok(())
    }

    pub(crate) fn written_bytes(&self) -> u64 {
        self.ended_bytes + self.open.as_ref().map_or(0, |open| open.file_bytes())
    }

    pub(crate) fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    pub(crate) fn into_outputs(self) -> Vec<BlobMeta> {
        self.outputs
    }
}

/// How much of which blob files a table refers to.
#[derive(Default)]
pub(crate) struct Uses(BTreeMap<FileNo, (u64, u64)>);

impl Uses {
    pub(crate) fn count(&mut self, reference: BlobRef) {
        let (records, bytes) = self.0.entry(reference.file).or_default();
        *records += 1;
        *bytes += reference.record_bytes();
    }

    pub(crate) fn into_list(self) -> Vec<BlobUse> {
        self.0.into_iter().map(|(file, (records, bytes))| BlobUse { file, records, bytes }).collect()
    }
}
