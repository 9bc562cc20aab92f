//! Writes data blocks.

use super::{FLAG_FINGERPRINTS, FLAG_ONE_KIND, HEADER_BYTES};
use crate::hash::KeyHash;
use esker_format::{InternalKey, Trailer};

/// Scanning more fingerprints than these takes longer than a binary search.
const FINGERPRINTS_MAX: usize = 256;

/// Collects the entries of one block, given in order, and knows at any time how long the block would be.
#[derive(Debug, Default)]
pub(crate) struct BlockBuilder {
    keys: Vec<u8>,
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

    /// The block's shape with one entry more.
    pub(crate) fn shape_with(&self, key: InternalKey<'_>, value_len: usize) -> Shape {
        let len = key.user_key.len();
        let first = &self.keys[..self.shape.prefix];
        let common = if self.shape.count == 0 { len } else { common_prefix(first, key.user_key) };
        self.shape.with(len, value_len, common, key.trailer)
    }

    /// Adds an entry behind all others. `hash` is that of its user key, `shape` what [`BlockBuilder::shape_with`] said of the entry.
    pub(crate) fn add(&mut self, key: InternalKey<'_>, hash: KeyHash, value: &[u8], shape: Shape) {
        debug_assert_eq!(shape.count, self.shape.count + 1);
        self.shape = shape;
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
        push_offsets(out, key_width, rest_ends);
        push_offsets(out, value_width, self.value_ends.iter().copied());
        let shift = if shape.one_kind { 8 } else { 0 };
        for trailer in &self.trailers {
            let stored = (trailer.to_bits() - base) >> shift;
            out.extend_from_slice(&stored.to_le_bytes()[..trailer_width]);
        }
        let mut at = 0;
        for &end in &self.key_ends {
            out.extend_from_slice(&self.keys[at + shape.prefix..end]);
            at = end;
        }
        out.extend_from_slice(&self.values);
        debug_assert_eq!(out.len() - start, shape.payload_bytes());
        self.keys.clear();
        self.key_ends.clear();
        self.values.clear();
        self.value_ends.clear();
        self.trailers.clear();
        self.fingerprints.clear();
    }
}

fn push_offsets(out: &mut Vec<u8>, width: usize, ends: impl Iterator<Item = usize>) {
    if width > 0 {
        for offset in std::iter::once(0).chain(ends) {
            out.extend_from_slice(&(offset as u32).to_le_bytes()[..width]);
        }
    }
}

/// How many leading bytes `a` and `b` share.
pub(crate) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let words = a.chunks_exact(8).zip(b.chunks_exact(8));
    let same = words.take_while(|(a, b)| a == b).count() * 8;
    same + a[same..].iter().zip(&b[same..]).take_while(|(a, b)| a == b).count()
}
