//! Sequence numbers, value kinds, and internal keys (`docs/format/keys.md`).
//!
//! A version of a user key is named by its *trailer*: sequence number and kind in one `u64`.
//!
//! ```text
//!  63                            8 7      0
//! +-------------------------------+--------+
//! | sequence number (56 bits)     | kind   |   stored little endian
//! +-------------------------------+--------+
//! ```
//! Internal keys sort by user key ascending (bytewise), then by trailer descending: the newest version comes first, and a
//! search for `(key, Trailer::seek(s))` lands on the newest version that sequence number `s` can see.

use crate::decode::DecodeError;
use std::cmp::Ordering;
use std::fmt;

/// A sequence number: each operation ever committed has its own, in commit order. 0 is before all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SeqNo(pub u64);

impl SeqNo {
    /// Before every operation.
    pub const ZERO: Self = Self(0);
    /// The largest one: 2^56 - 1.
    pub const MAX: Self = Self((1 << 56) - 1);

    /// The one after.
    ///
    /// # Panics
    /// At [`SeqNo::MAX`]; a million writes a second reach it after 2,283 years.
    #[must_use]
    pub fn next(self) -> Self {
        assert!(self < Self::MAX, "sequence numbers are used up");
        Self(self.0 + 1)
    }
}

impl fmt::Display for SeqNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A keyspace's number, never used again once given out. `default` is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct KeyspaceId(pub u32);

impl KeyspaceId {
    /// The keyspace `default`, which always exists.
    pub const DEFAULT: Self = Self(0);
}

impl fmt::Display for KeyspaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an operation does to its key. The numbers are on disk and never change meaning.
///
/// Reserved, and refused as `Unsupported` by this version: 6 merge operand with expiry time. 255 is never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ValueKind {
    /// A tombstone: the key is gone. The value is empty.
    Delete = 0,
    /// The key has this value.
    Put = 1,
    /// A merge operand: what an operator is to do to the value that the key has below it.
    Merge = 2,
    /// A range tombstone: the keys from this one on are gone, up to the one that the value gives, which stays; with an empty value, all of them. Never an entry of
    /// a table, which has a place of its own for it.
    RangeDelete = 3,
    /// The key has a value until a time, which stands before it: see [`crate::expiry`].
    Expiring = 4,
    /// The key has a value that lies in a blob file; what is stored is a reference to it. In tables alone.
    Blob = 5,
    /// As `Blob`, until a time that stands before the reference.
    ExpiringBlob = 7,
}

impl ValueKind {
    /// Reads the byte that is stored for a kind; `None` if it is not known to this version.
    #[inline]
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Delete),
            1 => Some(Self::Put),
            2 => Some(Self::Merge),
            3 => Some(Self::RangeDelete),
            4 => Some(Self::Expiring),
            5 => Some(Self::Blob),
            7 => Some(Self::ExpiringBlob),
            _ => None,
        }
    }

    /// Whether the key has a value, wherever that lies, and at whatever time. One that is still to be made of merge operands counts not.
    #[inline]
    pub fn is_value(self) -> bool {
        matches!(self, Self::Put | Self::Blob)
    }

    /// Whether the key has a value until a time.
    #[inline]
    pub fn expires(self) -> bool {
        matches!(self, Self::Expiring | Self::ExpiringBlob)
    }
}

/// Sequence number and kind of a version, in one number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Trailer(u64);

impl Trailer {
    /// The largest one: sorts before every version of its user key.
    pub const MAX: Self = Self(u64::MAX);
    /// The smallest one: sorts behind every version of its user key.
    pub const MIN: Self = Self(0);

    /// Packs a version's name.
    #[inline]
    pub fn new(seq: SeqNo, kind: ValueKind) -> Self {
        debug_assert!(seq <= SeqNo::MAX);
        Self(seq.0 << 8 | kind as u64)
    }

    /// The trailer to search with for the newest version at or below `seq`.
    #[inline]
    pub fn seek(seq: SeqNo) -> Self {
        Self(seq.0 << 8 | 0xff)
    }

    /// As stored, little endian.
    #[inline]
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// As read from disk; [`Trailer::try_kind`] tells whether the kind is known.
    #[inline]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The sequence number.
    #[inline]
    pub fn seq(self) -> SeqNo {
        SeqNo(self.0 >> 8)
    }

    /// The kind.
    ///
    /// # Panics
    /// If the kind is not known, which readers of disk bytes rule out first by [`Trailer::try_kind`].
    #[inline]
    pub fn kind(self) -> ValueKind {
        ValueKind::from_byte(self.0 as u8).expect("a decoder checked the kind")
    }

    /// Whether the kind is this one; of one that is not known, no.
    #[inline]
    pub fn is(self, kind: ValueKind) -> bool {
        self.0 as u8 == kind as u8
    }

