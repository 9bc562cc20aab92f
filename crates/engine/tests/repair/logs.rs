//! Logs under each other's names, and logs that know more than the manifest.

use crate::rebuild::repaired;
use crate::small::{Contents, DIR, all, builder, calm, checked, contents, swap, used_bytes};
use esker::vfs::{CrashPolicy, MemVfs, Vfs};
use esker::{ErrorKind, KeyspaceOptions, Options, RecoveryMode, WriteBatch, WriteOptions};
use esker_wal::{GroupSync, Reader, RecordKind, Reserve, Writer};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Four logs, of which the newest alone is needed, and what is to be read.
fn with_kept_logs() -> (Arc<MemVfs>, Contents) {
    let vfs = MemVfs::new();
    let open = || builder(&vfs, DIR, Options { wal_retain_bytes: Some(1 << 20), ..calm() }).open().unwrap();
    let mut engine = open();
    for life in 0..4 {
        if life > 0 {
            engine.close().unwrap();
            engine = open();
        }
        for key in 0..6 {
            engine.put_with(format!("{life}{key}"), "a value", &WriteOptions::sync()).unwrap();
        }
    }
    let now = contents(&engine.keyspace("default", KeyspaceOptions::default()).unwrap()).unwrap();
    (Arc::new(vfs.crash_now(CrashPolicy::All)), now)
}

/// A log that was needed and had been swapped with a former one, kept for the feed of changes, counted as one that was never begun: what it held was gone, the report called the directory whole, and
/// an engine opened without it.
#[test]
fn a_needed_log_under_a_former_ones_name_is_found() {
    let (sound, now) = with_kept_logs();
    let logs = all(&sound, ".wal");
    let (needed, former) = logs.split_last().unwrap();
    assert_eq!(former.len(), 3);
    for (i, other) in former.iter().enumerate() {
        let swapped = || {
            let vfs = Arc::new(sound.crash_now(CrashPolicy::All));
            swap(&vfs, needed, other);
            vfs
        };
        let opened = builder(&swapped(), DIR, calm()).open().map(|_| ()).unwrap_err();
        assert!(opened.kind() == ErrorKind::Corruption && opened.to_string().contains("swapped"), "{opened}");
        let salvage = Options { recovery: RecoveryMode::Salvage, ..calm() };
        builder(&swapped(), DIR, salvage).open().unwrap();
        let vfs = swapped();
        assert!(!checked(&vfs, DIR).is_ok());
        let (report, found) = repaired(&vfs);
        assert!(report.is_whole() && report.unused.iter().all(|(_, why)| why.contains("former log")), "{report:#?}");
        assert_eq!(found["default"], now, "{}: {report:#?}", other.display());

        // Without it, it looks as if it had never been begun.
        let vfs = swapped();
        vfs.remove_file(other).unwrap();
        let (report, found) = repaired(&vfs);
        let of_it = |(file, why): &(String, String)| needed.ends_with(file) && why.contains("former log");
        assert!(report.unused.iter().any(of_it) && found["default"].len() == 18, "{report:#?}");

        // What is damaged in logs that nobody needs is no loss.
        for (damaged, at) in former.iter().chain([needed]).flat_map(|path| [(path, 44), (path, 100)]) {
            let vfs = swapped();
            vfs.edit(damaged, |bytes| bytes[at] ^= 1).unwrap();
            let (report, found) = repaired(&vfs);
            let what = format!("swapped with {i}, byte {at} of {} flipped: {report:#?}", damaged.display());
            if damaged != other {
                assert!(report.is_whole() && found["default"] == now, "{what}");
                continue;
            }
            // It is the needed one. Without a header it may be any; but something vouches for a record.
            let of_log = |(file, _): &(String, String)| damaged.ends_with(file);
            let is_told = if at < 64 { report.unused.iter().any(of_log) } else { !report.losses.is_empty() };
            assert!(is_told && found["default"].len() >= 18, "{what}");
        }
    }
}

/// As long as the feed of changes had never forgotten anything, the logs that are kept for it were not looked at.
#[test]
fn damage_in_a_log_that_is_kept_for_the_feed_is_found_and_told_as_such() {
    let (sound, now) = with_kept_logs();
    let logs = all(&sound, ".wal");
    assert_eq!(checked(&sound, DIR).logs, logs.len() as u64);
    for kept in &logs[..logs.len() - 1] {
        let vfs = Arc::new(sound.crash_now(CrashPolicy::All));
        vfs.edit(kept, |bytes| bytes[100] ^= 1).unwrap();
        let report = checked(&vfs, DIR);
        assert!(!report.is_ok() && report.findings.iter().all(|found| kept.ends_with(&found.file)), "{report:?}");
        assert!(report.findings.iter().all(|found| found.meaning.contains("feed of changes")), "{report:?}");
        let engine = builder(&vfs, DIR, calm()).open().unwrap();
        assert_eq!(contents(&engine.keyspace("default", KeyspaceOptions::default()).unwrap()).unwrap(), now);
    }
}

/// Where the needed log had lost its header, the line was taken to break as far as the manifest knew it to be on stable storage, which may be far behind where that log began: what a flush of one
/// keyspace had synced of another was gone without a word, and an engine opened with the later writes of the one and none of the other.
#[test]
fn a_log_without_a_header_that_a_flush_has_synced_is_missed() {
    is_missed(&with_a_needed_log());
}

