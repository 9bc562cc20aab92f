//! [`VersionSet`]: the newest version, and the manifest that every step to it was written to first.
//!
//! Invariants
//! - `commit` returns a version only after the edit that makes it is on stable storage.
//! - A manifest starts with a snapshot, synced before CURRENT names it; the one before is removed only after CURRENT is durable.
//! - Nothing is ever appended to a manifest that another process, or this one before a failed write, has written.
//! - A file number is given out only once it is reserved on stable storage. 0 never is.
//!
//! ```text
//! recover ──> (no writer) ──first commit──> begin: MANIFEST-n+1 [snapshot] sync, CURRENT ──> append, sync ──> ...
//!                  ^                          ^                                                 |
//!                  └────────close─────────────┼────────────────────too large, or restart────────┘
//! ```

use crate::Lsn;
use crate::apply;
use crate::current::{self, FIRST_MANIFEST, Found};
use crate::edit::{CleanClose, VersionEdit};
use crate::error::{EditError, ManifestError};
use crate::replay::{self, Recovered};
use crate::version::Version;
use esker_format::{FileId, FileKind, FileNo, SeqNo};
use esker_vfs::Vfs;
use esker_wal::{GroupSync, LogHeader, RecordKind, Reserve, Writer};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How many file numbers are reserved at a time.
const FILE_NUMBERS_BLOCK: u64 = 1000;

/// A manifest is rewritten once it is longer than this and twice its live content; see [`VersionSet::set_rewrite_bytes`].
pub const REWRITE_BYTES: u64 = 4 << 20;

/// The newest version of an engine's files, and its manifest. One owner; whoever holds it is the only one who writes to the directory's manifests.
///
/// See the [crate](crate) for an example.
#[derive(Debug)]
pub struct VersionSet {
    vfs: Arc<dyn Vfs>,
    directory: PathBuf,
    current: Arc<Version>,
    /// The manifest that CURRENT names.
    number: FileNo,
    /// `None` until the first commit after recovery, and after a close.
    writer: Option<Writer>,
    /// The next file number to give out, if it is reserved.
    next_file: FileNo,
    rewrite_bytes: u64,
    /// Below this length the manifest is not looked at for rewriting.
    rewrite_at: u64,
    /// Why the manifest can't be written any more.
    poison: Option<ManifestError>,
}

/// A manifest on stable storage that CURRENT does not name yet.
struct Prepared {
    version: Version,
    number: FileNo,
    writer: Writer,
}

impl VersionSet {
    /// Makes the manifest of a new engine, with the keyspace `default`, in a directory that exists.
    ///
    /// What an interrupted creation left behind is replaced; see [`crate::probe`] for what that can be.
    ///
    /// # Errors
    /// [`ManifestError::EngineExists`]; [`ManifestError::CurrentMissing`]; whatever goes wrong in writing.
    ///
    /// # Durability
    /// The new engine is on stable storage when this returns.
    pub fn create(vfs: Arc<dyn Vfs>, directory: &Path) -> Result<Self, ManifestError> {
        Self::create_with(vfs, directory, "")
    }

