//! Checkpoints: a copy of the engine that opens alone.
//!
//! A checkpoint is a version and the logs behind it, as recovery would find them after a crash: so it is whole for the same reason, batches
//! over several keyspaces included.
//!
//! ```text
//! flush ─> [ commit and manifest locks: push the log, take the version, copy the logs ] ─> link tables, blob files ─> manifest, CURRENT
//! ```

use crate::core::Core;
use crate::error::{Error, Result};
use crate::options_text;
use crate::read::ReadState;
use esker_format::FileKind;
use esker_manifest::{Version, VersionSet};
use esker_vfs::Vfs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const COPY_BYTES: usize = 1 << 20;

impl Core {
    /// See [`crate::Engine::checkpoint`].
    pub(crate) fn checkpoint(&self, to: &Path) -> Result<()> {
        let _call = self.enter()?;
        let made = make_empty_dir(&*self.vfs, to)?;
        // Leaves little log to copy under the locks below.
        let result = self.flush_keyspaces(&self.keyspaces()).and_then(|()| {
            let _ddl = self.ddl.lock();
            self.fill_checkpoint(to)
        });
        if result.is_err() {
            remove_all(&*self.vfs, to, &made);
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
            copy(&*self.vfs, &options.path(&self.dir), &options.path(to), None)?;
        }
        // For those who open it for reading: they take the lock and make no file.
        let lock = FileKind::Lock.path(to);
        self.vfs.create_new(&lock).map_err(|error| Error::io("create", &lock, error))?;
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

/// The directories that it made, the innermost first: none, or `to` and those above it that were missing.
pub(crate) fn make_empty_dir(vfs: &dyn Vfs, to: &Path) -> Result<Vec<PathBuf>> {
    match vfs.metadata(to) {
        Ok(found) if !found.is_dir => return Err(Error::invalid(format!("{} is a file", to.display()))),
        Ok(_) if !vfs.list(to).map_err(|error| Error::io("list", to, error))?.is_empty() => {
            return Err(Error::invalid(format!("{} is not empty; name a directory that does not exist", to.display())));
        }
        Ok(_) => return Ok(Vec::new()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io("look at", to, error)),
    }
    let mut made = Vec::new();
    for path in to.ancestors().filter(|path| !path.as_os_str().is_empty()) {
        match vfs.metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => made.push(path.to_owned()),
            Ok(_) => break,
            Err(error) => return Err(Error::io("look at", path, error)),
        }
    }
    vfs.create_dir_all(to).map_err(|error| {
        // It may have come as far as some of them.
        made.iter().for_each(|dir| drop(vfs.remove_dir(dir)));
        Error::io("create the directory", to, error)
    })?;
    Ok(made)
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

/// Removes what an unfinished checkpoint made, and the directories made for it; one that was there before stays, as one to which somebody else has given files.
pub(crate) fn remove_all(vfs: &dyn Vfs, dir: &Path, made: &[PathBuf]) {
    for name in vfs.list(dir).unwrap_or_default() {
        let _ = vfs.remove_file(&dir.join(name));
    }
    for dir in made {
        let _ = vfs.remove_dir(dir);
    }
}
