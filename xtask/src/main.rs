//! The project's own tasks: `cargo xtask ci`, `tidy`, `fuzz`, `miri`, `tsan`, `asan`, `mutants`, `bench`, `stress`.
//!
//! Everything but `bench` and `stress` runs in the development profile. All but `fuzz`, `mutants` and the tools that watch memory share one target directory, so that a
//! task costs what has changed.

mod bench;
mod ci;
mod fuzz;
mod lines;
mod mutants;
mod record;
mod sanitize;
mod stress;
mod tidy;
mod toolchain;

use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Tasks of the Esker workspace.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Everything that must hold before a change is taken.
    Ci {
        /// Leave `cargo test --workspace` out, for a caller that has just run it.
        #[arg(long)]
        skip_tests: bool,
        /// Leave `bench gate` out, where there is no valgrind.
        #[arg(long)]
        skip_gate: bool,
    },
    /// The rules that neither compiler nor clippy know: edges between crates, unsafe code, links, loose ends.
    Tidy,
    /// Fuzzes targets, all if none is named, one after the other, led by coverage: needs a nightly compiler and cargo-fuzz.
    Fuzz(fuzz::Args),
    /// Tests under Miri, which sees undefined behaviour; needs a nightly compiler. Some minutes.
    Miri(sanitize::Args),
    /// Tests under ThreadSanitizer, which sees data races; needs a nightly compiler. Some minutes.
    Tsan(sanitize::Args),
    /// Tests under AddressSanitizer, which sees memory used wrongly or lost; needs a nightly compiler. Some minutes.
    Asan(sanitize::Args),
    /// Runs the workloads of `esker-bench`; as `bench micro` the criterion benches of all crates; as `bench gate` counts the instructions of the hot parts.
    Bench {
        /// Handed on as they are; `bench --help` after `--` shows what the workloads take.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Breaks wal, sstable, manifest and compaction in one place after the other, and sees whether their tests fail; needs cargo-mutants. Hours.
    Mutants(mutants::Args),
    /// Runs the long forms of the suites that attack the promises, keeps what fails under `testdata/failures`, and prints what was tried.
    Stress(stress::Args),
}

fn main() -> ExitCode {
    let root = workspace_root();
    let result = match Args::parse().task {
        Task::Ci { skip_tests, skip_gate } => ci::run(&root, skip_tests, skip_gate),
        Task::Tidy => tidy::run(&root),
        Task::Fuzz(args) => fuzz::run(&root, &args),
        Task::Miri(args) => sanitize::run_tool(&root, &sanitize::MIRI, &args),
        Task::Tsan(args) => sanitize::run_tool(&root, &sanitize::TSAN, &args),
        Task::Asan(args) => sanitize::run_tool(&root, &sanitize::ASAN, &args),
        Task::Bench { args } => bench::run(&root, &args),
        Task::Mutants(args) => mutants::attack(&root, &args),
        Task::Stress(args) => stress::run(&root, &args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The directory of the workspace's `Cargo.toml`.
fn workspace_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("xtask lies in the workspace").to_path_buf()
}

/// A cargo command in the workspace, by the cargo that runs this program.
fn cargo(root: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command.current_dir(root).args(args);
    command
}

/// Runs `command` to its end, with its output passed through.
fn run(command: &mut Command) -> Result<(), String> {
    let line = command_line(command);
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{line}` failed: {status}")),
        Err(error) => Err(format!("`{line}` did not start: {error}")),
    }
}

/// What `program` prints in `root`, without the end of its last line.
fn output(root: &Path, program: &str, args: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program);
    command.current_dir(root).args(args);
    match command.output() {
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned()),
        Ok(output) => Err(format!("`{}` failed: {}", command_line(&command), output.status)),
        Err(error) => Err(format!("`{}` did not start: {error}", command_line(&command))),
    }
}

/// The command as one would type it.
fn command_line(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
