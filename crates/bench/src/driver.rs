//! The parent: one child process after another, repetitions of all stores taking turns.

use crate::Result;
use crate::args::{Args, StoreName};
use crate::job::{self, Job, Sample};
use crate::report::{Machine, Report};
use crate::workload::Workload;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::{Command, Stdio};

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
    let machine = Machine::at_start();
    let mut samples = Vec::new();
    // Stores innermost: whatever else the machine does in an hour meets all of them.
    for repetition in 0..args.repeat {
        for workload in args.workloads() {
            for &store in &stores {
                samples.push(in_child(args, workload, store, repetition)?);
            }
        }
    }
    let report = Report::new(args.settings.clone(), machine.at_end(), samples);
    match args.json.as_deref() {
        Some(path) if path == Path::new("-") => println!("{}", serde_json::to_string_pretty(&report)?),
        Some(path) => {
            std::fs::write(path, serde_json::to_string_pretty(&report)? + "\n")
                .map_err(|error| format!("{}: {error}", path.display()))?;
            print(&report)?;
        }
        None => print(&report)?,
    }
    Ok(())
}

/// A reader that went away, as `head` does, is no failure.
fn print(report: &Report) -> Result<()> {
    match writeln!(std::io::stdout(), "{report}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

fn in_child(args: &Args, workload: Workload, store: StoreName, repetition: u32) -> Result<Sample> {
    let dir = job::fresh_dir(args.dir.as_deref())?;
    let job = Job { workload, store, repetition, settings: args.settings.clone(), dir: dir.path().to_owned() };
    let output = Command::new(std::env::current_exe()?)
        .arg("--job")
        .arg(serde_json::to_string(&job)?)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("{workload} on {store}: the child ended with {}", output.status).into());
    }
    let sample: Sample = serde_json::from_slice(&output.stdout)?;
    if std::io::stderr().is_terminal() {
        let of = if args.repeat > 1 { format!(" ({}/{})", repetition + 1, args.repeat) } else { String::new() };
        eprintln!("{workload} on {store}{of}: {:.0}/s", sample.ops_per_second);
    }
    Ok(sample)
}
