//! What the feed of changes tells, held against what was committed, operation by operation.
//!
//! | committed by | the feed must tell |
//! |---|---|
//! | a batch, a single or conditional write | its operations, in order |
//! | a transaction | what they come to. It keeps the last write to each key, and of ranges what is left of them; written again as a batch, where it met a conflict for nothing, it has all of them. So both are brought to the same form first: [`Net`] |
//! | an ingest | how many entries, and between which keys: what is in tables is not told |
//!
//! What the options may change is only how far back it reaches: where logs are not kept, a gap is an answer.

use crate::op::{LIVING, NAMES};
use crate::oracle::{By, Entry, Logged, Oracle};
use crate::subject::{Subject, Wrong};
use crate::world::time_at;
use esker::{Change, ChangedKeyspace, ErrorKind, Operation};
use esker_testkit::model::{Effect, Key};
use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

impl Subject {
    /// Whether the feed tells all that was committed since it was asked last, commit by commit, if it reaches back so far.
    pub(crate) fn told(&mut self, oracle: &Oracle) -> esker::Result<Result<(), Wrong>> {
        let commits = oracle.model.commits();
        let mut seq = self.engine().metrics().last_seq;
        let mut told = Ok(());
        if let Some((since, commit)) = self.told {
            match self.engine().changes_since(since) {
                Ok(changes) => {
                    let mut expected = oracle.log[commit..].iter();
                    for change in changes {
                        let change = change?;
                        seq = change.seq();
                        let Some(logged) = expected.next() else {
                            told = told.and(Err(format!("the feed tells of more than was committed: {change:?}")));
                            break;
                        };
                        if !is_same(&change, logged, oracle) {
                            let wrong = format!("the feed tells of {change:?}; committed were {:?}", logged.entries);
                            told = told.and(Err(wrong));
                        }
                    }
                    // What it tells of is on stable storage.
                    self.carried(commits, true, true);
                    if expected.next().is_some() {
                        told = told.and(Err("the feed leaves out what was committed last".into()));
                    }
                }
                // Who keeps all logs has them all, since the engine was opened last.
                Err(error) if error.kind() == ErrorKind::Gap => {
                    let keeps = self.set.options.wal_retain_bytes == Some(u64::MAX);
                    let is_sound = !self.is_wounded && !self.world.is_struck();
                    if keeps && is_sound && self.set.options.wal_retain_age.is_none() {
                        told = Err(format!("the feed has a gap where logs are kept: {error}"));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        self.told = Some((seq, commits));
        Ok(told)
    }
}

/// Whether a change is that commit.
fn is_same(change: &Change, logged: &Logged, oracle: &Oracle) -> bool {
    let entries = &logged.entries;
    // Of what was dropped the name may be unknown, or that of what it was made as.
    let lives = |entry: &Entry| oracle.model.living()[entry.name] == Some(entry.space);
    match (change, logged.by) {
        (Change::Batch(batch), By::Batch) => {
            let operations: Vec<Operation<'_>> = batch.operations().collect();
            let is_named = |keyspace: ChangedKeyspace<'_>, entry: &Entry| match keyspace.name {
                Some(name) => name == NAMES[entry.name],
                None => !lives(entry),
            };
            operations.len() == entries.len()
                && operations.iter().zip(entries).all(|(operation, entry)| {
                    let told = Told::of(operation);
                    is_named(told.keyspace, entry) && told.is(entry)
                })
        }
        (Change::Batch(batch), By::Transaction) => {
            let operations: Vec<Operation<'_>> = batch.operations().collect();
            let told: Vec<Told<'_>> = operations.iter().map(Told::of).collect();
            // Nobody but the commit says what a keyspace was that has no name any more; if that is one keyspace, it is that one.
            let dropped: BTreeSet<usize> =
                entries.iter().filter(|entry| !lives(entry)).map(|entry| entry.name).collect();
            let name = |told: &Told<'_>| match told.keyspace.name {
                Some(name) => NAMES.iter().position(|known| *known == name),
                None => dropped.first().copied(),
            };
            if dropped.len() > 1 && told.iter().any(|told| told.keyspace.name.is_none()) {
                return true;
            }
            let mut nets = BTreeMap::<Option<usize>, [Net; 2]>::new();
            for told in &told {
                nets.entry(name(told)).or_default()[0].write(told.key, &told.effect, told.expires);
            }
            for entry in entries {
                let net = &mut nets.entry(Some(entry.name)).or_default()[1];
                net.write(&entry.key, &entry.effect, entry.expires.map(time_at));
            }
            nets.values().all(|[told, committed]| told.tidy() == committed.tidy())
        }
        // What a crash undid was written again as a batch, ingests too.
        (Change::Ingest(ingest), By::Ingest) => {
            let keys = entries.iter().map(|entry| &entry.key);
            ingest.entries == entries.len() as u64
                && keys.clone().min() == Some(&ingest.smallest)
                && keys.max() == Some(&ingest.largest)
                && entries.iter().all(|entry| match &ingest.keyspace_name {
                    Some(name) => name == NAMES[entry.name],
                    None => !lives(entry),
                })
        }
        _ => false,
    }
}

/// An operation as the feed has it, in the model's words.
struct Told<'a> {
    keyspace: ChangedKeyspace<'a>,
    key: &'a [u8],
    effect: Effect,
    expires: Option<SystemTime>,
    /// It is said to stay for ever, where other puts do not.
    is_forever: bool,
}

impl<'a> Told<'a> {
    fn of(operation: &Operation<'a>) -> Self {
        let is_forever = matches!(operation, Operation::PutForever { .. });
        let (keyspace, key, effect, expires) = match operation {
            Operation::Put { keyspace, key, value } | Operation::PutForever { keyspace, key, value } => {
                (keyspace, key, Effect::Put(value.to_vec()), None)
            }
            Operation::PutExpiring { keyspace, key, value, expires } => {
                (keyspace, key, Effect::PutFor(value.to_vec(), 0), Some(*expires))
            }
            Operation::Merge { keyspace, key, operand } => (keyspace, key, Effect::Append(operand.to_vec()), None),
            Operation::Delete { keyspace, key } => (keyspace, key, Effect::Delete, None),
            Operation::DeleteRange { keyspace, begin, end } => {
                (keyspace, begin, Effect::DeleteTo(end.map(<[u8]>::to_vec)), None)
            }
            other => unreachable!("the model knows no {other:?}"),
        };
        Self { keyspace: *keyspace, key, effect, expires, is_forever }
    }

