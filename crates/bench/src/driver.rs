//! The parent: one child process after another, repetitions of all stores taking turns.

use crate::args::{Args, StoreName};
use crate::job::{self, Job, Sample};
use crate::machine::Machine;
use crate::plan::{self, Case};
use crate::report::{Failure, Report};
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
    let (samples, failures) = measure_all(args, &stores)?;
    write_reports(args, &Report::new(args.settings(), machine.at_end(), samples, failures))
}

/// A rival that fails is no reason to lose an hour's run, and is told of in the report. Esker's failure is one.
fn measure_all(args: &Args, stores: &[StoreName]) -> Result<(Vec<Sample>, Vec<Failure>)> {
    let cases = plan::cases(args);
    let steps = u64::from(args.repeat()) * (cases.len() * stores.len()) as u64;
    let bar = progress_bar(steps);
    let (mut samples, mut failures) = (Vec::new(), Vec::new());
    // Stores innermost: whatever else the machine does in an hour meets all of them.
    for repetition in 0..args.repeat() {
        for (nth, &case) in cases.iter().enumerate() {
            for store in plan::turn(stores, repetition, nth) {
                bar.set_message(format!("{case} on {store}"));
                match in_child(args, case, store, repetition) {
                    Ok(sample) => {
                        show(&bar, &sample);
                        samples.push(sample);
                    }
                    Err(error) if args.compare && store != StoreName::Esker => {
                        let error = error.to_string();
                        failures.push(Failure { store, workload: case.workload, repetition, error });
                    }
                    Err(error) => return Err(error),
                }
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    Ok((samples, failures))
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
    if args.compare || args.out.is_some() {
        let dir = args.out.clone().unwrap_or_else(|| default_dir(report));
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
    if args.compare { print(&compare::markdown(report)) } else { print(&report.to_string()) }
}

/// Recorded runs lie side by side, each named by its day and commit.
fn default_dir(report: &Report) -> PathBuf {
    let commit = report.machine.commit.as_deref().unwrap_or("unknown");
    Path::new("docs/bench").join(format!("{}-{commit}", report.machine.date))
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

fn in_child(args: &Args, case: Case, store: StoreName, repetition: u32) -> Result<Sample> {
    let workload = case.workload;
    let dir = job::fresh_dir(args.dir.as_deref())?;
    let settings = case.settings(&args.settings());
    let job = Job { workload, store, repetition, settings, dir: dir.path().to_owned() };
    let output = Command::new(std::env::current_exe()?)
        .arg("--job")
        .arg(serde_json::to_string(&job)?)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("{workload} on {store}: the child ended with {}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
