//! The engine of a run: does what the script says, and tells what came of it.

use crate::op::{Change, LIVING, LIVING_SECONDS, MERGED, NAMES, Op, SNAPSHOTS, TRANSACTIONS, Terms, View, Way};
use crate::oracle::{Entry, Oracle, Outcome, carries, once_each, summed};
use crate::sets::{Set, set};
use crate::world::{World, time_at};
use esker::vfs::Vfs;
use esker::{
    Durability, Engine, ErrorKind, FilterDecision, IngestOptions, Keyspace, KeyspaceOptions, Savepoint, Snapshot,
    SstOptions, SstWriter, Transaction, WriteBatch, WriteOptions,
};
use esker_testkit::model::{Contents, Effect, Key, Level, SPACES};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const FILTER: &str = "keeps everything";

/// What is wrong, for a person.
pub(crate) type Wrong = String;

/// What an operation came to: its line of the history; or an error of the engine.
pub(crate) type Tried = Result<Result<String, Wrong>, esker::Error>;

/// What a crash can't undo: a number of commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Safe {
    /// No crash.
    pub(crate) durable: usize,
    /// The death of the process.
    pub(crate) pushed: usize,
}

/// An engine and what is open in it.
pub(crate) struct Subject {
    /// By which number.
    pub(crate) number: usize,
    pub(crate) world: World,
    pub(crate) set: Set,
    /// `None` only while it is being opened.
    pub(crate) engine: Option<Engine>,
    /// The last keyspace of each name; it may have been dropped since.
    pub(crate) handles: [Option<Keyspace>; SPACES],
    pub(crate) snapshots: [Option<Snapshot>; SNAPSHOTS],
    transactions: [Option<(Transaction, Vec<Savepoint>)>; TRANSACTIONS],
    pub(crate) safe: Safe,
    /// The same before the operation that is under way.
    pub(crate) safe_before: Safe,
    /// Something has gone wrong since `fault`,
    pub(crate) is_wounded: bool,
    /// or before `heal`, and may be told of once.
    pub(crate) may_tell: bool,
    /// It had to be opened again for what went wrong: snapshots and transactions that the model has are gone.
    pub(crate) has_lost: bool,
    /// The sequence number, and the commit, from which changes are told next.
    pub(crate) told: Option<(u64, usize)>,
    /// For names of files that were not there before.
    files: usize,
}

/// What a keyspace is made with.
fn options_of(name: usize, asks_filter: bool) -> KeyspaceOptions {
    KeyspaceOptions {
        merge_operator: (name == MERGED).then(|| "esker.append".to_owned()),
        compaction_filter: asks_filter.then(|| FILTER.to_owned()),
        ttl: (name == LIVING).then(|| Duration::from_secs(LIVING_SECONDS)),
        ..KeyspaceOptions::default()
    }
}

/// Opens what lies in a directory, and makes it if it is not there.
fn open_at(vfs: Arc<dyn Vfs>, dir: &Path, set: &Set, read_only: bool) -> esker::Result<Engine> {
    Engine::builder(dir)
        .vfs(vfs)
        .options(set.options.clone())
        .background(set.background)
        .read_only(read_only)
        .compaction_filter(FILTER, |_: u8, _: &[u8], _: &[u8]| FilterDecision::Keep)
        .default_keyspace(options_of(0, set.asks_filter))
        .open()
}

fn durability(level: Level) -> Durability {
    match level {
        Level::Memory => Durability::Memory,
        Level::Os => Durability::Os,
        Level::Sync => Durability::Sync,
    }
}

/// All that is there, by name.
pub(crate) fn contents(engine: &Engine) -> esker::Result<BTreeMap<usize, Contents>> {
    let number = |name: &String| NAMES.iter().position(|known| known == name).expect("a name of ours");
    let names = engine.keyspaces();
    let all = names.iter().map(|name| {
        let keyspace = engine.keyspace(name, KeyspaceOptions::default())?;
        let entries = keyspace.iter().map(|item| item.map(|(key, value)| (key.to_vec(), value.to_vec())));
        Ok((number(name), entries.collect::<esker::Result<_>>()?))
    });
    all.collect()
}

