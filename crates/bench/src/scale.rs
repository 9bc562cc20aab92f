//! `--scale`: how stores do as data, threads and pressure grow.
//!
//! ```text
//! for each store   fills, syncs           a directory each
//!                  load ─────────────┐    kept: every row below opens what it left
//!                  gets, seeks, walks, opens, YCSB A, by threads, with little cache, with little memory
//!                  ten times the data overwritten
//!                  open after kill -9     a directory and a load of its own
//! ```
//!
//! To load fifty million keys for each row would take longer than all rows together; so, other than in a comparison, the data stay from row to row, and stores come
//! one after another, each in full. Rows that write change no entry, only where it lies; they come last.

use crate::args::{Args, Settings};
use crate::data;
use crate::plan::{Case, Room};
use crate::workload::Workload;

/// Keys, threads and seconds if nothing else is said.
pub const NUM: u64 = 10_000_000;
/// See [`NUM`].
pub const THREADS: [usize; 5] = [1, 2, 4, 8, 16];
/// See [`NUM`].
pub const SECONDS: u64 = 60;

/// The least that a row with little memory is given, in MiB: what any store needs to run at all.
const LIMIT_MIB_MIN: u64 = 64;
/// The least that a row with little cache is given, in MiB.
const CACHE_MIB_MIN: u64 = 8;

/// What a row finds in its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Nothing: the directory is its own, and so is the load, if it needs one.
    Own,
    /// Nothing, and what it leaves is kept for those that follow.
    Begin,
    /// What the load and the rows before have left.
    Kept,
}

/// The rows of each store, in order.
pub fn rows(args: &Args) -> Vec<(Case, Place)> {
    use Workload::{
        FillRandom, FillSync, Load, Open, OpenKillFull, Overwrite, ReadMissing, ReadRandom, ReadReverse, ReadSeq,
        Seek100, SeekRandom, Sustained, YcsbA,
    };
    let settings = args.settings();
    let threads = args.threads();
    let base = |workload| Case::new(workload, &settings);
    let by_threads = |workload| threads.iter().map(move |&threads| Case { threads, ..base(workload) });
    let with_room =
        |room, workloads: &'static [Workload]| workloads.iter().map(move |&workload| Case { room, ..base(workload) });
    let cache = Room::CacheMib(cache_mib(&settings));
    let limit = Room::LimitMib(args.memory_limit_mib().unwrap_or_else(|| limit_mib(&settings)));

    let own = by_threads(FillRandom).chain(by_threads(FillSync));
    let reads = by_threads(ReadRandom)
        .chain([ReadMissing, SeekRandom, Seek100, ReadSeq, ReadReverse, Open].map(base))
        .chain(with_room(cache, &[ReadRandom, SeekRandom]))
        .chain(with_room(limit, &[ReadRandom, SeekRandom, ReadSeq]));
    let writes = by_threads(YcsbA).chain(with_room(limit, &[Overwrite])).chain([base(Sustained)]);
    let kept = reads.chain(writes);

    let in_order = own
        .map(|case| (case, Place::Own))
        .chain([(base(Load), Place::Begin)])
        .chain(kept.map(|case| (case, Place::Kept)))
        .chain([(base(OpenKillFull), Place::Own)]);
    let named = args.names_workloads().then(|| args.workloads());
    let is_asked = |case: &Case| named.as_ref().is_none_or(|named| named.contains(&case.workload));
    // Without a load there is nothing to keep.
    in_order.filter(|(case, place)| *place == Place::Begin || is_asked(case)).collect()
}

/// Whether those that follow can rely on nothing when this row has failed half way.
pub fn leaves_ruins(case: Case, place: Place) -> bool {
    match place {
        Place::Own => false,
        Place::Begin => true,
        Place::Kept => writes(case.workload),
    }
}

fn writes(workload: Workload) -> bool {
    workload.writes() || workload == Workload::YcsbA
}

/// The settings of a row: a load is never cut short, since what follows counts on all of it.
pub fn settings(case: Case, run: &Settings) -> Settings {
    let settings = case.settings(run);
    if case.workload == Workload::Load { Settings { seconds: None, ..settings } } else { settings }
}

fn data_mib(settings: &Settings) -> u64 {
    (settings.num * (data::KEY_BYTES + settings.value_bytes) as u64) >> 20
}

/// A sixteenth of the data.
fn cache_mib(settings: &Settings) -> u64 {
    (data_mib(settings) / 16).max(CACHE_MIB_MIN).min(settings.cache_mib)
}

/// A quarter of the data: less than they take on disk, compressed.
fn limit_mib(settings: &Settings) -> u64 {
    (data_mib(settings) / 4).max(LIMIT_MIB_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn rows_of(line: &str) -> Vec<(Case, Place)> {
        rows(&Args::parse_from(std::iter::once("esker-bench").chain(line.split_whitespace())))
    }

    #[test]
    fn every_row_that_was_asked_for_is_there_once_and_writers_come_last() {
        let all = rows_of("--scale");
        assert!(all.iter().enumerate().all(|(i, row)| !all[..i].contains(row)), "a row is there twice");
        let threads = |workload| {
            let rows = all.iter().filter(|(case, _)| case.workload == workload && case.room == Room::Plenty);
            rows.map(|(case, _)| case.threads).collect::<Vec<_>>()
        };
        for workload in [Workload::FillRandom, Workload::FillSync, Workload::ReadRandom, Workload::YcsbA] {
            assert_eq!(threads(workload), THREADS, "{workload}");
        }
        let names: Vec<_> = all.iter().map(|(case, _)| case.to_string()).collect();
        for name in [
            "readrandom, cache 69 MiB",
            "seekrandom, memory 276 MiB",
            "overwrite, memory 276 MiB",
            "sustained",
            "openkillfull",
        ] {
            assert!(names.contains(&name.into()), "{name} in {names:?}");
        }
        let kept: Vec<_> =
            all.iter().filter(|(_, place)| *place == Place::Kept).map(|(case, _)| case.workload).collect();
        assert!(kept.iter().skip_while(|workload| !writes(**workload)).all(|workload| writes(*workload)));
        assert!(
            kept.iter()
                .all(|workload| workload.needs_load() && !workload.inserts() && *workload != Workload::DeleteRandom)
        );
        let begin = all.iter().position(|(_, place)| *place == Place::Begin).unwrap();
        assert!(all.iter().position(|(_, place)| *place == Place::Kept).unwrap() > begin);
    }

    #[test]
    fn some_rows_may_be_named_and_the_load_stays() {
        let names = |line| rows_of(line).iter().map(|(case, _)| case.to_string()).collect::<Vec<_>>();
        assert_eq!(
            names("--scale readrandom --threads 1,4 --memory-limit 100 --num 1000"),
            ["load", "readrandom", "readrandom, 4 threads", "readrandom, cache 8 MiB", "readrandom, memory 100 MiB"]
        );
    }

    #[test]
    fn a_load_has_all_the_time_it_needs() {
        let args = Args::parse_from(["esker-bench", "--scale", "--seconds", "7"]);
        let seconds = |workload| settings(Case::new(workload, &args.settings()), &args.settings()).seconds;
        assert_eq!((seconds(Workload::Load), seconds(Workload::ReadSeq)), (None, Some(7)));
    }
}
