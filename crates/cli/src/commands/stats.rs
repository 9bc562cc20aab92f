//! `stats`: levels, sizes and counts. Also the tables of levels that other commands print.

use crate::args::Common;
use crate::failure::Result;
use crate::output::Output;
use crate::store::{self, Access};
use crate::text;
use comfy_table::{CellAlignment, Table, presets};
use esker::{Engine, KeyspaceMetrics};
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;
use std::path::Path;

/// What `stats` prints.
#[derive(Debug, Serialize)]
struct Stats {
    keyspaces: Vec<Keyspace>,
    /// The newest sequence number; each put and delete has its own.
    last_seq: u64,
    logs: usize,
    log_bytes: u64,
    /// Logs that only the feed of changes needs.
    retained_logs: usize,
    retained_log_bytes: u64,
    /// Bytes written to logs and tables since the store was made.
    written_bytes: u64,
    quarantined_tables: Vec<u64>,
    /// Logs of which opening left a part out, and why.
    left_out_of_recovery: Vec<String>,
}

/// One keyspace.
#[derive(Debug, Serialize)]
struct Keyspace {
    name: String,
    id: u32,
    merge_operator: Option<String>,
    levels: Vec<Level>,
    /// Entries that are in the log and in no table yet.
    memtable_entries: usize,
    table_bytes: u64,
    /// Size of all tables over that of the lowest level.
    space_amplification: Option<f64>,
    compaction_debt_bytes: u64,
    blob_files: usize,
    blob_bytes: u64,
    /// What in them no table refers to any more.
    blob_garbage_bytes: u64,
    /// How long what is put lives where a write does not say.
    ttl_ms: Option<u64>,
    /// Which the tool doesn't know.
    compaction_filter: Option<String>,
}

/// One level that has tables.
#[derive(Debug, Serialize)]
pub(crate) struct Level {
    level: u8,
    tables: usize,
    bytes: u64,
    /// Keys and values before compression.
    raw_bytes: u64,
    /// Older versions and deletions included.
    entries: u64,
    deletions: u64,
    /// In the pieces into which they were cut.
    range_tombstones: u64,
    /// Entries with a time to live.
    expiring: u64,
}

/// Prints figures of the store.
pub(crate) fn run(common: &Common, db: &Path) -> Result {
    let engine = store::open(common, db, Access::Read)?;
    if common.keyspace.is_some() {
        store::keyspace(&engine, common, Access::Read)?; // says so if there is none
    }
    let stats = stats(&engine, common.keyspace.as_deref());
    let mut out = Output::new();
    if common.json {
        out.json(&stats)?;
    } else {
        print(&mut out, &stats)?;
    }
    out.finish()
}

fn stats(engine: &Engine, only: Option<&str>) -> Stats {
    let metrics = engine.metrics();
    let chosen = metrics.keyspaces.iter().filter(|keyspace| only.is_none_or(|only| keyspace.name == only));
    Stats {
        keyspaces: chosen.map(keyspace).collect(),
        last_seq: metrics.last_seq,
        logs: metrics.logs,
        log_bytes: metrics.log_bytes,
        retained_logs: metrics.retained_logs,
        retained_log_bytes: metrics.retained_log_bytes,
        written_bytes: metrics.written_bytes,
        quarantined_tables: metrics.quarantined_tables,
        left_out_of_recovery: metrics.left_out_of_recovery,
    }
}

fn keyspace(metrics: &KeyspaceMetrics) -> Keyspace {
    Keyspace {
        name: metrics.name.clone(),
        id: metrics.id,
        merge_operator: metrics.merge_operator.clone(),
        levels: levels_of(metrics),
        memtable_entries: metrics.active_entries,
        table_bytes: metrics.table_bytes(),
        space_amplification: metrics.space_amplification(),
        compaction_debt_bytes: metrics.compaction_debt_bytes,
        blob_files: metrics.blob_files,
        blob_bytes: metrics.blob_bytes,
        blob_garbage_bytes: metrics.blob_garbage_bytes,
        ttl_ms: metrics.ttl.map(|ttl| ttl.as_millis() as u64),
        compaction_filter: metrics.compaction_filter.clone(),
    }
}

fn levels_of(metrics: &KeyspaceMetrics) -> Vec<Level> {
    let filled = metrics.levels.iter().filter(|level| level.tables > 0);
    filled
        .map(|level| Level {
            level: level.level,
            tables: level.tables,
            bytes: level.bytes,
            raw_bytes: level.raw_bytes,
            entries: level.entries,
            deletions: level.deletions,
            range_tombstones: level.range_tombstones,
            expiring: level.expiring,
        })
        .collect()
}

