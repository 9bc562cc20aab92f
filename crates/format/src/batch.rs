//! The write batch, which is also the payload of a log record (`docs/format/batch.md`).
//!
//! ```text
//! +-----------------+-----------+------+------+---
//! | first seq (u64) | count u32 | op 0 | op 1 | ...        op i has sequence number first + i
//! +-----------------+-----------+------+------+---
//!   op:  kind u8 | keyspace varint | key length varint | key [ | value length varint | value ]
//! ```
//! The key of a range tombstone is where it begins, its value where it ends; none: nowhere. Before the value of a put that expires stands the time at which it does.
//!
//! All operations of a batch become visible and durable together, in order: of two on one key the later wins.

use crate::decode::{DecodeError, Decoder};
use crate::key::{KeyspaceId, SeqNo, ValueKind};
use crate::{EXPIRY_BYTES, KEY_BYTES_MAX, VALUE_BYTES_MAX, varint};
use byteorder::{ByteOrder, LittleEndian};
use thiserror::Error;

const HEADER_BYTES: usize = 12;

/// Largest batch, in bytes as encoded.
pub const BATCH_BYTES_MAX: usize = u32::MAX as usize;

/// Why an operation can't be part of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The key is longer than [`KEY_BYTES_MAX`].
    #[error("key of {0} bytes: the longest is {KEY_BYTES_MAX}")]
    KeyTooLong(usize),
    /// The value is longer than [`VALUE_BYTES_MAX`].
    #[error("value of {0} bytes: the longest is {VALUE_BYTES_MAX}")]
    ValueTooLong(usize),
    /// The range to delete ends where it begins, or before.
    #[error("a range to delete that ends where it begins, or before")]
    EmptyRange,
    /// The whole batch would be longer than [`BATCH_BYTES_MAX`].
    #[error("batch of {0} bytes: the largest is {BATCH_BYTES_MAX}; write it in parts")]
    BatchTooLarge(usize),
}

/// Operations that are committed together.
///
/// An operation that is not allowed (a key or value too long) is not added; the first such error is kept and returned by
/// [`WriteBatch::check`], so that building a batch needs no error handling at every step.
///
/// ```
/// use esker_format::{BatchOp, KeyspaceId, WriteBatch};
/// let mut batch = WriteBatch::new();
/// batch.put(KeyspaceId::DEFAULT, b"a", b"1");
/// batch.delete(KeyspaceId::DEFAULT, b"b");
/// assert_eq!(batch.count(), 2);
/// ```
#[derive(Debug, Clone)]
pub struct WriteBatch {
    bytes: Vec<u8>,
    error: Option<BatchError>,
}

/// One operation of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchOp<'a> {
    /// What is done.
    pub kind: ValueKind,
    /// Where.
    pub keyspace: KeyspaceId,
    /// To which key; of a range tombstone, the first.
    pub key: &'a [u8],
    /// The value, or the merge operand; empty for a deletion. Of a put that expires, behind the time at which it does ([`crate::split_expiry`]). Of a range tombstone, where it ends: a key that is left alone, or nothing for no end.
    pub value: &'a [u8],
}

impl WriteBatch {
    /// A batch of no operations.
    pub fn new() -> Self {
        Self { bytes: vec![0; HEADER_BYTES], error: None }
    }

    /// Adds "set `key` to `value`".
    pub fn put(&mut self, keyspace: KeyspaceId, key: &[u8], value: &[u8]) -> &mut Self {
        self.push(ValueKind::Put, keyspace, key, Some([value]))
    }

    /// Adds "set `key` to `value`, until a time in milliseconds since 1970".
    pub fn put_expiring(&mut self, keyspace: KeyspaceId, key: &[u8], value: &[u8], expiry_ms: u64) -> &mut Self {
        self.push(ValueKind::Expiring, keyspace, key, Some([&expiry_ms.to_le_bytes(), value]))
    }

    /// Adds "merge `operand` into the value of `key`".
    pub fn merge(&mut self, keyspace: KeyspaceId, key: &[u8], operand: &[u8]) -> &mut Self {
        self.push(ValueKind::Merge, keyspace, key, Some([operand]))
    }

    /// Adds "remove `key`".
    pub fn delete(&mut self, keyspace: KeyspaceId, key: &[u8]) -> &mut Self {
        self.push::<0>(ValueKind::Delete, keyspace, key, None)
    }

