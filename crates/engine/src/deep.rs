//! [`verify_deep`]: every file of a directory held against itself, and against what the others say of it.
//!
//! ```text
//! manifest ─> tables: there? as long, of the id, with the keys and counts that the manifest says? ─> every block, order, filter ─> references
//!          ─> blob files, likewise ─> logs: every record, every operation ─> would it open? ─> what else lies there
//! ```
//! Unlike [`crate::Engine::verify`] it needs no engine that opens, says all that it finds and not the first of each file, and looks at the logs too.
//!
//! Invariants
//! - It writes nothing, and holds the directory's lock shared.
//! - No file is mapped.
//! - What is found in one file keeps nobody from looking at the next one.

mod logs;
mod tables;

use crate::error::{Error, ErrorKind, Result, io_of};
use crate::finding::{Finding, Gravity, Progress};
use crate::options_text;
use esker_format::{FileKind, FileNo};
use esker_manifest::{ManifestError, Recovered, Version, VersionSet};
use esker_vfs::{FileLock, LockMode, Vfs, is_of_the_asker};
use esker_wal::WalError;
use std::collections::BTreeSet;
use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What [`verify_deep`] found.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct DeepReport {
    /// Tables read.
    pub tables: u64,
    /// Blocks in them that are whole.
    pub blocks: u64,
    /// Entries in these.
    pub entries: u64,
    /// Blob files read.
    pub blob_files: u64,
    /// Whole values in them.
    pub blob_records: u64,
    /// Logs read.
    pub logs: u64,
    /// Whole records in them.
    pub log_records: u64,
    /// Length of all these files, in bytes.
    pub bytes: u64,
    /// All that was found, file by file.
    pub findings: Vec<Finding>,
}

impl DeepReport {
    /// Whether everything could be read, and nothing is damaged or missing.
    pub fn is_ok(&self) -> bool {
        self.findings.iter().all(|finding| finding.gravity == Gravity::Note)
    }
}

/// Reads every file in `dir` that counts, whole, and says all that is wrong: every block, key order and filter of each table, every record of each blob file and log, that each reference leads to a
/// value, and whether files and manifest say the same: which there are, how long they are, their ids, keys, counts and sequence numbers. `progress` is told now and then.
///
/// Files that the manifest does not name, and what recovery has set aside, are not read; there is a note for each. The stored options have no checksum, so what is wrong with them is told only if it
/// shows.
///
/// It needs no engine that opens, and writes nothing.
///
/// # Errors
/// Only if the check could not be made: there is no such directory, it can't be listed, an engine has it open for writing. What it finds is in the report.
pub fn verify_deep(
    vfs: &Arc<dyn Vfs>,
    dir: impl AsRef<Path>,
    progress: &mut dyn FnMut(Progress),
) -> Result<DeepReport> {
    let dir = dir.as_ref();
    // First of all: what closes or opens meanwhile changes the files.
    let _lock = lock(&**vfs, dir)?;
    let names = vfs.list(dir).map_err(|error| Error::io("list", dir, error))?;
    let kinds: BTreeSet<FileKind> = names.iter().filter_map(|name| FileKind::parse(name)).collect();
    let mut total_bytes = 0;
    for kind in kinds.iter().filter(|kind| matches!(kind, FileKind::Table(_) | FileKind::Blob(_) | FileKind::Wal(_))) {
        total_bytes += vfs.metadata(&kind.path(dir)).map_or(0, |found| found.len_bytes);
    }
    let state = Progress { done_bytes: 0, total_bytes };
    let mut check = Check { vfs, dir, kinds, progress, state, report: DeepReport::default() };
    let recovered = check.manifest();
    let version = recovered.as_ref().map(|recovered| &*recovered.version);
    check.tables(version);
    check.blob_files(version);
    check.logs(version);
    let opens = check.opens(recovered.is_some());
    check.options();
    check.others(version, opens, &names);
    check.report.findings.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(check.report)
}

