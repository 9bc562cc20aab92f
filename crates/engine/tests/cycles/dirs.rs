//! The directories of the test, and what lies in that of the engine.

use crate::options;
use esker::Engine;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Most of it in memory, where a sync costs nothing.
pub(crate) struct Dirs {
    pub(crate) root: tempfile::TempDir,
    pub(crate) db: PathBuf,
    pub(crate) copy: PathBuf,
    /// An engine whose manifest is damaged.
    pub(crate) damaged: PathBuf,
    /// A table that is built to be ingested.
    pub(crate) table: PathBuf,
}

impl Dirs {
    pub(crate) fn new() -> Self {
        let shared = Path::new("/dev/shm");
        let root = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() }.unwrap();
        let path = |name: &str| root.path().join(name);
        let dirs =
            Self { db: path("db"), copy: path("copy"), damaged: path("damaged"), table: path("table.sst"), root };
        let engine = Engine::builder(&dirs.damaged).options(options(true)).open().unwrap();
        engine.put("k", "v").unwrap();
        engine.close().unwrap();
        drop(engine);
        let manifest = names(&dirs.damaged).into_iter().find(|name| name.starts_with("MANIFEST")).unwrap();
        let path = dirs.damaged.join(manifest);
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        dirs
    }
}

pub(crate) fn names(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// How many files there are of each kind.
pub(crate) fn kinds(dir: &Path) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for name in names(dir) {
        let kind = name.trim_start_matches(|c: char| c.is_ascii_digit()).trim_end_matches(|c: char| c.is_ascii_digit());
        *kinds.entry(kind.to_owned()).or_default() += 1;
    }
    kinds
}

/// The size of all files, in bytes.
pub(crate) fn size_bytes(dir: &Path) -> u64 {
    names(dir).iter().map(|name| fs::metadata(dir.join(name)).unwrap().len()).sum()
}
