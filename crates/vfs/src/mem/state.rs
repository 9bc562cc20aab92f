//! The state of a memory file system: what reads see, what is on stable storage, and what lies between.
//!
//! ```text
//! file        synced  --pending writes and lengths-->  live          Sync: synced := live
//! directory   synced  --pending changes of names---->  live          SyncDir: those of the directory are applied to synced
//! ```
//!
//! A state changes only by [`State::apply`]ing operations, so a log of operations is enough to make the state at any time again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::content::Content;

/// Number of a file or directory.
pub(crate) type Ino = u64;

pub(crate) const ROOT: Ino = 0;

/// What a disk writes whole or not at all.
pub(crate) const SECTOR_BYTES: u64 = 512;

/// A change of the file system, checked before it is made.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// A file or directory is made, linked, renamed or removed.
    Names(NameOp),
    Write {
        ino: Ino,
        offset: u64,
        bytes: Arc<[u8]>,
    },
    SetLen {
        ino: Ino,
        len: u64,
    },
    Sync {
        ino: Ino,
    },
    /// A sync has failed: what was written since the last good one never gets to stable storage.
    Lose {
        ino: Ino,
    },
    SyncDir {
        ino: Ino,
    },
}

/// Names that change together or not at all. The last one is in the directory whose sync makes it durable.
#[derive(Debug, Clone)]
pub(crate) struct NameOp {
    pub(crate) makes: Option<Kind>,
    pub(crate) changes: Vec<NameChange>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
}

/// A name gets another meaning, or none.
#[derive(Debug, Clone)]
pub(crate) struct NameChange {
    pub(crate) directory: Ino,
    pub(crate) name: Arc<str>,
    pub(crate) to: Option<Ino>,
}

