//! Tables: whole files, and files of which one part is the data and the others are right.
//!
//! ```text
//! | data blocks | filter | index | range tombstones | properties | footer |      `with_index` puts the data in the place of the third, and so on
//! ```

use crate::bytes::Bytes;
use crate::sign::{COMPRESSED, TABLE_FOOTER_BYTES, TRAILER_BYTES, block, table, u32_at, u64_at};
use esker_format::{FileId, InternalKey, InternalKeyBuf, KeyHash, SeqNo, ValueKind, varint};
use esker_iterator::{Bounds, Fragments, Lend, RangeTombstone, VecIterator, VisibleIterator, Way};
use esker_sstable::{
    BlockCache, Builder, BuilderOptions, Codec, InternalIterator, ReadMode, Table, TableError, TableIter, TableOptions,
    Verify,
};
use esker_vfs::{MemVfs, Vfs, read_file};
use std::hash::{DefaultHasher, Hasher};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

const FILE_ID: u64 = 0x0123_4567_89ab_cdef;

/// How tables can be read.
const MODES: [(ReadMode, Verify); 3] =
    [(ReadMode::Map, Verify::FirstUse), (ReadMode::Pread, Verify::FirstUse), (ReadMode::Map, Verify::Always)];

/// Small, so that it does not count as memory that a table takes.
pub(crate) const CACHE_BYTES: u64 = 4 << 10;

/// A longer list of entries is not made.
const LISTED_BYTES_MAX: usize = 16 << 10;

/// What a walk saw: how many entries, a hash of all, and the last.
pub(crate) type Walked = (u64, u64, Option<InternalKeyBuf>);

/// Reads a table in every mode; all of them say the same. One that passes its verification is found whole by every way of reading it.
pub(crate) fn attack(bytes: Vec<u8>) {
    // An entry takes at least one byte of a payload, of which LZ4 has up to 255 for each that is stored.
    let steps_max = 256 * bytes.len() as u64;
    let file = Bytes::new(bytes);
    let mut seen = Vec::new();
    for (read_mode, verify) in MODES {
        let options = TableOptions { verify, read_mode, cache: BlockCache::new(CACHE_BYTES), expect: None };
        seen.push(Table::open(file.clone(), "t.sst", options).ok().map(|table| ask(&table, steps_max)));
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "modes that differ: {seen:?}");
}

/// Asks all there is to ask of a table.
fn ask(table: &Arc<Table>, steps_max: u64) -> (Option<Walked>, Option<Walked>, bool) {
    let is_whole = table.verify().is_ok();
    assert!(!is_whole || table.read_back().is_ok(), "verified, and not to be read back");
    let forward = walk(table.iter(), true, steps_max).ok();
    let back = walk(table.iter_once(), false, steps_max).ok();
    if is_whole {
        let entries = table.properties().entries;
        let counts = [&forward, &back].map(|walked| walked.as_ref().map(|(count, hash, _)| (*count, *hash)));
        assert!(counts[0].is_some_and(|(count, _)| count == entries) && counts[0] == counts[1], "{counts:?}");
        look(table);
    }
    let mut iter = table.iter();
    let mut at_all = iter.seek_to_first();
    let mut n = 0;
    while at_all.is_ok() && iter.valid() && n < 64 {
        let key = iter.key().to_buf();
        let found = look_up(table, key.as_ref());
        if is_whole {
            assert!(found.is_ok_and(|found| found.is_some()), "verified, and {key:?} not found");
        }
        n += 1;
        at_all = iter.next();
    }
    for user_key in [&b""[..], b"k", b"key05", b"key050", b"zzzz", &[0xff; 9]] {
        let _ = look_up(table, InternalKey::seek(user_key, SeqNo::MAX));
        let _ = table.share_before(InternalKey::before_all(user_key));
        for target in [InternalKey::before_all(user_key), InternalKey::behind_all(user_key)] {
            if iter.seek(target).is_ok() && iter.valid() {
                assert!(!is_whole || iter.key() >= target);
                let _ = (iter.value().len(), iter.prev());
            }
            if iter.seek_for_prev(target).is_ok() && iter.valid() {
                assert!(!is_whole || iter.key() <= target);
                let _ = (iter.value_slice(), iter.next());
            }
        }
        if let Some(ranges) = table.range_tombstones() {
            let _ = ranges.heap_bytes();
        }
    }
    (forward, back, is_whole)
}

