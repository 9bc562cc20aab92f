//! What all handles to a memory file system share: its state, the log of operations, locks.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::crash::{self, CrashPolicy, mix};
use super::state::{FileState, Ino, Kind, NameChange, NameOp, Op, ROOT, State};
use crate::directory_of;
use crate::lock::Holders;

/// No file is longer.
pub(super) const LEN_MAX_BYTES: u64 = 1 << 40;

/// What all handles share.
pub(super) struct World {
    pub(super) state: State,
    /// The state before the first operation of `log`.
    base: State,
    /// How many operations were forgotten.
    forgotten: usize,
    log: Vec<Op>,
    /// The state after so many operations, kept since the next image asked for is often a later one.
    replayed: Option<(usize, State)>,
    /// By directory.
    pub(super) locks: BTreeMap<Ino, Holders>,
    ino_next: Ino,
    pub(super) random: u64,
    pub(super) space_bytes: Option<u64>,
}

pub(super) fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    // A panic elsewhere leaves it whole: operations are checked before they are applied.
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} files after {} operations", self.state.files.len(), self.operations())
    }
}

impl World {
    /// `ino_next` is above all numbers in `state`.
    pub(super) fn new(state: State, ino_next: Ino, random: u64, space_bytes: Option<u64>) -> Self {
        Self {
            base: state.clone(),
            state,
            forgotten: 0,
            log: Vec::new(),
            replayed: None,
            locks: BTreeMap::new(),
            ino_next,
            random,
            space_bytes,
        }
    }

    pub(super) fn operations(&self) -> usize {
        self.forgotten + self.log.len()
    }

    /// What a power cut after the first `operations` operations might have left.
    pub(super) fn image_at(&mut self, operations: usize, policy: CrashPolicy) -> State {
        assert!(operations >= self.forgotten, "operation {operations} was forgotten");
        assert!(operations <= self.operations(), "there were {} operations only", self.operations());
        let (done, mut state) = match self.replayed.take() {
            Some((done, state)) if done <= operations => (done, state),
            _ => (self.forgotten, self.base.clone()),
        };
        self.log[done - self.forgotten..operations - self.forgotten].iter().for_each(|op| state.apply(op));
        let image = crash::image(&state, policy);
        self.replayed = Some((operations, state));
        image
    }

    /// The world that goes on from what a power cut after so many operations has left.
    pub(super) fn reborn(&self, image: State, operations: usize) -> Self {
        Self::new(image, self.ino_next, mix(self.random, &[operations as u64]), self.space_bytes)
    }

    /// Logs and does.
    pub(super) fn apply(&mut self, op: Op) {
        self.state.apply(&op);
        self.log.push(op);
    }

    pub(super) fn forget(&mut self) {
        self.forgotten += self.log.len();
        self.log = Vec::new();
        self.base = self.state.clone();
        self.replayed = None;
    }

    pub(super) fn file(&self, ino: Ino) -> &FileState {
        self.state.files.get(&ino).expect("a file with a handle or a name is kept")
    }

    pub(super) fn file_mut(&mut self, ino: Ino) -> &mut FileState {
        self.state.files.get_mut(&ino).expect("a file with a handle or a name is kept")
    }

    /// What is at `path`.
    pub(super) fn find(&self, path: &Path) -> io::Result<Ino> {
        Ok(*self.walk(path)?.last().expect("begins with the root"))
    }

    /// The directories on the way from the root to what is at `path`, and that.
    pub(super) fn walk(&self, path: &Path) -> io::Result<Vec<Ino>> {
        let mut way = vec![ROOT];
        for component in path.components() {
            let at = *way.last().expect("the root is never left");
            match component {
                Component::Normal(name) => way.push(self.find_in(at, name.to_str().ok_or(ErrorKind::InvalidInput)?)?),
                Component::ParentDir if !self.is_dir(at) => return Err(ErrorKind::NotADirectory.into()),
                Component::ParentDir if at != ROOT => drop(way.pop()),
                _ => {}
            }
        }
        Ok(way)
    }

