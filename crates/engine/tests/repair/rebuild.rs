//! `repair`: the original stays as it was, the result opens and passes, and holds what the files that can be read hold.

use crate::small::{
    Contents, DIR, Small, all, builder, bytes, calm, checked, contents, files, small, swap, used_bytes, vouched_bytes,
};
use esker::vfs::{CrashPolicy, MemVfs, Vfs};
use esker::{KeyspaceOptions, RepairReport, WriteOptions, repair};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const NEW: &str = "/new";

pub(crate) fn repaired_in(vfs: &Arc<MemVfs>, to: &str) -> esker::Result<RepairReport> {
    let before = bytes(vfs, DIR);
    let as_vfs = Arc::clone(vfs) as Arc<dyn Vfs>;
    let report = repair(&as_vfs, DIR, to, &mut |_| {});
    assert!(bytes(vfs, DIR) == before, "the original was touched");
    report
}

/// Repairs, and reads all keyspaces of the result through an engine that writes to it.
#[track_caller]
pub(crate) fn repaired(vfs: &Arc<MemVfs>) -> (RepairReport, BTreeMap<String, Contents>) {
    read_back(vfs, repaired_in(vfs, NEW).unwrap())
}

/// The same, of a directory in which not all are files.
#[track_caller]
fn repaired_beside(vfs: &Arc<MemVfs>) -> (RepairReport, BTreeMap<String, Contents>) {
    let as_vfs = Arc::clone(vfs) as Arc<dyn Vfs>;
    read_back(vfs, repair(&as_vfs, DIR, NEW, &mut |_| {}).unwrap())
}

#[track_caller]
pub(crate) fn read_back(vfs: &Arc<MemVfs>, report: RepairReport) -> (RepairReport, BTreeMap<String, Contents>) {
    assert!(checked(vfs, NEW).is_ok());
    let engine = builder(vfs, NEW, calm()).open().unwrap();
    let read = |name: String| {
        let keyspace = engine.keyspace(&name, KeyspaceOptions::default()).unwrap();
        let found = contents(&keyspace).unwrap();
        keyspace.put("written behind", "it").unwrap();
        (name, found)
    };
    let found = engine.keyspaces().into_iter().map(read).collect();
    engine.compact_range(..).unwrap();
    engine.close().unwrap();
    assert!(checked(vfs, NEW).is_ok());
    (report, found)
}

pub(crate) fn whole(small: &Small) -> BTreeMap<String, Contents> {
    BTreeMap::from([("default".to_owned(), small.default.clone()), ("other".to_owned(), small.other.clone())])
}

/// What is there was written once; and nothing is missing if the report says so.
#[track_caller]
pub(crate) fn judge(small: &Small, report: &RepairReport, found: &BTreeMap<String, Contents>, what: &str) {
    for (name, found) in found {
        for (key, value) in found {
            let ever = small.ever.get(key).is_some_and(|ever| ever.contains(value));
            assert!(ever, "{what}: {} in {name} was never written so", key.escape_ascii());
        }
    }
    if report.losses.is_empty() && report.exact {
        assert_eq!(*found, whole(small), "{what}: {report:#?}");
    }
    if report.losses.is_empty() {
        let count: usize = found.values().map(BTreeMap::len).sum();
        assert!(count >= small.default.len() + small.other.len(), "{what}: {count} keys. {report:#?}");
    }
}

#[test]
fn a_sound_directory_comes_out_as_it_was() {
    let small = small();
    let (report, found) = repaired(&small.copy());
    assert!(report.is_whole() && report.exact, "{report:#?}");
    assert_eq!(found, whole(&small));
    assert!(report.log_operations >= 6 && report.tables_whole == 4 && report.blob_records >= 3, "{report:#?}");
}

