//! Making new tables part of the engine: edit first, then the read states, then the removal of what they replace.
//!
//! The order, everywhere: write under a temporary name, sync, rename, sync the directory, open, read back, commit the edit, swap the read state, retire.
//! A crash in between leaves files that no version names, and the next open sweeps them.

use crate::blobs::OpenBlob;
use crate::core::{Core, KeyspaceCore, LogFile};
use crate::error::{Error, Result};
use crate::memory::CountedTable;
use crate::read::{LevelView, ReadState};
use crate::tables::OpenTable;
use esker_blob::{BlobError, BlobRef};
use esker_compaction::{BlobFiles, CompactionError};
use esker_format::files::temp_path;
use esker_format::{FileId, FileKind, FileNo, KeyspaceId, SeqNo, Slice};
use esker_manifest::{BlobMeta, TableMeta, VersionEdit};
use esker_sstable::{Table, TableError};
use esker_vfs::WritableFile;
use esker_wal::Lsn;
use std::sync::Arc;

/// What a job of one keyspace changes.
pub(crate) struct Change<'a> {
    pub(crate) keyspace: &'a KeyspaceCore,
    pub(crate) edit: VersionEdit,
    /// Memtables that the new tables replace.
    pub(crate) flushed: &'a [Arc<CountedTable>],
}

/// What a job made.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    pub(crate) tables: Vec<TableMeta>,
    pub(crate) blobs: Vec<BlobMeta>,
}

impl Outputs {
    pub(crate) fn numbers(&self) -> impl Iterator<Item = FileNo> {
        self.tables.iter().map(|table| table.number).chain(self.blobs.iter().map(|blob| blob.number))
    }

    /// The length of all files.
    pub(crate) fn file_bytes(&self) -> u64 {
        let tables = self.tables.iter().map(|table| table.file_bytes);
        tables.chain(self.blobs.iter().map(|blob| blob.file_bytes)).sum()
    }

    pub(crate) fn extend(&mut self, others: &Self) {
        self.tables.extend_from_slice(&others.tables);
        self.blobs.extend_from_slice(&others.blobs);
    }
}

/// What a job made, open. To be kept until the read states hold it.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    _tables: Vec<Arc<OpenTable>>,
    _blobs: Vec<Arc<OpenBlob>>,
}

impl Core {
    /// Makes the names of finished files durable, opens them and reads them back: one that was not written as it should must not replace what it was made of. Also, what
    /// is read first pays neither for checksums nor for pages that are not mapped yet.
    pub(crate) fn publish_tables(&self, outputs: &Outputs) -> Result<Opened> {
        if outputs.numbers().next().is_some() {
            self.vfs.sync_dir(&self.dir).map_err(|error| Error::io("sync", &self.dir, error))?;
        }
        let tables = outputs.tables.iter().map(|table| {
            let open = self.tables.open_new(table)?;
            open.table()?.read_back()?;
            Ok(open)
        });
        let blobs = outputs.blobs.iter().map(|blob| {
            let open = self.tables.blobs.open_new(blob)?;
            open.file()?.read_back()?;
            Ok(open)
        });
        Ok(Opened { _tables: tables.collect::<Result<_>>()?, _blobs: blobs.collect::<Result<_>>()? })
    }

    /// Removes what a failed job left: tables and blob files.
    pub(crate) fn discard_files(&self, numbers: impl IntoIterator<Item = FileNo>) {
        for number in numbers {
            for kind in [FileKind::Table(number), FileKind::Blob(number)] {
                let path = kind.path(&self.dir);
                // Any of the names may be there; what can't be removed is swept by the next open.
                let _ = self.vfs.remove_file(&temp_path(&path));
                let _ = self.vfs.remove_file(&path);
            }
        }
    }

    /// Commits the change and puts it before the readers; whether it was: a keyspace dropped meanwhile takes nothing any more.
    pub(crate) fn install(&self, change: Change<'_>) -> Result<bool> {
        let Change { keyspace, mut edit, flushed } = change;
        let obsolete;
        let any_obsolete;
        let needed_from;
        let before;
        {
            let mut manifest = self.manifest.lock();
            let manifest = manifest.as_mut().ok_or_else(Error::closed)?;
            if !manifest.current().keyspaces.contains_key(&keyspace.id) {
                return Ok(false);
            }
            if !flushed.is_empty() {
                let oldest = self.oldest_needed_log(flushed);
                // What lies before it is in tables. Should its header be lost, recovery knows by this where the line breaks.
                (edit.oldest_log, edit.log_start) = (Some(oldest.number), Some(oldest.start));
                edit.log_durable = edit.log_durable.max(Some(oldest.start.max(manifest.current().log_durable)));
            }
            edit.changes_from = self.changes_forgotten(manifest.current());
            // Counters never go back, whatever the clock does and in whatever order jobs end.
            let current = manifest.current();
            edit.written_bytes = Some(self.counters.written_bytes().max(current.written_bytes));
            edit.clock_ms = self.time_to_keep_ms(current.clock_ms);
            edit.log_durable = edit.log_durable.map(|durable| durable.max(current.log_durable));
            let version = self.manifest_did(manifest, |manifest| manifest.commit(edit))?;
            // Only whoever holds the manifest's lock changes the view.
            before = Arc::clone(&keyspace.read.load().view);
            let version_of_this = &version.keyspaces[&keyspace.id];
            let view = LevelView::open(version_of_this, &self.tables, &self.picker, Some(&before))?;

            let mut state = self.state.lock();
            keyspace.swap(|now| {
                let is_flushed = |sealed: &&Arc<CountedTable>| flushed.iter().any(|other| Arc::ptr_eq(other, sealed));
                let sealed = now.sealed.iter().filter(|sealed| !is_flushed(sealed)).map(Arc::clone).collect();
                ReadState::new(Arc::clone(&now.active), sealed, Arc::clone(&view))
            });
            let needed = version.oldest_log;
            let not_needed = state.logs.extract_if(.., |log| log.number < needed).collect::<Vec<_>>();
            any_obsolete = !not_needed.is_empty();
            obsolete = self.retire_logs(&mut state, not_needed);
            needed_from = state.logs.first().map_or(Lsn::ZERO, |log| log.start);
            drop(state);
            retire_missing(&before, &view);
        }
        if any_obsolete {
            // What the removed logs held is in tables that a synced manifest names.
            self.commit.lock().group.retire(needed_from);
        }
        self.let_go_of_retained(obsolete);
        self.update_pressure(keyspace);
        self.changed.notify_all();
        Ok(true)
    }

