//! Tables in a directory of any file system, as an engine keeps them, and what is in them.
#![allow(dead_code, reason = "each test program uses a part")]

use esker_compaction::{CompactionError, CompactionIter, JobConfig, Outcome, Tables, Times, write_tables};
use esker_format::{FileId, FileKind, FileNo, InternalKey, InternalKeyBuf, KeyspaceId, SeqNo, ValueKind};
use esker_iterator::{InternalIterator, VecIterator};
use esker_manifest::{KeyspaceVersion, TableMeta};
use esker_sstable::{BlockCache, Codec, Expect, ReadMode, Table, TableError, TableOptions, Verify};
use esker_vfs::{Vfs, WritableFile};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) type Entries = Vec<(InternalKeyBuf, Vec<u8>)>;

#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) vfs: Arc<dyn Vfs>,
    next: AtomicU64,
    cache: Arc<BlockCache>,
    /// Tables reported as whole.
    pub(crate) finished: RefCell<Vec<FileNo>>,
}

impl Folder {
    pub(crate) fn new(vfs: Arc<dyn Vfs>) -> Self {
        vfs.create_dir_all(Path::new("/db")).unwrap();
        Self { vfs, next: AtomicU64::new(1), cache: BlockCache::new(1 << 20), finished: RefCell::default() }
    }

    pub(crate) fn path(number: FileNo) -> PathBuf {
        FileKind::Table(number).path(Path::new("/db"))
    }

    pub(crate) fn version(&self) -> KeyspaceVersion {
        KeyspaceVersion::new(KeyspaceId::DEFAULT, "default", "")
    }

    /// Writes one table; entries in any order.
    pub(crate) fn table(&self, entries: Entries) -> Arc<TableMeta> {
        let outputs = self.flush(entries, &config()).unwrap().outputs;
        assert_eq!(outputs.len(), 1);
        Arc::new(outputs.into_iter().next().unwrap())
    }

    /// Writes tables as a flush does: tombstones are kept.
    pub(crate) fn flush(&self, entries: Entries, config: &JobConfig<'_>) -> Result<Outcome, CompactionError> {
        let iter = CompactionIter::new(VecIterator::new(entries), config.snapshots, config.horizon, |_| true);
        write_tables(iter, &[], self, config)
    }

    pub(crate) fn entries(&self, table: &TableMeta) -> Entries {
        let table = self.open(table).unwrap();
        let mut iter = table.iter();
        let mut entries = Entries::new();
        iter.seek_to_first().unwrap();
        while iter.valid() {
            entries.push((iter.key().to_buf(), iter.value().to_vec()));
            iter.next().unwrap();
        }
        entries
    }
}

impl Tables for Folder {
    fn open(&self, table: &TableMeta) -> Result<Arc<Table>, TableError> {
        let name = FileKind::Table(table.number).name();
        let file = self.vfs.open_read(&Self::path(table.number)).map_err(|source| TableError::Io {
            table: name.as_str().into(),
            doing: "open",
            source: Arc::new(source),
        })?;
        let options = TableOptions {
            verify: Verify::FirstUse,
            read_mode: ReadMode::Map,
            cache: Arc::clone(&self.cache),
            expect: Some(Expect { file_bytes: table.file_bytes, file_id: table.file_id, seq: table.table_seq }),
        };
        Table::open(file, &name, options)
    }

    fn create(&self) -> Result<(FileNo, Box<dyn WritableFile>, String, FileId), CompactionError> {
        let number = FileNo(self.next.fetch_add(1, Ordering::Relaxed));
        let name = FileKind::Table(number).name();
        let file = self.vfs.create_new(&Self::path(number));
        let file = file.map_err(|error| CompactionError::io(format!("create {name}"), error))?;
        Ok((number, file, name, FileId(self.vfs.random())))
    }

    fn created_unix_ms(&self) -> u64 {
        1_000
    }

    fn finished(&self, number: FileNo) -> Result<(), CompactionError> {
        self.finished.borrow_mut().push(number);
        Ok(())
    }
}

/// One table, nothing hidden, nobody interrupts.
pub(crate) fn config() -> JobConfig<'static> {
    JobConfig {
        snapshots: &[],
        horizon: SeqNo::ZERO,
        times: Times::default(),
        table_bytes: u64::MAX,
        grandparent_bytes_max: u64::MAX,
        codec: Codec::None,
        block_size_bytes: 4096,
        filter_bits_per_key: 10,
        piece_bytes: 10_000,
        blobs: None,
        operator: None,
        filter: None,
        should_stop: &|| false,
        on_progress: &|_| {},
    }
}

pub(crate) fn put(key: &str, seq: u64, value: &[u8]) -> (InternalKeyBuf, Vec<u8>) {
    (InternalKey::new(key.as_bytes(), SeqNo(seq), ValueKind::Put).to_buf(), value.to_vec())
}

pub(crate) fn delete(key: &str, seq: u64) -> (InternalKeyBuf, Vec<u8>) {
    (InternalKey::new(key.as_bytes(), SeqNo(seq), ValueKind::Delete).to_buf(), Vec::new())
}

/// `a#9,PUT a#3,DEL`
pub(crate) fn keys(entries: &Entries) -> String {
    entries.iter().map(|(key, _)| format!("{key:?}")).collect::<Vec<_>>().join(" ")
}
