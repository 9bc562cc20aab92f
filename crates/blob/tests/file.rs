//! Files as they should be, and as they should not.

use esker_blob::{Access, BlobError, BlobFile, BlobRef, Expect, Writer};
use esker_format::{FileId, FileNo};
use esker_vfs::{MemVfs, Operation, TraceVfs, Vfs, read_file};
use std::path::Path;
use std::sync::Arc;

const ID: FileId = FileId(0x0123_4567_89ab_cdef);
const PAGE: &str = include_str!("../../../docs/format/blob.md");

fn path() -> &'static Path {
    Path::new("000009.blob")
}

/// A file of these values, its bytes, and where they lie.
fn build(values: &[&[u8]]) -> (Vec<u8>, Vec<BlobRef>) {
    let vfs = MemVfs::new();
    let mut writer = Writer::new(vfs.create_new(path()).unwrap(), "000009.blob", FileNo(9), ID);
    let references: Vec<_> = values.iter().map(|value| writer.add(value).unwrap()).collect();
    let built = writer.finish().unwrap();
    let bytes = read_file(&*vfs, path(), u64::MAX).unwrap();
    assert_eq!((built.file_bytes, built.records), (bytes.len() as u64, values.len() as u64));
    assert_eq!(built.record_bytes, references.iter().map(|reference| reference.record_bytes()).sum::<u64>());
    (bytes, references)
}

fn open(bytes: &[u8], access: Access, expect: Option<Expect>) -> Result<Arc<BlobFile>, BlobError> {
    let vfs = MemVfs::new();
    vfs.create_new(path()).unwrap().append(bytes).unwrap();
    BlobFile::open(vfs.open_read(path()).unwrap(), "000009.blob", access, expect)
}

const ALL: [Access; 3] = [Access::Mapped, Access::Copied, Access::Guarded];

#[test]
fn values_of_all_lengths_read_back() {
    let lengths = [0, 1, 7, 8, 9, 63, 64, 65, 4087, 4088, 4096, 8192, 65_535, 65_536, 65_537, 300_000, 5];
    let values: Vec<Vec<u8>> = lengths.iter().enumerate().map(|(i, len)| vec![i as u8 + 1; *len]).collect();
    let (bytes, references) = build(&values.iter().map(Vec::as_slice).collect::<Vec<_>>());
    for access in ALL {
        let file = open(&bytes, access, None).unwrap();
        // Twice: the second time the checksums are known to be right.
        for _ in 0..2 {
            for (value, reference) in values.iter().zip(&references) {
                assert_eq!(file.get(*reference).unwrap(), value[..]);
                assert_eq!(file.get_checked(*reference).unwrap(), value[..]);
            }
        }
        let all: Vec<_> = file.records().map(Result::unwrap).collect();
        assert_eq!(all, references.iter().copied().zip(values.iter().cloned()).collect::<Vec<_>>());
        file.verify().unwrap();
    }
}

#[test]
fn the_worked_example_is_a_real_file() {
    let (bytes, references) = build(&[b"ridge of gravel", b"esker"]);
    let example = PAGE.split("```hex").nth(1).expect("the page has an example");
    let example = example.split("```").next().unwrap();
    let digits = example.lines().map(|line| line.split('|').next().unwrap()).collect::<Vec<_>>().join(" ");
    let shown: Vec<u8> = digits.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    let dump: Vec<String> =
        bytes.chunks(16).map(|line| line.iter().map(|byte| format!("{byte:02x} ")).collect()).collect();
    assert!(shown == bytes, "the page shows another file than this:\n{}", dump.join("\n"));
    let mut stored = Vec::new();
    references[0].encode_into(&mut stored);
    assert_eq!(stored, [0x09, 0x28, 0x0f]);
    stored.clear();
    references[1].encode_into(&mut stored);
    assert_eq!(stored, [0x09, 0x40, 0x05]);
}

/// What went wrong would be a wrong value; an error or the right value is what must come.
#[test]
fn every_bit_flipped_is_an_error_or_does_no_harm() {
    let values: [&[u8]; 3] = [b"first", &[7; 100], b"last one"];
    let (bytes, references) = build(&values);
    for access in ALL {
        for bit in 0..8 * bytes.len() {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let Ok(file) = open(&bad, access, None) else { continue };
            assert!(file.verify().unwrap_err().is_corruption(), "bit {bit} is not seen");
            let is_right = file.read_back().is_ok();
            for (value, reference) in values.iter().zip(&references) {
                match file.get(*reference) {
                    Ok(found) => assert_eq!(found, **value, "bit {bit}"),
                    Err(error) => assert!(error.is_corruption() && !is_right, "bit {bit}: {error}"),
                }
            }
        }
    }
}

/// For whoever makes do with what is left: each value whose own record is whole, also where the file's ends are not.
#[test]
fn values_of_a_damaged_file_are_right_or_refused() {
    let values: [&[u8]; 3] = [b"first", &[7; 100], b"last one"];
    let (bytes, references) = build(&values);
    let left = |bytes: &[u8], id, number| {
        let vfs = MemVfs::new();
        vfs.create_new(path()).unwrap().append(bytes).unwrap();
        BlobFile::open_damaged(vfs.open_read(path()).unwrap(), "000009.blob", number, id)
    };
    let record =
        |i: usize| references[i].offset as usize..references[i].offset as usize + references[i].record_bytes() as usize;
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 0x10;
        for told in [None, Some(ID)] {
            let file = left(&bad, told, FileNo(9)).unwrap();
            for (i, value) in values.iter().enumerate() {
                match file.get_checked(references[i]) {
                    Ok(found) => assert_eq!(found, **value, "byte {at}"),
                    Err(_) => assert!(record(i).contains(&at), "byte {at} cost value {i}"),
                }
            }
        }
        let Ok(file) = left(&bytes[..at], Some(ID), FileNo(9)) else { continue };
        for (i, value) in values.iter().enumerate() {
            let whole = record(i).start + 8 + value.len() <= at;
            assert_eq!(file.get_checked(references[i]).is_ok(), whole, "cut to {at}, value {i}");
        }
    }
    assert!(left(&bytes, Some(FileId(1)), FileNo(9)).is_err(), "another id");
    assert!(left(&bytes, None, FileNo(1)).is_err(), "another number");
}

