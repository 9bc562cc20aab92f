//! Logs: of writes, and of version edits.

use super::{Dump, Entry, Opened, name};
use crate::failure::Result;
use esker_format::{SeqNo, batch};
use esker_manifest::{EditReader, ManifestError};
use esker_wal::{EndCause, LogEnd, LogHeader, Reader, RecordKind};
use serde_json::json;
use std::path::Path;

/// Prints a write-ahead log: `POSITION KEYSPACE SEQ KIND KEY TAB VALUE`.
pub(super) fn wal(dump: &mut Dump, file: Opened, path: &Path) -> Result {
    let mut reader = Reader::open(file, &name(path))?;
    header(dump, reader.header())?;
    while let Some(record) = reader.next()? {
        if record.kind != RecordKind::Data {
            continue;
        }
        let position = record.position.0;
        let wrong = |error| format!("log {}: the batch at position {position}: {error}", name(path));
        let (first, ops) = match batch::decode(record.payload) {
            Ok(decoded) => decoded,
            Err(error) => {
                dump.wrong.push(wrong(error));
                continue;
            }
        };
        for (op, seq) in ops.zip(first.0..) {
            match op {
                Ok(op) => dump.entry(&Entry {
                    place: &[("position", position), ("keyspace", op.keyspace.0.into())],
                    seq: SeqNo(seq).0,
                    kind: op.kind,
                    key: op.key,
                    value: op.value,
                })?,
                Err(error) => dump.wrong.push(wrong(error)),
            }
        }
    }
    end(dump, reader.end(), path)
}

/// Prints a manifest: `POSITION: ITEM` for each item of each edit.
pub(super) fn manifest(dump: &mut Dump, file: Opened, path: &Path) -> Result {
    let mut reader = EditReader::open(file, &name(path))?;
    header(dump, reader.header())?;
    loop {
        match reader.next_edit() {
            Ok(Some((position, edit))) => {
                let text = edit.to_string();
                if dump.json {
                    dump.out.json(&json!({ "position": position.0, "edit": text.lines().collect::<Vec<_>>() }))?;
                } else {
                    for item in text.lines() {
                        dump.out.say(format!("{position}: {item}"))?;
                    }
                }
            }
            Ok(None) => return end(dump, reader.end(), path),
            // A whole record that is no edit; what follows can still be read.
            Err(error @ ManifestError::Record { .. }) => dump.wrong.push(error.to_string()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn header(dump: &mut Dump, header: &LogHeader) -> Result {
    let LogHeader { file_id, number, start, durable } = header;
    let words = format!("log {number}, id {file_id}, starts at position {start}, made when {durable} was durable");
    let json = json!({ "log": number.0, "id": file_id.to_string(), "start": start.0, "durable": durable.0 });
    dump.about(&words, &json)
}

fn end(dump: &mut Dump, end: Option<&LogEnd>, path: &Path) -> Result {
    let Some(end @ LogEnd { position, cause, vouched, leftover, behind }) = end else { return Ok(()) };
    let cause_in_json = cause.to_string();
    dump.about(
        &format!("ends at position {position}: {end}"),
        &json!({ "end": position.0, "cause": cause_in_json, "vouched": vouched.0, "leftover": leftover, "behind": behind }),
    )?;
    let name = name(path);
    if vouched > position {
        dump.wrong.push(format!(
            "log {name}: damaged: it can be read up to position {position} ({cause}), and up to {vouched} it was on stable storage"
        ));
    } else if *leftover || !matches!(cause, EndCause::EndOfFile | EndCause::Zeros) {
        dump.wrong.push(format!(
            "log {name}: what follows position {position} is not whole ({end}); if a crash cut it off, nothing promised is lost"
        ));
    }
    Ok(())
}
