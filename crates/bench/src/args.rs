//! The command line.

use crate::scale;
use crate::state::State;
use crate::workload::Workload;
use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// Workloads in the manner of db_bench, each in a process and a fresh directory of its own.
#[derive(Debug, Clone, Parser)]
#[command(name = "esker-bench", version)]
pub struct Args {
    /// What to measure; everything that does not take very long if nothing is named.
    #[arg(value_name = "WORKLOAD", value_delimiter = ',')]
    named: Vec<Workload>,
    /// The same, as an option.
    #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
    workloads: Vec<Workload>,
    /// Which stores to measure; their repetitions take turns. `cargo xtask bench` builds in what is named here.
    #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
    store: Vec<StoreName>,
    /// Short for `--store esker,fjall`.
    #[arg(long)]
    fjall: bool,
    /// Esker beside all stores that are built in, row by row with goals, as Markdown, JSON and an HTML page with charts; also with other codecs and durability levels. Sizes,
    /// codec and durability asked for hold for the first section. Loads are flushed, and a measurement ends after `--seconds`, 30 if not given.
    #[arg(long)]
    pub compare: bool,
    /// How stores do as data grows: ten million keys if `--num` does not say otherwise, more threads, less cache and memory than data, ten times the data
    /// overwritten, opening. Reports as `--compare` does. Measurements end after `--seconds`, 60 if not given, loads never.
    #[arg(long, conflicts_with_all = ["compare", "quick"])]
    pub scale: bool,
    /// With RocksDB and LMDB; `cargo xtask bench` builds them, which needs clang, libclang and cmake.
    #[arg(long)]
    native: bool,
    /// A hundred thousand keys, at most 5 seconds each, one repetition: to see that all of it works.
    #[arg(long, conflicts_with_all = ["num", "seconds", "repeat"])]
    quick: bool,
    /// How many keys there are; a million if not given.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    num: Option<u64>,
    /// Threads that share the operations; each walks over everything. Of several numbers each is measured; 1 if not given, 1,2,4,8,16 for `--scale`.
    #[arg(long, value_name = "A,B,C", value_delimiter = ',', value_parser = parse_threads)]
    threads: Vec<usize>,
    /// Measure within a control group that has this much memory, caches of files included, in MiB. With `--scale` some rows only; a quarter of the data if not given.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(32..=1 << 30))]
    memory_limit: Option<u64>,
    /// What the keyspace of Esker is like: each named is measured. Of the workloads that use more of the data model than keys only those that run on any keyspace.
    #[arg(long, value_name = "A,B,C", value_enum, value_delimiter = ',')]
    keyspace: Vec<State>,
    /// What and how.
    #[command(flatten)]
    settings: Settings,
    /// How often to measure each; the table shows medians. 3 for `--compare`, else 1, if not given.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: Option<u32>,
    /// Where to make the directories; the system's folder for temporary files if not given.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Write all samples as JSON to this file; `-` is the standard output, in place of the table.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the rows as Markdown to this file.
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Write one self-contained page with charts to this file.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Where `--compare` and `--scale` write `report.md`, `report.json` and `report.html`; `docs/bench/<date>-<commit>` if not given, with `-scale-<num>` for the latter.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// One measurement, in a child process.
    #[arg(long, hide = true)]
    pub job: Option<String>,
    /// Fills a store and waits to be killed.
    #[arg(long, hide = true)]
    pub fill: Option<String>,
}

/// What all measurements of a run have in common.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize)]
pub struct Settings {
    /// How many keys there are.
    #[arg(skip = NUM)]
    pub num: u64,
    /// Size of a value; half of it compresses away. Keys have 16 bytes.
    #[arg(long, default_value_t = 100, value_parser = parse_value_bytes)]
    pub value_bytes: usize,
    /// Threads that share the operations; each walks over everything.
    #[arg(skip = 1_usize)]
    pub threads: usize,
    /// What the keyspace is like.
    #[arg(skip)]
    #[serde(default)]
    pub state: State,
    /// Codec of the levels below the first two, which no store here compresses.
    #[arg(long, value_enum, default_value_t = Compression::Lz4)]
    pub compression: Compression,
    /// What writes survive: a clean close, `kill -9`, or power loss. `fillsync` always syncs.
    #[arg(long, value_enum, default_value_t = DurabilityLevel::Os)]
    pub durability: DurabilityLevel,
    /// Size at which a memtable is flushed.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    pub memtable_mib: u64,
    /// Size of the block cache.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub cache_mib: u64,
    /// Flush what the load left in memory, so that reads find all of it in tables. How much is left otherwise is up to how a store counts a memtable's bytes.
    #[arg(long)]
    pub flush_after_load: bool,
    /// End a measurement after this time, with what has been done by then; walks go to their end.
    #[arg(long)]
    pub seconds: Option<u64>,
    /// Writes in a second, at most, beside the reads of `readwhilewriting`.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub write_rate: u64,
}