/// The same in a line.
pub(crate) fn whole(all: &BTreeMap<usize, Contents>) -> String {
    let pairs = |contents: &'_ Contents| contents.iter().map(|(k, v)| (k.clone(), v.clone())).collect::<Vec<_>>();
    let owned: BTreeMap<usize, Vec<(Key, Vec<u8>)>> = all.iter().map(|(name, of)| (*name, pairs(of))).collect();
    summed(&owned.iter().map(|(name, of)| (*name, of.iter().map(|(k, v)| (&k[..], &v[..])).collect())).collect())
}

impl Subject {
    /// With nothing open yet. Files lie where the set of that number has them, whatever sets follow.
    pub(crate) fn new(number: usize, root: &Path) -> Self {
        let set = set(number);
        Self {
            number,
            world: World::new(set.medium, root),
            set,
            engine: None,
            handles: [const { None }; SPACES],
            snapshots: [const { None }; SNAPSHOTS],
            transactions: [const { None }; TRANSACTIONS],
            safe: Safe::default(),
            safe_before: Safe::default(),
            is_wounded: false,
            may_tell: false,
            has_lost: false,
            told: Some((0, 0)),
            files: 0,
        }
    }

    /// Goes on to the set so many further on, when it is opened next.
    pub(crate) fn change_set(&mut self, further: usize) {
        self.number += further;
        self.set = Set { medium: self.set.medium, ..set(self.number) };
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("open")
    }

    pub(crate) fn handle(&self, name: usize) -> &Keyspace {
        self.handles[name].as_ref().expect("the model says that it is there")
    }

    /// Opens it, for reading and writing.
    pub(crate) fn open(&mut self) -> esker::Result<()> {
        let engine = open_at(self.world.vfs(), &self.world.dir(), &self.set, false)?;
        for (name, handle) in self.handles.iter_mut().enumerate() {
            let is_there = engine.keyspaces().iter().any(|there| there == NAMES[name]);
            let options = KeyspaceOptions {
                compaction_filter: self.set.asks_filter.then(|| FILTER.to_owned()),
                ..KeyspaceOptions::default()
            };
            *handle = is_there.then(|| engine.keyspace(NAMES[name], options)).transpose()?;
        }
        self.engine = Some(engine);
        Ok(())
    }

    /// What somebody who only reads sees in what a power cut has left.
    pub(crate) fn read_only(&self) -> esker::Result<BTreeMap<usize, Contents>> {
        let copy = self.world.copy();
        contents(&open_at(copy.vfs(), &copy.dir(), &self.set, true)?)
    }

    /// Lets go of all that is open, but for the engine, which is handed out.
    pub(crate) fn let_go(&mut self) -> Option<Engine> {
        self.snapshots = [const { None }; SNAPSHOTS];
        self.transactions = [const { None }; TRANSACTIONS];
        self.handles = [const { None }; SPACES];
        self.has_lost = false;
        self.engine.take()
    }

    /// Whether an operation is on a snapshot or transaction that is gone, since the engine had to be opened again for what went wrong. Then the model's word is taken: it was another
    /// option set under which nothing had to be opened, and that compares it.
    fn is_lost(&self, op: &Op) -> bool {
        let is_gone = match op {
            Op::TransactionGet(tx, ..)
            | Op::TransactionScan(tx, ..)
            | Op::TransactionWrite(tx, _)
            | Op::Savepoint(tx)
            | Op::Back(tx)
            | Op::Commit(tx, _)
            | Op::Rollback(tx) => self.transactions[*tx].is_none(),
            Op::Get(View::Snapshot(n), ..)
            | Op::MultiGet(View::Snapshot(n), ..)
            | Op::Scan(View::Snapshot(n), ..)
            | Op::Prefix(View::Snapshot(n), ..)
            | Op::Walk(View::Snapshot(n), ..)
            | Op::Ends(View::Snapshot(n), _) => self.snapshots[*n].is_none(),
            _ => false,
        };
        self.has_lost && is_gone
    }

