//! Operations at random, and beside them what the figures must be by then.

#[path = "checks.rs"]
mod checks;

use crate::told::Told;
use esker::vfs::{ManualClock, MemVfs, OsVfs, TraceVfs, Vfs};
use esker::{
    Background, CompactionFilter, Engine, ErrorKind, FilterDecision, IngestOptions, Iter, Keyspace, KeyspaceOptions,
    LeveledOptions, LogBackend, Metrics, Options, Result, Snapshot, SstOptions, SstWriter, WriteBatch,
};
use esker_testkit::random::Random;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a log that is mapped ends with.
const MAPPED_END_BYTES: u64 = 24;
const TTL: Duration = Duration::from_secs(60);

/// What a memtable of a keyspace was given since it was sealed last, and how many are sealed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Memtables {
    entries: usize,
    ranges: usize,
    sealed: usize,
}

/// What is written to one keyspace by one call.
#[derive(Debug, Clone, Copy, Default)]
struct Written {
    entries: usize,
    ranges: usize,
}

/// Removes what begins with `x`, and counts it.
struct Removes(Arc<AtomicU64>);

impl CompactionFilter for Removes {
    fn filter(&self, _level: u8, key: &[u8], _value: &[u8]) -> FilterDecision {
        if !key.starts_with(b"x") {
            return FilterDecision::Keep;
        }
        self.0.fetch_add(1, Ordering::Relaxed);
        FilterDecision::Remove
    }
}

pub(crate) struct Driver {
    random: Random,
    inner: Arc<dyn Vfs>,
    /// What was done to files in this life.
    vfs: Arc<TraceVfs>,
    clock: Option<Arc<ManualClock>>,
    dir: PathBuf,
    options: Options,
    /// In the order of their numbers.
    keyspaces: Vec<Keyspace>,
    engine: Option<Engine>,
    told: Told,
    removed: Arc<AtomicU64>,
    /// By keyspace.
    memtables: Vec<Memtables>,
    last_seq: u64,
    writes: u64,
    conflicts: u64,
    stalls: u64,
    held: Vec<(Snapshot, Duration)>,
    iters: Vec<Iter>,
    cache_asked: u64,
    /// `Metrics::written_bytes` when it was opened.
    written_before: u64,
    _temp: Option<tempfile::TempDir>,
}

fn keyspace_options(name: &str) -> KeyspaceOptions {
    let mut options = KeyspaceOptions::default();
    match name {
        "sums" => options.merge_operator = Some("esker.counter".into()),
        "short" => options.ttl = Some(TTL),
        "filtered" => options.compaction_filter = Some("removes".into()),
        _ => {}
    }
    options
}

const NAMES: [&str; 4] = ["default", "sums", "short", "filtered"];

impl Driver {
    /// In memory with a clock that only the driver moves, or, every other seed, on real files.
    pub(crate) fn new(seed: u64) -> Self {
        let clock = Arc::new(ManualClock::new());
        clock.set_unix_ms(1_000_000);
        let temp = (seed % 2 == 1).then(|| tempfile::tempdir().unwrap());
        let inner = match &temp {
            Some(_) => Arc::new(OsVfs) as Arc<dyn Vfs>,
            None => MemVfs::new().with_seed(seed).with_clock(Arc::clone(&clock) as _),
        };
        let mut random = Random::new(seed);
        let options = Options {
            memory_budget_bytes: 1 << 20,
            memtable_bytes: random.one_in(2).then_some(4 << 10),
            blob_bytes_min: 200,
            log_backend: if random.one_in(2) { LogBackend::Write } else { LogBackend::Mapped },
            wal_retain_bytes: random.one_in(3).then_some(16 << 10),
            compaction: LeveledOptions {
                l0_trigger: 2,
                level_base_bytes: 8 << 10,
                table_bytes: 4 << 10,
                ..LeveledOptions::default()
            },
            ..Options::default()
        };
        let dir = temp.as_ref().map_or_else(|| PathBuf::from("/data"), |temp| temp.path().join("db"));
        let mut driver = Self {
            random,
            vfs: TraceVfs::new(Arc::clone(&inner)),
            inner,
            clock: temp.is_none().then_some(clock),
            dir,
            options,
            keyspaces: Vec::new(),
            engine: None,
            told: Told::default(),
            removed: Arc::default(),
            memtables: vec![Memtables::default(); NAMES.len()],
            last_seq: 0,
            writes: 0,
            conflicts: 0,
            stalls: 0,
            held: Vec::new(),
            iters: Vec::new(),
            cache_asked: 0,
            written_before: 0,
            _temp: temp,
        };
        driver.open();
        driver
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("it is open")
    }

