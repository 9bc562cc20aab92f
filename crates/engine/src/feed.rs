//! What the feed of changes can tell: which logs are kept for it beyond what recovery needs, and from which sequence number on it is whole.
//!
//! ```text
//!  retained logs              needed logs, the last being written
//!  |=======||=======||=======|=======||====>
//!  ^ base: nothing at or below is told of                 ^ visible
//! ```
//! A log that recovery no longer needs is retained as long as the options or a [`Hold`] say so; then it is let go of, the oldest first, and the base moves on. All logs of a line are one chain of positions, so one that is
//! missing or cut short shows. Where the line was cut (a broken log, a failed one that `resume` has given up), the manifest says so: no log older than `changes_log`, and nothing at or below `changes_from`, is part of the feed.
//!
//! Retained logs are known by their files: all from `changes_log` on up to the oldest that recovery needs. So nothing is written for them, and a crash at any point leaves a shorter chain at worst.

use crate::change::Named;
use crate::core::{Core, LogFile, State};
use crate::error::Result;
use esker_format::{FileKind, FileNo, KeyspaceId, SeqNo};
use esker_manifest::Version;
use esker_vfs::is_of_the_medium;
use esker_wal::{EndCause, Lsn, Reader, WalError};
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Ingests that the manifest tells of at most, unless somebody holds older ones: then the older half is forgotten. Logs are bounded by their bytes and their age; ingests alone write nothing to logs, and would be listed for ever.
const INGESTS_MAX: usize = 1024;

/// What the state lock guards of it.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    /// The oldest first, all older than the logs that are needed.
    pub(crate) retained: VecDeque<Retained>,
    /// Who holds what, by a number of its own: nothing above it may go.
    holds: BTreeMap<u64, SeqNo>,
    next_hold: u64,
    /// The last sequence number that is in no log of the feed; `None` until somebody needs to know, since it takes a look into the oldest log.
    pub(crate) base: Option<SeqNo>,
    /// The greatest number in any table at open. A crash may have taken it from the log: then what came up to it is told nowhere.
    pub(crate) in_tables: SeqNo,
    /// The last number at open. Logs that are missing between those there are were gone by then, and hold nothing above it.
    pub(crate) at_open: SeqNo,
    /// The names of keyspaces that were dropped since open.
    pub(crate) dropped: BTreeMap<KeyspaceId, Named>,
}

/// A log that only the feed still needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retained {
    pub(crate) number: FileNo,
    /// The last sequence number in it, if that is known.
    pub(crate) last_seq: Option<SeqNo>,
    pub(crate) bytes: u64,
    /// Since when nothing else needs it, by the engine's clock.
    since: Duration,
}

impl Feed {
    /// Nothing of what was is part of the feed any more.
    fn cut(&mut self, base: SeqNo) -> Vec<Retained> {
        self.base = Some(base);
        self.retained.drain(..).collect()
    }

    pub(crate) fn hold(&mut self, from: SeqNo) -> u64 {
        self.next_hold += 1;
        self.holds.insert(self.next_hold, from);
        self.next_hold
    }

    /// Moves a hold on: what is at or below `from` may go.
    pub(crate) fn move_hold(&mut self, number: u64, from: SeqNo) {
        if let Some(held) = self.holds.get_mut(&number) {
            *held = from;
        }
    }

    fn is_held(&self, log: &Retained) -> bool {
        // One of which it is not known what it holds may hold anything.
        self.holds.values().any(|from| log.last_seq.is_none_or(|last| last > *from))
    }
}

/// Keeps what the feed needs from a sequence number on, while it lives.
pub(crate) struct Hold {
    pub(crate) core: Arc<Core>,
    pub(crate) number: u64,
}

impl Hold {
    /// Keeps nothing any more; whatever only it kept is gone when this returns.
    pub(crate) fn release(&self) {
        let released = {
            let mut state = self.core.state.lock();
            state.feed.holds.remove(&self.number);
            self.core.trim_feed(&mut state)
        };
        self.core.let_go_of_retained(released);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.release();
    }
}

impl Core {
    /// Whether the options ask for logs to be kept for the feed.
    pub(crate) fn retains_logs(&self) -> bool {
        self.options.wal_retain_bytes.is_some() || self.options.wal_retain_age.is_some()
    }

    /// Whether logs are kept for the feed, so that they must be durable before they are not needed for anything else.
    pub(crate) fn keeps_logs(&self) -> bool {
        self.retains_logs() || !self.state.lock().feed.holds.is_empty()
    }

    /// Takes over logs that recovery no longer needs, and returns those that the feed does not need either.
    #[must_use]
    pub(crate) fn retire_logs(&self, state: &mut State, logs: impl IntoIterator<Item = LogFile>) -> Vec<Retained> {
        let since = self.vfs.clock().now();
        let retired = logs.into_iter().map(|log| {
            let last_seq = log.newest_seq();
            Retained { number: log.number, last_seq, bytes: log.bytes, since }
        });
        state.feed.retained.extend(retired);
        self.trim_feed(state)
    }

    /// Takes the logs out that neither the options nor a hold asks to keep, the oldest first. Who only reads has no say in that.
    #[must_use]
    pub(crate) fn trim_feed(&self, state: &mut State) -> Vec<Retained> {
        if self.read_only {
            return Vec::new();
        }
        let now = self.vfs.clock().now();
        let feed = &mut state.feed;
        let mut bytes: u64 = feed.retained.iter().map(|log| log.bytes).sum();
        let mut released = Vec::new();
        while let Some(oldest) = feed.retained.front().copied() {
            let fits = self.options.wal_retain_bytes.is_none_or(|max| bytes <= max);
            let is_young = self.options.wal_retain_age.is_none_or(|max| now.saturating_sub(oldest.since) <= max);
            if self.retains_logs() && fits && is_young || feed.is_held(&oldest) {
                break;
            }
            feed.retained.pop_front();
            // If it is not known what it held, the next one will tell.
            feed.base = oldest.last_seq;
            bytes -= oldest.bytes;
            released.push(oldest);
        }
        released
    }

