//! [`Change`]: what the feed of changes tells.

use crate::core::KeyspaceCore;
use crate::expiry;
use esker_format::{KeyspaceId, SeqNo, ValueKind, batch, split_expiry};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// One change: a batch, or tables that were ingested.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Operations that were committed together: a batch, a transaction, a single write.
    Batch(ChangedBatch),
    /// Tables that were ingested, or written by a bulk load. What is in them is not told: read the range.
    Ingest(IngestedChange),
}

impl Change {
    /// The last sequence number of it: what to call [`crate::Engine::changes_since`] with when it has been dealt with.
    pub fn seq(&self) -> u64 {
        match self {
            Self::Batch(batch) => batch.last_seq(),
            Self::Ingest(ingest) => ingest.seq,
        }
    }
}

/// The keyspaces whose names are known.
pub(crate) type Names = Arc<BTreeMap<KeyspaceId, Named>>;

/// What the feed knows of a keyspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) name: Arc<str>,
    /// Whether a plain put in it expires.
    pub(crate) has_ttl: bool,
}

impl Named {
    pub(crate) fn of(keyspace: &KeyspaceCore) -> Self {
        Self { name: Arc::clone(&keyspace.name), has_ttl: keyspace.ttl_ms.is_some() }
    }
}

/// Operations that were committed together.
#[derive(Clone, PartialEq, Eq)]
pub struct ChangedBatch {
    pub(crate) first: SeqNo,
    pub(crate) last: SeqNo,
    /// As logged; it was decoded once, so that it decodes again.
    pub(crate) encoded: Box<[u8]>,
    pub(crate) names: Names,
}

impl ChangedBatch {
    /// The sequence number of the first operation; each has one of its own.
    pub fn first_seq(&self) -> u64 {
        self.first.0
    }

    /// That of the last one.
    pub fn last_seq(&self) -> u64 {
        self.last.0
    }

    /// The operations, in order: of two on one key the later one counts.
    pub fn operations(&self) -> impl Iterator<Item = Operation<'_>> {
        let ops = batch::decode(&self.encoded).map(|(_, ops)| ops).into_iter().flatten().filter_map(|op| op.ok());
        ops.filter_map(|op| {
            let named = self.names.get(&op.keyspace);
            let keyspace = ChangedKeyspace { id: op.keyspace, name: named.map(|named| &*named.name) };
            match op.kind {
                ValueKind::Put if named.is_some_and(|named| named.has_ttl) => {
                    Some(Operation::PutForever { keyspace, key: op.key, value: op.value })
                }
                ValueKind::Put => Some(Operation::Put { keyspace, key: op.key, value: op.value }),
                ValueKind::Expiring => {
                    let (expiry_ms, value) = split_expiry(op.value)?;
                    Some(Operation::PutExpiring { keyspace, key: op.key, value, expires: expiry::at(expiry_ms) })
                }
                ValueKind::Merge => Some(Operation::Merge { keyspace, key: op.key, operand: op.value }),
                ValueKind::Delete => Some(Operation::Delete { keyspace, key: op.key }),
                ValueKind::RangeDelete => {
                    let end = (!op.value.is_empty()).then_some(op.value);
                    Some(Operation::DeleteRange { keyspace, begin: op.key, end })
                }
                // It stands in no batch.
                ValueKind::Blob | ValueKind::ExpiringBlob => None,
            }
        })
    }
}

impl fmt::Debug for ChangedBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChangedBatch({}..={}: ", self.first, self.last)?;
        f.debug_list().entries(self.operations()).finish()?;
        f.write_str(")")
    }
}

/// Tables that were ingested.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IngestedChange {
    /// The sequence number of all of it.
    pub seq: u64,
    /// Where.
    pub keyspace: KeyspaceId,
    /// The keyspace's name, unless it was dropped before the engine was opened.
    pub keyspace_name: Option<String>,
    /// How many tables.
    pub tables: u64,
    /// How many keys they put or delete.
    pub entries: u64,
    /// The least of these keys.
    pub smallest: Vec<u8>,
    /// The greatest.
    pub largest: Vec<u8>,
}

/// A keyspace that was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangedKeyspace<'a> {
    /// Its number, never used again.
    pub id: KeyspaceId,
    /// Its name, unless it was dropped before the engine was opened.
    pub name: Option<&'a str>,
}

/// One operation of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation<'a> {
    /// `key` was set to `value`, in a keyspace where nothing expires of itself.
    Put {
        /// Where.
        keyspace: ChangedKeyspace<'a>,
        /// The key.
        key: &'a [u8],
        /// The value.
        value: &'a [u8],
    },
    /// `key` was set to `value`, until a time.
    PutExpiring {
        /// Where.
        keyspace: ChangedKeyspace<'a>,
        /// The key.
        key: &'a [u8],
        /// The value.
        value: &'a [u8],
        /// When it expires, which may have been: see [`WriteBatch::put_until`](crate::WriteBatch::put_until).
        expires: SystemTime,
    },
    /// `key` was set to `value`, for ever, in a keyspace with a time to live: applied as a plain put to one like it, it would expire. See [`WriteBatch::put_forever`](crate::WriteBatch::put_forever).
    PutForever {
        /// Where.
        keyspace: ChangedKeyspace<'a>,
        /// The key.
        key: &'a [u8],
        /// The value.
        value: &'a [u8],
    },
    /// `operand` was merged into the value of `key`.
    Merge {
        /// Where.
        keyspace: ChangedKeyspace<'a>,
        /// The key.
        key: &'a [u8],
        /// The operand.
        operand: &'a [u8],
    },
    /// `key` was removed, if it was there.
    Delete {
        /// Where.
        keyspace: ChangedKeyspace<'a>,
        /// The key.
        key: &'a [u8],
    },
    /// All keys from `begin` on, up to `end`, were removed.
    DeleteRange {
        /// Where.
        keyspace: ChangedKeyspace<'a>,
        /// The first.
        begin: &'a [u8],
        /// The first one behind that stays; `None`: all.
        end: Option<&'a [u8]>,
    },
}
