//! Jobs over real tables in memory.

mod folder;

use esker_compaction::{
    Busy, Cause, JobConfig, LeveledOptions, Outcome, Picker, Plan, PlanKind, Progress, Tables, run,
};
use esker_format::{FileNo, KeyspaceId, SeqNo};
use esker_manifest::{Level, TableMeta, Version};
use esker_sstable::Codec;
use esker_vfs::{Fault, FaultVfs, MemVfs, Operation, Rule};
use folder::{Entries, Folder, config, delete, keys, put};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

fn folder() -> Folder {
    Folder::new(MemVfs::new())
}

/// A plan that merges `upper` tables, the newest first, with `lower` ones, into `output`.
fn merge(upper: (u8, Vec<Arc<TableMeta>>), lower: Vec<Arc<TableMeta>>, output: u8) -> Plan {
    let lower = (!lower.is_empty()).then_some((Level(output), lower));
    Plan {
        keyspace: KeyspaceId::DEFAULT,
        inputs: [(Level(upper.0), upper.1)].into_iter().chain(lower).collect(),
        output_level: Level(output),
        kind: PlanKind::Merge,
        grandparents: Vec::new(),
        deeper: Vec::new(),
    }
}

fn all_entries(folder: &Folder, outcome: &Outcome) -> Entries {
    outcome.outputs.iter().flat_map(|table| folder.entries(table)).collect()
}

/// `count` keys, `k0000` and on, every one with a value of 100 bytes.
fn many(count: u64, seq: u64) -> Entries {
    (0..count).map(|i| put(&format!("k{i:04}"), seq + i, &[i as u8; 100])).collect()
}

#[test]
fn levels_merge_and_what_is_hidden_goes() {
    let folder = folder();
    let newer = folder.table(vec![put("a", 9, b"new"), delete("c", 8), delete("x", 7)]);
    let older = folder.table(vec![put("a", 5, b"old"), put("b", 4, b"b")]);
    let left = folder.table(vec![put("a", 1, b"oldest"), put("c", 2, b"c")]);
    let right = folder.table(vec![put("w", 3, b"w")]);
    let mut plan = merge((0, vec![newer, older]), vec![left, right], 6);

    let at = |horizon| JobConfig { horizon: SeqNo(horizon), ..config() };
    let outcome = run(&plan, &folder, &at(9)).unwrap();
    assert_eq!(keys(&all_entries(&folder, &outcome)), "a#9,PUT b#4,PUT w#3,PUT");
    assert_eq!((outcome.counts.entries_in, outcome.counts.hidden, outcome.counts.tombstones), (8, 3, 2));
    assert_eq!(outcome.entries_out, 3);
    assert_eq!(outcome.read_bytes, plan.input_bytes());
    assert_eq!(outcome.written_bytes, outcome.outputs[0].file_bytes);

    let table = &outcome.outputs[0];
    assert_eq!((table.smallest_seq, table.largest_seq, table.entries, table.deletions), (SeqNo(3), SeqNo(9), 3, 0));
    assert_eq!(format!("{:?} {:?}", table.smallest, table.largest), "a#9,PUT w#3,PUT");
    assert_eq!(table.created_unix_ms, 1_000);

    // A snapshot at 5 still needs what it sees.
    let outcome = run(&plan, &folder, &JobConfig { snapshots: &[SeqNo(5)], ..at(9) }).unwrap();
    let expected = "a#9,PUT a#5,PUT b#4,PUT c#8,DEL c#2,PUT w#3,PUT x#7,DEL";
    assert_eq!(keys(&all_entries(&folder, &outcome)), expected);

    // Above the horizon nothing is touched.
    let outcome = run(&plan, &folder, &at(7)).unwrap();
    assert_eq!(keys(&all_entries(&folder, &outcome)), "a#9,PUT a#5,PUT b#4,PUT c#8,DEL c#2,PUT w#3,PUT");

    // What lies deeper keeps tombstones, where it may hold their key.
    let deep = folder.table(vec![put("b", 1, b""), put("d", 1, b"")]);
    plan.deeper = vec![vec![deep]];
    let outcome = run(&plan, &folder, &at(9)).unwrap();
    assert_eq!(keys(&all_entries(&folder, &outcome)), "a#9,PUT b#4,PUT c#8,DEL w#3,PUT");
}

