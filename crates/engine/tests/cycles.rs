//! A hundred thousand lives of the engine in one process: opened, used, closed, dropped, crashed, killed. Descriptors, maps and threads are as before each of them, to the last one; files, heap and resident memory stay what they were after the first.
//!
//! The heap is counted by this binary's own allocator. Only one test may be here: it counts what the process has.

#[path = "cycles/dirs.rs"]
mod dirs;
#[path = "pressure/heap.rs"]
mod heap;
#[path = "cycles/life.rs"]
mod life;
#[path = "cycles/process.rs"]
mod process;

use dirs::{Dirs, kinds, size_bytes};
use esker::vfs::{FaultVfs, OsVfs, Vfs};
use esker::{Engine, KeyspaceOptions, LeveledOptions, Options};
use esker_testkit::random::Random;
use esker_testkit::stress;
use life::{End, live, lives};
use process::{held, held_behind, resident_bytes};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const CHILD: &str = "ESKER_CYCLES_TEST_CHILD";
const TEST: &str = "lives_leave_nothing_behind";
/// Lives of a round; the last one is killed.
const LIVES: u64 = 50;
/// After so many lives all that is kept for good has been made: registers of threads and the like.
const SETTLED: u64 = 200;
/// How much more heap there may be then, of what waits to be freed, in bytes.
const HEAP_SLACK: usize = 64 << 10;
/// What a life may take of it, and an open copy beside it, in bytes.
const LIFE_HEAP: usize = 4 << 20;
/// The same of what the allocator holds, and of maps, stacks of threads that have ended included.
const RESIDENT_SLACK: usize = 8 << 20;
const MAPS_SLACK: usize = 64;
/// So many files, and so many bytes in them, a life that ends in order may leave.
const FILES_MAX: usize = 100;
const SIZE_MAX: u64 = 8 << 20;

/// So small that a life comes to flushes, compactions and changes of logs.
pub(crate) fn options(flush_on_close: bool) -> Options {
    Options {
        memory_budget_bytes: 1 << 20,
        memtable_bytes: Some(8 << 10),
        blob_bytes_min: 256,
        wal_bytes_max: 128 << 10,
        compaction: LeveledOptions { l0_trigger: 2, ..LeveledOptions::default() },
        flush_on_close,
        ..Options::default()
    }
}

/// Writes until killed.
fn child(dir: &Path) {
    let engine = Engine::builder(dir).options(options(true)).open().unwrap();
    let other = engine.keyspace("other", KeyspaceOptions::default()).unwrap();
    println!(" open");
    for i in 0u64.. {
        engine.put([b'k', i as u8 % 64], [7; 300]).unwrap();
        other.put([b'k', i as u8 % 64], [7; 100]).unwrap();
        if i.is_multiple_of(100) {
            engine.flush().unwrap();
        }
    }
}

/// A life in a process of its own, which is killed.
fn killed(dirs: &Dirs, random: &mut Random) {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture", "--test-threads=1"])
        .env(CHILD, &dirs.db)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let opened = lines.map_while(Result::ok).any(|line| line.ends_with(" open"));
    assert!(opened, "the child did not open the engine");
    std::thread::sleep(Duration::from_micros(random.below(5_000)));
    process.kill().unwrap();
    process.wait().unwrap();
}

/// What there is when all is put in order is what the manifest names, and nothing else.
fn check_files(dirs: &Dirs) {
    let engine = Engine::builder(&dirs.db).options(options(true)).open().unwrap();
    engine.compact_range(..).unwrap();
    for name in engine.keyspaces() {
        engine.keyspace(name, KeyspaceOptions::default()).unwrap().compact_range(..).unwrap();
    }
    assert!(engine.verify().unwrap().is_ok());
    engine.close().unwrap();
    drop(engine);
    let engine = Engine::builder(&dirs.db).options(options(true)).read_only(true).open().unwrap();
    let metrics = engine.metrics();
    drop(engine);
    let tables: usize = metrics.keyspaces.iter().flat_map(|keyspace| &keyspace.levels).map(|level| level.tables).sum();
    let blobs: usize = metrics.keyspaces.iter().map(|keyspace| keyspace.blob_files).sum();
    let mut there = kinds(&dirs.db);
    let mut count = |kind: &str| there.remove(kind).unwrap_or(0);
    assert_eq!((count(".sst"), count(".blob")), (tables, blobs));
    assert_eq!((count("LOCK"), count("CURRENT"), count("MANIFEST-"), count("OPTIONS-")), (1, 1, 1, 1));
    assert!(count(".wal") <= 2, "{:?}", kinds(&dirs.db));
    assert!(there.is_empty(), "what is this? {there:?}");
}

#[test]
fn lives_leave_nothing_behind() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return child(Path::new(&dir));
    }
    if let Some(why) = process::why_not() {
        return stress::skip("cycles", why);
    }
    let dirs = Dirs::new();
    let faults = FaultVfs::new(Arc::new(OsVfs));
    let vfs = Arc::clone(&faults) as Arc<dyn Vfs>;
    let first = held(dirs.root.path());
    let (mut count, mut settled) = (0, None);
    for round in stress::rounds("cycles", 12) {
        let mut random = Random::new(round.seed());
        for nth in 0..LIVES {
            let seed = random.next();
            if nth + 1 == LIVES {
                killed(&dirs, &mut random);
            } else {
                let end = live(&dirs, &faults, &vfs, seed);
                count += 1;
                let now = held_behind(dirs.root.path(), first);
                assert_eq!(now, first, "seed {}, life {nth} of seed {seed}, which ended by {end:?}", round.seed());
                // One that could do nothing any more, or was killed, leaves what it was about to remove; the next one does.
                let (files, bytes) = (dirs::names(&dirs.db).len(), size_bytes(&dirs.db));
                let few = files <= FILES_MAX && bytes <= SIZE_MAX;
                assert!(end == End::Failing || few, "{end:?}: {bytes} bytes in files: {:?}", kinds(&dirs.db));
            }
        }
        check_files(&dirs);
        let peak = heap::peak();
        let now = (heap::forget_peak(), resident_bytes(), process::maps());
        if count > SETTLED {
            let (heap, resident, maps) = *settled.get_or_insert(now);
            assert!(now.0 <= heap + HEAP_SLACK, "{} bytes of heap, {heap} after {SETTLED} lives", now.0);
            assert!(peak <= heap + LIFE_HEAP, "{peak} bytes of heap in a life, {heap} between lives");
            assert!(now.1 <= resident + RESIDENT_SLACK, "{} bytes are resident, then {resident}", now.1);
            assert!(now.2 <= maps + MAPS_SLACK, "{} maps, then {maps}", now.2);
        }
        round.tried(LIVES);
    }
    let engine = Engine::builder(&dirs.db).options(options(true)).open().unwrap();
    assert_eq!(lives(&engine), count);
    drop(engine);
    println!("{count} lives, {settled:?} then, {:?} now", (heap::forget_peak(), resident_bytes(), process::maps()));
}
