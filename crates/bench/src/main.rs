//! `esker-bench`: see the crate's README.

use clap::Parser;
use esker_bench::{args::Args, driver, job};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match &args.job {
        Some(job) => job::run_child(job),
        None => driver::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("esker-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
