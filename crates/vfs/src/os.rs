//! The operating system's file system.

use std::collections::hash_map::RandomState;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

#[cfg(target_os = "linux")]
use crate::LogMap;
use crate::lock::OsLock;
use crate::{Clock, FileLock, FileSync, LockMode, Map, Metadata, ReadableFile, SystemClock, Vfs, WritableFile};
use crate::{directory_of, or_here, write_out};

static CLOCK: LazyLock<SystemClock> = LazyLock::new(SystemClock::new);

/// The operating system's file system, clock and randomness.
///
/// Locks are `flock`s of file and directory plus a list that the process keeps, so a second lock is refused wherever it comes from.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsVfs;

impl Vfs for OsVfs {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        let file = Arc::new(OpenOptions::new().write(true).create_new(true).open(path)?);
        Ok(Box::new(OsWriter { file, position: 0, len: 0, begun: 0 }))
    }

    #[cfg(target_os = "linux")]
    fn create_log(&self, path: &Path, len_bytes: u64) -> io::Result<Box<dyn LogMap>> {
        crate::log::create(path, len_bytes)
    }

    #[cfg(target_os = "linux")]
    fn open_log(&self, path: &Path) -> io::Result<Box<dyn LogMap>> {
        crate::log::open(path)
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn ReadableFile>> {
        regular(path)?;
        Ok(Arc::new(OsReader { file: File::open(path)? }))
    }

    fn open_sync(&self, path: &Path) -> io::Result<Arc<dyn FileSync>> {
        Ok(Arc::new(OsSync { file: Arc::new(File::open(path)?) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        // The file itself, where `from` is a symbolic link to it.
        let linked =
            rustix::fs::linkat(rustix::fs::CWD, from, rustix::fs::CWD, to, rustix::fs::AtFlags::SYMLINK_FOLLOW);
        linked.map_err(|error| match error {
            // What FAT says, and Linux of files that are not ours to link.
            Errno::PERM => ErrorKind::Unsupported.into(),
            error => error.into(),
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        match std::fs::metadata(or_here(path)) {
            Ok(found) if found.is_dir() => return Ok(()),
            Ok(_) => return Err(ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Err(_) => {}
        }
        let above = directory_of(path);
        if above == or_here(path) {
            return Err(ErrorKind::NotFound.into()); // the working directory has been removed
        }
        self.create_dir_all(above)?;
        match std::fs::create_dir(path) {
            // Someone else was quicker; whether they have synced it we can't know.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
            result => result?,
        }
        self.sync_dir(above)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(or_here(directory))? {
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let found = std::fs::metadata(or_here(path))?;
        Ok(Metadata { len_bytes: if found.is_dir() { 0 } else { found.len() }, is_dir: found.is_dir() })
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        File::open(or_here(directory))?.sync_all()
    }

    fn lock(&self, path: &Path, mode: LockMode) -> io::Result<Box<dyn FileLock>> {
        Ok(Box::new(OsLock::take(path, mode)?))
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        let found = rustix::fs::statvfs(or_here(path))?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn clock(&self) -> &dyn Clock {
        &*CLOCK
    }

    fn random(&self) -> u64 {
        // Keyed by the operating system's randomness, with another key for each call.
        RandomState::new().build_hasher().finish()
    }
}

/// Refuses what is no regular file, before it is opened: the open of a pipe waits for its writer.
pub(crate) fn regular(path: &Path) -> io::Result<()> {
    let found = std::fs::metadata(path)?.file_type();
    if found.is_file() {
        return Ok(());
    }
    match found.is_dir() {
        true => Err(ErrorKind::IsADirectory.into()),
        false => Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file")),
    }
}

#[derive(Debug)]
struct OsWriter {
    file: Arc<File>,
    position: u64,
    /// The file's length: `position`, or more if preallocated.
    len: u64,
    /// Up to where the device was asked to begin.
    begun: u64,
}

impl WritableFile for OsWriter {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.position)?;
        self.position += bytes.len() as u64;
        self.len = self.len.max(self.position);
        Ok(())
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn begin_write_out(&mut self) -> io::Result<()> {
        write_out::begin(&self.file, self.begun..self.position)?;
        self.begun = self.position;
        Ok(())
    }

    fn preallocate(&mut self, len_bytes: u64) -> io::Result<()> {
        if len_bytes <= self.len {
            return Ok(());
        }
        let (offset, len) = (self.len, len_bytes - self.len);
        match rustix::io::retry_on_intr(|| rustix::fs::fallocate(&*self.file, FallocateFlags::empty(), offset, len)) {
            Ok(()) => {
                self.len = len_bytes;
                Ok(())
            }
            // The file system can't reserve space: appends will tell when it runs out.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(error) => {
                // Give back what it may have got before it failed; if that fails too, there is nothing left to undo.
                let _ = self.file.set_len(self.len);
                Err(error.into())
            }
        }
    }

    fn trim(&mut self) -> io::Result<()> {
        // Also when nothing was preallocated: an append that failed may have left bytes behind the position.
        self.file.set_len(self.position)?;
        self.len = self.position;
        Ok(())
    }

    fn syncer(&self) -> Arc<dyn FileSync> {
        Arc::new(OsSync { file: Arc::clone(&self.file) })
    }

    fn append_torn(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.position)
    }
}

#[derive(Debug)]
struct OsSync {
    file: Arc<File>,
}

impl FileSync for OsSync {
    fn sync(&self) -> io::Result<()> {
        // `fdatasync` on Linux, `F_FULLFSYNC` on macOS.
        self.file.sync_data()
    }
}

#[derive(Debug)]
struct OsReader {
    file: File,
}

impl ReadableFile for OsReader {
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn map(&self) -> io::Result<Map> {
        Map::of_file(&self.file)
    }

    #[cfg(all(target_os = "linux", target_pointer_width = "64", not(miri)))]
    fn map_guarded(&self) -> io::Result<Arc<dyn ReadableFile>> {
        Ok(crate::guard::GuardedMap::of_file(&self.file)?)
    }
}
