//! The ways in which a store is damaged.

use crate::store::{DIR, File, Store};
use esker::vfs::{MemVfs, Vfs, replace_file};
use esker_format::FileId;
use esker_format::checksum::Crc;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// So far behind the last byte that is not zero are bits flipped and files lengthened.
const BEHIND_BYTES: usize = 40;
const SECTOR_BYTES: usize = 512;

/// One damage; files are numbers.
pub(crate) enum Damage {
    Bit {
        file: usize,
        bit: usize,
    },
    Length {
        file: usize,
        len: usize,
    },
    /// The two change places, whatever lies between.
    Blocks {
        file: usize,
        first: Range<usize>,
        second: Range<usize>,
    },
    Missing {
        file: usize,
    },
    Stale {
        file: usize,
        nth: usize,
    },
    Swapped {
        file: usize,
        other: usize,
    },
}

/// All damages of a store.
pub(crate) fn damages(store: &Store) -> Vec<Damage> {
    let mut all = Vec::new();
    for (file, of) in store.files.iter().enumerate() {
        let behind = of.bytes.len() + BEHIND_BYTES;
        all.extend((0..behind * 8).map(|bit| Damage::Bit { file, bit }));
        all.extend((0..behind).filter(|len| *len != of.bytes.len()).map(|len| Damage::Length { file, len }));
        let sectors = (0..of.bytes.len() / SECTOR_BYTES).map(|nth| nth * SECTOR_BYTES..(nth + 1) * SECTOR_BYTES);
        for blocks in [blocks(store, of), sectors.collect()] {
            for (nth, second) in blocks.iter().enumerate() {
                let swap = |first: &Range<usize>| Damage::Blocks { file, first: first.clone(), second: second.clone() };
                all.extend(blocks[..nth].iter().map(swap));
            }
        }
        all.push(Damage::Missing { file });
        all.extend((0..of.stale.len()).map(|nth| Damage::Stale { file, nth }));
        all.extend((0..file).map(|other| Damage::Swapped { file, other }));
    }
    all
}

/// Blocks of a table, records of a log or blob file.
fn blocks(store: &Store, file: &File) -> Vec<Range<usize>> {
    let vfs = store.copy();
    let open = || vfs.open_read(&file.path).unwrap();
    match file.kind() {
        "wal" | "MANIFEST" => {
            let Ok(mut reader) = esker_wal::Reader::open(open(), "log") else { return Vec::new() };
            let start = reader.header().start;
            let mut records = Vec::new();
            while let Some(record) = reader.next().unwrap() {
                records.push((record.position.0 - start.0) as usize..(record.end.0 - start.0) as usize);
            }
            records
        }
        "sst" => {
            let (file_id, _) = esker_sstable::told_file_id(open(), "table").expect("it has a footer");
            table_blocks(&file.bytes, file_id)
        }
        "blob" => {
            let blobs = esker_blob::BlobFile::open(open(), "blobs", esker_blob::Access::Copied, None).unwrap();
            let records = blobs.records().map(|record| record.unwrap().0);
            records.map(|at| at.offset as usize..(at.offset + at.record_bytes()) as usize).collect()
        }
        _ => Vec::new(),
    }
}

/// They are not told apart by anything but their checksums, which cover all that comes before in the block; see docs/format/sstable.md.
fn table_blocks(bytes: &[u8], file_id: FileId) -> Vec<Range<usize>> {
    let mut blocks = Vec::new();
    let mut begin = 0;
    while begin < bytes.len() {
        let mut crc = Crc::new().u64(file_id.0).u64(begin as u64);
        let ends = (begin + 1..=bytes.len() - 4).find(|&end| {
            crc = crc.bytes(&bytes[end - 1..end]);
            crc.finish().to_le_bytes() == bytes[end..end + 4]
        });
        let Some(end) = ends else { break };
        blocks.push(begin..end + 4);
        begin = end + 4;
    }
    blocks
}

