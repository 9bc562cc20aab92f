//! `demo`: loads a million records from a process that is killed in the middle, and proves what is left.
//!
//! The child process loads, and tells over a pipe after each write that returned how many records are stored. The parent kills it by
//! `SIGKILL` at half, opens the store, and reads all of it: every record that was acknowledged must be there with its value, every batch
//! whole, and nothing else but a write that was under way. Then it loads the rest, scans, compacts, and looks records up.

mod workload;

use crate::args::{self, Common};
use crate::commands::stats;
use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::progress;
use crate::store::{self, Access};
use esker::Engine;
use indicatif::{HumanBytes, HumanCount, ProgressBar};
use serde::Serialize;
use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Look-ups at random.
const GETS_MAX: u64 = 200_000;

/// What was found.
#[derive(Debug, Default, Serialize)]
struct Report {
    records: u64,
    /// Records acknowledged before the kill.
    acknowledged: u64,
    /// Records found after it; those beyond `acknowledged` were written, and the kill came before the word of it.
    recovered: u64,
    load_per_s: f64,
    recovery_s: f64,
    scan_per_s: f64,
    get_per_s: f64,
    compact_s: f64,
    /// Bytes of keys and values.
    user_bytes: u64,
    levels: Vec<stats::Level>,
}

/// Runs the demo.
pub(crate) fn run(common: &Common, demo: &args::Demo) -> Result {
    let folder = Folder::new(demo.keep.as_deref())?;
    match prove(common, demo, &folder) {
        Ok(report) => {
            folder.clean_up()?;
            show(common, &report, demo.keep.as_deref())
        }
        Err(nobody_listens) if nobody_listens.message().is_none() => folder.clean_up().and(Err(nobody_listens)),
        Err(failure) => Err(failure.within(format!("demo (the store stays in '{}')", folder.path.display()))),
    }
}

fn prove(common: &Common, demo: &args::Demo, folder: &Folder) -> Result<Report> {
    let total = demo.records;
    let mut report = Report { records: total, ..Report::default() };
    let told = Told { quiet: common.json };

    let bar = progress::records("loading", Some(total));
    let begun = Instant::now();
    report.acknowledged = load_and_kill(&folder.path, total, &bar)?;
    let mut load_s = begun.elapsed().as_secs_f64();
    let half = HumanCount(report.acknowledged);
    told.line(&bar, &format!("{half} records acknowledged by a loading process, which is then killed (SIGKILL)"))?;

    let (engine, seconds) = timed(|| store::open(common, &folder.path, Access::Write))?;
    report.recovery_s = seconds;
    report.recovered = workload::prove(&engine, total, |_| {})?;
    if report.recovered < report.acknowledged {
        let (found, promised) = (report.recovered, report.acknowledged);
        return Err(Failure::damage(format!("{promised} records were acknowledged, and only {found} are there")));
    }
    let beyond = report.recovered - report.acknowledged;
    told.line(
        &bar,
        &format!(
            "reopened in {seconds:.3} s: all of them are there, none is torn; {beyond} more were under way, whole"
        ),
    )?;

    let loaded = |count| {
        bar.set_position(count);
        Ok(())
    };
    let ((), seconds) = timed(|| workload::load(&engine, report.recovered, total, loaded))?;
    load_s += seconds;
    report.load_per_s = total as f64 / load_s;
    bar.finish_and_clear();

    let bar = progress::records("scanning", Some(total));
    report.scan_per_s = total as f64 / prove_all(&engine, total, &bar)?;
    told.line(&bar, &format!("scanned: {} records, in order, each with its value", HumanCount(total)))?;
    bar.set_message("compacting");
    ((), report.compact_s) = timed(|| Ok(engine.compact_range(..)?))?;
    let gets = total.min(GETS_MAX);
    ((), report.get_per_s) = timed(|| workload::get(&engine, total, gets)).map(|((), s)| ((), gets as f64 / s))?;
    bar.set_message("scanning once more");
    prove_all(&engine, total, &bar)?;
    bar.finish_and_clear();
    told.line(&bar, "compacted, and the same records found by scan and by look-ups at random")?;

    report.levels = stats::levels(&engine);
    report.user_bytes = user_bytes(total);
    engine.close()?;
    Ok(report)
}

/// Starts the process that loads, kills it when about half of the records are acknowledged, and returns how many were in the end.
fn load_and_kill(db: &Path, total: u64, bar: &ProgressBar) -> Result<u64> {
    let failed =
        |error: io::Error| Failure::error(format!("the loading process: {}", crate::failure::describe(&error)));
    let program = env::current_exe().map_err(failed)?;
    let mut child = Command::new(program)
        .arg("demo-load")
        .arg(db)
        .arg(total.to_string())
        .stdin(Stdio::piped()) // it waits for the end of this when it has loaded all, and ends if we do
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut pipe = BufReader::new(child.stdout.take().expect("its output is a pipe"));
    let mut acknowledged = 0;
    let until_half = listen(&mut pipe, &mut acknowledged, total.div_ceil(2) + jitter(total), bar);
    let ended = child.try_wait();
    kill(&mut child).map_err(failed)?;
    let after_half = until_half.and_then(|()| listen(&mut pipe, &mut acknowledged, u64::MAX, bar));
    after_half.map_err(failed)?;
    match ended.map_err(failed)? {
        Some(status) => Err(Failure::error(format!("the loading process ended by itself: {status}"))),
        None => Ok(acknowledged),
    }
}

