//! What a transaction has written and not committed, and the way back to its savepoints.

use crate::batch::WriteBatch;
use crate::error::{Error, Result};
use crate::keyspace::Keyspace;
use esker_format::{KeyspaceId, Slice};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a transaction has written in one keyspace: values, and `None` for what it deleted. Shared with the iterators and cursors made of it, which keep what they saw: who writes on while one is
/// alive copies it first.
pub(crate) type Own = Arc<BTreeMap<Slice, Option<Slice>>>;

/// A point in a transaction to go back to. Made by [`crate::Transaction::savepoint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Savepoint(u64);

/// The writes of one transaction.
#[derive(Debug, Default)]
pub(super) struct Writes {
    spaces: BTreeMap<KeyspaceId, Own>,
    /// How to undo what was written since the first savepoint, in the order in which it was.
    undo: Vec<Undo>,
    /// Those that can be gone back to, with how much there was to undo.
    savepoints: Vec<(Savepoint, usize)>,
}

#[derive(Debug)]
struct Undo {
    keyspace: KeyspaceId,
    key: Slice,
    /// What the transaction had written there before, if anything.
    before: Option<Option<Slice>>,
}

impl Writes {
    pub(super) fn is_empty(&self) -> bool {
        self.spaces.values().all(|own| own.is_empty())
    }

    /// What was written to a key, if anything.
    pub(super) fn get(&self, keyspace: KeyspaceId, key: &[u8]) -> Option<&Option<Slice>> {
        self.spaces.get(&keyspace)?.get(key)
    }

    /// What was written in a keyspace up to now.
    pub(super) fn own(&self, keyspace: KeyspaceId) -> Own {
        self.spaces.get(&keyspace).map(Arc::clone).unwrap_or_default()
    }

    pub(super) fn set(&mut self, keyspace: &Keyspace, key: &[u8], value: Option<&[u8]>) {
        let key = Slice::from(key);
        let own = Arc::make_mut(self.spaces.entry(keyspace.id()).or_default());
        let before = own.insert(key.clone(), value.map(Slice::from));
        if !self.savepoints.is_empty() {
            self.undo.push(Undo { keyspace: keyspace.id(), key, before });
        }
    }

    pub(super) fn savepoint(&mut self) -> Savepoint {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        // Relaxed: a number that nobody else has, no other transaction either, is all that is asked.
        let savepoint = Savepoint(NUMBERS.fetch_add(1, Ordering::Relaxed));
        self.savepoints.push((savepoint, self.undo.len()));
        savepoint
    }

    /// Undoes what was written since; later savepoints are forgotten.
    pub(super) fn rollback_to(&mut self, savepoint: Savepoint) -> Result<()> {
        let Some(nth) = self.savepoints.iter().position(|(other, _)| *other == savepoint) else {
            return Err(Error::invalid("the savepoint is of another transaction, or behind one that was gone back to"));
        };
        self.savepoints.truncate(nth + 1);
        let (_, kept) = self.savepoints[nth];
        while self.undo.len() > kept
            && let Some(Undo { keyspace, key, before }) = self.undo.pop()
        {
            let own = Arc::make_mut(self.spaces.entry(keyspace).or_default());
            match before {
                Some(value) => own.insert(key, value),
                None => own.remove(&key),
            };
        }
        Ok(())
    }

    pub(super) fn to_batch(&self) -> WriteBatch {
        let mut batch = WriteBatch::new();
        for (keyspace, own) in &self.spaces {
            for (key, value) in &**own {
                match value {
                    Some(value) => batch.put_id(*keyspace, key, value),
                    None => batch.delete_id(*keyspace, key),
                };
            }
        }
        batch
    }
}