/// The levels of the keyspace `default`.
pub(crate) fn levels(engine: &Engine) -> Vec<Level> {
    let metrics = engine.metrics();
    metrics.keyspaces.iter().find(|keyspace| keyspace.name == "default").map(levels_of).unwrap_or_default()
}

/// How many entries a keyspace has: as many as keys, or more by older versions and deletions.
pub(crate) fn entries(engine: &Engine, name: &str) -> u64 {
    let metrics = engine.metrics();
    let keyspace = metrics.keyspaces.iter().find(|keyspace| keyspace.name == name);
    keyspace
        .map_or(0, |found| found.levels.iter().map(|level| level.entries).sum::<u64>() + found.active_entries as u64)
}

/// The levels as a table for people.
pub(crate) fn level_table(levels: &[Level]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    let any_expires = levels.iter().any(|level| level.expiring > 0);
    let mut header = vec!["level", "tables", "size", "before compression", "entries", "deletions", "ranges"];
    header.extend(any_expires.then_some("expiring"));
    table.set_header(header);
    for level in levels {
        let mut row = vec![
            format!("L{}", level.level),
            HumanCount(level.tables as u64).to_string(),
            HumanBytes(level.bytes).to_string(),
            HumanBytes(level.raw_bytes).to_string(),
            HumanCount(level.entries).to_string(),
            HumanCount(level.deletions).to_string(),
            HumanCount(level.range_tombstones).to_string(),
        ];
        row.extend(any_expires.then(|| HumanCount(level.expiring).to_string()));
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// A line about a log of which opening left a part out.
pub(crate) fn note(left_out: &str) -> String {
    format!("note: not all of a log was read: {left_out}")
}

fn print(out: &mut Output, stats: &Stats) -> Result {
    for keyspace in &stats.keyspaces {
        let name = text::name(&keyspace.name);
        let waste =
            keyspace.space_amplification.map_or(String::new(), |ratio| format!(", space amplification {ratio:.2}"));
        out.say(format!("keyspace {name}: {}{waste}", HumanBytes(keyspace.table_bytes)))?;
        if let Some(operator) = &keyspace.merge_operator {
            out.say(format!("merge operator: {}", text::name(operator)))?;
        }
        if !keyspace.levels.is_empty() {
            out.line(level_table(&keyspace.levels))?;
        }
        if let Some(ttl_ms) = keyspace.ttl_ms {
            out.say(format!("time to live: {} ms", HumanCount(ttl_ms)))?;
        }
        if let Some(filter) = &keyspace.compaction_filter {
            out.say(format!("compaction filter: {}", text::name(filter)))?;
        }
        if keyspace.blob_files > 0 {
            out.say(format!(
                "in {}: {}, of which garbage: {}",
                text::counted(keyspace.blob_files as u64, "blob file"),
                HumanBytes(keyspace.blob_bytes),
                HumanBytes(keyspace.blob_garbage_bytes)
            ))?;
        }
        if keyspace.memtable_entries > 0 {
            out.say(format!(
                "not in tables yet: {}",
                text::counted_in(keyspace.memtable_entries as u64, "entry", "entries")
            ))?;
        }
        if keyspace.compaction_debt_bytes > 0 {
            out.say(format!("compaction owes: {}", HumanBytes(keyspace.compaction_debt_bytes)))?;
        }
        out.say("")?;
    }
    out.say(format!("newest sequence number:              {}", HumanCount(stats.last_seq)))?;
    out.say(format!("bytes written since it was made:     {}", HumanBytes(stats.written_bytes)))?;
    out.say(format!("logs:                                {} in {}", HumanBytes(stats.log_bytes), stats.logs))?;
    if stats.retained_logs > 0 {
        let (bytes, logs) = (HumanBytes(stats.retained_log_bytes), stats.retained_logs);
        out.say(format!("logs kept for the feed of changes:   {bytes} in {logs}"))?;
    }
    if !stats.quarantined_tables.is_empty() {
        out.say(format!(
            "tables and blob files in quarantine: {:?}; 'esker verify' says why",
            stats.quarantined_tables
        ))?;
    }
    for left_out in &stats.left_out_of_recovery {
        out.say(note(left_out))?;
    }
    Ok(())
}
