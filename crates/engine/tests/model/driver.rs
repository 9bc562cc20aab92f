//! An engine and its model, driven by the same operations and compared after each.
//!
//! What a compaction filter does is seen, not known: wherever compaction may have come by, the driver looks at what is there before it goes on ([`Model::look`]).

mod feed;
mod reads;

use esker::vfs::{Clock, CrashPolicy, ManualClock, MemVfs, Vfs};
use esker::{
    Background, Builder, Durability, Engine, ErrorKind, FilterDecision, IngestOptions, Keyspace, KeyspaceOptions,
    Options, Snapshot, SstOptions, SstWriter, WriteBatch, WriteOptions,
};
use esker_testkit::model::{
    At, Change, Contents, Crash, Effect, FILTERED, Fate, Key, LIVING, Level, MERGED, Model, Op, Range, SPACES, Script,
    Source, Space, Terms, Write, fate_of, value_of,
};
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const DIR: &str = "/data";
const OUTSIDE: &str = "/outside";
const NAMES: [&str; SPACES] = ["default", "one", "two"];
const FILTER: &str = "by value";

/// What lives under each name.
pub(crate) type Living = [Option<Space>; SPACES];

pub(crate) struct Driver {
    pub(crate) vfs: Arc<MemVfs>,
    clock: Arc<ManualClock>,
    /// How far the wall clock is set back.
    set_back_ms: Cell<u64>,
    options: Options,
    pub(crate) model: Model,
    /// `None` only while it is being opened.
    engine: Option<Engine>,
    /// The last keyspace of each name; it may have been dropped since.
    handles: [Option<(Keyspace, Space)>; SPACES],
    snapshots: Vec<Taken>,
    /// No crash may undo what was committed up to here,
    durable: usize,
    /// nor one that loses nothing of what the kernel had what was committed up to here.
    pushed: usize,
    /// The last sequence number of each commit.
    ends: Vec<u64>,
    /// How many operations there were; values are made of it.
    ops: usize,
    /// Whether the filter is there in the next engine to be opened,
    register: bool,
    /// and in this one.
    has_filter: bool,
}

struct Taken {
    snapshot: Snapshot,
    at: At,
    living: Living,
    /// The newest keyspace then: those made later read as empty.
    newest: Space,
}

fn builder(vfs: &Arc<MemVfs>, options: &Options, register: bool) -> Builder {
    let vfs = Arc::clone(vfs) as Arc<dyn Vfs>;
    let builder = Engine::builder(DIR).vfs(vfs).options(options.clone()).background(Background::Manual);
    if register { builder.compaction_filter(FILTER, filter) } else { builder }
}

fn filter(_: u8, _: &[u8], value: &[u8]) -> FilterDecision {
    match fate_of(value) {
        Fate::Kept => FilterDecision::Keep,
        Fate::Removed => FilterDecision::Remove,
        Fate::Replaced(value) => FilterDecision::Replace(value),
    }
}

/// Makes an engine, or opens what a crash while it was made has left.
fn create(vfs: &Arc<MemVfs>, options: &Options) -> Engine {
    builder(vfs, options, true).default_keyspace(options_of(0)).open().unwrap()
}

pub(crate) fn open(vfs: &Arc<MemVfs>, options: &Options) -> esker::Result<Engine> {
    builder(vfs, options, true).open()
}

pub(crate) fn open_read_only(vfs: &Arc<MemVfs>, options: &Options) -> esker::Result<Engine> {
    let vfs = Arc::clone(vfs) as Arc<dyn Vfs>;
    Engine::builder(DIR).vfs(vfs).options(options.clone()).read_only(true).open()
}

/// The same files again, to be opened without changing these. For what a crash left, where nothing is pending.
pub(crate) fn copy(vfs: &MemVfs) -> Arc<MemVfs> {
    Arc::new(vfs.crash_now(CrashPolicy::All))
}

