//! The life of a version set: creation, commits, reopening, closing, rewriting.

mod support;

use esker_format::{FileNo, KeyspaceId, SeqNo};
use esker_manifest::{EditError, EditReader, Found, ManifestError, Version, VersionEdit, VersionSet, probe};
use esker_vfs::{MemVfs, Operation, TraceVfs, Vfs};
use std::path::Path;
use std::sync::Arc;
use support::{create, directory, edit, fresh, names, path, recover, shared, tables};

#[test]
fn what_was_committed_is_there_after_reopening() {
    let vfs = fresh();
    assert_eq!(probe(&*vfs, directory()).unwrap(), Found::Nothing);
    assert!(matches!(recover(&vfs), Err(ManifestError::NoEngine(_))));

    let mut set = create(&vfs);
    assert_eq!(names(&vfs), ["CURRENT", "MANIFEST-000001"]);
    let table = set.new_file_no().unwrap();
    assert_eq!(table, FileNo(2), "1 is the manifest's");
    set.commit(edit("reserve seq 1000 \n create keyspace 1 \"users\" \"ttl\"")).unwrap();
    let version = set.commit(edit(&format!("add 0 L0 {table} a#1,PUT .. c#9,DEL \n flushed 0 9"))).unwrap();
    assert_eq!(&version, set.current());
    drop(set);

    assert_eq!(probe(&*vfs, directory()).unwrap(), Found::Engine);
    assert!(matches!(VersionSet::create(shared(&vfs), directory()), Err(ManifestError::EngineExists(_))));
    let set = recover(&vfs).unwrap();
    assert_eq!(set.current(), &version);
    assert_eq!(tables(set.current(), 0), [2]);
    assert_eq!(set.current().keyspace_named("users").unwrap().options, "ttl");
}

#[test]
fn opening_writes_nothing_and_the_first_commit_starts_a_new_manifest() {
    let vfs = fresh();
    let version = create(&vfs).commit(edit("reserve seq 10")).unwrap();
    let operations = vfs.operations();
    let read = VersionSet::read(&*vfs, directory()).unwrap();
    assert_eq!((read.version, read.manifest, read.edits), (Arc::clone(&version), FileNo(1), 2));
    let mut set = recover(&vfs).unwrap();
    assert_eq!((set.manifest_number(), set.manifest_bytes()), (FileNo(1), 0));
    assert_eq!(vfs.operations(), operations);

    set.commit(edit("reserve seq 20")).unwrap();
    assert_eq!(set.manifest_number(), FileNo(1002), "above everything that was reserved");
    assert_eq!(names(&vfs), ["CURRENT", "MANIFEST-001002"]);
    let read = VersionSet::read(&*vfs, directory()).unwrap();
    assert_eq!((&read.version, read.edits), (set.current(), 1));
}

#[test]
fn a_file_number_is_never_given_out_twice_and_zero_never() {
    let vfs = fresh();
    let mut given = Vec::new();
    for _ in 0..3 {
        let mut set = recover(&vfs).or_else(|_| VersionSet::create(shared(&vfs), directory())).unwrap();
        for _ in 0..1500 {
            given.push(set.new_file_no().unwrap());
        }
        given.push(set.manifest_number());
    }
    let count = given.len();
    given.sort();
    given.dedup();
    assert_eq!(given.len(), count);
    assert!(given[0] > FileNo(0));
}

#[test]
fn after_a_clean_close_numbers_go_on_where_they_stopped() {
    let vfs = fresh();
    let mut set = create(&vfs);
    set.commit(edit("reserve seq 1000000")).unwrap();
    let last = set.new_file_no().unwrap();
    let closed = set.close(edit("clock 5000"), SeqNo(17)).unwrap();
    assert_eq!((closed.last_seq, closed.next_file), (SeqNo(17), FileNo(last.0 + 1)));
    assert!(closed.clean_close);
    drop(set);

    let mut set = recover(&vfs).unwrap();
    assert_eq!(set.current(), &closed);
    assert_eq!(set.new_file_no().unwrap(), FileNo(last.0 + 2), "one went to the manifest of this reservation");
    assert!(!set.current().clean_close);
    assert_eq!(set.current().last_seq, SeqNo(17), "sequence numbers are reserved when the engine asks for it");
    drop(set);

    let set = recover(&vfs).unwrap();
    assert!(set.current().next_file > FileNo(1000) && !set.current().clean_close, "not closed: above the reservation");
}

#[test]
fn closing_may_be_the_first_commit_and_may_be_followed_by_others() {
    let vfs = fresh();
    drop(create(&vfs));
    let mut set = recover(&vfs).unwrap();
    let closed = set.close(VersionEdit::default(), SeqNo(0)).unwrap();
    assert!(closed.clean_close && closed.next_file > set.manifest_number());
    assert_eq!(VersionSet::read(&*vfs, directory()).unwrap().version, closed);

    let again = set.commit(edit("clock 1")).unwrap();
    assert!(!again.clean_close);
    assert_eq!(VersionSet::read(&*vfs, directory()).unwrap().version, again);
    let closed = set.close(VersionEdit::default(), SeqNo(0)).unwrap();
    let again = set.close(VersionEdit::default(), SeqNo(0)).unwrap();
    assert!(again.clean_close && again.next_file > closed.next_file);
    assert_eq!(recover(&vfs).unwrap().current(), &again);
}

