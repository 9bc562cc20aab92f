//! Logs that are torn, cut short or missing beside newer ones that are whole.

use crate::driver::{DIR, copy, open, open_read_only};
use crate::options;
use esker::vfs::{CrashPolicy, MemVfs, Vfs};
use esker::{Background, Engine, ErrorKind, Event, Options, RecoveryMode};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// What was written, in order, over three logs.
struct Logs {
    vfs: Arc<MemVfs>,
    written: u32,
    /// Each log and the first key in it.
    logs: Vec<(PathBuf, u32)>,
}

pub(crate) fn logs_of(vfs: &MemVfs) -> Vec<PathBuf> {
    let names = vfs.list(Path::new(DIR)).unwrap();
    names.iter().filter(|name| name.ends_with(".wal")).map(|name| Path::new(DIR).join(name)).collect()
}

fn aside(vfs: &MemVfs) -> usize {
    vfs.list(Path::new(DIR)).unwrap().iter().filter(|name| name.ends_with(".wal.aside")).count()
}

fn key(i: u32) -> [u8; 4] {
    i.to_be_bytes()
}

/// Three logs, of which the kernel has everything; if `synced`, the device has the first, and the third says so.
fn three_logs(synced: bool) -> Logs {
    let vfs = MemVfs::new();
    let engine = open(&vfs, &options::tiny()).unwrap();
    let mut logs = vec![(logs_of(&vfs).remove(0), 0)];
    let mut written = 0;
    while logs.len() < 3 || written < logs[2].1 + 10 {
        engine.put(key(written), [written as u8; 100]).unwrap();
        if let Some(new) = logs_of(&vfs).into_iter().find(|path| logs.iter().all(|(log, _)| log != path)) {
            logs.push((new, written));
            if synced {
                engine.sync().unwrap();
            }
        }
        written += 1;
    }
    Logs { vfs: Arc::new(vfs.crash_now(CrashPolicy::All)), written, logs }
}

/// How many keys there are. Panics unless they are the first so many.
fn prefix(engine: &Engine) -> u32 {
    let keys: Vec<_> = engine.iter().keys().map(|key| key.unwrap().to_vec()).collect();
    keys.iter().enumerate().for_each(|(i, key)| assert_eq!(key[..], (i as u32).to_be_bytes()));
    keys.len() as u32
}

type Damage = fn(&mut Vec<u8>);

