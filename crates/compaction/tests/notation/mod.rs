//! Trees in text, one level a line:
//!
//! ```text
//! L0: 9:a-f@10 8:b-c@10        table 9 holds keys a to f, 10 bytes; level 0 newest first
//! L6: 3:a-c@40!6               table 3 holds 6 tombstones among its 10 entries
//! L0: 12#11:a-c@9 11:d-f@9     tables 12 and 11, ingested together
//! busy: 3                      excluded from all plans
//! ```
//! All entries of a table have the table's number as sequence number, where none is given.
#![allow(dead_code, reason = "each test program uses a part")]

use esker_compaction::{Busy, LeveledOptions, Plan};
use esker_format::{FileId, FileNo, InternalKey, KeyspaceId, SeqNo, ValueKind};
use esker_manifest::{KeyspaceVersion, TableMeta};
use std::sync::Arc;

/// Base size 64, ratio 10, tables of 10 bytes.
pub(crate) fn options() -> LeveledOptions {
    LeveledOptions {
        level_base_bytes: 64,
        table_bytes: 10,
        debt_slowdown_bytes: 1_000,
        debt_stop_bytes: 2_000,
        ..LeveledOptions::default()
    }
}

pub(crate) fn table(number: u64, smallest: &str, largest: &str, file_bytes: u64, deletions: u64) -> TableMeta {
    let seq = SeqNo(number);
    TableMeta {
        number: FileNo(number),
        file_id: FileId(number),
        file_bytes,
        smallest: InternalKey::new(smallest.as_bytes(), seq, ValueKind::Put).to_buf(),
        largest: InternalKey::new(largest.as_bytes(), seq, ValueKind::Put).to_buf(),
        smallest_seq: seq,
        largest_seq: seq,
        entries: 10,
        deletions,
        created_unix_ms: 0,
        blobs: Vec::new(),
        ranges: None,
        table_seq: None,
        expiries: None,
    }
}

fn parse_table(text: &str) -> TableMeta {
    let (name, rest) = text.split_once(':').unwrap();
    let (number, seq) = name.split_once('#').unwrap_or((name, name));
    let (keys, size) = rest.split_once('@').unwrap();
    let (smallest, largest) = keys.split_once('-').unwrap();
    let (bytes, deletions) = size.split_once('!').unwrap_or((size, "0"));
    let seq_like = table(seq.parse().unwrap(), smallest, largest, bytes.parse().unwrap(), deletions.parse().unwrap());
    TableMeta { number: FileNo(number.parse().unwrap()), ..seq_like }
}

/// A tree, and what is excluded in it.
pub(crate) fn define(text: &str) -> (KeyspaceVersion, Busy) {
    let mut version = KeyspaceVersion::new(KeyspaceId(1), "test", "");
    let mut busy = Busy::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (head, items) = line.split_once(':').unwrap();
        if head == "busy" {
            items.split_whitespace().for_each(|item| busy.exclude(FileNo(item.parse().unwrap())));
            continue;
        }
        let level: usize = head.strip_prefix('L').unwrap().parse().unwrap();
        version.levels[level] = items.split_whitespace().map(|item| Arc::new(parse_table(item))).collect();
    }
    check(&version);
    (version, busy)
}

/// Panics unless level 0 is sorted by age and the others by key, without a shared user key.
pub(crate) fn check(version: &KeyspaceVersion) {
    assert!(version.levels[0].is_sorted_by(|a, b| a.largest_seq >= b.largest_seq), "{version:?}");
    for level in &version.levels[1..] {
        assert!(level.is_sorted_by(|a, b| a.largest.user_key < b.smallest.user_key), "{level:?}");
    }
}

fn numbers(tables: &[Arc<TableMeta>]) -> String {
    tables.iter().map(|table| table.number.0.to_string()).collect::<Vec<_>>().join(" ")
}

/// `L0[9 8] -> L6 merge, grandparents 4 5, deeper 4 5 | 7`; what is empty is left out.
pub(crate) fn show(plan: Option<&Plan>) -> String {
    let Some(plan) = plan else { return "none".into() };
    let mut text = plan.to_string();
    if !plan.grandparents.is_empty() {
        text += &format!(", grandparents {}", numbers(&plan.grandparents));
    }
    if !plan.deeper.is_empty() {
        let runs: Vec<String> = plan.deeper.iter().map(|run| numbers(run)).collect();
        text += &format!(", deeper {}", runs.join(" | "));
    }
    text
}
