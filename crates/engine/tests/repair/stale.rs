//! Manifests and CURRENT of other times, and what is said where nothing is lost.

use crate::rebuild::{repaired, whole};
use crate::small::{Contents, DIR, all, builder, calm, checked, contents, small};
use esker::vfs::{CrashPolicy, MemVfs, Vfs, read_file};
use esker::{Gravity, KeyspaceOptions, RepairReport};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file and what it held.
type File = (PathBuf, Vec<u8>);

fn write(vfs: &MemVfs, path: &Path, bytes: &[u8]) {
    let _ = vfs.remove_file(path);
    let mut file = vfs.create_new(path).unwrap();
    file.append(bytes).unwrap();
    file.sync().unwrap();
}

/// What a file of this name holds now.
fn held(vfs: &MemVfs, part: &str) -> File {
    let path = all(vfs, part).pop().unwrap();
    let bytes = read_file(vfs, &path, 1 << 30).unwrap();
    (path, bytes)
}

/// CURRENT and its manifest as they were before a keyspace was made, written and compacted; and all that there is at the end.
fn with_an_old_current(closed: bool) -> (Arc<MemVfs>, [File; 2], BTreeMap<String, Contents>) {
    let vfs = MemVfs::new();
    let engine = builder(&vfs, DIR, calm()).open().unwrap();
    engine.put("a", "default's").unwrap();
    engine.put("gone", "by and by").unwrap();
    engine.flush().unwrap();
    let old = [held(&vfs, "CURRENT"), held(&vfs, "MANIFEST")];
    engine.close().unwrap();
    let engine = builder(&vfs, DIR, calm()).open().unwrap();
    let users = engine.keyspace("users", KeyspaceOptions::default()).unwrap();
    users.put("a", "the users'").unwrap();
    engine.delete("gone").unwrap();
    engine.flush().unwrap();
    engine.compact_range(..).unwrap();
    users.put("b", "in a log").unwrap();
    let whole = [("default", engine.keyspace("default", KeyspaceOptions::default()).unwrap()), ("users", users)];
    let whole = whole.iter().map(|(name, keyspace)| ((*name).to_owned(), contents(keyspace).unwrap())).collect();
    if closed {
        engine.close().unwrap();
        return (Arc::new(vfs.crash_now(CrashPolicy::All)), old, whole);
    }
    (Arc::new(vfs.crash_now(CrashPolicy::All)), old, whole)
}

/// Where CURRENT named a manifest of earlier and the newest lay beside it, that was not read: keyspaces got made up names or were mixed, and no loss was told.
#[test]
fn a_newer_manifest_than_current_names_is_read() {
    for closed in [false, true] {
        let (vfs, old, whole) = with_an_old_current(closed);
        let newest = held(&vfs, "MANIFEST");
        for (path, bytes) in &old {
            write(&vfs, path, bytes);
        }
        assert_eq!(all(&vfs, "MANIFEST").len(), 2, "the newest has another name");
        let (report, found) = repaired(&vfs);
        assert!(!report.is_whole() && !report.exact, "{report:#?}");
        assert_eq!(found, whole, "{report:#?}");
        assert!(report.losses.is_empty(), "{report:#?}");
        // Without CURRENT the same.
        vfs.remove_file(&old[0].0).unwrap();
        vfs.edit(&newest.0, |_| ()).unwrap();
        let vfs = Arc::new(vfs.crash_now(CrashPolicy::All));
        crate::small::files(&vfs, "/new").iter().for_each(|path| vfs.remove_file(path).unwrap());
        let (report, found) = repaired(&vfs);
        assert_eq!(found, whole, "{report:#?}");
        assert!(report.losses.is_empty(), "{report:#?}");
    }
}

