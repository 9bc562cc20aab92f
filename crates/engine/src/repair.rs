//! [`repair`]: a new directory out of what is left of a damaged one.
//!
//! ```text
//! manifest, as far as it can be read ─> tables, whole or block by block ─> logs ─> one merge a keyspace ─> new tables, blob files ─> new manifest ─> verify_deep
//! ```
//! | module | does |
//! |---|---|
//! | `patient` | reads around what the device can't give |
//! | `judge` | says whether the manifest can be taken at its word |
//! | `tables` | finds tables, reads what can be read of them, and says whose they are |
//! | `logs` | reads logs, behind breaks too |
//! | `names` | says what keyspaces are called, and to which one a table goes that nothing is known of |
//! | `merge` | writes what each key has in the end |
//! | `report` | says what is lost |
//!
//! Invariants
//! - The damaged directory is only read, under a shared lock; nothing is linked from it.
//! - The new one becomes an engine by its last step, or is left as it was found.
//! - What the new one holds was in a file whose checksum passed.
//!
//! # What may come back
//! A newer version hides older ones. Where it is lost they are not, if they still lie in another file. And what compaction has dropped for good may still lie in a table that it had read: the
//! manifest says that such a table counts for nothing, so without the manifest deleted keys, filtered ones and replaced values may be there again, and operands count twice. The report says where.

mod judge;
mod logs;
mod merge;
mod names;
mod patient;
mod report;
mod tables;

pub use report::{Loss, RepairReport, RepairedKeyspace};

use crate::deep::{lock, verify_deep};
use crate::error::{Error, ErrorKind, Result};
use crate::finding::{Gravity, Progress};
use crate::new_dir::NewDir;
use crate::options_text;
use esker_blob::BlobFile;
use esker_format::{FileKind, FileNo, KeyspaceId, SeqNo};
use esker_manifest::{KeyspaceVersion, Level, Salvaged, Version, VersionEdit, VersionSet, salvage};
use esker_sstable::Table;
use esker_vfs::{Vfs, read_file};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use patient::{Patient, Unreadable};

/// Numbers of files, keyspaces and positions from here on are none that an engine has come to.
const NUMBER_MAX: u64 = 1 << 62;
const OPTIONS_BYTES_MAX: u64 = 64 << 10;

/// Makes in `to` an engine of what can be read in `from`, whose manifest, tables, blob files or logs are damaged or missing. `from` is only read.
///
/// Tables that are damaged give the blocks that pass, logs the records that do. Keyspaces keep names, numbers and options as far as the manifest can be read; one that it says nothing of is called
/// `keyspace-N` by its number, which the logs tell. A table of which nothing tells the keyspace goes to `default`, if there is no sign of any other keyspace, or else to one of its own, `table-N`.
///
/// In `to` each key has what a reader of now would see, in new tables; large values are copied. What is lost, and what may be there again that had been deleted, stands in the report:
/// see `docs/guarantees.md`. `progress` is told now and then.
///
/// # Errors
/// `Unsupported` if a newer version has written any of what is needed; `InvalidArgument` if `to` exists and is not an empty directory, lies in `from`, or has `..` behind a directory that does not exist; `NotFound` if there is nothing in `from` to make an engine of; `Locked` if an engine has `from` open for writing, or somebody else makes or has one in `to`; `Io`
/// if anything in `from` can't be read for want of rights, descriptors or memory, for else it would count as lost; those of reading and writing files. Then what was made in `to` is removed again.
///
/// # Durability
/// The new engine is on stable storage, and was read back whole by [`verify_deep`], when this returns.
pub fn repair(
    vfs: &Arc<dyn Vfs>,
    from: impl AsRef<Path>,
    to: impl AsRef<Path>,
    progress: &mut dyn FnMut(Progress),
) -> Result<RepairReport> {
    let (from, to) = (from.as_ref(), to.as_ref());
    let _lock = lock(&**vfs, from)?;
    if plain(to).starts_with(plain(from)) {
        let (to, from) = (to.display(), from.display());
        return Err(Error::invalid(format!("{to} lies in {from}, which is not to be touched: name another place")));
    }
    if goes_back_from_nowhere(&**vfs, to) {
        let to = to.display();
        return Err(Error::invalid(format!(
            "{to} goes back ('..') from a directory that does not exist: name the place itself"
        )));
    }
    let names = vfs.list(from).map_err(|error| Error::io("list", from, error))?;
    let mut kinds: BTreeSet<FileKind> = names.iter().filter_map(|name| FileKind::parse(name)).collect();
    let patient = Patient::new(vfs, from);
    let mut no_files = Vec::new();
    kinds.retain(|kind| match no_file(&*patient, from, *kind) {
        Some(why) => {
            no_files.push((kind.name(), why));
            false
        }
        None => true,
    });
    let holds = |kind: &FileKind| {
        matches!(kind, FileKind::Table(_) | FileKind::Wal(_) | FileKind::Manifest(_) | FileKind::Current)
    };
    if !kinds.iter().any(holds) {
        return Err(Error::new(ErrorKind::NotFound, format!("there is nothing of an engine in {}", from.display())));
    }
    patient.check_refused()?;
    let mut dir = NewDir::make(&**vfs, to)?;
    let result = loop {
        let known = patient.unreadable_pieces();
        let result = build(vfs, &patient, from, &mut dir, kinds.clone(), progress);
        // What was read the first time and not the second is damaged only now. Known to be, it is so from the beginning.
        if result.is_ok() || patient.unreadable_pieces() == known {
            break result;
        }
        dir.clear();
    };
    let result = result.map(|mut report| {
        report.unused.extend(no_files);
        report
    });
    if result.is_err() {
        dir.discard();
    }
    result
}

