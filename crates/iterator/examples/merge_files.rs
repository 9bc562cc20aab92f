//! Merges sorted text files line by line, holding one line of each: `cargo run --example merge_files -- a.txt b.txt`.
//!
//! Shows how a source of one's own becomes an `InternalIterator`: this one can go forward only, and says so.

use esker_format::{InternalKey, SeqNo, ValueKind};
use esker_iterator::{InternalIterator, MergingIterator};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, Write};

/// The lines of a file, which are sorted. A line's number is its sequence number, so that equal lines stay apart.
struct Lines {
    file: BufReader<File>,
    line: Option<Vec<u8>>,
    number: u64,
    failed: Option<io::ErrorKind>,
}

impl Lines {
    fn open(path: &str) -> io::Result<Self> {
        Ok(Self { file: BufReader::new(File::open(path)?), line: None, number: 0, failed: None })
    }

    fn read(&mut self) -> io::Result<()> {
        let mut line = self.line.take().unwrap_or_default();
        line.clear();
        if self.file.read_until(b'\n', &mut line)? > 0 {
            line.pop_if(|byte| *byte == b'\n');
            self.line = Some(line);
            self.number += 1;
        }
        Ok(())
    }

    /// An error sticks, so that the merge can ask for it again.
    fn keep(&mut self, result: io::Result<()>) -> io::Result<()> {
        result.inspect_err(|error| self.failed = Some(error.kind()))
    }
}

impl InternalIterator for Lines {
    type Error = io::Error;

    fn valid(&self) -> bool {
        self.line.is_some() && self.failed.is_none()
    }

    fn seek_to_first(&mut self) -> io::Result<()> {
        (self.number, self.failed) = (0, None);
        let first = self.file.rewind().and_then(|()| self.read());
        self.keep(first)
    }

    fn next(&mut self) -> io::Result<()> {
        if let Some(kind) = self.failed {
            return Err(kind.into());
        }
        assert!(self.valid(), "next() on an iterator that stands nowhere");
        let next = self.read();
        self.keep(next)
    }

    fn seek(&mut self, target: InternalKey<'_>) -> io::Result<()> {
        self.seek_to_first()?;
        while self.valid() && self.key() < target {
            self.next()?;
        }
        Ok(())
    }

    fn seek_to_last(&mut self) -> io::Result<()> {
        self.keep(Err(io::ErrorKind::Unsupported.into()))
    }

    fn seek_for_prev(&mut self, _: InternalKey<'_>) -> io::Result<()> {
        self.seek_to_last()
    }

    fn prev(&mut self) -> io::Result<()> {
        self.seek_to_last()
    }

    fn key(&self) -> InternalKey<'_> {
        let line = self.line.as_deref().expect("key() of an iterator that stands nowhere");
        // Of equal lines the one with the smallest number shall come first, and larger sequence numbers do.
        InternalKey::new(line, SeqNo(SeqNo::MAX.0 - self.number), ValueKind::Put)
    }

    fn value(&self) -> &[u8] {
        &[]
    }
}

fn main() -> io::Result<()> {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    if paths.is_empty() {
        println!("usage: merge_files SORTED-FILE...");
        return Ok(());
    }
    let sources = paths.iter().map(|path| Lines::open(path)).collect::<io::Result<_>>()?;
    let mut merged = MergingIterator::new(sources);
    let mut out = io::stdout().lock();
    merged.seek_to_first()?;
    while merged.valid() {
        out.write_all(merged.key().user_key)?;
        out.write_all(b"\n")?;
        merged.next()?;
    }
    Ok(())
}
