//! Where the feed of changes goes on behind a gap.
//!
//! Whoever comes upon a gap knows what follows on it, but not whether that is followed by the next gap at once: another log may be missing, or the manifest's mark may lie farther on. So it is tried.

use crate::changes::{ChangeOptions, Changes};
use crate::core::Core;
use crate::error::Error;
use std::sync::Arc;

/// `error`; if it is a gap, with the number from which on changes can be told.
pub(crate) fn located(core: &Arc<Core>, mut error: Error) -> Error {
    // Nobody is told anything, so nothing need be durable.
    let options = ChangeOptions { durable: false };
    while let Some(from) = error.changes_from()
        && let Err(next) = Changes::begin(core, from, options)
        && let Some(farther) = next.changes_from().filter(|farther| *farther > from)
    {
        error = error.with_changes_from(farther);
    }
    error
}