    /// Adds "remove all keys from `begin` on, up to `end`, which stays".
    pub fn delete_range(&mut self, keyspace: KeyspaceId, begin: &[u8], end: &[u8]) -> &mut Self {
        let refused = if end.len() > KEY_BYTES_MAX {
            Some(BatchError::KeyTooLong(end.len()))
        } else if begin >= end {
            Some(BatchError::EmptyRange)
        } else {
            None
        };
        if let Some(error) = refused {
            self.error.get_or_insert(error);
            return self;
        }
        self.push(ValueKind::RangeDelete, keyspace, begin, Some([end]))
    }

    /// Adds "remove all keys from `begin` on".
    pub fn delete_from(&mut self, keyspace: KeyspaceId, begin: &[u8]) -> &mut Self {
        self.push(ValueKind::RangeDelete, keyspace, begin, Some([]))
    }

    /// Adds an operation; the value is given in parts.
    fn push<const N: usize>(
        &mut self,
        kind: ValueKind,
        keyspace: KeyspaceId,
        key: &[u8],
        value: Option<[&[u8]; N]>,
    ) -> &mut Self {
        let prefixed_len = |len: usize| varint::len(len as u64) + len;
        let value_len = value.map(|parts| parts.iter().map(|part| part.len()).sum::<usize>());
        let op_len =
            1 + varint::len(u64::from(keyspace.0)) + prefixed_len(key.len()) + value_len.map_or(0, prefixed_len);
        let after = self.bytes.len() + op_len;
        let refused = if key.len() > KEY_BYTES_MAX {
            Some(BatchError::KeyTooLong(key.len()))
        } else if value_len.is_some_and(|len| len > VALUE_BYTES_MAX) {
            Some(BatchError::ValueTooLong(value_len.unwrap_or(0)))
        } else if after > BATCH_BYTES_MAX {
            Some(BatchError::BatchTooLarge(after))
        } else {
            None
        };
        if let Some(error) = refused {
            self.error.get_or_insert(error);
            return self;
        }
        if keyspace.0 < 0x80 && key.len() < 0x80 {
            // A byte each, for nearly all there are.
            self.bytes.extend_from_slice(&[kind as u8, keyspace.0 as u8, key.len() as u8]);
        } else {
            self.bytes.push(kind as u8);
            varint::put(&mut self.bytes, u64::from(keyspace.0));
            varint::put(&mut self.bytes, key.len() as u64);
        }
        self.bytes.extend_from_slice(key);
        if let (Some(value), Some(len)) = (value, value_len) {
            varint::put(&mut self.bytes, len as u64);
            value.iter().for_each(|part| self.bytes.extend_from_slice(part));
        }
        let count = self.count() + 1;
        LittleEndian::write_u32(&mut self.bytes[8..], count);
        self
    }

    /// The first error of an operation that was not added.
    pub fn check(&self) -> Result<(), BatchError> {
        self.error.clone().map_or(Ok(()), Err)
    }

    /// How many operations there are.
    pub fn count(&self) -> u32 {
        LittleEndian::read_u32(&self.bytes[8..])
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Removes all operations, and the error, and keeps the buffer.
    pub fn clear(&mut self) {
        self.bytes.truncate(HEADER_BYTES);
        self.bytes.fill(0);
        self.error = None;
    }

    /// Sets each time at which something expires ([`put_expiring`](Self::put_expiring)) to what `time` makes of it: who knows the times late need not copy a batch for them.
    ///
    /// ```
    /// use esker_format::{KeyspaceId, WriteBatch, split_expiry};
    /// let mut batch = WriteBatch::new();
    /// batch.put(KeyspaceId::DEFAULT, b"a", b"1").put_expiring(KeyspaceId::DEFAULT, b"b", b"2", 5);
    /// batch.map_expiries(|ms| 1000 + ms);
    /// assert_eq!(split_expiry(batch.ops().nth(1).unwrap().value), Some((1005, &b"2"[..])));
    /// ```
    pub fn map_expiries(&mut self, mut time: impl FnMut(u64) -> u64) {
        let mut at = HEADER_BYTES;
        for _ in 0..self.count() {
            let mut ops = BatchOps { decoder: Decoder::new(&self.bytes[at..]), left: 1, done: false };
            let op = ops.next().and_then(Result::ok).expect("a batch decodes what it encoded");
            let (kind, value_bytes) = (op.kind, op.value.len());
            at += ops.decoder.offset();
            if kind == ValueKind::Expiring {
                let place = at - value_bytes;
                let expiry = &mut self.bytes[place..place + EXPIRY_BYTES];
                let given = LittleEndian::read_u64(expiry);
                LittleEndian::write_u64(expiry, time(given));
            }
        }
    }

    /// The encoded form, in which the sequence number is still zero: see [`with_first_seq`].
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The operations, in order.
    #[inline]
    pub fn ops(&self) -> impl Iterator<Item = BatchOp<'_>> {
        MadeOps { decoder: Decoder::new(&self.bytes[HEADER_BYTES..]), left: self.count() }
    }
}

