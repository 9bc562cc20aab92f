//! A small directory with files of all kinds, and what was in it at each moment.

use crate::options::tiny;
use crate::told;
use esker::vfs::{Clock, CrashPolicy, ManualClock, MemVfs, Vfs, read_file};
use esker::{
    Background, Codec, Engine, Keyspace, KeyspaceOptions, LEVELS, LeveledOptions, LogBackend, Options, ReadMode,
    Verify, WriteOptions,
};
use esker_testkit::random::Random;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub(crate) const DIR: &str = "/data";
pub(crate) const NAMES: [&str; 3] = ["default", "merged", "timed"];
const KEYS: u64 = 16;
/// So many zeros stay at the end of a log.
const AHEAD_BYTES: usize = 1 << 10;

pub(crate) type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

/// What the keyspaces hold.
pub(crate) type State = [Contents; NAMES.len()];

/// A file that is to be damaged.
pub(crate) struct File {
    pub(crate) path: PathBuf,
    /// All of it but zeros at its end.
    pub(crate) bytes: Vec<u8>,
    /// What it held before, if anything else.
    pub(crate) stale: Vec<Vec<u8>>,
}

pub(crate) struct Store {
    pub(crate) seed: u64,
    vfs: Arc<MemVfs>,
    options: Options,
    /// After each write.
    pub(crate) states: Vec<State>,
    /// Of each write, which makes the state of the next number, its sequence number and what the feed of changes is to tell.
    pub(crate) told: Vec<(u64, String)>,
    /// The state that the tables alone hold,
    pub(crate) flushed: usize,
    /// and the one that something later says is on stable storage.
    pub(crate) vouched: usize,
    pub(crate) keys: [BTreeSet<Vec<u8>>; NAMES.len()],
    pub(crate) files: Vec<File>,
    pub(crate) used_bytes: usize,
}

impl File {
    pub(crate) fn kind(&self) -> &'static str {
        let name = self.path.to_str().expect("a name of ours");
        let kinds = ["CURRENT", "MANIFEST", "OPTIONS", "blob", "sst", "wal"];
        kinds.into_iter().find(|kind| name.contains(kind)).unwrap_or("LOCK")
    }
}

/// Tables are left as they are flushed, unless asked for.
fn options(random: &mut Random) -> Options {
    let compaction = LeveledOptions { l0_trigger: 8, l0_slowdown: 10, l0_stop: 12, ..tiny().compaction };
    Options {
        compaction,
        memtable_bytes: Some(64 << 10),
        block_size_bytes: *random.pick(&[64, 128, 256]),
        blob_bytes_min: 100,
        compression: [*random.pick(&[Codec::None, Codec::Lz4]); LEVELS],
        filter_bits_per_key: *random.pick(&[0, 4, 10]),
        verify: *random.pick(&[Verify::FirstUse, Verify::Always]),
        read_mode: *random.pick(&[ReadMode::Map, ReadMode::Pread]),
        log_backend: *random.pick(&[LogBackend::Mapped, LogBackend::Write]),
        wal_retain_bytes: random.one_in(3).then_some(1 << 20),
        flush_on_close: !random.one_in(3),
        ..tiny()
    }
}

fn keyspace_options(which: usize) -> KeyspaceOptions {
    KeyspaceOptions {
        merge_operator: (which == 1).then(|| "esker.append".to_owned()),
        ttl: (which == 2).then(|| Duration::from_secs(1_000_000)),
        ..KeyspaceOptions::default()
    }
}

/// All but the lock, which holds nothing.
fn files(vfs: &MemVfs) -> BTreeMap<PathBuf, Vec<u8>> {
    let names = vfs.list(Path::new(DIR)).unwrap();
    let names = names.iter().filter(|name| *name != "LOCK");
    names
        .map(|name| {
            let path = Path::new(DIR).join(name);
            let mut bytes = read_file(vfs, &path, 1 << 30).unwrap();
            bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
            (path, bytes)
        })
        .collect()
}

/// An engine that is written to, and what is noted of it.
struct Making {
    random: Random,
    clock: Arc<ManualClock>,
    vfs: Arc<MemVfs>,
    engine: Engine,
    states: Vec<State>,
    told: Vec<(u64, String)>,
    keys: [BTreeSet<Vec<u8>>; NAMES.len()],
    /// The state that a crash can't undo, and the one that the last record in the log vouches for.
    durable: usize,
    vouched: usize,
    earlier: Vec<BTreeMap<PathBuf, Vec<u8>>>,
}

impl Making {
    fn keyspace(&self, which: usize) -> Keyspace {
        self.engine.keyspace(NAMES[which], keyspace_options(which)).unwrap()
    }

