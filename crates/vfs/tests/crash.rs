//! What a power cut leaves, and what it never takes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use esker_vfs::{CrashPolicy, MemVfs, Vfs, WritableFile, read_file, replace_file};
use proptest::prelude::*;

fn path(path: &str) -> &Path {
    Path::new(path)
}

fn read(vfs: &MemVfs, name: &str) -> Option<Vec<u8>> {
    read_file(vfs, path(name), u64::MAX).ok()
}

fn policies() -> impl Iterator<Item = CrashPolicy> {
    let fixed = [CrashPolicy::SyncedOnly, CrashPolicy::All, CrashPolicy::TornLast, CrashPolicy::Torn { keep_bytes: 1 }];
    fixed.into_iter().chain((0..40).map(CrashPolicy::Subset))
}

/// All that some crash now may leave of a file.
fn outcomes(vfs: &MemVfs, name: &str) -> BTreeSet<Option<Vec<u8>>> {
    policies().map(|policy| read(&vfs.crash_now(policy), name)).collect()
}

fn create_synced(vfs: &MemVfs, name: &str, bytes: &[u8]) -> Box<dyn WritableFile> {
    let mut file = vfs.create_new(path(name)).unwrap();
    file.append(bytes).unwrap();
    file.sync().unwrap();
    vfs.sync_dir(path("/")).unwrap();
    file
}

#[test]
fn synced_bytes_under_a_synced_name_stay() {
    let vfs = MemVfs::new();
    let _file = create_synced(&vfs, "/a", b"bytes");
    assert_eq!(outcomes(&vfs, "/a"), BTreeSet::from([Some(b"bytes".to_vec())]));
}

#[test]
fn without_a_sync_of_the_directory_the_name_may_be_missing() {
    let vfs = MemVfs::new();
    let mut file = vfs.create_new(path("/a")).unwrap();
    file.append(b"bytes").unwrap();
    file.sync().unwrap();
    assert_eq!(outcomes(&vfs, "/a"), BTreeSet::from([None, Some(b"bytes".to_vec())]));
}

#[test]
fn without_a_sync_of_the_file_bytes_may_be_missing() {
    let vfs = MemVfs::new();
    let mut file = create_synced(&vfs, "/a", b"bytes");
    file.append(b" more").unwrap();
    let outcomes = outcomes(&vfs, "/a");
    // The length may be there without the bytes.
    for expected in [&b"bytes"[..], b"bytes more", b"bytes\0\0\0\0\0", b"bytes m", b"bytes "] {
        assert!(outcomes.contains(&Some(expected.to_vec())), "{}", expected.escape_ascii());
    }
    assert_eq!(outcomes.len(), 5);
}

#[test]
fn sectors_are_lost_and_kept_in_any_order() {
    let vfs = MemVfs::new();
    let mut file = create_synced(&vfs, "/a", b"");
    for sector in 1..=4 {
        file.append(&[sector; 512]).unwrap();
    }
    let kept: BTreeSet<Vec<u8>> = (0..2000)
        .filter_map(|seed| read(&vfs.crash_now(CrashPolicy::Subset(seed)), "/a"))
        .filter(|bytes| bytes.len() == 2048)
        .map(|bytes| bytes.chunks(512).map(|sector| *sector.iter().max().unwrap()).collect())
        .collect();
    assert_eq!(kept.len(), 16, "every subset of four sectors");
    assert!(kept.contains(&vec![0, 2, 0, 4]));
}

#[test]
fn a_sector_written_twice_is_never_new_without_the_old() {
    let vfs = MemVfs::new();
    let mut file = create_synced(&vfs, "/a", b"");
    file.append(b"one").unwrap();
    file.append(b"two").unwrap();
    for seed in 0..500 {
        let bytes = read(&vfs.crash_now(CrashPolicy::Subset(seed)), "/a").unwrap();
        assert!(bytes.len() < 6 || &bytes[3..] != b"two" || &bytes[..3] == b"one", "{}", bytes.escape_ascii());
    }
}

