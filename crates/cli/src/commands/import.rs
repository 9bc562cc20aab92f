//! `import`: the records of a file into a keyspace.

use crate::args::{self, Common, Format};
use crate::failure::{self, Failure, Result, describe};
use crate::output::Output;
use crate::progress;
use crate::records::{Delimited, Dialect, JsonLines, Lines, Next, Pairs, Reader, Record};
use crate::store::{self, Access};
use crate::text;
use esker::{Engine, Keyspace, WriteBatch};
use esker_format::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use indicatif::{HumanBytes, HumanCount, ProgressBar};
use serde::Serialize;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::time::Instant;

/// A batch is written when it has so many records,
const BATCH_RECORDS_MAX: usize = 1000;
/// or so many bytes.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Of so many bad records each is told; of the others only how many there are.
const TOLD_MAX: u64 = 20;

/// What was done.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    /// Records stored.
    pub(super) records: u64,
    /// How many of them took the place of an earlier one, of the store or of this file.
    replaced: u64,
    /// Bad records left out.
    pub(super) skipped: u64,
    /// Bytes of keys and values stored.
    bytes: u64,
    seconds: f64,
}

/// Stores the records of a file.
pub(crate) fn run(common: &Common, import: &args::Import) -> Result {
    let input = &import.input;
    // The input first: no store is made for a file that is not there, or whose header does not do.
    let (mut reader, bar) = open(input, "importing")?;
    let engine = store::open(common, &import.db, Access::Create)?;
    let keyspace = store::keyspace(&engine, common, Access::Create)?;
    let begun = Instant::now();
    let mut report = Report::default();
    if import.sorted {
        let mut load = keyspace.bulk_writer()?;
        let mut sink = Sorted(|record: &Record| Ok(load.put(&record.key, &record.value)?));
        let outcome = copy(input, reader.as_mut(), &mut sink, &mut report, &bar);
        bar.finish_and_clear();
        let outcome = match outcome {
            Ok(()) => load.finish().map(drop).map_err(|error| {
                let stored = if error.outcome_unknown() { ALL_OR_NOTHING_STORED } else { NOTHING_STORED };
                Failure::from(error).within(stored)
            }),
            Err(failure) => Err(failure.within(NOTHING_STORED)),
        };
        outcome.map_err(|failure| failure.within(input.file.display()))?;
        store::close(&engine);
    } else {
        let mut writer = Writer {
            engine: &engine,
            keyspace: &keyspace,
            batch: WriteBatch::new(),
            keys: HashSet::new(),
            stored: 0,
            has_failed: false,
        };
        let mut outcome = copy(input, reader.as_mut(), &mut writer, &mut report, &bar);
        bar.finish_and_clear();
        // Also after a bad line: what came before it is stored.
        if !writer.has_failed {
            outcome = writer.write().and(outcome);
        }
        let synced = engine.sync();
        let stored = stored(writer.stored, synced.is_ok());
        let outcome = outcome.and(synced.map_err(Failure::from));
        outcome.map_err(|failure| failure.within(stored).within(input.file.display()))?;
        store::close(&engine);
    }

    report.seconds = begun.elapsed().as_secs_f64();
    let mut out = Output::report();
    if common.json {
        out.json(&report)?;
    } else {
        out.say(in_words(&report))?;
    }
    out.finish()
}

/// Opens a file of records for reading, and a bar that shows how far that is.
pub(super) fn open(input: &args::Input, doing: &'static str) -> Result<(Box<dyn Reader>, ProgressBar)> {
    let (file, bar) = open_input(&input.file, doing)?;
    let reader = reader(input, BufReader::with_capacity(256 << 10, bar.wrap_read(file)))?;
    Ok((reader, bar))
}

fn open_input(file: &Path, doing: &'static str) -> Result<(Box<dyn Read>, ProgressBar)> {
    if file == Path::new("-") {
        return Ok((Box::new(io::stdin().lock()), progress::bytes(doing, None)));
    }
    let failed = |error: io::Error| Failure::io("reading", file, &error);
    let input = File::open(file).map_err(failed)?;
    let metadata = input.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(Failure::error(format!("'{}' is a folder; give a file, or - for standard input", file.display())));
    }
    let total = metadata.is_file().then_some(metadata.len());
    Ok((Box::new(input), progress::bytes(doing, total)))
}

fn reader(import: &args::Input, input: impl BufRead + 'static) -> Result<Box<dyn Reader>> {
    let file = import.file.display();
    let lines = Lines::new(input, import.record_limit)
        .map_err(|error| Failure::error(format!("reading '{file}': {}", describe(&error))))?;
    let format = import.format.unwrap_or_else(|| guess(import));
    match (format, &import.key) {
        (Format::Pairs, None) => Ok(Box::new(Pairs::new(lines))),
        (Format::Pairs, Some(_)) => {
            Err(Failure::error("pairs carry their own keys; leave out --key, or choose another --format"))
        }
        (_, None) => Err(Failure::error("which field is the key? Add --key FIELD, or use --format pairs")),
        (Format::Jsonl, Some(field)) => Ok(Box::new(JsonLines::new(lines, field.clone()))),
        (Format::Csv | Format::Tsv, Some(column)) => {
            let dialect = dialect(format, import.no_quotes);
            let reader = Delimited::new(lines, dialect, column);
            Ok(Box::new(reader.map_err(|reason| Failure::error(format!("{file}: {reason}")))?))
        }
    }
}

