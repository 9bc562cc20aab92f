//! The format page against real tables: its worked example, byte by byte, and its hashes.

mod support;

use esker_format::FileId;
use esker_sstable::{BuilderOptions, Codec, KeyHash};
use std::fmt::Write as _;
use support::{Entry, build, del, open, put, read_all};

const PAGE: &str = include_str!("../../../docs/format/sstable.md");

/// The page's table: two blocks, between which the versions of `ant` are split.
fn example() -> (Vec<Entry>, Vec<u8>) {
    let entries =
        vec![put(b"ant", 9, b"six legs"), put(b"ant", 4, b"four legs"), del(b"ant", 2), put(b"bee", 300, b"wings")];
    let options = BuilderOptions {
        file_id: FileId(0x0123_4567_89ab_cdef),
        block_size_bytes: 64,
        codec: Codec::None,
        filter_bits_per_key: 12,
        piece_bytes: 100,
        created_unix_ms: 1_750_000_000_000,
    };
    let bytes = build(&entries, options);
    (entries, bytes)
}

/// The bytes of the page's hex dump: lines of an offset, bytes, and a note behind three spaces.
fn bytes_of_the_page() -> Vec<u8> {
    let example = PAGE.split("## Example").nth(1).expect("the page has an example");
    let lines =
        example.lines().filter(|line| line.len() > 10 && line.as_bytes()[..8].iter().all(u8::is_ascii_hexdigit));
    let mut bytes = Vec::new();
    for line in lines {
        assert_eq!(usize::from_str_radix(&line[..8], 16), Ok(bytes.len()), "offset of: {line}");
        let (hex, _) = line[10..].split_once("   ").unwrap_or((&line[10..], ""));
        bytes.extend(hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("two digits")));
    }
    bytes
}

#[test]
fn the_worked_example_is_a_real_table() {
    let (entries, bytes) = example();
    let mut dump = String::new();
    for (i, line) in bytes.chunks(16).enumerate() {
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(dump, "{:08x}  {}", 16 * i, hex.join(" ")).unwrap();
    }
    assert!(bytes_of_the_page() == bytes, "the page shows another table than this:\n{dump}");
    let table = open(&bytes);
    table.verify().unwrap();
    assert_eq!(read_all(table.iter()).unwrap(), entries);
}

#[test]
fn the_hashes_are_those_of_the_page() {
    let mut vectors = 0;
    for line in PAGE.lines() {
        let cells: Vec<&str> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        if let [_, key, hash, _] = cells[..]
            && let (16, Ok(hash)) = (hash.len(), u64::from_str_radix(hash, 16))
        {
            let key = if key == "(empty)" { "" } else { key };
            assert_eq!(
                KeyHash::of(key.as_bytes()).to_bits(),
                hash,
                "{key:?} has {:016x}",
                KeyHash::of(key.as_bytes()).to_bits()
            );
            vectors += 1;
        }
    }
    assert_eq!(vectors, 7);
}
