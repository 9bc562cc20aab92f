//! Standard output, buffered, with the one way its errors are told.

use crate::failure::{Failure, Result};
use crate::text;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

/// Standard output. [`Output::finish`] must be called: bytes still buffered when it is dropped may be lost without a word.
pub(crate) struct Output {
    out: BufWriter<StdoutLock<'static>>,
    terminal: bool,
}

impl Output {
    /// Takes standard output for the rest of the command.
    pub(crate) fn new() -> Self {
        let stdout = io::stdout().lock();
        let terminal = stdout.is_terminal();
        Self { out: BufWriter::with_capacity(64 << 10, stdout), terminal }
    }

    /// Whether a person is looking.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Writes `bytes` as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result {
        self.out.write_all(bytes).map_err(|error| Failure::output(&error))
    }

    /// Writes a line, of which each part is escaped already as its command says.
    pub(crate) fn line(&mut self, text: impl AsRef<[u8]>) -> Result {
        self.bytes(text.as_ref())?;
        self.bytes(b"\n")
    }

    /// Writes a sentence as a line: names and paths in it, whatever they hold, neither end it nor command the terminal.
    pub(crate) fn say(&mut self, text: impl AsRef<str>) -> Result {
        self.line(text::shown(text.as_ref()).as_bytes())
    }

    /// Writes a line of JSON.
    pub(crate) fn json(&mut self, value: &impl serde::Serialize) -> Result {
        let line = serde_json::to_vec(value).expect("reports have string keys and finite numbers");
        self.line(line)
    }

    /// Hands everything to the operating system.
    pub(crate) fn finish(mut self) -> Result {
        self.out.flush().map_err(|error| Failure::output(&error))
    }
}
