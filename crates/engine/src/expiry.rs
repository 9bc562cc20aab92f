//! Time to live: what time it is, when a write expires, and what is seen of it.
//!
//! ```text
//! put "k", to live 10 s ─> [ commit lock: 12:00:00 + 10 s = 12:00:10 ] ─> log, memtable, table: k until 12:00:10
//! read at 12:00:09  k        read at 12:00:10  nothing, nor what lies beneath
//! ```
//! - A batch holds times to live; when it is committed they become times ([`Timed`]), which stay what they are: in the log, in tables, over a crash.
//! - The engine's clock never goes back ([`Time`]): it goes on at the pace of the machine's monotonic clock, and follows the wall clock forward alone. How far it was is kept in the manifest, so that it starts there if the wall
//!   clock was set back between two opens.
//! - A read is as of an instant ([`AsOf`]), a sequence number and a time. A keyspace in which nothing ever expired is read without asking for the time.

use crate::batch::WriteBatch;
use crate::core::{Core, KeyspaceCore};
use crate::cursor::Cursor;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::keyspace::Keyspace;
use crate::read::ReadState;
use crate::reads::Reads;
use crate::snapshot::{Snapshot, SnapshotOf};
use crate::validation::Terms;
use esker_format::{KeyspaceId, SeqNo, Slice, ValueKind, WriteBatch as EncodedBatch, split_expiry};
use esker_manifest::VersionEdit;
use esker_vfs::Clock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// In a batch that is not committed yet: the number is a time to live. Without it, it is a time.
const TO_LIVE: u64 = 1 << 63;
/// What would expire at this time or later never does.
pub(crate) const NEVER_MS: u64 = 1 << 62;
/// The time is kept in the manifest when it has gone on so far since, if anybody has asked for it.
const KEPT_EVERY_MS: u64 = 60_000;
/// How exactly it is known when it was last asked for.
const ASKED_WITHIN_MS: u64 = 1_000;

/// The instant of a read: what was written up to a sequence number, as of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AsOf {
    pub(crate) seq: SeqNo,
    /// What expires then or before is gone, in milliseconds since 1970.
    pub(crate) unix_ms: u64,
}

/// The engine's time, in milliseconds since 1970: never goes back.
#[derive(Debug, Default)]
pub(crate) struct Time {
    /// How far the wall clock was ahead of the monotonic one, at most.
    ahead_ms: AtomicI64,
    /// The latest time that was told, nearly.
    told_ms: AtomicU64,
    /// Whether anything expires.
    in_use: AtomicBool,
}

impl Time {
    /// One that starts at `kept_ms` or later.
    pub(crate) fn new(clock: &dyn Clock, kept_ms: u64) -> Self {
        let time = Self { ahead_ms: AtomicI64::new(i64::MIN), ..Self::default() };
        time.raise(clock, kept_ms);
        // Whoever sets the wall clock back from now on does so to an engine that has seen how far it was, though nobody asks it for a while.
        time.raise(clock, clock.unix_ms());
        time
    }

    /// Raises it to a time; what it is then.
    fn raise(&self, clock: &dyn Clock, unix_ms: u64) -> u64 {
        let monotonic_ms = clock.now().as_millis().min(NEVER_MS.into()) as i64;
        let found = unix_ms.min(NEVER_MS) as i64 - monotonic_ms;
        // Relaxed: one number, which only grows; nothing else hangs on it. It is stored when the wall clock has jumped, or gained a millisecond.
        let mut ahead = self.ahead_ms.load(Ordering::Relaxed);
        if found > ahead {
            ahead = self.ahead_ms.fetch_max(found, Ordering::Relaxed).max(found);
        }
        monotonic_ms.saturating_add(ahead).max(0) as u64
    }

    /// What time it is.
    pub(crate) fn now_ms(&self, clock: &dyn Clock) -> u64 {
        let now = self.raise(clock, clock.unix_ms());
        // Relaxed: as above. Rarely stored, since every reader looks at it.
        if now > self.told_ms.load(Ordering::Relaxed).saturating_add(ASKED_WITHIN_MS) {
            self.told_ms.fetch_max(now, Ordering::Relaxed);
        }
        now
    }
}