/// How fields are told apart in `format`.
pub(super) fn dialect(format: Format, no_quotes: bool) -> Dialect {
    Dialect { delimiter: if format == Format::Tsv { b'\t' } else { b',' }, quotes: !no_quotes }
}

fn guess(import: &args::Input) -> Format {
    let extension = import.file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        _ if import.key.is_none() => Format::Pairs,
        "csv" => Format::Csv,
        "tsv" | "tab" => Format::Tsv,
        _ => Format::Jsonl,
    }
}

/// Copies all records. After an error `report` tells what was handed to `writer` before it.
pub(super) fn copy(
    import: &args::Input,
    reader: &mut dyn Reader,
    writer: &mut dyn Sink,
    report: &mut Report,
    bar: &ProgressBar,
) -> Result {
    let mut record = Record::default();
    loop {
        let bad = match reader.next(&mut record) {
            Next::End => return Ok(()),
            Next::Failed(error) => return Err(Failure::error(format!("reading: {}", describe(&error)))),
            Next::Bad { line, reason } => Some((line, reason)),
            Next::Record => too_large(&record).map(|reason| (record.line, reason)),
        };
        match bad {
            None => {
                report.replaced += u64::from(writer.put(&record)?);
                report.records += 1;
                report.bytes += (record.key.len() + record.value.len()) as u64;
            }
            Some((line, reason)) if import.skip_bad => {
                report.skipped += 1;
                match report.skipped {
                    ..=TOLD_MAX => {
                        let file = import.file.display();
                        bar.suspend(|| failure::tell(format!("{file}: line {line}: {reason}; skipped")));
                    }
                    skipped if skipped == TOLD_MAX + 1 => {
                        bar.suspend(|| failure::tell("further bad lines are only counted"));
                    }
                    _ => {}
                }
            }
            Some((line, reason)) => {
                // Without --key and --format it was taken for pairs, which is most likely not what was meant.
                let guessed = import.key.is_none() && import.format.is_none();
                let hint = if guessed { "; for records with a key of their own add --key FIELD" } else { "" };
                return Err(Failure::error(format!(
                    "line {line}: {reason}; mend it, or add --skip-bad to go on without it{hint}"
                )));
            }
        }
    }
}

fn too_large(record: &Record) -> Option<String> {
    let (key, value) = (record.key.len(), record.value.len());
    match () {
        () if key > KEY_BYTES_MAX => Some(format!("the key has {key} bytes, and at most {KEY_BYTES_MAX} are allowed")),
        () if value > VALUE_BYTES_MAX => Some(format!("{value} bytes, and at most {VALUE_BYTES_MAX} are allowed")),
        () => None,
    }
}

/// Writes records in batches, and knows which of them replace an earlier one.
struct Writer<'a> {
    engine: &'a Engine,
    keyspace: &'a Keyspace,
    batch: WriteBatch,
    /// The keys in `batch`.
    keys: HashSet<Box<[u8]>>,
    /// How many records have been written.
    stored: u64,
    /// Whether a batch could not be written.
    has_failed: bool,
}

/// Where records go.
pub(super) trait Sink {
    /// Takes a record; true if there was one of its key.
    fn put(&mut self, record: &Record) -> Result<bool>;
}

/// Records by ascending key, each of another: nobody looks whether the store has one.
pub(super) struct Sorted<F>(pub(super) F);

impl<F: FnMut(&Record) -> Result> Sink for Sorted<F> {
    fn put(&mut self, record: &Record) -> Result<bool> {
        let line = record.line;
        (self.0)(record).map(|()| false).map_err(|failure| failure.within(format!("line {line}")))
    }
}

impl Sink for Writer<'_> {
    fn put(&mut self, record: &Record) -> Result<bool> {
        let replaces = self.keys.contains(&record.key[..]) || self.keyspace.contains_key(&record.key)?;
        self.keys.insert(Box::from(&record.key[..]));
        self.batch.put_in(self.keyspace, &record.key, &record.value);
        if self.batch.len() >= BATCH_RECORDS_MAX || self.batch.size_bytes() >= BATCH_BYTES_MAX {
            self.write()?;
        }
        Ok(replaces)
    }
}

impl Writer<'_> {
    fn write(&mut self) -> Result {
        let written = self.engine.write(&self.batch);
        self.has_failed = written.is_err();
        written?;
        self.stored += self.batch.len() as u64;
        self.batch.clear();
        self.keys.clear();
        Ok(())
    }
}

const NOTHING_STORED: &str = "nothing was imported";
const ALL_OR_NOTHING_STORED: &str = "either all or nothing was imported, and it is not known which";

/// What came of an import that failed: so many records were written, and pushed to stable storage or not.
fn stored(records: u64, is_synced: bool) -> String {
    match (records, is_synced) {
        (0, _) => NOTHING_STORED.to_owned(),
        (1, true) => "the first record was imported, then it stopped".to_owned(),
        (records, true) => format!("the first {} records were imported, then it stopped", HumanCount(records)),
        (records, false) => {
            format!("of {} it is not known whether they last", text::counted(records, "imported record"))
        }
    }
}

fn in_words(report: &Report) -> String {
    let skipped = match report.skipped {
        0 => String::new(),
        skipped => format!(", {} bad skipped", HumanCount(skipped)),
    };
    let per_second = |count: u64| (count as f64 / report.seconds.max(1e-3)) as u64;
    format!(
        "imported {}, {} replaced an earlier one{skipped}; {} in {:.1} s, {} records/s",
        text::counted(report.records, "record"),
        HumanCount(report.replaced),
        HumanBytes(report.bytes),
        report.seconds,
        HumanCount(per_second(report.records)),
    )
}
