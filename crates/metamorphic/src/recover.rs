//! What a run does when the power was cut, the process was killed, or the file system has failed.
//!
//! ```text
//! commits    1  2  3  4  5  6  7          the model has seven
//!                  └ safe   └ found       nothing up to what is safe may be missing; what is there is a prefix
//!                              6  7       written again: from here on all runs are the same again
//! ```
//! So histories agree to the byte whatever was lost where it may be, and nothing that must not be lost goes unnoticed.
//!
//! An operation during which something went wrong is mended and tried again. A write that failed is there whole or not at all; and if its error does not say that its outcome is unknown, it is not there.

use crate::op::{Crash, Leaves, NAMES, Op};
use crate::oracle::{Oracle, Outcome};
use crate::subject::{Safe, Subject, Wrong, contents, whole};
use esker::{Durability, ErrorKind, WriteBatch, WriteOptions};
use esker_testkit::model::{At, Contents, Range};
use std::collections::BTreeMap;

/// How often an operation that fails is tried again.
const TRIES: usize = 8;

/// What the model has as of a commit, in a line.
fn expected(oracle: &Oracle, commit: usize) -> String {
    let at = At { commit, ..oracle.model.now() };
    let living = oracle.model.living().into_iter().enumerate();
    let owned = |space| {
        let pairs = oracle.model.range(space, &Range::ALL, at);
        pairs.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect::<Contents>()
    };
    whole(&living.filter_map(|(name, space)| Some((name, owned(space?)))).collect())
}

fn wrong(what: &str) -> impl Fn(esker::Error) -> Wrong + '_ {
    move |error| format!("{what}: {error:?}")
}

impl Subject {
    /// Does an operation until it is done, whatever goes wrong on purpose.
    pub(crate) fn until_done(&mut self, op: &Op, oracle: &Oracle, outcome: &Outcome) -> Result<String, Wrong> {
        let mut tries = 0;
        let mut is_gone = false;
        while tries < TRIES {
            let tried = match op {
                // The transaction went with the first try.
                Op::Commit(_, level) if is_gone => self.commit_again(*level, oracle, outcome),
                _ => self.does(op, oracle, outcome),
            };
            is_gone = matches!(op, Op::Commit(..));
            let error = match tried {
                Ok(line) => return line,
                // Where nobody else works in the background, it has to be done here for writers to be let through again.
                Err(error) if error.kind() == ErrorKind::Stalled => match self.engine().step() {
                    Ok(true) => continue,
                    Ok(false) => error,
                    Err(error) => error,
                },
                Err(error) => error,
            };
            tries += 1;
            let may_be = self.world.is_struck() || self.is_wounded || std::mem::take(&mut self.may_tell);
            if !may_be {
                return Err(format!("{error:?}"));
            }
            if self.mend(op, oracle, outcome, &error)? {
                return Ok(outcome.line.clone());
            }
        }
        Err(format!("it still fails after {TRIES} tries, though all is mended"))
    }

    /// Mends what went wrong with an operation; whether it is done all the same.
    fn mend(&mut self, op: &Op, oracle: &Oracle, outcome: &Outcome, error: &esker::Error) -> Result<bool, Wrong> {
        self.is_wounded = true;
        self.world.mend();
        self.engine().resume().map_err(wrong("resume, though all is mended"))?;
        // The line of logs is cut there, and the feed with it.
        self.told = None;
        let commits = oracle.model.commits();
        // The model is one commit ahead.
        let before = if outcome.commits { commits - 1 } else { commits };
        let all = match contents(self.engine()) {
            Ok(all) if self.engine().metrics().quarantined_tables.is_empty() => all,
            _ => {
                self.close_and_open(before)?;
                contents(self.engine()).map_err(wrong("read, though all is mended and it was opened again"))?
            }
        };
        if matches!(op, Op::Create(_) | Op::Drop(_)) {
            return Ok(false);
        }
        let found = whole(&all);
        let (is_before, is_after) = (found == expected(oracle, before), found == expected(oracle, commits));
        if !is_before && !is_after {
            return Err(format!(
                "after {error:?}: holds {found}; before it was {}, and behind it would be {}",
                expected(oracle, before),
                expected(oracle, commits)
            ));
        }
        if !error.outcome_unknown() && !is_before {
            return Err(format!("it was refused, and is there: {error:?}"));
        }
        // Of a transaction that writes nothing there is nothing to try again.
        let is_gone = matches!(op, Op::Commit(..)) && !outcome.commits;
        Ok(is_gone || outcome.commits && is_after)
    }

