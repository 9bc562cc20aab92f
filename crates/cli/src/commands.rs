//! The commands, one module each.

mod basic;
mod changes;
mod deep;
mod demo;
mod doctor;
mod dump;
mod export;
mod findings;
mod import;
mod ingest;
mod repair;
mod scan;
mod stats;
mod upkeep;

use crate::args::{Cli, Command};
use crate::failure::Result;

/// Does what the command line says.
pub(crate) fn run(cli: Cli) -> Result {
    let common = cli.common;
    match cli.command {
        Command::Put { db, key, value, ttl } => basic::put(&common, &db, key, value, ttl),
        Command::Get { db, key, expires } => basic::get(&common, &db, key, expires),
        Command::Merge { db, key, operand, operator } => basic::merge(&common, &db, key, operand, operator),
        Command::Delete { db, key } => basic::delete(&common, &db, key),
        Command::DeleteRange { db, from, to } => basic::delete_range(&common, &db, from, to),
        Command::Scan(scan) => scan::run(&common, scan),
        Command::Import(import) => import::run(&common, &import),
        Command::BuildTable(build) => ingest::build(&common, &build),
        Command::Ingest(ingest) => ingest::run(&common, &ingest),
        Command::Export(export) => export::run(&common, &export),
        Command::Changes { db, since } => changes::run(&common, &db, since),
        Command::Stats { db } => stats::run(&common, &db),
        Command::Verify { db, deep: false } => upkeep::verify(&common, &db),
        Command::Verify { db, deep: true } => deep::verify(&common, &db),
        Command::Compact { db } => upkeep::compact(&common, &db),
        Command::Checkpoint { db, to } => upkeep::checkpoint(&common, &db, &to),
        Command::Repair { from, to } => repair::run(&common, &from, &to),
        Command::Doctor { db } => doctor::run(&common, &db),
        Command::Dump { kind, file } => dump::run(&common, kind, &file),
        Command::Demo(demo) => demo::run(&common, &demo),
        Command::DemoLoad { db, records } => demo::load(&common, &db, records),
    }
}