impl Core {
    /// The engine's time.
    #[inline(never)]
    pub(crate) fn now_ms(&self) -> u64 {
        self.time.now_ms(self.vfs.clock())
    }

    /// As of when a snapshot that is taken now reads: any time will do where nothing expires.
    pub(crate) fn now_ms_if_used(&self) -> u64 {
        // Relaxed: whoever takes a snapshot has loaded the sequence number that it sees, behind which this was set.
        if self.time.in_use.load(Ordering::Relaxed) { self.now_ms() } else { 0 }
    }

    /// Whether anything expires, or ever did while the engine was open.
    fn knows_of_expiry(&self) -> bool {
        // Relaxed: whoever comes too early does the same thing later.
        self.time.in_use.load(Ordering::Relaxed)
    }

    /// Notes that something in a keyspace expires. To be called before that becomes visible.
    pub(crate) fn note_expiring(&self, keyspace: &KeyspaceCore) {
        // Relaxed: what follows it is published, with Release, by the sequence number.
        self.time.in_use.store(true, Ordering::Relaxed);
        keyspace.expires.store(true, Ordering::Relaxed);
    }

    /// The time to put into an edit of a manifest that has it at `kept_ms`.
    pub(crate) fn time_to_keep_ms(&self, kept_ms: u64) -> Option<u64> {
        Some(self.now_ms().max(kept_ms))
    }

    /// Keeps the time in the manifest if it has been told for a while since it was; whether it did.
    pub(crate) fn keep_time(&self) -> Result<bool> {
        // Relaxed: both are looked at again.
        if !self.time.in_use.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let told = self.time.told_ms.load(Ordering::Relaxed);
        let kept = self.with_manifest(|manifest| Ok(manifest.current().clock_ms))?;
        if told <= kept.saturating_add(KEPT_EVERY_MS) {
            return Ok(false);
        }
        let commit = self.commit.lock();
        if commit.writer.is_none() {
            // It rests: who only reads writes nothing. Or the manifest is closed, or is about to be: that edit has the time.
            return Ok(false);
        }
        self.with_manifest(|manifest| {
            let clock_ms = self.time_to_keep_ms(manifest.current().clock_ms);
            let edit = VersionEdit { clock_ms, ..VersionEdit::default() };
            self.manifest_did(manifest, |manifest| manifest.commit(edit)).map(drop)
        })?;
        Ok(true)
    }
}

/// A time to live in milliseconds, at least one.
///
/// # Errors
/// `InvalidArgument` for none.
pub(crate) fn ttl_ms(ttl: Duration) -> Result<u64> {
    if ttl.is_zero() {
        return Err(Error::invalid("a time to live of zero: delete the key instead"));
    }
    // What is begun counts as a whole one: nothing expires early.
    Ok((ttl.as_nanos().div_ceil(1_000_000)).min(NEVER_MS.into()) as u64)
}

/// The number that stands for a time in a batch. What is too late for a clock never comes.
pub(crate) fn until(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis().min(NEVER_MS.into()) as u64
}

/// The number that stands for a time to live in a batch.
pub(crate) fn to_live(ttl_ms: u64) -> u64 {
    TO_LIVE | ttl_ms
}

/// What a write has to set its times by.
pub(crate) struct Times {
    /// The time to live of the whole write.
    pub(crate) of_write_ms: Option<u64>,
    /// Made before the commit lock was taken, where it was known that something expires.
    pub(crate) made: Option<Box<Timed>>,
}

/// A batch whose puts have what they expire by: a time, or a time to live until it is committed.
///
/// It is made before the commit lock is taken, since that copies; under the lock the times are set, since a write may have waited for its turn for longer than what it puts is to live.
pub(crate) struct Timed {
    encoded: EncodedBatch,
    /// In which anything expires.
    keyspaces: Vec<Arc<KeyspaceCore>>,
}

