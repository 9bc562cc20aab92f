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
//! Invariant: nothing here trusts the bytes, not even after [`Layout::validate`], since a mapped file may rot after it was checked. Every
//! access compares with the block's length and answers `None` where the block makes no sense; [`diagnose`] says why.

mod builder;
#[cfg(test)]
mod tests;

pub(crate) use builder::BlockBuilder;

use crate::error::Fault;
use crate::fetch::{prefetch, prefetch_range};
use crate::words::{load_be, load_le};
use esker_format::{InternalKey, Trailer, ValueKind, head_of, is_same, strip_prefix};
use std::cmp::Ordering;
use std::ops::Range;

pub(crate) const HEADER_BYTES: usize = 24;
const FLAG_FINGERPRINTS: u8 = 1;
const FLAG_ONE_KIND: u8 = 2;
/// Of a value, so much is fetched ahead; of more the processor sees by itself that it is read in order.
const AIM_VALUE_BYTES: usize = 256;

/// Where the columns of a block are, all as offsets in its payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// Number of entries, at least 1.
    pub(crate) count: usize,
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
    /// Of one offset; 0 if all strings are `len` bytes long.
    width: usize,
    offsets_at: usize,
    len: usize,
    at: usize,
}

/// One entry: where its parts are in the payload.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entry {
    /// The user key behind the block's prefix.
    pub(crate) rest: Range<usize>,
    /// The value.
    pub(crate) value: Range<usize>,
}

impl Layout {
    /// Reads the header. Cheap: done at every look-up.
    #[inline(always)]
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let header = payload.first_chunk::<HEADER_BYTES>()?;
        let first = load_le(header, 0);
        let second = load_le(header, 8);
        let trailer_base = load_le(header, 16);
        let count = (first & 0xffff_ffff) as usize;
        let [flags, trailer_width, key_width, value_width] = ((first >> 32) as u32).to_le_bytes().map(usize::from);
        let (prefix_len, rest_len) = ((second & 0xffff) as usize, (second >> 16 & 0xffff) as usize);
        let value_len = (second >> 32) as usize;
        let one_kind = flags & usize::from(FLAG_ONE_KIND) != 0;
        let base_kind = trailer_base as u8;
        // A count beyond the length would be entries of no bytes: an endless walk over nothing.
        let known_kind = if one_kind { is_known(base_kind) } else { base_kind == 0 };
        let known = flags <= usize::from(FLAG_FINGERPRINTS | FLAG_ONE_KIND) && known_kind;
        let widths = trailer_width <= 8 && WIDTHS >> key_width.min(7) & 1 != 0 && WIDTHS >> value_width.min(7) & 1 != 0;
        if !(known && widths && 0 < count && count <= payload.len()) {
            return None;
        }
        let fingerprints = flags & usize::from(FLAG_FINGERPRINTS) != 0;
        // No sum overflows: a count is below 2^32, a width at most 8, a key's length below 2^16.
        let offsets_bytes = |width: usize| if width == 0 { 0 } else { (count + 1) * width };
        let prefix_end = HEADER_BYTES + prefix_len;
        let key_offsets_at = prefix_end + if fingerprints { count } else { 0 };
        let value_offsets_at = key_offsets_at + offsets_bytes(key_width);
        let trailers_at = value_offsets_at + offsets_bytes(value_width);
        let keys_at = trailers_at + count * trailer_width;
        let keys = Column { width: key_width, offsets_at: key_offsets_at, len: rest_len, at: keys_at };
        let values_at = if key_width == 0 { keys_at + count * rest_len } else { keys.span(payload, count - 1).end };
        let values = Column { width: value_width, offsets_at: value_offsets_at, len: value_len, at: values_at };
        let values_bytes = payload.len().checked_sub(values_at)?;
        if value_width == 0 && count.checked_mul(value_len) != Some(values_bytes) {
            return None;
        }
        Some(Self {
            count,
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

    /// The same, of a table whose entries have a table-wide sequence number: `lift` is added to every trailer.
    #[inline(always)]
    pub(crate) fn lifted(mut self, lift: u64) -> Self {
        self.trailer_base = self.trailer_base.wrapping_add(lift);
        self
    }

    /// Reads the header and checks the whole structure, once, when a block is first used: every offset, every kind.
    pub(crate) fn validate(payload: &[u8]) -> Result<Self, Fault> {
        let Some(layout) = Self::parse(payload) else {
            return Err(diagnose_header(payload));
        };
        layout.keys.validate(payload, layout.count, layout.values.at)?;
        layout.values.validate(payload, layout.count, payload.len())?;
        for i in 0..if layout.trailer_shift == 0 { layout.count } else { 0 } {
            let bits = layout.trailer_bits(payload, i);
            if !is_known(bits as u8) {
                return Err(unknown_kind(bits));
            }
        }
        Ok(layout)
    }

    /// The common prefix of all user keys.
    #[inline(always)]
    pub(crate) fn prefix<'a>(&self, payload: &'a [u8]) -> Option<&'a [u8]> {
        payload.get(HEADER_BYTES..self.prefix_end)
    }

