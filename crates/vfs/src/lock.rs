//! Locks of the operating system, refused within one process too.
//!
//! A lock file alone is not enough: one that is removed, renamed or replaced while it is held is another file to whoever comes next. So the directory itself is locked too, which is what it is whatever
//! lies in it. Nor is `flock` alone: some file systems emulate it by locks that belong to the process. So the process also keeps a list of what it holds.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::OFlags;

use crate::os::regular;
use crate::{FileLock, LockMode, directory_of, or_here};

/// Device and inode of the directory.
type Key = (u64, u64);

/// The locks this process holds.
static HELD: Mutex<BTreeMap<Key, Holders>> = Mutex::new(BTreeMap::new());

/// Who holds a lock.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Holders {
    /// So many, side by side; never none.
    Shared(usize),
    /// One, alone.
    Exclusive,
}

/// Adds a holder, if `mode` goes with those there are.
pub(crate) fn hold<K: Ord + Clone>(held: &mut BTreeMap<K, Holders>, key: &K, mode: LockMode) -> io::Result<()> {
    match (held.get_mut(key), mode) {
        (None, LockMode::Exclusive) => drop(held.insert(key.clone(), Holders::Exclusive)),
        (None, LockMode::Shared) => drop(held.insert(key.clone(), Holders::Shared(1))),
        (Some(Holders::Shared(count)), LockMode::Shared) => *count += 1,
        (Some(_), _) => return Err(io::Error::new(ErrorKind::WouldBlock, "locked by this process")),
    }
    Ok(())
}

/// Takes a holder away.
pub(crate) fn release<K: Ord>(held: &mut BTreeMap<K, Holders>, key: &K) {
    match held.get_mut(key) {
        Some(Holders::Shared(count)) if *count > 1 => *count -= 1,
        _ => drop(held.remove(key)),
    }
}

#[derive(Debug)]
pub(crate) struct OsLock {
    /// None where it is missing, and a shared lock of the directory will do.
    file: Option<File>,
    directory: File,
    key: Key,
}

impl OsLock {
    pub(crate) fn take(path: &Path, mode: LockMode) -> io::Result<Self> {
        // Of no pipe, whose open waits for its writer.
        let mut open = OpenOptions::new();
        open.read(true).custom_flags(OFlags::DIRECTORY.bits() as i32);
        let directory = open.open(or_here(directory_of(path)))?;
        let found = directory.metadata()?;
        let key = (found.dev(), found.ino());
        // Held while we ask the operating system, so that two threads don't undo one another.
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        hold(&mut held, &key, mode)?;
        // The directory first: who is refused makes no file.
        match lock_directory(&directory, mode).and_then(|is_locked| lock_file(path, mode, is_locked)) {
            Ok(file) => Ok(Self { file, directory, key }),
            Err(error) => {
                // Before the list is let go of, whose next reader asks the system at once; and by hand, as in `drop`.
                let _ = directory.unlock();
                release(&mut held, &key);
                Err(error)
            }
        }
    }
}

/// Locks the directory itself. False where the file system has no such locks: then the file's is all there is.
fn lock_directory(directory: &File, mode: LockMode) -> io::Result<bool> {
    loop {
        match try_lock(directory, mode) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(error),
            locked => return Ok(locked.is_ok()),
        }
    }
}

/// Opens and locks the file that has the name `path` when the lock is got: it may have been removed between open and lock. A shared lock makes none, and where the directory is locked it needs none.
fn lock_file(path: &Path, mode: LockMode, directory_is_locked: bool) -> io::Result<Option<File>> {
    loop {
        let file = match open_file(path, mode) {
            Err(error) if error.kind() == ErrorKind::NotFound && directory_is_locked && mode == LockMode::Shared => {
                return Ok(None);
            }
            opened => opened?,
        };
        try_lock(&file, mode)?;
        let locked = file.metadata()?;
        match std::fs::metadata(path) {
            Ok(named) if (named.dev(), named.ino()) == (locked.dev(), locked.ino()) => return Ok(Some(file)),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
}

fn open_file(path: &Path, mode: LockMode) -> io::Result<File> {
    match regular(path) {
        Err(error) if error.kind() == ErrorKind::NotFound && mode == LockMode::Exclusive => {}
        checked => checked?,
    }
    match mode {
        LockMode::Shared => File::open(path),
        LockMode::Exclusive => OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path),
    }
}

fn try_lock(file: &File, mode: LockMode) -> io::Result<()> {
    match mode {
        LockMode::Shared => file.try_lock_shared()?,
        LockMode::Exclusive => file.try_lock()?,
    }
    Ok(())
}

impl FileLock for OsLock {}

impl Drop for OsLock {
    fn drop(&mut self) {
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        // Closing the files would do, unless a child process has inherited them. If it fails, closing is all that is left. The directory last, as it was first.
        if let Some(file) = &self.file {
            let _ = file.unlock();
        }
        let _ = self.directory.unlock();
        release(&mut held, &self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No file system is at hand that can't lock directories: there nobody would be kept out, so a shared lock without the file is refused.
    #[test]
    fn a_shared_lock_needs_the_file_or_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("LOCK");
        assert!(lock_file(&path, LockMode::Shared, true).unwrap().is_none());
        assert_eq!(lock_file(&path, LockMode::Shared, false).unwrap_err().kind(), ErrorKind::NotFound);
        assert!(!path.exists());
        assert!(lock_file(&path, LockMode::Exclusive, false).unwrap().is_some());
        assert!(lock_file(&path, LockMode::Shared, false).unwrap().is_some());
    }
}