    /// As [`Self::create`], with the options of the keyspace `default`.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn create_with(vfs: Arc<dyn Vfs>, directory: &Path, default_options: &str) -> Result<Self, ManifestError> {
        if current::probe(&*vfs, directory)? == Found::Engine {
            return Err(ManifestError::EngineExists(directory.to_owned()));
        }
        let left_over = FileKind::Manifest(FIRST_MANIFEST).path(directory);
        match vfs.remove_file(&left_over) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(ManifestError::io_at("remove", &left_over)(error));
            }
            _ => {}
        }
        let version = Arc::new(Version::with_default(default_options));
        let mut set = Self::without_manifest(vfs, directory, version, FIRST_MANIFEST)?;
        set.begin_as(FIRST_MANIFEST, VersionEdit::default())?;
        Ok(set)
    }

    /// Makes the manifest of a copy of an engine, in a directory that has its tables and logs already but no CURRENT.
    ///
    /// # Errors
    /// [`ManifestError::EngineExists`]; whatever goes wrong in writing.
    ///
    /// # Durability
    /// The copy is an engine, on stable storage, when this returns. If it fails, the directory may or may not be one.
    pub fn create_from(vfs: Arc<dyn Vfs>, directory: &Path, version: &Arc<Version>) -> Result<Self, ManifestError> {
        let current = FileKind::Current.path(directory);
        match vfs.metadata(&current) {
            Ok(_) => return Err(ManifestError::EngineExists(directory.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(ManifestError::io_at("look at", &current)(error)),
        }
        let mut set = Self::without_manifest(vfs, directory, Arc::clone(version), FileNo(0))?;
        set.begin(VersionEdit::default())?;
        Ok(set)
    }

    /// Reads CURRENT and the manifest it names. Writes nothing: the first commit starts a new manifest.
    ///
    /// The end of the manifest may be torn by a crash during a commit: that edit was never acknowledged and is left out.
    /// File numbers are given out from above both the reservation and every file in the directory, since a crash may have left a manifest behind that was
    /// begun but never installed.
    ///
    /// # Errors
    /// [`ManifestError::NoEngine`] in a directory without one; [`ManifestError::is_corruption`] if something that was on stable storage is missing
    /// or damaged; [`ManifestError::is_unsupported`] for a newer format.
    pub fn recover(vfs: Arc<dyn Vfs>, directory: &Path) -> Result<(Self, Recovered), ManifestError> {
        let recovered = replay::replay_current(&*vfs, directory)?;
        let set = Self::without_manifest(vfs, directory, Arc::clone(&recovered.version), recovered.manifest)?;
        Ok((set, recovered))
    }

    /// Reads what [`VersionSet::recover`] would, for those who must not write.
    ///
    /// # Errors
    /// As [`VersionSet::recover`].
    pub fn read(vfs: &dyn Vfs, directory: &Path) -> Result<Recovered, ManifestError> {
        replay::replay_current(vfs, directory)
    }

    fn without_manifest(
        vfs: Arc<dyn Vfs>,
        directory: &Path,
        version: Arc<Version>,
        number: FileNo,
    ) -> Result<Self, ManifestError> {
        let names = vfs.list(directory).map_err(ManifestError::io_at("list", directory))?;
        let last_used = names.iter().filter_map(|name| FileKind::parse(name)?.number()).fold(number, FileNo::max);
        let next_file = version.next_file.max(after(last_used, 1)?);
        Ok(Self {
            vfs,
            directory: directory.to_owned(),
            current: version,
            number,
            writer: None,
            next_file,
            rewrite_bytes: REWRITE_BYTES,
            rewrite_at: REWRITE_BYTES,
            poison: None,
        })
    }

    /// The newest version.
    pub fn current(&self) -> &Arc<Version> {
        &self.current
    }

    /// The number of the manifest that CURRENT names.
    pub fn manifest_number(&self) -> FileNo {
        self.number
    }

    /// Length of the manifest being written, without what is preallocated; 0 if none is.
    pub fn manifest_bytes(&self) -> u64 {
        self.writer.as_ref().map_or(0, Writer::bytes)
    }

    /// The error after which nothing can be committed but by [`VersionSet::restart`].
    pub fn poison(&self) -> Option<&ManifestError> {
        self.poison.as_ref()
    }

    /// Sets how long, in bytes, the manifest may become before it is rewritten, if it is also twice its live content. [`REWRITE_BYTES`] by default.
    pub fn set_rewrite_bytes(&mut self, bytes: u64) {
        self.rewrite_bytes = bytes;
        self.rewrite_at = bytes;
    }

    /// Makes the next version: checks that the edit fits, writes it, installs its version.
    ///
    /// # Errors
    /// - [`ManifestError::Edit`]: the edit does not fit. Nothing was written.
    /// - [`ManifestError::is_no_space`] while [`VersionSet::poison`] stays `None`: nothing was written, and later commits may succeed.
    /// - Any other: whether the edit will be there after the next open is not known. This and all later commits give the same error, until
    ///   [`VersionSet::restart`].
    ///
    /// # Durability
    /// The edit is on stable storage when this returns.
    pub fn commit(&mut self, edit: VersionEdit) -> Result<Arc<Version>, ManifestError> {
        if let Some(poison) = &self.poison {
            return Err(poison.clone());
        }
        if self.writer.is_none() {
            return self.begin(edit);
        }
        let edit = self.completed(edit, 0)?;
        let version = apply::apply(&self.current, &edit)?;
        // One that is being closed is not worth it: the next one is begun when the engine is opened again.
        if edit.clean.is_none() && self.outgrown(&version) {
            match self.begin(edit.clone()) {
                Err(error) if error.is_no_space() && self.poison.is_none() => {
                    // No room for a second manifest, but perhaps in the first: a full disk must not refuse what frees space.
                    self.rewrite_at = self.manifest_bytes().saturating_add(self.rewrite_bytes);
                }
                done => return done,
            }
        }
        self.append(&edit)?;
        self.current = Arc::new(version);
        Ok(Arc::clone(&self.current))
    }

    /// Commits `edit` as the first of a new manifest, which replaces one that can't be written any more; then commits go on as if nothing had been.
    ///
    /// An edit whose commit failed is not part of the new manifest, whether or not it reached the old one. Its files must stay until this returned
    /// `Ok`, since a crash before may bring the edit back.
    ///
    /// # Errors
    /// As [`VersionSet::commit`]. It may be tried again.
    pub fn restart(&mut self, edit: VersionEdit) -> Result<Arc<Version>, ManifestError> {
        self.begin(edit)
    }

    /// Commits `edit` as the last one: nothing above `last_seq` was given out, and file numbers only as [`VersionSet::new_file_no`] did. A later commit
    /// starts a new manifest.
    ///
    /// # Errors
    /// As [`VersionSet::commit`]. It may be tried again.
    pub fn close(&mut self, mut edit: VersionEdit, last_seq: SeqNo) -> Result<Arc<Version>, ManifestError> {
        edit.clean = Some(CleanClose { last_seq, next_file: self.next_file });
        let version = self.commit(edit)?;
        if let Some(writer) = self.writer.take() {
            // The marker vouches for the edit, so that damage to it is not taken for a torn end.
            let mark = |mut writer: Writer| {
                writer.append(RecordKind::Marker, &[], Reserve::Use)?;
                writer.sync()?;
                writer.trim()
            };
            mark(writer).map_err(|error| self.poisoned(error.into()))?;
        }
        Ok(version)
    }

    /// Gives back what is allocated ahead for the manifest, if that can be: for who ends without [`VersionSet::close`]. A later commit asks for it anew.
    pub fn give_back_room(&mut self) {
        if let (None, Some(writer)) = (&self.poison, &mut self.writer) {
            let _ = writer.trim();
        }
    }

    /// A file number that was never given out before.
    ///
    /// # Errors
    /// As [`VersionSet::commit`], when the reserved numbers are used up. While the set is poisoned those left over are still given out;
    /// `restart(VersionEdit::default())` reserves more.
    pub fn new_file_no(&mut self) -> Result<FileNo, ManifestError> {
        if self.next_file >= self.current.next_file {
            let reserve = after(self.next_file, FILE_NUMBERS_BLOCK)?;
            self.commit(VersionEdit { reserve_file: Some(reserve), ..VersionEdit::default() })?;
        }
        self.take_number()
    }

    fn take_number(&mut self) -> Result<FileNo, ManifestError> {
        let number = self.next_file;
        self.next_file = after(number, 1)?;
        Ok(number)
    }

    /// `edit`, reserving at least what was given out and `block` numbers more.
    fn completed(&self, mut edit: VersionEdit, block: u64) -> Result<VersionEdit, ManifestError> {
        if edit.snapshot {
            return Err(EditError::Snapshot.into());
        }
        let needed = after(self.next_file, block)?;
        if needed > edit.reserve_file.unwrap_or(self.current.next_file) {
            edit.reserve_file = Some(needed);
        }
        if let Some(clean) = &mut edit.clean {
            clean.next_file = clean.next_file.max(self.next_file);
        }
        Ok(edit)
    }

    /// Whether the manifest is better rewritten. Looks at the whole version at most once for each time the manifest doubles.
    fn outgrown(&mut self, version: &Version) -> bool {
        let bytes = self.manifest_bytes();
        if bytes <= self.rewrite_at {
            return false;
        }
        let live = version.snapshot().encode().len() as u64;
        self.rewrite_at = self.rewrite_bytes.max(2 * live);
        bytes > self.rewrite_at
    }

    fn append(&mut self, edit: &VersionEdit) -> Result<(), ManifestError> {
        let writer = self.writer.as_mut().expect("a commit without a writer begins a manifest");
        if let Err(error) = writer.append(RecordKind::Data, &[&edit.encode()], Reserve::Use) {
            // A writer that only refused, for want of space, is as it was; one that failed says so again.
            let unchanged = writer.push().is_ok();
            return Err(if unchanged { error.into() } else { self.poisoned(error.into()) });
        }
        writer.sync().map_err(|error| self.poisoned(error.into()))
    }

    fn poisoned(&mut self, error: ManifestError) -> ManifestError {
        self.poison.get_or_insert_with(|| error.clone());
        error
    }

    /// Commits `edit` as the first of a new manifest.
    fn begin(&mut self, edit: VersionEdit) -> Result<Arc<Version>, ManifestError> {
        let number = self.take_number()?;
        self.begin_as(number, edit)
    }

    fn begin_as(&mut self, number: FileNo, edit: VersionEdit) -> Result<Arc<Version>, ManifestError> {
        let block = if edit.clean.is_some() { 0 } else { FILE_NUMBERS_BLOCK };
        let edit = self.completed(edit, block)?;
        let version = apply::apply(&self.current, &edit)?;
        let path = FileKind::Manifest(number).path(&self.directory);
        let mut prepared = match self.prepare(number, &path, version) {
            Err(error) if error.is_no_space() => return Err(error),
            Err(error) => return Err(self.poisoned(error)),
            Ok(prepared) => prepared,
        };
        // Once this has begun, an error leaves open which manifest is the current one.
        if let Err(error) = current::write(&*self.vfs, &self.directory, number) {
            // So it stays, and takes no more space than it must.
            let _ = prepared.writer.trim();
            return Err(self.poisoned(error));
        }
        self.install(prepared);
        self.remove_old_manifests();
        Ok(Arc::clone(&self.current))
    }

    /// Writes a manifest of one snapshot, up to stable storage.
    fn prepare(&self, number: FileNo, path: &Path, version: Version) -> Result<Prepared, ManifestError> {
        let header = LogHeader { file_id: FileId(self.vfs.random()), number, start: Lsn(0), durable: Lsn(0) };
        // Every manifest is a series of its own: a sync that failed poisons a group for good.
        let group = GroupSync::new(header.durable);
        let mut writer = Writer::create(&*self.vfs, path, header, &group)?;
        let snapshot = version.snapshot().encode();
        let written = writer.append(RecordKind::Data, &[&snapshot], Reserve::Use).and_then(|_| writer.sync());
        if let Err(error) = written {
            // Nothing names it; what can't be removed now is when the next manifest is installed.
            let _ = self.vfs.remove_file(path);
            return Err(error.into());
        }
        Ok(Prepared { version, number, writer })
    }

    fn install(&mut self, prepared: Prepared) {
        self.current = Arc::new(prepared.version);
        self.number = prepared.number;
        self.writer = Some(prepared.writer);
        self.rewrite_at = self.rewrite_bytes;
        self.poison = None;
    }

    /// Removes every manifest before the current one. One that can't be removed is tried again next time.
    fn remove_old_manifests(&self) {
        for name in self.vfs.list(&self.directory).unwrap_or_default() {
            if let Some(kind @ FileKind::Manifest(number)) = FileKind::parse(&name)
                && number < self.number
            {
                let _ = self.vfs.remove_file(&kind.path(&self.directory));
            }
        }
    }
}

/// The file number `count` after `number`.
fn after(number: FileNo, count: u64) -> Result<FileNo, ManifestError> {
    number
        .0
        .checked_add(count)
        .map(FileNo)
        .ok_or_else(|| EditError::Beyond { what: "file number", found: number.0, limit: u64::MAX - count }.into())
}
