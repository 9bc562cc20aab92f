//! Every file system passes one suite.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use esker_testkit::vfs_suite;
use esker_vfs::{FaultVfs, MemVfs, OsVfs, TraceVfs, Vfs};

/// A directory that is not the root, as there.
fn in_db(vfs: Arc<dyn Vfs>) -> (Arc<dyn Vfs>, PathBuf) {
    vfs.create_dir_all(Path::new("/db")).unwrap();
    (vfs, "/db".into())
}

#[test]
fn the_operating_system() {
    let kept = RefCell::new(Vec::new());
    vfs_suite::run(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        kept.borrow_mut().push(directory);
        (Arc::new(OsVfs), path)
    });
}

#[test]
fn memory() {
    vfs_suite::run(|| in_db(MemVfs::new()));
}

#[test]
fn memory_without_maps() {
    vfs_suite::run(|| in_db(MemVfs::new().with_maps(false)));
}

#[test]
fn memory_after_a_crash() {
    use esker_vfs::CrashPolicy::*;
    for policy in [SyncedOnly, All, TornLast, Subset(1), Subset(2), Subset(3)] {
        vfs_suite::run(|| in_db(Arc::new(MemVfs::new().crash_now(policy))));
    }
}

#[test]
fn faults_without_rules() {
    vfs_suite::run(|| in_db(FaultVfs::new(MemVfs::new())));
}

#[test]
fn trace() {
    vfs_suite::run(|| in_db(TraceVfs::new(MemVfs::new())));
}

#[test]
fn one_above_the_other() {
    vfs_suite::run(|| in_db(TraceVfs::new(FaultVfs::new(MemVfs::new().with_maps(false)))));
}
