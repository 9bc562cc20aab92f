//! Which blob files are collected by which plans, and where a job puts values.

mod folder;
mod notation;

use esker_blob::{Access, BlobError, BlobFile, BlobRef};
use esker_compaction::{
    BlobConfig, BlobFiles, Busy, CompactionError, JobConfig, LeveledOptions, Picker, Plan, PlanKind, Times, run,
};
use esker_format::{FileId, FileKind, FileNo, InternalKey, KeyspaceId, SeqNo, Slice, ValueKind};
use esker_iterator::{MergeOperator, operators::Append};
use esker_manifest::{BlobMeta, BlobState, BlobUse, KeyspaceVersion, Level, TableMeta};
use esker_vfs::{MemVfs, Vfs, WritableFile};
use folder::{Folder, config, delete, keys, put};
use notation::{define, options, show};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// A tree, its blob files as `number:record bytes`, and who refers to them as `table>file:bytes`. What refers to one has no other entries.
fn with_blobs(tree: &str, blobs: &str, uses: &str) -> (KeyspaceVersion, Busy) {
    let (mut version, busy) = define(tree);
    let pair = |text: &str, at: char| {
        let (left, right) = text.split_once(at).unwrap();
        (left.to_owned(), right.parse::<u64>().unwrap())
    };
    for (number, record_bytes) in blobs.split_whitespace().map(|blob| pair(blob, ':')) {
        let number = FileNo(number.parse().unwrap());
        let meta =
            BlobMeta { number, file_id: FileId(number.0), file_bytes: record_bytes + 80, records: 9, record_bytes };
        version.blobs.insert(number, BlobState { meta: Arc::new(meta), live_records: 0, live_bytes: 0 });
    }
    for (who, bytes) in uses.split_whitespace().map(|used| pair(used, ':')) {
        let (table, file) = pair(&who, '>');
        let file = FileNo(file);
        let blob = version.blobs.get_mut(&file).unwrap();
        (blob.live_records, blob.live_bytes) = (blob.live_records + 1, blob.live_bytes + bytes);
        let tables = version.levels.iter_mut().flatten();
        let table = tables.into_iter().find(|found| found.number.0.to_string() == table).unwrap();
        let table = Arc::make_mut(table);
        table.blobs.push(BlobUse { file, records: 1, bytes });
        table.entries = table.blobs.len() as u64;
    }
    (version, busy)
}

fn percent(percent: u32) -> Picker {
    Picker::new(LeveledOptions { blob_garbage_percent_max: percent, ..options() })
}

fn numbers(files: &BTreeSet<FileNo>) -> Vec<u64> {
    files.iter().map(|file| file.0).collect()
}

#[test]
fn within_the_bound_nothing_is_collected() {
    let (version, busy) = with_blobs("L6: 1:a-f@10", "20:1000 21:1000", "1>20:700 1>21:700");
    assert!(percent(30).collectable(&version, &busy).is_empty());
    assert_eq!(show(percent(30).pick_garbage(&version, &busy).as_ref()), "none");
    assert_eq!(numbers(&percent(29).collectable(&version, &busy)), [20]);
    assert!(percent(100).collectable(&version, &busy).is_empty(), "100 and more: never");
}

#[test]
fn the_files_with_the_most_garbage_are_collected_and_no_more_than_needed() {
    let (version, busy) =
        with_blobs("L6: 1:a-c@10 2:d-f@10", "20:1000 21:1000 22:1000", "1>20:1000 1>21:100 2>21:300 2>22:600");
    // 1,000 of 3,000 are garbage; without file 21's, 400 of 2,400.
    assert_eq!(numbers(&percent(30).collectable(&version, &busy)), [21]);
    assert_eq!(numbers(&percent(10).collectable(&version, &busy)), [21, 22]);
    assert_eq!(numbers(&percent(0).collectable(&version, &busy)), [21, 22], "file 20 has none");
    // Table 2 refers to more of it than table 1.
    assert_eq!(show(percent(30).pick_garbage(&version, &busy).as_ref()), "L6[2] -> L6 merge");
}