/// The lock of the directory `dir`, shared.
pub(crate) fn lock(vfs: &dyn Vfs, dir: &Path) -> Result<Box<dyn FileLock>> {
    let found = vfs.metadata(dir).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::new(ErrorKind::NotFound, format!("there is no directory {}", dir.display())),
        _ => Error::io("open", dir, error),
    })?;
    if !found.is_dir {
        return Err(Error::invalid(format!("{} is a file; an engine is a directory", dir.display())));
    }
    let path = FileKind::Lock.path(dir);
    vfs.lock(&path, LockMode::Shared).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => Error::new(
            ErrorKind::Locked,
            format!("{} is open for writing; close it there first, or look at a checkpoint", dir.display()),
        ),
        _ => Error::io("lock", &path, error),
    })
}

struct Check<'a> {
    vfs: &'a Arc<dyn Vfs>,
    dir: &'a Path,
    kinds: BTreeSet<FileKind>,
    progress: &'a mut dyn FnMut(Progress),
    state: Progress,
    report: DeepReport,
}

/// What a damaged table means, and what is to be done about it.
const TABLE_LOST: &str =
    "reads in its key range answer with an error, so that nothing it hid comes back; all other keys can be read";
const BLOB_LOST: &str =
    "the values that lie there can't be read; their keys are known, and all other values can be read";
const RESTORE: &str = "restore this file from a copy, or have repair make a new directory of what is left";
const NEWER: &str = "open it with the version that wrote it, or a newer one";
const MEDIUM: &str = "mend the medium";
const CANT_OPEN: &str = "it can't be opened: ";
const UNREAD: &str = "what it holds is not known, for it could not be read";
const ASK_AGAIN: &str = "look again with the rights, and as many open files and as much memory as it takes";

