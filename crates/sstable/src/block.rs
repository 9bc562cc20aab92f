//! A data block: entries in columns, so that what a search compares lies together.
//!
//! ```text
//! +-------------+--------+--------------+-------------+---------------+----------+------+--------+
//! | header (24) | prefix | fingerprints | key offsets | value offsets | trailers | keys | values |
//! +-------------+--------+--------------+-------------+---------------+----------+------+--------+
//! ```
//! Offsets are left out where all keys, or all values, are equally long; numbers are as narrow as the block allows. A point look-up
//! touches the fingerprints (one byte a key), one key, one trailer, one value.
//!
//! Invariant: nothing here trusts the bytes, not even after [`Layout::validate`]: a mapped file may rot after it was checked. Every
//! access compares with the block's length, and answers [`Fault`] where it must.

mod builder;
#[cfg(test)]
mod tests;

pub(crate) use builder::{BlockBuilder, common_prefix};

use crate::error::Fault;
use esker_format::{InternalKey, Trailer, ValueKind};
use std::cmp::Ordering;
use std::ops::Range;

pub(crate) const HEADER_BYTES: usize = 24;
const FLAG_FINGERPRINTS: u8 = 1;
const FLAG_ONE_KIND: u8 = 2;

/// Where the columns of a block are, all as offsets in its payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// Number of entries, at least 1.
    pub(crate) count: usize,
    /// Behind the last byte of the payload.
    end: usize,
    prefix_end: usize,
    /// Fingerprints are at `prefix_end`, if there are any.
    fingerprints: bool,
    keys: Column,
    values: Column,
    trailers_at: usize,
    trailer_width: usize,
    trailer_mask: u64,
    trailer_shift: u32,
    trailer_base: u64,
}

/// Byte strings one behind the other.
#[derive(Debug, Clone, Copy)]
struct Column {
    /// Of one offset; 0 if all are `len` bytes long.
    width: usize,
    offsets_at: usize,
    len: usize,
    at: usize,
}

/// One entry: where it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entry {
    /// The user key behind the block's prefix.
    pub(crate) rest: Range<usize>,
    /// The value.
    pub(crate) value: Range<usize>,
}

const SHORT: Fault = Fault::Damaged("columns beyond the block's end");

impl Layout {
    /// Reads the header. Cheap: done at every look-up.
    #[inline]
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, Fault> {
        let Some(header) = payload.first_chunk::<HEADER_BYTES>() else {
            return Err(Fault::Damaged("shorter than a header"));
        };
        let u16_at = |i: usize| usize::from(u16::from_le_bytes([header[i], header[i + 1]]));
        let u32_at = |i: usize| u32::from_le_bytes([header[i], header[i + 1], header[i + 2], header[i + 3]]) as usize;
        let count = u32_at(0);
        let [flags, trailer_width, key_width, value_width] =
            [header[4], header[5], header[6], header[7]].map(usize::from);
        let end = payload.len();
        if flags > usize::from(FLAG_FINGERPRINTS | FLAG_ONE_KIND) {
            return Err(Fault::Unsupported { what: "block flags", found: flags as u64 });
        }
        let known_width = |width| matches!(width, 0 | 2 | 4);
        // A count beyond the length would be entries of no bytes: an endless walk over nothing.
        if count == 0 || count > end || trailer_width > 8 || !known_width(key_width) || !known_width(value_width) {
            return Err(Fault::Damaged("a header out of bounds"));
        }
        let fingerprints = flags & usize::from(FLAG_FINGERPRINTS) != 0;
        let one_kind = flags & usize::from(FLAG_ONE_KIND) != 0;
        let trailer_base = u64::from_le_bytes(*payload[16..].first_chunk().unwrap_or(&[0; 8]));
        if if one_kind { ValueKind::from_byte(trailer_base as u8).is_none() } else { trailer_base as u8 != 0 } {
            return Err(Fault::Unsupported { what: "value kind", found: trailer_base & 0xff });
        }
        // No sum overflows: a count is below 2^32, a width at most 8, a key's length below 2^16.
        let prefix_end = HEADER_BYTES + u16_at(8);
        let key_offsets_at = prefix_end + if fingerprints { count } else { 0 };
        let value_offsets_at = key_offsets_at + if key_width == 0 { 0 } else { (count + 1) * key_width };
        let trailers_at = value_offsets_at + if value_width == 0 { 0 } else { (count + 1) * value_width };
        let keys_at = trailers_at + count * trailer_width;
        let keys = Column { width: key_width, offsets_at: key_offsets_at, len: u16_at(10), at: keys_at };
        let values_at = keys.end(payload, count);
        let values = Column { width: value_width, offsets_at: value_offsets_at, len: u32_at(12), at: values_at };
        if values_at > end
            || (value_width == 0 && (count as u64).checked_mul(values.len as u64) != Some((end - values_at) as u64))
        {
            return Err(SHORT);
        }
        Ok(Self {
            count,
            end,
            prefix_end,
            fingerprints,
            keys,
            values,
            trailers_at,
            trailer_width,
            trailer_mask: if trailer_width == 0 { 0 } else { u64::MAX >> (64 - 8 * trailer_width) },
            trailer_shift: if one_kind { 8 } else { 0 },
            trailer_base,
        })
    }

