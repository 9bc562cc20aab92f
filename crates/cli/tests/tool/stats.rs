//! `stats --json` shows what the engine's own figures are, for whoever opens the store.

use super::Place;
use esker::{Engine, KeyspaceMetrics, KeyspaceOptions, LevelMetrics, Options};
use serde_json::{Value, json};
use std::time::Duration;

/// A store with something of everything, half of it still in the log.
fn fill(place: &Place) {
    let options = Options { flush_on_close: false, blob_bytes_min: 100, ..Options::default() };
    let engine = Engine::builder(&place.db).options(options).open().unwrap();
    let merged = KeyspaceOptions { merge_operator: Some("esker.counter".into()), ..KeyspaceOptions::default() };
    let sums = engine.keyspace("sums", merged).unwrap();
    let expiring = KeyspaceOptions { ttl: Some(Duration::from_secs(3600)), ..KeyspaceOptions::default() };
    let short = engine.keyspace("short", expiring).unwrap();
    for round in 0..3u8 {
        for i in 0..50u8 {
            engine.put([i], [i; 90]).unwrap();
            engine.put([100, i], [round; 300]).unwrap();
            short.put([i], [i; 20]).unwrap();
            sums.merge([i], 1i64.to_le_bytes()).unwrap();
        }
        engine.delete([7]).unwrap();
        engine.delete_range([20], [30]).unwrap();
        if round < 2 {
            engine.flush().unwrap();
        }
    }
    engine.close().unwrap();
}

fn level(level: &LevelMetrics) -> Value {
    json!({
        "level": level.level, "tables": level.tables, "bytes": level.bytes, "raw_bytes": level.raw_bytes, "entries": level.entries,
        "deletions": level.deletions, "range_tombstones": level.range_tombstones, "expiring": level.expiring,
    })
}

fn keyspace(metrics: &KeyspaceMetrics) -> Value {
    let levels: Vec<_> = metrics.levels.iter().filter(|level| level.tables > 0).map(level).collect();
    json!({
        "name": metrics.name, "id": metrics.id, "merge_operator": metrics.merge_operator, "levels": levels,
        "memtable_entries": metrics.active_entries, "table_bytes": metrics.table_bytes(),
        "space_amplification": metrics.space_amplification(), "compaction_debt_bytes": metrics.compaction_debt_bytes,
        "blob_files": metrics.blob_files, "blob_bytes": metrics.blob_bytes, "blob_garbage_bytes": metrics.blob_garbage_bytes,
        "ttl_ms": metrics.ttl.map(|ttl| ttl.as_millis() as u64), "compaction_filter": metrics.compaction_filter,
    })
}

#[test]
fn stats_are_the_figures_of_the_engine() {
    let place = Place::new();
    fill(&place);
    let stats = place.esker(["stats", "DB", "--json"]).json();
    let engine = Engine::builder(&place.db).read_only(true).open().unwrap();
    let metrics = engine.metrics();
    assert!(metrics.keyspaces.iter().all(|keyspace| keyspace.active_entries > 0 && keyspace.table_bytes() > 0));
    assert!(metrics.keyspaces[0].blob_garbage_bytes > 0 && metrics.log_bytes > 0 && metrics.last_seq > 600);
    let expected = json!({
        "keyspaces": metrics.keyspaces.iter().map(keyspace).collect::<Vec<_>>(),
        "last_seq": metrics.last_seq, "logs": metrics.logs, "log_bytes": metrics.log_bytes,
        "retained_logs": metrics.retained_logs, "retained_log_bytes": metrics.retained_log_bytes,
        "written_bytes": metrics.written_bytes, "quarantined_tables": metrics.quarantined_tables,
        "left_out_of_recovery": metrics.left_out_of_recovery,
    });
    assert_eq!(stats, expected);
}
