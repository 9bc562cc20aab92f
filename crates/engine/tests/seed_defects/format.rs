//! Defects 40 to 54: format and look-up.

use super::*;
use esker::vfs::read_file;
use esker::{ErrorKind, KeyspaceOptions, ReadMode, ReadOptions, Verify, WriteBatch};
use esker_format::{FileId, FileNo, InternalKey, InternalKeyBuf, KEY_BYTES_MAX, SeqNo, ValueKind};
use esker_iterator::{ConcatIterator, InternalIterator, MergingIterator, Run, VecIterator};
use esker_memtable::MemTable;
use esker_sstable::{BlockCache, Builder, BuilderOptions, KeyHash, Table, TableError, TableOptions};
use esker_wal::{
    FILE_HEADER_BYTES, GroupSync, LogHeader, Lsn, RECORD_HEADER_BYTES, Reader, RecordKind, Reserve, Writer,
};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Keys of which only every second one is there.
fn key(i: usize) -> Vec<u8> {
    format!("key{i:05}").into_bytes()
}

fn entry(user_key: &[u8], seq: u64, value: &[u8]) -> (InternalKeyBuf, Vec<u8>) {
    (InternalKey::new(user_key, SeqNo(seq), ValueKind::Put).to_buf(), value.to_vec())
}

/// A table of the keys 0, 2, 4 and so on, `count` of them, in a file of its own.
fn build(count: usize, block_size_bytes: usize) -> Arc<MemVfs> {
    let vfs = MemVfs::new();
    let options = BuilderOptions { file_id: FileId(1), block_size_bytes, ..Default::default() };
    let mut builder = Builder::new(vfs.create_new(Path::new("t.sst")).unwrap(), "t.sst", options).unwrap();
    for i in 0..count {
        let (key, value) = entry(&key(2 * i), 5, format!("{i}").as_bytes());
        builder.add(key.as_ref(), &value).unwrap();
    }
    builder.finish().unwrap();
    vfs
}

fn open_table(vfs: &MemVfs, read_mode: ReadMode, verify: Verify) -> Result<Arc<Table>, TableError> {
    let options = TableOptions { verify, read_mode, cache: BlockCache::new(1 << 20), expect: None };
    Table::open(vfs.open_read(Path::new("t.sst")).unwrap(), "t.sst", options)
}

fn table(count: usize, block_size_bytes: usize) -> Arc<Table> {
    open_table(&build(count, block_size_bytes), ReadMode::Map, Verify::FirstUse).unwrap()
}

/// Looks for keys that are there and keys that are not, by every way there is.
fn look_up_everything(table: &Arc<Table>, count: usize) {
    let mut iter = table.iter();
    for i in 0..2 * count + 1 {
        let (key, there) = (key(i), i % 2 == 0 && i < 2 * count);
        let found = table.get(&key, KeyHash::of(&key), SeqNo(9)).unwrap();
        assert_eq!(found.map(|(_, value)| text(&value)), there.then(|| format!("{}", i / 2)), "key {i}");

        iter.seek(InternalKey::before_all(&key)).unwrap();
        let next = i.div_ceil(2);
        let expected = (next < count).then(|| self::key(2 * next));
        assert_eq!(iter.valid().then(|| iter.key().user_key.to_vec()), expected, "seek {i}");

        iter.seek_for_prev(InternalKey::behind_all(&key)).unwrap();
        let before = (i / 2).min(count - 1);
        assert_eq!(iter.key().user_key, self::key(2 * before), "seek for prev {i}");
    }
}

#[test]
fn d40_a_look_up_finds_the_block() {
    // Look-up began at the first block whose first key is at or behind the target, which skips the one that holds it.
    for block_size_bytes in [64, 100, 300, 800] {
        let table = table(300, block_size_bytes);
        assert!(table.properties().blocks > 2, "{:?}", table.properties());
        look_up_everything(&table, 300);
    }
}

#[test]
fn d41_a_seek_finds_the_place_in_the_block() {
    // A seek within a block went on to the next restart point, past the entry sought.
    let table = table(300, 1 << 20);
    assert_eq!(table.properties().blocks, 1);
    look_up_everything(&table, 300);
}