#[test]
fn an_edit_that_does_not_fit_writes_nothing_and_harms_nothing() {
    let vfs = fresh();
    let mut set = create(&vfs);
    let before = Arc::clone(set.current());
    let operations = vfs.operations();
    let error = set.commit(edit("add 0 L0 000002 a#1,PUT .. b#2,PUT")).unwrap_err();
    assert!(matches!(error, ManifestError::Edit(EditError::Table { .. })), "{error}");
    let error = set.commit(Version::new().snapshot()).unwrap_err();
    assert!(matches!(error, ManifestError::Edit(EditError::Snapshot)), "{error}");
    assert!(set.close(VersionEdit::default(), SeqNo(1)).is_err(), "beyond what was reserved");
    assert_eq!((vfs.operations(), set.current()), (operations, &before));
    set.commit(edit("reserve seq 2 \n add 0 L0 000002 a#1,PUT .. b#2,PUT")).unwrap();
}

#[test]
fn a_manifest_much_larger_than_what_it_says_is_rewritten() {
    let vfs = fresh();
    let mut set = create(&vfs);
    set.set_rewrite_bytes(4 << 10);
    set.commit(edit("reserve seq 1000")).unwrap();
    let mut manifests = vec![set.manifest_number()];
    let mut largest = 0;
    for clock in 0..1000 {
        let version = set.commit(VersionEdit { clock_ms: Some(clock), ..VersionEdit::default() }).unwrap();
        assert_eq!(VersionSet::read(&*vfs, directory()).unwrap().version, version);
        largest = largest.max(set.manifest_bytes());
        if manifests.last() != Some(&set.manifest_number()) {
            manifests.push(set.manifest_number());
            assert_eq!(names(&vfs).len(), 2, "the old one is gone");
        }
    }
    assert!((5..50).contains(&manifests.len()), "{} manifests", manifests.len());
    assert!(largest < (4 << 10) + 200, "{largest} bytes");
}

#[test]
fn a_manifest_that_is_being_closed_is_not_rewritten() {
    let vfs = fresh();
    let mut set = create(&vfs);
    set.set_rewrite_bytes(0);
    let number = set.manifest_number();
    set.close(VersionEdit::default(), SeqNo(0)).unwrap();
    assert_eq!(set.manifest_number(), number);
}

#[test]
fn a_manifest_that_is_large_because_there_is_much_to_say_is_not_rewritten_each_time() {
    let vfs = fresh();
    let mut set = create(&vfs);
    set.set_rewrite_bytes(1 << 10);
    let tables: String = (2..902).map(|n| format!("add 0 L1 {n:06} k{n:06}#1,PUT .. k{n:06}x#9,PUT\n")).collect();
    set.commit(edit(&format!("reserve seq 1000 \n {tables}"))).unwrap();
    let live = set.manifest_bytes();
    let mut manifests = 1;
    let mut number = set.manifest_number();
    for clock in 0..2000 {
        set.commit(VersionEdit { clock_ms: Some(clock), ..VersionEdit::default() }).unwrap();
        manifests += usize::from(number != set.manifest_number());
        number = set.manifest_number();
        assert!(set.manifest_bytes() < 2 * live + 200);
    }
    assert!(manifests <= 3, "{manifests} manifests");
}

/// The new version's options grow byte by byte, until the manifest before them is no longer than twice what there is to say.
#[test]
fn a_manifest_is_rewritten_once_it_is_longer_than_twice_its_live_content() {
    let mut kept_at = None;
    for len in 0..200 {
        let vfs = fresh();
        let mut set = create(&vfs);
        set.set_rewrite_bytes(0);
        let (before, number) = (set.manifest_bytes(), set.manifest_number());
        let version = set.commit(edit(&format!("create keyspace 1 \"a\" \"{}\"", "x".repeat(len)))).unwrap();
        let live = version.snapshot().encode().len() as u64;
        assert_eq!(set.manifest_number() != number, before > 2 * live, "{before} bytes, {live} of them live");
        if set.manifest_number() == number {
            kept_at.get_or_insert((before, live));
        }
    }
    let (before, live) = kept_at.unwrap();
    assert_eq!(before, 2 * live, "the limit itself was met");
}

