//! Tables whose bytes are not those that were written: an error, or the right answer; never a panic, a hang, or a large allocation.

mod support;

use esker_format::checksum::{Crc, crc32c};
use esker_format::{FileId, InternalKey, SeqNo};
use esker_iterator::{Bounds, InternalIterator, VisibleIterator};
use esker_sstable::{
    Codec, Expect, KeyHash, ReadMode, Salvage, Table, TableError, TableIter, TableOptions, Verify, salvage,
};
use esker_vfs::{Fault, FaultVfs, MemVfs, Operation, OsVfs, Rule, Vfs};
use proptest::prelude::*;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use support::{
    Bytes, Entry, FILE_ID, MODES, build, build_with_ranges, codecs, del, options, put, read_all, read_all_back,
    table_options, try_open,
};

const FOOTER_BYTES: usize = 128;

/// Several small blocks: a key whose versions are in two of them, a tombstone, uneven lengths.
fn entries() -> Vec<Entry> {
    let mut entries: Vec<Entry> =
        (0..24u64).map(|i| put(format!("key{i:02}").as_bytes(), i + 1, &vec![b'v'; (i % 5) as usize * 9])).collect();
    entries.extend((1..6).map(|seq| put(b"key11", seq, b"an older version")));
    entries.push(del(b"key07", 99));
    entries.sort();
    entries
}

/// One version of each key, all of them values.
fn single() -> Vec<Entry> {
    (0..24u64).map(|i| put(format!("key{i:02}").as_bytes(), i + 1, &vec![b'v'; (i % 5) as usize * 9])).collect()
}

/// All that can be asked of a table. `None` for what failed.
fn ask(bytes: &[u8], entries: &[Entry], mode: (ReadMode, Verify)) -> Result<(), TableError> {
    let table = try_open(bytes, mode)?;
    let mut failed = None;
    let mut note = |result: Result<bool, TableError>| match result {
        Ok(right) => assert!(right, "a wrong answer"),
        Err(error) => {
            assert!(error.is_corruption() || error.is_unsupported(), "{error}");
            failed = Some(error);
        }
    };
    note(read_all(table.iter()).map(|read| read == entries));
    note(read_all_back(table.iter()).map(|read| read == entries));
    for (key, value) in entries {
        let found = table.get(&key.user_key, KeyHash::of(&key.user_key), key.trailer.seq());
        note(found.map(|found| found.is_some_and(|(trailer, found)| trailer == key.trailer && found == value[..])));
    }
    for absent in [&b"key"[..], b"key110", b"zzz", b""] {
        note(table.get(absent, KeyHash::of(absent), SeqNo::MAX).map(|found| found.is_none()));
    }
    let verified = table.verify();
    match failed {
        Some(error) => {
            assert!(verified.is_err(), "reading failed, so must verifying: {error}");
            Err(error)
        }
        None => verified.map(drop),
    }
}

/// Entries and a table of them: without range tombstones, with some, and of such alone.
fn tables(codec: Codec) -> Vec<(Vec<Entry>, Vec<u8>)> {
    let layers = ["a..key03#90 key05..key09#91", "key02..key11#40 x..zz#30"];
    vec![
        (entries(), build(&entries(), options(200, codec))),
        (entries(), build_with_ranges(&entries(), &layers, options(200, codec))),
        (Vec::new(), build_with_ranges(&[], &layers, options(200, codec))),
        (single(), build(&single(), options(200, codec))),
    ]
}

