//! [`Row`]: one figure of all stores side by side, with its goal and a verdict; and all rows as Markdown, those that we lose first.

use crate::args::{DurabilityLevel, StoreName};
use crate::job::Sample;
use crate::plan::Case;
use crate::report::{Report, group_name, median, mib, percent, short, spread};
use crate::workload::Workload;
use std::fmt::{self, Write};

/// What of a case is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// Operations a second: more is better, for all others less is.
    Throughput,
    /// From the call to the first entry, in milliseconds.
    OpenTime,
    /// What all but one call in a thousand took at most, in microseconds.
    P999,
    /// What the longest call of all took, in milliseconds.
    WorstStall,
    /// Bytes written by bytes put.
    WriteAmplification,
    /// Bytes on disk by bytes of keys and values.
    SpaceAmplification,
    /// Peak of the resident memory, in bytes.
    PeakMemory,
}

impl Figure {
    fn of(self, sample: &Sample) -> Option<f64> {
        match self {
            Self::Throughput => Some(sample.ops_per_second),
            Self::OpenTime => Some(sample.latency?.p50_us / 1e3),
            Self::P999 => Some(sample.latency?.p999_us),
            Self::WorstStall => Some(sample.latency?.max_us / 1e3),
            Self::WriteAmplification => sample.write_amplification,
            Self::SpaceAmplification => sample.space_amplification,
            Self::PeakMemory => Some(sample.peak_memory_bytes? as f64),
        }
    }

    /// A value for a person.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Throughput if value >= 1e6 => format!("{} M", short(value / 1e6)),
            Self::Throughput if value >= 1e4 => format!("{} k", short(value / 1e3)),
            Self::OpenTime | Self::WorstStall => format!("{} ms", short(value)),
            Self::P999 => format!("{} us", short(value)),
            Self::PeakMemory => format!("{} MiB", mib(value)),
            _ => short(value),
        }
    }

    /// Which cases it is told of, beside the throughput of all but those that open.
    fn applies_to(self, case: Case) -> bool {
        let is_one_thread = case.threads == 1;
        match self {
            Self::Throughput => !case.workload.opens(),
            Self::OpenTime => case.workload.opens(),
            // Only where each call is timed, so that the longest is known.
            Self::P999 | Self::WorstStall => case.workload == Workload::Sustained,
            Self::WriteAmplification => {
                matches!(case.workload, Workload::FillRandom | Workload::Overwrite | Workload::Sustained)
            }
            Self::SpaceAmplification | Self::PeakMemory => {
                is_one_thread
                    && matches!(case.workload, Workload::FillRandom | Workload::ReadRandom | Workload::Sustained)
            }
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Throughput => "operations a second",
            Self::OpenTime => "ms to the first get",
            Self::P999 => "p99.9",
            Self::WorstStall => "worst stall",
            Self::WriteAmplification => "write amplification",
            Self::SpaceAmplification => "space amplification",
            Self::PeakMemory => "peak memory",
        })
    }
}

/// How much better than others Esker is to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Goal {
    /// Times better than RocksDB.
    pub rocksdb: f64,
    /// Against the best of the rivals, RocksDB among them.
    pub best: Bar,
}

/// The bar for the best rival's row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bar {
    /// Times better than it.
    Times(f64),
    /// Milliseconds, whatever it takes itself.
    Ms(f64),
    /// None is set.
    None,
}

