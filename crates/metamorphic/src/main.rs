//! `esker-metamorphic`: scripts of operations, run under many option sets in processes of their own, whose histories must agree. The crate's README says how.
#![forbid(unsafe_code)]

mod compare;
mod explore;
mod feed;
mod generate;
mod op;
mod oracle;
mod reads;
mod recover;
mod run;
mod script;
mod sets;
mod shadow;
mod shrink;
mod subject;
mod world;

use clap::{Parser, Subcommand};
use compare::Failure;
use script::Script;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

#[derive(Parser)]
#[command(
    name = "esker-metamorphic",
    about = "Runs scripts of operations under many option sets and compares what comes of them",
    version
)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prints a script that follows from a seed.
    Generate {
        /// The same seed, the same script.
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// How many operations.
        #[arg(long, default_value_t = 200)]
        operations: usize,
    },
    /// Reads a script and prints it, or says what is wrong with it.
    Show { script: PathBuf },
    /// Lists the option sets.
    Options,
    /// Runs a script under one option set, beside the model.
    Run {
        script: PathBuf,
        /// The number of the option set.
        #[arg(long)]
        options: usize,
        /// Where the history goes, a line for each operation.
        #[arg(long)]
        history: Option<PathBuf>,
    },
    /// Runs a script under all option sets, each in a process of its own.
    Compare { script: PathBuf },
    /// Makes a script that fails as small as it gets, and prints it.
    Shrink {
        script: PathBuf,
        /// The option set under which it fails; the first that is found if not given.
        #[arg(long)]
        options: Option<usize>,
        /// For so long at most.
        #[arg(long, default_value_t = 120)]
        seconds: u64,
    },
    /// Generates and compares, script after script. One that fails is shrunk and kept.
    Explore {
        /// For so long.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// The seed of the first script; each has the next.
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// At most so many scripts.
        #[arg(long, default_value_t = u64::MAX)]
        scripts: u64,
        /// Operations in each.
        #[arg(long, default_value_t = 200)]
        operations: usize,
        /// Where scripts that fail are kept.
        #[arg(long, default_value = "testdata/metamorphic")]
        keep: PathBuf,
    },
    /// A part of `run`, which may be killed.
    #[command(hide = true)]
    Worker {
        script: PathBuf,
        #[arg(long)]
        options: usize,
        #[arg(long)]
        root: PathBuf,
    },
}

fn main() -> ExitCode {
    match command(Args::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}

fn command(command: Command) -> Result<(), String> {
    match command {
        Command::Generate { seed, operations } => {
            print!("# seed {seed}, {operations} operations\n{}", generate::generate(seed, operations));
            Ok(())
        }
        Command::Show { script } => {
            print!("{}", read(&script)?);
            Ok(())
        }
        Command::Options => {
            (0..sets::SETS).for_each(|number| println!("{number:2} {}", sets::set(number).describe()));
            Ok(())
        }
        Command::Run { script: path, options, history } => {
            let script = read(&path)?;
            let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
            let target = history.clone().unwrap_or_else(|| dir.path().join("history"));
            run::run(&script, &path, options, &target)?;
            if history.is_none() {
                let lines = fs::read_to_string(&target).map_err(|error| error.to_string())?;
                script.0.iter().zip(lines.lines()).for_each(|(op, line)| println!("{op} -> {line}"));
            }
            Ok(())
        }
        Command::Compare { script: path } => {
            let script = read(&path)?;
            let compared = compare::all(&script, &path, &compare::every()).map_err(|error| error.to_string())?;
            compared.map_err(|failure| told(&failure))?;
            println!("{} operations under {} option sets agree", script.0.len(), sets::SETS);
            Ok(())
        }
        Command::Shrink { script: path, options, seconds } => {
            let script = read(&path)?;
            let sets = options.map_or_else(compare::every, |options| vec![options]);
            let compared = compare::all(&script, &path, &sets).map_err(|error| error.to_string())?;
            let Err(failure) = compared else { return Err("it does not fail".into()) };
            let end = Instant::now() + Duration::from_secs(seconds);
            let (script, failure) = shrink::shrink(script, failure, end).map_err(|error| error.to_string())?;
            print!("{}", explore::noted(&script, &failure));
            Ok(())
        }
        Command::Explore { seconds, seed, scripts, operations, keep } => {
            let end = Instant::now() + Duration::from_secs(seconds);
            explore::explore(seed, scripts, operations, end, &keep)
        }
        Command::Worker { script: path, options, root } => run::work(&read(&path)?, options, &root),
    }
}

fn read(path: &Path) -> Result<Script, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    text.parse().map_err(|error| format!("{}: {error}", path.display()))
}

fn told(failure: &Failure) -> String {
    format!("option set {}: {}", failure.options, failure.what)
}
