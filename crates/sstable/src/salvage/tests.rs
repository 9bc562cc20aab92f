use super::*;
use crate::builder::{Builder, BuilderOptions};
use crate::frame::seal;
use esker_format::ValueKind;
use esker_iterator::{Fragments, RangeTombstone};
use esker_vfs::{MemVfs, Vfs};
use std::path::Path;

const NAME: &str = "t.sst";
const FILE_ID: FileId = FileId(0x0123_4567_89ab_cdef);
const KEYS: u64 = 40;

/// A table of forty keys in several blocks, `k00#1,PUT` and so on, or all with sequence number 0; with two range tombstones if `ranges`.
fn table(is_numbered: bool, ranges: bool) -> Vec<u8> {
    let (vfs, path) = (MemVfs::new(), Path::new(NAME));
    let options = BuilderOptions { file_id: FILE_ID, block_size_bytes: 100, ..Default::default() };
    let mut builder = Builder::new(vfs.create_new(path).unwrap(), NAME, options).unwrap();
    for i in 0..KEYS {
        let seq = SeqNo(if is_numbered { i + 1 } else { 0 });
        builder.add(InternalKey::new(format!("k{i:02}").as_bytes(), seq, ValueKind::Put), b"short").unwrap();
    }
    if ranges {
        let mut layer = Fragments::default();
        for (begin, end) in [(b"k03", b"k05"), (b"k11", b"k20")] {
            assert!(layer.push(RangeTombstone { begin, end, seq: SeqNo(90) }));
        }
        builder.add_range_tombstones(layer).unwrap();
    }
    builder.finish().unwrap();
    esker_vfs::read_file(&*vfs, path, u64::MAX).unwrap()
}

fn file(bytes: &[u8]) -> Arc<dyn ReadableFile> {
    let (vfs, path) = (MemVfs::new(), Path::new(NAME));
    vfs.create_new(path).unwrap().append(bytes).unwrap();
    vfs.open_read(path).unwrap()
}

/// Where the data blocks of a whole table are.
fn data_blocks(bytes: &[u8]) -> Vec<Range<usize>> {
    let (name, file) = (NAME.into(), Bytes::File(file(bytes)));
    let footer = file.read_footer(&name, bytes.len() as u64).unwrap();
    read_index(&file, &name, &footer).unwrap()
}

/// Makes the checksum of a data block right again, as one of this codec.
fn sign(bytes: &mut [u8], block: Range<usize>, codec: u8) {
    let mut sealed = bytes[block.start..block.end - TRAILER_BYTES].to_vec();
    seal(&mut sealed, 0, FILE_ID, block.start as u64, BlockKind::Data, Codec::from_byte(codec).unwrap());
    bytes[block].copy_from_slice(&sealed);
}

/// With the footer gone no index is found, and of the id only what the properties say.
fn without_footer(mut bytes: Vec<u8>) -> Vec<u8> {
    let at = bytes.len() - FOOTER_BYTES;
    bytes[at] ^= 1;
    bytes
}

fn left_of(bytes: &[u8], file_id: Option<FileId>, seq: Option<SeqNo>) -> Result<(Vec<String>, Salvage), TableError> {
    let mut left = Vec::new();
    let mut each = |key: InternalKey<'_>, value: &[u8]| {
        assert_eq!(value, b"short");
        left.push(format!("{key:?}"));
    };
    salvage(file(bytes), NAME, file_id, seq, &mut each).map(|salvaged| (left, salvaged))
}

/// The keys as `table` has them, of which these are left.
fn keys(numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    numbers.into_iter().map(|i| format!("k{i:02}#{},PUT", i + 1)).collect()
}

#[test]
fn a_whole_table_is_told_whole_and_so_is_one_without_its_footer() {
    for ranges in [false, true] {
        let bytes = table(true, ranges);
        let blocks = data_blocks(&bytes);
        assert!(blocks.len() > 4 && !blocks.last().unwrap().end.is_multiple_of(64), "there is a pad");
        for (bytes, has_footer) in [(bytes.clone(), true), (without_footer(bytes), false)] {
            let (left, salvaged) = left_of(&bytes, None, None).unwrap();
            assert_eq!(left, keys(0..KEYS));
            assert_eq!((salvaged.file_id, salvaged.blocks, salvaged.entries), (FILE_ID, blocks.len() as u64, KEYS));
            assert!(salvaged.skipped.is_empty(), "{:?}", salvaged.skipped);
            assert!(!salvaged.ranges_lost);
            assert_eq!(salvaged.ranges.map(|found| found.iter().count()), ranges.then_some(2));
            assert_eq!(salvaged.properties.is_some(), has_footer, "only the footer says where they are");
        }
    }
}

#[test]
fn range_tombstones_that_can_not_be_read_are_told_as_lost() {
    let bytes = table(true, true);
    let (name, whole) = (NAME.into(), Bytes::File(file(&bytes)));
    let footer = whole.read_footer(&name, bytes.len() as u64).unwrap();
    let mut bad = bytes;
    bad[footer.ranges.unwrap().range().start] ^= 1;
    for bad in [bad.clone(), without_footer(bad)] {
        let (left, salvaged) = left_of(&bad, None, None).unwrap();
        assert_eq!(left, keys(0..KEYS));
        assert!(salvaged.ranges_lost && salvaged.ranges.is_none());
    }
}