    /// Does an operation, once. What it commits must be in the model already.
    pub(crate) fn does(&mut self, op: &Op, oracle: &Oracle, outcome: &Outcome) -> Tried {
        let done = || Ok(Ok("done".to_owned()));
        let commits = oracle.model.commits();
        if self.is_lost(op) {
            if let Op::Commit(_, level) = op
                && outcome.commits
            {
                return self.commit_again(*level, oracle, outcome);
            }
            return Ok(Ok(outcome.line.clone()));
        }
        match op {
            Op::Write(terms, writes) => {
                let (pushes, syncs) = carries(terms.level);
                match &writes[..] {
                    [write] => self.single(*terms, write)?,
                    _ => self.engine().write_with(self.batch(oracle, writes), &write_options(*terms))?,
                }
                self.carried(commits, pushes, syncs);
                done()
            }
            Op::Clear(name) => {
                self.handle(*name).clear()?;
                self.carried_by_default(commits, outcome.commits);
                done()
            }
            Op::Insert(name, key, value) => {
                let inserted = self.handle(*name).insert_if_absent(key, value.bytes())?;
                self.carried_by_default(commits, outcome.commits);
                Ok(Ok(if inserted { "inserted".into() } else { "there already".into() }))
            }
            Op::Swap(name, key, matches, value) => {
                let other = b"no value is this".to_vec();
                let expected = if *matches { outcome.before.clone() } else { Some(other) };
                let value = value.map(|value| value.bytes());
                let swapped = self.handle(*name).compare_and_swap(key, expected.as_deref(), value.as_deref())?;
                self.carried_by_default(commits, outcome.commits);
                Ok(Ok(if swapped { "swapped".into() } else { "not swapped".into() }))
            }
            Op::Begin(tx) => {
                self.transactions[*tx] = Some((self.engine().transaction(), Vec::new()));
                done()
            }
            Op::TransactionGet(tx, name, key) => {
                let (transaction, _) = self.transactions[*tx].as_ref().expect("the model says that it is open");
                Ok(Ok(crate::oracle::found(transaction.get_in(self.handle(*name), key)?.as_deref())))
            }
            Op::TransactionScan(tx, name, range, front) => {
                let (transaction, _) = self.transactions[*tx].as_ref().expect("the model says that it is open");
                let of = transaction.of(self.handle(*name));
                let items = of.range((range.lower.clone(), range.upper.clone()));
                let pairs = if *front { collected(items)? } else { collected(items.rev())? };
                Ok(Ok(listed(&pairs)))
            }
            Op::TransactionWrite(tx, writes) => {
                let (mut transaction, savepoints) = self.transactions[*tx].take().expect("it is open");
                for write in writes.iter().filter(|write| oracle.model.living()[write.name].is_some()) {
                    let keyspace = self.handle(write.name);
                    match &write.change {
                        Change::Put(value) => transaction.put_in(keyspace, &write.key, value.bytes())?,
                        Change::Merge(operand) => transaction.merge_in(keyspace, &write.key, operand.bytes())?,
                        Change::Delete => transaction.delete_in(keyspace, &write.key)?,
                        Change::DeleteTo(end) => transaction.delete_range_in(keyspace, &write.key, end)?,
                        Change::PutFor(..) | Change::PutForever(_) => unreachable!("no script has these"),
                    }
                }
                self.transactions[*tx] = Some((transaction, savepoints));
                done()
            }
            Op::Savepoint(tx) => {
                let (transaction, savepoints) = self.transactions[*tx].as_mut().expect("it is open");
                savepoints.push(transaction.savepoint());
                done()
            }
            Op::Back(tx) => {
                let (transaction, savepoints) = self.transactions[*tx].as_mut().expect("it is open");
                transaction.rollback_to(savepoints.pop().expect("the model says that there is one"))?;
                done()
            }
            Op::Commit(tx, level) => self.commit(*tx, *level, oracle, outcome),
            Op::Rollback(tx) => {
                let (transaction, _) = self.transactions[*tx].take().expect("it is open");
                transaction.rollback();
                done()
            }
            Op::Ingest(name, way, entries) => {
                let entries = once_each(entries);
                let ingested = match way {
                    Way::Bulk => {
                        let mut load = self.handle(*name).bulk_writer()?;
                        for (key, value) in &entries {
                            match value {
                                Some(value) => load.put(key, value.bytes())?,
                                None => load.delete(key)?,
                            }
                        }
                        load.finish()?
                    }
                    Way::Copied | Way::Moved => {
                        let list: Vec<_> = entries.into_iter().collect();
                        let (first, second) = list.split_at(list.len() / 2);
                        let mut paths = Vec::new();
                        for part in [first, second].into_iter().filter(|part| !part.is_empty()) {
                            paths.push(self.table(part)?);
                        }
                        self.handle(*name).ingest(&paths, &IngestOptions { move_files: *way == Way::Moved })?
                    }
                };
                self.carried(commits, true, true);
                Ok(Ok(format!("{} entries", ingested.entries())))
            }
            Op::Flush => {
                self.engine().flush()?;
                self.carried(commits, true, true);
                done()
            }
            Op::Compact(name, range) => {
                self.handle(*name).compact_range((range.lower.clone(), range.upper.clone()))?;
                done()
            }
            Op::Work(steps) => {
                match self.set.background {
                    esker::Background::Manual => {
                        for _ in 0..*steps {
                            if !self.engine().step()? {
                                break;
                            }
                        }
                    }
                    esker::Background::Threads => std::thread::sleep(Duration::from_micros(100 * steps)),
                }
                done()
            }
            Op::Sync => {
                self.engine().sync()?;
                self.carried(commits, true, true);
                done()
            }
            Op::Pass(_) => {
                self.world.set_time(oracle.model.now().time);
                done()
            }
            Op::Create(name) => {
                let keyspace = self.engine().keyspace(NAMES[*name], options_of(*name, self.set.asks_filter))?;
                self.handles[*name] = Some(keyspace);
                self.transactions = [const { None }; TRANSACTIONS];
                done()
            }
            Op::Drop(name) => {
                self.transactions = [const { None }; TRANSACTIONS];
                match self.engine().drop_keyspace(NAMES[*name]) {
                    // A try before this one may have done it and failed behind it.
                    Err(error) if error.kind() == ErrorKind::NotFound && oracle.is_faulty => {}
                    dropped => dropped?,
                }
                let error = self.handle(*name).put("k", "v").expect_err("it was dropped");
                if error.kind() != ErrorKind::NotFound {
                    return Err(error);
                }
                done()
            }
            Op::Checkpoint => {
                self.files += 1;
                let to = self.world.outside(&format!("checkpoint-{}-{}", std::process::id(), self.files));
                self.engine().checkpoint(&to)?;
                let engine = open_at(self.world.vfs(), &to, &self.set, false)?;
                let all = contents(&engine)?;
                let report = engine.verify()?;
                engine.close()?;
                drop(engine);
                if !self.world.is_in_memory() {
                    // It is in the way of nothing.
                    let _ = std::fs::remove_dir_all(to);
                }
                Ok(if report.is_ok() { Ok(whole(&all)) } else { Err(format!("the checkpoint is damaged: {report:?}")) })
            }
            Op::Changes => {
                let told = self.told(oracle)?;
                Ok(told.map(|()| "done".into()))
            }
            Op::Verify => {
                let report = self.engine().verify()?;
                Ok(if report.is_ok() { Ok("done".into()) } else { Err(format!("damaged: {report:?}")) })
            }
            Op::Snapshot(n) => {
                self.snapshots[*n] = Some(self.engine().snapshot());
                done()
            }
            Op::Release(n) => {
                self.snapshots[*n] = None;
                done()
            }
            Op::Get(..) | Op::MultiGet(..) | Op::Scan(..) | Op::Prefix(..) | Op::Walk(..) | Op::Ends(..) => {
                self.reads(op).map(Ok)
            }
            Op::Reopen(_) | Op::Fault(..) | Op::Heal | Op::Crash(_) => unreachable!("the run sees to these"),
        }
    }

