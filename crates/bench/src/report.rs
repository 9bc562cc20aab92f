//! Samples as a table of medians, and as JSON.

use crate::args::{Settings, StoreName};
use crate::job::Sample;
use crate::machine::Machine;
use crate::plan::Case;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::{Deserialize, Serialize};
use std::fmt;

/// All that a run found; its `Display` is the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Version of this JSON. Fields may be added under the same number.
    pub format: u32,
    /// What it is about: `Esker beside others`.
    pub title: String,
    /// Version of Esker.
    pub esker_version: String,
    /// Versions of all stores that were measured, by their packages.
    pub versions: Vec<Version>,
    /// Where it ran.
    pub machine: Machine,
    /// What was asked for.
    pub settings: Settings,
    /// Every measurement, in the order in which they were made.
    pub samples: Vec<Sample>,
    /// Measurements of rivals that came to no end.
    pub failures: Vec<Failure>,
    /// Rows that could not be measured here, each with the reason.
    pub not_run: Vec<String>,
}

/// Which version of a package a store is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// The store.
    pub store: StoreName,
    /// The package, as in `Cargo.lock`.
    pub package: String,
    /// Its version.
    pub version: String,
}

/// A measurement of a rival that failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// Which rival.
    pub store: StoreName,
    /// What was measured.
    pub case: String,
    /// Which time.
    pub repetition: u32,
    /// How it ended.
    pub error: String,
}

impl Report {
    /// A report of the current format.
    pub fn new(settings: Settings, machine: Machine, samples: Vec<Sample>, failures: Vec<Failure>) -> Self {
        let mut report = Self {
            format: 1,
            title: "Esker beside others".into(),
            esker_version: env!("CARGO_PKG_VERSION").into(),
            versions: Vec::new(),
            machine,
            settings,
            samples,
            failures,
            not_run: Vec::new(),
        };
        report.versions = report.stores().into_iter().flat_map(versions).collect();
        report
    }

    /// The same about something else.
    #[must_use]
    pub fn titled(self, title: &str) -> Self {
        Self { title: title.into(), ..self }
    }

    /// What came to no end, and what could not be measured, in one line each.
    pub fn missing(&self) -> Vec<String> {
        let failed = self.failures.iter().map(|Failure { store, case, repetition, error }| {
            format!("{case} on {store} failed in repetition {}: {error}", repetition + 1)
        });
        failed.chain(self.not_run.iter().map(|line| format!("NOT RUN: {line}"))).collect()
    }

    /// The stores that were measured, in the order of [`StoreName`].
    pub fn stores(&self) -> Vec<StoreName> {
        let mut stores: Vec<_> = self.samples.iter().map(|sample| sample.store).collect();
        stores.sort_unstable();
        stores.dedup();
        stores
    }

    /// Cases in order of first appearance.
    pub fn cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for sample in &self.samples {
            let case = Case::of(sample);
            if !cases.contains(&case) {
                cases.push(case);
            }
        }
        cases
    }

    /// Cases that differ in nothing but workload and threads belong together.
    pub fn groups(&self) -> Vec<Vec<Case>> {
        let mut groups: Vec<Vec<Case>> = Vec::new();
        for case in self.cases() {
            let belongs = |other: &Case| (other.compression, other.durability) == (case.compression, case.durability);
            match groups.iter_mut().find(|group| belongs(&group[0])) {
                Some(group) => group.push(case),
                None => groups.push(vec![case]),
            }
        }
        groups
    }

    /// All samples of a case on a store.
    pub fn samples(&self, case: Case, store: StoreName) -> Vec<&Sample> {
        self.samples.iter().filter(|sample| sample.store == store && Case::of(sample) == case).collect()
    }

    /// The settings, in words.
    pub fn settings_line(&self) -> String {
        let Settings { num, value_bytes, threads, memtable_mib, cache_mib, flush_after_load, .. } = self.settings;
        let mut line = format!(
            "{num} keys of 16 B with values of {value_bytes} B, {threads} threads, memtable {memtable_mib} MiB, cache {cache_mib} MiB"
        );
        if flush_after_load {
            line += ", loads flushed";
        }
        if let Some(seconds) = self.settings.seconds {
            line += &format!(", at most {seconds} s each");
        }
        line
    }

    fn cells(&self, case: Case, store: StoreName) -> Vec<String> {
        let samples = self.samples(case, store);
        let median_of =
            |field: &dyn Fn(&Sample) -> Option<f64>| median(samples.iter().filter_map(|s| field(s)).collect());
        let cell = |field: &dyn Fn(&Sample) -> Option<f64>, show: fn(f64) -> String| {
            median_of(field).map_or_else(|| "-".into(), show)
        };
        let operations = |ops: f64| if ops < 100.0 { short(ops) } else { thousands(ops as u64) };
        let cut_short = samples.iter().any(|sample| sample.is_cut_short);
        let lost = samples.iter().filter_map(|sample| sample.lost_entries).max().filter(|lost| *lost > 0);
        let conflicts = median_of(&|sample| Some(sample.conflicts? as f64));
        let group_peak = samples.iter().filter_map(|sample| sample.group_peak_bytes).max();
        let notes = [
            case.workload.note().map(String::from),
            cut_short.then(|| "cut short".into()),
            conflicts.map(|conflicts| format!("{} conflicts", thousands(conflicts as u64))),
            lost.map(|lost| format!("{} acknowledged entries lost", thousands(lost))),
            group_peak.map(|bytes| format!("{} MiB used at the peak, caches of files included", mib(bytes as f64))),
        ];
        vec![
            case.to_string(),
            store.to_string(),
            cell(&|s| Some(s.ops_per_second), operations),
            spread(samples.iter().map(|s| s.ops_per_second).collect()).map_or_else(|| "-".into(), percent),
            cell(&|s| Some(s.latency?.p50_us), short),
            cell(&|s| Some(s.latency?.p99_us), short),
            cell(&|s| Some(s.latency?.p999_us), short),
            cell(&|s| Some(s.latency?.max_us / 1e3), short),
            cell(&|s| s.write_amplification, short),
            cell(&|s| s.space_amplification, short),
            cell(&|s| Some(s.peak_memory_bytes? as f64), mib),
            cell(&|s| Some(s.heap_bytes? as f64), mib),
            cell(&|s| s.cpu_seconds, short),
            notes.into_iter().flatten().collect::<Vec<_>>().join("; "),
        ]
    }

    /// Every figure of a group of cases, stores below each other.
    pub fn table(&self, group: &[Case]) -> String {
        let mut table = Table::new();
        table.load_preset(presets::ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(HEADER);
        for &case in group {
            for store in self.stores() {
                if !self.samples(case, store).is_empty() || !store.has(case.workload, case.state) {
                    table.add_row(self.cells(case, store));
                }
            }
        }
        for column in 2..HEADER.len() - 1 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.to_string()
    }
}

