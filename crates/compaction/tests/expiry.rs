//! Entries that expire: no reader that is allowed sees a difference, whatever time it is for him; what has expired for all is gone; and tables of which all has expired are not even read.

mod folder;
mod notation;

use esker_compaction::{Busy, CompactionIter, JobConfig, Picker, Plan, PlanKind, Times, run};
use esker_format::{InternalKey, InternalKeyBuf, SeqNo, ValueKind, split_expiry};
use esker_iterator::VecIterator;
use esker_manifest::{KeyspaceVersion, Level, TableMeta};
use esker_vfs::MemVfs;
use folder::{Folder, config};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A version: a tombstone, or one that is there until a time.
type Version = Option<u64>;
type Versions = BTreeMap<(u8, u64), Version>;

const NEVER: u64 = u64::MAX;

/// Which version a reader sees, if it is there as of a time.
fn read(versions: &Versions, key: u8, seq: u64, unix_ms: u64) -> Option<u64> {
    let ((_, seq), version) = versions.range((key, 0)..=(key, seq)).next_back()?;
    version.filter(|expiry| *expiry > unix_ms).map(|_| *seq)
}

fn entries(versions: &Versions) -> Vec<(InternalKeyBuf, Vec<u8>)> {
    let entry = |(&(key, seq), version): (&(u8, u64), &Version)| {
        let (kind, value) = match version {
            None => (ValueKind::Delete, Vec::new()),
            Some(NEVER) => (ValueKind::Put, b"v".to_vec()),
            Some(expiry) => (ValueKind::Expiring, [&expiry.to_le_bytes()[..], b"v"].concat()),
        };
        (InternalKey::new(&[key], SeqNo(seq), kind).to_buf(), value)
    };
    let mut entries: Vec<_> = versions.iter().map(entry).collect();
    entries.sort();
    entries
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn no_reader_sees_a_difference(
        versions in prop::collection::btree_map(1u64..30, (0u8..4, prop::option::of(prop_oneof![1u64..60, Just(NEVER)])), 0..25),
        snapshots in prop::collection::btree_map(0u64..30, 0u64..40, 0..4),
        (horizon, now_more) in (0u64..35, 0u64..30),
        older in prop::collection::btree_set(0u8..4, 0..3),
    ) {
        let versions: Versions = versions.into_iter().map(|(seq, (key, version))| ((key, seq), version)).collect();
        let snapshots: Vec<(u64, u64)> = snapshots.into_iter().filter(|(seq, _)| *seq <= horizon).collect();
        // Time goes on as the numbers do.
        let times: Vec<u64> = snapshots.iter().scan(0, |last, (_, ms)| { *last += ms / 2; Some(*last) }).collect();
        let now_ms = times.last().unwrap_or(&0) + now_more;
        let seqs: Vec<SeqNo> = snapshots.iter().map(|(seq, _)| SeqNo(*seq)).collect();
        let mut iter = CompactionIter::new(VecIterator::new(entries(&versions)), &seqs, SeqNo(horizon), |key| older.contains(&key[0]))
            .as_of(&seqs, SeqNo(horizon), Times { snapshots_ms: &times, now_ms });
        let mut kept = Versions::new();
        iter.seek_to_first().unwrap();
        while iter.valid() {
            let key = iter.key();
            let version = match key.trailer.kind() {
                ValueKind::Delete => None,
                ValueKind::Put => Some(NEVER),
                _ => Some(split_expiry(iter.value()).unwrap().0),
            };
            prop_assert_eq!(version.is_none(), iter.value().is_empty());
            kept.insert((key.user_key[0], key.trailer.seq().0), version);
            iter.next().unwrap();
        }
        let held = seqs.iter().map(|seq| seq.0).zip(times.iter().copied());
        let readers: Vec<(u64, u64)> = held.chain((horizon..36).flat_map(|seq| (0..70).map(move |more| (seq, now_ms + more)))).collect();
        for (seq, unix_ms) in readers {
            for key in 0..4 {
                let (before, after) = (read(&versions, key, seq, unix_ms), read(&kept, key, seq, unix_ms));
                prop_assert_eq!(before, after, "{} at {}, {} ms", key, seq, unix_ms);
                // What lies below must not come up: something newer is there, as before.
                let covered = |versions: &Versions| versions.range((key, 0)..=(key, seq)).next_back().is_some();
                prop_assert!(!older.contains(&key) || covered(&versions) == covered(&kept));
            }
        }
        // What nobody can see any more is at most a tombstone, and that only where it may hide something.
        let oldest = seqs.first().map_or(horizon, |seq| seq.0.min(horizon));
        let oldest_ms = if seqs.first().is_some_and(|seq| seq.0 <= horizon) { times[0] } else { now_ms };
        for ((key, seq), version) in &kept {
            let is_gone = version.is_none_or(|expiry| expiry <= oldest_ms);
            prop_assert!(*seq > oldest || !is_gone || older.contains(key), "{key}#{seq} {version:?}");
            prop_assert!(*seq > oldest || version.is_none_or(|expiry| expiry > oldest_ms), "{key}#{seq} {version:?} has expired for all");
        }
    }
}

