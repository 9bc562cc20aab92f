//! Open tables, by number. What becomes of their files when no version names them any more stands in [`crate::removals`].
//!
//! A table that can't be opened, or in which background work finds damage, is *quarantined*: it stays in its level and on disk, reads that
//! reach it get the error, and no compaction touches it.

use crate::blobs::BlobSet;
use crate::error::{Error, Result};
use crate::metrics::Counter;
use crate::removals::{Removals, Retirement};
use esker_blob::Access;
use esker_format::{FileKind, FileNo};
use esker_manifest::TableMeta;
use esker_sstable::{BlockCache, Expect, ReadMode, Table, TableError, TableOptions, Verify};
use esker_vfs::Vfs;
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

/// A table of the present or an earlier version, open or quarantined.
#[derive(Debug)]
pub(crate) struct OpenTable {
    pub(crate) meta: Arc<TableMeta>,
    table: Result<Arc<Table>>,
    /// Dropped behind the table, which then has let go of the file.
    retirement: Retirement,
}

impl OpenTable {
    /// The table, or why it is in quarantine.
    #[inline]
    pub(crate) fn table(&self) -> Result<&Arc<Table>> {
        self.table.as_ref().map_err(Error::clone)
    }

    /// The table, unless it is in quarantine.
    #[inline]
    pub(crate) fn healthy(&self) -> Option<&Arc<Table>> {
        self.table.as_ref().ok()
    }

    /// Marks the file for removal once nobody reads it.
    pub(crate) fn retire(&self) {
        self.retirement.retire();
    }
}

/// How tables are opened, and which are.
#[derive(Debug)]
pub(crate) struct TableSet {
    pub(crate) vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    pub(crate) cache: Arc<BlockCache>,
    verify: Verify,
    read_mode: ReadMode,
    removals: Arc<Removals>,
    pub(crate) blobs: BlobSet,
    /// Every table that some version or reader still holds.
    open: Mutex<HashMap<FileNo, Weak<OpenTable>>>,
    quarantine: Mutex<BTreeSet<FileNo>>,
    /// How many reads have failed, for all who walk over tables, though the engine be closed.
    pub(crate) read_errors: Arc<Counter>,
}

impl TableSet {
    pub(crate) fn new(
        vfs: Arc<dyn Vfs>,
        dir: PathBuf,
        cache_bytes: u64,
        verify: Verify,
        read_mode: ReadMode,
        removals: Arc<Removals>,
    ) -> Self {
        let access = match (read_mode, verify) {
            (ReadMode::Map, Verify::FirstUse) => Access::Mapped,
            (ReadMode::GuardedMap, _) => Access::Guarded,
            (ReadMode::Map | ReadMode::Pread, _) => Access::Copied,
        };
        Self {
            blobs: BlobSet::new(Arc::clone(&vfs), dir.clone(), access, Arc::clone(&removals)),
            vfs,
            dir,
            cache: BlockCache::new(cache_bytes),
            verify,
            read_mode,
            removals,
            open: Mutex::default(),
            quarantine: Mutex::default(),
            read_errors: Arc::default(),
        }
    }

    /// Opens the table that `meta` names, or finds it open. Does I/O: not under the state lock.
    ///
    /// # Errors
    /// Only those that may pass, such as too many open files. A table that is damaged, missing, or on a place that its device can't read comes back quarantined.
    pub(crate) fn get(&self, meta: &Arc<TableMeta>) -> Result<Arc<OpenTable>> {
        if let Some(open) = self.open.lock().get(&meta.number).and_then(Weak::upgrade) {
            return Ok(open);
        }
        let table = match self.open_file(meta) {
            Ok(table) => Ok(table),
            // None of these passes, that of a device neither; what lies elsewhere is served on.
            Err(error)
                if error.is_corruption()
                    || error.is_unsupported()
                    || error.io().is_some_and(esker_vfs::is_of_the_medium) =>
            {
                Err(Error::from(error))
            }
            Err(error) if error.io().is_some_and(|io| io.kind() == io::ErrorKind::NotFound) => Err(Error::corruption(
                format!("table {} is missing: restore it from a copy", FileKind::Table(meta.number).name()),
            )),
            Err(error) => return Err(error.into()),
        };
        if table.is_err() {
            self.quarantine.lock().insert(meta.number);
        }
        Ok(self.share(meta, table))
    }

    /// Opens a table that was just written and that no version names yet.
    ///
    /// # Errors
    /// Whatever is wrong with it.
    pub(crate) fn open_new(&self, meta: &TableMeta) -> Result<Arc<OpenTable>> {
        let table = self.open_file(meta)?;
        Ok(self.share(&Arc::new(meta.clone()), Ok(table)))
    }

