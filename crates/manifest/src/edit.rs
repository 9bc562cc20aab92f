//! Version edits and their bytes (`docs/format/manifest.md`).
//!
//! ```text
//! edit:   field | field | ...
//! field:  tag u8 | length varint | body           bit 7 of the tag: a reader that does not know it must refuse the file
//! ```
//! What may grow (a keyspace's and a table's description) ends with fields of the same form, so a later version can add to them.

use crate::Lsn;
use crate::table::{BlobMeta, BlobUse, IngestMeta, Level, RangeUse, TableMeta};
use esker_format::{
    DecodeError, Decoder, Expiries, FileId, FileNo, InternalKeyBuf, KEY_BYTES_MAX, KeyspaceId, SeqNo, Trailer, varint,
};

/// The version of the edit format, in every snapshot.
pub const FORMAT_VERSION: u64 = 1;
/// The order of keys, in every snapshot.
pub const COMPARATOR: &str = "bytewise";

/// The bit of a tag that forbids to skip the field.
const MUST_UNDERSTAND: u8 = 0x80;

const TAG_SNAPSHOT: u8 = 0x80;
const TAG_RESERVE_SEQ: u8 = 0x81;
const TAG_RESERVE_FILE: u8 = 0x82;
const TAG_OLDEST_LOG: u8 = 0x83;
const TAG_LOG_DURABLE: u8 = 0x84;
const TAG_CLOCK_MS: u8 = 0x85;
const TAG_NEXT_KEYSPACE: u8 = 0x86;
const TAG_DROP_KEYSPACE: u8 = 0x87;
const TAG_CREATE_KEYSPACE: u8 = 0x88;
const TAG_FLUSHED: u8 = 0x89;
const TAG_REMOVE_TABLE: u8 = 0x8a;
const TAG_ADD_TABLE: u8 = 0x8b;
const TAG_CLEAN_CLOSE: u8 = 0x8c;
const TAG_ADD_BLOB: u8 = 0x8d;
const TAG_INGEST: u8 = 0x8e;
const TAG_WRITTEN_BYTES: u8 = 0x01;
const TAG_CHANGES_FROM: u8 = 0x02;
const TAG_LOG_START: u8 = 0x03;

/// In a table's description: how much of one blob file it refers to.
const TABLE_TAG_BLOB: u8 = 0x81;
/// In a table's description: its range tombstones.
const TABLE_TAG_RANGES: u8 = 0x82;
/// In a table's description: its table-wide sequence number.
const TABLE_TAG_SEQ: u8 = 0x83;
/// In a table's description: when its entries expire.
const TABLE_TAG_EXPIRIES: u8 = 0x84;

/// A step from one version to the next. Empty by default; set what changes.
///
/// Within one edit the parts apply in this order, whatever order they were added in: counters, dropped keyspaces, created keyspaces,
/// removed tables, added blob files, added tables, flushed marks, the clean close. A blob file to which no table refers then is no part of the version any more. So a table moves by being removed and added, and a keyspace is replaced by being
/// dropped and created.
///
/// ```
/// use esker_manifest::{Version, VersionEdit};
/// use esker_format::{KeyspaceId, SeqNo};
///
/// let edit = VersionEdit {
///     reserve_seq: Some(SeqNo(1 << 20)),
///     create_keyspaces: vec![(KeyspaceId(1), "users".into(), String::new())],
///     ..VersionEdit::default()
/// };
/// assert_eq!(VersionEdit::decode(&edit.encode())?, edit);
/// let version = Version::new().apply(&edit)?;
/// assert_eq!(version.next_keyspace, KeyspaceId(2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VersionEdit {
    /// Whether this edit makes its version from nothing, see [`crate::Version::snapshot`]. Only the manifest itself makes such edits.
    pub snapshot: bool,
    /// Sequence numbers up to this one may be given out from now on.
    pub reserve_seq: Option<SeqNo>,
    /// File numbers below this one may be given out from now on. [`crate::VersionSet::new_file_no`] sees to it.
    pub reserve_file: Option<FileNo>,
    /// Logs below this number are no longer needed.
    pub oldest_log: Option<FileNo>,
    /// The oldest log begins here. To be told with it: of one that comes without, it is not known.
    pub log_start: Option<Lsn>,
    /// The logs are on stable storage up to here.
    pub log_durable: Option<Lsn>,
    /// The clock has reached this time, in milliseconds since 1970.
    pub clock_ms: Option<u64>,
    /// Bytes written to logs and tables since the engine was created.
    pub written_bytes: Option<u64>,
    /// Keyspace ids below this one are never given out again. Follows from `create_keyspaces` but in a snapshot.
    pub next_keyspace: Option<KeyspaceId>,
    /// New keyspaces: id (at least [`crate::Version::next_keyspace`], ascending), name, options.
    pub create_keyspaces: Vec<(KeyspaceId, String, String)>,
    /// Keyspaces to drop, their tables with them.
    pub drop_keyspaces: Vec<KeyspaceId>,
    /// Operations of these keyspaces at or below these sequence numbers are in tables now.
    pub flushed: Vec<(KeyspaceId, SeqNo)>,
    /// Tables that come.
    pub add: Vec<(KeyspaceId, Level, TableMeta)>,
    /// Blob files that come; a table among those that come must refer to each. They go by themselves, with the last table that refers to them.
    pub add_blobs: Vec<(KeyspaceId, BlobMeta)>,
    /// Tables that go.
    pub remove: Vec<(KeyspaceId, Level, FileNo)>,
    /// Tables that come without having been in a log, for the feed of changes; by ascending sequence number.
    pub ingests: Vec<IngestMeta>,
    /// The feed of changes tells of nothing at or below this sequence number, and no log older than this is part of it.
    pub changes_from: Option<(SeqNo, FileNo)>,
    /// The engine closes: nothing was given out beyond these.
    pub clean: Option<CleanClose>,
}

