//! `dump`: what a single file holds, read without the engine, as far as it can be read.
//!
//! One line an operation, entry or edit. What is wrong comes last, on standard error, and with `--json` also as a last line
//! `{"error":..}`; the exit code is then 1.

mod blob;
mod log;
mod table;

use crate::args::{Common, DumpKind};
use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::text;
use esker_blob::{BlobError, BlobRef};
use esker_format::{ValueKind, expiry::decode_expiry};
use esker_manifest::ManifestError;
use esker_sstable::TableError;
use esker_vfs::{OsVfs, ReadableFile, Vfs};
use esker_wal::WalError;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;

/// Longest part of a key or value that is printed for people.
const SHOWN_BYTES_MAX: usize = 160;

/// Prints what `file` holds.
pub(crate) fn run(common: &Common, kind: DumpKind, file: &Path) -> Result {
    let failed = |error| Failure::io("reading", file, &error);
    let vfs = OsVfs;
    if vfs.metadata(file).map_err(failed)?.is_dir {
        return Err(Failure::error(format!("'{}' is a folder; give one of the files in it", file.display())));
    }
    let open = vfs.open_read(file).map_err(failed)?;
    let mut dump = Dump {
        out: Output::new(),
        json: common.json,
        hex: common.hex,
        line: Vec::new(),
        entries: 0,
        wrong: Vec::new(),
    };
    let ended = match kind {
        DumpKind::Wal => log::wal(&mut dump, open, file),
        DumpKind::Blob => blob::blob(&mut dump, open, file),
        DumpKind::Sst => table::sst(&mut dump, open, file),
        DumpKind::Manifest => log::manifest(&mut dump, open, file),
    };
    dump.finish(ended)
}

/// What the printing of all kinds of file shares.
struct Dump {
    out: Output,
    json: bool,
    hex: bool,
    line: Vec<u8>,
    /// How many entries were printed.
    entries: u64,
    /// What was found wrong on the way.
    wrong: Vec<String>,
}

/// One version of a key, wherever it was found.
struct Entry<'a> {
    /// Where: names and numbers.
    place: &'a [(&'static str, u64)],
    seq: u64,
    kind: ValueKind,
    key: &'a [u8],
    value: &'a [u8],
}

impl Dump {
    /// A line about the whole file.
    fn about(&mut self, words: &str, json: &serde_json::Value) -> Result {
        if self.json { self.out.json(json) } else { self.out.say(format!("# {words}")) }
    }

    fn entry(&mut self, entry: &Entry<'_>) -> Result {
        self.entries += 1;
        let kind = match entry.kind {
            ValueKind::Put => "put",
            ValueKind::Merge => "merge",
            ValueKind::Delete => "delete",
            ValueKind::Blob => "blob",
            ValueKind::RangeDelete => "delete-range",
            ValueKind::Expiring => "put-expiring",
            ValueKind::ExpiringBlob => "blob-expiring",
        };
        let (expiry, stored) = match entry.kind.expires().then(|| decode_expiry(entry.value)) {
            None => (None, entry.value),
            Some(Ok((expiry, stored))) => (Some(expiry), stored),
            Some(Err(error)) => {
                self.wrong.push(format!("the entry of '{}': {error}", text::preview(entry.key, SHOWN_BYTES_MAX)));
                (None, entry.value)
            }
        };
        let is_blob = matches!(entry.kind, ValueKind::Blob | ValueKind::ExpiringBlob);
        let lies = is_blob.then(|| BlobRef::decode(stored));
        if let Some(Err(error)) = &lies {
            self.wrong.push(format!("the entry of '{}': {error}", text::preview(entry.key, SHOWN_BYTES_MAX)));
        }
        let lies = lies.and_then(|lies| lies.ok());
        self.line.clear();
        if self.json {
            self.line.push(b'{');
            for (name, number) in entry.place {
                self.line.extend_from_slice(format!("\"{name}\":{number},").as_bytes());
            }
            self.line.extend_from_slice(format!("\"seq\":{},\"kind\":\"{kind}\",", entry.seq).as_bytes());
            text::json_member_into(&mut self.line, "key", entry.key, self.hex);
            if matches!(entry.kind, ValueKind::Put | ValueKind::Expiring) {
                self.line.push(b',');
                text::json_member_into(&mut self.line, "value", stored, self.hex);
            }
            if let Some(expiry) = expiry {
                self.line.extend_from_slice(format!(",\"expires_unix_ms\":{expiry}").as_bytes());
            }
            if entry.kind == ValueKind::Merge {
                self.line.push(b',');
                text::json_member_into(&mut self.line, "operand", entry.value, self.hex);
            }
            if entry.kind == ValueKind::RangeDelete && !entry.value.is_empty() {
                self.line.push(b',');
                text::json_member_into(&mut self.line, "end", entry.value, self.hex);
            }
            if let Some(BlobRef { file, offset, value_bytes }) = lies {
                let lies = format!(",\"file\":{},\"offset\":{offset},\"bytes\":{value_bytes}", file.0);
                self.line.extend_from_slice(lies.as_bytes());
            }
            self.line.push(b'}');
        } else {
            let show = |bytes| if self.hex { text::hex(bytes) } else { text::preview(bytes, SHOWN_BYTES_MAX) };
            let place: String = entry.place.iter().map(|(_, number)| format!("{number} ")).collect();
            let value = match lies {
                Some(BlobRef { file, offset, value_bytes }) => format!("{file} {offset} {value_bytes}"),
                None => show(stored),
            };
            let kind = expiry.map_or_else(|| kind.to_owned(), |expiry| format!("{kind} {expiry}"));
            let text = format!("{place}{} {kind} {}\t{value}", entry.seq, show(entry.key));
            self.line.extend_from_slice(text.trim_end_matches('\t').as_bytes());
        }
        self.out.line(&self.line)
    }

    fn finish(mut self, ended: Result) -> Result {
        let mut verdict = ended;
        if verdict.is_ok() && !self.wrong.is_empty() {
            let more = match self.wrong.len() {
                1 => String::new(),
                count => format!(" (and {} more)", count - 1),
            };
            verdict = Err(Failure::damage(format!("{}{more}", self.wrong[0])));
        }
        if let (true, Err(failure)) = (self.json, &verdict)
            && let Some(message) = failure.message()
        {
            self.out.json(&json!({ "error": message }))?;
        }
        self.out.finish()?; // what is readable comes before what is wrong
        verdict
    }
}

fn name(file: &Path) -> String {
    file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned()
}

type Opened = Arc<dyn ReadableFile>;

macro_rules! from_layer {
    ($($error:ty),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                if error.is_unsupported() || error.io().is_some() { Self::error(error) } else { Self::damage(error) }
            }
        }
    )*};
}

from_layer!(WalError, ManifestError, TableError, BlobError);