/// What a keyspace is made with.
fn options_of(name: usize) -> KeyspaceOptions {
    KeyspaceOptions {
        merge_operator: (name == MERGED).then(|| "esker.append".to_owned()),
        compaction_filter: (name == FILTERED).then(|| FILTER.to_owned()),
        ttl: (name == LIVING.0).then(|| Duration::from_secs(LIVING.1)),
        ..KeyspaceOptions::default()
    }
}

/// All that is in the engine, by name.
pub(crate) fn contents(engine: &Engine) -> esker::Result<Vec<(usize, Contents)>> {
    let number = |name: &String| NAMES.iter().position(|known| known == name).expect("a name of ours");
    let names = engine.keyspaces();
    names
        .iter()
        .map(|name| {
            let keyspace = engine.keyspace(name, KeyspaceOptions::default())?;
            let entries = keyspace.iter().map(|item| item.map(|(k, v)| (k.to_vec(), v.to_vec())));
            Ok((number(name), entries.collect::<esker::Result<_>>()?))
        })
        .collect()
}

/// How writes are made.
#[derive(Clone, Copy)]
enum Way {
    Batch,
    Transaction,
}

impl Driver {
    pub(crate) fn new(options: Options) -> Self {
        let clock = Arc::new(ManualClock::new());
        let vfs = MemVfs::new().with_clock(Arc::clone(&clock) as Arc<dyn Clock>);
        let engine = create(&vfs, &options);
        let mut driver = Self {
            vfs,
            set_back_ms: Cell::new(0),
            clock,
            options,
            model: Model::new(),
            engine: None,
            handles: [const { None }; SPACES],
            snapshots: Vec::new(),
            durable: 0,
            pushed: 0,
            ends: Vec::new(),
            ops: 0,
            register: true,
            has_filter: true,
        };
        driver.take_up(engine);
        driver
    }

    /// Runs a whole script from an empty directory.
    pub(crate) fn run(script: &Script, options: Options) {
        let mut driver = Self::new(options);
        script.0.iter().for_each(|op| driver.apply(op));
        driver.check_all();
        assert!(driver.engine().verify().unwrap().is_ok());
    }

    /// The last commit that no crash may undo, and the last that the kernel has.
    pub(crate) fn safe(&self) -> (usize, usize) {
        (self.durable, self.pushed.max(self.durable))
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("open")
    }

    pub(crate) fn apply(&mut self, op: &Op) {
        self.ops += 1;
        match op {
            Op::Write(terms, writes) => self.write(*terms, writes, Way::Batch),
            Op::Transact(terms, writes) => self.write(*terms, writes, Way::Transaction),
            Op::Clear(space) => self.clear(*space),
            Op::Ingest(space, source, entries) => self.ingest(*space, *source, entries),
            Op::Get(space, view, key) => self.get(*space, *view, key),
            Op::Scan(space, view, range, pattern) => self.scan(*space, *view, range, pattern),
            Op::Walk(space, view, range, steps) => self.walk(*space, *view, range, steps),
            Op::Take => self.snapshots.push(Taken {
                snapshot: self.engine().snapshot(),
                at: self.model.now(),
                living: self.model.living(),
                newest: self.model.newest(),
            }),
            Op::Release(n) if !self.snapshots.is_empty() => drop(self.snapshots.remove(n % self.snapshots.len())),
            Op::Release(_) => {}
            Op::Flush => {
                self.engine().flush().unwrap();
                self.flushed(self.model.living().into_iter().flatten());
            }
            Op::Compact(space, range) => self.compact(*space, range),
            Op::Work(steps) => {
                let _ = (0..*steps).find(|_| !self.engine().step().unwrap());
                self.look();
            }
            Op::Create(name) => self.create(*name),
            Op::Drop(name) => self.drop_keyspace(*name),
            Op::Sync => {
                self.engine().sync().unwrap();
                self.durable = self.model.commits();
            }
            Op::Pass(seconds) => {
                self.clock.advance(Duration::from_secs(*seconds));
                self.model.pass(*seconds);
            }
            Op::SetBack(seconds) => {
                self.clock.set_unix_ms(self.clock.unix_ms() - seconds * 1_000);
                self.set_back_ms.set(self.set_back_ms.get() + seconds * 1_000);
            }
            Op::Register(is_registered) => self.register = *is_registered,
            Op::Reopen => self.reopen(),
            Op::Crash(crash) => self.crash(*crash),
        }
    }

