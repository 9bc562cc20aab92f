//! Ingest: tables that were built outside become part of the engine, all of one call at once.
//!
//! ```text
//! take ─────────> [ turn: nobody writes                                              ]
//! link or copy    [ flush what overlaps ─> sync the log ─> one edit ─> read state,   ] ─> remove what was moved
//! sync, check     [                                        (commit lock)  publish    ]
//! ```
//! The entries of the tables get one sequence number, newer than all that was committed before, by way of the manifest: their files stay as they are. So nothing older of their keys may lie in a memtable or in a level over them: memtables that overlap are
//! flushed, and each table goes to the lowest level where nothing overlaps above it or in it ([`esker_compaction::place`]).
//!
//! Invariants
//! - Nothing is removed from where it was before the edit is on stable storage, and no file is changed. A crash leaves files that no version names, which the next open sweeps, or a whole ingest.
//! - While the turn is held no write gets a sequence number, so none that is older becomes visible behind the ingest.
//! - The log is synced before the edit: what is older than a durable ingest is durable too.
//! - The read state that holds the tables is put in place and their sequence number becomes visible under one hold of the state lock. So no job reads them below its horizon.
//! - In level 0 all of the keyspace that is older was flushed before, so that no later table reaches over the sequence number from both sides.

use crate::checkpoint::{copy, link_or_copy};
use crate::core::{Core, KeyspaceCore};
use crate::error::{Error, ErrorKind, Result};
use crate::listener::Event;
use crate::memory::CountedTable;
use crate::read::{LevelView, ReadState};
use crate::sst_writer::directory_of;
use esker_compaction::place;
use esker_format::files::temp_path;
use esker_format::{FileKind, FileNo, InternalKey, InternalKeyBuf, SeqNo, Trailer, ValueKind};
use esker_iterator::{InternalIterator, is_before_end};
use esker_manifest::{IngestMeta, Level, TableMeta, VersionEdit};
use esker_sstable::{Properties, Table, TableOptions, Verify};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How tables are ingested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IngestOptions {
    /// The engine takes the files over and they are gone from where they were, at no cost in space where that is on the same file system. Else they are copied and stay. Default: copied.
    pub move_files: bool,
}

/// What was ingested.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ingested {
    /// The sequence number of all of it; of no table, that of the newest write.
    pub seq: u64,
    /// The tables, by key.
    pub tables: Vec<IngestedTable>,
}

impl Ingested {
    /// How many keys all tables put or delete.
    pub fn entries(&self) -> u64 {
        self.tables.iter().map(|table| table.entries).sum()
    }

    /// The length of all tables, in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.tables.iter().map(|table| table.file_bytes).sum()
    }
}

/// One table that was ingested.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IngestedTable {
    /// Its number: it is `NNNNNN.sst` in the engine's directory now.
    pub number: u64,
    /// The level it was put into.
    pub level: u8,
    /// How many keys it puts or deletes.
    pub entries: u64,
    /// How many of these it deletes.
    pub deletions: u64,
    /// The file's length, in bytes.
    pub file_bytes: u64,
    /// The first key.
    pub smallest: Vec<u8>,
    /// The last key.
    pub largest: Vec<u8>,
}

/// Tables in the engine's directory that no version names yet. Those that none is to name are removed again when this is dropped.
pub(crate) struct Taken<'a> {
    core: &'a Core,
    /// As they will be but for the sequence number, which is 0.
    tables: Vec<TableMeta>,
    numbers: Vec<FileNo>,
}

impl fmt::Debug for Taken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Taken").field(&self.numbers).finish()
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.core.discard_files(std::mem::take(&mut self.numbers));
    }
}

impl<'a> Taken<'a> {
    pub(crate) fn new(core: &'a Core) -> Self {
        Self { core, tables: Vec::new(), numbers: Vec::new() }
    }

    /// Takes a table over that was built by this engine, and is on stable storage under its own name.
    pub(crate) fn push_built(&mut self, number: FileNo, file_bytes: u64, properties: &Properties) {
        self.numbers.push(number);
        self.tables.push(described(number, file_bytes, properties));
    }