    pub(super) fn find_in(&self, directory: Ino, name: &str) -> io::Result<Ino> {
        let directory = self.state.dirs.get(&directory).ok_or(ErrorKind::NotADirectory)?;
        Ok(*directory.live.get(name).ok_or(ErrorKind::NotFound)?)
    }

    pub(super) fn directory_at(&self, path: &Path) -> io::Result<Ino> {
        let ino = self.find(path)?;
        if self.is_dir(ino) { Ok(ino) } else { Err(ErrorKind::NotADirectory.into()) }
    }

    pub(super) fn file_at(&self, path: &Path) -> io::Result<Ino> {
        let ino = self.find(path)?;
        if self.is_dir(ino) { Err(ErrorKind::IsADirectory.into()) } else { Ok(ino) }
    }

    pub(super) fn is_dir(&self, ino: Ino) -> bool {
        self.state.dirs.contains_key(&ino)
    }

    /// The directory that `path` lies in, and the name in it, which need not be there.
    pub(super) fn place(&self, path: &Path) -> io::Result<(Ino, Arc<str>)> {
        let name = path.file_name().and_then(OsStr::to_str).ok_or(ErrorKind::InvalidInput)?;
        Ok((self.directory_at(directory_of(path))?, Arc::from(name)))
    }

    pub(super) fn make(&mut self, path: &Path, kind: Kind) -> io::Result<Ino> {
        let (directory, name) = self.place(path)?;
        if self.find_in(directory, &name).is_ok() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let ino = self.ino_next;
        self.ino_next += 1;
        let changes = vec![NameChange { directory, name, to: Some(ino) }];
        self.apply(Op::Names(NameOp { makes: Some(kind), changes }));
        Ok(ino)
    }

    pub(super) fn make_dir_all(&mut self, path: &Path) -> io::Result<()> {
        match self.find(path) {
            Ok(ino) if self.is_dir(ino) => return Ok(()),
            Ok(_) => return Err(ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Err(_) => {}
        }
        self.make_dir_all(directory_of(path))?;
        if self.find(path).is_ok_and(|ino| self.is_dir(ino)) {
            return Ok(()); // as `new/..` is now
        }
        self.make(path, Kind::Directory)?;
        let (above, _) = self.place(path)?;
        self.apply(Op::SyncDir { ino: above });
        Ok(())
    }

    pub(super) fn change_names(&mut self, changes: Vec<NameChange>) {
        self.apply(Op::Names(NameOp { makes: None, changes }));
    }

    /// How many of `bytes` more bytes there is space for.
    pub(super) fn space_for(&self, bytes: u64) -> u64 {
        self.space_bytes.map_or(bytes, |space| space.saturating_sub(self.state.used_bytes()).min(bytes))
    }

    /// Makes a file longer by zeros, unless it is that long.
    pub(super) fn grow(&mut self, ino: Ino, len: u64) -> io::Result<()> {
        let more = len.saturating_sub(self.file(ino).live.len());
        if more == 0 {
            return Ok(());
        }
        if len > LEN_MAX_BYTES {
            return Err(ErrorKind::FileTooLarge.into());
        }
        if self.space_for(more) < more {
            return Err(ErrorKind::StorageFull.into());
        }
        self.apply(Op::SetLen { ino, len });
        Ok(())
    }

    /// Writes as much as there is space for, then fails if that was not all.
    pub(super) fn write(&mut self, ino: Ino, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset + bytes.len() as u64;
        let more = end.saturating_sub(self.file(ino).live.len());
        let short = more - self.space_for(more);
        let fits = bytes.len() - short as usize;
        if fits > 0 {
            self.apply(Op::Write { ino, offset, bytes: bytes[..fits].into() });
        }
        if short > 0 { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}
