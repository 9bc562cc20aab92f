//! What the files of a directory hold, counted by reading them: the manifest says which tables are whose and on which level, and nothing else is taken from it.

use esker::vfs::Vfs;
use esker::{LEVELS, LevelMetrics};
use esker_blob::BlobRef;
use esker_format::{FileKind, ValueKind, split_expiry};
use esker_iterator::InternalIterator;
use esker_manifest::{TableMeta, VersionSet};
use esker_sstable::{BlockCache, ReadMode, Table, TableOptions, Verify};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Of one keyspace.
#[derive(Debug, Clone, Default)]
pub(crate) struct Files {
    pub(crate) levels: Vec<LevelMetrics>,
    pub(crate) blob_files: usize,
    pub(crate) blob_bytes: u64,
    pub(crate) blob_garbage_bytes: u64,
}

/// Of all keyspaces, by number, and the size of all table and blob files that are there but in none of them.
pub(crate) fn count(vfs: &dyn Vfs, dir: &Path) -> (BTreeMap<u32, Files>, u64) {
    let version = VersionSet::read(vfs, dir).unwrap().version;
    let length = |kind: FileKind| vfs.metadata(&dir.join(kind.name())).unwrap().len_bytes;
    let mut named = BTreeSet::new();
    let mut keyspaces = BTreeMap::new();
    for (id, keyspace) in &version.keyspaces {
        let levels = (0..LEVELS as u8).map(|level| {
            let mut metrics = LevelMetrics::default();
            metrics.level = level;
            metrics
        });
        let mut files = Files { levels: levels.collect(), ..Files::default() };
        let mut live = 0;
        for (level, meta) in keyspace.tables() {
            let kind = FileKind::Table(meta.number);
            named.insert(kind.name());
            let metrics = &mut files.levels[level.index()];
            metrics.tables += 1;
            metrics.bytes += length(kind);
            live += add_table(vfs, dir, meta, metrics);
        }
        for state in keyspace.blobs.values() {
            let kind = FileKind::Blob(state.meta.number);
            named.insert(kind.name());
            files.blob_files += 1;
            files.blob_bytes += length(kind);
            files.blob_garbage_bytes += state.meta.record_bytes;
        }
        files.blob_garbage_bytes -= live;
        keyspaces.insert(id.0, files);
    }
    let left = vfs
        .list(dir)
        .unwrap()
        .into_iter()
        .filter(|name| (name.ends_with(".sst") || name.ends_with(".blob")) && !named.contains(name));
    (keyspaces, left.map(|name| vfs.metadata(&dir.join(name)).unwrap().len_bytes).sum())
}

/// Adds what a table's entries are; what they refer to in blob files, in bytes.
fn add_table(vfs: &dyn Vfs, dir: &Path, meta: &TableMeta, metrics: &mut LevelMetrics) -> u64 {
    let name = FileKind::Table(meta.number).name();
    let options = TableOptions {
        verify: Verify::Always,
        read_mode: ReadMode::Pread,
        cache: BlockCache::new(1 << 20),
        expect: None,
    };
    let table = Table::open(vfs.open_read(&dir.join(&name)).unwrap(), &name, options).unwrap();
    metrics.range_tombstones += table.range_tombstones().map_or(0, |ranges| ranges.iter().count() as u64);
    let mut entries = table.iter();
    let mut live = 0;
    entries.seek_to_first().unwrap();
    while entries.valid() {
        let kind = entries.key().trailer.kind();
        let value = entries.value();
        metrics.entries += 1;
        metrics.raw_bytes += (entries.key().user_key.len() + value.len()) as u64;
        metrics.deletions += u64::from(kind == ValueKind::Delete);
        metrics.expiring += u64::from(matches!(kind, ValueKind::Expiring | ValueKind::ExpiringBlob));
        let reference = match kind {
            ValueKind::Blob => Some(value),
            ValueKind::ExpiringBlob => Some(split_expiry(value).unwrap().1),
            _ => None,
        };
        live += reference.map_or(0, |bytes| BlobRef::decode(bytes).unwrap().record_bytes());
        entries.next().unwrap();
    }
    live
}