/// The exact counters at a clean close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanClose {
    /// The last sequence number given out.
    pub last_seq: SeqNo,
    /// The first file number not given out.
    pub next_file: FileNo,
}

impl VersionEdit {
    /// Whether the edit changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The edit as bytes; one edit has one form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Fields(Vec::new());
        if self.snapshot {
            out.field(TAG_SNAPSHOT, |body| {
                varint::put(body, FORMAT_VERSION);
                put_prefixed(body, COMPARATOR.as_bytes());
            });
        }
        out.number(TAG_RESERVE_SEQ, self.reserve_seq.map(|n| n.0));
        out.number(TAG_RESERVE_FILE, self.reserve_file.map(|n| n.0));
        out.number(TAG_OLDEST_LOG, self.oldest_log.map(|n| n.0));
        out.number(TAG_LOG_DURABLE, self.log_durable.map(|n| n.0));
        out.number(TAG_CLOCK_MS, self.clock_ms);
        out.number(TAG_NEXT_KEYSPACE, self.next_keyspace.map(|id| u64::from(id.0)));
        for id in &self.drop_keyspaces {
            out.number(TAG_DROP_KEYSPACE, Some(u64::from(id.0)));
        }
        for (id, name, options) in &self.create_keyspaces {
            out.field(TAG_CREATE_KEYSPACE, |body| {
                varint::put(body, u64::from(id.0));
                put_prefixed(body, name.as_bytes());
                put_prefixed(body, options.as_bytes());
            });
        }
        for (id, seq) in &self.flushed {
            out.field(TAG_FLUSHED, |body| {
                varint::put(body, u64::from(id.0));
                varint::put(body, seq.0);
            });
        }
        for (id, level, number) in &self.remove {
            out.field(TAG_REMOVE_TABLE, |body| {
                varint::put(body, u64::from(id.0));
                body.push(level.0);
                varint::put(body, number.0);
            });
        }
        for (id, level, table) in &self.add {
            out.field(TAG_ADD_TABLE, |body| {
                varint::put(body, u64::from(id.0));
                body.push(level.0);
                put_table(body, table);
            });
        }
        if let Some(clean) = &self.clean {
            out.field(TAG_CLEAN_CLOSE, |body| {
                varint::put(body, clean.last_seq.0);
                varint::put(body, clean.next_file.0);
            });
        }
        for (id, blob) in &self.add_blobs {
            out.field(TAG_ADD_BLOB, |body| {
                varint::put(body, u64::from(id.0));
                put_blob(body, blob);
            });
        }
        for ingest in &self.ingests {
            out.field(TAG_INGEST, |body| put_ingest(body, ingest));
        }
        out.number(TAG_WRITTEN_BYTES, self.written_bytes);
        if let Some((seq, log)) = self.changes_from {
            out.field(TAG_CHANGES_FROM, |body| {
                varint::put(body, seq.0);
                varint::put(body, log.0);
            });
        }
        out.number(TAG_LOG_START, self.log_start.map(|n| n.0));
        out.0
    }

    /// Reads what [`VersionEdit::encode`] wrote, or a later version of it: fields not known here are skipped if their tag allows it.
    ///
    /// # Errors
    /// The bytes are no edit ([`DecodeError::Invalid`], [`DecodeError::Truncated`]), or one that only a newer version can read
    /// ([`DecodeError::Unsupported`]).
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut edit = Self::default();
        let mut decoder = Decoder::new(bytes);
        while let Some(field) = Field::next(&mut decoder, bytes.len())? {
            let d = &mut decoder;
            match field.tag {
                TAG_SNAPSHOT => {
                    refuse_second(edit.snapshot, d)?;
                    edit.snapshot = snapshot(d)?;
                }
                TAG_RESERVE_SEQ => once(&mut edit.reserve_seq, d, |d| seq(d, "reserved sequence number"))?,
                TAG_RESERVE_FILE => once(&mut edit.reserve_file, d, |d| file(d, "reserved file number"))?,
                TAG_OLDEST_LOG => once(&mut edit.oldest_log, d, |d| file(d, "oldest log"))?,
                TAG_LOG_START => once(&mut edit.log_start, d, |d| d.varint("log start").map(Lsn))?,
                TAG_LOG_DURABLE => once(&mut edit.log_durable, d, |d| d.varint("log durable").map(Lsn))?,
                TAG_CLOCK_MS => once(&mut edit.clock_ms, d, |d| d.varint("clock"))?,
                TAG_WRITTEN_BYTES => once(&mut edit.written_bytes, d, |d| d.varint("bytes written"))?,
                TAG_NEXT_KEYSPACE => once(&mut edit.next_keyspace, d, keyspace)?,
                TAG_DROP_KEYSPACE => edit.drop_keyspaces.push(keyspace(d)?),
                TAG_CREATE_KEYSPACE => {
                    edit.create_keyspaces.push((keyspace(d)?, text(d, "keyspace name")?, text(d, "keyspace options")?));
                    extensions(d, field.end)?;
                }
                TAG_FLUSHED => edit.flushed.push((keyspace(d)?, seq(d, "flushed sequence number")?)),
                TAG_REMOVE_TABLE => edit.remove.push((keyspace(d)?, level(d)?, file(d, "table number")?)),
                TAG_ADD_TABLE => {
                    edit.add.push((keyspace(d)?, level(d)?, table(d, field.end)?));
                }
                TAG_ADD_BLOB => {
                    edit.add_blobs.push((keyspace(d)?, blob(d)?));
                    extensions(d, field.end)?;
                }
                TAG_INGEST => {
                    edit.ingests.push(ingest(d)?);
                    extensions(d, field.end)?;
                }
                TAG_CHANGES_FROM => {
                    once(&mut edit.changes_from, d, |d| {
                        Ok((seq(d, "changes from")?, file(d, "first log of changes")?))
                    })?;
                }
                TAG_CLEAN_CLOSE => once(&mut edit.clean, d, |d| {
                    Ok(CleanClose {
                        last_seq: seq(d, "last sequence number")?,
                        next_file: file(d, "next file number")?,
                    })
                })?,
                _ => field.skip(d)?,
            }
            if decoder.offset() != field.end {
                return Err(decoder.invalid("end of field", field.end as u64));
            }
        }
        Ok(edit)
    }
}