impl Check<'_> {
    fn find(&mut self, gravity: Gravity, file: &str, offset: Option<u64>, what: String, meaning: &str, advice: &str) {
        let (file, meaning, advice) = (file.to_owned(), meaning.to_owned(), advice.to_owned());
        self.report.findings.push(Finding { gravity, file, offset, what, meaning, advice });
    }

    fn damage(&mut self, file: &str, offset: Option<u64>, what: impl ToString, meaning: &str, advice: &str) {
        self.find(Gravity::Damage, file, offset, what.to_string(), meaning, advice);
    }

    /// Of what failed, `doing` and why; damage, unless it lies with who asks.
    fn failed(
        &mut self,
        file: &str,
        offset: Option<u64>,
        doing: &str,
        error: &(dyn StdError + 'static),
        meaning: &str,
        advice: &str,
    ) {
        let what = format!("{doing}{error}");
        if !io_of(error).is_some_and(is_of_the_asker) {
            return self.find(Gravity::Damage, file, offset, what, meaning, advice);
        }
        let mut found = self.report.findings.iter();
        // Once for each file: how often it was tried says nothing.
        if !found.any(|found| found.gravity == Gravity::Unread && found.file == file) {
            self.find(Gravity::Unread, file, offset, what, UNREAD, ASK_AGAIN);
        }
    }

    fn note(&mut self, file: &str, offset: Option<u64>, what: String, meaning: &str, advice: &str) {
        self.find(Gravity::Note, file, offset, what, meaning, advice);
    }

    fn read(&mut self, bytes: u64) {
        self.state.done_bytes += bytes;
        (self.progress)(self.state);
    }

    fn path(&self, kind: FileKind) -> PathBuf {
        kind.path(self.dir)
    }

    fn len(&self, kind: FileKind) -> Option<u64> {
        self.vfs.metadata(&self.path(kind)).ok().map(|found| found.len_bytes)
    }

    /// What the manifest holds.
    fn manifest(&mut self) -> Option<Recovered> {
        match VersionSet::read(&**self.vfs, self.dir) {
            Ok(recovered) => {
                let manifest = FileKind::Manifest(recovered.manifest).name();
                if recovered.end.leftover {
                    let meaning = "part of an edit whose call never returned, as a crash leaves it";
                    let place = Some(recovered.end.position.0);
                    self.note(&manifest, place, format!("its end: {}", recovered.end.cause), meaning, "nothing");
                }
                Some(recovered)
            }
            Err(error) => {
                let file = file_of(&error);
                let meaning = "nothing says which files belong together: the directory does not open. What follows is of each file by itself";
                let offset = match &error {
                    ManifestError::Record { position, .. } | ManifestError::Break { position, .. } => Some(position.0),
                    _ => None,
                };
                let advice = match &error {
                    ManifestError::NoEngine(_) => "check the path: no engine was ever made here",
                    error if error.is_unsupported() => NEWER,
                    error if error.io().is_some() => MEDIUM,
                    _ => RESTORE,
                };
                self.failed(&file, offset, "", &error, meaning, advice);
                None
            }
        }
    }

    /// The stored options.
    fn options(&mut self) {
        let Ok(Some(kind)) = options_text::newest_file(&**self.vfs, self.dir) else { return };
        let Err(error) = options_text::read_newest(&**self.vfs, self.dir) else { return };
        let meaning = "no key depends on it; only with which options the directory was last opened is not known";
        let advice = "nothing: opening it for writing stores the options anew";
        match error.kind() {
            ErrorKind::Unsupported if options_text::may_be_newer(&**self.vfs, self.dir) => {
                let meaning = format!(
                    "a newer version has written it, or it is damaged: it has no checksum that would tell; {meaning}"
                );
                self.note(&kind.name(), None, error.to_string(), &meaning, advice);
            }
            ErrorKind::Io => self.failed(&kind.name(), None, "", &error, meaning, MEDIUM),
            _ => self.damage(&kind.name(), None, error, meaning, advice),
        }
    }

    /// What lies there beside what belongs together.
    fn others(&mut self, version: Option<&Version>, opens: bool, names: &[String]) {
        let Some(version) = version else { return };
        let named: BTreeSet<FileNo> = version
            .tables()
            .map(|(_, _, table)| table.number)
            .chain(version.blobs().map(|(_, blob)| blob.meta.number))
            .collect();
        const SPACE: &str = "it takes space and means nothing: a flush, compaction or recovery left it behind";
        const REMOVED: &str = "nothing: the next open for writing removes it";
        for name in names {
            let (what, meaning, advice) = match FileKind::parse(name) {
                Some(FileKind::Table(number) | FileKind::Blob(number)) if !named.contains(&number) => match opens {
                    true => ("the manifest does not name it; it was not read", SPACE, REMOVED),
                    // Whatever is missing may be in it.
                    false => (
                        "the manifest does not name it; it was not read",
                        "as long as the directory does not open it is not known whether it is left over, or the manifest lacks the edit that added it",
                        "keep it: what repair takes may be in it",
                    ),
                },
                Some(FileKind::WalAside(_)) => ("a log that recovery did not replay to its end", SPACE, REMOVED),
                Some(FileKind::Temp) => ("a file that was being written", SPACE, REMOVED),
                _ => continue,
            };
            self.note(name, None, what.into(), meaning, advice);
        }
    }
}

/// Of which file a manifest's error is.
fn file_of(error: &ManifestError) -> String {
    match error {
        ManifestError::Record { name, .. }
        | ManifestError::Break { name, .. }
        | ManifestError::WrongNumber { name, .. }
        | ManifestError::ManifestMissing { name, .. }
        | ManifestError::NoEdit { name } => name.clone(),
        ManifestError::Wal(
            WalError::Io { name, .. }
            | WalError::NoHeader { name, .. }
            | WalError::Unsupported { name, .. }
            | WalError::Invalid { name, .. },
        ) => name.to_string(),
        ManifestError::Io { path, .. } => {
            let name = path.file_name().and_then(|name| name.to_str());
            name.filter(|name| FileKind::parse(name).is_some()).map_or_else(|| FileKind::Current.name(), str::to_owned)
        }
        _ => FileKind::Current.name(),
    }
}
