//! Opening: lock, manifest, tables, logs, sweep.
//!
//! ```text
//! lock ─> CURRENT, manifest ─> open tables ─┬─> after a close in order: rest. Nothing is written
//!                                           └─> replay logs into memtables ─┬─> new log that continues their line ─> one edit: reserved numbers
//!                                                                           └─> write them as tables ─> new log ─> one edit: tables, reserved numbers,
//!                                                                               "older logs are not needed" ─> remove what no version names
//! ```
//! An engine that was closed in order, with nothing left in a log, *rests* when it is opened again: whoever writes first has it begin ([`crate::begin`]).
//! Mostly the logs end without a break, no sync of them failed, and they fit in memory: then what was replayed stays in the memtables and the logs stay in use. Else it becomes tables at once.
//! Until that one edit nothing that is needed is touched, so a crash anywhere in recovery finds the same state again. An engine opened for reading only stops after
//! the replay: it changes no file.

use crate::background::{self, Background};
use crate::commit::{Commit, Health};
use crate::core::{Core, KeyspaceCore, LogFile, State};
use crate::edges::Edges;
use crate::engine::Builder;
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::Time;
use crate::filter;
use crate::install::Outputs;
use crate::listener::Event;
use crate::logs::LogFiles;
use crate::memory::MemoryUse;
use crate::merging::Operators;
use crate::metrics::Counters;
use crate::options::{KeyspaceOptions, Options};
use crate::options_text;
use crate::publish::Visible;
use crate::read::{LevelView, ReadState};
use crate::recovery::{self, Replayed, Told};
use crate::removals::Removals;
use crate::snapshot::SnapshotList;
use crate::tables::TableSet;
use crate::validation::Watch;
use esker_compaction::{Busy, Picker};
use esker_format::{FileKind, FileNo, KeyspaceId, SeqNo};
use esker_manifest::{Found, ManifestError, Version, VersionSet, probe};
use esker_vfs::{FileLock, LockMode, Vfs};
use esker_wal::{GroupSync, Lsn};
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Numbers the engines of this process.
static NEXT_ENGINE: AtomicU64 = AtomicU64::new(1);

/// Opens the engine that `builder` describes.
pub(crate) fn open(mut builder: Builder) -> Result<Arc<Core>> {
    builder.options.check()?;
    builder.default_keyspace.check()?;
    let operators = Operators::new(std::mem::take(&mut builder.operators))?;
    builder.filters.keys().try_for_each(|name| filter::check_name(name))?;
    // Before an engine is made with it.
    filter::check_named(&builder.filters, builder.default_keyspace.compaction_filter.as_deref())?;
    let vfs = Arc::clone(&builder.vfs);
    let lock = lock(&*vfs, &builder)?;
    let (stored_options, unread_options) = options_text::check_stored(&*vfs, &builder.dir)?;
    let (manifest, version, told) = open_manifest(&vfs, &builder, &operators)?;
    let mode = builder.background;
    let default_options = builder.default_keyspace.clone();
    let core = new_core(builder, operators, lock, manifest, &version)?;
    core.stored_options.set(stored_options).ok();
    unread_options.into_iter().for_each(|error| core.tell_of_error(error));
    bring_up(&core, &version, told, default_options, mode).inspect_err(|_| {
        // Nobody will close it.
        let _ = core.with_manifest(|manifest| {
            manifest.give_back_room();
            Ok(())
        });
    })?;
    Ok(core)
}

/// Brings an engine that has its manifest to where it may be used.
fn bring_up(
    core: &Arc<Core>,
    version: &Arc<Version>,
    told: Told,
    default_options: KeyspaceOptions,
    mode: Background,
) -> Result<()> {
    for keyspace in version.keyspaces.values() {
        core.add_keyspace(Arc::clone(keyspace))?;
    }
    let default = Arc::clone(&core.state.lock().keyspaces[&KeyspaceId::DEFAULT]);
    default.check_merging(&default_options)?;
    default.override_options(default_options)?;
    core.keyspaces().iter().for_each(|keyspace| core.tell_of_missing_filter(keyspace));
    core.default.set(default).ok();

    let logs = core.logs_to_replay(version)?;
    let mut pending = Vec::new();
    let replayed = core.replay(version, told, &logs, &mut pending)?;
    let last_seq = replayed
        .last_seq
        .max(version.last_seq)
        .max(version.tables().map(|(_, _, table)| table.largest_seq).max().unwrap_or_default());
    core.keyspaces().iter().filter(|keyspace| keyspace.expires.load(Ordering::Relaxed)).for_each(|keyspace| {
        core.note_expiring(keyspace);
    });
    core.visible.raise(last_seq);
    let left_out = |(log, why): &(FileNo, String)| format!("{}: {why}", FileKind::Wal(*log).name());
    core.left_out.set(replayed.set_aside.iter().map(left_out).collect()).ok();
    core.adopt_retained_logs(version)?;
    {
        let feed = &mut core.state.lock().feed;
        feed.in_tables = version.tables().map(|(_, _, table)| table.largest_seq).max().unwrap_or_default();
        feed.at_open = last_seq;
    }
    if core.read_only {
        core.read_only_version.set(Arc::clone(version)).ok();
        core.state.lock().logs = replayed.logs.iter().map(LogFile::from).collect();
        core.deliver();
        return Ok(());
    }
    if core.may_rest(version, &replayed, &pending)? {
        core.rest(last_seq, version.log_durable);
    } else {
        core.begin(version, &replayed, last_seq, pending)?;
    }
    core.sweep(&replayed)?;
    // Before anybody is told from where on there are changes.
    core.upkeep_of_feed();
    core.deliver();
    if mode == background::Background::Threads {
        background::start(core).map_err(|error| Error::io("start threads for", &core.dir, error))?;
    }
    Ok(())
}