/// Every key once, in order, forward and backward.
fn walk(iter: &mut impl InternalIterator<Error: std::fmt::Debug>, count: usize) {
    let expected: Vec<_> = (0..count).map(|i| key(2 * i)).collect();
    for _ in 0..2 {
        let mut seen = Vec::new();
        iter.seek_to_first().unwrap();
        while iter.valid() {
            seen.push(iter.key().user_key.to_vec());
            iter.next().unwrap();
        }
        assert_eq!(seen, expected);
        let mut seen = Vec::new();
        iter.seek_to_last().unwrap();
        while iter.valid() {
            seen.insert(0, iter.key().user_key.to_vec());
            iter.prev().unwrap();
        }
        assert_eq!(seen, expected);
    }
}

#[test]
fn d42_the_first_entry_comes_once() {
    // After seek-to-first the first entry came twice.
    for count in [1, 2, 50] {
        let memtable = Arc::new(MemTable::new());
        for i in 0..count {
            let (key, value) = entry(&key(2 * i), 5, b"v");
            memtable.insert(key.as_ref(), &value);
        }
        walk(&mut memtable.iter(), count);
        for block_size_bytes in [64, 1 << 20] {
            walk(&mut table(count, block_size_bytes).iter(), count);
        }
        let parts =
            [0, 1].map(|part| (part..count).step_by(2).map(|i| entry(&key(2 * i), 5, b"v")).collect::<Vec<_>>());
        walk(&mut MergingIterator::new(parts.map(VecIterator::new).into()), count);
    }
}

#[test]
fn d43_the_empty_key_is_a_key() {
    // An empty key ended the iteration, so a table that began with one looked empty.
    let memory = MemVfs::new();
    let engine = open(&memory);
    for key in ["", "a", "b"] {
        engine.put(key, "1").unwrap();
    }
    let check = |engine: &Engine, when: &str| {
        assert_eq!(scan(engine), ["=1", "a=1", "b=1"], "{when}");
        assert_eq!((get(engine, "").as_deref(), engine.range(.."a").count()), (Some("1"), 1), "{when}");
        let mut cursor = engine.cursor();
        cursor.seek("").unwrap();
        assert_eq!(cursor.key(), b"", "{when}");
        cursor.seek_for_prev("").unwrap();
        assert_eq!(cursor.key(), b"", "{when}");
        cursor.next().unwrap();
        assert_eq!(cursor.key(), b"a", "{when}");
    };
    check(&engine, "in the memtable");
    check(&open(&killed(&memory)), "from the log");
    engine.flush().unwrap();
    check(&engine, "in a table");
    engine.delete("").unwrap();
    engine.flush().unwrap();
    assert_eq!(scan(&engine), ["a=1", "b=1"]);
    engine.compact_range(..).unwrap();
    drop(engine);
    assert_eq!(scan(&open(&memory)), ["a=1", "b=1"]);
}

#[test]
fn d44_long_keys_are_refused_and_never_cut_short() {
    // Lengths were kept in 16 bits: a longer key was cut short without a word.
    let memory = MemVfs::new();
    let engine = open(&memory);
    let long = |last: u8| [vec![b'k'; KEY_BYTES_MAX - 1], vec![last]].concat();
    engine.put(long(b'a'), "a").unwrap();
    engine.put(long(b'b'), "b").unwrap();
    let seq = engine.snapshot().seq();
    for bytes in [KEY_BYTES_MAX + 1, KEY_BYTES_MAX + 2, 2 * KEY_BYTES_MAX, 1 << 20] {
        let key = vec![b'k'; bytes];
        let error = engine.put(&key, "1").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains(&bytes.to_string()), "{error}");
        assert_eq!(engine.delete(&key).unwrap_err().kind(), ErrorKind::InvalidArgument);
        let mut batch = WriteBatch::new();
        batch.put("fine", "1").put(&key, "1");
        assert_eq!(engine.write(&batch).unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert_eq!(engine.get(&key).unwrap(), None, "what can't be there is not there");
    }
    let check = |engine: &Engine| {
        assert_eq!(engine.iter().count(), 2);
        assert_eq!(engine.get(long(b'a')).unwrap().unwrap(), b"a");
        assert_eq!(engine.get(long(b'b')).unwrap().unwrap(), b"b");
        assert_eq!(engine.get(long(b'c')).unwrap(), None);
        assert_eq!(engine.range(long(b'b')..).count(), 1);
    };
    check(&engine);
    assert_eq!(engine.snapshot().seq(), seq, "nothing of it took a sequence number");
    check(&open(&killed(&memory)));
    engine.compact_range(..).unwrap();
    check(&engine);
    drop(engine);
    check(&open(&memory));
}

