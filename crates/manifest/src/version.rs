//! Versions: which tables make up each keyspace, and how far the counters are.

use crate::edit::{CleanClose, VersionEdit};
use crate::table::{BlobMeta, BlobState, IngestMeta, LEVELS, Level, TableMeta};
use crate::{Lsn, ManifestError};
use esker_format::{FileNo, KeyspaceId, SeqNo};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The name of [`KeyspaceId::DEFAULT`].
pub const DEFAULT_KEYSPACE: &str = "default";

/// One keyspace within a [`Version`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyspaceVersion {
    /// Its id, never used again.
    pub id: KeyspaceId,
    /// Its name, which a later keyspace may bear once this one is dropped.
    pub name: Arc<str>,
    /// Its settings, as text that only the engine reads.
    pub options: String,
    /// Operations of this keyspace at or below are in tables; recovery replays only those above.
    pub flushed_seq: SeqNo,
    /// Level 0 newest first (by largest sequence number, then by number); each other level by smallest key, no user key in two tables.
    pub levels: [Vec<Arc<TableMeta>>; LEVELS],
    /// The blob files that the tables refer to; each is referred to by at least one.
    pub blobs: BTreeMap<FileNo, BlobState>,
}

impl KeyspaceVersion {
    /// A keyspace without tables.
    pub fn new(id: KeyspaceId, name: &str, options: &str) -> Self {
        Self {
            id,
            name: name.into(),
            options: options.into(),
            flushed_seq: SeqNo::ZERO,
            levels: std::array::from_fn(|_| Vec::new()),
            blobs: BTreeMap::new(),
        }
    }

    /// The tables of one level.
    ///
    /// # Panics
    /// If there is no such level.
    pub fn level(&self, level: Level) -> &[Arc<TableMeta>] {
        &self.levels[level.index()]
    }

    /// The length of all tables of one level.
    ///
    /// # Panics
    /// If there is no such level.
    pub fn level_bytes(&self, level: Level) -> u64 {
        self.level(level).iter().fold(0, |sum, table| sum.saturating_add(table.file_bytes))
    }

    /// Every table with its level, from the top down.
    pub fn tables(&self) -> impl Iterator<Item = (Level, &Arc<TableMeta>)> {
        Level::all().flat_map(|level| self.level(level).iter().map(move |table| (level, table)))
    }
}

/// The state of an engine's files at one moment. Never changes: an edit makes the next one. Cheap to clone: keyspaces are shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The keyspaces, `default` always among them.
    pub keyspaces: BTreeMap<KeyspaceId, Arc<KeyspaceVersion>>,
    /// Logs below this number hold nothing that is needed.
    pub oldest_log: FileNo,
    /// Where the oldest log begins, if that was told.
    pub log_start: Option<Lsn>,
    /// How far the logs were known to be on stable storage.
    pub log_durable: Lsn,
    /// No sequence number above this one has been given out: how far they are reserved.
    pub last_seq: SeqNo,
    /// No file number from this one on has been given out: how far they are reserved. Manifests begun after a crash are the exception,
    /// see [`crate::VersionSet::recover`].
    pub next_file: FileNo,
    /// No keyspace id from this one on has been given out.
    pub next_keyspace: KeyspaceId,
    /// The highest time seen, in milliseconds since 1970.
    pub clock_ms: u64,
    /// Bytes written to logs and tables since the engine was created, as far as they were counted.
    pub written_bytes: u64,
    /// The feed of changes tells of nothing at or below this sequence number.
    pub changes_from: SeqNo,
    /// No log below this number is part of the feed.
    pub changes_log: FileNo,
    /// The ingests that it still tells of, by ascending sequence number, all of them above `changes_from`.
    pub ingests: Arc<Vec<IngestMeta>>,
    /// Whether the last edit closed the engine: then `last_seq` and `next_file` are exact. Any later edit clears it.
    pub clean_close: bool,
}

impl Version {
    /// What a new engine starts from: the keyspace `default`, and no file number given out.
    pub fn new() -> Self {
        Self::with_default("")
    }

