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
//! - What is found in one file keeps nobody from looking at the next one.

use crate::error::{Error, ErrorKind, Result};
use crate::finding::{Finding, Gravity, Progress};
use crate::open::holds_everything;
use crate::options::RecoveryMode;
use crate::recovery::{self, Told};
use crate::verify::differences;
use crate::{Background, Engine, Options};
use esker_blob::{Access, BlobFile, BlobRef};
use esker_format::{FileKind, FileNo, SeqNo, ValueKind, batch, expiry::decode_expiry};
use esker_manifest::{BlobMeta, BlobUse, ManifestError, Recovered, TableMeta, Version, VersionSet};
use esker_sstable::{BlockCache, Expect, InternalIterator, ReadMode, Table, TableOptions, Verify};
use esker_vfs::{FileLock, LockMode, Vfs};
use esker_wal::{Lsn, Reader, RecordKind};
use std::collections::{BTreeMap, BTreeSet};
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
    /// Whether nothing is damaged or missing.
    pub fn is_ok(&self) -> bool {
        self.findings.iter().all(|finding| finding.gravity == Gravity::Note)
    }
}

/// Reads every file in `dir` whole and says all that is wrong: every block, key order and filter of each table, every record of each blob file and log, that each reference leads to a
/// value, and whether files and manifest say the same: which there are, how long they are, their ids, keys, counts and sequence numbers. `progress` is told now and then.
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
    let names = vfs.list(dir).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::new(ErrorKind::NotFound, format!("there is no directory {}", dir.display())),
        _ => Error::io("list", dir, error),
    })?;
    let kinds: BTreeSet<FileKind> = names.iter().filter_map(|name| FileKind::parse(name)).collect();
    let mut total_bytes = 0;
    for kind in kinds.iter().filter(|kind| matches!(kind, FileKind::Table(_) | FileKind::Blob(_) | FileKind::Wal(_))) {
        total_bytes += vfs.metadata(&kind.path(dir)).map_or(0, |found| found.len_bytes);
    }
    let state = Progress { done_bytes: 0, total_bytes };
    let mut check = Check { vfs, dir, kinds, progress, state, report: DeepReport::default() };
    let _lock = check.lock()?;
    let recovered = check.manifest();
    let version = recovered.as_ref().map(|recovered| &*recovered.version);
    check.tables(version);
    check.blob_files(version);
    check.logs(version);
    check.opens(recovered.as_ref());
    check.others(version);
    check.report.findings.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(check.report)
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

