//! Edits as text, one line an item, for the tool and for tests.
//!
//! ```text
//! reserve seq 1048576 file 1001
//! create keyspace 1 "users" ""
//! remove 1 L0 000004
//! add 1 L1 000007 a#9,PUT .. c#3,DEL seqs 3..9 entries 4 deletions 1 bytes 1000 id 00000000deadbeef created 0
//! blob 1 000006 bytes 1080 records 2 record-bytes 1000 id 00000000deadbeef
//! add 1 L0 000008 b#9,RANGEDEL .. k#8,RANGEDEL seqs 8..9 entries 0 deletions 0 bytes 700 id 00000000deadbeef created 0 ranges 2 "b" "k"
//! add 1 L6 000009 m#12,PUT .. p#12,PUT seqs 12..12 entries 2 deletions 0 bytes 700 id 00000000deadbeef created 0 table-seq 12
//! flushed 1 9
//! ingest 1 seq 12 tables 1 entries 2 "m" "p"
//! changes from 9 log 4
//! ```
//! In keys and names, all but printable ASCII is escaped as `\xNN`, and so are space, `#`, `"` and `\`. [`VersionEdit`]'s `FromStr` reads what its
//! `Display` prints; of an added table everything behind the keys may be left out, and then follows from them.

use crate::Lsn;
use crate::edit::{COMPARATOR, CleanClose, VersionEdit};
use crate::table::{BlobMeta, BlobUse, IngestMeta, Level, RangeUse, TableMeta};
use esker_format::{Expiries, FileId, FileNo, InternalKeyBuf, KeyspaceId, SeqNo, Trailer, ValueKind};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

impl fmt::Display for VersionEdit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.snapshot {
            writeln!(f, "snapshot {COMPARATOR}")?;
        }
        line(f, "reserve seq", self.reserve_seq)?;
        line(f, "reserve file", self.reserve_file)?;
        line(f, "oldest log", self.oldest_log)?;
        line(f, "log start", self.log_start)?;
        line(f, "log durable", self.log_durable)?;
        line(f, "clock", self.clock_ms)?;
        line(f, "next keyspace", self.next_keyspace)?;
        for id in &self.drop_keyspaces {
            writeln!(f, "drop keyspace {id}")?;
        }
        for (id, name, options) in &self.create_keyspaces {
            writeln!(f, "create keyspace {id} \"{}\" \"{}\"", Escaped(name.as_bytes()), Escaped(options.as_bytes()))?;
        }
        for (id, level, number) in &self.remove {
            writeln!(f, "remove {id} {level} {number}")?;
        }
        for (id, level, table) in &self.add {
            writeln!(f, "add {id} {level} {table}")?;
        }
        for (id, blob) in &self.add_blobs {
            writeln!(f, "blob {id} {blob}")?;
        }
        for (id, seq) in &self.flushed {
            writeln!(f, "flushed {id} {seq}")?;
        }
        for IngestMeta { keyspace, seq, tables, entries, smallest, largest } in &self.ingests {
            let (smallest, largest) = (Escaped(smallest), Escaped(largest));
            writeln!(f, "ingest {keyspace} seq {seq} tables {tables} entries {entries} \"{smallest}\" \"{largest}\"")?;
        }
        if let Some((seq, log)) = self.changes_from {
            writeln!(f, "changes from {seq} log {}", log.0)?;
        }
        if let Some(CleanClose { last_seq, next_file }) = self.clean {
            writeln!(f, "clean seq {last_seq} file {next_file}")?;
        }
        line(f, "written", self.written_bytes)
    }
}

fn line(f: &mut fmt::Formatter<'_>, what: &str, value: Option<impl fmt::Display>) -> fmt::Result {
    value.map_or(Ok(()), |value| writeln!(f, "{what} {value}"))
}

impl fmt::Display for TableMeta {
    /// `000007 a#9,PUT .. c#3,DEL seqs 3..9 entries 4 deletions 1 bytes 1000 id 00000000deadbeef created 0`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = |key: &InternalKeyBuf| format!("{}#{:?}", Escaped(&key.user_key), key.trailer);
        write!(f, "{} {} .. {}", self.number, key(&self.smallest), key(&self.largest))?;
        write!(f, " seqs {}..{}", self.smallest_seq, self.largest_seq)?;
        write!(f, " entries {} deletions {} bytes {}", self.entries, self.deletions, self.file_bytes)?;
        write!(f, " id {} created {}", self.file_id, self.created_unix_ms)?;
        for BlobUse { file, records, bytes } in &self.blobs {
            write!(f, " blob {file} records {records} bytes {bytes}")?;
        }
        if let Some(RangeUse { count, begin, end }) = &self.ranges {
            write!(f, " ranges {count} \"{}\" \"{}\"", Escaped(begin), Escaped(end))?;
        }
        if let Some(seq) = self.table_seq {
            write!(f, " table-seq {seq}")?;
        }
        if let Some(Expiries { entries, earliest_ms, latest_ms, half_ms }) = self.expiries {
            write!(f, " expiring {entries} from {earliest_ms} half {} to {latest_ms}", half_ms.unwrap_or(0))?;
        }
        Ok(())
    }
}