    fn write(&mut self, terms: Terms, writes: &[Write], way: Way) {
        let ops = self.ops;
        let mut batch = WriteBatch::new();
        let mut commit = Vec::new();
        for (nth, (name, key, change)) in writes.iter().enumerate() {
            let Some(space) = self.model.living()[*name] else { continue };
            let (keyspace, _) = self.handles[*name].as_ref().expect("it lives");
            let effect = match change {
                Change::Put(len) => {
                    let value = value_of(ops, nth, *len);
                    batch.put_in(keyspace, key, &value);
                    let of_keyspace = (*name == LIVING.0).then_some(LIVING.1);
                    match terms.ttl.or(of_keyspace) {
                        Some(ttl) => Effect::PutFor(value, ttl),
                        None => Effect::Put(value),
                    }
                }
                Change::PutForever(len) => {
                    let value = value_of(ops, nth, *len);
                    batch.put_expiring_in(keyspace, key, &value, Duration::MAX);
                    Effect::Put(value)
                }
                Change::PutFor(len, ttl) => {
                    let value = value_of(ops, nth, *len);
                    batch.put_expiring_in(keyspace, key, &value, Duration::from_secs(*ttl));
                    Effect::PutFor(value, *ttl)
                }
                Change::Merge(len) => {
                    let operand = value_of(ops, nth, *len);
                    batch.merge_in(keyspace, key, &operand);
                    Effect::Append(operand)
                }
                Change::Delete => {
                    batch.delete_in(keyspace, key);
                    Effect::Delete
                }
                Change::DeleteTo(end) => {
                    batch.delete_range_in(keyspace, key, end);
                    Effect::DeleteTo(Some(end.clone()))
                }
            };
            commit.push((space, key, effect));
        }
        if commit.is_empty() {
            return;
        }
        let durability = match terms.level {
            Level::Memory => Durability::Memory,
            Level::Os => Durability::Os,
            Level::Sync => Durability::Sync,
        };
        let ttl = terms.ttl.map(Duration::from_secs);
        let options = WriteOptions { durability, ttl, ..WriteOptions::default() };
        self.until_there_is_room(|driver| match way {
            Way::Batch => driver.engine().write_with(&batch, &options),
            Way::Transaction => driver.transact(&commit, &options),
        });
        self.commit(commit);
        self.committed_at(durability);
    }

    /// What was committed last was so at this level.
    fn committed_at(&mut self, durability: Durability) {
        match durability {
            Durability::Os => self.pushed = self.model.commits(),
            Durability::Sync => self.durable = self.model.commits(),
            _ => {}
        }
    }

