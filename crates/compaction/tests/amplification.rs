//! What loads of a hundred memtables cost: bytes written for a byte flushed, and space for a byte that is alive. Real tables in a file system in memory, and
//! compaction that keeps up: after each flush all that is picked is run, which is the most that a load can cost.

mod folder;

use esker_compaction::{Busy, JobConfig, LeveledOptions, Picker, PlanKind, run};
use esker_format::{InternalKey, KeyspaceId, SeqNo, ValueKind};
use esker_manifest::{KeyspaceVersion, Level, TableMeta, Version, VersionEdit};
use esker_vfs::MemVfs;
use folder::{Entries, Folder, config};
use std::collections::BTreeSet;

const MEMTABLE_ENTRIES: u64 = 1_000;
const VALUE_BYTES: usize = 24;

/// A tree in the proportions of the default options over memtables of 64 MiB that hold 40 MiB of entries each.
struct Load {
    folder: Folder,
    picker: Picker,
    version: Version,
    alive: BTreeSet<u64>,
    seq: u64,
    flushed_bytes: u64,
    merged_bytes: u64,
    moves: u64,
    merges: u64,
    /// Bytes in all tables by bytes that are alive, the most of all moments after the first ten memtables.
    space_max: f64,
    l0_max: usize,
}

impl Load {
    fn new() -> Self {
        let memtable_bytes = MEMTABLE_ENTRIES * 40;
        let default = LeveledOptions::default();
        let scaled = |bytes: u64| bytes * memtable_bytes / (40 << 20);
        let options = LeveledOptions {
            level_base_bytes: scaled(default.level_base_bytes),
            table_bytes: scaled(default.table_bytes),
            ..default
        };
        let mut version = Version::new();
        version.last_seq = SeqNo(u64::from(u32::MAX));
        version.next_file = esker_format::FileNo(1_000_000);
        Self {
            folder: Folder::new(MemVfs::new()),
            picker: Picker::new(options),
            version,
            alive: BTreeSet::new(),
            seq: 0,
            flushed_bytes: 0,
            merged_bytes: 0,
            moves: 0,
            merges: 0,
            space_max: 0.0,
            l0_max: 0,
        }
    }

    fn keyspace(&self) -> &KeyspaceVersion {
        &self.version.keyspaces[&KeyspaceId::DEFAULT]
    }

    fn config(&self) -> JobConfig<'static> {
        let options = self.picker.options();
        JobConfig {
            horizon: SeqNo(self.seq),
            table_bytes: options.table_bytes,
            grandparent_bytes_max: options.table_bytes * u64::from(options.grandparent_factor),
            block_size_bytes: 1024,
            ..config()
        }
    }

    fn memtable(&mut self, keys: impl Iterator<Item = u64>) {
        let mut entries = Entries::new();
        for key in keys {
            self.seq += 1;
            self.alive.insert(key);
            let key = InternalKey::new(&key.to_be_bytes(), SeqNo(self.seq), ValueKind::Put).to_buf();
            entries.push((key, vec![b'v'; VALUE_BYTES]));
        }
        entries.sort();
        let config = JobConfig { table_bytes: u64::MAX, ..self.config() };
        let table = self.folder.flush(entries, &config).unwrap().outputs.remove(0);
        self.flushed_bytes += table.file_bytes;
        let edit = VersionEdit { add: vec![(KeyspaceId::DEFAULT, Level::ZERO, table)], ..VersionEdit::default() };
        self.version = self.version.apply(&edit).unwrap();
        self.l0_max = self.l0_max.max(self.keyspace().levels[0].len());
        while let Some(plan) = self.picker.pick(self.keyspace(), &Busy::new()) {
            let outputs: Vec<TableMeta> = match plan.kind {
                PlanKind::Move => {
                    self.moves += 1;
                    plan.tables().map(|(_, table)| TableMeta::clone(table)).collect()
                }
                PlanKind::Recode | PlanKind::Merge => {
                    let outcome = run(&plan, &self.folder, &self.config()).unwrap();
                    self.merges += 1;
                    self.merged_bytes += outcome.written_bytes;
                    outcome.outputs
                }
            };
            self.version = self.version.apply(&plan.edit(&outputs)).unwrap();
        }
        let bytes: u64 = self.keyspace().tables().map(|(_, table)| table.file_bytes).sum();
        let bytes_per_entry = self.flushed_bytes as f64 / self.seq as f64;
        if self.seq > 10 * MEMTABLE_ENTRIES {
            self.space_max = self.space_max.max(bytes as f64 / (self.alive.len() as f64 * bytes_per_entry));
        }
    }

    /// Bytes written to tables for a byte flushed.
    fn write_amplification(&self) -> f64 {
        (self.flushed_bytes + self.merged_bytes) as f64 / self.flushed_bytes as f64
    }

    fn report(&self, name: &str) {
        let levels: Vec<String> =
            Level::all().map(|level| (self.keyspace().level_bytes(level) / 1024).to_string()).collect();
        println!(
            "{name}: {:.2} bytes written a byte flushed, space at most {:.2}, {} moves, {} merges, {} tables in level 0 at most, KiB by level {}",
            self.write_amplification(),
            self.space_max,
            self.moves,
            self.merges,
            self.l0_max,
            levels.join(" ")
        );
    }
}

/// Every number below `of`, a power of two, once and in no order.
fn scattered(i: u64, of: u64) -> u64 {
    let mut x = i;
    for _ in 0..3 {
        x = x.wrapping_mul(0x9e37_79b9_7f4a_7c15 | 1) & (of - 1);
        x ^= x >> (of.trailing_zeros() / 2);
    }
    x
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn a_sequential_load_is_written_once() {
    let mut load = Load::new();
    for memtable in 0..120 {
        load.memtable(memtable * MEMTABLE_ENTRIES..(memtable + 1) * MEMTABLE_ENTRIES);
    }
    load.report("sequential");
    assert_eq!(load.merged_bytes, 0);
}

#[test]
fn a_random_load_is_written_a_few_times() {
    let mut load = Load::new();
    let of = 1u64 << 17;
    for memtable in 0..120 {
        load.memtable((memtable * MEMTABLE_ENTRIES..(memtable + 1) * MEMTABLE_ENTRIES).map(|i| scattered(i, of)));
    }
    assert_eq!(load.alive.len() as u64, load.seq);
    load.report("random, each key once");
    assert!(load.write_amplification() < 7.5);
    assert!(load.space_max < 1.02);
}

#[test]
fn overwriting_takes_little_space() {
    // Small trees consist of tables of level 0 for a good part.
    for (keys, write_max, space_max) in [(10, 3.6, 1.4), (30, 5.4, 1.3), (100, 7.6, 1.05)] {
        let mut load = Load::new();
        let mut state = 7;
        load.alive.extend(0..keys * MEMTABLE_ENTRIES);
        for _ in 0..keys + 150 {
            load.memtable(
                (0..MEMTABLE_ENTRIES)
                    .map(|_| random(&mut state) % (keys * MEMTABLE_ENTRIES))
                    .collect::<Vec<_>>()
                    .into_iter(),
            );
        }
        load.report(&format!("overwriting {keys} memtables of keys"));
        assert!(load.write_amplification() < write_max);
        assert!(load.space_max < space_max);
    }
}