#[test]
fn what_is_busy_is_passed_by_and_what_is_damaged_is_left() {
    let (version, busy) = with_blobs("L6: 1:a-c@10 2:d-f@10\n busy: 2", "21:1000", "1>21:100 2>21:300");
    assert_eq!(show(percent(30).pick_garbage(&version, &busy).as_ref()), "L6[1] -> L6 merge");
    let (version, busy) = with_blobs("L6: 1:a-c@10 2:d-f@10\n busy: 21", "21:1000", "1>21:100 2>21:300");
    assert!(percent(30).collectable(&version, &busy).is_empty());
    assert_eq!(show(percent(30).pick_garbage(&version, &busy).as_ref()), "none");
}

#[test]
fn a_table_is_rewritten_over_what_lies_deeper() {
    let (version, busy) = with_blobs("L5: 9:a-f@10\n L6: 1:a-c@10", "21:1000", "9>21:100");
    assert_eq!(show(percent(30).pick_garbage(&version, &busy).as_ref()), "L5[9] -> L5 merge, deeper 1");
}

/// Nobody counts what a newer version hides until the two meet: so they are made to.
#[test]
fn references_that_may_hide_others_are_brought_down() {
    let tree = "L0: 9:a-f@10 8:a-f@10\n L6: 1:a-f@10";
    let (version, busy) = with_blobs(tree, "20:1000 21:200 22:200", "1>20:1000 8>21:200 9>22:200");
    assert_eq!(show(percent(30).pick_garbage(&version, &busy).as_ref()), "none", "400 of 1,400");
    assert_eq!(show(percent(20).pick_garbage(&version, &busy).as_ref()), "L0[9 8] L6[1] -> L6 merge");
    // Where more would be rewritten than freed, they are left to compaction.
    let tree = "L0: 9:a-f@10 8:a-f@10\n L6: 1:a-f@60";
    let (version, busy) = with_blobs(tree, "20:100 21:20 22:20", "1>20:100 8>21:20 9>22:20");
    assert_eq!(show(percent(20).pick_garbage(&version, &busy).as_ref()), "none");
    // In level 0 alone, all but the oldest may hide something.
    let (version, busy) = with_blobs("L0: 9:a-f@10 8:a-f@10", "21:200 22:200", "8>21:200 9>22:200");
    assert_eq!(show(percent(40).pick_garbage(&version, &busy).as_ref()), "L0[9 8] -> L6 merge");
    let (version, busy) = with_blobs("L0: 9:a-f@10", "21:200", "9>21:200");
    assert_eq!(show(percent(0).pick_garbage(&version, &busy).as_ref()), "none");
}

/// Ten short values or deletions hide as much as ten references would.
#[test]
fn short_values_and_deletions_hide_as_well() {
    let uses = "1>20:100 1>21:100 1>22:100 1>23:100";
    let blobs = "20:100 21:100 22:100 23:100";
    for above in ["9:a-f@10", "9:a-f@10!4"] {
        let (version, busy) = with_blobs(&format!("L0: {above}\n L6: 1:a-f@10"), blobs, uses);
        assert_eq!(show(percent(30).pick_garbage(&version, &busy).as_ref()), "L0[9] L6[1] -> L6 merge");
        assert_eq!(show(percent(100).pick_garbage(&version, &busy).as_ref()), "none");
    }
    // Where more would be rewritten than may be hidden there, they stay; and where nothing is hidden.
    let (few, few_uses) = ("20:15 21:15 22:15 23:15", "1>20:15 1>21:15 1>22:15 1>23:15");
    let (version, busy) = with_blobs("L0: 9:a-f@10\n L6: 1:a-f@50", few, few_uses);
    assert_eq!(show(percent(30).pick_garbage(&version, &busy).as_ref()), "L0[9] L6[1] -> L6 merge");
    let (version, busy) = with_blobs("L0: 9:a-f@10\n L6: 1:a-f@51", few, few_uses);
    assert_eq!(show(percent(30).pick_garbage(&version, &busy).as_ref()), "none");
    let (version, busy) = with_blobs("L0: 9:g-h@10\n L6: 1:a-f@10 2:g-i@10", blobs, uses);
    assert_eq!(show(percent(30).pick_garbage(&version, &busy).as_ref()), "none");
}

