//! What every [`Vfs`] has to do, whatever it stands on.

use std::io::ErrorKind::{
    AlreadyExists, DirectoryNotEmpty, IsADirectory, NotADirectory, NotFound, UnexpectedEof, Unsupported, WouldBlock,
};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use esker_vfs::{LockMode, LogMap, Vfs, read_file, replace_file};

/// Runs the whole suite. `make` gives a file system and an empty directory in it, anew for each part.
///
/// # Panics
/// Where the file system does something else than it should.
pub fn run(make: impl Fn() -> (Arc<dyn Vfs>, PathBuf)) {
    let parts: [Part; 24] = [
        a_file_reads_as_it_was_appended,
        a_new_file_never_replaces_one,
        what_is_not_there_is_not_found,
        a_directory_is_not_a_file_nor_a_file_a_directory,
        a_rename_replaces,
        a_renamed_directory_takes_its_files_along,
        a_link_is_another_name,
        an_open_file_outlives_its_name,
        directories_are_made_listed_and_removed,
        an_exclusive_lock_is_alone,
        shared_locks_stand_side_by_side,
        a_lock_holds_whatever_becomes_of_its_file,
        preallocated_bytes_read_as_zeros_until_trimmed,
        a_torn_append_is_written_over,
        a_sync_may_run_beside_appends,
        a_file_is_synced_by_its_name_too,
        a_map_is_the_whole_file,
        a_guarded_map_reads_as_its_file,
        a_log_reads_as_it_was_stored,
        a_log_grows_beside_stores_and_is_trimmed,
        a_log_may_live_twice,
        who_makes_room_in_a_log_that_is_gone_leaves_the_next_one_alone,
        a_replaced_file_is_whole,
        time_space_and_chance,
    ];
    for part in parts {
        let (vfs, directory) = make();
        part(&*vfs, &directory);
    }
}

type Part = fn(&dyn Vfs, &Path);

fn write(vfs: &dyn Vfs, path: &Path, bytes: &[u8]) {
    vfs.create_new(path).unwrap().append(bytes).unwrap();
}

fn read(vfs: &dyn Vfs, path: &Path) -> Vec<u8> {
    read_file(vfs, path, u64::MAX).unwrap()
}

#[track_caller]
fn fails<T>(result: io::Result<T>, kind: ErrorKind) {
    assert_eq!(result.err().map(|error| error.kind()), Some(kind));
}

fn a_file_reads_as_it_was_appended(vfs: &dyn Vfs, directory: &Path) {
    let path = directory.join("file");
    let mut writer = vfs.create_new(&path).unwrap();
    let reader = vfs.open_read(&path).unwrap();
    assert_eq!((writer.position(), reader.len_bytes().unwrap()), (0, 0));

    let mut model = Vec::new();
    for len in [0, 1, 511, 512, 513, 4095, 4096, 4097, 1 << 20] {
        let bytes: Vec<u8> = (0..len).map(|i| (i * 7 + len) as u8).collect();
        writer.append(&bytes).unwrap();
        model.extend(bytes);
        // Seen at once by those who have it open.
        assert_eq!((writer.position(), reader.len_bytes().unwrap()), (model.len() as u64, model.len() as u64));
    }
    assert_eq!(read(vfs, &path), model);
    assert_eq!(vfs.metadata(&path).unwrap().len_bytes, model.len() as u64);
    assert!(!vfs.metadata(&path).unwrap().is_dir);

    let mut buffer = vec![0; 5000];
    for offset in [0, 1, 4095, 4096, model.len() - 5000] {
        reader.read_exact_at(&mut buffer, offset as u64).unwrap();
        assert_eq!(buffer, model[offset..offset + 5000]);
    }
    fails(reader.read_exact_at(&mut buffer, model.len() as u64 - 4999), UnexpectedEof);
    fails(reader.read_exact_at(&mut buffer, 1 << 40), UnexpectedEof);
    reader.read_exact_at(&mut [], model.len() as u64).unwrap();
    fails(read_file(vfs, &path, model.len() as u64 - 1), ErrorKind::FileTooLarge);
}

