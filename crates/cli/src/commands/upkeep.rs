//! `verify`, `compact`, `checkpoint`: of a whole store.

use super::stats;
use crate::args::Common;
use crate::failure::{self, Failure, Result};
use crate::output::Output;
use crate::store::{self, Access};
use crate::text::{self, counted, counted_in};
use esker::KeyspaceOptions;
use indicatif::HumanBytes;
use serde_json::json;
use std::path::Path;
use std::time::Instant;

/// Reads all tables and blob files and says what is damaged.
pub(crate) fn verify(common: &Common, db: &Path) -> Result {
    let engine = store::open(common, db, Access::Read)?;
    let report = engine.verify()?;
    let damaged: Vec<(String, String)> =
        report.damaged.iter().map(|(table, error)| (table.to_string(), error.to_string())).collect();
    let left_out = engine.metrics().left_out_of_recovery;
    let mut out = Output::new();
    if common.json {
        let damaged: Vec<_> = damaged.iter().map(|(table, error)| json!({ "table": table, "error": error })).collect();
        out.json(&json!({
            "tables": report.tables,
            "blocks": report.blocks,
            "entries": report.entries,
            "blob_files": report.blob_files,
            "blob_records": report.blob_records,
            "bytes": report.bytes,
            "damaged": damaged,
            "left_out_of_recovery": left_out,
        }))?;
    } else {
        if report.is_ok() {
            let (tables, blocks) = (counted(report.tables as u64, "table"), counted(report.blocks, "block"));
            let entries = counted_in(report.entries, "entry", "entries");
            let blobs = match report.blob_files {
                0 => String::new(),
                files => format!("{} of {}, ", counted(files, "blob file"), counted(report.blob_records, "value")),
            };
            out.say(format!("sound: {tables}, {blocks}, {entries}, {blobs}{}", HumanBytes(report.bytes)))?;
        }
        for (_, error) in &damaged {
            out.say(format!("damaged: {error}"))?;
        }
        for left_out in &left_out {
            out.say(stats::note(left_out))?;
        }
    }
    out.finish()?;
    match damaged.first() {
        None => Ok(()),
        Some((_, error)) => Err(Failure::damage(format!(
            "{} of {} damaged, the first: {error}; keys elsewhere can still be read: 'esker dump sst' shows what is left of a table",
            damaged.len(),
            counted(report.tables + report.blob_files, "file")
        ))),
    }
}

/// Merges all tables of all keyspaces, or of one.
pub(crate) fn compact(common: &Common, db: &Path) -> Result {
    let engine = store::open(common, db, Access::Write)?;
    let names = match &common.keyspace {
        Some(_) => vec![store::keyspace(&engine, common, Access::Write)?.name().to_owned()],
        None => engine.keyspaces(),
    };
    let metrics = engine.metrics();
    for keyspace in metrics.keyspaces.iter().filter(|keyspace| names.contains(&keyspace.name)) {
        if let Some(filter) = &keyspace.compaction_filter {
            let (name, filter) = (text::name(&keyspace.name), text::name(filter));
            failure::tell(format!(
                "keyspace {name} has the compaction filter {filter}, which the tool does not know: compacted without"
            ));
        }
    }
    let table_bytes = || engine.metrics().keyspaces.iter().map(esker::KeyspaceMetrics::table_bytes).sum::<u64>();
    engine.flush()?; // so that the figures before and after are of the same keys
    let (begun, before) = (Instant::now(), table_bytes());
    for name in &names {
        engine.keyspace(name, KeyspaceOptions::default())?.compact_range(..)?;
    }
    let (after, seconds) = (table_bytes(), begun.elapsed().as_secs_f64());
    let damaged = engine.metrics().quarantined_tables.len();
    store::close(&engine);
    let mut out = Output::report();
    if common.json {
        let keyspaces = names.len();
        out.json(&json!({ "keyspaces": keyspaces, "bytes_before": before, "bytes_after": after, "seconds": seconds }))?;
    } else {
        out.say(format!(
            "compacted {} in {seconds:.1} s: tables of {} before, {} after",
            counted(names.len() as u64, "keyspace"),
            HumanBytes(before),
            HumanBytes(after)
        ))?;
    }
    out.finish()?;
    match damaged {
        0 => Ok(()),
        1 => Err(Failure::damage("1 damaged table was left as it is; 'esker verify' says which")),
        _ => Err(Failure::damage(format!("{damaged} damaged tables were left as they are; 'esker verify' says which"))),
    }
}

/// Makes a copy of the store in the folder `to`.
pub(crate) fn checkpoint(common: &Common, db: &Path, to: &Path) -> Result {
    let engine = store::open(common, db, Access::Write)?;
    engine.checkpoint(to)?;
    store::close(&engine);
    let mut out = Output::report();
    if common.json {
        out.json(&json!({ "to": to.to_string_lossy() }))?;
    } else {
        out.say(format!("the copy is in '{}'", to.display()))?;
    }
    out.finish()
}
