//! Writes a sorted stream into tables: the second half of a compaction, and the whole of a flush.
//!
//! ```text
//! output        |aaaa bbbb cc|dd eeee ffff|gg hhhh|        cut between user keys only,
//! grandparents  |   1   |  2    |   3     |  4  |  5 |     when full, or leaving a grandparent with too many passed
//! ```
//! An output that overlaps few grandparents makes its own next compaction small, and one that ends where a grandparent ends is likely to fit it.

use crate::error::{Cause, CompactionError};
use crate::expiry::Times;
use crate::filter::Filtering;
use crate::iter::{CompactionIter, Counts};
use crate::ranges::Written;
use crate::values::{BlobConfig, Placed, Uses, Values};
use esker_format::{FileId, FileNo, InternalKey, SeqNo};
use esker_iterator::{Fragments, InternalIterator, MergeOperator, RangeTombstones};
use esker_manifest::{BlobMeta, RangeUse, TableMeta};
use esker_sstable::{Builder, BuilderOptions, Codec, Table, TableError};
use esker_vfs::WritableFile;
use std::sync::Arc;

/// After so many entries, or as many bytes times [`CHECK_BYTES_PER_ENTRY`], the job looks whether it should stop.
const CHECK_ENTRIES: u32 = 256;
const CHECK_BYTES_PER_ENTRY: u64 = 1024;

/// Where a job gets its inputs from and puts its outputs: the engine, which knows names, numbers and caches.
pub trait Tables {
    /// Opens an input, or takes it from among the open ones.
    ///
    /// # Errors
    /// Whatever keeps it from being read.
    fn open(&self, table: &TableMeta) -> Result<Arc<Table>, TableError>;

    /// Makes a file for an output: its number, the file, its name in errors, and the random id its checksums will cover.
    ///
    /// # Errors
    /// See [`CompactionError::io`] and [`CompactionError::refused`].
    fn create(&self) -> Result<(FileNo, Box<dyn WritableFile>, String, FileId), CompactionError>;

    /// The time now, in milliseconds since 1970.
    fn created_unix_ms(&self) -> u64;

    /// Told when an output is whole and its bytes are on stable storage; the directory is not synced yet. The place for a rename.
    ///
    /// # Errors
    /// As [`Tables::create`].
    fn finished(&self, number: FileNo) -> Result<(), CompactionError>;
}

/// How a job writes, and who may interrupt it.
#[derive(Clone, Copy)]
pub struct JobConfig<'a> {
    /// All sequence numbers at or below the horizon that a reader may hold, ascending.
    pub snapshots: &'a [SeqNo],
    /// The newest sequence number that is visible when the job starts: readers to come read there or above.
    pub horizon: SeqNo,
    /// When the snapshots were taken, and what time it is.
    pub times: Times<'a>,
    /// How large a table may grow, in bytes. `u64::MAX` for one table, as a flush wants it; outputs in level 0 are never cut.
    pub table_bytes: u64,
    /// How many bytes of grandparents an output may overlap.
    pub grandparent_bytes_max: u64,
    /// How blocks are compressed.
    pub codec: Codec,
    /// The size of blocks before compression, in bytes.
    pub block_size_bytes: usize,
    /// Bits of filter per key; 0 for none.
    pub filter_bits_per_key: u32,
    /// How much of a file is gathered before it is written, in bytes: see [`esker_vfs::PIECE_BYTES`].
    pub piece_bytes: usize,
    /// What is done with large values; `None`: they stay where they are.
    pub blobs: Option<BlobConfig<'a>>,
    /// What merge operands are folded by; `None`: each is kept as it is.
    pub operator: Option<&'a Arc<dyn MergeOperator>>,
    /// Who is asked what is worth keeping, if anybody is.
    pub filter: Option<Filtering<'a>>,
    /// Asked every few hundred entries; `true` ends the job with [`Cause::Stopped`].
    pub should_stop: &'a dyn Fn() -> bool,
    /// Told every few hundred entries how far the job is. It may take its time: that is how a job is slowed down or paused.
    pub on_progress: &'a dyn Fn(Progress),
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Entries read.
    pub entries_in: u64,
    /// Bytes written, nearly: what a builder holds back is estimated.
    pub written_bytes: u64,
}

/// What a job made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The new tables, in key order; their files are synced, their directory entries are not. None if nothing was left to keep.
    pub outputs: Vec<TableMeta>,
    /// Whether the outputs are the inputs: nothing was read or written, and no file is new.
    pub moved: bool,
    /// The new blob files, to which some of the tables refer; as far on stable storage as these.
    pub blobs: Vec<BlobMeta>,
    /// Length of all inputs that were read, and of the values that were moved from other blob files; none of a flush.
    pub read_bytes: u64,
    /// Length of all outputs, blob files included.
    pub written_bytes: u64,
    /// Entries written.
    pub entries_out: u64,
    /// Entries read and left out.
    pub counts: Counts,
}