impl fmt::Display for BlobMeta {
    /// `000006 bytes 1080 records 2 record-bytes 1000 id 00000000deadbeef`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, file_id, file_bytes, records, record_bytes } = self;
        write!(f, "{number} bytes {file_bytes} records {records} record-bytes {record_bytes} id {file_id}")
    }
}

/// Bytes without space, quote or `#`.
struct Escaped<'a>(&'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &byte in self.0 {
            match byte {
                b' ' | b'#' | b'"' | b'\\' => write!(f, "\\x{byte:02x}")?,
                0x21..=0x7e => write!(f, "{}", char::from(byte))?,
                _ => write!(f, "\\x{byte:02x}")?,
            }
        }
        Ok(())
    }
}

/// A line that is not part of an edit's text form.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("not an item of a version edit: {0:?}")]
pub struct ParseEditError(pub String);

impl FromStr for VersionEdit {
    type Err = ParseEditError;

    fn from_str(text: &str) -> Result<Self, ParseEditError> {
        let mut edit = Self::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            item(&mut edit, line).ok_or_else(|| ParseEditError(line.to_owned()))?;
        }
        Ok(edit)
    }
}

/// Reads one line into `edit`; `None` if it is not understood.
fn item(edit: &mut VersionEdit, line: &str) -> Option<()> {
    let mut words = Words(line);
    match words.next()? {
        "snapshot" => edit.snapshot = words.word(COMPARATOR).map(|_| true)?,
        "reserve" => match words.next()? {
            "seq" => edit.reserve_seq = Some(SeqNo(words.number()?)),
            "file" => edit.reserve_file = Some(FileNo(words.number()?)),
            _ => return None,
        },
        "oldest" => edit.oldest_log = Some(FileNo(words.word("log")?.number()?)),
        "log" => match words.next()? {
            "start" => edit.log_start = Some(Lsn(words.number()?)),
            "durable" => edit.log_durable = Some(Lsn(words.number()?)),
            _ => return None,
        },
        "clock" => edit.clock_ms = Some(words.number()?),
        "written" => edit.written_bytes = Some(words.number()?),
        "next" => edit.next_keyspace = Some(words.word("keyspace")?.keyspace()?),
        "drop" => edit.drop_keyspaces.push(words.word("keyspace")?.keyspace()?),
        "create" => {
            let id = words.word("keyspace")?.keyspace()?;
            edit.create_keyspaces.push((id, words.quoted()?, words.quoted()?));
        }
        "remove" => edit.remove.push((words.keyspace()?, words.level()?, FileNo(words.number()?))),
        "add" => edit.add.push((words.keyspace()?, words.level()?, table(&mut words)?)),
        "blob" => edit.add_blobs.push((words.keyspace()?, blob(&mut words)?)),
        "flushed" => edit.flushed.push((words.keyspace()?, SeqNo(words.number()?))),
        "ingest" => edit.ingests.push(IngestMeta {
            keyspace: words.keyspace()?,
            seq: SeqNo(words.word("seq")?.number()?),
            tables: words.word("tables")?.number()?,
            entries: words.word("entries")?.number()?,
            smallest: words.quoted_bytes()?.into(),
            largest: words.quoted_bytes()?.into(),
        }),
        "changes" => {
            let seq = SeqNo(words.word("from")?.number()?);
            edit.changes_from = Some((seq, FileNo(words.word("log")?.number()?)));
        }
        "clean" => {
            let last_seq = SeqNo(words.word("seq")?.number()?);
            edit.clean = Some(CleanClose { last_seq, next_file: FileNo(words.word("file")?.number()?) });
        }
        _ => return None,
    }
    words.0.trim().is_empty().then_some(())
}

impl FromStr for TableMeta {
    type Err = ParseEditError;

    /// `000007 a#9,PUT .. c#3,DEL`, and what else its `Display` prints.
    fn from_str(text: &str) -> Result<Self, ParseEditError> {
        let mut words = Words(text);
        table(&mut words).filter(|_| words.0.trim().is_empty()).ok_or_else(|| ParseEditError(text.to_owned()))
    }
}