/// The operations of a batch that was encoded here: nothing is wrong with it.
struct MadeOps<'a> {
    decoder: Decoder<'a>,
    left: u32,
}

impl<'a> Iterator for MadeOps<'a> {
    type Item = BatchOp<'a>;

    #[inline]
    fn next(&mut self) -> Option<BatchOp<'a>> {
        self.left = self.left.checked_sub(1)?;
        let put = short_put(&mut self.decoder);
        put.or_else(|| Some(long_op(&mut self.decoder).expect("a batch decodes what it encoded")))
    }
}

impl Default for WriteBatch {
    fn default() -> Self {
        Self::new()
    }
}

/// The two parts to log for `batch` when its first operation gets `seq`: a header, and the operations.
pub fn with_first_seq(batch: &[u8], seq: SeqNo) -> ([u8; HEADER_BYTES], &[u8]) {
    let (header, ops) = batch.split_at(HEADER_BYTES);
    let mut patched = [0; HEADER_BYTES];
    patched.copy_from_slice(header);
    LittleEndian::write_u64(&mut patched[..8], seq.0);
    (patched, ops)
}

/// Reads an encoded batch: the sequence number of its first operation, and the operations.
///
/// # Errors
/// The header is cut short, claims more operations than there are bytes, or gives one of them a sequence number above
/// [`SeqNo::MAX`]. The iterator returns an error, once, where an operation does not decode or where bytes are left over.
pub fn decode(bytes: &[u8]) -> Result<(SeqNo, BatchOps<'_>), DecodeError> {
    let mut decoder = Decoder::new(bytes);
    let first = decoder.u64("first sequence number")?;
    let count = decoder.u32("operation count")?;
    let last = first.checked_add(u64::from(count.saturating_sub(1)));
    if last.is_none_or(|last| last > SeqNo::MAX.0) {
        return Err(DecodeError::Invalid { what: "first sequence number", offset: 0, found: first });
    }
    if u64::from(count) > decoder.rest().len() as u64 {
        return Err(DecodeError::Invalid { what: "operation count", offset: 8, found: u64::from(count) });
    }
    Ok((SeqNo(first), BatchOps { decoder, left: count, done: false }))
}

/// The operations of an encoded batch, in order.
#[derive(Debug, Clone)]
pub struct BatchOps<'a> {
    decoder: Decoder<'a>,
    left: u32,
    done: bool,
}

impl<'a> BatchOps<'a> {
    /// How many operations are still to come, if all of them decode.
    pub fn count_left(&self) -> u32 {
        self.left
    }

    fn decode_next(&mut self) -> Result<Option<BatchOp<'a>>, DecodeError> {
        let decoder = &mut self.decoder;
        if self.left == 0 {
            return match decoder.rest() {
                [] => Ok(None),
                rest => Err(decoder.invalid("bytes behind the last operation", rest.len() as u64)),
            };
        }
        self.left -= 1;
        if let Some(put) = short_put(decoder) {
            return Ok(Some(put));
        }
        long_op(decoder).map(Some)
    }
}

/// A put as nearly all are, of a short key into one of the first keyspaces, as [`long_op`] would read it; of any other operation nothing is read.
#[inline(always)]
fn short_put<'a>(decoder: &mut Decoder<'a>) -> Option<BatchOp<'a>> {
    let [kind, keyspace, key_len, rest @ ..] = decoder.rest() else { return None };
    if *kind != ValueKind::Put as u8 || (*keyspace | *key_len) >= 0x80 {
        return None;
    }
    let (key, rest) = rest.split_at_checked(usize::from(*key_len))?;
    let (value_len, len_bytes) = varint::get(rest)?;
    let value = rest[len_bytes..].get(..usize::try_from(value_len).ok()?)?;
    decoder.bytes("put", (3 + key.len() + len_bytes + value.len()) as u64).ok()?;
    Some(BatchOp { kind: ValueKind::Put, keyspace: KeyspaceId(u32::from(*keyspace)), key, value })
}

