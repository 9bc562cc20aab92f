//! One run of an engine on a file system that fails: what is done, and what is asked of each answer.

use crate::rules::{Tally, flipped, rule, rule_of, struck};
use crate::worlds::{Effect, KEYS, SPACES, World, Worlds};
use esker::vfs::{CrashPolicy, FaultVfs, MemVfs, Vfs};
use esker::{
    Background, Builder, Durability, Engine, Error, ErrorKind, Event, IngestOptions, Keyspace, KeyspaceOptions,
    LeveledOptions, LogBackend, Options, ReadMode, Result, Slice, SstOptions, SstWriter, Verify, WriteBatch,
    WriteOptions,
};
use esker_testkit::random::Random;
use std::path::Path;
use std::sync::{Arc, Mutex};

const STEPS: u64 = 300;
const NAMES: [&str; SPACES] = ["default", "other"];

fn key(i: u64) -> String {
    format!("key{i:03}")
}

/// What write `id` puts: no other puts the same.
fn value(id: u32) -> Vec<u8> {
    let mut value = id.to_le_bytes().to_vec();
    let len = if id.is_multiple_of(8) { 300 + id % 700 } else { 20 + id % 130 };
    value.resize(len as usize, id as u8);
    value
}

/// The write that has put `value`.
fn id_of(found: &[u8]) -> u32 {
    let id = u32::from_le_bytes(found[..4].try_into().expect("a value of ours"));
    assert_eq!(found, value(id), "torn");
    id
}

/// Small, so that all that there is happens often.
fn options(random: &mut Random) -> Options {
    let compaction = LeveledOptions {
        l0_trigger: 2,
        level_base_bytes: 8 << 10,
        level_ratio: 2,
        table_bytes: 2 << 10,
        ..LeveledOptions::default()
    };
    Options {
        memory_budget_bytes: 4 << 20,
        memtable_bytes: Some(*random.pick(&[6 << 10, 16 << 10, 32 << 10])),
        block_size_bytes: 256,
        wal_bytes_max: 32 << 10,
        log_backend: *random.pick(&[LogBackend::Mapped, LogBackend::Write]),
        read_mode: *random.pick(&[ReadMode::Map, ReadMode::GuardedMap, ReadMode::Pread]),
        verify: *random.pick(&[Verify::FirstUse, Verify::Always]),
        block_cache_bytes: *random.pick(&[None, Some(0)]),
        blob_bytes_min: *random.pick(&[0, 64, 256]),
        filter_bits_per_key: *random.pick(&[0, 12]),
        flush_on_close: random.one_in(2),
        wal_retain_bytes: *random.pick(&[None, Some(64 << 10)]),
        compaction,
        ..Options::default()
    }
}

/// All that is in the engine.
fn contents(spaces: &[Keyspace; SPACES], backwards: bool) -> Result<World> {
    let mut world = World::new();
    for (space, keyspace) in spaces.iter().enumerate() {
        let mut take = |item: Result<(Slice, Slice)>| {
            let (key, value) = item?;
            let key = std::str::from_utf8(&key[3..]).unwrap().parse().unwrap();
            let id = id_of(&value);
            assert!(world.insert((space, key), id).is_none(), "a key twice");
            Ok::<_, Error>(())
        };
        let iter = keyspace.iter();
        if backwards {
            iter.rev().try_for_each(&mut take)?
        } else {
            iter.into_iter().try_for_each(&mut take)?
        };
    }
    Ok(world)
}

/// An open engine, and its two keyspaces.
struct Store {
    engine: Engine,
    spaces: [Keyspace; SPACES],
}

impl Store {
    fn open(builder: Builder) -> Result<Self> {
        let engine = builder.open()?;
        let default = engine.keyspace(NAMES[0], KeyspaceOptions::default())?;
        let other = engine.keyspace(NAMES[1], KeyspaceOptions::default())?;
        Ok(Self { engine, spaces: [default, other] })
    }
}

