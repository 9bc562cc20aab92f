//! What a script must do, told by a map of versions alone: the history that every run is held against.
//!
//! A history has a line for each operation. It says the same whatever the option set, whichever crash undid and whichever fault stopped: what a crash has undone is done again, in its order, by the run ([`crate::recover`]),
//! and what a fault has stopped is tried again until it is done ([`crate::recover`]).

use crate::op::{Change, LIVING, LIVING_SECONDS, NAMES, Op, SNAPSHOTS, TRANSACTIONS, View, Write};
use crate::script::key_text;
use crate::shadow::{Shadow, Verdict};
use esker_testkit::model::{At, Effect, Key, Level, Model, Range, SPACES, Space, Step};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Bound;

/// Keys and values, in order.
pub(crate) type Pairs<'a> = Vec<(&'a [u8], &'a [u8])>;

/// One write of a commit, as it was meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: usize,
    pub(crate) space: Space,
    pub(crate) key: Key,
    pub(crate) effect: Effect,
    /// In seconds since the run began; `None`: never.
    pub(crate) expires: Option<u64>,
}

/// By which call a commit came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Batch,
    /// Whose batch has each key once.
    Transaction,
    Ingest,
}

/// A commit.
#[derive(Debug, Clone)]
pub(crate) struct Logged {
    pub(crate) by: By,
    pub(crate) entries: Vec<Entry>,
}

/// What an operation must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Its line in the history.
    pub(crate) line: String,
    /// There is nothing to do it to.
    pub(crate) is_skipped: bool,
    /// It writes.
    pub(crate) commits: bool,
    /// A transaction may meet a conflict where it need not.
    pub(crate) may_conflict: bool,
    /// What was there before, of what is written under a condition.
    pub(crate) before: Option<Vec<u8>>,
}

struct Taken {
    at: At,
    living: [Option<Space>; SPACES],
    /// The newest keyspace then: those made later read as empty.
    newest: Space,
}

/// The model, and what is open.
pub(crate) struct Oracle {
    pub(crate) model: Model,
    /// By commit, from 1 on.
    pub(crate) log: Vec<Logged>,
    /// The last keyspace of each name; it may have been dropped since.
    last: [Option<Space>; SPACES],
    snapshots: [Option<Taken>; SNAPSHOTS],
    transactions: [Option<Shadow>; TRANSACTIONS],
    /// Between `fault` and `heal`.
    pub(crate) is_faulty: bool,
}

impl Oracle {
    pub(crate) fn new() -> Self {
        let model = Model::without_filter();
        let last = model.living();
        Self {
            model,
            log: Vec::new(),
            last,
            snapshots: [const { None }; SNAPSHOTS],
            transactions: [const { None }; TRANSACTIONS],
            is_faulty: false,
        }
    }

    /// Does an operation.
    pub(crate) fn apply(&mut self, op: &Op) -> Outcome {
        let commits = self.model.commits();
        let mut outcome =
            Outcome { line: String::new(), is_skipped: false, commits: false, may_conflict: false, before: None };
        match self.does(op, &mut outcome) {
            Some(line) => outcome.line = line,
            None => (outcome.line, outcome.is_skipped) = ("skipped".into(), true),
        }
        outcome.commits = self.model.commits() > commits;
        outcome
    }