/// Ways to lose what lies at the end of a log, from a third of it on.
fn damages() -> [(&'static str, Damage); 3] {
    [
        ("torn", |bytes| {
            let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
            bytes[end / 3..end].fill(0xaa);
        }),
        ("zeros", |bytes| {
            let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
            bytes[end / 3..].fill(0);
        }),
        // The records are all of one length, but for what aligns them; the file's header has 64 bytes.
        ("cut at the end of a record", |bytes| {
            let record = 24 + u32::from_le_bytes(bytes[64..68].try_into().unwrap()).next_multiple_of(8) as usize;
            bytes.truncate(64 + 5 * record);
        }),
    ]
}

#[test]
fn without_a_sync_a_torn_log_ends_the_line_and_newer_ones_are_never_taken_up() {
    for nth in 0..2 {
        for (how, damage) in damages() {
            let Logs { vfs, written, logs } = three_logs(false);
            vfs.edit(&logs[nth].0, damage).unwrap();
            let left = prefix(&open_read_only(&vfs, &options::tiny()).unwrap());
            assert!((logs[nth].1..logs[nth + 1].1).contains(&left), "{how}: {left} of {written}");

            let engine = open(&vfs, &options::tiny()).unwrap();
            assert_eq!(prefix(&engine), left, "{how}");
            assert!(aside(&vfs) >= 2 - nth, "{how}: the newer logs are set aside");
            // What is written now takes the place of what was lost.
            engine.put(key(left), "anew").unwrap();
            let again = Arc::new(vfs.crash_now(CrashPolicy::All));
            drop(engine);
            let engine = open(&again, &options::tiny()).unwrap();
            assert_eq!(prefix(&engine), left + 1, "{how}: what was set aside stays so");
            assert_eq!(engine.get(key(left)).unwrap().unwrap(), b"anew");
            drop(engine);
            drop(open(&again, &options::tiny()).unwrap());
            assert_eq!(aside(&again), 0, "{how}: and is removed in the end");
        }
    }
}

#[test]
fn with_a_sync_a_torn_log_is_damage_and_nothing_changes() {
    for (how, damage) in damages() {
        let Logs { vfs, logs, .. } = three_logs(true);
        vfs.edit(&logs[0].0, damage).unwrap();
        refused(&vfs, how);
        assert!(salvage(&vfs) < logs[1].1);
    }
}

#[test]
fn a_missing_log_is_damage_where_it_can_be_known() {
    // The manifest asks for the first, whatever was synced.
    for synced in [false, true] {
        let Logs { vfs, logs, .. } = three_logs(synced);
        vfs.remove_file(&logs[0].0).unwrap();
        refused(&vfs, "the first is missing");
        assert_eq!(salvage(&vfs), 0);
    }
    // The third says that the second was synced.
    let Logs { vfs, logs, .. } = three_logs(true);
    vfs.remove_file(&logs[1].0).unwrap();
    refused(&vfs, "the second is missing");
    assert_eq!(salvage(&vfs), logs[1].1);
    // Or that it was not: then it may never have been there.
    let Logs { vfs, logs, .. } = three_logs(false);
    vfs.remove_file(&logs[1].0).unwrap();
    assert_eq!(prefix(&open(&vfs, &options::tiny()).unwrap()), logs[1].1);
    // All of them.
    let Logs { vfs, logs, .. } = three_logs(false);
    logs.iter().for_each(|(log, _)| vfs.remove_file(log).unwrap());
    refused(&vfs, "all are missing");
    assert_eq!(salvage(&vfs), 0);
}

#[test]
fn a_log_under_another_ones_name_is_damage() {
    let Logs { vfs, logs, .. } = three_logs(true);
    let spare = Path::new(DIR).join("spare");
    for (from, to) in [(&logs[0].0, &spare), (&logs[1].0, &logs[0].0), (&spare, &logs[1].0)] {
        vfs.rename(from, to).unwrap();
    }
    refused(&vfs, "two are swapped");
}

/// Opening is refused as `Corruption`, for writing or reading, and changes no log.
fn refused(vfs: &Arc<MemVfs>, how: &str) {
    let before = logs_of(vfs);
    for error in [open(vfs, &options::tiny()).err(), open_read_only(vfs, &options::tiny()).err()] {
        let error = error.unwrap_or_else(|| panic!("{how}: it opened"));
        assert_eq!(error.kind(), ErrorKind::Corruption, "{how}: {error}");
    }
    assert_eq!(logs_of(vfs), before, "{how}");
    assert_eq!(aside(vfs), 0, "{how}");
}

/// Opens all the same; how many keys are left. What is dropped is reported, and the engine is sound from then on.
fn salvage(vfs: &Arc<MemVfs>) -> u32 {
    let vfs = copy(vfs);
    let whole = logs_of(&vfs).len();
    let reported = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&reported);
    let engine = Engine::builder(DIR)
        .vfs(Arc::clone(&vfs) as Arc<dyn Vfs>)
        .options(Options { recovery: RecoveryMode::Salvage, ..options::tiny() })
        .background(Background::Manual)
        .listener(move |event: &Event| {
            if let Event::SetAside { path, reason } = event {
                assert!(!reason.is_empty());
                heard.lock().unwrap().push(path.clone());
            }
        })
        .open()
        .unwrap();
    let left = prefix(&engine);
    assert_eq!(reported.lock().unwrap().len(), aside(&vfs), "each log that is dropped is reported");
    assert!(whole == 0 || aside(&vfs) > 0);
    engine.put(key(left), "anew").unwrap();
    engine.close().unwrap();
    drop(engine);
    assert_eq!(prefix(&open(&vfs, &options::tiny()).unwrap()), left + 1);
    left
}
