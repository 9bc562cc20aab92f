//! How long opening takes: after a close in order, and after `kill -9`.
//!
//! ```text
//! open       load, flush, close | open, get | close | open, get | ..
//! openkill   a process of its own: put 40 MiB in batches of 100, say so, wait -> kill -9
//!            | open, get |  count what is there
//! openkillfull   load, flush, close, and the same with keys behind those that are there
//! ```
//!
//! For those that kill the memtable is made large enough that none is flushed: what is timed is the recovery of the log. The system's caches are warm for all, as they are when a
//! program is restarted.

use crate::Result;
use crate::args::Settings;
use crate::data::{self, Checker, Order};
use crate::job::Job;
use crate::meter::{Meter, Pace, measure};
use crate::store::Store;
use crate::work::{Done, put_batches, verify};
use crate::workload::{BATCH_ENTRIES, KILLED_BYTES, OPENS, Workload};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const PACE: Pace = Pace { threads: 1, timed_every: 1, time_max: Duration::from_secs(1 << 30) };
/// The order of the keys that are lost if the log is.
const KILLED_ORDER: u64 = 3;

/// Opens what lies in `dir` and gets entry `index`; five times.
///
/// # Errors
/// The store's; the entry is not there.
pub fn open<S: Store>(dir: &Path, settings: &Settings) -> Result<Done> {
    let measured = measure(&PACE, |_, meter| {
        for nth in 0..OPENS {
            open_and_get::<S>(dir, settings, nth * settings.num / OPENS, meter)?.close()?;
        }
        Ok(())
    })?;
    Ok(Done { measured, keys: settings.num, conflicts: None })
}

fn open_and_get<S: Store>(dir: &Path, settings: &Settings, index: u64, meter: &mut Meter) -> Result<S> {
    let checker = Checker::new(settings.value_bytes);
    let key = data::key(index);
    let (store, found) = meter.call(1, || {
        let store = S::open(dir, settings)?;
        let found = store.get(&key, |value| checker.check(index, value))?;
        Ok::<_, crate::Error>((store, found))
    })?;
    found.ok_or_else(|| format!("entry {index} is not there"))??;
    Ok(store)
}

/// What is there before the kill.
struct Killed {
    /// No memtable fills up.
    settings: Settings,
    /// Entries in tables: the first ones.
    base: u64,
    /// Entries in the log: as many as make 40 MiB, behind the others.
    filled: u64,
}

impl Killed {
    fn of(job: &Job) -> Self {
        let settings = &job.settings;
        let entry_bytes = (data::KEY_BYTES + settings.value_bytes) as u64;
        Self {
            settings: Settings {
                memtable_mib: settings.memtable_mib.max((8 * KILLED_BYTES) >> 20),
                ..settings.clone()
            },
            base: if job.workload == Workload::OpenKillFull { settings.num } else { 0 },
            // A small run stays small.
            filled: (KILLED_BYTES / entry_bytes).min(settings.num).max(1),
        }
    }

    /// The entries in the log, in the order in which they were put.
    fn entry_at(&self) -> impl Fn(u64) -> u64 + Sync + use<> {
        let (base, order) = (self.base, Order::new(self.filled, KILLED_ORDER));
        move |place| base + order.at(place)
    }
}

/// What `openkill` or `openkillfull` found.
pub struct Reopened<S> {
    /// The store, open.
    pub store: S,
    /// The one open, and how many keys are there.
    pub done: Done,
    /// Acknowledged entries that are gone.
    pub lost: u64,
}

/// Has a process fill `job.dir`, kills it, and opens what is left.
///
/// # Errors
/// The store's; it lost what it promises to keep.
pub fn open_killed<S: Store>(job: &Job) -> Result<Reopened<S>> {
    let killed = Killed::of(job);
    let settings = &killed.settings;
    let filled = fill_and_kill(job)?;
    let promised = job.store.keeps_at_kill(settings.durability);
    let index = killed.entry_at()(0);
    let opened = std::sync::Mutex::new(None);
    let measured = measure(&PACE, |_, meter| {
        let store = if promised {
            open_and_get::<S>(&job.dir, settings, index, meter)?
        } else {
            meter.call(1, || {
                let store = S::open(&job.dir, settings)?;
                store.get(&data::key(index), |_| ())?;
                Ok::<_, crate::Error>(store)
            })?
        };
        *opened.lock().expect("nobody else locks it") = Some(store);
        Ok(())
    })?;
    let store = opened.into_inner().expect("no thread panicked").expect("it was opened above");
    let keys = verify(&store, settings)?;
    if keys < killed.base {
        return Err(
            format!("{} of {} entries are gone that were closed in order", killed.base - keys, killed.base).into()
        );
    }
    let lost = filled.saturating_sub(keys - killed.base);
    if promised && lost > 0 {
        return Err(format!("{lost} of {filled} acknowledged entries are gone after kill -9").into());
    }
    Ok(Reopened { store, done: Done { measured, keys, conflicts: None }, lost })
}

fn fill_and_kill(job: &Job) -> Result<u64> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("--fill")
        .arg(serde_json::to_string(job)?)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let stdout = child.stdout.take().expect("it is piped");
    let read = BufReader::new(stdout).read_line(&mut line);
    // SIGKILL: no handler runs, no buffer of the process is written.
    child.kill()?;
    child.wait()?;
    read?;
    line.trim().parse().map_err(|_| "the process that fills the store ended early".into())
}

/// Fills the store, says how many entries it has acknowledged, and waits to be killed.
///
/// # Errors
/// The store's; nobody killed this process within a minute.
pub fn fill<S: Store>(job: &Job) -> Result<()> {
    let killed = Killed::of(job);
    let settings = &killed.settings;
    let store = S::open(&job.dir, settings)?;
    let entry_at = killed.entry_at();
    measure(&PACE, |_, meter| put_batches(&store, settings, &entry_at, 0..killed.filled, BATCH_ENTRIES, meter))?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", killed.filled)?;
    out.flush()?;
    std::thread::sleep(Duration::from_secs(60));
    Err("nobody ended this process".into())
}