/// How many keys there are where nothing else is said.
const NUM: u64 = 1_000_000;

fn parse_value_bytes(text: &str) -> Result<usize, String> {
    parse_within(text, 16, 1 << 20)
}

fn parse_threads(text: &str) -> Result<usize, String> {
    parse_within(text, 1, 1024)
}

fn parse_within(text: &str, min: usize, max: usize) -> Result<usize, String> {
    let number: usize = text.parse().map_err(|error| format!("{error}"))?;
    if (min..=max).contains(&number) { Ok(number) } else { Err(format!("must be {min} to {max}")) }
}

/// A store that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lower")]
pub enum StoreName {
    /// The engine of this workspace.
    Esker,
    /// RocksDB, with the feature `native`.
    RocksDb,
    /// LMDB, with the feature `native`.
    Lmdb,
    /// fjall 3, with the feature `rivals`; so are all that follow.
    Fjall,
    /// redb 4.
    Redb,
    /// sled 0.34.
    Sled,
    /// surrealkv 1.
    SurrealKv,
}

impl StoreName {
    /// Whether this program can measure it.
    pub fn is_built_in(self) -> bool {
        match self {
            Self::Esker => true,
            Self::RocksDb | Self::Lmdb => cfg!(feature = "native"),
            Self::Fjall | Self::Redb | Self::Sled | Self::SurrealKv => cfg!(feature = "rivals"),
        }
    }

    /// Whether it is measured by a workload in such a keyspace. Of what others have, what they have with the like meaning and by the type of store that other workloads use.
    pub fn has(self, workload: Workload, state: State) -> bool {
        use Workload::{DeleteRanges, Ingest, MergeRandom, MultiGet, ReadMerged, Transact};
        let by_state = !matches!(state, State::Operator | State::Beside | State::Expiring);
        let by_workload = match self {
            Self::Esker => return true,
            Self::RocksDb => {
                matches!(workload, MergeRandom | ReadMerged | DeleteRanges | MultiGet | Ingest)
                    || workload.is_over_a_hole()
            }
            Self::Lmdb | Self::Redb | Self::SurrealKv => workload == Transact,
            Self::Fjall | Self::Sled => false,
        };
        by_state && (by_workload || !workload.is_of_model())
    }

    /// Whether what it has acknowledged outlives `kill -9`.
    pub fn keeps_at_kill(self, durability: DurabilityLevel) -> bool {
        match self {
            Self::Redb | Self::Sled => durability == DurabilityLevel::Sync,
            _ => durability != DurabilityLevel::Memory,
        }
    }

    /// Whether its `sync` waits until the device has all of it. sled calls `sync_file_range`, which leaves out the device's cache and the file's length.
    pub fn syncs_fully(self) -> bool {
        self != Self::Sled
    }

    /// Packages of `Cargo.lock` whose versions are the store's.
    pub fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Esker => &["esker"],
            Self::RocksDb => &["rocksdb", "librocksdb-sys"],
            Self::Lmdb => &["heed", "lmdb-master-sys"],
            Self::Fjall => &["fjall"],
            Self::Redb => &["redb"],
            Self::Sled => &["sled"],
            Self::SurrealKv => &["surrealkv"],
        }
    }
}

impl fmt::Display for StoreName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.pad(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// How tables are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// Levels 0 and 1 not, all below by LZ4: the default of the stores.
    Lz4,
}

/// What an acknowledged write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DurabilityLevel {
    /// A clean close.
    Memory,
    /// The end of the process, by `kill -9` too.
    Os,
    /// Power loss.
    Sync,
}

impl Args {
    /// The workloads asked for, each once, in the order they were named; all of them if none was.
    pub fn workloads(&self) -> Vec<Workload> {
        let asked = if self.named.is_empty() && self.workloads.is_empty() {
            Workload::by_default()
        } else {
            [&self.named[..], &self.workloads].concat()
        };
        each_once(asked)
    }

    /// Whether workloads were named at all.
    pub fn names_workloads(&self) -> bool {
        !(self.named.is_empty() && self.workloads.is_empty())
    }

    /// The stores asked for, each once.
    pub fn stores(&self) -> Vec<StoreName> {
        let mut asked = match &self.store[..] {
            [] if self.compare => {
                StoreName::value_variants().iter().copied().filter(|store| store.is_built_in()).collect()
            }
            [] => vec![StoreName::Esker],
            named => named.to_vec(),
        };
        asked.extend(self.fjall.then_some(StoreName::Fjall));
        if self.native {
            asked.extend([StoreName::RocksDb, StoreName::Lmdb]);
        }
        each_once(asked)
    }