#[test]
fn garbage_is_weighed_by_the_size_of_its_file() {
    let collected = |in_large: u64| {
        let (version, busy) =
            with_blobs("L6: 1:a-f@10", "20:10000 21:1000", &format!("1>20:{} 1>21:100", 10_000 - in_large));
        numbers(&percent(40).collectable(&version, &busy))
    };
    // Without file 21's, 4,040 of 10,100 are allowed.
    assert_eq!((collected(4040), collected(4041)), (vec![21], vec![20, 21]));
}

#[test]
fn in_level_0_a_table_is_collected_with_what_it_overlaps_and_one_that_refers_to_nothing_is_left() {
    let (version, busy) = with_blobs("L0: 9:a-f@10 8:a-f@10 7:x-z@10", "21:1000", "8>21:100");
    assert_eq!(show(percent(30).pick_garbage(&version, &busy).as_ref()), "L0[9 8] -> L6 merge");
    let (version, mut busy) = with_blobs("L6: 1:a-c@10 2:d-f@10", "21:1000", "1>21:100");
    busy.add(&percent(30).pick_garbage(&version, &busy).unwrap());
    assert_eq!(show(percent(30).pick_garbage(&version, &busy).as_ref()), "none");
}

/// Ten short values hide half of twenty, and range tombstones what lies between their ends.
#[test]
fn what_is_hidden_is_in_proportion() {
    let (blobs, uses): (String, String) = (20..40).map(|n| (format!("{n}:100 "), format!("1>{n}:100 "))).unzip();
    let (version, _) = with_blobs(
        "L5: 9:a-f@10
 L6: 1:a-f@10",
        &blobs,
        &uses,
    );
    let pick =
        |version: &KeyspaceVersion, limit, busy: &Busy| show(percent(limit).pick_garbage(version, busy).as_ref());
    let down = "L5[9] L6[1] -> L6 merge";
    assert_eq!((pick(&version, 50, &Busy::new()).as_str(), pick(&version, 49, &Busy::new()).as_str()), ("none", down));
    let mut busy = Busy::new();
    busy.exclude(FileNo(9));
    assert_eq!(pick(&version, 49, &busy), "none");

    let mut version = version;
    let table = Arc::make_mut(&mut version.levels[5][0]);
    table.entries = 0;
    table.ranges = Some(esker_manifest::RangeUse { count: 1, begin: b"a"[..].into(), end: b"z"[..].into() });
    assert_eq!(pick(&version, 99, &Busy::new()), down, "all of it");
}

/// What is collected is moved at some time: so not too much at a time, but for a file that is larger alone.
#[test]
fn the_files_collected_at_a_time_hold_a_quarter_of_a_gibibyte_at_most() {
    let collected = |live: [u64; 3]| {
        let [a, b, c] = live;
        let blobs: String = (20..).zip(live).map(|(number, live)| format!("{number}:{} ", live * 3)).collect();
        let uses = format!("1>20:{a} 1>21:{b} 1>22:{c}");
        let (version, busy) = with_blobs("L6: 1:a-f@10", &blobs, &uses);
        numbers(&percent(0).collectable(&version, &busy))
    };
    let half = 128 << 20;
    assert_eq!(collected([half - 8, half, 8]), [20, 21, 22]);
    assert_eq!(collected([half, half, 8]), [20, 21]);
    assert_eq!(collected([half, half + 8, 8]), [20]);
    assert_eq!(collected([3 * half, 8, 8]), [20]);
}

/// A file that only a damaged table refers to, however much garbage it has, does not take the place of those that can be collected.
#[test]
fn what_damaged_tables_hold_keeps_nothing_else_from_being_collected() {
    let blobs = "20:1000000000 21:1000";
    let (version, busy) = with_blobs("L6: 1:a-c@10 2:d-f@10\n busy: 1", blobs, "1>20:400000000 2>21:500");
    assert_eq!(numbers(&percent(30).collectable(&version, &busy)), [21]);
    assert_eq!(show(percent(30).pick_garbage(&version, &busy).as_ref()), "L6[2] -> L6 merge");
}

#[test]
fn garbage_beyond_the_bound_is_a_debt() {
    let (version, _) = with_blobs("L6: 1:a-f@10", "21:10000", "1>21:1000");
    assert_eq!(percent(30).debt_bytes(&version), 9_000 - 3_000);
    assert_eq!(percent(90).debt_bytes(&version), 0);
}