/// The goals of the design, row by row; where it names none, to be ahead.
pub fn goal(case: Case, figure: Figure) -> Goal {
    use Workload::{
        BulkLoad, DeleteRandom, FillBatch, FillRandom, FillSeq, FillSync, Load, Open, OpenKill, OpenKillFull,
        Overwrite, ReadMissing, ReadRandom, ReadReverse, ReadSeq, ReadWhileWriting, Seek100, SeekRandom, Sustained,
        YcsbA, YcsbB, YcsbC, YcsbD, YcsbE, YcsbF,
    };
    let times = |rocksdb, best| Goal { rocksdb, best: Bar::Times(best) };
    match (figure, case.workload) {
        (Figure::WriteAmplification | Figure::SpaceAmplification, _) => Goal { rocksdb: 1.0, best: Bar::None },
        (Figure::PeakMemory, _) => Goal { rocksdb: 0.0, best: Bar::None },
        (Figure::P999 | Figure::WorstStall, _) => times(1.0, 1.0),
        (_, Open) => Goal { rocksdb: 5.0, best: Bar::Ms(2.0) },
        (_, OpenKill | OpenKillFull) => Goal { rocksdb: 8.0, best: Bar::Ms(100.0) },
        (_, FillRandom | Overwrite | Sustained | DeleteRandom) => times(4.0, 3.0),
        (_, FillSeq | FillBatch | Load | BulkLoad) => times(3.0, 3.0),
        (_, FillSync) if case.threads > 1 => times(2.1, 1.5),
        (_, FillSync) => times(1.5, 1.1),
        (_, ReadRandom) => times(5.0, 1.8),
        (_, ReadMissing) => times(3.0, 2.0),
        (_, SeekRandom) => times(8.0, 1.7),
        (_, Seek100) => times(8.0, 2.0),
        (_, ReadSeq | ReadReverse) => times(3.0, 1.3),
        (_, ReadWhileWriting) => times(1.0, 1.0),
        (_, YcsbA | YcsbB | YcsbC | YcsbD | YcsbE | YcsbF) => times(2.5, 1.5),
        // On request: the design names no goal beside others.
        (_, workload) => {
            debug_assert!(workload.is_of_model());
            times(1.0, 1.0)
        }
    }
}

/// How a row ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A rival is ahead.
    Lost,
    /// Ahead of all, or as good, but short of a goal.
    Short,
    /// All goals are met.
    Met,
    /// Nobody to compare with.
    Alone,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Lost => "LOST",
            Self::Short => "short of the goal",
            Self::Met => "met",
            Self::Alone => "-",
        })
    }
}

/// One store's part of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// Whose.
    pub store: StoreName,
    /// The median.
    pub value: f64,
    /// How far the extremes lie apart, by the median.
    pub spread: Option<f64>,
    /// It may lose what it acknowledged, though the level says otherwise.
    pub loses: bool,
    /// The time was up before all was done.
    pub is_cut_short: bool,
}

/// One figure of one case, of all stores.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What was measured.
    pub case: Case,
    /// Which figure of it.
    pub figure: Figure,
    /// What it is to be.
    pub goal: Goal,
    /// All stores that have one.
    pub cells: Vec<Cell>,
}

impl Row {
    fn new(report: &Report, case: Case, figure: Figure) -> Self {
        let cell = |store: StoreName| {
            let samples = report.samples(case, store);
            let values: Vec<_> = samples.iter().filter_map(|sample| figure.of(sample)).collect();
            Some(Cell {
                store,
                value: median(values.clone())?,
                spread: spread(values),
                loses: !keeps(store, case.durability),
                is_cut_short: samples.iter().any(|sample| sample.is_cut_short),
            })
        };
        Self { case, figure, goal: goal(case, figure), cells: report.stores().into_iter().filter_map(cell).collect() }
    }

    /// A store's part.
    pub fn cell(&self, store: StoreName) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.store == store)
    }

    /// The rival that is ahead of the others.
    pub fn best_rival(&self) -> Option<&Cell> {
        let rivals = self.cells.iter().filter(|cell| cell.store != StoreName::Esker);
        rivals.reduce(|best, cell| if self.times_better(cell.value, best.value) > 1.0 { cell } else { best })
    }

    fn times_better(&self, value: f64, than: f64) -> f64 {
        if self.figure == Figure::Throughput { value / than } else { than / value }
    }

    /// How many times better than `rival` Esker is.
    pub fn ratio(&self, rival: &Cell) -> Option<f64> {
        Some(self.times_better(self.cell(StoreName::Esker)?.value, rival.value))
    }

    /// How many times better than RocksDB Esker is.
    pub fn ratio_to_rocksdb(&self) -> Option<f64> {
        self.ratio(self.cell(StoreName::RocksDb)?)
    }

    /// How it ends. A goal against RocksDB counts where RocksDB was measured.
    pub fn verdict(&self) -> Verdict {
        let (Some(ours), Some(best)) = (self.cell(StoreName::Esker), self.best_rival()) else { return Verdict::Alone };
        let ratio = self.times_better(ours.value, best.value);
        let bar_met = match self.goal.best {
            Bar::Times(times) => ratio >= times,
            Bar::Ms(ms) => ours.value <= ms,
            Bar::None => true,
        };
        match (ratio < 1.0, bar_met && self.ratio_to_rocksdb().is_none_or(|ratio| ratio >= self.goal.rocksdb)) {
            (true, _) => Verdict::Lost,
            (false, false) => Verdict::Short,
            (false, true) => Verdict::Met,
        }
    }

    /// Whether Esker and the best rival lie so near to each other that another run may turn them round: within half of the two spreads.
    pub fn is_within_noise(&self) -> bool {
        let Some((best, ours)) = self.best_rival().zip(self.cell(StoreName::Esker)) else { return false };
        let noise = (best.spread.unwrap_or(0.0) + ours.spread.unwrap_or(0.0)) / 2.0;
        (self.times_better(ours.value, best.value) - 1.0).abs() < noise
    }

    /// The case, and the figure if it is not the throughput.
    pub fn title(&self) -> String {
        match self.figure {
            Figure::Throughput => self.case.to_string(),
            figure => format!("{}: {figure}", self.case),
        }
    }

    /// Goals, as `4x / 3x`: against RocksDB, against the best rival.
    pub fn goal_text(&self) -> String {
        let times = |times: f64| if times > 0.0 { format!("{times}x") } else { "-".into() };
        let best = match self.goal.best {
            Bar::Times(ratio) => times(ratio),
            Bar::Ms(ms) => format!("{ms} ms"),
            Bar::None => "-".into(),
        };
        format!("{} / {best}", times(self.goal.rocksdb))
    }

    /// The verdict, and whether noise could change it.
    pub fn verdict_text(&self) -> String {
        let noise = if self.is_within_noise() { ", within noise" } else { "" };
        format!("{}{noise}", self.verdict())
    }
}