    fn is(&self, entry: &Entry) -> bool {
        let is_effect = match (&self.effect, &entry.effect) {
            // How long it was to live is not told, only until when.
            (Effect::PutFor(told, _), Effect::PutFor(put, _)) => told == put,
            (told, committed) => told == committed,
        };
        let is_forever = matches!(entry.effect, Effect::Put(_)) && entry.name == LIVING;
        is_effect
            && *self.key == entry.key
            && self.expires == entry.expires.map(time_at)
            && (self.is_forever == is_forever || self.keyspace.name.is_none())
    }
}

/// What writes come to, in whatever order and however often the same was said.
#[derive(Debug, Clone, Default, PartialEq)]
struct Net {
    keys: BTreeMap<Key, Left>,
    /// From the first of each pair up to the other, or to the end of all keys; apart from each other, in order.
    gone: Vec<(Key, Option<Key>)>,
}

/// What becomes of one key.
#[derive(Debug, Clone, PartialEq)]
enum Left {
    Value(Vec<u8>, Option<SystemTime>),
    Gone,
    /// What was there before, and this behind it.
    Longer(Vec<u8>),
}

impl Net {
    fn is_gone(&self, key: &[u8]) -> bool {
        self.gone.iter().any(|(begin, end)| is_within(key, begin, end.as_ref()))
    }

    fn write(&mut self, key: &[u8], effect: &Effect, expires: Option<SystemTime>) {
        let left = match effect {
            Effect::Put(value) | Effect::PutFor(value, _) => Left::Value(value.clone(), expires),
            Effect::Delete => Left::Gone,
            Effect::Append(operand) => match self.keys.get(key) {
                Some(Left::Value(value, expires)) => Left::Value([&value[..], operand].concat(), *expires),
                Some(Left::Longer(before)) => Left::Longer([&before[..], operand].concat()),
                Some(Left::Gone) => Left::Value(operand.clone(), None),
                None if self.is_gone(key) => Left::Value(operand.clone(), None),
                None => Left::Longer(operand.clone()),
            },
            Effect::DeleteTo(end) => {
                self.keys.retain(|other, _| !is_within(other, key, end.as_ref()));
                self.gone.push((key.to_vec(), end.clone()));
                return;
            }
        };
        self.keys.insert(key.to_vec(), left);
    }

    /// Ranges that meet are one, and what lies in one need not be deleted besides.
    fn tidy(&self) -> Self {
        let mut gone: Vec<(Key, Option<Key>)> = Vec::new();
        let mut all = self.gone.clone();
        all.sort();
        for (begin, end) in all {
            match gone.last_mut() {
                // `None` is the end of all keys, and so the greatest.
                Some((_, last)) if last.as_ref().is_none_or(|last| *last >= begin) => {
                    let longer = last.is_some() && end.as_ref().is_none_or(|end| Some(end) > last.as_ref());
                    if longer {
                        *last = end;
                    }
                }
                _ => gone.push((begin, end)),
            }
        }
        let keys = self.keys.iter().filter(|(key, left)| **left != Left::Gone || !self.is_gone(key));
        Self { keys: keys.map(|(key, left)| (key.clone(), left.clone())).collect(), gone }
    }
}

fn is_within(key: &[u8], begin: &[u8], end: Option<&Key>) -> bool {
    key >= begin && end.is_none_or(|end| key < &end[..])
}
