//! `repair`: a new store out of what is left of a damaged one.

use crate::args::Common;
use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::progress;
use crate::text::{self, counted, counted_in};
use esker::vfs::{OsVfs, Vfs};
use esker::{ErrorKind, Loss, Progress, RepairReport};
use indicatif::HumanBytes;
use serde_json::{Map, Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Makes the store `to` of what can be read in `from`, and says what is lost.
pub(crate) fn run(common: &Common, from: &Path, to: &Path) -> Result {
    // The engine compares the paths as they are written; links are seen here.
    let to_is = canonical(to).ok_or_else(|| {
        let why = "goes back ('..') from a folder that does not exist; name the place itself";
        Failure::error(format!("'{}' {why}", to.display()))
    })?;
    if lies_in(&to_is, from) {
        let (to, from) = (to.display(), from.display());
        return Err(Failure::error(format!("'{to}' lies in '{from}', which is not to be touched; name another place")));
    }
    // The engine lists names that are UTF-8 alone.
    if fs::read_dir(&to_is).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::error(format!("'{}' is not empty; give a new folder", to.display())));
    }
    let vfs: Arc<dyn Vfs> = Arc::new(OsVfs);
    let bar = progress::bytes("read", Some(0));
    let report = esker::repair(&vfs, from, to, &mut |Progress { done_bytes, total_bytes, .. }| {
        bar.set_length(total_bytes);
        bar.set_position(done_bytes.min(total_bytes));
    });
    bar.finish_and_clear();
    let report = report.map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::InvalidArgument => Failure::error(error),
        _ => Failure::from(error).within(format!("repairing '{}'", from.display())),
    })?;
    let mut out = Output::report();
    if common.json {
        out.json(&to_json(common, to, &report))?;
    } else {
        show(&mut out, to, &report)?;
    }
    out.finish()?;
    if report.is_whole() {
        return Ok(());
    }
    let no_manifest = if report.exact { "" } else { ", and no whole manifest says what there was" };
    Err(Failure::damage(format!(
        "'{}' opens and is sound, but it is not known to hold all of '{}': {}, {}{no_manifest}; keep the original until you have looked at both",
        to.display(),
        from.display(),
        counted_in(report.losses.len() as u64, "loss", "losses"),
        counted(report.remarks.len() as u64, "remark"),
    )))
}

/// Whether `to` is the folder `from`, or lies in it, by whatever way it is reached: the same folder may be mounted twice.
fn lies_in(to: &Path, from: &Path) -> bool {
    let id = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    id(from).is_some_and(|from| to.ancestors().any(|ancestor| id(ancestor) == Some(from)))
}

/// The path without links, as far as it is there. `None` if it goes back from what is not: where that would lead is known only once it is made.
fn canonical(path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    path.ancestors()
        .find_map(|ancestor| {
            let rest = path.strip_prefix(ancestor).ok()?;
            Some((ancestor.canonicalize().ok()?, rest))
        })
        .filter(|(_, rest)| !rest.components().any(|component| component == Component::ParentDir))
        .map(|(known, rest)| known.join(rest))
}

fn show(out: &mut Output, to: &Path, report: &RepairReport) -> Result {
    out.say(format!(
        "'{}': {} whole and {} in part, {} of {}, {}",
        to.display(),
        counted(report.tables_whole, "table"),
        report.tables_in_part,
        counted(report.logs, "log"),
        counted(report.log_operations, "operation"),
        counted(report.blob_records, "large value"),
    ))?;
    match &report.manifest_error {
        None => out.say("the manifest is whole: it is known which files belonged together")?,
        Some(error) => out.say(format!("the manifest is of no use, or in part: {error}"))?,
    }
    for keyspace in &report.keyspaces {
        let made_up = if keyspace.is_known || keyspace.id == 0 { "" } else { " (its name is lost)" };
        let name = text::name(&keyspace.name);
        let keys = counted(keyspace.keys, "key");
        out.say(format!("keyspace {name}{made_up}: {keys}, {}", HumanBytes(keyspace.bytes)))?;
    }
    for loss in &report.losses {
        let place = loss.offset.map_or(String::new(), |offset| format!(" (at {offset})"));
        out.say(format!("lost: {loss}{place}"))?;
    }
    for remark in &report.remarks {
        out.say(format!("note: {remark}"))?;
    }
    for (file, why) in &report.unused {
        out.say(format!("not used: {file}: {why}"))?;
    }
    Ok(())
}

fn to_json(common: &Common, to: &Path, report: &RepairReport) -> Value {
    let loss = |loss: &Loss| {
        let mut object = Map::new();
        object.insert("file".into(), json!(loss.file));
        object.insert("offset".into(), json!(loss.offset));
        object.insert("what".into(), json!(loss.what));
        object.insert("keyspace".into(), json!(loss.keyspace));
        for (name, key) in [("first", &loss.first), ("last", &loss.last)] {
            let Some(key) = key else { continue };
            match std::str::from_utf8(key) {
                Ok(text) if !common.hex => object.insert(name.into(), json!(text)),
                _ => object.insert(format!("{name}_hex"), json!(text::hex(key))),
            };
        }
        object.insert("records".into(), json!(loss.records));
        Value::Object(object)
    };
    let keyspaces: Vec<Value> = report
        .keyspaces
        .iter()
        .map(|keyspace| {
            json!({
                "name": keyspace.name,
                "id": keyspace.id,
                "known": keyspace.is_known,
                "keys": keyspace.keys,
                "tables": keyspace.tables,
                "bytes": keyspace.bytes,
            })
        })
        .collect();
    let unused: Vec<Value> = report.unused.iter().map(|(file, why)| json!({ "file": file, "why": why })).collect();
    json!({
        "to": to.to_string_lossy(),
        "whole": report.is_whole(),
        "exact": report.exact,
        "manifest_error": report.manifest_error,
        "keyspaces": keyspaces,
        "tables_whole": report.tables_whole,
        "tables_in_part": report.tables_in_part,
        "logs": report.logs,
        "log_operations": report.log_operations,
        "blob_records": report.blob_records,
        "losses": report.losses.iter().map(loss).collect::<Vec<_>>(),
        "remarks": report.remarks,
        "unused": unused,
    })
}
