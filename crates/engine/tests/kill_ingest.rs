//! `kill -9` of a child that ingests tables, copied and moved, and bulk-loads, over and over: each is there whole or not at all, what was acknowledged is there, and no file of a move is lost that is not in the engine.
//!
//! The child is this binary again. Each ingest takes the place of all that is in its part of the keys, so what is there says which one it was. The child tells the parent when the tables of one are built, and when the call has
//! returned: two bounds.

#[path = "kill/backend.rs"]
mod backend;

use backend::backend_of;
use esker::{
    Background, Builder, Engine, IngestOptions, Keyspace, KeyspaceOptions, LeveledOptions, Options, SstOptions,
    SstWriter,
};
use esker_testkit::stress;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const KILLS: u64 = 60;
/// How many parts of the keys there are, and how many keys a part has.
const PARTS: u64 = 12;
const KEYS: u64 = 60;
const CHILD: &str = "ESKER_INGEST_TEST_CHILD";

type Entry = (Vec<u8>, Option<Vec<u8>>);
type Entries = Vec<Entry>;
type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Copied,
    Moved,
    Bulk,
}

fn way_of(i: u64) -> Way {
    [Way::Copied, Way::Moved, Way::Bulk, Way::Moved][(i % 4) as usize]
}

fn key_of(part: u64, nth: u64) -> Vec<u8> {
    format!("{part:02}/{nth:03}").into_bytes()
}

/// What is put into the part of ingest `i` when it is there: so the next one finds something in memory to be flushed, and has to delete it.
fn mark_of(i: u64) -> Vec<u8> {
    format!("{:02}/~", i % PARTS).into_bytes()
}

/// All that ingest `i` says of its part: some keys are put, all others deleted.
fn entries_of(i: u64) -> Entries {
    let part = i % PARTS;
    let value = |nth: u64| {
        let mut value = i.to_be_bytes().to_vec();
        value.resize(8 + if nth % 16 == 3 { 5_000 } else { (i * 37 + nth * 11) % 200 } as usize, nth as u8);
        value
    };
    let mut entries: Entries =
        (0..KEYS).map(|nth| (key_of(part, nth), (!(nth + i).is_multiple_of(3)).then(|| value(nth)))).collect();
    entries.push((mark_of(i), None));
    entries
}

fn contents_of(entries: &[Entry]) -> Contents {
    entries.iter().filter_map(|(key, value)| Some((key.clone(), value.clone()?))).collect()
}

/// Two tables, whose names say which ingest it is.
fn paths_of(outside: &Path, i: u64) -> [PathBuf; 2] {
    [outside.join(format!("{i}-0.sst")), outside.join(format!("{i}-1.sst"))]
}

fn halves(entries: &Entries) -> [&[Entry]; 2] {
    let (first, second) = entries.split_at(entries.len() / 2);
    [first, second]
}

fn builder(dir: &Path, cycle: u64) -> Builder {
    // Small, so that every cycle is killed somewhere in flush and compaction too.
    let compaction = LeveledOptions { l0_trigger: 2, table_bytes: 32 << 10, ..LeveledOptions::default() };
    let options = Options {
        log_backend: backend_of(cycle),
        memtable_bytes: Some(16 << 10),
        wal_bytes_max: 128 << 10,
        compaction,
        ..Options::default()
    };
    Engine::builder(dir.join("engine")).options(options)
}

fn loaded(engine: &Engine) -> Keyspace {
    engine.keyspace("loaded", KeyspaceOptions::default()).unwrap()
}

