//! The last append, torn in every way: cut at every byte, and with every subset of up to eight of its sectors.
//!
//! ```text
//! before   |== records ==|...... zeros, or what the file held as an earlier log ......|
//! after    |== records ==|====== append ======|mark|..................................|
//! cut      |== records ==|====== app|.................................................|    at each byte
//! subset   |== records ==|======|....|========|.......................................|    each sector as before or as after
//! ```
//! *Append* is what the last write of a made-up run has brought to one log: the kernel had all that came before, so it must be there. *Tail* is what of that log is not
//! synced at the end, of however many writes: what was synced must be there.

use crate::driver::copy;
use crate::logs::logs_of;
use crate::options;
use crate::sweep::{Allowed, Context, Counts, Run, record};
use esker::Options;
use esker::vfs::{CrashPolicy, MemVfs, read_file};
use esker_testkit::model::{Change, Level, Mix, Op, SPACES, Terms, Write, seeded_ops};
use esker_testkit::random::Random;
use esker_testkit::stress;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

const SECTOR_BYTES: usize = 512;
/// Of a log; see docs/format/wal.md.
const HEADER_BYTES: usize = 64;
const MAGIC_BYTES: usize = 8;
/// So many sectors are there or not in every combination.
const SECTORS_MAX: usize = 8;

/// So many zeros are left of what is allocated ahead.
const ZEROS_BYTES: usize = 4 << 10;

type Logs = BTreeMap<PathBuf, Vec<u8>>;

fn logs(vfs: &MemVfs) -> Logs {
    logs_of(vfs).into_iter().map(|path| (path.clone(), read_file(vfs, &path, 1 << 30).unwrap())).collect()
}

/// Some operations, then a write whose record reaches over up to about eight sectors: alone, gathered with some before it, behind a flush, which begins a log, or first after opening.
fn ops(random: &mut Random) -> Vec<Op> {
    let mut ops = seeded_ops(Mix::Writes, random.index(30), random.next());
    // What fills memtables, flushed by steps: only so are logs made of earlier ones.
    for _ in 0..random.below(3) * 8 {
        let large = (0, b"large".to_vec(), Change::Put(2_000 + random.index(2_000)));
        ops.extend([Op::Write(Terms { level: Level::Os, ttl: None }, vec![large]), Op::Work(3)]);
    }
    match random.below(6) {
        0 => ops.push(Op::Flush),
        1 => ops.push(Op::Reopen),
        2 => ops.push(Op::Sync),
        3 => ops.extend((0..3).map(|_| write(random, Level::Memory))),
        _ => {}
    }
    let level = *random.pick(&[Level::Memory, Level::Os, Level::Os, Level::Sync]);
    ops.push(write(random, level));
    ops
}

/// A batch of puts and deletions, of a size that is often small.
fn write(random: &mut Random, level: Level) -> Op {
    let mut bytes = *random.pick(&[20, 100, 480, 520, 1_000, 1_500, 3_600]);
    let mut writes: Vec<Write> = Vec::new();
    while bytes > 0 {
        let len = random.below(bytes + 1) as usize;
        let key = format!("torn{:02}", random.below(20)).into_bytes();
        let change = if random.one_in(5) { Change::Delete } else { Change::Put(len) };
        writes.push((random.index(SPACES), key, change));
        bytes = bytes.saturating_sub(len as u64 + 16);
    }
    Op::Write(Terms { level, ttl: None }, writes)
}

/// Bytes of a log that may be there in part.
struct Append {
    log: PathBuf,
    before: Vec<u8>,
    after: Vec<u8>,
    /// Where the two differ, and between.
    range: Range<usize>,
}

impl Append {
    /// `None` if they are the same.
    fn new(log: PathBuf, mut before: Vec<u8>, mut after: Vec<u8>) -> Option<Self> {
        // Zeros far behind all that was ever written are only read, again and again.
        let used = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let len = used(&before).max(used(&after)) + ZEROS_BYTES;
        before.truncate(len);
        after.truncate(len);
        let differs = |at: &usize| after[*at] != before.get(*at).copied().unwrap_or(0);
        let range = (0..after.len()).find(differs)?..(0..after.len()).rfind(differs)? + 1;
        Some(Self { log, before, after, range })
    }

