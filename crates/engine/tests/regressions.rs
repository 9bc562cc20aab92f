//! What once went wrong, one story each.

use esker::vfs::{Fault, FaultVfs, MemVfs, Operation, OsVfs, Rule, Vfs};
use esker::{Background, Engine, ErrorKind, Event, KeyspaceOptions, LeveledOptions, Options, WriteBatch, WriteOptions};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};

fn small() -> Options {
    Options { memtable_bytes: Some(32 << 10), memory_budget_bytes: 4 << 20, ..Options::default() }
}

fn open(vfs: &Arc<dyn Vfs>, options: Options, background: Background) -> Engine {
    Engine::builder("data").options(options).vfs(Arc::clone(vfs)).background(background).open().unwrap()
}

fn faulty() -> (Arc<MemVfs>, Arc<FaultVfs>, Arc<dyn Vfs>) {
    let memory = MemVfs::new().with_clock(Arc::new(esker::vfs::SystemClock::new()));
    let faults = FaultVfs::new(Arc::clone(&memory) as Arc<dyn Vfs>);
    (memory, Arc::clone(&faults), faults as Arc<dyn Vfs>)
}

/// The result of `work`, which must come to an end.
fn within<T: Send + 'static>(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(limit).expect("it should have ended, and hangs")
}

const LONG: Duration = Duration::from_secs(30);

fn wals(vfs: &dyn Vfs) -> Vec<String> {
    let mut logs = vfs.list(Path::new("data")).unwrap();
    logs.retain(|name| name.ends_with(".wal"));
    logs
}

/// A log's file is made ahead without the commit lock. If a writer needed a new log meanwhile, it made its own, with a higher number, and the process might die before
/// the first file, all zeros, was removed again. Recovery took that file for the end of the line and set the newer log aside, with all that was acknowledged in it.
#[test]
fn a_log_made_ahead_and_overtaken_hides_nothing_behind_it() {
    let memory = MemVfs::new();
    let vfs: Arc<dyn Vfs> = Arc::clone(&memory) as _;
    let options = Options { flush_on_close: false, ..small() };
    let engine = open(&vfs, options.clone(), Background::Manual);
    let ahead = wals(&*vfs);
    // Files of one number line: the log that is being written, then a gap where the overtaken one goes, then the next.
    engine.keyspace("other", KeyspaceOptions::default()).unwrap().put("pins the oldest log", "1").unwrap();
    for i in 0..600u32 {
        engine.put(format!("key{i:06}"), [7; 100]).unwrap();
        engine.step().unwrap();
    }
    let logs = wals(&*vfs);
    assert!(logs.len() >= 2, "{logs:?}");
    assert_eq!(logs[0], ahead[0], "the oldest is still needed");
    let number = |name: &str| name.trim_end_matches(".wal").parse::<u64>().unwrap();
    let between = (number(&logs[0]) + 1..number(&logs[1])).next().expect("tables took numbers between the logs");
    let image: Arc<dyn Vfs> = Arc::new(memory.crash_now(esker::vfs::CrashPolicy::All));
    let mut overtaken = image.create_new(&PathBuf::from(format!("data/{between:06}.wal"))).unwrap();
    overtaken.preallocate(4096).unwrap();
    drop(overtaken);

    let again = open(&image, options, Background::Manual);
    for i in 0..600u32 {
        assert!(again.contains_key(format!("key{i:06}")).unwrap(), "key{i:06}");
    }
}

/// That the oldest log was missing was only noticed if no log was there at all; beside one made ahead, its records were silently gone.
#[test]
fn the_oldest_log_is_missed_beside_one_that_was_never_begun() {
    let memory = MemVfs::new();
    let vfs: Arc<dyn Vfs> = Arc::clone(&memory) as _;
    let engine = open(&vfs, small(), Background::Manual);
    engine.put_with("k", "v", &WriteOptions::sync()).unwrap();
    let image: Arc<dyn Vfs> = Arc::new(memory.crash_now(esker::vfs::CrashPolicy::All));
    let log = wals(&*image).pop().unwrap();
    image.remove_file(&Path::new("data").join(log)).unwrap();
    image.create_new(Path::new("data/000900.wal")).unwrap().preallocate(4096).unwrap();
    let refused = Engine::builder("data").options(small()).vfs(image).open().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corruption, "{refused}");
}
