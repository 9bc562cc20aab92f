//! Compaction filters: which keyspace has which, and what is done about one that fails.
//!
//! The filter itself works within a job (`esker_compaction::CompactionFilter`). What it changes is no write and has no sequence number, so a snapshot that is taken while such a job runs keeps the state that it found: see
//! [`crate::snapshot`].
//!
//! Where operands are merged it is asked about values that are whole: see [`Above`].

use crate::core::{Core, KeyspaceCore};
use crate::error::{Error, Result};
use crate::listener::Event;
use crate::snapshot::FilteringJob;
use crate::tables::OpenTable;
use esker_compaction::{CompactionFilter, Filtering, HasNewer, Plan};
use esker_format::{FileNo, KeyHash, SeqNo};
use esker_manifest::Level;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Those that were registered, by name.
pub(crate) type Filters = BTreeMap<String, Arc<dyn CompactionFilter>>;

const NAME_BYTES_MAX: usize = 255;
/// How long a keyspace is compacted without its filter after that has failed, at first and at most.
const REST_FIRST: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(600);

/// When a filter that has failed is asked again.
#[derive(Debug, Default)]
pub(crate) struct FilterRest {
    failures: u32,
    not_before: Duration,
    /// How many calls of `compact_range` are under way. They promise that all is shown to the filter, so it does not rest in any job: what one wrote without it would count as shown.
    by_hand: usize,
}

/// A call of `compact_range` under way.
pub(crate) struct ByHand<'a> {
    keyspace: &'a KeyspaceCore,
}

impl<'a> ByHand<'a> {
    /// From here on each job that begins asks the keyspace's filter.
    pub(crate) fn begin(keyspace: &'a KeyspaceCore) -> Self {
        keyspace.filter_rest.lock().by_hand += 1;
        Self { keyspace }
    }
}

impl Drop for ByHand<'_> {
    fn drop(&mut self) {
        self.keyspace.filter_rest.lock().by_hand -= 1;
    }
}

/// # Errors
/// `InvalidArgument` for what can't be a name.
pub(crate) fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(|c| c.is_control() || c == '"') {
        return Err(Error::invalid(format!(
            "the name of a compaction filter has 1 to {NAME_BYTES_MAX} bytes, no quotes, and no control characters: {name:?}"
        )));
    }
    Ok(())
}

/// # Errors
/// `InvalidArgument` if somebody names a filter that is not registered.
pub(crate) fn check_named(filters: &Filters, name: Option<&str>) -> Result<()> {
    match name {
        Some(name) if !filters.contains_key(name) => Err(Error::invalid(format!(
            "there is no compaction filter {name}: register it with Builder::compaction_filter"
        ))),
        _ => Ok(()),
    }
}

/// A filter about to work in a job. While it is there, snapshots keep the keyspace's state as they find it.
pub(crate) struct AtWork<'a> {
    filter: Arc<dyn CompactionFilter>,
    _job: FilteringJob<'a>,
}

impl AtWork<'_> {
    pub(crate) fn filtering<'f>(
        &'f self,
        core: &'f Core,
        level: Level,
        has_newer: Option<HasNewer<'f>>,
    ) -> Filtering<'f> {
        Filtering { filter: &*self.filter, level, files: Some(core), has_newer }
    }
}

/// What lies above the inputs of a job: the memtables, and the tables that are newer, as they are when it is asked.
///
/// An operand that is written later comes upon what the filter left, as if it had been asked just before. One that is written while a call of `compact_range` is under way has the value below it left unasked, and there is no second round:
/// what it makes of that is newer than the call, as a value put meanwhile is, and whoever goes on writing could keep the call going.
pub(crate) struct Above<'a> {
    keyspace: &'a KeyspaceCore,
    /// Ascending.
    inputs: Vec<FileNo>,
}

impl<'a> Above<'a> {
    /// `None` if nothing is merged in the keyspace: then what is newer hides what is older, and it does not matter what becomes of that.
    pub(crate) fn of(keyspace: &'a KeyspaceCore, plan: &Plan) -> Option<Self> {
        keyspace.merging.as_ref()?;
        let mut inputs: Vec<FileNo> = plan.tables().map(|(_, table)| table.number).collect();
        inputs.sort_unstable();
        Some(Self { keyspace, inputs })
    }

    /// Whether there is a version of a key, which one of the inputs has. Also if that can't be found out.
    pub(crate) fn holds(&self, user_key: &[u8]) -> bool {
        let hash = KeyHash::of(user_key);
        let read = self.keyspace.read.load();
        if read.memtables().any(|memtable| memtable.get(user_key, hash, SeqNo::MAX).is_some()) {
            return true;
        }
        // The newest comes first, and from the first of the inputs on all is older or an input itself.
        let is_input = |open: &&OpenTable| self.inputs.binary_search(&open.meta.number).is_ok();
        let mut newer = read.view.candidates(user_key).take_while(|open| !is_input(open));
        newer.any(|open| {
            let found = open.table().and_then(|table| Ok(table.get(user_key, hash, SeqNo::MAX)?.is_some()));
            found.unwrap_or(true)
        })
    }
}

impl Core {
    /// The filter of a keyspace, if it has one, and that is registered.
    pub(crate) fn filter_of(&self, keyspace: &KeyspaceCore) -> Option<&Arc<dyn CompactionFilter>> {
        let options = keyspace.options.lock();
        options.compaction_filter.as_ref().and_then(|name| self.filters.get(name))
    }

    /// Begins a job in which the keyspace's filter works, if it has one that does not rest.
    pub(crate) fn begin_filtering(&self, keyspace: &Arc<KeyspaceCore>) -> Option<AtWork<'_>> {
        let filter = Arc::clone(self.filter_of(keyspace)?);
        let rest = keyspace.filter_rest.lock();
        if rest.by_hand == 0 && self.vfs.clock().now() < rest.not_before {
            return None;
        }
        drop(rest);
        Some(AtWork { filter, _job: self.snapshots.begin_filtering(keyspace) })
    }

    /// Notes how a filter did. One that has failed rests, longer each time, so that compaction goes on.
    pub(crate) fn filter_did(&self, keyspace: &KeyspaceCore, failed: bool) {
        let mut rest = keyspace.filter_rest.lock();
        if !failed {
            *rest = FilterRest { by_hand: rest.by_hand, ..FilterRest::default() };
            return;
        }
        let wait = REST_FIRST.saturating_mul(1 << rest.failures.min(16)).min(REST_MAX);
        rest.failures += 1;
        rest.not_before = self.vfs.clock().now() + wait;
        self.counters.filter_failures.add(1);
    }

    /// # Errors
    /// `InvalidArgument` if somebody names a filter that is not registered.
    pub(crate) fn check_filter_named(&self, name: Option<&str>) -> Result<()> {
        check_named(&self.filters, name)
    }

    /// Tells of a keyspace whose filter is not registered.
    pub(crate) fn tell_of_missing_filter(&self, keyspace: &KeyspaceCore) {
        let named = keyspace.options.lock().compaction_filter.clone();
        if let Some(filter) = named.filter(|name| !self.filters.contains_key(name)) {
            self.tell(Event::CompactionFilterMissing { keyspace: keyspace.name.to_string(), filter });
        }
    }
}