#[test]
fn tombstones_are_held_against_every_deeper_run() {
    let folder = folder();
    let table = |from: &str, to: &str| folder.table(vec![put(from, 1, b""), put(to, 1, b"")]);
    let tombstones = "abcdefgh".chars().map(|key| delete(&key.to_string(), 9)).collect();
    let mut plan = merge((3, vec![folder.table(tombstones)]), vec![], 4);
    plan.deeper = vec![vec![table("b", "b2"), table("d", "e")], vec![table("0", "1"), table("e", "g")]];
    let outcome = run(&plan, &folder, &JobConfig { horizon: SeqNo(9), ..config() }).unwrap();
    assert_eq!(keys(&all_entries(&folder, &outcome)), "b#9,DEL d#9,DEL e#9,DEL f#9,DEL g#9,DEL");
    assert_eq!(outcome.outputs[0].deletions, 5);

    // If all goes, there is no table.
    plan.deeper.clear();
    let outcome = run(&plan, &folder, &JobConfig { horizon: SeqNo(9), ..config() }).unwrap();
    assert_eq!((outcome.outputs.len(), outcome.written_bytes, outcome.counts.tombstones), (0, 0, 8));
}

#[test]
fn outputs_are_cut_between_user_keys() {
    let folder = folder();
    // 50 keys with 20 versions each, all needed: the horizon is below.
    let version = |i: u64| put(&format!("k{:02}", i / 20), i + 1, &[i as u8; 100]);
    let plan = merge((0, vec![folder.table((0..1_000).map(version).collect())]), vec![], 6);
    let outcome = run(&plan, &folder, &JobConfig { table_bytes: 10_000, ..config() }).unwrap();
    assert!((10..=17).contains(&outcome.outputs.len()), "{}", outcome.outputs.len());
    assert_eq!(outcome.entries_out, 1_000);
    let numbers: Vec<_> = outcome.outputs.iter().map(|table| table.number).collect();
    assert_eq!(folder.finished.borrow()[1..], numbers, "each is told of once, when it is whole");
    for pair in outcome.outputs.windows(2) {
        assert!(pair[0].largest.user_key < pair[1].smallest.user_key, "{pair:?}");
        assert!((8_000..16_000).contains(&pair[0].file_bytes), "{}", pair[0].file_bytes);
    }
    // One key alone is one table, however large.
    let one = (1..1_000).map(|seq| put("k", seq, &[7; 100])).collect();
    let plan = merge((0, vec![folder.table(one)]), vec![], 6);
    assert_eq!(run(&plan, &folder, &JobConfig { table_bytes: 1_000, ..config() }).unwrap().outputs.len(), 1);
}

#[test]
fn an_output_of_level_0_is_never_cut() {
    let folder = folder();
    let inputs = vec![folder.table(many(100, 1_000)), folder.table(many(100, 1))];
    let small = JobConfig { table_bytes: 1_000, ..config() };
    assert!(run(&merge((0, inputs.clone()), vec![], 6), &folder, &small).unwrap().outputs.len() > 1);
    assert_eq!(run(&merge((0, inputs), vec![], 0), &folder, &small).unwrap().outputs.len(), 1);
}

