//! A small tree in memory, without an engine: three flushes, then compaction until nothing is left to do.
//!
//! `cargo run -p esker-compaction --example compact`

use esker_compaction::{
    Busy, CompactionError, CompactionIter, JobConfig, LeveledOptions, Picker, Tables, Times, run, write_tables,
};
use esker_format::{FileId, FileKind, FileNo, InternalKey, KeyspaceId, SeqNo, ValueKind};
use esker_iterator::VecIterator;
use esker_manifest::{Level, TableMeta, Version, VersionEdit};
use esker_sstable::{BlockCache, Codec, Expect, ReadMode, Table, TableError, TableOptions, Verify};
use esker_vfs::{MemVfs, Vfs, WritableFile};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Tables in a directory.
struct Directory {
    vfs: Arc<MemVfs>,
    next: AtomicU64,
}

fn path(number: FileNo) -> PathBuf {
    FileKind::Table(number).path(Path::new("/"))
}

impl Tables for Directory {
    fn open(&self, table: &TableMeta) -> Result<Arc<Table>, TableError> {
        let name = FileKind::Table(table.number).name();
        let file = self.vfs.open_read(&path(table.number)).map_err(|source| TableError::Io {
            table: name.as_str().into(),
            doing: "open",
            source: Arc::new(source),
        })?;
        let options = TableOptions {
            verify: Verify::FirstUse,
            read_mode: ReadMode::Map,
            cache: BlockCache::new(1 << 20),
            expect: Some(Expect { file_bytes: table.file_bytes, file_id: table.file_id, seq: table.table_seq }),
        };
        Table::open(file, &name, options)
    }

    fn create(&self) -> Result<(FileNo, Box<dyn WritableFile>, String, FileId), CompactionError> {
        let number = FileNo(self.next.fetch_add(1, Ordering::Relaxed));
        let name = FileKind::Table(number).name();
        let file = self.vfs.create_new(&path(number)).map_err(|error| CompactionError::io(&name, error))?;
        Ok((number, file, name, FileId(self.vfs.random())))
    }

    fn created_unix_ms(&self) -> u64 {
        0
    }

    fn finished(&self, _: FileNo) -> Result<(), CompactionError> {
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let vfs = MemVfs::new();
    let tables = Directory { vfs: Arc::clone(&vfs), next: AtomicU64::new(1) };
    let mut version = Version { next_file: FileNo(1_000), last_seq: SeqNo(1_000_000), ..Version::new() };
    let mut seq = 0;

    // Each flush overwrites some keys and deletes others.
    for round in 0..3u64 {
        let mut entries = Vec::new();
        for i in 0..10_000 {
            seq += 1;
            let key = format!("key{:06}", i * (round + 1));
            let kind = if i % 5 == round { ValueKind::Delete } else { ValueKind::Put };
            let value = if kind == ValueKind::Put { vec![round as u8; 100] } else { Vec::new() };
            entries.push((InternalKey::new(key.as_bytes(), SeqNo(seq), kind).to_buf(), value));
        }
        let iter = CompactionIter::new(VecIterator::new(entries), &[], SeqNo(seq), |_| true);
        let flushed = write_tables(iter, &[], &tables, &config(seq, u64::MAX))?;
        let add = flushed.outputs.into_iter().map(|table| (KeyspaceId::DEFAULT, Level::ZERO, table)).collect();
        version = version.apply(&VersionEdit { add, ..VersionEdit::default() })?;
    }

    let options = LeveledOptions { l0_trigger: 2, table_bytes: 512 << 10, ..LeveledOptions::default() };
    let picker = Picker::new(options);
    while let Some(plan) = picker.pick(&version.keyspaces[&KeyspaceId::DEFAULT], &Busy::new()) {
        let outcome = run(&plan, &tables, &config(seq, picker.options().table_bytes))?;
        version = version.apply(&plan.edit(&outcome.outputs))?;
        println!(
            "{plan}: {} entries in, {} hidden, {} tombstones dropped, {} out into {} tables of {} bytes",
            outcome.counts.entries_in,
            outcome.counts.hidden,
            outcome.counts.tombstones,
            outcome.entries_out,
            outcome.outputs.len(),
            outcome.written_bytes,
        );
    }
    Ok(())
}

fn config(horizon: u64, table_bytes: u64) -> JobConfig<'static> {
    JobConfig {
        snapshots: &[],
        horizon: SeqNo(horizon),
        times: Times::default(),
        table_bytes,
        grandparent_bytes_max: table_bytes.saturating_mul(10),
        codec: Codec::Lz4,
        block_size_bytes: 4096,
        filter_bits_per_key: 12,
        piece_bytes: 64 << 10,
        blobs: None,
        operator: None,
        filter: None,
        should_stop: &|| false,
        on_progress: &|_| {},
    }
}