/// An operation of any kind.
fn long_op<'a>(decoder: &mut Decoder<'a>) -> Result<BatchOp<'a>, DecodeError> {
    let offset = decoder.offset();
    let byte = decoder.u8("operation kind")?;
    // A reference to a blob file is made by a flush: nobody puts one.
    let known = ValueKind::from_byte(byte).filter(|kind| !matches!(kind, ValueKind::Blob | ValueKind::ExpiringBlob));
    let kind = known.ok_or(DecodeError::Unsupported { what: "operation kind", offset, found: u64::from(byte) })?;
    let keyspace = KeyspaceId(decoder.varint32("keyspace id")?);
    let offset = decoder.offset();
    let key = decoder.prefixed("key")?;
    if key.len() > KEY_BYTES_MAX {
        return Err(DecodeError::Invalid { what: "key length", offset, found: key.len() as u64 });
    }
    let value = match kind {
        ValueKind::Put => decoder.prefixed("value")?,
        ValueKind::Merge => decoder.prefixed("merge operand")?,
        ValueKind::RangeDelete => range_end(decoder, key)?,
        ValueKind::Expiring => expiring(decoder)?,
        ValueKind::Delete | ValueKind::Blob | ValueKind::ExpiringBlob => &[],
    };
    Ok(BatchOp { kind, keyspace, key, value })
}

/// A value behind the time at which it expires.
fn expiring<'a>(decoder: &mut Decoder<'a>) -> Result<&'a [u8], DecodeError> {
    let offset = decoder.offset();
    let stored = decoder.prefixed("value")?;
    if stored.len() < EXPIRY_BYTES {
        return Err(DecodeError::Invalid {
            what: "length of a value that expires",
            offset,
            found: stored.len() as u64,
        });
    }
    Ok(stored)
}

/// Where a range tombstone that begins at `begin` ends.
#[cold]
fn range_end<'a>(decoder: &mut Decoder<'a>, begin: &[u8]) -> Result<&'a [u8], DecodeError> {
    let offset = decoder.offset();
    let end = decoder.prefixed("end of a range tombstone")?;
    if end.len() > KEY_BYTES_MAX || !end.is_empty() && end <= begin {
        return Err(DecodeError::Invalid {
            what: "end of a range tombstone, of length",
            offset,
            found: end.len() as u64,
        });
    }
    Ok(end)
}

impl<'a> Iterator for BatchOps<'a> {
    type Item = Result<BatchOp<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let item = self.decode_next().transpose();
        self.done = !matches!(item, Some(Ok(_)));
        item
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Model = Vec<(u8, u32, Vec<u8>, Vec<u8>)>;

    /// The operation that a number stands for: with what kind and value it is read again, `None` if it is refused.
    fn add(batch: &mut WriteBatch, op: &(u8, u32, Vec<u8>, Vec<u8>)) -> Option<(ValueKind, Vec<u8>)> {
        let (kind, keyspace, key, value) = op;
        let keyspace = KeyspaceId(*keyspace);
        let (kind, value) = match kind % 6 {
            0 => (ValueKind::Delete, &[][..]),
            1 => (ValueKind::Put, &value[..]),
            2 => (ValueKind::RangeDelete, &value[..]),
            3 => {
                batch.put_expiring(keyspace, key, value, 77);
                return Some((ValueKind::Expiring, [&77u64.to_le_bytes()[..], value].concat()));
            }
            4 => (ValueKind::Merge, &value[..]),
            _ => (ValueKind::RangeDelete, &[][..]),
        };
        match kind {
            ValueKind::Delete => batch.delete(keyspace, key),
            ValueKind::Put => batch.put(keyspace, key, value),
            ValueKind::Merge => batch.merge(keyspace, key, value),
            _ if value.is_empty() => batch.delete_from(keyspace, key),
            _ => batch.delete_range(keyspace, key, value),
        };
        let is_empty = kind == ValueKind::RangeDelete && !value.is_empty() && *value <= **key;
        (!is_empty).then(|| (kind, value.to_vec()))
    }

