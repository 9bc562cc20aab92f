//! The parent: one child process after another, repetitions of all stores taking turns; with `--scale` one store after another.

use crate::args::{Args, StoreName};
use crate::job::{self, Job, Sample};
use crate::machine::Machine;
use crate::memory_limit::{self, MemoryLimit};
use crate::plan::{self, Case, Room};
use crate::report::{Failure, Report};
use crate::scale::{self, Place};
use crate::{Result, compare, page};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Measures what `args` ask for and reports it.
///
/// # Errors
/// A store is not built in; a child failed, which wrote why; the report can't be written.
pub fn run(args: &Args) -> Result<()> {
    let stores = args.stores();
    stores.iter().try_for_each(|store| job::check_built_in(*store))?;
    if cfg!(debug_assertions) {
        eprintln!(
            "esker-bench: a build with debug assertions; use `cargo xtask bench` for figures that mean something"
        );
    }
    let machine = Machine::at_start(args.dir.as_deref());
    let Run { samples, failures, not_run, .. } =
        if args.scale { scale_all(args, &stores)? } else { measure_all(args, &stores)? };
    let report = Report { not_run, ..Report::new(args.settings(), machine.at_end(), samples, failures) };
    write_reports(args, &if args.scale { report.titled("Esker at scale") } else { report })
}

/// What has been measured so far.
struct Run<'a> {
    args: &'a Args,
    bar: ProgressBar,
    samples: Vec<Sample>,
    failures: Vec<Failure>,
    not_run: Vec<String>,
}

impl<'a> Run<'a> {
    fn new(args: &'a Args, steps: usize) -> Self {
        let bar = progress_bar(u64::from(args.repeat()) * steps as u64);
        Self { args, bar, samples: Vec::new(), failures: Vec::new(), not_run: Vec::new() }
    }

    /// One measurement; whether there is a figure of it. A rival that fails is no reason to lose an hour's run, and is told of in the report. Esker's failure is one.
    fn measure(&mut self, case: Case, store: StoreName, repetition: u32, place: Found<'_>) -> Result<bool> {
        self.bar.set_message(format!("{case} on {store}"));
        let result = in_child(self.args, case, store, repetition, place);
        self.bar.inc(1);
        match result {
            Ok(sample) => {
                show(&self.bar, &sample);
                self.samples.push(sample);
                Ok(true)
            }
            Err(error) if self.args.compares() && store != StoreName::Esker => {
                let (case, error) = (case.to_string(), error.to_string());
                self.failures.push(Failure { store, case, repetition, error });
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// A row that can't be is told of in the report, and at once.
    fn leave_out(&mut self, case: Case, store: StoreName, why: &str) {
        let line = format!("{case} on {store}: {why}");
        let told = format!("   -  NOT RUN: {line}");
        if self.bar.is_hidden() {
            eprintln!("{told}")
        } else {
            self.bar.println(told)
        }
        self.bar.inc(1);
        self.not_run.push(line);
    }
}

fn measure_all<'a>(args: &'a Args, stores: &[StoreName]) -> Result<Run<'a>> {
    let cases = plan::cases(args);
    let mut run = Run::new(args, cases.len() * stores.len());
    // Stores innermost: whatever else the machine does in an hour meets all of them.
    for repetition in 0..args.repeat() {
        for (nth, &case) in cases.iter().enumerate() {
            for store in plan::turn(stores, repetition, nth) {
                if !store.has(case.workload, case.state) {
                    run.bar.inc(1);
                    continue;
                }
                run.measure(case, store, repetition, Found::Nothing)?;
            }
        }
    }
    run.bar.finish_and_clear();
    Ok(run)
}

/// One store after another, each with a directory that stays from its load to its last row.
fn scale_all<'a>(args: &'a Args, stores: &[StoreName]) -> Result<Run<'a>> {
    let rows = scale::rows(args);
    let mut run = Run::new(args, rows.len() * stores.len());
    // Found out before hours have gone by.
    let no_limit = MemoryLimit::new(1024).err().map(|error| error.to_string());
    for repetition in 0..args.repeat() {
        for &store in stores {
            // Empty, then with a store that its rows share; `None` once it can't be relied on.
            let mut kept = Some(job::fresh_dir(args.dir.as_deref())?);
            for &(case, place) in &rows {
                if let (Room::LimitMib(_), Some(why)) = (case.room, &no_limit) {
                    run.leave_out(case, store, why);
                    continue;
                }
                let found = match (place, &kept) {
                    (Place::Own, _) => Found::Nothing,
                    (Place::Begin, Some(dir)) => Found::Empty(dir.path()),
                    (Place::Kept, Some(dir)) => Found::Loaded(dir.path()),
                    (_, None) => {
                        run.leave_out(case, store, "a row before it failed, and left data that can't be relied on");
                        continue;
                    }
                };
                if !run.measure(case, store, repetition, found)? && scale::leaves_ruins(case, place) {
                    kept = None;
                }
            }
        }
    }
    run.bar.finish_and_clear();
    Ok(run)
}

