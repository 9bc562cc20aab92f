//! `esker`, the command-line tool: puts, gets, scans, imports, exports, checks and looks into a store.
//!
//! `docs/cli.md` is its reference. Each command is a function that returns a [`failure::Failure`] or nothing; the line on standard error and the
//! exit code are made here.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod failure;
mod output;
mod progress;
mod records;
mod shell;
mod store;
mod text;

use clap::Parser;
use failure::Failure;
use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = match args::Cli::try_parse() {
        Ok(cli) => commands::run(cli),
        Err(error) if error.use_stderr() => Err(Failure::usage(&error)),
        Err(help) => {
            let _ = help.print(); // help and version; nobody is left to tell if nobody reads it
            Ok(())
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = failure.message() {
                failure::say(message);
            }
            ExitCode::from(failure.code())
        }
    }
}
