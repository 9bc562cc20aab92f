//! `verify_deep`: what is damaged is told, all of it, and what is sound is not.

use crate::small::{
    Contents, DIR, Small, all, builder, calm, checked, contents, small, swap, used_bytes, vouched_bytes,
};
use esker::vfs::{CrashPolicy, Fault, FaultVfs, MemVfs, Operation, Rule, Vfs};
use esker::{Background, DeepReport, Engine, ErrorKind, Gravity, Options, repair, verify_deep};
use std::path::Path;
use std::sync::Arc;

/// The files in which damage was found.
fn damaged(report: &DeepReport) -> Vec<String> {
    let mut files: Vec<String> = report
        .findings
        .iter()
        .filter(|finding| finding.gravity == Gravity::Damage)
        .map(|finding| finding.file.clone())
        .collect();
    files.dedup();
    files
}

/// Whether everything can be read as it was, without a check.
fn reads_whole(small: &Small, vfs: &Arc<MemVfs>) -> bool {
    let Ok(engine) = builder(vfs, DIR, calm()).read_only(true).open() else { return false };
    let whole = |name: &str, expected: &Contents| {
        let keyspace = engine.keyspace(name, esker::KeyspaceOptions::default());
        keyspace.and_then(|keyspace| contents(&keyspace)).is_ok_and(|found| found == *expected)
    };
    whole("default", &small.default) && whole("other", &small.other)
}

#[test]
fn what_is_sound_is_called_so() {
    let small = small();
    let report = checked(&small.copy(), DIR);
    assert!(report.is_ok(), "{:#?}", report.findings);
    assert_eq!((report.tables, report.blob_files, report.logs), (4, 4, 1), "{report:#?}");
    assert!(report.blocks >= 4 && report.entries >= 20 && report.log_records >= 6, "{report:#?}");
    let closed = small.copy();
    builder(&closed, DIR, calm()).open().unwrap().close().unwrap();
    let report = checked(&closed, DIR);
    assert!(report.is_ok(), "{:#?}", report.findings);
}

/// Bytes of every file: what can't be read is told, and what is told is in that file.
#[test]
fn bytes_of_every_file_flipped() {
    let small = small();
    for path in all(&small.vfs, "") {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let vouched = if name.ends_with(".wal") { vouched_bytes(&small.vfs, &path) } else { usize::MAX };
        for at in (0..used_bytes(&small.vfs, &path)).step_by(97) {
            let vfs = small.copy();
            vfs.edit(&path, |bytes| bytes[at] ^= 1 << (at % 8)).unwrap();
            let report = checked(&vfs, DIR);
            // What nothing vouches for may be a torn end.
            assert!(!report.is_ok() || at >= vouched || reads_whole(&small, &vfs), "{name}, byte {at}: not found");
            if report.is_ok() {
                let harmless = name.starts_with("OPTIONS") || name.ends_with(".wal") || name.starts_with("MANIFEST");
                assert!(harmless, "{name}, byte {at}: called sound");
            } else if name.ends_with(".sst") || name.ends_with(".blob") {
                assert!(damaged(&report).contains(&name), "{name}, byte {at}: {:#?}", report.findings);
            }
        }
    }
}

#[test]
fn a_file_that_is_missing_cut_or_another_is_told_by_name() {
    let small = small();
    for part in [".sst", ".blob", ".wal", "MANIFEST", "CURRENT"] {
        let path = all(&small.vfs, part).remove(0);
        let name = path.file_name().unwrap().to_str().unwrap();
        let vfs = small.copy();
        vfs.remove_file(&path).unwrap();
        let report = checked(&vfs, DIR);
        let told = format!("{:?}", report.findings);
        assert!(!report.is_ok() && (told.contains(name) || part == "MANIFEST"), "{name} missing: {told}");

        let vfs = small.copy();
        let half = used_bytes(&vfs, &path) / 2;
        vfs.edit(&path, |bytes| bytes.truncate(half)).unwrap();
        let report = checked(&vfs, DIR);
        // Who cuts off a log cuts off what vouches for it; and the log has all that an earlier version lacks.
        assert!(
            !report.is_ok() || part == ".wal" || reads_whole(&small, &vfs),
            "{name} cut in half: {:#?}",
            report.findings
        );
    }
    for part in [".sst", ".blob"] {
        let paths = all(&small.vfs, part);
        let vfs = small.copy();
        swap(&vfs, &paths[0], &paths[1]);
        let report = checked(&vfs, DIR);
        let names = [&paths[0], &paths[1]].map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
        assert_eq!(damaged(&report).into_iter().filter(|file| names.contains(file)).count(), 2, "{part}: {report:#?}");
    }
}

