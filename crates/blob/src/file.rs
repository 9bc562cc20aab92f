//! [`BlobFile`]: values read from where they lie.
//!
//! # When a record is checked
//! Always before a byte of its value is used. A record that is read from a map is checked at its first use after open, and remembered by one bit; one that is read into
//! memory is checked each time, since what the medium gives may be another thing each time.
//!
//! ```text
//! map    |hdr|rrrrrrrrrrr|rr|r|rrrrrrrrrrrr|rrrrrrr|
//! bits   |0        |1        |1        |0        |     a bit for every 4 KiB: a record of at least that length shares its bit with none
//! ```
//! Records shorter than that have no bit and are checked each time, which costs less than it takes to reach them.

use crate::error::{BlobError, Part};
use crate::frame::{
    FOOTER_BYTES, Footer, HEADER_BYTES, Header, PREFETCH_BYTES_MAX, Place, RECORD_HEAD_BYTES, parse_head,
};
use crate::records::Records;
use crate::reference::BlobRef;
use esker_format::{FileId, FileNo, Slice};
use esker_vfs::{Map, ReadableFile, prefetch_range};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Records of at least this length have a bit, in bytes.
const BIT_BYTES: u64 = 4096;
/// So much of a map is asked for before it is read: less comes in a few touches, each of which reads a page that is not in memory.
const READ_AHEAD_BYTES_MIN: usize = 16 << 10;

/// How values are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// From a map of the file, in place; each record is checked at its first use. Without maps, as [`Access::Copied`].
    Mapped,
    /// Into memory, each time; each time they are checked.
    Copied,
    /// As [`Access::Copied`], but copied out of a map, of which what can't be read is an error all the same: see [`ReadableFile::map_guarded`]. Without such maps, as that.
    Guarded,
}

/// What the manifest knows of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expect {
    /// Its number.
    pub number: FileNo,
    /// Its random id.
    pub file_id: FileId,
    /// Its length.
    pub file_bytes: u64,
    /// How many values are in it.
    pub records: u64,
}

/// A blob file, open for reading by any number of threads.
pub struct BlobFile {
    name: Arc<str>,
    header: Header,
    footer: Footer,
    bytes: Bytes,
    /// The bits of records found whole; none where records are copied.
    checked: Box<[AtomicU64]>,
}

enum Bytes {
    Map(Arc<Map>),
    File(Arc<dyn ReadableFile>),
}

