//! Writes data blocks.

use super::{FLAG_FINGERPRINTS, FLAG_ONE_KIND, HEADER_BYTES};
use crate::hash::KeyHash;
use esker_format::{InternalKey, Trailer, common_prefix};

/// Scanning more fingerprints than these takes longer than a binary search.
const FINGERPRINTS_MAX: usize = 256;
/// Keys' rests up to this length are copied as so many bytes, without a call.
const SHORT_BYTES: usize = 16;
const WORD_BYTES: usize = 8;
/// What an entry takes beside its key and value, at most: fingerprint, two offsets, trailer.
const ENTRY_OVERHEAD_BYTES_MAX: usize = 1 + 2 * OFFSET_BYTES_MAX + WORD_BYTES;
const OFFSET_BYTES_MAX: usize = 4;

/// Collects the entries of one block, given in order, and knows at any time how long the block would be.
#[derive(Debug, Default)]
pub(crate) struct BlockBuilder {
    keys: Vec<u8>,
    /// Where in `keys` the last one begins.
    last_key_at: usize,
    key_ends: Vec<usize>,
    values: Vec<u8>,
    value_ends: Vec<usize>,
    trailers: Vec<Trailer>,
    fingerprints: Vec<u8>,
    shape: Shape,
}

/// All that the length of a block depends on.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Shape {
    count: usize,
    prefix: usize,
    key_bytes: usize,
    value_bytes: usize,
    /// Lengths of the first key and value, and whether all are as long.
    key_len: usize,
    value_len: usize,
    even_keys: bool,
    even_values: bool,
    seq_min: u64,
    seq_max: u64,
    kind: u8,
    one_kind: bool,
}

impl Shape {
    #[inline]
    fn with(mut self, key_len: usize, value_len: usize, common: usize, trailer: Trailer) -> Self {
        let (seq, kind) = (trailer.seq().0, trailer.to_bits() as u8);
        if self.count == 0 {
            self = Self {
                prefix: common,
                key_len,
                value_len,
                even_keys: true,
                even_values: true,
                seq_min: seq,
                seq_max: seq,
                kind,
                one_kind: true,
                ..self
            };
        }
        Self {
            count: self.count + 1,
            prefix: self.prefix.min(common),
            key_bytes: self.key_bytes + key_len,
            value_bytes: self.value_bytes + value_len,
            even_keys: self.even_keys && key_len == self.key_len,
            even_values: self.even_values && value_len == self.value_len,
            seq_min: self.seq_min.min(seq),
            seq_max: self.seq_max.max(seq),
            one_kind: self.one_kind && kind == self.kind,
            ..self
        }
    }

    fn rest_bytes(&self) -> usize {
        self.key_bytes - self.count * self.prefix
    }

    fn key_width(&self) -> usize {
        offset_width(self.even_keys, self.rest_bytes())
    }

    fn value_width(&self) -> usize {
        offset_width(self.even_values, self.value_bytes)
    }

    fn trailer_width(&self) -> usize {
        let range = self.seq_max - self.seq_min;
        let largest = if self.one_kind { range } else { range << 8 | 0xff };
        (64 - largest.leading_zeros()).div_ceil(8) as usize
    }

    fn has_fingerprints(&self) -> bool {
        (2..=FINGERPRINTS_MAX).contains(&self.count)
    }

    /// Length of the block's payload.
    pub(crate) fn payload_bytes(&self) -> usize {
        let offsets = |width| if width == 0 { 0 } else { (self.count + 1) * width };
        HEADER_BYTES
            + self.prefix
            + if self.has_fingerprints() { self.count } else { 0 }
            + offsets(self.key_width())
            + offsets(self.value_width())
            + self.count * self.trailer_width()
            + self.rest_bytes()
            + self.value_bytes
    }
}

/// Bytes of one offset. Offsets beyond 32 bits do not happen: blocks of several entries are cut long before.
fn offset_width(even: bool, total: usize) -> usize {
    match total {
        _ if even => 0,
        0..=0xffff => 2,
        _ => 4,
    }
}

impl BlockBuilder {
    /// Number of entries.
    pub(crate) fn count(&self) -> usize {
        self.shape.count
    }

    /// Length of the block's payload, were it ended now.
    pub(crate) fn payload_bytes(&self) -> usize {
        self.shape.payload_bytes()
    }

    /// The user key added last; empty if there is none.
    pub(crate) fn last_user_key(&self) -> &[u8] {
        &self.keys[self.last_key_at..]
    }

    /// Whether the payload is no longer than `payload_bytes_max` with this entry added, whose user key shares its first `shared` bytes with
    /// the one before it.
    #[inline]
    pub(crate) fn has_room(
        &self,
        key: InternalKey<'_>,
        value_len: usize,
        shared: usize,
        payload_bytes_max: usize,
    ) -> bool {
        // Nearly always a bound says it, which takes less time than the length itself.
        self.payload_bytes_at_most(key.user_key.len() + value_len) <= payload_bytes_max
            || self.shape_with(key, value_len, shared).payload_bytes() <= payload_bytes_max
    }

    /// Not less than the length of the payload with one entry more, of a key and a value of so many bytes together.
    pub(crate) fn payload_bytes_at_most(&self, entry_bytes: usize) -> usize {
        let Shape { count, key_bytes, value_bytes, .. } = self.shape;
        let entries = (count + 1) * ENTRY_OVERHEAD_BYTES_MAX + key_bytes + value_bytes + entry_bytes;
        HEADER_BYTES + 2 * OFFSET_BYTES_MAX + entries
    }