/// Fields being written.
struct Fields(Vec<u8>);

impl Fields {
    fn field(&mut self, tag: u8, write: impl FnOnce(&mut Vec<u8>)) {
        let mut body = Vec::new();
        write(&mut body);
        self.0.push(tag);
        put_prefixed(&mut self.0, &body);
    }

    fn number(&mut self, tag: u8, value: Option<u64>) {
        if let Some(value) = value {
            self.field(tag, |body| varint::put(body, value));
        }
    }
}

fn put_prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_ingest(out: &mut Vec<u8>, ingest: &IngestMeta) {
    let IngestMeta { keyspace, seq, tables, entries, smallest, largest } = ingest;
    for number in [u64::from(keyspace.0), seq.0, *tables, *entries] {
        varint::put(out, number);
    }
    put_prefixed(out, smallest);
    put_prefixed(out, largest);
}

fn put_blob(out: &mut Vec<u8>, blob: &BlobMeta) {
    varint::put(out, blob.number.0);
    out.extend_from_slice(&blob.file_id.0.to_le_bytes());
    for number in [blob.file_bytes, blob.records, blob.record_bytes] {
        varint::put(out, number);
    }
}

fn put_table(out: &mut Vec<u8>, table: &TableMeta) {
    varint::put(out, table.number.0);
    out.extend_from_slice(&table.file_id.0.to_le_bytes());
    varint::put(out, table.file_bytes);
    for key in [&table.smallest, &table.largest] {
        put_prefixed(out, &key.user_key);
        out.extend_from_slice(&key.trailer.to_bits().to_le_bytes());
    }
    for number in [table.smallest_seq.0, table.largest_seq.0, table.entries, table.deletions, table.created_unix_ms] {
        varint::put(out, number);
    }
    for BlobUse { file, records, bytes } in &table.blobs {
        let mut body = Vec::new();
        for number in [file.0, *records, *bytes] {
            varint::put(&mut body, number);
        }
        out.push(TABLE_TAG_BLOB);
        put_prefixed(out, &body);
    }
    if let Some(RangeUse { count, begin, end }) = &table.ranges {
        let mut body = Vec::new();
        varint::put(&mut body, *count);
        put_prefixed(&mut body, begin);
        put_prefixed(&mut body, end);
        out.push(TABLE_TAG_RANGES);
        put_prefixed(out, &body);
    }
    if let Some(seq) = table.table_seq {
        let mut body = Vec::new();
        varint::put(&mut body, seq.0);
        out.push(TABLE_TAG_SEQ);
        put_prefixed(out, &body);
    }
    if let Some(expiries) = &table.expiries {
        let mut body = Vec::new();
        expiries.encode_into(&mut body);
        out.push(TABLE_TAG_EXPIRIES);
        put_prefixed(out, &body);
    }
}

