//! What must have come before what.

use std::path::Path;

use esker_vfs::{Fault, FaultVfs, MemVfs, Operation, OsVfs, Rule, TraceVfs, Vfs, replace_file};

fn path(path: &str) -> &Path {
    Path::new(path)
}

#[test]
fn events_are_those_that_change_something() {
    let vfs = TraceVfs::new(MemVfs::new());
    vfs.create_dir_all(path("/db")).unwrap();
    let mut file = vfs.create_new(path("/db/1.tmp")).unwrap();
    file.preallocate(100).unwrap();
    file.append(b"abc").unwrap();
    file.append(b"de").unwrap();
    file.trim().unwrap();
    file.sync().unwrap();
    vfs.rename(path("/db/1.tmp"), path("/db/1.sst")).unwrap();
    vfs.sync_dir(path("/db")).unwrap();
    vfs.open_read(path("/db/1.sst")).unwrap().len_bytes().unwrap();
    assert!(vfs.remove_file(path("/db/2.sst")).is_err());
    vfs.remove_file(path("/db/1.sst")).unwrap();

    let told: Vec<String> = vfs
        .events()
        .iter()
        .map(|e| format!("{:?} {} {}+{}", e.operation, e.path.display(), e.offset, e.len_bytes))
        .collect();
    let expected = [
        "CreateDirAll /db 0+0",
        "CreateNew /db/1.tmp 0+0",
        "Preallocate /db/1.tmp 0+100",
        "Append /db/1.tmp 0+3",
        "Append /db/1.tmp 3+2",
        "Trim /db/1.tmp 0+5",
        "Sync /db/1.tmp 0+0",
        "Rename /db/1.tmp 0+0",
        "SyncDir /db 0+0",
        "RemoveFile /db/1.sst 0+0",
    ];
    assert_eq!(told, expected);
    assert_eq!((vfs.count(), vfs.syncs("*"), vfs.syncs("*.sst")), (10, 1, 0));
    assert_eq!(vfs.find(Operation::Rename, "*.sst"), [7], "by either path");
}

/// Writes a table and leaves out one of the four steps that make it durable.
fn table_without(left_out: Option<usize>) -> Result<(), String> {
    let vfs = TraceVfs::new(MemVfs::new());
    let mut file = vfs.create_new(path("/1.tmp")).unwrap();
    file.append(b"half").unwrap();
    if left_out != Some(0) {
        file.append(b"rest").unwrap();
    }
    if left_out != Some(1) {
        file.sync().unwrap();
    }
    vfs.rename(path("/1.tmp"), path("/1.sst")).unwrap();
    if left_out != Some(2) {
        vfs.sync_dir(path("/")).unwrap();
    }
    if left_out == Some(3) {
        file.append(b"and more").unwrap();
    }
    vfs.check_synced_before("*.sst", vfs.count())
}

#[test]
fn a_table_is_durable_when_bytes_and_name_are() {
    assert_eq!(table_without(None), Ok(()));
    assert_eq!(table_without(Some(0)), Ok(()), "it is just shorter");
    let unsynced = table_without(Some(1)).unwrap_err();
    assert_eq!(unsynced, "before event 5: /1.sst: written by event 2, and not synced since");
    let unnamed = table_without(Some(2)).unwrap_err();
    assert_eq!(unnamed, "before event 5: /1.sst: the name is of event 4, and the directory was not synced since");
    assert!(table_without(Some(3)).unwrap_err().contains("written by event 6"), "through the old handle too");
}

#[test]
fn an_order_is_asserted_at_each_event() {
    let run = |in_order: bool| {
        let vfs = TraceVfs::new(MemVfs::new());
        let mut manifest = vfs.create_new(path("/MANIFEST-1")).unwrap();
        vfs.sync_dir(path("/")).unwrap();
        for n in 1..=3 {
            let mut table = vfs.create_new(path(&format!("/{n}.sst"))).unwrap();
            table.append(b"table").unwrap();
            if in_order || n != 2 {
                table.sync().unwrap();
            }
            vfs.sync_dir(path("/")).unwrap();
            manifest.append(b"edit").unwrap();
            manifest.sync().unwrap();
        }
        vfs.remove_file(path("/1.sst")).unwrap();
        vfs.assert_synced_at_each(Operation::RemoveFile, "*.sst", "*MANIFEST-*");
        let manifest_only_names_durable = std::panic::AssertUnwindSafe(|| {
            vfs.assert_synced_at_each(Operation::Append, "*MANIFEST-*", "*.sst");
        });
        std::panic::catch_unwind(manifest_only_names_durable).is_ok()
    };
    assert!(run(true));
    assert!(!run(false));
}

#[test]
fn a_sync_covers_only_what_came_before_it_began() {
    let vfs = TraceVfs::new(MemVfs::new());
    let mut file = vfs.create_new(path("/a")).unwrap();
    vfs.sync_dir(path("/")).unwrap();
    file.append(b"1").unwrap();
    file.sync().unwrap();
    let between = vfs.count();
    file.append(b"2").unwrap();
    vfs.assert_synced_before("/a", between);
    assert!(vfs.check_synced_before("/a", vfs.count()).is_err());
    assert!(vfs.check_synced_before("/a", 1).is_err(), "the name was not durable yet");
    vfs.assert_synced_before("/b", vfs.count());
}

#[test]
fn a_failed_sync_is_none() {
    let faults = FaultVfs::new(MemVfs::new());
    let vfs = TraceVfs::new(faults.clone());
    let mut file = vfs.create_new(path("/a")).unwrap();
    faults.add(Rule::new(Operation::Sync, Fault::EIO));
    faults.add(Rule::new(Operation::SyncDir, Fault::EIO));
    file.append(b"1").unwrap();
    assert!(file.sync().is_err() && vfs.sync_dir(path("/")).is_err());
    assert_eq!(vfs.syncs("*"), 0);
    assert!(vfs.check_synced_before("/a", vfs.count()).is_err());
}

#[test]
fn links_and_directories_take_their_state_along() {
    let vfs = TraceVfs::new(MemVfs::new());
    vfs.create_dir_all(path("/tmp")).unwrap();
    replace_file(&*vfs, path("/tmp/a"), b"a").unwrap();
    vfs.hard_link(path("/tmp/a"), path("/tmp/b")).unwrap();
    assert!(vfs.check_synced_before("/tmp/b", vfs.count()).is_err());
    vfs.sync_dir(path("/tmp")).unwrap();
    vfs.rename(path("/tmp"), path("/db")).unwrap();
    vfs.assert_synced_before("/db/*", vfs.count());
    assert!(vfs.check_synced_before("/db", vfs.count()).is_err(), "the directory's own name");
    vfs.sync_dir(path("/")).unwrap();
    vfs.assert_synced_before("*", vfs.count());
}

#[test]
fn what_was_there_before_counts_as_synced() {
    let directory = tempfile::tempdir().unwrap();
    let old = directory.path().join("old");
    OsVfs.create_new(&old).unwrap();
    let vfs = TraceVfs::new(std::sync::Arc::new(OsVfs));
    vfs.assert_synced_before("*", vfs.count());
    vfs.rename(&old, &directory.path().join("new")).unwrap();
    assert!(vfs.check_synced_before("*new", vfs.count()).is_err());
    vfs.sync_dir(directory.path()).unwrap();
    vfs.assert_synced_before("*new", vfs.count());
}