#[test]
fn d45_next_on_a_fresh_iterator_returns() {
    // `next` on a fresh iterator called itself under a lock it held, and never came back.
    within(Duration::from_secs(10), || {
        let engine = open(&MemVfs::new());
        engine.put("k", "1").unwrap();
        engine.flush().unwrap();
        engine.put("l", "1").unwrap();
        let mut cursor = engine.cursor();
        for _ in 0..3 {
            cursor.next().unwrap();
            assert!(!cursor.valid(), "only a seek places it");
            cursor.prev().unwrap();
            assert!(!cursor.valid());
        }
        cursor.seek_to_first().unwrap();
        assert_eq!(cursor.key(), b"k");

        // Below, where a caller must know better, it is a panic, and leaves the iterator as it was.
        let mut iter = table(10, 64).iter();
        assert!(catch_unwind(AssertUnwindSafe(|| iter.next())).is_err());
        iter.seek_to_first().unwrap();
        assert_eq!(iter.key().user_key, key(0));
    });
}

#[test]
fn d46_a_scan_shows_corruption() {
    // A block that could not be read ended a scan as if there were no more.
    for (read_mode, verify) in [
        (ReadMode::Map, Verify::FirstUse),
        (ReadMode::Map, Verify::Always),
        (ReadMode::Pread, Verify::FirstUse),
        (ReadMode::Pread, Verify::Always),
    ] {
        let memory = MemVfs::new();
        let options = Options { read_mode, verify, ..small() };
        let engine = try_open(&memory, options.clone()).unwrap();
        for i in 0..1000 {
            engine.put(format!("{i:05}"), [b'v'; 100]).unwrap();
        }
        engine.close().unwrap();
        let table = Path::new(DIR).join(&names(&memory, ".sst")[0]);
        memory
            .edit(&table, |bytes| {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            })
            .unwrap();

        let engine = try_open(&memory, options).unwrap();
        for back in [false, true] {
            let items: Vec<_> = if back { engine.iter().rev().collect() } else { engine.iter().collect() };
            let (error, read) = items.split_last().unwrap();
            assert_eq!(error.as_ref().unwrap_err().kind(), ErrorKind::Corruption, "the scan ends with the error");
            assert!(read.iter().all(Result::is_ok) && (100..900).contains(&read.len()), "{} read", read.len());
        }
        let mut cursor = engine.cursor();
        cursor.seek_to_first().unwrap();
        let error = loop {
            match cursor.next() {
                Ok(()) => assert!(cursor.valid(), "it looks like the end"),
                Err(error) => break error,
            }
        };
        assert_eq!((error.kind(), cursor.valid()), (ErrorKind::Corruption, false));
        assert!(error.to_string().contains(".sst"), "it names the file: {error}");
        assert_eq!(cursor.next().unwrap_err().kind(), ErrorKind::Corruption, "it sticks");
        cursor.seek_to_last().unwrap();
        assert_eq!(cursor.key(), b"00999", "what is whole is served");
    }
}