fn a_new_file_never_replaces_one(vfs: &dyn Vfs, directory: &Path) {
    let path = directory.join("file");
    write(vfs, &path, b"old");
    fails(vfs.create_new(&path), AlreadyExists);
    fails(vfs.create_new(directory), AlreadyExists);
    assert_eq!(read(vfs, &path), b"old");
}

fn what_is_not_there_is_not_found(vfs: &dyn Vfs, directory: &Path) {
    let (path, other) = (directory.join("none"), directory.join("other"));
    for place in [&path, &path.join("below")] {
        fails(vfs.open_read(place), NotFound);
        fails(vfs.metadata(place), NotFound);
        fails(vfs.rename(place, &other), NotFound);
        fails(vfs.hard_link(place, &other), NotFound);
        fails(vfs.remove_file(place), NotFound);
        fails(vfs.remove_dir(place), NotFound);
        fails(vfs.list(place), NotFound);
        fails(vfs.sync_dir(place), NotFound);
        fails(vfs.free_space(place), NotFound);
    }
    fails(vfs.create_new(&path.join("below")), NotFound);
    fails(vfs.lock(&path.join("below"), LockMode::Exclusive), NotFound);
    fails(vfs.lock(&path.join("below"), LockMode::Shared), NotFound);
    write(vfs, &other, b"");
    fails(vfs.rename(&other, &path.join("below")), NotFound);
    fails(vfs.hard_link(&other, &path.join("below")), NotFound);
    assert_eq!(vfs.list(directory).unwrap(), ["other"]);
}

fn a_directory_is_not_a_file_nor_a_file_a_directory(vfs: &dyn Vfs, directory: &Path) {
    let (file, sub) = (directory.join("file"), directory.join("sub"));
    write(vfs, &file, b"file");
    vfs.create_dir_all(&sub).unwrap();

    fails(vfs.open_read(&sub), IsADirectory);
    fails(vfs.rename(&file, &sub), IsADirectory);
    fails(vfs.rename(&sub, &file), NotADirectory);
    fails(vfs.remove_dir(&file), NotADirectory);
    fails(vfs.list(&file), NotADirectory);
    fails(vfs.create_new(&file.join("below")), NotADirectory);
    fails(vfs.open_read(&file.join("below")), NotADirectory);
    fails(vfs.create_dir_all(&file), AlreadyExists);
    fails(vfs.create_dir_all(&file.join("below")), NotADirectory);
    fails(vfs.hard_link(&sub, &directory.join("link")), Unsupported);
    // Which error it is differs between operating systems.
    assert!(vfs.remove_file(&sub).is_err());

    assert_eq!(vfs.list(directory).unwrap(), ["file", "sub"]);
    assert_eq!(read(vfs, &file), b"file");
}

fn a_rename_replaces(vfs: &dyn Vfs, directory: &Path) {
    let (from, to) = (directory.join("from"), directory.join("to"));
    write(vfs, &from, b"new");
    write(vfs, &to, b"old");
    let old = vfs.open_read(&to).unwrap();
    vfs.rename(&from, &to).unwrap();
    assert_eq!(vfs.list(directory).unwrap(), ["to"]);
    assert_eq!(read(vfs, &to), b"new");
    let mut buffer = [0; 3];
    old.read_exact_at(&mut buffer, 0).unwrap();
    assert_eq!(&buffer, b"old");

    vfs.rename(&to, &to).unwrap();
    vfs.rename(&to, &from).unwrap();
    assert_eq!((vfs.list(directory).unwrap(), read(vfs, &from)), (vec!["from".to_owned()], b"new".to_vec()));
}

