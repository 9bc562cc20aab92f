//! A small directory that an engine has made, damaged as the bytes tell, and given to `verify_deep` and `repair`.
//!
//! Neither changes it. What the one calls sound opens and reads to its end. What the other makes of it opens, is sound, and holds nothing that was never written; if it says that nothing is lost, it
//! is what was there at one time. Where damage was signed, any value may stand anywhere, and the rest holds.

use crate::damage::{Input, damage};
use esker::vfs::{CrashPolicy, MemVfs, Vfs, read_file};
use esker::{Background, Engine, KeyspaceOptions, Options, RepairReport, Result, WriteOptions};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

const DIR: &str = "/data";
const NEW: &str = "/new";
const NAMES: [&str; 2] = ["default", "other"];
const DAMAGES_MAX: usize = 8;

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

/// The directory, and what was in its two keyspaces after each write.
struct Made {
    vfs: MemVfs,
    states: Vec<[Contents; 2]>,
}

fn builder(vfs: &Arc<MemVfs>, dir: &str) -> esker::Builder {
    let options = Options {
        memory_budget_bytes: 1 << 20,
        memtable_bytes: Some(64 << 10),
        block_size_bytes: 128,
        blob_bytes_min: 64,
        ..Options::default()
    };
    Engine::builder(dir).options(options).vfs(Arc::clone(vfs) as Arc<dyn Vfs>).background(Background::Manual)
}

/// Two keyspaces with tables of several blocks, range deletes, blob files, and writes that are in the log alone, of which the last are not synced.
fn make() -> Result<Made> {
    let vfs = MemVfs::new();
    let engine = builder(&vfs, DIR).open()?;
    let other = engine.keyspace(NAMES[1], KeyspaceOptions::default())?;
    let mut states = vec![<[Contents; 2]>::default()];
    for n in 0..48u8 {
        let which = usize::from(n % 3 == 0);
        let keyspace = if which == 0 { engine.keyspace(NAMES[0], KeyspaceOptions::default())? } else { other.clone() };
        let key = vec![b'k', b'0' + (usize::from(n) * 7 % 20) as u8];
        let mut now = states.last().expect("the first").clone();
        match n % 8 {
            5 => {
                keyspace.delete(&key)?;
                now[which].remove(&key);
            }
            6 => {
                let end = vec![b'k', key[1] + 2];
                keyspace.delete_range(&key, &end)?;
                now[which].retain(|found, _| *found < key || *found >= end);
            }
            _ => {
                let value = [&[n], &vec![b'.'; if n % 7 == 0 { 90 } else { 10 }][..]].concat();
                let how = if n == 44 { WriteOptions::sync() } else { WriteOptions::default() };
                keyspace.put_with(&key, &value, &how)?;
                now[which].insert(key, value);
            }
        }
        states.push(now);
        match n {
            12 | 24 | 36 => engine.flush()?,
            20 => engine.compact_range(..)?,
            _ => {}
        }
    }
    Ok(Made { vfs: vfs.crash_now(CrashPolicy::All), states })
}

fn bytes(vfs: &MemVfs) -> BTreeMap<PathBuf, Vec<u8>> {
    let names = vfs.list(Path::new(DIR)).expect("it is there");
    let path = |name: String| Path::new(DIR).join(name);
    names.into_iter().map(path).map(|path| (path.clone(), read_file(vfs, &path, 1 << 30).expect("a file"))).collect()
}

fn contents(engine: &Engine) -> Result<BTreeMap<String, Contents>> {
    let entries = |name: String| {
        let keyspace = engine.keyspace(&name, KeyspaceOptions::default())?;
        let back = keyspace.iter().rev().map(|item| item.map(|_| 1)).sum::<Result<usize>>()?;
        let entries = keyspace.iter().map(|item| item.map(|(key, value)| (key.to_vec(), value.to_vec())));
        let entries = entries.collect::<Result<Contents>>()?;
        assert_eq!(entries.len(), back, "as many from the back as from the front");
        Ok((name, entries))
    };
    engine.keyspaces().into_iter().map(entries).collect()
}

/// Runs a case.
pub(crate) fn attack(data: Vec<u8>) {
    static MADE: OnceLock<Mutex<Made>> = OnceLock::new();
    let made = MADE.get_or_init(|| Mutex::new(make().expect("memory takes it")));
    let (vfs, states) = {
        let made = made.lock().unwrap_or_else(|e| e.into_inner());
        (Arc::new(made.vfs.crash_now(CrashPolicy::All)), made.states.clone())
    };
    let (input, mut is_signed) = (&mut Input(&data), false);
    let damages =
        std::iter::from_fn(|| (!input.0.is_empty()).then(|| is_signed |= damage(&vfs, Path::new(DIR), input)));
    let damages = damages.take(DAMAGES_MAX).count();
    let files = bytes(&vfs);

    let of_memory = Arc::clone(&vfs) as Arc<dyn Vfs>;
    let report = esker::verify_deep(&of_memory, DIR, &mut |_| {}).expect("nothing has it open");
    assert!(bytes(&vfs) == files, "`verify_deep` changes something");
    assert!(damages > 0 || report.is_ok(), "{report:?}");
    let repaired = esker::repair(&of_memory, DIR, NEW, &mut |_| {});
    assert!(bytes(&vfs) == files, "`repair` changes something");
    match repaired {
        Ok(report) => check_repaired(&vfs, &report, &states, is_signed),
        Err(error) => assert!(damages > 0, "{error}"),
    }
    if report.is_ok() {
        let engine = builder(&vfs, DIR).read_only(true).open().expect("`verify_deep` finds nothing");
        let found = contents(&engine).expect("`verify_deep` finds nothing");
        assert!(is_signed || is_one_of(&states, found.clone()), "sound, and never so: {found:?}");
    }
}

fn check_repaired(vfs: &Arc<MemVfs>, report: &RepairReport, states: &[[Contents; 2]], is_signed: bool) {
    let engine = builder(vfs, NEW).open().expect("what was repaired opens");
    let found = contents(&engine).expect("what was repaired is whole");
    engine.close().expect("memory takes it");
    drop(engine);
    let of_memory = Arc::clone(vfs) as Arc<dyn Vfs>;
    let sound = esker::verify_deep(&of_memory, NEW, &mut |_| {}).expect("nothing has it open");
    assert!(sound.is_ok(), "{sound:?}");
    if is_signed {
        return;
    }
    for (name, contents) in &found {
        // Whose keyspace is not known may be either's.
        let may_be = |which: usize| match name.as_str() {
            "default" => which == 0 || !report.exact,
            "other" => which == 1,
            _ => true,
        };
        for (key, value) in contents {
            let is_ever =
                |state: &[Contents; 2]| (0..2).any(|which| may_be(which) && state[which].get(key) == Some(value));
            assert!(states.iter().any(is_ever), "{} in {name} was never so: {report:?}", key.escape_ascii());
        }
    }
    assert!(
        !report.is_whole() || is_one_of(states, found.clone()),
        "nothing is lost, and never so: {found:?}, {report:?}"
    );
}

fn is_one_of(states: &[[Contents; 2]], mut found: BTreeMap<String, Contents>) -> bool {
    let found = NAMES.map(|name| found.remove(name).unwrap_or_default());
    states.contains(&found)
}

/// One case for each kind of damage, on different files, one of two and one of none.
pub(crate) fn real() -> Vec<Vec<u8>> {
    let one = |kind: u8| vec![kind, kind * 5 + 1, kind, 40 + 9 * kind, 0x41];
    (0..9).map(one).chain([[one(2), one(8)].concat(), Vec::new()]).collect()
}