#[test]
fn d47_checksums_cover_lengths_and_kinds() {
    // Checksums covered the bytes but neither their length nor what they were: a put could be read back as a delete.
    let vfs = MemVfs::new();
    let group = GroupSync::new(Lsn::ZERO);
    let header = LogHeader { file_id: FileId(7), number: FileNo(1), start: Lsn::ZERO, durable: Lsn::ZERO };
    let mut log = Writer::create(&*vfs, Path::new("1.wal"), header, &group).unwrap();
    let payloads = [&b"first, of some length"[..], b"second"];
    for payload in payloads {
        log.append(RecordKind::Data, &[payload], Reserve::Keep).unwrap();
    }
    log.push().unwrap();
    let first = FILE_HEADER_BYTES..FILE_HEADER_BYTES + RECORD_HEADER_BYTES + payloads[0].len();
    for bit in first.start * 8..first.end * 8 {
        let damaged = vfs.crash_now(CrashPolicy::All);
        damaged.edit(Path::new("1.wal"), |bytes| bytes[bit / 8] ^= 1 << (bit % 8)).unwrap();
        let mut reader = Reader::open(damaged.open_read(Path::new("1.wal")).unwrap(), "1.wal").unwrap();
        assert!(reader.next().unwrap().is_none(), "bit {bit} of the log is wrong, and the record passes");
    }

    let vfs = build(40, 128);
    let good = read_file(&*vfs, Path::new("t.sst"), 1 << 20).unwrap();
    let read = |vfs: &MemVfs| -> Result<Vec<(InternalKeyBuf, Vec<u8>)>, TableError> {
        let mut iter = open_table(vfs, ReadMode::Map, Verify::FirstUse)?.iter();
        let mut entries = Vec::new();
        iter.seek_to_first()?;
        while iter.valid() {
            entries.push((iter.key().to_buf(), iter.value().to_vec()));
            iter.next()?;
        }
        Ok(entries)
    };
    let expected = read(&vfs).unwrap();
    let mut unnoticed = 0;
    for at in 0..good.len() {
        let bit = 1 << (at % 8);
        vfs.edit(Path::new("t.sst"), |bytes| bytes[at] ^= bit).unwrap();
        match read(&vfs) {
            Ok(entries) => {
                assert!(entries == expected, "byte {at} of the table is wrong, and so is what is read");
                unnoticed += 1;
            }
            Err(error) => assert!(error.is_corruption() || error.is_unsupported(), "byte {at}: {error}"),
        }
        vfs.edit(Path::new("t.sst"), |bytes| bytes[at] ^= bit).unwrap();
    }
    // A scan reads no filter, and padding holds nothing.
    assert!(unnoticed < good.len() / 4, "{unnoticed} of {} bytes may be wrong", good.len());
}

#[test]
fn d48_a_batch_comes_back_from_the_log() {
    // A batch's header read back as corrupt, and its operations were lost at replay.
    // Appended, so that the last write is the record.
    let memory = MemVfs::new().with_maps(false);
    let engine = open(&memory);
    let users = engine.keyspace("users", KeyspaceOptions::default()).unwrap();
    engine.put("gone", "0").unwrap();
    for operations in [1, 2, 127, 128, 300] {
        let mut batch = WriteBatch::new();
        for i in 0..operations {
            batch.put(format!("{operations:03}.{i:03}"), format!("{i}")).put_in(&users, format!("{i:03}"), "");
        }
        batch.delete("gone").put("twice", "1").put("twice", format!("{operations}"));
        engine.write(&batch).unwrap();
    }
    let before = scan(&engine);
    assert_eq!(before.len(), 1 + 2 + 127 + 128 + 300 + 1);
    let again = open(&killed(&memory));
    assert_eq!(scan(&again), before);
    assert_eq!((get(&again, "gone"), get(&again, "twice").as_deref()), (None, Some("300")));
    assert_eq!(again.keyspace("users", KeyspaceOptions::default()).unwrap().iter().count(), 300);

    // Torn anywhere, it is not there at all.
    let mut batch = WriteBatch::new();
    batch.put("torn", "1").put_in(&users, "torn", "1").delete("twice");
    engine.write(&batch).unwrap();
    for keep_bytes in 0..40 {
        let torn = open(&Arc::new(memory.crash_now(CrashPolicy::Torn { keep_bytes })));
        assert_eq!(scan(&torn), before, "{keep_bytes} bytes kept");
        assert_eq!(torn.keyspace("users", KeyspaceOptions::default()).unwrap().get("torn").unwrap(), None);
    }
}

/// Tables of one level, as if each were opened anew.
struct Level(Vec<Vec<(InternalKeyBuf, Vec<u8>)>>);