/// A reader sees in a table, which lends whole blocks, what it sees in a list of the same entries, either way and from the middle.
fn look(table: &Arc<Table>) {
    let Some(entries) = listed(table) else { return };
    let middle = entries.get(entries.len() / 2).map(|(key, _)| key.clone());
    let seqs = middle.iter().map(|key| key.trailer.seq()).chain([SeqNo::MAX]);
    for (seq, way) in seqs.flat_map(|seq| [(seq, Way::Forward), (seq, Way::Backward)]) {
        for from in [None, middle.as_ref().map(|key| &key.user_key[..])] {
            let of_table = seen(table.iter(), seq, way, from).expect("verified");
            let of_list =
                seen(VecIterator::new(entries.clone()), seq, way, from).unwrap_or_else(|never| match never {});
            assert!(of_table == of_list, "verified, and seen at {seq}, {way:?}: {of_table:?} and not {of_list:?}");
        }
    }
}

/// The entries, if they are few.
fn listed(table: &Arc<Table>) -> Option<Vec<(InternalKeyBuf, Vec<u8>)>> {
    let (mut iter, mut entries, mut left) = (table.iter(), Vec::new(), LISTED_BYTES_MAX);
    iter.seek_to_first().expect("verified");
    while iter.valid() {
        let (key, value) = (iter.key(), iter.value());
        left = left.checked_sub(64 + key.user_key.len() + value.len())?;
        entries.push((key.to_buf(), value.to_vec()));
        iter.next().expect("verified");
    }
    Some(entries)
}

/// What a reader sees on its way, as a hash of each entry.
fn seen<I: Lend>(iter: I, seq: SeqNo, way: Way, from: Option<&[u8]>) -> Result<Vec<u64>, I::Error> {
    let (mut reader, mut seen) = (VisibleIterator::new(iter, seq, Bounds::default()), Vec::new());
    match (way, from) {
        (Way::Forward, None) => reader.seek_to_first()?,
        (Way::Backward, None) => reader.seek_to_last()?,
        (Way::Forward, Some(key)) => reader.seek(key)?,
        (Way::Backward, Some(key)) => reader.seek_for_prev(key)?,
    }
    while reader.valid() {
        seen.push(digest(InternalKey { user_key: reader.key(), trailer: reader.trailer() }, reader.value()));
        if way == Way::Forward { reader.next()? } else { reader.prev()? }
    }
    Ok(seen)
}

fn look_up(table: &Table, key: InternalKey<'_>) -> Result<Option<usize>, TableError> {
    let found = table.get(key.user_key, KeyHash::of(key.user_key), key.trailer.seq())?;
    Ok(found.map(|(trailer, value)| trailer.kind() as usize + value.len()))
}

/// A number that stands for an entry.
pub(crate) fn digest(key: InternalKey<'_>, value: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(key.user_key);
    hasher.write_u64(key.trailer.to_bits());
    hasher.write(value);
    hasher.finish()
}

/// Goes over all entries, either way. The hash is the same for both.
pub(crate) fn walk(mut iter: TableIter, is_forward: bool, steps_max: u64) -> Result<Walked, TableError> {
    let (mut count, mut sum, mut last) = (0, 0u64, None);
    if is_forward {
        iter.seek_to_first()?
    } else {
        iter.seek_to_last()?
    }
    while iter.valid() {
        let key = iter.key();
        sum = sum.wrapping_add(digest(key, iter.value()));
        last = Some(key.to_buf());
        count += 1;
        assert!(count <= steps_max, "a walk without end");
        if is_forward { iter.next()? } else { iter.prev()? }
    }
    Ok((count, sum, last))
}

/// A small table with all parts: some blocks, a key whose versions are in two of them, range tombstones.
pub(crate) fn real(codec: Codec, block_size_bytes: usize) -> Vec<u8> {
    built(codec, block_size_bytes, |builder| {
        let mut layer = Fragments::default();
        for (begin, end, seq) in [("a", "key03", 90), ("key05", "key09", 91)] {
            let fits = layer.push(RangeTombstone { begin: begin.as_bytes(), end: end.as_bytes(), seq: SeqNo(seq) });
            assert!(fits, "in order, and apart");
        }
        builder.add_range_tombstones(layer)?;
        for i in 0..16u64 {
            let key = format!("key{i:02}");
            for seq in (1..=if i == 7 { 6 } else { 1 }).rev() {
                let (kind, value) = match i {
                    3 => (ValueKind::Delete, Vec::new()),
                    4 => (ValueKind::Expiring, [7; 12].to_vec()),
                    5 => (ValueKind::Merge, vec![b'm'; 3]),
                    _ => (ValueKind::Put, vec![b'v'; (i % 5) as usize * 9]),
                };
                builder.add(InternalKey::new(key.as_bytes(), SeqNo(seq), kind), &value)?;
            }
        }
        Ok(())
    })
}

