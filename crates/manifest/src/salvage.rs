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
    /// The newest manifest of which this is known.
    pub manifest: Option<FileNo>,
    /// Something that only a newer version can read, in any of the manifests that were read.
    pub unsupported: Option<ManifestError>,
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
    /// If the last edit that can be read closed the engine: the last sequence number by then. All operations up to it were in tables, so that no log was needed.
    pub closed: Option<SeqNo>,
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

/// Reads what the manifest says that CURRENT names; if it can't be read to its end, whatever all manifests in `directory` say. Writes nothing.
///
/// # Errors
/// The directory can't be listed. Manifests that can't be read say nothing.
pub fn salvage(vfs: &dyn Vfs, directory: &Path) -> Result<Salvaged, ManifestError> {
    match replay::replay_current(vfs, directory) {
        Ok(recovered) => {
            let mut found = Salvaged { edits: recovered.edits, log_begun: recovered.log_begun, ..Salvaged::default() };
            found.learn(&recovered.version.snapshot());
            found.manifest = Some(recovered.manifest);
            found.version = Some(recovered.version);
            Ok(found)
        }
        Err(error) => {
            let found = salvage_edits(vfs, directory)?;
            let newer = error.is_unsupported().then(|| error.clone());
            Ok(Salvaged { unsupported: newer.or(found.unsupported.clone()), error: Some(error), ..found })
        }
    }
}

/// Reads whatever all manifests in `directory` say, edit by edit, also if CURRENT names one that is whole: for whoever knows that this is not the newest, or lacks its end. Writes nothing. There is no
/// version then.
///
/// # Errors
/// As [`salvage`].
pub fn salvage_edits(vfs: &dyn Vfs, directory: &Path) -> Result<Salvaged, ManifestError> {
    let mut found = Salvaged::default();
    let (manifests, unsupported) = manifests(vfs, directory)?;
    for (number, manifest) in manifests {
        if let Some(first) = manifest.edits.first().filter(|_| manifest.was_current()) {
            found.forget_but(first);
        }
        found.manifest = Some(number);
        found.edits += manifest.edits.len() as u64;
        manifest.edits.iter().for_each(|edit| found.learn(edit));
        found.closed = found.closed.filter(|_| manifest.is_to_end);
    }
    Ok(Salvaged { unsupported, ..found })
}

/// Whether there is a newer manifest than `number` that CURRENT must have named once.
///
/// # Errors
/// As [`salvage`].
pub fn is_outdated(vfs: &dyn Vfs, directory: &Path, number: FileNo) -> Result<bool, ManifestError> {
    let (manifests, _) = manifests(vfs, directory)?;
    Ok(manifests.range(after(number)..).any(|(_, manifest)| manifest.was_current()))
}

fn after(number: FileNo) -> FileNo {
    FileNo(number.0.saturating_add(1))
}

/// What of a manifest can be read.
#[derive(Default)]
struct Manifest {
    edits: Vec<VersionEdit>,
    /// Whether nothing lies behind the last of them.
    is_to_end: bool,
}

impl Manifest {
    /// Whether CURRENT has named it: it goes on behind the edit that it was begun with. What came before and is not in that one did not count any more.
    fn was_current(&self) -> bool {
        self.edits.len() > 1 && self.edits[0].snapshot
    }
}

/// All manifests in the directory, by the numbers in their headers, and what in one of them only a newer version can read.
fn manifests(
    vfs: &dyn Vfs,
    directory: &Path,
) -> Result<(BTreeMap<FileNo, Manifest>, Option<ManifestError>), ManifestError> {
    let names = vfs.list(directory).map_err(ManifestError::io_at("list", directory))?;
    let (mut found, mut unsupported) = (BTreeMap::<FileNo, Manifest>::new(), None);
    let mut note = |error: ManifestError| {
        if error.is_unsupported() {
            unsupported.get_or_insert(error);
        }
    };
    for kind in names.iter().filter_map(|name| FileKind::parse(name)) {
        let FileKind::Manifest(number) = kind else { continue };
        let Ok(file) = vfs.open_read(&kind.path(directory)) else { continue };
        let (number, manifest) = match EditReader::open(file, &kind.name()) {
            Ok(reader) => (reader.header().number, read(reader, &mut note)),
            Err(error) => {
                note(error);
                (number, Manifest::default())
            }
        };
        let known = found.entry(number).or_default();
        if manifest.edits.len() >= known.edits.len() {
            *known = manifest;
        }
    }
    Ok((found, unsupported))
}

fn read(mut reader: EditReader, note: &mut impl FnMut(ManifestError)) -> Manifest {
    let (mut edits, mut is_to_end) = (Vec::new(), true);
    loop {
        match reader.next_edit() {
            Ok(Some((_, edit))) => {
                edits.push(edit);
                is_to_end = true;
            }
            // A record that is whole and no edit of ours: the next one may be.
            Err(error @ ManifestError::Record { .. }) => {
                note(error);
                is_to_end = false;
            }
            Ok(None) => {
                is_to_end &= reader.end().is_some_and(|end| !end.leftover);
                match reader.skip_break() {
                    Ok(Some(_)) => {}
                    _ => return Manifest { edits, is_to_end },
                }
            }
            Err(error) => {
                note(error);
                return Manifest { edits, is_to_end: false };
            }
        }
    }
}

impl Salvaged {
    /// From here on counts what `snapshot` holds, and nothing else that was known.
    fn forget_but(&mut self, snapshot: &VersionEdit) {
        self.removed.extend(std::mem::take(&mut self.tables).into_keys());
        let kept: BTreeSet<KeyspaceId> = snapshot.create_keyspaces.iter().map(|(id, ..)| *id).collect();
        let gone = std::mem::take(&mut self.keyspaces).into_keys().filter(|id| !kept.contains(id));
        self.dropped.extend(gone);
    }

    fn learn(&mut self, edit: &VersionEdit) {
        fn raise<T: Ord + Copy>(known: &mut T, told: Option<T>) {
            *known = told.map_or(*known, |told| told.max(*known));
        }
        self.closed = edit.clean.map(|clean| clean.last_seq);
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
            // They go with it, and no edit says so.
            let removed = &mut self.removed;
            self.tables.retain(|number, (keyspace, _)| {
                let stays = keyspace != id;
                removed.extend((!stays).then_some(*number));
                stays
            });
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
