//! Random directories, damaged at random: whatever is left, what is repaired holds nothing that was not written, and all of it where nothing is reported as lost.

use crate::rebuild::{NEW, repaired_in};
use crate::small::{Contents, DIR, all, builder, bytes, calm, checked, contents, files, swap, used_bytes};
use esker::vfs::{CrashPolicy, MemVfs, Vfs, read_file};
use esker::{KeyspaceOptions, Options, WriteOptions};
use esker_format::{FileKind, FileNo};
use esker_testkit::random::Random;
use esker_testkit::stress;
use esker_wal::{LogEnd, Lsn, Reader};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What an engine held at its end, and all that it ever did.
#[derive(Default)]
struct History {
    now: [Contents; 2],
    ever: [BTreeMap<Vec<u8>, Vec<Vec<u8>>>; 2],
    /// What it held after each operation.
    states: Vec<[Contents; 2]>,
}

const NAMES: [&str; 2] = ["default", "other"];

/// An engine after some hundred operations, switched off or closed.
fn written(random: &mut Random) -> (Arc<MemVfs>, History) {
    let vfs = MemVfs::new();
    let options = Options { wal_retain_bytes: (random.index(3) == 0).then_some(1 << 20), ..calm() };
    let mut engine = builder(&vfs, DIR, options.clone()).open().unwrap();
    let mut history = History { states: vec![Default::default()], ..History::default() };
    let operations = 40 + random.index(200);
    for n in 0..operations {
        let which = random.index(3) / 2;
        let keyspace = engine.keyspace(NAMES[which], KeyspaceOptions::default()).unwrap();
        let now = &mut history.now[which];
        let key = format!("{:03}", random.index(60)).into_bytes();
        let how = if random.index(4) == 0 { WriteOptions::sync() } else { WriteOptions::default() };
        // Nothing works in the background: where it is far behind, writes would be refused.
        let keyspaces = engine.metrics().keyspaces;
        let l0 = keyspaces.iter().filter_map(|of| of.levels.first().map(|level| level.tables)).max();
        if l0 >= Some(10) || keyspaces.iter().any(|of| of.sealed_memtables > 0) {
            while engine.step().unwrap() {}
        }
        match random.index(40) {
            0 | 1 => engine.flush().unwrap(),
            2 => keyspace.compact_range(..).unwrap(),
            3 => {
                let end = format!("{:03}", random.index(61)).into_bytes();
                if key < end {
                    keyspace.delete_range_with(&key, &end, &how).unwrap();
                    now.retain(|found, _| *found < key || *found >= end);
                }
            }
            4 => {
                engine.close().unwrap();
                engine = builder(&vfs, DIR, options.clone()).open().unwrap();
            }
            5 => while engine.step().unwrap() {},
            6..=11 => {
                keyspace.delete_with(&key, &how).unwrap();
                now.remove(&key);
            }
            _ => {
                let len = if random.index(5) == 0 { 150 } else { 10 };
                let value = [format!("{n}:").into_bytes(), vec![b'.'; len]].concat();
                keyspace.put_with(&key, &value, &how).unwrap();
                history.ever[which].entry(key.clone()).or_default().push(value.clone());
                now.insert(key, value);
            }
        }
        history.states.push(history.now.clone());
    }
    if random.index(3) == 0 {
        engine.close().unwrap();
    }
    (Arc::new(vfs.crash_now(CrashPolicy::All)), history)
}

/// Does one kind of damage; what it did.
fn damage(vfs: &MemVfs, random: &mut Random) -> String {
    let paths: Vec<_> = files(vfs, DIR).into_iter().filter(|path| !path.ends_with("LOCK")).collect();
    if paths.is_empty() {
        return "nothing is left".into();
    }
    let path = &paths[random.index(paths.len())];
    let len = used_bytes(vfs, path).max(1);
    let at = random.index(len);
    let said = match random.index(9) {
        0..=2 => {
            let bit = random.index(8);
            vfs.edit(path, |bytes| {
                if at < bytes.len() {
                    bytes[at] ^= 1 << bit
                }
            })
            .unwrap();
            format!("bit {bit} of byte {at} flipped")
        }
        3 => {
            vfs.edit(path, |bytes| bytes.truncate(at)).unwrap();
            format!("cut to {at}")
        }
        4 => {
            let from = at / 512 * 512;
            vfs.edit(path, |bytes| bytes.iter_mut().skip(from).take(512).for_each(|byte| *byte = 0)).unwrap();
            format!("zeros from {from} on")
        }
        5 => {
            vfs.remove_file(path).unwrap();
            "removed".into()
        }
        6 => {
            let other = &paths[random.index(paths.len())];
            if other != path {
                swap(vfs, path, other);
            }
            format!("swapped with {}", other.display())
        }
        7 => {
            // As of a file that was being written.
            let half = read_file(vfs, path, u64::MAX).unwrap()[..at].to_vec();
            let temp = PathBuf::from(format!("{}.tmp", path.display()));
            if let Ok(mut file) = vfs.create_new(&temp) {
                file.append(&half).unwrap();
            }
            format!("its first {at} bytes are there as .tmp too")
        }
        _ => {
            let noise: Vec<u8> = (0..64).map(|_| random.next() as u8).collect();
            vfs.edit(path, |bytes| bytes.iter_mut().skip(at).zip(&noise).for_each(|(byte, noise)| *byte = *noise))
                .unwrap();
            format!("noise from {at} on")
        }
    };
    format!("{}: {said}", path.display())
}

