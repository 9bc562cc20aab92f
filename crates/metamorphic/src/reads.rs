//! Reads of the engine, in the words of a history; and what its feed of changes tells.

use crate::op::{Op, View};
use crate::oracle::{By, Entry, Oracle, ends, found};
use crate::script::key_text;
use crate::subject::{Subject, Wrong, collected, listed};
use crate::world::time_at;
use esker::{Change, ErrorKind, Operation, ReadOptions};
use esker_testkit::model::{Effect, Range, Step};
use std::fmt::Write as _;

/// Calls the same of a keyspace and of what a snapshot shows of it.
macro_rules! seen {
    ($subject:expr, $view:expr, $name:expr, |$of:ident| $body:expr) => {{
        let keyspace = $subject.handle($name);
        match $view {
            View::Now => {
                let $of = keyspace;
                $body
            }
            View::Snapshot(n) => {
                let snapshot = $subject.snapshots[n].as_ref().expect("the model says that it is held");
                let $of = snapshot.of(keyspace);
                $body
            }
        }
    }};
}

impl Subject {
    pub(crate) fn reads(&self, op: &Op) -> esker::Result<String> {
        match op {
            Op::Get(view, name, key) => {
                let (value, is_there) = seen!(self, *view, *name, |of| (of.get(key)?, of.contains_key(key)?));
                assert_eq!(value.is_some(), is_there, "get and contains_key of {}", key_text(key));
                Ok(found(value.as_deref()))
            }
            Op::MultiGet(view, name, keys) => {
                let values = seen!(self, *view, *name, |of| of.multi_get(keys)?);
                Ok(values.iter().map(|value| found(value.as_deref())).collect::<Vec<_>>().join(" "))
            }
            Op::Scan(view, name, range, pattern) => {
                let mut iter = seen!(self, *view, *name, |of| of.range(bounds(range)));
                let mut pairs = Vec::new();
                for front in pattern.iter().cycle() {
                    match if *front { iter.next() } else { iter.next_back() } {
                        Some(pair) => pairs.push(pair?),
                        None => break,
                    }
                }
                assert!(iter.next().is_none() && iter.next_back().is_none(), "the ends meet once");
                Ok(listed(&pairs))
            }
            Op::Prefix(view, name, prefix, front) => {
                let iter = seen!(self, *view, *name, |of| of.prefix(prefix));
                Ok(listed(&if *front { collected(iter)? } else { collected(iter.rev())? }))
            }
            Op::Walk(view, name, range, steps) => {
                let options = ReadOptions { lower: range.lower.clone(), upper: range.upper.clone() };
                let mut cursor = seen!(self, *view, *name, |of| of.cursor_with(options));
                let mut line = String::new();
                for step in steps {
                    match step {
                        Step::First => cursor.seek_to_first()?,
                        Step::Last => cursor.seek_to_last()?,
                        Step::Next => cursor.next()?,
                        Step::Prev => cursor.prev()?,
                        Step::Seek(key) => cursor.seek(key)?,
                        Step::SeekForPrev(key) => cursor.seek_for_prev(key)?,
                    }
                    if cursor.valid() {
                        let value = found(Some(cursor.value()?));
                        write!(line, "{}={value} ", key_text(cursor.key())).expect("to memory");
                    } else {
                        line.push_str("end ");
                    }
                }
                Ok(line)
            }
            Op::Ends(view, name) => {
                let (is_empty, first, last) = seen!(self, *view, *name, |of| (of.is_empty()?, of.first()?, of.last()?));
                let first = first.as_ref().map(|(key, value)| (&key[..], &value[..]));
                let last = last.as_ref().map(|(key, value)| (&key[..], &value[..]));
                Ok(ends(is_empty, first, last))
            }
            _ => unreachable!("it reads"),
        }
    }

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
                        told = told.and(same(&change, logged.by, &logged.entries));
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

fn bounds(range: &Range) -> (std::ops::Bound<Vec<u8>>, std::ops::Bound<Vec<u8>>) {
    (range.lower.clone(), range.upper.clone())
}

/// Whether a change is that commit.
fn same(change: &Change, by: By, entries: &[Entry]) -> Result<(), Wrong> {
    let is_same = match (change, by) {
        (Change::Batch(batch), By::Batch) => {
            let operations: Vec<Operation<'_>> = batch.operations().collect();
            operations.len() == entries.len()
                && operations.iter().zip(entries).all(|(operation, entry)| is(operation, entry))
        }
        // It has the last write to each key, and knows of ranges what is left of them.
        (Change::Batch(_), By::Transaction) => true,
        // Where a transaction met a conflict for nothing it was written again as a batch; so is what a crash undid, ingests too.
        (Change::Ingest(ingest), By::Ingest) => ingest.entries == entries.len() as u64,
        _ => false,
    };
    if is_same { Ok(()) } else { Err(format!("the feed tells of {change:?}; committed were {entries:?}")) }
}

fn is(operation: &Operation<'_>, entry: &Entry) -> bool {
    match (operation, &entry.effect) {
        (Operation::Put { key, value, .. } | Operation::PutForever { key, value, .. }, Effect::Put(put)) => {
            *key == entry.key && value == put
        }
        (Operation::PutExpiring { key, value, expires, .. }, Effect::PutFor(put, _)) => {
            *key == entry.key && value == put && Some(*expires) == entry.expires.map(time_at)
        }
        (Operation::Merge { key, operand, .. }, Effect::Append(merged)) => *key == entry.key && operand == merged,
        (Operation::Delete { key, .. }, Effect::Delete) => *key == entry.key,
        (Operation::DeleteRange { begin, end, .. }, Effect::DeleteTo(to)) => {
            *begin == entry.key && end.map(<[u8]>::to_vec) == *to
        }
        _ => false,
    }
}
