//! What stands around every block: its trailer, and the compression of its bytes.
//!
//! ```text
//! +--------------+--------+--------------+
//! | stored bytes | tag u8 | checksum u32 |    tag = kind x 16 + codec; the checksum covers file id, offset, stored bytes, tag
//! +--------------+--------+--------------+
//! ```

use crate::error::{Fault, TableError};
use esker_format::FileId;
use esker_format::checksum::Crc;
use std::fmt;
use std::sync::Arc;

/// Bytes that follow the stored bytes of every block.
pub(crate) const TRAILER_BYTES: usize = 5;
/// Payloads longer than this are never compressed, so no length of a compressed block makes a reader allocate more.
pub(crate) const COMPRESSED_PAYLOAD_BYTES_MAX: usize = 256 << 20;
/// Bytes of a compressed block's payload length.
const LENGTH_BYTES: usize = 4;
/// LZ4 turns one byte into 255 at most.
const LZ4_RATIO_MAX: usize = 255;

/// How the bytes of a block are compressed. The numbers are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Codec {
    /// Not at all: read from the map without a copy.
    None = 0,
    /// LZ4: fast.
    Lz4 = 1,
    /// zstd: smaller. Needs the feature `zstd`, without which it is refused as `Unsupported`.
    Zstd = 2,
}

impl Codec {
    /// Reads the byte that is stored for a codec; `None` if it is not known to this version.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::None),
            1 => Some(Self::Lz4),
            2 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Whether this build can read and write it.
    pub fn is_available(self) -> bool {
        self != Self::Zstd || cfg!(feature = "zstd")
    }
}

/// A part of a table. The numbers of blocks are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum BlockKind {
    /// The whole file, or its footer; no block.
    Footer = 0,
    /// Entries.
    Data = 1,
    /// Where the data blocks are, and the fences between them.
    Index = 2,
    /// Which keys may be there.
    Filter = 3,
    /// Facts about the table.
    Properties = 4,
    /// Ranges of keys that were deleted.
    RangeTombstones = 5,
}

impl fmt::Display for BlockKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Footer => "footer",
            Self::Data => "block",
            Self::Index => "index",
            Self::Filter => "filter",
            Self::Properties => "properties",
            Self::RangeTombstones => "range tombstones",
        })
    }
}

/// Appends the trailer of the block whose stored bytes are `out[start..]` and begin at `offset` in the file.
pub(crate) fn seal(out: &mut Vec<u8>, start: usize, file_id: FileId, offset: u64, kind: BlockKind, codec: Codec) {
    let tag = (kind as u8) << 4 | codec as u8;
    let checksum = checksum(file_id, offset, &out[start..], tag);
    out.push(tag);
    out.extend_from_slice(&checksum.to_le_bytes());
}

fn checksum(file_id: FileId, offset: u64, stored: &[u8], tag: u8) -> u32 {
    Crc::new().u64(file_id.0).u64(offset).bytes(stored).bytes(&[tag]).finish()
}

/// Which block is meant, for checks and errors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) table: &'a Arc<str>,
    pub(crate) file_id: FileId,
    pub(crate) kind: BlockKind,
    pub(crate) offset: u64,
}