    proptest! {
        #[test]
        fn round_trips(ops: Model, seq in 0u64..1 << 40) {
            let mut batch = WriteBatch::new();
            let added: Vec<_> = ops.iter().filter_map(|op| Some((op, add(&mut batch, op)?))).collect();
            prop_assert_eq!(batch.check().is_err(), added.len() < ops.len());
            let (header, body) = with_first_seq(batch.as_bytes(), SeqNo(seq));
            let logged = [&header[..], body].concat();
            let (first, read) = decode(&logged).unwrap();
            prop_assert_eq!(first, SeqNo(seq));
            let read: Vec<_> = read.map(Result::unwrap).collect();
            prop_assert_eq!(read.len(), added.len());
            for (op, ((_, keyspace, key, _), (kind, value))) in read.iter().zip(&added) {
                prop_assert_eq!(op, &BatchOp { kind: *kind, keyspace: KeyspaceId(*keyspace), key, value });
            }
            for cut in 0..logged.len() {
                prop_assert!(decode(&logged[..cut]).is_err() || decode(&logged[..cut]).unwrap().1.any(|op| op.is_err()));
            }
        }

        #[test]
        fn the_short_way_reads_what_the_long_one_does(
            kind in 0u8..4, keyspace in 0u8..=255, key_len in 0u8..=200, key: Vec<u8>, value_len: Option<u32>, value: Vec<u8>, cut in 0usize..40,
        ) {
            // Mostly a put; now and then the lengths are not those of what follows, or the end is cut off.
            let mut bytes = vec![if kind == 0 { 0 } else { ValueKind::Put as u8 }, keyspace];
            varint::put(&mut bytes, if key_len < 100 { key.len() as u64 } else { u64::from(key_len) });
            bytes.extend_from_slice(&key);
            varint::put(&mut bytes, value_len.map_or(value.len() as u64, u64::from));
            bytes.extend_from_slice(&value);
            bytes.truncate(bytes.len() - if cut < 4 { cut.min(bytes.len()) } else { 0 });
            let (mut short, mut long) = (Decoder::new(&bytes), Decoder::new(&bytes));
            if let Some(op) = short_put(&mut short) {
                prop_assert_eq!(Ok(op), long_op(&mut long));
                prop_assert_eq!(short.offset(), long.offset());
            } else {
                prop_assert_eq!(short.offset(), 0);
            }
        }

        #[test]
        fn any_bytes_end(bytes: Vec<u8>) {
            if let Ok((_, ops)) = decode(&bytes) {
                prop_assert!(ops.count() <= bytes.len() + 1);
            }
        }
    }

    #[test]
    fn a_bad_operation_is_kept_as_an_error_and_not_added() {
        let mut batch = WriteBatch::new();
        batch.put(KeyspaceId::DEFAULT, b"a", b"1").put(KeyspaceId::DEFAULT, &vec![0; KEY_BYTES_MAX + 1], b"");
        assert_eq!((batch.count(), batch.check()), (1, Err(BatchError::KeyTooLong(KEY_BYTES_MAX + 1))));
        batch.clear();
        assert_eq!((batch.count(), batch.check()), (0, Ok(())));
    }

    #[test]
    fn no_operation_gets_a_sequence_number_that_does_not_fit() {
        // An empty batch that starts one past the largest number was once let through.
        let last = |ops: usize, first: u64| {
            let mut batch = WriteBatch::new();
            for _ in 0..ops {
                batch.delete(KeyspaceId::DEFAULT, b"");
            }
            let mut bytes = batch.as_bytes().to_vec();
            LittleEndian::write_u64(&mut bytes[..8], first);
            decode(&bytes).map(|(seq, ops)| (seq, ops.count()))
        };
        assert_eq!(last(0, SeqNo::MAX.0), Ok((SeqNo::MAX, 0)));
        assert_eq!(last(2, SeqNo::MAX.0 - 1), Ok((SeqNo(SeqNo::MAX.0 - 1), 2)));
        for (ops, first) in [(0, SeqNo::MAX.0 + 1), (2, SeqNo::MAX.0), (1, u64::MAX), (2, u64::MAX)] {
            assert!(matches!(last(ops, first), Err(DecodeError::Invalid { offset: 0, .. })), "{ops} from {first}");
        }
    }

