//! [`salvage`]: the entries of a table that does not pass, block by block.
//!
//! ```text
//! index whole      its offsets say where the blocks are; one that does not pass is left out
//! index damaged    block 0 is at 0, and each ends where a tag and the checksum of all before it stand; the first that does not pass hides those behind it
//! ```
//! Every block has a checksum that covers file id and place, so what passes was written there. The id stands in the footer, in the properties and in the manifest; one of them is enough.
//!
//! Invariants
//! - What is handed out is in order, all of it: a block that would break the order is left out whole.
//! - Memory is at most the file's length, a block, and two keys for each stretch that can't be read; stretches with nothing between them are one.
//! - Each byte is read once or twice, whatever stands there.

use crate::block::Layout;
use crate::error::TableError;
use crate::footer::{FOOTER_BYTES, Footer};
use crate::frame::{BlockKind, Codec, Place, TRAILER_BYTES, decompress};
use crate::index::Index;
use crate::properties::{COMPARATOR, Properties};
use crate::ranges;
use crate::source::Bytes;
use crate::verify::check_entry;
use esker_format::checksum::Crc;
use esker_format::{FileId, InternalKey, SeqNo, Trailer};
use esker_iterator::RangeTombstones;
use esker_vfs::ReadableFile;
use std::ops::Range;
use std::sync::Arc;

/// What [`salvage`] made of a table.
#[derive(Debug, Clone)]
pub struct Salvage {
    /// The file's id, as far as anything says it.
    pub file_id: FileId,
    /// Blocks whose entries were handed out.
    pub blocks: u64,
    /// Their entries.
    pub entries: u64,
    /// The range tombstones that could be read.
    pub ranges: Option<Arc<RangeTombstones>>,
    /// Whether there were, or may have been, range tombstones that could not.
    pub ranges_lost: bool,
    /// The properties, if they can be read.
    pub properties: Option<Properties>,
    /// Stretches of the file that could not be read.
    pub skipped: Vec<Skipped>,
}

/// A stretch of a table that could not be read: blocks between which there is none that could be, or all from there on if where the next one begins is not known.
#[derive(Debug, Clone)]
pub struct Skipped {
    /// Where it starts in the file.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
    /// Why, of the first block.
    pub why: TableError,
    /// The last user key that was read in front of it, if any was.
    pub after: Option<Vec<u8>>,
    /// The first user key that was read behind it, if any was.
    pub before: Option<Vec<u8>>,
}

/// Hands the entries of all readable blocks to `each`, in order. `file_id`, if known from elsewhere, stands in for what the file says; `seq` is the table-wide sequence number, if
/// it has one.
///
/// # Errors
/// The file can't be read, or nothing says which id its checksums cover.
pub fn salvage(
    file: Arc<dyn ReadableFile>,
    name: &str,
    file_id: Option<FileId>,
    seq: Option<SeqNo>,
    each: &mut dyn FnMut(InternalKey<'_>, &[u8]),
) -> Result<Salvage, TableError> {
    let name: Arc<str> = name.into();
    let file_bytes = file.len_bytes().map_err(|error| TableError::from_io(&name, "length", error))?;
    let bytes = Bytes::File(file);
    let footer = if file_bytes >= FOOTER_BYTES as u64 { bytes.read_footer(&name, file_bytes).ok() } else { None };
    let of_file = |at: BlockKind, file_id| Place { table: &name, file_id, kind: at, offset: 0 };
    let file_id = match footer.as_ref().map(|footer| footer.file_id).or(file_id) {
        Some(file_id) => file_id,
        None => id_in_properties(&bytes, &name, file_bytes).ok_or_else(|| {
            of_file(BlockKind::Footer, FileId(0)).damaged("nothing says which id its checksums cover")
        })?,
    };
    let mut walk = Walk {
        name: &name,
        file_id,
        seq,
        lift: seq.map_or(0, |seq| Trailer::seek(seq).to_bits() & !0xff),
        last: None,
        each,
        out: Salvage {
            file_id,
            blocks: 0,
            entries: 0,
            ranges: None,
            ranges_lost: false,
            properties: footer.as_ref().and_then(|footer| bytes.read_properties(&name, footer).ok()),
            skipped: Vec::new(),
        },
    };
    match footer.as_ref().and_then(|footer| read_index(&bytes, &name, footer)) {
        Some(blocks) => {
            for range in blocks {
                match bytes.read(&name, range.clone()) {
                    Ok(region) => walk.block(range, region.bytes()),
                    Err(error) => walk.skip(range, error),
                }
            }
        }
        None => walk.scan(&bytes, file_bytes),
    }
    // A footer knows whether there are any, and where, however far a search has come.
    if let Some(footer) = footer.filter(|_| walk.out.ranges.is_none()) {
        walk.out.ranges_lost = footer.ranges.is_some();
        if let Some(handle) = footer.ranges
            && let Ok(region) = bytes.read(&name, handle.range())
        {
            walk.ranges(handle.offset, region.bytes());
        }
    }
    Ok(walk.out)
}

struct Walk<'a> {
    name: &'a Arc<str>,
    file_id: FileId,
    /// The table-wide sequence number, if there is one, and what that adds to trailers.
    seq: Option<SeqNo>,
    lift: u64,
    last: Option<(Vec<u8>, Trailer)>,
    each: &'a mut dyn FnMut(InternalKey<'_>, &[u8]),
    out: Salvage,
}