    fn open(&mut self) {
        self.vfs = TraceVfs::new(Arc::clone(&self.inner));
        self.told = Told::default();
        self.removed = Arc::default();
        let builder = Engine::builder(&self.dir)
            .options(self.options.clone())
            .vfs(Arc::clone(&self.vfs) as Arc<dyn Vfs>)
            .background(Background::Manual)
            .listener(self.told.listener())
            .compaction_filter("removes", Removes(Arc::clone(&self.removed)));
        let engine = builder.open().unwrap();
        self.keyspaces = NAMES.map(|name| engine.keyspace(name, keyspace_options(name)).unwrap()).into();
        self.engine = Some(engine);
        self.memtables.fill(Memtables::default());
        (self.writes, self.conflicts, self.stalls, self.cache_asked) = (0, 0, 0, 0);
    }

    /// Does one thing, and looks at all figures.
    pub(crate) fn step(&mut self) {
        match self.random.below(24) {
            0..8 => self.write(),
            8 => self.conditional(),
            9..11 => self.transaction(),
            11 => self.conflict(),
            12 => self.flush(),
            13 => self.settle(),
            14 => self.compact(),
            15 => self.ingest(),
            16 => self.load(),
            17 => self.hold(),
            18 => {
                self.held.pop();
                self.iters.clear();
            }
            19 => self.read(),
            20 => self.engine().sync().unwrap(),
            21 => {
                if let Some(clock) = &self.clock {
                    clock.advance(Duration::from_millis(self.random.below(40_000)));
                }
            }
            22 => self.write_nothing(),
            _ if self.random.one_in(4) => self.reopen(),
            _ => {}
        }
        self.check();
    }

    fn key(&mut self) -> Vec<u8> {
        vec![if self.random.one_in(4) { b'x' } else { b'k' }, self.random.below(40) as u8]
    }

    fn value(&mut self) -> Vec<u8> {
        let bytes = if self.random.one_in(6) { 200 + self.random.below(300) } else { self.random.below(60) };
        vec![bytes as u8; bytes as usize]
    }

    /// Calls `write`, again after all work is done if it would have to wait; what it wrote goes by keyspace.
    fn written(&mut self, by_keyspace: [Written; 4], write: impl Fn(&Engine) -> Result<()>) {
        while let Err(error) = write(self.engine()) {
            assert_eq!(error.kind(), ErrorKind::Stalled, "{error}");
            self.stalls += 1;
            self.settle();
        }
        self.writes += 1;
        let metrics = self.engine().metrics();
        for (at, written) in by_keyspace.into_iter().enumerate() {
            self.last_seq += (written.entries + written.ranges) as u64;
            let before = self.memtables[at];
            let in_it = Memtables {
                entries: before.entries + written.entries,
                ranges: before.ranges + written.ranges,
                ..before
            };
            let sealed = Memtables { entries: written.entries, ranges: written.ranges, sealed: before.sealed + 1 };
            let now = memtables_of(&metrics, at);
            // Which of both is for the engine to decide: it seals before it writes, if it does.
            self.memtables[at] = if now == sealed && before.entries + before.ranges > 0 { sealed } else { in_it };
        }
    }

    fn write(&mut self) {
        let mut batch = WriteBatch::new();
        let mut written = [Written::default(); 4];
        for _ in 0..1 + self.random.below(6) {
            let at = self.random.below(4) as usize;
            let keyspace = self.keyspaces[at].clone();
            let (key, value) = (self.key(), self.value());
            match self.random.below(8) {
                0 => batch.delete_in(&keyspace, key),
                1 => {
                    written[at].ranges += 1;
                    batch.delete_range_in(&keyspace, &key, [key[0], key[1] + 3])
                }
                _ if at == 1 => batch.merge_in(&keyspace, key, 1i64.to_le_bytes()),
                _ => batch.put_in(&keyspace, key, value),
            };
            written[at].entries += 1;
        }
        for written in &mut written {
            written.entries -= written.ranges;
        }
        self.written(written, |engine| engine.write(&batch));
    }

    fn conditional(&mut self) {
        let key = self.key();
        if self.engine().get(&key).unwrap().is_some() {
            return;
        }
        let mut written = [Written::default(); 4];
        written[0].entries = 1;
        self.written(written, |engine| engine.insert_if_absent(&key, "new").map(|did| assert!(did)));
        // It changes nothing, and so writes nothing.
        assert!(!self.engine().insert_if_absent(&key, "newer").unwrap());
    }

    /// No batch is committed, and no figure changes.
    fn write_nothing(&mut self) {
        self.engine().write(WriteBatch::new()).unwrap();
        self.engine().transaction().commit().unwrap();
        let mut tx = self.engine().transaction();
        tx.put("k that is never there", "never").unwrap();
        drop(tx);
    }

    fn transaction(&mut self) {
        let (read, key) = (self.key(), self.key());
        let mut written = [Written::default(); 4];
        written[0].entries = 2;
        self.written(written, |engine| {
            let mut tx = engine.transaction();
            tx.get(&read)?;
            assert!(engine.metrics().transaction_tracking_bytes > 0, "it has read something");
            tx.put(&key, "by a transaction")?;
            tx.put("k of transactions", "more")?;
            tx.commit()
        });
    }

