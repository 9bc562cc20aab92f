//! `changes`: what was committed, in order.

use crate::args::Common;
use crate::commands::basic::unix_ms;
use crate::failure::Result;
use crate::output::Output;
use crate::store::{self, Access};
use crate::text;
use esker::{Change, ChangedKeyspace, Engine, ErrorKind, Operation};
use std::path::Path;

/// Prints the changes with sequence numbers above `since`; without one, from where they can be told on.
pub(crate) fn run(common: &Common, db: &Path, since: Option<u64>) -> Result {
    let engine = store::open(common, db, Access::Read)?;
    // Asked for by name, so that a wrong one is told.
    if common.keyspace.is_some() {
        store::keyspace(&engine, common, Access::Read)?;
    }
    let changes = match since {
        Some(since) => engine.changes_since(since)?,
        None => all_there_are(&engine)?,
    };
    let mut out = Output::new();
    for change in changes {
        let mut line = Vec::new();
        match change? {
            Change::Batch(batch) => {
                for (i, operation) in batch.operations().enumerate() {
                    line.clear();
                    if operation_into(&mut line, common, batch.first_seq() + i as u64, operation) {
                        out.line(&line)?;
                    }
                }
            }
            Change::Ingest(ingest) => {
                let name = ingest.keyspace_name.as_deref();
                let keyspace = ChangedKeyspace { id: ingest.keyspace, name };
                if !is_wanted(common, keyspace) {
                    continue;
                }
                let (tables, entries) = (ingest.tables, ingest.entries);
                if common.json {
                    begin_json(&mut line, ingest.seq, keyspace, "ingest");
                    line.extend_from_slice(format!(",\"tables\":{tables},\"entries\":{entries},").as_bytes());
                    text::json_member_into(&mut line, "smallest", &ingest.smallest, common.hex);
                    line.push(b',');
                    text::json_member_into(&mut line, "largest", &ingest.largest, common.hex);
                    line.push(b'}');
                } else {
                    begin(&mut line, ingest.seq, keyspace, "ingest");
                    bytes_into(&mut line, common, &ingest.smallest);
                    bytes_into(&mut line, common, &ingest.largest);
                }
                out.line(&line)?;
            }
            // One that this tool does not know is better told than left out.
            other => out.line(format!("{}\t{other:?}", other.seq()))?,
        }
    }
    out.finish()
}

/// From where the logs tell everything.
fn all_there_are(engine: &Engine) -> Result<esker::Changes> {
    match engine.changes_since(0) {
        Err(error) if error.kind() == ErrorKind::Gap => {
            Ok(engine.changes_since(error.changes_from().unwrap_or_default())?)
        }
        changes => Ok(changes?),
    }
}

fn is_wanted(common: &Common, keyspace: ChangedKeyspace<'_>) -> bool {
    common.keyspace.as_deref().is_none_or(|wanted| keyspace.name == Some(wanted))
}

/// Whether there is a line to print.
fn operation_into(line: &mut Vec<u8>, common: &Common, seq: u64, operation: Operation<'_>) -> bool {
    let mut expires_unix_ms = None;
    let (keyspace, kind, parts): (_, _, Vec<(&str, &[u8])>) = match operation {
        Operation::Put { keyspace, key, value } => (keyspace, "put", vec![("key", key), ("value", value)]),
        Operation::PutForever { keyspace, key, value } => {
            (keyspace, "put-forever", vec![("key", key), ("value", value)])
        }
        Operation::PutExpiring { keyspace, key, value, expires } => {
            expires_unix_ms = Some(unix_ms(expires));
            (keyspace, "put-expiring", vec![("key", key), ("value", value)])
        }
        Operation::Merge { keyspace, key, operand } => (keyspace, "merge", vec![("key", key), ("operand", operand)]),
        Operation::Delete { keyspace, key } => (keyspace, "delete", vec![("key", key)]),
        Operation::DeleteRange { keyspace, begin, end } => {
            let end = end.map(|end| ("end", end));
            (keyspace, "delete-range", [("begin", begin)].into_iter().chain(end).collect())
        }
        other => {
            line.extend_from_slice(format!("{seq}\t{other:?}").as_bytes());
            return true;
        }
    };
    if !is_wanted(common, keyspace) {
        return false;
    }
    if common.json {
        begin_json(line, seq, keyspace, kind);
        if let Some(unix_ms) = expires_unix_ms {
            line.extend_from_slice(format!(",\"expires_unix_ms\":{unix_ms}").as_bytes());
        }
        for (name, bytes) in parts {
            line.push(b',');
            text::json_member_into(line, name, bytes, common.hex);
        }
        line.push(b'}');
    } else {
        begin(line, seq, keyspace, kind);
        if let Some(unix_ms) = expires_unix_ms {
            line.extend_from_slice(format!("\t{unix_ms}").as_bytes());
        }
        parts.iter().for_each(|(_, bytes)| bytes_into(line, common, bytes));
    }
    true
}

fn begin(line: &mut Vec<u8>, seq: u64, keyspace: ChangedKeyspace<'_>, kind: &str) {
    line.extend_from_slice(format!("{seq}\t").as_bytes());
    match keyspace.name {
        Some(name) => line.extend_from_slice(text::name(name).as_bytes()),
        None => line.extend_from_slice(format!("{}", keyspace.id).as_bytes()),
    }
    line.extend_from_slice(format!("\t{kind}").as_bytes());
}

fn begin_json(line: &mut Vec<u8>, seq: u64, keyspace: ChangedKeyspace<'_>, kind: &str) {
    let id = keyspace.id.0;
    line.extend_from_slice(format!("{{\"seq\":{seq},\"keyspace_id\":{id},").as_bytes());
    if let Some(name) = keyspace.name {
        text::json_member_into(line, "keyspace", name.as_bytes(), false);
        line.push(b',');
    }
    line.extend_from_slice(format!("\"kind\":\"{kind}\"").as_bytes());
}

fn bytes_into(line: &mut Vec<u8>, common: &Common, bytes: &[u8]) {
    line.push(b'\t');
    if common.hex { text::hex_into(line, bytes) } else { text::escape_into(line, bytes) }
}