/// What a measurement finds on disk.
#[derive(Debug, Clone, Copy)]
enum Found<'a> {
    /// A directory of its own, removed behind it.
    Nothing,
    /// An empty one that stays.
    Empty(&'a Path),
    /// One with a store that has all keys.
    Loaded(&'a Path),
}

/// Over the whole run, on a terminal.
fn progress_bar(steps: u64) -> ProgressBar {
    let target =
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("{spinner} {bar:30} {pos}/{len}  {elapsed}, {eta} to go  {msg}");
    let bar = ProgressBar::with_draw_target(Some(steps), target).with_style(style.expect("the template is valid"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// One line for each measurement: above the bar, or plainly where there is none.
fn show(bar: &ProgressBar, sample: &Sample) {
    let case = Case::of(sample);
    let line = format!(
        "{:>4}  {case:<22} {:<10} {:>14}/s  {:?} {:?}",
        sample.repetition + 1,
        sample.store,
        crate::report::thousands(sample.ops_per_second as u64),
        case.compression,
        case.durability,
    );
    if bar.is_hidden() { eprintln!("{line}") } else { bar.println(line) }
}

fn write_reports(args: &Args, report: &Report) -> Result<()> {
    let json = || Ok::<_, crate::Error>(serde_json::to_string_pretty(report)? + "\n");
    if args.compares() || args.out.is_some() {
        let dir = args.out.clone().unwrap_or_else(|| default_dir(args, report));
        std::fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        write(&dir.join("report.json"), &json()?)?;
        write(&dir.join("report.md"), &compare::markdown(report))?;
        write(&dir.join("report.html"), &page::html(report))?;
        eprintln!("esker-bench: report.md, report.json and report.html are in {}", dir.display());
    }
    if let Some(path) = &args.markdown {
        write(path, &compare::markdown(report))?;
    }
    if let Some(path) = &args.html {
        write(path, &page::html(report))?;
    }
    match args.json.as_deref() {
        Some(path) if path == Path::new("-") => return print(json()?.trim_end()),
        Some(path) => write(path, &json()?)?,
        None => {}
    }
    if args.compares() { print(&compare::markdown(report)) } else { print(&report.to_string()) }
}

/// Recorded runs lie side by side, each named by its day and commit.
fn default_dir(args: &Args, report: &Report) -> PathBuf {
    let commit = report.machine.commit.as_deref().unwrap_or("unknown");
    let scale = if args.scale { format!("-scale-{}", report.settings.num) } else { String::new() };
    Path::new("docs/bench").join(format!("{}-{commit}{scale}", report.machine.date))
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// A reader that went away, as `head` does, is no failure.
fn print(text: &str) -> Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

fn in_child(args: &Args, case: Case, store: StoreName, repetition: u32, found: Found<'_>) -> Result<Sample> {
    let Case { workload, room, state, .. } = case;
    let own;
    let (dir, is_loaded) = match found {
        Found::Nothing => {
            own = job::fresh_dir(args.dir.as_deref())?;
            (own.path(), false)
        }
        Found::Empty(dir) => (dir, false),
        Found::Loaded(dir) => (dir, true),
    };
    let settings = if args.scale { scale::settings(case, &args.settings()) } else { case.settings(&args.settings()) };
    let limit = match room {
        Room::LimitMib(mib) => {
            memory_limit::evict(dir)?;
            Some(MemoryLimit::new(mib)?)
        }
        Room::Plenty | Room::CacheMib(_) => None,
    };
    let memory_limit = limit.as_ref().map(|limit| limit.dir().to_owned());
    let job = Job { workload, store, repetition, settings, room, state, dir: dir.to_owned(), is_loaded, memory_limit };
    let output = Command::new(std::env::current_exe()?)
        .arg("--job")
        .arg(serde_json::to_string(&job)?)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("{case} on {store}: the child ended with {}", output.status).into());
    }
    let sample = serde_json::from_slice(&output.stdout)?;
    Ok(Sample { group_peak_bytes: limit.and_then(|limit| limit.peak_bytes()), ..sample })
}