impl Timed {
    /// Puts get the time to live that they name, else the one of the whole write, else that of their keyspace. What would not expire before the end of time is put as if it never did.
    ///
    /// # Errors
    /// `InvalidArgument` if with the times it is too large, or if something would expire in a keyspace with a merge operator.
    ///
    /// # Panics
    /// If a keyspace of the batch is not among `keyspaces`.
    fn new(
        batch: &WriteBatch,
        of_write_ms: Option<u64>,
        keyspaces: &BTreeMap<KeyspaceId, Arc<KeyspaceCore>>,
        now_ms: u64,
    ) -> Result<Self> {
        let mut encoded = EncodedBatch::new();
        let mut expiring: Vec<Arc<KeyspaceCore>> = Vec::new();
        for op in batch.encoded().ops() {
            let keyspace = &keyspaces[&op.keyspace];
            let (given, value) = match op.kind {
                ValueKind::Expiring => split_expiry(op.value).expect("a batch decodes what it encoded"),
                ValueKind::Put => (of_write_ms.or(keyspace.ttl_ms).map_or(NEVER_MS, to_live), op.value),
                ValueKind::RangeDelete if op.value.is_empty() => {
                    encoded.delete_from(op.keyspace, op.key);
                    continue;
                }
                ValueKind::RangeDelete => {
                    encoded.delete_range(op.keyspace, op.key, op.value);
                    continue;
                }
                ValueKind::Merge => {
                    encoded.merge(op.keyspace, op.key, op.value);
                    continue;
                }
                ValueKind::Delete | ValueKind::Blob | ValueKind::ExpiringBlob => {
                    encoded.delete(op.keyspace, op.key);
                    continue;
                }
            };
            let says_so = op.kind == ValueKind::Expiring && time_of(given, now_ms) < NEVER_MS;
            if keyspace.merging.is_some() && (says_so || op.kind == ValueKind::Put && of_write_ms.is_some()) {
                let name = &keyspace.name;
                return Err(Error::invalid(format!(
                    "keyspace {name} has a merge operator: nothing in it has a time to live"
                )));
            }
            if time_of(given, now_ms) >= NEVER_MS {
                encoded.put(op.keyspace, op.key, value);
            } else {
                encoded.put_expiring(op.keyspace, op.key, value, given);
                if !expiring.iter().any(|other| other.id == keyspace.id) {
                    expiring.push(Arc::clone(keyspace));
                }
            }
        }
        encoded.check()?;
        Ok(Self { encoded, keyspaces: expiring })
    }

    /// What is committed at `now_ms`, which is no earlier than when it was made.
    fn at(mut self, core: &Core, now_ms: u64) -> EncodedBatch {
        self.keyspaces.iter().for_each(|keyspace| core.note_expiring(keyspace));
        // The end of time may have come nearer by what it waited.
        self.encoded.map_expiries(|given| time_of(given, now_ms).min(NEVER_MS - 1));
        self.encoded
    }
}

/// The time that a number in a batch stands for, if that is committed at `now_ms`.
fn time_of(given: u64, now_ms: u64) -> u64 {
    if given & TO_LIVE == 0 { given } else { now_ms.saturating_add(given & !TO_LIVE) }
}

impl Core {
    /// Whether something in `batch` may expire, as far as is known without a lock.
    #[inline]
    pub(crate) fn may_expire(&self, terms: &Terms<'_>, batch: &WriteBatch, of_write_ms: Option<u64>) -> bool {
        // Others are named by their handles, of which the batch knows.
        let in_default =
            || self.default_keyspace().ttl_ms.is_some() && batch.keyspaces().contains(&KeyspaceId::DEFAULT);
        // A transaction knows its keyspaces by their ids alone.
        let in_transaction = terms.are_some() && self.knows_of_expiry();
        batch.expires() || of_write_ms.is_some() || in_default() || in_transaction
    }