impl BlobFile {
    /// Opens a file: reads its header and footer. `name` is for messages.
    ///
    /// # Errors
    /// The file can't be read, is none, is cut, is from a newer version, or is not the one expected.
    pub fn open(
        file: Arc<dyn ReadableFile>,
        name: &str,
        access: Access,
        expect: Option<Expect>,
    ) -> Result<Arc<Self>, BlobError> {
        let name: Arc<str> = name.into();
        let file_bytes = file.len_bytes().map_err(|error| BlobError::from_io(&name, "length", error))?;
        let whole = Place { file: &name, part: Part::Footer, offset: file_bytes.saturating_sub(FOOTER_BYTES as u64) };
        if let Some(expect) = expect {
            whole.expect("file length", expect.file_bytes, file_bytes)?;
        }
        if file_bytes < (HEADER_BYTES + FOOTER_BYTES) as u64 {
            return Err(whole.damaged("file shorter than header and footer"));
        }
        let (header, footer) = read_ends(&*file, &name, file_bytes)?;
        whole.expect("file id", header.file_id.0, footer.file_id.0)?;
        if let Some(expect) = expect {
            let front = Place { file: &name, part: Part::Header, offset: 0 };
            front.expect("file id", expect.file_id.0, header.file_id.0)?;
            front.expect("file number", expect.number.0, header.number.0)?;
            whole.expect("records", expect.records, footer.records)?;
        }
        let bytes = match access {
            Access::Mapped => match file.map() {
                Ok(map) => {
                    whole.expect("mapped length", file_bytes, map.len() as u64)?;
                    Bytes::Map(Arc::new(map))
                }
                Err(error) if error.kind() == io::ErrorKind::Unsupported => Bytes::File(file),
                Err(error) => return Err(BlobError::from_io(&name, "map", error)),
            },
            Access::Guarded => match file.map_guarded() {
                Ok(map) => {
                    let len = map.len_bytes().map_err(|error| BlobError::from_io(&name, "length", error))?;
                    whole.expect("mapped length", file_bytes, len)?;
                    Bytes::File(map)
                }
                Err(error) if error.kind() == io::ErrorKind::Unsupported => Bytes::File(file),
                Err(error) => return Err(BlobError::from_io(&name, "map", error)),
            },
            Access::Copied => Bytes::File(file),
        };
        let bits = if matches!(bytes, Bytes::Map(_)) { file_bytes.div_ceil(BIT_BYTES) } else { 0 };
        let checked = (0..bits.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Ok(Arc::new(Self { name, header, footer, bytes, checked }))
    }

    /// Opens what is left of a file, number `number`, for [`BlobFile::get_checked`]: each record is still checked. Of the ends that are damaged or missing nothing is taken; `file_id`, if
    /// known from elsewhere, stands in for theirs.
    ///
    /// # Errors
    /// The file can't be read, is another one as far as it says so itself, or nothing says which id its checksums cover.
    pub fn open_damaged(
        file: Arc<dyn ReadableFile>,
        name: &str,
        number: FileNo,
        file_id: Option<FileId>,
    ) -> Result<Arc<Self>, BlobError> {
        let name: Arc<str> = name.into();
        let file_bytes = file.len_bytes().map_err(|error| BlobError::from_io(&name, "length", error))?;
        let read = |offset: u64| {
            let mut bytes = [0; HEADER_BYTES];
            file.read_exact_at(&mut bytes, offset).ok()?;
            Some(bytes)
        };
        let header = read(0).and_then(|bytes| Header::decode(&bytes, &name).ok());
        let footer_at = file_bytes.checked_sub(FOOTER_BYTES as u64);
        let footer = footer_at.and_then(|at| Footer::decode(&read(at)?, &name, at).ok());
        let place = Place { file: &name, part: Part::Header, offset: 0 };
        // The header alone says the number. A file under another's name would give other values for the same references.
        if let Some(header) = header {
            place.expect("file number", number.0, header.number.0)?;
        }
        let found = header.map(|header| header.file_id).or(footer.map(|footer| footer.file_id));
        if let (Some(found), Some(file_id)) = (found, file_id) {
            place.expect("file id", file_id.0, found.0)?;
        }
        let Some(file_id) = file_id.or(found) else {
            return Err(place.damaged("nothing says which id its checksums cover"));
        };
        // Up to the end of the file, whatever it once said: a record that is not there fails by its checksum. The zeros behind the last one may be cut off.
        let record_bytes = file_bytes.saturating_sub(HEADER_BYTES as u64).next_multiple_of(8);
        let records = footer.map_or(0, |footer| footer.records);
        let footer = Footer { records, record_bytes, file_id };
        Ok(Arc::new(Self {
            name,
            header: Header { file_id, number },
            footer,
            bytes: Bytes::File(file),
            checked: Box::new([]),
        }))
    }

    /// The value that `reference` names: copied if short, else pinning the map, or what it was read into.
    ///
    /// # Errors
    /// It could not be read, is damaged, or there is no such record.
    #[inline]
    pub fn get(&self, reference: BlobRef) -> Result<Slice, BlobError> {
        match &self.bytes {
            Bytes::Map(map) => self.get_mapped(map, reference, false),
            Bytes::File(file) => self.get_copied(&**file, reference),
        }
    }

    /// As [`BlobFile::get`], checked even if it was before: for copies that are to outlive this file.
    ///
    /// # Errors
    /// As [`BlobFile::get`].
    pub fn get_checked(&self, reference: BlobRef) -> Result<Slice, BlobError> {
        match &self.bytes {
            Bytes::Map(map) => self.get_mapped(map, reference, true),
            Bytes::File(file) => self.get_copied(&**file, reference),
        }
    }

    /// Checks it if it was not checked before, or `anyway`.
    #[inline]
    fn get_mapped(&self, map: &Arc<Map>, reference: BlobRef, anyway: bool) -> Result<Slice, BlobError> {
        let place = self.place(reference.offset);
        let start = self.locate(reference)? as usize;
        let values = start + RECORD_HEAD_BYTES;
        let range = values..values + reference.value_bytes as usize;
        prefetch_range(map, start, (range.end - start).min(PREFETCH_BYTES_MAX));
        let head = map.get(start..values).and_then(|head| head.first_chunk::<RECORD_HEAD_BYTES>());
        let (Some(head), Some(value)) = (head, map.get(range.clone())) else {
            return Err(place.damaged("a record beyond the file's end"));
        };
        // Relaxed: a bit publishes no other memory; the map's bytes were there before it.
        match self.bit_of(reference) {
            Some((word, bit)) if !anyway && word.load(Ordering::Relaxed) & bit != 0 => {
                let (_, length) = parse_head(head);
                place.expect("value length", u64::from(reference.value_bytes), u64::from(length))?;
            }
            bit => {
                if value.len() >= READ_AHEAD_BYTES_MIN {
                    map.read_ahead(range.clone());
                }
                place.check_record(self.header.file_id, head, value)?;
                if let Some((word, bit)) = bit {
                    word.fetch_or(bit, Ordering::Relaxed);
                }
            }
        }
        Ok(Slice::pinned(map, range))
    }

    /// Reads each record and compares its checksum: for whoever has just written the file and still has what it was made of. What is read from a map in place counts as used
    /// from then on, so it is not checked again, and its pages are mapped.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn read_back(&self) -> Result<(), BlobError> {
        let Bytes::Map(map) = &self.bytes else { return self.records().try_for_each(|record| record.map(drop)) };
        let mut offset = HEADER_BYTES as u64;
        while offset < self.records_end() {
            let start = offset as usize;
            let head = map
                .get(start..)
                .and_then(|rest| rest.first_chunk())
                .ok_or_else(|| self.place(offset).damaged("cut"))?;
            let (_, value_bytes) = parse_head(head);
            let reference = BlobRef { file: self.header.number, offset, value_bytes };
            self.get_mapped(map, reference, false)?;
            offset += reference.record_bytes();
        }
        Ok(())
    }

