//! Bytes that change behind an open table, and files of another length than expected: which of it is found, and when.

mod support;

use esker_format::SeqNo;
use esker_sstable::{BlockCache, Codec, Expect, KeyHash, ReadMode, Table, TableError, TableOptions, Verify};
use esker_vfs::{Map, OsVfs, ReadableFile, Vfs};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use support::{Entry, FILE_ID, build_with_ranges, codecs, options, put, read_all, read_all_back, table_options};

/// Those in which all that is used are private copies.
const COPIED: [(ReadMode, Verify); 5] = [
    (ReadMode::Pread, Verify::FirstUse),
    (ReadMode::Pread, Verify::Always),
    (ReadMode::Map, Verify::Always),
    (ReadMode::GuardedMap, Verify::FirstUse),
    (ReadMode::GuardedMap, Verify::Always),
];

/// A file that can be changed while it is open, and that counts what is asked of it besides its length.
#[derive(Debug, Default, Clone)]
struct Changing(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    bytes: Mutex<Vec<u8>>,
    asked: AtomicUsize,
    /// By how much maps are shorter than the file says.
    maps_lack: usize,
}

impl Changing {
    fn of(bytes: &[u8]) -> Self {
        Self(Arc::new(Shared { bytes: Mutex::new(bytes.to_vec()), ..Shared::default() }))
    }

    fn flip(&self, at: usize) {
        self.0.bytes.lock().unwrap()[at] ^= 1 << (at % 8);
    }
}