    /// `None` if there is nothing to do it to.
    fn does(&mut self, op: &Op, outcome: &mut Outcome) -> Option<String> {
        let living = self.model.living();
        let done = || Some("done".to_owned());
        match op {
            Op::Write(terms, writes) => {
                let has_ttl_and_merge = terms.ttl.is_some() && writes.iter().any(|w| w.name == crate::op::MERGED);
                let entries = self.entries(writes, terms.ttl);
                if entries.is_empty() || has_ttl_and_merge {
                    return None;
                }
                self.commit(By::Batch, entries);
                done()
            }
            Op::Clear(name) => {
                let entry = self.entry(*name, Key::new(), Effect::DeleteTo(None))?;
                self.commit(By::Batch, vec![entry]);
                done()
            }
            Op::Insert(name, key, value) => {
                let is_there = self.model.get(living[*name]?, key, self.model.now()).is_some();
                if !is_there {
                    let entry = self.put(*name, key, value.bytes(), None)?;
                    self.commit(By::Batch, vec![entry]);
                }
                Some(if is_there { "there already".into() } else { "inserted".into() })
            }
            Op::Swap(name, key, matches, value) => {
                outcome.before = self.model.get(living[*name]?, key, self.model.now()).map(<[u8]>::to_vec);
                if !matches {
                    return Some("not swapped".into());
                }
                // What is nothing and stays nothing is no write.
                if value.is_some() || outcome.before.is_some() {
                    let entry = match value {
                        Some(value) => self.put(*name, key, value.bytes(), None)?,
                        None => self.entry(*name, key.clone(), Effect::Delete)?,
                    };
                    self.commit(By::Batch, vec![entry]);
                }
                Some("swapped".into())
            }
            Op::Begin(tx) => {
                self.transactions[*tx] = Some(Shadow::new(self.model.now()));
                done()
            }
            Op::TransactionGet(tx, name, key) => {
                let space = living[*name]?;
                let shadow = self.transactions[*tx].as_mut()?;
                Some(found(shadow.get(&self.model, space, key).as_deref()))
            }
            Op::TransactionScan(tx, name, range, front) => {
                let space = living[*name]?;
                let shadow = self.transactions[*tx].as_mut()?;
                let pairs = shadow.scan(&self.model, space, range);
                let pairs: Pairs<'_> = pairs.iter().map(|(key, value)| (&key[..], &value[..])).collect();
                Some(listed(&in_direction(pairs, *front)))
            }
            Op::TransactionWrite(tx, writes) => {
                self.transactions[*tx].as_ref()?;
                let entries = self.entries(writes, None);
                if entries.is_empty() {
                    return None;
                }
                self.transactions[*tx].as_mut()?.write(entries);
                done()
            }
            Op::Savepoint(tx) => {
                self.transactions[*tx].as_mut()?.savepoint();
                done()
            }
            Op::Back(tx) => self.transactions[*tx].as_mut()?.back().then(done)?,
            Op::Commit(tx, _) => {
                let shadow = self.transactions[*tx].take()?;
                let verdict = shadow.verdict(&self.model, &self.log);
                outcome.may_conflict = verdict == Verdict::May;
                if verdict == Verdict::Must {
                    return Some("conflict".into());
                }
                let entries: Vec<Entry> = shadow.writes.into_iter().map(|entry| self.dated(entry)).collect();
                if entries.is_empty() {
                    return Some("read only".into());
                }
                self.commit(By::Transaction, entries);
                Some("committed".into())
            }
            Op::Rollback(tx) => self.transactions[*tx].take().and(done()),
            Op::Ingest(name, _, entries) => {
                living[*name]?;
                let entries = once_each(entries);
                let entries = entries.into_iter().map(|(key, value)| {
                    self.entry(*name, key.clone(), value.map_or(Effect::Delete, |value| Effect::Put(value.bytes())))
                });
                let entries: Vec<Entry> = entries.collect::<Option<_>>()?;
                let line = format!("{} entries", entries.len());
                self.commit(By::Ingest, entries);
                Some(line)
            }
            Op::Get(view, name, key) => {
                let (space, at) = self.target(*view, *name)?;
                Some(found(self.model.get(space, key, at)))
            }
            Op::MultiGet(view, name, keys) => {
                let (space, at) = self.target(*view, *name)?;
                let all: Vec<_> = keys.iter().map(|key| found(self.model.get(space, key, at))).collect();
                Some(all.join(" "))
            }
            Op::Scan(view, name, range, pattern) => {
                let (space, at) = self.target(*view, *name)?;
                Some(listed(&by_pattern(self.model.range(space, range, at).into_iter(), pattern)))
            }
            Op::Prefix(view, name, prefix, front) => {
                let (space, at) = self.target(*view, *name)?;
                let mut pairs = self.model.range(space, &Range::ALL, at);
                pairs.retain(|(key, _)| key.starts_with(prefix));
                Some(listed(&in_direction(pairs, *front)))
            }
            Op::Walk(view, name, range, steps) => {
                let (space, at) = self.target(*view, *name)?;
                Some(walked(&self.model.range(space, range, at), steps))
            }
            Op::Ends(view, name) => {
                let (space, at) = self.target(*view, *name)?;
                let pairs = self.model.range(space, &Range::ALL, at);
                Some(ends(pairs.is_empty(), pairs.first().copied(), pairs.last().copied()))
            }
            Op::Snapshot(n) => {
                let taken = Taken { at: self.model.now(), living, newest: self.model.newest() };
                self.snapshots[*n] = Some(taken);
                done()
            }
            Op::Release(n) => self.snapshots[*n].take().and(done()),
            Op::Compact(name, _) => living[*name].and(done()),
            Op::Pass(seconds) => {
                self.model.pass(*seconds);
                done()
            }
            Op::Create(name) => {
                if living[*name].is_some() {
                    return None;
                }
                self.last[*name] = Some(self.model.create(*name));
                self.transactions = [const { None }; TRANSACTIONS];
                done()
            }
            Op::Drop(name) => {
                living[*name]?;
                self.model.drop_space(*name);
                self.transactions = [const { None }; TRANSACTIONS];
                done()
            }
            Op::Checkpoint => Some(self.whole()),
            Op::Reopen(_) => {
                self.let_go();
                Some(self.whole())
            }
            Op::Crash(_) => {
                self.let_go();
                Some(self.whole())
            }
            Op::Fault(..) => {
                self.is_faulty = true;
                done()
            }
            Op::Heal => {
                self.is_faulty = false;
                Some(self.whole())
            }
            Op::Flush | Op::Work(_) | Op::Sync | Op::Changes | Op::Verify => done(),
        }
    }