/// Makes sure that the directory is there, and takes its lock.
fn lock(vfs: &dyn Vfs, builder: &Builder) -> Result<Box<dyn FileLock>> {
    let dir = &builder.dir;
    let may_create = builder.options.create_if_missing && !builder.read_only;
    match vfs.metadata(dir) {
        Ok(found) if !found.is_dir => {
            return Err(Error::invalid(format!("{} is a file; an engine needs a directory", dir.display())));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound && may_create => {
            vfs.create_dir_all(dir).map_err(|error| Error::io("create the directory", dir, error))?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(no_engine(dir)),
        Err(error) => return Err(Error::io("open", dir, error)),
    }
    let exists = probe(vfs, dir)? == Found::Engine;
    if !exists && !may_create {
        return Err(no_engine(dir));
    }
    let path = FileKind::Lock.path(dir);
    let mode = if builder.read_only { LockMode::Shared } else { LockMode::Exclusive };
    vfs.lock(&path, mode).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock if builder.read_only => Error::new(
            ErrorKind::Locked,
            format!("{} is open for writing; a reader needs the writer closed, or a checkpoint", dir.display()),
        ),
        io::ErrorKind::WouldBlock => Error::new(
            ErrorKind::Locked,
            format!("{} is open in this process or another; close it there first", dir.display()),
        ),
        _ => Error::io("lock", &path, error),
    })
}

fn no_engine(dir: &Path) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no engine in {}", dir.display()))
}

fn open_manifest(
    vfs: &Arc<dyn Vfs>,
    builder: &Builder,
    operators: &Operators,
) -> Result<(Option<VersionSet>, Arc<Version>, Told)> {
    if builder.read_only {
        let recovered = VersionSet::read(&**vfs, &builder.dir)?;
        let told = Told::new(&recovered.version, recovered.log_begun);
        return Ok((None, recovered.version, told));
    }
    let (set, begun) = match VersionSet::recover(Arc::clone(vfs), &builder.dir) {
        Ok((set, recovered)) => (set, recovered.log_begun),
        Err(ManifestError::NoEngine(_)) => {
            operators.check_known(&builder.default_keyspace)?;
            let default = options_text::keyspace_text(&builder.default_keyspace);
            (VersionSet::create_with(Arc::clone(vfs), &builder.dir, &default)?, Lsn(0))
        }
        Err(error) => return Err(error.into()),
    };
    let version = Arc::clone(set.current());
    let told = Told::new(&version, begun);
    Ok((Some(set), version, told))
}