impl NameOp {
    fn settles_in(&self) -> Ino {
        self.changes.last().expect("changes something").directory
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = (Ino, Arc<str>)> {
        self.changes.iter().map(|change| (change.directory, Arc::clone(&change.name)))
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct FileState {
    pub(crate) live: Content,
    pub(crate) synced: Content,
    /// What makes `live` of `synced`, in order, apart from the lost sectors.
    pub(crate) pending: Vec<FileOp>,
    /// Sectors whose sync failed: they differ, and no sync will change that.
    pub(crate) lost: BTreeSet<u64>,
    /// Names that reads see.
    pub(crate) links: usize,
    /// Handles, which only the state that is in use has.
    pub(crate) open: usize,
}

#[derive(Debug, Clone)]
pub(crate) enum FileOp {
    Write { offset: u64, bytes: Arc<[u8]> },
    SetLen(u64),
}

pub(crate) type Names = BTreeMap<Arc<str>, Ino>;

#[derive(Debug, Clone, Default)]
pub(crate) struct DirState {
    pub(crate) live: Names,
    pub(crate) synced: Names,
}

#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) files: BTreeMap<Ino, FileState>,
    pub(crate) dirs: BTreeMap<Ino, DirState>,
    /// Changes of names that are not durable yet, in order.
    pub(crate) pending: Vec<NameOp>,
    /// The file that was written last.
    pub(crate) written_last: Option<Ino>,
    /// Whether something has lost a name since [`State::collect`].
    garbage: bool,
}

impl State {
    pub(crate) fn new() -> Self {
        let dirs = BTreeMap::from([(ROOT, DirState::default())]);
        Self { files: BTreeMap::new(), dirs, pending: Vec::new(), written_last: None, garbage: false }
    }

    pub(crate) fn apply(&mut self, op: &Op) {
        match op {
            Op::Names(op) => self.change_names(op),
            Op::Write { ino, offset, bytes } => {
                if let Some(file) = self.files.get_mut(ino) {
                    file.write(*offset, bytes);
                    self.written_last = Some(*ino);
                }
            }
            // A file that has neither name nor handle any more is gone from states that are made again; so are its operations.
            Op::SetLen { ino, len } => drop(self.files.get_mut(ino).map(|file| file.set_len(*len))),
            Op::Sync { ino } => drop(self.files.get_mut(ino).map(FileState::sync)),
            Op::Lose { ino } => drop(self.files.get_mut(ino).map(FileState::lose)),
            Op::SyncDir { ino } => self.sync_dir(*ino),
        }
    }

    fn change_names(&mut self, op: &NameOp) {
        match (op.makes, op.changes.last().and_then(|change| change.to)) {
            (Some(Kind::File), Some(ino)) => drop(self.files.insert(ino, FileState::default())),
            (Some(Kind::Directory), Some(ino)) => drop(self.dirs.insert(ino, DirState::default())),
            _ => {}
        }
        for change in &op.changes {
            if let Some(file) = change.to.and_then(|ino| self.files.get_mut(&ino)) {
                file.links += 1;
            }
            let Some(directory) = self.dirs.get_mut(&change.directory) else { continue };
            if let Some(before) = set_name(&mut directory.live, change) {
                self.garbage = true;
                if let Some(file) = self.files.get_mut(&before) {
                    file.links -= 1;
                }
            }
        }
        self.pending.push(op.clone());
    }

    /// Makes durable the pending changes of a directory, and those before them that touch the same names.
    fn sync_dir(&mut self, directory: Ino) {
        let mut needed = BTreeSet::new();
        let mut settled = vec![false; self.pending.len()];
        for (op, settled) in self.pending.iter().zip(&mut settled).rev() {
            if op.settles_in() == directory || op.names().any(|name| needed.contains(&name)) {
                needed.extend(op.names());
                *settled = true;
            }
        }
        let mut rest = Vec::new();
        for (op, settled) in std::mem::take(&mut self.pending).into_iter().zip(settled) {
            if !settled {
                rest.push(op);
                continue;
            }
            for change in &op.changes {
                if let Some(directory) = self.dirs.get_mut(&change.directory) {
                    set_name(&mut directory.synced, change);
                }
            }
        }
        self.pending = rest;
        if std::mem::take(&mut self.garbage) {
            self.collect();
        }
    }

    /// Forgets what no name and no handle leads to, and no crash can bring back.
    fn collect(&mut self) {
        let mut used = BTreeSet::from([ROOT]);
        used.extend(self.dirs.values().flat_map(|dir| dir.live.values().chain(dir.synced.values())));
        used.extend(self.pending.iter().flat_map(|op| op.changes.iter().filter_map(|change| change.to)));
        self.files.retain(|ino, file| file.open > 0 || used.contains(ino));
        self.dirs.retain(|ino, _| used.contains(ino));
    }

    /// A handle is dropped.
    pub(crate) fn close(&mut self, ino: Ino) {
        if let Some(file) = self.files.get_mut(&ino) {
            file.open -= 1;
            self.garbage |= file.open == 0 && file.links == 0;
        }
    }

    /// Bytes in use.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.files.values().filter(|file| file.links > 0 || file.open > 0).map(|file| file.live.len()).sum()
    }
}

/// Returns what the name meant before.
pub(crate) fn set_name(names: &mut Names, change: &NameChange) -> Option<Ino> {
    match change.to {
        Some(ino) => names.insert(Arc::clone(&change.name), ino),
        None => names.remove(&change.name),
    }
}

impl FileState {
    fn write(&mut self, offset: u64, bytes: &Arc<[u8]>) {
        if bytes.is_empty() {
            return;
        }
        for sector in sectors(offset, bytes.len()) {
            // Written again, the whole sector has another chance.
            if self.lost.remove(&sector) {
                let bytes = self.live.slice(sector * SECTOR_BYTES, SECTOR_BYTES).into();
                self.pending.push(FileOp::Write { offset: sector * SECTOR_BYTES, bytes });
            }
        }
        self.live.write(offset, bytes);
        self.pending.push(FileOp::Write { offset, bytes: Arc::clone(bytes) });
    }

    fn set_len(&mut self, len: u64) {
        self.live.set_len(len);
        self.lost.retain(|sector| sector * SECTOR_BYTES < len);
        self.pending.push(FileOp::SetLen(len));
    }

    fn sync(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        if self.lost.is_empty() {
            self.synced = self.live.clone();
            return;
        }
        self.synced.set_len(self.live.len());
        for op in pending {
            let FileOp::Write { offset, bytes } = op else { continue };
            for sector in sectors(offset, bytes.len()) {
                let bytes = self.live.slice(sector * SECTOR_BYTES, SECTOR_BYTES);
                self.synced.write(sector * SECTOR_BYTES, &bytes);
            }
        }
    }

    fn lose(&mut self) {
        for op in std::mem::take(&mut self.pending) {
            if let FileOp::Write { offset, bytes } = op {
                self.lost.extend(sectors(offset, bytes.len()));
            }
        }
        let len = self.live.len();
        self.lost.retain(|sector| sector * SECTOR_BYTES < len);
    }
}

/// The sectors that hold `len` bytes at `offset`.
pub(crate) fn sectors(offset: u64, len: usize) -> std::ops::Range<u64> {
    offset / SECTOR_BYTES..(offset + len as u64).div_ceil(SECTOR_BYTES)
}
