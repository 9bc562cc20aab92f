//! A whole tree in memory: flushes, compactions that overlap in time, snapshots. After every step each key must read as in a plain map, at the
//! newest sequence number and at every snapshot, and the version must pass the manifest's own checks.

use esker_compaction::{Busy, CompactionIter, LeveledOptions, Picker, Plan, PlanKind, place};
use esker_format::{FileId, FileNo, InternalKey, InternalKeyBuf, KeyspaceId, SeqNo, ValueKind};
use esker_iterator::{MergingIterator, VecIterator};
use esker_manifest::{KeyspaceVersion, LEVELS, Level, TableMeta, Version, VersionEdit};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

const ENTRY_BYTES: u64 = 8;
const KEYS: u8 = 40;

#[derive(Debug, Clone)]
enum Op {
    /// Writes to these keys, `false` deletes; then a flush.
    Flush(Vec<(u8, bool)>),
    /// Tables from outside, of so many keys each, one behind the other from a first key on: all of one sequence number.
    Ingest(u8, Vec<u8>),
    Pick,
    PickIdle,
    PickForReads,
    PickRange(u8, u8),
    /// The n-th running plan ends.
    Finish(usize),
    /// The n-th running plan fails.
    Abandon(usize),
    Snapshot,
    Release(usize),
    /// The n-th table is found damaged, and kept out of plans until the tree settles.
    Exclude(usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let flush = prop_oneof![
        3 => prop::collection::vec((0..KEYS, any::<bool>()), 1..8),
        1 => (0..KEYS, 1u8..8).prop_map(|(from, n)| (from..KEYS.min(from + n)).map(|key| (key, true)).collect()),
        1 => (0..KEYS, 1u8..20).prop_map(|(from, n)| (from..KEYS.min(from + n)).map(|key| (key, false)).collect()),
    ];
    let op = prop_oneof![
        8 => flush.prop_map(Op::Flush),
        2 => (0..KEYS, prop::collection::vec(1u8..4, 1..6)).prop_map(|(from, counts)| Op::Ingest(from, counts)),
        8 => Just(Op::Pick),
        1 => Just(Op::PickIdle),
        2 => Just(Op::PickForReads),
        2 => (0..KEYS, 0..KEYS).prop_map(|(a, b)| Op::PickRange(a.min(b), a.max(b))),
        5 => any::<usize>().prop_map(Op::Finish),
        1 => any::<usize>().prop_map(Op::Abandon),
        1 => Just(Op::Snapshot),
        1 => any::<usize>().prop_map(Op::Release),
        1 => any::<usize>().prop_map(Op::Exclude),
    ];
    prop::collection::vec(op, 1..200)
}

type Entries = Vec<(InternalKeyBuf, Vec<u8>)>;

struct Tree {
    picker: Picker,
    version: Version,
    contents: BTreeMap<FileNo, Entries>,
    busy: Busy,
    /// Plans that run, with what they will install.
    running: Vec<(Plan, Vec<TableMeta>)>,
    snapshots: Vec<SeqNo>,
    /// By key and sequence number; `false` is a tombstone.
    model: BTreeMap<(u8, u64), bool>,
    seq: u64,
    file: u64,
}

impl Tree {
    /// A base level of `base_entries`, level 0 merged into itself from `(2 + l0_slowdown) / 2` tables on, and another codec from `codec_changes_at` on.
    fn new(base_entries: u64, l0_slowdown: usize, codec_changes_at: Option<Level>) -> Self {
        let options = LeveledOptions {
            l0_trigger: 2,
            l0_slowdown,
            level_base_bytes: base_entries * ENTRY_BYTES,
            level_ratio: 2,
            table_bytes: 2 * ENTRY_BYTES,
            grandparent_factor: 8,
            codec_changes_at,
            ..LeveledOptions::default()
        };
        let mut version = Version::new();
        version.last_seq = SeqNo(1_000_000);
        version.next_file = FileNo(1_000_000);
        Self {
            picker: Picker::new(options),
            version,
            contents: BTreeMap::new(),
            busy: Busy::new(),
            running: Vec::new(),
            snapshots: Vec::new(),
            model: BTreeMap::new(),
            seq: 0,
            file: 0,
        }
    }

    fn keyspace(&self) -> Arc<KeyspaceVersion> {
        Arc::clone(&self.version.keyspaces[&KeyspaceId::DEFAULT])
    }

    fn droppable(&self) -> SeqNo {
        self.snapshots.first().copied().unwrap_or(SeqNo(self.seq))
    }