    /// What no crash leaves open.
    fn let_go(&mut self) {
        self.snapshots = [const { None }; SNAPSHOTS];
        self.transactions = [const { None }; TRANSACTIONS];
    }

    fn target(&self, view: View, name: usize) -> Option<(Space, At)> {
        match view {
            View::Now => Some((self.model.living()[name]?, self.model.now())),
            View::Snapshot(n) => {
                let (taken, space) = (self.snapshots[n].as_ref()?, self.last[name]?);
                // What was dropped before the snapshot was taken, nobody sees.
                let is_seen = taken.living.contains(&Some(space)) || space > taken.newest;
                is_seen.then_some((space, taken.at))
            }
        }
    }

    fn entry(&self, name: usize, key: Key, effect: Effect) -> Option<Entry> {
        Some(Entry { name, space: self.model.living()[name]?, key, effect, expires: None })
    }

    /// A put that lives so long, or as long as the keyspace says.
    fn put(&self, name: usize, key: &Key, value: Vec<u8>, ttl: Option<u64>) -> Option<Entry> {
        let ttl = ttl.or((name == LIVING).then_some(LIVING_SECONDS));
        let effect = match ttl {
            Some(ttl) => Effect::PutFor(value, ttl),
            None => Effect::Put(value),
        };
        self.entry(name, key.clone(), effect).map(|entry| self.dated(entry))
    }

    /// It expires from now on.
    fn dated(&self, entry: Entry) -> Entry {
        let expires = match entry.effect {
            Effect::PutFor(_, ttl) => Some(self.model.now().time + ttl),
            _ => None,
        };
        Entry { expires, ..entry }
    }

    /// Those of them whose keyspaces live.
    fn entries(&self, writes: &[Write], ttl: Option<u64>) -> Vec<Entry> {
        let entries = writes.iter().filter_map(|Write { name, key, change }| {
            let effect = match change {
                Change::Put(value) => return self.put(*name, key, value.bytes(), ttl),
                Change::PutFor(..) if *name == crate::op::MERGED => return None,
                Change::PutFor(value, seconds) => return self.put(*name, key, value.bytes(), Some(*seconds)),
                Change::PutForever(value) => Effect::Put(value.bytes()),
                Change::Merge(operand) => Effect::Append(operand.bytes()),
                Change::Delete => Effect::Delete,
                Change::DeleteTo(end) => Effect::DeleteTo(Some(end.clone())),
            };
            self.entry(*name, key.clone(), effect)
        });
        entries.collect()
    }

    fn commit(&mut self, by: By, entries: Vec<Entry>) {
        self.model.commit(entries.iter().map(|entry| (entry.space, &entry.key, entry.effect.clone())));
        self.log.push(Logged { by, entries });
    }