    #[test]
    fn ranges_that_hold_nothing_or_end_too_far_are_refused() {
        let longest = [0xff; KEY_BYTES_MAX];
        let refused = |begin: &[u8], end: &[u8]| {
            let mut batch = WriteBatch::new();
            batch.delete_range(KeyspaceId::DEFAULT, begin, end);
            (batch.count(), batch.check())
        };
        assert_eq!(refused(b"b", b"a"), (0, Err(BatchError::EmptyRange)));
        assert_eq!(refused(b"a", b"a"), (0, Err(BatchError::EmptyRange)));
        assert_eq!(refused(b"", b""), (0, Err(BatchError::EmptyRange)), "no end is not meant by an empty key");
        assert_eq!(refused(b"", &[0; KEY_BYTES_MAX + 1]), (0, Err(BatchError::KeyTooLong(KEY_BYTES_MAX + 1))));
        assert_eq!(refused(&[0; KEY_BYTES_MAX + 1], b"b"), (0, Err(BatchError::KeyTooLong(KEY_BYTES_MAX + 1))));
        assert_eq!(refused(b"", &longest), (1, Ok(())));

        // From disk: an end at or before the begin, and one that is longer than a key.
        let mut good = WriteBatch::new();
        good.delete_range(KeyspaceId::DEFAULT, b"a", b"b");
        let mut bytes = good.as_bytes().to_vec();
        *bytes.last_mut().unwrap() = b'a';
        let read = |bytes: &[u8]| decode(bytes).unwrap().1.next().unwrap().map(drop);
        assert!(matches!(read(&bytes), Err(DecodeError::Invalid { offset: 16, found: 1, .. })));
        bytes.truncate(16);
        varint::put(&mut bytes, KEY_BYTES_MAX as u64 + 1);
        bytes.extend_from_slice(&[0xff; KEY_BYTES_MAX + 1]);
        assert!(matches!(read(&bytes), Err(DecodeError::Invalid { offset: 16, found: 65_536, .. })));
    }

    #[test]
    fn a_value_that_expires_has_the_time_before_it() {
        let mut batch = WriteBatch::new();
        batch.put_expiring(KeyspaceId::DEFAULT, b"a", b"", 9);
        let op = batch.ops().next().unwrap();
        assert_eq!(crate::split_expiry(op.value), Some((9, &b""[..])));
        // From disk: seven bytes.
        let mut bytes = batch.as_bytes().to_vec();
        let at = bytes.len() - EXPIRY_BYTES - 1;
        bytes[at] -= 1;
        bytes.pop();
        let read = decode(&bytes).unwrap().1.next().unwrap();
        assert!(matches!(read, Err(DecodeError::Invalid { found: 7, .. })), "{read:?}");
        // The time counts in the length.
        let mut batch = WriteBatch::new();
        batch.put_expiring(KeyspaceId::DEFAULT, &vec![0; KEY_BYTES_MAX + 1], b"", 9);
        assert_eq!(batch.check(), Err(BatchError::KeyTooLong(KEY_BYTES_MAX + 1)));
    }

    #[test]
    fn times_are_set_in_place_and_nothing_else_is() {
        let id = KeyspaceId(300);
        let fill = |times: [u64; 2]| {
            let mut batch = WriteBatch::new();
            batch.put(id, b"a", &[9; 200]).put_expiring(id, b"b", b"", times[0]).delete(id, b"c");
            batch
                .delete_range(id, b"d", b"e")
                .merge(id, b"f", &[1; 8])
                .put_expiring(id, &[7; 300], &[8; 300], times[1]);
            batch
        };
        let mut batch = fill([3, u64::MAX]);
        let mut seen = Vec::new();
        batch.map_expiries(|time| {
            seen.push(time);
            time / 2
        });
        assert_eq!(seen, [3, u64::MAX]);
        assert_eq!(batch.as_bytes(), fill([1, u64::MAX / 2]).as_bytes());
        WriteBatch::new().map_expiries(|_| unreachable!("there is none"));
    }

    #[test]
    fn kinds_to_come_are_refused_by_name() {
        let mut batch = WriteBatch::new();
        batch.put(KeyspaceId::DEFAULT, b"a", b"1");
        for kind in 5..=255 {
            // 5 and 7 too: a value in a blob file is never put there by a batch.
            let mut bytes = batch.as_bytes().to_vec();
            bytes[HEADER_BYTES] = kind;
            let error = decode(&bytes).unwrap().1.next().unwrap().unwrap_err();
            assert!(error.is_unsupported(), "{kind}: {error}");
        }
    }
}
