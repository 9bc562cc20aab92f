//! One measurement, in a process of its own: load and settle, measure, settle and verify.

use crate::args::{Compression, DurabilityLevel, Settings, StoreName};
use crate::meter::Latency;
use crate::plan::Room;
use crate::state::State;
use crate::store::{self, Store};
use crate::work::{self, Done};
use crate::workload::Workload;
use crate::{Result, data, memory_limit, model, process, reopen};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What a child process is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// What to measure.
    pub workload: Workload,
    /// On which store.
    pub store: StoreName,
    /// Which time this is, from 0.
    pub repetition: u32,
    /// How.
    pub settings: Settings,
    /// What memory the store has: what that means is in the settings and in `memory_limit`.
    pub room: Room,
    /// What the keyspace is called in the report; what is done about it is in the settings.
    pub state: State,
    /// An empty directory, or one that `is_loaded`.
    pub dir: PathBuf,
    /// The directory has all keys in it, from a store that was closed in order; the load is left out.
    pub is_loaded: bool,
    /// The control group to measure in.
    pub memory_limit: Option<PathBuf>,
}

/// What a child process found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// What was measured.
    pub workload: Workload,
    /// On which store.
    pub store: StoreName,
    /// Which time this was, from 0.
    pub repetition: u32,
    /// Threads that shared the operations.
    pub threads: usize,
    /// Codec of the tables.
    pub compression: Compression,
    /// What acknowledged writes survive.
    pub durability: DurabilityLevel,
    /// What memory the store had.
    #[serde(default)]
    pub room: Room,
    /// What its keyspace was like.
    #[serde(default)]
    pub state: State,
    /// The most memory that its control group used at a time, caches of files and the load included; absent where there was none.
    #[serde(default)]
    pub group_peak_bytes: Option<u64>,
    /// Operations: entries for fills and walks, calls otherwise.
    pub operations: u64,
    /// How long they took together.
    pub seconds: f64,
    /// One by the other.
    pub ops_per_second: f64,
    /// Absent for walks.
    pub latency: Option<Latency>,
    /// Keys and values that the workload wrote, in bytes.
    pub user_bytes: u64,
    /// Bytes written from its start until background work had settled: the larger of what the store and what the system counted.
    pub written_bytes: Option<u64>,
    /// Written bytes by user bytes; absent for workloads that only read.
    pub write_amplification: Option<f64>,
    /// Keys and values there at the end, in bytes.
    pub live_bytes: u64,
    /// Space that the directory took when background work had settled.
    pub disk_bytes: u64,
    /// One by the other; absent if nothing is left.
    pub space_amplification: Option<f64>,
    /// Peak of the resident memory during the measurement, mapped files included.
    pub peak_memory_bytes: Option<u64>,
    /// Resident memory without files at its end.
    pub heap_bytes: Option<u64>,
    /// Processor time of all threads during the measurement.
    pub cpu_seconds: Option<f64>,
    /// How long background work went on after it.
    pub settle_seconds: f64,
    /// Whether `--seconds` ended it before all operations were done.
    pub is_cut_short: bool,
    /// Acknowledged entries that were gone after `kill -9`; `openkill` and `openkillfull` only.
    pub lost_entries: Option<u64>,
    /// How often another write came between, and it was run again; `transact` and `compareandswap` only.
    #[serde(default)]
    pub conflicts: Option<u64>,
}

/// Runs a job given as JSON, and prints the sample as one line of JSON.
///
/// # Errors
/// The store's; a value or a count that is not what it must be.
pub fn run_child(job: &str) -> Result<()> {
    let job: Job = serde_json::from_str(job)?;
    if let Some(group) = &job.memory_limit {
        memory_limit::join(group)?;
    }
    let sample = run(&job)?;
    println!("{}", serde_json::to_string(&sample)?);
    Ok(())
}