/// Whether a store keeps what a level promises.
fn keeps(store: StoreName, durability: DurabilityLevel) -> bool {
    match durability {
        DurabilityLevel::Memory => true,
        DurabilityLevel::Os => store.keeps_at_kill(durability),
        DurabilityLevel::Sync => store.keeps_at_kill(durability) && store.syncs_fully(),
    }
}

/// All rows of a group of cases.
pub fn rows(report: &Report, group: &[Case]) -> Vec<Row> {
    use Figure::{OpenTime, P999, PeakMemory, SpaceAmplification, Throughput, WorstStall, WriteAmplification};
    let figures = [Throughput, OpenTime, P999, WorstStall, WriteAmplification, SpaceAmplification, PeakMemory];
    let of_figure = |figure: Figure| {
        let cases = group.iter().filter(move |case| figure.applies_to(**case));
        cases.map(move |&case| Row::new(report, case, figure))
    };
    figures.into_iter().flat_map(of_figure).filter(|row| !row.cells.is_empty()).collect()
}

/// All rows that a rival leads, with the group that each belongs to.
pub fn lost(report: &Report) -> Vec<(String, Row)> {
    let groups = report.groups();
    let rows = groups.iter().flat_map(|group| rows(report, group).into_iter().map(|row| (group_name(group), row)));
    rows.filter(|(_, row)| row.verdict() == Verdict::Lost).collect()
}

/// What stands in place of lost rows when there are none.
pub fn none_lost(report: &Report) -> &'static str {
    if report.stores().len() > 1 { "None in this run." } else { "There was nobody to compare with." }
}

/// Marks that a value may carry.
pub fn marks(cell: &Cell) -> String {
    let marks = [(cell.loses, "†"), (cell.is_cut_short, "‡")];
    marks.into_iter().filter_map(|(is_so, mark)| is_so.then_some(mark)).collect()
}

/// What the marks mean.
pub const LEGEND: &str = "A value is the median of the repetitions, then how far their extremes lie apart. `: RocksDB` and `: best` say how many times better Esker is than \
RocksDB and than the best rival of the row. † loses acknowledged writes at kill -9 in this mode, or does not wait for a full sync. ‡ was ended by the time limit: what it did until then counts.";

/// The whole report.
pub fn markdown(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_markdown(report, &mut text);
    text
}

