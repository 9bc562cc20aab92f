//! Writes that depend on what is there: read, decide, and write if nobody has written to the key in between; else once more.
//!
//! Who loses again and again takes a [turn](crate::exclusive) and has the others wait for one write, so nobody starves.

use crate::engine::{Engine, Handle};
use crate::error::{ErrorKind, Result};
use crate::exclusive::Turn;
use crate::expiry::NEVER_MS;
use crate::keyspace::Keyspace;
use crate::options::WriteOptions;
use crate::reads::Reads;
use crate::snapshot::Taken;
use crate::validation::{ReadSince, Terms, What};
use esker_format::Slice;

/// How often a write tries before it has the others wait.
const TRIES_MAX: u32 = 8;

/// An instant held in the list of snapshots.
struct HeldInstant<'a> {
    handle: &'a Handle,
    taken: Taken,
}

impl Drop for HeldInstant<'_> {
    fn drop(&mut self) {
        self.handle.core.snapshots.release(&self.taken);
    }
}

/// What to do to a key.
enum Change<V> {
    Leave,
    Put(V),
    /// Put, to expire when what is there does, unless the write says otherwise.
    Update(V),
    Delete,
}

impl<V> Change<V> {
    fn to(value: Option<V>) -> Self {
        value.map_or(Self::Delete, Self::Put)
    }
}

impl Keyspace {
    /// Has `decide` see the value of a key, and does what it says if the key still is as it was; else asks it again. Returns what it was at last.
    fn change<V: AsRef<[u8]>>(
        &self,
        key: &[u8],
        options: &WriteOptions,
        mut decide: impl FnMut(Option<&[u8]>) -> Change<V>,
    ) -> Result<(Option<Slice>, bool)> {
        let core = &self.handle.core;
        core.check_writable()?;
        for nth in 0.. {
            self.check()?;
            let turn: Option<Turn>;
            let held = if nth < TRIES_MAX {
                turn = None;
                HeldInstant { handle: &self.handle, taken: core.snapshots.take(core) }
            } else {
                let (own, taken) = core.take_turn(options.no_stall)?;
                turn = Some(own);
                HeldInstant { handle: &self.handle, taken }
            };
            let found = Reads { keyspace: self, at: Some(&held.taken) }.get_with_expiry(key)?;
            let (found, expiry) = found.map_or((None, None), |(value, expiry)| (Some(value), expiry));
            let change = decide(found.as_deref());
            let reads = ReadSince { what: What::Key(&self.core, key), at: &held.taken };
            let terms = Terms { reads: Some(reads), turn: turn.as_ref().map(|turn| turn.number) };
            let written = match change {
                // It leaves things as they are. Who asks for `Sync` may act upon what he is told, so that is to last.
                Change::Leave => return core.wrote_nothing(core.durability_of(options)).map(|()| (found, false)),
                Change::Delete if found.is_none() => {
                    return core.wrote_nothing(core.durability_of(options)).map(|()| (found, true));
                }
                // What never expires goes on so, whatever the keyspace's time to live.
                Change::Update(value)
                    if found.is_some() && options.ttl.is_none() && (expiry.is_some() || self.core.ttl_ms.is_some()) =>
                {
                    self.write_one_on(&terms, options, |batch| {
                        batch.put_until_id(self.id(), key, value.as_ref(), expiry.unwrap_or(NEVER_MS));
                    })
                }
                Change::Put(value) | Change::Update(value) => self.write_one_on(&terms, options, |batch| {
                    batch.put_id(self.id(), key, value.as_ref());
                }),
                Change::Delete => self.write_one_on(&terms, options, |batch| {
                    batch.delete_id(self.id(), key);
                }),
            };
            match written {
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok((found, true)),
            }
        }
        unreachable!("it returns before it runs out of numbers")
    }

    /// As [`Engine::insert_if_absent`].
    pub fn insert_if_absent(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<bool> {
        self.insert_if_absent_with(key, value, &WriteOptions::default())
    }

    /// As [`Engine::insert_if_absent_with`].
    pub fn insert_if_absent_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: &WriteOptions,
    ) -> Result<bool> {
        let (_, done) = self.change(key.as_ref(), options, |found| match found {
            Some(_) => Change::Leave,
            None => Change::Put(value.as_ref()),
        })?;
        Ok(done)
    }

    /// As [`Engine::compare_and_swap`].
    pub fn compare_and_swap(&self, key: impl AsRef<[u8]>, expected: Option<&[u8]>, new: Option<&[u8]>) -> Result<bool> {
        self.compare_and_swap_with(key, expected, new, &WriteOptions::default())
    }

    /// As [`Engine::compare_and_swap_with`].
    pub fn compare_and_swap_with(
        &self,
        key: impl AsRef<[u8]>,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
        options: &WriteOptions,
    ) -> Result<bool> {
        let (_, done) = self.change(key.as_ref(), options, |found| match found == expected {
            true => Change::to(new),
            false => Change::Leave,
        })?;
        Ok(done)
    }