    /// Entry `i`.
    #[inline(always)]
    pub(crate) fn entry(&self, payload: &[u8], i: usize) -> Option<Entry> {
        let rest = self.keys.span(payload, i);
        let value = self.values.span(payload, i);
        let whole = rest.start <= rest.end
            && rest.end <= self.values.at
            && value.start <= value.end
            && value.end <= payload.len();
        whole.then_some(Entry { rest, value })
    }

    /// Whether it is known that all entries are values that do not expire.
    #[inline]
    pub(crate) fn has_values_only(&self) -> bool {
        self.trailer_shift > 0 && Trailer::from_bits(self.trailer_base).is_value()
    }

    /// Whether entries `i` and `i + 1`, both below `count`, have different user keys.
    #[inline(always)]
    pub(crate) fn key_changes_behind(&self, payload: &[u8], i: usize) -> bool {
        is_other(payload, &self.keys.span(payload, i), &self.keys.span(payload, i + 1))
    }

    /// Whether entry `i`, below `count`, has another user key than the entry whose rest is at `other`.
    #[inline(always)]
    pub(crate) fn key_differs(&self, payload: &[u8], i: usize, other: &Range<usize>) -> bool {
        is_other(payload, &self.keys.span(payload, i), other)
    }

    /// The trailer of entry `i`.
    #[inline(always)]
    pub(crate) fn trailer(&self, payload: &[u8], i: usize) -> Option<Trailer> {
        let bits = self.trailer_bits(payload, i);
        is_known(bits as u8).then(|| Trailer::from_bits(bits))
    }

    #[inline(always)]
    fn trailer_bits(&self, payload: &[u8], i: usize) -> u64 {
        let stored = load_le(payload, self.trailers_at + i * self.trailer_width) & self.trailer_mask;
        self.trailer_base.wrapping_add(stored << self.trailer_shift)
    }