fn a_renamed_directory_takes_its_files_along(vfs: &dyn Vfs, directory: &Path) {
    let (from, to) = (directory.join("from"), directory.join("to"));
    vfs.create_dir_all(&from).unwrap();
    vfs.create_dir_all(&to).unwrap();
    write(vfs, &from.join("file"), b"file");
    vfs.rename(&from, &to).unwrap();
    assert_eq!(vfs.list(directory).unwrap(), ["to"]);
    assert_eq!(read(vfs, &to.join("file")), b"file");

    vfs.create_dir_all(&from).unwrap();
    fails(vfs.rename(&from, &to), DirectoryNotEmpty);
    assert!(vfs.rename(&to, &to.join("below")).is_err());
    assert_eq!(vfs.list(directory).unwrap(), ["from", "to"]);
}

fn a_link_is_another_name(vfs: &dyn Vfs, directory: &Path) {
    let (one, two) = (directory.join("one"), directory.join("two"));
    let mut file = vfs.create_new(&one).unwrap();
    file.append(b"a").unwrap();
    vfs.hard_link(&one, &two).unwrap();
    fails(vfs.hard_link(&one, &two), AlreadyExists);
    file.append(b"b").unwrap();
    assert_eq!((read(vfs, &one), read(vfs, &two)), (b"ab".to_vec(), b"ab".to_vec()));
    // Two names of one file: a rename does nothing.
    vfs.rename(&one, &two).unwrap();
    assert_eq!(vfs.list(directory).unwrap(), ["one", "two"]);
    vfs.remove_file(&one).unwrap();
    assert_eq!(vfs.list(directory).unwrap(), ["two"]);
    assert_eq!(read(vfs, &two), b"ab");
}

fn an_open_file_outlives_its_name(vfs: &dyn Vfs, directory: &Path) {
    let path = directory.join("file");
    let mut writer = vfs.create_new(&path).unwrap();
    writer.append(b"first").unwrap();
    let reader = vfs.open_read(&path).unwrap();
    // Without anything new to begin with too.
    writer.begin_write_out().and_then(|()| writer.begin_write_out()).unwrap();
    vfs.remove_file(&path).unwrap();
    vfs.sync_dir(directory).unwrap();
    fails(vfs.metadata(&path), NotFound);
    write(vfs, &path, b"another");

    writer.append(b" second").unwrap();
    writer.sync().unwrap();
    let mut buffer = [0; 12];
    reader.read_exact_at(&mut buffer, 0).unwrap();
    assert_eq!((&buffer, reader.len_bytes().unwrap()), (b"first second", 12));
    assert_eq!(read(vfs, &path), b"another");
}

fn directories_are_made_listed_and_removed(vfs: &dyn Vfs, directory: &Path) {
    let deep = directory.join("a/b/c");
    vfs.create_dir_all(&deep).unwrap();
    vfs.create_dir_all(&deep).unwrap();
    vfs.create_dir_all(directory).unwrap();
    assert!(vfs.metadata(&deep).unwrap().is_dir);
    for name in ["z", "é", "B", "10", "9"] {
        write(vfs, &deep.join(name), b"");
    }
    assert_eq!(vfs.list(&deep).unwrap(), ["10", "9", "B", "z", "é"]);
    assert_eq!(vfs.list(directory).unwrap(), ["a"]);
    vfs.sync_dir(&deep).unwrap();

    fails(vfs.remove_dir(&deep), DirectoryNotEmpty);
    for name in vfs.list(&deep).unwrap() {
        vfs.remove_file(&deep.join(name)).unwrap();
    }
    vfs.remove_dir(&deep).unwrap();
    fails(vfs.list(&deep), NotFound);
    assert_eq!(vfs.list(&directory.join("a/b")).unwrap(), Vec::<String>::new());
}