impl Run for Level {
    type Iter = VecIterator;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn smallest(&self, i: usize) -> InternalKey<'_> {
        self.0[i][0].0.as_ref()
    }

    fn largest(&self, i: usize) -> InternalKey<'_> {
        self.0[i].last().unwrap().0.as_ref()
    }

    fn open(&self, i: usize) -> Result<VecIterator, std::convert::Infallible> {
        Ok(VecIterator::new(self.0[i].clone()))
    }
}

#[test]
fn d49_a_scan_shows_the_newest_of_each_key_in_order() {
    // The iterator that chained memtables and tables showed stale versions, every version, tombstones, and keys out of order.
    let tables = (0..10).map(|t| (t * 10..t * 10 + 10).map(|i| entry(&key(2 * i), 5, b"v")).collect()).collect();
    walk(&mut ConcatIterator::new(Level(tables)), 100);

    let memory = MemVfs::new();
    let engine = open(&memory);
    let mut model = BTreeMap::new();
    let mut dice = 1u64;
    for i in 0..4000 {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let key = format!("{:03}", (dice >> 33) % 400);
        if dice >> 40 & 3 == 0 {
            engine.delete(&key).unwrap();
            model.remove(&key);
        } else {
            engine.put(&key, i.to_string()).unwrap();
            model.insert(key, i.to_string());
        }
        match i % 500 {
            499 => engine.flush().unwrap(),
            _ if i == 1800 => engine.compact_range(..).unwrap(),
            _ if i == 2900 => work(&engine),
            _ => {}
        }
    }
    engine.put("000", "newest, in the memtable").unwrap();
    model.insert("000".into(), "newest, in the memtable".into());
    let levels = engine.metrics().keyspaces[0].levels.iter().filter(|level| level.tables > 0).count();
    assert!(levels >= 2 && engine.metrics().keyspaces[0].active_entries > 0, "{:?}", engine.metrics());
    let expected: Vec<_> = model.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(scan(&engine), expected);
    for from in (0..400).step_by(7).map(|i| format!("{i:03}")) {
        let found = engine.range(&from..).next().map(|item| text(&item.unwrap().0));
        assert_eq!(found, model.range(from.clone()..).next().map(|(key, _)| key.clone()));
        let found = engine.range(..&from).next_back().map(|item| text(&item.unwrap().0));
        assert_eq!(found, model.range(..from).next_back().map(|(key, _)| key.clone()));
    }
}

#[test]
fn d50_merging_needs_no_child_and_breaks_ties() {
    // Merging panicked where a child was missing, and of two equal entries it showed either.
    type Children = Vec<VecIterator>;
    for children in
        [Children::new(), vec![VecIterator::new(vec![])], (0..5).map(|_| VecIterator::new(vec![])).collect()]
    {
        let mut none = MergingIterator::new(children);
        none.seek_to_first().unwrap();
        assert!(!none.valid());
        none.seek_to_last().unwrap();
        none.seek(InternalKey::before_all(b"k")).unwrap();
        none.seek_for_prev(InternalKey::behind_all(b"k")).unwrap();
        assert!(!none.valid());
    }
    for newer in 0..4 {
        // The same version in all children from `newer` on; some others are empty.
        let child = |i: usize| {
            let entries = if i >= newer { vec![entry(b"k", 7, &[i as u8])] } else { vec![] };
            VecIterator::new(entries)
        };
        let mut merged = MergingIterator::new((0..6).map(child).collect());
        merged.seek_to_first().unwrap();
        assert_eq!(merged.value(), [newer as u8], "the newest child's comes first");
        merged.seek(InternalKey::before_all(b"k")).unwrap();
        let mut order = Vec::new();
        while merged.valid() {
            order.push(merged.value()[0] as usize);
            merged.next().unwrap();
        }
        assert_eq!(order, (newer..6).collect::<Vec<_>>());
        merged.seek_to_last().unwrap();
        assert_eq!(merged.value(), [5], "and last going back");
    }
    // An engine with nothing in it, too.
    let engine = open(&MemVfs::new());
    assert_eq!(scan(&engine), [""; 0]);
}