#[test]
fn a_thousand_keyspaces_with_tables_come_back() {
    let vfs = fresh();
    let mut set = create(&vfs);
    let mut first = edit("reserve seq 100000");
    first.create_keyspaces = (1..=1000).map(|n| (KeyspaceId(n), format!("keyspace {n}"), String::new())).collect();
    set.commit(first).unwrap();
    for n in 1..=1000 {
        let number = set.new_file_no().unwrap();
        set.commit(edit(&format!("add {n} L0 {number} a#{n},PUT .. b#{n},PUT \n flushed {n} {n}"))).unwrap();
    }
    let again = recover(&vfs).unwrap();
    assert_eq!(again.current(), set.current());
    assert_eq!(again.current().tables().count(), 1000);
}

/// Each of these orders, broken, loses an engine at a power cut.
#[test]
fn everything_is_on_stable_storage_before_it_is_relied_on() {
    let trace = TraceVfs::new(fresh());
    let vfs: Arc<dyn Vfs> = Arc::clone(&trace) as Arc<dyn Vfs>;
    let mut set = VersionSet::create(Arc::clone(&vfs), directory()).unwrap();
    set.set_rewrite_bytes(500);
    for clock in 0..60 {
        set.commit(VersionEdit { clock_ms: Some(clock), ..VersionEdit::default() }).unwrap();
        let manifest = path(&format!("MANIFEST-{}", set.manifest_number()));
        trace.assert_synced_before(manifest.to_str().unwrap(), trace.count());
    }
    assert!(trace.find(Operation::Rename, "*CURRENT").len() > 2, "created and rewritten");
    assert!(trace.find(Operation::RemoveFile, "*MANIFEST-*").len() > 2);
    // CURRENT names only what is durable, and what it named before goes only when it is durable itself.
    trace.assert_synced_at_each(Operation::Rename, "*CURRENT", "*MANIFEST-*");
    trace.assert_synced_at_each(Operation::RemoveFile, "*MANIFEST-*", "*CURRENT");
    for switch in trace.find(Operation::Rename, "*CURRENT") {
        let last = |operation| trace.find(operation, "*CURRENT.tmp").into_iter().rfind(|event| *event < switch);
        assert!(last(Operation::Sync) > last(Operation::Append), "CURRENT has its bytes before it has its name");
    }
}

#[test]
fn a_copy_of_an_engine_starts_from_its_version() {
    let vfs = fresh();
    let mut set = create(&vfs);
    let table = set.new_file_no().unwrap();
    let version = set.commit(edit(&format!("reserve seq 9 \n add 0 L0 {table} a#1,PUT .. c#9,DEL"))).unwrap();

    let copy = Path::new("/copy");
    vfs.create_dir_all(copy).unwrap();
    vfs.create_new(&copy.join(format!("{table}.sst"))).unwrap();
    assert!(VersionSet::create(shared(&vfs), copy).is_err(), "tables without CURRENT are no new engine");
    let made = VersionSet::create_from(shared(&vfs), copy, &version).unwrap();
    assert!(made.manifest_number() >= version.next_file, "a number that was not given out");
    let (again, recovered) = VersionSet::recover(shared(&vfs), copy).unwrap();
    assert_eq!((again.current(), recovered.edits), (made.current(), 1));
    let counters = Version { next_file: version.next_file, ..Version::clone(again.current()) };
    assert_eq!(counters, *version, "but for file numbers");
    let refused = VersionSet::create_from(shared(&vfs), copy, &version).unwrap_err();
    assert!(matches!(refused, ManifestError::EngineExists(_)));
}

#[test]
fn a_manifest_can_be_read_edit_by_edit() {
    let vfs = fresh();
    let mut set = create(&vfs);
    set.commit(edit("reserve seq 7")).unwrap();
    set.close(edit("clock 3"), SeqNo(7)).unwrap();
    let file = vfs.open_read(&path("MANIFEST-000001")).unwrap();
    let mut reader = EditReader::open(file, "MANIFEST-000001").unwrap();
    assert_eq!(reader.header().number, FileNo(1));
    let mut edits = Vec::new();
    while let Some((_, edit)) = reader.next_edit().unwrap() {
        edits.push(edit);
    }
    assert!(edits[0].snapshot);
    assert_eq!(edits[1..], [edit("reserve seq 7"), edit("clock 3 \n clean seq 7 file 2")]);
    let end = reader.end().unwrap();
    assert!(end.vouched < end.position, "the marker vouches for the edits, nothing for itself");
    assert_eq!(
        vfs.metadata(&path("MANIFEST-000001")).unwrap().len_bytes,
        end.position.0,
        "nothing allocated ahead is left"
    );
}

#[test]
fn a_directory_that_is_not_there_is_an_io_error() {
    let vfs: Arc<dyn Vfs> = MemVfs::new();
    for error in [
        VersionSet::create(Arc::clone(&vfs), Path::new("/none")).unwrap_err(),
        VersionSet::recover(Arc::clone(&vfs), Path::new("/none")).unwrap_err(),
    ] {
        assert_eq!(error.io().unwrap().kind(), std::io::ErrorKind::NotFound, "{error}");
    }
}
