//! Records of a file: cut apart, and a key found in each. One record in memory at a time.
//!
//! | format | a record | its key | its value |
//! |---|---|---|---|
//! | `jsonl` | a line, one JSON object | the text of a field | the line as it stood |
//! | `csv`, `tsv` | a line, or several where a quoted field has newlines | the text of a column | the record as it stood |
//! | `pairs` | a line, `{"key":..,"value":..}` | `key`, or `key_hex` | `value`, or `value_hex` |
//!
//! "As it stood" is byte for byte, without the newline that ends the record and with the carriage return before it, if there is one: so a
//! file is given back as it was, whichever line ends it has. Blank lines are no records. A byte order mark is dropped.

mod delimited;
mod json;
mod lines;

pub(crate) use delimited::{Delimited, Dialect, Fields};
pub(crate) use json::{JsonLines, Pairs, check_object, key_of};
pub(crate) use lines::Lines;

use std::io;

/// One record. The buffers are used again for the next.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// The line it begins in, counted from 1.
    pub(crate) line: u64,
    /// Its key.
    pub(crate) key: Vec<u8>,
    /// Its value.
    pub(crate) value: Vec<u8>,
}

impl Record {
    fn clear(&mut self) {
        self.key.clear();
        self.value.clear();
    }
}

/// What [`Reader::next`] found.
#[derive(Debug)]
pub(crate) enum Next {
    /// A record.
    Record,
    /// Something that is not a record, and was read over.
    Bad {
        /// The line it begins in.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The end of the input.
    End,
    /// The input could not be read.
    Failed(io::Error),
}

impl Next {
    fn bad(line: u64, reason: impl Into<String>) -> Self {
        Self::Bad { line, reason: reason.into() }
    }

    fn too_long(line: u64, limit_bytes: usize) -> Self {
        Self::bad(line, format!("longer than the limit of {limit_bytes} bytes; raise it with --record-limit"))
    }

    fn from_parse(line: u64, parsed: Result<(), String>) -> Self {
        match parsed {
            Ok(()) => Self::Record,
            Err(reason) => Self::bad(line, reason),
        }
    }
}

/// A file of records, read from its beginning to its end.
pub(crate) trait Reader {
    /// Reads the next record. What `record` holds is only of use after [`Next::Record`].
    fn next(&mut self, record: &mut Record) -> Next;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::escape;

    /// All of a reader's findings, each as `LINE: KEY = VALUE` or `LINE! REASON`.
    pub(super) fn read_all(reader: &mut dyn Reader) -> Vec<String> {
        let (mut record, mut found) = (Record::default(), Vec::new());
        loop {
            found.push(match reader.next(&mut record) {
                Next::Record => format!("{}: {} = {}", record.line, escape(&record.key), escape(&record.value)),
                Next::Bad { line, reason } => format!("{line}! {reason}"),
                Next::End => return found,
                Next::Failed(error) => panic!("{error}"),
            });
        }
    }
}
