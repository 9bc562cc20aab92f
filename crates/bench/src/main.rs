//! `esker-bench`: see the crate's README.

use clap::Parser;
use esker_bench::{args::Args, driver, job};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match (&args.job, &args.fill) {
        (Some(job), _) => job::run_child(job),
        (None, Some(job)) => job::fill(job),
        (None, None) => driver::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("esker-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
