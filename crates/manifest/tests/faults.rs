//! Operations that fail: what is acknowledged stays, what is not is poisoned or harmless, and `restart` heals.

mod support;

use esker_format::{FileNo, SeqNo};
use esker_manifest::{ManifestError, Version, VersionEdit, VersionSet};
use esker_vfs::{CrashPolicy, Fault, FaultVfs, MemVfs, Operation, Rule, Vfs};
use std::sync::Arc;
use support::{create, directory, edit, fresh, names, path, recover, shared};

fn set_on(vfs: &Arc<FaultVfs>) -> Result<VersionSet, ManifestError> {
    VersionSet::recover(Arc::clone(vfs) as Arc<dyn Vfs>, directory()).map(|(set, _)| set)
}

/// Whether the one rule has struck.
fn fired(vfs: &FaultVfs) -> bool {
    vfs.rules()[0].2 > 0
}

/// What every power cut now would leave.
fn after_power_cuts(vfs: &MemVfs) -> Vec<Arc<Version>> {
    let subsets = (0..6).map(CrashPolicy::Subset);
    let policies = [CrashPolicy::SyncedOnly, CrashPolicy::All, CrashPolicy::TornLast].into_iter().chain(subsets);
    policies.map(|policy| Arc::clone(recover(&Arc::new(vfs.crash_now(policy))).unwrap().current())).collect()
}

#[test]
fn a_failed_sync_poisons_until_a_restart() {
    let memory = fresh();
    drop(create(&memory));
    let vfs = FaultVfs::new(shared(&memory));
    let mut set = set_on(&vfs).unwrap();
    let before = set.commit(edit("clock 1")).unwrap();

    vfs.add(Rule::new(Operation::Sync, Fault::EIO).path("*MANIFEST*").nth(1));
    let error = set.commit(edit("clock 2")).unwrap_err();
    assert!(error.io().is_some() && !error.is_corruption() && !error.is_no_space());
    let syncs = vfs.count(Operation::Sync);
    for _ in 0..2 {
        assert_eq!(set.commit(edit("clock 3")).unwrap_err().to_string(), error.to_string());
    }
    assert_eq!(vfs.count(Operation::Sync), syncs, "a sync is never tried again as if it could help");
    assert_eq!(set.current(), &before);
    assert_eq!(set.poison().unwrap().to_string(), error.to_string());
    assert!(set.new_file_no().is_ok(), "reserved numbers are still given out");

    let healed = set.restart(edit("clock 4")).unwrap();
    assert_eq!((healed.clock_ms, set.poison().is_none()), (4, true));
    assert_eq!(names(&memory).len(), 2);
    let last = set.commit(edit("clock 5")).unwrap();
    assert!(after_power_cuts(&memory).iter().all(|version| *version == last));
}

/// A run with one commit of each kind. Stops at the first error; what had been acknowledged, and what was asked for then.
fn run(set: &mut VersionSet) -> Result<(), Box<(Version, ManifestError)>> {
    let step = |set: &mut VersionSet, text: &str, close: bool| {
        let wanted = set.current().apply(&edit(text)).unwrap();
        let done = if close { set.close(edit(text), wanted.last_seq) } else { set.commit(edit(text)) };
        done.map(drop).map_err(|error| Box::new((wanted, error)))
    };
    step(set, "reserve seq 9", false)?;
    step(set, "create keyspace 1 \"a\" \"\"", false)?;
    set.set_rewrite_bytes(100);
    step(set, "clock 1", false)?;
    step(set, "clock 2", true)?;
    step(set, "clock 3", false)
}

/// Whether two versions differ in what was reserved or closed at most, which a commit may add to.
fn same_content(a: &Version, b: &Version) -> bool {
    let plain = |version: &Version| Version {
        next_file: b.next_file,
        last_seq: b.last_seq,
        clean_close: false,
        ..version.clone()
    };
    plain(a) == plain(b)
}

