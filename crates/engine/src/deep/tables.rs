//! Tables and blob files: each by itself, beside what the manifest says of it, and what the one refers to in the other.

use super::{BLOB_LOST, CANT_OPEN, Check, MEDIUM, NEWER, RESTORE, TABLE_LOST};
use crate::error::{Error, Result};
use crate::finding::Progress;
use crate::verify::differences;
use esker_blob::{Access, BlobFile, BlobRef};
use esker_format::{FileKind, FileNo, ValueKind, expiry::decode_expiry};
use esker_manifest::{BlobMeta, BlobUse, TableMeta, Version};
use esker_sstable::{BlockCache, Expect, InternalIterator, ReadMode, Table, TableOptions, Verify};
use esker_vfs::{is_of_the_asker, is_of_the_medium};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// What is to be done about what is damaged, or only too new.
fn advice(is_newer: bool) -> &'static str {
    if is_newer { NEWER } else { RESTORE }
}

/// What it means that a file can't be opened: an engine does not open then, but for what its device will not give.
fn unopened(error: &io::Error, lost: &'static str) -> &'static str {
    match is_of_the_medium(error) {
        true => lost,
        false => "the directory does not open while that is so; what the file holds is not known",
    }
}

impl Check<'_> {
    /// All tables of the version; without one, all that there are.
    pub(super) fn tables(&mut self, version: Option<&Version>) {
        let Some(version) = version else {
            let tables: Vec<FileKind> =
                self.kinds.iter().copied().filter(|kind| matches!(kind, FileKind::Table(_))).collect();
            for kind in tables {
                self.table(kind, None);
            }
            return;
        };
        for keyspace in version.keyspaces.values() {
            let mut blobs = BTreeMap::new();
            for &number in keyspace.blobs.keys() {
                match self.open_blob(number) {
                    Ok(blob) => drop(blobs.insert(number, blob)),
                    // What is wrong with it is told when it is looked at itself; this may pass until then.
                    Err(error) if error.io_error().is_some_and(is_of_the_asker) => {
                        self.failed(&FileKind::Blob(number).name(), None, "", &error, BLOB_LOST, MEDIUM);
                    }
                    Err(_) => {}
                }
            }
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
                self.failed(&name, None, CANT_OPEN, &error, unopened(&error, TABLE_LOST), MEDIUM);
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
                self.damage(&name, offset, &error, TABLE_LOST, advice(error.is_unsupported()));
                let alone = Table::open(file, &name, options(None));
                alone.map_err(|other| (other.to_string() != error.to_string()).then_some(other))
            }
            opened => opened.map_err(Some),
        };
        let table = match opened {
            Ok(table) => table,
            Err(error) => {
                if let Some(error) = error {
                    self.failed(&name, error.offset(), "", &error, TABLE_LOST, advice(error.is_unsupported()));
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
            self.failed(&name, error.offset(), "", &error, TABLE_LOST, advice(error.is_unsupported()));
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
        let (mut broken, mut first, mut unread) = (0u64, None, None);
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
                            Some(Err(error)) if error.io().is_some_and(is_of_the_asker) => {
                                unread.get_or_insert(error);
                                None
                            }
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
        if let Some(error) = unread {
            self.failed(name, None, "a value that it refers to: ", &error, BLOB_LOST, RESTORE);
        }
        if let Err(error) = &walked
            && error.io().is_some_and(is_of_the_asker)
        {
            self.failed(name, None, "", error, TABLE_LOST, RESTORE);
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

    pub(super) fn blob_files(&mut self, version: Option<&Version>) {
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
                return self.failed(&name, None, CANT_OPEN, &error, unopened(&error, BLOB_LOST), MEDIUM);
            }
        };
        self.report.blob_files += 1;
        let len = file.len_bytes().unwrap_or(0);
        self.report.bytes += len;
        match BlobFile::open(file, &name, Access::Copied, None) {
            Err(error) => {
                self.failed(&name, None, "", &error, BLOB_LOST, advice(error.is_unsupported()));
            }
            Ok(file) => {
                let mut records = 0;
                for record in file.records() {
                    match record {
                        Ok(_) => records += 1,
                        // Where the next one would be is not known; those that entries refer to are looked at by way of these.
                        Err(error) => self.failed(&name, None, "", &error, BLOB_LOST, RESTORE),
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
}