#[test]
fn any_byte_flipped_is_an_error_or_harmless() {
    for (entries, bytes) in codecs().flat_map(tables) {
        assert!(ask(&bytes, &entries, MODES[0]).is_ok());
        MODES.iter().for_each(|mode| try_open(&bytes, *mode).unwrap().read_back().unwrap());
        let (blocks, footer) = (blocks(&bytes), bytes.len() - FOOTER_BYTES);
        for at in 0..bytes.len() {
            let is_checked = at >= footer || blocks.iter().any(|block| block.contains(&at));
            for flip in [0x01, 0x80, 0xff] {
                let mut bad = bytes.clone();
                bad[at] ^= flip;
                for mode in MODES {
                    let error = ask(&bad, &entries, mode).expect_err("verify sees every byte");
                    assert!(error.is_corruption() || error.is_unsupported(), "byte {at}: {error}");
                    let read_back = try_open(&bad, mode).and_then(|table| table.read_back());
                    assert!(read_back.is_err() || !is_checked, "byte {at} was read back as right");
                }
            }
        }
    }
}

#[test]
fn any_truncation_and_any_extension_is_an_error() {
    for (_, bytes) in codecs().flat_map(tables) {
        for len in 0..bytes.len() {
            for mode in MODES {
                assert!(try_open(&bytes[..len], mode).unwrap_err().is_corruption(), "cut to {len}");
            }
        }
        for extra in [1, 64, FOOTER_BYTES] {
            let long = [&bytes[..], &vec![0; extra]].concat();
            assert!(try_open(&long, MODES[0]).unwrap_err().is_corruption());
            let twice = [&bytes[..], &bytes[bytes.len() - extra..]].concat();
            assert!(try_open(&twice, MODES[0]).unwrap_err().is_corruption());
        }
    }
}

/// Where every block is, with its trailer: from the footer and the index, as the format page says.
fn blocks(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let footer = bytes.len() - FOOTER_BYTES;
    let handle = |at: usize| u64_at(at)..u64_at(at) + u64_at(at + 8) + 5;
    let index = handle(footer + 16);
    let n = u32::from_le_bytes(bytes[index.start..index.start + 4].try_into().unwrap()) as usize;
    let offset = |i: usize| u64_at(index.start + 8 + 8 * n + 8 * i) & usize::MAX >> 1;
    let data = (0..n).map(|i| offset(i)..offset(i + 1));
    let optional = [32, 48].map(|at| handle(footer + at)).into_iter().filter(|block| block.len() > 5);
    data.chain([handle(footer), index.clone()]).chain(optional).collect()
}

