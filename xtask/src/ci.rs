//! `cargo xtask ci`: everything that must hold before a change is taken, step by step, each with its time.
//!
//! The steps share the development profile and the target directory with daily work; only the instructions that are counted are those of the release profile.
//! All of them run, also after one has failed, so that one run shows all there is to put right.

use crate::{bench, cargo, run as run_command, tidy};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// An example that runs longer is not one to learn from.
const EXAMPLE_TIME_MAX: Duration = Duration::from_secs(60);

/// Runs all steps; the tests too, unless the caller has just run them, and the instruction counts, unless there is nothing to count them with.
pub(crate) fn run(root: &Path, skip_tests: bool, skip_gate: bool) -> Result<(), String> {
    let start = Instant::now();
    let cargo_step = |args: &[&str]| run_command(&mut cargo(root, args));
    let mut failed = Vec::new();
    let mut step = |name, work: &dyn Fn() -> Result<(), String>| failed.extend(run_step(name, work).err());

    step("format", &|| cargo_step(&["fmt", "--all", "--", "--check"]));
    step("tidy", &|| tidy::run(root));
    step("clippy", &|| cargo_step(&["clippy", "--workspace", "--all-targets", "--keep-going", "--", "-D", "warnings"]));
    if !skip_tests {
        step("tests", &|| cargo_step(&["test", "--workspace"]));
    }
    step("features", &|| cargo_step(&["test", "-p", "esker", "--features", "serde", "--test", "options_serde"]));
    step("docs", &|| {
        run_command(
            cargo(root, &["doc", "--workspace", "--no-deps", "--keep-going"]).env("RUSTDOCFLAGS", "-D warnings"),
        )
    });
    step("examples", &|| examples(root));
    step("each crate alone", &|| each_alone(root));
    if skip_gate {
        println!("\n== instructions: NOT COUNTED, as asked; a regression in speed would not be seen");
    } else {
        step("instructions", &|| bench::run(root, &["gate".into()]));
    }

    println!("\n== ci: {} failed, {:.0} s", failed.len(), start.elapsed().as_secs_f64());
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\nxtask: ")) }
}

/// Runs one step between two headings; an error names the step.
fn run_step(name: &str, work: &dyn Fn() -> Result<(), String>) -> Result<(), String> {
    println!("\n== {name}");
    let start = Instant::now();
    let result = work();
    let verdict = if result.is_ok() { "ok" } else { "FAILED" };
    println!("== {name}: {verdict}, {:.1} s", start.elapsed().as_secs_f64());
    result.map_err(|message| format!("{name}: {message}"))
}

/// Builds all examples and runs each, without arguments, in an empty directory of its own.
fn examples(root: &Path) -> Result<(), String> {
    run_command(&mut cargo(root, &["build", "--workspace", "--examples"]))?;
    let tree = tidy::Tree::load(root)?;
    for manifest in tree.manifests() {
        for name in tree.targets(&manifest.directory, "examples") {
            println!("   {}: {name}", manifest.name);
            run_example(&name).map_err(|message| format!("example {name} of {}: {message}", manifest.name))?;
        }
    }
    Ok(())
}

fn run_example(name: &str) -> Result<(), String> {
    let directory = std::env::temp_dir().join(format!("esker-example-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let result = run_for(
        Command::new(example_path(name)?).current_dir(&directory).stdin(Stdio::null()).stdout(Stdio::null()),
        EXAMPLE_TIME_MAX,
    );
    let removed = std::fs::remove_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()));
    result.and(removed)
}

/// Where cargo put the example: this program lies in the same profile's directory.
fn example_path(name: &str) -> Result<PathBuf, String> {
    let here = std::env::current_exe().map_err(|error| error.to_string())?;
    let profile = here.parent().ok_or("xtask lies nowhere")?;
    Ok(profile.join("examples").join(name))
}

/// Runs `command`, and ends it when it takes longer than `time_max`.
fn run_for(command: &mut Command, time_max: Duration) -> Result<(), String> {
    let mut child = command.spawn().map_err(|error| format!("did not start: {error}"))?;
    let start = Instant::now();
    loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(status.to_string()),
            None if start.elapsed() > time_max => return Err(end(child, time_max)),
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn end(mut child: Child, time_max: Duration) -> String {
    // If it has just ended by itself there is nothing to kill, and it was too slow all the same.
    let _ = child.kill();
    let _ = child.wait();
    format!("still running after {} s", time_max.as_secs())
}

/// Checks each package with the features that it asks for itself, not those that the workspace as a whole turns on.
fn each_alone(root: &Path) -> Result<(), String> {
    for manifest in tidy::Tree::load(root)?.manifests() {
        run_command(&mut cargo(root, &["check", "--quiet", "-p", &manifest.name]))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_fails_or_hangs_is_an_error() {
        let limit = Duration::from_millis(100);
        assert_eq!(run_for(&mut Command::new("true"), limit), Ok(()));
        assert!(run_for(&mut Command::new("false"), limit).unwrap_err().contains("exit status"));
        assert_eq!(run_for(Command::new("sleep").arg("60"), limit).unwrap_err(), "still running after 0 s");
        assert!(run_for(&mut Command::new("no-such-program"), limit).unwrap_err().contains("did not start"));
    }
}