/// `Engine::verify` stops at the first block of a table that is damaged; this goes on.
#[test]
fn all_damages_are_told_with_their_places() {
    let small = small();
    let vfs = small.copy();
    let tables = all(&vfs, ".sst");
    for (table, at) in [(&tables[0], 40), (&tables[0], 300), (&tables[2], 40)] {
        vfs.edit(table, |bytes| bytes[at] ^= 1).unwrap();
    }
    let report = checked(&vfs, DIR);
    let found: Vec<_> = report
        .findings
        .iter()
        .filter(|finding| finding.what.contains("checksum") && finding.offset.is_some())
        .collect();
    assert_eq!(found.len(), 3, "{:#?}", report.findings);
    assert!(found.iter().all(|finding| !finding.meaning.is_empty() && !finding.advice.is_empty()));
}

#[test]
fn what_nobody_needs_is_a_note() {
    let small = small();
    let vfs = small.copy();
    let table = all(&vfs, ".sst").remove(0);
    vfs.hard_link(&table, &Path::new(DIR).join("000900.blob")).unwrap();
    let report = checked(&vfs, DIR);
    assert!(report.is_ok() && report.findings.iter().any(|finding| finding.file == "000900.blob"), "{report:#?}");
}

/// Without LOCK whether it would open was not looked into: a copy without it and its logs was called sound.
#[test]
fn missing_logs_are_found_without_the_locks_file() {
    let small = small();
    let vfs = small.copy();
    all(&vfs, "LOCK").iter().for_each(|path| vfs.remove_file(path).unwrap());
    let report = checked(&vfs, DIR);
    assert!(report.is_ok(), "{:#?}", report.findings);
    let log = all(&vfs, ".wal").remove(0);
    vfs.remove_file(&log).unwrap();
    let report = checked(&vfs, DIR);
    assert_eq!(damaged(&report), ["the directory"], "{:#?}", report.findings);
    assert!(report.findings.iter().any(|found| found.what.contains(log.file_name().unwrap().to_str().unwrap())));

    // Closed in order, it needs none.
    let vfs = small.copy();
    builder(&vfs, DIR, calm()).open().unwrap().close().unwrap();
    for part in ["LOCK", ".wal"] {
        all(&vfs, part).iter().for_each(|path| vfs.remove_file(path).unwrap());
    }
    let report = checked(&vfs, DIR);
    assert!(report.is_ok(), "{:#?}", report.findings);
}

/// Of a manifest that is missing or can't be read it was CURRENT that was named, a log that can't be read was called one never begun, and what permissions keep from being read was to be restored, and later still called damaged.
#[test]
fn what_cant_be_read_or_is_missing_is_named_and_not_to_be_restored() {
    let small = small();
    for (part, operation, fault) in [
        ("MANIFEST", Operation::OpenRead, Fault::EACCES),
        ("MANIFEST", Operation::Read, Fault::EIO),
        ("CURRENT", Operation::OpenRead, Fault::EACCES),
        (".wal", Operation::OpenRead, Fault::EACCES),
        (".wal", Operation::Read, Fault::EIO),
        (".sst", Operation::OpenRead, Fault::EMFILE),
        (".sst", Operation::Read, Fault::ENOMEM),
        (".blob", Operation::OpenRead, Fault::EACCES),
        ("OPTIONS", Operation::Read, Fault::EIO),
        ("OPTIONS", Operation::OpenRead, Fault::EACCES),
    ] {
        let is_of_the_asker = fault != Fault::EIO;
        let path = all(&small.vfs, part).remove(0);
        let faults = FaultVfs::new(small.copy() as Arc<dyn Vfs>);
        faults.add(Rule::new(operation, fault).path(path.to_str().unwrap()));
        let report = verify_deep(&(Arc::clone(&faults) as Arc<dyn Vfs>), DIR, &mut |_| {}).unwrap();
        assert!(!report.is_ok());
        let of_it = |found: &&esker::Finding| path.ends_with(&found.file) && found.gravity != Gravity::Note;
        let found: Vec<_> = report.findings.iter().filter(of_it).collect();
        assert_eq!(found.len(), 1, "{part}: {report:#?}");
        if is_of_the_asker {
            assert_eq!((found[0].gravity, damaged(&report)), (Gravity::Unread, vec![]), "{part}: {report:#?}");
            assert!(found[0].advice.contains("the rights"), "{part}: {found:#?}");
            continue;
        }
        assert_eq!(found[0].gravity, Gravity::Damage, "{part}: {found:#?}");
        // Of one that can't be opened all other keys were said to be readable, though the store does not open.
        assert!(!found[0].meaning.contains("all other keys can be read"), "{part}: {found:#?}");
        assert!(found[0].advice.contains("mend the medium") || part == ".wal", "{part}: {found:#?}");
    }
    let vfs = small.copy();
    let manifest = all(&vfs, "MANIFEST").remove(0);
    vfs.remove_file(&manifest).unwrap();
    assert!(damaged(&checked(&vfs, DIR)).iter().any(|file| manifest.ends_with(file)));
}