/// The path without `.` and `..`, as far as that can be told from it alone.
fn plain(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            component => plain.push(component),
        }
    }
    plain
}

/// Whether `..` stands in the path behind a directory that is not there: what it leads to once that is made need not be what it says, if there are links.
fn goes_back_from_nowhere(vfs: &dyn Vfs, path: &Path) -> bool {
    let mut walked = PathBuf::new();
    path.components().any(|component| {
        let is_nowhere = component == Component::ParentDir
            && !walked.as_os_str().is_empty()
            && vfs.metadata(&walked).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        walked.push(component);
        is_nowhere
    })
}

/// Why what has a file's name is none, if it is something else: a directory, a pipe. Then it counts as missing. All are opened here once, so that what can't be is known before anything is made.
fn no_file(vfs: &dyn Vfs, from: &Path, kind: FileKind) -> Option<String> {
    // Nothing is taken from a temporary file, which goes by no name.
    if matches!(kind, FileKind::Temp | FileKind::Lock) {
        return None;
    }
    let error = vfs.open_read(&kind.path(from)).err()?;
    let is_taken_from = matches!(kind, FileKind::Table(_) | FileKind::Wal(_) | FileKind::Blob(_));
    (is_taken_from && matches!(error.kind(), io::ErrorKind::IsADirectory | io::ErrorKind::InvalidInput))
        .then(|| format!("no file, but something else of this name: {error}"))
}

/// What a newer version has written is not damaged: what is taken for that would be left out, and the rest taken for all there is.
fn newer(what: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unsupported, format!("{what}. Repair with the version that wrote it, or a newer one"))
}

fn build(
    plain_vfs: &Arc<dyn Vfs>,
    patient: &Arc<Patient>,
    from: &Path,
    dir: &mut NewDir<'_>,
    kinds: BTreeSet<FileKind>,
    progress: &mut dyn FnMut(Progress),
) -> Result<RepairReport> {
    let to = dir.path();
    let vfs = &(Arc::clone(patient) as Arc<dyn Vfs>);
    let facts = salvage(&**vfs, from)?;
    let total_bytes = kinds
        .iter()
        .filter(|kind| matches!(kind, FileKind::Table(_) | FileKind::Wal(_)))
        .map(|kind| vfs.metadata(&kind.path(from)).map_or(0, |found| found.len_bytes))
        .sum();
    let numbers = kinds.iter().filter_map(|kind| kind.number()).map(|number| number.0.saturating_add(1));
    let next_file = numbers.chain([facts.next_file.0, 2]).filter(|number| *number < NUMBER_MAX).max().unwrap_or(2);
    let mut repair = Repair {
        vfs,
        patient,
        from,
        to,
        kinds,
        next_file,
        facts,
        blobs: BTreeMap::new(),
        scratch: Vec::new(),
        now_ms: vfs.clock().unix_ms(),
        report: RepairReport::default(),
        progress,
        state: Progress { done_bytes: 0, total_bytes },
    };
    repair.run()?;
    let report = repair.report;
    dir.checked(|| {
        let checked = verify_deep(plain_vfs, to, &mut |_| {})?;
        match checked.findings.into_iter().max_by_key(|finding| finding.gravity) {
            Some(finding) if finding.gravity == Gravity::Damage => {
                Err(Error::corruption(format!("what was written did not come out as it should: {finding}")))
            }
            Some(finding) if finding.gravity == Gravity::Unread => {
                let message = format!(
                    "what was written can't be read back, and is gone again: {finding}; run it again with as many open files and as much memory as it takes"
                );
                Err(Error::new(ErrorKind::Io, message))
            }
            _ => Ok(report),
        }
    })
}