    #[inline]
    fn shape_with(&self, key: InternalKey<'_>, value_len: usize, shared: usize) -> Shape {
        let len = key.user_key.len();
        // Keys ascend, and all so far begin with the common prefix: what the new one shares with the last, it shares with all.
        let common = if self.shape.count == 0 { len } else { shared };
        self.shape.with(len, value_len, common, key.trailer)
    }

    /// Adds an entry behind all others. `hash` is that of its user key, `shared` as for [`BlockBuilder::has_room`].
    #[inline]
    pub(crate) fn add(&mut self, key: InternalKey<'_>, hash: KeyHash, value: &[u8], shared: usize) {
        debug_assert!(self.shape.count == 0 || shared == common_prefix(self.last_user_key(), key.user_key));
        self.shape = self.shape_with(key, value.len(), shared);
        self.last_key_at = self.keys.len();
        self.keys.extend_from_slice(key.user_key);
        self.key_ends.push(self.keys.len());
        self.values.extend_from_slice(value);
        self.value_ends.push(self.values.len());
        self.trailers.push(key.trailer);
        self.fingerprints.push(hash.fingerprint());
    }

    /// Appends the block's payload to `out`, and starts anew.
    pub(crate) fn finish_into(&mut self, out: &mut Vec<u8>) {
        let shape = std::mem::take(&mut self.shape);
        let (key_width, value_width, trailer_width) = (shape.key_width(), shape.value_width(), shape.trailer_width());
        let flags = if shape.has_fingerprints() { FLAG_FINGERPRINTS } else { 0 }
            | if shape.one_kind { FLAG_ONE_KIND } else { 0 };
        let even = |even: bool, len: usize| if even { len } else { 0 };
        let start = out.len();
        out.reserve(shape.payload_bytes());
        out.extend_from_slice(&(shape.count as u32).to_le_bytes());
        out.extend_from_slice(&[flags, trailer_width as u8, key_width as u8, value_width as u8]);
        out.extend_from_slice(&(shape.prefix as u16).to_le_bytes());
        out.extend_from_slice(&(even(shape.even_keys, shape.key_len - shape.prefix) as u16).to_le_bytes());
        out.extend_from_slice(&(even(shape.even_values, shape.value_len) as u32).to_le_bytes());
        let base = shape.seq_min << 8 | if shape.one_kind { u64::from(shape.kind) } else { 0 };
        out.extend_from_slice(&base.to_le_bytes());
        out.extend_from_slice(&self.keys[..shape.prefix]);
        if shape.has_fingerprints() {
            out.extend_from_slice(&self.fingerprints);
        }
        let rest_ends = self.key_ends.iter().enumerate().map(|(i, end)| end - (i + 1) * shape.prefix);
        push_words(out, key_width, shape.count + 1, std::iter::once(0).chain(rest_ends).map(|end| end as u64));
        let value_ends = std::iter::once(0).chain(self.value_ends.iter().copied());
        push_words(out, value_width, shape.count + 1, value_ends.map(|end| end as u64));
        let shift = if shape.one_kind { 8 } else { 0 };
        let stored = self.trailers.iter().map(|trailer| (trailer.to_bits() - base) >> shift);
        push_words(out, trailer_width, shape.count, stored);
        self.push_rests(out, &shape);
        out.extend_from_slice(&self.values);
        debug_assert_eq!(out.len() - start, shape.payload_bytes());
        self.keys.clear();
        self.last_key_at = 0;
        self.key_ends.clear();
        self.values.clear();
        self.value_ends.clear();
        self.trailers.clear();
        self.fingerprints.clear();
    }

    /// Appends what each key has behind the common prefix.
    fn push_rests(&mut self, out: &mut Vec<u8>, shape: &Shape) {
        let mut to = out.len();
        let end = to + shape.rest_bytes();
        // Room for whole chunks behind the last key and rest; each chunk is stored over what is too much of the one before.
        self.keys.resize(self.keys.len() + SHORT_BYTES, 0);
        out.resize(end + SHORT_BYTES, 0);
        let mut key_start = 0;
        for &key_end in &self.key_ends {
            let rest = key_start + shape.prefix..key_end;
            let len = rest.len();
            if len <= SHORT_BYTES {
                out[to..to + SHORT_BYTES].copy_from_slice(&self.keys[rest.start..rest.start + SHORT_BYTES]);
            } else {
                out[to..to + len].copy_from_slice(&self.keys[rest]);
            }
            to += len;
            key_start = key_end;
        }
        out.truncate(end);
    }
}

/// Appends the low `width` bytes of each of `count` words.
fn push_words(out: &mut Vec<u8>, width: usize, count: usize, words: impl Iterator<Item = u64>) {
    if width == 0 {
        return;
    }
    let start = out.len();
    let end = start + count * width;
    // Whole words are stored, each over what is too much of the one before.
    out.resize(end + WORD_BYTES, 0);
    for (word, at) in words.zip((start..end).step_by(width)) {
        out[at..at + WORD_BYTES].copy_from_slice(&word.to_le_bytes());
    }
    out.truncate(end);
}