    fn table(&mut self, entries: Entries) -> TableMeta {
        self.file += 1;
        let seqs = || entries.iter().map(|(key, _)| key.trailer.seq());
        let meta = TableMeta {
            number: FileNo(self.file),
            file_id: FileId(self.file),
            file_bytes: entries.len() as u64 * ENTRY_BYTES,
            smallest: entries[0].0.clone(),
            largest: entries[entries.len() - 1].0.clone(),
            smallest_seq: seqs().min().unwrap(),
            largest_seq: seqs().max().unwrap(),
            entries: entries.len() as u64,
            deletions: entries.iter().filter(|(key, _)| key.trailer.kind() == ValueKind::Delete).count() as u64,
            created_unix_ms: 0,
            blobs: Vec::new(),
            ranges: None,
            table_seq: None,
            expiries: None,
        };
        self.contents.insert(meta.number, entries);
        meta
    }

    fn flush(&mut self, writes: &[(u8, bool)]) {
        let mut entries = Entries::new();
        for (key, put) in writes {
            self.seq += 1;
            self.model.insert((*key, self.seq), *put);
            let kind = if *put { ValueKind::Put } else { ValueKind::Delete };
            entries.push((InternalKey::new(&[*key], SeqNo(self.seq), kind).to_buf(), Vec::new()));
        }
        entries.sort();
        let meta = self.table(entries);
        let edit = VersionEdit { add: vec![(KeyspaceId::DEFAULT, Level::ZERO, meta)], ..VersionEdit::default() };
        self.version = self.version.apply(&edit).unwrap();
    }

    /// Every second key from the first one on.
    fn ingest(&mut self, from: u8, counts: &[u8]) {
        self.seq += 1;
        let seq = SeqNo(self.seq);
        let mut keys = (from..KEYS).step_by(2);
        let mut edit = VersionEdit::default();
        for &count in counts {
            let keys: Vec<u8> = keys.by_ref().take(count.into()).collect();
            if keys.is_empty() {
                break;
            }
            self.model.extend(keys.iter().map(|&key| ((key, seq.0), true)));
            let entry = |key| (InternalKey::new(&[key], seq, ValueKind::Put).to_buf(), Vec::new());
            let meta = TableMeta { table_seq: Some(seq), ..self.table(keys.into_iter().map(entry).collect()) };
            let level = place(&self.keyspace(), &self.busy, &meta);
            edit.add.push((KeyspaceId::DEFAULT, level, meta));
        }
        self.version = self.version.apply(&edit).unwrap();
    }

    /// Starts a plan: its outputs are made of what is there now.
    fn start(&mut self, plan: Plan) {
        let keyspace = self.keyspace();
        for (level, table) in plan.tables() {
            assert!(keyspace.level(level).contains(table), "{plan}: no table {} in {level}", table.number);
            assert!(!self.busy.uses(table.number), "{plan}: {} is busy", table.number);
        }
        self.busy.add(&plan);
        let outputs = match plan.kind {
            PlanKind::Move => plan.tables().map(|(_, table)| TableMeta::clone(table)).collect(),
            PlanKind::Recode | PlanKind::Merge => self.merge(&plan),
        };
        self.running.push((plan, outputs));
    }

    fn merge(&mut self, plan: &Plan) -> Vec<TableMeta> {
        let sources = plan.tables().map(|(_, table)| VecIterator::new(self.contents[&table.number].clone())).collect();
        let may_lie_below = |key: &[u8]| {
            let holds = |table: &Arc<TableMeta>| &*table.smallest.user_key <= key && key <= &*table.largest.user_key;
            plan.deeper.iter().flatten().any(holds)
        };
        let horizon = SeqNo(self.seq);
        let mut iter = CompactionIter::new(MergingIterator::new(sources), &self.snapshots, horizon, may_lie_below);
        let mut tables: Vec<Entries> = Vec::new();
        iter.seek_to_first().unwrap();
        while iter.valid() {
            let full = plan.output_level > Level::ZERO && tables.last().is_some_and(|table| table.len() >= 2);
            if tables.is_empty() || full && iter.starts_user_key() {
                tables.push(Entries::new());
            }
            tables.last_mut().unwrap().push((iter.key().to_buf(), Vec::new()));
            iter.next().unwrap();
        }
        tables.into_iter().map(|entries| self.table(entries)).collect()
    }

    fn end(&mut self, which: usize, install: bool) {
        if self.running.is_empty() {
            return;
        }
        let (plan, outputs) = self.running.remove(which % self.running.len());
        self.busy.remove(&plan);
        if install {
            self.version = self.version.apply(&plan.edit(&outputs)).unwrap_or_else(|error| panic!("{plan}: {error}"));
        }
    }

    /// What the tree says of `key` at `seq`: the first version found from the top down, as an engine would.
    fn read(&self, keyspace: &KeyspaceVersion, key: u8, seq: u64) -> bool {
        let seek = InternalKey::seek(std::slice::from_ref(&key), SeqNo(seq)).to_buf();
        let found = keyspace.tables().find_map(|(_, table)| {
            let entries = &self.contents[&table.number];
            let at = entries.partition_point(|(entry, _)| *entry < seek);
            entries.get(at).filter(|(entry, _)| *entry.user_key == [key])
        });
        found.is_some_and(|(entry, _)| entry.trailer.kind() == ValueKind::Put)
    }