/// Where each log starts and its whole records end, by the number that it says it has.
fn log_ends(vfs: &MemVfs) -> BTreeMap<FileNo, (Lsn, LogEnd)> {
    let end = |path: &PathBuf| {
        let mut log = Reader::open(vfs.open_read(path).unwrap(), "log").ok()?;
        while log.next().ok()?.is_some() {}
        Some((log.header().number, (log.header().start, *log.end()?)))
    };
    all(vfs, ".wal").iter().filter_map(end).collect()
}

/// Whether the end of a log that was needed, or all of it, is gone in a way that can't be told from one where it was never written: nothing that is left says that it was on stable storage, and where
/// it was there is nothing, zeros, or in the place of all of it a former log, as in a file made ahead. The manifest names of all logs the oldest alone, so one that is missing is not missed.
fn lacks_an_end_unseen(sound: &MemVfs, damaged: &MemVfs) -> bool {
    let facts = |vfs: &MemVfs| esker_manifest::salvage(vfs, Path::new(DIR)).unwrap();
    let oldest = facts(sound).oldest_log;
    let left = log_ends(damaged);
    let vouched = left.values().map(|(_, end)| end.vouched).chain([facts(damaged).log_durable]).max();
    log_ends(sound).range(oldest..).any(|(number, (start, end))| {
        let (position, leftover) = left.get(number).map_or((*start, false), |(_, end)| (end.position, end.leftover));
        let path = FileKind::Wal(*number).path(Path::new(DIR));
        let is_missed = *number == facts(damaged).oldest_log && damaged.metadata(&path).is_err();
        position < end.position && !leftover && vouched <= Some(position) && !is_missed
    })
}

/// How many damages were tried.
fn one_case(seed: u64) -> u64 {
    let mut random = Random::new(seed);
    let (sound, history) = written(&mut random);
    for tried in 0..6 {
        let vfs = Arc::new(sound.crash_now(CrashPolicy::All));
        let mut what = format!("seed {seed}, {tried}");
        for _ in 0..if tried == 0 { 0 } else { 1 + random.index(3) } {
            what = format!("{what}; {}", damage(&vfs, &mut random));
        }
        let before = bytes(&vfs, DIR);
        let found_wrong = !checked(&vfs, DIR).is_ok();
        assert!(bytes(&vfs, DIR) == before, "{what}");
        let report = match repaired_in(&vfs, NEW) {
            Ok(report) => report,
            // Nothing that would make it an engine.
            Err(error) => {
                assert!(all(&vfs, ".sst").is_empty() && error.kind() == esker::ErrorKind::NotFound, "{what}: {error}");
                continue;
            }
        };
        let engine = builder(&vfs, NEW, calm()).open().unwrap();
        let mut found: BTreeMap<String, Contents> = BTreeMap::new();
        for name in engine.keyspaces() {
            let keyspace = engine.keyspace(&name, KeyspaceOptions::default()).unwrap();
            found.insert(name, contents(&keyspace).unwrap_or_else(|error| panic!("{what}: {error}")));
        }
        for (name, found) in &found {
            // Whose keyspace is not known may be either's.
            let may_be = |which: usize| match name.as_str() {
                "default" => which == 0 || !report.exact,
                "other" => which == 1,
                _ => true,
            };
            for (key, value) in found {
                let is_ever = (0..2).any(|which| {
                    may_be(which) && history.ever[which].get(key).is_some_and(|ever| ever.contains(value))
                });
                assert!(is_ever, "{what}: {} in {name} was never so. {report:#?}", key.escape_ascii());
            }
        }
        if report.is_whole() && report.exact {
            let found = NAMES.map(|name| found.get(name).cloned().unwrap_or_default());
            let is_now = found == history.now;
            // The end of a log that was never promised to last is no loss. What is there then is what was there at one time.
            let is_cut =
                report.unused.iter().any(|(file, why)| file.contains(".wal") && why.contains("promised to last"));
            let may_be_older = is_cut || lacks_an_end_unseen(&sound, &vfs);
            assert!(
                is_now || may_be_older && history.states.contains(&found),
                "{what}: {report:#?}\n{found:?}\n{:?}",
                history.now
            );
        }
        assert!(tried > 0 || (report.is_whole() && !found_wrong), "{what}: {report:#?}");
    }
    6
}

#[test]
fn random_directories_damaged_at_random() {
    for round in stress::rounds("repair", 5) {
        let tried = one_case(round.seed());
        round.tried(tried);
    }
}
