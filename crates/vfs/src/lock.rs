//! Locks of the operating system, refused within one process too.
//!
//! `flock` alone is not enough: some file systems emulate it by locks that belong to the process, and a lock file that someone removes
//! and makes anew is another file. So the process also keeps a list of what it holds, by directory and name.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::os::regular;
use crate::{FileLock, LockMode, directory_of, or_here};

/// Device and inode of the directory, and the name in it.
type Key = (u64, u64, OsString);

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
    file: File,
    key: Key,
}

impl OsLock {
    pub(crate) fn take(path: &Path, mode: LockMode) -> io::Result<Self> {
        let directory = std::fs::metadata(or_here(directory_of(path)))?;
        let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
        let key = (directory.dev(), directory.ino(), name.to_owned());
        // Held while we ask the operating system, so that two threads don't undo one another.
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        hold(&mut held, &key, mode)?;
        match lock_file(path, mode) {
            Ok(file) => Ok(Self { file, key }),
            Err(error) => {
                release(&mut held, &key);
                Err(error)
            }
        }
    }
}

/// Opens and locks the file that has the name `path` when the lock is got: it may have been removed between open and lock.
fn lock_file(path: &Path, mode: LockMode) -> io::Result<File> {
    loop {
        match regular(path) {
            Err(error) if error.kind() == ErrorKind::NotFound && mode == LockMode::Exclusive => {}
            checked => checked?,
        }
        let file = match mode {
            LockMode::Shared => File::open(path)?,
            LockMode::Exclusive => OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?,
        };
        match mode {
            LockMode::Shared => file.try_lock_shared()?,
            LockMode::Exclusive => file.try_lock()?,
        }
        let locked = file.metadata()?;
        match std::fs::metadata(path) {
            Ok(named) if (named.dev(), named.ino()) == (locked.dev(), locked.ino()) => return Ok(file),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
}

impl FileLock for OsLock {}

impl Drop for OsLock {
    fn drop(&mut self) {
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        // Closing the file would do, unless a child process has inherited it. If it fails, closing is all that is left.
        let _ = self.file.unlock();
        release(&mut held, &self.key);
    }
}
