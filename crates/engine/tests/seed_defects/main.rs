//! What was wrong with the engine that Esker starts from: 54 defects, each a test named after it.
//!
//! Most run in memory with the background work done by hand, so that they repeat exactly; crashes are images of the file system as a killed process or a power cut leaves
//! it. Where threads are the matter, a [`Gate`] holds one of them at the operation in question.

mod concurrency;
mod format;
mod loss;
mod twice;
mod versions;

use esker::vfs::{Clock, CrashPolicy, MemVfs, SystemClock, Vfs};
use esker::{Background, Engine, Error, LevelMetrics, Options};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

const DIR: &str = "data";

/// Memtables and logs small enough that a test fills several.
fn small() -> Options {
    Options { memtable_bytes: Some(32 << 10), memory_budget_bytes: 4 << 20, ..Options::default() }
}

fn try_open<V: Vfs>(vfs: &Arc<V>, options: Options) -> Result<Engine, Error> {
    let vfs = Arc::clone(vfs);
    Engine::builder(DIR).options(options).vfs(vfs).background(Background::Manual).open()
}

/// Opens an engine in which nothing happens in the background unless [`work`] does it.
fn open<V: Vfs>(vfs: &Arc<V>) -> Engine {
    try_open(vfs, small()).unwrap()
}

fn open_with_threads<V: Vfs>(vfs: &Arc<V>) -> Engine {
    let vfs = Arc::clone(vfs);
    Engine::builder(DIR).options(small()).vfs(vfs).open().unwrap()
}

/// Does all the background work there is.
fn work(engine: &Engine) {
    while engine.step().unwrap() {}
}

/// What is left when the process dies: all that the kernel had been given.
fn killed(memory: &MemVfs) -> Arc<MemVfs> {
    Arc::new(memory.crash_now(CrashPolicy::All))
}

/// What is left when the power fails: what was synced.
fn power_cut(memory: &MemVfs) -> Arc<MemVfs> {
    Arc::new(memory.crash_now(CrashPolicy::SyncedOnly))
}

/// The names of the engine's files that end like this.
fn names<V: Vfs>(vfs: &Arc<V>, end: &str) -> Vec<String> {
    let mut names = vfs.list(Path::new(DIR)).unwrap();
    names.retain(|name| name.ends_with(end));
    names
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn get(engine: &Engine, key: &str) -> Option<String> {
    engine.get(key).unwrap().map(|value| text(&value))
}

/// All there is, as `key=value`, after a look that the walk back finds the same.
fn scan(engine: &Engine) -> Vec<String> {
    let show = |item: Result<(esker::Slice, esker::Slice), Error>| {
        let (key, value) = item.unwrap();
        format!("{}={}", text(&key), text(&value))
    };
    let forward: Vec<_> = engine.iter().map(show).collect();
    let mut back: Vec<_> = engine.iter().rev().map(show).collect();
    back.reverse();
    assert_eq!(forward, back);
    forward
}

fn l0(engine: &Engine) -> LevelMetrics {
    engine.metrics().keyspaces[0].levels[0]
}

/// Writes keys that begin with `prefix` until a memtable is full and sealed; how many there are. Only where nothing flushes it at once.
fn seal_one(engine: &Engine, prefix: &str) -> usize {
    let sealed = || engine.metrics().keyspaces[0].sealed_memtables;
    let before = sealed();
    let mut written = 0;
    while sealed() == before {
        engine.put(format!("{prefix}{written:05}"), [b'v'; 100]).unwrap();
        written += 1;
    }
    written
}

/// Runs `f`, and fails if it does not end.
fn within<T: Send + 'static>(limit: Duration, f: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, ended) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let result = f();
        let _ = done.send(());
        result
    });
    if let Err(mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(limit) {
        panic!("it does not end");
    }
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Waits until `f` holds.
fn until(what: &str, f: impl Fn() -> bool) {
    let begin = Instant::now();
    while !f() {
        assert!(begin.elapsed() < Duration::from_secs(20), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A clock by which nobody who sleeps wakes while the gate is shut: with `Fault::Delay` it holds a thread at an operation.
#[derive(Debug, Default)]
struct Gate {
    clock: SystemClock,
    shut: AtomicBool,
    waiting: AtomicUsize,
}

impl Gate {
    fn new() -> Arc<Self> {
        Arc::default()
    }

    fn shut(&self) {
        self.shut.store(true, Ordering::SeqCst);
    }

    fn open(&self) {
        self.shut.store(false, Ordering::SeqCst);
    }

    fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }
}

impl Clock for Gate {
    fn now(&self) -> Duration {
        self.clock.now()
    }

    fn unix_ms(&self) -> u64 {
        self.clock.unix_ms()
    }

    fn sleep(&self, _: Duration) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let begin = Instant::now();
        // Not for ever: where the test itself is held, it must get to fail.
        while self.shut.load(Ordering::SeqCst) && begin.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}