    /// Makes a table known, unless another thread was faster.
    fn share(&self, meta: &Arc<TableMeta>, table: Result<Arc<Table>>) -> Arc<OpenTable> {
        let open = Arc::new(OpenTable {
            meta: Arc::clone(meta),
            table,
            retirement: Retirement::new(FileKind::Table(meta.number), &self.removals),
        });
        let mut tables = self.open.lock();
        if let Some(other) = tables.get(&meta.number).and_then(Weak::upgrade) {
            return other;
        }
        tables.insert(meta.number, Arc::downgrade(&open));
        open
    }

    /// The table for a job to read: the open one, or the error that put it in quarantine.
    pub(crate) fn open_for_job(&self, meta: &TableMeta) -> Result<Arc<Table>, TableError> {
        let open = self.open.lock().get(&meta.number).and_then(Weak::upgrade);
        match open.as_ref().map(|open| &open.table) {
            Some(Ok(table)) => Ok(Arc::clone(table)),
            _ => self.open_file(meta),
        }
    }

    fn open_file(&self, meta: &TableMeta) -> Result<Arc<Table>, TableError> {
        let kind = FileKind::Table(meta.number);
        let name = kind.name();
        let file = self
            .vfs
            .open_read(&kind.path(&self.dir))
            .map_err(|error| TableError::from_io(&name.as_str().into(), "open", error))?;
        let options = TableOptions {
            verify: self.verify,
            read_mode: self.read_mode,
            cache: Arc::clone(&self.cache),
            expect: Some(Expect { file_bytes: meta.file_bytes, file_id: meta.file_id, seq: meta.table_seq }),
        };
        Table::open(file, &name, options)
    }

    /// Keeps background work away from a table or blob file in which damage was found; whether that is news.
    pub(crate) fn quarantine(&self, file: FileNo) -> bool {
        let is_known_blob = self.blobs.quarantined().contains(&file);
        self.quarantine.lock().insert(file) && !is_known_blob
    }

    /// Tables and blob files that no job may touch.
    pub(crate) fn quarantined(&self) -> BTreeSet<FileNo> {
        let mut files = self.blobs.quarantined();
        files.extend(self.quarantine.lock().iter());
        files
    }

    /// Forgets tables that nobody holds any more.
    pub(crate) fn forget_closed(&self) {
        self.open.lock().retain(|_, table| table.strong_count() > 0);
        self.blobs.forget_closed();
    }

    /// What the open tables hold.
    pub(crate) fn held(&self) -> HeldByTables {
        let open: Vec<_> = self.open.lock().values().filter_map(Weak::upgrade).collect();
        let mut held = self.blobs.held();
        for open in &open {
            if let Ok(table) = &open.table {
                held.heap_bytes += table.heap_bytes();
                held.mapped_bytes += table.mapped_bytes();
                held.unreadable_pages += table.unreadable_pages();
            }
            if open.retirement.is_retired() {
                held.retired_bytes += open.meta.file_bytes;
            }
        }
        held
    }

    /// Keeps table metadata, block cache and `others` together within `bytes`: the cache gives way, but for a quarter.
    pub(crate) fn share_budget(&self, bytes: usize, others: usize) {
        let capacity = bytes.saturating_sub(self.held().heap_bytes + others).max(bytes / 4) as u64;
        if self.cache.capacity_bytes() != capacity {
            self.cache.set_capacity(capacity);
        }
    }
}

/// Bytes that open tables and blob files hold.
#[derive(Debug, Default)]
pub(crate) struct HeldByTables {
    /// On the heap, for their metadata.
    pub(crate) heap_bytes: usize,
    /// In maps.
    pub(crate) mapped_bytes: u64,
    /// Pages of maps that could not be read.
    pub(crate) unreadable_pages: u64,
    /// In files that no version names any more, and that readers keep.
    pub(crate) retired_bytes: u64,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use esker_format::{FileId, InternalKey, SeqNo, ValueKind};

    /// A table in quarantine: for those who look only at what its range is.
    pub(crate) fn open_table(number: u64, smallest: &[u8], largest: &[u8]) -> Arc<OpenTable> {
        let end = |user_key| InternalKey::new(user_key, SeqNo(1), ValueKind::Put).to_buf();
        let meta = TableMeta {
            number: FileNo(number),
            file_id: FileId(number),
            file_bytes: 1,
            smallest: end(smallest),
            largest: end(largest),
            smallest_seq: SeqNo(1),
            largest_seq: SeqNo(1),
            entries: 2,
            deletions: 0,
            created_unix_ms: 0,
            blobs: Vec::new(),
            ranges: None,
            table_seq: None,
            expiries: None,
        };
        Arc::new(OpenTable {
            meta: Arc::new(meta),
            table: Err(Error::corruption("a table without a file")),
            retirement: Retirement::new(FileKind::Table(FileNo(number)), &Removals::new()),
        })
    }
}
