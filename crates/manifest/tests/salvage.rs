//! What is known of an engine whose manifest can't be replayed, and of the logs of one whose can.

mod support;

use esker_format::{FileNo, KeyspaceId, SeqNo};
use esker_manifest::{Lsn, Salvaged, VersionSet, salvage};
use esker_vfs::MemVfs;
use std::sync::Arc;
use support::{create, directory, edit, fresh, path};

/// Some edits; the last of them lowers no counter, and one takes away what another brought.
const EDITS: [&str; 4] = [
    "reserve seq 500 \n reserve file 2000 \n clock 1000 \n written 5000 \n create keyspace 1 \"users\" \"ttl\" \n create keyspace 2 \"old\" \"\"",
    "add 1 L0 000002 a#1,PUT .. b#9,DEL \n add 1 L0 000003 a#10,PUT .. b#20,DEL \n flushed 1 20 \n oldest log 000004 \n log durable 4096",
    "remove 1 L0 000002 \n remove 1 L0 000003 \n add 1 L1 000003 a#10,PUT .. b#20,DEL \n drop keyspace 2",
    "clock 2000",
];

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
