//! Open blob files, and what becomes of them: as with tables ([`crate::tables`]).
//!
//! A file is open as long as any read state holds a version that refers to it, and retires with the last: the compaction that moved or dropped the last reference to it
//! leaves it out of its version. A value read from it pins the map by itself, so it stays readable beyond that.

use crate::error::{Error, Result};
use crate::removals::{Removals, Retirement};
use crate::tables::HeldByTables;
use esker_blob::{Access, BlobError, BlobFile, BlobRef, Expect};
use esker_format::{FileKind, FileNo, Slice};
use esker_manifest::{BlobMeta, BlobState};
use esker_vfs::Vfs;
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

/// A blob file is ended when it is this long, in bytes: small enough to be collected one by one, large enough to be few.
pub(crate) const BLOB_FILE_BYTES: u64 = 64 << 20;

/// A blob file of the present or an earlier version, open or out of use.
#[derive(Debug)]
pub(crate) struct OpenBlob {
    pub(crate) meta: Arc<BlobMeta>,
    file: Result<Arc<BlobFile>>,
    /// Dropped behind the file, which then is closed.
    retirement: Retirement,
}

impl OpenBlob {
    /// The file, or why it can't be used.
    pub(crate) fn file(&self) -> Result<&Arc<BlobFile>> {
        self.file.as_ref().map_err(Error::clone)
    }

    /// Marks the file for removal once nobody reads it.
    pub(crate) fn retire(&self) {
        self.retirement.retire();
    }
}

/// How blob files are opened, and which are.
#[derive(Debug)]
pub(crate) struct BlobSet {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    access: Access,
    removals: Arc<Removals>,
    /// Every file that some version or reader still holds.
    open: Mutex<HashMap<FileNo, Weak<OpenBlob>>>,
    quarantine: Mutex<BTreeSet<FileNo>>,
}

impl BlobSet {
    pub(crate) fn new(vfs: Arc<dyn Vfs>, dir: PathBuf, access: Access, removals: Arc<Removals>) -> Self {
        Self { vfs, dir, access, removals, open: Mutex::default(), quarantine: Mutex::default() }
    }

    /// Opens the file that `state` is about, or finds it open. Does I/O: not under the state lock.
    ///
    /// # Errors
    /// Only those that may pass, such as too many open files. A file that is damaged, missing, or on a place that its device can't read comes back out of use: what lies in it can't be read, all else can.
    pub(crate) fn get(&self, state: &BlobState) -> Result<Arc<OpenBlob>> {
        let meta = &state.meta;
        if let Some(open) = self.find(meta.number) {
            return Ok(open);
        }
        let file = match self.open_file(meta) {
            Ok(file) => Ok(file),
            // None of these passes, that of a device neither; what lies elsewhere is served on.
            Err(error)
                if error.is_corruption()
                    || error.is_unsupported()
                    || error.io().is_some_and(esker_vfs::is_of_the_medium) =>
            {
                Err(Error::from(error))
            }
            Err(error) if error.io().is_some_and(|io| io.kind() == io::ErrorKind::NotFound) => {
                let name = FileKind::Blob(meta.number).name();
                Err(Error::corruption(format!("blob file {name} is missing: restore it from a copy")))
            }
            Err(error) => return Err(error.into()),
        };
        if file.is_err() {
            self.quarantine.lock().insert(meta.number);
        }
        Ok(self.share(meta, file))
    }

    /// Opens a file that was just written and that no version names yet.
    ///
    /// # Errors
    /// Whatever is wrong with it.
    pub(crate) fn open_new(&self, meta: &BlobMeta) -> Result<Arc<OpenBlob>> {
        let file = self.open_file(meta)?;
        Ok(self.share(&Arc::new(meta.clone()), Ok(file)))
    }

    /// The file of that number, if it is open.
    fn find(&self, number: FileNo) -> Option<Arc<OpenBlob>> {
        self.open.lock().get(&number).and_then(Weak::upgrade)
    }

    /// Makes a file known, unless another thread was faster.
    fn share(&self, meta: &Arc<BlobMeta>, file: Result<Arc<BlobFile>>) -> Arc<OpenBlob> {
        let open = Arc::new(OpenBlob {
            meta: Arc::clone(meta),
            file,
            retirement: Retirement::new(FileKind::Blob(meta.number), &self.removals),
        });
        let mut files = self.open.lock();
        if let Some(other) = files.get(&meta.number).and_then(Weak::upgrade) {
            return other;
        }
        files.insert(meta.number, Arc::downgrade(&open));
        open
    }

    fn open_file(&self, meta: &BlobMeta) -> Result<Arc<BlobFile>, BlobError> {
        let kind = FileKind::Blob(meta.number);
        let name = kind.name();
        let file = self
            .vfs
            .open_read(&kind.path(&self.dir))
            .map_err(|error| BlobError::from_io(&name.as_str().into(), "open", error))?;
        let BlobMeta { number, file_id, file_bytes, records, .. } = *meta;
        BlobFile::open(file, &name, self.access, Some(Expect { number, file_id, file_bytes, records }))
    }

    /// Reads a value for a job, which holds a read state with its file.
    pub(crate) fn read_for_job(&self, reference: BlobRef) -> Result<Slice, BlobError> {
        let name: Arc<str> = FileKind::Blob(reference.file).name().into();
        let open = self.find(reference.file);
        match open.as_ref().map(|open| &open.file) {
            Some(Ok(file)) => file.get_checked(reference),
            _ => Err(BlobError::from_io(&name, "find", io::ErrorKind::NotFound.into())),
        }
    }

    /// Files that could not be opened: nothing in them can be moved.
    pub(crate) fn quarantined(&self) -> BTreeSet<FileNo> {
        self.quarantine.lock().clone()
    }

    /// Forgets files that nobody holds any more.
    pub(crate) fn forget_closed(&self) {
        self.open.lock().retain(|_, file| file.strong_count() > 0);
    }

    /// What the open files hold.
    pub(crate) fn held(&self) -> HeldByTables {
        let open: Vec<_> = self.open.lock().values().filter_map(Weak::upgrade).collect();
        let files = || open.iter().filter_map(|open| open.file.as_ref().ok());
        let retired = open.iter().filter(|open| open.retirement.is_retired());
        HeldByTables {
            heap_bytes: files().map(|file| file.heap_bytes()).sum(),
            mapped_bytes: files().map(|file| file.mapped_bytes()).sum(),
            unreadable_pages: files().map(|file| file.unreadable_pages()).sum(),
            retired_bytes: retired.map(|open| open.meta.file_bytes).sum(),
        }
    }
}

/// The file of that number among `open`, which is in order of number.
pub(crate) fn find(open: &[Arc<OpenBlob>], number: FileNo) -> Result<&Arc<BlobFile>> {
    match open.binary_search_by_key(&number, |open| open.meta.number) {
        Ok(i) => open[i].file(),
        Err(_) => {
            let name = FileKind::Blob(number).name();
            Err(Error::corruption(format!("a table refers to blob file {name}, of which the manifest knows nothing")))
        }
    }
}