fn an_exclusive_lock_is_alone(vfs: &dyn Vfs, directory: &Path) {
    let path = directory.join("LOCK");
    let lock = vfs.lock(&path, LockMode::Exclusive).unwrap();
    assert_eq!(vfs.list(directory).unwrap(), ["LOCK"]);
    fails(vfs.lock(&path, LockMode::Exclusive), WouldBlock);
    fails(vfs.lock(&path, LockMode::Shared), WouldBlock);
    // The same file by another path, and from another thread.
    let detour = directory.join(".").join("..").join(directory.file_name().unwrap()).join("LOCK");
    std::thread::scope(|scope| {
        scope.spawn(|| fails(vfs.lock(&detour, LockMode::Exclusive), WouldBlock));
    });
    // A directory has one lock, whatever its file is called; another directory another.
    fails(vfs.lock(&directory.join("OTHER"), LockMode::Exclusive), WouldBlock);
    let below = directory.join("below");
    vfs.create_dir_all(&below).unwrap();
    let other = vfs.lock(&below.join("LOCK"), LockMode::Exclusive).unwrap();
    drop(lock);
    let again = vfs.lock(&path, LockMode::Exclusive).unwrap();
    drop((again, other));
    // A refused lock leaves nothing behind, no file either.
    drop(vfs.lock(&path, LockMode::Shared).unwrap());
    drop(vfs.lock(&path, LockMode::Exclusive).unwrap());
    drop(vfs.lock(&directory.join("none"), LockMode::Shared).unwrap());
    fails(vfs.lock(&below, LockMode::Exclusive), IsADirectory);
    fails(vfs.lock(&below, LockMode::Shared), IsADirectory);
    drop(vfs.lock(&path, LockMode::Exclusive).unwrap());
    assert_eq!(vfs.list(directory).unwrap(), ["LOCK", "below"]);

    // Of many who come at once, one gets it.
    let barrier = std::sync::Barrier::new(8);
    let held = std::thread::scope(|scope| {
        let attempt = || {
            barrier.wait();
            let lock = vfs.lock(&path, LockMode::Exclusive);
            barrier.wait();
            lock.is_ok()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(attempt)).collect();
        threads.into_iter().map(|thread| usize::from(thread.join().unwrap())).sum::<usize>()
    });
    assert_eq!(held, 1);
}

fn shared_locks_stand_side_by_side(vfs: &dyn Vfs, directory: &Path) {
    let path = directory.join("LOCK");
    // Without the file too, once held by nobody: a damaged directory was read while an engine opened it and wrote.
    let lock = vfs.lock(&path, LockMode::Shared).unwrap();
    fails(vfs.lock(&path, LockMode::Exclusive), WouldBlock);
    drop((vfs.lock(&path, LockMode::Shared).unwrap(), lock));
    assert_eq!(vfs.list(directory).unwrap(), Vec::<String>::new(), "a shared lock makes no file");
    drop(vfs.lock(&path, LockMode::Exclusive).unwrap());

    let one = vfs.lock(&path, LockMode::Shared).unwrap();
    let two = vfs.lock(&path, LockMode::Shared).unwrap();
    fails(vfs.lock(&path, LockMode::Exclusive), WouldBlock);
    drop(one);
    fails(vfs.lock(&path, LockMode::Exclusive), WouldBlock);
    drop(two);
    drop(vfs.lock(&path, LockMode::Exclusive).unwrap());
}

/// Once, removing the lock file let a second process in beside the first.
fn a_lock_holds_whatever_becomes_of_its_file(vfs: &dyn Vfs, directory: &Path) {
    let (path, aside) = (directory.join("LOCK"), directory.join("aside"));
    let changes: [&dyn Fn(); 3] =
        [&|| vfs.remove_file(&path).unwrap(), &|| vfs.rename(&path, &aside).unwrap(), &|| {
            write(vfs, &aside, b"");
            vfs.rename(&aside, &path).unwrap();
        }];
    for (change, is_there) in changes.into_iter().zip([false, false, true]) {
        let _ = vfs.remove_file(&aside);
        let lock = vfs.lock(&path, LockMode::Exclusive).unwrap();
        change();
        fails(vfs.lock(&path, LockMode::Exclusive), WouldBlock);
        fails(vfs.lock(&path, LockMode::Shared), WouldBlock);
        assert_eq!(vfs.metadata(&path).is_ok(), is_there, "who is refused makes no file");
        drop(lock);

        drop(vfs.lock(&path, LockMode::Exclusive).unwrap());
        let lock = vfs.lock(&path, LockMode::Shared).unwrap();
        let _ = vfs.remove_file(&aside);
        change();
        fails(vfs.lock(&path, LockMode::Exclusive), WouldBlock);
        drop((vfs.lock(&path, LockMode::Shared).unwrap(), lock));
        assert_eq!(vfs.metadata(&path).is_ok(), is_there);
    }
}