    /// Sets beside `batch` what it becomes with its times, unless nothing in it expires or a keyspace of it was dropped, which the commit says.
    ///
    /// # Errors
    /// As [`Timed::new`].
    #[cold]
    #[inline(never)]
    pub(crate) fn make_times(&self, batch: &WriteBatch, times: &mut Times) -> Result<()> {
        let keyspaces: BTreeMap<_, _> = {
            let state = self.state.lock();
            let known = |id: &KeyspaceId| state.keyspaces.get(id).map(|keyspace| (*id, Arc::clone(keyspace)));
            batch.keyspaces().iter().filter_map(known).collect()
        };
        let of_write_ms = times.of_write_ms;
        let expires = batch.expires() || of_write_ms.is_some() || keyspaces.values().any(|it| it.ttl_ms.is_some());
        if expires && keyspaces.len() == batch.keyspaces().len() {
            times.made = Some(Box::new(Timed::new(batch, of_write_ms, &keyspaces, self.now_ms())?));
        }
        Ok(())
    }

    /// What is committed now, under the commit lock: of a batch that nobody knew to name a keyspace in which all expires, made only here.
    ///
    /// # Errors
    /// As [`Timed::new`].
    #[cold]
    #[inline(never)]
    pub(crate) fn timed_now(
        &self,
        times: &mut Times,
        batch: &WriteBatch,
        keyspaces: &BTreeMap<KeyspaceId, Arc<KeyspaceCore>>,
    ) -> Result<EncodedBatch> {
        let now_ms = self.now_ms();
        let timed = match times.made.take() {
            Some(timed) => *timed,
            None => Timed::new(batch, times.of_write_ms, keyspaces, now_ms)?,
        };
        Ok(timed.at(self, now_ms))
    }
}

/// A value, and when it expires, in milliseconds since 1970.
pub(crate) type Found = (Slice, Option<u64>);

impl ReadState {
    /// The value of `user_key`, and when it expires.
    pub(crate) fn get_with_expiry(&self, user_key: &[u8], at: AsOf) -> Result<Option<Found>> {
        let Some((trailer, stored)) = self.find_stored(user_key, at.seq)? else { return Ok(None) };
        if trailer.kind() == ValueKind::Merge {
            return self.merged(user_key, at.seq).map(|value| Some((value, None)));
        }
        let expiry = if trailer.kind().expires() { split_expiry(&stored).map(|(expiry, _)| expiry) } else { None };
        let value = self.view.seen(trailer, stored, at.unix_ms)?;
        Ok(value.map(|value| (value, expiry)))
    }

    /// Whether the newest version of `user_key`, which expires, has not.
    #[inline(never)]
    pub(crate) fn contains_until(&self, user_key: &[u8], at: AsOf) -> Result<bool> {
        let found = self.find_stored(user_key, at.seq)?;
        Ok(found.is_some_and(|(_, stored)| split_expiry(&stored).is_none_or(|(expiry, _)| expiry > at.unix_ms)))
    }
}

/// A time in milliseconds since 1970.
pub(crate) fn at(unix_ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(unix_ms)
}

/// A value and when it expires, `None` if it does not.
type WithExpiry = Option<(Slice, Option<SystemTime>)>;

impl Reads<'_> {
    pub(crate) fn get_with_expiry(&self, key: &[u8]) -> Result<Option<Found>> {
        let (state, at) = self.state()?;
        self.seen(state.get_with_expiry(key, at))
    }

    fn get_with_time(&self, key: &[u8]) -> Result<WithExpiry> {
        Ok(self.get_with_expiry(key)?.map(|(value, expiry)| (value, expiry.map(at))))
    }
}

