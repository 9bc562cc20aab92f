//! Random edits, some that fit and some that do not, against a model that keeps flat lists and compares each with each; with closing, reopening and power
//! cuts in between.

mod support;

use esker_format::{FileNo, KeyspaceId, SeqNo};
use esker_manifest::{CleanClose, LEVELS, Level, TableMeta, Version, VersionEdit, VersionSet};
use esker_vfs::{CrashPolicy, MemVfs};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use support::{create, fresh, recover};

/// What a version is, without any structure.
#[derive(Debug, Clone, PartialEq, Default)]
struct Model {
    /// Id, name, options, flushed.
    keyspaces: Vec<(KeyspaceId, String, String, SeqNo)>,
    tables: Vec<(KeyspaceId, Level, TableMeta)>,
    last_seq: SeqNo,
    next_keyspace: u32,
    oldest_log: FileNo,
    clock_ms: u64,
    clean: bool,
}

impl Model {
    fn of(version: &Version) -> Self {
        let keyspaces = version.keyspaces.values();
        let mut tables: Vec<_> =
            version.tables().map(|(k, level, table)| (k, level, TableMeta::clone(table))).collect();
        tables.sort_by_key(|(_, _, table)| table.number);
        Self {
            keyspaces: keyspaces.map(|k| (k.id, k.name.to_string(), k.options.clone(), k.flushed_seq)).collect(),
            tables,
            last_seq: version.last_seq,
            next_keyspace: version.next_keyspace.0,
            oldest_log: version.oldest_log,
            clock_ms: version.clock_ms,
            clean: version.clean_close,
        }
    }

    /// The next state, if the edit fits. File numbers are all below the reservation here.
    fn apply(mut self, edit: &VersionEdit) -> Option<Self> {
        let grows = edit.reserve_seq.is_none_or(|seq| seq >= self.last_seq)
            && edit.oldest_log.is_none_or(|log| log >= self.oldest_log)
            && edit.clock_ms.is_none_or(|clock| clock >= self.clock_ms);
        self.last_seq = edit.reserve_seq.unwrap_or(self.last_seq);
        self.oldest_log = edit.oldest_log.unwrap_or(self.oldest_log);
        self.clock_ms = edit.clock_ms.unwrap_or(self.clock_ms);
        self.clean = edit.clean.is_some();
        for id in &edit.drop_keyspaces {
            let at = self.keyspaces.iter().position(|keyspace| keyspace.0 == *id).filter(|_| id.0 != 0)?;
            self.keyspaces.remove(at);
            self.tables.retain(|(keyspace, ..)| keyspace != id);
        }
        for (id, name, options) in &edit.create_keyspaces {
            if id.0 < self.next_keyspace || self.keyspaces.iter().any(|keyspace| keyspace.1 == *name) {
                return None;
            }
            self.next_keyspace = id.0 + 1;
            self.keyspaces.push((*id, name.clone(), options.clone(), SeqNo::ZERO));
        }
        for (id, level, number) in &edit.remove {
            let here =
                |table: &(KeyspaceId, Level, TableMeta)| (table.0, table.1, table.2.number) == (*id, *level, *number);
            self.tables.remove(self.tables.iter().position(here)?);
        }
        self.tables.extend(edit.add.iter().cloned());
        self.tables.sort_by_key(|(_, _, table)| table.number);
        for (id, seq) in &edit.flushed {
            let keyspace = self.keyspaces.iter_mut().find(|keyspace| keyspace.0 == *id)?;
            if *seq < keyspace.3 {
                return None;
            }
            keyspace.3 = *seq;
        }
        let before_close = self.last_seq;
        let sound = self.tables.iter().all(|(_, _, table)| table.largest_seq <= before_close);
        self.last_seq = edit.clean.map_or(before_close, |clean| clean.last_seq);
        (grows && sound && self.last_seq <= before_close && self.is_sound()).then_some(self)
    }

    fn is_sound(&self) -> bool {
        let alone = self.tables.iter().all(|(keyspace, level, table)| {
            self.keyspaces.iter().any(|known| known.0 == *keyspace)
                && level.index() < LEVELS
                && table.smallest <= table.largest
                && table.largest_seq <= self.last_seq
                && table.number.0 > 0
        });
        let pairs = self.tables.iter().enumerate().all(|(at, (keyspace, level, a))| {
            self.tables[at + 1..].iter().all(|(other_keyspace, other_level, b)| {
                let apart = !a.overlaps(b)
                    || (*level == Level::ZERO && (a.largest_seq < b.smallest_seq || b.largest_seq < a.smallest_seq));
                a.number != b.number && ((keyspace, level) != (other_keyspace, other_level) || apart)
            })
        });
        alone && pairs && self.keyspaces.iter().all(|keyspace| keyspace.3 <= self.last_seq)
    }
}

#[derive(Debug, Clone)]
enum Step {
    Commit(VersionEdit),
    /// Tables of `remove` are taken from what is there, so that most of these fit.
    Replace(Vec<prop::sample::Index>, VersionEdit),
    Close(u64),
    Reopen,
    PowerCut(u64),
}

