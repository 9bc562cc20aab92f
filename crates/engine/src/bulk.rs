//! [`BulkWriter`]: a load of sorted input, written as tables straight away and [ingested](crate::ingest) at its end.
//!
//! Neither log nor memtable sees it, and no table is written twice: each goes into the directory under a temporary name, as a flush's does, and gets its own when it is whole. Until the end no version names any, so
//! a load that is dropped, or that a crash ends, has never been.

use crate::core::Core;
use crate::error::{Error, Result};
use crate::ingest::{Ingested, Taken};
use crate::keyspace::Keyspace;
use crate::sst_writer::{NewTable, out_of_order};
use esker_compaction::Tables;
use esker_format::{FileNo, ValueKind};
use esker_manifest::Level;
use esker_sstable::{Builder, BuilderOptions, Built};
use esker_vfs::PIECE_BYTES;
use std::fmt;
use std::sync::Arc;

/// Loads keys in ascending order, each once, without log and memtable. Made by [`Engine::bulk_writer`](crate::Engine::bulk_writer).
///
/// Nothing of it is there to be seen until [`finish`](Self::finish) makes it part of the engine, all at once; dropped before that, it leaves nothing. Others may write meanwhile; what is loaded is newer than all that
/// they committed before the end. An engine that is closed meanwhile ends the load.
pub struct BulkWriter {
    keyspace: Keyspace,
    /// The table being written.
    open: Option<(FileNo, NewTable)>,
    done: Vec<(FileNo, Built)>,
    entries: u64,
    /// Why the load can't go on.
    failed: Option<Error>,
}

impl BulkWriter {
    pub(crate) fn new(keyspace: &Keyspace) -> Self {
        Self { keyspace: keyspace.clone(), open: None, done: Vec::new(), entries: 0, failed: None }
    }

    fn core(&self) -> &Arc<Core> {
        &self.keyspace.handle.core
    }

    /// Adds "set `key` to `value`".
    ///
    /// # Errors
    /// `InvalidArgument` if `key` does not come behind the last one, or one of both is too long: the load goes on. Else those of writing tables (`NoSpace`, `Io`, `Closed`, `NotFound` if the
    /// keyspace was dropped), and then the load is lost: every further call returns the same.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.add(key.as_ref(), ValueKind::Put, value.as_ref())
    }

    /// Adds "remove `key`".
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        self.add(key.as_ref(), ValueKind::Delete, b"")
    }

    /// How many keys were added.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    fn add(&mut self, key: &[u8], kind: ValueKind, value: &[u8]) -> Result<()> {
        self.check()?;
        let table_bytes = self.core().options.compaction.table_bytes;
        if let Some((_, table)) = &self.open
            && table.entries() > 0
            && table.estimated_bytes() >= table_bytes
        {
            // Refused before anything is done, as it would be within a table.
            if key <= table.last_key() {
                return Err(out_of_order(key, table.last_key()));
            }
            let ended = self.end_table();
            self.keep(ended)?;
        }
        if self.open.is_none() {
            let begun = self.begin_table();
            self.keep(begun)?;
        }
        let (_, table) = self.open.as_mut().expect("begun above");
        match table.add(key, kind, value) {
            Err(error) if error.kind() != crate::ErrorKind::InvalidArgument => self.keep(Err(error)),
            result => {
                self.entries += u64::from(result.is_ok());
                result
            }
        }
    }

    fn check(&self) -> Result<()> {
        match &self.failed {
            Some(error) => Err(error.clone()),
            None => self.core().check_writable(),
        }
    }

    /// Remembers a failure, so that it sticks.
    fn keep(&mut self, result: Result<()>) -> Result<()> {
        result.inspect_err(|error| self.failed = Some(error.clone()))
    }

    fn begin_table(&mut self) -> Result<()> {
        let core = Arc::clone(self.core());
        let _call = core.enter()?;
        core.health.check()?;
        self.keyspace.check()?;
        core.wake()?;
        let (number, file, name, file_id) = Tables::create(&*core)?;
        let options = &core.options;
        let own = self.keyspace.core.options.lock();
        let builder = BuilderOptions {
            file_id,
            block_size_bytes: own.block_size_bytes.unwrap_or(options.block_size_bytes),
            // Where most of it will lie.
            codec: own.compression.unwrap_or(options.compression[Level::BOTTOM.index()]),
            filter_bits_per_key: own.filter_bits_per_key.unwrap_or(options.filter_bits_per_key),
            created_unix_ms: core.vfs.clock().unix_ms(),
            piece_bytes: PIECE_BYTES.min(options.memory_budget_bytes / 64),
        };
        drop(own);
        let table = Builder::new(file, &name, builder).inspect_err(|_| core.discard_files([number]))?;
        self.open = Some((number, NewTable::new(table)));
        Ok(())
    }

    fn end_table(&mut self) -> Result<()> {
        let Some((number, table)) = self.open.take() else { return Ok(()) };
        let core = Arc::clone(self.core());
        let _call = core.enter()?;
        let ended = table.finish().and_then(|built| {
            Tables::finished(&*core, number)?;
            Ok(built)
        });
        let built = ended.inspect_err(|_| core.discard_files([number]))?;
        self.done.push((number, built));
        Ok(())
    }

    /// Makes all that was added part of the keyspace, at once.
    ///
    /// # Durability
    /// On return it is on stable storage, and with it all that was committed before, whatever the engine's level.
    ///
    /// # Errors
    /// As [`Engine::ingest`](crate::Engine::ingest); nothing of it is there then, unless the outcome is [unknown](crate::Error::outcome_unknown).
    pub fn finish(mut self) -> Result<Ingested> {
        self.check()?;
        if self.open.as_ref().is_some_and(|(_, table)| table.entries() > 0) {
            self.end_table()?;
        }
        let core = Arc::clone(self.core());
        let call = core.enter()?;
        core.health.check()?;
        self.keyspace.check()?;
        if self.done.is_empty() {
            return Ok(Ingested { seq: core.visible().0, tables: Vec::new() });
        }
        core.wait_for_room_of(&self.keyspace.core)?;
        let mut taken = Taken::new(&core);
        for (number, Built { file_bytes, properties }) in std::mem::take(&mut self.done) {
            taken.push_built(number, file_bytes, &properties);
        }
        taken.read_back()?;
        let result = core.ingest_taken(&self.keyspace.core, taken);
        drop(call);
        result
    }
}

impl Drop for BulkWriter {
    fn drop(&mut self) {
        let open = self.open.take().map(|(number, _)| number);
        let numbers: Vec<FileNo> = open.into_iter().chain(self.done.drain(..).map(|(number, _)| number)).collect();
        // Once the engine is closed its directory is another's; then the next open sweeps.
        if !numbers.is_empty()
            && let Ok(_call) = self.core().enter()
        {
            self.core().discard_files(numbers);
        }
    }
}

impl fmt::Debug for BulkWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BulkWriter({}, {} keys)", self.keyspace.name(), self.entries)
    }
}
