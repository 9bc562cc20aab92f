//! Range tombstones in compaction: no reader that is allowed sees a difference, tables of a level stay apart, and what is covered whole is not read.

mod folder;

use esker_compaction::{Busy, CompactionIter, JobConfig, LeveledOptions, Picker, Plan, PlanKind, run, write_tables};
use esker_format::{InternalKey, InternalKeyBuf, KeyspaceId, SeqNo, ValueKind};
use esker_iterator::{RangeTombstoneBuf, VecIterator};
use esker_manifest::{Level, TableMeta};
use esker_vfs::MemVfs;
use folder::{Entries, Folder, config, keys, put};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

fn ranges(text: &str) -> Vec<RangeTombstoneBuf> {
    text.split_whitespace()
        .map(|tombstone| {
            let (range, seq) = tombstone.split_once('#').unwrap();
            let (begin, end) = range.split_once("..").unwrap();
            RangeTombstoneBuf {
                begin: begin.as_bytes().into(),
                end: end.as_bytes().into(),
                seq: SeqNo(seq.parse().unwrap()),
            }
        })
        .collect()
}

/// Writes tables as a flush does, which keeps all range tombstones.
fn write(folder: &Folder, entries: Entries, ranges: &[RangeTombstoneBuf], config: &JobConfig<'_>) -> Vec<TableMeta> {
    let iter = CompactionIter::new(VecIterator::new(entries), config.snapshots, config.horizon, |_| true);
    let iter = iter.with_range_tombstones(ranges.iter().map(RangeTombstoneBuf::as_ref), |_| true);
    write_tables(iter, &[], folder, config).unwrap().outputs
}

fn table(folder: &Folder, entries: Entries, text: &str) -> Arc<TableMeta> {
    let mut tables = write(folder, entries, &ranges(text), &config());
    assert_eq!(tables.len(), 1);
    Arc::new(tables.remove(0))
}

/// The range tombstones of a table, as text.
fn ranges_in(folder: &Folder, meta: &TableMeta) -> String {
    use esker_compaction::Tables;
    let table = folder.open(meta).unwrap();
    let layers = table.range_tombstones().map_or(&[][..], |ranges| ranges.layers());
    layers.iter().map(|layer| format!("{layer:?}")).collect::<Vec<_>>().join(" over ")
}

fn merge(levels: Vec<(u8, Vec<Arc<TableMeta>>)>, output: u8, deeper: Vec<Vec<Arc<TableMeta>>>) -> Plan {
    Plan {
        keyspace: KeyspaceId::DEFAULT,
        inputs: levels.into_iter().map(|(level, tables)| (Level(level), tables)).collect(),
        output_level: Level(output),
        kind: PlanKind::Merge,
        grandparents: Vec::new(),
        deeper,
    }
}

#[derive(Debug, Clone)]
struct Case {
    /// Key and whether it is a put.
    entries: BTreeMap<(Vec<u8>, u64), bool>,
    ranges: Vec<RangeTombstoneBuf>,
    snapshots: Vec<SeqNo>,
    horizon: SeqNo,
    /// Keys of which something older lies outside the inputs.
    older: BTreeSet<Vec<u8>>,
}

fn any_key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        1 => Just(vec![]),
        4 => prop::collection::vec(prop::sample::select(vec![0, b'a', b'b', b'c', 0xff]), 1..4),
        // As long as keys may be: the place behind them is no key.
        1 => (0..2u8, prop::sample::select(vec![b'a', 0xff])).prop_map(|(last, byte)| {
            let mut key = vec![byte; esker_format::KEY_BYTES_MAX];
            *key.last_mut().unwrap() -= last;
            key
        }),
    ]
}

fn cases() -> impl Strategy<Value = Case> {
    let ops = prop::collection::vec((any_key(), any_key(), 0..8u8), 0..40);
    let snapshots = prop::collection::btree_set(0u64..40, 0..4);
    (ops, snapshots, 0u64..45, prop::collection::btree_set(any_key(), 0..3)).prop_map(
        |(ops, snapshots, horizon, older)| {
            let mut case = Case {
                entries: BTreeMap::new(),
                ranges: Vec::new(),
                snapshots: snapshots.into_iter().filter(|&s| s <= horizon).map(SeqNo).collect(),
                horizon: SeqNo(horizon),
                older,
            };
            for ((key, end, kind), seq) in ops.into_iter().zip(1..) {
                match kind {
                    0..5 => drop(case.entries.insert((key, seq), true)),
                    5 => drop(case.entries.insert((key, seq), false)),
                    _ if key < end => {
                        case.ranges.push(RangeTombstoneBuf { begin: key.into(), end: end.into(), seq: SeqNo(seq) })
                    }
                    _ => {}
                }
            }
            case
        },
    )
}