    /// Has the model do what the engine has just done.
    fn commit<'a>(&mut self, effects: impl IntoIterator<Item = (Space, &'a Key, Effect)>) {
        self.model.commit(effects);
        self.ends.push(self.engine().snapshot().seq());
    }

    fn clear(&mut self, name: usize) {
        let Some(space) = self.model.living()[name] else { return };
        let (keyspace, _) = self.handles[name].clone().expect("it lives");
        self.until_there_is_room(|_| keyspace.clear());
        self.commit([(space, &Key::new(), Effect::DeleteTo(None))]);
        self.committed_at(self.options.durability);
    }

    /// Commits by way of tables: one of what there is, or two if there is enough.
    fn ingest(&mut self, name: usize, source: Source, entries: &[(Key, Option<usize>)]) {
        let Some(space) = self.model.living()[name] else { return };
        let (keyspace, _) = self.handles[name].clone().expect("it lives");
        // The later of two that bring the same key counts.
        let entries: BTreeMap<&Key, Option<Vec<u8>>> = entries
            .iter()
            .enumerate()
            .map(|(nth, (key, len))| (key, len.map(|len| value_of(self.ops, nth, len))))
            .collect();
        let list: Vec<_> = entries.iter().collect();
        let mut files = Vec::new();
        if source != Source::Bulk {
            self.vfs.create_dir_all(OUTSIDE.as_ref()).unwrap();
            let (first, second) = list.split_at(list.len() / 2);
            for (nth, part) in [first, second].into_iter().enumerate().filter(|(_, part)| !part.is_empty()) {
                let path = format!("{OUTSIDE}/{}-{nth}.sst", self.ops);
                let vfs = Arc::clone(&self.vfs) as Arc<dyn Vfs>;
                let options = SstOptions { block_size_bytes: 128, ..SstOptions::default() };
                let mut table = SstWriter::create_on(vfs, &path, &options).unwrap();
                for (key, value) in part {
                    match value {
                        Some(value) => table.put(key, value).unwrap(),
                        None => table.delete(key).unwrap(),
                    }
                }
                table.finish().unwrap();
                files.push(path);
            }
        }
        self.until_there_is_room(|_| {
            let ingested = match source {
                Source::Bulk => {
                    let mut load = keyspace.bulk_writer()?;
                    for (key, value) in &list {
                        match value {
                            Some(value) => load.put(key, value)?,
                            None => load.delete(key)?,
                        }
                    }
                    load.finish()?
                }
                _ => keyspace.ingest(&files, &IngestOptions { move_files: source == Source::Moved })?,
            };
            assert_eq!(ingested.entries(), list.len() as u64);
            Ok(())
        });
        for path in &files {
            assert_eq!(self.vfs.metadata(path.as_ref()).is_ok(), source == Source::Copied, "{path}");
        }
        // It never expires, whatever the time to live of the keyspace.
        let effect = |value: &Option<Vec<u8>>| value.clone().map_or(Effect::Delete, Effect::Put);
        self.commit(entries.iter().map(|(key, value)| (space, *key, effect(value))));
        self.durable = self.model.commits();
    }

    /// Writes; where the engine stalls, works in the background, which nobody else does.
    fn until_there_is_room(&mut self, write: impl Fn(&Self) -> esker::Result<()>) {
        let mut result = write(self);
        while result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Stalled) {
            assert!(self.engine().step().unwrap(), "stalled, and there is nothing to do");
            self.look();
            result = write(self);
        }
        result.unwrap();
    }

    /// Looks at what the filter has done, wherever compaction may have come by.
    fn look(&mut self) {
        let held = self.held();
        let has_filter = self.has_filter;
        self.look_for(|commit| has_filter && held.is_none_or(|held| commit > held));
    }

    /// The same, where it may have changed what these commits wrote.
    fn look_for(&mut self, may: impl Fn(usize) -> bool) {
        let (keyspace, space) = self.handles[FILTERED].as_ref().expect("it lives");
        let entries = keyspace.iter().map(|item| item.map(|(k, v)| (k.to_vec(), v.to_vec())).unwrap());
        self.model.look(*space, &entries.collect(), may).unwrap_or_else(|wrong| panic!("after the filter: {wrong}"));
    }

    /// The last commit that a snapshot sees: up to there no filter is asked.
    fn held(&self) -> Option<usize> {
        self.snapshots.iter().map(|taken| taken.at.commit).max()
    }

    /// Writes by a transaction, which sees what was there and over it what it writes.
    fn transact(&self, writes: &[(Space, &Key, Effect)], options: &WriteOptions) -> esker::Result<()> {
        let mut tx = self.engine().transaction();
        let mut seen: BTreeMap<Space, BTreeMap<&[u8], Cow<'_, [u8]>>> = BTreeMap::new();
        for (space, key, effect) in writes {
            let (keyspace, _) = self.handles.iter().flatten().find(|(_, of)| of == space).expect("it lives");
            let there = || {
                let all = self.model.range(*space, &Range::ALL, self.model.now());
                all.into_iter().map(|(key, value)| (key, value.into())).collect()
            };
            let seen = seen.entry(*space).or_insert_with(there);
            let key = &key[..];
            let expected = seen.get(key).map(|value| &value[..]);
            assert_eq!(tx.get_in(keyspace, key)?.as_deref(), expected, "transaction: get {}", key.escape_ascii());
            let last = match effect {
                Effect::DeleteTo(end) => end.as_deref(),
                _ => Some(key),
            };
            match effect {
                Effect::Put(value) | Effect::PutFor(value, _) => {
                    tx.put_in(keyspace, key, value)?;
                    seen.insert(key, value[..].into());
                }
                Effect::Delete => {
                    tx.delete_in(keyspace, key)?;
                    seen.remove(key);
                }
                Effect::DeleteTo(end) => {
                    match end {
                        Some(end) => tx.delete_range_in(keyspace, key, end)?,
                        None => tx.clear_in(keyspace)?,
                    }
                    seen.retain(|other, _| *other < key || end.as_ref().is_some_and(|end| *other >= &end[..]));
                }
                Effect::Append(operand) => {
                    tx.merge_in(keyspace, key, operand)?;
                    seen.entry(key).or_default().to_mut().extend_from_slice(operand);
                }
            }
            let range = (Bound::Included(key), last.map_or(Bound::Unbounded, Bound::Included));
            let expected = seen.range::<[u8], _>(range).map(|(k, v)| (*k, &v[..]));
            let found = tx.of(keyspace).range(range);
            let found: Vec<_> = if key.len() % 2 == 0 {
                found.collect::<esker::Result<_>>()?
            } else {
                let mut back = found.rev().collect::<esker::Result<Vec<_>>>()?;
                back.reverse();
                back
            };
            assert!(found.iter().map(|(k, v)| (&k[..], &v[..])).eq(expected), "transaction: scan {range:?}: {found:?}");
        }
        tx.commit_with(options)
    }

    fn create(&mut self, name: usize) {
        if self.model.living()[name].is_none() {
            let keyspace = self.engine().keyspace(NAMES[name], options_of(name)).unwrap();
            assert_eq!(keyspace.iter().count(), 0, "a new keyspace is empty");
            self.handles[name] = Some((keyspace, self.model.create(name)));
        }
    }

    fn drop_keyspace(&mut self, name: usize) {
        if self.model.living()[name].is_none() {
            assert_eq!(self.engine().drop_keyspace(NAMES[name]).unwrap_err().kind(), ErrorKind::NotFound);
            return;
        }
        self.engine().drop_keyspace(NAMES[name]).unwrap();
        self.model.drop_space(name);
        let (keyspace, _) = self.handles[name].as_ref().expect("it lived");
        assert_eq!(keyspace.put("k", "v").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(keyspace.get("k").unwrap_err().kind(), ErrorKind::NotFound);
    }

    fn compact(&mut self, name: usize, range: &Range) {
        let Some(space) = self.model.living()[name] else { return };
        let (keyspace, _) = self.handles[name].as_ref().expect("it lives");
        keyspace.compact_range((range.lower.clone(), range.upper.clone())).unwrap();
        self.flushed([space]);
        if name == FILTERED && self.has_filter {
            self.model.filter(space, range, self.held());
        }
        self.look();
    }

    /// All of these keyspaces was flushed, and what came before is never less durable. What was last written to one that was dropped by then no flush makes so.
    fn flushed(&mut self, spaces: impl IntoIterator<Item = Space>) {
        let last = spaces.into_iter().map(|space| self.model.last_write(space)).max();
        self.durable = self.durable.max(last.unwrap_or(0));
    }

    /// Sets the wall clock right. It is ahead of the model's by what the engine has waited by it, some milliseconds.
    pub(crate) fn set_clock_right(&self) {
        self.clock.set_unix_ms(self.right_ms());
        self.set_back_ms.set(0);
    }

    /// What the wall clock shows when it is right, in milliseconds since 1970.
    fn right_ms(&self) -> u64 {
        self.clock.unix_ms() + self.set_back_ms.get()
    }

    fn let_go(&mut self) -> Engine {
        self.set_clock_right();
        self.snapshots.clear();
        self.handles = [const { None }; SPACES];
        self.engine.take().expect("open")
    }

    fn take_up(&mut self, engine: Engine) {
        for (name, space) in self.model.living().into_iter().enumerate() {
            let keyspace = |_| engine.keyspace(NAMES[name], KeyspaceOptions::default()).unwrap();
            self.handles[name] = space.map(|space| (keyspace(space), space));
        }
        self.engine = Some(engine);
        self.has_filter = self.register;
    }

    fn reopen(&mut self) {
        let engine = self.let_go();
        engine.close().unwrap();
        drop(engine);
        self.durable = self.model.commits();
        let engine = builder(&self.vfs, &self.options, self.register).open().unwrap();
        self.take_up(engine);
        self.check_all();
    }

    fn crash(&mut self, crash: Crash) {
        let image = Arc::new(self.vfs.crash_now(crash.policy()));
        // What the old one still writes goes to files that nobody looks at again.
        drop(self.let_go());
        let (synced, pushed) = self.safe();
        let from = if crash == Crash::All { pushed } else { synced };

        let read_only = contents(&open_read_only(&copy(&image), &self.options).unwrap()).unwrap();
        let engine = open(&image, &self.options).unwrap();
        let found = contents(&engine).unwrap();
        assert_eq!(found, read_only, "what a reader sees of what the crash left");
        let spaces = by_space(found, &self.model.living());
        let told = self.last_told(&engine);
        let (from, to) = told.map_or((from, self.model.commits()), |told| (from.max(told), told));
        let at = self.model.find(&spaces, from..=to, self.model.now().look);
        let at = at.unwrap_or_else(|| panic!("after the crash: no state from {from} to {to}: {spaces:?}"));
        self.model.truncate(at);
        self.ends.truncate(at);

        // What was found is safe now, whatever happens next.
        self.vfs = Arc::new(image.crash_now(CrashPolicy::SyncedOnly));
        drop(engine);
        let engine = builder(&self.vfs, &self.options, self.register).open().unwrap();
        self.durable = at;
        self.pushed = at;
        self.take_up(engine);
        // What a write hid that was lost may have been filtered at any time.
        self.look_for(|_| true);
        self.check_all();
    }

    fn lives(&self, space: Space) -> bool {
        self.model.living().contains(&Some(space))
    }

    /// Everything, key by key and as a whole, both ways.
    pub(crate) fn check_all(&self) {
        self.check_feed();
        let at = self.model.now();
        let spaces = by_space(contents(self.engine()).unwrap(), &self.model.living());
        for (space, found) in &spaces {
            let (keyspace, _) = self.handles.iter().flatten().find(|(_, of)| of == space).expect("it lives");
            assert!(self.model.is(*space, found, at), "{keyspace:?} holds {found:?}");
            let backward: Vec<_> = keyspace.iter().rev().map(|item| item.unwrap().0).collect();
            assert!(backward.iter().rev().map(|key| &key[..]).eq(found.keys().map(|key| &key[..])));
            found.iter().for_each(|(key, value)| assert_eq!(keyspace.get(key).unwrap().as_deref(), Some(&value[..])));
        }
    }
}

/// Contents by keyspace. Panics unless just those that live are there.
pub(crate) fn by_space(found: Vec<(usize, Contents)>, living: &Living) -> Vec<(Space, Contents)> {
    let names: Vec<usize> = found.iter().map(|(name, _)| *name).collect();
    let expected: Vec<usize> = (0..SPACES).filter(|name| living[*name].is_some()).collect();
    assert_eq!(names, expected, "the keyspaces that there should be");
    found.into_iter().map(|(name, contents)| (living[name].expect("it lives"), contents)).collect()
}
