//! Reads of the engine, in the words of a history.

use crate::op::{Op, View};
use crate::oracle::{ends, found};
use crate::script::key_text;
use crate::subject::{Subject, collected, listed};
use esker::ReadOptions;
use esker_testkit::model::{Range, Step};
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
}

fn bounds(range: &Range) -> (std::ops::Bound<Vec<u8>>, std::ops::Bound<Vec<u8>>) {
    (range.lower.clone(), range.upper.clone())
}