    /// Of the last operation that wrote to a log, if it did nothing else before it could be torn.
    fn of_last_write(run: &Run) -> Option<Self> {
        let from = run.moments[run.moments.len() - 2].operations;
        let image = |operations| logs(&run.vfs.crash_image(operations, CrashPolicy::All));
        let mut states: Vec<Logs> = (from..=run.operations()).map(image).collect();
        let mut after = states.pop()?;
        let mut found: Option<(PathBuf, Vec<u8>)> = None;
        // What comes behind the last write are syncs; one before it ends what may be torn with it, and so does any change of names.
        while let Some(mut before) = states.pop() {
            let is_other = |log: &PathBuf| before.get(log) != after.get(log);
            let changed: Vec<&PathBuf> = after.keys().filter(|log| is_other(log)).collect();
            match &changed[..] {
                [] if found.is_none() => {}
                [log] if before.len() == after.len() && found.as_ref().is_none_or(|(found, _)| found == *log) => {
                    let log = PathBuf::clone(log);
                    let bytes = before.remove(&log)?;
                    before.insert(log.clone(), bytes.clone());
                    found = Some((log, bytes));
                }
                _ => break,
            }
            after = before;
        }
        let (log, before) = found?;
        let after = image(run.operations()).remove(&log)?;
        Self::new(log, before, after)
    }

    /// Of the newest log all that is not synced.
    fn tail(run: &Run) -> Option<Self> {
        let (log, after) = logs(&run.vfs.crash_image(run.operations(), CrashPolicy::All)).pop_last()?;
        let before = logs(&run.vfs.crash_image(run.operations(), CrashPolicy::SyncedOnly)).remove(&log)?;
        Self::new(log, before, after)
    }

    /// Its bytes up to `at`; where the file was not so long before, it ends there.
    ///
    /// Where a header is stored over an earlier one, the magic is taken away first and comes last. (A sector is never torn, so it takes the end of a process to see that.)
    fn cut(&self, at: usize) -> Vec<u8> {
        let mut bytes = [&self.after[..at], self.before.get(at..).unwrap_or_default()].concat();
        if at < HEADER_BYTES && bytes.len() >= HEADER_BYTES {
            if at < MAGIC_BYTES {
                bytes[MAGIC_BYTES..HEADER_BYTES].copy_from_slice(&self.after[MAGIC_BYTES..HEADER_BYTES]);
                bytes[at..MAGIC_BYTES].fill(0);
            } else {
                bytes[..MAGIC_BYTES].fill(0);
            }
        }
        bytes
    }

    /// Each sector that it reaches into.
    fn sectors(&self) -> Range<usize> {
        self.range.start / SECTOR_BYTES..self.range.end.div_ceil(SECTOR_BYTES)
    }

    /// Of the sectors from `first` on those that `kept` has a bit for, of the others all or none.
    fn subset(&self, first: usize, kept: usize, others: bool) -> Vec<u8> {
        let mut bytes = self.before.clone();
        bytes.resize(self.before.len().max(self.after.len()), 0);
        for sector in self.sectors() {
            let nth = sector.wrapping_sub(first);
            if if nth < SECTORS_MAX { kept >> nth & 1 == 1 } else { others } {
                let range = sector * SECTOR_BYTES..((sector + 1) * SECTOR_BYTES).min(self.after.len());
                bytes[range.clone()].copy_from_slice(&self.after[range]);
            }
        }
        bytes
    }
}

