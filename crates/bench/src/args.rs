//! The command line.

use crate::workload::Workload;
use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// Workloads in the manner of db_bench, each in a process and a fresh directory of its own.
#[derive(Debug, Clone, Parser)]
#[command(name = "esker-bench", version)]
pub struct Args {
    /// What to measure; everything if nothing is named.
    #[arg(value_name = "WORKLOAD", value_delimiter = ',')]
    named: Vec<Workload>,
    /// The same, as an option.
    #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
    workloads: Vec<Workload>,
    /// Which stores to measure; their repetitions take turns.
    #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
    store: Vec<StoreName>,
    /// Short for `--store esker,fjall`; `cargo xtask bench --fjall` builds it in.
    #[arg(long)]
    fjall: bool,
    /// What and how.
    #[command(flatten)]
    pub settings: Settings,
    /// How often to measure each; the table shows medians.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub repeat: u32,
    /// Where to make the directories; the system's folder for temporary files if not given.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Write all samples as JSON to this file; `-` is the standard output, in place of the table.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// One measurement, in a child process.
    #[arg(long, hide = true)]
    pub job: Option<String>,
}

/// What all measurements of a run have in common.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize)]
pub struct Settings {
    /// How many keys there are.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    pub num: u64,
    /// Size of a value; half of it compresses away. Keys have 16 bytes.
    #[arg(long, default_value_t = 100, value_parser = parse_value_bytes)]
    pub value_bytes: usize,
    /// Threads that share the operations; each walks over everything.
    #[arg(long, default_value_t = 1, value_parser = parse_threads)]
    pub threads: usize,
    /// Codec of the levels below the first two, which no store here compresses.
    #[arg(long, value_enum, default_value_t = Compression::Lz4)]
    pub compression: Compression,
    /// What writes survive: nothing, `kill -9`, or power loss. `fillsync` always syncs.
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
    /// Writes in a second, at most, beside the reads of `readwhilewriting`.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub write_rate: u64,
}

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
pub enum StoreName {
    /// The engine of this workspace.
    Esker,
    /// fjall 3, with the feature `rivals`.
    Fjall,
}

impl fmt::Display for StoreName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Esker => "esker",
            Self::Fjall => "fjall",
        })
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
            Workload::value_variants().to_vec()
        } else {
            [&self.named[..], &self.workloads].concat()
        };
        each_once(asked)
    }

    /// The stores asked for, each once.
    pub fn stores(&self) -> Vec<StoreName> {
        let mut asked = if self.store.is_empty() { vec![StoreName::Esker] } else { self.store.clone() };
        asked.extend(self.fjall.then_some(StoreName::Fjall));
        each_once(asked)
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
        assert_eq!(parse("").workloads().len(), 12);
        assert_eq!(parse("").stores(), [StoreName::Esker]);
        assert_eq!(parse("--fjall").stores(), [StoreName::Esker, StoreName::Fjall]);
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for line in ["--num 0", "--value-bytes 8", "--threads 0", "--repeat 0", "fillnothing", "--store oracle"] {
            let words = std::iter::once("esker-bench").chain(line.split_whitespace());
            assert!(Args::try_parse_from(words).is_err(), "{line}");
        }
    }
}
