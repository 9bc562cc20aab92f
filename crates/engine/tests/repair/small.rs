//! A small directory with a file of each kind, as a kill leaves it.

use crate::options;
use esker::vfs::{CrashPolicy, MemVfs, Vfs, read_file};
use esker::{Background, DeepReport, Engine, KeyspaceOptions, LeveledOptions, Options, WriteOptions, verify_deep};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) const DIR: &str = "/data";
pub(crate) type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

/// Tables are left as they are flushed; values from 100 bytes on go to blob files.
pub(crate) fn calm() -> Options {
    let compaction = LeveledOptions { l0_trigger: 8, l0_slowdown: 10, l0_stop: 12, ..options::tiny().compaction };
    Options { compaction, memtable_bytes: Some(1 << 20), blob_bytes_min: 100, ..options::tiny() }
}

pub(crate) fn builder(vfs: &Arc<MemVfs>, dir: &str, options: Options) -> esker::Builder {
    Engine::builder(dir).vfs(Arc::clone(vfs) as Arc<dyn Vfs>).options(options).background(Background::Manual)
}

/// What an engine held, and what it left behind.
pub(crate) struct Small {
    pub(crate) vfs: Arc<MemVfs>,
    pub(crate) default: Contents,
    pub(crate) other: Contents,
    /// All that was ever put.
    pub(crate) ever: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
}

/// Two keyspaces, tables with a deleted range and several blocks, blob files, and writes that are in the log alone.
pub(crate) fn small() -> Small {
    let vfs = MemVfs::new();
    let engine = builder(&vfs, DIR, calm()).open().unwrap();
    let other = engine.keyspace("other", KeyspaceOptions::default()).unwrap();
    let mut ever: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
    let (mut now, mut others) = (Contents::new(), Contents::new());
    let mut put = |now: &mut Contents, key: String, value: Vec<u8>| {
        engine.put(&key, &value).unwrap();
        ever.entry(key.clone().into_bytes()).or_default().push(value.clone());
        now.insert(key.into_bytes(), value);
    };
    for (table, letter) in ["a", "b"].into_iter().enumerate() {
        for i in 0..12 {
            put(&mut now, format!("{letter}{i:02}"), vec![table as u8; 30]);
        }
        put(&mut now, format!("{letter}-large"), vec![table as u8; 200]);
        engine.delete("a03").unwrap();
        now.remove(&b"a03"[..]);
        if table == 1 {
            engine.delete_range("a05", "a08").unwrap();
            now.retain(|key, _| key[..] < b"a05"[..] || key[..] >= b"a08"[..]);
        }
        other.put(letter, [letter.as_bytes(), &[9; 150]].concat()).unwrap();
        others.insert(letter.into(), [letter.as_bytes(), &[9; 150]].concat());
        engine.flush().unwrap();
    }
    for i in 0..6u8 {
        let (key, value) = (vec![b'c', i], vec![i; 20]);
        // The next one says that this and those before it were synced.
        let options = if i == 3 { WriteOptions::sync() } else { WriteOptions::default() };
        engine.put_with(&key, &value, &options).unwrap();
        now.insert(key, value);
    }
    for (key, value) in now.iter().chain(&others) {
        ever.entry(key.clone()).or_default().push(value.clone());
    }
    // A crash leaves it where a table is being written.
    vfs.create_new(&Path::new(DIR).join("000099.sst.tmp")).unwrap().append(b"half a table").unwrap();
    Small { vfs: Arc::new(vfs.crash_now(CrashPolicy::All)), default: now, other: others, ever }
}

impl Small {
    pub(crate) fn copy(&self) -> Arc<MemVfs> {
        Arc::new(self.vfs.crash_now(CrashPolicy::All))
    }
}

pub(crate) fn files(vfs: &MemVfs, dir: &str) -> Vec<PathBuf> {
    vfs.list(Path::new(dir)).unwrap().iter().map(|name| Path::new(dir).join(name)).collect()
}

/// All files whose name contains `part`, the oldest first, without what was being written.
pub(crate) fn all(vfs: &MemVfs, part: &str) -> Vec<PathBuf> {
    let is_meant = |path: &PathBuf| path.to_str().is_some_and(|path| path.contains(part) && !path.ends_with(".tmp"));
    let mut found: Vec<_> = files(vfs, DIR).into_iter().filter(is_meant).collect();
    found.sort();
    found
}

/// Gives each of two files the other's name.
pub(crate) fn swap(vfs: &MemVfs, one: &Path, other: &Path) {
    let between = Path::new(DIR).join("between");
    vfs.rename(one, &between).unwrap();
    vfs.rename(other, one).unwrap();
    vfs.rename(&between, other).unwrap();
}

/// Everything in the directory, byte for byte.
pub(crate) fn bytes(vfs: &MemVfs, dir: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    files(vfs, dir).into_iter().map(|path| (path.clone(), read_file(vfs, &path, 1 << 30).unwrap())).collect()
}

/// How far there is anything but zeros.
pub(crate) fn used_bytes(vfs: &MemVfs, path: &Path) -> usize {
    let bytes = read_file(vfs, path, 1 << 30).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// The end of the last record that some later record vouches for, in bytes of the file.
pub(crate) fn vouched_bytes(vfs: &MemVfs, log: &Path) -> usize {
    let mut reader = esker_wal::Reader::open(vfs.open_read(log).unwrap(), "log").unwrap();
    while reader.next().unwrap().is_some() {}
    (reader.end().unwrap().vouched.0 - reader.header().start.0) as usize
}

pub(crate) fn contents(keyspace: &esker::Keyspace) -> esker::Result<Contents> {
    keyspace.iter().map(|item| item.map(|(key, value)| (key.to_vec(), value.to_vec()))).collect()
}

/// A deep check, which changes nothing.
pub(crate) fn checked(vfs: &Arc<MemVfs>, dir: &str) -> DeepReport {
    let before = vfs.operations();
    let vfs_dyn = Arc::clone(vfs) as Arc<dyn Vfs>;
    let report = verify_deep(&vfs_dyn, dir, &mut |_| {}).unwrap();
    assert_eq!(vfs.operations(), before, "a check writes nothing");
    report
}
