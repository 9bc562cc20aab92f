//! Tables and blob files that can't be read any more while they are open: cut by another program, or on a device that fails.
//!
//! Read in place, through a map, that ends the process; in any other way it is an error, and of what can be read nothing is lost. What ends a process runs in one of its own.

#[path = "mapped/shelf.rs"]
mod shelf;

use esker::vfs::{CrashPolicy, Fault, FaultVfs, MemVfs, Operation, Rule, Vfs};
use esker::{Background, Engine, Error, ErrorKind, ReadMode, Verify};
use esker_testkit::disk::{Disk, Kind};
use esker_testkit::stress;
use shelf::{LETTERS, Seen, files, fill, look, open, options};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const CHILD: &str = "ESKER_MAPPED_TEST_CHILD";
const SIGBUS: i32 = 7;

/// All but that in which blocks are used where they lie in a map.
const COPIED: [(ReadMode, Verify); 5] = [
    (ReadMode::GuardedMap, Verify::FirstUse),
    (ReadMode::GuardedMap, Verify::Always),
    (ReadMode::Pread, Verify::FirstUse),
    (ReadMode::Pread, Verify::Always),
    (ReadMode::Map, Verify::Always),
];
const IN_PLACE: (ReadMode, Verify) = (ReadMode::Map, Verify::FirstUse);

/// Tables in order of number, which is that of the letters.
fn tables(dir: &Path) -> Vec<PathBuf> {
    files(dir, ".sst")
}

/// Opens, says so, waits until the harm is done, and reads all there is.
fn child(spec: &str) {
    let [mode, keys, dir] = spec.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{spec}") };
    let (keys, mode) = (keys.parse().unwrap(), COPIED.get(mode.parse::<usize>().unwrap()).unwrap_or(&IN_PLACE));
    let engine = Engine::builder(dir).options(options(*mode)).read_only(true).open().unwrap();
    let all_before = look(&engine, &LETTERS[..1], keys);
    assert_eq!(all_before.failed, 0);
    println!(" open");
    std::io::stdin().read_exact(&mut [0]).unwrap();
    let seen = LETTERS.map(|letter| look(&engine, &[letter], keys));
    // Each by itself again, and in one walk.
    assert!(seen.iter().map(|seen| seen.failed).sum::<usize>() == 0 || engine.iter().any(|item| item.is_err()));
    let metrics = engine.metrics();
    let seen = seen.map(|seen| seen.failed.to_string()).join(" ");
    println!(" seen {} {seen}", metrics.unreadable_pages);
}

/// What a process sees of a store to which `harm` is done while it is open: how many pages were made errors, and how many keys of each letter failed; or the signal that it died by.
fn seen_by(
    test: &str,
    dir: &Path,
    keys: usize,
    mode: (ReadMode, Verify),
    harm: impl FnOnce(),
) -> Result<Vec<usize>, i32> {
    let number = COPIED.iter().position(|other| *other == mode).unwrap_or(COPIED.len());
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, format!("{number} {keys} {}", dir.display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.ends_with(" open")), "{mode:?}: it does not open");
    harm();
    process.stdin.take().unwrap().write_all(b"x").unwrap();
    let seen = lines.find_map(|line| {
        let (_, numbers) = line.split_once(" seen ")?;
        Some(numbers.split(' ').map(|number| number.parse().unwrap()).collect())
    });
    let status = process.wait().unwrap();
    match seen {
        Some(seen) if status.success() => Ok(seen),
        _ => Err(status.signal().unwrap_or_else(|| panic!("{mode:?}: {status}"))),
    }
}

#[test]
fn a_cut_table_kills_who_reads_it_in_place_and_nobody_else() {
    if let Ok(spec) = std::env::var(CHILD) {
        return child(&spec);
    }
    let keys = 200;
    for mode in COPIED.into_iter().chain([IN_PLACE]) {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path(), keys);
        let table = &tables(dir.path())[2];
        let cut = || File::options().write(true).open(table).unwrap().set_len(4096).unwrap();
        let seen = seen_by("a_cut_table_kills_who_reads_it_in_place_and_nobody_else", dir.path(), keys, mode, cut);
        if mode == IN_PLACE {
            assert_eq!(seen, Err(SIGBUS));
            continue;
        }
        let seen = seen.unwrap_or_else(|signal| panic!("{mode:?}: died by signal {signal}"));
        assert_eq!(seen[0] > 0, mode.0 == ReadMode::GuardedMap, "{mode:?}: {seen:?}");
        for (letter, failed) in LETTERS.iter().zip(&seen[1..]) {
            assert_eq!(*failed > 100, *letter == LETTERS[2], "{mode:?}: {letter}: {failed} of {keys} failed");
        }
    }
}