/// What codec and durability a group of cases has.
pub fn group_name(group: &[Case]) -> String {
    let Case { compression, durability, .. } = group[0];
    format!("codec {compression:?}, durability {durability:?}").to_lowercase()
}

/// Versions as they were built, from the lock file.
fn versions(store: StoreName) -> Vec<Version> {
    let lock = include_str!("../../../Cargo.lock");
    let version_of = |package: &str| {
        let after = lock.split_once(&format!("name = \"{package}\"\nversion = \""))?.1;
        Some(after.split_once('"')?.0.to_owned())
    };
    let packages = store.packages().iter();
    packages
        .filter_map(|package| Some(Version { store, package: (*package).into(), version: version_of(package)? }))
        .collect()
}

const HEADER: [&str; 14] = [
    "workload",
    "store",
    "ops/s",
    "spread",
    "p50 us",
    "p99 us",
    "p99.9 us",
    "worst ms",
    "write amp",
    "space amp",
    "peak MiB",
    "heap MiB",
    "cpu s",
    "",
];

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for group in self.groups() {
            writeln!(f, "{}\n\n{}\n", self.table(&group), group_name(&group))?;
        }
        self.missing().iter().try_for_each(|line| writeln!(f, "{line}"))?;
        write!(f, "{}; {} cores", self.settings_line(), self.machine.cores)?;
        match (self.machine.load_before, self.machine.load_after) {
            (Some(before), Some(after)) => write!(f, ", load {before:.1} before, {after:.1} after"),
            _ => Ok(()),
        }
    }
}

/// The middle one, or half way between the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (lower, upper) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some((lower + upper) / 2.0)
}

/// How far the extremes lie apart, as a part of the median; `None` for a single value.
pub(crate) fn spread(values: Vec<f64>) -> Option<f64> {
    let (min, max) = (values.iter().copied().reduce(f64::min)?, values.iter().copied().reduce(f64::max)?);
    let count = values.len();
    let median = median(values)?;
    (count > 1 && median > 0.0).then(|| (max - min) / median)
}

pub(crate) fn percent(part: f64) -> String {
    format!("{:.0} %", 100.0 * part)
}

pub(crate) fn mib(bytes: f64) -> String {
    format!("{:.0}", bytes / f64::from(1 << 20))
}

/// Three digits that matter.
pub(crate) fn short(value: f64) -> String {
    match value {
        v if v < 10.0 => format!("{v:.2}"),
        v if v < 100.0 => format!("{v:.1}"),
        v => thousands(v as u64),
    }
}

/// With a space before every three digits.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1 000", "1 234 567"]);
        assert_eq!([0.5, 12.34, 4321.0].map(short), ["0.50", "12.3", "4 321"]);
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
        assert_eq!(spread(vec![90.0, 100.0, 110.0]).map(percent).as_deref(), Some("20 %"));
        assert_eq!(spread(vec![90.0]), None);
    }

    #[test]
    fn versions_are_those_of_the_lock_file() {
        let all: Vec<_> =
            [StoreName::Esker, StoreName::RocksDb, StoreName::Lmdb].into_iter().flat_map(versions).collect();
        assert_eq!(all.len(), 5, "{all:?}");
        assert_eq!(all[0].version, env!("CARGO_PKG_VERSION"));
        assert!(all[2].version.contains('+'), "the version of RocksDB itself: {}", all[2].version);
    }
}
