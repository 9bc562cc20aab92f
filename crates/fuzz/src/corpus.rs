//! What the corpus begins with: files as this version writes them, and their parts.

use crate::{directory, engine, feed, outside, table};
use esker::vfs::{MemVfs, Vfs, read_file};
use esker::{Background, Codec, Engine, KeyspaceOptions, Options};
use esker_blob::{BlobRef, Writer};
use esker_format::{FileId, FileNo};
use esker_manifest::EditReader;
use esker_wal::Reader;
use std::path::Path;
use std::sync::Arc;

/// Beginnings for the target `name`.
///
/// # Panics
/// If Esker does not write what it should, in memory.
pub fn corpus(name: &str) -> Vec<Vec<u8>> {
    let parts = |codec, block_size_bytes| table::Parts::of(&table::real(codec, block_size_bytes));
    let plain = || parts(Codec::None, 160);
    match name {
        "log" | "changes" => vec![log(), two_logs_worth()],
        "batch" => payloads(log()),
        "table" => vec![
            table::real(Codec::None, 160),
            table::real(Codec::Lz4, 400),
            table::real(Codec::None, 4096),
            table::plain(Codec::None, 160),
            table::plain(Codec::Lz4, 4096),
        ],
        "salvage_table" => vec![table::real(Codec::None, 160), table::real(Codec::Lz4, 400)],
        "outside" => vec![outside::real(Codec::None), outside::real(Codec::Lz4)],
        "directory" => directory::real(),
        "table_footer" => vec![plain().footer],
        "table_index" => vec![plain().index, parts(Codec::None, 4096).index],
        "table_block" => vec![plain().block, parts(Codec::None, 4096).block],
        "table_lz4" => vec![parts(Codec::Lz4, 4096).block],
        "table_filter" => vec![plain().filter],
        "table_ranges" => vec![plain().ranges],
        "table_properties" => vec![plain().properties],
        "blob" => vec![blob()],
        "blob_reference" => {
            let mut bytes = Vec::new();
            BlobRef { file: FileNo(300), offset: 4096, value_bytes: 70_000 }.encode_into(&mut bytes);
            vec![bytes]
        }
        "manifest" | "salvage_manifest" => vec![directory_files().1],
        "manifest_edit" => edits().iter().map(|edit| edit.encode()).collect(),
        "current" => vec![b"MANIFEST-000001 7ed3298a\n".to_vec()],
        "file_name" => ["000007.sst", "MANIFEST-000001", "OPTIONS-1000000", "000004.wal.aside", "CURRENT.tmp", "LOCK"]
            .map(|name| name.as_bytes().to_vec())
            .into(),
        "edit_text" => edits().iter().map(|edit| edit.to_string().into_bytes()).collect(),
        "options" => vec![directory_files().0],
        "keyspace_options" => {
            let text = |edit: esker_manifest::VersionEdit| edit.create_keyspaces.into_iter().map(|(_, _, text)| text);
            edits().into_iter().flat_map(text).map(String::into_bytes).collect()
        }
        "engine" => engine::real(),
        _ => Vec::new(),
    }
}

/// A log with operations of all kinds, without what was only allocated.
fn log() -> Vec<u8> {
    let (vfs, path) = feed::real();
    trimmed(read_file(&vfs, &path, 1 << 24).expect("it is there"))
}

/// The same, ended in the middle of a record.
fn two_logs_worth() -> Vec<u8> {
    let mut bytes = log();
    bytes.truncate(bytes.len() - 20);
    bytes
}

fn trimmed(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(end.next_multiple_of(8));
    bytes
}

fn payloads(log: Vec<u8>) -> Vec<Vec<u8>> {
    let mut reader = Reader::open(crate::bytes::Bytes::new(log), "log").expect("a whole log");
    let mut payloads = Vec::new();
    while let Some(record) = reader.next().expect("a whole log") {
        payloads.push(record.payload.to_vec());
    }
    payloads
}

fn blob() -> Vec<u8> {
    let (vfs, path) = (MemVfs::new(), Path::new("b"));
    let mut writer = Writer::new(vfs.create_new(path).expect("a new file"), "b", FileNo(7), FileId(7));
    for value in [&b"short"[..], &[9; 100], b"", &[3; 5000]] {
        writer.add(value).expect("memory takes it");
    }
    writer.finish().expect("memory takes it");
    read_file(&*vfs, path, 1 << 20).expect("it is there")
}

/// OPTIONS and manifest of an engine with keyspaces, tables, and blob files.
fn directory_files() -> (Vec<u8>, Vec<u8>) {
    let vfs = MemVfs::new();
    let options = Options { blob_bytes_min: 64, memory_budget_bytes: 1 << 20, ..Options::default() };
    let builder = Engine::builder("/d").options(options).vfs(Arc::clone(&vfs) as Arc<dyn Vfs>);
    let engine = builder.background(Background::Manual).open().expect("memory takes it");
    let others = KeyspaceOptions { memtable_bytes: Some(77_000), ..Default::default() };
    let other = engine.keyspace("other", others).expect("a new name");
    let write = || -> esker::Result<()> {
        for value in [&b"1"[..], &[8; 100]] {
            engine.put("a", value)?;
            engine.put("b", value)?;
            engine.delete_range("c", "d")?;
            other.put("e", value)?;
            engine.flush()?;
        }
        engine.compact_range(..)?;
        engine.drop_keyspace("other")
    };
    write().expect("memory takes it");
    drop(engine);
    let names = vfs.list(Path::new("/d")).expect("it is there");
    let read = |prefix: &str| {
        let name = names.iter().filter(|name| name.starts_with(prefix)).max().expect("it is there");
        read_file(&*vfs, &Path::new("/d").join(name), 1 << 24).expect("it is there")
    };
    (read("OPTIONS-"), trimmed(read("MANIFEST-")))
}

fn edits() -> Vec<esker_manifest::VersionEdit> {
    let mut reader = EditReader::open(crate::bytes::Bytes::new(directory_files().1), "m").expect("a whole manifest");
    let mut edits = Vec::new();
    while let Some((_, edit)) = reader.next_edit().expect("a whole manifest") {
        edits.push(edit);
    }
    edits
}