impl Damage {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Bit { .. } => "bit",
            Self::Length { .. } => "length",
            Self::Blocks { .. } => "blocks",
            Self::Missing { .. } => "missing",
            Self::Stale { .. } => "stale",
            Self::Swapped { .. } => "swapped",
        }
    }

    /// To be told of when it fails.
    pub(crate) fn text(&self, store: &Store) -> String {
        let name = |file: &usize| store.files[*file].path.display().to_string();
        match self {
            Self::Bit { file, bit } => format!("{}: bit {} of byte {} flipped", name(file), bit % 8, bit / 8),
            Self::Length { file, len } => format!("{}: {len} bytes long", name(file)),
            Self::Blocks { file, first, second } => format!("{}: {first:?} and {second:?} swapped", name(file)),
            Self::Missing { file } => format!("{}: missing", name(file)),
            Self::Stale { file, nth } => format!("{}: as it was before, {nth}", name(file)),
            Self::Swapped { file, other } => format!("{} and {} swapped", name(file), name(other)),
        }
    }

    pub(crate) fn apply(&self, store: &Store, vfs: &Arc<MemVfs>) {
        let path = |file: usize| &*store.files[file].path;
        let edit = |file, change: &dyn Fn(&mut Vec<u8>)| vfs.edit(path(file), |bytes| change(bytes)).unwrap();
        match self {
            Self::Bit { file, bit } => edit(*file, &|bytes| {
                let at = bit / 8;
                if at >= bytes.len() {
                    bytes.resize(at + 1, 0);
                }
                bytes[at] ^= 1 << (bit % 8);
            }),
            Self::Length { file, len } => edit(*file, &|bytes| bytes.resize(*len, 0)),
            Self::Blocks { file, first, second } => edit(*file, &|bytes| {
                let parts = [second.clone(), first.end..second.start, first.clone()];
                let swapped = parts.map(|part| &bytes[part]).concat();
                bytes[first.start..second.end].copy_from_slice(&swapped);
            }),
            Self::Missing { file } => vfs.remove_file(path(*file)).unwrap(),
            Self::Stale { file, nth } => {
                replace_file(&**vfs, path(*file), &store.files[*file].stale[*nth]).unwrap();
            }
            Self::Swapped { file, other } => {
                let between = Path::new(DIR).join("between");
                for (from, to) in [(path(*file), &*between), (path(*other), path(*file)), (&between, path(*other))] {
                    vfs.rename(from, to).unwrap();
                }
            }
        }
    }

    /// The oldest state that may be found: an earlier one than the last only where the newest log is damaged, behind what was vouched for, or so that what vouches is gone too.
    pub(crate) fn oldest(&self, store: &Store) -> usize {
        let (at, cuts) = match self {
            Self::Bit { file, bit } => ((*file, bit / 8), false),
            Self::Length { file, len } => ((*file, *len), true),
            Self::Blocks { file, first, .. } => ((*file, first.start), true),
            Self::Missing { file } | Self::Stale { file, .. } => ((*file, 0), true),
            Self::Swapped { other, .. } if store.newest_log() == Some(*other) => ((*other, 0), true),
            Self::Swapped { file, .. } => ((*file, 0), true),
        };
        if store.newest_log() != Some(at.0) {
            return store.last();
        }
        match cuts {
            _ if at.1 >= vouched_bytes(store, at.0) => store.vouched,
            true => store.flushed,
            false => store.last(),
        }
    }
}

/// The end of the last record that some later record vouches for, in bytes of the log.
fn vouched_bytes(store: &Store, log: usize) -> usize {
    let vfs = store.copy();
    let mut reader = esker_wal::Reader::open(vfs.open_read(&store.files[log].path).unwrap(), "log").unwrap();
    while reader.next().unwrap().is_some() {}
    (reader.end().unwrap().vouched.0 - reader.header().start.0) as usize
}
