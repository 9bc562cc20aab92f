//! What lies with who asks (no rights, no descriptors, no memory), at any operation: `repair` makes nothing then, and `verify_deep` calls nothing damaged that is not.

use crate::rebuild::NEW;
use crate::small::{DIR, small};
use esker::vfs::{CrashPolicy, Fault, FaultVfs, MemVfs, Operation, Rule, Vfs};
use esker::{DeepReport, ErrorKind, Gravity, RepairReport, repair, verify_deep};
use std::path::Path;
use std::sync::Arc;

const OPERATIONS: [Operation; 6] =
    [Operation::OpenRead, Operation::Read, Operation::LenBytes, Operation::Metadata, Operation::List, Operation::Lock];

fn of(report: &DeepReport, gravity: Gravity) -> Vec<&str> {
    report.findings.iter().filter(|found| found.gravity == gravity).map(|found| &found.file[..]).collect()
}

/// What was looked at.
fn looked_at(report: &DeepReport) -> [u64; 4] {
    [report.blocks, report.entries, report.blob_records, report.log_records]
}

fn made(report: &RepairReport) -> (usize, usize, usize, u64) {
    let keys = report.keyspaces.iter().map(|keyspace| keyspace.keys).sum();
    (report.losses.len(), report.unused.len(), report.remarks.len(), keys)
}

/// Does it while the `n`th of such operations fails, once or from there on; `None` if there are not so many.
fn faulty<T>(
    store: &MemVfs,
    (operation, fault, n, once): (Operation, Fault, u64, bool),
    work: impl FnOnce(Arc<dyn Vfs>) -> T,
) -> Option<(T, Arc<MemVfs>)> {
    let vfs = Arc::new(store.crash_now(CrashPolicy::All));
    let faults = FaultVfs::new(Arc::clone(&vfs) as Arc<dyn Vfs>);
    let rule = Rule::new(operation, fault).path(&format!("{DIR}*"));
    faults.add(if once { rule.nth(n) } else { rule.from_nth(n) });
    let done = work(Arc::clone(&faults) as Arc<dyn Vfs>);
    (faults.rules()[0].2 > 0).then_some((done, vfs))
}

/// Tries all of it on one store, and says how often something failed.
fn try_all(name: &str, store: &MemVfs, faults: &[(Fault, bool)]) -> u64 {
    let check = |vfs: Arc<dyn Vfs>| verify_deep(&vfs, DIR, &mut |_| {});
    let mend = |vfs: Arc<dyn Vfs>| repair(&vfs, DIR, NEW, &mut |_| {});
    let fork = || Arc::new(store.crash_now(CrashPolicy::All)) as Arc<dyn Vfs>;
    let (sound, mended) = (check(fork()).unwrap(), mend(fork()).map(|report| made(&report)));
    let mut tried = 0;
    for operation in OPERATIONS {
        for &(fault, once) in faults {
            for n in 1.. {
                let case = (operation, fault, n, once);
                let (checked, repaired) = (faulty(store, case, check), faulty(store, case, mend));
                if checked.is_none() && repaired.is_none() {
                    break;
                }
                let case = format!("{name}, {case:?}");
                match checked {
                    Some((Ok(report), _)) => {
                        let (damaged, unread) = (of(&report, Gravity::Damage), of(&report, Gravity::Unread));
                        let known = of(&sound, Gravity::Damage);
                        assert!(damaged.iter().all(|file| known.contains(file)), "{case}: {report:#?}");
                        let saw_all = looked_at(&report) == looked_at(&sound) && damaged == known;
                        assert!(saw_all || !unread.is_empty(), "{case}: {report:#?}");
                    }
                    Some((Err(error), _)) => assert_eq!(error.kind(), ErrorKind::Io, "{case}: {error}"),
                    None => {}
                }
                match repaired {
                    // It was tried again, and did not fail.
                    Some((Ok(report), _)) => assert_eq!(Some(made(&report)), mended.as_ref().ok().copied(), "{case}"),
                    Some((Err(error), vfs)) => {
                        let is_so_anyway = mended.as_ref().is_err_and(|known| known.kind() == error.kind());
                        assert!(error.kind() == ErrorKind::Io || is_so_anyway, "{case}: {error}");
                        assert!(vfs.metadata(Path::new(NEW)).is_err(), "{case}: it left something");
                    }
                    None => {}
                }
                tried += 1;
            }
        }
    }
    tried
}

/// Files that could not be opened, listed, measured or read counted as lost, in places as damaged, and a store of what was left was made.
#[test]
fn of_a_sound_store() {
    let faults = [(Fault::EACCES, false), (Fault::EMFILE, true), (Fault::ENOMEM, true)];
    let tried = try_all("sound", &small().vfs, &faults);
    assert!(tried > 300, "{tried}");
}

#[test]
fn of_stores_that_lack_a_file() {
    let small = small();
    let mut tried = 0;
    for name in small.vfs.list(Path::new(DIR)).unwrap().iter().filter(|name| *name != "LOCK") {
        let vfs = small.copy();
        vfs.remove_file(&Path::new(DIR).join(name)).unwrap();
        tried += try_all(&format!("without {name}"), &vfs, &[(Fault::EMFILE, true)]);
    }
    assert!(tried > 300, "{tried}");
}