fn expiring(key: &str, seq: u64, expiry: u64, value: &[u8]) -> (InternalKeyBuf, Vec<u8>) {
    let key = InternalKey::new(key.as_bytes(), SeqNo(seq), ValueKind::Expiring).to_buf();
    (key, [&expiry.to_le_bytes()[..], value].concat())
}

fn at(now_ms: u64) -> JobConfig<'static> {
    JobConfig { horizon: SeqNo(99), times: Times { snapshots_ms: &[], now_ms }, ..config() }
}

fn rewrite(table: &Arc<TableMeta>, deeper: Vec<Vec<Arc<TableMeta>>>) -> Plan {
    Plan {
        keyspace: esker_format::KeyspaceId::DEFAULT,
        inputs: vec![(Level(6), vec![Arc::clone(table)])],
        output_level: Level(6),
        kind: PlanKind::Merge,
        grandparents: Vec::new(),
        deeper,
    }
}

#[test]
fn a_table_knows_when_its_entries_expire_and_goes_unread_when_all_have() {
    let folder = Folder::new(MemVfs::new());
    let entries = vec![expiring("a", 1, 500, b"1"), expiring("b", 2, 300, b"2"), expiring("c", 3, 400, b"3")];
    let table = folder.flush(entries, &at(0)).unwrap().outputs.remove(0);
    let expiries = table.expiries.unwrap();
    assert_eq!(
        (expiries.entries, expiries.earliest_ms, expiries.latest_ms, expiries.half_ms),
        (3, 300, 500, Some(400))
    );

    let table = Arc::new(table);
    let half = run(&rewrite(&table, vec![]), &folder, &at(400)).unwrap();
    assert_eq!((half.outputs.len(), half.entries_out, half.counts.expired), (1, 1, 2));
    assert!(half.read_bytes > 0);

    let whole = run(&rewrite(&table, vec![]), &folder, &at(500)).unwrap();
    assert_eq!((whole.outputs.len(), whole.read_bytes, whole.counts.expired, whole.moved), (0, 0, 3, false));
    // Over something older, they become tombstones.
    let below = Arc::new(folder.flush(vec![folder::put("b", 1, b"old")], &at(0)).unwrap().outputs.remove(0));
    let over = run(&rewrite(&table, vec![vec![below]]), &folder, &at(500)).unwrap();
    assert_eq!((over.outputs[0].entries, over.outputs[0].deletions), (1, 1), "one that may hide b");
    assert!(over.outputs[0].expiries.is_none());
    // A snapshot needs them.
    let held = JobConfig { snapshots: &[SeqNo(3)], times: Times { snapshots_ms: &[299], now_ms: 900 }, ..at(900) };
    assert_eq!(run(&rewrite(&table, vec![]), &folder, &held).unwrap().entries_out, 3);
    let older = JobConfig { snapshots: &[SeqNo(2)], ..held };
    let outcome = run(&rewrite(&table, vec![]), &folder, &older).unwrap();
    assert_eq!(
        (outcome.entries_out, outcome.outputs[0].deletions),
        (3, 1),
        "of c a tombstone is left, for the snapshot is not to see it"
    );
}

/// A tree of one table a level, from level 0 on, each with its time.
fn version(half_ms: &[Option<u64>]) -> KeyspaceVersion {
    let mut version = notation::define("L0: 3:a-f@9\nL5: 2:a-f@9\nL6: 1:a-f@9").0;
    for (level, half_ms) in [0, 5, 6].into_iter().zip(half_ms) {
        for table in &mut version.levels[level] {
            let table = Arc::make_mut(table);
            table.entries = 10;
            table.expiries = half_ms.map(|half_ms| esker_format::Expiries {
                entries: 9,
                earliest_ms: 1,
                latest_ms: half_ms + 5,
                half_ms: Some(half_ms),
            });
        }
    }
    version
}

#[test]
fn tables_are_due_when_half_of_them_has_expired() {
    let picker = Picker::new(Default::default());
    let idle = |half_ms: [Option<u64>; 3], droppable, as_of_ms| {
        let plan = picker.pick_idle(&version(&half_ms), &Busy::new(), SeqNo(droppable), as_of_ms);
        plan.map(|plan| plan.to_string())
    };
    assert_eq!(idle([None, None, Some(100)], 99, 99), None);
    assert_eq!(idle([None, None, Some(100)], 99, 100).as_deref(), Some("L6[1] -> L6 merge"));
    assert_eq!(idle([None, None, Some(100)], 0, 100), None, "a snapshot may need it");
    assert_eq!(idle([None, Some(90), Some(100)], 99, 95).as_deref(), Some("L5[2] L6[1] -> L6 merge"));
    assert_eq!(
        idle([None, Some(100), Some(90)], 99, 100).as_deref(),
        Some("L6[1] -> L6 merge"),
        "the one that is due for longest"
    );
    assert_eq!(idle([Some(80), None, None], 99, 80).as_deref(), Some("L0[3] L5[2] -> L5 merge"));
}
