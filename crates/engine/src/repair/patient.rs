//! [`Patient`]: the damaged directory's files, read around what the device can't give.
//!
//! Who reads a file asks for many sectors at once, and one bad one fails all of it. Here such a read is made again piece by piece, and what can't be read even so is filled with bytes that are no part
//! of anything:
//! ```text
//! asked for   |........|........|........|........|     fails
//! given       |........|........|a5a5a5a5|........|     the third piece is noted, and not asked for again: a bad sector may take a device seconds
//! ```
//! So it is damage like any other: a checksum does not pass, and what lies before and behind is used.
//!
//! What only we can't read, for want of rights, descriptors or memory, is no damage: the first such failure is kept, for the repair to end with. Else whatever the file holds would count as lost.

use crate::error::{Error, Result};
use esker_vfs::{
    Clock, FileLock, FileSync, LockMode, LogMap, Map, Metadata, ReadableFile, Vfs, WritableFile, is_of_the_asker,
};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The least that is read by itself: what operating systems read at once.
const PIECE_BYTES: u64 = 4096;
/// In the place of what can't be read: not zeros, which in a log mean that it was not written.
const FILLING: u8 = 0xa5;

/// What of a file can't be read.
#[derive(Debug, Clone)]
pub(super) struct Unreadable {
    /// Where the pieces start.
    pub(super) pieces: BTreeSet<u64>,
    /// Why, of the first that was come upon.
    pub(super) why: String,
}

/// What was come upon so far.
#[derive(Debug, Default)]
struct Known {
    by_file: BTreeMap<PathBuf, Unreadable>,
    refused: Option<Error>,
}

impl Known {
    /// Keeps what it is that we lack, if that is why.
    fn note(&mut self, doing: &str, path: &Path, error: &io::Error) {
        if let Some(errno) = error.raw_os_error().filter(|_| is_of_the_asker(error)) {
            self.refused.get_or_insert_with(|| Error::io(doing, path, io::Error::from_raw_os_error(errno)));
        }
    }
}

type Shared = Arc<Mutex<Known>>;

/// A file system of which the files in one directory are read so. None of them is mapped.
#[derive(Debug)]
pub(super) struct Patient {
    inner: Arc<dyn Vfs>,
    dir: PathBuf,
    known: Shared,
}

impl Patient {
    pub(super) fn new(inner: &Arc<dyn Vfs>, dir: &Path) -> Arc<Self> {
        Arc::new(Self { inner: Arc::clone(inner), dir: dir.to_owned(), known: Shared::default() })
    }

    /// What was come upon so far, by file.
    pub(super) fn unreadable(&self) -> BTreeMap<PathBuf, Unreadable> {
        held(&self.known).by_file.clone()
    }

    /// Fails if anything could not be read for want of rights, descriptors or memory.
    pub(super) fn check_refused(&self) -> Result<()> {
        held(&self.known).refused.clone().map_or(Ok(()), Err)
    }

    /// How many pieces are known that can't be read.
    pub(super) fn unreadable_pieces(&self) -> usize {
        held(&self.known).by_file.values().map(|known| known.pieces.len()).sum()
    }

    /// Whether any of these bytes is known not to be readable.
    pub(super) fn is_unreadable(&self, path: &Path, bytes: Range<u64>) -> bool {
        is_unreadable(&self.known, path, bytes)
    }
}

fn held(known: &Shared) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_unreadable(known: &Shared, path: &Path, bytes: Range<u64>) -> bool {
    let first = bytes.start - bytes.start % PIECE_BYTES;
    !bytes.is_empty()
        && held(known).by_file.get(path).is_some_and(|of_it| of_it.pieces.range(first..bytes.end).next().is_some())
}

#[derive(Debug)]
struct PatientFile {
    inner: Arc<dyn ReadableFile>,
    path: PathBuf,
    known: Shared,
}

impl PatientFile {
    /// Reads a part of one piece.
    fn read_piece(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if !is_unreadable(&self.known, &self.path, offset..offset + 1) {
            match self.inner.read_exact_at(buffer, offset) {
                Err(error) if is_of_the_asker(&error) => {
                    held(&self.known).note("read", &self.path, &error);
                    return Err(error);
                }
                Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
                    let new = || Unreadable { pieces: BTreeSet::new(), why: error.to_string() };
                    let mut known = held(&self.known);
                    let of_it = known.by_file.entry(self.path.clone()).or_insert_with(new);
                    of_it.pieces.insert(offset - offset % PIECE_BYTES);
                }
                result => return result,
            }
        }
        buffer.fill(FILLING);
        Ok(())
    }
}

impl ReadableFile for PatientFile {
    fn len_bytes(&self) -> io::Result<u64> {
        let len = self.inner.len_bytes();
        len.inspect_err(|error| held(&self.known).note("read the length of", &self.path, error))
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if !is_unreadable(&self.known, &self.path, offset..offset.saturating_add(buffer.len() as u64)) {
            match self.inner.read_exact_at(buffer, offset) {
                Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => {}
                result => return result,
            }
        }
        let first = (PIECE_BYTES - offset % PIECE_BYTES).min(buffer.len() as u64) as usize;
        let (first, others) = buffer.split_at_mut(first);
        self.read_piece(first, offset)?;
        let mut at = offset + first.len() as u64;
        for piece in others.chunks_mut(PIECE_BYTES as usize) {
            self.read_piece(piece, at)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    fn map(&self) -> io::Result<Map> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Vfs for Patient {
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn ReadableFile>> {
        let opened = self.inner.open_read(path);
        if path.parent() != Some(&self.dir) {
            return opened;
        }
        let inner = opened.inspect_err(|error| held(&self.known).note("open", path, error))?;
        Ok(Arc::new(PatientFile { inner, path: path.to_owned(), known: Arc::clone(&self.known) }))
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        self.inner.create_new(path)
    }

    fn create_log(&self, path: &Path, len_bytes: u64) -> io::Result<Box<dyn LogMap>> {
        self.inner.create_log(path, len_bytes)
    }

    fn open_log(&self, path: &Path) -> io::Result<Box<dyn LogMap>> {
        self.inner.open_log(path)
    }

    fn open_sync(&self, path: &Path) -> io::Result<Arc<dyn FileSync>> {
        self.inner.open_sync(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.hard_link(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_dir(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir_all(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let names = self.inner.list(directory);
        names.inspect_err(|error| held(&self.known).note("list", directory, error))
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let found = self.inner.metadata(path);
        found.inspect_err(|error| held(&self.known).note("look at", path, error))
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        self.inner.sync_dir(directory)
    }

    fn lock(&self, path: &Path, mode: LockMode) -> io::Result<Box<dyn FileLock>> {
        self.inner.lock(path, mode)
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        self.inner.free_space(path)
    }

    fn clock(&self) -> &dyn Clock {
        self.inner.clock()
    }

    fn random(&self) -> u64 {
        self.inner.random()
    }
}
