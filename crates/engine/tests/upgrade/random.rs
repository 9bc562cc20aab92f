//! Directories of earlier versions, gone on with: opened with whatever options, written to, compacted, opened again with others, crashed, copied and repaired.

use crate::options;
use crate::{check, formats};
use esker::vfs::{CrashPolicy, MemVfs, SystemClock, Vfs, replace_file};
use esker::{Background, Engine, ErrorKind, Keyspace, KeyspaceOptions, Options, WriteOptions, repair, verify_deep};
use esker_testkit::random::Random;
use esker_testkit::stress;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

const DIR: &str = "/data";
const NEW: &str = "/new";

/// What is in each keyspace.
type Contents = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

/// What was so after so many operations of the file system.
struct Moment {
    operations: usize,
    contents: Contents,
    /// The moment that no power cut may undo from then on.
    durable: usize,
}

struct Run {
    random: Random,
    vfs: Arc<MemVfs>,
    engine: Option<Engine>,
    now: Contents,
    /// Since the directory was copied, or last crashed.
    moments: Vec<Moment>,
    opened: u64,
}

/// A copy of the directory at `path`, all of it durable.
fn in_memory(path: &Path) -> Arc<MemVfs> {
    let vfs = MemVfs::new().with_clock(Arc::new(SystemClock::new()));
    vfs.create_dir_all(DIR.as_ref()).unwrap();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        let to = Path::new(DIR).join(path.file_name().unwrap());
        replace_file(&*vfs, &to, &fs::read(&path).unwrap()).unwrap();
    }
    Arc::new(vfs.crash_now(CrashPolicy::All))
}

fn builder(vfs: &Arc<MemVfs>, dir: &str, options: Options) -> esker::Builder {
    Engine::builder(dir).vfs(Arc::clone(vfs) as Arc<dyn Vfs>).options(options).background(Background::Manual)
}

fn contents(engine: &Engine) -> Contents {
    let entries = |name: String| {
        let keyspace = engine.keyspace(&name, KeyspaceOptions::default()).unwrap();
        let entries = keyspace.iter().map(|item| item.map(|(key, value)| (key.to_vec(), value.to_vec())));
        (name, entries.collect::<esker::Result<_>>().unwrap())
    };
    engine.keyspaces().into_iter().map(entries).collect()
}

impl Run {
    fn new(path: &Path, mut random: Random) -> Self {
        let vfs = in_memory(path);
        let options = random.pick(&options::sets()).clone();
        let before = vfs.operations();
        let reader = builder(&vfs, DIR, options.clone()).read_only(true).open().unwrap();
        check(&reader, path);
        let now = contents(&reader);
        drop(reader);
        assert_eq!(vfs.operations(), before, "a reader changes nothing");
        let moments = vec![Moment { operations: before, contents: now.clone(), durable: 0 }];
        let engine = builder(&vfs, DIR, options).open().unwrap();
        check(&engine, path);
        Self { random, vfs, engine: Some(engine), now, moments, opened: 2 }
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("open")
    }

    fn open(&mut self, vfs: &Arc<MemVfs>, dir: &str) -> Engine {
        self.opened += 1;
        let options = self.random.pick(&options::sets()).clone();
        builder(vfs, dir, options).open().unwrap()
    }

    fn note(&mut self, is_durable: bool) {
        let durable = if is_durable { self.moments.len() } else { self.moments.last().expect("the first").durable };
        self.moments.push(Moment { operations: self.vfs.operations(), contents: self.now.clone(), durable });
    }

    /// Writes; where that has to wait for background work, does it.
    fn until_there_is_room(&self, write: impl Fn() -> esker::Result<()>) {
        while let Err(error) = write() {
            assert!(error.kind() == ErrorKind::Stalled && self.engine().step().unwrap(), "{error}");
        }
    }

    fn write(&mut self) {
        let names: Vec<String> = self.now.keys().cloned().collect();
        let name = self.random.pick(&names).clone();
        let keyspace: Keyspace = self.engine().keyspace(&name, KeyspaceOptions::default()).unwrap();
        let there: Vec<Vec<u8>> = self.now[&name].keys().cloned().collect();
        let key = match self.random.below(3) {
            0 if !there.is_empty() => self.random.pick(&there).clone(),
            _ => format!("new{:02}", self.random.below(30)).into_bytes(),
        };
        let len = *self.random.pick(&[0, 10, 100, 300, 1_000]);
        let value = vec![b'a' + self.random.below(26) as u8; len];
        let is_sync = self.random.one_in(8);
        let how = if is_sync { WriteOptions::sync() } else { WriteOptions::default() };
        let what = self.random.below(10);
        let end = [&key[..], b"5"].concat();
        self.until_there_is_room(|| match what {
            0..2 => keyspace.delete_with(&key, &how),
            2 => keyspace.delete_range_with(&key, &end, &how),
            3..6 if name == "merged" => keyspace.merge_with(&key, &value, &how),
            _ => keyspace.put_with(&key, &value, &how),
        });
        let now = self.now.get_mut(&name).expect("it is one of them");
        match what {
            0..2 => drop(now.remove(&key)),
            2 => now.retain(|other, _| *other < key || *other >= end),
            3..6 if name == "merged" => now.entry(key).or_default().extend(value),
            _ => drop(now.insert(key, value)),
        }
        self.note(is_sync);
    }

