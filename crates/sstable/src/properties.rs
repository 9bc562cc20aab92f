//! [`Properties`]: facts about a table, as tagged fields.

use crate::frame::Codec;
use esker_format::{
    DecodeError, Decoder, Expiries, FileId, InternalKey, InternalKeyBuf, KEY_BYTES_MAX, SeqNo, Trailer, varint,
};

/// The only order of keys there is.
pub const COMPARATOR: &str = "bytewise";

/// Facts about a table: known when it is open, at no further cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Properties {
    /// The order of user keys; always [`COMPARATOR`].
    pub comparator: &'static str,
    /// The file's random id.
    pub file_id: FileId,
    /// The codec that was asked for; blocks that did not shrink are stored as they are all the same.
    pub codec: Codec,
    /// Entries: versions, not user keys.
    pub entries: u64,
    /// Entries that are tombstones.
    pub deletions: u64,
    /// Distinct user keys.
    pub user_keys: u64,
    /// Sum of the lengths of user keys, over all entries, in bytes.
    pub raw_key_bytes: u64,
    /// Sum of the lengths of values, in bytes.
    pub raw_value_bytes: u64,
    /// Data blocks.
    pub blocks: u64,
    /// Bytes of the data blocks, as stored, checksums included.
    pub data_bytes: u64,
    /// Bytes of the index, as stored.
    pub index_bytes: u64,
    /// Bytes of the filter, as stored; 0 if there is none.
    pub filter_bytes: u64,
    /// The block size that was asked for, in bytes.
    pub block_size_bytes: u64,
    /// Filter bits per user key; 0: no filter.
    pub filter_bits_per_key: u32,
    /// The first entry's key; or, of kind [`RangeDelete`](esker_format::ValueKind::RangeDelete), the least key that a range tombstone may cover, if that comes first.
    pub smallest: InternalKeyBuf,
    /// The last entry's key, or one that no key covered by a range tombstone lies behind, if that comes last.
    pub largest: InternalKeyBuf,
    /// The smallest sequence number of any entry or range tombstone.
    pub smallest_seq: SeqNo,
    /// The largest sequence number of any entry or range tombstone.
    pub largest_seq: SeqNo,
    /// When the table was made, in milliseconds since 1970-01-01 UTC.
    pub created_unix_ms: u64,
    /// Range tombstones: pieces, into which those that were given were cut.
    pub range_tombstones: u64,
    /// When its entries expire, if any does.
    pub expiries: Option<Expiries>,
}

/// How many fields there are that must be there.
const FIELDS: usize = 19;

/// Tags as on disk. A reader refuses an odd one that it does not know and skips an even one.
mod tag {
    pub(super) const COMPARATOR: u64 = 1;
    pub(super) const FILE_ID: u64 = 3;
    pub(super) const CODEC: u64 = 5;
    pub(super) const ENTRIES: u64 = 6;
    pub(super) const DELETIONS: u64 = 8;
    pub(super) const USER_KEYS: u64 = 10;
    pub(super) const RAW_KEY_BYTES: u64 = 12;
    pub(super) const RAW_VALUE_BYTES: u64 = 14;
    pub(super) const BLOCKS: u64 = 16;
    pub(super) const DATA_BYTES: u64 = 18;
    pub(super) const INDEX_BYTES: u64 = 20;
    pub(super) const FILTER_BYTES: u64 = 22;
    pub(super) const BLOCK_SIZE_BYTES: u64 = 24;
    pub(super) const FILTER_BITS_PER_KEY: u64 = 26;
    pub(super) const SMALLEST: u64 = 28;
    pub(super) const LARGEST: u64 = 30;
    pub(super) const SMALLEST_SEQ: u64 = 32;
    pub(super) const LARGEST_SEQ: u64 = 34;
    pub(super) const CREATED_UNIX_MS: u64 = 36;
    /// Only where there are any.
    pub(super) const RANGE_TOMBSTONES: u64 = 38;
    /// Likewise.
    pub(super) const EXPIRIES: u64 = 40;
}

