use super::*;
use esker_format::Expiries;
use esker_vfs::{Fault, FaultVfs, MemVfs, Operation, OsVfs, Rule, Vfs};
use std::path::Path;

const NAME: &str = "t.sst";

fn builder_in(vfs: &dyn Vfs, options: BuilderOptions) -> Builder {
    Builder::new(vfs.create_new(Path::new(NAME)).unwrap(), NAME, options).unwrap()
}

fn builder(options: BuilderOptions) -> Builder {
    builder_in(&*MemVfs::new(), options)
}

fn put(user_key: &[u8]) -> InternalKey<'_> {
    InternalKey::new(user_key, SeqNo(9), ValueKind::Put)
}

#[test]
fn the_size_is_foreseen_to_within_half_a_kilobyte_while_no_block_has_ended() {
    for (filter_bits_per_key, keys) in [(0, 1), (0, 3000), (12, 1), (12, 3000), (64, 3000)] {
        let mut builder =
            builder(BuilderOptions { block_size_bytes: 1 << 20, filter_bits_per_key, ..Default::default() });
        for i in 0..keys as u32 {
            builder.add(put(&i.to_be_bytes()), b"some value").unwrap();
        }
        let (foreseen, found) = (builder.estimated_bytes(), builder.finish().unwrap().file_bytes);
        assert!(foreseen.abs_diff(found) <= 512, "{foreseen} foreseen, {found} found");
    }
}

#[test]
fn a_hash_is_kept_for_each_user_key_and_none_where_there_is_no_filter() {
    for (filter_bits_per_key, kept) in [(0, 0), (12, 50)] {
        let mut builder = builder(BuilderOptions { filter_bits_per_key, ..Default::default() });
        for (i, seq) in (0..50u8).flat_map(|i| [(i, 9), (i, 3)]) {
            builder.add(InternalKey::new(&[i], SeqNo(seq), ValueKind::Put), b"").unwrap();
        }
        assert_eq!(builder.hashes.len(), kept);
    }
}

/// The values are maps of files without a byte in them: nobody reads 4 GiB.
#[test]
fn a_value_may_be_as_long_as_the_longest_and_no_longer() {
    let directory = tempfile::tempdir().unwrap();
    let value_of = |len: usize| {
        let path = directory.path().join(len.to_string());
        std::fs::File::create(&path).unwrap().set_len(len as u64).unwrap();
        OsVfs.open_read(&path).unwrap().map().unwrap()
    };
    let builder = builder(BuilderOptions::default());
    assert_eq!(builder.check(put(b"k"), &value_of(VALUE_BYTES_MAX)).unwrap(), ValueKind::Put);
    let error = builder.check(put(b"k"), &value_of(VALUE_BYTES_MAX + 1)).unwrap_err();
    assert_eq!(error.to_string(), "table t.sst: value of 4294967296 bytes: at most 4294967295");
}

#[test]
fn the_properties_say_when_entries_expire_and_one_that_does_not_say_when_is_refused() {
    let mut builder = builder(BuilderOptions::default());
    let mut add =
        |user_key: &[u8], kind, stored: &[u8]| builder.add(InternalKey::new(user_key, SeqNo(9), kind), stored);
    add(b"a", ValueKind::Expiring, &[&700u64.to_le_bytes()[..], b"value"].concat()).unwrap();
    add(b"b", ValueKind::ExpiringBlob, &[&300u64.to_le_bytes()[..], b"reference"].concat()).unwrap();
    let error = add(b"c", ValueKind::Expiring, b"7 bytes").unwrap_err();
    assert!(matches!(error, TableError::Field { part: BlockKind::Data, offset: 0, .. }), "{error}");
    add(b"c", ValueKind::Put, b"7 bytes").unwrap();
    let properties = builder.finish().unwrap().properties;
    assert_eq!(properties.entries, 3);
    let expected = Expiries { entries: 2, earliest_ms: 300, latest_ms: 700, half_ms: Some(700) };
    assert_eq!(properties.expiries, Some(expected));
}

#[test]
fn the_last_key_that_was_added_is_known_after_the_file_failed() {
    let vfs = FaultVfs::new(MemVfs::new());
    vfs.add(Rule::new(Operation::Append, Fault::EIO));
    let mut builder = builder_in(&*vfs, BuilderOptions { block_size_bytes: 64, piece_bytes: 1, ..Default::default() });
    assert_eq!(builder.last_user_key(), b"");
    let failed = (0..9u8).find(|i| builder.add(put(&[b'a' + i]), &[7; 30]).is_err()).expect("a block has ended");
    assert!(failed > 0);
    assert_eq!(builder.last_user_key(), [b'a' + failed - 1]);
}

#[test]
fn it_says_how_far_it_is() {
    let mut builder = builder(BuilderOptions { block_size_bytes: 1, ..Default::default() });
    assert_eq!(format!("{builder:?}"), "Builder(t.sst: 0 entries, 0 bytes)");
    builder.add(put(b"a"), b"").unwrap();
    builder.add(put(b"b"), b"").unwrap();
    assert_eq!(format!("{builder:?}"), format!("Builder(t.sst: 2 entries, {} bytes)", 24 + 1 + TRAILER_BYTES));
}
