//! Tables built outside an engine: all entries have one sequence number, which only the manifest knows.

mod support;

use esker_format::{FileId, InternalKey, InternalKeyBuf, SeqNo, Trailer, ValueKind};
use esker_iterator::InternalIterator;
use esker_sstable::{Codec, Expect, KeyHash, Table, TableError, TableOptions};
use std::sync::Arc;
use support::{
    Bytes, Entry, FILE_ID, MODES, build, build_with_ranges, codecs, del, options, put, read_all, read_all_back,
    table_options,
};

fn try_open_as(bytes: &[u8], seq: u64, mode: usize) -> Result<Arc<Table>, TableError> {
    let (read_mode, verify) = MODES[mode];
    let expect = Expect { file_bytes: bytes.len() as u64, file_id: FILE_ID, seq: Some(SeqNo(seq)) };
    let options = TableOptions { expect: Some(expect), ..table_options(read_mode, verify) };
    Table::open(Arc::new(Bytes(bytes.to_vec())), "t.sst", options)
}

/// Keys of several lengths, deletions among them, so that blocks have one kind or two.
fn entries() -> Vec<Entry> {
    (0..500u32)
        .map(|i| {
            let key = format!("key{:05}{}", i, "x".repeat(i as usize % 4));
            if i % 40 == 7 { del(key.as_bytes(), 0) } else { put(key.as_bytes(), 0, &[i as u8; 20]) }
        })
        .collect()
}

fn as_of(entries: &[Entry], seq: SeqNo) -> Vec<Entry> {
    let lifted = |key: &InternalKeyBuf| InternalKeyBuf {
        user_key: key.user_key.clone(),
        trailer: Trailer::new(seq, key.trailer.kind()),
    };
    entries.iter().map(|(key, value)| (lifted(key), value.clone())).collect()
}

#[test]
fn every_read_tells_the_number_that_the_opener_gives() {
    let entries = entries();
    for (codec, block_size) in codecs().flat_map(|codec| [(codec, 64), (codec, 4096)]) {
        let bytes = build(&entries, options(block_size, codec));
        for (mode, seq) in (0..MODES.len()).flat_map(|mode| [1, 77, SeqNo::MAX.0].map(|seq| (mode, seq))) {
            let table = try_open_as(&bytes, seq, mode).unwrap();
            let expected = as_of(&entries, SeqNo(seq));
            assert_eq!(read_all(table.iter()).unwrap(), expected);
            assert_eq!(read_all_back(table.iter_once()).unwrap(), expected);
            table.verify().unwrap();
            table.read_back().unwrap();
            let mut iter = table.iter();
            for (key, value) in expected.iter().step_by(13) {
                let user_key = &key.user_key;
                let hash = KeyHash::of(user_key);
                let (trailer, found) = table.get(user_key, hash, SeqNo(seq)).unwrap().unwrap();
                assert_eq!((trailer, &found[..]), (key.trailer, &value[..]));
                assert_eq!(table.get(user_key, hash, SeqNo(seq - 1)).unwrap(), None, "not there before");
                let spot = table.spot(user_key, SeqNo(seq)).unwrap().unwrap();
                assert_eq!(table.trailer_at(&spot, user_key, hash, SeqNo(seq)).unwrap(), Some(key.trailer));
                iter.seek(InternalKey::seek(user_key, SeqNo(seq))).unwrap();
                assert_eq!(iter.key(), key.as_ref());
                iter.seek(InternalKey::seek(user_key, SeqNo(seq - 1))).unwrap();
                assert!(!iter.valid() || iter.key().user_key > &user_key[..]);
                iter.seek_for_prev(key.as_ref()).unwrap();
                assert_eq!(iter.key(), key.as_ref());
            }
        }
    }
}

#[test]
fn only_a_table_built_outside_gets_a_number() {
    let numbered = build(&[put(b"a", 3, b"1")], options(4096, Codec::None));
    assert!(try_open_as(&numbered, 9, 0).unwrap_err().is_corruption());
    let some = build(&[put(b"a", 0, b"1"), put(b"b", 1, b"1")], options(4096, Codec::None));
    assert!(try_open_as(&some, 9, 0).unwrap_err().is_corruption());
    let ranges = build_with_ranges(&[], &["a..b#0"], options(4096, Codec::None));
    assert!(try_open_as(&ranges, 9, 0).unwrap_err().is_corruption());
    let bytes = build(&[put(b"a", 0, b"1")], options(4096, Codec::None));
    let other = Expect { file_bytes: bytes.len() as u64, file_id: FileId(1), seq: Some(SeqNo(9)) };
    let options = TableOptions { expect: Some(other), ..table_options(MODES[0].0, MODES[0].1) };
    assert!(Table::open(Arc::new(Bytes(bytes)), "t.sst", options).unwrap_err().is_corruption());
}

#[test]
fn without_a_number_it_says_0() {
    let entries = [put(b"a", 0, b"1"), del(b"b", 0)];
    let table = support::open(&build(&entries, options(4096, Codec::None)));
    assert_eq!(read_all(table.iter()).unwrap(), entries);
    assert_eq!(table.properties().largest_seq, SeqNo::ZERO);
    assert_eq!(table.get(b"a", KeyHash::of(b"a"), SeqNo(5)).unwrap().unwrap().0.kind(), ValueKind::Put);
}
