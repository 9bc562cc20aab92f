//! A journal of lines in one directory, without the engine: each run reads all logs, and adds the lines it is given to a new one.
//!
//! ```text
//! cargo run -p esker-wal --example journal -- /tmp/journal "first line" "second line"
//! ```

use esker_format::{FileId, FileKind, FileNo};
use esker_vfs::{OsVfs, Vfs};
use esker_wal::{GroupSync, LogHeader, Lsn, Reader, RecordKind, Reserve, WalError, Writer};
use std::error::Error;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory: PathBuf = arguments.next().map_or_else(|| std::env::temp_dir().join("esker-journal"), PathBuf::from);
    let lines: Vec<String> = arguments.collect();
    let vfs = OsVfs;
    vfs.create_dir_all(&directory)?;

    let (last, end) = print_all(&vfs, &directory)?;
    if !lines.is_empty() {
        // What was read may not be on stable storage; the new log does not claim that it is.
        let group = GroupSync::new(Lsn::ZERO);
        let number = FileNo(last.0 + 1);
        let header = LogHeader { file_id: FileId(vfs.random()), number, start: end, durable: Lsn::ZERO };
        let mut log = Writer::create(&vfs, &FileKind::Wal(number).path(&directory), header, &group)?;
        for line in &lines {
            log.append(RecordKind::Data, &[line.as_bytes()], Reserve::Keep)?;
        }
        log.sync()?;
        println!("{} lines added to {}", lines.len(), directory.display());
    }
    Ok(())
}

/// Prints the lines of all logs, and returns the last log's number and where the line of positions ends.
fn print_all(vfs: &dyn Vfs, directory: &Path) -> Result<(FileNo, Lsn), Box<dyn Error>> {
    let mut logs: Vec<FileNo> = (vfs.list(directory)?.iter())
        .filter_map(|name| match FileKind::parse(name) {
            Some(FileKind::Wal(number)) => Some(number),
            _ => None,
        })
        .collect();
    logs.sort();
    let mut position = Lsn::ZERO;
    for number in &logs {
        let kind = FileKind::Wal(*number);
        let mut reader = match Reader::open(vfs.open_read(&kind.path(directory))?, &kind.name()) {
            Err(WalError::NoHeader { .. }) => continue, // The process died while it made the file.
            other => other?,
        };
        if reader.header().start != position {
            return Err(format!("{} does not go on where the log before it ends", kind.name()).into());
        }
        while let Some(record) = reader.next()? {
            if record.kind == RecordKind::Data {
                println!("{:>8}  {}", record.position, String::from_utf8_lossy(record.payload));
            }
        }
        let end = reader.end().expect("the reader is at its end");
        if end.vouched > end.position {
            return Err(format!("{} is damaged: {}", kind.name(), end.cause).into());
        }
        position = end.position;
    }
    Ok((logs.last().copied().unwrap_or_default(), position))
}