/// A device that ends too early: it gives `EIO` for what lies behind. Linux as root, with loop devices.
#[test]
fn a_device_that_fails_kills_who_reads_in_place_and_nobody_else() {
    if let Ok(spec) = std::env::var(CHILD) {
        return child(&spec);
    }
    let keys = 2000;
    for mode in [COPIED[0], COPIED[2], COPIED[4], IN_PLACE] {
        let disk = match Disk::new(Kind::Ext4, 64 << 20) {
            Ok(disk) => disk,
            Err(why) => return stress::skip("mapped", &why),
        };
        let dir = disk.at.join("db");
        fill(&dir, keys);
        let contents: Vec<_> = tables(&dir).iter().map(|table| std::fs::read(table).unwrap()).collect();
        disk.unmount();
        disk.mount_read_only().unwrap();
        // The table that lies last loses its second half, and whatever else lies behind that.
        let middle = |bytes: &[u8]| disk.place_of(bytes, (bytes.len() / 2) & !4095);
        let (place, hit) = contents.iter().zip(0..).map(|(bytes, i)| (middle(bytes), i)).max().unwrap();
        let mut is_read = Vec::new();
        let seen = seen_by("a_device_that_fails_kills_who_reads_in_place_and_nobody_else", &dir, keys, mode, || {
            disk.end_at(place, &files(&dir, ""));
            let is_io = |error: std::io::Error| assert_eq!(error.raw_os_error(), Some(5), "{error}");
            let is_whole = |path: &PathBuf| std::fs::read(path).map_err(is_io).is_ok();
            is_read = tables(&dir).iter().zip(&files(&dir, ".blob")).map(|(a, b)| is_whole(a) & is_whole(b)).collect();
        });
        if is_read[hit] {
            return stress::skip("mapped", "a loop device whose image is cut gives no EIO on this system");
        }
        assert!(is_read.iter().any(|whole| *whole), "something is left");
        match seen {
            Err(signal) => assert_eq!((mode, signal), (IN_PLACE, SIGBUS)),
            Ok(seen) => {
                assert_ne!(mode, IN_PLACE, "read through a map, and alive: {seen:?}");
                assert_eq!(seen[0] > 0, mode.0 == ReadMode::GuardedMap, "{mode:?}: {seen:?}");
                assert!(seen[1 + hit] > 0, "{mode:?}: {seen:?}, of {hit}");
                for (failed, whole) in seen[1..].iter().zip(&is_read) {
                    assert!(*failed == 0 || !whole, "{mode:?}: {seen:?}, where the system reads {is_read:?}");
                }
            }
        }
    }
}

/// A table or blob file is cut somewhere by another program, while several threads read: each answer is right or an error, what lies elsewhere is served, compaction takes nothing away, and
/// with the bytes back and the engine opened anew all is there.
#[test]
fn whatever_is_cut_under_an_open_engine_nothing_is_wrong_or_lost() {
    for round in stress::rounds("mapped", 10) {
        let random = round.seed().wrapping_add(7).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mode = COPIED[(round.seed() % COPIED.len() as u64) as usize];
        cut_somewhere(mode, random, &format!("seed {}, {mode:?}", round.seed()));
        round.tried(1);
    }
}