impl Walk<'_> {
    fn place(&self, kind: BlockKind, offset: usize) -> Place<'_> {
        Place { table: self.name, file_id: self.file_id, kind, offset: offset as u64 }
    }

    fn skip(&mut self, range: Range<usize>, why: TableError) {
        // Nothing was read since the last one: it is the same gap, and the key before it need not be kept once more.
        if let Some(open) = self.out.skipped.last_mut().filter(|skipped| skipped.before.is_none()) {
            open.bytes = (range.end as u64).saturating_sub(open.offset);
            return;
        }
        let after = self.last.as_ref().map(|(key, _)| key.clone());
        let (offset, bytes) = (range.start as u64, range.len() as u64);
        self.out.skipped.push(Skipped { offset, bytes, why, after, before: None });
    }

    /// Hands out the entries of a data block, or notes that it can't be read.
    fn block(&mut self, range: Range<usize>, stored: &[u8]) {
        let place = self.place(BlockKind::Data, range.start);
        let payload = place.check(stored).and_then(|(stored, codec)| match codec {
            Codec::None => Ok(stored.to_vec()),
            codec => decompress(stored, codec).map_err(|fault| place.fault(fault)),
        });
        let checked = payload.and_then(|payload| {
            let layout = Layout::validate(&payload).map_err(|fault| place.fault(fault))?.lifted(self.lift);
            let last = self.last.as_ref().map(|(user_key, trailer)| InternalKey { user_key, trailer: *trailer });
            // Looked at whole before any of it is handed out.
            let prefix = layout.prefix(&payload).unwrap_or(&[]);
            let mut before: Option<(Vec<u8>, Trailer)> = None;
            for i in 0..layout.count {
                let parts = layout.entry(&payload, i).zip(layout.trailer(&payload, i));
                let (entry, trailer) = parts.ok_or_else(|| place.damaged("an entry beyond its block"))?;
                let user_key = [prefix, &payload[entry.rest]].concat();
                let value = &payload[entry.value];
                check_entry(trailer, value).map_err(|fault| place.fault(fault))?;
                if self.seq.is_some_and(|seq| trailer.seq() != seq) {
                    return Err(place.damaged("a sequence number in a table built outside"));
                }
                let key = InternalKey { user_key: &user_key, trailer };
                let before_it = before.as_ref().map(|(user_key, trailer)| InternalKey { user_key, trailer: *trailer });
                if before_it.or(last).is_some_and(|before| before >= key) {
                    return Err(place.damaged("entries out of order"));
                }
                before = Some((user_key, trailer));
            }
            Ok((payload, layout))
        });
        let (payload, layout) = match checked {
            Ok(checked) => checked,
            Err(error) => return self.skip(range, error),
        };
        let prefix = layout.prefix(&payload).unwrap_or(&[]);
        for i in 0..layout.count {
            let Some((entry, trailer)) = layout.entry(&payload, i).zip(layout.trailer(&payload, i)) else { break };
            let user_key = [prefix, &payload[entry.rest]].concat();
            if let Some(open) = self.out.skipped.last_mut().filter(|skipped| i == 0 && skipped.before.is_none()) {
                open.before = Some(user_key.clone());
            }
            (self.each)(InternalKey { user_key: &user_key, trailer }, &payload[entry.value]);
            self.out.entries += 1;
            self.last = Some((user_key, trailer));
        }
        self.out.blocks += 1;
    }

    fn ranges(&mut self, offset: u64, stored: &[u8]) {
        if self.seq.is_some() {
            // A table built outside has none.
            return;
        }
        let place = self.place(BlockKind::RangeTombstones, offset as usize);
        let Ok(payload) = place.check_uncompressed(stored) else { return };
        if let Ok(ranges) = ranges::decode(payload) {
            self.out.ranges = Some(Arc::new(ranges));
            self.out.ranges_lost = false;
        }
    }

    /// Finds the blocks by their checksums, from the front of the file on.
    fn scan(&mut self, bytes: &Bytes, file_bytes: u64) {
        let whole = match bytes.read(self.name, 0..file_bytes as usize) {
            Ok(whole) => whole,
            Err(error) => return self.skip(0..file_bytes as usize, error),
        };
        let bytes = whole.bytes();
        let mut at = 0;
        let mut ended = false;
        while at < bytes.len() {
            let aligned = at.next_multiple_of(64);
            let padded = bytes.get(at..aligned).is_some_and(|pad| pad.iter().all(|byte| *byte == 0));
            // The next one begins here, or behind the padding. Both are tried at once, so that a byte is looked at no more often than it is handed out, and at the end once.
            let found = find_end(bytes, [at, if padded { aligned } else { at }], self.file_id);
            let Some((range, kind)) = found else { break };
            match kind {
                BlockKind::Data => self.block(range.clone(), &bytes[range.clone()]),
                BlockKind::RangeTombstones => self.ranges(range.start as u64, &bytes[range.clone()]),
                BlockKind::Properties => ended = true,
                _ => {}
            }
            at = range.end;
        }
        // Behind the properties only the footer is left.
        if !ended {
            let place = self.place(BlockKind::Data, at);
            let why = place.damaged("no block that passes, and no index that says where the next one is");
            self.skip(at..bytes.len(), why);
            self.out.ranges_lost = self.out.ranges.is_none();
        }
    }
}