#[test]
fn d51_bounds_need_not_be_keys() {
    // Seek-to-last within bounds worked only if the end was itself a key, and a seek past the end left the old position valid.
    for in_table in [false, true] {
        let engine = open(&MemVfs::new());
        for key in ["b", "d", "f", "h"] {
            engine.put(key, "1").unwrap();
        }
        if in_table {
            engine.flush().unwrap();
        }
        for (lower, upper, first, last) in [
            (Bound::Included("b"), Bound::Excluded("f"), "b", "d"),
            (Bound::Included("a"), Bound::Excluded("e"), "b", "d"),
            (Bound::Excluded("b"), Bound::Included("f"), "d", "f"),
            (Bound::Excluded("c"), Bound::Included("g"), "d", "f"),
            (Bound::Unbounded, Bound::Excluded("z"), "b", "h"),
            (Bound::Included("g"), Bound::Unbounded, "h", "h"),
        ] {
            let owned = |bound: Bound<&str>| bound.map(|key| key.as_bytes().to_vec());
            let options = ReadOptions { lower: owned(lower), upper: owned(upper) };
            let mut cursor = engine.cursor_with(options);
            cursor.seek_to_last().unwrap();
            assert_eq!(text(cursor.key()), last, "{lower:?} {upper:?}");
            cursor.next().unwrap();
            assert!(!cursor.valid(), "it stepped over its end");
            cursor.seek_to_first().unwrap();
            assert_eq!(text(cursor.key()), first, "{lower:?} {upper:?}");
            for past in ["zz", "zzz"] {
                cursor.seek("d").unwrap();
                cursor.seek(past).unwrap();
                assert!(!cursor.valid(), "past the end it stands nowhere");
            }
            cursor.seek_for_prev("zz").unwrap();
            assert_eq!(text(cursor.key()), last, "{lower:?} {upper:?}");
            cursor.seek_for_prev("").unwrap();
            assert!(!cursor.valid(), "before the start it stands nowhere");
            let range = || engine.range((lower, upper));
            assert_eq!(text(&range().next_back().unwrap().unwrap().0), last);
            assert_eq!(text(&range().next().unwrap().unwrap().0), first);
        }
        let empty = |from: &str, to: &str| engine.range(from..to).next_back().is_none();
        assert!(empty("bb", "c") && empty("i", "z") && empty("f", "b") && empty("d", "d"));
    }
}

