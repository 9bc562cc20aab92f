//! The outside world as Esker sees it: files, directories, locks, maps and time.
//!
//! No other library crate of Esker touches `std::fs` or a clock. Four implementations share one contract and one conformance suite:
//! the operating system ([`OsVfs`]), a crashable memory file system, one that injects faults, and one that asserts the order of operations.
//!
//! # What a file system promises here
//! - Bytes written are in the operating system when the call returns (they survive the death of the process), and on stable
//!   storage only after [`WritableFile::sync`] returned `Ok`.
//! - A file that was created, renamed, linked or removed is so on stable storage only after [`Vfs::sync_dir`] of its directory.
//! - After a failed sync nothing is known about the bytes written since the last good one, whatever a later sync says.
//!
//! # Example
//! A test crashes what it tests after every operation, and looks at what is left:
//! ```
//! use esker_vfs::{CrashPolicy, MemVfs, Vfs, read_file, replace_file};
//! use std::path::Path;
//!
//! let vfs = MemVfs::new();
//! let path = Path::new("/CURRENT");
//! replace_file(&*vfs, path, b"old")?;
//! let before = vfs.operations();
//! replace_file(&*vfs, path, b"new")?;
//! for operations in before..=vfs.operations() {
//!     for seed in 0..16 {
//!         let after = vfs.crash_image(operations, CrashPolicy::Subset(seed));
//!         let left = read_file(&after, path, 3)?;
//!         assert!(left == b"old" || left == b"new");
//!     }
//! }
//! # Ok::<(), std::io::Error>(())
//! ```
#![deny(unsafe_code)]

#[cfg(windows)]
compile_error!("Esker does not support Windows yet");

mod clock;
mod fault;
#[cfg(all(target_os = "linux", target_pointer_width = "64", not(miri)))]
mod guard;
mod lock;
mod log;
mod map;
mod mem;
mod operation;
mod os;
mod piece;
mod prefetch;
#[cfg(target_os = "linux")]
mod region;
mod trace;
mod unreadable;
mod write_out;

pub use clock::{Clock, ManualClock, SystemClock};
pub use fault::{Fault, FaultVfs, Rule, RuleId};
pub use log::{LogMap, LogRoom};
pub use map::Map;
pub use mem::{CrashPolicy, MemVfs};
pub use operation::Operation;
pub use os::OsVfs;
pub use piece::{PIECE_BYTES, whole_pieces};
pub use prefetch::{CACHE_LINE_BYTES, prefetch, prefetch_range};
pub use trace::{Event, TraceVfs};
pub use unreadable::UnreadablePage;

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// A file system, a clock, and a source of random numbers.
///
/// All methods may be called from several threads at once. Errors are those of the operating system; callers add the path.
pub trait Vfs: Debug + Send + Sync + 'static {
    /// Makes a new, empty file for appending and overwriting.
    ///
    /// # Errors
    /// `AlreadyExists` if there is a file of that name.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn WritableFile>>;

    /// Makes a new file of `len_bytes` zeros, all of it allocated, for storing into. What can't be made whole is not there afterwards.
    ///
    /// # Errors
    /// `AlreadyExists` if there is a file of that name; `StorageFull`; `Unsupported` where logs can't be mapped, or where a full disk would
    /// show in the middle of a store: then append.
    fn create_log(&self, path: &Path, len_bytes: u64) -> io::Result<Box<dyn LogMap>> {
        let _ = (path, len_bytes);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Opens for storing a file that [`Vfs::create_log`] made, with the bytes that it has. Nobody else may have it open for that.
    ///
    /// # Errors
    /// `NotFound`; `Unsupported` as there.
    fn open_log(&self, path: &Path) -> io::Result<Box<dyn LogMap>> {
        let _ = path;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Opens a file for reading. A file opened stays readable when its name is removed.
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn ReadableFile>>;

    /// A handle to put on stable storage what a file holds already, whoever wrote it.
    fn open_sync(&self, path: &Path) -> io::Result<Arc<dyn FileSync>>;

    /// Gives a file another name, replacing what had that name. Atomic.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file a second name.
    ///
    /// # Errors
    /// `AlreadyExists` if `to` exists; `CrossesDevices` or `Unsupported` where the file system can't: then copy.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes a directory and those above it that are missing; fine if it is there. Syncs the directories above those it made.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, in order of name; names that are not UTF-8 are left out, since none of ours is so.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;

    /// What is at `path`.
    ///
    /// # Errors
    /// `NotFound` if nothing is.
    fn metadata(&self, path: &Path) -> io::Result<Metadata>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, directory: &Path) -> io::Result<()>;

    /// Takes the lock of the directory that `path` is in, by that file and by the directory itself, until the returned guard is dropped. Refused at once, also within one process, whatever has become of
    /// the file meanwhile and whatever other name is given.
    ///
    /// An exclusive lock makes the file if it is missing; a shared one does not, works on a read-only medium, and without the file is one of the directory. Where the operating system's file system can't
    /// lock directories, another process is kept out by the file alone: nobody must remove it, and a shared lock needs it.
    ///
    /// # Errors
    /// `WouldBlock` if someone else holds it, and then no file was made; `NotFound` if there is no such directory, and for a shared lock where there is no file and the directory can't be locked.
    fn lock(&self, path: &Path, mode: LockMode) -> io::Result<Box<dyn FileLock>>;

    /// Bytes that can still be written in the file system that holds `path`.
    fn free_space(&self, path: &Path) -> io::Result<u64>;

    /// Time.
    fn clock(&self) -> &dyn Clock;

    /// A random number, for file ids. Not for secrets.
    fn random(&self) -> u64;
}