impl Place<'_> {
    pub(crate) fn damaged(&self, what: &'static str) -> TableError {
        TableError::Damaged { table: Arc::clone(self.table), part: self.kind, offset: self.offset, what }
    }

    pub(crate) fn fault(&self, fault: Fault) -> TableError {
        match fault {
            Fault::Damaged(what) => self.damaged(what),
            Fault::Unsupported { what, found } => TableError::Unsupported {
                table: Arc::clone(self.table),
                part: self.kind,
                offset: self.offset,
                what,
                found,
            },
        }
    }

    /// Checks a whole block, stored bytes and trailer: its stored bytes and codec.
    ///
    /// The checksum is checked first, so that what follows is about bytes that someone wrote on purpose.
    pub(crate) fn check<'b>(&self, block: &'b [u8]) -> Result<(&'b [u8], Codec), TableError> {
        let Some((stored, trailer)) = block.split_last_chunk::<TRAILER_BYTES>() else {
            return Err(self.damaged("shorter than a block's trailer"));
        };
        let [tag, c0, c1, c2, c3] = *trailer;
        let expected = u32::from_le_bytes([c0, c1, c2, c3]);
        let found = checksum(self.file_id, self.offset, stored, tag);
        if found != expected {
            return Err(TableError::Checksum {
                table: Arc::clone(self.table),
                part: self.kind,
                offset: self.offset,
                expected,
                found,
            });
        }
        if tag >> 4 != self.kind as u8 {
            return Err(TableError::Mismatch {
                table: Arc::clone(self.table),
                part: self.kind,
                offset: self.offset,
                what: "block kind",
                expected: self.kind as u64,
                found: u64::from(tag >> 4),
            });
        }
        match Codec::from_byte(tag & 15) {
            Some(codec) => Ok((stored, codec)),
            None => Err(self.fault(Fault::Unsupported { what: "codec", found: u64::from(tag & 15) })),
        }
    }
}

impl Place<'_> {
    /// Checks a whole block of a kind that is never compressed: its payload.
    pub(crate) fn check_uncompressed<'b>(&self, block: &'b [u8]) -> Result<&'b [u8], TableError> {
        match self.check(block)? {
            (payload, Codec::None) => Ok(payload),
            _ => Err(self.damaged("compressed where it may not be")),
        }
    }
}