#[test]
fn every_cut_and_every_addition_is_refused() {
    let (bytes, _) = build(&[b"first", &[7; 100]]);
    for cut in 0..bytes.len() {
        assert!(open(&bytes[..cut], Access::Mapped, None).unwrap_err().is_corruption(), "cut to {cut}");
    }
    let longer = [&bytes[..], &[0; 8]].concat();
    assert!(open(&longer, Access::Mapped, None).unwrap_err().is_corruption());
}

#[test]
fn a_newer_version_is_unsupported_and_not_damaged() {
    let (bytes, _) = build(&[b"x"]);
    for at in [8, 12] {
        let mut newer = bytes.clone();
        newer[at] = 2;
        let checksum = esker_format::checksum::crc32c(&newer[..36]).to_le_bytes();
        newer[36..40].copy_from_slice(&checksum);
        let error = open(&newer, Access::Copied, None).unwrap_err();
        assert!(error.is_unsupported() && !error.is_corruption(), "{error}");
    }
}

#[test]
fn another_file_than_the_expected_one_is_refused() {
    let (bytes, _) = build(&[b"x", b"y"]);
    let right = Expect { number: FileNo(9), file_id: ID, file_bytes: bytes.len() as u64, records: 2 };
    open(&bytes, Access::Mapped, Some(right)).unwrap();
    let wrong = [
        Expect { number: FileNo(8), ..right },
        Expect { file_id: FileId(1), ..right },
        Expect { file_bytes: 7, ..right },
        Expect { records: 3, ..right },
    ];
    for wrong in wrong {
        assert!(open(&bytes, Access::Mapped, Some(wrong)).unwrap_err().is_corruption(), "{wrong:?}");
    }
}

#[test]
fn a_reference_to_anything_but_a_record_is_an_error() {
    let (bytes, references) = build(&[&[1; 8192], &[2; 5000], &[3; 40]]);
    for access in ALL {
        let file = open(&bytes, access, None).unwrap();
        for reference in &references {
            file.get(*reference).unwrap();
        }
        let first = references[0];
        let wrong = [
            BlobRef { file: FileNo(8), ..first },
            BlobRef { offset: 0, ..first },
            BlobRef { offset: 48, ..first },
            // In the same 4 KiB as the first record, which was checked.
            BlobRef { offset: 2048, value_bytes: 4096, ..first },
            BlobRef { offset: u64::MAX - 7, ..first },
            BlobRef { value_bytes: 8191, ..first },
            BlobRef { value_bytes: 8193, ..first },
            BlobRef { value_bytes: u32::MAX, ..first },
            BlobRef { offset: bytes.len() as u64 - 40, value_bytes: 0, ..first },
        ];
        for wrong in wrong {
            assert!(file.get(wrong).unwrap_err().is_corruption(), "{wrong:?}");
        }
    }
}

#[test]
fn a_record_moved_within_the_file_is_not_taken_for_another() {
    let (mut bytes, references) = build(&[&[1; 100], &[2; 100]]);
    let (a, b) = (references[0].offset as usize, references[1].offset as usize);
    let len = references[0].record_bytes() as usize;
    let first = bytes[a..a + len].to_vec();
    bytes.copy_within(b..b + len, a);
    bytes[b..b + len].copy_from_slice(&first);
    for access in ALL {
        let file = open(&bytes, access, None).unwrap();
        for reference in &references {
            assert!(matches!(file.get(*reference), Err(BlobError::Checksum { .. })));
        }
    }
}

#[test]
fn after_a_failed_write_the_writer_gives_the_same_error() {
    let vfs = MemVfs::new();
    vfs.set_space(Some(100_000));
    let mut writer =
        Writer::new(vfs.create_new(path()).unwrap(), "000009.blob", FileNo(9), ID).with_piece_bytes(64 << 10);
    let mut failed = 0;
    for _ in 0..100 {
        failed += usize::from(writer.add(&[0; 70_000]).is_err_and(|error| error.is_no_space()));
    }
    assert!(failed >= 98, "{failed}");
    assert!(writer.finish().unwrap_err().is_no_space());
}

/// A file that is written in whole pieces can be mapped by large pages.
#[test]
fn all_appends_but_the_last_end_where_pieces_end() {
    let vfs = TraceVfs::new(MemVfs::new());
    let file = vfs.create_new(path()).unwrap();
    let mut writer = Writer::new(file, "000009.blob", FileNo(9), ID).with_piece_bytes(10_000);
    for _ in 0..100 {
        writer.add(&[7; 1000]).unwrap();
    }
    let built = writer.finish().unwrap();
    let appends = vfs.events().into_iter().filter(|event| event.operation == Operation::Append);
    let ends: Vec<u64> = appends.map(|append| append.offset + append.len_bytes).collect();
    let (last, pieces) = ends.split_last().unwrap();
    assert!(pieces.len() > 5 && pieces.iter().all(|end| end % 10_000 == 0), "{ends:?}");
    assert_eq!(*last, built.file_bytes);
}
