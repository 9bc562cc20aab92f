//! LMDB, by the crate `heed`: a copy-on-write B+-tree in a mapped file.
//!
//! With `os` (and `memory`, which it has no use for) a commit is stored into the shared map and not synced: the kernel has it, so it survives `kill -9`. With `sync`
//! LMDB is as by default, which writes pages and syncs.
#![expect(unsafe_code, reason = "LMDB trusts the mapped file, so opening it is unsafe")]

use super::{Change, DataModel, Entry, Store};
use crate::args::{DurabilityLevel, Settings};
use crate::data::Key;
use crate::{Result, process};
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, RoTxn, WithTls};
use std::ops::Bound;
use std::path::Path;

/// An LMDB environment with its unnamed database.
pub struct Lmdb {
    environment: Env<WithTls>,
    entries: Database<'static, Bytes, Bytes>,
}

/// Room in the map for each entry's pages: a leaf split in half, and as much again for pages that readers still hold.
const MAP_PER_ENTRY: u64 = 8;

impl Lmdb {
    fn read(&self) -> Result<RoTxn<'_, WithTls>> {
        Ok(self.environment.read_txn()?)
    }
}

/// Write transactions come one at a time, so none is in conflict.
impl DataModel for Lmdb {
    fn transact(&self, keys: &[Key], change: Change<'_>) -> Result<u64> {
        let mut transaction = self.environment.write_txn()?;
        for key in keys {
            let new = change(self.entries.get(&transaction, key)?)?;
            self.entries.put(&mut transaction, key, &new)?;
        }
        transaction.commit()?;
        Ok(0)
    }
}

impl Store for Lmdb {
    fn open(dir: &Path, settings: &Settings) -> Result<Self> {
        let entry_bytes = 64 + settings.value_bytes as u64;
        let map_bytes = (1 << 30) + (settings.num * entry_bytes * MAP_PER_ENTRY).next_multiple_of(1 << 20);
        let flags = match settings.durability {
            DurabilityLevel::Memory | DurabilityLevel::Os => EnvFlags::WRITE_MAP | EnvFlags::NO_SYNC,
            DurabilityLevel::Sync => EnvFlags::empty(),
        };
        let mut options = EnvOpenOptions::new();
        options.map_size(map_bytes as usize).max_readers(2048);
        // SAFETY: the directory is this measurement's alone, so nobody else changes the file, and no flag turns LMDB's own locks off. Without syncs a power
        // loss may leave a file that must not be opened again: the directory is temporary, and nothing opens it after that.
        let environment = unsafe { options.flags(flags).open(dir)? };
        let entries = environment
            .create_databases_and_commit(environment.write_txn()?, |opener, transaction| {
                opener.create_database(transaction, None).map(CommitOrAbort::<_, ()>::Commit)
            })?
            .unwrap_commit();
        Ok(Self { environment, entries })
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut transaction = self.environment.write_txn()?;
        self.entries.put(&mut transaction, key, value)?;
        Ok(transaction.commit()?)
    }

    fn put_batch(&self, entries: &[Entry]) -> Result<()> {
        let mut transaction = self.environment.write_txn()?;
        for entry in entries {
            self.entries.put(&mut transaction, &entry.key, &entry.value)?;
        }
        Ok(transaction.commit()?)
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        let mut transaction = self.environment.write_txn()?;
        self.entries.delete(&mut transaction, key)?;
        Ok(transaction.commit()?)
    }

    fn get<T>(&self, key: &[u8], look: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        Ok(self.entries.get(&*self.read()?, key)?.map(look))
    }

    fn scan_from(&self, key: &[u8], limit: u64, look: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let from_key = (Bound::Included(key), Bound::Unbounded);
        show(self.entries.range(&*self.read()?, &from_key)?.take(limit as usize), look)
    }

    fn scan(&self, look: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        show(self.entries.iter(&*self.read()?)?, look)
    }

    fn scan_reverse(&self, look: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        show(self.entries.rev_iter(&*self.read()?)?, look)
    }

    fn flush(&self) -> Result<()> {
        Ok(self.environment.force_sync()?)
    }

    fn is_busy(&self) -> bool {
        false
    }

    /// What is stored into the map passes no `write`.
    fn written_bytes(&self) -> Option<u64> {
        process::dirtied_bytes()
    }

    fn close(self) -> Result<()> {
        self.environment.force_sync()?;
        self.environment.prepare_for_closing().wait();
        Ok(())
    }
}

fn show<'a>(
    entries: impl Iterator<Item = heed::Result<(&'a [u8], &'a [u8])>>,
    mut look: impl FnMut(&[u8], &[u8]) -> Result<()>,
) -> Result<()> {
    for entry in entries {
        let (key, value) = entry?;
        look(key, value)?;
    }
    Ok(())
}