    /// All that there is, in one number for each keyspace.
    fn whole(&self) -> String {
        let now = self.model.now();
        let living = self.model.living().into_iter().enumerate();
        let spaces = living.filter_map(|(name, space)| Some((name, self.model.range(space?, &Range::ALL, now))));
        summed(&spaces.collect())
    }
}

/// The last of each key, in order.
pub(crate) fn once_each(entries: &[(Key, Option<crate::op::Value>)]) -> BTreeMap<&Key, Option<crate::op::Value>> {
    entries.iter().map(|(key, value)| (key, *value)).collect()
}

fn hash(bytes: &[u8]) -> u64 {
    // FNV-1a.
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// A value as a history has it: by how it begins, how long it is, and a hash of all of it.
pub(crate) fn found(value: Option<&[u8]>) -> String {
    value.map_or("none".into(), |value| {
        format!("{}({},{:04x})", key_text(&value[..value.len().min(6)]), value.len(), hash(value) & 0xffff)
    })
}

pub(crate) fn listed(pairs: &Pairs<'_>) -> String {
    let mut line = format!("{}:", pairs.len());
    for (key, value) in pairs {
        write!(line, " {}={}", key_text(key), found(Some(value))).expect("to memory");
    }
    line
}

pub(crate) fn ends(is_empty: bool, first: Option<(&[u8], &[u8])>, last: Option<(&[u8], &[u8])>) -> String {
    let pair = |pair: Option<(&[u8], &[u8])>| listed(&pair.into_iter().collect());
    format!("empty: {is_empty}, first {}, last {}", pair(first), pair(last))
}

/// What keyspaces hold, by name: for each how many keys, and a hash.
pub(crate) fn summed(spaces: &BTreeMap<usize, Pairs<'_>>) -> String {
    let spaces: Vec<_> = spaces
        .iter()
        .map(|(name, pairs)| format!("{} {} {:08x}", NAMES[*name], pairs.len(), hash(listed(pairs).as_bytes()) >> 32))
        .collect();
    spaces.join(", ")
}

pub(crate) fn in_direction(mut pairs: Pairs<'_>, front: bool) -> Pairs<'_> {
    if !front {
        pairs.reverse();
    }
    pairs
}

/// The order in which a pattern of ends takes them.
fn by_pattern<'a>(mut pairs: impl DoubleEndedIterator<Item = (&'a [u8], &'a [u8])>, pattern: &[bool]) -> Pairs<'a> {
    let mut all = Vec::new();
    for front in pattern.iter().cycle() {
        match if *front { pairs.next() } else { pairs.next_back() } {
            Some(pair) => all.push(pair),
            None => break,
        }
    }
    all
}

/// What a cursor shows after each step.
fn walked(pairs: &Pairs<'_>, steps: &[Step]) -> String {
    let mut position: Option<usize> = None;
    let mut line = String::new();
    for step in steps {
        position = match step {
            Step::First => Some(0),
            Step::Last => pairs.len().checked_sub(1),
            Step::Seek(key) => Some(pairs.partition_point(|(other, _)| *other < &key[..])),
            Step::SeekForPrev(key) => pairs.partition_point(|(other, _)| *other <= &key[..]).checked_sub(1),
            Step::Next => position.map(|i| i + 1),
            Step::Prev => position.and_then(|i| i.checked_sub(1)),
        };
        position = position.filter(|i| *i < pairs.len());
        match position.map(|i| pairs[i]) {
            Some((key, value)) => write!(line, "{}={} ", key_text(key), found(Some(value))).expect("to memory"),
            None => line.push_str("end "),
        }
    }
    line
}

/// Whether a durability level carries a write past `kill -9`, and past a power cut.
pub(crate) fn carries(level: Level) -> (bool, bool) {
    (level != Level::Memory, level == Level::Sync)
}

/// The first key that can be in a range, and the first that can't be behind it.
pub(crate) fn overlaps(range: &Range, begin: &Key, end: Option<&Key>) -> bool {
    let begins_before = match &range.upper {
        Bound::Unbounded => true,
        Bound::Included(upper) => begin <= upper,
        Bound::Excluded(upper) => begin < upper,
    };
    let ends_behind = match (&range.lower, end) {
        (Bound::Unbounded, _) | (_, None) => true,
        (Bound::Included(lower) | Bound::Excluded(lower), Some(end)) => end > lower,
    };
    begins_before && ends_behind
}