fn table() -> impl Strategy<Value = TableMeta> {
    (0u64..60, 0u8..26, 0u8..3, 1u64..90, 0u64..4).prop_map(|(number, from, width, seq, more)| {
        let letter = |at: u8| char::from(b'a' + at.min(25));
        let (low, high) = (seq, seq + more);
        format!(
            "{number:06} {}#{high},PUT .. {}#{low},DEL deletions 1 seqs {low}..{high}",
            letter(from),
            letter(from + width)
        )
        .parse()
        .unwrap()
    })
}

fn changes() -> impl Strategy<Value = VersionEdit> {
    let keyspace = || prop_oneof![20 => Just(0u32), 3 => Just(1u32), 1 => 2u32..4].prop_map(KeyspaceId);
    let level = || prop_oneof![40 => 0u8..3, 1 => 6u8..9].prop_map(Level);
    let name = prop_oneof![Just("users"), Just("orders")].prop_map(String::from);
    let rarely = |strategy: BoxedStrategy<u64>| prop::option::weighted(0.04, strategy);
    (
        prop::collection::vec((keyspace(), level(), table()), 0..3),
        prop::option::weighted(0.02, (keyspace(), level(), (1u64..30).prop_map(FileNo))),
        prop::option::weighted(0.1, (1u32..8, name)),
        prop::option::weighted(0.03, keyspace()),
        prop::option::weighted(0.1, (keyspace(), 0u64..100)),
        (rarely((80..120u64).boxed()), rarely((0..50u64).boxed()), rarely((0..50u64).boxed())),
    )
        .prop_map(|(add, remove, created, dropped, flushed, (seq, log, clock))| VersionEdit {
            add,
            remove: remove.into_iter().collect(),
            create_keyspaces: created.into_iter().map(|(id, name)| (KeyspaceId(id), name, "o".into())).collect(),
            drop_keyspaces: dropped.into_iter().collect(),
            flushed: flushed.into_iter().map(|(id, seq)| (id, SeqNo(seq))).collect(),
            reserve_seq: seq.map(SeqNo),
            oldest_log: log.map(FileNo),
            clock_ms: clock,
            ..VersionEdit::default()
        })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let one = prop_oneof![
        8 => changes().prop_map(Step::Commit),
        4 => (prop::collection::vec(any::<prop::sample::Index>(), 1..3), changes())
            .prop_map(|(which, edit)| Step::Replace(which, edit)),
        1 => (60u64..120).prop_map(Step::Close),
        1 => Just(Step::Reopen),
        1 => any::<u64>().prop_map(Step::PowerCut),
    ];
    prop::collection::vec(one, 1..50)
}

/// Removes tables that are there, and drops what would be removed twice.
fn replacing(model: &Model, which: &[prop::sample::Index], mut edit: VersionEdit) -> VersionEdit {
    let chosen: BTreeMap<FileNo, _> = which
        .iter()
        .filter(|_| !model.tables.is_empty())
        .map(|index| index.get(&model.tables))
        .map(|(keyspace, level, table)| (table.number, (*keyspace, *level, table.number)))
        .collect();
    edit.remove = chosen.into_values().collect();
    edit
}

fn reopened(vfs: &Arc<MemVfs>) -> VersionSet {
    let mut set = recover(vfs).unwrap();
    set.set_rewrite_bytes(1500);
    set
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn a_version_set_does_what_flat_lists_do(steps in steps()) {
        let mut vfs = fresh();
        let mut set = create(&vfs);
        // All the numbers that the edits use have been given out.
        while set.new_file_no().unwrap() < FileNo(60) {}
        set.commit(support::edit("reserve seq 90")).unwrap();
        let mut model = Model::of(set.current());
        for step in steps {
            let edit = match step {
                Step::Commit(edit) => edit,
                Step::Replace(which, edit) => replacing(&model, &which, edit),
                Step::Close(last_seq) => {
                    let last_seq = SeqNo(last_seq);
                    let next_file = FileNo(1000);
                    let edit = VersionEdit { clean: Some(CleanClose { last_seq, next_file }), ..VersionEdit::default() };
                    let expected = model.clone().apply(&edit);
                    prop_assert_eq!(set.close(VersionEdit::default(), last_seq).is_ok(), expected.is_some());
                    model = expected.unwrap_or(model);
                    continue;
                }
                Step::Reopen => {
                    set = reopened(&vfs);
                    continue;
                }
                Step::PowerCut(seed) => {
                    vfs = Arc::new(vfs.crash_now(CrashPolicy::Subset(seed)));
                    set = reopened(&vfs);
                    prop_assert_eq!(&Model::of(set.current()), &model);
                    continue;
                }
            };
            prop_assert_eq!(&VersionEdit::decode(&edit.encode()).unwrap(), &edit);
            let expected = model.clone().apply(&edit);
            let done = set.commit(edit.clone());
            prop_assert_eq!(done.is_ok(), expected.is_some(), "{}\n{:?}\n{:?}", edit, done, model);
            model = expected.unwrap_or(model);
            set.current().check().unwrap();
            prop_assert_eq!(&Model::of(set.current()), &model);
        }
    }
}