    /// By the call that is for it alone.
    fn single(&self, terms: Terms, write: &crate::op::Write) -> esker::Result<()> {
        let options = write_options(terms);
        let (keyspace, key) = (self.handle(write.name), &write.key);
        match &write.change {
            Change::Put(value) => keyspace.put_with(key, value.bytes(), &options),
            Change::Merge(operand) => keyspace.merge_with(key, operand.bytes(), &options),
            Change::Delete => keyspace.delete_with(key, &options),
            Change::DeleteTo(end) => keyspace.delete_range_with(key, end, &options),
            Change::PutFor(value, seconds) => {
                let ttl = Some(Duration::from_secs(*seconds));
                keyspace.put_with(key, value.bytes(), &WriteOptions { ttl, ..options })
            }
            Change::PutForever(value) => {
                let mut batch = WriteBatch::new();
                batch.put_forever_in(keyspace, key, value.bytes());
                self.engine().write_with(&batch, &options)
            }
        }
    }

    fn batch(&self, oracle: &Oracle, writes: &[crate::op::Write]) -> WriteBatch {
        let mut batch = WriteBatch::new();
        for write in writes.iter().filter(|write| oracle.model.living()[write.name].is_some()) {
            let (keyspace, key) = (self.handle(write.name), &write.key);
            match &write.change {
                Change::Put(value) => batch.put_in(keyspace, key, value.bytes()),
                // What has a merge operator takes nothing that expires: the model has left it out.
                Change::PutFor(..) if write.name == MERGED => continue,
                Change::PutFor(value, seconds) => {
                    batch.put_expiring_in(keyspace, key, value.bytes(), Duration::from_secs(*seconds))
                }
                Change::PutForever(value) => batch.put_forever_in(keyspace, key, value.bytes()),
                Change::Merge(operand) => batch.merge_in(keyspace, key, operand.bytes()),
                Change::Delete => batch.delete_in(keyspace, key),
                Change::DeleteTo(end) => batch.delete_range_in(keyspace, key, end),
            };
        }
        batch
    }