    /// The first log that holds an operation which is in no table once `flushed` are.
    fn oldest_needed_log(&self, flushed: &[Arc<CountedTable>]) -> LogFile {
        let state = self.state.lock();
        let oldest_seq = unflushed(&state.keyspaces, flushed).filter_map(|memtable| memtable.first_seq()).min();
        let needed = state.logs.iter().find(|log| match (log.last_seq, oldest_seq) {
            (Some(last), Some(oldest)) => last >= oldest,
            (Some(_), None) => false,
            (None, _) => true,
        });
        *needed.expect("the log being written is always needed")
    }

    /// Whether any memtable but `flushed` holds an operation up to `seq`.
    pub(crate) fn others_hold_up_to(&self, seq: SeqNo, flushed: &[Arc<CountedTable>]) -> bool {
        let state = self.state.lock();
        unflushed(&state.keyspaces, flushed).filter_map(|memtable| memtable.first_seq()).any(|first| first <= seq)
    }
}

fn unflushed(
    keyspaces: &std::collections::BTreeMap<KeyspaceId, Arc<KeyspaceCore>>,
    flushed: &[Arc<CountedTable>],
) -> impl Iterator<Item = Arc<CountedTable>> {
    keyspaces.values().flat_map(|keyspace| {
        let state = keyspace.read.load();
        let memtables: Vec<_> = state
            .memtables()
            .filter(|memtable| !flushed.iter().any(|flushed| Arc::ptr_eq(flushed, memtable)))
            .map(Arc::clone)
            .collect();
        memtables
    })
}

/// Retires the tables and blob files of `before` that `after` no longer names.
fn retire_missing(before: &LevelView, after: &LevelView) {
    let kept: std::collections::HashSet<FileNo> = after.tables().map(|open| open.meta.number).collect();
    before.tables().filter(|open| !kept.contains(&open.meta.number)).for_each(|open| open.retire());
    let is_kept = |open: &OpenBlob| after.version.blobs.contains_key(&open.meta.number);
    before.blobs.iter().filter(|open| !is_kept(open)).for_each(|open| open.retire());
}

impl esker_compaction::Tables for Core {
    fn open(&self, table: &TableMeta) -> Result<Arc<Table>, TableError> {
        self.tables.open_for_job(table)
    }

    fn create(&self) -> Result<(FileNo, Box<dyn WritableFile>, String, FileId), CompactionError> {
        self.create_output(FileKind::Table)
    }

    fn created_unix_ms(&self) -> u64 {
        self.vfs.clock().unix_ms()
    }

    fn finished(&self, number: FileNo) -> Result<(), CompactionError> {
        self.name_output(FileKind::Table(number))
    }
}

impl BlobFiles for Core {
    fn create_blob(&self) -> Result<(FileNo, Box<dyn WritableFile>, String, FileId), CompactionError> {
        self.create_output(FileKind::Blob)
    }

    fn finished_blob(&self, number: FileNo) -> Result<(), CompactionError> {
        self.name_output(FileKind::Blob(number))
    }

    fn read_blob(&self, reference: BlobRef) -> Result<Slice, BlobError> {
        self.tables.blobs.read_for_job(reference)
    }
}

/// A new file of a job: its number, the file under its temporary name, its name, and its random id.
type NewFile = (FileNo, Box<dyn WritableFile>, String, FileId);

impl Core {
    fn create_output(&self, kind: impl FnOnce(FileNo) -> FileKind) -> Result<NewFile, CompactionError> {
        let number = self.new_file_no().map_err(CompactionError::refused)?;
        let name = kind(number).name();
        let path = temp_path(&self.dir.join(&name));
        let file = self.vfs.create_new(&path).map_err(|error| CompactionError::io(format!("create {name}"), error))?;
        Ok((number, file, name, self.new_file_id()))
    }

    /// Gives a whole file its own name.
    fn name_output(&self, kind: FileKind) -> Result<(), CompactionError> {
        let path = kind.path(&self.dir);
        let renamed = self.vfs.rename(&temp_path(&path), &path);
        renamed.map_err(|error| CompactionError::io(format!("rename {}", path.display()), error))
    }
}
