//! Things go wrong when, where and how they are told to.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use esker_vfs::{CrashPolicy, Fault, FaultVfs, LockMode, MemVfs, Operation, Rule, Vfs, read_file, replace_file};

fn path(path: &str) -> &Path {
    Path::new(path)
}

fn setup() -> (Arc<MemVfs>, Arc<FaultVfs>) {
    let inner = MemVfs::new();
    (Arc::clone(&inner), FaultVfs::new(inner))
}

fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().map(|error| error.raw_os_error().expect("an error of the operating system"))
}

#[test]
fn errors_are_those_of_the_operating_system() {
    let (_, vfs) = setup();
    for (fault, kind) in [
        (Fault::ENOSPC, ErrorKind::StorageFull),
        (Fault::EINTR, ErrorKind::Interrupted),
        (Fault::EACCES, ErrorKind::PermissionDenied),
        (Fault::ENOMEM, ErrorKind::OutOfMemory),
    ] {
        vfs.add(Rule::new(Operation::CreateNew, fault).times(1));
        assert_eq!(vfs.create_new(path("/a")).err().map(|error| error.kind()), Some(kind));
    }
    vfs.add(Rule::new(Operation::CreateNew, Fault::EIO).times(1));
    assert_eq!(errno(vfs.create_new(path("/a"))), Some(5));
    assert!(vfs.create_new(path("/a")).is_ok());
}

/// Every kind of operation but a store can be made to fail, does nothing then, and is counted.
#[test]
fn every_operation_fails_when_told() {
    for operation in Operation::ALL.into_iter().filter(|operation| *operation != Operation::Store) {
        let (inner, vfs) = setup();
        inner.create_dir_all(path("/dir")).unwrap();
        replace_file(&*inner, path("/a"), b"bytes").unwrap();
        let mut writer = vfs.create_new(path("/w")).unwrap();
        let mut log = vfs.create_log(path("/log"), 10).unwrap();
        let changes = inner.operations();
        let reader = vfs.open_read(path("/a")).unwrap();
        vfs.add(Rule::new(operation, Fault::EIO));
        let count = vfs.count(operation);
        let failed = match operation {
            Operation::CreateNew => errno(vfs.create_new(path("/b"))),
            Operation::CreateLog => errno(vfs.create_log(path("/b"), 10)),
            Operation::OpenLog => errno(vfs.open_log(path("/log"))),
            Operation::OpenRead => errno(vfs.open_read(path("/a"))),
            Operation::Rename => errno(vfs.rename(path("/a"), path("/b"))),
            Operation::HardLink => errno(vfs.hard_link(path("/a"), path("/b"))),
            Operation::RemoveFile => errno(vfs.remove_file(path("/a"))),
            Operation::RemoveDir => errno(vfs.remove_dir(path("/dir"))),
            Operation::CreateDirAll => errno(vfs.create_dir_all(path("/new"))),
            Operation::List => errno(vfs.list(path("/"))),
            Operation::Metadata => errno(vfs.metadata(path("/a"))),
            Operation::SyncDir => errno(vfs.sync_dir(path("/"))),
            Operation::Lock => errno(vfs.lock(path("/LOCK"), LockMode::Exclusive)),
            Operation::FreeSpace => errno(vfs.free_space(path("/"))),
            Operation::Append => errno(writer.append(b"bytes")),
            Operation::Store => unreachable!("left out above"),
            Operation::Grow => errno(log.grow(20)),
            Operation::GrowWritten => errno(log.room().grow_written(20)),
            Operation::WriteOut => errno(writer.begin_write_out()),
            Operation::Preallocate => errno(writer.preallocate(1000)),
            Operation::Trim => errno(writer.trim()),
            Operation::Sync => errno(writer.sync()),
            Operation::LenBytes => errno(reader.len_bytes()),
            Operation::Read => errno(reader.read_exact_at(&mut [0], 0)),
            Operation::Map => errno(reader.map()),
        };
        assert_eq!((failed, vfs.count(operation)), (Some(5), count + 1), "{operation:?}");
        assert_eq!(vfs.rules()[0].2, 1);
        assert_eq!(inner.list(path("/")).unwrap(), ["a", "dir", "log", "w"], "{operation:?}");
        assert_eq!(inner.metadata(path("/w")).unwrap().len_bytes, 0);
        // A sync that fails is remembered; it loses what was not synced.
        assert_eq!(inner.operations() - changes, usize::from(operation == Operation::Sync), "{operation:?}");
        assert_eq!(inner.metadata(path("/log")).unwrap().len_bytes, 10);
    }
}