#[test]
fn any_operation_may_fail_once_and_nothing_acknowledged_is_lost() {
    let faults = [Fault::EIO, Fault::ENOSPC, Fault::SHORT, Fault::DONE, Fault::EMFILE];
    for fault in faults {
        let mut failures = 0;
        for nth in 1.. {
            let memory = fresh();
            drop(create(&memory));
            let vfs = FaultVfs::new(shared(&memory));
            vfs.add(Rule::any(fault).nth(nth));
            let mut set = match set_on(&vfs) {
                Ok(set) => set,
                Err(error) => {
                    assert!(error.io().is_some() && !error.is_corruption(), "{error}");
                    continue;
                }
            };
            let outcome = run(&mut set);
            if !fired(&vfs) {
                assert!(outcome.is_ok() && failures > 5, "{failures} failures");
                break;
            }
            let Err(failed) = outcome else { continue };
            let (wanted, error) = *failed;
            failures += 1;
            assert!(error.io().is_some(), "{error}");
            let acknowledged = Arc::clone(set.current());
            for found in after_power_cuts(&memory) {
                assert!(
                    same_content(&found, &acknowledged) || same_content(&found, &wanted),
                    "{fault:?} at {nth}: found\n{found}acknowledged\n{acknowledged}"
                );
            }
            match set.poison() {
                None => assert!(error.is_no_space(), "{fault:?} at {nth}: {error}"),
                Some(_) => {
                    let again = set.commit(edit("clock 8")).unwrap_err();
                    assert_eq!(again.to_string(), error.to_string());
                    set.restart(edit("clock 7")).unwrap();
                }
            }
            let last = set.commit(edit("clock 9")).unwrap();
            assert!(after_power_cuts(&memory).iter().all(|version| *version == last), "{fault:?} at {nth}");
            assert_eq!(names(&memory).iter().filter(|name| name.starts_with("MANIFEST")).count(), 1);
        }
    }
}

#[test]
fn a_restart_may_fail_at_any_operation_and_be_tried_again() {
    for fault in [Fault::EIO, Fault::SHORT, Fault::DONE] {
        for nth in 1.. {
            let memory = fresh();
            drop(create(&memory));
            let vfs = FaultVfs::new(shared(&memory));
            let mut set = set_on(&vfs).unwrap();
            let before = set.commit(edit("clock 1")).unwrap();
            let id = vfs.add(Rule::new(Operation::Sync, Fault::EIO));
            set.commit(edit("clock 2")).unwrap_err();
            vfs.remove(id);
            vfs.add(Rule::any(fault).nth(nth));
            let first = set.restart(edit("clock 3"));
            if !fired(&vfs) {
                assert!(first.is_ok() && nth > 5);
                break;
            }
            if first.is_err() {
                assert!(set.poison().is_some() && set.current() == &before);
                assert!(set.commit(edit("clock 4")).is_err());
                set.restart(edit("clock 3")).unwrap();
            }
            let last = set.commit(edit("clock 5")).unwrap();
            assert!(after_power_cuts(&memory).iter().all(|version| *version == last), "{fault:?} at {nth}");
        }
    }
}

#[test]
fn creation_may_fail_at_any_operation_and_be_tried_again() {
    for fault in [Fault::EIO, Fault::SHORT, Fault::DONE] {
        for nth in 1.. {
            let memory = fresh();
            let vfs = FaultVfs::new(shared(&memory));
            vfs.add(Rule::any(fault).nth(nth));
            let first = VersionSet::create(Arc::clone(&vfs) as Arc<dyn Vfs>, directory());
            if !fired(&vfs) {
                break;
            }
            match first.or_else(|_| VersionSet::create(shared(&memory), directory())) {
                Ok(_) | Err(ManifestError::EngineExists(_)) => {}
                Err(error) => panic!("{fault:?} at {nth}: {error}"),
            }
            recover(&memory).unwrap().commit(edit("clock 1")).unwrap();
        }
    }
}

#[test]
fn a_full_disk_is_no_poison_and_the_manifest_it_has_is_used_up_first() {
    let memory = fresh();
    let mut set = create(&memory);
    set.set_rewrite_bytes(1 << 10);
    memory.set_space(Some(memory.used_bytes()));
    let manifest = set.manifest_number();
    for clock in 0..200 {
        set.commit(VersionEdit { clock_ms: Some(clock), ..VersionEdit::default() }).unwrap();
    }
    assert!(set.manifest_bytes() > 4 << 10, "there was no room to rewrite it");
    assert_eq!(names(&memory).len(), 2, "what was begun is cleared away");

    let much = edit(&format!("create keyspace 1 \"a\" \"{}\"", "x".repeat(2 << 20)));
    let before = Arc::clone(set.current());
    let error = set.commit(much.clone()).unwrap_err();
    assert!(error.is_no_space() && set.poison().is_none());
    assert_eq!(set.current(), &before);
    set.commit(edit("clock 1000")).unwrap();
    assert_eq!(set.manifest_number(), manifest);

    memory.set_space(None);
    let last = set.commit(much).unwrap();
    assert!(after_power_cuts(&memory).iter().all(|version| *version == last));
}