    /// Brings a copy of the file, or the file itself, into the directory, and checks it.
    fn take(&mut self, path: &Path, moves: bool) -> Result<()> {
        let core = self.core;
        let vfs = &*core.vfs;
        match vfs.metadata(path) {
            Ok(found) if found.is_dir => {
                return Err(Error::invalid(format!("{} is a directory, not a table", path.display())));
            }
            Ok(_) => {}
            Err(error) => return Err(Error::io("open", path, error)),
        }
        let number = core.new_file_no()?;
        self.numbers.push(number);
        let own = FileKind::Table(number).path(&core.dir);
        if moves {
            // Whoever wrote it may have left it to the kernel.
            let synced = vfs.open_sync(path).and_then(|file| file.sync());
            synced.map_err(|error| Error::io("sync", path, error))?;
            link_or_copy(vfs, path, &own)?;
        } else {
            let temp = temp_path(&own);
            copy(vfs, path, &temp, None)?;
            vfs.rename(&temp, &own).map_err(|error| Error::io("rename to", &own, error))?;
        }
        let (file_bytes, properties) = core.check_foreign(&own, path)?;
        self.tables.push(described(number, file_bytes, &properties));
        Ok(())
    }

    /// Reads back what this engine has just built: one that did not come out as it was written is not taken.
    pub(crate) fn read_back(&self) -> Result<()> {
        for table in &self.tables {
            self.core.tables.open_new(table)?.table()?.read_back()?;
        }
        Ok(())
    }

    /// In order of keys.
    ///
    /// # Errors
    /// `InvalidArgument` if two overlap, or are the same.
    fn sort(&mut self) -> Result<()> {
        self.tables.sort_by(|a, b| a.smallest.user_key.cmp(&b.smallest.user_key));
        match self.tables.windows(2).find(|pair| pair[0].overlaps(&pair[1])) {
            Some(pair) => Err(Error::invalid(format!(
                "two of the tables overlap: one reaches up to key {}, another begins at {}",
                pair[0].largest.user_key.escape_ascii(),
                pair[1].smallest.user_key.escape_ascii()
            ))),
            None => Ok(()),
        }
    }
}

fn described(number: FileNo, file_bytes: u64, properties: &Properties) -> TableMeta {
    TableMeta {
        number,
        file_id: properties.file_id,
        file_bytes,
        smallest: properties.smallest.clone(),
        largest: properties.largest.clone(),
        smallest_seq: SeqNo::ZERO,
        largest_seq: SeqNo::ZERO,
        entries: properties.entries,
        deletions: properties.deletions,
        created_unix_ms: properties.created_unix_ms,
        blobs: Vec::new(),
        ranges: None,
        table_seq: None,
        // Nothing in it has an expiry time: `check_foreign` refuses what has.
        expiries: None,
    }
}

/// The table, all of it as of `seq`.
fn numbered(table: &TableMeta, seq: SeqNo) -> TableMeta {
    let lifted = |key: &InternalKeyBuf| InternalKeyBuf {
        user_key: key.user_key.clone(),
        trailer: Trailer::new(seq, key.trailer.kind()),
    };
    TableMeta {
        smallest: lifted(&table.smallest),
        largest: lifted(&table.largest),
        smallest_seq: seq,
        largest_seq: seq,
        table_seq: Some(seq),
        ..table.clone()
    }
}

/// What the feed of changes tells of them.
fn told(keyspace: &KeyspaceCore, seq: SeqNo, tables: &[TableMeta]) -> IngestMeta {
    let (first, last) = (&tables[0], &tables[tables.len() - 1]);
    IngestMeta {
        keyspace: keyspace.id,
        seq,
        tables: tables.len() as u64,
        entries: tables.iter().map(|table| table.entries).sum(),
        smallest: first.smallest.user_key.clone(),
        largest: last.largest.user_key.clone(),
    }
}

/// Whether a memtable holds anything within the bounds of a table.
fn overlaps(memtable: &CountedTable, table: &TableMeta) -> bool {
    let (smallest, largest) = (&*table.smallest.user_key, &*table.largest.user_key);
    let mut iter = memtable.iter();
    let Ok(()) = iter.seek(InternalKey::before_all(smallest));
    if iter.valid() && iter.key().user_key <= largest {
        return true;
    }
    let ranges = memtable.table.range_tombstones_given();
    ranges.iter().any(|range| *range.begin <= *largest && is_before_end(smallest, &range.end))
}

/// What became of an attempt to install.
enum Outcome {
    Done(Ingested),
    /// What is in memory has to be flushed first.
    Flush,
}