/// What a reader at `seq` sees of a key: the number of its value, a deletion (`Some(None)`), or nothing at all.
fn read(
    entries: &BTreeMap<(Vec<u8>, u64), bool>,
    ranges: &[RangeTombstoneBuf],
    key: &[u8],
    seq: u64,
) -> Option<Option<u64>> {
    let newest = entries.range((key.to_vec(), 0)..=(key.to_vec(), seq)).next_back();
    let covering =
        ranges.iter().filter(|range| range.seq.0 <= seq && range.as_ref().covers(key)).map(|range| range.seq.0).max();
    match (newest, covering) {
        (Some(((_, at), is_put)), covering) if covering.is_none_or(|covering| covering < *at) => {
            Some(is_put.then_some(*at))
        }
        (None, None) => None,
        _ => Some(None),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn no_reader_sees_a_difference_and_outputs_lie_apart(case in cases(), table_bytes in prop_oneof![Just(1u64), Just(1_000), Just(u64::MAX)]) {
        let folder = Folder::new(MemVfs::new());
        let mut entries: Entries = case.entries.iter().map(|((key, seq), is_put)| {
            let kind = if *is_put { ValueKind::Put } else { ValueKind::Delete };
            (InternalKey::new(key, SeqNo(*seq), kind).to_buf(), Vec::new())
        }).collect();
        entries.sort();
        let config = JobConfig { snapshots: &case.snapshots, horizon: case.horizon, table_bytes, ..config() };
        let older = case.older.clone();
        let iter = CompactionIter::new(VecIterator::new(entries), config.snapshots, config.horizon, |key| older.contains(key));
        let iter = iter.with_range_tombstones(case.ranges.iter().map(RangeTombstoneBuf::as_ref), |range| case.older.iter().any(|key| range.covers(key)));
        let outputs = write_tables(iter, &[], &folder, &config).unwrap().outputs;

        let (mut kept, mut kept_ranges) = (BTreeMap::new(), Vec::new());
        let mut last: Option<InternalKeyBuf> = None;
        for meta in &outputs {
            use esker_compaction::Tables;
            let table = folder.open(meta).unwrap();
            table.verify().unwrap();
            let properties = table.properties();
            prop_assert_eq!((&properties.smallest, &properties.largest), (&meta.smallest, &meta.largest));
            prop_assert_eq!(properties.range_tombstones, meta.ranges.as_ref().map_or(0, |ranges| ranges.count));
            prop_assert!(last.is_none_or(|last| last.user_key < meta.smallest.user_key), "tables share a user key");
            prop_assert!(meta.smallest.user_key.len().max(meta.largest.user_key.len()) <= esker_format::KEY_BYTES_MAX);
            let within = |key: &[u8]| *meta.smallest.user_key <= *key && *key <= *meta.largest.user_key;
            for (key, _) in folder.entries(meta) {
                prop_assert!(within(&key.user_key));
                kept.insert((key.user_key.to_vec(), key.trailer.seq().0), key.trailer.kind() == ValueKind::Put);
            }
            for range in table.range_tombstones().iter().flat_map(|ranges| ranges.iter()) {
                let hull = meta.ranges.as_ref().unwrap();
                prop_assert!(*hull.begin <= *range.begin && *range.end <= *hull.end);
                kept_ranges.push(range.to_buf());
            }
            // What a table covers lies within its bounds, so that whoever goes by them finds it.
            for (key, _) in case.entries.keys() {
                let covered = kept_ranges.iter().any(|range| range.as_ref().covers(key));
                let known = outputs.iter().any(|meta| *meta.smallest.user_key <= key[..] && key[..] <= *meta.largest.user_key);
                prop_assert!(!covered || known);
            }
            last = Some(meta.largest.clone());
        }
        prop_assert!(kept_ranges.len() <= 2 * case.ranges.len() + outputs.len() * (case.snapshots.len() + 1 + case.ranges.len()));

        let all: BTreeSet<&Vec<u8>> = case.entries.keys().map(|(key, _)| key).chain(&case.older).collect();
        let readers = case.snapshots.iter().map(|s| s.0).chain(case.horizon.0..50);
        for seq in readers {
            for key in &all {
                let before = read(&case.entries, &case.ranges, key, seq);
                let after = read(&kept, &kept_ranges, key, seq);
                // A tombstone may become nothing only where it has nothing to hide.
                let gone = before == Some(None) && after.is_none() && !case.older.contains(*key);
                prop_assert!(before == after || gone, "{:?} at {}: {:?} became {:?}", key, seq, before, after);
            }
        }
        prop_assert!(kept.keys().all(|version| case.entries.contains_key(version)), "nothing is made up");
        // Nothing that is hidden from all is kept.
        for ((key, seq), _) in kept.iter().filter(|((_, seq), _)| *seq <= case.horizon.0) {
            let ends = case.snapshots.iter().map(|s| s.0).chain([case.horizon.0]);
            let end = ends.filter(|end| *end >= *seq).min().unwrap();
            let hidden = case.ranges.iter().any(|range| range.seq.0 > *seq && range.seq.0 <= end && range.as_ref().covers(key));
            prop_assert!(!hidden, "{:?}#{} is hidden", key, seq);
        }
    }
}

#[test]
fn tombstones_are_cut_where_tables_end_and_what_is_behind_the_last_has_a_place() {
    let folder = Folder::new(MemVfs::new());
    let entries = vec![put("c", 9, b""), put("k", 9, b""), put("t", 9, b"")];
    let config = JobConfig { horizon: SeqNo(9), table_bytes: 1, ..config() };
    let tables = write(&folder, entries, &ranges("a..z#5"), &config);
    let shown: Vec<_> = tables
        .iter()
        .map(|table| format!("{:?}..{:?} {}", table.smallest, table.largest, ranges_in(&folder, table)))
        .collect();
    assert_eq!(
        shown,
        [
            r"a#5,RANGEDEL..c#5,RANGEDEL [[a, c\x00)#5]",
            r"c\x00#5,RANGEDEL..k#5,RANGEDEL [[c\x00, k\x00)#5]",
            r"k\x00#5,RANGEDEL..z#5,RANGEDEL [[k\x00, z)#5]",
        ]
    );
    // Nothing but tombstones is left of some: they make a table of their own.
    let hidden = vec![put("c", 3, b""), put("k", 4, b"")];
    let tables = write(&folder, hidden, &ranges("a..f#5 f..z#6"), &config);
    assert_eq!(tables.len(), 1);
    assert_eq!((tables[0].entries, ranges_in(&folder, &tables[0])), (0, "[[a, f)#5, [f, z)#6]".into()));
}

#[test]
fn what_a_newer_tombstone_covers_as_a_whole_is_not_read() {
    let folder = Folder::new(MemVfs::new());
    let above = table(&folder, vec![put("x", 20, b"kept")], "b..m#15");
    let edge = table(&folder, vec![put("a", 1, b""), put("c", 2, b"")], "");
    let inside = table(&folder, vec![put("d", 3, b""), put("e", 4, b"")], "");
    let newer = table(&folder, vec![put("f", 3, b""), put("g", 16, b"")], "");
    let (vfs, path) = (Arc::clone(&folder.vfs), Folder::path(inside.number));
    vfs.remove_file(&path).unwrap();
    let plan = merge(vec![(0, vec![above]), (6, vec![edge, inside, newer])], 6, Vec::new());
    let outcome = run(&plan, &folder, &JobConfig { horizon: SeqNo(20), ..config() }).unwrap();
    assert_eq!(keys(&folder.entries(&outcome.outputs[0])), "a#1,PUT g#16,PUT x#20,PUT");
    assert_eq!((outcome.outputs.len(), outcome.outputs[0].ranges.clone()), (1, None), "nothing lies below");

    // A snapshot in between needs it.
    let snapshots = [SeqNo(10)];
    let error = run(&plan, &folder, &JobConfig { horizon: SeqNo(20), snapshots: &snapshots, ..config() }).unwrap_err();
    assert_eq!(error.damaged_input(), None, "a file that is not there may only be out of reach: {error}");
}

#[test]
fn tombstones_stay_while_something_older_may_lie_below_or_a_snapshot_needs_them() {
    let folder = Folder::new(MemVfs::new());
    let above = || table(&folder, vec![put("x", 20, b"")], "b..d#15 k..m#14");
    let below = table(&folder, vec![put("c", 1, b"")], "");
    let job = |deeper: Vec<Vec<Arc<TableMeta>>>, snapshots: &[SeqNo]| {
        let plan = merge(vec![(0, vec![above()])], 5, deeper);
        let outcome = run(&plan, &folder, &JobConfig { horizon: SeqNo(20), snapshots, ..config() }).unwrap();
        ranges_in(&folder, &outcome.outputs[0])
    };
    assert_eq!(job(Vec::new(), &[]), "");
    assert_eq!(job(vec![vec![below.clone()]], &[]), "[[b, d)#15]", "where nothing lies below it goes");
    assert_eq!(
        job(Vec::new(), &[SeqNo(14)]),
        "[[b, d)#15]",
        "who reads at 14 must not see what 15 hides, nor whoever comes later see it again"
    );
    assert_eq!(job(vec![vec![below]], &[SeqNo(14)]), "[[b, d)#15]");
}

#[test]
fn a_tombstone_hides_what_is_older_and_no_version_of_its_own_number() {
    let folder = Folder::new(MemVfs::new());
    let entries = ["b#4", "c#5", "d#6"].map(|version| put(&version[..1], version[2..].parse().unwrap(), b""));
    let written = write(&folder, entries.into(), &ranges("a..z#5"), &JobConfig { horizon: SeqNo(9), ..config() });
    assert_eq!(keys(&folder.entries(&written[0])), "c#5,PUT d#6,PUT", "what comes in together has one number");
}

/// One that went too early would let what it hides come up again.
#[test]
fn a_tombstone_is_held_against_the_first_and_the_last_key_of_what_lies_deeper() {
    let folder = Folder::new(MemVfs::new());
    let above = table(&folder, vec![put("x", 20, b"")], "b..d#15");
    let is_kept = |deeper: &[[&str; 2]]| {
        let below = deeper.iter().map(|[first, last]| table(&folder, vec![put(first, 1, b""), put(last, 2, b"")], ""));
        let plan = merge(vec![(0, vec![above.clone()])], 5, vec![below.collect()]);
        let outcome = run(&plan, &folder, &JobConfig { horizon: SeqNo(20), ..config() }).unwrap();
        ranges_in(&folder, &outcome.outputs[0]) == "[[b, d)#15]"
    };
    assert!(is_kept(&[["a", "b"]]) && is_kept(&[["a", "aa"], ["cz", "z"]]) && is_kept(&[["a", "z"]]));
    assert!(!is_kept(&[["a", "az"], ["d", "z"]]), "its end is beyond it");
}

#[test]
fn idle_work_brings_down_what_hides_a_table_and_moves_keep_the_range() {
    let folder = Folder::new(MemVfs::new());
    let picker = Picker::new(LeveledOptions::default());
    let mut version = folder.version();
    version.levels[6] = vec![table(&folder, vec![put("c", 1, b""), put("d", 2, b"")], "")];
    let idle = |version: &_| picker.pick_idle(version, &Busy::new(), SeqNo(100), 0).map(|plan| plan.to_string());
    let bottom = version.levels[6][0].number.0;

    let small = table(&folder, (10..20).map(|seq| put(&format!("k{seq}"), seq, b"")).collect(), "c..cc#9");
    version.levels[0] = vec![small];
    assert_eq!(idle(&version), None, "it frees less than it costs");

    let wide = table(&folder, (10..20).map(|seq| put(&format!("k{seq}"), seq, b"")).collect(), "a..e#9");
    let number = wide.number.0;
    version.levels[0] = vec![wide];
    assert_eq!(idle(&version), Some(format!("L0[{number}] L6[{bottom}] -> L6 merge")));
    // By its range it meets the table below, though none of its entries does: no move may jump over that.
    let plan =
        picker.pick_range(&version, &Busy::new(), std::ops::Bound::Unbounded, std::ops::Bound::Unbounded).unwrap();
    assert_eq!(plan.to_string(), format!("L0[{number}] L6[{bottom}] -> L6 merge"));
}