/// Where the block that begins at one of `starts` (ascending) lies, and its kind: it ends at the first tag behind which the checksum of all before it stands.
fn find_end(bytes: &[u8], starts: [usize; 2], file_id: FileId) -> Option<(Range<usize>, BlockKind)> {
    // For each start the checksum, and how far.
    let mut crcs = starts.map(|start| (Crc::new().u64(file_id.0).u64(start as u64), start));
    for at in starts[0]..bytes.len().saturating_sub(TRAILER_BYTES - 1) {
        let tag = bytes[at];
        let kind = match tag >> 4 {
            1 => BlockKind::Data,
            2 => BlockKind::Index,
            3 => BlockKind::Filter,
            4 => BlockKind::Properties,
            5 => BlockKind::RangeTombstones,
            _ => continue,
        };
        if tag & 15 > 2 {
            continue;
        }
        let stored = &bytes[at + 1..at + TRAILER_BYTES];
        for (start, (crc, done)) in starts.into_iter().zip(&mut crcs).filter(|(start, _)| *start <= at) {
            *crc = crc.bytes(&bytes[*done..=at]);
            *done = at + 1;
            if *stored == crc.finish().to_le_bytes() {
                return Some((start..at + TRAILER_BYTES, kind));
            }
        }
    }
    None
}

/// Where the data blocks are, if the index passes. It says by itself how many there are and where they end.
fn read_index(bytes: &Bytes, name: &Arc<str>, footer: &Footer) -> Option<Vec<Range<usize>>> {
    let place = Place { table: name, file_id: footer.file_id, kind: BlockKind::Index, offset: footer.index.offset };
    let region = bytes.read(name, footer.index.range()).ok()?;
    let payload = place.check_uncompressed(region.bytes()).ok()?;
    let count = u64::from(u32::from_le_bytes(*payload.first_chunk()?));
    let last = payload.get(8 + 16 * count as usize..)?.first_chunk()?;
    let data_bytes = u64::from_le_bytes(*last);
    let index = Index::validate(payload, count, data_bytes).ok()?;
    let behind = footer.filter.unwrap_or(footer.index).offset;
    if data_bytes > behind {
        return None;
    }
    (0..index.count()).map(|i| index.block(payload, i).map(|place| place.range)).collect()
}

/// The id that a table says it has: as its footer has it, which a checksum covers, or else its properties, which by themselves prove nothing (`false`).
pub fn told_file_id(file: Arc<dyn ReadableFile>, name: &str) -> Option<(FileId, bool)> {
    let name: Arc<str> = name.into();
    let file_bytes = file.len_bytes().ok()?;
    let bytes = Bytes::File(file);
    let footer = if file_bytes >= FOOTER_BYTES as u64 { bytes.read_footer(&name, file_bytes).ok() } else { None };
    match footer {
        Some(footer) => Some((footer.file_id, true)),
        None => id_in_properties(&bytes, &name, file_bytes).map(|file_id| (file_id, false)),
    }
}

/// The file id as the properties have it, which begin with the comparator and then the id: `01 08 bytewise 03 08 id`.
fn id_in_properties(bytes: &Bytes, name: &Arc<str>, file_bytes: u64) -> Option<FileId> {
    const NEAR_THE_END_BYTES: u64 = 256 << 10;
    let start = file_bytes.saturating_sub(NEAR_THE_END_BYTES) as usize;
    let region = bytes.read(name, start..file_bytes as usize).ok()?;
    let mark = [&[1, COMPARATOR.len() as u8], COMPARATOR.as_bytes(), &[3, 8]].concat();
    let bytes = region.bytes();
    let at = bytes.windows(mark.len()).rposition(|window| window == mark)?;
    let id = bytes.get(at + mark.len()..)?.first_chunk()?;
    Some(FileId(u64::from_le_bytes(*id)))
}

#[cfg(test)]
mod tests;