/// What [`Vfs::metadata`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// Length in bytes; 0 for a directory.
    pub len_bytes: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// How [`Vfs::lock`] locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// Beside other shared ones.
    Shared,
    /// Alone.
    Exclusive,
}

/// A lock, held until dropped.
pub trait FileLock: Debug + Send + Sync {}

/// A file being written. One writer at a time; [`WritableFile::sync`] may run beside it, from other threads.
///
/// The file has a write position, which starts at 0 and which `append` moves. [`WritableFile::preallocate`] may make the file longer than
/// that: what lies behind the position reads as zeros.
pub trait WritableFile: Debug + Send + Sync {
    /// Writes all of `bytes` at the write position and moves it.
    ///
    /// # Errors
    /// The position does not move; some of the bytes may have been written.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// The write position: how many bytes have been appended.
    fn position(&self) -> u64;

    /// Has the device begin with what was appended since the last such call, and does not wait for it: a later sync then finds less to do. For files that are written
    /// over some time and synced at the end. Durability is the sync's alone. Where there is no such call nothing happens, which is the default.
    ///
    /// # Errors
    /// As of a sync that failed: nothing is known about those bytes then.
    fn begin_write_out(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Makes sure that the file can be appended to up to `len_bytes` in all without running out of space, where the file system can.
    /// The file's length may become `len_bytes`.
    ///
    /// # Errors
    /// `StorageFull`, and then nothing has changed; appending within what was allocated before still works.
    fn preallocate(&mut self, len_bytes: u64) -> io::Result<()>;

    /// Cuts the file to its write position, giving back what was preallocated.
    fn trim(&mut self) -> io::Result<()>;

    /// A handle to sync the file by, usable from any thread and beside appends.
    fn syncer(&self) -> Arc<dyn FileSync>;

    /// Puts all that was appended before the call on stable storage, as [`FileSync::sync`].
    fn sync(&mut self) -> io::Result<()> {
        self.syncer().sync()
    }

    /// Writes `bytes` where the next append goes without moving the write position, as an append that fails half way may. For fault
    /// injection; the default writes nothing, which is allowed too.
    fn append_torn(&mut self, bytes: &[u8]) -> io::Result<()> {
        let _ = bytes;
        Ok(())
    }
}

/// Syncs a file that another thread may be appending to.
pub trait FileSync: Debug + Send + Sync {
    /// Puts all bytes that were appended before the call on stable storage, and the length needed to read them. Stronger than the
    /// operating system's cheapest form where that is not enough (`F_FULLFSYNC` on macOS).
    ///
    /// # Errors
    /// Nothing is known about those bytes then, and a later `Ok` proves nothing about them.
    fn sync(&self) -> io::Result<()>;

