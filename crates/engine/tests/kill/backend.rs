//! Which kind of log a round has.

use esker::LogBackend;

/// By turns, and so that what else goes by a round's number, modulo two, three or four, comes with either.
pub(crate) fn backend_of(round: u64) -> LogBackend {
    [LogBackend::Mapped, LogBackend::Write][((round + round / 4) % 2) as usize]
}