    /// As [`ValueKind::is_value`] of the kind, which is not decoded for it; of one that is not known, no.
    #[inline]
    pub fn is_value(self) -> bool {
        self.is(ValueKind::Put) || self.is(ValueKind::Blob)
    }

    /// The kind, or an error that names the byte.
    #[inline]
    pub fn try_kind(self, offset: usize) -> Result<ValueKind, DecodeError> {
        let byte = self.0 as u8;
        ValueKind::from_byte(byte).ok_or(DecodeError::Unsupported {
            what: "value kind",
            offset,
            found: u64::from(byte),
        })
    }
}

impl fmt::Debug for Trailer {
    /// `9,PUT`, or `9,?7` for a kind that is not known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ValueKind::from_byte(self.0 as u8) {
            Some(ValueKind::Put) => write!(f, "{},PUT", self.seq()),
            Some(ValueKind::Delete) => write!(f, "{},DEL", self.seq()),
            Some(ValueKind::Merge) => write!(f, "{},MERGE", self.seq()),
            Some(ValueKind::RangeDelete) => write!(f, "{},RANGEDEL", self.seq()),
            Some(ValueKind::Expiring) => write!(f, "{},EXP", self.seq()),
            Some(ValueKind::Blob) => write!(f, "{},BLOB", self.seq()),
            Some(ValueKind::ExpiringBlob) => write!(f, "{},EXPBLOB", self.seq()),
            None => write!(f, "{},?{}", self.seq(), self.0 as u8),
        }
    }
}

/// A version's full name: user key and trailer. Prints as `a#9,PUT`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct InternalKey<'a> {
    /// The key as the user gave it.
    pub user_key: &'a [u8],
    /// Sequence number and kind.
    pub trailer: Trailer,
}

impl<'a> InternalKey<'a> {
    /// Names one version.
    #[inline]
    pub fn new(user_key: &'a [u8], seq: SeqNo, kind: ValueKind) -> Self {
        Self { user_key, trailer: Trailer::new(seq, kind) }
    }

    /// The key to search with for the newest version of `user_key` at or below `seq`.
    #[inline]
    pub fn seek(user_key: &'a [u8], seq: SeqNo) -> Self {
        Self { user_key, trailer: Trailer::seek(seq) }
    }

    /// Sorts before every version of `user_key`.
    #[inline]
    pub fn before_all(user_key: &'a [u8]) -> Self {
        Self { user_key, trailer: Trailer::MAX }
    }

    /// Sorts behind every version of `user_key`.
    #[inline]
    pub fn behind_all(user_key: &'a [u8]) -> Self {
        Self { user_key, trailer: Trailer::MIN }
    }

    /// A copy that owns its user key.
    pub fn to_buf(self) -> InternalKeyBuf {
        InternalKeyBuf { user_key: self.user_key.into(), trailer: self.trailer }
    }
}

impl Ord for InternalKey<'_> {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        self.user_key.cmp(other.user_key).then_with(|| other.trailer.cmp(&self.trailer))
    }
}

impl PartialOrd for InternalKey<'_> {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for InternalKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{:?}", self.user_key.escape_ascii(), self.trailer)
    }
}

/// An [`InternalKey`] that owns its user key; same order.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct InternalKeyBuf {
    /// The key as the user gave it.
    pub user_key: Box<[u8]>,
    /// Sequence number and kind.
    pub trailer: Trailer,
}

impl InternalKeyBuf {
    /// The borrowed form.
    #[inline]
    pub fn as_ref(&self) -> InternalKey<'_> {
        InternalKey { user_key: &self.user_key, trailer: self.trailer }
    }
}

impl Ord for InternalKeyBuf {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_ref().cmp(&other.as_ref())
    }
}

impl PartialOrd for InternalKeyBuf {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for InternalKeyBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_lands_on_the_newest_visible_version() {
        let versions = [
            InternalKey::new(b"a", SeqNo(4), ValueKind::Put),
            InternalKey::new(b"b", SeqNo(9), ValueKind::Put),
            InternalKey::new(b"b", SeqNo(7), ValueKind::Delete),
            InternalKey::new(b"b", SeqNo(2), ValueKind::Put),
            InternalKey::new(b"ba", SeqNo(1), ValueKind::Put),
        ];
        assert!(versions.is_sorted());
        let seek = |seq| versions.partition_point(|v| *v < InternalKey::seek(b"b", SeqNo(seq)));
        assert_eq!([seek(10), seek(9), seek(8), seek(7), seek(2), seek(1)], [1, 1, 2, 2, 3, 4]);
    }

    #[test]
    fn reads_as_in_the_notes() {
        let key = InternalKey::new(b"a\t", SeqNo(9), ValueKind::Delete);
        assert_eq!(format!("{key:?}"), "a\\t#9,DEL");
        assert!(Trailer::from_bits(0x0906).try_kind(3).unwrap_err().is_unsupported());
    }
}
