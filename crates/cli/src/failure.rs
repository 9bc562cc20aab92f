//! How a command ends when it does not end well: one line for standard error, and an exit code.
//!
//! | code | means |
//! |---|---|
//! | 0 | fine; also when the reader of our output went away |
//! | 1 | the key is not there, or damage was found |
//! | 2 | bad use, or an error |

use crate::text;
use clap::error::ErrorKind;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;

/// What every command returns.
pub(crate) type Result<T = (), E = Failure> = std::result::Result<T, E>;

/// The end of a command, as the shell and the user see it.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: Option<String>,
}

impl Failure {
    /// The reader of standard output closed it: nobody is left to tell anything.
    pub(crate) fn pipe_closed() -> Self {
        Self { code: 0, message: None }
    }

    /// What was asked for is not there.
    pub(crate) fn not_found(message: impl Display) -> Self {
        Self { code: 1, message: Some(shown(message)) }
    }

    /// Bytes that are not what was written.
    pub(crate) fn damage(message: impl Display) -> Self {
        Self { code: 1, message: Some(shown(message)) }
    }

    /// Bad use, or an error of the surroundings.
    pub(crate) fn error(message: impl Display) -> Self {
        Self { code: 2, message: Some(shown(message)) }
    }

    /// An error of the operating system at `path`.
    pub(crate) fn io(doing: &str, path: &Path, error: &io::Error) -> Self {
        Self::error(format!("{doing} '{}': {}{}", path.display(), describe(error), advice(error)))
    }

    /// Writing to standard output failed.
    pub(crate) fn output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::pipe_closed(),
            _ => Self::error(format!("writing to standard output: {}{}", describe(error), advice(error))),
        }
    }

    /// A command line that does not parse.
    pub(crate) fn usage(error: &clap::Error) -> Self {
        if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            return Self::error("a command is needed; see 'esker --help'"); // its text would be the whole help
        }
        let text = error.to_string();
        // The first paragraph says what is wrong (and lists what is missing); hints and usage follow.
        let what: Vec<&str> = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim).collect();
        let what = what.join(" ");
        let tip = text.lines().find_map(|line| line.trim().strip_prefix("tip: "));
        let what = what.strip_prefix("error: ").unwrap_or(&what);
        Self::error(match tip {
            Some(tip) => format!("{what}; {tip}, or see 'esker --help'"),
            None => format!("{what}; see 'esker --help'"),
        })
    }

    /// The same failure, with `context` and a colon before its message.
    pub(crate) fn within(mut self, context: impl Display) -> Self {
        self.message = self.message.map(|message| format!("{}: {message}", shown(context)));
        self
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        self.code
    }

    /// The line for standard error.
    pub(crate) fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }
}

/// An error of the operating system in words, without the number that the standard library adds.
pub(crate) fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// Too many open files: `std` has no kind for it. The same on Linux, macOS and the BSDs.
const EMFILE: i32 = 24;

/// What to do about an error of the operating system; begins with `; ` if there is anything to say.
pub(crate) fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; check the path",
        io::ErrorKind::NotADirectory => "; a part of the path is a file: check the path",
        io::ErrorKind::PermissionDenied => "; check the permissions, or run it as a user who has them",
        io::ErrorKind::ReadOnlyFilesystem => "; commands that only read work here, others need a copy elsewhere",
        io::ErrorKind::StorageFull => "; make room and run it again",
        io::ErrorKind::IsADirectory => "; a folder lies in the place of a file: move it away",
        io::ErrorKind::FileTooLarge => "; allow larger files ('ulimit -f') and run it again",
        _ if error.raw_os_error() == Some(EMFILE) => "; allow more open files ('ulimit -n') and run it again",
        _ => "",
    }
}

/// Says something on standard error that is no failure.
pub(crate) fn tell(message: impl Display) {
    say(&shown(message));
}

/// A line on standard error. If that can't be written to, nobody is left to tell, and the exit code says what it says.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "esker: {line}");
}

/// On one line, whatever the paths and names in it are.
fn shown(message: impl Display) -> String {
    text::shown(&message.to_string()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line() {
        assert_eq!(Failure::error("a\nesker: b").message(), Some(r"a\nesker: b"));
        assert_eq!(Failure::error("b").within("a\r").message(), Some(r"a\x0d: b"));
    }

    #[test]
    fn errors_of_the_system_lose_their_number() {
        let error = io::Error::from_raw_os_error(2);
        assert!(!describe(&error).contains("os error"), "{}", describe(&error));
    }

    #[test]
    fn a_closed_pipe_is_quiet_and_fine() {
        let failure = Failure::output(&io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.code(), failure.message()), (0, None));
        assert_eq!(Failure::output(&io::Error::from(io::ErrorKind::StorageFull)).code(), 2);
    }
}