    #[inline(always)]
    fn rest<'a>(&self, payload: &'a [u8], i: usize) -> Option<&'a [u8]> {
        payload.get(self.keys.span(payload, i))
    }

    /// The number of the first entry at or behind `target`; `count` if there is none.
    #[inline]
    pub(crate) fn lower_bound(&self, payload: &[u8], target: InternalKey<'_>) -> Option<usize> {
        let prefix = self.prefix(payload)?;
        let Some(rest) = strip_prefix(target.user_key, prefix) else {
            return Some(if target.user_key < prefix { 0 } else { self.count });
        };
        if self.keys.width == 0 && self.keys.len <= 8 {
            // The heads are the whole keys, and no offsets need be read.
            let (len, at) = (self.keys.len, self.keys.at);
            let head = head_of(rest);
            let mask = u64::MAX.checked_shl(64 - 8 * len as u32).unwrap_or(0);
            let is_before = |i: usize| match (load_be(payload, at + i * len) & mask).cmp(&head) {
                Ordering::Equal => self.is_before_by_rest(payload, i, rest, target.trailer),
                order => Some(order.is_lt()),
            };
            return search(self.count, is_before);
        }
        let head = head_of(rest);
        let is_before = |i: usize| {
            let span = self.keys.span(payload, i);
            let found = if span.len() < 8 { head_of(payload.get(span)?) } else { load_be(payload, span.start) };
            match found.cmp(&head) {
                Ordering::Equal => self.is_before_by_rest(payload, i, rest, target.trailer),
                order => Some(order.is_lt()),
            }
        };
        search(self.count, is_before)
    }

    /// Whether entry `i` sorts before the key of this rest and trailer, for when their heads are equal.
    #[inline]
    fn is_before_by_rest(&self, payload: &[u8], i: usize, rest: &[u8], trailer: Trailer) -> Option<bool> {
        let found = self.rest(payload, i)?;
        // Of equal heads: up to eight bytes of one length are the same bytes.
        let order = if found.len() == rest.len() && found.len() <= 8 { Ordering::Equal } else { found.cmp(rest) };
        Some(match order {
            Ordering::Equal => self.trailer(payload, i)? > trailer,
            order => order.is_lt(),
        })
    }

    /// The newest version of `target.user_key` at or below `target.trailer`: its number, or `count` if it is not here.
    #[inline(always)]
    pub(crate) fn find(&self, payload: &[u8], target: InternalKey<'_>, fingerprint: u8) -> Option<usize> {
        let Some(rest) = strip_prefix(target.user_key, self.prefix(payload)?) else {
            return Some(self.count);
        };
        if !self.fingerprints {
            let i = self.lower_bound(payload, target)?;
            return Some(if i < self.count && self.rest(payload, i)? == rest { i } else { self.count });
        }
        // Eight fingerprints at a time. Versions of one key follow each other newest first and share their fingerprint.
        let wanted = u64::from_le_bytes([fingerprint; 8]);
        let mut i = 0;
        while i < self.count {
            let mut hits = zero_bytes(load_le(payload, self.prefix_end + i) ^ wanted);
            while hits != 0 {
                let candidate = i + hits.trailing_zeros() as usize / 8;
                if candidate >= self.count {
                    return Some(self.count);
                }
                if is_same(self.rest(payload, candidate)?, rest) && self.trailer(payload, candidate)? <= target.trailer
                {
                    return Some(candidate);
                }
                hits &= hits - 1;
            }
            i += 8;
        }
        Some(self.count)
    }

    /// Begins to fetch the first entry that [`Layout::find`] will compare: its key, its trailer, and where its value begins.
    #[inline(always)]
    pub(crate) fn aim(&self, payload: &[u8], fingerprint: u8) {
        if !self.fingerprints {
            return;
        }
        let wanted = u64::from_le_bytes([fingerprint; 8]);
        let mut i = 0;
        while i < self.count {
            let hits = zero_bytes(load_le(payload, self.prefix_end + i) ^ wanted);
            if hits != 0 {
                let candidate = i + hits.trailing_zeros() as usize / 8;
                if candidate < self.count {
                    let (rest, value) = (self.keys.span(payload, candidate), self.values.span(payload, candidate));
                    prefetch(payload, rest.start);
                    prefetch(payload, self.trailers_at + candidate * self.trailer_width);
                    prefetch_range(payload, value.start, value.len().min(AIM_VALUE_BYTES));
                }
                return;
            }
            i += 8;
        }
    }

    /// The fingerprint of entry `i`, if the block has any.
    pub(crate) fn fingerprint(&self, payload: &[u8], i: usize) -> Option<u8> {
        if self.fingerprints { payload.get(self.prefix_end + i).copied() } else { None }
    }
}

/// One bit for each kind that is known.
const KINDS: u64 = 1 << ValueKind::Delete as u8
    | 1 << ValueKind::Put as u8
    | 1 << ValueKind::Merge as u8
    | 1 << ValueKind::Blob as u8
    | 1 << ValueKind::Expiring as u8
    | 1 << ValueKind::ExpiringBlob as u8;
/// One bit for each width an offset may have.
const WIDTHS: u32 = 1 << 0 | 1 << 2 | 1 << 4;

