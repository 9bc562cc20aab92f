//! Checkpoints: a copy of the engine that opens alone.
//!
//! A checkpoint is a version and the logs behind it, as recovery would find them after a crash: so it is whole for the same reason, batches
//! over several keyspaces included.
//!
//! ```text
//! lock the new directory ─> flush ─> [ commit and manifest locks: push the log, take the version, copy the logs ] ─> link tables, blob files ─> manifest, CURRENT
//! ```

use crate::core::Core;
use crate::error::{Error, Result};
use crate::new_dir::NewDir;
use crate::options_text;
use crate::read::ReadState;
use esker_format::FileKind;
use esker_manifest::{Version, VersionSet};
use esker_vfs::Vfs;
use std::io;
use std::path::Path;
use std::sync::Arc;

const COPY_BYTES: usize = 1 << 20;

impl Core {
    /// See [`crate::Engine::checkpoint`].
    pub(crate) fn checkpoint(&self, to: &Path) -> Result<()> {
        let _call = self.enter()?;
        let dir = NewDir::make(&*self.vfs, to)?;
        // Leaves little log to copy under the locks below.
        let result = self.flush_keyspaces(&self.keyspaces()).and_then(|()| {
            let _ddl = self.ddl.lock();
            self.fill_checkpoint(to)
        });
        if result.is_err() {
            dir.discard();
        }
        result
    }

    fn fill_checkpoint(&self, to: &Path) -> Result<()> {
        let (version, pinned) = self.freeze(to)?;
        for open in pinned.iter().flat_map(|state| state.view.tables()) {
            let table = FileKind::Table(open.meta.number);
            link_or_copy(&*self.vfs, &table.path(&self.dir), &table.path(to))?;
        }
        for open in pinned.iter().flat_map(|state| &state.view.blobs) {
            let blob = FileKind::Blob(open.meta.number);
            link_or_copy(&*self.vfs, &blob.path(&self.dir), &blob.path(to))?;
        }
        drop(pinned);
        if let Some(options) = options_text::newest_file(&*self.vfs, &self.dir)? {
            // What it says is known, so a sector of it that can't be read keeps nobody from a copy.
            let (path, text) = (options.path(to), options_text::text(&self.options));
            esker_vfs::replace_file(&*self.vfs, &path, text.as_bytes())
                .map_err(|error| Error::io("write", &path, error))?;
        }
        // Last, since with it the directory becomes an engine. It syncs the directory, and so the names of all the files.
        VersionSet::create_from(Arc::clone(&self.vfs), to, &version)?;
        Ok(())
    }

    /// Takes a version, read states that keep its tables, and copies of the logs that continue it, all of one instant.
    fn freeze(&self, to: &Path) -> Result<(Arc<Version>, Vec<Arc<ReadState>>)> {
        let mut commit = self.commit.lock();
        self.health.check()?;
        self.begin_if_resting(&mut commit)?;
        let writer = commit.writer.as_mut().ok_or_else(Error::closed)?;
        writer.push().map_err(|error| self.stop_writing(error.into()))?;
        let (active, active_bytes) = (writer.number(), writer.bytes());
        // Nothing is installed and no log goes while the manifest is held.
        self.with_manifest(|manifest| {
            let version = Arc::clone(manifest.current());
            let (logs, pinned): (Vec<_>, Vec<_>) = {
                let state = self.state.lock();
                let logs = state.logs.iter().copied().filter(|log| log.number >= version.oldest_log);
                (logs.collect(), state.keyspaces.values().map(|keyspace| keyspace.read.load_full()).collect())
            };
            for log in logs {
                // What lies behind is room, or what the file held in a former life.
                let bytes = if log.number == active { active_bytes } else { log.bytes };
                let log = FileKind::Wal(log.number);
                copy(&*self.vfs, &log.path(&self.dir), &log.path(to), Some(bytes))?;
            }
            Ok((version, pinned))
        })
    }
}

pub(crate) fn link_or_copy(vfs: &dyn Vfs, from: &Path, to: &Path) -> Result<()> {
    match vfs.hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::CrossesDevices | io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
            ) =>
        {
            copy(vfs, from, to, None)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::corruption(format!(
            "{} is missing, so the copy would not be whole: restore it from another copy first",
            from.display()
        ))),
        Err(error) => Err(Error::io("link", to, error)),
    }
}

/// Copies the first `bytes` of a file, or all of it, onto stable storage.
pub(crate) fn copy(vfs: &dyn Vfs, from: &Path, to: &Path, bytes: Option<u64>) -> Result<()> {
    let source = vfs.open_read(from).map_err(|error| Error::io("open", from, error))?;
    let len = source.len_bytes().map_err(|error| Error::io("read", from, error))?;
    let len = bytes.map_or(len, |bytes| bytes.min(len));
    let mut target = vfs.create_new(to).map_err(|error| Error::io("create", to, error))?;
    let mut buffer = vec![0; COPY_BYTES.min(len as usize)];
    let mut done = 0;
    while done < len {
        let part = &mut buffer[..COPY_BYTES.min((len - done) as usize)];
        source.read_exact_at(part, done).map_err(|error| Error::io("read", from, error))?;
        target.append(part).map_err(|error| Error::io("write", to, error))?;
        done += part.len() as u64;
    }
    target.sync().map_err(|error| Error::io("sync", to, error))
}