    fn check(&self) {
        let keyspace = self.keyspace();
        for &seq in self.snapshots.iter().chain([&SeqNo(self.seq)]) {
            for key in 0..KEYS {
                let expected = self.model.range((key, 0)..=(key, seq.0)).next_back().is_some_and(|(_, put)| *put);
                assert_eq!(self.read(&keyspace, key, seq.0), expected, "key {key} at {seq}: {keyspace:?}");
            }
        }
        self.version.check().unwrap();
    }

    fn apply(&mut self, op: &Op) {
        let keyspace = self.keyspace();
        let plan = match op {
            Op::Pick => self.picker.pick(&keyspace, &self.busy),
            Op::PickIdle => self.picker.pick_idle(&keyspace, &self.busy, self.droppable(), 0),
            Op::PickForReads => self.picker.pick_for_reads(&keyspace, &self.busy),
            Op::PickRange(from, to) => {
                self.picker.pick_range(&keyspace, &self.busy, Bound::Included(&[*from]), Bound::Excluded(&[*to]))
            }
            _ => None,
        };
        match op {
            Op::Flush(writes) => self.flush(writes),
            Op::Ingest(from, counts) => self.ingest(*from, counts),
            Op::Finish(which) => self.end(*which, true),
            Op::Abandon(which) => self.end(*which, false),
            Op::Exclude(which) => {
                if let Some((_, table)) = keyspace.tables().nth(which % keyspace.tables().count().max(1)) {
                    self.busy.exclude(table.number);
                }
            }
            Op::Snapshot => self.snapshots.push(SeqNo(self.seq)),
            Op::Release(which) if !self.snapshots.is_empty() => {
                self.snapshots.remove(which % self.snapshots.len());
            }
            _ => {}
        }
        if let Some(plan) = plan {
            self.start(plan);
        }
    }

    /// Runs what `pick` gives until it gives nothing, one plan at a time.
    fn settle(&mut self, what: &str, pick: impl Fn(&Self, &KeyspaceVersion) -> Option<Plan>) {
        for _ in 0..2_000 {
            let Some(plan) = pick(self, &self.keyspace()) else { return };
            self.start(plan);
            self.end(0, true);
        }
        panic!("{what} does not end: {:?}", self.keyspace());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(250) })]

    #[test]
    fn every_read_stays_right(
        ops in ops(),
        base_entries in prop::sample::select(vec![2u64, 8, 30]),
        l0_slowdown in 2usize..9,
        codec_changes_at in prop::option::of((1u8..7).prop_map(Level)),
    ) {
        let mut tree = Tree::new(base_entries, l0_slowdown, codec_changes_at);
        for op in &ops {
            tree.apply(op);
            tree.check();
        }
        while !tree.running.is_empty() {
            tree.end(0, true);
        }
        tree.busy = Busy::new();

        tree.settle("pick", |tree, keyspace| tree.picker.pick(keyspace, &tree.busy));
        tree.check();
        let keyspace = tree.keyspace();
        prop_assert!(keyspace.levels[0].len() < 2);
        for (level, target) in tree.picker.targets(&keyspace).into_iter().enumerate().skip(1) {
            if level < LEVELS - 1 {
                prop_assert!(keyspace.level_bytes(Level(level as u8)) <= target.unwrap_or(0), "L{level}: {keyspace:?}");
            }
        }

        tree.settle("pick_idle", |tree, keyspace| tree.picker.pick_idle(keyspace, &tree.busy, tree.droppable(), 0));
        tree.check();

        let all = (Bound::Unbounded, Bound::Unbounded);
        tree.settle("pick_range", |tree, keyspace| tree.picker.pick_range(keyspace, &tree.busy, all.0, all.1));
        tree.settle("pick_rewrite", |tree, keyspace| {
            tree.picker.pick_rewrite(keyspace, &tree.busy, all.0, all.1, tree.droppable(), 0)
        });
        tree.check();
        prop_assert!(tree.keyspace().tables().all(|(level, _)| level == Level::BOTTOM));

        // Without snapshots a manual compaction leaves what is alive, and nothing else.
        tree.snapshots.clear();
        tree.settle("pick_rewrite", |tree, keyspace| {
            tree.picker.pick_rewrite(keyspace, &tree.busy, all.0, all.1, tree.droppable(), 0)
        });
        tree.check();
        let entries: u64 = tree.keyspace().tables().map(|(_, table)| table.entries - table.deletions).sum();
        let tombstones: u64 = tree.keyspace().tables().map(|(_, table)| table.deletions).sum();
        let alive: BTreeSet<u8> = (0..KEYS).filter(|&key| tree.read(&tree.keyspace(), key, tree.seq)).collect();
        prop_assert_eq!(tombstones, 0);
        prop_assert!(entries >= alive.len() as u64);
    }
}
