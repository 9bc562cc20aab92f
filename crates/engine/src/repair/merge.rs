//! One keyspace out of all its sources: what each key has in the end.
//!
//! ```text
//! tables ─┐                       ┌─ hidden by a range tombstone, or older than a value or tombstone: left out
//!  logs  ─┴─> merged, newest first ┼─ the same version twice: once
//!                                  └─ operands, down to a value; a value from a blob file ─> new table, new blob file
//! ```
//! No snapshot outlives the engine that took it, and all that there is of a keyspace comes by here. So of each key only what a reader of now sees is written, and no tombstones: nothing is left that
//! they could hide. The tables lie in the lowest level, one beside the other.

use super::{Loss, Repair, newer};
use crate::error::{Error, Result};
use crate::options::Options;
use esker_blob::{Access, BlobFile, BlobRef};
use esker_format::{FileId, FileKind, FileNo, InternalKey, KeyspaceId, SeqNo, Trailer, ValueKind, split_expiry};
use esker_iterator::{Fragments, MergingIterator, RangeTombstoneBuf};
use esker_manifest::{BlobMeta, BlobUse, Level, TableMeta};
use esker_sstable::{Builder, BuilderOptions, Codec, InternalIterator, Table};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A table is ended when it is this long, in bytes, and so is its blob file.
const TABLE_BYTES: u64 = 64 << 20;

/// What [`Repair::merge`] has made.
#[derive(Default)]
pub(super) struct Merged {
    pub(super) tables: Vec<TableMeta>,
    pub(super) blobs: Vec<BlobMeta>,
    pub(super) keys: u64,
    pub(super) operands: u64,
}

/// A version of the key at hand, with its value out of the blob file if it lay there.
struct Kept {
    trailer: Trailer,
    value: Vec<u8>,
}

/// What is seen of the key at hand.
#[derive(Default)]
struct Seen {
    /// Versions below this one are hidden by a range tombstone.
    hidden_below: SeqNo,
    /// Operands, the newest first, and then perhaps a value.
    kept: Vec<Kept>,
    /// Nothing older is seen.
    is_done: bool,
    /// The value can't be read: which file is to blame, and why.
    failed: Option<(String, String)>,
}

struct Open {
    builder: Builder,
    number: FileNo,
    file_id: FileId,
    blob: Option<(esker_blob::Writer, FileNo, FileId)>,
}