/// A few records more or less, so that the kill comes now within a batch and now between single puts.
fn jitter(total: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) % (total / 10).clamp(1, 1000)
}

fn kill(child: &mut Child) -> io::Result<()> {
    child.kill()?;
    child.wait().map(drop)
}

/// Reads acknowledged counts until one reaches `enough`, or to the end.
fn listen(pipe: &mut BufReader<ChildStdout>, acknowledged: &mut u64, enough: u64, bar: &ProgressBar) -> io::Result<()> {
    let mut line = String::new();
    while *acknowledged < enough {
        line.clear();
        pipe.read_line(&mut line)?;
        // What was cut off by the kill was not said.
        let Some(count) = line.strip_suffix('\n') else { break };
        *acknowledged =
            count.parse().map_err(|_| io::Error::other(format!("it said '{count}' where a count was due")))?;
        bar.set_position(*acknowledged);
    }
    Ok(())
}

/// What the child process does.
pub(crate) fn load(common: &Common, db: &Path, records: u64) -> Result {
    let engine = store::open(common, db, Access::Create)?;
    let mut out = io::stdout().lock();
    workload::load(&engine, 0, records, |count| {
        writeln!(out, "{count}").and_then(|()| out.flush()).map_err(|error| Failure::output(&error))
    })?;
    // Stay until killed, or until the parent is gone.
    io::stdin()
        .lock()
        .read_to_end(&mut Vec::new())
        .map_err(|error| Failure::error(format!("standard input: {error}")))?;
    Ok(engine.close()?)
}

/// Scans all, and returns the seconds it took.
fn prove_all(engine: &Engine, total: u64, bar: &ProgressBar) -> Result<f64> {
    let (count, seconds) = timed(|| workload::prove(engine, total, |count| bar.set_position(count)))?;
    match count == total {
        true => Ok(seconds),
        false => Err(Failure::damage(format!("{total} records were stored, and {count} are there"))),
    }
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let begun = Instant::now();
    let value = work()?;
    Ok((value, begun.elapsed().as_secs_f64().max(1e-9)))
}

fn user_bytes(total: u64) -> u64 {
    let mut pair = workload::Pair::default();
    pair.set(0);
    total * (pair.key.len() + pair.value.len()) as u64
}

/// Lines of what has been proved so far.
struct Told {
    quiet: bool,
}

impl Told {
    fn line(&self, bar: &ProgressBar, text: &str) -> Result {
        if self.quiet {
            return Ok(());
        }
        bar.suspend(|| {
            let mut out = Output::new();
            out.say(text)?;
            out.finish()
        })
    }
}

fn show(common: &Common, report: &Report, kept: Option<&Path>) -> Result {
    let mut out = Output::new();
    if common.json {
        out.json(report)?;
        return out.finish();
    }
    let rate = |per_s: f64| format!("{:>12}/s", HumanCount(per_s as u64).to_string());
    out.say("")?;
    out.say(format!("load      {}   ({} of keys and values)", rate(report.load_per_s), HumanBytes(report.user_bytes)))?;
    out.say(format!("recovery  {:>12.3} s", report.recovery_s))?;
    out.say(format!("scan      {}", rate(report.scan_per_s)))?;
    out.say(format!("get       {}   (at random)", rate(report.get_per_s)))?;
    out.say(format!("compact   {:>12.3} s", report.compact_s))?;
    out.say("")?;
    out.line(stats::level_table(&report.levels))?;
    if let Some(kept) = kept {
        out.say(format!("the store stays in '{}'", kept.display()))?;
    }
    out.finish()
}

/// Where the demo works.
struct Folder {
    path: PathBuf,
    keep: bool,
}

impl Folder {
    /// A folder that is new, or empty.
    fn new(keep: Option<&Path>) -> Result<Self> {
        if let Some(path) = keep {
            fs::create_dir_all(path).map_err(|error| Failure::io("making the folder", path, &error))?;
            let mut entries = fs::read_dir(path).map_err(|error| Failure::io("reading the folder", path, &error))?;
            if entries.next().is_some() {
                return Err(Failure::error(format!("'{}' is not empty; give a new folder", path.display())));
            }
            return Ok(Self { path: path.to_owned(), keep: true });
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let path = env::temp_dir().join(format!("esker-demo-{}-{}", std::process::id(), now.as_nanos()));
        fs::create_dir(&path).map_err(|error| Failure::io("making the folder", &path, &error))?;
        Ok(Self { path, keep: false })
    }

    fn clean_up(&self) -> Result {
        if self.keep {
            return Ok(());
        }
        fs::remove_dir_all(&self.path).map_err(|error| Failure::io("removing the folder", &self.path, &error))
    }
}
