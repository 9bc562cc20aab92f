//! What is known of an engine whose manifest can't be replayed, and of the logs of one whose can.

mod support;

use esker_format::checksum::crc32c;
use esker_format::{FileNo, KeyspaceId, SeqNo};
use esker_manifest::{Lsn, Salvaged, Version, VersionSet, is_outdated, salvage, salvage_edits};
use esker_vfs::{CrashPolicy, MemVfs, Vfs, read_file};
use std::sync::Arc;
use support::{create, directory, edit, forge, fresh, names, path, recover};

/// Some edits; the last of them lowers no counter, and one takes away what another brought.
const EDITS: [&str; 4] = [
    "reserve seq 500 \n reserve file 2000 \n clock 1000 \n written 5000 \n create keyspace 1 \"users\" \"ttl\" \n create keyspace 2 \"old\" \"\"",
    "add 1 L0 000002 a#1,PUT .. b#9,DEL \n add 1 L0 000003 a#10,PUT .. b#20,DEL \n flushed 1 20 \n oldest log 000004 \n log durable 4096",
    "remove 1 L0 000002 \n remove 1 L0 000003 \n add 1 L1 000003 a#10,PUT .. b#20,DEL \n drop keyspace 2",
    "clock 2000",
];

const MANIFEST: &str = "MANIFEST-000001";

fn written() -> Arc<MemVfs> {
    let vfs = fresh();
    let mut set = create(&vfs);
    for text in EDITS {
        set.commit(edit(text)).unwrap();
    }
    vfs
}

fn known(found: &Salvaged) {
    assert_eq!(found.keyspaces[&KeyspaceId(1)], ("users".to_owned(), "ttl".to_owned()));
    assert_eq!(found.tables.keys().copied().collect::<Vec<_>>(), [FileNo(3)]);
    assert_eq!(found.flushed[&KeyspaceId(1)], SeqNo(20));
    let logs = (found.oldest_log, found.log_durable);
    assert_eq!((logs, found.last_seq, found.next_file), ((FileNo(4), Lsn(4096)), SeqNo(500), FileNo(2000)));
    assert_eq!((found.clock_ms, found.written_bytes), (2000, 5000));
}

#[test]
fn of_a_whole_manifest_everything_is_known() {
    let found = salvage(&*written(), directory()).unwrap();
    known(&found);
    assert!(found.error.is_none() && found.version.is_some());
    assert_eq!(found.edits, 1 + EDITS.len() as u64);
    assert_eq!(found.next_keyspace, KeyspaceId(3));
}

#[test]
fn without_current_the_manifests_tell_what_was_and_what_went() {
    let vfs = written();
    vfs.edit(&path("CURRENT"), |bytes| bytes[0] ^= 1).unwrap();
    let found = salvage(&*vfs, directory()).unwrap();
    known(&found);
    assert!(found.error.unwrap().is_corruption() && found.version.is_none());
    assert_eq!(found.edits, 1 + EDITS.len() as u64);
    assert_eq!(found.dropped.into_iter().collect::<Vec<_>>(), [KeyspaceId(2)]);
    assert_eq!(found.removed.into_iter().collect::<Vec<_>>(), [FileNo(2)], "the other one moved");
    assert!(!found.keyspaces.contains_key(&KeyspaceId(2)));
}

/// That a keyspace was dropped says no edit of its tables: they were missed.
#[test]
fn tables_go_with_their_keyspace() {
    let vfs = fresh();
    let mut set = create(&vfs);
    for text in EDITS.into_iter().chain(["drop keyspace 1"]) {
        set.commit(edit(text)).unwrap();
    }
    vfs.edit(&path("CURRENT"), |bytes| bytes[0] ^= 1).unwrap();
    let found = salvage(&*vfs, directory()).unwrap();
    assert!(found.tables.is_empty() && found.removed.contains(&FileNo(3)), "{found:?}");
}

/// Later edits say how far the logs are durable by then, which says nothing of where the oldest one begins.
#[test]
fn the_oldest_log_begins_where_the_logs_were_durable_when_it_became_the_oldest() {
    let vfs = fresh();
    let mut set = create(&vfs);
    let begun = || VersionSet::read(&*vfs, directory()).unwrap().log_begun;
    for (text, expected) in [
        ("reserve file 2000 \n log durable 100", 0),
        ("oldest log 000004 \n log durable 4096", 4096),
        ("log durable 9000", 4096),
        ("oldest log 000007", 9000),
        ("clock 1", 9000),
    ] {
        set.commit(edit(text)).unwrap();
        assert_eq!(begun(), Lsn(expected), "after {text}");
    }
    assert_eq!(salvage(&*vfs, directory()).unwrap().log_begun, Lsn(9000));
}