    fn get_copied(&self, file: &dyn ReadableFile, reference: BlobRef) -> Result<Slice, BlobError> {
        let start = self.locate(reference)?;
        // Its length is known to fit into the file.
        let mut record = vec![0; RECORD_HEAD_BYTES + reference.value_bytes as usize];
        file.read_exact_at(&mut record, start).map_err(|error| BlobError::from_io(&self.name, "read", error))?;
        let place = self.place(reference.offset);
        let Some((head, value)) = record.split_first_chunk() else { return Err(place.damaged("cut")) };
        place.check_record(self.header.file_id, head, value)?;
        let end = record.len();
        Ok(Slice::pinned(&Arc::new(record), RECORD_HEAD_BYTES..end))
    }

    /// Where the record starts, if it lies within the records of this file.
    #[inline]
    fn locate(&self, reference: BlobRef) -> Result<u64, BlobError> {
        let place = self.place(reference.offset);
        if reference.file != self.header.number {
            return Err(place.mismatch("file number", reference.file.0, self.header.number.0));
        }
        let end = reference.offset.checked_add(reference.record_bytes());
        match end {
            Some(end) if reference.offset >= HEADER_BYTES as u64 && end <= self.records_end() => Ok(reference.offset),
            _ => Err(place.damaged("a reference to outside the records")),
        }
    }

    /// The bit of a record that is long enough to have one.
    #[inline]
    fn bit_of(&self, reference: BlobRef) -> Option<(&AtomicU64, u64)> {
        if reference.record_bytes() < BIT_BYTES {
            return None;
        }
        let bit = reference.offset / BIT_BYTES;
        self.checked.get((bit / 64) as usize).map(|word| (word, 1 << (bit % 64)))
    }

