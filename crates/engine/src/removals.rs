//! Files that nothing needs any more: who owes their removal, and when.
//!
//! A table or blob file belongs to every read state whose version names it, and so to every iterator on one. When it leaves the last version it is *retired*; when
//! the last reader lets go of it, it goes to the [`Removals`], and background work unlinks it. After close nothing is accepted there any more: what is still owed is swept by the next open.

use esker_format::FileKind;
use esker_vfs::Vfs;
use std::path::Path;
use std::sync::atomic::Ordering;
// From beside this module, since its model puts others in their place.
use super::sync::{Arc, AtomicBool, Mutex};

/// What an open file holds of its name: dropped with it, and if it was retired then, the file is to be unlinked.
#[derive(Debug)]
pub(crate) struct Retirement {
    file: FileKind,
    retired: AtomicBool,
    removals: Arc<Removals>,
}

impl Retirement {
    pub(crate) fn new(file: FileKind, removals: &Arc<Removals>) -> Self {
        Self { file, retired: AtomicBool::new(false), removals: Arc::clone(removals) }
    }

    /// Marks the file for removal once nobody reads it.
    pub(crate) fn retire(&self) {
        // Relaxed: the `Arc`'s own count, in which the open file is, orders this before the drop that reads it.
        self.retired.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }
}

impl Drop for Retirement {
    fn drop(&mut self) {
        if self.is_retired() {
            self.removals.owe(self.file);
        }
    }
}

/// Files that nothing needs any more and that are still to be unlinked.
#[derive(Debug, Default)]
pub(crate) struct Removals {
    /// `None` once the engine is closed.
    owed: Mutex<Option<Vec<FileKind>>>,
}

impl Removals {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { owed: Mutex::new(Some(Vec::new())) })
    }

    pub(crate) fn owe(&self, file: FileKind) {
        if let Some(owed) = &mut *self.owed.lock() {
            owed.push(file);
        }
    }

    /// What is owed, and no longer is.
    fn take(&self) -> Vec<FileKind> {
        self.owed.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Unlinks what is owed; whether anything was. What can't be unlinked now is left to the sweep of the next open.
    pub(crate) fn pay(&self, vfs: &dyn Vfs, dir: &Path) -> bool {
        let owed = self.take();
        for file in &owed {
            let _ = vfs.remove_file(&file.path(dir));
        }
        !owed.is_empty()
    }

    pub(crate) fn close(&self) {
        *self.owed.lock() = None;
    }
}