    /// How often each is measured.
    pub fn repeat(&self) -> u32 {
        self.repeat.unwrap_or(if self.compare && !self.quick { 3 } else { 1 })
    }

    /// The settings, with what `--quick` and `--compare` say of them.
    pub fn settings(&self) -> Settings {
        let mut settings = self.settings.clone();
        if self.quick {
            (settings.num, settings.seconds) = (100_000, Some(5));
        } else {
            settings.num = self.num.unwrap_or(if self.scale { scale::NUM } else { NUM });
        }
        if self.compare || self.scale {
            settings.flush_after_load = true;
            settings.seconds = settings.seconds.or(Some(if self.scale { scale::SECONDS } else { 30 }));
        }
        settings
    }

    /// The numbers of threads asked for, each once.
    pub fn threads(&self) -> Vec<usize> {
        match &self.threads[..] {
            [] if self.scale => scale::THREADS.to_vec(),
            [] => vec![1],
            named => each_once(named.to_vec()),
        }
    }

    /// What the keyspaces are like that a workload is measured in, each once.
    pub fn states(&self, workload: Workload) -> Vec<State> {
        match &self.keyspace[..] {
            _ if workload.is_over_a_hole() => State::HOLES.to_vec(),
            [] => vec![State::Plain],
            _ if !workload.runs_in_any_keyspace() => vec![State::Plain],
            named => each_once(named.to_vec()),
        }
    }

    /// The memory that measurements are held to, in MiB: those of `--scale` that are to have less than there is data, all otherwise.
    pub fn memory_limit_mib(&self) -> Option<u64> {
        self.memory_limit
    }

    /// Whether a rival's failure is told of and the run goes on, and whether three files are written.
    pub fn compares(&self) -> bool {
        self.compare || self.scale
    }
}

fn each_once<T: PartialEq>(all: Vec<T>) -> Vec<T> {
    all.into_iter().fold(Vec::new(), |mut kept, item| {
        if !kept.contains(&item) {
            kept.push(item);
        }
        kept
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Args {
        Args::try_parse_from(std::iter::once("esker-bench").chain(line.split_whitespace())).unwrap()
    }

    #[test]
    fn workloads_and_stores_are_named_in_any_way_and_taken_once() {
        let args = parse("fillseq readseq,fillseq --workloads readrandom --fjall --store fjall");
        assert_eq!(args.workloads(), [Workload::FillSeq, Workload::ReadSeq, Workload::ReadRandom]);
        assert_eq!(args.stores(), [StoreName::Fjall]);
        assert_eq!(parse("").workloads().len(), Workload::value_variants().len() - 17);
        assert_eq!(parse("sustained").workloads(), [Workload::Sustained]);
        assert_eq!(parse("").stores(), [StoreName::Esker]);
        assert_eq!(parse("--fjall").stores(), [StoreName::Esker, StoreName::Fjall]);
        assert_eq!(parse("--native").stores(), [StoreName::Esker, StoreName::RocksDb, StoreName::Lmdb]);
        assert!(parse("--compare").stores().iter().all(|store| store.is_built_in()));
    }

    #[test]
    fn quick_and_compare_choose_sizes() {
        let (quick, compare) = (parse("--compare --quick"), parse("--compare --num 5 --seconds 7"));
        assert_eq!((quick.repeat(), quick.settings().num, quick.settings().seconds), (1, 100_000, Some(5)));
        assert_eq!((compare.repeat(), compare.settings().num, compare.settings().seconds), (3, 5, Some(7)));
        assert!(compare.settings().flush_after_load && !parse("").settings().flush_after_load);
        assert_eq!((parse("").repeat(), parse("").settings().seconds), (1, None));
        let scale = parse("--scale");
        assert_eq!((scale.settings().num, scale.settings().seconds, scale.repeat()), (10_000_000, Some(60), 1));
        assert_eq!(scale.threads(), [1, 2, 4, 8, 16]);
        assert_eq!(parse("--scale --threads 2,1,2 --num 7").threads(), [2, 1]);
        assert_eq!((parse("").threads(), parse("").settings().num), (vec![1], 1_000_000));
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for line in [
            "--num 0",
            "--value-bytes 8",
            "--threads 0",
            "--repeat 0",
            "fillnothing",
            "--store oracle",
            "--quick --num 7",
            "--scale --compare",
            "--memory-limit 1",
        ] {
            let words = std::iter::once("esker-bench").chain(line.split_whitespace());
            assert!(Args::try_parse_from(words).is_err(), "{line}");
        }
    }
}