#[test]
fn the_last_append_is_cut_where_told() {
    let vfs = MemVfs::new();
    let mut file = create_synced(&vfs, "/a", b"synced,");
    file.append(b"kept,").unwrap();
    file.append(b"torn").unwrap();
    assert_eq!(read(&vfs.crash_now(CrashPolicy::TornLast), "/a").unwrap(), b"synced,kept,to");
    for keep_bytes in 0..6 {
        let bytes = read(&vfs.crash_now(CrashPolicy::Torn { keep_bytes }), "/a").unwrap();
        assert_eq!(bytes, b"synced,kept,torn"[..12 + keep_bytes.min(4) as usize]);
    }
    file.sync().unwrap();
    assert_eq!(read(&vfs.crash_now(CrashPolicy::TornLast), "/a").unwrap(), b"synced,kept,torn");
}

#[test]
fn a_torn_append_into_preallocated_space_leaves_zeros() {
    let vfs = MemVfs::new();
    let mut file = create_synced(&vfs, "/a", b"");
    file.preallocate(10).unwrap();
    file.append(b"torn").unwrap();
    assert_eq!(read(&vfs.crash_now(CrashPolicy::TornLast), "/a").unwrap(), b"to\0\0\0\0\0\0\0\0");
}

#[test]
fn a_removed_file_may_come_back_until_the_directory_is_synced() {
    let vfs = MemVfs::new();
    drop(create_synced(&vfs, "/a", b"bytes"));
    vfs.remove_file(path("/a")).unwrap();
    assert_eq!(outcomes(&vfs, "/a"), BTreeSet::from([None, Some(b"bytes".to_vec())]));
    vfs.sync_dir(path("/")).unwrap();
    assert_eq!(outcomes(&vfs, "/a"), BTreeSet::from([None]));
}

#[test]
fn a_rename_is_done_or_not() {
    let vfs = MemVfs::new();
    drop(create_synced(&vfs, "/old", b"1"));
    drop(create_synced(&vfs, "/new", b"2"));
    vfs.rename(path("/new"), path("/old")).unwrap();
    let outcomes: BTreeSet<_> = policies()
        .map(|policy| {
            let image = vfs.crash_now(policy);
            (read(&image, "/old"), read(&image, "/new"))
        })
        .collect();
    let [one, two] = [Some(b"1".to_vec()), Some(b"2".to_vec())];
    assert_eq!(outcomes, BTreeSet::from([(one, two.clone()), (two, None)]));
}

#[test]
fn a_rename_between_directories_is_durable_with_the_one_it_goes_to() {
    let vfs = MemVfs::new();
    vfs.create_dir_all(path("/to")).unwrap();
    drop(create_synced(&vfs, "/a", b"a"));
    vfs.rename(path("/a"), path("/to/a")).unwrap();
    let names = |policy| {
        let image = vfs.crash_now(policy);
        (read(&image, "/a").is_some(), read(&image, "/to/a").is_some())
    };
    vfs.sync_dir(path("/")).unwrap();
    assert_eq!((names(CrashPolicy::SyncedOnly), names(CrashPolicy::All)), ((true, false), (false, true)));
    vfs.sync_dir(path("/to")).unwrap();
    assert!(policies().all(|policy| names(policy) == (false, true)));
}

#[test]
fn changes_of_different_names_are_reordered_and_of_the_same_name_not() {
    let vfs = MemVfs::new();
    drop(create_synced(&vfs, "/log1", b"1"));
    vfs.create_new(path("/log2")).unwrap();
    vfs.remove_file(path("/log1")).unwrap();
    let outcomes: BTreeSet<_> = policies().map(|policy| vfs.crash_now(policy).list(path("/")).unwrap()).collect();
    assert_eq!(outcomes.len(), 4, "also the one without either: {outcomes:?}");

    let vfs = MemVfs::new();
    for name in ["/1", "/2", "/3"] {
        let mut file = vfs.create_new(path("/tmp")).unwrap();
        file.append(name.as_bytes()).unwrap();
        file.sync().unwrap();
        vfs.rename(path("/tmp"), path("/CURRENT")).unwrap();
    }
    for policy in policies() {
        let image = vfs.crash_now(policy);
        match (read(&image, "/CURRENT"), read(&image, "/tmp")) {
            (None, None) => {}
            (None, Some(tmp)) => assert_eq!(tmp, b"/1"),
            (Some(current), None) => assert!(current.starts_with(b"/")),
            (Some(current), Some(tmp)) => assert_eq!(current[1] + 1, tmp[1]),
        }
    }
}