/// Bytes of every file; `random.rs` is for all others.
#[test]
fn whatever_byte_is_flipped() {
    let small = small();
    for path in files(&small.vfs, DIR) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let vouched = if name.ends_with(".wal") { vouched_bytes(&small.vfs, &path) } else { usize::MAX };
        for at in (0..used_bytes(&small.vfs, &path)).step_by(157) {
            let vfs = small.copy();
            vfs.edit(&path, |bytes| bytes[at] ^= 1 << (at % 8)).unwrap();
            let (report, found) = repaired(&vfs);
            let what = format!("{name}, byte {at}");
            if at < vouched {
                judge(&small, &report, &found, &what);
            }
            let lost: usize = whole(&small)
                .iter()
                .map(|(name, whole)| {
                    whole.len()
                        - found.get(name).map_or(0, |found| whole.keys().filter(|key| found.contains_key(*key)).count())
                })
                .sum();
            let most = match &name {
                // A block, or a value, or a record.
                name if name.ends_with(".sst") || name.ends_with(".blob") => 7,
                name if name.ends_with(".wal") && at < 64 => usize::MAX,
                // One write; the others are there, behind it too. What nothing vouches for ends at the break.
                name if name.ends_with(".wal") && at < vouched => 1,
                name if name.ends_with(".wal") => 2,
                // Tables and logs tell what a keyspace's number is, nothing else its name.
                name if name.starts_with("MANIFEST") => small.other.len(),
                _ => 0,
            };
            assert!(lost <= most, "{what}: {lost} lost. {report:#?}");
        }
    }
}

#[test]
fn each_file_missing_cut_or_emptied() {
    let small = small();
    for path in files(&small.vfs, DIR) {
        for keep in [None, Some(100), Some(usize::MAX)] {
            let vfs = small.copy();
            let len = used_bytes(&vfs, &path);
            match keep {
                None => vfs.remove_file(&path).unwrap(),
                Some(keep) => vfs.edit(&path, |bytes| bytes.truncate(keep.min(len / 2))).unwrap(),
            }
            let (report, found) = repaired(&vfs);
            let name = path.display();
            if !name.to_string().ends_with(".wal") || keep.is_none() {
                judge(&small, &report, &found, &format!("{name}, {keep:?} bytes kept"));
            }
            if name.to_string().ends_with(".sst") || name.to_string().ends_with(".blob") {
                assert!(!report.losses.is_empty() || found == whole(&small), "{name}, {keep:?}: {report:#?}");
            }
        }
    }
}

/// A log that was needed and did not begin as one went unmentioned where no other file vouched for it: the report called the directory whole, without a word of the writes that were gone.
#[test]
fn a_log_that_does_not_begin_as_one_is_named() {
    let vfs = MemVfs::new();
    let engine = builder(&vfs, DIR, calm()).open().unwrap();
    engine.put("in a table", "1").unwrap();
    engine.flush().unwrap();
    engine.put("in the log", "2").unwrap();
    let sound = Arc::new(vfs.crash_now(CrashPolicy::All));
    let log = all(&sound, ".wal").into_iter().next_back().unwrap();
    let spoiled = |spoil: &dyn Fn(&mut Vec<u8>)| {
        let vfs = Arc::new(sound.crash_now(CrashPolicy::All));
        vfs.edit(&log, |bytes| spoil(bytes)).unwrap();
        let (report, found) = repaired(&vfs);
        assert_eq!(found["default"].len(), 1, "{report:#?}");
        let of_log =
            |(file, why): &(String, String)| log.ends_with(file) && why.contains("does not begin as a log does");
        (report.unused.iter().any(of_log), report)
    };
    for keep in [1, 12, 63] {
        let (is_named, report) = spoiled(&|bytes| bytes.truncate(keep));
        assert!(is_named, "{keep} bytes kept: {report:#?}");
    }
    let (is_named, report) = spoiled(&|bytes| bytes[..64].fill(0));
    assert!(is_named, "zeros where the header was: {report:#?}");
    // One that was made ahead and never begun looks like this.
    for spoil in [Vec::clear as fn(&mut Vec<u8>), |bytes| bytes.fill(0)] {
        let (is_named, report) = spoiled(&spoil);
        assert!(!is_named && report.is_whole(), "{report:#?}");
    }
}

#[test]
fn tables_under_each_others_names_are_told_apart() {
    let small = small();
    for part in [".sst", ".blob"] {
        let paths = all(&small.vfs, part);
        for i in 1..paths.len() {
            let vfs = small.copy();
            swap(&vfs, &paths[0], &paths[i]);
            let (report, found) = repaired(&vfs);
            judge(&small, &report, &found, part);
            assert!(report.losses.is_empty() && found == whole(&small), "{report:#?}");
        }
    }
}