fn child(dir: &Path, cycle: u64, first: u64) {
    let engine = builder(dir, cycle).open().unwrap();
    let keyspace = loaded(&engine);
    let outside = dir.join("outside");
    for i in first.. {
        let entries = entries_of(i);
        if way_of(i) == Way::Bulk {
            println!("built {i}");
            let mut load = keyspace.bulk_writer().unwrap();
            for (key, value) in &entries {
                match value {
                    Some(value) => load.put(key, value).unwrap(),
                    None => load.delete(key).unwrap(),
                }
            }
            load.finish().unwrap();
        } else {
            let paths = paths_of(&outside, i);
            for (path, half) in paths.iter().zip(halves(&entries)) {
                let mut table = SstWriter::create(path, &SstOptions::default()).unwrap();
                for (key, value) in half {
                    match value {
                        Some(value) => table.put(key, value).unwrap(),
                        None => table.delete(key).unwrap(),
                    }
                }
                table.finish().unwrap();
            }
            println!("built {i}");
            let move_files = way_of(i) == Way::Moved;
            keyspace.ingest(&paths, &IngestOptions { move_files }).unwrap();
        }
        println!("end {i}");
        keyspace.put(mark_of(i), i.to_be_bytes()).unwrap();
        engine.put("last", i.to_be_bytes()).unwrap();
    }
}

