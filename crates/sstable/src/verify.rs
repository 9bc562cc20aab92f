//! [`Table::verify`]: does every byte of a table say what the others say? And [`Table::read_back`]: is it what was written?

use crate::block::{Layout, diagnose};
use crate::error::{Fault, TableError};
use crate::filter;
use crate::frame::BlockKind;
use crate::hash::KeyHash;
use crate::index::{ASTRAY, Index};
use crate::properties::Properties;
use crate::read_ahead::ReadAhead;
use crate::table::Table;
use esker_format::head_of;
use esker_format::{ExpiryCount, InternalKey, InternalKeyBuf, SeqNo, Trailer, ValueKind, split_expiry};
use esker_iterator::Way;

/// What [`Table::verify`] has looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyReport {
    /// Data blocks.
    pub blocks: u64,
    /// Entries.
    pub entries: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
}

/// What is known after the entries so far.
struct Walk {
    /// Of the entries so far; only what they decide.
    properties: Properties,
    expiries: ExpiryCount,
    /// The last entry's key, if there is one.
    user_key: Vec<u8>,
    trailer: Trailer,
    /// The fence behind the last block.
    fence: Option<InternalKeyBuf>,
}

impl Table {
    /// Reads every part again, whatever was checked before, and compares: checksums, order of keys within and across blocks,
    /// fingerprints and filter against the keys, fences against the blocks around them, properties against the contents, and that
    /// nothing else is in the file.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn verify(&self) -> Result<VerifyReport, TableError> {
        let mut first = None;
        let report = self.verify_all(&mut |error| first = first.take().or(Some(error)), &mut |_| {});
        first.map_or(Ok(report), Err)
    }

    /// As [`Table::verify`], but goes on behind what is wrong, and hands each finding to `found`. Where the index is damaged no block can be found. Properties are held against the
    /// contents only if all of these could be read. `read` is told how many bytes of the file were read since it was told last.
    ///
    /// Returns what could be looked at.
    pub fn verify_all(&self, found: &mut dyn FnMut(TableError), read: &mut dyn FnMut(u64)) -> VerifyReport {
        let mut report = VerifyReport { blocks: 0, entries: 0, file_bytes: self.file_bytes() };
        if let Err(error) = self.verify_outside_blocks() {
            found(error);
        }
        let filter = self.read_filter().unwrap_or_else(|error| {
            found(error);
            None
        });
        let (index, region) = match self.read_index() {
            Ok(loaded) => loaded,
            Err(error) => {
                found(error);
                return report;
            }
        };
        let mut walk = Walk {
            properties: Properties { smallest_seq: SeqNo::MAX, ..Properties::unset() },
            expiries: ExpiryCount::default(),
            user_key: Vec::new(),
            trailer: Trailer::MAX,
            fence: None,
        };
        let mut ahead = ReadAhead::at_once();
        for number in 0..index.count() {
            ahead.enter(self, number, Way::Forward);
            match self.verify_block(&mut walk, &index, &region, number, filter.as_deref()) {
                Ok(bytes) => {
                    report.blocks += 1;
                    read(bytes);
                }
                Err(error) => {
                    // What is behind it is held against the last key that was read, not against a fence that may be wrong.
                    walk.fence = None;
                    found(error);
                }
            }
        }
        report.entries = walk.properties.entries;
        if report.blocks == index.count() as u64 && !walk.agrees(self) {
            let at_properties = self.place(BlockKind::Properties, self.footer().properties.offset);
            found(at_properties.damaged("properties that are not those of the entries"));
        }
        report
    }

    /// Goes over one block and the fence behind it; how long it is, in bytes.
    fn verify_block(
        &self,
        walk: &mut Walk,
        index: &Index,
        region: &[u8],
        number: usize,
        filter: Option<&[u8]>,
    ) -> Result<u64, TableError> {
        let at_index = self.place(BlockKind::Index, self.footer().index.offset);
        let at = index.block(region, number).ok_or_else(|| at_index.fault(ASTRAY))?;
        let here = self.place(BlockKind::Data, at.range.start as u64);
        let block = self.load_block(&at)?;
        walk.block((*block).as_ref(), filter).map_err(|fault| here.fault(fault))?;
        let prefix = index.prefix(region).ok_or_else(|| at_index.fault(ASTRAY))?;
        let (rest, trailer) = index.fence(region, number).ok_or_else(|| at_index.fault(ASTRAY))?;
        let fence = InternalKey { user_key: &[prefix, rest].concat(), trailer }.to_buf();
        if fence.as_ref() < walk.last() || index.head(region, number) != Some(head_of(rest)) {
            return Err(at_index.damaged("a fence before its block's last key, or with another head"));
        }
        walk.fence = Some(fence);
        Ok(at.range.len() as u64)
    }
}