fn write_markdown(report: &Report, text: &mut String) -> fmt::Result {
    writeln!(text, "# {}, {}\n", report.title, report.machine.date)?;
    writeln!(text, "**Machine**: {}.\n", report.machine.line())?;
    writeln!(text, "**Settings**: {}.\n", report.settings_line())?;
    let versions: Vec<_> = report.versions.iter().map(|v| format!("{} {}", v.package, v.version)).collect();
    writeln!(text, "**Versions**: {}.\n\n{LEGEND}\n", versions.join(", "))?;
    writeln!(text, "## Rows we lose\n")?;
    let lost = lost(report);
    if lost.is_empty() {
        writeln!(text, "{}\n", none_lost(report))?;
    } else {
        writeln!(text, "| row | esker | best rival | : best | |\n|---|--:|--:|--:|---|")?;
        for (group, row) in &lost {
            if let Some((ours, best)) = row.cell(StoreName::Esker).zip(row.best_rival()) {
                let (show, ratio) = (|value| row.figure.show(value), row.ratio(best).unwrap_or_default());
                let noise = if row.is_within_noise() { "within noise" } else { "" };
                let title = row.title();
                writeln!(
                    text,
                    "| {title} ({group}) | {} | {} {}{} | {ratio:.2} | {noise} |",
                    show(ours.value),
                    best.store,
                    show(best.value),
                    marks(best)
                )?;
            }
        }
        writeln!(text)?;
    }
    report.missing().iter().try_for_each(|line| writeln!(text, "{line}.\n"))?;
    for group in report.groups() {
        writeln!(text, "## With {}\n", group_name(&group))?;
        write_rows(report, &group, text)?;
        writeln!(text, "\n{}\n", report.table(&group))?;
    }
    Ok(())
}