impl Core {
    /// See [`crate::Keyspace::ingest`].
    pub(crate) fn ingest(
        self: &Arc<Self>,
        keyspace: &Arc<KeyspaceCore>,
        paths: &[PathBuf],
        options: &IngestOptions,
    ) -> Result<Ingested> {
        let _call = self.enter()?;
        self.health.check()?;
        keyspace.check()?;
        if paths.is_empty() {
            return Ok(Ingested { seq: self.visible().0, tables: Vec::new() });
        }
        self.wait_for_room_of(keyspace)?;
        self.wake()?;
        let mut taken = Taken::new(self);
        paths.iter().try_for_each(|path| taken.take(path, options.move_files))?;
        let ingested = self.ingest_taken(keyspace, taken)?;
        if options.move_files {
            for path in paths {
                // The tables are the engine's. A name that can't be removed leads to the same file, or to a copy.
                let _ = self.vfs.remove_file(path);
            }
            let dirs: std::collections::BTreeSet<&Path> = paths.iter().map(|path| directory_of(path)).collect();
            dirs.iter().for_each(|dir| drop(self.vfs.sync_dir(dir)));
        }
        Ok(ingested)
    }

    /// Makes tables that lie in the directory part of the keyspace. The caller is in a call that close waits for.
    pub(crate) fn ingest_taken(
        self: &Arc<Self>,
        keyspace: &Arc<KeyspaceCore>,
        mut taken: Taken<'_>,
    ) -> Result<Ingested> {
        taken.sort()?;
        let begin = self.vfs.clock().now();
        self.vfs.sync_dir(&self.dir).map_err(|error| Error::io("sync", &self.dir, error))?;
        // What can be done while others write.
        if self.memory_overlaps(keyspace, &taken.tables) {
            self.flush_keyspaces(std::slice::from_ref(keyspace))?;
        }
        self.sync()?;
        let turn = self.take_turn_alone()?;
        let ingested = loop {
            if self.memory_overlaps(keyspace, &taken.tables) {
                self.flush_keyspaces(std::slice::from_ref(keyspace))?;
            }
            // All that is older is durable before the tables are.
            self.sync()?;
            match self.install_taken(keyspace, &mut taken)? {
                Outcome::Done(ingested) => break ingested,
                Outcome::Flush => self.flush_keyspaces(std::slice::from_ref(keyspace))?,
            }
        };
        drop(turn);
        self.counters.ingested_tables.add(ingested.tables.len() as u64);
        self.counters.ingested_bytes.add(ingested.file_bytes());
        self.tell(Event::Ingested {
            keyspace: keyspace.name.to_string(),
            tables: ingested.tables.len() as u64,
            entries: ingested.entries(),
            bytes: ingested.file_bytes(),
            took: self.vfs.clock().now().saturating_sub(begin),
        });
        Ok(ingested)
    }

    fn memory_overlaps(&self, keyspace: &KeyspaceCore, tables: &[TableMeta]) -> bool {
        let read = keyspace.read.load();
        let holds = |memtable: &Arc<CountedTable>| tables.iter().any(|table| overlaps(memtable, table));
        read.memtables().filter(|memtable| !memtable.table.is_empty()).any(holds)
    }