impl Column {
    /// Where string `i` is. With hostile bytes anywhere, and even backwards.
    #[inline(always)]
    fn span(&self, payload: &[u8], i: usize) -> Range<usize> {
        let (start, end) = match self.width {
            0 => (i * self.len, i * self.len + self.len),
            2 => {
                let pair = load_le(payload, self.offsets_at + 2 * i);
                ((pair & 0xffff) as usize, (pair >> 16 & 0xffff) as usize)
            }
            _ => {
                let pair = load_le(payload, self.offsets_at + 4 * i);
                ((pair & 0xffff_ffff) as usize, (pair >> 32) as usize)
            }
        };
        self.at + start..self.at + end
    }

    fn validate(&self, payload: &[u8], count: usize, end: usize) -> Result<(), Fault> {
        if self.width == 0 {
            return Ok(());
        }
        let mut at = self.at;
        for i in 0..count {
            let span = self.span(payload, i);
            if span.start != at || span.end < at {
                return Err(Fault::Damaged("offsets that descend"));
            }
            at = span.end;
        }
        if at == end { Ok(()) } else { Err(Fault::Damaged("columns that do not fill the block")) }
    }
}

/// What is wrong with a block for which something here said `None`.
#[cold]
pub(crate) fn diagnose(payload: &[u8]) -> Fault {
    match Layout::validate(payload) {
        Ok(_) => Fault::Damaged("it changed while it was read"),
        Err(fault) => fault,
    }
}

/// What is wrong with a block whose header can't be read.
#[cold]
fn diagnose_header(payload: &[u8]) -> Fault {
    let Some(header) = payload.first_chunk::<HEADER_BYTES>() else {
        return Fault::Damaged("shorter than a header");
    };
    let (flags, base) = (header[4], load_le(header, 16));
    if flags > FLAG_FINGERPRINTS | FLAG_ONE_KIND {
        return Fault::Unsupported { what: "block flags", found: u64::from(flags) };
    }
    if flags & FLAG_ONE_KIND != 0 && !is_known(base as u8) {
        return unknown_kind(base);
    }
    Fault::Damaged("a header that does not fit the block")
}

#[inline(always)]
fn is_known(kind: u8) -> bool {
    kind < 64 && KINDS >> kind & 1 != 0
}

fn unknown_kind(trailer: u64) -> Fault {
    Fault::Unsupported { what: "value kind", found: trailer & 0xff }
}

/// The first of `count` things, at least 1, that `is_before` denies.
#[inline(always)]
fn search(count: usize, is_before: impl Fn(usize) -> Option<bool>) -> Option<usize> {
    let (mut base, mut size) = (0, count);
    while size > 1 {
        let half = size / 2;
        base = std::hint::select_unpredictable(is_before(base + half)?, base + half, base);
        size -= half;
    }
    Some(base + usize::from(is_before(base)?))
}

/// Whether two keys of a block are not the same. Of places where there are none it says something.
#[inline(always)]
pub(crate) fn is_other(payload: &[u8], a: &Range<usize>, b: &Range<usize>) -> bool {
    let len = a.len();
    if len != b.len() {
        return true;
    }
    match len {
        0 => false,
        // What does not belong to the keys is shifted out.
        1..=8 => (load_le(payload, a.start) ^ load_le(payload, b.start)) << (64 - 8 * len) != 0,
        // Most keys that stand beside one another differ in their last bytes.
        _ => load_le(payload, a.end - 8) != load_le(payload, b.end - 8) || is_other_long(payload, a, b),
    }
}

#[inline(never)]
fn is_other_long(payload: &[u8], a: &Range<usize>, b: &Range<usize>) -> bool {
    matches!((payload.get(a.clone()), payload.get(b.clone())), (Some(a), Some(b)) if a != b)
}

/// The high bit of each byte that is zero. (Above the lowest one there may be more; candidates are compared anyway.)
#[inline(always)]
fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(0x0101_0101_0101_0101) & !word & 0x8080_8080_8080_8080
}