fn new_core(
    builder: Builder,
    operators: Operators,
    lock: Box<dyn FileLock>,
    manifest: Option<VersionSet>,
    version: &Version,
) -> Result<Arc<Core>> {
    let Builder { dir, options, vfs, listener, read_only, background, default_keyspace: _, operators: _, filters } =
        builder;
    let removals = Removals::new();
    let tables = TableSet::new(
        Arc::clone(&vfs),
        dir.clone(),
        options.block_cache_bytes() as u64,
        options.verify,
        options.read_mode,
        Arc::clone(&removals),
    );
    let counters = Counters::default();
    counters.written_bytes_before.add(version.written_bytes);
    let commit = Commit {
        writer: None,
        spare: None,
        group: GroupSync::new(Lsn(0)),
        last_seq: SeqNo::ZERO,
        reserved: SeqNo::ZERO,
        keyspaces: BTreeMap::new(),
        vouched: Lsn(0),
        seq_at_last_look: SeqNo::ZERO,
        written_at: None,
        resting: false,
        stray_logs: Vec::new(),
        watch: Watch::default(),
        turn: None,
        turns: 0,
    };
    let time = Time::new(vfs.clock(), version.clock_ms);
    let memory = Arc::new(MemoryUse::new(options.memtable_bytes(), options.memtables_bytes_max()));
    Ok(Arc::new(Core {
        number: NEXT_ENGINE.fetch_add(1, Ordering::Relaxed),
        picker: Picker::new(options.compaction_knobs()),
        filters,
        dir,
        vfs,
        options,
        read_only,
        listener,
        events: Mutex::default(),
        ddl: Mutex::new(()),
        commit: Mutex::new(commit),
        turn_over: Condvar::new(),
        tracking_bytes: AtomicUsize::new(0),
        manifest: Mutex::new(manifest),
        state: Mutex::new(State { busy: Busy::new(), ..State::default() }),
        changed: Condvar::new(),
        visible: Visible::new(),
        health: Health::default(),
        snapshots: SnapshotList::default(),
        edges: Edges::default(),
        time,
        resumes: AtomicU64::new(0),
        own_resumes: AtomicU64::new(0),
        unseen: AtomicBool::new(false),
        paid_until: Mutex::new(Duration::ZERO),
        default: OnceLock::new(),
        left_out: OnceLock::new(),
        stored_options: OnceLock::new(),
        operators,
        read_only_version: OnceLock::new(),
        tables,
        removals,
        log_files: LogFiles::default(),
        memory,
        visible_at_last_look: AtomicU64::new(0),
        counters,
        strained: AtomicUsize::new(0),
        closing: AtomicBool::new(false),
        lock: Mutex::new(Some(lock)),
        workers: Mutex::new(Vec::new()),
        manual: background == background::Background::Manual,
        closed: Mutex::new(None),
    }))
}

/// Tables that recovery wrote and no version names yet.
pub(crate) struct Pending {
    pub(crate) keyspace: Arc<KeyspaceCore>,
    pub(crate) outputs: Outputs,
}

impl Core {
    /// Opens the tables of a keyspace and makes it known.
    pub(crate) fn add_keyspace(&self, version: Arc<esker_manifest::KeyspaceVersion>) -> Result<Arc<KeyspaceCore>> {
        let options = options_text::parse_keyspace(&version.options)?;
        let view = LevelView::open(&version, &self.tables, &self.picker, None)?;
        for (table, error) in view.out_of_use() {
            self.tell(Event::Quarantined { table, error });
        }
        let merging = self.operators.merging(&options);
        let keyspace = KeyspaceCore::new(&version, options, &self.options, self.new_memtable(), view, merging);
        if keyspace.expires.load(Ordering::Relaxed) {
            self.note_expiring(&keyspace);
        }
        self.update_pressure(&keyspace);
        self.commit.lock().keyspaces.insert(keyspace.id, Arc::clone(&keyspace));
        let mut state = self.state.lock();
        for table in self.tables.quarantined() {
            state.busy.exclude(table);
        }
        state.names.insert(Arc::clone(&keyspace.name), keyspace.id);
        state.keyspaces.insert(keyspace.id, Arc::clone(&keyspace));
        Ok(keyspace)
    }

    /// The logs that the manifest still needs, ascending.
    fn logs_to_replay(&self, version: &Version) -> Result<Vec<FileNo>> {
        let names = self.vfs.list(&self.dir).map_err(|error| Error::io("list", &self.dir, error))?;
        let mut logs: Vec<FileNo> = names
            .iter()
            .filter_map(|name| match FileKind::parse(name) {
                Some(FileKind::Wal(number)) if number >= version.oldest_log => Some(number),
                _ => None,
            })
            .collect();
        logs.sort_unstable();
        if holds_everything(version) {
            // A log can only be one that an open made and did not live to use. More than that says that the manifest has lost its end.
            let Some(found) = self.written_behind(version, &names, &logs)? else { return Ok(Vec::new()) };
            if self.options.recovery == crate::RecoveryMode::Salvage {
                return Ok(logs);
            }
            return Err(Error::corruption(format!(
                "{found} holds writes of which the manifest knows nothing: its end is missing. Restore the directory from a copy, or open with \
                 RecoveryMode::Salvage to go on with what the manifest knows"
            )));
        }
        // Its name was on stable storage before the manifest asked for it.
        if logs.first() != Some(&version.oldest_log)
            && version.oldest_log != FileNo(0)
            && self.options.recovery == crate::RecoveryMode::PointInTime
        {
            return Err(Error::corruption(recovery::missing_log(version.oldest_log)));
        }
        Ok(logs)
    }

    /// A table or log with writes in it that came after all that `version` holds.
    fn written_behind(&self, version: &Version, names: &[String], logs: &[FileNo]) -> Result<Option<String>> {
        let named: std::collections::HashSet<FileNo> = version.tables().map(|(_, _, table)| table.number).collect();
        let newer = |name: &&String| match FileKind::parse(name) {
            Some(FileKind::Table(number)) => number >= version.oldest_log && !named.contains(&number),
            _ => false,
        };
        if let Some(table) = names.iter().find(newer) {
            return Ok(Some(table.clone()));
        }
        for log in logs {
            if recovery::holds_writes(&*self.vfs, &self.dir, *log)? {
                return Ok(Some(FileKind::Wal(*log).name()));
            }
        }
        Ok(None)
    }