/// Calls a function that is generic over the store by the store's name.
macro_rules! dispatch {
    ($name:expr, $($function:ident)::+, $job:expr) => {
        match $name {
            StoreName::Esker => $($function)::+::<store::Esker>($job),
            #[cfg(feature = "rivals")]
            StoreName::Fjall => $($function)::+::<store::Fjall>($job),
            #[cfg(feature = "rivals")]
            StoreName::Redb => $($function)::+::<store::Redb>($job),
            #[cfg(feature = "rivals")]
            StoreName::Sled => $($function)::+::<store::Sled>($job),
            #[cfg(feature = "rivals")]
            StoreName::SurrealKv => $($function)::+::<store::SurrealKv>($job),
            #[cfg(feature = "native")]
            StoreName::RocksDb => $($function)::+::<store::RocksDb>($job),
            #[cfg(feature = "native")]
            StoreName::Lmdb => $($function)::+::<store::Lmdb>($job),
            #[cfg(not(all(feature = "rivals", feature = "native")))]
            other => Err(not_built_in(other)),
        }
    };
}

/// Runs a job in this process.
///
/// # Errors
/// As [`run_child`].
pub fn run(job: &Job) -> Result<Sample> {
    dispatch!(job.store, run_on, job)
}

/// Fills the store of a job given as JSON, for another process to kill this one.
///
/// # Errors
/// The store's.
pub fn fill(job: &str) -> Result<()> {
    let job: Job = serde_json::from_str(job)?;
    dispatch!(job.store, reopen::fill, &job)
}

/// Says no before anything is measured.
///
/// # Errors
/// The store is not built in.
pub fn check_built_in(store: StoreName) -> Result<()> {
    if store.is_built_in() { Ok(()) } else { Err(not_built_in(store)) }
}

/// What to do about a store that is not there.
fn not_built_in(store: StoreName) -> crate::Error {
    format!("{store} is not built in; use `cargo xtask bench --store {store} ..`, or the feature `rivals` or `native`")
        .into()
}

fn run_on<S: Store>(job: &Job) -> Result<Sample> {
    let Job { workload, store: name, .. } = *job;
    let mut settings = job.settings.clone();
    if workload == Workload::FillSync {
        settings.durability = DurabilityLevel::Sync;
    }
    let job = &Job { settings, ..job.clone() };
    match workload {
        Workload::OpenKill | Workload::OpenKillFull => {
            if workload.needs_load() && !job.is_loaded {
                loaded::<S>(job)?.close()?;
            }
            let start = Start::now(None::<&S>);
            let reopened = reopen::open_killed::<S>(job)?;
            let sample = start.finish(job, reopened.store, reopened.done)?;
            Ok(Sample { lost_entries: Some(reopened.lost), ..sample })
        }
        Workload::Open => {
            if !job.is_loaded {
                loaded::<S>(job)?.close()?;
            }
            let start = Start::now(None::<&S>);
            let done = reopen::open::<S>(&job.dir, &job.settings)?;
            start.finish(job, S::open(&job.dir, &job.settings)?, done)
        }
        _ => {
            let store = if workload.needs_load() { loaded::<S>(job)? } else { S::open(&job.dir, &job.settings)? };
            model::prepare(&store, workload, &job.settings)?;
            model::check_layers(&store, workload, &job.settings)?;
            let start = Start::now(Some(&store));
            let done = work::run(&store, workload, &job.settings)?;
            model::check_layers(&store, workload, &job.settings)?;
            start.finish(job, store, done)
        }
    }
    .map_err(|error| format!("{workload} on {name}: {error}").into())
}

/// A store with what `job` finds there, at rest.
fn loaded<S: Store>(job: &Job) -> Result<S> {
    let store = S::open(&job.dir, &job.settings)?;
    if !job.is_loaded {
        match job.workload.is_of_model() {
            true => model::load(&store, job.workload, &job.settings)?,
            false => work::load(&store, job.workload, &job.settings)?,
        }
    }
    if job.workload.is_over_a_hole() {
        // What is in memory and what is not is settled.
    } else if job.settings.flush_after_load || job.workload.opens() {
        store.flush()?;
    }
    store::settle(&store, &job.settings)?;
    Ok(store)
}