impl Properties {
    /// The fields that are plain numbers, with their tags.
    fn numbers(&mut self) -> [(u64, &mut u64); 12] {
        [
            (tag::ENTRIES, &mut self.entries),
            (tag::DELETIONS, &mut self.deletions),
            (tag::USER_KEYS, &mut self.user_keys),
            (tag::RAW_KEY_BYTES, &mut self.raw_key_bytes),
            (tag::RAW_VALUE_BYTES, &mut self.raw_value_bytes),
            (tag::BLOCKS, &mut self.blocks),
            (tag::DATA_BYTES, &mut self.data_bytes),
            (tag::INDEX_BYTES, &mut self.index_bytes),
            (tag::FILTER_BYTES, &mut self.filter_bytes),
            (tag::BLOCK_SIZE_BYTES, &mut self.block_size_bytes),
            (tag::SMALLEST_SEQ, &mut self.smallest_seq.0),
            (tag::LARGEST_SEQ, &mut self.largest_seq.0),
        ]
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let number = |value: u64| {
            let mut bytes = Vec::new();
            varint::put(&mut bytes, value);
            bytes
        };
        let mut fields = vec![
            (tag::COMPARATOR, self.comparator.as_bytes().to_vec()),
            (tag::FILE_ID, self.file_id.0.to_le_bytes().to_vec()),
            (tag::CODEC, vec![self.codec as u8]),
            (tag::FILTER_BITS_PER_KEY, number(u64::from(self.filter_bits_per_key))),
            (tag::SMALLEST, encode_key(self.smallest.as_ref())),
            (tag::LARGEST, encode_key(self.largest.as_ref())),
            (tag::CREATED_UNIX_MS, number(self.created_unix_ms)),
        ];
        fields.extend(self.clone().numbers().map(|(tag, value)| (tag, number(*value))));
        if self.range_tombstones > 0 {
            fields.push((tag::RANGE_TOMBSTONES, number(self.range_tombstones)));
        }
        if let Some(expiries) = &self.expiries {
            let mut bytes = Vec::new();
            expiries.encode_into(&mut bytes);
            fields.push((tag::EXPIRIES, bytes));
        }
        fields.sort_by_key(|(tag, _)| *tag);
        let mut out = Vec::new();
        for (tag, bytes) in fields {
            varint::put(&mut out, tag);
            varint::put(&mut out, bytes.len() as u64);
            out.extend_from_slice(&bytes);
        }
        out
    }

    /// Reads the fields; every one but the last two must be there.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut properties = Self::unset();
        let mut decoder = Decoder::new(bytes);
        let mut seen = Vec::new();
        while !decoder.is_empty() {
            let offset = decoder.offset();
            let tag = decoder.varint("tag")?;
            if seen.last().is_some_and(|last| *last >= tag) {
                return Err(DecodeError::Invalid { what: "order of tags", offset, found: tag });
            }
            let field = decoder.prefixed("field")?;
            // Only even tags are skipped.
            if properties.decode_field(tag, field, offset)? {
                seen.push(tag);
            } else if tag % 2 == 1 {
                return Err(DecodeError::Unsupported { what: "tag", offset, found: tag });
            }
        }
        if seen.iter().filter(|tag| ![tag::RANGE_TOMBSTONES, tag::EXPIRIES].contains(tag)).count() != FIELDS {
            return Err(DecodeError::Invalid {
                what: "number of fields",
                offset: bytes.len(),
                found: seen.len() as u64,
            });
        }
        Ok(properties)
    }

    /// Whether the tag is known.
    fn decode_field(&mut self, tag: u64, bytes: &[u8], offset: usize) -> Result<bool, DecodeError> {
        let mut field = Decoder::new(bytes);
        match tag {
            tag::COMPARATOR if bytes == COMPARATOR.as_bytes() => {
                field.bytes("comparator", bytes.len() as u64).map(drop)?
            }
            tag::COMPARATOR => {
                return Err(DecodeError::Unsupported {
                    what: "comparator of length",
                    offset,
                    found: bytes.len() as u64,
                });
            }
            tag::FILE_ID => self.file_id = FileId(field.u64("file id")?),
            tag::CODEC => {
                let byte = field.u8("codec")?;
                let unknown = DecodeError::Unsupported { what: "codec", offset, found: u64::from(byte) };
                self.codec = Codec::from_byte(byte).filter(|codec| codec.is_available()).ok_or(unknown)?;
            }
            tag::FILTER_BITS_PER_KEY => self.filter_bits_per_key = field.varint32("filter bits per key")?,
            tag::SMALLEST => self.smallest = decode_key(&mut field)?,
            tag::LARGEST => self.largest = decode_key(&mut field)?,
            tag::CREATED_UNIX_MS => self.created_unix_ms = field.varint("creation time")?,
            tag::RANGE_TOMBSTONES => self.range_tombstones = field.varint("range tombstones")?,
            tag::EXPIRIES => self.expiries = Some(Expiries::decode(&mut field)?),
            _ => match self.numbers().into_iter().find(|(known, _)| *known == tag) {
                Some((_, value)) => *value = field.varint("number")?,
                None => return Ok(false),
            },
        }
        if !field.is_empty() {
            return Err(DecodeError::Invalid { what: "field longer than its content, tag", offset, found: tag });
        }
        Ok(true)
    }

    pub(crate) fn unset() -> Self {
        let none = InternalKey { user_key: &[], trailer: Trailer::MIN }.to_buf();
        Self {
            comparator: COMPARATOR,
            file_id: FileId(0),
            codec: Codec::None,
            entries: 0,
            deletions: 0,
            user_keys: 0,
            raw_key_bytes: 0,
            raw_value_bytes: 0,
            blocks: 0,
            data_bytes: 0,
            index_bytes: 0,
            filter_bytes: 0,
            block_size_bytes: 0,
            filter_bits_per_key: 0,
            smallest: none.clone(),
            largest: none,
            smallest_seq: SeqNo::ZERO,
            largest_seq: SeqNo::ZERO,
            created_unix_ms: 0,
            range_tombstones: 0,
            expiries: None,
        }
    }
}