fn preallocated_bytes_read_as_zeros_until_trimmed(vfs: &dyn Vfs, directory: &Path) {
    let path = directory.join("file");
    let mut file = vfs.create_new(&path).unwrap();
    file.preallocate(100_000).unwrap();
    assert_eq!(file.position(), 0);
    file.append(b"bytes").unwrap();
    file.preallocate(10).unwrap();
    file.sync().unwrap();
    let bytes = read(vfs, &path);
    assert!([5, 100_000].contains(&bytes.len()), "the file has {} bytes", bytes.len());
    assert!(bytes.starts_with(b"bytes") && bytes[5..].iter().all(|&byte| byte == 0));

    file.trim().unwrap();
    assert_eq!(read(vfs, &path), b"bytes");
    file.append(b" and more").unwrap();
    file.trim().unwrap();
    file.preallocate(1000).unwrap();
    file.preallocate(2000).unwrap();
    file.append(&[7; 3000]).unwrap();
    let bytes = read(vfs, &path);
    assert_eq!((bytes.len(), bytes.starts_with(b"bytes and more\x07")), (3014, true));

    // More than any medium has: refused, and nothing has changed.
    assert!(file.preallocate(1 << 60).is_err());
    assert_eq!((file.position(), read(vfs, &path).len()), (3014, 3014));
    file.append(b"!").unwrap();
    assert_eq!(read(vfs, &path).len(), 3015);
}

fn a_torn_append_is_written_over(vfs: &dyn Vfs, directory: &Path) {
    let path = directory.join("file");
    let mut file = vfs.create_new(&path).unwrap();
    file.append(b"one ").unwrap();
    file.append_torn(b"torn, and rather long").unwrap();
    assert_eq!(file.position(), 4);
    file.append(b"two").unwrap();
    assert!(read(vfs, &path).starts_with(b"one two"));
    file.trim().unwrap();
    assert_eq!(read(vfs, &path), b"one two");
}

fn a_sync_may_run_beside_appends(vfs: &dyn Vfs, directory: &Path) {
    let path = directory.join("file");
    let mut file = vfs.create_new(&path).unwrap();
    let syncer = file.syncer();
    std::thread::scope(|scope| {
        scope.spawn(|| (0..5).for_each(|_| syncer.sync().unwrap()));
        for i in 0..100u8 {
            file.append(&[i; 100]).unwrap();
        }
    });
    drop(file);
    syncer.sync().unwrap();
    let bytes = read(vfs, &path);
    assert_eq!(bytes.len(), 10_000);
    assert!(bytes.chunks(100).enumerate().all(|(i, chunk)| chunk == [i as u8; 100]));
}

fn a_file_is_synced_by_its_name_too(vfs: &dyn Vfs, directory: &Path) {
    let path = directory.join("file");
    fails(vfs.open_sync(&path), NotFound);
    write(vfs, &path, b"written and closed");
    let sync = vfs.open_sync(&path).unwrap();
    sync.sync().unwrap();
    vfs.remove_file(&path).unwrap();
    sync.sync().unwrap();
}

fn a_map_is_the_whole_file(vfs: &dyn Vfs, directory: &Path) {
    let path = directory.join("file");
    let bytes: Vec<u8> = (0..100_000u32).map(|i| (i / 3) as u8).collect();
    write(vfs, &path, &bytes);
    let map = match vfs.open_read(&path).unwrap().map() {
        Err(error) if error.kind() == Unsupported => return,
        map => map.unwrap(),
    };
    vfs.remove_file(&path).unwrap();
    let copy = map.clone();
    drop(map);
    assert_eq!(*copy, *bytes);

    write(vfs, &path, b"");
    assert_eq!(*vfs.open_read(&path).unwrap().map().unwrap(), []);
}

