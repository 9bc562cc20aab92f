//! [`Records`]: all of a file, in order.

use crate::error::BlobError;
use crate::file::BlobFile;
use crate::frame::{HEADER_BYTES, RECORD_HEAD_BYTES, parse_head, record_bytes};
use crate::reference::BlobRef;

/// The records of a [`BlobFile`], each checked, with the zeros behind it. After an error it ends: where the next record would be is then not known.
#[derive(Debug)]
pub struct Records<'a> {
    file: &'a BlobFile,
    offset: u64,
}

impl<'a> Records<'a> {
    pub(crate) fn new(file: &'a BlobFile) -> Self {
        Self { file, offset: HEADER_BYTES as u64 }
    }

    fn read(&mut self) -> Result<(BlobRef, Vec<u8>), BlobError> {
        let (place, file_id) = self.file.record_place(self.offset);
        let left = self.file.records_end() - self.offset;
        let mut head = [0; RECORD_HEAD_BYTES];
        if left < head.len() as u64 {
            return Err(place.damaged("a record cut short"));
        }
        self.file.read(&mut head, self.offset)?;
        let (_, value_bytes) = parse_head(&head);
        // Before anything that long is allocated.
        if record_bytes(value_bytes) > left {
            return Err(place.damaged("a record longer than what is left of the file"));
        }
        let mut value = vec![0; record_bytes(value_bytes) as usize - RECORD_HEAD_BYTES];
        self.file.read(&mut value, self.offset + RECORD_HEAD_BYTES as u64)?;
        let zeros = value.split_off(value_bytes as usize);
        place.check_record(file_id, &head, &value)?;
        if zeros.iter().any(|byte| *byte != 0) {
            return Err(place.damaged("something behind the value"));
        }
        let reference = BlobRef { file: self.file.number(), offset: self.offset, value_bytes };
        self.offset += reference.record_bytes();
        Ok((reference, value))
    }
}

impl Iterator for Records<'_> {
    type Item = Result<(BlobRef, Vec<u8>), BlobError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.offset >= self.file.records_end() {
            return None;
        }
        let record = self.read();
        if record.is_err() {
            self.offset = self.file.records_end();
        }
        Some(record)
    }
}