fn write_rows(report: &Report, group: &[Case], text: &mut String) -> fmt::Result {
    let stores = report.stores();
    let names: Vec<_> = stores.iter().map(StoreName::to_string).collect();
    writeln!(text, "| row | {} | : RocksDB | : best | goal | verdict |", names.join(" | "))?;
    writeln!(text, "|---|{}--:|--:|---|---|", "--:|".repeat(stores.len()))?;
    for row in rows(report, group) {
        let best = row.best_rival().map(|cell| cell.store);
        let cell = |store: &StoreName| {
            let Some(cell) = row.cell(*store) else { return "-".into() };
            let spread = cell.spread.map(|part| format!(" ({})", percent(part))).unwrap_or_default();
            let value = format!("{}{}", row.figure.show(cell.value), marks(cell));
            let is_ahead = best == Some(*store) && row.verdict() == Verdict::Lost;
            if is_ahead { format!("**{value}**{spread}") } else { value + &spread }
        };
        let cells: Vec<String> = stores.iter().map(cell).collect();
        let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}"));
        let to_best = row.best_rival().and_then(|best| row.ratio(best));
        let (rocksdb, best) = (ratio(row.ratio_to_rocksdb()), ratio(to_best));
        let (title, goal, verdict) = (row.title(), row.goal_text(), row.verdict_text());
        writeln!(text, "| {title} | {} | {rocksdb} | {best} | {goal} | {verdict} |", cells.join(" | "))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args, Compression};
    use crate::machine::Machine;
    use crate::meter::Latency;
    use crate::plan::Room;
    use crate::state::State;
    use clap::Parser;

    fn sample(workload: Workload, store: StoreName, ops_per_second: f64) -> Sample {
        let latency = Latency { p50_us: 1e6 / ops_per_second, p99_us: 9.0, p999_us: 99.0, max_us: 999.0 };
        Sample {
            workload,
            store,
            repetition: 0,
            threads: 1,
            compression: Compression::Lz4,
            durability: DurabilityLevel::Os,
            operations: 1000,
            seconds: 1000.0 / ops_per_second,
            ops_per_second,
            latency: Some(latency),
            user_bytes: 116_000,
            written_bytes: None,
            write_amplification: None,
            live_bytes: 116_000,
            disk_bytes: 116_000,
            space_amplification: None,
            peak_memory_bytes: None,
            heap_bytes: None,
            cpu_seconds: None,
            settle_seconds: 0.0,
            is_cut_short: store == StoreName::Sled,
            lost_entries: None,
            conflicts: None,
            room: Room::Plenty,
            state: State::Plain,
            group_peak_bytes: None,
        }
    }

    fn report(samples: Vec<Sample>) -> Report {
        let settings = Args::parse_from(["esker-bench", "--compare"]).settings();
        Report::new(settings, Machine::at_start(None), samples, Vec::new())
    }

    fn row(samples: Vec<Sample>) -> Row {
        let report = report(samples);
        rows(&report, &report.groups()[0]).remove(0)
    }

    use StoreName::{Esker, Fjall, Redb, RocksDb, Sled};
    use Workload::{FillRandom, Open, ReadRandom};

    #[test]
    fn a_rival_that_is_ahead_is_a_lost_row_that_is_told_first() {
        let samples = [(Esker, 300e3), (RocksDb, 100e3), (Fjall, 400e3), (Sled, 5e3)];
        let row = row(samples.map(|(store, ops)| sample(FillRandom, store, ops)).into());
        assert_eq!((row.verdict(), row.best_rival().unwrap().store), (Verdict::Lost, Fjall));
        assert_eq!(row.ratio_to_rocksdb(), Some(3.0));
        assert_eq!(row.ratio(row.best_rival().unwrap()), Some(0.75));

        let report = report(samples.map(|(store, ops)| sample(FillRandom, store, ops)).into());
        let text = markdown(&report);
        let lost = text.split_once("## Rows we lose").unwrap().1.split_once("## With").unwrap().0;
        assert!(lost.contains("| fillrandom (codec lz4, durability os) | 300 k | fjall 400 k | 0.75 |"), "{lost}");
        let line = "| fillrandom | 300 k | 100 k | **400 k** | 5,000†‡ | 3.00 | 0.75 | 4x / 3x | LOST |";
        assert!(text.contains(&line.replace(',', " ")), "{text}");
        let page = crate::page::html(&report);
        assert!(
            page.contains("<td>fillrandom (codec lz4, durability os)<td>300 k<td>fjall 400 k<td class=\"lost\">0.75")
        );
    }

    #[test]
    fn goals_decide_between_short_and_met_and_rocksdb_counts_where_it_was_measured() {
        let verdict = |esker: f64, rocksdb: Option<f64>, redb: f64| {
            let rocksdb = rocksdb.map(|ops| sample(ReadRandom, RocksDb, ops));
            let others = [sample(ReadRandom, Redb, redb), sample(ReadRandom, Esker, esker)];
            row(others.into_iter().chain(rocksdb).collect()).verdict()
        };
        assert_eq!(verdict(180.0, None, 100.0), Verdict::Met);
        assert_eq!(verdict(179.0, None, 100.0), Verdict::Short);
        assert_eq!(verdict(180.0, Some(50.0), 100.0), Verdict::Short);
        assert_eq!(verdict(250.0, Some(50.0), 100.0), Verdict::Met);
        assert_eq!(verdict(99.0, Some(1.0), 100.0), Verdict::Lost);
        assert_eq!(row(vec![sample(ReadRandom, Esker, 1.0)]).verdict(), Verdict::Alone);
    }

    #[test]
    fn opening_is_told_in_milliseconds_and_less_is_better() {
        let row = row(vec![sample(Open, Esker, 1000.0), sample(Open, RocksDb, 100.0), sample(Open, Fjall, 10.0)]);
        assert_eq!((row.figure, row.cell(Esker).unwrap().value), (Figure::OpenTime, 1.0));
        assert_eq!((row.best_rival().unwrap().store, row.ratio_to_rocksdb()), (RocksDb, Some(10.0)));
        assert_eq!(row.verdict(), Verdict::Met);
    }

    #[test]
    fn a_sustained_overwrite_tells_its_stalls_and_what_could_not_be_measured_stands_there() {
        let slow = Latency { p50_us: 1.0, p99_us: 9.0, p999_us: 198.0, max_us: 4995.0 };
        let theirs = Sample { latency: Some(slow), ..sample(Workload::Sustained, RocksDb, 100e3) };
        let mut report = report(vec![sample(Workload::Sustained, Esker, 300e3), theirs]).titled("Esker at scale");
        report.not_run.push("readrandom, memory 553 MiB on esker: no group".into());
        let text = markdown(&report);
        assert!(text.starts_with("# Esker at scale, "), "{text}");
        for line in [
            "| sustained: p99.9 | 99.0 us | 198 us | 2.00 | 2.00 | 1x / 1x | met |",
            "| sustained: worst stall | 1.00 ms | 5.00 ms | 5.00 | 5.00 | 1x / 1x | met |",
            "NOT RUN: readrandom, memory 553 MiB on esker: no group.",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        let page = crate::page::html(&report);
        assert!(page.contains("<h3>Worst stall</h3>") && page.contains("NOT RUN: readrandom"), "{page}");
        assert!(report.to_string().contains("NOT RUN: readrandom"));
    }

    #[test]
    fn rows_nearer_than_their_spread_say_so() {
        let noisy = |store, values: [f64; 3]| values.map(|ops| sample(ReadRandom, store, ops));
        let near = row([noisy(Esker, [95.0, 100.0, 105.0]), noisy(Redb, [88.0, 98.0, 100.0])].concat());
        assert!(near.is_within_noise() && near.verdict_text().ends_with("within noise"));
        let far = row([noisy(Esker, [95.0, 100.0, 105.0]), noisy(Redb, [45.0, 50.0, 51.0])].concat());
        assert!(!far.is_within_noise());
    }
}
