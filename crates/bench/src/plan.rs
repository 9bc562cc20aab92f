//! [`Case`]: a row of a comparison. Which cases a run has, and which turn each store takes; those of `--scale` are in [`crate::scale`].

use crate::args::{Args, Compression, DurabilityLevel, Settings, StoreName};
use crate::data;
use crate::job::Sample;
use crate::state::State;
use crate::workload::Workload;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What memory a store has for the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Room {
    /// What the settings of the run say, and all that the machine has for caches of files.
    #[default]
    Plenty,
    /// A cache of its own of this many MiB, and all that the machine has for caches of files.
    CacheMib(u64),
    /// A control group of this many MiB in all, a quarter of it for a cache of its own.
    LimitMib(u64),
}

/// What stores are measured by: samples of the same case compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// What is measured.
    pub workload: Workload,
    /// Threads that share it.
    pub threads: usize,
    /// Codec of the tables.
    pub compression: Compression,
    /// What acknowledged writes survive.
    pub durability: DurabilityLevel,
    /// What memory the store has.
    pub room: Room,
    /// What its keyspace is like.
    pub state: State,
}

impl Case {
    /// The case that a sample belongs to.
    pub fn of(sample: &Sample) -> Self {
        let Sample { workload, threads, compression, durability, room, state, .. } = *sample;
        Self { workload, threads, compression, durability, room, state }
    }

    /// The case of a workload under the settings of a run.
    pub(crate) fn new(workload: Workload, settings: &Settings) -> Self {
        let Settings { threads, compression, durability, .. } = *settings;
        let durability = if workload == Workload::FillSync { DurabilityLevel::Sync } else { durability };
        Self { workload, threads, compression, durability, room: Room::Plenty, state: State::Plain }
    }

    /// The settings of a run, with what is the case's own.
    pub fn settings(self, run: &Settings) -> Settings {
        let Self { workload, threads, compression, durability, room, state } = self;
        let (cache_mib, memtable_mib) = match room {
            Room::Plenty => (run.cache_mib, run.memtable_mib),
            Room::CacheMib(mib) => (mib, run.memtable_mib),
            // Several memtables may wait at a time: with the cache, half of all at most.
            Room::LimitMib(mib) => ((mib / 4).max(1), run.memtable_mib.min((mib / 16).max(1))),
        };
        // What is said to be in memory has room there.
        let entry_bytes = (data::KEY_BYTES + run.value_bytes) as u64;
        let all_mib = 64 + ((3 * entry_bytes * run.num) >> 20);
        let memtable_mib = if state == State::Unflushed { memtable_mib.max(all_mib) } else { memtable_mib };
        let state = if workload.merges() { State::Operator } else { state };
        Settings { threads, compression, durability, cache_mib, memtable_mib, state, ..run.clone() }
    }
}

/// The workload, how many threads if there are some, and keyspace and memory if they are not as for the others.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut name = self.workload.to_string();
        if self.threads > 1 {
            name += &format!(", {} threads", self.threads);
        }
        if let Some(state) = self.state.name() {
            name += &format!(", {state}");
        }
        match self.room {
            Room::Plenty => {}
            Room::CacheMib(mib) => name += &format!(", cache {mib} MiB"),
            Room::LimitMib(mib) => name += &format!(", memory {mib} MiB"),
        }
        f.pad(&name)
    }
}

