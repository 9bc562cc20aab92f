//! Puts the files named on the command line, or its own source, into one blob file, and reads them back by their references.
//!
//! `cargo run -p esker-blob --example blob [FILE ...]`

use esker_blob::{Access, BlobFile, Writer};
use esker_format::{FileId, FileNo};
use esker_vfs::{OsVfs, Vfs};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let mut sources: Vec<String> = std::env::args().skip(1).collect();
    if sources.is_empty() {
        let own = ["writer.rs", "file.rs", "frame.rs"];
        sources.extend(own.map(|name| format!("{}/src/{name}", env!("CARGO_MANIFEST_DIR"))));
    }
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("000001.blob");
    let mut writer = Writer::new(OsVfs.create_new(&path)?, "000001.blob", FileNo(1), FileId(OsVfs.random()));
    let mut index = Vec::new();
    for source in &sources {
        index.push((source, writer.add(&std::fs::read(source)?)?));
    }
    let built = writer.finish()?;
    println!("{} values in a file of {} bytes", built.records, built.file_bytes);

    let file = BlobFile::open(OsVfs.open_read(&path)?, "000001.blob", Access::Mapped, None)?;
    for (source, reference) in index {
        let mut stored = Vec::new();
        reference.encode_into(&mut stored);
        let value = file.get(reference)?;
        println!("{source}: {} bytes at {}, by a reference of {} bytes", value.len(), reference.offset, stored.len());
    }
    file.verify()?;
    Ok(())
}