fn a_guarded_map_reads_as_its_file(vfs: &dyn Vfs, directory: &Path) {
    let path = directory.join("file");
    let bytes: Vec<u8> = (0..100_000u32).map(|i| (i / 3) as u8).collect();
    write(vfs, &path, &bytes);
    let map = match vfs.open_read(&path).unwrap().map_guarded() {
        Err(error) if error.kind() == Unsupported => return,
        map => map.unwrap(),
    };
    vfs.remove_file(&path).unwrap();
    assert_eq!(map.len_bytes().unwrap(), 100_000);
    for (offset, len) in [(0, 100_000), (0, 0), (100_000, 0), (99_999, 1), (4095, 2), (17, 70_000)] {
        let mut read = vec![0xee; len];
        map.read_exact_at(&mut read, offset as u64).unwrap();
        assert_eq!(read, bytes[offset..offset + len]);
    }
    for (offset, len) in [(0, 100_001), (100_000, 1), (u64::MAX, 1), (u64::MAX - 1, 2)] {
        fails(map.read_exact_at(&mut vec![0; len], offset), UnexpectedEof);
    }
    map.read_ahead(90_000..u64::MAX);
    assert_eq!(map.mapped().unreadable_pages, 0);
}

/// None where logs can't be mapped, and then the file is not there either.
fn create_log(vfs: &dyn Vfs, path: &Path, len_bytes: u64) -> Option<Box<dyn LogMap>> {
    match vfs.create_log(path, len_bytes) {
        Err(error) if error.kind() == Unsupported => {
            fails(vfs.metadata(path), NotFound);
            None
        }
        log => Some(log.unwrap()),
    }
}

fn a_log_reads_as_it_was_stored(vfs: &dyn Vfs, directory: &Path) {
    let path = directory.join("log");
    let Some(mut log) = create_log(vfs, &path, 100_000) else { return };
    fails(vfs.create_log(&path, 1), AlreadyExists);
    fails(vfs.create_log(&directory.join("none/log"), 1), NotFound);
    let reader = vfs.open_read(&path).unwrap();
    let mut model = vec![0; 100_000];
    assert_eq!((log.len_bytes(), read(vfs, &path)), (100_000, model.clone()));
    for (offset, len) in [(0, 64), (64, 1), (4090, 12), (512, 512), (99_999, 1), (50_000, 0), (8_000, 40_000)] {
        let bytes: Vec<u8> = (0..len).map(|i| (i * 7 + offset) as u8).collect();
        let (front, back) = bytes.split_at(len / 3);
        log.store(offset as u64, &[front, &[], back]);
        model[offset..offset + len].copy_from_slice(&bytes);
        // Seen at once by those who have it open.
        let mut buffer = vec![0; 100_000];
        reader.read_exact_at(&mut buffer, 0).unwrap();
        assert!(buffer == model);
    }
    log.syncer().sync().unwrap();
    drop(log);
    assert_eq!(read(vfs, &path), model);

    // Larger than any medium: refused, and not there.
    let huge = directory.join("huge");
    assert!(vfs.create_log(&huge, 1 << 60).is_err());
    fails(vfs.metadata(&huge), NotFound);
}