impl Check<'_> {
    fn lock(&mut self) -> Result<Option<Box<dyn FileLock>>> {
        let path = FileKind::Lock.path(self.dir);
        match self.vfs.lock(&path, LockMode::Shared) {
            Ok(lock) => Ok(Some(lock)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if self.kinds.contains(&FileKind::Current) {
                    let meaning = "it can't be opened for reading only; opening for writing makes the file anew";
                    self.note("LOCK", None, "it is missing".into(), meaning, "make an empty file of this name");
                }
                Ok(None)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Error::new(
                ErrorKind::Locked,
                format!("{} is open for writing; close it there first, or look at a checkpoint", self.dir.display()),
            )),
            Err(error) => Err(Error::io("lock", &path, error)),
        }
    }

    fn find(&mut self, gravity: Gravity, file: &str, offset: Option<u64>, what: String, meaning: &str, advice: &str) {
        let (file, meaning, advice) = (file.to_owned(), meaning.to_owned(), advice.to_owned());
        self.report.findings.push(Finding { gravity, file, offset, what, meaning, advice });
    }

    fn damage(&mut self, file: &str, offset: Option<u64>, what: impl ToString, meaning: &str, advice: &str) {
        self.find(Gravity::Damage, file, offset, what.to_string(), meaning, advice);
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
                let file = match &error {
                    ManifestError::Record { name, .. }
                    | ManifestError::Break { name, .. }
                    | ManifestError::WrongNumber { name, .. }
                    | ManifestError::NoEdit { name } => name.clone(),
                    ManifestError::Wal(esker_wal::WalError::NoHeader { name, .. }) => name.to_string(),
                    _ => FileKind::Current.name(),
                };
                let meaning = "nothing says which files belong together: the directory does not open. What follows is of each file by itself";
                let (advice, offset) = match &error {
                    ManifestError::NoEngine(_) => ("check the path: no engine was ever made here", None),
                    ManifestError::Record { position, .. } | ManifestError::Break { position, .. } => {
                        (RESTORE, Some(position.0))
                    }
                    error if error.is_unsupported() => ("open it with the version that wrote it, or a newer one", None),
                    _ => (RESTORE, None),
                };
                self.damage(&file, offset, error, meaning, advice);
                None
            }
        }
    }

    /// All tables of the version; without one, all that there are.
    fn tables(&mut self, version: Option<&Version>) {
        let Some(version) = version else {
            let tables: Vec<FileKind> =
                self.kinds.iter().copied().filter(|kind| matches!(kind, FileKind::Table(_))).collect();
            for kind in tables {
                self.table(kind, None);
            }
            return;
        };
        for keyspace in version.keyspaces.values() {
            let blobs: BTreeMap<FileNo, Arc<BlobFile>> =
                keyspace.blobs.keys().filter_map(|number| Some((*number, self.open_blob(*number).ok()?))).collect();
            for (_, meta) in keyspace.tables() {
                let kind = FileKind::Table(meta.number);
                if let Some(table) = self.table(kind, Some(meta)) {
                    self.references(&kind.name(), &table, meta, &blobs);
                }
            }
        }
    }

    /// One table, by itself and beside what the manifest says of it.
    fn table(&mut self, kind: FileKind, meta: Option<&TableMeta>) -> Option<Arc<Table>> {
        let name = kind.name();
        let file = match self.vfs.open_read(&self.path(kind)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.damage(&name, None, "it is missing", TABLE_LOST, RESTORE);
                return None;
            }
            Err(error) => {
                self.damage(
                    &name,
                    None,
                    format!("it can't be opened: {error}"),
                    TABLE_LOST,
                    "mend the medium or the permissions",
                );
                return None;
            }
        };
        self.report.tables += 1;
        let len = file.len_bytes().unwrap_or(0);
        self.report.bytes += len;
        let options = |expect| TableOptions {
            verify: Verify::Always,
            read_mode: ReadMode::Pread,
            cache: BlockCache::new(0),
            expect,
        };
        let expect =
            meta.map(|meta| Expect { file_bytes: meta.file_bytes, file_id: meta.file_id, seq: meta.table_seq });
        let opened = match Table::open(Arc::clone(&file), &name, options(expect)) {
            // Another file under its name may be whole by itself; that is worth knowing too.
            Err(error) if expect.is_some() && error.is_corruption() => {
                let offset = error.offset();
                self.damage(&name, offset, &error, TABLE_LOST, RESTORE);
                let alone = Table::open(file, &name, options(None));
                alone.map_err(|other| (other.to_string() != error.to_string()).then_some(other))
            }
            opened => opened.map_err(Some),
        };
        let table = match opened {
            Ok(table) => table,
            Err(error) => {
                if let Some(error) = error {
                    self.damage(&name, error.offset(), &error, TABLE_LOST, RESTORE);
                }
                self.read(len);
                return None;
            }
        };
        let (mut found, mut done) = (Vec::new(), 0);
        let state = self.state;
        let verified = table.verify_all(&mut |error| found.push(error), &mut |bytes| {
            done += bytes;
            (self.progress)(Progress { done_bytes: state.done_bytes + done, ..state });
        });
        for error in found {
            self.damage(&name, error.offset(), &error, TABLE_LOST, RESTORE);
        }
        self.report.blocks += verified.blocks;
        self.report.entries += verified.entries;
        for difference in meta.map(|meta| differences(meta, &table)).unwrap_or_default() {
            self.damage(&name, None, difference, TABLE_LOST, RESTORE);
        }
        self.read(len);
        Some(table)
    }

    /// Whether each entry's reference leads to a value, and all together to what the manifest says.
    fn references(
        &mut self,
        name: &str,
        table: &Arc<Table>,
        meta: &TableMeta,
        blobs: &BTreeMap<FileNo, Arc<BlobFile>>,
    ) {
        let mut found: BTreeMap<FileNo, (u64, u64)> = BTreeMap::new();
        let (mut broken, mut first) = (0u64, None);
        let mut iter = table.iter_once();
        let mut walked = iter.seek_to_first();
        while walked.is_ok() && iter.valid() {
            let kind = iter.key().trailer.kind();
            if matches!(kind, ValueKind::Blob | ValueKind::ExpiringBlob) {
                let stored = match kind.expires() {
                    true => decode_expiry(iter.value()).map(|(_, stored)| stored),
                    false => Ok(iter.value()),
                };
                let wrong = match stored.and_then(BlobRef::decode) {
                    Err(error) => Some(error.to_string()),
                    Ok(reference) => {
                        let (records, bytes) = found.entry(reference.file).or_default();
                        *records += 1;
                        *bytes += reference.record_bytes();
                        match blobs.get(&reference.file).map(|file| file.get_checked(reference)) {
                            // Told of the blob file.
                            None if meta.blobs.iter().any(|used| used.file == reference.file) => None,
                            None => Some(format!("blob file {} is none of its own", reference.file)),
                            Some(Err(error)) => Some(error.to_string()),
                            Some(Ok(_)) => None,
                        }
                    }
                };
                if let Some(wrong) = wrong {
                    broken += 1;
                    first.get_or_insert_with(|| {
                        format!("the entry of '{}': {wrong}", iter.key().user_key.escape_ascii())
                    });
                }
            }
            walked = iter.next();
        }
        if let Some(first) = first {
            let what = format!("{broken} entries refer to values that can't be read, the first: {first}");
            self.damage(
                name,
                None,
                what,
                BLOB_LOST,
                "restore the blob file from a copy, or have repair make a new directory of what is left",
            );
        }
        let found = found.into_iter().map(|(file, (records, bytes))| BlobUse { file, records, bytes });
        // Where a block is damaged it was told, and what it refers to is not known.
        if walked.is_ok() && !found.eq(meta.blobs.iter().copied()) {
            let meaning = "space in blob files may be taken for garbage that is not, or the other way round";
            self.damage(
                name,
                None,
                "it refers to other records of blob files than the manifest says",
                meaning,
                RESTORE,
            );
        }
    }

    fn open_blob(&self, number: FileNo) -> Result<Arc<BlobFile>> {
        let kind = FileKind::Blob(number);
        let path = self.path(kind);
        let file = self.vfs.open_read(&path).map_err(|error| Error::io("open", &path, error))?;
        Ok(BlobFile::open(file, &kind.name(), Access::Copied, None)?)
    }

    fn blob_files(&mut self, version: Option<&Version>) {
        let named: Vec<(FileNo, Option<Arc<BlobMeta>>)> = match version {
            Some(version) => {
                version.blobs().map(|(_, blob)| (blob.meta.number, Some(Arc::clone(&blob.meta)))).collect()
            }
            None => self
                .kinds
                .iter()
                .filter_map(|kind| if let FileKind::Blob(number) = kind { Some((*number, None)) } else { None })
                .collect(),
        };
        for (number, meta) in named {
            self.blob_file(FileKind::Blob(number), meta.as_deref());
        }
    }

    fn blob_file(&mut self, kind: FileKind, meta: Option<&BlobMeta>) {
        let name = kind.name();
        let file = match self.vfs.open_read(&self.path(kind)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.damage(&name, None, "it is missing", BLOB_LOST, RESTORE);
            }
            Err(error) => {
                let what = format!("it can't be opened: {error}");
                return self.damage(&name, None, what, BLOB_LOST, "mend the medium or the permissions");
            }
        };
        self.report.blob_files += 1;
        let len = file.len_bytes().unwrap_or(0);
        self.report.bytes += len;
        match BlobFile::open(file, &name, Access::Copied, None) {
            Err(error) => self.damage(&name, None, error, BLOB_LOST, RESTORE),
            Ok(file) => {
                let mut records = 0;
                for record in file.records() {
                    match record {
                        Ok(_) => records += 1,
                        // Where the next one would be is not known; those that entries refer to are looked at by way of these.
                        Err(error) => self.damage(&name, None, error, BLOB_LOST, RESTORE),
                    }
                }
                self.report.blob_records += records;
                if let Some(meta) = meta {
                    let told = [
                        ("file id", file.file_id().0, meta.file_id.0),
                        ("number", file.number().0, meta.number.0),
                        ("length", file.file_bytes(), meta.file_bytes),
                        ("number of records", file.record_count(), meta.records),
                    ];
                    for (what, found, expected) in told.into_iter().filter(|(_, found, expected)| found != expected) {
                        let what = format!("{what} {found}, the manifest says {expected}");
                        self.damage(&name, None, what, BLOB_LOST, RESTORE);
                    }
                }
            }
        }
        self.read(len);
    }

    /// The logs in the directory from number `oldest` on.
    fn logs_from(&self, oldest: FileNo) -> Vec<FileNo> {
        let number = |kind: &FileKind| if let FileKind::Wal(number) = kind { Some(*number) } else { None };
        self.kinds.iter().filter_map(number).filter(|number| *number >= oldest).collect()
    }

    /// Every record of every log that is still part of the engine: needed, or kept for the feed of changes.
    fn logs(&mut self, version: Option<&Version>) {
        let oldest = version.map_or(FileNo(0), |version| version.changes_log.min(version.oldest_log));
        for number in self.logs_from(oldest) {
            self.log(number, version);
        }
    }

    fn log(&mut self, number: FileNo, version: Option<&Version>) {
        let (lost, salvage) = match version {
            Some(version) if number < version.oldest_log => (
                "the feed of changes can't tell of it; all that this log held is in tables",
                "restore this file from a copy, if somebody is to follow the feed from so far back; else nothing",
            ),
            _ => (
                "writes that were on stable storage are gone: the directory does not open",
                "restore this file from a copy, go on without what is lost (RecoveryMode::Salvage), or have repair make a new directory of what is left",
            ),
        };
        let kind = FileKind::Wal(number);
        let name = kind.name();
        let len = self.len(kind).unwrap_or(0);
        let opened = self.vfs.open_read(&self.path(kind)).map_err(|error| error.to_string());
        let mut reader = match opened.and_then(|file| Reader::open(file, &name).map_err(|error| error.to_string())) {
            Ok(reader) => reader,
            // Whether it should have been begun, opening tells.
            Err(error) => {
                let meaning =
                    "a log that was made ahead and never begun looks so, or one whose header never reached the disk";
                self.note(&name, Some(0), error, meaning, "nothing, if the directory opens");
                return self.read(len);
            }
        };
        if reader.header().number != number {
            // The file of a former log that is to be used again.
            return self.read(len);
        }
        self.report.logs += 1;
        self.report.bytes += len;
        let (mut last, mut records) = (SeqNo::ZERO, 0);
        let start = reader.header().start;
        let in_file = |position: Lsn| Some(position.0 - start.0);
        let failed = loop {
            match reader.next() {
                Ok(Some(record)) if record.kind == RecordKind::Data => {
                    records += 1;
                    if let Err(what) = check_batch(record.payload, &mut last, version) {
                        let place = in_file(record.position);
                        self.damage(&name, place, what, "a write is not as it was made", salvage);
                    }
                }
                Ok(Some(_)) => records += 1,
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        self.report.log_records += records;
        if let Some(error) = failed {
            self.damage(&name, None, error, "what lies behind can't be read", salvage);
        } else if let Some(end) = reader.end().copied().filter(|end| end.leftover) {
            if end.vouched > end.position {
                let what = format!("a record is not whole, and was on stable storage: {}", end.cause);
                self.damage(&name, in_file(end.position), what, lost, salvage);
            } else {
                let what = format!("its end is not whole: {}", end.cause);
                let meaning = "as a kill or a power cut leaves it; nothing that was promised to last is missing";
                self.note(&name, in_file(end.position), what, meaning, "nothing");
            }
        }
        self.read(len);
    }

    /// Whether an engine would open, and what it would leave out.
    fn opens(&mut self, recovered: Option<&Recovered>) {
        let Some(recovered) = recovered else { return };
        if !self.kinds.contains(&FileKind::Lock) {
            return self.replays(recovered);
        }
        let options = Options { create_if_missing: false, ..Options::default() };
        let engine = Engine::builder(self.dir).vfs(Arc::clone(self.vfs)).options(options).read_only(true);
        match engine.background(Background::Manual).open() {
            Ok(engine) => {
                for left_out in engine.metrics().left_out_of_recovery {
                    let (file, why) = left_out.split_once(": ").unwrap_or(("logs", &left_out));
                    let meaning = "what was never on stable storage is left out, as after a kill or a power cut";
                    let what = format!("not all of it is replayed: {why}");
                    self.note(
                        file,
                        None,
                        what,
                        meaning,
                        "nothing; what is left out is set aside when it is next opened for writing",
                    );
                }
            }
            Err(error) => {
                let advice = match error.kind() {
                    ErrorKind::Unsupported => "open it with the version that wrote it, or a newer one",
                    ErrorKind::Io => "mend what the message names, and look again",
                    _ => "restore the directory from a copy, or have repair make a new one of what is left",
                };
                self.damage("the directory", None, error, "it does not open", advice);
            }
        }
    }

    /// Of a directory that can't be opened because it lacks its lock: whether the logs that the manifest needs are there, and lead on from where the tables end.
    fn replays(&mut self, recovered: &Recovered) {
        const LOST: &str =
            "writes that were on stable storage are gone: the directory does not open, with a LOCK either";
        const RESTORE: &str = "restore the directory from a copy, or have repair make a new one of what is left";
        let version = &*recovered.version;
        let oldest = version.oldest_log;
        let logs = self.logs_from(oldest);
        if holds_everything(version) {
            let newer = self.kinds.iter().find(|kind| match kind {
                FileKind::Table(number) if *number >= oldest => {
                    !version.tables().any(|(_, _, table)| table.number == *number)
                }
                FileKind::Wal(number) if *number >= oldest => {
                    recovery::holds_writes(&**self.vfs, self.dir, *number).unwrap_or(true)
                }
                _ => false,
            });
            if let Some(name) = newer.map(|kind| kind.name()) {
                let what = "it holds writes of which the manifest knows nothing: its end is missing";
                self.damage(&name, None, what, LOST, RESTORE);
            }
            return;
        }
        if oldest != FileNo(0) && logs.first() != Some(&oldest) {
            return self.damage(&FileKind::Wal(oldest).name(), None, recovery::missing_log(oldest), LOST, RESTORE);
        }
        let (mode, told) = (RecoveryMode::PointInTime, Told::new(version, recovered.log_begun));
        if let Err(error) = recovery::replay(&**self.vfs, self.dir, &logs, told, mode, |_| Ok(())) {
            self.damage("the directory", None, error, LOST, RESTORE);
        }
    }

    /// What lies there beside what belongs together.
    fn others(&mut self, version: Option<&Version>) {
        let Some(version) = version else { return };
        let named: BTreeSet<FileNo> = version
            .tables()
            .map(|(_, _, table)| table.number)
            .chain(version.blobs().map(|(_, blob)| blob.meta.number))
            .collect();
        for kind in self.kinds.clone() {
            let what = match kind {
                FileKind::Table(number) | FileKind::Blob(number) if !named.contains(&number) => {
                    "the manifest does not name it"
                }
                FileKind::WalAside(_) => "a log that recovery did not replay to its end",
                _ => continue,
            };
            let meaning = "it takes space and means nothing: a flush, compaction or recovery left it behind";
            self.note(&kind.name(), None, what.into(), meaning, "nothing: the next open for writing removes it");
        }
    }
}

/// What is wrong with a record's batch, if anything is.
fn check_batch(payload: &[u8], last: &mut SeqNo, version: Option<&Version>) -> Result<(), String> {
    let (first, ops) = batch::decode(payload).map_err(|error| error.to_string())?;
    let count = u64::from(ops.count_left());
    let before = std::mem::replace(last, SeqNo((first.0 + count).saturating_sub(1)));
    if first <= before {
        return Err(format!("sequence number {first} behind {before}"));
    }
    for (op, seq) in ops.zip(first.0..) {
        let op = op.map_err(|error| error.to_string())?;
        if let Some(why) = version.and_then(|version| recovery::unheard_of(version, op.keyspace, SeqNo(seq))) {
            return Err(why);
        }
    }
    Ok(())
}