impl ReadableFile for Changing {
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.0.bytes.lock().unwrap().len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        let bytes = self.0.bytes.lock().unwrap();
        let range = offset as usize..offset as usize + buffer.len();
        buffer.copy_from_slice(bytes.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn map(&self) -> io::Result<Map> {
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        let bytes = self.0.bytes.lock().unwrap();
        Ok(Map::from_bytes(&bytes[..bytes.len() - self.0.maps_lack]))
    }

    fn map_guarded(&self) -> io::Result<Arc<dyn ReadableFile>> {
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        if self.0.maps_lack == 0 {
            return Ok(Arc::new(self.clone()));
        }
        Ok(Arc::new(Self::of(&self.map()?)))
    }
}

fn entries() -> Vec<Entry> {
    (0..30u64).map(|i| put(format!("key{i:02}").as_bytes(), i + 1, &vec![b'v'; 20 + (i % 5) as usize * 9])).collect()
}

/// Of every kind of block at least one.
fn build(codec: Codec) -> Vec<u8> {
    build_with_ranges(&entries(), &["key03..key05#50"], options(200, codec))
}

/// A table in a file, read in place, no block of it in the cache.
fn open_in_place(path: &Path) -> Arc<Table> {
    let options = TableOptions { cache: BlockCache::new(0), ..table_options(ReadMode::Map, Verify::FirstUse) };
    Table::open(OsVfs.open_read(path).unwrap(), "t.sst", options).unwrap()
}

/// Whether all of it can be read, one by one and in order. What can be is right.
fn is_readable(table: &Arc<Table>) -> (bool, bool) {
    let mut all_found = true;
    for (key, value) in &entries() {
        match table.get(&key.user_key, KeyHash::of(&key.user_key), SeqNo::MAX) {
            Ok(found) => assert_eq!(found.expect("it is there").1, value[..]),
            Err(error) => {
                assert!(error.is_corruption(), "{error}");
                all_found = false;
            }
        }
    }
    let walked = read_all(table.iter());
    if let Ok(read) = &walked {
        assert_eq!(*read, entries());
    }
    (all_found, walked.is_ok())
}

/// `Verify::Always`, and whatever reads into copies: what has been read and found right once is checked again whenever it is loaded again.
#[test]
fn what_changes_after_it_was_checked_is_found_at_the_next_load() {
    for codec in codecs() {
        let bytes = build(codec);
        for mode in COPIED {
            let file = Changing::of(&bytes);
            let options = TableOptions { cache: BlockCache::new(0), ..table_options(mode.0, mode.1) };
            let table = Table::open(Arc::new(file.clone()), "t.sst", options).unwrap();
            assert_eq!(is_readable(&table), (true, true));
            table.verify().unwrap();
            for at in 0..bytes.len() {
                file.flip(at);
                // Footer, properties, range tombstones, index and filter were copied when they were first used, and are not loaded again.
                let is_loaded = at as u64 >= table.properties().data_bytes;
                assert_eq!(is_readable(&table), (is_loaded, is_loaded), "{codec:?}, {mode:?}, byte {at}");
                assert!(table.verify().unwrap_err().is_corruption(), "{codec:?}, {mode:?}, byte {at}");
                file.flip(at);
                assert_eq!(is_readable(&table), (true, true), "no failure is remembered");
            }
            table.verify().unwrap();
        }
    }
}

/// A block in the cache is a private copy that was checked: it stays right whatever becomes of the file. Without it, the file is looked at again.
#[test]
fn what_is_in_the_cache_stays_right_and_what_leaves_it_is_checked_again() {
    let bytes = build(Codec::None);
    for mode in COPIED {
        let file = Changing::of(&bytes);
        let cache = BlockCache::new(1 << 20);
        let options = TableOptions { cache: Arc::clone(&cache), ..table_options(mode.0, mode.1) };
        let table = Table::open(Arc::new(file.clone()), "t.sst", options).unwrap();
        assert_eq!(is_readable(&table), (true, true));
        let asked = file.0.asked.load(Ordering::Relaxed);
        (0..bytes.len()).for_each(|at| file.flip(at));
        assert_eq!(is_readable(&table), (true, true), "{mode:?}");
        assert_eq!(file.0.asked.load(Ordering::Relaxed), asked, "nothing is read: all of it is in memory");
        cache.set_capacity(0);
        assert_eq!(is_readable(&table), (false, false), "{mode:?}");
    }
}

/// `Verify::FirstUse` on a real map: whatever changes between opening and the first use is found by it, in each part of the file.
#[test]
fn no_byte_of_a_map_is_used_before_its_checksum() {
    let directory = tempfile::tempdir().unwrap();
    for codec in codecs() {
        let path = directory.path().join(format!("{codec:?}.sst"));
        let bytes = build(codec);
        OsVfs.create_new(&path).unwrap().append(&bytes).unwrap();
        let below = File::options().write(true).open(&path).unwrap();
        let mut found = 0;
        for at in 0..bytes.len() {
            let table = open_in_place(&path);
            assert_eq!(table.mapped_bytes(), bytes.len() as u64);
            below.write_all_at(&[bytes[at] ^ 1 << (at % 8)], at as u64).unwrap();
            let readable = is_readable(&table);
            let is_data = (at as u64) < table.properties().data_bytes;
            assert!(!is_data || readable == (false, false), "{codec:?}, byte {at}: not checked");
            found += usize::from(readable != (true, true));
            assert!(table.verify().unwrap_err().is_corruption(), "{codec:?}, byte {at}");
            below.write_all_at(&bytes[at..=at], at as u64).unwrap();
            assert_eq!(is_readable(&table), (true, true), "{codec:?}, byte {at}: no failure is remembered");
        }
        let table =
            Table::open(OsVfs.open_read(&path).unwrap(), "t.sst", table_options(ReadMode::Map, Verify::FirstUse));
        let properties = table.unwrap().properties().clone();
        // Each byte of data, index and filter; what was read at open has been used by then.
        let used_later = properties.data_bytes + properties.index_bytes + properties.filter_bytes;
        assert_eq!(found as u64, used_later, "{codec:?}");
    }
}

/// Compaction took from a map whatever had been checked once, and gave it a new checksum: what the device had lost meanwhile passed for good ever after.
#[test]
fn who_makes_a_new_table_of_a_map_has_each_block_checked_anew() {
    let directory = tempfile::tempdir().unwrap();
    for codec in codecs() {
        let path = directory.path().join(format!("{codec:?}.sst"));
        let bytes = build(codec);
        OsVfs.create_new(&path).unwrap().append(&bytes).unwrap();
        let below = File::options().write(true).open(&path).unwrap();
        let table = open_in_place(&path);
        // All of it counts as checked.
        table.read_back().unwrap();
        assert_eq!(is_readable(&table), (true, true));
        for at in 0..table.properties().data_bytes as usize {
            below.write_all_at(&[bytes[at] ^ 1 << (at % 8)], at as u64).unwrap();
            assert!(read_all(table.iter_checked()).unwrap_err().is_corruption(), "{codec:?}, byte {at}");
            assert!(read_all_back(table.iter_checked()).unwrap_err().is_corruption(), "{codec:?}, byte {at}");
            below.write_all_at(&bytes[at..=at], at as u64).unwrap();
        }
        assert_eq!(read_all(table.iter_checked()).unwrap(), entries());

        // And where the last block alone was checked.
        let table = open_in_place(&path);
        let last = entries().pop().unwrap().0;
        table.get(&last.user_key, KeyHash::of(&last.user_key), SeqNo::MAX).unwrap().unwrap();
        let at = table.properties().data_bytes as usize - 12;
        below.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
        assert!(read_all_back(table.iter_checked()).unwrap_err().is_corruption(), "{codec:?}");
    }
}

#[test]
fn a_file_of_another_length_is_neither_mapped_nor_read() {
    let bytes = build(Codec::None);
    let open = |file: &Changing, (read_mode, verify), file_bytes: usize| {
        let expect = Expect { file_bytes: file_bytes as u64, file_id: FILE_ID, seq: None };
        let options = TableOptions { expect: Some(expect), ..table_options(read_mode, verify) };
        Table::open(Arc::new(file.clone()), "t.sst", options)
    };
    for mode in COPIED.into_iter().chain([(ReadMode::Map, Verify::FirstUse)]) {
        for len in [0, 1, 127, 128, bytes.len() - 1, bytes.len() + 1, bytes.len() + 4096] {
            let mut other = bytes.clone();
            other.resize(len, 0);
            let file = Changing::of(&other);
            let error = open(&file, mode, bytes.len()).unwrap_err();
            assert!(matches!(error, TableError::Mismatch { what: "file length", .. }), "{mode:?}: {error}");
            assert_eq!(file.0.asked.load(Ordering::Relaxed), 0, "{mode:?}, {len} bytes");
        }
        assert!(open(&Changing::of(&bytes), mode, bytes.len()).is_ok());
    }
    // Cut between the look at its length and the map.
    let shared = Shared { bytes: Mutex::new(bytes.clone()), maps_lack: 1, ..Shared::default() };
    let file = Changing(Arc::new(shared));
    for read_mode in [ReadMode::Map, ReadMode::GuardedMap] {
        let error = open(&file, (read_mode, Verify::FirstUse), bytes.len()).unwrap_err();
        assert!(matches!(error, TableError::Mismatch { what: "mapped length", .. }), "{error}");
    }
}