/// Where the manifest had been begun anew since, it did not know any more where that log began, and the same was gone in silence.
#[test]
fn it_is_missed_by_a_manifest_that_was_begun_later_too() {
    let vfs = with_a_needed_log();
    let earlier = all(&vfs, "MANIFEST");
    let _engine = builder(&vfs, DIR, calm()).open().unwrap();
    assert_ne!(all(&vfs, "MANIFEST"), earlier);
    is_missed(&Arc::new(vfs.crash_now(CrashPolicy::All)));
}

/// Its log holds `before` of one keyspace and `behind` of the other, which is in a table too.
fn with_a_needed_log() -> Arc<MemVfs> {
    let vfs = MemVfs::new();
    let engine = builder(&vfs, DIR, calm()).open().unwrap();
    let other = engine.keyspace("other", KeyspaceOptions::default()).unwrap();
    engine.put("before", "in the log").unwrap();
    other.put("behind", "in a table").unwrap();
    other.compact_range(..).unwrap();
    Arc::new(vfs.crash_now(CrashPolicy::All))
}

/// That the oldest log is missed whichever way it is without a header. In it is the one key of `default`, in a table that of `other`.
fn is_missed(sound: &Arc<MemVfs>) {
    let log = all(sound, ".wal").remove(0);
    let (report, found) = repaired(&Arc::new(sound.crash_now(CrashPolicy::All)));
    assert!(report.is_whole() && found["default"].len() == 1, "{report:#?}");
    for spoil in
        [Vec::clear as fn(&mut Vec<u8>), |bytes| bytes.truncate(12), |bytes| bytes[..64].fill(0), |bytes| bytes.fill(0)]
    {
        let vfs = Arc::new(sound.crash_now(CrashPolicy::All));
        vfs.edit(&log, spoil).unwrap();
        let opened = builder(&vfs, DIR, calm()).open().map(|_| ()).unwrap_err();
        assert_eq!(opened.kind(), ErrorKind::Corruption, "{opened}");
        assert!(!checked(&vfs, DIR).is_ok());
        let (report, found) = repaired(&vfs);
        assert!(!report.losses.is_empty(), "{report:#?}");
        assert!(found["default"].is_empty() && found["other"].len() == 1, "{found:?}, {report:#?}");
    }
}

/// A manifest that was cut off between two edits was called whole, and what logs held of keyspaces that it had not made yet was left out without a word.
#[test]
fn a_manifest_cut_anywhere_is_called_whole_only_where_nothing_is_missing() {
    let vfs = MemVfs::new();
    let engine = builder(&vfs, DIR, calm()).open().unwrap();
    let mut whole: BTreeMap<String, Contents> = BTreeMap::new();
    for name in ["default", "one", "two"] {
        let keyspace = engine.keyspace(name, KeyspaceOptions::default()).unwrap();
        keyspace.put("a key", name).unwrap();
        whole.insert(name.to_owned(), contents(&keyspace).unwrap());
    }
    let sound = Arc::new(vfs.crash_now(CrashPolicy::All));
    let manifest: PathBuf = all(&sound, "MANIFEST").pop().unwrap();
    let mut cut = 0;
    for keep in 0..used_bytes(&sound, &manifest) {
        let vfs = Arc::new(sound.crash_now(CrashPolicy::All));
        vfs.edit(&manifest, |bytes| bytes.truncate(keep)).unwrap();
        let (report, found) = repaired(&vfs);
        let values: Vec<_> = found.values().flat_map(Contents::values).collect();
        assert_eq!(values.len(), 3, "{keep} bytes kept: {report:#?}");
        assert!(!report.exact || found == whole, "{keep} bytes kept: {found:?}, {report:#?}");
        cut += u64::from(report.manifest_error.is_some_and(|why| why.contains("its end is missing")));
    }
    assert!(cut > 2, "{cut}");
}

/// Of a batch that turned out wrong in its middle, though its checksum was right, what came before that stayed.
#[test]
fn of_a_batch_that_is_wrong_in_its_middle_nothing_is_kept() {
    let vfs = MemVfs::new();
    let engine = builder(&vfs, DIR, calm()).open().unwrap();
    engine.put("a", "1").unwrap();
    let mut batch = WriteBatch::new();
    batch.put("b", "2").put("c", "3");
    engine.write(&batch).unwrap();
    let vfs = Arc::new(vfs.crash_now(CrashPolicy::All));
    drop(engine);
    let path = all(&vfs, ".wal").pop().unwrap();
    let mut reader = Reader::open(vfs.open_read(&path).unwrap(), "log").unwrap();
    let header = *reader.header();
    let mut records = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        records.push((record.kind, record.payload.to_vec()));
    }
    let (_, last) = records.last_mut().unwrap();
    // Behind first number and count are both operations, of one length each: kind, keyspace, length of the key, key, length of the value, value.
    let second = (12 + last.len()) / 2;
    last[second + 2] = 100;
    vfs.remove_file(&path).unwrap();
    let mut log = Writer::create(&*vfs, &path, header, &GroupSync::new(header.durable)).unwrap();
    for (kind, payload) in records.iter().filter(|(kind, _)| *kind == RecordKind::Data) {
        log.append(*kind, &[payload], Reserve::Keep).unwrap();
    }
    log.sync().unwrap();
    let (report, found) = repaired(&vfs);
    assert!(!report.is_whole());
    assert_eq!(found["default"], Contents::from([(b"a".to_vec(), b"1".to_vec())]), "{report:#?}");
    assert_eq!(report.log_operations, 1, "{report:#?}");
}