impl Repair<'_> {
    /// Writes what the sources hold of a keyspace.
    pub(super) fn merge(
        &mut self,
        id: KeyspaceId,
        name: &str,
        sources: &[Arc<Table>],
        ranges: &[RangeTombstoneBuf],
    ) -> Result<Merged> {
        let of_tables = sources.iter().filter_map(|table| table.range_tombstones()).flat_map(|ranges| ranges.iter());
        let ranges = Fragments::cut(of_tables.chain(ranges.iter().map(RangeTombstoneBuf::as_ref)));
        let mut iter = MergingIterator::new(sources.iter().map(|table| table.iter_once()).collect());
        let mut out = Merged::default();
        let mut open: Option<Open> = None;
        let mut lost: BTreeMap<String, Loss> = BTreeMap::new();
        let mut user_key = Vec::new();
        iter.seek_to_first()?;
        while iter.valid() {
            user_key.clear();
            user_key.extend_from_slice(iter.key().user_key);
            let hidden_below = ranges.covering(&user_key).unwrap_or(SeqNo::ZERO);
            // Down to the first version that is no operand; then nothing older is seen.
            let mut seen = Seen { hidden_below, ..Seen::default() };
            let mut group: Vec<(Trailer, Vec<u8>)> = Vec::new();
            loop {
                let is_same = iter.valid() && iter.key().user_key == user_key;
                let next = is_same.then(|| iter.key().trailer);
                if group.first().is_some_and(|(trailer, _)| next.map(Trailer::seq) != Some(trailer.seq())) {
                    self.settle(&mut seen, std::mem::take(&mut group));
                }
                let Some(trailer) = next else { break };
                if !seen.is_done {
                    group.push((trailer, iter.value().to_vec()));
                }
                iter.next()?;
            }
            let Seen { kept, failed, .. } = seen;
            if let Some((file, why)) = failed {
                // An older value would be a wrong answer, and operands without what they change too.
                let loss = lost.entry(file.clone()).or_insert_with(|| Loss {
                    file,
                    what: format!("values that can't be read, the first: {why}"),
                    keyspace: Some(name.to_owned()),
                    first: Some(user_key.clone()),
                    ..Loss::default()
                });
                loss.last = Some(user_key.clone());
                loss.records = Some(loss.records.unwrap_or(0) + 1);
                continue;
            }
            if kept.is_empty() {
                continue;
            }
            out.keys += 1;
            if open.as_ref().is_some_and(Open::is_full) {
                self.finish(open.take(), &mut out)?;
            }
            for Kept { trailer, value } in kept {
                out.operands += u64::from(trailer.kind() == ValueKind::Merge);
                if open.is_none() {
                    open = Some(self.begin(id)?);
                }
                let table = open.as_mut().expect("just begun");
                let stored = match trailer.kind() {
                    ValueKind::Blob => self.keep_apart(table, &[], &value)?,
                    ValueKind::ExpiringBlob => self.keep_apart(table, &value[..8], &value[8..])?,
                    _ => value,
                };
                table.builder.add(InternalKey { user_key: &user_key, trailer }, &stored)?;
            }
        }
        self.finish(open, &mut out)?;
        self.report.losses.extend(lost.into_values());
        Ok(out)
    }

    /// Decides what a reader sees of one version of a key, of which sources may hold several forms: as it was written, and as compaction has left it.
    fn settle(&mut self, seen: &mut Seen, forms: Vec<(Trailer, Vec<u8>)>) {
        let Some(&(trailer, _)) = forms.first() else { return };
        let kinds = || forms.iter().map(|(trailer, _)| trailer.kind());
        // A tombstone beside a value is what is left of it when it has expired or was filtered; a value beside an operand is what that and all below were folded into.
        if trailer.seq() < seen.hidden_below || kinds().any(|kind| kind == ValueKind::Delete) {
            seen.is_done = true;
            return;
        }
        if kinds().all(|kind| kind == ValueKind::Merge) {
            seen.kept.extend(forms.into_iter().next().map(|(trailer, value)| Kept { trailer, value }));
            return;
        }
        seen.is_done = true;
        for (trailer, stored) in forms.iter().filter(|(trailer, _)| trailer.kind() != ValueKind::Merge) {
            match self.value(trailer.kind(), stored) {
                Ok(value) => {
                    seen.kept.push(Kept { trailer: *trailer, value });
                    seen.failed = None;
                    return;
                }
                Err(why) => seen.failed = Some(why),
            }
        }
    }

    /// What an entry of this kind stands for: its value, with the expiry time before it if it has one. Else which file is to blame, and why.
    fn value(&mut self, kind: ValueKind, stored: &[u8]) -> Result<Vec<u8>, (String, String)> {
        let damaged = |why: String| ("a table".to_owned(), why);
        let (time, stored) = match kind.expires() {
            true => split_expiry(stored)
                .map(|_| stored.split_at(8))
                .ok_or_else(|| damaged("an expiry time cut short".into()))?,
            false => (&[][..], stored),
        };
        if !matches!(kind, ValueKind::Blob | ValueKind::ExpiringBlob) {
            return Ok([time, stored].concat());
        }
        let reference = BlobRef::decode(stored).map_err(|error| damaged(error.to_string()))?;
        let name = FileKind::Blob(reference.file).name();
        let file = self.blob_file(reference.file).map_err(|why| (name.clone(), why))?;
        let value = file.get_checked(reference).map_err(|error| (name, error.to_string()))?;
        self.report.blob_records += 1;
        Ok([time, &value].concat())
    }

    /// Looks at all blob files that may be needed.
    pub(super) fn refuse_newer_blob_files(&self) -> Result<()> {
        for kind in &self.kinds {
            let FileKind::Blob(number) = kind else { continue };
            if self.report.exact && !self.facts.blobs.contains_key(number) {
                continue;
            }
            let Ok(file) = self.vfs.open_read(&kind.path(self.from)) else { continue };
            match BlobFile::open(file, &kind.name(), Access::Copied, None) {
                Err(error) if error.is_unsupported() => return Err(newer(&error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// A blob file of the damaged directory, whole or not.
    fn blob_file(&mut self, number: FileNo) -> Result<Arc<BlobFile>, String> {
        if let Some(known) = self.blobs.get(&number) {
            return known.clone();
        }
        let told = self.facts.blobs.get(&number).map(|(_, meta)| meta.file_id);
        let open = |kind: FileKind| match self.vfs.open_read(&kind.path(self.from)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err("it is missing".to_owned()),
            Err(error) => Err(error.to_string()),
            Ok(file) => BlobFile::open_damaged(file, &kind.name(), number, told).map_err(|error| error.to_string()),
        };
        let is_named_so = |file: FileNo| {
            let opened = self.vfs.open_read(&FileKind::Blob(file).path(self.from)).ok();
            opened.and_then(|file| esker_blob::number_of(&*file)) == Some(number)
        };
        let opened = open(FileKind::Blob(number)).or_else(|why| {
            // It may have been given another name.
            let others =
                self.kinds.iter().filter_map(|kind| if let FileKind::Blob(file) = kind { Some(*file) } else { None });
            let other = others.filter(|file| *file != number).find(|file| is_named_so(*file));
            other.map_or(Err(why.clone()), |file| open(FileKind::Blob(file)).map_err(|_| why))
        });
        self.blobs.insert(number, opened.clone());
        opened
    }

    fn begin(&mut self, id: KeyspaceId) -> Result<Open> {
        let (number, file_id) = (self.new_number(), FileId(self.vfs.random()));
        let options = crate::options_text::parse_keyspace(self.facts.keyspaces.get(&id).map_or("", |(_, text)| text));
        let defaults = BuilderOptions::default();
        let options = options.unwrap_or_default();
        let mut builder_options = BuilderOptions {
            file_id,
            block_size_bytes: options.block_size_bytes.unwrap_or(defaults.block_size_bytes),
            filter_bits_per_key: options.filter_bits_per_key.unwrap_or(defaults.filter_bits_per_key),
            codec: options.compression.unwrap_or(Options::default().compression[Level::BOTTOM.index()]),
            created_unix_ms: self.now_ms,
            ..defaults
        };
        if !builder_options.codec.is_available() {
            builder_options.codec = Codec::None;
        }
        Ok(Open { builder: self.builder(number, builder_options)?, number, file_id, blob: None })
    }

    /// A new table in the new directory.
    pub(super) fn builder(&self, number: FileNo, options: BuilderOptions) -> Result<Builder> {
        let kind = FileKind::Table(number);
        let path = kind.path(self.to);
        let file = self.vfs.create_new(&path).map_err(|error| Error::io("create", &path, error))?;
        Ok(Builder::new(file, &kind.name(), options)?)
    }

    /// Writes a large value beside the table; what the entry holds then.
    fn keep_apart(&mut self, table: &mut Open, time: &[u8], value: &[u8]) -> Result<Vec<u8>> {
        if table.blob.is_none() {
            let (number, file_id) = (self.new_number(), FileId(self.vfs.random()));
            let kind = FileKind::Blob(number);
            let path = kind.path(self.to);
            let file = self.vfs.create_new(&path).map_err(|error| Error::io("create", &path, error))?;
            table.blob = Some((esker_blob::Writer::new(file, &kind.name(), number, file_id), number, file_id));
        }
        let (writer, ..) = table.blob.as_mut().expect("just begun");
        let mut stored = time.to_vec();
        writer.add(value)?.encode_into(&mut stored);
        Ok(stored)
    }

    fn finish(&mut self, open: Option<Open>, out: &mut Merged) -> Result<()> {
        let Some(Open { builder, number, file_id, blob }) = open else { return Ok(()) };
        let mut uses = Vec::new();
        if let Some((writer, file, file_id)) = blob {
            let built = writer.finish()?;
            let esker_blob::Built { file_bytes, records, record_bytes } = built;
            uses.push(BlobUse { file, records, bytes: record_bytes });
            out.blobs.push(BlobMeta { number: file, file_id, file_bytes, records, record_bytes });
        }
        let built = builder.finish()?;
        let properties = built.properties;
        out.tables.push(TableMeta {
            number,
            file_id,
            file_bytes: built.file_bytes,
            smallest: properties.smallest,
            largest: properties.largest,
            smallest_seq: properties.smallest_seq,
            largest_seq: properties.largest_seq,
            entries: properties.entries,
            deletions: properties.deletions,
            created_unix_ms: properties.created_unix_ms,
            blobs: uses,
            ranges: None,
            table_seq: None,
            expiries: properties.expiries,
        });
        Ok(())
    }
}

impl Open {
    fn is_full(&self) -> bool {
        let apart = self.blob.as_ref().map_or(0, |(writer, ..)| writer.file_bytes());
        self.builder.estimated_bytes() >= TABLE_BYTES || apart >= TABLE_BYTES
    }
}