#[test]
fn outputs_end_where_they_would_overlap_too_many_grandparents() {
    let folder = folder();
    let entries = many(1_000, 1);
    let mut plan = merge((4, vec![folder.table(entries.clone())]), vec![], 5);
    let grandparent = |from: u64| {
        let entries = vec![put(&format!("k{from:04}"), 1, b""), put(&format!("k{:04}", from + 99), 1, b"")];
        Arc::new(TableMeta { file_bytes: 100, ..TableMeta::clone(&folder.table(entries)) })
    };
    plan.grandparents = (0..10).map(|i| grandparent(i * 100)).collect();
    let starts = |plan: &Plan, config: &JobConfig<'_>| {
        let outputs = run(plan, &folder, config).unwrap().outputs;
        outputs.iter().map(|table| String::from_utf8(table.smallest.user_key.to_vec()).unwrap()).collect::<Vec<_>>()
    };
    // Three are too many.
    let three = JobConfig { grandparent_bytes_max: 299, ..config() };
    assert_eq!(starts(&plan, &three), ["k0000", "k0300", "k0600", "k0900"]);
    let three = JobConfig { grandparent_bytes_max: 300, ..three };
    assert_eq!(starts(&plan, &three), ["k0000", "k0400", "k0800"]);
    // A table that is nearly full ends with a grandparent: 600 keys are some 70 kB.
    let full = JobConfig { table_bytes: 80_000, ..config() };
    assert_eq!(starts(&plan, &full), ["k0000", "k0600"]);
    // Those before the first key are nobody's.
    let three = JobConfig { grandparent_bytes_max: 299, ..three };
    let late = Plan { inputs: vec![(Level(4), vec![folder.table(entries[500..].to_vec())])], ..plan };
    assert_eq!(starts(&late, &three), ["k0500", "k0800"]);
}

#[test]
fn a_move_reads_and_writes_nothing() {
    let folder = folder();
    let table = folder.table(many(10, 1));
    let plan = Plan { kind: PlanKind::Move, ..merge((4, vec![Arc::clone(&table)]), vec![], 5) };
    folder.vfs.remove_file(&Folder::path(table.number)).unwrap();
    let outcome = run(&plan, &folder, &config()).unwrap();
    assert_eq!((outcome.outputs, outcome.read_bytes, outcome.written_bytes), (vec![TableMeta::clone(&table)], 0, 0));
}

#[test]
fn a_recoded_table_is_moved_if_it_is_stored_so_already() {
    let folder = folder();
    let table = folder.table(many(10, 1));
    let plan = Plan { kind: PlanKind::Recode, ..merge((4, vec![Arc::clone(&table)]), vec![], 5) };
    let same = run(&plan, &folder, &config()).unwrap();
    assert_eq!((same.outputs, same.moved, same.written_bytes), (vec![TableMeta::clone(&table)], true, 0));
    let lz4 = JobConfig { codec: Codec::Lz4, horizon: SeqNo(100), ..config() };
    let other = run(&plan, &folder, &lz4).unwrap();
    assert!(!other.moved && other.written_bytes > 0 && other.outputs[0].number != table.number);
    assert_eq!(folder.entries(&other.outputs[0]), folder.entries(&table));
    assert_eq!(folder.open(&other.outputs[0]).unwrap().properties().codec, Codec::Lz4);
    // What was rewritten can move from then on.
    let again = Plan { kind: PlanKind::Recode, ..merge((5, vec![Arc::new(other.outputs[0].clone())]), vec![], 6) };
    assert!(run(&again, &folder, &lz4).unwrap().moved);

    folder.vfs.remove_file(&Folder::path(table.number)).unwrap();
    assert!(run(&plan, &folder, &config()).is_err(), "a table that can't be opened");
}

