//! `build-table`, `ingest`: tables that are built outside a store, and taken into one.

use super::import::{self, Report, Sorted};
use crate::args::{self, Common};
use crate::failure::Result;
use crate::output::Output;
use crate::records::Record;
use crate::store::{self, Access};
use crate::text::{self, counted, counted_in};
use esker::{IngestOptions, SstOptions, SstWriter};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget};
use serde_json::json;
use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

/// Writes the records of a file as a table.
pub(crate) fn build(common: &Common, build: &args::BuildTable) -> Result {
    let input = &build.input;
    let (mut reader, bar) = import::open(input, "building")?;
    let begun = Instant::now();
    let mut table = SstWriter::create(&build.table, &SstOptions::default())?;
    let mut report = Report::default();
    let mut sink = Sorted(|record: &Record| Ok(table.put(&record.key, &record.value)?));
    let outcome = import::copy(input, reader.as_mut(), &mut sink, &mut report, &bar);
    bar.finish_and_clear();
    outcome.map_err(|failure| failure.within("no table was written").within(input.file.display()))?;
    let facts = table.finish()?;
    let seconds = begun.elapsed().as_secs_f64();
    let mut out = Output::report();
    if common.json {
        let mut line = Vec::new();
        line.extend_from_slice(b"{");
        text::json_member_into(&mut line, "smallest", &facts.smallest, common.hex);
        line.extend_from_slice(b",");
        text::json_member_into(&mut line, "largest", &facts.largest, common.hex);
        let (records, skipped, bytes) = (facts.entries, report.skipped, facts.file_bytes);
        line.extend_from_slice(
            format!(",\"records\":{records},\"skipped\":{skipped},\"file_bytes\":{bytes},\"seconds\":{seconds}}}")
                .as_bytes(),
        );
        out.line(line)?;
    } else {
        let skipped = match report.skipped {
            0 => String::new(),
            skipped => format!(", {} bad skipped", HumanCount(skipped)),
        };
        let path = build.table.display();
        let records = counted(facts.entries, "record");
        out.say(format!("{path}: {records}{skipped}; {} in {seconds:.1} s", HumanBytes(facts.file_bytes)))?;
    }
    out.finish()
}

/// Takes tables into a keyspace.
pub(crate) fn run(common: &Common, ingest: &args::Ingest) -> Result {
    let engine = store::open(common, &ingest.db, Access::Create)?;
    let keyspace = store::keyspace(&engine, common, Access::Create)?;
    let begun = Instant::now();
    let bar = waiting();
    let ingested = keyspace.ingest(&ingest.tables, &IngestOptions { move_files: ingest.moves });
    bar.finish_and_clear();
    let ingested = ingested?;
    store::close(&engine);
    let seconds = begun.elapsed().as_secs_f64();
    let mut out = Output::report();
    if common.json {
        let tables: Vec<_> = ingested
            .tables
            .iter()
            .map(|table| {
                json!({
                    "table": format!("{:06}.sst", table.number),
                    "level": table.level,
                    "entries": table.entries,
                    "deletions": table.deletions,
                    "file_bytes": table.file_bytes,
                })
            })
            .collect();
        out.json(&json!({ "seq": ingested.seq, "tables": tables, "seconds": seconds }))?;
    } else {
        for table in &ingested.tables {
            out.say(format!(
                "{:06}.sst in level {}: {}, {}, {} .. {}",
                table.number,
                table.level,
                counted_in(table.entries, "entry", "entries"),
                HumanBytes(table.file_bytes),
                shown(common, &table.smallest),
                shown(common, &table.largest),
            ))?;
        }
        out.say(format!(
            "ingested {} of {} as number {} in {seconds:.1} s",
            counted(ingested.tables.len() as u64, "table"),
            counted_in(ingested.entries(), "entry", "entries"),
            ingested.seq
        ))?;
    }
    out.finish()
}

fn shown(common: &Common, key: &[u8]) -> String {
    if common.hex { text::hex(key) } else { text::preview(key, 60) }
}

/// Something that moves, on a terminal: how far it is nobody tells.
fn waiting() -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar.with_message("reading and checking the tables")
}