/// A table that did not open was taken for the one whose number it had, though its footer still told its id: all keys came to lie in one keyspace, and nothing was said to be missing.
#[test]
fn a_damaged_table_under_anothers_name_is_told_by_its_id() {
    let small = small();
    let paths = all(&small.vfs, ".sst");
    for (other, at) in (1..paths.len()).flat_map(|other| (130..210).step_by(13).map(move |at| (other, at))) {
        let vfs = small.copy();
        swap(&vfs, &paths[0], &paths[other]);
        vfs.edit(&paths[0], |bytes| {
            let len = bytes.len();
            bytes[len - at] ^= 1;
        })
        .unwrap();
        let (report, found) = repaired(&vfs);
        judge(&small, &report, &found, &format!("table {other}, {at} bytes from its end"));
        for (name, whole) in whole(&small) {
            let strange = found[&name].keys().find(|key| !whole.contains_key(*key));
            assert!(strange.is_none() || !report.losses.is_empty(), "table {other}, {at}: {strange:?} in {name}");
        }
        assert!(found["other"].keys().all(|key| small.other.contains_key(key)), "table {other}, {at}: {found:#?}");
    }
}

/// Without tables, and with a manifest of a header alone, there was no loss and no remark: that was called whole.
#[test]
fn what_no_manifest_vouches_for_is_not_called_whole() {
    let small = small();
    let vfs = small.copy();
    for part in [".sst", ".wal"] {
        all(&vfs, part).iter().for_each(|path| vfs.remove_file(path).unwrap());
    }
    vfs.edit(&all(&vfs, "MANIFEST")[0], |bytes| bytes.truncate(64)).unwrap();
    let (report, _) = repaired(&vfs);
    assert!(!report.is_whole() && report.manifest_error.is_some(), "{report:#?}");
}

/// A directory or a pipe of a table's name: no table, and only a loss where the manifest says that there was one.
#[test]
fn what_is_no_file_is_no_loss_unless_it_is_needed() {
    let small = small();
    let vfs = small.copy();
    vfs.create_dir_all(&Path::new(DIR).join("000099.sst")).unwrap();
    vfs.create_dir_all(&Path::new(DIR).join("000098.wal")).unwrap();
    let (report, found) = repaired_beside(&vfs);
    assert!(report.is_whole() && report.exact, "{report:#?}");
    assert_eq!(found, whole(&small));
    assert!(report.unused.iter().any(|(file, _)| file == "000099.sst"), "{report:#?}");

    let vfs = small.copy();
    let table = all(&vfs, ".sst").remove(0);
    vfs.remove_file(&table).unwrap();
    vfs.create_dir_all(&table).unwrap();
    let (report, _) = repaired_beside(&vfs);
    assert!(report.losses.iter().any(|loss| table.ends_with(&loss.file)), "{report:#?}");
}

/// An old copy under the name of another table is known by its id, and counts for nothing.
#[test]
fn a_stale_table_counts_for_nothing() {
    let small = small();
    let vfs = small.copy();
    let stale = esker::vfs::read_file(&*vfs, &all(&vfs, ".sst")[0], 1 << 30).unwrap();
    let engine = builder(&vfs, DIR, calm()).open().unwrap();
    for i in 0..12 {
        engine.delete(format!("a{i:02}")).unwrap();
    }
    engine.compact_range(..).unwrap();
    engine.close().unwrap();
    assert!(all(&vfs, "000900.sst").is_empty());
    let mut file = vfs.create_new(&Path::new(DIR).join("000900.sst")).unwrap();
    file.append(&stale).unwrap();
    file.sync().unwrap();
    drop(file);
    let (report, found) = repaired(&vfs);
    assert!(!found["default"].keys().any(|key| key.starts_with(b"a0") || key.starts_with(b"a1")), "{found:#?}");
    // Of so high a number it might be one that a lost edit has added; then the report says what may have come back.
    assert!(report.exact && report.unused.iter().any(|(file, _)| file == "000900.sst") || !report.remarks.is_empty());
}

