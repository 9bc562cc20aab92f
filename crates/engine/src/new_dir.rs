//! The directory in which a checkpoint or a repair makes an engine.
//!
//! ```text
//! is it empty, or not there? ─> make it ─> lock it ─> is it empty still? ─> [ files ] ─> manifest, CURRENT ─> unlock
//!                                                                               └─ failed ─> remove them ─> unlock
//! ```
//! Invariants
//! - From before the first file until the engine is whole, or what was made is gone, nobody else has the directory's lock; but while a repair has its whole engine checked, which takes that lock.
//! - Nothing is removed from a directory that was not locked, and empty under the lock: what lies there is another's. But `LOCK`, where it can't be listed once it is locked.

use crate::error::{Error, ErrorKind, Result};
use esker_format::FileKind;
use esker_vfs::{FileLock, LockMode, Vfs};
use std::io;
use std::path::{Path, PathBuf};

/// A directory in which nothing lies but what its owner makes there.
pub(crate) struct NewDir<'a> {
    vfs: &'a dyn Vfs,
    path: &'a Path,
    made: Vec<PathBuf>,
    /// None where the file system has no locks, or others have had it since.
    lock: Option<Box<dyn FileLock>>,
}

impl<'a> NewDir<'a> {
    /// Makes and locks it. `LOCK` then lies in it, and stays there: who opens an engine for reading makes no file.
    pub(crate) fn make(vfs: &'a dyn Vfs, path: &'a Path) -> Result<Self> {
        let made = make_empty_dir(vfs, path)?;
        let file = FileKind::Lock.path(path);
        let lock = match vfs.lock(&file, LockMode::Exclusive) {
            Ok(lock) => Some(lock),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let message = format!("{} is in use: somebody else makes or has an engine there", path.display());
                return Err(Error::new(ErrorKind::Locked, message));
            }
            // A copy is taken there too, to be used elsewhere.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => None,
            Err(error) => {
                remove_dirs(vfs, &made);
                return Err(Error::io("lock", &file, error));
            }
        };
        let dir = Self { vfs, path, made, lock };
        match dir.is_empty() {
            Ok(true) => {}
            Ok(false) => return Err(not_empty(path)),
            // As where the lock took the last descriptor. The file is this one's, for the directory was empty just before; an engine that somebody made there in between does without it, and keeps
            // the directory.
            Err(error) => {
                if dir.lock.is_some() {
                    let _ = vfs.remove_file(&file);
                }
                remove_dirs(vfs, &dir.made);
                return Err(error);
            }
        }
        if dir.lock.is_none() {
            match vfs.create_new(&file) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    remove_dirs(vfs, &dir.made);
                    return Err(Error::io("create", &file, error));
                }
                _ => {}
            }
        }
        Ok(dir)
    }

    pub(crate) fn path(&self) -> &'a Path {
        self.path
    }

    /// Has the finished engine checked by who takes its lock. If it does not pass, it is this call's again, unless somebody has come in between: an engine that writes makes files.
    pub(crate) fn checked<T>(&mut self, check: impl FnOnce() -> Result<T>) -> Result<T> {
        let before = self.vfs.list(self.path).ok();
        let was_locked = self.lock.take().is_some();
        let result = check();
        if result.is_err() && was_locked {
            let lock = self.vfs.lock(&FileKind::Lock.path(self.path), LockMode::Exclusive).ok();
            self.lock = lock.filter(|_| before.is_some() && self.vfs.list(self.path).ok() == before);
        }
        result
    }

    /// But for the lock's file.
    fn is_empty(&self) -> Result<bool> {
        let names = self.vfs.list(self.path).map_err(|error| Error::io("list", self.path, error))?;
        Ok(names.iter().all(|name| FileKind::parse(name) == Some(FileKind::Lock)))
    }

    /// Removes the engine's files, all but the lock's.
    pub(crate) fn clear(&self) {
        // Where it could not be locked, some of them may be another's.
        if self.lock.is_none() {
            return;
        }
        for name in self.vfs.list(self.path).unwrap_or_default() {
            if FileKind::parse(&name).is_some_and(|kind| kind != FileKind::Lock) {
                let _ = self.vfs.remove_file(&self.path.join(name));
            }
        }
    }

    /// Leaves things as they were: without what was made in it, and the directories made for it. One that was there before stays, as one to which somebody else has given files.
    pub(crate) fn discard(self) {
        self.clear();
        if self.lock.is_some() {
            let _ = self.vfs.remove_file(&FileKind::Lock.path(self.path));
            remove_dirs(self.vfs, &self.made);
        }
    }
}

fn remove_dirs(vfs: &dyn Vfs, dirs: &[PathBuf]) {
    for dir in dirs {
        let _ = vfs.remove_dir(dir);
    }
}

fn not_empty(path: &Path) -> Error {
    Error::invalid(format!("{} is not empty; name a directory that does not exist", path.display()))
}

/// The directories that it made, the innermost first: none, or `to` and those above it that were missing.
fn make_empty_dir(vfs: &dyn Vfs, to: &Path) -> Result<Vec<PathBuf>> {
    match vfs.metadata(to) {
        Ok(found) if !found.is_dir => return Err(Error::invalid(format!("{} is a file", to.display()))),
        Ok(_) if !vfs.list(to).map_err(|error| Error::io("list", to, error))?.is_empty() => return Err(not_empty(to)),
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
        remove_dirs(vfs, &made);
        Error::io("create the directory", to, error)
    })?;
    Ok(made)
}