/// The moment before a measurement.
struct Start {
    used: Usage,
}

impl Start {
    fn now(store: Option<&impl Store>) -> Self {
        process::reset_peak_memory();
        Self { used: Usage::now(store) }
    }

    /// Waits until the store has settled, verifies it and closes it.
    fn finish(self, job: &Job, store: impl Store, done: Done) -> Result<Sample> {
        let Job { workload, ref settings, .. } = *job;
        let (peak_memory_bytes, heap_bytes) = (process::peak_memory_bytes(), process::heap_bytes());
        let cpu_seconds = process::cpu_seconds().zip(self.used.cpu_seconds).map(|(now, before)| now - before);
        let settling = Instant::now();
        store::settle(&store, settings)?;
        let settle_seconds = settling.elapsed().as_secs_f64();
        let written_bytes = Usage::now(Some(&store)).written_since(&self.used);
        let disk_bytes = process::disk_bytes(&job.dir)?;
        let found = match workload.is_of_model() {
            true => model::verify(&store, workload, settings, done.measured.operations)?,
            false => work::verify(&store, settings)?,
        };
        if found != done.keys {
            return Err(format!("{found} entries are there, expected {}", done.keys).into());
        }
        store.close()?;

        let Done { measured, keys, conflicts } = done;
        let value_bytes = model::value_bytes(workload, settings);
        let entry_bytes = (data::KEY_BYTES + value_bytes) as u64;
        let user_bytes = match workload {
            Workload::DeleteRandom => measured.operations * data::KEY_BYTES as u64,
            Workload::DeleteRanges => measured.operations * 2 * data::KEY_BYTES as u64,
            workload if workload.writes() => measured.operations * entry_bytes,
            _ => 0,
        };
        let live_bytes = keys * entry_bytes;
        let over = |bytes: u64, user: u64| (user > 0).then(|| bytes as f64 / user as f64);
        Ok(Sample {
            workload,
            store: job.store,
            repetition: job.repetition,
            threads: settings.threads,
            compression: settings.compression,
            durability: settings.durability,
            room: job.room,
            state: job.state,
            group_peak_bytes: None,
            operations: measured.operations,
            seconds: measured.time.as_secs_f64(),
            ops_per_second: measured.operations as f64 / measured.time.as_secs_f64().max(1e-9),
            latency: measured.latency,
            user_bytes,
            written_bytes,
            write_amplification: written_bytes.and_then(|written| over(written, user_bytes)),
            live_bytes,
            disk_bytes,
            space_amplification: over(disk_bytes, live_bytes),
            peak_memory_bytes,
            heap_bytes,
            cpu_seconds,
            settle_seconds,
            is_cut_short: measured.is_cut_short,
            lost_entries: None,
            conflicts,
        })
    }
}

/// What had been used up at a moment.
struct Usage {
    written_by_store: Option<u64>,
    written_by_process: Option<u64>,
    cpu_seconds: Option<f64>,
}

impl Usage {
    fn now(store: Option<&impl Store>) -> Self {
        Self {
            written_by_store: store.and_then(Store::written_bytes),
            written_by_process: process::written_bytes(),
            cpu_seconds: process::cpu_seconds(),
        }
    }

    /// The store may leave something out (its manifest), and so may the system (what goes into mapped files): the larger count is the nearer.
    fn written_since(&self, before: &Self) -> Option<u64> {
        let since = |now: Option<u64>, before: Option<u64>| now.zip(before).map(|(now, before)| now - before);
        let by_store = since(self.written_by_store, before.written_by_store);
        by_store.max(since(self.written_by_process, before.written_by_process))
    }
}

/// The directory of a job must be new, since what is found there would be measured with it.
///
/// # Errors
/// It can't be made.
pub fn fresh_dir(parent: Option<&Path>) -> Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("esker-bench-");
    Ok(match parent {
        None => builder.tempdir()?,
        Some(parent) => {
            std::fs::create_dir_all(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
            builder.tempdir_in(parent)?
        }
    })
}