/// Opens every image in which the append is torn, and one that has all of it.
fn tear(run: &Run, torn: &Torn, counts: &mut Counts) {
    let Torn { what, append, from } = torn;
    let from = *from;
    let whole = copy(&run.vfs.crash_image(run.operations(), CrashPolicy::All));
    let [.., before, last] = &run.moments[..] else { panic!("a run has two moments") };
    let mut nth = 0;
    let mut open = |bytes: Vec<u8>, allowed: &Allowed<'_>, how: String| {
        let _context = Context(format!("{what} in {}, {:?}: {how}", append.log.display(), append.range));
        let image = copy(&whole);
        image.edit(&append.log, |all| *all = bytes).unwrap();
        run.check_image(&image, allowed, nth % 1024 == 1023, counts);
        nth += 1;
    };
    let in_part = Allowed { from, to: last.commits, look: last.look, living: vec![&before.living, &last.living] };
    let begin = if append.range.start < HEADER_BYTES { 0 } else { append.range.start };
    // The parts of what several writes have brought have each been the last append of some run.
    let step = if *what == "tail" { SECTOR_BYTES } else { 1 };
    for at in (begin..append.range.end).step_by(step) {
        open(append.cut(at), &in_part, format!("cut at {at}"));
    }
    let sectors = append.sectors();
    // Of more than eight, the first and the last eight.
    let windows = [sectors.start, sectors.end.saturating_sub(SECTORS_MAX).max(sectors.start)];
    let windows = &windows[..if sectors.len() > SECTORS_MAX { 2 } else { 1 }];
    for &first in windows {
        for kept in 0..1 << sectors.len().min(SECTORS_MAX) {
            for others in if windows.len() > 1 { &[false, true][..] } else { &[true] } {
                open(
                    append.subset(first, kept, *others),
                    &in_part,
                    format!("from {first} on {kept:b}, others {others}"),
                );
            }
        }
    }
    let all = Allowed { from: last.pushed, living: vec![&last.living], ..in_part };
    open(append.after.clone(), &all, "whole".into());
}

fn options_of(random: &mut Random) -> Options {
    let mut options = random.pick(&options::by_hand()).clone();
    // So that logs are changed often, and used again.
    options.wal_bytes_max = *random.pick(&[8 << 10, 32 << 10]);
    options.wal_retain_bytes = options.wal_retain_bytes.filter(|_| random.one_in(2));
    options
}

/// What of a run can be torn, and up to which commit all must be there then.
struct Torn {
    what: &'static str,
    append: Append,
    from: usize,
}

/// A run from a seed, and what of it can be torn.
fn torn_run(seed: u64) -> (Run, Vec<Torn>) {
    let mut random = Random::new(seed);
    let options = options_of(&mut random);
    let run = record(&ops(&mut random), options);
    let [.., before, last] = &run.moments[..] else { panic!("a run has two moments") };
    let appends = [("append", Append::of_last_write(&run), before.pushed), ("tail", Append::tail(&run), last.synced)];
    let torn = appends.into_iter().filter_map(|(what, append, from)| Some(Torn { what, append: append?, from }));
    let torn = torn.collect();
    (run, torn)
}

#[test]
fn the_last_append_torn_in_every_way() {
    for round in stress::rounds("torn", 2) {
        let _context = Context(format!("run {}", round.seed()));
        let (run, torn) = torn_run(round.seed());
        let mut counts = Counts::default();
        torn.iter().for_each(|torn| tear(&run, torn, &mut counts));
        round.tried((counts.images + counts.nested) as u64);
    }
}

/// What is torn is worth it: among few runs there is each kind of append.
#[test]
fn all_kinds_of_appends_are_torn() {
    let mut seen = [
        ("a log's first bytes", 0),
        ("over an earlier log's", 0),
        ("over many sectors", 0),
        ("of one", 0),
        ("behind the file's end", 0),
    ];
    let mut appends = 0;
    for seed in 0..60 {
        for Torn { append, .. } in torn_run(seed).1 {
            let range = append.range.clone();
            let is_so = [
                range.start < HEADER_BYTES,
                append
                    .before
                    .get(range.start.max(HEADER_BYTES)..)
                    .is_some_and(|there| there.iter().any(|byte| *byte != 0)),
                append.sectors().len() > SECTORS_MAX,
                append.sectors().len() == 1,
                append.before.len() < range.end,
            ];
            seen.iter_mut().zip(is_so).for_each(|((_, count), is_so)| *count += usize::from(is_so));
            appends += 1;
        }
    }
    println!("{appends} appends: {seen:?}");
    assert!(seen.iter().all(|(_, count)| *count >= 4), "of {appends}: {seen:?}");
}