    /// Commits the edit that names the tables, and puts them before the readers. Whoever calls this has the turn, and nothing in memory overlaps.
    fn install_taken(&self, keyspace: &KeyspaceCore, taken: &mut Taken<'_>) -> Result<Outcome> {
        let mut commit = self.commit.lock();
        let commit = &mut *commit;
        self.health.check()?;
        keyspace.check()?;
        if commit.writer.is_none() {
            return Err(Error::closed());
        }
        if commit.last_seq.0 + 1 > commit.reserved.0 {
            self.reserve_seqs(commit, 1)?;
        }
        let seq = commit.last_seq.next();
        let tables: Vec<TableMeta> = taken.tables.iter().map(|table| numbered(table, seq)).collect();
        let durable = commit.group.durable();
        let levels;
        {
            let mut manifest = self.manifest.lock();
            let manifest = manifest.as_mut().ok_or_else(Error::closed)?;
            let version = Arc::clone(manifest.current());
            for table in &tables {
                if let Some((_, _, other)) = version.tables().find(|(_, _, other)| other.file_id == table.file_id) {
                    return Err(Error::invalid(format!(
                        "the table is in the engine already, as {}: its file id {} is the same",
                        FileKind::Table(other.number).name(),
                        table.file_id
                    )));
                }
            }
            // Open before the edit names them, so that nothing can fail behind it.
            let open: Vec<_> = tables.iter().map(|table| self.tables.open_new(table)).collect::<Result<_>>()?;
            let now = Arc::clone(&version.keyspaces[&keyspace.id]);
            {
                let mut state = self.state.lock();
                levels = tables.iter().map(|table| place(&now, &state.busy, table)).collect::<Vec<Level>>();
                let in_memory = keyspace.read.load().memtables().any(|memtable| !memtable.table.is_empty());
                if in_memory && levels.contains(&Level::ZERO) {
                    return Ok(Outcome::Flush);
                }
                for (table, level) in tables.iter().zip(&levels) {
                    state.busy.claim(keyspace.id, *level, table);
                }
            }
            let add = tables.iter().zip(&levels).map(|(table, level)| (keyspace.id, *level, table.clone())).collect();
            let edit = VersionEdit {
                add,
                ingests: vec![told(keyspace, seq, &tables)],
                changes_from: self.changes_forgotten(&version),
                log_durable: Some(durable.max(version.log_durable)),
                written_bytes: Some(self.counters.written_bytes().max(version.written_bytes)),
                clock_ms: self.time_to_keep_ms(version.clock_ms),
                ..VersionEdit::default()
            };
            if commit.watch.is_on() {
                tables.iter().for_each(|table| commit.watch.note_table(keyspace.id, table));
            }
            tables.iter().for_each(|table| self.edges.note_table(keyspace.id, table, seq));
            // Given out now, whatever becomes of the edit.
            commit.last_seq = seq;
            let committed = self.manifest_did(manifest, |manifest| manifest.commit(edit));
            // The files stay if the edit names them, and where it is not known whether it does.
            if committed.is_ok() || self.health.check().is_err() {
                taken.numbers.clear();
            }
            let view = committed.and_then(|version| {
                let before = Arc::clone(&keyspace.read.load().view);
                LevelView::open(&version.keyspaces[&keyspace.id], &self.tables, &self.picker, Some(&before))
            });
            // Where the files stay they may be found to be part of the engine.
            let view =
                view.map_err(|error| if taken.numbers.is_empty() { error.with_outcome_unknown() } else { error });
            let mut state = self.state.lock();
            tables.iter().for_each(|table| state.busy.release(table.number));
            let view = view?;
            self.visible.publish(seq, || {
                keyspace.swap(|now| ReadState::new(Arc::clone(&now.active), now.sealed.clone(), view));
            });
            drop(state);
            drop(open);
        }
        self.update_pressure(keyspace);
        self.changed.notify_all();
        let facts = tables.iter().zip(levels).map(|(table, level)| IngestedTable {
            number: table.number.0,
            level: level.0,
            entries: table.entries,
            deletions: table.deletions,
            file_bytes: table.file_bytes,
            smallest: table.smallest.user_key.to_vec(),
            largest: table.largest.user_key.to_vec(),
        });
        Ok(Outcome::Done(Ingested { seq: seq.0, tables: facts.collect() }))
    }

    /// Reads a table that somebody else has built, every byte, and tells its length and what it says of itself. `path` is where it came from.
    ///
    /// # Errors
    /// `Corruption` if it is damaged or none; `Unsupported` if it has what this version does not know, or another order of keys; `InvalidArgument` if it is no table built outside.
    fn check_foreign(&self, own: &Path, path: &Path) -> Result<(u64, Properties)> {
        let file = self.vfs.open_read(own).map_err(|error| Error::io("open", own, error))?;
        let options = TableOptions {
            // As it is read from now on, blocks of which each is looked at once.
            verify: Verify::FirstUse,
            read_mode: self.options.read_mode,
            cache: Arc::clone(&self.tables.cache),
            expect: None,
        };
        let table = Table::open(file, &path.display().to_string(), options)?;
        table.verify()?;
        let properties = table.properties();
        let refused = |what: &str| Err(Error::invalid(format!("{}: {what}", path.display())));
        if table.range_tombstones().is_some() {
            let what = format!("{}: range deletes in a table built outside", path.display());
            return Err(Error::new(ErrorKind::Unsupported, what));
        }
        if properties.largest_seq != SeqNo::ZERO {
            return refused("its entries have sequence numbers: it is the table of an engine, not one built outside");
        }
        if properties.user_keys != properties.entries {
            return refused("it has a key twice");
        }
        let mut iter = table.iter_once();
        iter.seek_to_first()?;
        while iter.valid() {
            match iter.key().trailer.kind() {
                ValueKind::Put | ValueKind::Delete => {}
                kind => {
                    return refused(&format!(
                        "it has an entry of kind {kind:?}, which is of no use outside its engine"
                    ));
                }
            }
            iter.next()?;
        }
        Ok((table.file_bytes(), properties.clone()))
    }
}