pub(crate) struct Run {
    seed: u64,
    random: Random,
    memory: Arc<MemVfs>,
    faults: Arc<FaultVfs>,
    options: Options,
    worlds: Worlds,
    /// Events not looked at yet.
    events: Arc<Mutex<Vec<Event>>>,
    /// Errors, and events that tell of some.
    told: u64,
    /// Of these what the engine's counter must have counted since it was opened.
    counted: u64,
    /// What failed in the background, for the next write to tell.
    unseen: Option<Error>,
    /// What the listener heard of last.
    heard: Option<Error>,
    /// Whether the engine said that it writes again.
    resumed: bool,
    /// Whether a bit of something was read wrong.
    has_flipped: bool,
    tally: Tally,
    next_id: u32,
}

impl Run {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let memory = MemVfs::new();
        let faults = FaultVfs::with_seed(Arc::clone(&memory) as _, seed);
        Self {
            seed,
            options: options(&mut random),
            random,
            memory,
            faults,
            worlds: Worlds::new(),
            events: Arc::default(),
            told: 0,
            counted: 0,
            unseen: None,
            heard: None,
            resumed: false,
            has_flipped: false,
            tally: Tally::default(),
            next_id: 0,
        }
    }

    /// What was struck.
    pub(crate) fn go(mut self) -> Tally {
        let mut store = Store::open(self.listened()).unwrap();
        self.faults.add(rule_of(self.seed, &mut self.random));
        for _ in 0..self.random.below(2) {
            self.faults.add(rule(&mut self.random));
        }
        for step in 0..STEPS {
            store = self.step(store, step);
        }
        self.end(store);
        self.tally
    }

    fn builder(&self) -> Builder {
        self.builder_on(Arc::clone(&self.faults) as _)
    }

    fn builder_on(&self, vfs: Arc<dyn Vfs>) -> Builder {
        Engine::builder("data").options(self.options.clone()).vfs(vfs).background(Background::Manual)
    }

    fn listened(&self) -> Builder {
        let events = Arc::clone(&self.events);
        self.builder().listener(move |event: &Event| events.lock().unwrap().push(event.clone()))
    }

    /// Has something done by the engine. Whatever fails in it, somebody is told: by the result, an event, or what is counted, of which the event may be due.
    fn on<T>(&mut self, what: &str, engine: &Engine, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let counted = engine.metrics().background_errors;
        self.act(what, || {
            let result = act();
            (result, engine.metrics().background_errors > counted)
        })
    }

    /// Has something done that may tell so that something failed.
    fn act<T>(&mut self, what: &str, act: impl FnOnce() -> (Result<T>, bool)) -> Result<T> {
        let (struck_before, told_before) = (self.struck(), self.told);
        let (result, is_counted) = act();
        self.hear();
        self.told += u64::from(result.as_ref().is_err_and(|error| error.kind() != ErrorKind::Stalled));
        let is_told = is_counted || self.told > told_before;
        assert!(
            is_told || self.struck() == struck_before,
            "seed {}, {what}: something failed, and nobody was told: {:?}",
            self.seed,
            self.faults.rules()
        );
        result
    }

    fn struck(&self) -> u64 {
        struck(&self.faults, self.options.log_backend)
    }

    fn hear(&mut self) {
        for event in std::mem::take(&mut *self.events.lock().unwrap()) {
            match event {
                Event::BackgroundError(error) | Event::WritingStopped(error) => {
                    self.told += 1;
                    self.counted += 1;
                    self.heard = Some(error);
                }
                Event::Quarantined { .. } | Event::SetAside { .. } => self.told += 1,
                Event::WritingResumed => self.resumed = true,
                _ => {}
            }
        }
        if std::mem::take(&mut self.resumed) {
            self.worlds.resumed();
        }
    }

    fn step(&mut self, store: Store, step: u64) -> Store {
        self.write(&store);
        self.read(&store);
        let engine = &store.engine;
        match self.random.below(120) {
            0..2 => {
                if self.on("flush", engine, || engine.flush()).is_ok() {
                    self.worlds.synced();
                }
            }
            2..4 => {
                let space = &store.spaces[self.random.index(SPACES)];
                _ = self.on("compact_range", engine, || space.compact_range(..));
            }
            4..6 => {
                if self.on("sync", engine, || engine.sync()).is_ok() {
                    self.worlds.synced();
                }
            }
            6..10 => {
                _ = self.on("resume", engine, || engine.resume());
                self.unseen = None;
            }
            10 => {
                let report = self.on("verify", engine, || match engine.verify()? {
                    report if report.is_ok() => Ok(()),
                    mut report => Err(report.damaged.pop_first().expect("not all is well").1),
                });
                drop(report);
            }
            11 => self.check_cut(),
            12 => self.checkpoint(&store, step),
            13..15 => return self.reopen(store),
            15..30 => self.work(engine),
            _ => {}
        }
        store
    }

    fn work(&mut self, engine: &Engine) {
        self.heard = None;
        _ = self.on("step", engine, || engine.step());
        let is_counted = engine.metrics().background_errors;
        assert_eq!(self.counted, is_counted, "seed {}: events, and errors that were counted", self.seed);
        // Where the next log can't be begun the one there is goes on, and no write is told.
        let is_of_a_log = |error: &Error| error.to_string().starts_with("log ");
        if engine.metrics().writing_stopped.is_none() {
            self.unseen = self.heard.take().filter(|error| !is_of_a_log(error));
        }
    }

    fn effect(&mut self) -> Effect {
        let (space, key) = (self.random.index(SPACES), self.random.below(KEYS));
        match self.random.below(12) {
            0..2 => Effect::Delete(space, key),
            2 => Effect::DeleteRange(space, key, key + 1 + self.random.below(10)),
            _ => Effect::Put(space, key, self.id()),
        }
    }

    fn id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }

    /// Takes up what came of a write.
    fn wrote(&mut self, what: &str, store: &Store, effects: &[Effect], result: &Result<bool>) {
        let only_deletes = !effects.iter().any(|effect| matches!(effect, Effect::Put(..)));
        match result {
            Ok(true) => {
                let unseen = self.unseen.take();
                assert!(
                    unseen.is_none() || only_deletes,
                    "seed {}, {what}: the write was not told of {unseen:?}",
                    self.seed
                );
                self.worlds.acknowledged(effects);
            }
            // Nothing was to be written.
            Ok(false) => {}
            Err(error) if error.outcome_unknown() => self.worlds.unknown(effects),
            Err(error) if error.kind() == ErrorKind::Stalled => (0..8).for_each(|_| self.work(&store.engine)),
            Err(_) => self.unseen = None,
        }
    }

    fn write(&mut self, store: &Store) {
        let durability = if self.random.one_in(16) { Durability::Sync } else { Durability::Os };
        let options = WriteOptions { durability, ..WriteOptions::default() };
        let Store { engine, spaces } = store;
        let (what, effects, result) = match self.random.below(60) {
            0 => return self.ingest(store),
            1 => return self.load(store),
            2..10 => {
                let (space, i, id) = (self.random.index(SPACES), self.random.below(KEYS), self.id());
                let insert = || spaces[space].insert_if_absent_with(key(i), value(id), &options);
                let result = self.on("insert_if_absent", engine, insert);
                if let Ok(inserted) = result {
                    let agrees = |world: &World| world.contains_key(&(space, i)) != inserted;
                    assert!(self.worlds.saw(agrees), "seed {}: insert_if_absent({i}): {inserted}", self.seed);
                }
                ("insert_if_absent", vec![Effect::Put(space, i, id)], result)
            }
            10..20 => {
                let effects: Vec<Effect> = (0..=self.random.below(4)).map(|_| self.effect()).collect();
                let result = self.on("transact", engine, || {
                    engine.transact_with(&options, |tx| {
                        for effect in &effects {
                            match *effect {
                                Effect::Put(space, i, id) => {
                                    tx.get_in(&spaces[space], key(i))?;
                                    tx.put_in(&spaces[space], key(i), value(id))?;
                                }
                                Effect::Delete(space, i) => tx.delete_in(&spaces[space], key(i))?,
                                Effect::DeleteRange(space, from, to) => {
                                    tx.delete_range_in(&spaces[space], key(from), key(to))?;
                                }
                            }
                        }
                        Ok(true)
                    })
                });
                ("transact", effects, result)
            }
            n => {
                let many = if n < 30 { self.random.below(6) } else { 0 };
                let effects: Vec<Effect> = (0..=many).map(|_| self.effect()).collect();
                let mut batch = WriteBatch::new();
                for effect in &effects {
                    match *effect {
                        Effect::Put(space, i, id) => batch.put_in(&spaces[space], key(i), value(id)),
                        Effect::Delete(space, i) => batch.delete_in(&spaces[space], key(i)),
                        Effect::DeleteRange(space, from, to) => {
                            batch.delete_range_in(&spaces[space], key(from), key(to))
                        }
                    };
                }
                let result = self.on("write", engine, || engine.write_with(&batch, &options).map(|()| true));
                ("write", effects, result)
            }
        };
        self.wrote(what, store, &effects, &result);
        if durability == Durability::Sync && matches!(result, Ok(true)) {
            self.worlds.synced();
        }
    }

    /// Puts and deletions of one keyspace, in order of keys.
    fn entries(&mut self) -> (usize, Vec<Effect>) {
        let space = self.random.index(SPACES);
        let first = self.random.below(KEYS - 10);
        let mut effects = Vec::new();
        for key in first..first + 1 + self.random.below(10) {
            let id = self.id();
            effects.push(if self.random.one_in(4) { Effect::Delete(space, key) } else { Effect::Put(space, key, id) });
        }
        (space, effects)
    }

    /// Of what comes as tables nothing is there that failed, unless the error says that it may be, or writing has stopped.
    fn brought(&mut self, what: &str, store: &Store, effects: &[Effect], result: Result<()>) {
        let has_stopped = store.engine.metrics().writing_stopped.is_some();
        match result {
            Err(error) if error.outcome_unknown() || has_stopped && error.kind() != ErrorKind::ReadOnly => {
                self.worlds.unknown(effects);
            }
            result => {
                let result = result.map(|()| true);
                self.wrote(what, store, effects, &result);
                if result.is_ok() {
                    self.worlds.synced();
                }
            }
        }
    }

    fn ingest(&mut self, store: &Store) {
        let (space, effects) = self.entries();
        // Built where nothing fails.
        let memory = || Arc::clone(&self.memory) as Arc<dyn Vfs>;
        memory().create_dir_all(Path::new("outside")).unwrap();
        let path = format!("outside/{}.sst", self.next_id);
        let mut table = SstWriter::create_on(memory(), &path, &SstOptions::default()).unwrap();
        for effect in &effects {
            match *effect {
                Effect::Put(_, i, id) => table.put(key(i), value(id)).unwrap(),
                Effect::Delete(_, i) => table.delete(key(i)).unwrap(),
                Effect::DeleteRange(..) => unreachable!("there is none"),
            }
        }
        table.finish().unwrap();
        let move_files = self.random.one_in(2);
        let ingest = || store.spaces[space].ingest([&path], &IngestOptions { move_files }).map(drop);
        let result = self.on("ingest", &store.engine, ingest);
        if result.as_ref().is_err_and(|error| !error.outcome_unknown())
            && store.engine.metrics().writing_stopped.is_none()
        {
            assert!(self.memory.metadata(Path::new(&path)).is_ok(), "seed {}: {path} is lost", self.seed);
        }
        self.brought("ingest", store, &effects, result);
    }

    fn load(&mut self, store: &Store) {
        let (space, effects) = self.entries();
        let result = self.on("bulk load", &store.engine, || {
            let mut load = store.spaces[space].bulk_writer()?;
            for effect in &effects {
                match *effect {
                    Effect::Put(_, i, id) => load.put(key(i), value(id))?,
                    Effect::Delete(_, i) => load.delete(key(i))?,
                    Effect::DeleteRange(..) => unreachable!("there is none"),
                }
            }
            load.finish().map(drop)
        });
        self.brought("bulk load", store, &effects, result);
    }

    fn read(&mut self, store: &Store) {
        let (space, i) = (self.random.index(SPACES), self.random.below(KEYS));
        if let Ok(found) = self.on("get", &store.engine, || store.spaces[space].get(key(i))) {
            let found = found.as_deref().map(id_of);
            let agrees = |world: &World| world.get(&(space, i)).copied() == found;
            assert!(self.worlds.saw(agrees), "seed {}: get({i}) of {space} found {found:?}", self.seed);
        }
        if self.random.one_in(8) {
            let backwards = self.random.one_in(2);
            if let Ok(found) = self.on("scan", &store.engine, || contents(&store.spaces, backwards)) {
                assert!(self.worlds.saw(|world| *world == found), "seed {}: a scan found {found:?}", self.seed);
            }
        }
    }

    /// A copy of another directory opens, with what there was.
    fn checkpoint(&mut self, store: &Store, step: u64) {
        let to = format!("copy{step}");
        if self.on("checkpoint", &store.engine, || store.engine.checkpoint(&to)).is_ok() {
            let builder = Engine::builder(&to).vfs(Arc::clone(&self.memory) as _).options(self.options.clone());
            let copy = Store::open(builder.background(Background::Manual));
            match copy.and_then(|copy| contents(&copy.spaces, false)) {
                Ok(found) => assert!(self.worlds.may_be_seen(&found), "seed {}: a copy holds {found:?}", self.seed),
                // What is copied is as it was read.
                Err(error) => self.is_of_a_flip(&error),
            }
        }
    }

    /// A power cut now leaves something that was there since all was on stable storage.
    fn check_cut(&self) {
        for policy in [CrashPolicy::SyncedOnly, CrashPolicy::Subset(self.seed), CrashPolicy::All] {
            let image: Arc<dyn Vfs> = Arc::new(self.memory.crash_now(policy));
            let store = Store::open(self.builder_on(image))
                .unwrap_or_else(|error| panic!("seed {}, {policy:?}: {error}", self.seed));
            let found = contents(&store.spaces, false).unwrap();
            assert!(self.worlds.may_outlast_a_cut(&found), "seed {}, {policy:?}: {found:?} is left", self.seed);
        }
    }

    /// Closes and opens it, with failures in both, until that comes to an end.
    fn reopen(&mut self, store: Store) -> Store {
        if self.on("close", &store.engine, || store.engine.close()).is_ok() {
            self.worlds.synced();
        }
        drop(store);
        let mut attempts = 0;
        let store = loop {
            (self.unseen, self.counted) = (None, 0);
            if self.random.one_in(4) {
                self.look();
            }
            let builder = self.listened();
            match self.act("open", || (Store::open(builder), false)) {
                Ok(store) => break store,
                Err(error) => {
                    assert!(attempts < 4, "seed {}: {error}", self.seed);
                    attempts += 1;
                    self.counted = 0;
                }
            }
            if attempts == 3 {
                self.clear();
            }
        };
        self.worlds.reopened();
        if self.random.one_in(2) {
            self.faults.add(rule(&mut self.random));
        }
        store
    }

    /// Who only reads finds it so as well.
    fn look(&mut self) {
        let builder = self.builder().read_only(true);
        if let Ok(found) =
            self.act("look", || (Store::open(builder).and_then(|store| contents(&store.spaces, false)), false))
        {
            assert!(self.worlds.may_be_found(&found), "seed {}: who only reads found {found:?}", self.seed);
        }
    }

    fn clear(&mut self) {
        self.has_flipped |= flipped(&self.faults);
        self.tally.add(&self.faults);
        self.faults.clear();
    }

    /// Nothing but a bit that was read wrong is damage.
    fn is_of_a_flip(&self, error: &Error) {
        let has_flipped = self.has_flipped || flipped(&self.faults);
        assert!(has_flipped && error.kind() == ErrorKind::Corruption, "seed {}: {error}", self.seed);
    }

    /// Nothing fails any more: it writes again, has all that it must, and opens.
    fn end(&mut self, store: Store) {
        self.check_cut();
        self.clear();
        let seed = self.seed;
        store.engine.resume().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        self.hear();
        match contents(&store.spaces, false) {
            Ok(found) => assert!(self.worlds.saw(|world| *world == found), "seed {seed}, resumed: {found:?}"),
            // What was seen to be damaged is out of use until it is opened again.
            Err(error) => self.is_of_a_flip(&error),
        }
        let id = self.id();
        store.engine.put(key(0), value(id)).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        self.worlds.acknowledged(&[Effect::Put(0, 0, id)]);
        store.engine.close().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        self.worlds.synced();
        drop(store);
        self.check_cut();
        let store = Store::open(self.builder()).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        self.worlds.reopened();
        for backwards in [false, true] {
            let found = contents(&store.spaces, backwards).unwrap();
            assert!(self.worlds.saw(|world| *world == found), "seed {seed}, opened again: {found:?}");
        }
        assert!(store.engine.verify().unwrap().is_ok(), "seed {seed}");
    }
}