impl Outcome {
    /// Of a job that read and wrote nothing.
    pub(crate) fn of(outputs: Vec<TableMeta>, moved: bool) -> Self {
        let counts = Counts::default();
        Self { outputs, moved, blobs: Vec::new(), read_bytes: 0, written_bytes: 0, entries_out: 0, counts }
    }
}

/// Writes the entries of `iter` that are needed into new tables. A flush is this over a memtable, with tombstones kept and no grandparents.
///
/// # Errors
/// The tables made so far are named in [`CompactionError::created`]; they are not removed.
pub fn write_tables<I, K>(
    mut iter: CompactionIter<I, K>,
    grandparents: &[Arc<TableMeta>],
    tables: &dyn Tables,
    config: &JobConfig<'_>,
) -> Result<Outcome, CompactionError>
where
    I: InternalIterator,
    I::Error: Into<CompactionError>,
    K: FnMut(&[u8]) -> bool,
{
    iter.set_operator(config.operator.map(Arc::clone));
    let mut writer = Writer::new(grandparents, tables, config, iter.take_written());
    match writer.write_all(&mut iter) {
        Ok(()) => Ok(Outcome {
            moved: false,
            read_bytes: writer.values.read_bytes(),
            written_bytes: writer.written_bytes + writer.values.written_bytes(),
            blobs: writer.values.into_outputs(),
            entries_out: writer.outputs.iter().map(|table| table.entries).sum(),
            outputs: writer.outputs,
            counts: iter.counts(),
        }),
        Err(error) => Err(error.with_created(writer.created)),
    }
}

struct Writer<'a> {
    tables: &'a dyn Tables,
    config: &'a JobConfig<'a>,
    passed: Passed<'a>,
    values: Values<'a>,
    ranges: Written,
    open: Option<Open>,
    outputs: Vec<TableMeta>,
    written_bytes: u64,
    created: Vec<FileNo>,
}

/// A table being written.
struct Open {
    number: FileNo,
    file_id: FileId,
    created_unix_ms: u64,
    builder: Builder,
    uses: Uses,
}

impl<'a> Writer<'a> {
    fn new(
        grandparents: &'a [Arc<TableMeta>],
        tables: &'a dyn Tables,
        config: &'a JobConfig<'a>,
        ranges: Written,
    ) -> Self {
        Self {
            tables,
            config,
            passed: Passed { grandparents, bytes: 0 },
            values: Values::new(config.blobs, config.piece_bytes),
            ranges,
            open: None,
            outputs: Vec::new(),
            written_bytes: 0,
            created: Vec::new(),
        }
    }

    fn write_all<I, K>(&mut self, iter: &mut CompactionIter<I, K>) -> Result<(), CompactionError>
    where
        I: InternalIterator,
        I::Error: Into<CompactionError>,
        K: FnMut(&[u8]) -> bool,
    {
        iter.start().map_err(Into::into)?;
        let mut next_check = u64::from(CHECK_ENTRIES);
        loop {
            let settled = iter.skip_unneeded(CHECK_ENTRIES, self.config.blobs.as_ref()).map_err(Into::into)?;
            if let Some(error) = iter.take_failure() {
                return Err(error);
            }
            let entries_in = iter.counts().entries_in;
            if entries_in >= next_check {
                self.check(entries_in)?;
                next_check = entries_in + u64::from(CHECK_ENTRIES);
            }
            if !settled {
                continue;
            }
            if !iter.valid() {
                self.end()?;
                return self.values.end();
            }
            if let Some(filtering) = self.config.filter
                && !filtering.judge(iter)?
            {
                iter.step().map_err(Into::into)?;
                continue;
            }
            let (key, value) = (iter.key(), iter.value());
            if iter.starts_user_key() && self.should_cut(key.user_key) {
                self.cut()?;
            }
            let open = match &mut self.open {
                Some(open) => open,
                none => {
                    self.passed.bytes = 0;
                    none.insert(Open::create(self.tables, self.config, &mut self.created)?)
                }
            };
            let Placed { kind, stored, reference } = self.values.place(key, value, &mut self.created)?;
            let key = InternalKey::new(key.user_key, key.trailer.seq(), kind);
            open.builder.add(key, stored).map_err(CompactionError::output(open.number))?;
            let moved_bytes = reference.map_or(value.len(), |reference| reference.value_bytes as usize);
            if let Some(reference) = reference {
                open.uses.count(reference);
            }
            // Large values are worth more looks.
            next_check = next_check.saturating_sub(moved_bytes as u64 / CHECK_BYTES_PER_ENTRY);
            iter.step().map_err(Into::into)?;
        }
    }

