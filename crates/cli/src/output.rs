//! Standard output, buffered, with the one way its errors are told.

use crate::failure::{self, Failure, Result};
use crate::text;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

/// Standard output. [`Output::finish`] must be called: bytes still buffered when it is dropped may be lost without a word.
pub(crate) struct Output {
    out: BufWriter<StdoutLock<'static>>,
    terminal: bool,
    /// Whether the command has done what it was asked for, and only says so.
    is_report: bool,
    /// Whether a report could not be written, which was told.
    is_lost: bool,
}

impl Output {
    /// Takes standard output for the rest of the command.
    pub(crate) fn new() -> Self {
        let stdout = io::stdout().lock();
        let terminal = stdout.is_terminal();
        Self { out: BufWriter::with_capacity(64 << 10, stdout), terminal, is_report: false, is_lost: false }
    }

    /// The same, of a command that has done what it was asked for. If that can't be said, it is done all the same: who was told of a failure would have it done again.
    pub(crate) fn report() -> Self {
        Self { is_report: true, ..Self::new() }
    }

    fn does(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result {
        if self.is_lost {
            return Ok(());
        }
        match write(&mut self.out) {
            Err(error) if self.is_report => {
                if error.kind() != io::ErrorKind::BrokenPipe {
                    failure::tell(format!("it is done; only that could not be written: {}", failure::describe(&error)));
                }
                self.is_lost = true;
                Ok(())
            }
            written => written.map_err(|error| Failure::output(&error)),
        }
    }

    /// Whether a person is looking.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Writes `bytes` as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result {
        self.does(|out| out.write_all(bytes))
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
        self.does(|out| out.flush())
    }
}