    /// Reads the header and checks the whole structure, once, when a block is first used: every offset, every kind.
    pub(crate) fn validate(payload: &[u8]) -> Result<Self, Fault> {
        let layout = Self::parse(payload)?;
        layout.keys.validate(payload, layout.count, layout.values.at)?;
        layout.values.validate(payload, layout.count, layout.end)?;
        if layout.trailer_shift == 0 {
            for i in 0..layout.count {
                layout.trailer(payload, i)?;
            }
        }
        Ok(layout)
    }

    /// The common prefix of all user keys.
    #[inline]
    pub(crate) fn prefix<'a>(&self, payload: &'a [u8]) -> Result<&'a [u8], Fault> {
        payload.get(HEADER_BYTES..self.prefix_end).ok_or(SHORT)
    }

    /// Entry `i`.
    #[inline]
    pub(crate) fn entry(&self, payload: &[u8], i: usize) -> Result<Entry, Fault> {
        let rest = self.keys.span(payload, i);
        let value = self.values.span(payload, i);
        if rest.start > rest.end || rest.end > self.values.at || value.start > value.end || value.end > self.end {
            return Err(SHORT);
        }
        Ok(Entry { rest, value })
    }

    /// The trailer of entry `i`.
    #[inline]
    pub(crate) fn trailer(&self, payload: &[u8], i: usize) -> Result<Trailer, Fault> {
        let stored = load_le(payload, self.trailers_at + i * self.trailer_width) & self.trailer_mask;
        let bits = self.trailer_base.wrapping_add(stored << self.trailer_shift);
        if ValueKind::from_byte(bits as u8).is_none() {
            return Err(Fault::Unsupported { what: "value kind", found: bits & 0xff });
        }
        Ok(Trailer::from_bits(bits))
    }

    #[inline]
    fn rest<'a>(&self, payload: &'a [u8], i: usize) -> Result<&'a [u8], Fault> {
        payload.get(self.keys.span(payload, i)).ok_or(SHORT)
    }

    /// The number of the first entry at or behind `target`; `count` if there is none.
    pub(crate) fn lower_bound(&self, payload: &[u8], target: InternalKey<'_>) -> Result<usize, Fault> {
        let prefix = self.prefix(payload)?;
        let Some(rest) = target.user_key.strip_prefix(prefix) else {
            return Ok(if target.user_key < prefix { 0 } else { self.count });
        };
        let head = head_of(rest);
        let is_before = |i: usize| -> Result<bool, Fault> {
            let found = head_at(payload, &self.keys.span(payload, i));
            if found != head {
                return Ok(found < head);
            }
            Ok(match self.rest(payload, i)?.cmp(rest) {
                Ordering::Equal => self.trailer(payload, i)? > target.trailer,
                order => order == Ordering::Less,
            })
        };
        let (mut base, mut size) = (0, self.count);
        while size > 1 {
            let half = size / 2;
            base = std::hint::select_unpredictable(is_before(base + half)?, base + half, base);
            size -= half;
        }
        Ok(base + usize::from(is_before(base)?))
    }

    /// The newest version of `target.user_key` at or below `target.trailer`: its number.
    #[inline]
    pub(crate) fn find(
        &self,
        payload: &[u8],
        target: InternalKey<'_>,
        fingerprint: u8,
    ) -> Result<Option<usize>, Fault> {
        let Some(rest) = target.user_key.strip_prefix(self.prefix(payload)?) else {
            return Ok(None);
        };
        if !self.fingerprints {
            let i = self.lower_bound(payload, target)?;
            return Ok((i < self.count && self.rest(payload, i)? == rest).then_some(i));
        }
        // Eight fingerprints at a time. Versions of one key follow each other newest first and share their fingerprint.
        let wanted = u64::from_le_bytes([fingerprint; 8]);
        let mut i = 0;
        while i < self.count {
            let mut hits = zero_bytes(load_le(payload, self.prefix_end + i) ^ wanted);
            while hits != 0 {
                let candidate = i + hits.trailing_zeros() as usize / 8;
                if candidate >= self.count {
                    return Ok(None);
                }
                if self.rest(payload, candidate)? == rest && self.trailer(payload, candidate)? <= target.trailer {
                    return Ok(Some(candidate));
                }
                hits &= hits - 1;
            }
            i += 8;
        }
        Ok(None)
    }

    /// The fingerprint of entry `i`, if the block has any.
    pub(crate) fn fingerprint(&self, payload: &[u8], i: usize) -> Option<u8> {
        if self.fingerprints { payload.get(self.prefix_end + i).copied() } else { None }
    }
}

