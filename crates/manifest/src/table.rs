//! What a version knows about one table.

use esker_format::{Expiries, FileId, FileNo, InternalKeyBuf, KeyspaceId, SeqNo};
use std::fmt;
use std::sync::Arc;

/// How many levels a keyspace has.
pub const LEVELS: usize = 7;

/// A level's number: 0, where tables may overlap, to [`LEVELS`] - 1, the bottom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Level(pub u8);

impl Level {
    /// Where flushes put their tables.
    pub const ZERO: Self = Self(0);
    /// The lowest one.
    pub const BOTTOM: Self = Self(LEVELS as u8 - 1);

    /// Every level, from the top down.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> {
        (0..LEVELS as u8).map(Self)
    }

    /// The number, as an index.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "L{}", self.0)
    }
}

/// One table, as the manifest describes it: enough to search by key, to pick compactions, and to know the right file when it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableMeta {
    /// Its file is `NNNNNN.sst`.
    pub number: FileNo,
    /// The random id that its checksums cover.
    pub file_id: FileId,
    /// The file's length.
    pub file_bytes: u64,
    /// No entry and no key covered by a range tombstone lies before this: the first entry, or of kind [`ValueKind::RangeDelete`](esker_format::ValueKind::RangeDelete).
    pub smallest: InternalKeyBuf,
    /// As `smallest`, behind this.
    pub largest: InternalKeyBuf,
    /// The least sequence number of any entry or range tombstone.
    pub smallest_seq: SeqNo,
    /// The greatest sequence number of any entry or range tombstone.
    pub largest_seq: SeqNo,
    /// How many entries there are, at least 1 if there are no range tombstones.
    pub entries: u64,
    /// How many of them are tombstones.
    pub deletions: u64,
    /// When the table was written, in milliseconds since 1970.
    pub created_unix_ms: u64,
    /// The blob files that its entries refer to, ascending.
    pub blobs: Vec<BlobUse>,
    /// Its range tombstones, if it has any.
    pub ranges: Option<RangeUse>,
    /// The sequence number of every entry, if the file itself does not know it: it was built outside an engine.
    pub table_seq: Option<SeqNo>,
    /// When its entries expire, if any does.
    pub expiries: Option<Expiries>,
}

/// What the manifest knows of a table's range tombstones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeUse {
    /// How many there are, at least 1.
    pub count: u64,
    /// Where the first begins.
    pub begin: Box<[u8]>,
    /// Where the last ends: behind `begin`.
    pub end: Box<[u8]>,
}

/// Tables that were ingested together, as the feed of changes tells of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestMeta {
    /// Where. It may have been dropped since.
    pub keyspace: KeyspaceId,
    /// The sequence number of all of it.
    pub seq: SeqNo,
    /// How many tables, at least 1.
    pub tables: u64,
    /// How many entries in them.
    pub entries: u64,
    /// The least key.
    pub smallest: Box<[u8]>,
    /// The greatest key.
    pub largest: Box<[u8]>,
}

/// How much of one blob file a table refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobUse {
    /// The file `NNNNNN.blob`.
    pub file: FileNo,
    /// How many of its records.
    pub records: u64,
    /// What these take in the file, in bytes.
    pub bytes: u64,
}

/// One blob file, as the manifest describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobMeta {
    /// Its file is `NNNNNN.blob`.
    pub number: FileNo,
    /// The random id that its checksums cover.
    pub file_id: FileId,
    /// The file's length.
    pub file_bytes: u64,
    /// How many records it has, at least 1.
    pub records: u64,
    /// What all of them take, in bytes.
    pub record_bytes: u64,
}

/// A blob file within a version: what of it is still needed follows from the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobState {
    /// The file.
    pub meta: Arc<BlobMeta>,
    /// How many records some table refers to, at least 1.
    pub live_records: u64,
    /// What these take, in bytes.
    pub live_bytes: u64,
}

impl BlobState {
    /// What no table refers to any more, in bytes.
    pub fn garbage_bytes(&self) -> u64 {
        self.meta.record_bytes - self.live_bytes
    }
}

impl TableMeta {
    /// Whether the user-key range of this table and that of `other` have a key in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.smallest.user_key <= other.largest.user_key && other.smallest.user_key <= self.largest.user_key
    }
}
