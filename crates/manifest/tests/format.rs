//! The worked example of `docs/format/manifest.md` is what a version set makes, byte for byte, and what it reads.

mod support;

use esker_format::{FileId, FileNo, KeyspaceId, SeqNo};
use esker_manifest::{EditReader, Lsn, VersionEdit, VersionSet};
use esker_vfs::{MemVfs, Vfs, read_file};
use esker_wal::{GroupSync, LogHeader, RecordKind, Reserve, Writer};
use std::sync::Arc;
use support::{create, directory, edit, fresh, path, recover};

const MANIFEST: &str = "MANIFEST-000001";

/// The bytes of the page's `hex` block, whose lines are bytes, `|`, and what they mean.
fn example() -> Vec<u8> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/format/manifest.md")).unwrap();
    let (_, block) = page.split_once("```hex\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let bytes = block.lines().map(|line| line.split('|').next().unwrap()).flat_map(str::split_whitespace);
    bytes.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

/// What the page says was done.
fn done(vfs: &Arc<MemVfs>) -> VersionSet {
    let mut set = create(vfs);
    assert_eq!(set.new_file_no().unwrap(), FileNo(2));
    set.commit(edit(
        r#"reserve seq 1048576
           create keyspace 1 "users" ""
           add 1 L0 000002 ada#1,PUT .. bob#3,DEL entries 3 deletions 1 bytes 1234 id 00000000deadbeef created 1600000000000
           flushed 1 3"#,
    ))
    .unwrap();
    set.close(VersionEdit::default(), SeqNo(3)).unwrap();
    set
}

fn edits(vfs: &dyn Vfs) -> Vec<VersionEdit> {
    let mut reader = EditReader::open(vfs.open_read(&path(MANIFEST)).unwrap(), MANIFEST).unwrap();
    std::iter::from_fn(|| reader.next_edit().unwrap()).map(|(_, edit)| edit).collect()
}

#[test]
fn a_version_set_makes_the_worked_example() {
    let vfs = fresh();
    done(&vfs);
    let group = GroupSync::new(Lsn(0));
    let header =
        LogHeader { file_id: FileId(0x0123_4567_89ab_cdef), number: FileNo(1), start: Lsn(0), durable: Lsn(0) };
    // The same records under the file id of the page, where a real manifest has a random one.
    let mut writer = Writer::create(&*vfs, &path("copy"), header, &group).unwrap();
    for edit in edits(&*vfs) {
        writer.append(RecordKind::Data, &[&edit.encode()], Reserve::Use).unwrap();
        writer.sync().unwrap();
    }
    writer.append(RecordKind::Marker, &[], Reserve::Use).unwrap();
    writer.sync().unwrap();
    let copy = read_file(&*vfs, &path("copy"), u64::MAX).unwrap();
    assert_eq!(copy[..writer.bytes() as usize], example());
}

#[test]
fn a_version_set_reads_the_worked_example() {
    let vfs = fresh();
    let made = done(&vfs);
    vfs.edit(&path(MANIFEST), |bytes| *bytes = example()).unwrap();
    let read = VersionSet::read(&*vfs, directory()).unwrap();
    assert_eq!((&read.version, read.edits), (made.current(), 3));
    assert_eq!(read.end.vouched, Lsn(example().len() as u64 - 24));
    let version = recover(&vfs).unwrap().current().clone();
    assert_eq!((version.last_seq, version.next_file, version.next_keyspace), (SeqNo(3), FileNo(3), KeyspaceId(2)));
}