#[test]
fn a_store_is_counted_and_delayed_and_never_fails() {
    let (inner, vfs) = setup();
    let mut log = vfs.create_log(path("/log"), 10).unwrap();
    vfs.add(Rule::new(Operation::Store, Fault::Delay(Duration::from_secs(3))));
    vfs.add(Rule::any(Fault::EIO));
    let begin = inner.clock().now();
    log.store(2, &[b"by", b"tes"]);
    assert_eq!((vfs.count(Operation::Store), inner.clock().now() - begin), (1, Duration::from_secs(3)));
    assert_eq!(read_file(&*inner, path("/log"), 10).unwrap(), b"\0\0bytes\0\0\0");
}

#[test]
fn rules_tell_which_and_how_often() {
    let (_, vfs) = setup();
    let mut log = vfs.create_new(path("/1.wal")).unwrap();
    let mut table = vfs.create_new(path("/2.sst")).unwrap();
    let mut fails = |n: usize| -> Vec<(bool, bool)> {
        (0..n).map(|_| (log.append(b"x").is_err(), table.append(b"x").is_err())).collect()
    };
    let rule = Rule::new(Operation::Append, Fault::EIO).path("*.wal");

    vfs.add(rule.clone().nth(2));
    assert_eq!(fails(3), [(false, false), (true, false), (false, false)]);
    vfs.add(rule.clone().from_nth(2).times(2));
    assert_eq!(fails(4), [(false, false), (true, false), (true, false), (false, false)]);
    let always = vfs.add(rule.clone().path("/*"));
    assert_eq!(fails(2), [(true, true), (true, true)]);
    assert!(vfs.remove(always) && !vfs.remove(always));
    assert_eq!(fails(1), [(false, false)]);
    let struck = |rules: Vec<(_, _, u64)>| rules.into_iter().map(|(_, _, struck)| struck).collect::<Vec<_>>();
    assert_eq!(struck(vfs.rules()), [1, 2]);
    assert_eq!(struck(vfs.clear()), [1, 2]);
    assert!(vfs.rules().is_empty() && vfs.clear().is_empty());
    assert_eq!(vfs.count(Operation::Append), 20);
}

#[test]
fn chance_depends_on_the_seed() {
    let fails = |seed, chance| -> Vec<bool> {
        let vfs = FaultVfs::with_seed(MemVfs::new(), seed);
        vfs.add(Rule::new(Operation::Metadata, Fault::EIO).chance(chance));
        (0..300).map(|_| vfs.metadata(path("/")).is_err()).collect()
    };
    let count = |fails: &[bool]| fails.iter().filter(|&&failed| failed).count();
    assert_eq!(fails(1, 0.3), fails(1, 0.3));
    assert_ne!(fails(1, 0.3), fails(2, 0.3));
    assert!((60..120).contains(&count(&fails(1, 0.3))));
    assert_eq!((count(&fails(1, 0.0)), count(&fails(1, 1.0))), (0, 300));
}