/// The head of a field; its body lies between the decoder and `end`.
struct Field {
    tag: u8,
    tag_offset: usize,
    end: usize,
}

impl Field {
    /// The next field of those that end at `end`. Its own end never lies behind that.
    fn next(decoder: &mut Decoder<'_>, end: usize) -> Result<Option<Self>, DecodeError> {
        if decoder.offset() >= end {
            return Ok(None);
        }
        let tag_offset = decoder.offset();
        let tag = decoder.u8("field tag")?;
        let len = decoder.varint("field length")?;
        let have = end.saturating_sub(decoder.offset());
        if len > have as u64 {
            return Err(DecodeError::Truncated { what: "field", offset: decoder.offset(), need: len, have });
        }
        Ok(Some(Self { tag, tag_offset, end: decoder.offset() + len as usize }))
    }

    /// Skips the body, unless the tag forbids it.
    fn skip(&self, decoder: &mut Decoder<'_>) -> Result<(), DecodeError> {
        if self.tag & MUST_UNDERSTAND != 0 {
            return Err(DecodeError::Unsupported {
                what: "field tag",
                offset: self.tag_offset,
                found: u64::from(self.tag),
            });
        }
        decoder.bytes("field", (self.end - decoder.offset()) as u64).map(drop)
    }
}

/// Skips what a later version added to a description. This version knows no such field.
fn extensions(decoder: &mut Decoder<'_>, end: usize) -> Result<(), DecodeError> {
    while let Some(field) = Field::next(decoder, end)? {
        field.skip(decoder)?;
    }
    Ok(())
}

/// A field that may come once.
fn once<'a, T>(
    slot: &mut Option<T>,
    decoder: &mut Decoder<'a>,
    read: impl FnOnce(&mut Decoder<'a>) -> Result<T, DecodeError>,
) -> Result<(), DecodeError> {
    refuse_second(slot.is_some(), decoder)?;
    *slot = Some(read(decoder)?);
    Ok(())
}

fn refuse_second(seen: bool, decoder: &Decoder<'_>) -> Result<(), DecodeError> {
    if seen { Err(decoder.invalid("second field of its kind", 2)) } else { Ok(()) }
}

fn snapshot(decoder: &mut Decoder<'_>) -> Result<bool, DecodeError> {
    let offset = decoder.offset();
    let found = decoder.varint("manifest format version")?;
    if found != FORMAT_VERSION {
        return Err(DecodeError::Unsupported { what: "manifest format version", offset, found });
    }
    let offset = decoder.offset();
    let comparator = decoder.prefixed("comparator")?;
    if comparator != COMPARATOR.as_bytes() {
        return Err(DecodeError::Unsupported { what: "comparator", offset, found: comparator.len() as u64 });
    }
    Ok(true)
}

