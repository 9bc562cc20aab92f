//! One run: a script under an option set, line by line beside the model.
//!
//! With files in memory all is done in this process. With real files a *worker* does it, which kills itself where the script has a crash; it is started again and goes on where its journal says that the last one was:
//! ```text
//! begin 7
//! end 7 3 5 done      operation 7 is done; no power cut can undo 3 commits, no kill 5; its line in the history
//! begin 8             and killed
//! ```

use crate::op::{Crash, Op};
use crate::oracle::Oracle;
use crate::script::Script;
use crate::sets::{Medium, set};
use crate::subject::{Safe, Subject, Wrong, contents, whole};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// An operation that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// A kill that comes into an operation comes up to so much later than it begins.
const KILL_WITHIN: Duration = Duration::from_millis(3);
const SIGKILL: i32 = 9;

/// Runs it. The history goes to `history`.
pub(crate) fn run(script: &Script, path: &Path, number: usize, history: &Path) -> Result<(), Wrong> {
    if set(number).medium == Medium::Memory {
        let mut run = Run::new(script, number, Path::new("/"));
        run.begin()?;
        let mut lines = String::new();
        for at in 0..script.0.len() {
            lines += &run.operation(at)?;
            lines.push('\n');
        }
        run.end()?;
        return fs::write(history, lines).map_err(|error| format!("{}: {error}", history.display()));
    }
    // `kill -9` takes nothing from memory, so files in it do, where a sync costs nothing.
    let root =
        [Path::new("/dev/shm"), &std::env::temp_dir()].into_iter().find_map(|dir| tempfile::tempdir_in(dir).ok());
    let root = root.ok_or("no directory for files can be made")?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let crashes = script.0.iter().filter(|op| matches!(op, Op::Crash(_))).count();
    for _ in 0..=crashes {
        let status = Command::new(&program)
            .arg("worker")
            .arg(path)
            .args(["--options", &number.to_string(), "--root"])
            .arg(root.path())
            .status()
            .map_err(|error| format!("start a worker: {error}"))?;
        match (status.code(), status.signal()) {
            (Some(0), _) => {
                let journal =
                    fs::read_to_string(root.path().join("journal")).map_err(|error| format!("journal: {error}"))?;
                let ends = journal.lines().filter_map(|line| line.strip_prefix("end ")?.splitn(4, ' ').nth(3));
                let lines: String = ends.map(|line| format!("{line}\n")).collect();
                return fs::write(history, lines).map_err(|error| format!("{}: {error}", history.display()));
            }
            (_, Some(SIGKILL)) => {}
            (_, signal) => return Err(format!("the worker ended with {status}, signal {signal:?}")),
        }
    }
    Err("the worker was killed more often than the script has it".into())
}

/// What a worker does: all of a run, from where the one before it was killed.
pub(crate) fn work(script: &Script, number: usize, root: &Path) -> Result<(), Wrong> {
    let journal_path = root.join("journal");
    let io = |error: std::io::Error| format!("journal: {error}");
    let before = fs::read_to_string(&journal_path).unwrap_or_default();
    let mut journal = File::options().append(true).create(true).open(&journal_path).map_err(io)?;
    let mut run = Run::new(script, number, root);
    let mut note = |text: String| journal.write_all(text.as_bytes()).map_err(io);
    let mut next = 0;
    if before.is_empty() {
        note("open\n".into())?;
        run.begin()?;
    } else {
        next = run.rise(&before, &mut note)?;
    }
    for at in next..script.0.len() {
        note(format!("begin {at}\n"))?;
        match (&script.0[at], script.0.get(at + 1)) {
            (Op::Crash(_), _) => kill(),
            (_, Some(Op::Crash(Crash { at_percent: Some(percent), .. }))) => {
                let after = KILL_WITHIN * u32::try_from(*percent).unwrap_or(100) / 100;
                std::thread::spawn(move || {
                    std::thread::sleep(after);
                    kill()
                });
            }
            _ => {}
        }
        let line = run.operation(at)?;
        note(ended(at, run.subject.safe, &line))?;
    }
    run.end()
}

fn ended(at: usize, safe: Safe, line: &str) -> String {
    format!("end {at} {} {} {line}\n", safe.durable, safe.pushed)
}

/// `kill -9` of this process.
fn kill() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    loop {
        std::thread::sleep(PATIENCE);
    }
}

/// What the journal says of whoever was killed: how many operations it had done, what was safe then, and whether it had begun another one.
fn read_journal(journal: &str) -> Option<(usize, Safe, bool)> {
    let (mut done, mut safe, mut has_begun) = (0, Safe::default(), false);
    for line in journal.lines() {
        let words: Vec<&str> = line.splitn(5, ' ').collect();
        match words[..] {
            ["open"] => {}
            ["begin", at] => has_begun = at.parse::<usize>().ok()? == done,
            ["end", at, durable, pushed, _] => {
                done = at.parse::<usize>().ok()? + 1;
                safe = Safe { durable: durable.parse().ok()?, pushed: pushed.parse().ok()? };
                has_begun = false;
            }
            _ => return None,
        }
    }
    Some((done, safe, has_begun))
}

struct Run<'a> {
    script: &'a Script,
    oracle: Oracle,
    subject: Subject,
    /// Of the operation that is under way.
    at: Arc<AtomicUsize>,
}

impl<'a> Run<'a> {
    fn new(script: &'a Script, number: usize, root: &Path) -> Self {
        let at = Arc::new(AtomicUsize::new(0));
        watch(Arc::clone(&at));
        Self { script, oracle: Oracle::new(), subject: Subject::new(number, root), at }
    }