#[test]
fn a_directory_takes_its_files_along() {
    let vfs = MemVfs::new();
    vfs.create_dir_all(path("/new.tmp")).unwrap();
    drop(create_synced(&vfs, "/new.tmp/a", b"a"));
    vfs.sync_dir(path("/new.tmp")).unwrap();
    vfs.rename(path("/new.tmp"), path("/new")).unwrap();
    for policy in policies() {
        let image = vfs.crash_now(policy);
        let found = [read(&image, "/new/a"), read(&image, "/new.tmp/a")];
        assert_eq!(found.iter().flatten().collect::<Vec<_>>(), [b"a"], "in one of the two, and whole");
    }
}

#[test]
fn an_image_is_a_world_of_its_own() {
    let vfs = MemVfs::new().with_space(1 << 20).with_seed(7);
    let mut file = create_synced(&vfs, "/a", b"a");
    let _lock = vfs.lock(path("/LOCK"), esker_vfs::LockMode::Exclusive).unwrap();
    let image = vfs.crash_now(CrashPolicy::All);
    file.append(b"b").unwrap();
    vfs.remove_file(path("/a")).unwrap();
    assert_eq!(read(&image, "/a").unwrap(), b"a");
    let _lock = image.lock(path("/LOCK"), esker_vfs::LockMode::Exclusive).expect("locks die with the machine");
    assert_eq!(image.operations(), 0);
    assert!(image.free_space(path("/")).unwrap() <= 1 << 20);
    assert_ne!(image.random(), vfs.random(), "ids are not given out twice");
    // What survived is durable, and crashes of crashes work.
    let again = image.crash_now(CrashPolicy::SyncedOnly);
    assert_eq!(again.list(path("/")).unwrap(), ["LOCK", "a"]);
}

/// Of a file that is replaced, there is always the old one or the new one.
#[test]
fn a_replaced_file_is_old_or_new_at_every_operation() {
    let vfs = MemVfs::new();
    let versions: Vec<Vec<u8>> = (0..5u8).map(|i| vec![i; 700 * usize::from(i)]).collect();
    let mut done = Vec::new();
    for version in &versions {
        replace_file(&*vfs, path("/CURRENT"), version).unwrap();
        done.push(vfs.operations());
    }
    for operations in 0..=vfs.operations() {
        // How many are surely there, and how many may be.
        let sure = done.iter().filter(|&&done| done <= operations).count();
        for policy in policies() {
            let found = read(&vfs.crash_image(operations, policy), "/CURRENT");
            let version = found.map(|found| versions.iter().position(|version| *version == found).expect("not torn"));
            assert!(
                version == sure.checked_sub(1) || version == Some(sure),
                "{policy:?} after {operations}: {version:?}, though {sure} were written"
            );
        }
    }
}

#[test]
fn what_is_forgotten_cannot_be_crashed_and_the_rest_can() {
    let vfs = MemVfs::new();
    drop(create_synced(&vfs, "/a", b"a"));
    vfs.forget_operations();
    let forgotten = vfs.operations();
    drop(create_synced(&vfs, "/b", b"b"));
    let image = vfs.crash_image(forgotten, CrashPolicy::All);
    assert_eq!(image.list(path("/")).unwrap(), ["a"]);
    assert_eq!(vfs.crash_image(vfs.operations(), CrashPolicy::All).list(path("/")).unwrap(), ["a", "b"]);
    let early = std::panic::AssertUnwindSafe(|| vfs.crash_image(forgotten - 1, CrashPolicy::All));
    assert!(std::panic::catch_unwind(early).is_err());

    vfs.edit(path("/a"), |bytes| bytes[0] ^= 1).unwrap();
    assert_eq!(read(&vfs.crash_now(CrashPolicy::SyncedOnly), "/a").unwrap(), [b'a' ^ 1]);
}