#[test]
fn d52_a_directory_can_be_moved() {
    // The manifest held absolute paths, so a moved directory did not open; and two formats bore one name and were taken for each other.
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("where-it-was"), dir.path().join("elsewhere").join("moved"));
    let engine = Engine::open(&from).unwrap();
    engine.put("table", "1").unwrap();
    engine.flush().unwrap();
    engine.put("log", "1").unwrap();
    engine.sync().unwrap();
    let not_closed = engine;
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    copy_dir(&from, &to);
    drop(not_closed);
    for entry in std::fs::read_dir(&to).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(12).any(|bytes| bytes == b"where-it-was"), "{} knows where it was", path.display());
    }
    std::fs::remove_dir_all(&from).unwrap();
    let engine = Engine::open(&to).unwrap();
    assert_eq!(scan(&engine), ["log=1", "table=1"]);
    drop(engine);
    let again = dir.path().join("again");
    std::fs::rename(&to, &again).unwrap();
    assert_eq!(scan(&Engine::open(&again).unwrap()), ["log=1", "table=1"]);

    // What is no manifest is refused, even where it is framed like one.
    let memory = MemVfs::new();
    let engine = open(&memory);
    engine.put("k", "1").unwrap();
    let log = read_file(&*memory, &Path::new(DIR).join(&names(&memory, ".wal")[0]), 1 << 30).unwrap();
    let manifest = names(&memory, "").into_iter().find(|name| name.starts_with("MANIFEST-")).unwrap();
    let left = memory.crash_now(CrashPolicy::All);
    for other in [log, b"{\"tables\": []}".to_vec(), vec![], vec![0; 4096]] {
        let left = Arc::new(left.crash_now(CrashPolicy::All));
        left.edit(&Path::new(DIR).join(&manifest), |bytes| *bytes = other.clone()).unwrap();
        let error = try_open(&left, small()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
        assert!(error.to_string().contains(&manifest), "{error}");
    }
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn d53_a_bad_table_does_not_keep_the_engine_from_opening() {
    // One table that could not be opened failed the whole open, and there was no repair.
    let memory = MemVfs::new();
    let engine = open(&memory);
    for prefix in ["a", "b", "c"] {
        for i in 0..50 {
            engine.put(format!("{prefix}{i:02}"), "1").unwrap();
        }
        engine.flush().unwrap();
    }
    engine.close().unwrap();
    drop(engine);
    let path = Path::new(DIR).join(&names(&memory, ".sst")[1]);
    let good = read_file(&*memory, &path, 1 << 20).unwrap();
    type Damage = fn(&mut Vec<u8>);
    let damages: [Damage; 4] = [
        |bytes| bytes.truncate(100),
        |bytes| bytes.clear(),
        |bytes| bytes.iter_mut().rev().take(40).for_each(|byte| *byte ^= 0x55),
        |bytes| bytes.fill(0),
    ];
    let bad = |engine: &Engine| {
        assert_eq!(engine.metrics().quarantined_tables.len(), 1);
        assert_eq!(engine.get("b10").unwrap_err().kind(), ErrorKind::Corruption);
        assert_eq!(engine.iter().last().unwrap().unwrap_err().kind(), ErrorKind::Corruption, "a scan does not skip it");
        for prefix in ["a", "c"] {
            assert_eq!(engine.get(format!("{prefix}10")).unwrap().unwrap(), b"1");
            assert_eq!(engine.prefix(prefix).map(Result::unwrap).count(), 50, "other ranges are served");
        }
        let report = engine.verify().unwrap();
        assert_eq!((report.damaged.len(), report.is_ok()), (1, false));
    };
    for damage in damages {
        memory.edit(&path, damage).unwrap();
        let engine = open(&memory);
        bad(&engine);
        engine.put("d", "1").unwrap();
        engine.flush().unwrap();
        work(&engine);
        bad(&engine);
        engine.close().unwrap();
        assert!(memory.metadata(&path).is_ok(), "it is kept");
    }
    memory.remove_file(&path).unwrap();
    let engine = open(&memory);
    bad(&engine);
    drop(engine);
    // Put back from a copy, it is as if nothing had been.
    memory.create_new(&path).unwrap().append(&good).unwrap();
    let engine = open(&memory);
    assert!(engine.verify().unwrap().is_ok());
    assert_eq!(scan(&engine).len(), 151);
    assert_eq!(engine.metrics().quarantined_tables, [0; 0]);
}

#[test]
fn d54_saving_the_manifest_never_deadlocks() {
    // Saving the manifest took a read lock twice; with a writer between the two it waited for itself.
    let memory = MemVfs::new().with_clock(Arc::new(SystemClock::new()));
    let engine = open_with_threads(&memory);
    within(Duration::from_secs(60), move || {
        let tasks: [fn(&Engine, u32); 5] = [
            |engine, round| {
                let name = format!("keyspace{round}");
                engine.keyspace(&name, KeyspaceOptions::default()).unwrap().put("k", "v").unwrap();
                engine.drop_keyspace(&name).unwrap();
            },
            |engine, round| {
                (0..50).for_each(|i| engine.put(format!("{round}.{i}"), [b'v'; 100]).unwrap());
                engine.flush().unwrap();
            },
            |engine, _| engine.compact_range(..).unwrap(),
            |engine, _| {
                engine.metrics();
                engine.keyspaces();
                engine.iter().count();
                engine.snapshot();
            },
            |engine, round| engine.checkpoint(format!("copy{round}")).unwrap(),
        ];
        let threads: Vec<_> = tasks
            .into_iter()
            .map(|task| {
                let engine = engine.clone();
                std::thread::spawn(move || (0..30).for_each(|round| task(&engine, round)))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        engine.close().unwrap();
    });
    assert_eq!(scan(&open(&memory)).len(), 30 * 50);
}