/// Blob files beside the tables of a folder.
struct Blobs {
    vfs: Arc<MemVfs>,
    next: Cell<u64>,
}

impl Blobs {
    fn path(number: FileNo) -> std::path::PathBuf {
        FileKind::Blob(number).path(Path::new("/db"))
    }
}

impl BlobFiles for Blobs {
    fn create_blob(&self) -> Result<(FileNo, Box<dyn WritableFile>, String, FileId), CompactionError> {
        let number = FileNo(self.next.replace(self.next.get() + 1));
        Ok((number, self.vfs.create_new(&Self::path(number)).unwrap(), format!("{number}.blob"), FileId(number.0)))
    }

    fn finished_blob(&self, _: FileNo) -> Result<(), CompactionError> {
        Ok(())
    }

    fn read_blob(&self, reference: BlobRef) -> Result<Slice, BlobError> {
        let name = FileKind::Blob(reference.file).name();
        let file = self.vfs.open_read(&Self::path(reference.file));
        let file = file.map_err(|error| BlobError::from_io(&name.as_str().into(), "open", error))?;
        BlobFile::open(file, &name, Access::Copied, None)?.get_checked(reference)
    }
}

#[test]
fn values_go_where_they_belong_and_are_moved_only_out_of_what_is_collected() {
    let vfs = MemVfs::new();
    let folder = Folder::new(Arc::clone(&vfs) as Arc<dyn Vfs>);
    let blobs = Blobs { vfs, next: Cell::new(100) };
    let none = BTreeSet::new();
    let blob_config = BlobConfig { value_bytes_min: 100, file_bytes: 350, collect: &none, files: &blobs };
    let job = JobConfig { blobs: Some(blob_config), horizon: esker_format::SeqNo(99), ..config() };

    let values: Vec<Vec<u8>> = (0..6u8).map(|i| vec![i; 98 + usize::from(i)]).collect();
    let entries = ["a", "b", "c", "d", "e", "f"].iter().zip(&values).map(|(key, value)| put(key, 5, value)).collect();
    let flushed = folder.flush(entries, &job).unwrap();
    let table = flushed.outputs[0].clone();
    // a and b are short; a file ends when it has become 350 bytes long.
    assert_eq!(
        flushed.blobs.iter().map(|blob| (blob.number.0, blob.records)).collect::<Vec<_>>(),
        [(100, 3), (101, 1)]
    );
    let uses: Vec<_> = table.blobs.iter().map(|used| (used.file.0, used.records, used.bytes)).collect();
    assert_eq!(uses, [(100, 3, 112 * 3), (101, 1, 112)]);
    assert_eq!(flushed.written_bytes, table.file_bytes + flushed.blobs.iter().map(|blob| blob.file_bytes).sum::<u64>());
    let kinds: Vec<_> = folder.entries(&table).iter().map(|(key, _)| key.trailer.kind()).collect();
    assert_eq!(kinds, [[ValueKind::Put; 2].as_slice(), &[ValueKind::Blob; 4]].concat());

    // A newer table hides c, deletes d, and has a value of its own.
    let newer = folder.flush(vec![put("c", 8, b"short"), delete("d", 9), put("g", 7, &values[5])], &job).unwrap();
    let mut version = folder.version();
    version.levels[0] = vec![Arc::new(newer.outputs[0].clone())];
    version.levels[6] = vec![Arc::new(table)];
    let plan = Picker::new(LeveledOptions { l0_trigger: 1, ..LeveledOptions::default() });
    let plan = plan.pick(&version, &Busy::new()).unwrap();

    let passed_on = run(&plan, &folder, &job).unwrap();
    assert_eq!(passed_on.read_bytes, plan.input_bytes());
    assert!(passed_on.blobs.is_empty(), "references are passed on, values stay");
    let uses: Vec<_> = passed_on.outputs[0].blobs.iter().map(|used| (used.file.0, used.records)).collect();
    assert_eq!(uses, [(100, 1), (101, 1), (102, 1)], "of the first file, what c and d referred to is garbage");

    let first = BTreeSet::from([FileNo(100)]);
    let collect = BlobConfig { collect: &first, ..blob_config };
    let moved = run(&plan, &folder, &JobConfig { blobs: Some(collect), ..job }).unwrap();
    let uses: Vec<_> = moved.outputs[0].blobs.iter().map(|used| (used.file.0, used.records)).collect();
    assert_eq!(uses, [(101, 1), (102, 1), (103, 1)]);
    assert_eq!(moved.blobs[0].number, FileNo(103));
    assert_eq!(moved.read_bytes, plan.input_bytes() + 112, "and the value of e");
    let read = |entries: &folder::Entries, key: &[u8]| {
        let (_, stored) = entries.iter().find(|(found, _)| *found.user_key == *key).unwrap();
        blobs.read_blob(BlobRef::decode(stored).unwrap()).unwrap()
    };
    let entries = folder.entries(&moved.outputs[0]);
    assert_eq!(read(&entries, b"e"), values[4]);
    assert_eq!(read(&entries, b"f"), values[5]);

    // With a higher bound, what is moved goes back into the table.
    let inline = BlobConfig { value_bytes_min: usize::MAX, ..collect };
    let inline = run(&plan, &folder, &JobConfig { blobs: Some(inline), ..job }).unwrap();
    assert!(inline.blobs.is_empty());
    assert!(
        folder.entries(&inline.outputs[0]).iter().any(|(key, value)| *key.user_key == *b"e" && *value == values[4])
    );

    // A file that is damaged is named, so that it can be left out the next time.
    blobs.vfs.edit(&Blobs::path(FileNo(100)), |bytes| bytes[300] ^= 1).unwrap();
    let error = run(&plan, &folder, &JobConfig { blobs: Some(collect), ..job }).unwrap_err();
    assert_eq!(error.damaged_input(), Some(FileNo(100)), "{error}");
    assert!(error.is_corruption());
}