/// Makes every checksum right again.
fn sign(bytes: &mut [u8], blocks: &[std::ops::Range<usize>]) {
    let footer = bytes.len() - FOOTER_BYTES;
    let checksum = crc32c(&bytes[footer..footer + 116]);
    bytes[footer + 116..footer + 120].copy_from_slice(&checksum.to_le_bytes());
    let file_id = u64::from_le_bytes(bytes[footer + 88..footer + 96].try_into().unwrap());
    for block in blocks {
        let end = block.end - 4;
        let checksum = Crc::new().u64(file_id).u64(block.start as u64).bytes(&bytes[block.start..end]).finish();
        bytes[end..block.end].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// What is left of a table: in order, whatever the bytes say.
fn left_of(bytes: &[u8], file_id: Option<FileId>) -> Result<(Vec<Entry>, Salvage), TableError> {
    let mut left: Vec<Entry> = Vec::new();
    let mut each = |key: InternalKey<'_>, value: &[u8]| left.push((key.to_buf(), value.to_vec()));
    let salvaged = salvage(Arc::new(Bytes(bytes.to_vec())), "t.sst", file_id, None, &mut each)?;
    assert!(left.is_sorted_by(|a, b| a.0 < b.0));
    assert_eq!(left.len() as u64, salvaged.entries);
    Ok((left, salvaged))
}

/// A flipped byte costs one block at most, wherever it lies: the index that says where the blocks are is needed only where one is damaged too.
#[test]
fn what_is_left_of_a_table_is_all_but_the_block_that_was_hit() {
    for codec in codecs() {
        for (entries, bytes) in tables(codec) {
            let ranges = left_of(&bytes, None).unwrap().1.ranges;
            for at in 0..bytes.len() {
                let mut bad = bytes.clone();
                bad[at] ^= 0x40;
                let (left, salvaged) = left_of(&bad, None).unwrap();
                assert!(left.iter().all(|entry| entries.contains(entry)), "byte {at}");
                let hit = salvaged
                    .skipped
                    .iter()
                    .any(|skipped| (skipped.offset..skipped.offset + skipped.bytes).contains(&(at as u64)));
                assert!(hit || left == entries, "byte {at}: {} of {} left", left.len(), entries.len());
                assert!(
                    salvaged.ranges == ranges || salvaged.ranges_lost,
                    "byte {at}: range tombstones are gone without a word"
                );
            }
            for len in 0..bytes.len() {
                // Cut off, it has lost what says the id; the manifest has it.
                let (left, _) = left_of(&bytes[..len], Some(FILE_ID)).unwrap();
                assert!(entries.starts_with(&left), "cut to {len}");
            }
        }
    }
}

/// Each padded block was looked for up to the end of the file before it was looked for behind its padding: half a megabyte without an index took a minute.
#[test]
fn what_is_left_of_a_long_table_without_an_index_is_found_soon() {
    let entries: Vec<Entry> = (0..5000u64).map(|i| put(format!("{i:05}").as_bytes(), i + 1, &[b'v'; 190])).collect();
    let mut bytes = build(&entries, options(200, Codec::None));
    let blocks = blocks(&bytes);
    assert!(bytes.len() > 1_000_000 && blocks.len() > 4000);
    let footer = bytes.len() - FOOTER_BYTES;
    let index = u64::from_le_bytes(bytes[footer + 16..footer + 24].try_into().unwrap()) as usize;
    bytes[index + 9] ^= 1;
    let begun = std::time::Instant::now();
    let (left, _) = left_of(&bytes, None).unwrap();
    assert!(left == entries, "{} of {} left", left.len(), entries.len());
    // Junk in which each byte may be a block's tag.
    for junk in [0x10, 0x00, 0x52] {
        let from = blocks[2].end;
        let end = bytes.len() - FOOTER_BYTES;
        bytes[from..end].fill(junk);
        let (left, salvaged) = left_of(&bytes, None).unwrap();
        assert!(left == entries[..left.len()] && left.len() >= 3 && salvaged.skipped.len() == 1);
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
}

/// Each damaged block was a gap of its own with a copy of the key before it: a hundred kilobytes took a gigabyte.
#[test]
fn damaged_blocks_side_by_side_are_one_gap() {
    let entries: Vec<Entry> = (0..40u64).map(|i| put(format!("{i:05}").as_bytes(), i + 1, &[b'v'; 190])).collect();
    let mut bytes = build(&entries, options(1, Codec::None));
    let blocks = blocks(&bytes);
    for block in [3, 4, 5, 6, 20] {
        bytes[blocks[block].start + 20] ^= 1;
    }
    let (left, salvaged) = left_of(&bytes, None).unwrap();
    assert_eq!((left.len(), salvaged.skipped.len()), (35, 2), "{:?}", salvaged.skipped);
    let gap = &salvaged.skipped[0];
    assert_eq!((gap.after.as_deref(), gap.before.as_deref()), (Some(&b"00002"[..]), Some(&b"00007"[..])));
    assert!(gap.offset == blocks[3].start as u64 && gap.offset + gap.bytes == blocks[6].end as u64, "{gap:?}");
}

/// A deletion with a value, which nobody writes, passed verification, while `salvage` left its block out: what was called whole lost entries in a repair.
#[test]
fn what_is_verified_is_salvaged_whole() {
    let entries = [del(b"k1", 3), put(b"k2", 2, b"value")];
    let bytes = build(&entries, options(4096, Codec::None));
    let blocks = blocks(&bytes);
    let mut verified = 0;
    for at in blocks[0].start..blocks[0].end - 5 {
        for byte in 0..=255 {
            let mut bad = bytes.clone();
            bad[at] = byte;
            sign(&mut bad, &blocks);
            if try_open(&bad, MODES[0]).is_ok_and(|table| table.verify().is_ok()) {
                let (left, salvaged) = left_of(&bad, None).unwrap();
                assert!(left.len() == 2 && salvaged.skipped.is_empty(), "byte {at} is {byte}: {salvaged:?}");
                verified += 1;
            }
        }
    }
    assert!(verified > bytes.len() / 4, "{verified}");
}

/// Asks all that can be asked of bytes that may say anything: it must end, and not panic.
fn poke(bytes: &[u8], entries: &[Entry], mode: (ReadMode, Verify)) {
    let _ = left_of(bytes, None);
    if let Ok(table) = try_open(bytes, mode) {
        poke_table(&table, entries);
    }
}

fn poke_table(table: &Arc<Table>, entries: &[Entry]) {
    let _ = (read_all(table.iter()), read_all_back(table.iter_once()), table.verify(), table.read_back());
    let mut iter = table.iter();
    for (key, _) in entries {
        let _ = table.get(&key.user_key, KeyHash::of(&key.user_key), key.trailer.seq());
        if iter.seek(key.as_ref()).is_ok() && iter.valid() {
            let _ = (iter.key().trailer.kind(), iter.value().len(), iter.prev());
        }
        if iter.seek_for_prev(InternalKey::behind_all(&key.user_key)).is_ok() && iter.valid() {
            let _ = (iter.value_slice(), iter.next());
        }
    }
    let _ = (walk(table, View::seek_to_first, View::next), walk(table, View::seek_to_last, View::prev));
}

type View = VisibleIterator<TableIter>;

/// As a reader does, to whom the table lends what follows where it says that it has one version of each key.
fn walk(
    table: &Arc<Table>,
    begin: fn(&mut View) -> Result<(), TableError>,
    step: fn(&mut View) -> Result<(), TableError>,
) -> Result<(), TableError> {
    let mut view = VisibleIterator::new(table.iter(), SeqNo::MAX, Bounds::default());
    begin(&mut view)?;
    while view.valid() {
        let _ = (view.key().len(), view.trailer().kind(), view.value_slice());
        step(&mut view)?;
    }
    Ok(())
}

/// Every byte of a small table set to awkward values, with all checksums made right: what lies behind the checksums must hold by itself.
#[test]
fn no_byte_that_passes_its_checksum_makes_a_panic() {
    for (codec, entries) in codecs().flat_map(|codec| [(codec, entries()), (codec, single())]) {
        let bytes = build(&entries, options(400, codec));
        let blocks = blocks(&bytes);
        for at in 0..bytes.len() {
            for byte in [0, 0xff, 0x80, bytes[at].wrapping_add(1)] {
                let mut bad = bytes.clone();
                bad[at] = byte;
                sign(&mut bad, &blocks);
                poke(&bad, &entries, MODES[at % MODES.len()]);
            }
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_that_pass_their_checksums_make_a_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..12),
        codec in prop::sample::select(codecs().collect::<Vec<_>>()),
        mode in prop::sample::select(&MODES[..]),
        nth in 0..4usize,
    ) {
        let (entries, mut bytes) = tables(codec).swap_remove(nth);
        let blocks = blocks(&bytes);
        for (block, at, byte) in changes {
            // Half of the changes hit the first bytes of a block, where the lengths are.
            let block = block.get(&blocks).clone();
            let at = if byte % 2 == 0 { at.index(block.len().min(32)) } else { at.index(block.len()) };
            bytes[block.start + at] = byte;
        }
        sign(&mut bytes, &blocks);
        poke(&bytes, &entries, mode);
    }

    #[test]
    fn no_bytes_at_all_make_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(try_open(&bytes, MODES[0]).is_err());
    }
}

#[test]
fn no_two_blocks_may_be_swapped() {
    let even: Vec<Entry> = (0..40u64).map(|i| put(format!("key{i:02}").as_bytes(), 1, b"same length")).collect();
    let bytes = build(&even, options(200, Codec::None));
    let blocks = blocks(&bytes);
    for a in 0..blocks.len() {
        for b in a + 1..blocks.len() {
            if blocks[a].len() == blocks[b].len() {
                let mut swapped = bytes.clone();
                swapped[blocks[a].clone()].copy_from_slice(&bytes[blocks[b].clone()]);
                swapped[blocks[b].clone()].copy_from_slice(&bytes[blocks[a].clone()]);
                for mode in MODES {
                    assert!(matches!(ask(&swapped, &even, mode), Err(TableError::Checksum { .. })), "{a} and {b}");
                }
            }
        }
    }
}

#[test]
fn a_block_of_another_file_is_refused() {
    let mine = build(&entries(), options(200, Codec::None));
    let other = build(&entries(), esker_sstable::BuilderOptions { file_id: FileId(1), ..options(200, Codec::None) });
    assert_eq!(mine.len(), other.len());
    let mut mixed = mine.clone();
    let first = blocks(&mine)[0].clone();
    mixed[first.clone()].copy_from_slice(&other[first]);
    let table = try_open(&mixed, MODES[0]).unwrap();
    let error = table.get(b"key00", KeyHash::of(b"key00"), SeqNo::MAX).unwrap_err();
    assert!(matches!(error, TableError::Checksum { offset: 0, .. }), "{error}");
    assert!(error.to_string().starts_with("table t.sst: block at 0: checksum 0x"), "{error}");
    assert!(table.get(b"key23", KeyHash::of(b"key23"), SeqNo::MAX).unwrap().is_some(), "other key ranges keep serving");
}

#[test]
fn a_file_of_another_length_or_id_than_expected_is_refused() {
    let bytes = build(&entries(), options(4096, Codec::None));
    let open = |file_bytes, file_id| {
        let options = TableOptions {
            expect: Some(Expect { file_bytes, file_id, seq: None }),
            ..table_options(ReadMode::Map, Verify::FirstUse)
        };
        Table::open(Arc::new(Bytes(bytes.clone())), "t.sst", options)
    };
    let len = bytes.len() as u64;
    assert!(open(len, FILE_ID).is_ok());
    let error = open(len + 1, FILE_ID).unwrap_err();
    assert!(matches!(error, TableError::Mismatch { what: "file length", found, .. } if found == len), "{error}");
    let error = open(len, FileId(7)).unwrap_err();
    assert!(matches!(error, TableError::Mismatch { what: "file id", expected: 7, .. }), "{error}");
    assert!(error.is_corruption());
}

#[test]
fn an_error_sticks_until_the_next_seek_and_is_never_the_end() {
    let entries = entries();
    let mut bytes = build(&entries, options(200, Codec::None));
    let middle = blocks(&bytes)[2].clone();
    bytes[middle.start + 30] ^= 1;
    for mode in MODES {
        let table = try_open(&bytes, mode).unwrap();
        let mut iter = table.iter();
        iter.seek_to_first().unwrap();
        let mut steps = 0;
        let error = loop {
            assert!(iter.valid());
            steps += 1;
            match iter.next() {
                Ok(()) => {}
                Err(error) => break error,
            }
        };
        assert!(steps < entries.len() && error.offset() == Some(middle.start as u64), "{error}");
        assert!(!iter.valid());
        assert_eq!(iter.next().unwrap_err().to_string(), error.to_string());
        assert_eq!(iter.prev().unwrap_err().to_string(), error.to_string());
        iter.seek_to_last().unwrap();
        assert!(iter.valid());
        let mut back = 0;
        while iter.prev().is_ok() {
            back += 1;
        }
        assert!(steps + back < entries.len());
    }
}

/// Rot that comes after a block was checked: what `FirstUse` does not see again, and `Always` never gives out.
#[test]
fn always_reads_into_copies_and_a_failed_check_is_repeated() {
    let vfs = MemVfs::new();
    let path = Path::new("t.sst");
    vfs.create_new(path).unwrap().append(&build(&entries(), options(4096, Codec::None))).unwrap();
    let open =
        |verify| Table::open(vfs.open_read(path).unwrap(), "t.sst", table_options(ReadMode::Pread, verify)).unwrap();
    let get = |table: &Table| table.get(b"key11", KeyHash::of(b"key11"), SeqNo::MAX);
    let (kept, fresh) = (open(Verify::Always), open(Verify::Always));
    assert!(get(&kept).unwrap().is_some());
    vfs.edit(path, |bytes| bytes[40] ^= 1).unwrap();
    for _ in 0..3 {
        assert!(matches!(get(&fresh), Err(TableError::Checksum { .. })));
    }
    vfs.edit(path, |bytes| bytes[40] ^= 1).unwrap();
    assert!(get(&fresh).unwrap().is_some(), "a failed check does not condemn for ever");
    assert!(get(&kept).unwrap().is_some());
}

#[test]
fn a_failing_disk_is_an_io_error_wherever_it_fails() {
    let inner = MemVfs::new();
    let path = Path::new("t.sst");
    inner.create_new(path).unwrap().append(&build(&entries(), options(200, Codec::None))).unwrap();
    for nth in 1.. {
        let vfs = FaultVfs::new(inner.clone());
        vfs.add(Rule::new(Operation::Read, Fault::EIO).nth(nth));
        let walk = || -> Result<(), TableError> {
            let table =
                Table::open(vfs.open_read(path).unwrap(), "t.sst", table_options(ReadMode::Pread, Verify::FirstUse))?;
            table.get(b"key11", KeyHash::of(b"key11"), SeqNo::MAX)?;
            assert_eq!(read_all(table.iter())?, entries());
            Ok(())
        };
        match walk() {
            Err(error) => assert!(error.io().is_some() && !error.is_corruption(), "{error}"),
            Ok(()) => {
                assert!(nth > 8, "footer, properties, filter, index, and some blocks were read");
                break;
            }
        }
    }
}

#[test]
fn where_there_are_no_maps_it_reads() {
    let vfs = MemVfs::new().with_maps(false);
    let path = Path::new("t.sst");
    vfs.create_new(path).unwrap().append(&build(&entries(), options(200, Codec::Lz4))).unwrap();
    let table =
        Table::open(vfs.open_read(path).unwrap(), "t.sst", table_options(ReadMode::Map, Verify::FirstUse)).unwrap();
    assert_eq!((table.mapped_bytes(), read_all(table.iter()).unwrap()), (0, entries()));
}

/// Rot below a map, after every block was checked and found right: wrong answers are possible, panics are not.
#[test]
fn bytes_that_change_below_a_map_make_no_panic() {
    let entries = entries();
    let directory = tempfile::tempdir().unwrap();
    for codec in codecs() {
        let path = directory.path().join(format!("{codec:?}.sst"));
        let bytes = build(&entries, options(400, codec));
        OsVfs.create_new(&path).unwrap().append(&bytes).unwrap();
        let table =
            Table::open(OsVfs.open_read(&path).unwrap(), "t.sst", table_options(ReadMode::Map, Verify::FirstUse))
                .unwrap();
        assert_eq!(read_all(table.iter()).unwrap(), entries);
        for (key, _) in &entries {
            assert!(table.get(&key.user_key, KeyHash::of(&key.user_key), SeqNo::MAX).unwrap().is_some());
        }
        let file = File::options().write(true).open(&path).unwrap();
        let mut seen = 0;
        for at in 0..bytes.len() {
            for byte in [0xff, 0, bytes[at].wrapping_add(1)] {
                file.write_all_at(&[byte], at as u64).unwrap();
                poke_table(&table, &entries);
                seen += usize::from(read_all(table.iter()).ok().is_none_or(|read| read != entries));
            }
            file.write_all_at(&bytes[at..=at], at as u64).unwrap();
        }
        assert!(seen > 0, "the map shows what changes below it");
        assert_eq!(read_all(table.iter()).unwrap(), entries, "all is as it was");
    }
}
