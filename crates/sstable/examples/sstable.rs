//! Makes a sorted table of the lines of a text file, line number by line, looks some up, and walks it both ways.
//!
//! `cargo run -p esker-sstable --example sstable [FILE]`

use esker_format::{FileId, InternalKey, SeqNo, ValueKind};
use esker_iterator::InternalIterator;
use esker_sstable::{
    BlockCache, Builder, BuilderOptions, Codec, Expect, KeyHash, ReadMode, Table, TableOptions, Verify,
};
use esker_vfs::{OsVfs, Vfs};
use std::collections::BTreeMap;
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let source = std::env::args().nth(1).unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/src/table.rs").into());
    let text = std::fs::read_to_string(&source)?;
    // A later line replaces an earlier one with the same text: the table keeps both, the newest version first.
    let mut lines: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        lines.entry(line).or_default().insert(0, number + 1);
    }

    let directory = tempfile::tempdir()?;
    let path = directory.path().join("000001.sst");
    let file_id = FileId(OsVfs.random());
    let options = BuilderOptions { file_id, codec: Codec::Lz4, ..Default::default() };
    let mut builder = Builder::new(OsVfs.create_new(&path)?, "000001.sst", options)?;
    for (line, numbers) in &lines {
        for number in numbers {
            let key = InternalKey::new(line.as_bytes(), SeqNo(*number as u64), ValueKind::Put);
            builder.add(key, format!("line {number}").as_bytes())?;
        }
    }
    let built = builder.finish()?;
    println!(
        "{source}: {} entries, {} bytes of text, {} of table",
        built.properties.entries,
        text.len(),
        built.file_bytes
    );

    let options = TableOptions {
        verify: Verify::FirstUse,
        read_mode: ReadMode::Map,
        cache: BlockCache::new(8 << 20),
        expect: Some(Expect { file_bytes: built.file_bytes, file_id, seq: None }),
    };
    let table = Table::open(OsVfs.open_read(&path)?, "000001.sst", options)?;
    println!("{:?}", table.verify()?);

    for line in ["}", "    }", "no such line"] {
        match table.get(line.as_bytes(), KeyHash::of(line.as_bytes()), SeqNo::MAX)? {
            Some((trailer, value)) => println!("{line:?} was last seen at {trailer:?}: {}", value.escape_ascii()),
            None => println!("{line:?} was not seen"),
        }
    }

    let mut iter = table.iter();
    iter.seek_to_first()?;
    println!("first: {:?}", iter.key());
    iter.seek_for_prev(InternalKey::behind_all(b"}"))?;
    println!("last at or before `}}`: {:?}", iter.key());
    let mut walked = 0;
    while iter.valid() {
        walked += 1;
        iter.prev()?;
    }
    println!("{walked} entries back to the front");
    Ok(())
}