/// Without a manifest, what a keyspace is called is lost, and all that the tables hold is there.
#[test]
fn without_any_manifest() {
    let small = small();
    let vfs = small.copy();
    for part in ["MANIFEST", "CURRENT"] {
        all(&vfs, part).iter().for_each(|path| vfs.remove_file(path).unwrap());
    }
    let (report, found) = repaired(&vfs);
    assert!(!report.exact && report.losses.is_empty(), "{report:#?}");
    assert_eq!(found["default"], small.default);
    assert_eq!(found["keyspace-1"], small.other, "the log tells which tables are its own");

    // Closed, there is no log any more that would.
    let vfs = small.copy();
    builder(&vfs, DIR, calm()).open().unwrap().close().unwrap();
    for part in ["MANIFEST", "CURRENT", ".wal"] {
        all(&vfs, part).iter().for_each(|path| vfs.remove_file(path).unwrap());
    }
    let (report, found) = repaired(&vfs);
    assert!(report.remarks.iter().any(|remark| remark.contains("nothing says to which keyspace")), "{report:#?}");
    let all: Contents = found.into_values().flatten().collect();
    assert!(small.default.iter().chain(&small.other).all(|(key, value)| all.get(key) == Some(value)));
}

/// One damaged block of many: all others are there.
#[test]
fn other_blocks_of_a_damaged_table_are_kept() {
    for (damaged, most) in [("block", 30), ("footer", 0), ("index", 0), ("properties", 0), ("filter", 0)] {
        let vfs = MemVfs::new();
        let engine = builder(&vfs, DIR, calm()).open().unwrap();
        let key = |i: u32| format!("{i:05}").into_bytes();
        let mut expected = Contents::new();
        for i in 0..2000 {
            engine.put(key(i), [7; 40]).unwrap();
            expected.insert(key(i), vec![7; 40]);
        }
        engine.flush().unwrap();
        engine.close().unwrap();
        let table = all(&vfs, ".sst").remove(0);
        let len = used_bytes(&vfs, &table);
        let at = match damaged {
            "block" => len / 2,
            "footer" => len - 30,
            "properties" => len - 150,
            "index" => len - 1500,
            _ => len / 2,
        };
        if damaged == "filter" {
            // The first copy of it is found by what lies between the last block and the index: all of that.
            vfs.edit(&table, |bytes| {
                let padding = bytes.len() - 128;
                bytes[padding - 6000..padding - 5990].iter_mut().for_each(|byte| *byte ^= 1);
            })
            .unwrap();
        } else {
            vfs.edit(&table, |bytes| bytes[at] ^= 4).unwrap();
        }
        let report = repaired_in(&vfs, NEW).unwrap();
        let engine = builder(&vfs, NEW, calm()).open().unwrap();
        let found: Contents = engine
            .iter()
            .map(|item| item.map(|(key, value)| (key.to_vec(), value.to_vec())))
            .collect::<Result<_, _>>()
            .unwrap();
        assert!(found.iter().all(|(key, value)| expected.get(key) == Some(value)));
        assert!(expected.len() - found.len() <= most.max(30), "{damaged}: {} of 2000. {report:#?}", found.len());
        if most == 0 && damaged != "filter" {
            assert_eq!(found.len(), expected.len(), "{damaged}: {report:#?}");
        }
        if found.len() < expected.len() {
            let loss = &report.losses[0];
            let (first, last) = (loss.first.clone().unwrap(), loss.last.clone().unwrap());
            let missing = expected.keys().filter(|key| !found.contains_key(*key));
            assert!(missing.clone().all(|key| first <= *key && *key <= last), "{damaged}: {loss}");
            assert_eq!(loss.records, Some(missing.count() as u64), "{damaged}: {loss}");
        }
    }
}