/// Nothing but the newer manifest itself tells of it: the dropped keyspace came back, and that its table is missing was a loss.
#[test]
fn a_keyspace_that_was_dropped_since_stays_so() {
    let vfs = MemVfs::new();
    let engine = builder(&vfs, DIR, calm()).open().unwrap();
    engine.put("a", "default's").unwrap();
    engine.keyspace("passing", KeyspaceOptions::default()).unwrap().put("a", "gone").unwrap();
    engine.close().unwrap();
    let old = [held(&vfs, "CURRENT"), held(&vfs, "MANIFEST")];
    let engine = builder(&vfs, DIR, calm()).open().unwrap();
    engine.drop_keyspace("passing").unwrap();
    while engine.step().unwrap() {}
    engine.close().unwrap();
    assert_ne!(held(&vfs, "MANIFEST").0, old[1].0);
    old.iter().for_each(|(path, bytes)| write(&vfs, path, bytes));
    let (report, found) = repaired(&Arc::new(vfs.crash_now(CrashPolicy::All)));
    assert!(report.losses.is_empty() && !report.exact, "{report:#?}");
    assert_eq!(found.keys().collect::<Vec<_>>(), ["default"], "{report:#?}");
    assert_eq!(found["default"].len(), 1);
}

/// Of a directory that had been closed, and of which nothing but CURRENT was damaged, the logs were said to be missing and writes to be lost.
#[test]
fn no_log_is_missed_of_a_directory_that_was_closed() {
    for kept in [None, Some(1 << 20)] {
        let small = small();
        let options = || esker::Options { wal_retain_bytes: kept, ..calm() };
        builder(&small.vfs, DIR, options()).open().unwrap().close().unwrap();
        for spoil in [Vec::clear as fn(&mut Vec<u8>), |bytes| bytes[3] ^= 1, |bytes| bytes.truncate(9)] {
            let vfs = small.copy();
            vfs.edit(&all(&vfs, "CURRENT")[0], spoil).unwrap();
            let (report, found) = repaired(&vfs);
            assert!(report.losses.is_empty() && !report.exact, "{report:#?}");
            assert_eq!((&found["default"], &found["other"]), (&small.default, &small.other));
        }
        // One that was opened again and written to needs its log.
        let vfs = small.copy();
        let engine = builder(&vfs, DIR, calm()).open().unwrap();
        engine.put_with("in the log", "1", &esker::WriteOptions::sync()).unwrap();
        engine.put_with("in the log too", "1", &esker::WriteOptions::sync()).unwrap();
        let vfs = Arc::new(vfs.crash_now(CrashPolicy::All));
        vfs.remove_file(&all(&vfs, "CURRENT")[0]).unwrap();
        vfs.remove_file(all(&vfs, ".wal").last().unwrap()).unwrap();
        let (report, _) = repaired(&vfs);
        assert!(!report.losses.is_empty(), "{report:#?}");
    }
}

/// Of a table without a readable footer it was told each time that its range deletes can't be read, if it has any; the manifest says that it has none.
#[test]
fn range_deletes_are_missed_only_where_there_were_any() {
    let small = small();
    let is_missed = |loss: &esker::Loss| loss.what.contains("range deletes");
    let mut missed = 0;
    for path in all(&small.vfs, ".sst") {
        let vfs = small.copy();
        vfs.edit(&path, |bytes| {
            let len = bytes.len();
            bytes[len / 2..].fill(7);
        })
        .unwrap();
        let (report, _) = repaired(&vfs);
        missed += report.losses.iter().filter(|loss| is_missed(loss)).count();
    }
    assert_eq!(missed, 1, "one table of four has one");
}

