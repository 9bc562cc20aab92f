//! Tables over 4 GiB, as whoever builds tables outside may make them: others have cut their offsets to 32 bits.

mod support;

use esker_format::{InternalKey, SeqNo, ValueKind};
use esker_iterator::InternalIterator;
use esker_sstable::{Builder, Codec, KeyHash, ReadMode, Table, Verify};
use esker_testkit::sparse::SparseFile;
use std::sync::Arc;
use support::{options, table_options};

#[test]
fn what_lies_beyond_4_gib_of_a_table_is_found() {
    let file = SparseFile::default();
    let mut builder = Builder::new(Box::new(file.clone()), "t.sst", options(4096, Codec::None)).unwrap();
    let mut add = |key: &str, value: &[u8]| {
        builder.add(InternalKey::new(key.as_bytes(), SeqNo(7), ValueKind::Put), value).unwrap();
    };
    add("a", b"the first");
    let large = vec![b'v'; 4 << 20];
    for i in 0..1030 {
        add(&format!("b{i:04}"), &large);
    }
    for i in 0..1000 {
        add(&format!("c{i:04}"), format!("small {i}").as_bytes());
    }
    let built = builder.finish().unwrap();
    assert!(built.properties.data_bytes > 1 << 32);

    let table = Table::open(Arc::new(file), "t.sst", table_options(ReadMode::Pread, Verify::FirstUse)).unwrap();
    let get = |key: &str| table.get(key.as_bytes(), KeyHash::of(key.as_bytes()), SeqNo::MAX).unwrap().map(|(_, v)| v);
    assert_eq!(get("a").unwrap(), b"the first"[..]);
    assert!(get("b1029").unwrap() == large[..]);
    assert!((0..1000).all(|i| get(&format!("c{i:04}")).unwrap() == format!("small {i}").as_bytes()));
    assert!(get("b1030").is_none() && get("d").is_none());
    let mut cursor = table.iter();
    cursor.seek_to_last().unwrap();
    assert_eq!(cursor.key().user_key, b"c0999");
    table.read_back().unwrap();
}
