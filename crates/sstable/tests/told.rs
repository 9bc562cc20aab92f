//! What a table tells of itself: its name, what it holds in memory, what it is in a message; and why it could not be opened.

mod support;

use esker_iterator::InternalIterator;
use esker_sstable::{Codec, KeyHash, ReadMode, Table, TableError, Verify};
use esker_vfs::{Map, Mapped, ReadableFile};
use std::io;
use std::sync::Arc;
use support::{
    Bytes, Entry, MODES, build, build_with_ranges, del, open, options, put, read_all, table_options, try_open,
};

/// A file that can be read, and mapped if there is no error that says why not.
#[derive(Debug)]
struct Mappable(Vec<u8>, Option<io::ErrorKind>);

impl ReadableFile for Mappable {
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        buffer.copy_from_slice(&self.0[offset as usize..][..buffer.len()]);
        Ok(())
    }

    fn map(&self) -> io::Result<Map> {
        self.1.map_or_else(|| Ok(Map::from_bytes(self.0.clone())), |kind| Err(kind.into()))
    }

    fn map_guarded(&self) -> io::Result<Arc<dyn ReadableFile>> {
        self.1
            .map_or_else(|| Ok(Arc::new(Self(self.0.clone(), None)) as Arc<dyn ReadableFile>), |kind| Err(kind.into()))
    }

    fn mapped(&self) -> Mapped {
        Mapped { bytes: 12_288, unreadable_pages: 3 }
    }
}

fn open_file(file: impl ReadableFile + 'static, name: &str, read_mode: ReadMode) -> Result<Arc<Table>, TableError> {
    Table::open(Arc::new(file), name, table_options(read_mode, Verify::FirstUse))
}

fn entries() -> [Entry; 2] {
    [put(b"ant", 9, b"six legs"), del(b"bee", 300)]
}

#[test]
fn a_table_is_shown_with_its_name_entries_and_bounds() {
    let bytes = build(&entries(), options(4096, Codec::None));
    let table = open_file(Bytes(bytes), "000012.sst", ReadMode::Map).unwrap();
    assert_eq!(table.name(), "000012.sst");
    assert_eq!(format!("{table:?}"), "Table(000012.sst: 2 entries, ant#9,PUT to bee#300,DEL)");
}

#[test]
fn an_iterator_is_shown_with_where_it_is_or_why_not() {
    let mut bytes = build(&entries(), options(4096, Codec::None));
    let mut iter = open(&bytes).iter();
    assert_eq!(format!("{iter:?}"), "TableIter(t.sst, not placed, or exhausted)");
    iter.seek_to_first().unwrap();
    assert_eq!(format!("{iter:?}"), "TableIter(t.sst, at ant#9,PUT)");
    iter.seek_to_last().unwrap();
    iter.next().unwrap();
    assert_eq!(format!("{iter:?}"), "TableIter(t.sst, not placed, or exhausted)");
    bytes[30] ^= 1;
    let mut iter = open(&bytes).iter();
    let error = iter.seek_to_first().unwrap_err();
    assert_eq!(format!("{iter:?}"), format!("TableIter(t.sst, failed: {error})"));
}

/// The table itself, both bounds, a bit for each block of a map, range tombstones, and what was copied of the file.
#[test]
fn memory_is_told_to_the_byte() {
    let one_version = |key: &[u8]| put(key, 1, b"v");
    let table = |entries: &[Entry], layers: &[&str], mode| {
        let bytes = build_with_ranges(entries, layers, options(1, Codec::None));
        try_open(&bytes, mode).unwrap()
    };
    let short = [one_version(b"a"), one_version(b"z")];
    let long = [one_version(b"abc"), one_version(&[b'z'; 1000])];
    let ranges = ["c..d#5 e..f#6"];
    for (mode, bits) in [(MODES[0], 8), (MODES[1], 0)] {
        let least = table(&short, &[], mode).heap_bytes();
        assert_eq!(least, size_of::<Table>() + 2 + bits);
        assert_eq!(table(&long, &[], mode).heap_bytes(), least - 2 + 1003);
        let with_ranges = table(&short, &ranges, mode);
        let held = with_ranges.range_tombstones().unwrap().heap_bytes();
        assert!(held > 0);
        assert_eq!(with_ranges.heap_bytes(), least + held);
        let many: Vec<Entry> = (0..129_u8).map(|i| put(&[i], 1, b"")).collect();
        let many = table(&many, &[], mode);
        assert_eq!((many.properties().blocks, many.heap_bytes()), (129, size_of::<Table>() + 2 + 3 * bits));
        read_all(many.iter()).unwrap();
        many.may_contain(KeyHash::of(b"a")).unwrap();
        let trailer = 5;
        let copied = many.properties().index_bytes + many.properties().filter_bytes - 2 * trailer;
        let copied = if bits == 0 { copied as usize } else { 0 };
        assert_eq!(many.heap_bytes(), size_of::<Table>() + 2 + 3 * bits + copied);
    }
}

#[test]
fn what_is_mapped_and_unreadable_is_what_the_guarded_map_says() {
    let bytes = build(&entries(), options(4096, Codec::None));
    let told = |read_mode| {
        let table = open_file(Mappable(bytes.clone(), None), "t.sst", read_mode).unwrap();
        (table.mapped_bytes(), table.unreadable_pages())
    };
    assert_eq!(told(ReadMode::GuardedMap), (12_288, 3));
    assert_eq!(told(ReadMode::Map), (bytes.len() as u64, 0));
}

/// Only where there are no maps the file is read instead: who asked for a map is told why there is none.
#[test]
fn a_map_that_fails_is_an_error() {
    let bytes = build(&entries(), options(4096, Codec::None));
    for read_mode in [ReadMode::Map, ReadMode::GuardedMap] {
        let open = |kind| open_file(Mappable(bytes.clone(), Some(kind)), "t.sst", read_mode);
        assert_eq!(read_all(open(io::ErrorKind::Unsupported).unwrap().iter()).unwrap(), entries());
        let error = open(io::ErrorKind::OutOfMemory).unwrap_err();
        assert!(error.to_string().starts_with("table t.sst: map: "), "{error}");
        assert_eq!(error.io().map(io::Error::kind), Some(io::ErrorKind::OutOfMemory));
    }
}

#[test]
fn what_is_as_long_as_a_footer_is_looked_at_as_one() {
    let refused = |len: usize| try_open(&vec![0; len], MODES[0]).unwrap_err();
    assert!(refused(127).to_string().ends_with("file shorter than a footer: 127, expected 128"), "{}", refused(127));
    assert!(refused(128).to_string().ends_with("footer at 0: no magic: not a table, or cut short"), "{}", refused(128));
}