    /// Lets go of logs that the feed kept; not under the commit lock.
    pub(crate) fn let_go_of_retained(&self, released: Vec<Retained>) {
        if released.is_empty() {
            return;
        }
        let mut commit = self.commit.lock();
        // It rests, or is being closed, perhaps without ever having begun; or a log has failed.
        if commit.writer.is_none() {
            commit.stray_logs.extend(released.iter().map(|log| log.number));
            return;
        }
        drop(commit);
        for Retained { number, last_seq, bytes, .. } in released {
            self.let_go_of_log(&LogFile { number, last_seq, bytes, start: Lsn::ZERO });
        }
    }

    /// Lets go of logs that have grown old; whether there were any.
    pub(crate) fn upkeep_of_feed(&self) -> bool {
        let released = {
            let mut state = self.state.lock();
            if state.feed.retained.is_empty() {
                return false;
            }
            self.trim_feed(&mut state)
        };
        let did = !released.is_empty();
        self.let_go_of_retained(released);
        if did {
            self.begin_for_stray_logs();
        }
        did
    }

    /// At the end of the engine's life: who holds anything holds it no longer. Returns the logs that are not kept for the next one, and up to where the feed then tells of nothing.
    pub(crate) fn close_feed(&self, logs: Vec<LogFile>, last_seq: SeqNo) -> (Vec<Retained>, SeqNo) {
        let mut state = self.state.lock();
        state.feed.holds.clear();
        let released = self.retire_logs(&mut state, logs);
        let base = if state.feed.retained.is_empty() { last_seq } else { state.feed.base.unwrap_or_default() };
        (released, base)
    }

    /// What the manifest need not tell of any more: ingests below the base, and the older half of too many. Logs that hold something at or below it may be there still; the feed tells nothing of that.
    pub(crate) fn changes_forgotten(&self, version: &Version) -> Option<(SeqNo, FileNo)> {
        let oldest = version.ingests.first()?.seq;
        let state = self.state.lock();
        let too_many = (version.ingests.len() >= INGESTS_MAX).then(|| version.ingests[INGESTS_MAX / 2 - 1].seq);
        let unheld = too_many.map(|seq| state.feed.holds.values().fold(seq, |seq, from| seq.min(*from)));
        let from = state.feed.base.max(unheld).filter(|from| *from >= oldest)?;
        Some((from.max(version.changes_from), version.changes_log))
    }

    /// Cuts the feed: everything up to `base` is in tables, and no log of before is to be trusted.
    pub(crate) fn cut_feed(&self, base: SeqNo) {
        let old = self.state.lock().feed.cut(base);
        old.iter().for_each(|log| self.removals.owe(FileKind::Wal(log.number)));
    }

    /// Finds the logs that an earlier life of the engine has retained. One opened for writing that is not to retain any leaves them to the sweep.
    pub(crate) fn adopt_retained_logs(&self, version: &Version) -> Result<()> {
        if !self.retains_logs() && !self.read_only {
            return Ok(());
        }
        let names = self.vfs.list(&self.dir).map_err(|error| crate::Error::io("list", &self.dir, error))?;
        let is_part = |number: &FileNo| *number >= version.changes_log && *number < version.oldest_log;
        let mut numbers: Vec<FileNo> = names
            .iter()
            .filter_map(|name| match FileKind::parse(name) {
                Some(FileKind::Wal(number)) => Some(number).filter(is_part),
                _ => None,
            })
            .collect();
        numbers.sort_unstable();
        let since = self.vfs.clock().now();
        let mut retained = VecDeque::new();
        for number in numbers {
            let path = FileKind::Wal(number).path(&self.dir);
            match self.look_at_retained(number, &path) {
                Ok(Some(bytes)) => retained.push_back(Retained { number, last_seq: None, bytes, since }),
                Ok(None) => {}
                // As with damage: whoever reads the feed is to hear of it, and nobody else needs the log. How long it is may not be known.
                Err(error) if error.io().is_some_and(is_of_the_medium) => {
                    let bytes = self.vfs.metadata(&path).map_or(0, |found| found.len_bytes);
                    retained.push_back(Retained { number, last_seq: None, bytes, since });
                    self.tell_of_error(error.into());
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.state.lock().feed.retained = retained;
        Ok(())
    }

    /// The length of a log, if it is part of the feed.
    fn look_at_retained(&self, number: FileNo, path: &Path) -> Result<Option<u64>, WalError> {
        let name = FileKind::Wal(number).name();
        let failed = |source| WalError::Io {
            name: name.as_str().into(),
            operation: "open",
            offset: 0,
            source: Arc::new(source),
        };
        let bytes = self.vfs.metadata(path).map_err(failed)?.len_bytes;
        let is_part = match Reader::open(self.vfs.open_read(path).map_err(failed)?, &name) {
            // One that still holds what it was before was made ahead and never begun.
            Ok(reader) => reader.header().number == number,
            // Whoever reads the feed is to hear of damage.
            Err(WalError::NoHeader { cause: EndCause::Torn { .. }, .. }) => true,
            Err(WalError::NoHeader { .. }) => false,
            Err(error) => return Err(error),
        };
        Ok(is_part.then_some(bytes))
    }
}