/// What was known of that by the order of edits alone was lost with each manifest that was begun anew.
#[test]
fn where_the_oldest_log_begins_is_told_and_outlasts_the_manifest() {
    let vfs = fresh();
    let mut set = create(&vfs);
    for (text, expected) in [
        ("reserve file 2000 \n oldest log 000004 \n log start 4096 \n log durable 5000", Some(4096)),
        ("log durable 9000", Some(4096)),
        ("oldest log 000004", Some(4096)),
        ("oldest log 000007", None),
        ("log start 8000", Some(8000)),
        ("oldest log 000008 \n log start 9000 \n log durable 9500", Some(9000)),
    ] {
        let version = set.commit(edit(text)).unwrap();
        assert_eq!(version.log_start, expected.map(Lsn), "after {text}");
    }
    for _ in 0..2 {
        drop(set);
        let recovered;
        (set, recovered) = VersionSet::recover(Arc::clone(&vfs) as _, directory()).unwrap();
        assert_eq!((recovered.log_begun, recovered.version.log_start), (Lsn(9000), Some(Lsn(9000))));
        set.commit(edit("clock 1")).unwrap();
    }
    assert_eq!(salvage(&*vfs, directory()).unwrap().log_begun, Lsn(9000));
}

/// CURRENT and its manifest of now, to be put back later.
fn kept(vfs: &MemVfs) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let files = names(vfs).into_iter().filter(|name| name.starts_with("CURRENT") || name.starts_with("MANIFEST"));
    files.map(|name| (path(&name), read_file(vfs, &path(&name), 1 << 20).unwrap())).collect()
}

fn put_back(vfs: &MemVfs, files: &[(std::path::PathBuf, Vec<u8>)]) {
    for (path, bytes) in files {
        let _ = vfs.remove_file(path);
        vfs.create_new(path).unwrap().append(bytes).unwrap();
    }
}

/// Where CURRENT named a manifest that had been replaced, the newer one was not read; and of two that were, what the newer no longer had counted still.
#[test]
fn a_newer_manifest_counts_and_what_it_lacks_does_not() {
    for edits in [&["drop keyspace 1"][..], &["drop keyspace 1", "clock 3000"]] {
        let vfs = written();
        let old = kept(&vfs);
        let mut set = recover(&vfs).unwrap();
        for text in edits {
            set.commit(edit(text)).unwrap();
        }
        let newest = set.manifest_number();
        assert!(!is_outdated(&*vfs, directory(), newest).unwrap());
        put_back(&vfs, &old);
        let found = salvage(&*vfs, directory()).unwrap();
        known(&found);
        let number = found.manifest.unwrap();
        assert!(number < newest);
        let all = salvage_edits(&*vfs, directory()).unwrap();
        assert!(all.manifest == Some(newest) && all.version.is_none());
        // Of one that was only begun it is not known whether it ever counted.
        let has_counted = edits.len() > 1;
        assert_eq!(is_outdated(&*vfs, directory(), number).unwrap(), has_counted);
        assert_eq!(all.tables.is_empty() && all.removed.contains(&FileNo(3)), has_counted, "{all:?}");
        assert_eq!(all.dropped.contains(&KeyspaceId(1)), has_counted, "{all:?}");
    }
}

