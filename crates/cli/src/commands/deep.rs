//! `verify --deep`: every file of a store, also of one that does not open.

use super::findings;
use crate::args::Common;
use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::progress;
use crate::shell;
use crate::text::{counted, counted_in};
use esker::vfs::{OsVfs, Vfs};
use esker::{DeepReport, ErrorKind, Gravity, Progress, verify_deep};
use indicatif::HumanBytes;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;

/// Reads everything and says all that is wrong.
pub(crate) fn verify(common: &Common, db: &Path) -> Result {
    let vfs: Arc<dyn Vfs> = Arc::new(OsVfs);
    let bar = progress::bytes("checked", Some(0));
    let report = verify_deep(&vfs, db, &mut |Progress { done_bytes, total_bytes, .. }| {
        bar.set_length(total_bytes);
        bar.set_position(done_bytes);
    });
    bar.finish_and_clear();
    let report = report.map_err(|error| match error.kind() {
        ErrorKind::NotFound => Failure::error(format!("there is no folder '{}'; check the path", db.display())),
        _ => Failure::from(error),
    })?;
    let mut out = Output::new();
    if common.json {
        out.json(&json!({
            "ok": report.is_ok(),
            "tables": report.tables,
            "blocks": report.blocks,
            "entries": report.entries,
            "blob_files": report.blob_files,
            "blob_records": report.blob_records,
            "logs": report.logs,
            "log_records": report.log_records,
            "bytes": report.bytes,
            "findings": findings::to_json(&report.findings),
        }))?;
    } else {
        out.say(format!("{}: {}", if report.is_ok() { "sound" } else { "read" }, looked_at(&report)))?;
        findings::show(&mut out, &report.findings)?;
    }
    out.finish()?;
    let of = |gravity| report.findings.iter().filter(move |finding| finding.gravity == gravity);
    if let Some(first) = of(Gravity::Damage).next() {
        return Err(Failure::damage(format!(
            "{} found, the first: {first}; to do: {}{}",
            counted_in(of(Gravity::Damage).count() as u64, "damage", "damages"),
            findings::advice(first),
            // Neither files of a newer version nor what the system refuses is a case for it.
            if first.advice.contains("have repair make") {
                format!(" (esker repair {} NEW)", shell::path(db))
            } else {
                String::new()
            }
        )));
    }
    match of(Gravity::Unread).next() {
        None => Ok(()),
        Some(first) => Err(Failure::error(format!(
            "whether it is sound is not known: {} could not be read, the first: {first}; to do: {}",
            counted_in(of(Gravity::Unread).count() as u64, "thing", "things"),
            findings::advice(first),
        ))),
    }
}

fn looked_at(report: &DeepReport) -> String {
    format!(
        "{} of {} and {}, {} of {}, {} of {}, {}",
        counted(report.tables, "table"),
        counted(report.blocks, "block"),
        counted_in(report.entries, "entry", "entries"),
        counted(report.blob_files, "blob file"),
        counted(report.blob_records, "value"),
        counted(report.logs, "log"),
        counted(report.log_records, "record"),
        HumanBytes(report.bytes)
    )
}