#[test]
fn progress_tells_of_what_is_written_in_tables_and_blob_files() {
    let vfs = MemVfs::new();
    let folder = Folder::new(Arc::clone(&vfs) as Arc<dyn Vfs>);
    let blobs = Blobs { vfs, next: Cell::new(5000) };
    let none = BTreeSet::new();
    for (value_bytes_min, file_bytes) in [(100, 10_000), (100, 1_000_000), (usize::MAX, 10_000)] {
        let blob_config = BlobConfig { value_bytes_min, file_bytes, collect: &none, files: &blobs };
        let told = Cell::new(0);
        let on_progress = |progress: esker_compaction::Progress| told.set(progress.written_bytes);
        let job = JobConfig { blobs: Some(blob_config), on_progress: &on_progress, ..config() };
        let entries = (0..1000).map(|n| put(&format!("k{n:04}"), 5, &[7; 200])).collect();
        let outcome = folder.flush(entries, &job).unwrap();
        let (told, written) = (told.get(), outcome.written_bytes);
        assert!(told > written / 2 && told <= written, "{told} of {written}");
    }
}

/// Large values go into blob files with their time before the reference, stay there, and come back.
#[test]
fn large_values_that_expire_lie_in_blob_files() {
    let vfs = MemVfs::new();
    let folder = Folder::new(Arc::clone(&vfs) as Arc<dyn Vfs>);
    let files = Blobs { vfs, next: Cell::new(100) };
    let none = BTreeSet::new();
    let blobs = BlobConfig { value_bytes_min: 10, file_bytes: 1 << 20, collect: &none, files: &files };
    let at =
        |now_ms| JobConfig { horizon: esker_format::SeqNo(99), times: Times { snapshots_ms: &[], now_ms }, ..config() };
    let job = JobConfig { blobs: Some(blobs), ..at(0) };
    let expiring = |key: &str, seq, expiry: u64, value: &[u8]| {
        let key = InternalKey::new(key.as_bytes(), esker_format::SeqNo(seq), ValueKind::Expiring).to_buf();
        (key, [&expiry.to_le_bytes()[..], value].concat())
    };
    let rewrite = |table: &Arc<TableMeta>| Plan {
        keyspace: KeyspaceId::DEFAULT,
        inputs: vec![(Level(6), vec![Arc::clone(table)])],
        output_level: Level(6),
        kind: PlanKind::Merge,
        grandparents: Vec::new(),
        deeper: Vec::new(),
    };
    let large = vec![7; 1_000];
    let entries = vec![expiring("a", 1, 500, b"short"), expiring("b", 2, 300, &large), expiring("c", 3, 400, &large)];
    let outcome = folder.flush(entries, &job).unwrap();
    let (table, blob) = (Arc::new(outcome.outputs[0].clone()), outcome.blobs[0].clone());
    assert_eq!((table.blobs.len(), table.blobs[0].records, table.expiries.unwrap().entries), (1, 2, 3));
    assert!(table.file_bytes < 1_000);

    let later = run(&rewrite(&table), &folder, &JobConfig { times: at(300).times, ..job }).unwrap();
    assert_eq!(
        (later.blobs.len(), later.outputs[0].blobs[0].records, later.entries_out),
        (0, 1, 2),
        "the reference is passed on"
    );
    let collect = BTreeSet::from([blob.number]);
    let inline = BlobConfig { value_bytes_min: usize::MAX, collect: &collect, ..blobs };
    let back = run(&rewrite(&table), &folder, &JobConfig { blobs: Some(inline), times: at(300).times, ..job }).unwrap();
    assert!(back.outputs[0].blobs.is_empty() && back.outputs[0].file_bytes > 1_000);
    assert_eq!(back.outputs[0].expiries.unwrap().latest_ms, 500);
}