/// A repair under way.
struct Repair<'a> {
    /// The patient one.
    vfs: &'a Arc<dyn Vfs>,
    patient: &'a Patient,
    from: &'a Path,
    to: &'a Path,
    /// The files of the damaged directory.
    kinds: BTreeSet<FileKind>,
    /// What its manifests say.
    facts: Salvaged,
    /// Its blob files that were asked for.
    blobs: BTreeMap<FileNo, Result<Arc<BlobFile>, String>>,
    next_file: u64,
    /// Tables of the new directory that are only read from.
    scratch: Vec<FileNo>,
    now_ms: u64,
    report: RepairReport,
    progress: &'a mut dyn FnMut(Progress),
    state: Progress,
}

impl Repair<'_> {
    fn new_number(&mut self) -> FileNo {
        self.next_file += 1;
        FileNo(self.next_file - 1)
    }

    fn read(&mut self, bytes: u64) {
        self.state.done_bytes += bytes;
        (self.progress)(self.state);
    }

    fn remark(&mut self, remark: String) {
        if !self.report.remarks.contains(&remark) {
            self.report.remarks.push(remark);
        }
    }

    fn run(&mut self) -> Result<()> {
        self.judge_manifest()?;
        self.refuse_newer_blob_files()?;
        let mut sources = self.tables()?;
        let gathered = self.logs(&mut sources)?;
        self.assign(&mut sources)?;
        let names = self.name_keyspaces(&gathered.keyspaces, &mut sources);
        let doubtful: Vec<String> = sources
            .iter()
            .filter(|source| !source.is_named && source.table.is_some())
            .map(|source| FileKind::Table(source.number).name())
            .collect();
        let mut last_seq = gathered.last_seq.max(self.facts.last_seq);
        for source in &mut sources {
            let name = source.keyspace.and_then(|id| names.get(&id));
            source.losses.iter_mut().for_each(|loss| loss.keyspace = name.map(|(name, _)| name.clone()));
            self.report.losses.append(&mut source.losses);
        }
        let mut version = Version::new();
        let mut edit = VersionEdit::default();
        for (&id, (name, options)) in &names {
            let of_it = |source: &&tables::Source| source.keyspace == Some(id);
            let tables: Vec<Arc<Table>> =
                sources.iter().filter(of_it).filter_map(|source| source.table.clone()).collect();
            let greatest = tables.iter().map(|table| table.properties().largest_seq).max();
            last_seq = last_seq.max(greatest.unwrap_or_default());
            let ranges = gathered.ranges.get(&id).map_or(&[][..], |ranges| ranges);
            let merged = self.merge(id, name, &tables, ranges)?;
            let shown = name.escape_debug();
            let is_known = self.facts.keyspaces.contains_key(&id);
            if merged.operands > 0 && !is_known {
                self.remark(format!(
                    "keyspace '{shown}' holds merge operands, and which operator they are for stood in the manifest: its merged values can't be read until that is known"
                ));
            }
            // Compaction sums operands up under the number of the newest. Where the older ones come from a log once more, or from a table that no longer counted, nothing shows that they are in it.
            let anew = gathered.lossy.contains(&id) && self.report.log_operations > 0;
            if merged.operands > 0 && (!self.report.exact || anew) {
                self.remark(format!(
                    "keyspace '{shown}' holds merge operands from tables and logs that may overlap: some may count twice in its merged values"
                ));
            }
            let bytes = merged.tables.iter().map(|table| table.file_bytes).sum::<u64>()
                + merged.blobs.iter().map(|blob| blob.file_bytes).sum::<u64>();
            self.report.keyspaces.push(RepairedKeyspace {
                name: name.clone(),
                id: id.0,
                is_known,
                keys: merged.keys,
                tables: merged.tables.len() as u64,
                bytes,
            });
            version.keyspaces.insert(id, Arc::new(KeyspaceVersion::new(id, name, options)));
            edit.add.extend(merged.tables.into_iter().map(|table| (id, Level::BOTTOM, table)));
            edit.add_blobs.extend(merged.blobs.into_iter().map(|blob| (id, blob)));
        }
        self.say_what_may_come_back(&doubtful);
        drop(sources);
        for number in std::mem::take(&mut self.scratch) {
            let path = FileKind::Table(number).path(self.to);
            self.vfs.remove_file(&path).map_err(|error| Error::io("remove", &path, error))?;
        }
        self.copy_options()?;
        self.say_what_is_unreadable();
        self.patient.check_refused()?;
        self.install(version, edit, last_seq)
    }

    fn say_what_may_come_back(&mut self, doubtful: &[String]) {
        if !doubtful.is_empty() {
            let files = doubtful.join(", ");
            self.remark(format!(
                "no manifest says whether {files} still counted: keys that were deleted, filtered or had expired, and values that were replaced, may be there again, and operands that were merged into others may count twice"
            ));
        }
        if !self.report.losses.is_empty() {
            let remark = "where newer versions of a key are lost, older ones that lay in other files are there again, deleted ones too";
            self.remark(remark.to_owned());
        }
    }

    fn say_what_is_unreadable(&mut self) {
        for (path, Unreadable { pieces, why }) in self.patient.unreadable() {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            let (count, first) = (pieces.len(), pieces.first().copied().unwrap_or_default());
            self.remark(format!(
                "of {file} the system can't read {count} pieces of 4 KiB, the first at {first}: {why}; they were taken for damage"
            ));
        }
    }

    /// The options of the damaged directory, if they can be read.
    fn copy_options(&mut self) -> Result<()> {
        let Some(kind) = options_text::newest_file(&**self.vfs, self.from)? else { return Ok(()) };
        let is_sound = options_text::read_newest(&**self.vfs, self.from);
        let read =
            || read_file(&**self.vfs, &kind.path(self.from), OPTIONS_BYTES_MAX).map_err(|error| error.to_string());
        match is_sound.map_err(|error| error.to_string()).and_then(|_| read()) {
            Ok(bytes) => {
                let path = FileKind::Options(self.new_number()).path(self.to);
                esker_vfs::replace_file(&**self.vfs, &path, &bytes).map_err(|error| Error::io("write", &path, error))
            }
            Err(why) => {
                self.remark(format!("with which options the directory was last opened is not known: {why}"));
                Ok(())
            }
        }
    }

    /// Writes manifest and CURRENT.
    fn install(&mut self, mut version: Version, mut edit: VersionEdit, last_seq: SeqNo) -> Result<()> {
        let last_id = version.keyspaces.keys().next_back().map_or(0, |id| id.0);
        version.next_keyspace = KeyspaceId(last_id.saturating_add(1)).max(self.facts.next_keyspace);
        version.last_seq = last_seq.min(SeqNo::MAX);
        version.next_file = FileNo(self.next_file);
        version.clock_ms = self.facts.clock_ms;
        version.written_bytes = self.facts.written_bytes;
        // What was committed before is told by no feed.
        version.changes_from = version.last_seq;
        version.changes_log = FileNo(self.next_file - 1);
        // All that there is is in tables.
        edit.flushed = version.keyspaces.keys().map(|id| (*id, version.last_seq)).collect();
        let version = Arc::new(version.apply(&edit)?);
        VersionSet::create_from(Arc::clone(self.vfs), self.to, &version)?;
        Ok(())
    }
}
