//! Samples as a table of medians, and as JSON.

use crate::args::{Settings, StoreName};
use crate::job::Sample;
use crate::process;
use crate::workload::Workload;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::{Deserialize, Serialize};
use std::fmt;

/// All that a run found; its `Display` is the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Version of this JSON. Fields may be added under the same number.
    pub format: u32,
    /// Version of Esker.
    pub esker_version: String,
    /// Where it ran.
    pub machine: Machine,
    /// What was asked for.
    pub settings: Settings,
    /// Every measurement, in the order in which they were made.
    pub samples: Vec<Sample>,
}

/// What of the machine explains figures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Threads that can run at a time.
    pub cores: usize,
    /// Load average of the last minute before the run: what else went on.
    pub load_before: Option<f64>,
    /// The same after it, with the run itself.
    pub load_after: Option<f64>,
}

impl Machine {
    /// Before the first measurement.
    pub fn at_start() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { cores, load_before: process::load_average(), load_after: None }
    }

    /// After the last one.
    #[must_use]
    pub fn at_end(self) -> Self {
        Self { load_after: process::load_average(), ..self }
    }
}

impl Report {
    /// A report of the current format.
    pub fn new(settings: Settings, machine: Machine, samples: Vec<Sample>) -> Self {
        Self { format: 1, esker_version: env!("CARGO_PKG_VERSION").into(), machine, settings, samples }
    }

    /// Workloads and stores, in order of first appearance.
    fn rows(&self) -> Vec<(Workload, StoreName)> {
        let mut rows: Vec<(Workload, StoreName)> = Vec::new();
        for sample in &self.samples {
            let row = (sample.workload, sample.store);
            if !rows.contains(&row) {
                // Behind the last of the same workload, so that stores stand below each other.
                let at = rows.iter().rposition(|(workload, _)| *workload == row.0).map_or(rows.len(), |at| at + 1);
                rows.insert(at, row);
            }
        }
        rows
    }

    fn cells(&self, (workload, store): (Workload, StoreName)) -> Vec<String> {
        let samples: Vec<_> = self.samples.iter().filter(|s| (s.workload, s.store) == (workload, store)).collect();
        let median_of =
            |field: &dyn Fn(&Sample) -> Option<f64>| median(samples.iter().filter_map(|s| field(s)).collect());
        let cell = |field: &dyn Fn(&Sample) -> Option<f64>, show: fn(f64) -> String| {
            median_of(field).map_or_else(|| "-".into(), show)
        };
        vec![
            workload.to_string(),
            store.to_string(),
            cell(&|s| Some(s.ops_per_second), |ops| thousands(ops as u64)),
            spread(samples.iter().map(|s| s.ops_per_second).collect()).unwrap_or_else(|| "-".into()),
            cell(&|s| Some(s.latency?.p50_us), short),
            cell(&|s| Some(s.latency?.p99_us), short),
            cell(&|s| Some(s.latency?.p999_us), short),
            cell(&|s| s.write_amplification, short),
            cell(&|s| s.space_amplification, short),
            cell(&|s| Some(s.peak_memory_bytes? as f64), mib),
            cell(&|s| Some(s.heap_bytes? as f64), mib),
            cell(&|s| s.cpu_seconds, short),
            workload.note().unwrap_or("").into(),
        ]
    }
}

const HEADER: [&str; 13] = [
    "workload",
    "store",
    "ops/s",
    "spread",
    "p50 us",
    "p99 us",
    "p99.9 us",
    "write amp",
    "space amp",
    "peak MiB",
    "heap MiB",
    "cpu s",
    "",
];

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_preset(presets::ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(HEADER);
        for row in self.rows() {
            table.add_row(self.cells(row));
        }
        for column in 2..HEADER.len() - 1 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let Settings { num, value_bytes, threads, .. } = self.settings;
        let Settings { compression, durability, memtable_mib, cache_mib, .. } = self.settings;
        writeln!(f, "{table}\n")?;
        write!(
            f,
            "{num} keys of 16 B with values of {value_bytes} B, {threads} threads, codec {compression:?}, durability {durability:?}, memtable {memtable_mib} MiB, \
             cache {cache_mib} MiB; {} cores",
            self.machine.cores
        )?;
        match (self.machine.load_before, self.machine.load_after) {
            (Some(before), Some(after)) => write!(f, ", load {before:.1} before, {after:.1} after"),
            _ => Ok(()),
        }
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (lower, upper) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some((lower + upper) / 2.0)
}

/// How far the extremes lie apart, as a part of the median; `None` for a single value.
fn spread(values: Vec<f64>) -> Option<String> {
    let (min, max) = (values.iter().copied().reduce(f64::min)?, values.iter().copied().reduce(f64::max)?);
    let count = values.len();
    let median = median(values)?;
    (count > 1 && median > 0.0).then(|| format!("{:.0} %", 100.0 * (max - min) / median))
}

fn mib(bytes: f64) -> String {
    format!("{:.0}", bytes / f64::from(1 << 20))
}

/// Three digits that matter.
fn short(value: f64) -> String {
    match value {
        v if v < 10.0 => format!("{v:.2}"),
        v if v < 100.0 => format!("{v:.1}"),
        v => thousands(v as u64),
    }
}

/// With a space before every three digits.
fn thousands(number: u64) -> String {
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
        assert_eq!(spread(vec![90.0, 100.0, 110.0]).as_deref(), Some("20 %"));
        assert_eq!(spread(vec![90.0]), None);
    }
}