    fn begin(&mut self) -> Result<(), Wrong> {
        self.subject.open().map_err(|error| format!("make an engine: {error:?}"))
    }

    /// Takes up what a worker has left that was killed; the number of the next operation.
    fn rise(&mut self, journal: &str, note: &mut dyn FnMut(String) -> Result<(), Wrong>) -> Result<usize, Wrong> {
        let (done, safe, has_begun) = read_journal(journal).ok_or("the journal can't be read")?;
        for op in &self.script.0[..done] {
            self.oracle.apply(op);
            if let Op::Reopen(further) = op {
                self.subject.change_set(*further);
            }
        }
        let mut next = done;
        let mut doubt = None;
        let is_crash = |at: usize| matches!(self.script.0.get(at), Some(Op::Crash(_)));
        if has_begun && !is_crash(next) {
            // It was killed at this one, so nobody knows what it did: as if it had been done, when all is made good.
            let op = &self.script.0[next];
            let outcome = self.oracle.apply(op);
            if let Op::Reopen(further) = op {
                self.subject.change_set(*further);
            }
            note(ended(next, safe, &outcome.line))?;
            doubt = Some(op);
            next += 1;
        }
        if !is_crash(next) {
            return Err(format!("the process died at operation {next}, where the script has no crash"));
        }
        let outcome = self.oracle.apply(&self.script.0[next]);
        self.subject.world.set_time(self.oracle.model.now().time);
        // What was to go wrong may do so while it recovers; whether it has already, died with the worker.
        let mut before = self.script.0[..next].iter().rev();
        if let Some(fault @ Op::Fault(..)) = before.find(|op| matches!(op, Op::Fault(..) | Op::Heal)) {
            self.subject.fault(fault);
        }
        self.subject.safe = safe;
        let from = safe.pushed.max(safe.durable);
        let line = self.subject.after_death(&self.oracle, from, doubt).map_err(|wrong| self.put(next, &wrong))?;
        self.compare(next, &outcome.line, &line)?;
        note(ended(next, self.subject.safe, &line))?;
        Ok(next + 1)
    }

    /// Does one; its line in the history.
    fn operation(&mut self, at: usize) -> Result<String, Wrong> {
        self.at.store(at, Ordering::SeqCst);
        let op = &self.script.0[at];
        let outcome = self.oracle.apply(op);
        if !matches!(op, Op::Crash(_)) {
            self.subject.world.begins();
            self.subject.safe_before = self.subject.safe;
        }
        let line = match op {
            _ if outcome.is_skipped => Ok(outcome.line.clone()),
            Op::Crash(crash) => self.subject.power_cut(*crash, &self.oracle, self.doubt(at)),
            Op::Reopen(further) => self.subject.reopen(*further, &self.oracle),
            Op::Fault(..) => {
                self.subject.fault(op);
                Ok(outcome.line.clone())
            }
            Op::Heal => self.subject.heal(&self.oracle),
            op => self.subject.until_done(op, &self.oracle, &outcome),
        };
        let line = line.map_err(|wrong| self.put(at, &wrong))?;
        self.compare(at, &outcome.line, &line)?;
        Ok(line)
    }

    /// The operation that a crash comes into: the one before; or, if it comes into the recovery from another crash, that one's.
    fn doubt(&self, crash: usize) -> Option<&'a Op> {
        let mut before = self.script.0[..=crash].iter().rev().skip_while(|op| match op {
            Op::Crash(Crash { at_percent, .. }) => at_percent.is_some(),
            _ => false,
        });
        before.next().filter(|op| !matches!(op, Op::Crash(_)))
    }

    /// All that is there at the end, before it is closed and behind.
    fn end(mut self) -> Result<(), Wrong> {
        let last = self.script.0.len();
        self.at.store(last, Ordering::SeqCst);
        let healed = self.subject.heal(&self.oracle).map_err(|wrong| self.put(last, &wrong))?;
        let expected = self.oracle.apply(&Op::Heal);
        self.compare(last, &expected.line, &healed)?;
        let reopened = self.subject.reopen(0, &self.oracle).map_err(|wrong| self.put(last, &wrong))?;
        self.compare(last, &expected.line, &reopened)?;
        let engine = self.subject.engine();
        let all = contents(engine).map_err(|error| self.put(last, &format!("{error:?}")))?;
        self.compare(last, &expected.line, &whole(&all))?;
        engine.close().map_err(|error| self.put(last, &format!("close: {error:?}")))
    }

    fn compare(&self, at: usize, expected: &str, found: &str) -> Result<(), Wrong> {
        if expected == found {
            return Ok(());
        }
        Err(self.put(at, &format!("the histories differ\n    expected: {expected}\n    found:    {found}")))
    }

    /// What is wrong, and where.
    fn put(&self, at: usize, wrong: &str) -> Wrong {
        let op = self.script.0.get(at).map_or("the end".into(), ToString::to_string);
        format!("operation {}: {op}\n{wrong}\n    options:  {}", at + 1, self.subject.set.describe())
    }
}

/// Ends the process when nothing goes on.
fn watch(at: Arc<AtomicUsize>) {
    std::thread::spawn(move || {
        let mut last = usize::MAX;
        loop {
            let now = at.load(Ordering::SeqCst);
            if now == last {
                eprintln!("operation {}: it hangs: nothing for {PATIENCE:?}", now + 1);
                std::process::exit(1);
            }
            last = now;
            std::thread::sleep(PATIENCE);
        }
    });
}
