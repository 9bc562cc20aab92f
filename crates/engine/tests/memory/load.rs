//! What the child does: rounds of work by all threads, each followed by a look, now and then after the engine was opened anew.

use crate::bank::{check_accounts, open_accounts};
use crate::heap;
use crate::section::Section;
use crate::store::{BUDGET, LARGE_TOGETHER, LARGEST, SECTIONS, Store};
use esker::Metrics;
use esker_testkit::random::Random;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What one round came to.
pub(crate) struct Report {
    pub(crate) operations: u64,
    /// The most heap that the engine said it held, in bytes.
    pub(crate) counted: usize,
    /// The most heap that there was, in bytes.
    pub(crate) heap: usize,
    /// Bytes of tables and blob files.
    pub(crate) data: u64,
}

impl Report {
    /// Behind a blank: the harness may have begun the line.
    pub(crate) fn print(&self) {
        let Self { operations, counted, heap, data } = self;
        println!(" round {operations} {counted} {heap} {data}");
    }

    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (_, numbers) = line.split_once(" round ")?;
        let numbers: Vec<u64> = numbers.split(' ').map(str::parse).collect::<Result<_, _>>().ok()?;
        let [operations, counted, heap, data] = numbers[..] else { return None };
        Some(Self { operations, counted: counted as usize, heap: heap as usize, data })
    }
}

/// The heap that is bounded by the budget, as the engine counts it.
fn counted(metrics: &Metrics) -> usize {
    metrics.memtable_bytes
        + metrics.memtable_pool_bytes
        + metrics.block_cache_bytes as usize
        + metrics.table_heap_bytes
        + metrics.transaction_tracking_bytes
}

/// What batches in flight may take besides: each writer has seen that there is room.
const IN_FLIGHT: usize = SECTIONS as usize * LARGE_TOGETHER as usize * LARGEST;

struct Load {
    dir: PathBuf,
    store: Option<Store>,
    sections: Vec<Section>,
}

impl Load {
    fn store(&self) -> &Store {
        self.store.as_ref().expect("it is open")
    }

    /// All threads do `steps` things, while somebody looks at what memory they take.
    fn round(&mut self, seed: u64, steps: u64) -> Report {
        heap::forget_peak();
        let store = self.store.clone().expect("it is open");
        let over = AtomicBool::new(false);
        let (mut most, mut held) = (0, Metrics::default());
        std::thread::scope(|scope| {
            let watch = scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let metrics = store.engine.metrics();
                    if counted(&metrics) > most {
                        (most, held) = (counted(&metrics), metrics);
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
            let store = &store;
            let sections = self.sections.iter_mut();
            let workers: Vec<_> =
                sections.map(|section| scope.spawn(move || section.run(store, seed, steps))).collect();
            let ended: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
            over.store(true, Ordering::Relaxed);
            watch.join().expect("it only looks");
            assert!(ended.iter().all(Result::is_ok), "seed {seed}: a thread failed");
        });
        assert!(most <= BUDGET + IN_FLIGHT, "seed {seed}: {most} bytes of heap, the budget is {BUDGET}: {held:?}");
        let now = store.engine.metrics();
        let data = now.keyspaces.iter().map(|keyspace| keyspace.table_bytes() + keyspace.blob_bytes).sum();
        Report { operations: steps * u64::from(SECTIONS), counted: most, heap: heap::peak(), data }
    }

    /// Now and then: everything is there; a copy holds the same; the engine opens anew.
    fn look(&mut self, seed: u64) {
        let mut random = Random::new(!seed);
        check_accounts(self.store());
        if random.one_in(8) {
            self.check_all(self.store());
        }
        if random.one_in(16) {
            let report = self.store().engine.verify().unwrap();
            assert!(report.is_ok(), "{report:?}");
        }
        if random.one_in(8) {
            let to = self.dir.join("copy");
            self.store().engine.checkpoint(&to).unwrap();
            let copy = Store::open_copy(&to);
            check_accounts(&copy);
            self.check_all(&copy);
            drop(copy);
            std::fs::remove_dir_all(&to).unwrap();
        }
        if random.one_in(8) {
            self.sections.iter_mut().for_each(Section::let_go);
            let store = self.store.take().expect("it is open");
            if random.one_in(2) {
                store.engine.close().unwrap();
            }
            drop(store);
            self.store = Some(Store::open(&self.dir.join("db"), random.one_in(2)));
            check_accounts(self.store());
        }
    }

    fn check_all(&self, store: &Store) {
        for section in &self.sections {
            section.check_all(store).unwrap();
        }
    }
}

/// Runs a round for each line of the input, `seed steps`, and prints what it came to.
pub(crate) fn child(dir: &Path) {
    let tables = dir.join("tables");
    std::fs::create_dir(&tables).unwrap();
    let sections = (0..SECTIONS).map(|id| Section::new(id, tables.clone())).collect();
    let mut load = Load { dir: dir.to_owned(), store: Some(Store::open(&dir.join("db"), true)), sections };
    open_accounts(load.store());
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let (seed, steps) = line.split_once(' ').expect("a seed and a number of steps");
        let seed = seed.parse().unwrap();
        let report = load.round(seed, steps.parse().unwrap());
        load.look(seed);
        report.print();
    }
    load.check_all(load.store());
}