/// Operands, times to live, tables built outside, range deletes without an end, keys of no bytes: all kinds of entries.
#[test]
fn all_kinds_of_entries_are_carried_over() {
    let vfs = MemVfs::new();
    let counter = KeyspaceOptions { merge_operator: Some("esker.counter".into()), ..KeyspaceOptions::default() };
    let expected = {
        let engine = builder(&vfs, DIR, calm()).open().unwrap();
        let counts = engine.keyspace("counts", counter.clone()).unwrap();
        let hour = WriteOptions { ttl: Some(Duration::from_secs(3600)), ..WriteOptions::default() };
        for round in 0..3i64 {
            counts.merge("hits", (round + 1).to_le_bytes()).unwrap();
            counts.merge("miss", 1i64.to_le_bytes()).unwrap();
            engine.put_with(format!("late{round}"), "x", &hour).unwrap();
            engine.put_with(format!("late-large{round}"), [1; 300], &hour).unwrap();
            engine.put("", "no bytes").unwrap();
            engine.put(format!("z{round}"), "gone").unwrap();
            if round < 2 {
                engine.flush().unwrap();
            }
        }
        counts.delete("miss").unwrap();
        counts.merge("miss", 5i64.to_le_bytes()).unwrap();
        engine.delete_range("z", "zz").unwrap();
        let mut bulk = engine.bulk_writer().unwrap();
        for i in 0..50 {
            bulk.put(format!("m{i:02}"), "bulk").unwrap();
        }
        bulk.finish().unwrap();
        engine.put("m07", "newer").unwrap();
        engine.sync().unwrap();
        [
            contents(&engine.keyspace("default", KeyspaceOptions::default()).unwrap()).unwrap(),
            contents(&counts).unwrap(),
        ]
    };
    assert_eq!(expected[1][&b"hits"[..]], 6i64.to_le_bytes());
    let report = repaired_in(&vfs, NEW).unwrap();
    assert!(report.is_whole(), "{report:#?}");
    let engine = builder(&vfs, NEW, calm()).open().unwrap();
    let counts = engine.keyspace("counts", counter).unwrap();
    let found = [
        contents(&engine.keyspace("default", KeyspaceOptions::default()).unwrap()).unwrap(),
        contents(&counts).unwrap(),
    ];
    assert_eq!(found, expected);
    assert!(engine.get_with_expiry("late1").unwrap().unwrap().1.is_some());
    assert!(!found[0].contains_key(&b"z1"[..]));
}

/// Operands that compaction has summed up may lie in a log, or a table that no longer counts, once more; the report was silent about it where the manifest named the tables.
#[test]
fn that_operands_may_count_twice_is_remarked() {
    let vfs = MemVfs::new();
    let counter = KeyspaceOptions { merge_operator: Some("esker.counter".into()), ..KeyspaceOptions::default() };
    let options = esker::Options { wal_retain_bytes: Some(1 << 20), ..calm() };
    let engine = builder(&vfs, DIR, options).open().unwrap();
    let counts = engine.keyspace("counts", counter).unwrap();
    for _ in 0..3 {
        counts.merge("hits", 1i64.to_le_bytes()).unwrap();
        counts.merge("miss", 1i64.to_le_bytes()).unwrap();
        engine.flush().unwrap();
    }
    engine.sync().unwrap();
    let sound = Arc::new(vfs.crash_now(esker::vfs::CrashPolicy::All));
    let twice = |report: &RepairReport| report.remarks.iter().any(|remark| remark.contains("may count twice in its"));
    let report = repaired_in(&sound, "/sound").unwrap();
    assert!(report.is_whole(), "{report:#?}");

    let vfs = Arc::new(sound.crash_now(esker::vfs::CrashPolicy::All));
    vfs.edit(&all(&vfs, ".sst")[0], |bytes| bytes[20] ^= 1).unwrap();
    let report = repaired_in(&vfs, NEW).unwrap();
    assert!(report.exact && !report.losses.is_empty() && twice(&report), "{report:#?}");

    let vfs = Arc::new(sound.crash_now(esker::vfs::CrashPolicy::All));
    for part in ["MANIFEST", "CURRENT"] {
        all(&vfs, part).iter().for_each(|path| vfs.remove_file(path).unwrap());
    }
    let report = repaired_in(&vfs, NEW).unwrap();
    assert!(!report.exact && twice(&report), "{report:#?}");
}