    fn operation(&mut self) {
        match self.random.below(24) {
            0 => {
                self.engine().flush().unwrap();
                self.note(true);
            }
            1 => {
                let names = self.engine().keyspaces();
                let name = self.random.pick(&names).clone();
                self.engine().keyspace(name, KeyspaceOptions::default()).unwrap().compact_range(..).unwrap();
                self.note(false);
            }
            2..4 => {
                self.engine().step().unwrap();
                self.note(false);
            }
            4 => {
                let engine = self.engine.take().expect("open");
                engine.close().unwrap();
                drop(engine);
                self.note(true);
                self.engine = Some(self.open(&self.vfs.clone(), DIR));
            }
            5 if self.now.len() < 10 => {
                let name = format!("made{}", self.opened);
                self.engine().keyspace(&name, KeyspaceOptions::default()).unwrap();
                self.now.entry(name).or_default();
                // That is in the manifest, and synced.
                self.note(false);
            }
            6 => self.checkpoint(),
            7 => self.crash(),
            _ => self.write(),
        }
        if self.random.one_in(8) {
            assert_eq!(contents(self.engine()), self.now);
        }
    }

    fn checkpoint(&mut self) {
        let copy = format!("/copy-{}", self.opened);
        self.engine().checkpoint(&copy).unwrap();
        let engine = self.open(&self.vfs.clone(), &copy);
        assert_eq!(contents(&engine), self.now, "a copy");
        drop(engine);
        self.note(false);
    }

    /// The power goes off at any operation since the last time that it did.
    fn crash(&mut self) {
        let (from, to) = (self.moments[0].operations, self.vfs.operations());
        let operations = from + self.random.index(to - from + 1);
        let subset = CrashPolicy::Subset(self.random.next());
        let policy = *self.random.pick(&[CrashPolicy::SyncedOnly, CrashPolicy::All, CrashPolicy::TornLast, subset]);
        let image = Arc::new(self.vfs.crash_image(operations, policy));
        drop(self.engine.take());
        let next = self.moments.partition_point(|moment| moment.operations <= operations);
        // What the kernel had of what it was told to keep.
        let oldest = if policy == CrashPolicy::All { next - 1 } else { self.moments[next - 1].durable };
        let allowed = oldest..(next + 1).min(self.moments.len());
        let engine = self.open(&image, DIR);
        let found = contents(&engine);
        // Keyspaces are made in the manifest, which is synced at once, so one may be there when writes before it are lost.
        let filled = |contents: &Contents| {
            let is_filled =
                |(name, entries): &(&String, &BTreeMap<_, _>)| !name.starts_with("made") || !entries.is_empty();
            contents
                .iter()
                .filter(is_filled)
                .map(|(name, entries)| (name.clone(), entries.clone()))
                .collect::<Contents>()
        };
        let is_one = self.moments[allowed.clone()].iter().any(|moment| filled(&moment.contents) == filled(&found));
        assert!(is_one, "operation {operations}, {policy:?}: none of moments {allowed:?} is {found:?}");
        // What is left is safe now.
        drop(engine);
        self.vfs = Arc::new(image.crash_now(CrashPolicy::All));
        self.moments.clear();
        self.moments.push(Moment { operations: self.vfs.operations(), contents: found.clone(), durable: 0 });
        self.now = found;
        self.engine = Some(self.open(&self.vfs.clone(), DIR));
    }

    /// Checks what is left whole, and repairs it, which must change nothing.
    fn end(mut self) -> u64 {
        assert_eq!(contents(self.engine()), self.now);
        drop(self.engine.take());
        let vfs = Arc::clone(&self.vfs) as Arc<dyn Vfs>;
        let report = verify_deep(&vfs, DIR, &mut |_| {}).unwrap();
        assert!(report.is_ok(), "{report:#?}");
        let report = repair(&vfs, DIR, NEW, &mut |_| {}).unwrap();
        assert!(report.is_whole(), "{report:#?}");
        let engine = self.open(&self.vfs.clone(), NEW);
        assert_eq!(contents(&engine), self.now, "repaired");
        self.opened
    }
}

#[test]
fn every_format_so_far_goes_on() {
    let formats = formats();
    for round in stress::rounds("upgrade", 24) {
        let mut random = Random::new(round.seed());
        let path = &formats[round.seed() as usize % formats.len()];
        let operations = random.below(80);
        let mut run = Run::new(path, random);
        (0..operations).for_each(|_| run.operation());
        round.tried(run.end());
    }
}