fn table(words: &mut Words<'_>) -> Option<TableMeta> {
    let number = FileNo(words.number()?);
    let smallest = internal_key(words.next()?)?;
    let largest = internal_key(words.word("..")?.next()?)?;
    let seqs = [smallest.trailer.seq(), largest.trailer.seq()];
    let mut table = TableMeta {
        number,
        file_id: FileId(number.0),
        file_bytes: 1000,
        smallest_seq: seqs[0].min(seqs[1]),
        largest_seq: seqs[0].max(seqs[1]),
        entries: if smallest == largest { 1 } else { 2 },
        deletions: 0,
        created_unix_ms: 0,
        smallest,
        largest,
        blobs: Vec::new(),
        ranges: None,
        table_seq: None,
        expiries: None,
    };
    while let Some(name) = words.next() {
        match name {
            "seqs" => {
                let (least, greatest) = words.next()?.split_once("..")?;
                table.smallest_seq = SeqNo(least.parse().ok()?);
                table.largest_seq = SeqNo(greatest.parse().ok()?);
            }
            "entries" => table.entries = words.number()?,
            "deletions" => table.deletions = words.number()?,
            "bytes" => table.file_bytes = words.number()?,
            "id" => table.file_id = FileId(u64::from_str_radix(words.next()?, 16).ok()?),
            "created" => table.created_unix_ms = words.number()?,
            "blob" => table.blobs.push(BlobUse {
                file: FileNo(words.number()?),
                records: words.word("records")?.number()?,
                bytes: words.word("bytes")?.number()?,
            }),
            "ranges" => {
                let (count, begin, end) = (words.number()?, words.quoted_bytes()?, words.quoted_bytes()?);
                table.ranges = Some(RangeUse { count, begin: begin.into(), end: end.into() });
            }
            "table-seq" => table.table_seq = Some(SeqNo(words.number()?)),
            "expiring" => {
                let entries = words.number()?;
                let (earliest_ms, half) = (words.word("from")?.number()?, words.word("half")?.number()?);
                let (latest_ms, half_ms) = (words.word("to")?.number()?, Some(half).filter(|half| *half > 0));
                table.expiries = Some(Expiries { entries, earliest_ms, latest_ms, half_ms });
            }
            _ => return None,
        }
    }
    Some(table)
}

fn blob(words: &mut Words<'_>) -> Option<BlobMeta> {
    Some(BlobMeta {
        number: FileNo(words.number()?),
        file_bytes: words.word("bytes")?.number()?,
        records: words.word("records")?.number()?,
        record_bytes: words.word("record-bytes")?.number()?,
        file_id: FileId(u64::from_str_radix(words.word("id")?.next()?, 16).ok()?),
    })
}

fn internal_key(word: &str) -> Option<InternalKeyBuf> {
    let (user_key, trailer) = word.split_once('#')?;
    let (seq, kind) = trailer.split_once(',')?;
    let kind = match kind {
        "PUT" => ValueKind::Put,
        "DEL" => ValueKind::Delete,
        "MERGE" => ValueKind::Merge,
        "BLOB" => ValueKind::Blob,
        "EXP" => ValueKind::Expiring,
        "EXPBLOB" => ValueKind::ExpiringBlob,
        "RANGEDEL" => ValueKind::RangeDelete,
        _ => return None,
    };
    let seq = seq.parse().ok().map(SeqNo).filter(|seq| *seq <= SeqNo::MAX)?;
    Some(InternalKeyBuf { user_key: unescape(user_key)?.into(), trailer: Trailer::new(seq, kind) })
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split("\\x");
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(part.get(2..)?.as_bytes());
    }
    Some(bytes)
}

/// The words of a line, and the rest of it.
struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let rest = self.0.trim_start();
        let (word, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        self.0 = rest;
        (!word.is_empty()).then_some(word)
    }

    /// Steps over a word that must be there.
    fn word(&mut self, expected: &str) -> Option<&mut Self> {
        (self.next()? == expected).then_some(self)
    }

    fn number(&mut self) -> Option<u64> {
        self.next()?.parse().ok()
    }

    fn keyspace(&mut self) -> Option<KeyspaceId> {
        self.next()?.parse().ok().map(KeyspaceId)
    }

    fn level(&mut self) -> Option<Level> {
        self.next()?.strip_prefix('L')?.parse().ok().map(Level)
    }

    fn quoted(&mut self) -> Option<String> {
        String::from_utf8(self.quoted_bytes()?).ok()
    }

    fn quoted_bytes(&mut self) -> Option<Vec<u8>> {
        unescape(self.next()?.strip_prefix('"')?.strip_suffix('"')?)
    }
}