/// As seen on ext4: EIO, then Ok, and the data was never written.
#[test]
fn a_sync_that_works_proves_nothing_after_one_that_failed() {
    let (inner, vfs) = setup();
    let mut file = vfs.create_new(path("/a")).unwrap();
    vfs.sync_dir(path("/")).unwrap();
    file.append(&[1; 512]).unwrap();
    file.sync().unwrap();
    file.append(&[2; 512]).unwrap();
    vfs.add(Rule::new(Operation::Sync, Fault::EIO).times(1));
    assert!(file.sync().is_err());
    file.append(&[3; 512]).unwrap();
    file.sync().expect("as if nothing had been");
    let mut expected = [[1; 512], [2; 512], [3; 512]].concat();
    assert_eq!(read_file(&*vfs, path("/a"), 2000).unwrap(), expected, "reads see all of it");
    expected[512..1024].fill(0);
    let image = inner.crash_now(CrashPolicy::SyncedOnly);
    assert_eq!(read_file(&image, path("/a"), 2000).unwrap(), expected, "what failed to sync is a hole");
    // Under other policies the hole may or may not have been filled.
    let filled = (0..100).filter(|&seed| {
        let bytes = read_file(&inner.crash_now(CrashPolicy::Subset(seed)), path("/a"), 2000).unwrap();
        assert_eq!((&bytes[..512], &bytes[1024..]), (&[1; 512][..], &[3; 512][..]));
        bytes[512] == 2
    });
    assert!((1..100).contains(&filled.count()));
}

#[test]
fn a_sector_written_again_after_a_failed_sync_is_synced_whole() {
    let (inner, vfs) = setup();
    let mut file = vfs.create_new(path("/a")).unwrap();
    vfs.sync_dir(path("/")).unwrap();
    file.append(b"one").unwrap();
    vfs.add(Rule::new(Operation::Sync, Fault::EIO).times(1));
    assert!(file.sync().is_err());
    file.append(b"two").unwrap();
    let torn = inner.crash_now(CrashPolicy::Torn { keep_bytes: 1 });
    assert_eq!(read_file(&torn, path("/a"), 10).unwrap(), b"onet");
    file.sync().unwrap();
    assert_eq!(read_file(&inner.crash_now(CrashPolicy::SyncedOnly), path("/a"), 10).unwrap(), b"onetwo");
}