#[test]
fn a_full_disk_at_the_first_commit_is_no_poison_either() {
    let memory = fresh();
    drop(create(&memory));
    let mut set = recover(&memory).unwrap();
    memory.set_space(Some(memory.used_bytes() + 4096));
    for _ in 0..3 {
        let error = set.commit(edit("clock 1")).unwrap_err();
        assert!(error.is_no_space() && set.poison().is_none(), "{error}");
    }
    assert_eq!(names(&memory), ["CURRENT", "MANIFEST-000001"]);
    memory.set_space(None);
    let last = set.commit(edit("clock 2")).unwrap();
    assert!(after_power_cuts(&memory).iter().all(|version| *version == last));
}

#[test]
fn a_rewrite_that_there_is_no_room_for_is_given_up_and_not_tried_at_each_commit() {
    let memory = fresh();
    drop(create(&memory));
    let vfs = FaultVfs::new(shared(&memory));
    let mut set = set_on(&vfs).unwrap();
    set.set_rewrite_bytes(1 << 10);
    set.commit(edit("clock 0")).unwrap();
    let manifest = set.manifest_number();
    // The first new manifest gets as far as its snapshot, of which half fits; later ones not even so far.
    let next = FileNo(set.new_file_no().unwrap().0 + 1);
    vfs.add(Rule::new(Operation::Append, Fault::SHORT).path(&format!("*MANIFEST-{next}")).nth(2));
    vfs.add(Rule::new(Operation::CreateNew, Fault::ENOSPC).path("*MANIFEST*").from_nth(2));
    for clock in 1..200 {
        set.commit(VersionEdit { clock_ms: Some(clock), ..VersionEdit::default() }).unwrap();
        assert_eq!((set.manifest_number(), names(&memory).len()), (manifest, 2), "nothing begun is left");
    }
    let tries = vfs.count(Operation::CreateNew);
    assert!((3..12).contains(&tries), "{tries} tries");
}

#[test]
fn a_rewrite_that_fails_otherwise_fails_the_commit() {
    let outgrown = |rule: Rule| {
        let memory = fresh();
        drop(create(&memory));
        let vfs = FaultVfs::new(shared(&memory));
        let mut set = set_on(&vfs).unwrap();
        set.set_rewrite_bytes(1 << 10);
        set.commit(edit("clock 0")).unwrap();
        vfs.add(rule);
        let error = (1..200).find_map(|clock| {
            let done = set.commit(VersionEdit { clock_ms: Some(clock), ..VersionEdit::default() });
            assert_eq!(done.is_err(), fired(&vfs), "what fails is the commit that came to it");
            done.err()
        });
        let error = error.unwrap();
        (error.is_no_space(), set.poison().is_some())
    };
    // A device that fails is no full disk, whose manifest is used up first.
    assert_eq!(outgrown(Rule::new(Operation::CreateNew, Fault::EIO).path("*MANIFEST*").times(1)), (false, true));
    // And behind a full disk at CURRENT it is open which of the two manifests counts.
    assert_eq!(outgrown(Rule::new(Operation::Append, Fault::ENOSPC).path("*CURRENT*").times(1)), (true, true));
}

#[test]
fn what_is_in_the_way_of_a_creation_is_named() {
    let memory = fresh();
    drop(create(&memory));
    let version = Arc::clone(recover(&memory).unwrap().current());
    memory.remove_file(&support::path("CURRENT")).unwrap();
    let failing = |operation| {
        let vfs = FaultVfs::new(shared(&memory));
        vfs.add(Rule::new(operation, Fault::EIO));
        vfs as Arc<dyn Vfs>
    };
    let error = VersionSet::create(failing(Operation::RemoveFile), directory()).unwrap_err().to_string();
    assert!(error.contains("remove"), "{error}");
    let error = VersionSet::create_from(failing(Operation::Metadata), directory(), &version).unwrap_err().to_string();
    assert!(error.contains("look at"), "{error}");
    assert_eq!(names(&memory), ["MANIFEST-000001"]);
}

