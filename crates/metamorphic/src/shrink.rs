//! Makes a script that fails as small as it gets: takes out operations, ever smaller parts of them, then parts of single operations, as long as it fails and there is time.
//!
//! Any failure will do: what a smaller script shows is no less a bug.

use crate::compare::{self, Failure};
use crate::op::{Change, Op, Value, Write};
use crate::script::Script;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Instant;

/// Of what fails once in a while a try may pass by luck.
const TRIES: usize = 2;

/// A script that fails as small as it got, and how it fails.
pub(crate) fn shrink(script: Script, failure: Failure, end: Instant) -> io::Result<(Script, Failure)> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("script");
    let mut smallest = Smallest { script, failure, end, path: &path, history: &dir.path().join("history") };
    loop {
        let before = smallest.script.clone();
        smallest.drop_operations()?;
        smallest.simplify()?;
        if smallest.script == before || Instant::now() >= end {
            return Ok((smallest.script, smallest.failure));
        }
    }
}

struct Smallest<'a> {
    script: Script,
    failure: Failure,
    end: Instant,
    path: &'a Path,
    history: &'a Path,
}

impl Smallest<'_> {
    /// Takes a candidate if it fails.
    fn offer(&mut self, ops: Vec<Op>) -> io::Result<bool> {
        let candidate = Script(ops);
        fs::write(self.path, candidate.to_string())?;
        for _ in 0..TRIES {
            if Instant::now() >= self.end {
                return Ok(false);
            }
            if let Err(failure) = compare::one(self.path, self.failure.options, self.history)? {
                (self.script, self.failure) = (candidate, failure);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn drop_operations(&mut self) -> io::Result<()> {
        let mut part = self.script.0.len().div_ceil(2);
        while part > 0 {
            // From the end: what came after the failure goes first.
            let mut to = self.script.0.len();
            while to > 0 && Instant::now() < self.end {
                let from = to.saturating_sub(part);
                let mut ops = self.script.0.clone();
                ops.drain(from..to);
                self.offer(ops)?;
                to = from;
            }
            part = if part == 1 { 0 } else { part.div_ceil(2) };
        }
        Ok(())
    }

    fn simplify(&mut self) -> io::Result<()> {
        let mut at = 0;
        while at < self.script.0.len() {
            let simpler = simpler(&self.script.0[at]);
            let mut taken = false;
            for op in simpler {
                let mut ops = self.script.0.clone();
                ops[at] = op;
                if self.offer(ops)? {
                    taken = true;
                    break;
                }
            }
            // What got simpler may get simpler still.
            if !taken {
                at += 1;
            }
        }
        Ok(())
    }
}

/// Operations that are a little simpler.
fn simpler(op: &Op) -> Vec<Op> {
    match op {
        Op::Write(terms, writes) => {
            let fewer = without_one(writes).into_iter().filter(|writes| !writes.is_empty());
            let shorter = shorter_writes(writes);
            fewer.chain(shorter).map(|writes| Op::Write(*terms, writes)).collect()
        }
        Op::TransactionWrite(tx, writes) => {
            let fewer = without_one(writes).into_iter().filter(|writes| !writes.is_empty());
            fewer.chain(shorter_writes(writes)).map(|writes| Op::TransactionWrite(*tx, writes)).collect()
        }
        Op::Ingest(name, way, entries) => {
            let fewer = without_one(entries).into_iter().filter(|entries| !entries.is_empty());
            fewer.map(|entries| Op::Ingest(*name, *way, entries)).collect()
        }
        Op::MultiGet(view, name, keys) => {
            let fewer = without_one(keys).into_iter().filter(|keys| !keys.is_empty());
            fewer.map(|keys| Op::MultiGet(*view, *name, keys)).collect()
        }
        Op::Walk(view, name, range, steps) => {
            let fewer = without_one(steps).into_iter().filter(|steps| !steps.is_empty());
            fewer.map(|steps| Op::Walk(*view, *name, range.clone(), steps)).collect()
        }
        Op::Scan(view, name, range, pattern) if pattern.len() > 1 => {
            vec![Op::Scan(*view, *name, range.clone(), pattern[..1].to_vec())]
        }
        Op::Reopen(further) if *further > 0 => vec![Op::Reopen(0)],
        Op::Work(steps) if *steps > 1 => vec![Op::Work(1)],
        _ => Vec::new(),
    }
}

fn without_one<T: Clone>(of: &[T]) -> Vec<Vec<T>> {
    let halves = [of[of.len() / 2..].to_vec(), of[..of.len() / 2].to_vec()];
    let singly =
        (0..of.len()).map(|i| of.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, t)| t.clone()).collect());
    halves.into_iter().chain(singly).filter(|fewer: &Vec<T>| fewer.len() < of.len()).collect()
}

/// The same with one value of a single byte.
fn shorter_writes(writes: &[Write]) -> Vec<Vec<Write>> {
    let mut all = Vec::new();
    for (i, write) in writes.iter().enumerate() {
        let short = |value: &Value| (value.len > 1).then_some(Value { len: 1, ..*value });
        let change = match &write.change {
            Change::Put(value) => short(value).map(Change::Put),
            Change::Merge(value) => short(value).map(Change::Merge),
            Change::PutFor(value, seconds) => short(value).map(|value| Change::PutFor(value, *seconds)),
            Change::PutForever(value) => short(value).map(Change::PutForever),
            Change::Delete | Change::DeleteTo(_) => None,
        };
        if let Some(change) = change {
            let mut shorter = writes.to_vec();
            shorter[i].change = change;
            all.push(shorter);
        }
    }
    all
}