    /// As [`Self::new`], with the options of the keyspace `default`.
    pub fn with_default(options: &str) -> Self {
        let default = KeyspaceVersion::new(KeyspaceId::DEFAULT, DEFAULT_KEYSPACE, options);
        Self {
            keyspaces: BTreeMap::from([(KeyspaceId::DEFAULT, Arc::new(default))]),
            next_keyspace: KeyspaceId(1),
            ..Self::nothing()
        }
    }

    /// What a snapshot edit is applied to: not even the keyspace `default`.
    pub(crate) fn nothing() -> Self {
        Self {
            keyspaces: BTreeMap::new(),
            oldest_log: FileNo(0),
            log_start: None,
            log_durable: Lsn(0),
            last_seq: SeqNo::ZERO,
            next_file: FileNo(1),
            next_keyspace: KeyspaceId::DEFAULT,
            clock_ms: 0,
            written_bytes: 0,
            changes_from: SeqNo::ZERO,
            changes_log: FileNo(0),
            ingests: Arc::default(),
            clean_close: false,
        }
    }

    /// The keyspace of that name.
    pub fn keyspace_named(&self, name: &str) -> Option<&Arc<KeyspaceVersion>> {
        self.keyspaces.values().find(|keyspace| &*keyspace.name == name)
    }

    /// Every table with its keyspace and level.
    pub fn tables(&self) -> impl Iterator<Item = (KeyspaceId, Level, &Arc<TableMeta>)> {
        self.keyspaces.values().flat_map(|keyspace| keyspace.tables().map(|(level, table)| (keyspace.id, level, table)))
    }

    /// Every blob file with its keyspace.
    pub fn blobs(&self) -> impl Iterator<Item = (KeyspaceId, &BlobState)> {
        self.keyspaces.values().flat_map(|keyspace| keyspace.blobs.values().map(|blob| (keyspace.id, blob)))
    }

    /// The version that `edit` makes of this one.
    ///
    /// # Errors
    /// [`ManifestError::Edit`] if the edit does not fit: see [`crate::EditError`]. Any edit, however made, is either refused or makes a version
    /// that [`Version::check`] accepts.
    pub fn apply(&self, edit: &VersionEdit) -> Result<Self, ManifestError> {
        Ok(crate::apply::apply(self, edit)?)
    }

    /// Checks every invariant.
    ///
    /// # Errors
    /// [`ManifestError::Edit`], which tells what does not hold.
    pub fn check(&self) -> Result<(), ManifestError> {
        Ok(crate::apply::check(self)?)
    }

    /// This version as one edit, which makes it from nothing. A manifest starts with one.
    pub fn snapshot(&self) -> VersionEdit {
        VersionEdit {
            snapshot: true,
            reserve_seq: Some(self.last_seq),
            reserve_file: Some(self.next_file),
            oldest_log: Some(self.oldest_log),
            log_start: self.log_start,
            log_durable: Some(self.log_durable),
            clock_ms: Some(self.clock_ms),
            written_bytes: Some(self.written_bytes),
            next_keyspace: Some(self.next_keyspace),
            create_keyspaces: self.keyspaces.values().map(|k| (k.id, k.name.to_string(), k.options.clone())).collect(),
            drop_keyspaces: Vec::new(),
            flushed: self.keyspaces.values().map(|k| (k.id, k.flushed_seq)).collect(),
            add: self.tables().map(|(keyspace, level, table)| (keyspace, level, TableMeta::clone(table))).collect(),
            add_blobs: self.blobs().map(|(keyspace, blob)| (keyspace, BlobMeta::clone(&blob.meta))).collect(),
            remove: Vec::new(),
            ingests: self.ingests.to_vec(),
            // Said only where it says something: builds from before don't know it.
            changes_from: (self.changes_from > SeqNo::ZERO).then_some((self.changes_from, self.changes_log)),
            clean: self.clean_close.then_some(CleanClose { last_seq: self.last_seq, next_file: self.next_file }),
        }
    }
}

impl Default for Version {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Version {
    /// As the edit that makes it from nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}