    /// Writes the memtables of a keyspace as a table, and empties them.
    pub(crate) fn write_recovered(&self, keyspace: &Arc<KeyspaceCore>, pending: &mut Vec<Pending>) -> Result<()> {
        let memtables: Vec<_> =
            keyspace.read.load().memtables().filter(|memtable| !memtable.table.is_empty()).map(Arc::clone).collect();
        if memtables.is_empty() {
            return Ok(());
        }
        let outputs = self.write_memtables(keyspace, &memtables, pending)?;
        drop(memtables);
        pending.push(Pending { keyspace: Arc::clone(keyspace), outputs });
        let active = self.new_memtable();
        let _state = self.state.lock();
        keyspace.swap(|now| ReadState::new(active, Vec::new(), Arc::clone(&now.view)));
        Ok(())
    }

    /// Puts the tables of `version` before the readers of `keyspace`.
    pub(crate) fn show_version(&self, keyspace: &KeyspaceCore, version: &Version) -> Result<()> {
        let view = LevelView::open(&version.keyspaces[&keyspace.id], &self.tables, &self.picker, None)?;
        {
            let _state = self.state.lock();
            keyspace.swap(|now| ReadState::new(Arc::clone(&now.active), now.sealed.clone(), view));
        }
        self.update_pressure(keyspace);
        Ok(())
    }

    /// Removes files that no version names, and puts aside what was not replayed. Only now: before, they might have been needed.
    fn sweep(&self, replayed: &Replayed) -> Result<()> {
        let (version, manifest) =
            self.with_manifest(|manifest| Ok((Arc::clone(manifest.current()), manifest.manifest_number())))?;
        let tables: std::collections::HashSet<FileNo> = version.tables().map(|(_, _, table)| table.number).collect();
        let blobs: std::collections::HashSet<FileNo> = version.blobs().map(|(_, blob)| blob.meta.number).collect();
        let aside: BTreeMap<FileNo, &String> = replayed.set_aside.iter().map(|(log, why)| (*log, why)).collect();
        let names = self.vfs.list(&self.dir).map_err(|error| Error::io("list", &self.dir, error))?;
        let (rests, mut stray_logs) = (self.commit.lock().resting, Vec::new());
        let logs: std::collections::HashSet<FileNo> = {
            let state = self.state.lock();
            let retained = state.feed.retained.iter().map(|log| log.number);
            state.logs.iter().map(|log| log.number).chain(retained).collect()
        };
        let kinds = || names.iter().filter_map(|name| Some((FileKind::parse(name)?, name)));
        let options = |kind| if let FileKind::Options(number) = kind { Some(number) } else { None };
        let newest_options = kinds().filter_map(|(kind, _)| options(kind)).max();
        for (kind, name) in kinds() {
            let path = self.dir.join(name);
            let stray = match kind {
                FileKind::Temp | FileKind::WalAside(_) => true,
                FileKind::Table(number) => !tables.contains(&number),
                FileKind::Blob(number) => !blobs.contains(&number),
                FileKind::Manifest(number) => number < manifest,
                FileKind::Options(number) => Some(number) < newest_options,
                // One that was made ahead and never begun would stand in the line behind those that are in use.
                FileKind::Wal(number) if !logs.contains(&number) => match aside.get(&number) {
                    Some(why) => {
                        let to = FileKind::WalAside(number).path(&self.dir);
                        self.vfs.rename(&path, &to).map_err(|error| Error::io("set aside", &path, error))?;
                        self.tell(Event::SetAside { path: to, reason: why.to_string() });
                        false
                    }
                    None if rests => {
                        stray_logs.push(number);
                        false
                    }
                    None => true,
                },
                _ => false,
            };
            if stray {
                // What can't be removed now is tried again by the next open.
                let _ = self.vfs.remove_file(&path);
            }
        }
        self.commit.lock().stray_logs = stray_logs;
        Ok(())
    }
}

/// Whether the tables hold every operation there ever was, so that no log is needed: no sequence number above the flushed ones was ever reserved. So it is after
/// a clean close, and stays so if the next open dies before it has reserved any.
pub(crate) fn holds_everything(version: &Version) -> bool {
    version.keyspaces.values().all(|keyspace| keyspace.flushed_seq >= version.last_seq)
}

/// The options that were stored with the engine in `dir`.
pub(crate) fn stored_options(vfs: &dyn Vfs, dir: &Path) -> Result<Options> {
    options_text::read_newest(vfs, dir)
}