#[test]
fn a_plan_makes_the_edit_that_installs_it() {
    let folder = folder();
    let mut version = Version { next_file: FileNo(1_000), last_seq: SeqNo(1_000_000), ..Version::new() };
    let mut keyspace = folder.version();
    keyspace.levels[0] = vec![folder.table(many(40, 2_000)), folder.table(many(60, 1_000))];
    keyspace.levels[6] = vec![folder.table(many(100, 1))];
    version.keyspaces.insert(keyspace.id, Arc::new(keyspace.clone()));

    let picker = Picker::new(LeveledOptions { l0_trigger: 2, ..LeveledOptions::default() });
    let plan = picker.pick(&keyspace, &Busy::new()).unwrap();
    let config = JobConfig { horizon: SeqNo(10_000), table_bytes: 4_000, ..config() };
    let outcome = run(&plan, &folder, &config).unwrap();
    let after = version.apply(&plan.edit(&outcome.outputs)).unwrap();
    after.check().unwrap();
    let levels: Vec<usize> = after.keyspaces[&keyspace.id].levels.iter().map(Vec::len).collect();
    assert_eq!(levels, [0, 0, 0, 0, 0, 0, outcome.outputs.len()]);
    let seqs: BTreeMap<_, _> =
        all_entries(&folder, &outcome).into_iter().map(|(key, _)| (key.user_key, key.trailer.seq().0)).collect();
    let expected = (0..100u64).map(|i| {
        (
            i,
            if i < 40 {
                2_000
            } else if i < 60 {
                1_000
            } else {
                1
            } + i,
        )
    });
    assert_eq!(seqs, expected.map(|(i, seq)| (format!("k{i:04}").into_bytes().into(), seq)).collect());
}

#[test]
fn a_job_stops_when_told_and_says_what_it_left() {
    let folder = folder();
    let plan = merge((0, vec![folder.table(many(5_000, 1))]), vec![], 6);
    let looks = Cell::new(0);
    let stop = || {
        looks.set(looks.get() + 1);
        looks.get() == 10
    };
    let progress = RefCell::new(Vec::new());
    let note = |now: Progress| progress.borrow_mut().push((now.entries_in, now.written_bytes));
    let config = JobConfig { table_bytes: 50_000, should_stop: &stop, on_progress: &note, ..config() };
    let error = run(&plan, &folder, &config).unwrap_err();
    assert!(error.is_stopped() && !error.is_corruption(), "{error}");
    let progress = progress.into_inner();
    assert_eq!(progress.len(), 9);
    assert!(progress.is_sorted() && progress[8].0 < 3_000 && progress[8].1 > 200_000, "{progress:?}");
    assert_eq!(error.created().len(), 6, "{error:?}");
}

#[test]
fn a_job_looks_up_from_large_values_and_from_long_stretches_of_nothing() {
    let folder = folder();
    let looks = |entries: Entries, horizon| {
        let looks = Cell::new(0);
        let count = |_| looks.set(looks.get() + 1);
        let plan = merge((0, vec![folder.table(entries)]), vec![], 6);
        run(&plan, &folder, &JobConfig { horizon: SeqNo(horizon), on_progress: &count, ..config() }).unwrap();
        looks.get()
    };
    assert!(looks((1..20).map(|i| put(&format!("k{i}"), i, &[0; 300_000])).collect(), 0) >= 18);
    assert!(looks((1..3_000).map(|seq| put("k", seq, b"")).collect(), 3_000) >= 10);
    assert!(looks((1..3_000).map(|seq| delete(&format!("k{seq}"), seq)).collect(), 3_000) >= 10);
}

#[test]
fn a_damaged_input_is_named() {
    let vfs = MemVfs::new();
    let folder = Folder::new(vfs.clone());
    let (good, bad) = (folder.table(many(500, 1)), folder.table(many(500, 1_000)));
    vfs.edit(&Folder::path(bad.number), |bytes| bytes[30_000] ^= 1).unwrap();
    for plan in [
        merge((0, vec![Arc::clone(&bad), Arc::clone(&good)]), vec![], 6),
        merge((5, vec![Arc::clone(&bad)]), vec![Arc::clone(&good)], 6),
        merge((5, vec![Arc::clone(&good)]), vec![Arc::clone(&bad)], 6),
    ] {
        let config = JobConfig { table_bytes: 10_000, ..config() };
        let error = run(&plan, &folder, &config).unwrap_err();
        assert_eq!(error.damaged_input(), Some(bad.number), "{error}");
        assert!(error.is_corruption() && error.to_string().contains(&format!("{}.sst", bad.number)), "{error}");
        assert!(!error.created().is_empty());
    }
    // One that is missing is not damaged, but its name is there.
    vfs_remove(&folder, bad.number);
    let error = run(&merge((5, vec![Arc::clone(&bad)]), vec![good], 6), &folder, &config()).unwrap_err();
    assert!(matches!(error.cause(), Cause::Input { number, .. } if *number == bad.number), "{error}");
    assert_eq!(error.io_error().map(std::io::Error::kind), Some(std::io::ErrorKind::NotFound));
}