    fn check(&self, entries_in: u64) -> Result<(), CompactionError> {
        if (self.config.should_stop)() {
            return Err(CompactionError::new(Cause::Stopped));
        }
        let open_bytes = self.open.as_ref().map_or(0, |open| open.builder.estimated_bytes());
        let written_bytes = self.written_bytes + open_bytes + self.values.written_bytes();
        (self.config.on_progress)(Progress { entries_in, written_bytes });
        Ok(())
    }

    /// Whether the open table should end before `user_key`.
    #[inline]
    fn should_cut(&mut self, user_key: &[u8]) -> bool {
        let left_one = self.passed.advance(user_key);
        let Some(open) = &self.open else { return false };
        if self.config.table_bytes == u64::MAX && !left_one {
            return false;
        }
        let bytes = open.builder.estimated_bytes();
        let nearly_full = bytes >= self.config.table_bytes / 4 * 3;
        let heavy = self.passed.bytes > self.config.grandparent_bytes_max;
        bytes >= self.config.table_bytes || left_one && (nearly_full || heavy)
    }

    /// Ends the last table, which takes the range tombstones that are left, if need be alone.
    fn end(&mut self) -> Result<(), CompactionError> {
        let left = self.ranges.take(None);
        match self.open.take() {
            Some(open) => self.finish(open, left),
            None if left.is_empty() => Ok(()),
            None => {
                let open = Open::create(self.tables, self.config, &mut self.created)?;
                self.finish(open, left)
            }
        }
    }

    /// Ends the open table, if there is one, behind its last key.
    fn cut(&mut self) -> Result<(), CompactionError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let ranges = match self.ranges.is_empty() {
            true => Vec::new(),
            false => self.ranges.take(Some(open.builder.last_user_key())),
        };
        self.finish(open, ranges)
    }

    /// Writes out a table, with these layers of range tombstones.
    fn finish(&mut self, open: Open, layers: Vec<Fragments>) -> Result<(), CompactionError> {
        let Open { number, file_id, created_unix_ms, mut builder, uses } = open;
        let ranges = RangeTombstones::new(layers.into_iter().map(Arc::new).collect());
        for layer in ranges.layers() {
            builder.add_range_tombstones(Arc::clone(layer)).map_err(CompactionError::output(number))?;
        }
        let ranges = ranges.hull().map(|(begin, end)| RangeUse {
            count: ranges.len() as u64,
            begin: begin.into(),
            end: end.into(),
        });
        let built = builder.finish().map_err(CompactionError::output(number))?;
        self.tables.finished(number)?;
        let properties = built.properties;
        self.written_bytes += built.file_bytes;
        self.outputs.push(TableMeta {
            number,
            file_id,
            file_bytes: built.file_bytes,
            smallest: properties.smallest,
            largest: properties.largest,
            smallest_seq: properties.smallest_seq,
            largest_seq: properties.largest_seq,
            entries: properties.entries,
            deletions: properties.deletions,
            created_unix_ms,
            blobs: uses.into_list(),
            ranges,
            table_seq: None,
            expiries: properties.expiries,
        });
        Ok(())
    }
}

impl Open {
    fn create(tables: &dyn Tables, config: &JobConfig<'_>, created: &mut Vec<FileNo>) -> Result<Self, CompactionError> {
        let (number, file, name, file_id) = tables.create()?;
        created.push(number);
        let created_unix_ms = tables.created_unix_ms();
        let options = BuilderOptions {
            file_id,
            block_size_bytes: config.block_size_bytes,
            codec: config.codec,
            filter_bits_per_key: config.filter_bits_per_key,
            piece_bytes: config.piece_bytes,
            created_unix_ms,
        };
        let builder = Builder::new(file, &name, options).map_err(CompactionError::output(number))?;
        Ok(Self { number, file_id, created_unix_ms, builder, uses: Uses::default() })
    }
}

/// The grandparents that lie before the current key are passed; those passed since the open table began weigh on it.
struct Passed<'a> {
    /// Those not passed yet.
    grandparents: &'a [Arc<TableMeta>],
    bytes: u64,
}

impl Passed<'_> {
    /// Goes on to `user_key`; whether one was left behind.
    #[inline]
    fn advance(&mut self, user_key: &[u8]) -> bool {
        let before = self.grandparents.len();
        while let Some((first, rest)) = self.grandparents.split_first()
            && *first.largest.user_key < *user_key
        {
            self.bytes = self.bytes.saturating_add(first.file_bytes);
            self.grandparents = rest;
        }
        self.grandparents.len() < before
    }
}