    /// The same as it was meant when it was committed first: what expires does when it did.
    pub(crate) fn again(&self, oracle: &Oracle, entries: &[Entry]) -> WriteBatch {
        let mut batch = WriteBatch::new();
        for Entry { name, space, key, effect, expires } in entries {
            if oracle.model.living()[*name] != Some(*space) {
                continue;
            }
            let keyspace = self.handle(*name);
            match effect {
                Effect::Put(value) => batch.put_forever_in(keyspace, key, value),
                Effect::PutFor(value, _) => {
                    batch.put_until_in(keyspace, key, value, time_at(expires.expect("it does")))
                }
                Effect::Append(operand) => batch.merge_in(keyspace, key, operand),
                Effect::Delete => batch.delete_in(keyspace, key),
                Effect::DeleteTo(Some(end)) => batch.delete_range_in(keyspace, key, end),
                Effect::DeleteTo(None) => {
                    // All that can be there, by the greatest key of all: no script has one so long.
                    let end = vec![0xff; esker::KEY_BYTES_MAX];
                    batch.delete_range_in(keyspace, key, end)
                }
            };
        }
        batch
    }

    fn commit(&mut self, tx: usize, level: Level, oracle: &Oracle, outcome: &Outcome) -> Tried {
        let (transaction, _) = self.transactions[tx].take().expect("it is open");
        let options = write_options(Terms { level, ttl: None });
        let (pushes, syncs) = carries(level);
        match transaction.commit_with(&options) {
            Ok(()) => {
                if outcome.commits {
                    self.carried(oracle.model.commits(), pushes, syncs);
                }
                let line = if outcome.commits { "committed" } else { "read only" };
                Ok(Ok(line.into()))
            }
            Err(error) if error.kind() == ErrorKind::Conflict => {
                // Where memory for reads is short there may be one for nothing.
                let is_short = self.set.options.transaction_tracking_bytes < 4 << 10;
                if outcome.commits && (outcome.may_conflict || is_short) {
                    return self.commit_again(level, oracle, outcome);
                }
                Ok(Ok("conflict".into()))
            }
            // It is gone, and with it what it has read.
            Err(error) if error.kind() == ErrorKind::Stalled => {
                if outcome.commits {
                    self.commit_again(level, oracle, outcome)
                } else {
                    Ok(Ok(outcome.line.clone()))
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Writes what a transaction has written, as a batch. An error is the caller's to look into: it may be there all the same, and operands must not be there twice.
    pub(crate) fn commit_again(&mut self, level: Level, oracle: &Oracle, outcome: &Outcome) -> Tried {
        let logged = oracle.log.last().expect("it commits");
        let options = write_options(Terms { level, ttl: None });
        self.write_with_room(&self.again(oracle, &logged.entries), &options)?;
        let (pushes, syncs) = carries(level);
        self.carried(oracle.model.commits(), pushes, syncs);
        Ok(Ok(outcome.line.clone()))
    }

    /// Builds a table outside.
    fn table(&mut self, entries: &[(&Key, Option<crate::op::Value>)]) -> esker::Result<std::path::PathBuf> {
        self.files += 1;
        let sound = self.world.sound();
        let dir = self.world.outside("outside");
        sound.create_dir_all(&dir).expect("nothing goes wrong outside");
        let path = dir.join(format!("{}-{}.sst", std::process::id(), self.files));
        let options = SstOptions { block_size_bytes: 128, ..SstOptions::default() };
        let mut table = SstWriter::create_on(sound, &path, &options)?;
        for (key, value) in entries {
            match value {
                Some(value) => table.put(key, value.bytes())?,
                None => table.delete(key)?,
            }
        }
        table.finish()?;
        Ok(path)
    }

    pub(crate) fn carried(&mut self, commits: usize, pushes: bool, syncs: bool) {
        if pushes || syncs {
            self.safe.pushed = commits;
        }
        if syncs {
            self.safe.durable = commits;
        }
    }

    /// By a call that names no level. One that finds nothing to write owes the same at `Sync`, and nothing below.
    fn carried_by_default(&mut self, commits: usize, has_written: bool) {
        match self.set.options.durability {
            Durability::Sync => self.carried(commits, true, true),
            Durability::Os | Durability::EngineDefault if has_written => self.carried(commits, true, false),
            _ => {}
        }
    }
}

fn write_options(terms: Terms) -> WriteOptions {
    let ttl = terms.ttl.map(Duration::from_secs);
    WriteOptions { durability: durability(terms.level), ttl, ..WriteOptions::default() }
}

/// Keys and values that are owned.
type Owned = Vec<(esker::Slice, esker::Slice)>;

pub(crate) fn collected(
    items: impl Iterator<Item = esker::Result<(esker::Slice, esker::Slice)>>,
) -> esker::Result<Owned> {
    items.collect()
}

pub(crate) fn listed(pairs: &Owned) -> String {
    crate::oracle::listed(&pairs.iter().map(|(key, value)| (&key[..], &value[..])).collect())
}