    fn conflict(&mut self) {
        let key = self.key();
        let mut tx = self.engine().transaction();
        tx.get(&key).unwrap();
        tx.put("k that loses", "never").unwrap();
        let mut written = [Written::default(); 4];
        written[0].entries = 1;
        self.written(written, |engine| engine.put(&key, "first"));
        assert_eq!(tx.commit().unwrap_err().kind(), ErrorKind::Conflict);
        self.conflicts += 1;
    }

    fn flush(&mut self) {
        self.engine().flush().unwrap();
        self.memtables.fill(Memtables::default());
    }

    /// Until there is nothing left to do.
    fn settle(&mut self) {
        while self.engine().step().unwrap() {}
        for memtables in &mut self.memtables {
            memtables.sealed = 0;
        }
        let metrics = self.engine().metrics();
        // What is old or pins a log may have been flushed too.
        for (at, memtables) in self.memtables.iter_mut().enumerate() {
            let now = memtables_of(&metrics, at);
            if now == Memtables::default() {
                *memtables = now;
            }
        }
        for keyspace in &metrics.keyspaces {
            assert_eq!(keyspace.compaction_debt_bytes, 0, "nothing is left to do, yet there is debt: {keyspace:?}");
            assert!(keyspace.levels[0].tables < 2, "it would be compacted");
        }
    }

    fn compact(&mut self) {
        let at = self.random.below(4) as usize;
        self.keyspaces[at].compact_range(..).unwrap();
        self.memtables[at] = Memtables::default();
        self.flushed_beside();
    }

    /// To get at one keyspace's memtables, the sealed ones of others may have been flushed, whole.
    fn flushed_beside(&mut self) {
        let metrics = self.engine().metrics();
        for (at, memtables) in self.memtables.iter_mut().enumerate() {
            if memtables_of(&metrics, at).sealed == 0 {
                memtables.sealed = 0;
            }
        }
    }

    /// The memtables that an ingest into the first keyspace overlaps are flushed before.
    fn ingested(&mut self) {
        self.last_seq += 1;
        if memtables_of(&self.engine().metrics(), 0) == Memtables::default() {
            self.memtables[0] = Memtables::default();
        }
        self.flushed_beside();
    }

    fn ingest(&mut self) {
        let path = self.dir.with_file_name("outside.sst");
        let vfs = Arc::clone(&self.vfs) as Arc<dyn Vfs>;
        let mut table = SstWriter::create_on(vfs, &path, &SstOptions::default()).unwrap();
        let first = self.random.below(20) as u8;
        for i in first..first + 10 {
            table.put([b'k', i], [i; 30]).unwrap();
        }
        table.finish().unwrap();
        let options = IngestOptions { move_files: true };
        while let Err(error) = self.engine().ingest([&path], &options) {
            assert_eq!(error.kind(), ErrorKind::Stalled, "{error}");
            self.stalls += 1;
            self.settle();
        }
        self.ingested();
    }

    fn load(&mut self) {
        let first = self.random.below(20) as u8;
        while let Err(error) = self.engine().bulk_load((first..first + 10).map(|i| ([b'x', i], [i; 30]))) {
            assert_eq!(error.kind(), ErrorKind::Stalled, "{error}");
            self.stalls += 1;
            self.settle();
        }
        self.ingested();
    }

    fn hold(&mut self) {
        let snapshot = self.engine().snapshot();
        self.held.push((snapshot, self.vfs.clock().now()));
        let mut iter = self.engine().iter();
        let _ = iter.next();
        self.iters.push(iter);
    }

    fn read(&mut self) {
        let key = self.key();
        self.engine().get(&key).unwrap();
        let before = self.engine().metrics();
        self.engine().get(&key).unwrap();
        let after = self.engine().metrics();
        assert_eq!(after.block_cache_misses, before.block_cache_misses, "what was just read is in the cache");
        assert!(self.engine().iter().all(|item| item.is_ok()));
    }

    fn reopen(&mut self) {
        self.iters.clear();
        self.held.clear();
        let before = self.engine().metrics();
        self.keyspaces.clear();
        let engine = self.engine.take().expect("it is open");
        if self.random.one_in(2) {
            engine.close().unwrap();
        }
        drop(engine);
        self.open();
        let after = self.engine().metrics();
        self.written_before = after.written_bytes;
        assert_eq!(after.last_seq, self.last_seq, "after a close in order");
        assert!(after.written_bytes >= before.written_bytes, "{before:?}\n{after:?}");
        let zero = [after.writes, after.conflicts, after.flushes, after.flush_bytes, after.compactions, after.stalls];
        assert_eq!(zero, [0; 6], "counts are since open");
    }
}

fn memtables_of(metrics: &Metrics, at: usize) -> Memtables {
    let keyspace = &metrics.keyspaces[at];
    Memtables {
        entries: keyspace.active_entries,
        ranges: keyspace.active_range_tombstones,
        sealed: keyspace.sealed_memtables,
    }
}
