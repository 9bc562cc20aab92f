//! Making and dropping keyspaces.

use crate::change::Named;
use crate::core::{Core, KeyspaceCore};
use crate::error::{Error, ErrorKind, Result};
use crate::options::KeyspaceOptions;
use crate::options_text::keyspace_text;
use esker_format::KeyspaceId;
use esker_manifest::VersionEdit;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const NAME_BYTES_MAX: usize = 255;

impl Core {
    /// See [`crate::Engine::keyspace`].
    pub(crate) fn keyspace(&self, name: &str, options: KeyspaceOptions) -> Result<Arc<KeyspaceCore>> {
        self.check_open()?;
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(Error::invalid(format!(
                "a keyspace's name has 1 to {NAME_BYTES_MAX} bytes, not {}",
                name.len()
            )));
        }
        options.check()?;
        self.check_filter_named(options.compaction_filter.as_deref())?;
        if let Some(keyspace) = self.keyspace_named(name) {
            keyspace.check_merging(&options)?;
            keyspace.override_options(options)?;
            return Ok(keyspace);
        }
        if self.read_only {
            return Err(not_found(name));
        }
        let _call = self.enter()?;
        let _ddl = self.ddl.lock();
        // Another thread may have been faster.
        if let Some(keyspace) = self.keyspace_named(name) {
            keyspace.check_merging(&options)?;
            keyspace.override_options(options)?;
            return Ok(keyspace);
        }
        self.operators.check_known(&options)?;
        self.health.check()?;
        self.wake()?;
        let id = self.with_manifest(|manifest| Ok(manifest.current().next_keyspace))?;
        let created = (id, name.to_owned(), keyspace_text(&options));
        self.commit_edit_asked_for(VersionEdit { create_keyspaces: vec![created], ..VersionEdit::default() })?;
        let version = self.with_manifest(|manifest| Ok(Arc::clone(&manifest.current().keyspaces[&id])))?;
        self.add_keyspace(version)
    }

    fn keyspace_named(&self, name: &str) -> Option<Arc<KeyspaceCore>> {
        let state = self.state.lock();
        state.names.get(name).map(|id| Arc::clone(&state.keyspaces[id]))
    }

    /// See [`crate::Engine::drop_keyspace`].
    pub(crate) fn drop_keyspace(&self, name: &str) -> Result<()> {
        let _call = self.enter()?;
        let _ddl = self.ddl.lock();
        let keyspace = self.keyspace_named(name).ok_or_else(|| not_found(name))?;
        if keyspace.id == KeyspaceId::DEFAULT {
            return Err(Error::invalid("the keyspace default can't be dropped"));
        }
        self.health.check()?;
        // The edit must not outlast what was written before it, as what was copied out of this keyspace.
        self.sync()?;
        // Held over the edit, so that no write to the keyspace is logged behind its end.
        let mut commit = self.commit.lock();
        self.begin_if_resting(&mut commit)?;
        self.commit_edit_asked_for(VersionEdit { drop_keyspaces: vec![keyspace.id], ..VersionEdit::default() })?;
        commit.keyspaces.remove(&keyspace.id);
        self.edges.forget(keyspace.id);
        // Release: pairs with the Acquire in `Keyspace::check`.
        keyspace.dropped.store(true, Ordering::Release);
        {
            let mut state = self.state.lock();
            state.names.remove(name);
            state.feed.dropped.insert(keyspace.id, Named::of(&keyspace));
            state.keyspaces.remove(&keyspace.id);
        }
        drop(commit);
        let read = keyspace.read.load();
        read.view.tables().for_each(|open| open.retire());
        read.view.blobs.iter().for_each(|open| open.retire());
        drop(read);
        self.update_pressure(&keyspace);
        self.changed.notify_all();
        Ok(())
    }
}

fn not_found(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no keyspace {name}"))
}