/// Of an engine that had been closed it was not known that no log was needed, once its manifest could not be replayed.
#[test]
fn that_the_engine_was_closed_is_known_by_the_last_edit() {
    let vfs = written();
    let spoiled = |vfs: &MemVfs, name: &str, at: usize| {
        let copy = vfs.crash_now(CrashPolicy::All);
        copy.edit(&path("CURRENT"), |bytes| bytes[0] ^= 1).unwrap();
        copy.edit(&path(name), |bytes| bytes[at] ^= 1).unwrap();
        salvage(&copy, directory()).unwrap().closed
    };
    assert_eq!(spoiled(&vfs, "CURRENT", 1), None);
    let mut set = recover(&vfs).unwrap();
    set.commit(edit("clock 3000")).unwrap();
    let end = set.manifest_bytes() as usize;
    set.close(edit("clock 4000"), SeqNo(20)).unwrap();
    let manifest = names(&vfs).into_iter().find(|name| name.starts_with("MANIFEST")).unwrap();
    assert_eq!(spoiled(&vfs, "CURRENT", 1), Some(SeqNo(20)));
    assert_eq!(spoiled(&vfs, &manifest, 70), Some(SeqNo(20)), "an edit before it is lost");
    assert_eq!(spoiled(&vfs, &manifest, end + 30), None, "that edit is");
    let mut set = recover(&vfs).unwrap();
    set.commit(edit("reserve seq 900")).unwrap();
    assert_eq!(spoiled(&vfs, "CURRENT", 1), None, "opened anew");
}

/// Behind an edit that can't be read, or a torn one, it is not known to be the last.
#[test]
fn what_lies_behind_the_close_may_have_opened_it_again() {
    let (snapshot, close) = (Version::new().snapshot().encode(), edit("clean seq 20 file 5").encode());
    let closed = |behind: &[&[u8]], torn: &[u8]| {
        let vfs = fresh();
        let records = [&[&snapshot[..], &close], behind].concat();
        forge(&vfs, MANIFEST, FileNo(1), &records);
        let end = 64 + records.iter().map(|record| 24 + record.len().next_multiple_of(8)).sum::<usize>();
        vfs.edit(&path(MANIFEST), |bytes| bytes[end..end + torn.len()].copy_from_slice(torn)).unwrap();
        salvage_edits(&*vfs, directory()).unwrap().closed
    };
    assert_eq!(closed(&[], b""), Some(SeqNo(20)));
    assert_eq!(closed(&[b"no edit"], b""), None);
    assert_eq!(closed(&[], b"torn"), None);
    assert_eq!(closed(&[b"no edit", &edit("clean seq 30 file 5").encode()], b""), Some(SeqNo(30)));
}

/// Under the name of a manifest a log's records are no edits of any version.
#[test]
fn newer_edits_are_those_of_a_manifest_under_its_own_name() {
    let newer = |number| {
        let vfs = fresh();
        forge(&vfs, MANIFEST, FileNo(number), &[&Version::new().snapshot().encode(), b"\xff\x01x"]);
        salvage_edits(&*vfs, directory()).unwrap().unsupported
    };
    assert!(newer(1).unwrap().is_unsupported());
    assert!(newer(7).is_none());
}

/// As a version `version` of the format would have it.
fn written_by(vfs: &MemVfs, manifest: &str, version: u8) {
    vfs.edit(&path(manifest), |bytes| {
        bytes[8] = version;
        let checksum = crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&checksum.to_le_bytes());
    })
    .unwrap();
}

/// What a newer version has written counted as damaged.
#[test]
fn what_a_newer_version_wrote_is_known_as_that() {
    let vfs = written();
    written_by(&vfs, MANIFEST, 9);
    for spoil in [false, true] {
        if spoil {
            vfs.edit(&path("CURRENT"), |bytes| bytes[0] ^= 1).unwrap();
        }
        let found = salvage(&*vfs, directory()).unwrap();
        assert!(found.unsupported.unwrap().is_unsupported() && found.edits == 0);
    }
    assert!(salvage(&*written(), directory()).unwrap().unsupported.is_none());
}

/// Of several, the one that CURRENT names is told of.
#[test]
fn what_is_told_of_is_the_manifest_in_use() {
    let vfs = written();
    let older = read_file(&*vfs, &path(MANIFEST), 1 << 20).unwrap();
    let mut set = recover(&vfs).unwrap();
    set.commit(edit("reserve seq 900")).unwrap();
    let newer = names(&vfs).into_iter().find(|name| name.starts_with("MANIFEST-")).unwrap();
    assert_ne!(newer, MANIFEST);
    vfs.create_new(&path(MANIFEST)).unwrap().append(&older).unwrap();
    written_by(&vfs, MANIFEST, 8);
    written_by(&vfs, &newer, 9);
    let found = salvage(&*vfs, directory()).unwrap();
    let (unsupported, error) = (found.unsupported.unwrap(), found.error.unwrap());
    assert_eq!(unsupported.to_string(), error.to_string());
    assert!(error.to_string().contains(&newer), "{error}");
}