/// Tables with the newest writes, of which a manifest of earlier knows nothing, were called left over, and that the next open would remove them, beside the word that the directory does not open.
#[test]
fn what_a_manifest_may_lack_is_not_called_left_over() {
    let small = small();
    let old = held(&small.vfs, "MANIFEST");
    let vfs = small.copy();
    let engine = builder(&vfs, DIR, calm()).open().unwrap();
    engine.put("newest", "write").unwrap();
    engine.close().unwrap();
    let newest = all(&vfs, ".sst").pop().unwrap();
    let is_of_it = |found: &&esker::Finding| newest.ends_with(&found.file);
    let left_over = |vfs: &Arc<MemVfs>| {
        let report = checked(vfs, DIR);
        let said: Vec<String> =
            report.findings.iter().filter(is_of_it).map(|found| found.meaning.clone() + &found.advice).collect();
        (report.is_ok(), said.iter().any(|said| said.contains("removes it")), said)
    };
    write(&vfs, &held(&vfs, "MANIFEST").0, &[]);
    vfs.remove_file(&held(&vfs, "MANIFEST").0).unwrap();
    write(&vfs, &old.0, &old.1);
    write(&vfs, &all(&small.vfs, "CURRENT")[0], &held(&small.vfs, "CURRENT").1);
    for locked in [true, false] {
        if !locked {
            vfs.remove_file(&all(&vfs, "LOCK")[0]).unwrap();
        }
        let (is_ok, is_left_over, said) = left_over(&vfs);
        assert!(!is_ok && !is_left_over && said.iter().any(|said| said.contains("keep it")), "{said:?}");
    }

    // Where it opens, it is.
    let vfs = small.copy();
    builder(&vfs, DIR, calm()).open().unwrap().close().unwrap();
    let table = read_file(&*vfs, &newest_of(&vfs), 1 << 30).unwrap();
    write(&vfs, &Path::new(DIR).join("000002.sst"), &table);
    let report = checked(&vfs, DIR);
    let note = report.findings.iter().find(|found| found.file == "000002.sst").unwrap();
    assert!(report.is_ok() && note.gravity == Gravity::Note && note.advice.contains("removes it"), "{report:#?}");
}

fn newest_of(vfs: &MemVfs) -> PathBuf {
    all(vfs, ".sst").pop().unwrap()
}

/// Without a manifest, and without logs, a key of two keyspaces has one value in the new directory, and nothing was said of the other.
#[test]
fn that_keyspaces_may_have_been_mixed_is_remarked() {
    let vfs = MemVfs::new();
    let engine = builder(&vfs, DIR, calm()).open().unwrap();
    let users = engine.keyspace("users", KeyspaceOptions::default()).unwrap();
    engine.put("a", "default's").unwrap();
    users.put("a", "the users'").unwrap();
    engine.close().unwrap();
    for part in ["MANIFEST", "CURRENT", ".wal"] {
        all(&vfs, part).iter().for_each(|path| vfs.remove_file(path).unwrap());
    }
    let vfs = Arc::new(vfs.crash_now(CrashPolicy::All));
    let (report, found) = repaired(&vfs);
    let is_said = report.remarks.iter().any(|remark| remark.contains("only the newest values"));
    assert!(!report.is_whole() && is_said && found["default"].len() == 1, "{report:#?}");
}

/// Options that can't be read were left out without a word, and the check called garbage in their place sound.
#[test]
fn options_that_cant_be_read_are_told() {
    let small = small();
    let path = all(&small.vfs, "OPTIONS").remove(0);
    let name = path.file_name().unwrap().to_str().unwrap();
    for (spoil, is_damage) in [
        ((|bytes| bytes.fill(0xee)) as fn(&mut Vec<u8>), true),
        (|bytes| bytes.truncate(bytes.len() - 3), true),
        (|bytes| bytes.extend_from_slice(b"no option\n"), true),
        // As a newer version may have written.
        (|bytes| bytes.extend_from_slice(b"color = blue\n"), false),
    ] {
        let vfs = small.copy();
        vfs.edit(&path, spoil).unwrap();
        let report = checked(&vfs, DIR);
        let found: Vec<_> = report.findings.iter().filter(|found| found.file == name).collect();
        assert!(found.len() == 1 && report.is_ok() != is_damage, "{report:#?}");
        let (report, found) = repaired(&vfs);
        assert!(report.exact && report.losses.is_empty() && found == whole(&small), "{report:#?}");
        let is_told = report.remarks.iter().any(|remark| remark.contains("options") && remark.contains(name));
        assert!(!report.is_whole() && is_told, "{report:#?}");
    }
}

/// A keyspace's name may hold a line's end, and in a report it passed for a line of its own.
#[test]
fn names_stay_in_their_lines() {
    let loss = |keyspace: &str| {
        let mut report = RepairReport::default();
        report.losses.push(esker::Loss::default());
        report.losses[0].keyspace = Some(keyspace.to_owned());
        report.losses[0].to_string()
    };
    assert_eq!(loss("a\nlost: b"), ": , of keyspace 'a\\nlost: b'");
    assert_eq!(loss("größer"), ": , of keyspace 'größer'");
}