#[test]
fn a_table_cut_right_behind_a_block_keeps_it() {
    let bytes = table(true, true);
    for (i, block) in data_blocks(&bytes).iter().enumerate() {
        let (left, salvaged) = left_of(&bytes[..block.end], Some(FILE_ID), None).unwrap();
        assert_eq!(salvaged.blocks, i as u64 + 1);
        assert_eq!(left, keys(0..left.len() as u64));
        assert!(salvaged.ranges_lost, "what was behind may have been some");
    }
}

/// A build without the feature `zstd` can't read a block of that codec, and one with it finds no frame in this one.
#[test]
fn a_block_of_any_codec_is_found_by_its_checksum_and_hides_none_behind_it() {
    let mut bytes = table(true, true);
    let blocks = data_blocks(&bytes);
    for (block, codec) in [(1, 1), (3, 2)] {
        sign(&mut bytes, blocks[block].clone(), codec);
    }
    let (left, salvaged) = left_of(&without_footer(bytes), None, None).unwrap();
    let stretches: Vec<_> = salvaged.skipped.iter().map(|gap| gap.offset..gap.offset + gap.bytes).collect();
    assert_eq!(stretches, [1, 3].map(|i: usize| blocks[i].start as u64..blocks[i].end as u64));
    assert_eq!(salvaged.blocks, blocks.len() as u64 - 2);
    assert_eq!(left.last(), keys(0..KEYS).last());
}

#[test]
fn a_block_with_a_value_that_does_not_go_with_its_kind_is_left_out() {
    let whole = table(true, false);
    let block = data_blocks(&whole)[1].clone();
    for kind in [ValueKind::Delete, ValueKind::Expiring, ValueKind::ExpiringBlob] {
        let mut bytes = whole.clone();
        // All entries of the block are of one kind, which the base has.
        assert_eq!((bytes[block.start + 4] & 2, bytes[block.start + 16]), (2, ValueKind::Put as u8));
        bytes[block.start + 16] = kind as u8;
        sign(&mut bytes, block.clone(), 0);
        let (left, salvaged) = left_of(&bytes, None, None).unwrap();
        let [gap] = &salvaged.skipped[..] else { panic!("{:?}", salvaged.skipped) };
        assert_eq!((gap.offset, gap.bytes), (block.start as u64, block.len() as u64), "{kind:?}");
        assert!(gap.why.to_string().ends_with("an entry whose value does not go with its kind"), "{}", gap.why);
        assert!(left.iter().all(|key| key.ends_with(",PUT")) && salvaged.entries < KEYS);
    }
}

#[test]
fn entries_of_a_table_built_outside_have_the_number_that_is_given() {
    let bytes = table(false, false);
    for seq in [0, 77, SeqNo::MAX.0] {
        let (left, _) = left_of(&bytes, None, Some(SeqNo(seq))).unwrap();
        assert_eq!(left, (0..KEYS).map(|i| format!("k{i:02}#{seq},PUT")).collect::<Vec<_>>());
    }
}

/// Entries that have a number of their own got it added to the table's, which may go over the greatest there is: what came out was older than the table.
#[test]
fn entries_with_a_number_of_their_own_are_none_of_a_table_built_outside() {
    for whole in [table(true, true), without_footer(table(true, true))] {
        for seq in [SeqNo(77), SeqNo::MAX] {
            let (left, salvaged) = left_of(&whole, Some(FILE_ID), Some(seq)).unwrap();
            assert!(left.is_empty() && salvaged.ranges.is_none(), "{left:?}, {salvaged:?}");
            assert_eq!(salvaged.blocks, 0);
        }
    }
}

#[test]
fn the_id_is_told_by_the_footer_or_else_by_the_properties_and_what_told_it() {
    let bytes = table(true, true);
    assert_eq!(told_file_id(file(&bytes), NAME), Some((FILE_ID, true)));
    let bytes = without_footer(bytes);
    assert_eq!(told_file_id(file(&bytes), NAME), Some((FILE_ID, false)));
    let properties = bytes.windows(COMPARATOR.len()).rposition(|window| window == COMPARATOR.as_bytes()).unwrap();
    // The id lies behind the comparator, a tag and a length.
    let id = properties + COMPARATOR.len() + 2;
    assert_eq!(
        told_file_id(file(&bytes[properties - 2..id + 8]), NAME),
        Some((FILE_ID, false)),
        "a rest that is short"
    );
    for len in [id + 7, properties, FOOTER_BYTES, FOOTER_BYTES - 1, 1, 0] {
        assert_eq!(told_file_id(file(&bytes[..len]), NAME), None, "cut to {len}");
        assert!(left_of(&bytes[..len], None, None).unwrap_err().to_string().contains("nothing says which id"));
        assert!(left_of(&bytes[..len], Some(FILE_ID), None).is_ok());
    }
}