fn encode_key(key: InternalKey<'_>) -> Vec<u8> {
    [&key.trailer.to_bits().to_le_bytes(), key.user_key].concat()
}

fn decode_key(field: &mut Decoder<'_>) -> Result<InternalKeyBuf, DecodeError> {
    let trailer = Trailer::from_bits(field.u64("trailer")?);
    trailer.try_kind(0)?;
    let len = field.rest().len();
    if len > KEY_BYTES_MAX {
        return Err(field.invalid("key length", len as u64));
    }
    Ok(InternalKey { user_key: field.bytes("user key", len as u64)?, trailer }.to_buf())
}

#[cfg(test)]
mod tests {
    use super::*;
    use esker_format::ValueKind;

    fn some() -> Properties {
        Properties {
            file_id: FileId(7),
            codec: Codec::Lz4,
            entries: 300,
            smallest: InternalKey::new(b"", SeqNo(9), ValueKind::Put).to_buf(),
            largest: InternalKey::new(&[0xff; 300], SeqNo(2), ValueKind::Delete).to_buf(),
            largest_seq: SeqNo::MAX,
            created_unix_ms: u64::MAX,
            filter_bits_per_key: 12,
            ..Properties::unset()
        }
    }

    #[test]
    fn round_trip_and_any_cut_is_refused() {
        let with_ranges = Properties { range_tombstones: 3, ..some() };
        assert_eq!(Properties::decode(&with_ranges.encode()).unwrap(), with_ranges);
        let expiries = Expiries { entries: 3, earliest_ms: 1, latest_ms: 900, half_ms: None };
        for half_ms in [None, Some(500)] {
            let expiring = Properties { expiries: Some(Expiries { half_ms, ..expiries }), ..with_ranges.clone() };
            assert_eq!(Properties::decode(&expiring.encode()).unwrap(), expiring);
        }
        let bytes = some().encode();
        assert_eq!(Properties::decode(&bytes).unwrap(), some());
        for cut in 0..bytes.len() {
            assert!(!Properties::decode(&bytes[..cut]).unwrap_err().is_unsupported(), "cut to {cut}");
        }
    }

    #[test]
    fn even_tags_to_come_are_skipped_and_odd_ones_refused() {
        let mut bytes = some().encode();
        bytes.extend_from_slice(&[100, 2, 9, 9]);
        assert_eq!(Properties::decode(&bytes).unwrap(), some());
        bytes.extend_from_slice(&[101, 0]);
        assert!(Properties::decode(&bytes).unwrap_err().is_unsupported());
    }

    #[test]
    fn another_order_of_keys_is_refused() {
        let mut bytes = some().encode();
        assert_eq!(&bytes[2..10], COMPARATOR.as_bytes());
        bytes[2] = b'B';
        let expected = DecodeError::Unsupported { what: "comparator of length", offset: 0, found: 8 };
        assert_eq!(Properties::decode(&bytes).unwrap_err(), expected);
    }

    #[test]
    fn a_field_given_twice_or_too_long_is_refused() {
        let bytes = some().encode();
        let twice = [&bytes[..], &[36, 1, 0]].concat();
        assert!(!Properties::decode(&twice).unwrap_err().is_unsupported());
        let mut long = bytes.clone();
        // The last field is the creation time: ten bytes of varint.
        let at = bytes.len() - 11;
        long[at] += 1;
        long.push(0);
        assert!(!Properties::decode(&long).unwrap_err().is_unsupported());
    }
}