/// Has threads end when it is dropped, though by a panic.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn cut_somewhere(mode: (ReadMode, Verify), random: u64, name: &str) {
    let (dir, keys) = (tempfile::tempdir().unwrap(), 60);
    fill(dir.path(), keys);
    let engine = open(dir.path(), mode);
    assert_eq!(look(&engine, &LETTERS, keys).failed, 0, "{name}");
    let is_blob = random >> 62 == 0;
    let (kind, hit) = (if is_blob { ".blob" } else { ".sst" }, (random >> 40) as usize % LETTERS.len());
    let path = &files(dir.path(), kind)[hit];
    let bytes = std::fs::read(path).unwrap();
    // With a whole page missing at least, at any byte or between pages.
    let len = (random >> 8) as usize % (bytes.len() * 8 / 10);
    let len = if random.is_multiple_of(2) { len & !4095 } else { len };
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    drop(look(&engine, &LETTERS, keys))
                }
            });
        }
        // Whatever comes of it: the others would go on for ever.
        let _done = Done(&is_done);
        File::options().write(true).open(path).unwrap().set_len(len as u64).unwrap();
        look(&engine, &LETTERS, keys);
    });

    let after = |engine: &Engine| {
        let others: Vec<char> = LETTERS.into_iter().filter(|letter| *letter != LETTERS[hit]).collect();
        let Seen { failed, .. } = look(engine, &others, keys);
        assert_eq!(failed, 0, "{name}: what is elsewhere");
        look(engine, &LETTERS[hit..=hit], keys)
    };
    let seen = after(&engine);
    assert!(seen.failed > 0, "{name}: {len} of {} bytes are left of {path:?}, and nothing is missing", bytes.len());
    let file = path.file_name().unwrap().to_str().unwrap();
    for error in &seen.errors {
        assert!(error.to_string().contains(file), "{name}: {error}");
        assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::Corruption), "{name}: {error}");
    }
    let is_page = |error: &Error| {
        error.kind() == ErrorKind::Io && error.to_string().contains("of the mapped file could not be read")
    };
    let is_guarded = mode.0 == ReadMode::GuardedMap;
    assert_eq!(seen.errors.iter().any(is_page), is_guarded, "{name}: {:?}", seen.errors);
    assert_eq!(engine.metrics().unreadable_pages > 0, is_guarded, "{name}");

    let are_new_there = |engine: &Engine| {
        let all =
            LETTERS.iter().all(|letter| engine.get(format!("{letter}x")).unwrap().is_some_and(|found| found == b"new"));
        assert!(all, "{name}: what was written meanwhile");
    };
    // Writing goes on, and compaction leaves what it can't read.
    LETTERS.iter().for_each(|letter| engine.put(format!("{letter}x"), "new").unwrap());
    engine.flush().unwrap();
    let compacted = engine.compact_range(..);
    if !is_blob {
        assert!(matches!(compacted.unwrap_err().kind(), ErrorKind::Io | ErrorKind::Corruption), "{name}");
        let number: u64 = file[..6].parse().unwrap();
        assert!(engine.metrics().quarantined_tables.contains(&number), "{name}");
    }
    after(&engine);
    are_new_there(&engine);
    assert!(!engine.verify().unwrap().is_ok(), "{name}");

    // The bytes are back. What was found missing stays so, in this engine.
    File::options().write(true).open(path).unwrap().write_all_at(&bytes, 0).unwrap();
    assert_eq!(after(&engine).failed > 0, is_guarded, "{name}");
    engine.close().unwrap();
    drop(engine);
    let engine = open(dir.path(), mode);
    assert_eq!(look(&engine, &LETTERS, keys).failed, 0, "{name}: opened anew");
    assert!(engine.verify().unwrap().is_ok(), "{name}");
    engine.compact_range(..).unwrap();
    assert_eq!((look(&engine, &LETTERS, keys).failed, engine.metrics().unreadable_pages), (0, 0), "{name}");
    are_new_there(&engine);
}