    fn place(&self, offset: u64) -> Place<'_> {
        Place { file: &self.name, part: Part::Record, offset }
    }

    /// All records, in the order of the file.
    pub fn records(&self) -> Records<'_> {
        Records::new(self)
    }

    /// Reads the whole file again, whatever was checked before, and compares: every checksum, the zeros between the records, and the footer's counts.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn verify(&self) -> Result<(), BlobError> {
        let mut found = 0;
        for record in self.records() {
            record?;
            found += 1;
        }
        let (header, footer) = match &self.bytes {
            Bytes::File(file) => read_ends(&**file, &self.name, self.file_bytes())?,
            Bytes::Map(map) => {
                let ends = map.first_chunk().zip(map.last_chunk());
                let (first, last) = ends.ok_or_else(|| self.place(0).damaged("cut"))?;
                (Header::decode(first, &self.name)?, Footer::decode(last, &self.name, self.records_end())?)
            }
        };
        let place = Place { file: &self.name, part: Part::Footer, offset: self.records_end() };
        if (header, footer) != (self.header, self.footer) {
            return Err(place.damaged("not what it was when the file was opened"));
        }
        place.expect("records", self.footer.records, found)
    }

    /// Reads `buffer` from `offset` on: for [`Records`].
    pub(crate) fn read(&self, buffer: &mut [u8], offset: u64) -> Result<(), BlobError> {
        match &self.bytes {
            Bytes::File(file) => {
                file.read_exact_at(buffer, offset).map_err(|error| BlobError::from_io(&self.name, "read", error))
            }
            Bytes::Map(map) => {
                let start = offset as usize;
                if buffer.len() >= READ_AHEAD_BYTES_MIN {
                    map.read_ahead(start..start + buffer.len());
                }
                let bytes = map.get(start..start + buffer.len());
                buffer.copy_from_slice(bytes.ok_or_else(|| self.place(offset).damaged("cut"))?);
                Ok(())
            }
        }
    }

    /// Where the records end, and the footer starts.
    #[inline]
    pub(crate) fn records_end(&self) -> u64 {
        HEADER_BYTES as u64 + self.footer.record_bytes
    }

    pub(crate) fn record_place(&self, offset: u64) -> (Place<'_>, FileId) {
        (self.place(offset), self.header.file_id)
    }

    /// The file's name, as given at open.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number in its header.
    pub fn number(&self) -> FileNo {
        self.header.number
    }

    /// Its random id.
    pub fn file_id(&self) -> FileId {
        self.header.file_id
    }

    /// The file's length, in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.records_end() + FOOTER_BYTES as u64
    }

    /// How many values are in it.
    pub fn record_count(&self) -> u64 {
        self.footer.records
    }

    /// Bytes of memory that the open file holds.
    pub fn heap_bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.checked)
    }

    /// Bytes of address space that the open file maps: all of the file, or nothing.
    pub fn mapped_bytes(&self) -> u64 {
        match &self.bytes {
            Bytes::Map(_) => self.file_bytes(),
            Bytes::File(file) => file.mapped().bytes,
        }
    }

    /// Pages of the file that could not be read, and were made errors ([`Access::Guarded`]).
    pub fn unreadable_pages(&self) -> u64 {
        match &self.bytes {
            Bytes::Map(_) => 0,
            Bytes::File(file) => file.mapped().unreadable_pages,
        }
    }
}

/// The number that a blob file's header says, if the header passes.
pub fn number_of(file: &dyn ReadableFile) -> Option<FileNo> {
    let mut bytes = [0; HEADER_BYTES];
    file.read_exact_at(&mut bytes, 0).ok()?;
    Header::decode(&bytes, &"".into()).ok().map(|header| header.number)
}

fn read_ends(file: &dyn ReadableFile, name: &Arc<str>, file_bytes: u64) -> Result<(Header, Footer), BlobError> {
    let read = |offset| {
        let mut bytes = [0; 40];
        file.read_exact_at(&mut bytes, offset).map_err(|error| BlobError::from_io(name, "read", error))?;
        Ok(bytes)
    };
    let header = Header::decode(&read(0)?, name)?;
    let footer_at = file_bytes - FOOTER_BYTES as u64;
    Ok((header, Footer::decode(&read(footer_at)?, name, footer_at)?))
}

impl fmt::Debug for BlobFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobFile({}: {} records, {} bytes)", self.name, self.footer.records, self.file_bytes())
    }
}