    fn write(&mut self, how: &WriteOptions) {
        let which = self.random.index(NAMES.len());
        let keyspace = self.keyspace(which);
        let key = format!("{:02}", self.random.below(KEYS)).into_bytes();
        let end = format!("{:02}", self.random.below(KEYS)).into_bytes();
        let len = *self.random.pick(&[0, 8, 8, 20, 40, 120]);
        let value = [format!("{}:", self.states.len()).as_bytes(), &vec![b'.'; len]].concat();
        let mut now = self.states.last().expect("the first").clone();
        let there = &mut now[which];
        let (name, unix_ms) = (NAMES[which], self.clock.unix_ms());
        let told = match self.random.below(12) {
            0 | 1 => {
                keyspace.delete_with(&key, how).unwrap();
                there.remove(&key);
                told::delete(name, &key)
            }
            2 if key < end => {
                keyspace.delete_range_with(&key, &end, how).unwrap();
                there.retain(|other, _| *other < key || *other >= end);
                told::delete_range(name, &key, &end)
            }
            3..9 if which == 1 => {
                keyspace.merge_with(&key, &value, how).unwrap();
                there.entry(key.clone()).or_default().extend(&value);
                told::merge(name, &key, &value)
            }
            // It expires before anyone looks.
            3 if which == 2 => {
                let how = WriteOptions { ttl: Some(Duration::from_secs(1)), ..*how };
                keyspace.put_with(&key, &value, &how).unwrap();
                there.remove(&key);
                told::put_until(name, &key, &value, unix_ms + 1_000)
            }
            _ => {
                keyspace.put_with(&key, &value, how).unwrap();
                there.insert(key.clone(), value.clone());
                match keyspace.ttl() {
                    Some(ttl) => told::put_until(name, &key, &value, unix_ms + ttl.as_millis() as u64),
                    None => told::put(name, &key, &value),
                }
            }
        };
        self.told.push((self.engine.snapshot().seq(), told));
        self.vouched = self.durable;
        self.keys[which].insert(key);
        self.states.push(now);
        if *how == WriteOptions::sync() {
            self.durable = self.states.len() - 1;
        }
    }

    fn note_files(&mut self) {
        self.earlier.push(files(&self.vfs));
    }
}

impl Store {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let options = options(&mut random);
        let clock = Arc::new(ManualClock::new());
        let vfs = MemVfs::new().with_clock(Arc::clone(&clock) as Arc<dyn Clock>).with_seed(seed);
        let engine = builder(&vfs, &options).open().unwrap();
        let states = vec![State::default()];
        let (keys, earlier) = (Default::default(), Vec::new());
        let told = Vec::new();
        let mut making = Making { random, clock, vfs, engine, states, told, keys, durable: 0, vouched: 0, earlier };
        (1..NAMES.len()).for_each(|which| drop(making.keyspace(which)));
        making.note_files();
        for _ in 0..2 {
            (0..10 + making.random.below(10)).for_each(|_| making.write(&WriteOptions::default()));
            making.engine.flush().unwrap();
            making.note_files();
        }
        if making.random.one_in(2) {
            making.engine.compact_range(..).unwrap();
        }
        making.engine.flush().unwrap();
        let flushed = making.states.len() - 1;
        (making.durable, making.vouched) = (flushed, flushed);
        // What the log alone holds.
        (0..3).for_each(|_| making.write(&WriteOptions::default()));
        making.note_files();
        making.write(&WriteOptions::sync());
        (0..3).for_each(|_| making.write(&WriteOptions::default()));
        // What was to expire has.
        making.clock.advance(Duration::from_secs(10));
        let is_closed = making.random.one_in(4);
        if is_closed {
            making.engine.close().unwrap();
        }
        let Making { engine, vfs, states, told, keys, mut vouched, earlier, .. } = making;
        let vfs = Arc::new(vfs.crash_now(CrashPolicy::All));
        drop(engine);
        let mut flushed = flushed;
        if is_closed {
            vouched = states.len() - 1;
            flushed = if options.flush_on_close { vouched } else { flushed };
        }
        let now = files(&vfs);
        // What is allocated ahead says nothing, and would be read each time.
        for (path, bytes) in &now {
            vfs.edit(path, |all| all.truncate(bytes.len() + AHEAD_BYTES)).unwrap();
        }
        let used_bytes = now.values().map(Vec::len).sum();
        let files = now.into_iter().map(|(path, bytes)| {
            let mut stale: Vec<Vec<u8>> = earlier.iter().filter_map(|files| files.get(&path).cloned()).collect();
            stale.dedup();
            stale.retain(|earlier| *earlier != bytes);
            File { path, bytes, stale }
        });
        let files = files.collect();
        Self { seed, vfs, options, states, told, flushed, vouched, keys, files, used_bytes }
    }

    pub(crate) fn last(&self) -> usize {
        self.states.len() - 1
    }

    pub(crate) fn copy(&self) -> Arc<MemVfs> {
        crate::copy(&self.vfs)
    }

    pub(crate) fn builder(&self, vfs: &Arc<MemVfs>) -> esker::Builder {
        builder(vfs, &self.options)
    }

    /// The log that was written last, if there is one.
    pub(crate) fn newest_log(&self) -> Option<usize> {
        self.files.iter().rposition(|file| file.kind() == "wal" && !file.bytes.is_empty())
    }
}

fn builder(vfs: &Arc<MemVfs>, options: &Options) -> esker::Builder {
    let vfs = Arc::clone(vfs) as Arc<dyn Vfs>;
    Engine::builder(DIR).vfs(vfs).options(options.clone()).background(Background::Manual)
}