fn seq(decoder: &mut Decoder<'_>, what: &'static str) -> Result<SeqNo, DecodeError> {
    let offset = decoder.offset();
    let found = decoder.varint(what)?;
    if found > SeqNo::MAX.0 { Err(DecodeError::Invalid { what, offset, found }) } else { Ok(SeqNo(found)) }
}

fn file(decoder: &mut Decoder<'_>, what: &'static str) -> Result<FileNo, DecodeError> {
    decoder.varint(what).map(FileNo)
}

fn keyspace(decoder: &mut Decoder<'_>) -> Result<KeyspaceId, DecodeError> {
    decoder.varint32("keyspace id").map(KeyspaceId)
}

fn level(decoder: &mut Decoder<'_>) -> Result<Level, DecodeError> {
    decoder.u8("level").map(Level)
}

fn text(decoder: &mut Decoder<'_>, what: &'static str) -> Result<String, DecodeError> {
    let offset = decoder.offset();
    let bytes = decoder.prefixed(what)?;
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|error| DecodeError::Invalid {
        what,
        offset,
        found: u64::from(bytes[error.valid_up_to()]),
    })
}

fn internal_key(decoder: &mut Decoder<'_>, what: &'static str) -> Result<InternalKeyBuf, DecodeError> {
    let offset = decoder.offset();
    let user_key = decoder.prefixed(what)?;
    if user_key.len() > KEY_BYTES_MAX {
        return Err(DecodeError::Invalid { what, offset, found: user_key.len() as u64 });
    }
    let offset = decoder.offset();
    let trailer = Trailer::from_bits(decoder.u64("trailer")?);
    trailer.try_kind(offset)?;
    Ok(InternalKeyBuf { user_key: user_key.into(), trailer })
}

fn ingest(decoder: &mut Decoder<'_>) -> Result<IngestMeta, DecodeError> {
    Ok(IngestMeta {
        keyspace: keyspace(decoder)?,
        seq: seq(decoder, "sequence number of an ingest")?,
        tables: decoder.varint("tables")?,
        entries: decoder.varint("entries")?,
        smallest: decoder.prefixed("least key")?.into(),
        largest: decoder.prefixed("greatest key")?.into(),
    })
}

fn blob(decoder: &mut Decoder<'_>) -> Result<BlobMeta, DecodeError> {
    Ok(BlobMeta {
        number: file(decoder, "blob file number")?,
        file_id: FileId(decoder.u64("file id")?),
        file_bytes: decoder.varint("blob file length")?,
        records: decoder.varint("records")?,
        record_bytes: decoder.varint("record bytes")?,
    })
}

/// A table's description, which ends at `end`.
fn table(decoder: &mut Decoder<'_>, end: usize) -> Result<TableMeta, DecodeError> {
    let mut table = TableMeta {
        number: file(decoder, "table number")?,
        file_id: FileId(decoder.u64("file id")?),
        file_bytes: decoder.varint("table length")?,
        smallest: internal_key(decoder, "smallest key")?,
        largest: internal_key(decoder, "largest key")?,
        smallest_seq: seq(decoder, "smallest sequence number")?,
        largest_seq: seq(decoder, "largest sequence number")?,
        entries: decoder.varint("entries")?,
        deletions: decoder.varint("deletions")?,
        created_unix_ms: decoder.varint("creation time")?,
        blobs: Vec::new(),
        ranges: None,
        table_seq: None,
        expiries: None,
    };
    while let Some(field) = Field::next(decoder, end)? {
        match field.tag {
            TABLE_TAG_BLOB => table.blobs.push(BlobUse {
                file: file(decoder, "blob file number")?,
                records: decoder.varint("records")?,
                bytes: decoder.varint("record bytes")?,
            }),
            TABLE_TAG_RANGES => once(&mut table.ranges, decoder, |decoder| {
                Ok(RangeUse {
                    count: decoder.varint("range tombstones")?,
                    begin: decoder.prefixed("begin of range tombstones")?.into(),
                    end: decoder.prefixed("end of range tombstones")?.into(),
                })
            })?,
            TABLE_TAG_SEQ => once(&mut table.table_seq, decoder, |d| seq(d, "table-wide sequence number"))?,
            TABLE_TAG_EXPIRIES => once(&mut table.expiries, decoder, Expiries::decode)?,
            _ => field.skip(decoder)?,
        }
        if decoder.offset() != field.end {
            return Err(decoder.invalid("end of field", field.end as u64));
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests;