/// An operand over a value in a blob file: the value is read, and what becomes of it is put where such a value belongs. If it is damaged, both stay.
#[test]
fn operands_are_folded_into_values_in_blob_files() {
    let vfs = MemVfs::new();
    let folder = Folder::new(Arc::clone(&vfs) as Arc<dyn Vfs>);
    let blobs = Blobs { vfs: Arc::clone(&vfs), next: Cell::new(100) };
    let none = BTreeSet::new();
    let blob_config = BlobConfig { value_bytes_min: 100, file_bytes: 350, collect: &none, files: &blobs };
    let operator: Arc<dyn MergeOperator> = Arc::new(Append::new());
    let horizon = SeqNo(99);
    let job = JobConfig { blobs: Some(blob_config), operator: Some(&operator), horizon, ..config() };
    let older = folder.flush(vec![put("a", 1, &[1; 200]), put("b", 2, &[2; 200])], &job).unwrap();
    let operand = |key: &str, seq, operand: &[u8]| {
        (InternalKey::new(key.as_bytes(), SeqNo(seq), ValueKind::Merge).to_buf(), operand.to_vec())
    };
    // Longer than what goes to a blob file, but an operand.
    let newer = vec![operand("a", 9, &[9; 150]), operand("a", 7, &[7]), operand("b", 8, &[8])];
    let newer = folder.flush(newer, &job).unwrap();
    assert_eq!(keys(&folder.entries(&newer.outputs[0])), "a#9,MERGE b#8,MERGE");
    assert!(newer.blobs.is_empty());

    let tables: Vec<_> = [&newer, &older].map(|outcome| Arc::new(outcome.outputs[0].clone())).into();
    let plan = Plan {
        keyspace: KeyspaceId::DEFAULT,
        inputs: vec![(Level::ZERO, tables)],
        output_level: Level::BOTTOM,
        kind: PlanKind::Merge,
        grandparents: Vec::new(),
        deeper: Vec::new(),
    };
    let folded = run(&plan, &folder, &job).unwrap();
    let entries = folder.entries(&folded.outputs[0]);
    assert_eq!(keys(&entries), "a#9,BLOB b#8,BLOB");
    let value = |stored: &[u8]| blobs.read_blob(BlobRef::decode(stored).unwrap()).unwrap();
    assert_eq!(value(&entries[0].1), [&[1; 200][..], &[7], &[9; 150]].concat());
    assert_eq!(value(&entries[1].1), [&[2; 200][..], &[8]].concat());

    vfs.edit(&Blobs::path(older.blobs[0].number), |bytes| {
        let at = bytes.windows(100).position(|window| window == [2; 100]).unwrap();
        bytes[at] ^= 1;
    })
    .unwrap();
    let left = run(&plan, &folder, &job).unwrap();
    assert_eq!(keys(&folder.entries(&left.outputs[0])), "a#9,BLOB b#8,MERGE b#2,BLOB");
}
