//! What the tests of tables share: tables made in memory, and files of given bytes.
#![allow(dead_code, reason = "each test program uses a part")]

use esker_format::{FileId, InternalKey, InternalKeyBuf, SeqNo, ValueKind};
use esker_iterator::{Fragments, InternalIterator, RangeTombstone};
use esker_sstable::{
    BlockCache, Builder, BuilderOptions, Built, Codec, ReadMode, Table, TableError, TableIter, TableOptions, Verify,
};
use esker_vfs::{Map, MemVfs, ReadableFile, Vfs, read_file};
use std::io;
use std::path::Path;
use std::sync::Arc;

pub(crate) type Entry = (InternalKeyBuf, Vec<u8>);

pub(crate) const FILE_ID: FileId = FileId(0x0123_4567_89ab_cdef);

/// The codecs of this build.
pub(crate) fn codecs() -> impl Iterator<Item = Codec> {
    [Codec::None, Codec::Lz4, Codec::Zstd].into_iter().filter(|codec| codec.is_available())
}

/// How tables can be read.
pub(crate) const MODES: [(ReadMode, Verify); 4] = [
    (ReadMode::Map, Verify::FirstUse),
    (ReadMode::Pread, Verify::FirstUse),
    (ReadMode::Map, Verify::Always),
    (ReadMode::GuardedMap, Verify::FirstUse),
];

pub(crate) fn put(user_key: &[u8], seq: u64, value: &[u8]) -> Entry {
    (InternalKey::new(user_key, SeqNo(seq), ValueKind::Put).to_buf(), value.to_vec())
}

pub(crate) fn del(user_key: &[u8], seq: u64) -> Entry {
    (InternalKey::new(user_key, SeqNo(seq), ValueKind::Delete).to_buf(), Vec::new())
}

pub(crate) fn options(block_size_bytes: usize, codec: Codec) -> BuilderOptions {
    BuilderOptions { file_id: FILE_ID, block_size_bytes, codec, ..Default::default() }
}

/// Builds a table of sorted entries: its bytes.
pub(crate) fn try_build(entries: &[Entry], options: BuilderOptions) -> Result<(Vec<u8>, Built), TableError> {
    let (vfs, path) = (MemVfs::new(), Path::new("t.sst"));
    let mut builder = Builder::new(vfs.create_new(path).unwrap(), "t.sst", options)?;
    for (key, value) in entries {
        builder.add(key.as_ref(), value)?;
    }
    let built = builder.finish()?;
    Ok((read_file(&*vfs, path, u64::MAX).unwrap(), built))
}

/// Range tombstones that lie apart, from `begin..end#seq` with blanks between.
pub(crate) fn layer(text: &str) -> Fragments {
    let mut layer = Fragments::default();
    for tombstone in text.split_whitespace() {
        let (range, seq) = tombstone.split_once('#').unwrap();
        let (begin, end) = range.split_once("..").unwrap();
        let seq = SeqNo(seq.parse().unwrap());
        assert!(layer.push(RangeTombstone { begin: begin.as_bytes(), end: end.as_bytes(), seq }), "{tombstone}");
    }
    layer
}

/// Builds a table of sorted entries and layers of range tombstones, the newest first: its bytes.
pub(crate) fn build_with_ranges(entries: &[Entry], layers: &[&str], options: BuilderOptions) -> Vec<u8> {
    let (vfs, path) = (MemVfs::new(), Path::new("t.sst"));
    let mut builder = Builder::new(vfs.create_new(path).unwrap(), "t.sst", options).unwrap();
    layers.iter().for_each(|text| builder.add_range_tombstones(layer(text)).unwrap());
    entries.iter().for_each(|(key, value)| builder.add(key.as_ref(), value).unwrap());
    builder.finish().unwrap();
    read_file(&*vfs, path, u64::MAX).unwrap()
}

pub(crate) fn build(entries: &[Entry], options: BuilderOptions) -> Vec<u8> {
    try_build(entries, options).unwrap().0
}

/// A file of these bytes.
#[derive(Debug)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl ReadableFile for Bytes {
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let range = offset as usize..offset as usize + buffer.len();
        buffer.copy_from_slice(self.0.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn map(&self) -> io::Result<Map> {
        Ok(Map::from_bytes(self.0.clone()))
    }

    fn map_guarded(&self) -> io::Result<Arc<dyn ReadableFile>> {
        Ok(Arc::new(Self(self.0.clone())))
    }
}

pub(crate) fn table_options(read_mode: ReadMode, verify: Verify) -> TableOptions {
    TableOptions { verify, read_mode, cache: BlockCache::new(1 << 20), expect: None }
}

pub(crate) fn try_open(bytes: &[u8], (read_mode, verify): (ReadMode, Verify)) -> Result<Arc<Table>, TableError> {
    Table::open(Arc::new(Bytes(bytes.to_vec())), "t.sst", table_options(read_mode, verify))
}

pub(crate) fn open(bytes: &[u8]) -> Arc<Table> {
    try_open(bytes, MODES[0]).unwrap()
}

/// All entries, forward.
pub(crate) fn read_all(mut iter: TableIter) -> Result<Vec<Entry>, TableError> {
    let mut entries = Vec::new();
    iter.seek_to_first()?;
    while iter.valid() {
        entries.push((iter.key().to_buf(), iter.value().to_vec()));
        iter.next()?;
    }
    Ok(entries)
}

/// All entries, backward, put in order.
pub(crate) fn read_all_back(mut iter: TableIter) -> Result<Vec<Entry>, TableError> {
    let mut entries = Vec::new();
    iter.seek_to_last()?;
    while iter.valid() {
        entries.push((iter.key().to_buf(), iter.value().to_vec()));
        iter.prev()?;
    }
    entries.reverse();
    Ok(entries)
}
