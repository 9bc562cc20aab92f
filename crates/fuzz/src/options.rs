//! Options: the file for people, and what the manifest has of a keyspace.

use esker::vfs::{MemVfs, Vfs, read_file};
use esker::{Background, Engine, ErrorKind};
use esker_manifest::VersionSet;
use std::path::Path;
use std::str;
use std::sync::OnceLock;
use tempfile::TempDir;

/// Reads the options that an engine was opened with, which come from a directory of the system.
pub(crate) fn attack(bytes: Vec<u8>) {
    static DIR: OnceLock<TempDir> = OnceLock::new();
    let dir = DIR.get_or_init(|| tempfile::tempdir().expect("room for one small file")).path();
    let dir = dir.join(format!("{:?}", std::thread::current().id()));
    std::fs::create_dir_all(&dir).and_then(|()| std::fs::write(dir.join("OPTIONS-000001"), &bytes)).expect("room");
    match Engine::stored_options(&dir) {
        Ok(options) => {
            let _ = options == esker::Options::default();
        }
        Err(error) => assert!(
            matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Corruption | ErrorKind::Io),
            "{error}: {:?}",
            error.kind()
        ),
    }
}

/// Opens an engine whose keyspace `default` has these options.
pub(crate) fn attack_keyspace(bytes: Vec<u8>) {
    let Ok(text) = str::from_utf8(&bytes) else { return };
    let (vfs, dir) = (MemVfs::new(), Path::new("/data"));
    vfs.create_dir_all(dir).expect("a new directory");
    if VersionSet::create_with(vfs.clone(), dir, text).is_err() {
        return;
    }
    let builder = || Engine::builder(dir).vfs(vfs.clone()).background(Background::Manual);
    for read_only in [true, false] {
        let Ok(engine) = builder().read_only(read_only).open() else { continue };
        let _ = engine.get("k");
        if !read_only {
            let _ = (engine.put("k", "v"), engine.merge("m", "1"), engine.flush(), engine.compact_range(..));
            let _ = (engine.get("k"), engine.get("m"));
        }
        engine.close().expect("nothing is in its way");
    }
    // What it wrote is still an engine's.
    assert!(read_file(&*vfs, &dir.join("CURRENT"), 1 << 10).is_ok());
}