/// Compresses payloads; keeps its buffers from block to block.
pub(crate) struct Compressor {
    codec: Codec,
    buffer: Vec<u8>,
    lz4: lz4_flex::block::CompressTable,
    #[cfg(feature = "zstd")]
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl Compressor {
    /// `None` if this build does not have the codec.
    pub(crate) fn new(codec: Codec) -> Option<Self> {
        codec.is_available().then(|| Self {
            codec,
            buffer: Vec::new(),
            lz4: lz4_flex::block::CompressTable::default(),
            #[cfg(feature = "zstd")]
            zstd: None,
        })
    }

    /// The stored form of `payload`, or `None` where it is stored as it is.
    pub(crate) fn compress(&mut self, payload: &[u8]) -> Option<(&[u8], Codec)> {
        if self.codec == Codec::None || payload.len() > COMPRESSED_PAYLOAD_BYTES_MAX {
            return None;
        }
        let room = match self.codec {
            #[cfg(feature = "zstd")]
            Codec::Zstd => zstd::zstd_safe::compress_bound(payload.len()),
            _ => lz4_flex::block::get_maximum_output_size(payload.len()),
        };
        if self.buffer.len() < LENGTH_BYTES + room {
            self.buffer.resize(LENGTH_BYTES + room, 0);
        }
        let (length, body) = self.buffer.split_at_mut(LENGTH_BYTES);
        length.copy_from_slice(&(payload.len() as u32).to_le_bytes());
        let compressed = match self.codec {
            #[cfg(feature = "zstd")]
            Codec::Zstd => {
                if self.zstd.is_none() {
                    self.zstd = zstd::bulk::Compressor::new(zstd::DEFAULT_COMPRESSION_LEVEL).ok();
                }
                self.zstd.as_mut()?.compress_to_buffer(payload, body).ok()?
            }
            _ => lz4_flex::block::compress_into_with_table(payload, body, &mut self.lz4).ok()?,
        };
        let stored = LENGTH_BYTES + compressed;
        (stored <= payload.len() - payload.len() / 8).then(|| (&self.buffer[..stored], self.codec))
    }
}

/// The payload of stored bytes whose codec is not [`Codec::None`].
pub(crate) fn decompress(stored: &[u8], codec: Codec) -> Result<Vec<u8>, Fault> {
    let Some((length, body)) = stored.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(Fault::Damaged("a compressed block without its length"));
    };
    let length = u32::from_le_bytes(*length) as usize;
    if length > COMPRESSED_PAYLOAD_BYTES_MAX {
        return Err(Fault::Damaged("a compressed block longer than any is written"));
    }
    let wrong_length = Err(Fault::Damaged("a compressed block of another length than it says"));
    let payload = match codec {
        Codec::Lz4 => {
            if length > body.len().saturating_mul(LZ4_RATIO_MAX) {
                return wrong_length;
            }
            let mut payload = vec![0; length];
            let found = lz4_flex::block::decompress_into(body, &mut payload);
            payload.truncate(found.map_err(|_| Fault::Damaged("not an LZ4 block"))?);
            payload
        }
        #[cfg(feature = "zstd")]
        Codec::Zstd => zstd::bulk::decompress(body, length).map_err(|_| Fault::Damaged("not a zstd frame"))?,
        _ => return Err(Fault::Unsupported { what: "codec", found: codec as u64 }),
    };
    if payload.len() == length { Ok(payload) } else { wrong_length }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &Arc<str>, offset: u64) -> Place<'_> {
        Place { table: name, file_id: FileId(7), kind: BlockKind::Data, offset }
    }

    #[test]
    fn a_block_passes_only_in_its_file_at_its_place_and_as_its_kind() {
        let name: Arc<str> = "t".into();
        let mut block = b"stored".to_vec();
        seal(&mut block, 0, FileId(7), 40, BlockKind::Data, Codec::Lz4);
        assert_eq!(place(&name, 40).check(&block).unwrap(), (&b"stored"[..], Codec::Lz4));
        assert!(matches!(place(&name, 41).check(&block), Err(TableError::Checksum { offset: 41, .. })));
        let elsewhere = Place { file_id: FileId(8), ..place(&name, 40) };
        assert!(matches!(elsewhere.check(&block), Err(TableError::Checksum { .. })));
        let other_kind = Place { kind: BlockKind::Index, ..place(&name, 40) };
        assert!(matches!(other_kind.check(&block), Err(TableError::Mismatch { .. })));
        for bit in 0..8 * block.len() {
            let mut bad = block.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(place(&name, 40).check(&bad).unwrap_err().is_corruption(), "bit {bit}");
        }
        for cut in 0..block.len() {
            assert!(place(&name, 40).check(&block[..cut]).unwrap_err().is_corruption(), "cut to {cut}");
        }
    }

    #[test]
    fn codecs_to_come_are_refused_by_number() {
        let name: Arc<str> = "t".into();
        for codec in 3..16 {
            let tag = (BlockKind::Data as u8) << 4 | codec;
            let mut block = vec![tag];
            block.extend_from_slice(&checksum(FileId(7), 0, &[], tag).to_le_bytes());
            let error = place(&name, 0).check(&block).unwrap_err();
            assert!(error.is_unsupported(), "{error}");
        }
    }

    #[test]
    fn what_does_not_shrink_by_an_eighth_is_stored_as_it_is() {
        for codec in [Codec::Lz4, Codec::Zstd].into_iter().filter(|codec| codec.is_available()) {
            let mut compressor = Compressor::new(codec).unwrap();
            let mut noise = 1u64;
            let random: Vec<u8> = std::iter::repeat_with(|| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (noise >> 56) as u8
            })
            .take(70_000)
            .collect();
            assert!(compressor.compress(&random).is_none());
            let even = [&random[..2000], &[0; 70_000]].concat();
            let (stored, used) = compressor.compress(&even).unwrap();
            assert_eq!((decompress(stored, used).unwrap(), used), (even.clone(), codec));
            let mut bad = stored.to_vec();
            bad[0] ^= 1;
            assert!(decompress(&bad, codec).is_err(), "a wrong length");
            bad[..4].copy_from_slice(&u32::MAX.to_le_bytes());
            assert!(decompress(&bad, codec).is_err(), "a length beyond all bounds");
            assert!(compressor.compress(&[]).is_none());
        }
        assert!(decompress(&[1, 0], Codec::Lz4).is_err());
    }

    #[test]
    #[cfg(not(feature = "zstd"))]
    fn zstd_is_refused_without_its_feature() {
        assert!(Compressor::new(Codec::Zstd).is_none());
        assert!(matches!(decompress(&[0; 9], Codec::Zstd), Err(Fault::Unsupported { found: 2, .. })));
    }

    #[test]
    fn a_codec_is_the_number_that_is_stored_for_it() {
        for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
            assert_eq!(Codec::from_byte(codec as u8), Some(codec));
        }
        assert!((3..=255).all(|byte| Codec::from_byte(byte).is_none()));
    }

    #[test]
    fn a_tag_that_does_not_fit_is_told_as_it_was_found() {
        let name: Arc<str> = "t".into();
        let mut block = Vec::new();
        seal(&mut block, 0, FileId(7), 0, BlockKind::Properties, Codec::Lz4);
        let error = place(&name, 0).check(&block).unwrap_err();
        assert_eq!(error.to_string(), "table t: block at 0: block kind 4, expected 1");
        let tag = (BlockKind::Data as u8) << 4 | 6;
        let block = [&[tag][..], &checksum(FileId(7), 0, &[], tag).to_le_bytes()].concat();
        let error = place(&name, 0).check(&block).unwrap_err();
        assert_eq!(error.to_string(), "table t: block at 0: codec 6 is not known to this version");
    }

    #[test]
    fn nothing_is_compressed_unasked_or_beyond_what_may_be_read() {
        let payload = vec![0; COMPRESSED_PAYLOAD_BYTES_MAX + 1];
        assert!(Compressor::new(Codec::None).unwrap().compress(&payload[..1000]).is_none());
        let mut compressor = Compressor::new(Codec::Lz4).unwrap();
        assert!(compressor.compress(&payload).is_none());
        assert!(compressor.compress(&payload[..1000]).is_some());
    }

    #[test]
    fn seven_eighths_of_a_payload_are_kept_and_a_byte_more_is_not() {
        let mut compressor = Compressor::new(Codec::Lz4).unwrap();
        let mut noise = 1u64;
        let random: Vec<u8> = std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (noise >> 56) as u8
        })
        .take(8000)
        .collect();
        // Each byte of noise in the place of a zero takes about one more.
        let mut stored = (6900..7100).map(|len| {
            let payload = [&random[..len], &[0; 8000][len..]].concat();
            compressor.compress(&payload).map(|(stored, _)| stored.len())
        });
        let kept: Vec<usize> = stored.by_ref().map_while(|stored| stored).collect();
        assert_eq!(kept.last(), Some(&7000));
        assert!(stored.all(|stored| stored.is_none()));
    }

    #[test]
    fn the_buffer_is_as_long_as_the_longest_payload_needs_and_kept() {
        let mut compressor = Compressor::new(Codec::Lz4).unwrap();
        for (len, longest) in [(1000, 1000), (4000, 4000), (3900, 4000), (1, 4000)] {
            compressor.compress(&vec![0; len]);
            let needed = LENGTH_BYTES + lz4_flex::block::get_maximum_output_size(longest);
            assert_eq!(compressor.buffer.len(), needed, "after {len} bytes");
        }
    }

    #[test]
    fn lengths_that_no_block_has_are_refused_before_there_is_room_for_them() {
        let fault = |length: usize, body: &[u8], codec| {
            decompress(&[&(length as u32).to_le_bytes(), body].concat(), codec).unwrap_err()
        };
        let longer = Fault::Damaged("a compressed block longer than any is written");
        let another = Fault::Damaged("a compressed block of another length than it says");
        let max = COMPRESSED_PAYLOAD_BYTES_MAX;
        assert_eq!((fault(max, &[0; 9], Codec::Lz4), fault(max + 1, &[0; 9], Codec::Lz4)), (another, longer));
        // Bytes that refer back to where nothing is: whoever looks at them sees that.
        let body = [0x0f; 100];
        let none = Fault::Damaged("not an LZ4 block");
        assert_eq!((fault(25_500, &body, Codec::Lz4), fault(25_501, &body, Codec::Lz4)), (none, another));
    }
}