fn a_log_grows_beside_stores_and_is_trimmed(vfs: &dyn Vfs, directory: &Path) {
    let path = directory.join("log");
    let Some(mut log) = create_log(vfs, &path, 4096) else { return };
    let room = log.room();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for step in 2..40 {
                if step % 2 == 0 {
                    room.grow(step * 5000).unwrap()
                } else {
                    room.grow_written(step * 5000).unwrap()
                }
                room.populate(step * 4000, step * 6000);
            }
        });
        let mut at = 0;
        while at < 39 * 5000 {
            let now = log.len_bytes();
            log.store(at, &[&vec![at as u8 | 1; (now - at) as usize]]);
            at = now;
        }
    });
    assert_eq!((log.len_bytes(), room.len_bytes()), (195_000, 195_000));
    assert!(read(vfs, &path).iter().all(|byte| *byte != 0), "what was stored is not written over");

    log.grow(10).unwrap();
    log.grow(200_000).unwrap();
    assert_eq!(log.len_bytes(), 200_000);
    log.store(199_990, &[b"0123456789"]);
    assert!(log.grow(1 << 60).is_err());
    assert_eq!((log.len_bytes(), read(vfs, &path).len()), (200_000, 200_000));
    log.trim(5).unwrap();
    assert_eq!((log.len_bytes(), read(vfs, &path).len()), (5, 5));
    room.grow(10_000).unwrap();
    let bytes = read(vfs, &path);
    assert!(bytes.len() == 10_000 && bytes[..5] != [0; 5] && bytes[5..].iter().all(|byte| *byte == 0));
    let beyond = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| log.store(9_999, &[b"ab"])));
    assert!(beyond.is_err(), "a store beyond the end");
}

fn a_log_may_live_twice(vfs: &dyn Vfs, directory: &Path) {
    let (old, new) = (directory.join("old"), directory.join("new"));
    fails(vfs.open_log(&old).map(drop), if create_log(vfs, &new, 1).is_some() { NotFound } else { Unsupported });
    let Some(mut log) = create_log(vfs, &old, 10_000) else { return };
    log.store(0, &[b"first life"]);
    drop(log);
    vfs.rename(&old, &new).unwrap();
    vfs.sync_dir(directory).unwrap();
    let mut log = vfs.open_log(&new).unwrap();
    assert_eq!(log.len_bytes(), 10_000);
    log.store(0, &[b"again"]);
    log.syncer().sync().unwrap();
    assert_eq!(&read(vfs, &new)[..11], b"again life\0");
}

/// Room was once made by who had begun to before the log ended, over what its file's second life had stored there; and where space ran out, the file was cut.
fn who_makes_room_in_a_log_that_is_gone_leaves_the_next_one_alone(vfs: &dyn Vfs, directory: &Path) {
    let path = directory.join("log");
    let Some(log) = create_log(vfs, &path, 10_000) else { return };
    let room = log.room();
    drop(log);
    let mut log = vfs.open_log(&path).unwrap();
    log.grow(50_000).unwrap();
    log.store(0, &[&[7; 50_000]]);
    room.grow_written(20_000).unwrap();
    room.grow(30_000).unwrap();
    // Larger than any medium, so it fails if it is tried at all.
    let _ = room.grow(1 << 60);
    assert!(read(vfs, &path) == [7; 50_000]);
}

fn a_replaced_file_is_whole(vfs: &dyn Vfs, directory: &Path) {
    let path = directory.join("file");
    for bytes in [&b"first"[..], b"", b"and a longer one"] {
        replace_file(vfs, &path, bytes).unwrap();
        assert_eq!(read(vfs, &path), bytes);
        assert_eq!(vfs.list(directory).unwrap(), ["file"]);
    }
    // What an earlier attempt has left is in nobody's way.
    write(vfs, &directory.join("file.tmp"), b"left over");
    replace_file(vfs, &path, b"new").unwrap();
    assert_eq!((read(vfs, &path), vfs.list(directory).unwrap()), (b"new".to_vec(), vec!["file".to_owned()]));
}

fn time_space_and_chance(vfs: &dyn Vfs, directory: &Path) {
    let (now, wall) = (vfs.clock().now(), vfs.clock().unix_ms());
    vfs.clock().sleep(Duration::from_millis(5));
    assert!(vfs.clock().now() >= now + Duration::from_millis(5));
    assert!(wall > 1_500_000_000_000 && vfs.clock().unix_ms() >= wall);

    assert!(vfs.free_space(directory).unwrap() > 0);

    let mut numbers: Vec<u64> = (0..100).map(|_| vfs.random()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 100);
}