/// A full disk in the middle of a long write: part of it may be in the file, so this is not the full disk that changed nothing.
#[test]
fn a_full_disk_within_a_write_is_poison() {
    let memory = fresh();
    drop(create(&memory));
    let vfs = FaultVfs::new(shared(&memory));
    let mut set = set_on(&vfs).unwrap();
    set.commit(edit("clock 1")).unwrap();
    vfs.add(Rule::new(Operation::Append, Fault::SHORT).path("*MANIFEST*").times(1));
    let long = edit(&format!("create keyspace 1 \"a\" \"{}\"", "x".repeat(200 << 10)));
    let error = set.commit(long.clone()).unwrap_err();
    assert!(error.is_no_space() && set.poison().is_some());
    assert!(set.commit(edit("clock 2")).is_err());
    let last = set.restart(long).unwrap();
    assert!(after_power_cuts(&memory).iter().all(|version| *version == last));
}

/// Whoever waits for room must learn that room is what is missing, also where the manifest itself fitted.
#[test]
fn a_full_disk_at_current_is_told_as_such_and_healed_by_a_restart() {
    let memory = fresh();
    drop(create(&memory));
    for fault in [Fault::ENOSPC, Fault::EIO] {
        let vfs = FaultVfs::new(shared(&memory));
        let mut set = set_on(&vfs).unwrap();
        vfs.add(Rule::new(Operation::Append, fault).path("*CURRENT*").times(1));
        let error = set.commit(edit("clock 1")).unwrap_err();
        assert!(fired(&vfs) && matches!(error, ManifestError::Io { .. }), "{error}");
        assert_eq!((error.is_no_space(), error.is_corruption()), (fault == Fault::ENOSPC, false), "{error}");
        assert!(set.poison().is_some(), "which manifest is the current one is open");
        set.restart(edit("clock 1")).unwrap();
    }
}

/// Taken for one that was never finished, the manifest would be replaced.
#[test]
fn a_first_manifest_that_can_not_be_read_is_not_taken_for_an_interrupted_creation() {
    let memory = fresh();
    let mut set = create(&memory);
    set.commit(edit("create keyspace 1 \"a\" \"\"")).unwrap();
    drop(set);
    memory.remove_file(&support::path("CURRENT")).unwrap();
    for operation in [Operation::OpenRead, Operation::Read, Operation::LenBytes] {
        let vfs = FaultVfs::new(shared(&memory));
        vfs.add(Rule::new(operation, Fault::EIO));
        let before = memory.operations();
        let error = VersionSet::create(Arc::clone(&vfs) as Arc<dyn Vfs>, directory()).unwrap_err();
        assert!(error.io().is_some() && !error.is_corruption(), "{operation:?}: {error}");
        assert_eq!(memory.operations(), before, "nothing was touched");
    }
    assert!(VersionSet::create(shared(&memory), directory()).unwrap_err().is_corruption());
}

/// What is allocated ahead for a manifest stayed where nobody closed it, or where CURRENT could not be made to name it.
#[test]
fn a_manifest_that_is_left_takes_what_it_holds() {
    let memory = fresh();
    let faults = FaultVfs::new(Arc::clone(&memory) as Arc<dyn Vfs>);
    let vfs = Arc::clone(&faults) as Arc<dyn Vfs>;
    let len = |name: &str| memory.metadata(&path(name)).unwrap().len_bytes;
    let mut set = VersionSet::create(Arc::clone(&vfs), directory()).unwrap();
    set.commit(edit("reserve seq 50")).unwrap();
    assert!(len("MANIFEST-000001") > 100_000);
    set.give_back_room();
    assert!(len("MANIFEST-000001") < 1000);
    set.commit(edit("reserve seq 60")).unwrap();
    assert!(len("MANIFEST-000001") > 100_000, "it is asked for anew");
    drop(set);

    faults.add(Rule::new(Operation::Rename, Fault::EIO).path("*CURRENT"));
    let (mut set, _) = VersionSet::recover(vfs, directory()).unwrap();
    set.commit(edit("reserve seq 70")).unwrap_err();
    let newest = names(&memory).into_iter().filter(|name| name.starts_with("MANIFEST-")).max().unwrap();
    assert!(newest.as_str() > "MANIFEST-000001" && len(&newest) < 1000, "{newest}: {}", len(&newest));
    drop(set);
    assert_eq!(recover(&memory).unwrap().current().last_seq, SeqNo(60));
}