/// One that lends its blocks: a value of each key, and nothing else.
pub(crate) fn plain(codec: Codec, block_size_bytes: usize) -> Vec<u8> {
    built(codec, block_size_bytes, |builder| {
        for i in 0..16u64 {
            let key = format!("key{i:02}{}", "x".repeat((i % 4) as usize * 5));
            builder.add(InternalKey::new(key.as_bytes(), SeqNo(1 + i * 5 % 16), ValueKind::Put), &[b'v'; 7])?;
        }
        Ok(())
    })
}

fn built(codec: Codec, block_size_bytes: usize, fill: impl FnOnce(&mut Builder) -> Result<(), TableError>) -> Vec<u8> {
    let (vfs, path) = (MemVfs::new(), Path::new("t.sst"));
    let options = BuilderOptions { file_id: FileId(FILE_ID), block_size_bytes, codec, ..Default::default() };
    let file = vfs.create_new(path).expect("a new file");
    let mut builder = Builder::new(file, "t.sst", options).expect("memory takes it");
    fill(&mut builder).expect("keys in order");
    builder.finish().expect("memory takes it");
    read_file(&*vfs, path, 1 << 20).expect("it is there")
}

/// The parts of a table, without their trailers but for those of data blocks.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) data: Vec<u8>,
    pub(crate) filter: Vec<u8>,
    pub(crate) index: Vec<u8>,
    pub(crate) ranges: Vec<u8>,
    pub(crate) properties: Vec<u8>,
    pub(crate) footer: Vec<u8>,
    /// The first data block, as stored.
    pub(crate) block: Vec<u8>,
}

impl Parts {
    /// Those of a real table.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let footer = bytes.len() - TABLE_FOOTER_BYTES;
        let range = |i: usize| -> Range<usize> {
            let at = u64_at(bytes, footer + 16 * i).expect("a whole footer") as usize;
            at..at + u64_at(bytes, footer + 16 * i + 8).expect("a whole footer") as usize
        };
        let part = |i: usize| bytes[range(i)].to_vec();
        let index = part(1);
        let count = u32_at(&index, 0).expect("a whole index") as usize;
        let first_end = (u64_at(&index, 16 + 8 * count).expect("a whole index") & !COMPRESSED) as usize;
        let data = bytes[..u64_at(&index, 8 + 16 * count).expect("a whole index") as usize].to_vec();
        Self {
            block: data[..first_end - TRAILER_BYTES].to_vec(),
            data,
            filter: part(2),
            index,
            ranges: part(3),
            properties: part(0),
            footer: bytes[footer..].to_vec(),
        }
    }

    /// A table of these parts, its checksums right. Without a filter or range tombstones if their part is empty.
    fn table(self) -> Vec<u8> {
        let mut out = self.data;
        let mut footer = [0; TABLE_FOOTER_BYTES];
        // The order in the file, where the handle stands, and the kind.
        let order = [(self.filter, 2, 3u8), (self.index, 1, 2), (self.ranges, 3, 5), (self.properties, 0, 4)];
        for (payload, handle, kind) in order {
            if payload.is_empty() && (handle == 2 || handle == 3) {
                continue;
            }
            let start = out.len();
            footer[16 * handle..][..8].copy_from_slice(&(start as u64).to_le_bytes());
            footer[16 * handle + 8..][..8].copy_from_slice(&(payload.len() as u64).to_le_bytes());
            out.extend_from_slice(&payload);
            out.push(kind << 4);
            out.extend_from_slice(&[0; 4]);
            let end = out.len();
            block(&mut out, FILE_ID, start, end);
        }
        footer[88..96].copy_from_slice(&FILE_ID.to_le_bytes());
        footer[108] = 1;
        footer[120..].copy_from_slice(b"ESKERSST");
        out.extend_from_slice(&footer);
        table(&out)
    }
}

