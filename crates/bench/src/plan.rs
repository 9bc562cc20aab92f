//! [`Case`]: a row of a comparison. Which cases a run has, and which turn each store takes.

use crate::args::{Args, Compression, DurabilityLevel, Settings, StoreName};
use crate::job::Sample;
use crate::workload::Workload;
use std::fmt;

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
}

impl Case {
    /// The case that a sample belongs to.
    pub fn of(sample: &Sample) -> Self {
        let Sample { workload, threads, compression, durability, .. } = *sample;
        Self { workload, threads, compression, durability }
    }

    /// The case of a workload under the settings of a run.
    fn new(workload: Workload, settings: &Settings) -> Self {
        let Settings { threads, compression, durability, .. } = *settings;
        let durability = if workload == Workload::FillSync { DurabilityLevel::Sync } else { durability };
        Self { workload, threads, compression, durability }
    }

    /// The settings of a run, with what is the case's own.
    pub fn settings(self, run: &Settings) -> Settings {
        let Self { threads, compression, durability, .. } = self;
        Settings { threads, compression, durability, ..run.clone() }
    }
}

/// The workload, and how many threads if there are some.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.threads {
            1 => f.pad(&self.workload.to_string()),
            threads => f.pad(&format!("{}, {threads} threads", self.workload)),
        }
    }
}

/// What `args` ask for. A comparison has also the rows with more threads, the other codec, and the other levels of durability, unless workloads are named.
pub fn cases(args: &Args) -> Vec<Case> {
    use Workload::{
        FillBatch, FillRandom, FillSeq, FillSync, Overwrite, ReadMissing, ReadRandom, ReadReverse, ReadSeq, Seek100,
        SeekRandom, YcsbA, YcsbC, YcsbE,
    };
    let settings = args.settings();
    let mut cases: Vec<_> = args.workloads().into_iter().map(|workload| Case::new(workload, &settings)).collect();
    if !args.compare || args.names_workloads() {
        return cases;
    }
    let base = |workload| Case::new(workload, &settings);
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
    }

    #[test]
    fn every_store_takes_every_place_in_turn() {
        let stores = [StoreName::Esker, StoreName::Fjall, StoreName::Redb];
        let firsts: Vec<_> = (0..3).map(|repetition| turn(&stores, repetition, 4)[0]).collect();
        assert!(stores.iter().all(|store| firsts.contains(store)));
        assert!(turn(&[], 1, 1).is_empty());
    }
}
