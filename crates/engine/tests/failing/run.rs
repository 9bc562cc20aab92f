//! One run of an engine on a file system that fails: what is done, and what is asked of each answer.

use crate::rules::{Tally, flipped, rule, rule_of, struck};
use crate::store::{Store, contents, id_of, key, options, value};
use crate::worlds::{Effect, KEYS, SPACES, World, Worlds};
use esker::vfs::{CrashPolicy, FaultVfs, MemVfs, Vfs};
use esker::{Background, Builder, Engine, Error, ErrorKind, Event, Options, Result};
use esker_testkit::random::Random;
use std::sync::{Arc, Mutex};

const STEPS: u64 = 300;

/// How what is told of such failures begins.
const MADE_UP_FOR: [&str; 2] = ["the next log can't be made", "the file of a log can't be used again"];

pub(crate) struct Run {
    pub(crate) seed: u64,
    pub(crate) random: Random,
    pub(crate) memory: Arc<MemVfs>,
    faults: Arc<FaultVfs>,
    options: Options,
    pub(crate) worlds: Worlds,
    /// Events not looked at yet.
    events: Arc<Mutex<Vec<Event>>>,
    /// Errors, and events that tell of some.
    told: u64,
    /// Of these what the engine's counter must have counted since it was opened.
    counted: u64,
    /// What failed in the background, for the next write to tell.
    pub(crate) unseen: Option<Error>,
    /// What the listener heard of last, for a write to tell.
    heard: Option<Error>,
    /// Whether the engine said that it writes again.
    resumed: bool,
    /// Whether a bit of something was read wrong.
    has_flipped: bool,
    /// Whether a file was taken out of use.
    has_quarantined: bool,
    tally: Tally,
    pub(crate) next_id: u32,
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
            has_quarantined: false,
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
    pub(crate) fn on<T>(&mut self, what: &str, engine: &Engine, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let counted = engine.metrics().background_errors;
        self.act(what, || {
            let result = act();
            (result, engine.metrics().background_errors > counted)
        })
    }

    /// As `on`, of what has all that was committed on stable storage.
    fn sync_by(&mut self, what: &str, engine: &Engine, act: impl FnOnce() -> Result<()>) {
        if self.on(what, engine, act).is_ok() {
            self.worlds.synced();
        }
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
        struck(&self.faults)
    }

    fn hear(&mut self) {
        for event in std::mem::take(&mut *self.events.lock().unwrap()) {
            match event {
                Event::BackgroundError(error) | Event::WritingStopped(error) => {
                    self.told += 1;
                    self.counted += 1;
                    // No write is told of what is made up for.
                    if !MADE_UP_FOR.iter().any(|what| error.to_string().starts_with(what)) {
                        self.heard = Some(error);
                    }
                }
                Event::Quarantined { .. } => {
                    self.told += 1;
                    self.has_quarantined = true;
                }
                Event::SetAside { .. } => self.told += 1,
                // What came before is mended.
                Event::WritingResumed => (self.resumed, self.heard, self.unseen) = (true, None, None),
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
            0..2 => self.sync_by("flush", engine, || engine.flush()),
            2..4 => {
                let space = &store.spaces[self.random.index(SPACES)];
                _ = self.on("compact_range", engine, || space.compact_range(..));
            }
            4..6 => self.sync_by("sync", engine, || engine.sync()),
            6..10 => {
                _ = self.on("resume", engine, || engine.resume());
                self.unseen = None;
            }
            10 => {
                _ = self.on("verify", engine, || match engine.verify()? {
                    report if report.is_ok() => Ok(()),
                    mut report => Err(report.damaged.pop_first().expect("not all is well").1),
                });
            }
            11 => self.check_cut(),
            12 => self.checkpoint(&store, step),
            13..15 => return self.reopen(store),
            15..30 => self.work(engine),
            _ => {}
        }
        store
    }

    pub(crate) fn work(&mut self, engine: &Engine) {
        self.heard = None;
        _ = self.on("step", engine, || engine.step());
        let is_counted = engine.metrics().background_errors;
        assert_eq!(self.counted, is_counted, "seed {}: events, and errors that were counted", self.seed);
        if engine.metrics().writing_stopped.is_none() {
            self.unseen = self.heard.take().or(self.unseen.take());
        }
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
        self.sync_by("close", &store.engine, || store.engine.close());
        drop(store);
        let mut attempts = 0;
        let store = loop {
            if self.random.one_in(4) {
                self.look();
            }
            (self.unseen, self.counted) = (None, 0);
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
        let builder = self.listened().read_only(true);
        if let Ok(found) =
            self.act("look", || (Store::open(builder).and_then(|store| contents(&store.spaces, false)), false))
        {
            assert!(self.worlds.may_be_found(&found), "seed {}: who only reads found {found:?}", self.seed);
        }
    }

    fn clear(&mut self) {
        let rules = self.faults.clear();
        self.has_flipped |= flipped(&rules);
        self.tally.add(&rules);
    }

    /// Nothing but a bit that was read wrong is damage.
    fn is_of_a_flip(&self, error: &Error) {
        let has_flipped = self.has_flipped || flipped(&self.faults.rules());
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
            // What was seen to be damaged, or could not be opened, is out of use until it is opened again.
            Err(_) if self.has_quarantined => {}
            Err(error) => self.is_of_a_flip(&error),
        }
        let id = self.id();
        while let Err(error) = store.engine.put(key(0), value(id)) {
            // Nobody else makes room.
            let goes_on = error.kind() == ErrorKind::Stalled && store.engine.step().unwrap();
            assert!(goes_on, "seed {seed}: {error}");
        }
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