/// The parts of a table without compression.
fn parts() -> Parts {
    static PARTS: OnceLock<Parts> = OnceLock::new();
    PARTS.get_or_init(|| Parts::of(&real(Codec::None, 160))).clone()
}

/// Properties as an index of `blocks` blocks over `data_bytes` asks for.
fn properties(blocks: u64, data_bytes: u64, ranges: u64) -> Vec<u8> {
    let number = |value: u64| {
        let mut out = Vec::new();
        varint::put(&mut out, value);
        out
    };
    let key = |trailer: u64, user_key: &[u8]| [&trailer.to_le_bytes(), user_key].concat();
    let mut fields = vec![
        (1, b"bytewise".to_vec()),
        (3, FILE_ID.to_le_bytes().to_vec()),
        (5, vec![0]),
        (6, number(u64::from(blocks > 0))),
        (16, number(blocks)),
        (18, number(data_bytes)),
        (28, key(0x101, b"")),
        (30, key(0x101, &[0xff; 9])),
    ];
    fields.extend([8, 10, 12, 14, 20, 22, 24, 26, 32, 34, 36].map(|tag| (tag, number(0))));
    if ranges > 0 {
        fields.push((38, number(ranges)));
    }
    fields.sort();
    let mut out = Vec::new();
    for (tag, bytes) in fields {
        varint::put(&mut out, tag);
        varint::put(&mut out, bytes.len() as u64);
        out.extend(bytes);
    }
    out
}

/// A right table but for its footer's bytes.
pub(crate) fn with_footer(data: &[u8]) -> Vec<u8> {
    let mut bytes = parts().table();
    let footer = bytes.len() - TABLE_FOOTER_BYTES;
    let len = data.len().min(TABLE_FOOTER_BYTES);
    bytes[footer..footer + len].copy_from_slice(&data[..len]);
    table(&bytes)
}

/// A table whose index is the data, and whose properties do not gainsay it.
pub(crate) fn with_index(data: &[u8]) -> Vec<u8> {
    let parts = parts();
    let blocks = u64::from(u32_at(data, 0).unwrap_or(0));
    let properties = properties(blocks, parts.data.len() as u64, 0);
    Parts { index: data.to_vec(), ranges: Vec::new(), properties, ..parts }.table()
}

/// A table of one block, whose payload is the data.
pub(crate) fn with_block(data: &[u8]) -> Vec<u8> {
    one_block(data, 0)
}

/// A table of one block that says it is compressed, and whose stored bytes are the data.
pub(crate) fn with_lz4(data: &[u8]) -> Vec<u8> {
    one_block(data, 1)
}

fn one_block(stored: &[u8], codec: u8) -> Vec<u8> {
    let mut data = stored.to_vec();
    data.push(1 << 4 | codec);
    data.extend([0; 4]);
    let end = data.len();
    block(&mut data, FILE_ID, 0, end);
    let fence = [0xff; 9];
    let mut index = [1u32.to_le_bytes(), 0u32.to_le_bytes()].concat();
    index.extend(u64::MAX.to_le_bytes());
    index.extend((if codec == 0 { 0 } else { COMPRESSED }).to_le_bytes());
    index.extend((end as u64).to_le_bytes());
    index.extend([0u32.to_le_bytes(), (fence.len() as u32).to_le_bytes()].concat());
    index.extend(fence);
    let properties = properties(1, end as u64, 0);
    Parts { data, index, filter: Vec::new(), ranges: Vec::new(), properties, ..parts() }.table()
}

/// A table whose filter is the data, as many whole blocks as there are.
pub(crate) fn with_filter(data: &[u8]) -> Vec<u8> {
    Parts { filter: data.to_vec(), ..parts() }.table()
}

/// A table of nothing but range tombstones, which are the data, and whose properties give the number that it begins with.
pub(crate) fn with_ranges(data: &[u8]) -> Vec<u8> {
    let mut index = [0u8; 8].to_vec();
    index.extend([0; 8 + 4]);
    let count = varint::get(data.get(1..).unwrap_or(&[])).map_or(1, |(count, _)| count.max(1));
    let properties = properties(0, 0, count);
    Parts { data: Vec::new(), index, filter: Vec::new(), ranges: data.to_vec(), properties, ..parts() }.table()
}

/// A table whose properties are the data.
pub(crate) fn with_properties(data: &[u8]) -> Vec<u8> {
    Parts { properties: data.to_vec(), ..parts() }.table()
}