impl Table {
    /// Reads each block as it is stored and compares its checksum: for whoever has just written the table and still has what it was made of. What is read from a map in place
    /// counts as used from then on, so it is not checked again, and its pages are mapped.
    ///
    /// Far cheaper than [`Table::verify`], which also compares what the parts say of each other.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn read_back(&self) -> Result<(), TableError> {
        if self.footer().filter.is_some() {
            self.may_contain(KeyHash(0))?;
        }
        let mut ahead = ReadAhead::at_once();
        let (mut number, count) = (0, self.block_count()?);
        while number < count {
            ahead.enter(self, number, Way::Forward);
            number = self.check_blocks(number)?;
        }
        Ok(())
    }
}

impl Walk {
    fn last(&self) -> InternalKey<'_> {
        InternalKey { user_key: &self.user_key, trailer: self.trailer }
    }

    /// Whether the properties of `table`, all of which was gone over, are those of its contents.
    fn agrees(mut self, table: &Table) -> bool {
        let stored = table.properties();
        if self.properties.entries > 0 {
            self.properties.largest = self.last().to_buf();
        }
        self.properties.expiries = self.expiries.finish(self.properties.entries, self.properties.deletions);
        if let Some(ranges) = table.range_tombstones() {
            self.properties.count_ranges(ranges);
        }
        let found = Properties {
            comparator: stored.comparator,
            file_id: stored.file_id,
            codec: stored.codec,
            blocks: stored.blocks,
            data_bytes: stored.data_bytes,
            index_bytes: table.footer().index.range().len() as u64,
            filter_bytes: table.footer().filter.map_or(0, |handle| handle.range().len() as u64),
            block_size_bytes: stored.block_size_bytes,
            filter_bits_per_key: stored.filter_bits_per_key,
            created_unix_ms: stored.created_unix_ms,
            ..self.properties
        };
        found == *stored
    }

    /// Goes over the entries of the next block.
    fn block(&mut self, payload: &[u8], filter: Option<&[u8]>) -> Result<(), Fault> {
        let changed = || diagnose(payload);
        let layout = Layout::validate(payload)?;
        let mut user_key = layout.prefix(payload).ok_or_else(changed)?.to_vec();
        let prefix_len = user_key.len();
        for i in 0..layout.count {
            let entry = layout.entry(payload, i).ok_or_else(changed)?;
            user_key.truncate(prefix_len);
            user_key.extend_from_slice(&payload[entry.rest]);
            let key = InternalKey { user_key: &user_key, trailer: layout.trailer(payload, i).ok_or_else(changed)? };
            let is_first = self.properties.entries == 0;
            if !is_first && self.last() >= key {
                return Err(Fault::Damaged("entries out of order"));
            }
            if self.fence.take().is_some_and(|fence| fence.as_ref() >= key) {
                return Err(Fault::Damaged("entries before the fence in front of them"));
            }
            let hash = KeyHash::of(&user_key);
            if layout.fingerprint(payload, i).is_some_and(|stored| stored != hash.fingerprint()) {
                return Err(Fault::Damaged("a fingerprint of another key"));
            }
            if filter.is_some_and(|filter| !filter::may_contain(filter, hash)) {
                return Err(Fault::Damaged("a key that the filter does not know"));
            }
            let stored = payload.get(entry.value.clone()).ok_or_else(changed)?;
            check_entry(key.trailer, stored)?;
            if key.trailer.kind().expires() {
                let (expiry, _) = split_expiry(stored).ok_or_else(changed)?;
                self.expiries.add(expiry);
            }
            let properties = &mut self.properties;
            if is_first {
                properties.smallest = key.to_buf();
            }
            properties.entries += 1;
            properties.deletions += u64::from(key.trailer.kind() == ValueKind::Delete);
            properties.user_keys += u64::from(is_first || self.user_key != user_key);
            properties.raw_key_bytes += user_key.len() as u64;
            properties.raw_value_bytes += entry.value.len() as u64;
            properties.smallest_seq = properties.smallest_seq.min(key.trailer.seq());
            properties.largest_seq = properties.largest_seq.max(key.trailer.seq());
            self.trailer = key.trailer;
            self.user_key.clone_from(&user_key);
        }
        Ok(())
    }
}

/// Whether an entry's value goes with its kind: none where it deletes, and a whole time where it expires. Any number will do: a trailer has room for none beyond the greatest.
pub(crate) fn check_entry(trailer: Trailer, value: &[u8]) -> Result<(), Fault> {
    let is_odd = match trailer.kind() {
        ValueKind::Delete => !value.is_empty(),
        kind => kind.expires() && split_expiry(value).is_none(),
    };
    if is_odd { Err(Fault::Damaged("an entry whose value does not go with its kind")) } else { Ok(()) }
}