/// A table that is read in place was never checked again once it was written, by compaction neither: what rotted below went into a new table, with a checksum that passes, and all
/// evidence went with the old one.
#[test]
fn what_rots_below_a_map_is_never_made_into_a_new_table() {
    let directory = tempfile::tempdir().unwrap();
    let open = || open(directory.path(), IN_PLACE);
    let engine = open();
    let value = |i: usize| format!("value {i:04} of all");
    (0..500).map(|i| i * 7919 % 500).for_each(|i| engine.put(format!("{i:04}"), value(i)).unwrap());
    engine.flush().unwrap();
    let table = tables(directory.path()).pop().unwrap();
    let bytes = std::fs::read(&table).unwrap();
    let at = bytes.windows(10).position(|part| part == b"value 0333").unwrap();
    let below = File::options().write(true).open(&table).unwrap();
    below.write_all_at(b"V", at as u64).unwrap();

    engine.put("0000", "to be compacted with").unwrap();
    engine.flush().unwrap();
    let refused = engine.compact_range(..).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corruption, "{refused}");
    assert!(table.exists());
    drop(engine);
    assert_eq!(open().get("0333").unwrap_err().kind(), ErrorKind::Corruption);
    below.write_all_at(b"v", at as u64).unwrap();
    let engine = open();
    engine.compact_range(..).unwrap();
    assert!((1..500).all(|i| engine.get(format!("{i:04}")).unwrap().unwrap() == value(i).as_bytes()));
}

/// Of each table and blob file whose length is not what the manifest says no byte is read nor mapped, whoever opens it: to read, to write behind a crash, to compact, to verify. `verify_deep` and `repair` read them, and map none.
#[test]
fn no_file_of_another_length_is_mapped() {
    let memory = MemVfs::new();
    let dir = Path::new("/data");
    let on = |vfs: &Arc<dyn Vfs>, mode| {
        Engine::builder(dir).vfs(Arc::clone(vfs)).options(options(mode)).background(Background::Manual)
    };
    let below: Arc<dyn Vfs> = Arc::clone(&memory) as _;
    let engine = on(&below, IN_PLACE).open().unwrap();
    shelf::put_all(&engine, 40);
    engine.put("in the log", "alone").unwrap();
    let crashed = memory.crash_now(CrashPolicy::All);
    drop(engine);
    let names = crashed.list(dir).unwrap();
    let mut tried = 0;
    for name in names.iter().filter(|name| name.ends_with(".sst") || name.ends_with(".blob")) {
        let path = dir.join(name);
        for by in [-4096_i64, 1] {
            for mode in COPIED.into_iter().chain([IN_PLACE]) {
                let image = Arc::new(crashed.crash_now(CrashPolicy::All));
                image.edit(&path, |bytes| bytes.resize((bytes.len() as i64 + by).max(0) as usize, 0)).unwrap();
                let faults = FaultVfs::new(image as Arc<dyn Vfs>);
                let vfs: Arc<dyn Vfs> = Arc::clone(&faults) as _;
                for operation in [Operation::Map, Operation::Read] {
                    faults.add(Rule::new(operation, Fault::EIO).path(path.to_str().unwrap()));
                }
                let unread = |by_whom: &str| {
                    let struck: u64 = faults.rules().iter().map(|(_, _, struck)| struck).sum();
                    assert_eq!(struck, 0, "{name}, {by} bytes more, {mode:?}: {by_whom}");
                };
                for read_only in [true, false] {
                    let engine = on(&vfs, mode).read_only(read_only).open().unwrap();
                    let seen = look(&engine, &LETTERS, 40);
                    let is_told =
                        |error: &Error| error.kind() == ErrorKind::Corruption && error.to_string().contains(&**name);
                    assert!(
                        seen.failed > 0 && seen.errors.iter().all(is_told),
                        "{name}, {by}, {mode:?}: {:?}",
                        seen.errors
                    );
                    unread("reads");
                    if !read_only {
                        let _ = engine.compact_range(..); // refused or not: it does not look into that one
                        unread("compaction");
                        assert!(!engine.verify().unwrap().is_ok());
                        unread("verify");
                    }
                    engine.close().unwrap();
                }
                // These read what is left of it all the same, and not through a map.
                faults.clear();
                faults.add(Rule::new(Operation::Map, Fault::EIO).path(path.to_str().unwrap()));
                assert!(!esker::verify_deep(&vfs, dir, &mut |_| {}).unwrap().is_ok());
                if mode == IN_PLACE {
                    esker::repair(&vfs, dir, "/repaired", &mut |_| {}).unwrap();
                }
                unread("verify_deep and repair");
                tried += 1;
            }
        }
    }
    assert_eq!(tried, 2 * LETTERS.len() * 2 * 6, "a table and a blob file for each letter");
}