    /// As far as it goes, after something went wrong.
    fn close_and_open(&mut self, commits: usize) -> Result<(), Wrong> {
        let engine = self.let_go().expect("open");
        let closed = engine.close();
        drop(engine);
        self.open().map_err(wrong("open, though all is mended"))?;
        self.has_lost = true;
        if closed.is_err() {
            // What was read from the log may be in the kernel's memory alone, after a sync that failed: nobody can tell any more. In tables it is safe.
            self.engine().flush().map_err(wrong("flush, though all is mended"))?;
        }
        self.told = Some((self.engine().metrics().last_seq, commits));
        Ok(())
    }

    pub(crate) fn fault(&mut self, op: &Op) {
        let Op::Fault(trouble, call, path, nth) = op else { unreachable!("it is one") };
        self.world.trouble(*trouble, *call, path, *nth, &self.set);
    }

    /// All that went wrong is mended, and nothing is missing.
    pub(crate) fn heal(&mut self, oracle: &Oracle) -> Result<String, Wrong> {
        let was_struck = self.world.mend() || self.is_wounded;
        if was_struck {
            self.engine().resume().map_err(wrong("resume, though all is mended"))?;
            let is_whole = self.engine().metrics().quarantined_tables.is_empty();
            if !is_whole || contents(self.engine()).is_err() {
                self.close_and_open(oracle.model.commits())?;
            }
            self.may_tell = true;
            self.told = None;
        }
        self.is_wounded = false;
        let report = self.engine().verify().map_err(wrong("verify"))?;
        if !report.is_ok() {
            return Err(format!("damaged, though all is mended: {report:?}"));
        }
        contents(self.engine()).map(|all| whole(&all)).map_err(wrong("read, though all is mended"))
    }

    /// Closes and opens, under the option set so many further on.
    pub(crate) fn reopen(&mut self, further: usize, oracle: &Oracle) -> Result<String, Wrong> {
        self.change_set(further);
        let commits = oracle.model.commits();
        let engine = self.let_go().expect("open");
        let closed = engine.close();
        drop(engine);
        let mut from = commits;
        if let Err(error) = &closed {
            if !self.world.is_struck() && !self.is_wounded && !std::mem::take(&mut self.may_tell) {
                return Err(format!("close: {error:?}"));
            }
            from = self.safe.pushed.max(self.safe.durable);
        }
        if let Err(error) = self.open() {
            if !self.world.is_struck() && !self.is_wounded {
                return Err(format!("open: {error:?}"));
            }
            self.is_wounded = true;
            self.world.mend();
            self.let_go();
            self.open().map_err(wrong("open, though all is mended"))?;
        }
        if closed.is_err() {
            self.is_wounded = true;
            self.world.mend();
            self.engine().flush().map_err(wrong("flush, though all is mended"))?;
        } else {
            self.safe = Safe { durable: commits, pushed: commits };
        }
        let before = self.safe_before;
        let taken = match self.take_up(oracle, from, None) {
            // A read may have met what is to go wrong.
            Err(_) if self.world.is_struck() => {
                self.is_wounded = true;
                self.world.mend();
                self.close_and_open(commits)?;
                self.take_up(oracle, from, None)
            }
            taken => taken,
        };
        // A crash into the closing finds what was safe before it.
        self.safe_before = before;
        taken
    }

    /// The power is cut. `doubt` is the operation that it came into.
    pub(crate) fn power_cut(&mut self, crash: Crash, oracle: &Oracle, doubt: Option<&Op>) -> Result<String, Wrong> {
        let image = self.world.crashed(crash.leaves, crash.at_percent);
        // What was to go wrong and has not yet may do so while it recovers.
        image.take_over_trouble(&self.world);
        let safe = if crash.at_percent.is_some() { self.safe_before } else { self.safe };
        // After a sync that failed the kernel has no more than what is durable.
        let is_all = crash.leaves == Leaves::All && !self.is_wounded && !self.world.is_struck();
        // What the old engine still writes goes to files that nobody looks at again.
        drop(self.let_go());
        self.world = image;
        (self.is_wounded, self.may_tell) = (false, false);
        let from = if is_all { safe.pushed.max(safe.durable) } else { safe.durable };
        self.after_death(oracle, from, doubt)
    }