impl Cursor {
    /// When the entry expires, if it does: see [`crate::WriteOptions::ttl`].
    ///
    /// # Panics
    /// If the cursor is not [`valid`](Self::valid).
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let engine = esker::Engine::open(dir.path())?;
    /// use esker::WriteBatch;
    /// use std::time::Duration;
    /// let mut batch = WriteBatch::new();
    /// batch.put_expiring("a", "1", Duration::from_secs(60)).put("b", "2");
    /// engine.write(&batch)?;
    /// let mut cursor = engine.cursor();
    /// cursor.seek_to_first()?;
    /// assert!(cursor.expiry().is_some());
    /// cursor.next()?;
    /// assert!(cursor.expiry().is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn expiry(&self) -> Option<SystemTime> {
        self.stored_expiring().and_then(split_expiry).map(|(expiry_ms, _)| at(expiry_ms))
    }
}

impl Keyspace {
    /// As [`Engine::get_with_expiry`].
    pub fn get_with_expiry(&self, key: impl AsRef<[u8]>) -> Result<WithExpiry> {
        Reads { keyspace: self, at: None }.get_with_time(key.as_ref())
    }

    /// The time to live that the keyspace was made with: see [`crate::KeyspaceOptions::ttl`].
    pub fn ttl(&self) -> Option<Duration> {
        self.core.ttl_ms.map(Duration::from_millis)
    }
}

impl Snapshot {
    /// As [`Engine::get_with_expiry`].
    pub fn get_with_expiry(&self, key: impl AsRef<[u8]>) -> Result<WithExpiry> {
        self.of(self.default_keyspace()).get_with_expiry(key)
    }
}

impl SnapshotOf<'_> {
    /// As [`Engine::get_with_expiry`].
    pub fn get_with_expiry(&self, key: impl AsRef<[u8]>) -> Result<WithExpiry> {
        self.reads()?.get_with_time(key.as_ref())
    }
}

impl Engine {
    /// The value of `key`, if there is one, and when it expires, if it does: see [`crate::WriteOptions::ttl`].
    ///
    /// # Errors
    /// As [`Engine::get`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let engine = esker::Engine::open(dir.path())?;
    /// use esker::WriteOptions;
    /// use std::time::{Duration, SystemTime};
    /// let hour = Duration::from_secs(3600);
    /// engine.put_with("session", "ada", &WriteOptions { ttl: Some(hour), ..Default::default() })?;
    /// let (value, expiry) = engine.get_with_expiry("session")?.unwrap();
    /// assert_eq!(value, b"ada");
    /// assert!(expiry.unwrap() > SystemTime::now());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_with_expiry(&self, key: impl AsRef<[u8]>) -> Result<WithExpiry> {
        self.default.get_with_expiry(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use esker_vfs::ManualClock;

    #[test]
    fn time_goes_on_and_never_back() {
        let clock = ManualClock::new();
        let start = clock.unix_ms();
        let time = Time::new(&clock, start + 500);
        assert_eq!(time.now_ms(&clock), start + 500, "it begins where it was");
        clock.advance(Duration::from_millis(10));
        assert_eq!(time.now_ms(&clock), start + 510, "and goes on, though the wall clock is behind");
        clock.set_unix_ms(start + 9_000);
        assert_eq!(time.now_ms(&clock), start + 9_000);
        clock.set_unix_ms(0);
        assert_eq!(time.now_ms(&clock), start + 9_000);
        clock.advance(Duration::from_secs(1));
        assert_eq!(time.now_ms(&clock), start + 10_000);
        let hostile = Time::new(&clock, u64::MAX);
        assert!(hostile.now_ms(&clock) >= NEVER_MS - 1_001);
    }

    #[test]
    fn a_time_to_live_is_whole_milliseconds_and_at_least_one() {
        assert_eq!(ttl_ms(Duration::from_nanos(1)).unwrap(), 1);
        assert_eq!(ttl_ms(Duration::from_micros(1_001)).unwrap(), 2);
        assert_eq!(ttl_ms(Duration::from_secs(1)).unwrap(), 1_000);
        assert_eq!(ttl_ms(Duration::MAX).unwrap(), NEVER_MS);
        assert!(ttl_ms(Duration::ZERO).is_err());
    }
}