/// Of a file that was being written when the process died nothing was said.
#[test]
fn a_file_that_was_being_written_is_a_note() {
    let small = small();
    let vfs = small.copy();
    vfs.create_new(&Path::new(DIR).join("000000.wal.tmp")).unwrap();
    let report = checked(&vfs, DIR);
    assert!(report.is_ok() && report.findings.iter().any(|found| found.file == "000000.wal.tmp"), "{report:#?}");
    builder(&vfs, DIR, calm()).open().unwrap().close().unwrap();
    assert!(checked(&vfs, DIR).findings.iter().all(|found| found.file != "000000.wal.tmp"), "as the note says");
}

/// The directory was listed before its lock was asked for, and an engine that closed in between left a list of files that were gone.
#[test]
fn nothing_is_looked_at_before_the_lock_is_had() {
    let faults = FaultVfs::new(MemVfs::new());
    let vfs = Arc::clone(&faults) as Arc<dyn Vfs>;
    let engine = Engine::builder(DIR).vfs(Arc::clone(&vfs)).background(Background::Manual).open().unwrap();
    faults.add(Rule::new(Operation::List, Fault::EIO));
    assert_eq!(verify_deep(&vfs, DIR, &mut |_| {}).unwrap_err().kind(), ErrorKind::Locked);
    drop(engine);
    assert_eq!(verify_deep(&vfs, DIR, &mut |_| {}).unwrap_err().kind(), ErrorKind::Io);
}

/// A log that is only kept for the feed of changes was passed over as one never begun when its header was damaged, though the feed could not go on there (found by `flip`).
#[test]
fn a_kept_log_without_its_header_is_damaged() {
    let vfs = MemVfs::new();
    let options = Options { wal_retain_bytes: Some(u64::MAX), ..calm() };
    let engine = builder(&vfs, DIR, options.clone()).open().unwrap();
    engine.put("a", "1").unwrap();
    engine.flush().unwrap();
    engine.put("b", "2").unwrap();
    engine.close().unwrap();
    drop(engine);
    assert!(checked(&vfs, DIR).is_ok());
    let log = all(&vfs, ".wal").remove(0);
    for byte in [0, 16, 63] {
        let copy = Arc::new(vfs.crash_now(CrashPolicy::All));
        copy.edit(&log, |bytes| bytes[byte] ^= 1).unwrap();
        let reader = builder(&copy, DIR, options.clone()).read_only(true).open().unwrap();
        assert_eq!(reader.changes_since(0).unwrap_err().kind(), ErrorKind::Corruption);
        let report = checked(&copy, DIR);
        assert_eq!(damaged(&report), [log.file_name().unwrap().to_str().unwrap()], "{:#?}", report.findings);
    }
}

/// Of a log that was never synced, and broken in its middle by something other than a crash, nobody said how much lies behind.
#[test]
fn a_torn_end_tells_what_lies_behind_it() {
    let vfs = MemVfs::new();
    let engine = builder(&vfs, DIR, calm()).open().unwrap();
    let put = |keys: std::ops::Range<u32>| keys.for_each(|n| engine.put(format!("key{n}"), "a value").unwrap());
    put(0..5);
    let log = all(&vfs, ".wal").remove(0);
    let end = used_bytes(&vfs, &log);
    put(5..10);
    let copy = Arc::new(vfs.crash_now(CrashPolicy::All));
    copy.edit(&log, |bytes| bytes[end + 24] ^= 1).unwrap();
    let report = checked(&copy, DIR);
    assert!(report.is_ok(), "{report:#?}");
    let told = "; behind it lie 4 records of this log";
    assert_eq!(report.findings.iter().filter(|found| found.what.contains(told)).count(), 2, "{report:#?}");
    let reader = builder(&copy, DIR, calm()).read_only(true).open().unwrap();
    assert!(reader.metrics().left_out_of_recovery[0].contains(told), "{:?}", reader.metrics().left_out_of_recovery);
    drop(reader);
    let repaired = repair(&(Arc::clone(&copy) as Arc<dyn Vfs>), DIR, "/new", &mut |_| {}).unwrap();
    assert!(repaired.unused.iter().any(|(_, why)| why.contains(told)), "{repaired:#?}");
}