    /// Opens what a dead engine has left.
    pub(crate) fn after_death(&mut self, oracle: &Oracle, from: usize, doubt: Option<&Op>) -> Result<String, Wrong> {
        let seen = match self.world.is_in_memory().then(|| self.read_only()) {
            Some(Ok(all)) => Some(all),
            // It died while it was made.
            Some(Err(error)) if error.kind() == ErrorKind::NotFound && from == 0 => None,
            Some(Err(error)) => return Err(format!("open what the crash has left for reading: {error:?}")),
            None => None,
        };
        if let Err(error) = self.open() {
            if !self.world.is_struck() {
                return Err(format!("open what the crash has left: {error:?}"));
            }
            self.is_wounded = true;
            self.world.mend();
            self.let_go();
            self.open().map_err(wrong("open what the crash has left, though all is mended"))?;
        }
        let all = self.read_all(oracle)?;
        if seen.is_some_and(|seen| seen != all) {
            return Err("who opens what the crash has left for reading sees something else".into());
        }
        self.take_up(oracle, from, doubt)
    }

    /// All that is there. What was to go wrong may go wrong in this.
    fn read_all(&mut self, oracle: &Oracle) -> Result<BTreeMap<usize, Contents>, Wrong> {
        let all = contents(self.engine());
        if all.is_ok() || !self.world.is_struck() {
            return all.map_err(wrong("read"));
        }
        self.is_wounded = true;
        self.world.mend();
        self.close_and_open(oracle.model.commits())?;
        contents(self.engine()).map_err(wrong("read, though all is mended"))
    }

    /// Finds which commits are there, of which none up to `from` may be missing, and writes the others again.
    fn take_up(&mut self, oracle: &Oracle, from: usize, doubt: Option<&Op>) -> Result<String, Wrong> {
        let model = &oracle.model;
        let commits = model.commits();
        let all = self.read_all(oracle)?;
        let mut spaces = Vec::new();
        for (name, living) in model.living().into_iter().enumerate() {
            match (living, all.get(&name)) {
                (Some(space), Some(there)) => spaces.push((space, there.clone())),
                (None, None) => {}
                (Some(_), None) if doubt == Some(&Op::Create(name)) => {}
                (None, Some(_)) if doubt == Some(&Op::Drop(name)) => {
                    self.engine().drop_keyspace(NAMES[name]).map_err(wrong("drop again"))?;
                    self.handles[name] = None;
                }
                (living, _) => {
                    let is = if living.is_some() { "is gone" } else { "is there again" };
                    return Err(format!("the keyspace `{}` {is}", NAMES[name]));
                }
            }
        }
        let Some(at) = model.find(&spaces, from..=commits, model.now().look) else {
            let earlier = model.find(&spaces, 0..=from, model.now().look);
            let earlier = earlier.map_or("nor of any before".into(), |at| format!("but that after commit {at}"));
            return Err(format!(
                "it holds {}, which is the state after no commit from {from} to {commits}, {earlier}; after the last it would be {}",
                whole(&all),
                expected(oracle, commits)
            ));
        };
        // A second crash, while this one is being made good, must not undo it.
        self.safe =
            Safe { durable: self.safe.durable.min(at).max(if self.world.is_in_memory() { at } else { 0 }), pushed: at };
        self.safe_before = self.safe;
        if let Some(op @ Op::Create(name)) = doubt
            && self.handles[*name].is_none()
        {
            let outcome =
                Outcome { line: "done".into(), is_skipped: false, commits: false, may_conflict: false, before: None };
            self.until_done(op, oracle, &outcome)?;
        }
        let os = WriteOptions { durability: Durability::Os, ..WriteOptions::default() };
        for (commit, logged) in (at + 1..=commits).zip(&oracle.log[at..]) {
            let again = self.again(oracle, &logged.entries);
            self.write_again(&again, &os).map_err(|error| format!("write commit {commit} again: {error:?}"))?;
        }
        if commits > at {
            self.carried(commits, true, false);
        }
        let all = self.read_all(oracle)?;
        self.told = Some((self.engine().metrics().last_seq, commits));
        Ok(whole(&all))
    }

    /// Writes; where nobody else works in the background, room is made first.
    pub(crate) fn write_with_room(&self, batch: &WriteBatch, options: &WriteOptions) -> esker::Result<()> {
        loop {
            match self.engine().write_with(batch, options) {
                Err(error) if error.kind() == ErrorKind::Stalled => {
                    if !self.engine().step()? {
                        return Err(error);
                    }
                }
                written => return written,
            }
        }
    }

    /// Writes as often as it takes.
    fn write_again(&mut self, batch: &WriteBatch, options: &WriteOptions) -> esker::Result<()> {
        loop {
            match self.write_with_room(batch, options) {
                // What is to go wrong may do so here too; it is not what is looked at.
                Err(_) if self.world.is_struck() => {
                    self.is_wounded = true;
                    self.world.mend();
                    self.engine().resume()?;
                }
                written => return written,
            }
        }
    }
}
