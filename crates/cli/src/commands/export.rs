//! `export`: all records of a keyspace, in key order, in a form that `import` takes.

use crate::args::{self, Common, Format};
use crate::commands::stats;
use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::progress;
use crate::records::{Dialect, Fields, check_object, key_of};
use crate::store::{self, Access};
use crate::text;
use indicatif::ProgressBar;
use std::os::unix::ffi::OsStrExt;

/// Prints all records of a keyspace.
pub(crate) fn run(common: &Common, export: &args::Export) -> Result {
    let format = export.format.unwrap_or(if export.key.is_some() { Format::Jsonl } else { Format::Pairs });
    let mut form = Form::new(common, export, format)?;
    let engine = store::open(common, &export.db, Access::Read)?;
    let keyspace = store::keyspace(&engine, common, Access::Read)?;
    let mut out = Output::new();
    // On a terminal the records themselves are the progress.
    let total = stats::entries(&engine, keyspace.name());
    let bar = if out.is_terminal() { ProgressBar::hidden() } else { progress::records("exporting", Some(total)) };
    if let Some(header) = &export.header {
        out.line(header.as_bytes())?;
    }
    let mut cursor = keyspace.cursor();
    cursor.seek_to_first()?;
    let (mut key, mut line) = (Vec::new(), Vec::new());
    while cursor.valid() {
        key.clear();
        key.extend_from_slice(cursor.key());
        let value = cursor.value()?;
        if let Form::Pairs { hex } = form {
            line.clear();
            text::pair_into(&mut line, &key, value, hex);
            out.line(&line)?;
        } else {
            form.check(&key, value).map_err(|reason| {
                let key = text::preview(&key, 80);
                Failure::error(format!("the value of key '{key}' {reason}; use --format pairs, which takes any value"))
            })?;
            out.line(value)?;
        }
        bar.inc(1);
        cursor.next()?;
    }
    bar.finish_and_clear();
    out.finish()
}

/// What is printed, and what must hold for it to be taken by `import` again.
enum Form {
    Pairs { hex: bool },
    Json { key: Option<String>, text: Vec<u8> },
    Delimited { dialect: Dialect, fields: Option<Fields>, keyed: bool },
}

impl Form {
    fn new(common: &Common, export: &args::Export, format: Format) -> Result<Self> {
        let delimited = matches!(format, Format::Csv | Format::Tsv);
        match () {
            () if export.header.is_some() && !delimited => {
                return Err(Failure::error("--header is for --format csv and tsv; leave it out"));
            }
            () if export.no_quotes && !delimited => {
                return Err(Failure::error("--no-quotes is for --format csv and tsv; leave it out"));
            }
            () if common.json && delimited => {
                return Err(Failure::error("csv and tsv are not JSON; leave out --json, or choose another --format"));
            }
            () if common.hex && format != Format::Pairs => {
                return Err(Failure::error("--hex is for --format pairs; leave it out"));
            }
            () => {}
        }
        match format {
            Format::Pairs if export.key.is_some() => {
                Err(Failure::error("pairs carry their own keys; leave out --key, or choose another --format"))
            }
            Format::Pairs => Ok(Self::Pairs { hex: common.hex }),
            Format::Jsonl => Ok(Self::Json { key: export.key.clone(), text: Vec::new() }),
            Format::Csv | Format::Tsv => {
                let dialect = super::import::dialect(format, export.no_quotes);
                if export.header.as_ref().is_some_and(|header| !dialect.is_one_record(header.as_bytes())) {
                    return Err(Failure::error("--header is blank or not one record; close its quotes"));
                }
                let fields = match (&export.header, &export.key) {
                    // Without the header nobody knows how many columns there are, and which one is the key.
                    (None, _) => None,
                    (Some(header), None) => Some(Fields::counted(dialect, header.as_bytes())),
                    (Some(header), Some(column)) => Some(Fields::new(dialect, header.as_bytes(), column)),
                };
                let fields = fields.transpose().map_err(Failure::error)?;
                Ok(Self::Delimited { dialect, fields, keyed: export.key.is_some() })
            }
        }
    }

    /// Whether the record would be read back as it is.
    fn check(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let found = match self {
            Self::Pairs { .. } => return Ok(()),
            Self::Json { key: field, text } => {
                if value.contains(&b'\n') || value.trim_ascii().is_empty() {
                    return Err("is not one line, or a blank one".into());
                }
                let not_such = |reason| format!("is not such a record: {reason}");
                let Some(field) = field else { return check_object(value).map_err(not_such) };
                key_of(value, field, text).map_err(not_such)?;
                &text[..]
            }
            Self::Delimited { dialect, fields, keyed } => {
                if !dialect.is_one_record(value) {
                    return Err("is not one record".into());
                }
                let Some(fields) = fields else { return Ok(()) };
                let found = fields.key_of(value).map_err(|reason| format!("is not such a record: {reason}"))?;
                if !*keyed {
                    return Ok(());
                }
                found
            }
        };
        if found == key { Ok(()) } else { Err(format!("names another key, '{}'", text::preview(found, 80))) }
    }
}
