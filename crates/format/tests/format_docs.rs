//! The worked examples of `docs/format/{keys,batch,files}.md`, compared with what the code writes and reads.

use esker_format::checksum::crc32c;
use esker_format::{FileKind, FileNo, InternalKey, KeyspaceId, SeqNo, Trailer, ValueKind, WriteBatch, batch, varint};
use std::path::Path;

/// A page of the formats.
fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/format").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The fenced blocks of a page that are marked with `language`.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    page.split(&fence).skip(1).map(|rest| rest.split("```").next().expect("split gives one")).collect()
}

/// The bytes of a hex block; what follows `|` in a line is a remark.
fn bytes(block: &str) -> Vec<u8> {
    let digits = block.lines().flat_map(|line| line.split('|').next().expect("split gives one").split_whitespace());
    digits.map(|byte| u8::from_str_radix(byte, 16).unwrap_or_else(|_| panic!("not a byte: {byte}"))).collect()
}

/// The rows of the table whose heading row contains `heading`: cells without backticks and blanks around them.
fn rows(page: &str, heading: &str) -> Vec<Vec<String>> {
    let lines = page.lines().skip_while(|line| !(line.starts_with('|') && line.contains(heading))).skip(2);
    let cells =
        |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect();
    let rows: Vec<_> = lines.take_while(|line| line.starts_with('|')).map(cells).collect();
    assert!(!rows.is_empty(), "no table with {heading}");
    rows
}

/// `65,535` or `2^64 - 1`.
fn number(text: &str) -> u64 {
    if text == "2^64 - 1" { u64::MAX } else { text.replace(',', "").parse().expect(text) }
}

#[test]
fn varints_are_as_in_the_table() {
    for row in rows(&page("keys.md"), "| number | bytes |") {
        let mut encoded = Vec::new();
        varint::put(&mut encoded, number(&row[0]));
        assert_eq!(encoded, bytes(&row[1]), "{row:?}");
        assert_eq!(varint::get(&encoded), Some((number(&row[0]), encoded.len())));
    }
    assert!(page("keys.md").contains(&format!("`{:08x}`", crc32c(b"123456789"))));
}

#[test]
fn kinds_are_as_in_the_table_and_all_others_unsupported() {
    let rows = rows(&page("keys.md"), "| number | kind |");
    for byte in 0..=255u8 {
        let row = rows.iter().find(|row| row[0] == byte.to_string());
        let known = row.is_some_and(|row| !row[1].starts_with("reserved") && !row[1].starts_with("never"));
        let kind = Trailer::from_bits(u64::from(byte)).try_kind(0);
        assert_eq!(kind.is_ok(), known, "{byte}");
        assert!(kind.map_or_else(|error| error.is_unsupported(), |kind| kind as u8 == byte));
    }
}

#[test]
fn internal_keys_are_in_the_order_and_the_bytes_of_the_page() {
    let page = page("keys.md");
    let keys = [
        InternalKey::new(b"a", SeqNo(4), ValueKind::Put),
        InternalKey::new(b"b", SeqNo(9), ValueKind::Put),
        InternalKey::seek(b"b", SeqNo(8)),
        InternalKey::new(b"b", SeqNo(7), ValueKind::Delete),
        InternalKey::new(b"b", SeqNo(2), ValueKind::Put),
        InternalKey::new(b"ba", SeqNo(1), ValueKind::Put),
    ];
    assert!(keys.is_sorted());
    let written: String = keys.iter().map(|key| format!("{key:?}\n")).collect();
    assert_eq!(blocks(&page, "order"), [written]);

    let hex = blocks(&page, "hex");
    let trailers: Vec<u8> = keys.iter().flat_map(|key| key.trailer.to_bits().to_le_bytes()).collect();
    assert_eq!(bytes(hex[0]), trailers);
    assert_eq!(bytes(hex[1]), Trailer::new(SeqNo::MAX, ValueKind::Put).to_bits().to_le_bytes());
}

#[test]
fn the_batch_is_the_one_of_the_page() {
    let mut written = WriteBatch::new();
    written.put(KeyspaceId::DEFAULT, b"a", b"1").put(KeyspaceId(300), b"user:7", b"").delete(KeyspaceId::DEFAULT, b"b");
    written.delete_range(KeyspaceId::DEFAULT, b"c", b"d").delete_from(KeyspaceId::DEFAULT, b"x");
    written.put_expiring(KeyspaceId::DEFAULT, b"s", b"1", 1_600_000_000_000);
    written.merge(KeyspaceId(300), b"n", b"+");
    let (header, ops) = batch::with_first_seq(written.as_bytes(), SeqNo(1000));
    let example = bytes(blocks(&page("batch.md"), "hex")[0]);
    assert_eq!(example, [&header[..], ops].concat());

    let (first, read) = batch::decode(&example).expect("the header is whole");
    let read: Vec<_> = read.map(|op| op.expect("the operation is whole")).collect();
    assert_eq!((first, read), (SeqNo(1000), written.ops().collect()));
}

#[test]
fn names_are_as_in_the_tables() {
    let page = page("files.md");
    for row in rows(&page, "| number | name |") {
        assert_eq!(FileKind::Table(FileNo(number(&row[0]))).name(), row[1]);
    }
    let n = FileNo(5);
    let kinds = [
        FileKind::Lock,
        FileKind::Current,
        FileKind::Manifest(n),
        FileKind::Options(n),
        FileKind::Wal(n),
        FileKind::Table(n),
        FileKind::WalAside(n),
        FileKind::Blob(n),
        FileKind::Temp,
    ];
    let listed: Vec<_> = rows(&page, "| name | holds |").into_iter().map(|row| row[0].clone()).collect();
    let named = listed.iter().map(|name| FileKind::parse(&name.replace("NNNNNN", "000005").replace("NAME", "CURRENT")));
    assert_eq!(named.collect::<Vec<_>>(), kinds.map(Some));
}

#[test]
fn the_directory_is_the_one_of_the_page() {
    let page = page("files.md");
    let names: Vec<_> = blocks(&page, "names")[0].lines().collect();
    let mut kinds: Vec<_> = names.iter().map(|name| FileKind::parse(name).expect(name)).collect();
    assert!(kinds.iter().zip(&names).all(|(kind, name)| kind.name() == *name));
    kinds.retain(|kind| matches!(kind, FileKind::Manifest(_)));

    let manifest = kinds[0].name();
    let current = format!("{manifest} {:08x}\n", crc32c(manifest.as_bytes()));
    assert_eq!(bytes(blocks(&page, "hex")[0]), current.as_bytes());
}
