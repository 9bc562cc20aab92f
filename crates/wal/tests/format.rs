//! The worked example of `docs/format/wal.md` is what the writer makes, byte for byte, and what the reader reads.

mod support;

use esker_format::{FileId, FileNo};
use esker_vfs::MemVfs;
use esker_wal::{EndCause, GroupSync, LogHeader, Lsn, RecordKind, Reserve, Writer};
use support::{bytes_of, path, read_bytes};

/// The bytes of the page's hex dump: lines of an eight-digit offset and sixteen bytes.
fn example() -> Vec<u8> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/format/wal.md")).unwrap();
    let mut bytes = Vec::new();
    for line in page.lines() {
        let mut words = line.split_whitespace();
        let offset = words.next().filter(|word| word.len() == 8).and_then(|word| usize::from_str_radix(word, 16).ok());
        if offset == Some(bytes.len()) {
            bytes.extend(words.take(16).map(|word| u8::from_str_radix(word, 16).unwrap()));
        }
    }
    bytes
}

#[test]
fn the_writer_makes_the_worked_example() {
    let vfs = MemVfs::new();
    let group = GroupSync::new(Lsn(4096));
    let header =
        LogHeader { file_id: FileId(0x0123_4567_89ab_cdef), number: FileNo(7), start: Lsn(4096), durable: Lsn(4096) };
    let mut log = Writer::create(&*vfs, &path(7), header, &group).unwrap();
    let end = log.append(RecordKind::Data, &[b"hello", b"", b", esker"], Reserve::Keep).unwrap();
    assert_eq!(end, Lsn(0x1068));
    log.sync().unwrap();
    log.append(RecordKind::Marker, &[], Reserve::Keep).unwrap();
    log.push().unwrap();

    let written = bytes_of(&*vfs, &path(7));
    let (log_bytes, ahead) = written.split_at(log.bytes() as usize);
    assert_eq!(log_bytes, example());
    assert!(!ahead.is_empty() && ahead.iter().all(|byte| *byte == 0), "allocated ahead: zeros");
}

#[test]
fn the_reader_reads_the_worked_example() {
    let (records, end) = read_bytes(&example()).unwrap();
    assert_eq!(records.len(), 2);
    assert_eq!((records[0].kind, &records[0].payload[..]), (RecordKind::Data, &b"hello, esker"[..]));
    assert_eq!((records[0].position, records[0].end, records[0].durable), (Lsn(0x1040), Lsn(0x1068), Lsn(0x1000)));
    assert_eq!((records[1].kind, &records[1].payload[..]), (RecordKind::Marker, &b""[..]));
    assert_eq!((records[1].position, records[1].end, records[1].durable), (Lsn(0x1068), Lsn(0x1080), Lsn(0x1068)));
    assert_eq!((end.position, end.cause), (Lsn(0x1080), EndCause::EndOfFile));
    assert_eq!((end.vouched, end.leftover), (Lsn(0x1068), false));
}