/// What `args` ask for. A comparison has also the rows with more threads, the other codec, and the other levels of durability, unless workloads are named.
pub fn cases(args: &Args) -> Vec<Case> {
    use Workload::{
        FillBatch, FillRandom, FillSeq, FillSync, Overwrite, ReadMissing, ReadRandom, ReadReverse, ReadSeq, Seek100,
        SeekRandom, YcsbA, YcsbC, YcsbE,
    };
    let settings = args.settings();
    let room = args.memory_limit_mib().map_or(Room::Plenty, Room::LimitMib);
    let threads = args.threads();
    let mut cases = Vec::new();
    for workload in args.workloads() {
        for state in args.states(workload) {
            let base = Case { room, state, ..Case::new(workload, &settings) };
            cases.extend(threads.iter().map(|&threads| Case { threads, ..base }));
        }
    }
    if !args.compare || args.names_workloads() {
        return cases;
    }
    let base = |workload| Case { room, ..Case::new(workload, &settings) };
    let mut insert_behind = |workload, case: Case| {
        let at = cases.iter().rposition(|other| other.workload == workload).map_or(cases.len(), |at| at + 1);
        cases.insert(at, case);
    };
    insert_behind(FillSync, Case { threads: 16, ..base(FillSync) });
    insert_behind(ReadRandom, Case { threads: 2, ..base(ReadRandom) });
    let compression = match settings.compression {
        Compression::None => Compression::Lz4,
        Compression::Lz4 => Compression::None,
    };
    let of_codec = [
        FillRandom,
        Overwrite,
        ReadRandom,
        ReadMissing,
        SeekRandom,
        Seek100,
        ReadSeq,
        ReadReverse,
        YcsbA,
        YcsbC,
        YcsbE,
    ];
    cases.extend(of_codec.map(|workload| Case { compression, ..base(workload) }));
    for durability in [DurabilityLevel::Memory, DurabilityLevel::Os, DurabilityLevel::Sync] {
        if durability == settings.durability {
            continue;
        }
        let fills: &[_] =
            if durability == DurabilityLevel::Sync { &[FillBatch] } else { &[FillSeq, FillRandom, FillBatch] };
        cases.extend(fills.iter().map(|&workload| Case { durability, ..base(workload) }));
    }
    cases
}

/// The order of the stores in one turn: each is first, second and so on equally often, so that what the one before it leaves behind (a device that still writes, a
/// processor that is warm) falls on all of them.
pub fn turn(stores: &[StoreName], repetition: u32, case: usize) -> Vec<StoreName> {
    let mut turn = stores.to_vec();
    turn.rotate_left((repetition as usize + case) % stores.len().max(1));
    turn
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn cases_of(line: &str) -> Vec<Case> {
        cases(&Args::parse_from(std::iter::once("esker-bench").chain(line.split_whitespace())))
    }

    #[test]
    fn a_comparison_has_every_workload_more_threads_both_codecs_and_all_levels() {
        let all = cases_of("--compare");
        assert_eq!(all[..cases_of("").len() + 2].iter().filter(|case| case.threads > 1).count(), 2);
        assert!(all.iter().enumerate().all(|(i, case)| !all[..i].contains(case)), "a case is there twice");
        let count = |accept: &dyn Fn(&Case) -> bool| all.iter().filter(|case| accept(case)).count();
        assert_eq!(count(&|case| case.compression == Compression::None), 11);
        assert_eq!(count(&|case| case.durability == DurabilityLevel::Memory), 3);
        assert_eq!(count(&|case| case.durability == DurabilityLevel::Sync), 3);
        let names: Vec<_> = all.iter().map(Case::to_string).collect();
        assert!(names.contains(&"fillsync, 16 threads".into()) && names.contains(&"readrandom, 2 threads".into()));
        assert_eq!(cases_of("--compare readseq fillsync").len(), 2);
        assert_eq!(cases_of("readseq fillsync --threads 1,4").len(), 4);
        let limited = cases_of("readseq --memory-limit 64").remove(0);
        assert_eq!(limited.to_string(), "readseq, memory 64 MiB");
        let settings = limited.settings(&<Args as Parser>::parse_from(["esker-bench"]).settings());
        assert_eq!((settings.cache_mib, settings.memtable_mib), (16, 4));
    }

    #[test]
    fn every_store_takes_every_place_in_turn() {
        let stores = [StoreName::Esker, StoreName::Fjall, StoreName::Redb];
        let firsts: Vec<_> = (0..3).map(|repetition| turn(&stores, repetition, 4)[0]).collect();
        assert!(stores.iter().all(|store| firsts.contains(store)));
        assert!(turn(&[], 1, 1).is_empty());
    }
}