    /// Makes the bytes that are not on stable storage yet never get there by a later sync, though reads still see them: what a failed
    /// sync may do. For fault injection; the default does nothing.
    fn lose_unsynced(&self) {}
}

/// A file being read. Any number of threads at once.
pub trait ReadableFile: Debug + Send + Sync {
    /// The file's length now, in bytes.
    fn len_bytes(&self) -> io::Result<u64>;

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file ends before the buffer is full.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Maps the whole file, which must not change any more: not by us, nor by anybody else while the map lives.
    ///
    /// # Errors
    /// `Unsupported` where there are no maps: use [`ReadableFile::read_exact_at`]. An empty file maps to no bytes.
    fn map(&self) -> io::Result<Map>;

    /// Maps the whole file as it is now, to be read by copying alone. A page that can't be read, because the device fails or another program has cut the file, is an error of
    /// [`ReadableFile::read_exact_at`] ([`UnreadablePage`]), and so is each later read of it, as long as the map lives; read from a [`Map`] it would end the process by `SIGBUS`.
    ///
    /// The first call of a process installs a handler of `SIGBUS`, which stays. It hands on what is not its own.
    ///
    /// # Errors
    /// `Unsupported` where there are no such maps, which is the default: use the file itself.
    fn map_guarded(&self) -> io::Result<Arc<dyn ReadableFile>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Has the system begin to read `range`, and does not wait for it. A hint; the default does nothing.
    fn read_ahead(&self, range: Range<u64>) {
        let _ = range;
    }

    /// What of it is mapped, if it comes from [`ReadableFile::map_guarded`]; else nothing.
    fn mapped(&self) -> Mapped {
        Mapped::default()
    }
}

/// What [`ReadableFile::mapped`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mapped {
    /// Bytes of address space.
    pub bytes: u64,
    /// Pages that could not be read; all of them, if there are so many that the map was given up.
    pub unreadable_pages: u64,
}

/// Whether an error of reading says that the device can't give these bytes (`EIO`, [`UnreadablePage`]), rather than that something is lacking for the moment.
pub fn is_of_the_medium(error: &io::Error) -> bool {
    UnreadablePage::of(error).is_some() || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// Whether an error says that it lies with who asks: no rights, descriptors or memory for it. The file may be as it should.
pub fn is_of_the_asker(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let lacking = [Errno::ACCESS, Errno::PERM, Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    error.raw_os_error().is_some_and(|errno| lacking.iter().any(|lacking| lacking.raw_os_error() == errno))
}

/// Reads a whole file, refusing one that is longer than `len_max` bytes (`FileTooLarge`).
pub fn read_file(vfs: &dyn Vfs, path: &Path, len_max: u64) -> io::Result<Vec<u8>> {
    let file = vfs.open_read(path)?;
    let len = file.len_bytes()?;
    if len > len_max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{len} bytes, at most {len_max} expected")));
    }
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Writes a whole file so that after a crash there is either the old one or the new one: a temporary file, sync, rename, sync of the
/// directory.
pub fn replace_file(vfs: &dyn Vfs, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temp = path.as_os_str().to_owned();
    temp.push(".tmp");
    let temp = Path::new(&temp);
    match vfs.remove_file(temp) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = vfs.create_new(temp)?;
    file.append(bytes)?;
    file.sync()?;
    drop(file);
    vfs.rename(temp, path)?;
    vfs.sync_dir(directory_of(path))
}

/// The directory that holds `path`.
fn directory_of(path: &Path) -> &Path {
    path.parent().map_or(Path::new("."), or_here)
}

/// The parent of a bare name is the empty path, which the operating system does not take for the working directory.
fn or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// Its example is tested.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
