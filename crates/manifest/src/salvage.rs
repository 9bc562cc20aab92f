//! [`salvage`]: what can be learned from the manifests of a directory that does not open.
//!
//! An edit is a record with a checksum of its own, so those behind a damaged one can be found and read, though no version follows from them. What they say of a table or keyspace is true
//! all the same: which keyspace a table belongs to, what a keyspace is called, that a table was removed.

use crate::edit::VersionEdit;
use crate::error::ManifestError;
use crate::replay::EditReader;
use crate::table::{BlobMeta, TableMeta};
use crate::version::Version;
use crate::{Lsn, replay};
use esker_format::{FileKind, FileNo, KeyspaceId, SeqNo};
use esker_vfs::Vfs;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// What [`salvage`] found.
#[derive(Debug, Clone, Default)]
pub struct Salvaged {
    /// The version, if CURRENT names a manifest that can be read to its end. Then all below is of it alone.
    pub version: Option<Arc<Version>>,
    /// Why there is none.
    pub error: Option<ManifestError>,
    /// Edits that could be read, in all manifests.
    pub edits: u64,
    /// Names and options of keyspaces that were made and, as far as is known, not dropped.
    pub keyspaces: BTreeMap<KeyspaceId, (String, String)>,
    /// Keyspaces that were dropped.
    pub dropped: BTreeSet<KeyspaceId>,
    /// Tables that were added and, as far as is known, not removed.
    pub tables: BTreeMap<FileNo, (KeyspaceId, TableMeta)>,
    /// Tables that were removed.
    pub removed: BTreeSet<FileNo>,
    /// Blob files that were added.
    pub blobs: BTreeMap<FileNo, (KeyspaceId, BlobMeta)>,
    /// Operations of a keyspace up to here were in tables.
    pub flushed: BTreeMap<KeyspaceId, SeqNo>,
    /// No log below this one was needed.
    pub oldest_log: FileNo,
    /// Where there is a version: its oldest log begins here or before, see [`crate::Recovered::log_begun`].
    pub log_begun: Lsn,
    /// How far the logs were known to be on stable storage.
    pub log_durable: Lsn,
    /// No sequence number above this one is known to have been given out.
    pub last_seq: SeqNo,
    /// No file number from this one on is known to have been given out.
    pub next_file: FileNo,
    /// No keyspace id from this one on is known to have been given out.
    pub next_keyspace: KeyspaceId,
    /// The highest time seen, in milliseconds since 1970.
    pub clock_ms: u64,
    /// Bytes written since the engine was created.
    pub written_bytes: u64,
}

/// Reads whatever the manifests in `directory` say. Writes nothing.
///
/// # Errors
/// The directory can't be listed. Manifests that can't be read say nothing.
pub fn salvage(vfs: &dyn Vfs, directory: &Path) -> Result<Salvaged, ManifestError> {
    let mut found = Salvaged::default();
    match replay::replay_current(vfs, directory) {
        Ok(recovered) => {
            found.edits = recovered.edits;
            found.learn(&recovered.version.snapshot());
            found.log_begun = recovered.log_begun;
            found.version = Some(recovered.version);
            return Ok(found);
        }
        Err(error) => found.error = Some(error),
    }
    let names = vfs.list(directory).map_err(ManifestError::io_at("list", directory))?;
    let mut manifests: Vec<FileKind> = names
        .iter()
        .filter_map(|name| FileKind::parse(name))
        .filter(|kind| matches!(kind, FileKind::Manifest(_)))
        .collect();
    manifests.sort();
    for kind in manifests {
        let Ok(file) = vfs.open_read(&kind.path(directory)) else { continue };
        let Ok(mut reader) = EditReader::open(file, &kind.name()) else { continue };
        loop {
            match reader.next_edit() {
                Ok(Some((_, edit))) => {
                    found.edits += 1;
                    found.learn(&edit);
                }
                // A record that is whole and no edit of ours: the next one may be.
                Err(ManifestError::Record { .. }) => {}
                Ok(None) => match reader.skip_break() {
                    Ok(Some(_)) => {}
                    _ => break,
                },
                Err(_) => break,
            }
        }
    }
    Ok(found)
}

impl Salvaged {
    fn learn(&mut self, edit: &VersionEdit) {
        fn raise<T: Ord + Copy>(known: &mut T, told: Option<T>) {
            *known = told.map_or(*known, |told| told.max(*known));
        }
        raise(&mut self.last_seq, edit.reserve_seq.map(|seq| seq.min(SeqNo::MAX)));
        raise(&mut self.next_file, edit.reserve_file);
        raise(&mut self.oldest_log, edit.oldest_log);
        raise(&mut self.log_durable, edit.log_durable);
        raise(&mut self.clock_ms, edit.clock_ms);
        raise(&mut self.written_bytes, edit.written_bytes);
        raise(&mut self.next_keyspace, edit.next_keyspace);
        for id in &edit.drop_keyspaces {
            self.keyspaces.remove(id);
            self.dropped.insert(*id);
        }
        for (id, name, options) in &edit.create_keyspaces {
            self.keyspaces.insert(*id, (name.clone(), options.clone()));
        }
        for (_, _, number) in &edit.remove {
            self.tables.remove(number);
            self.removed.insert(*number);
        }
        // A table that goes to another level is removed and added in one edit.
        for (id, _, table) in &edit.add {
            self.removed.remove(&table.number);
            self.tables.insert(table.number, (*id, table.clone()));
        }
        self.blobs.extend(edit.add_blobs.iter().map(|(id, blob)| (blob.number, (*id, blob.clone()))));
        for (id, seq) in &edit.flushed {
            raise(self.flushed.entry(*id).or_default(), Some(*seq));
        }
    }
}