/// That a table outside is whole: an engine of its own takes it.
fn check_file(path: &Path, half: &[Entry]) {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(dir.path()).unwrap();
    engine.ingest([path], &IngestOptions::default()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let found: Contents = engine.iter().map(|item| item.map(|(k, v)| (k.to_vec(), v.to_vec())).unwrap()).collect();
    assert!(found == contents_of(half), "{}", path.display());
}

/// What is to be found after a kill.
#[derive(Default)]
struct Known {
    /// The ingest that each part has.
    parts: [Option<u64>; PARTS as usize],
    last: Option<u64>,
    /// Ingests behind which the kill came before they were marked.
    unmarked: BTreeSet<u64>,
    ingested: u64,
}

impl Known {
    /// Compares, and takes what is found as known. `ended` are the ingests that were acknowledged, `under_way` is one that was not.
    fn check(&mut self, dir: &Path, engine: &Engine, ended: &[u64], under_way: Option<u64>) {
        let outside = dir.join("outside");
        for i in ended {
            self.parts[(i % PARTS) as usize] = Some(*i);
        }
        self.ingested += ended.len() as u64;
        let keyspace = loaded(engine);
        let last = engine.get("last").unwrap().map(|last| u64::from_be_bytes(last[..].try_into().unwrap()));
        assert!(last >= self.last, "{last:?} is last, {:?} was", self.last);
        self.last = last;
        for part in 0..PARTS {
            let prefix = format!("{part:02}/");
            let found = keyspace.prefix(&prefix).map(|item| item.map(|(k, v)| (k.to_vec(), v.to_vec())).unwrap());
            let mut found: Contents = found.collect();
            let mark = found.remove(format!("{part:02}/~").as_bytes());
            let of = found.values().next().map(|value| u64::from_be_bytes(value[..8].try_into().unwrap()));
            let before = self.parts[part as usize];
            assert!(
                of == before || of.is_some() && of == under_way && part == of.unwrap_or_default() % PARTS,
                "part {part} has {of:?}; {before:?} was acknowledged, {under_way:?} under way"
            );
            self.parts[part as usize] = of;
            let Some(of) = of else { continue };
            assert!(found == contents_of(&entries_of(of)), "ingest {of} is there in part: {:?}", found.keys());
            // Each is put after its ingest, and before `last`; never, if the kill came first.
            let mark = mark.map(|mark| u64::from_be_bytes(mark[..].try_into().unwrap()));
            if mark.is_none() && last.is_none_or(|last| last < of) {
                self.unmarked.insert(of);
            }
            let expected = (!self.unmarked.contains(&of)).then_some(of);
            assert!(mark == expected || mark == Some(of), "{mark:?} marks {of}, {last:?} is last");
        }
        for i in ended.iter().copied().chain(under_way).filter(|i| way_of(*i) != Way::Bulk) {
            let (paths, entries) = (paths_of(&outside, i), entries_of(i));
            let is_in = self.parts[(i % PARTS) as usize] >= Some(i);
            for (path, half) in paths.iter().zip(halves(&entries)) {
                match way_of(i) {
                    Way::Moved if ended.contains(&i) => assert!(!path.exists(), "{} stayed", path.display()),
                    // A crash may leave both.
                    Way::Moved if is_in => {}
                    _ if Some(i) == under_way => check_file(path, half),
                    _ => assert!(path.exists(), "{} is lost", path.display()),
                }
            }
        }
    }
}

#[test]
fn an_ingest_is_whole_or_not_there_after_a_kill() {
    if let Ok(spec) = std::env::var(CHILD) {
        let [cycle, first, dir] = spec.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{spec}") };
        return child(Path::new(dir), cycle.parse().unwrap(), first.parse().unwrap());
    }
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    drop(loaded(&builder(dir.path(), 0).open().unwrap()));
    let mut known = Known::default();
    let mut first = 0;
    let (mut were_under_way, mut were_in) = (0, 0);
    let mut kills = 0;
    for round in stress::rounds("kill-ingest", KILLS) {
        let cycle = round.seed();
        let _ = std::fs::remove_dir_all(&outside);
        std::fs::create_dir(&outside).unwrap();
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "an_ingest_is_whole_or_not_there_after_a_kill", "--nocapture", "--test-threads=1"])
            .env(CHILD, format!("{cycle} {first} {}", dir.path().display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let (begins, began) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            let (mut built, mut ended) = (None, Vec::new());
            for line in lines.map_while(|line| line.ok()) {
                // From the end: the first line has what the harness says of the test before it.
                let mut words = line.rsplit(' ');
                let Some(i) = words.next().and_then(|i| i.parse::<u64>().ok()) else { continue };
                match words.next() {
                    Some("built") => {
                        // Nobody listens where the kill comes first.
                        let _ = begins.send(());
                        built = Some(i);
                    }
                    Some("end") => ended.push(i),
                    _ => {}
                }
            }
            (built, ended)
        });
        let random = cycle.wrapping_add(1).wrapping_mul(6_364_136_223_846_793_005);
        // One in four dies wherever it is, while it opens too.
        if cycle % 4 != 0 {
            began.recv_timeout(Duration::from_secs(30)).expect("the child ingests");
        }
        std::thread::sleep(Duration::from_micros((random >> 33) % 60_000));
        process.kill().unwrap();
        process.wait().unwrap();
        let (built, ended) = reader.join().unwrap();
        let under_way = built.filter(|i| ended.last() != Some(i));

        // Every other time only looked at, so that the next child finds the files as the kill left them.
        let builder = builder(dir.path(), cycle).background(Background::Manual).read_only(cycle % 2 == 0);
        let engine = builder.open().unwrap();
        known.check(dir.path(), &engine, &ended, under_way);
        assert!(engine.verify().unwrap().is_ok(), "kill {cycle}");
        if cycle % 2 == 1 {
            let names = std::fs::read_dir(dir.path().join("engine")).unwrap();
            let names: Vec<String> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            let tables = names.iter().filter(|name| name.ends_with(".sst")).count() as u64;
            let keyspaces = engine.metrics().keyspaces;
            let named: u64 = keyspaces.iter().flat_map(|of| &of.levels).map(|level| level.tables as u64).sum();
            assert_eq!(tables, named, "what no version names is swept: {names:?}");
            assert!(!names.iter().any(|name| name.ends_with(".tmp")), "{names:?}");
        }
        if let Some(i) = under_way {
            were_under_way += 1;
            were_in += u64::from(known.parts[(i % PARTS) as usize] == Some(i));
        }
        first = built.map_or(first, |built| built + 1);
        kills += 1;
        round.tried(1);
    }
    println!(
        "{kills} kills, {} ingests acknowledged; {were_under_way} were under way, {were_in} of them were there",
        known.ingested
    );
    // How many come to their end is the machine's affair; of a few, all may be killed too early.
    assert!(kills < 8 || known.ingested > kills / 20, "the children hardly ingested");
}
