//! Repairs that fail, of devices that fail: the original stays, and nothing is left of what did not come to its end.

use crate::rebuild::{NEW, judge, read_back, repaired_in};
use crate::small::{DIR, builder, bytes, calm, checked, files, small};
use esker::vfs::{Fault, FaultVfs, Operation, Rule, Vfs};
use esker::{Engine, ErrorKind, repair, verify_deep};
use std::path::Path;
use std::sync::{Arc, Barrier};

/// Whichever operation in the new directory fails: an error, and nothing is left there.
#[test]
fn what_fails_is_taken_back() {
    let small = small();
    for n in (1..60).step_by(3) {
        let vfs = small.copy();
        let before = bytes(&vfs, DIR);
        let faults = FaultVfs::new(Arc::clone(&vfs) as Arc<dyn Vfs>);
        faults.add(Rule::any(Fault::ENOSPC).path("/new/*").nth(n));
        match repair(&(Arc::clone(&faults) as Arc<dyn Vfs>), DIR, NEW, &mut |_| {}) {
            Ok(_) => assert!(checked(&vfs, NEW).is_ok(), "{n}"),
            Err(_) => assert!(vfs.metadata(Path::new(NEW)).is_err(), "{n}: {:?}", files(&vfs, NEW)),
        }
        assert!(bytes(&vfs, DIR) == before, "{n}");
    }
}

/// A medium that gives nothing any more from some read on: what was read is right, and what was not is told.
#[test]
fn places_that_cant_be_read_are_losses() {
    let small = small();
    let mut tried = 0;
    for n in (1..).step_by(3) {
        let vfs = small.copy();
        let faults = FaultVfs::new(Arc::clone(&vfs) as Arc<dyn Vfs>);
        let rule = faults.add(Rule::new(Operation::Read, Fault::EIO).path("/data/*").from_nth(n));
        let report = repair(&(Arc::clone(&faults) as Arc<dyn Vfs>), DIR, NEW, &mut |_| {}).unwrap();
        if faults.rules().iter().any(|(id, _, struck)| *id == rule && *struck == 0) {
            break;
        }
        tried += 1;
        let (report, found) = read_back(&vfs, report);
        judge(&small, &report, &found, &format!("from read {n} on"));
        assert!(!report.is_whole(), "from read {n} on: {report:#?}");
    }
    assert!(tried > 10, "{tried}");
}

/// What failed left behind the directories above the new one that had been made for it.
#[test]
fn directories_made_for_what_fails_are_removed() {
    let small = small();
    for n in 1..8 {
        let vfs = small.copy();
        vfs.create_dir_all(Path::new("/there")).unwrap();
        let faults = FaultVfs::new(Arc::clone(&vfs) as Arc<dyn Vfs>);
        faults.add(Rule::any(Fault::ENOSPC).path("/there/a/b*").from_nth(2 + n).times(1));
        repair(&(Arc::clone(&faults) as Arc<dyn Vfs>), DIR, "/there/a/b", &mut |_| {}).unwrap_err();
        assert!(vfs.metadata(Path::new("/there/a")).is_err(), "{n}");
        assert!(vfs.metadata(Path::new("/there")).is_ok(), "{n}");
    }
    // Once it is locked, which may take the last descriptor that is left.
    let vfs = small.copy();
    let faults = FaultVfs::new(Arc::clone(&vfs) as Arc<dyn Vfs>);
    faults.add(Rule::new(Operation::List, Fault::EMFILE).path("/there/a/b"));
    repair(&(Arc::clone(&faults) as Arc<dyn Vfs>), DIR, "/there/a/b", &mut |_| {}).unwrap_err();
    assert!(vfs.metadata(Path::new("/there")).is_err(), "{:?}", vfs.list(Path::new("/there/a/b")));
}