    /// As [`Engine::fetch_update`].
    pub fn fetch_update<V: AsRef<[u8]>>(
        &self,
        key: impl AsRef<[u8]>,
        f: impl FnMut(Option<&[u8]>) -> Option<V>,
    ) -> Result<Option<Slice>> {
        self.fetch_update_with(key, f, &WriteOptions::default())
    }

    /// As [`Engine::fetch_update_with`].
    pub fn fetch_update_with<V: AsRef<[u8]>>(
        &self,
        key: impl AsRef<[u8]>,
        mut f: impl FnMut(Option<&[u8]>) -> Option<V>,
        options: &WriteOptions,
    ) -> Result<Option<Slice>> {
        let update = |found: Option<&[u8]>| f(found).map_or(Change::Delete, Change::Update);
        let (found, _) = self.change(key.as_ref(), options, update)?;
        Ok(found)
    }
}

impl Engine {
    /// Sets `key` to `value` if it has none; whether it did. Nobody else's write comes in between.
    ///
    /// # Errors
    /// As [`Engine::put`] and [`Engine::get`]; where the engine's default is [`Sync`](crate::Durability::Sync) those of a sync also if nothing changes.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let engine = esker::Engine::open(dir.path())?;
    /// assert!(engine.insert_if_absent("lock", "mine")?);
    /// assert!(!engine.insert_if_absent("lock", "yours")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn insert_if_absent(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<bool> {
        self.default.insert_if_absent(key, value)
    }

    /// As [`Engine::insert_if_absent`], at another durability level. At [`Sync`](crate::Durability::Sync) what it finds is on stable storage too when it returns, also if that stays as it is.
    ///
    /// # Errors
    /// As [`Engine::insert_if_absent`], and `Stalled` if waiting was forbidden.
    pub fn insert_if_absent_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: &WriteOptions,
    ) -> Result<bool> {
        self.default.insert_if_absent_with(key, value, options)
    }

    /// Gives `key` the value `new` if it has the value `expected`; whether it did. `None` stands for no value: expected, that the key is not there; new, that it is removed.
    ///
    /// # Errors
    /// As [`Engine::put`] and [`Engine::get`]; where the engine's default is [`Sync`](crate::Durability::Sync) those of a sync also if nothing changes.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let engine = esker::Engine::open(dir.path())?;
    /// assert!(engine.compare_and_swap("leader", None, Some(b"ada"))?);
    /// assert!(!engine.compare_and_swap("leader", Some(b"grace"), None)?);
    /// assert!(engine.compare_and_swap("leader", Some(b"ada"), None)?);
    /// assert_eq!(engine.get("leader")?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn compare_and_swap(&self, key: impl AsRef<[u8]>, expected: Option<&[u8]>, new: Option<&[u8]>) -> Result<bool> {
        self.default.compare_and_swap(key, expected, new)
    }

    /// As [`Engine::compare_and_swap`], at another durability level. At [`Sync`](crate::Durability::Sync) what it finds is on stable storage too when it returns, also if that stays as it is.
    ///
    /// # Errors
    /// As [`Engine::compare_and_swap`], and `Stalled` if waiting was forbidden.
    pub fn compare_and_swap_with(
        &self,
        key: impl AsRef<[u8]>,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
        options: &WriteOptions,
    ) -> Result<bool> {
        self.default.compare_and_swap_with(key, expected, new, options)
    }

    /// Gives `key` the value that `f` makes of the one it has, and returns that one. `None` stands for no value: a key that is not there, or one to be removed.
    ///
    /// What it gives expires when what was there would have, if that expires and the write does not say otherwise ([`WriteOptions::ttl`]).
    ///
    /// `f` is called again if somebody else writes to the key meanwhile, so whatever it does besides must stand that. It must not write to the engine itself.
    ///
    /// # Errors
    /// As [`Engine::put`] and [`Engine::get`]; where the engine's default is [`Sync`](crate::Durability::Sync) those of a sync also if nothing changes.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let engine = esker::Engine::open(dir.path())?;
    /// let count = |value: Option<&[u8]>| value.map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().unwrap()));
    /// for visitor in 0..3 {
    ///     let before = engine.fetch_update("visitors", |value| Some((count(value) + 1).to_be_bytes()))?;
    ///     assert_eq!(count(before.as_deref()), visitor);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fetch_update<V: AsRef<[u8]>>(
        &self,
        key: impl AsRef<[u8]>,
        f: impl FnMut(Option<&[u8]>) -> Option<V>,
    ) -> Result<Option<Slice>> {
        self.default.fetch_update(key, f)
    }

    /// As [`Engine::fetch_update`], at another durability level. At [`Sync`](crate::Durability::Sync) what it finds is on stable storage too when it returns, also if that stays as it is.
    ///
    /// # Errors
    /// As [`Engine::fetch_update`], and `Stalled` if waiting was forbidden.
    pub fn fetch_update_with<V: AsRef<[u8]>>(
        &self,
        key: impl AsRef<[u8]>,
        f: impl FnMut(Option<&[u8]>) -> Option<V>,
        options: &WriteOptions,
    ) -> Result<Option<Slice>> {
        self.default.fetch_update_with(key, f, options)
    }
}