#[test]
fn ten_thousand_operations_are_crashed_at_each() {
    let vfs = MemVfs::new();
    let mut log = create_synced(&vfs, "/log", b"");
    log.preallocate(1 << 20).unwrap();
    for i in 0..5000u32 {
        log.append(&i.to_le_bytes()).unwrap();
        log.sync().unwrap();
    }
    assert!(vfs.operations() > 10_000);
    for operations in 5..vfs.operations() {
        let image = vfs.crash_image(operations, CrashPolicy::Subset(operations as u64));
        let log = image.open_read(path("/log")).unwrap();
        let synced = (operations - 4) / 2;
        if synced > 0 {
            let mut last = [0; 4];
            log.read_exact_at(&mut last, (synced as u64 - 1) * 4).unwrap();
            assert_eq!(u32::from_le_bytes(last), synced as u32 - 1);
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Create(u8),
    Append(u8, u16),
    Preallocate(u8, u16),
    Trim(u8),
    Sync(u8),
    Lose(u8),
    Rename(u8, u8),
    Remove(u8),
    SyncDir,
}

fn step() -> impl Strategy<Value = Step> {
    let name = || 0..4u8;
    prop_oneof![
        2 => name().prop_map(Step::Create),
        4 => (name(), 0..2000u16).prop_map(|(name, len)| Step::Append(name, len)),
        1 => (name(), 0..3000u16).prop_map(|(name, len)| Step::Preallocate(name, len)),
        1 => name().prop_map(Step::Trim),
        2 => name().prop_map(Step::Sync),
        1 => name().prop_map(Step::Lose),
        2 => (name(), name()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => name().prop_map(Step::Remove),
        2 => Just(Step::SyncDir),
    ]
}

/// What is known of a file: all bytes it was ever given are made from its number, so that they can be told from others.
#[derive(Debug, Clone, Default)]
struct Known {
    /// Bytes on stable storage for sure.
    synced: usize,
    written: usize,
    len: usize,
    /// The failed sync may have taken bytes before this.
    lost: usize,
    /// From which the length may be anywhere up to `len_max`.
    len_min: usize,
    len_max: usize,
}

/// What is known of the directory: the durable names, and which file each name has stood for since.
#[derive(Debug, Clone, Default)]
struct Names {
    synced: BTreeMap<u8, usize>,
    live: BTreeMap<u8, usize>,
    since: BTreeMap<u8, BTreeSet<Option<usize>>>,
    /// Files that have been removed or replaced.
    gone: BTreeSet<usize>,
}

impl Names {
    fn set(&mut self, name: u8, file: Option<usize>) {
        let before = match file {
            Some(file) => self.live.insert(name, file),
            None => self.live.remove(&name),
        };
        self.since.entry(name).or_default().insert(before);
        self.since.entry(name).or_default().insert(file);
    }
}

fn byte(file: usize, at: usize) -> u8 {
    1 + (file * 83 + at / 100 + at % 7) as u8 % 255
}

fn file_name(name: u8) -> String {
    format!("/f{name}")
}

#[derive(Default)]
struct Run {
    vfs: Option<Arc<MemVfs>>,
    files: Vec<(Box<dyn WritableFile + 'static>, Known)>,
    names: Names,
}

impl Run {
    fn step(&mut self, step: &Step) {
        let vfs = Arc::clone(self.vfs.as_ref().unwrap());
        let file_of = |names: &Names, name: &u8| names.live.get(name).copied();
        match step {
            Step::Create(name) => {
                if let Ok(file) = vfs.create_new(path(&file_name(*name))) {
                    self.names.set(*name, Some(self.files.len()));
                    self.files.push((file, Known::default()));
                }
            }
            Step::Rename(from, to) => {
                if vfs.rename(path(&file_name(*from)), path(&file_name(*to))).is_ok() && from != to {
                    let file = file_of(&self.names, from);
                    self.names.gone.extend(file_of(&self.names, to));
                    self.names.set(*from, None);
                    self.names.set(*to, file);
                }
            }
            Step::Remove(name) => {
                if vfs.remove_file(path(&file_name(*name))).is_ok() {
                    self.names.gone.extend(file_of(&self.names, name));
                    self.names.set(*name, None);
                }
            }
            Step::SyncDir => {
                vfs.sync_dir(path("/")).unwrap();
                self.names.synced = self.names.live.clone();
                self.names.since.clear();
                self.names.gone.clear();
            }
            Step::Append(name, _)
            | Step::Preallocate(name, _)
            | Step::Trim(name)
            | Step::Sync(name)
            | Step::Lose(name) => {
                if let Some(number) = file_of(&self.names, name) {
                    let (file, known) = &mut self.files[number];
                    known.step(number, &mut **file, step);
                }
            }
        }
    }
}

impl Known {
    fn step(&mut self, number: usize, file: &mut dyn WritableFile, step: &Step) {
        match step {
            Step::Append(_, len) => {
                let end = self.written + usize::from(*len);
                let bytes: Vec<u8> = (self.written..end).map(|at| byte(number, at)).collect();
                file.append(&bytes).unwrap();
                self.written = end;
                self.len = self.len.max(end);
            }
            Step::Preallocate(_, len) => {
                file.preallocate((*len).into()).unwrap();
                self.len = self.len.max((*len).into());
            }
            Step::Trim(_) => {
                file.trim().unwrap();
                self.len = self.written;
            }
            Step::Sync(_) => {
                file.sync().unwrap();
                // Behind a failed sync, only what was written since is sure.
                self.synced = if self.lost > self.synced { self.synced } else { self.written };
                (self.len_min, self.len_max) = (self.len, self.len);
            }
            Step::Lose(_) => {
                file.syncer().lose_unsynced();
                self.lost = self.lost.max(self.written);
            }
            _ => unreachable!("not of a file"),
        }
        self.len_min = self.len_min.min(self.len);
        self.len_max = self.len_max.max(self.len);
    }

    /// Whether a crash may leave these bytes.
    fn check(&self, number: usize, bytes: &[u8]) -> Result<(), TestCaseError> {
        prop_assert!((self.len_min..=self.len_max).contains(&bytes.len()), "{} bytes of {self:?}", bytes.len());
        for (at, &found) in bytes.iter().enumerate() {
            let written = at < self.written && found == byte(number, at);
            prop_assert!(written || (found == 0 && at >= self.synced), "file {number}: {found} at {at} of {self:?}");
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    /// Every image holds what was synced, nothing that was never written, and each file under a name that it had; and the image of an
    /// earlier operation, made later, is the one that was made then.
    #[test]
    fn images_keep_what_is_durable(steps in prop::collection::vec(step(), 1..40), seed: u64) {
        let policies = [
            CrashPolicy::SyncedOnly,
            CrashPolicy::All,
            CrashPolicy::TornLast,
            CrashPolicy::Subset(seed),
            CrashPolicy::Subset(seed ^ 1),
            CrashPolicy::Subset(seed ^ 2),
        ];
        let mut run = Run { vfs: Some(MemVfs::new()), ..Run::default() };
        let vfs = Arc::clone(run.vfs.as_ref().unwrap());
        let mut made = Vec::new();
        for step in &steps {
            run.step(step);
            for policy in policies {
                let image = vfs.crash_now(policy);
                let mut found = BTreeSet::new();
                let mut contents = Vec::new();
                for name in 0..4 {
                    let bytes = read(&image, &file_name(name));
                    contents.push(bytes.clone());
                    let may_be = run.names.since.get(&name).cloned();
                    let may_be = may_be.unwrap_or_else(|| BTreeSet::from([run.names.synced.get(&name).copied()]));
                    let fits = |file: &Option<usize>| match (file, &bytes) {
                        (None, None) => Ok(()),
                        (&Some(file), Some(bytes)) => run.files[file].1.check(file, bytes),
                        _ => Err(TestCaseError::fail("there, or not there")),
                    };
                    let which: Vec<_> = may_be.iter().map(|file| (file, fits(file))).collect();
                    prop_assert!(which.iter().any(|(_, fits)| fits.is_ok()), "{policy:?}, name {name}: {which:?}");
                    found.extend(which.iter().filter(|(_, fits)| fits.is_ok()).filter_map(|(file, _)| **file));
                }
                for file in run.names.synced.values().filter(|file| !run.names.gone.contains(file)) {
                    prop_assert!(found.contains(file), "{policy:?}: no name is left of file {file}");
                }
                if policy == CrashPolicy::All {
                    let live: Vec<_> = (0..4).map(|name| read(&vfs, &file_name(name))).collect();
                    prop_assert_eq!(&live, &contents);
                }
                made.push((vfs.operations(), policy, contents));
            }
        }
        for (operations, policy, contents) in made {
            let image = vfs.crash_image(operations, policy);
            let again: Vec<_> = (0..4).map(|name| read(&image, &file_name(name))).collect();
            prop_assert_eq!(again, contents);
        }
    }
}