/// What was written and could not be opened to be read back was said to have come out wrong.
#[test]
fn what_cant_be_read_back_is_not_damaged() {
    let small = small();
    for files in ["/new/*.sst", "/new/*.blob", "/new/MANIFEST*", "/new/CURRENT"] {
        for n in 1.. {
            let vfs = small.copy();
            let faults = FaultVfs::new(Arc::clone(&vfs) as Arc<dyn Vfs>);
            faults.add(Rule::new(Operation::OpenRead, Fault::EMFILE).path(files).nth(n));
            let repaired = repair(&(Arc::clone(&faults) as Arc<dyn Vfs>), DIR, NEW, &mut |_| {});
            if faults.rules()[0].2 == 0 {
                assert!(n > 2, "{files} {n}");
                break;
            }
            let error = repaired.expect_err(&format!("{files} {n}"));
            assert_eq!(error.kind(), ErrorKind::Io, "{files} {n}: {error}");
            assert!(vfs.metadata(Path::new(NEW)).is_err(), "{files} {n}");
        }
    }
}

#[test]
fn where_it_may_not_write_it_does_not() {
    let small = small();
    let vfs = small.copy();
    for inside in ["/data", "/data/new", "/data/./a/../new", "/other/../data/x", "/none/../lnk/new"] {
        assert_eq!(repaired_in(&vfs, inside).unwrap_err().kind(), ErrorKind::InvalidArgument, "{inside}");
    }
    vfs.create_dir_all(Path::new("/full")).unwrap();
    vfs.create_new(Path::new("/full/something")).unwrap();
    assert_eq!(repaired_in(&vfs, "/full").unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(files(&vfs, "/full").len(), 1);
    let as_vfs = Arc::clone(&vfs) as Arc<dyn Vfs>;
    assert_eq!(repair(&as_vfs, "/none", NEW, &mut |_| {}).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(repair(&as_vfs, "/full", NEW, &mut |_| {}).unwrap_err().kind(), ErrorKind::NotFound);
    let engine = builder(&vfs, DIR, calm()).open().unwrap();
    assert_eq!(repair(&as_vfs, DIR, NEW, &mut |_| {}).unwrap_err().kind(), ErrorKind::Locked);
    engine.close().unwrap();
    assert!(vfs.metadata(Path::new(NEW)).is_err(), "nothing is left of what failed");
    let reader: Engine = builder(&vfs, DIR, calm()).read_only(true).open().unwrap();
    repaired_in(&vfs, NEW).unwrap();
    drop(reader);
}

/// The new directory was locked only when the manifest had been read: of two repairs into one, the second removed what the first had made and called sound.
#[test]
fn of_two_into_one_directory_one_is_whole() {
    let small = small();
    for round in 0..20 {
        let vfs = small.copy();
        let barrier = Barrier::new(2);
        let into = || {
            barrier.wait();
            repair(&(Arc::clone(&vfs) as Arc<dyn Vfs>), DIR, NEW, &mut |_| {})
        };
        let results = std::thread::scope(|scope| [scope.spawn(into), scope.spawn(into)].map(|one| one.join().unwrap()));
        let refused: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
        let [refused] = refused[..] else { panic!("round {round}: {results:?}") };
        assert!(matches!(refused.kind(), ErrorKind::Locked | ErrorKind::InvalidArgument), "round {round}: {refused}");
        assert!(checked(&vfs, NEW).is_ok(), "round {round}: {:?}", files(&vfs, NEW));
    }
}

/// Without the file LOCK nobody had a lock: an engine opened the damaged directory for writing while it was read, and changed it.
#[test]
fn nobody_opens_it_for_writing_meanwhile() {
    let small = small();
    for has_file in [true, false] {
        let vfs = small.copy();
        if !has_file {
            vfs.remove_file(&Path::new(DIR).join("LOCK")).unwrap();
        }
        let as_vfs = Arc::clone(&vfs) as Arc<dyn Vfs>;
        let mut tried = 0;
        let mut intrude = || {
            tried += 1;
            assert_eq!(builder(&vfs, DIR, calm()).open().unwrap_err().kind(), ErrorKind::Locked);
        };
        assert!(verify_deep(&as_vfs, DIR, &mut |_| intrude()).unwrap().is_ok());
        assert!(repair(&as_vfs, DIR, NEW, &mut |_| intrude()).unwrap().is_whole());
        let reader = builder(&vfs, DIR, calm()).read_only(true).open().unwrap();
        intrude();
        drop(reader);
        assert!(tried > 2, "{tried}");
        assert_eq!(vfs.metadata(&Path::new(DIR).join("LOCK")).is_ok(), has_file, "no file is made");
    }
}
