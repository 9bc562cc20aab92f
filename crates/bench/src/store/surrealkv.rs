//! surrealkv 1: an LSM tree whose commits are asynchronous.
//!
//! Its background work and its commit pipeline are tasks of tokio, so it gets a runtime with a worker for each core; a commit is waited for on the thread that makes it.

use super::{Change, DataModel, Entry, Quiet, Store};
use crate::Result;
use crate::args::{Compression, DurabilityLevel, Settings};
use crate::data::Key;
use std::path::Path;
use surrealkv::{
    CompactRangeOptions, CompressionType, Durability, LSMIterator, Mode, Options, Transaction, Tree, TreeBuilder,
};
use tokio::runtime::Runtime;

/// A surrealkv tree and the runtime that it lives in.
pub struct SurrealKv {
    tree: Tree,
    runtime: Runtime,
    durability: Durability,
    quiet: Quiet,
}

impl SurrealKv {
    fn commit(&self, fill: impl FnOnce(&mut Transaction) -> surrealkv::Result<()>) -> Result<()> {
        let mut transaction = self.tree.begin_with_mode(Mode::WriteOnly)?.with_durability(self.durability);
        fill(&mut transaction)?;
        Ok(self.runtime.block_on(transaction.commit())?)
    }

    fn read(&self) -> Result<Transaction> {
        Ok(self.tree.begin_with_mode(Mode::ReadOnly)?)
    }
}

/// Of its transactions two that write the same key are in conflict, which is all that there is to find where each key that is read is written, too.
impl DataModel for SurrealKv {
    fn transact(&self, keys: &[Key], change: Change<'_>) -> Result<u64> {
        for conflicts in 0.. {
            let mut transaction = self.tree.begin_with_mode(Mode::ReadWrite)?.with_durability(self.durability);
            for key in keys {
                let new = change(transaction.get(key)?.as_deref())?;
                transaction.set(key, &new[..])?;
            }
            match self.runtime.block_on(transaction.commit()) {
                Err(surrealkv::Error::TransactionWriteConflict) => {}
                result => return Ok(result.map(|()| conflicts)?),
            }
        }
        unreachable!("it returns before it runs out of numbers")
    }
}

impl Store for SurrealKv {
    fn open(dir: &Path, settings: &Settings) -> Result<Self> {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_time().build()?;
        let options = Options::new()
            .with_path(dir.to_owned())
            .with_max_memtable_size((settings.memtable_mib << 20) as usize)
            .with_block_cache_capacity(settings.cache_mib << 20);
        let options = match settings.compression {
            Compression::Lz4 => options.with_compression_per_level(vec![
                CompressionType::None,
                CompressionType::None,
                CompressionType::SnappyCompression,
            ]),
            Compression::None => options.without_compression(),
        };
        let tree = {
            let _inside = runtime.enter();
            TreeBuilder::with_options(options).build()?
        };
        let durability = match settings.durability {
            DurabilityLevel::Memory | DurabilityLevel::Os => Durability::Eventual,
            DurabilityLevel::Sync => Durability::Immediate,
        };
        Ok(Self { tree, runtime, durability, quiet: Quiet::default() })
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.commit(|transaction| transaction.set(key, value))
    }

    fn put_batch(&self, entries: &[Entry]) -> Result<()> {
        self.commit(|transaction| entries.iter().try_for_each(|entry| transaction.set(&entry.key, &entry.value)))
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        self.commit(|transaction| transaction.delete(key))
    }

    fn get<T>(&self, key: &[u8], look: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        Ok(self.read()?.get(key)?.map(|value| look(&value)))
    }

    fn scan_from(&self, key: &[u8], limit: u64, mut look: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let transaction = self.read()?;
        let mut cursor = transaction.iter()?;
        let mut is_valid = cursor.seek(key)?;
        for _ in 0..limit {
            if !is_valid {
                break;
            }
            look(cursor.key().user_key(), &cursor.value_ref()?)?;
            is_valid = cursor.next()?;
        }
        Ok(())
    }

    fn scan(&self, mut look: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let transaction = self.read()?;
        let mut cursor = transaction.iter()?;
        let mut is_valid = cursor.seek_first()?;
        while is_valid {
            look(cursor.key().user_key(), &cursor.value_ref()?)?;
            is_valid = cursor.next()?;
        }
        Ok(())
    }

    fn scan_reverse(&self, mut look: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let transaction = self.read()?;
        let mut cursor = transaction.iter()?;
        let mut is_valid = cursor.seek_last()?;
        while is_valid {
            look(cursor.key().user_key(), &cursor.value_ref()?)?;
            is_valid = cursor.prev()?;
        }
        Ok(())
    }

    /// A compaction down to level 0 is a flush and no more.
    fn flush(&self) -> Result<()> {
        let _inside = self.runtime.enter();
        let options = CompactRangeOptions { target_level: Some(0), ..CompactRangeOptions::default() };
        Ok(self.tree.compact_range(None, None, &options)?)
    }

    fn is_busy(&self) -> bool {
        self.quiet.is_busy()
    }

    fn close(self) -> Result<()> {
        Ok(self.runtime.block_on(self.tree.close())?)
    }
}