fn vfs_remove(folder: &Folder, number: FileNo) {
    folder.vfs.remove_file(&Folder::path(number)).unwrap();
}

#[test]
fn another_file_in_the_place_of_an_input_is_damage() {
    let folder = folder();
    let (one, other) = (folder.table(many(10, 1)), folder.table(many(10, 100)));
    folder.vfs.rename(&Folder::path(other.number), &Folder::path(one.number)).unwrap();
    let error = run(&merge((0, vec![Arc::clone(&one)]), vec![], 6), &folder, &config()).unwrap_err();
    assert_eq!(error.damaged_input(), Some(one.number), "{error}");
}

#[test]
fn entries_that_went_missing_fail_the_job() {
    let folder = folder();
    let table = folder.table(many(10, 1));
    let claims = Arc::new(TableMeta { entries: 11, ..TableMeta::clone(&table) });
    let error = run(&merge((0, vec![claims]), vec![], 6), &folder, &config()).unwrap_err();
    assert!(matches!(error.cause(), Cause::EntryCount { expected: 11, found: 10 }), "{error}");
    assert_eq!(error.created().len(), 1);
    assert!(error.is_corruption());
}

#[test]
fn a_full_disk_and_a_failed_sync_are_told_apart() {
    let faults = FaultVfs::new(MemVfs::new());
    let folder = Folder::new(faults.clone());
    let plan = merge((0, vec![folder.table(many(5_000, 1))]), vec![], 6);
    let try_with = |rule: Rule| {
        let rule = faults.add(rule.path("*.sst"));
        let error = run(&plan, &folder, &config()).unwrap_err();
        faults.remove(rule);
        error
    };
    let error = try_with(Rule::new(Operation::Append, Fault::ENOSPC));
    assert!(error.is_no_space() && matches!(error.cause(), Cause::Output { .. }), "{error}");
    assert_eq!(error.created().len(), 1);
    let error = try_with(Rule::new(Operation::Sync, Fault::EIO));
    assert!(!error.is_no_space() && error.io_error().is_some() && error.created().len() == 1, "{error}");
    let error = try_with(Rule::new(Operation::CreateNew, Fault::ENOSPC));
    assert!(error.is_no_space() && error.created().is_empty(), "{error}");
    let error = try_with(Rule::new(Operation::OpenRead, Fault::EIO));
    assert!(matches!(error.cause(), Cause::Input { .. }) && error.damaged_input().is_none(), "{error}");
    run(&plan, &folder, &config()).unwrap();
}

#[test]
fn a_flush_is_one_table_with_its_tombstones() {
    let folder = folder();
    let entries = vec![put("a", 3, b"x"), put("a", 1, b"y"), delete("b", 4), put("c", 2, b"z")];
    let outcome = folder.flush(entries, &JobConfig { horizon: SeqNo(4), ..config() }).unwrap();
    assert_eq!(keys(&all_entries(&folder, &outcome)), "a#3,PUT b#4,DEL c#2,PUT");
    assert_eq!((outcome.outputs.len(), outcome.read_bytes, outcome.counts.hidden), (1, 0, 1));
    assert!(folder.flush(Vec::new(), &config()).unwrap().outputs.is_empty());
}