impl Column {
    /// Where string `i` is. With hostile bytes anywhere, and even backwards.
    #[inline]
    fn span(&self, payload: &[u8], i: usize) -> Range<usize> {
        let (start, end) = match self.width {
            0 => (i * self.len, i * self.len + self.len),
            2 => {
                let pair = load_le(payload, self.offsets_at + 2 * i) as u32;
                ((pair & 0xffff) as usize, (pair >> 16) as usize)
            }
            _ => {
                let pair = load_le(payload, self.offsets_at + 4 * i);
                ((pair & 0xffff_ffff) as usize, (pair >> 32) as usize)
            }
        };
        self.at + start..self.at + end
    }

    /// Behind the last string.
    #[inline]
    fn end(&self, payload: &[u8], count: usize) -> usize {
        if self.width == 0 { self.at + count * self.len } else { self.span(payload, count - 1).end }
    }

    fn validate(&self, payload: &[u8], count: usize, end: usize) -> Result<(), Fault> {
        let mut at = self.at;
        for i in 0..if self.width == 0 { 0 } else { count } {
            let span = self.span(payload, i);
            if span.start != at || span.end < at {
                return Err(Fault::Damaged("offsets that descend"));
            }
            at = span.end;
        }
        if self.width == 0 || at == end { Ok(()) } else { Err(Fault::Damaged("columns that do not fill the block")) }
    }
}

/// Eight bytes from `at` on, as far as the payload has them, zeros behind.
#[inline]
fn load_le(payload: &[u8], at: usize) -> u64 {
    match payload.get(at..).and_then(|tail| tail.first_chunk()) {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => load_at_end(payload, at),
    }
}

#[cold]
fn load_at_end(payload: &[u8], at: usize) -> u64 {
    let mut bytes = [0; 8];
    let tail = payload.get(at..).unwrap_or(&[]);
    let n = tail.len().min(8);
    bytes[..n].copy_from_slice(&tail[..n]);
    u64::from_le_bytes(bytes)
}

/// The first eight bytes as a number that sorts as they do; zeros where there are fewer.
#[inline]
pub(crate) fn head_of(bytes: &[u8]) -> u64 {
    head_at(bytes, &(0..bytes.len()))
}

#[inline]
fn head_at(payload: &[u8], span: &Range<usize>) -> u64 {
    let head = load_le(payload, span.start).swap_bytes();
    match span.end.wrapping_sub(span.start) {
        0 => 0,
        len @ 1..8 => head & u64::MAX << (64 - 8 * len),
        _ => head,
    }
}

/// The high bit of each byte that is zero. (Above the lowest one there may be more; candidates are compared anyway.)
#[inline]
fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(0x0101_0101_0101_0101) & !word & 0x8080_8080_8080_8080
}