#[test]
fn a_short_append_writes_a_part_and_moves_nothing() {
    let (inner, vfs) = setup();
    let mut file = vfs.create_new(path("/a")).unwrap();
    file.append(b"whole").unwrap();
    vfs.add(Rule::new(Operation::Append, Fault::SHORT));
    let mut lens = std::collections::BTreeSet::new();
    for _ in 0..100 {
        assert_eq!(file.append(&[b'x'; 8]).unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(file.position(), 5);
        lens.insert(inner.metadata(path("/a")).unwrap().len_bytes);
        file.trim().unwrap();
    }
    assert_eq!(lens, (5..13).collect());
    vfs.clear();
    file.append(b"!").unwrap();
    assert_eq!(read_file(&*vfs, path("/a"), 100).unwrap(), b"whole!");
}

#[test]
fn what_failed_may_have_been_done() {
    let (inner, vfs) = setup();
    vfs.add(Rule::any(Fault::DONE));
    assert_eq!(errno(vfs.create_new(path("/from"))), Some(5));
    assert_eq!(errno(vfs.rename(path("/from"), path("/to"))), Some(5));
    assert_eq!(inner.list(path("/")).unwrap(), ["to"]);
    assert_eq!(errno(vfs.sync_dir(path("/"))), Some(5));
    assert_eq!(inner.crash_now(CrashPolicy::SyncedOnly).list(path("/")).unwrap(), ["to"]);
    vfs.clear();

    let mut file = vfs.create_new(path("/a")).unwrap();
    vfs.add(Rule::any(Fault::DONE).path("/a"));
    assert_eq!(errno(file.append(b"bytes")), Some(5));
    assert_eq!((file.position(), read_file(&*inner, path("/a"), 10).unwrap()), (0, b"bytes".to_vec()));
    assert_eq!(errno(file.sync()), Some(5));
    inner.sync_dir(path("/")).unwrap();
    let image = inner.crash_now(CrashPolicy::SyncedOnly);
    assert_eq!(read_file(&image, path("/a"), 10).unwrap(), b"bytes");
}

#[test]
fn a_bit_is_flipped_in_what_is_read_and_nowhere_else() {
    let (inner, vfs) = setup();
    replace_file(&*inner, path("/a"), &[0; 1000]).unwrap();
    let reader = vfs.open_read(path("/a")).unwrap();
    vfs.add(Rule::any(Fault::FlipBit));
    let mut places = std::collections::BTreeSet::new();
    for _ in 0..50 {
        let mut buffer = [0; 1000];
        reader.read_exact_at(&mut buffer, 0).unwrap();
        let map = reader.map().unwrap();
        for bytes in [&buffer[..], &map] {
            assert_eq!(bytes.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
            places.insert(bytes.iter().position(|&byte| byte != 0));
        }
    }
    assert!(places.len() > 50);
    assert_eq!(read_file(&*inner, path("/a"), 1000).unwrap(), [0; 1000]);
}

#[test]
fn delays_add_up_and_the_operation_is_done() {
    let (inner, vfs) = setup();
    let before = inner.clock().now();
    vfs.add(Rule::new(Operation::SyncDir, Fault::Delay(Duration::from_millis(5))));
    vfs.add(Rule::any(Fault::Delay(Duration::from_millis(2))));
    vfs.add(Rule::new(Operation::SyncDir, Fault::EIO).nth(2));
    assert!(vfs.sync_dir(path("/")).is_ok());
    assert!(vfs.sync_dir(path("/")).is_err());
    assert!(vfs.list(path("/")).is_ok());
    assert_eq!(inner.clock().now() - before, Duration::from_millis(16));
}

#[test]
fn a_full_medium_takes_what_was_preallocated() {
    let vfs = MemVfs::new().with_space(1000);
    let mut file = vfs.create_new(path("/a")).unwrap();
    file.preallocate(600).unwrap();
    assert_eq!((vfs.free_space(path("/")).unwrap(), vfs.used_bytes()), (400, 600));
    assert_eq!(file.preallocate(1001).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(vfs.used_bytes(), 600);

    let mut other = vfs.create_new(path("/b")).unwrap();
    assert_eq!(other.append(&[1; 500]).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!((other.position(), vfs.free_space(path("/")).unwrap()), (0, 0), "what fits was written");
    file.append(&[2; 600]).unwrap();
    assert_eq!(file.append(&[2; 1]).unwrap_err().kind(), ErrorKind::StorageFull);

    // A removed file takes space as long as it is open.
    vfs.remove_file(path("/b")).unwrap();
    assert_eq!(vfs.free_space(path("/")).unwrap(), 0);
    drop(other);
    assert_eq!(vfs.free_space(path("/")).unwrap(), 400);
    file.append(&[2; 400]).unwrap();
    vfs.set_space(None);
    file.append(&[3; 1]).unwrap();
}

#[test]
fn rules_about_reads_hold_for_copies_out_of_a_guarded_map() {
    let (inner, vfs) = setup();
    replace_file(&*inner, path("/a"), &[7; 100]).unwrap();
    let id = vfs.add(Rule::new(Operation::Map, Fault::EIO));
    let file = vfs.open_read(path("/a")).unwrap();
    assert_eq!(errno(file.map_guarded()), Some(5));
    vfs.remove(id);
    let map = file.map_guarded().unwrap();
    vfs.add(Rule::new(Operation::Read, Fault::EIO).nth(1));
    vfs.add(Rule::new(Operation::Read, Fault::FlipBit).nth(1));
    let mut buffer = [0; 100];
    assert_eq!(errno(map.read_exact_at(&mut buffer, 0)), Some(5));
    map.read_exact_at(&mut buffer, 0).unwrap();
    assert_ne!(buffer, [7; 100]);
    map.read_exact_at(&mut buffer, 0).unwrap();
    assert_eq!(buffer, [7; 100]);
}
