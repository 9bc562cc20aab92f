//! What the tests share: a directory in memory, and edits in text.
#![allow(dead_code, reason = "each test file uses a part")]

use esker_format::{FileId, FileNo};
use esker_manifest::{ManifestError, Version, VersionEdit, VersionSet};
use esker_vfs::{MemVfs, Vfs};
use esker_wal::{GroupSync, LogHeader, Lsn, RecordKind, Reserve, Writer};
use std::path::Path;
use std::sync::Arc;

pub(crate) const DIRECTORY: &str = "/db";

pub(crate) fn directory() -> &'static Path {
    Path::new(DIRECTORY)
}

pub(crate) fn path(name: &str) -> std::path::PathBuf {
    directory().join(name)
}

/// An empty directory.
pub(crate) fn fresh() -> Arc<MemVfs> {
    let vfs = MemVfs::new();
    vfs.create_dir_all(directory()).unwrap();
    vfs
}

pub(crate) fn shared(vfs: &Arc<MemVfs>) -> Arc<dyn Vfs> {
    Arc::clone(vfs) as Arc<dyn Vfs>
}

pub(crate) fn create(vfs: &Arc<MemVfs>) -> VersionSet {
    VersionSet::create(shared(vfs), directory()).unwrap()
}

pub(crate) fn recover(vfs: &Arc<MemVfs>) -> Result<VersionSet, ManifestError> {
    VersionSet::recover(shared(vfs), directory()).map(|(set, _)| set)
}

pub(crate) fn edit(text: &str) -> VersionEdit {
    text.parse().unwrap()
}

/// The names in the directory.
pub(crate) fn names(vfs: &MemVfs) -> Vec<String> {
    vfs.list(directory()).unwrap()
}

/// The numbers of the tables of one level of `default`, in order.
pub(crate) fn tables(version: &Version, level: usize) -> Vec<u64> {
    version.keyspace_named("default").unwrap().levels[level].iter().map(|table| table.number.0).collect()
}

/// A manifest written record by record, checksums and all.
pub(crate) fn forge(vfs: &MemVfs, name: &str, number: FileNo, records: &[&[u8]]) {
    let header = LogHeader { file_id: FileId(7), number, start: Lsn(0), durable: Lsn(0) };
    let mut writer = Writer::create(vfs, &path(name), header, &GroupSync::new(Lsn(0))).unwrap();
    for record in records {
        writer.append(RecordKind::Data, &[record], Reserve::Use).unwrap();
        writer.sync().unwrap();
    }
}
