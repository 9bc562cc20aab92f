//! `build-table`, `ingest`, and `import --sorted`.

use super::*;
use serde_json::json;

fn pairs(keys: impl IntoIterator<Item = u32>, value: &str) -> Vec<u8> {
    let line = |key| format!("{{\"key\":\"k{key:04}\",\"value\":\"{value}\"}}\n");
    keys.into_iter().map(line).collect::<String>().into_bytes()
}

#[test]
fn tables_are_built_and_ingested_at_once() {
    let place = Place::new();
    place.file("a.jsonl", &pairs(0..500, "new"));
    place.file("b.jsonl", &pairs(500..600, "new"));
    let report = place.esker(["build-table", "DIR/a.jsonl", "DIR/a.sst", "--json"]).json();
    assert_eq!(json!([report["records"], report["smallest"], report["largest"]]), json!([500, "k0000", "k0499"]));
    assert!(place.esker(["build-table", "DIR/b.jsonl", "DIR/b.sst"]).text().contains("100 records"));
    place.esker(["put", "DB", "k0007", "old"]).text();
    let report = place.esker(["ingest", "DB", "DIR/b.sst", "DIR/a.sst", "--json"]).json();
    let tables = report["tables"].as_array().expect("a list");
    assert_eq!(tables.iter().map(|table| &table["entries"]).collect::<Vec<_>>(), [&json!(500), &json!(100)]);
    assert_eq!(place.esker(["get", "DB", "k0007"]).text(), "new");
    assert_eq!(place.esker(["scan", "DB", "--keys-only"]).text().lines().count(), 600);
    assert!(place.path("a.sst").exists(), "copied");
    let said = place.esker(["ingest", "DB", "DIR/a.sst", "--move", "--keyspace", "other"]).fails(2);
    assert!(said.contains("in the engine already"), "{said}");
    place.file("c.jsonl", &pairs([3], "c"));
    place.esker(["build-table", "DIR/c.jsonl", "DIR/c.sst"]).text();
    let said = place.esker(["ingest", "DB", "DIR/c.sst", "--move"]).text();
    assert!(said.contains("k0003 .. k0003") && said.contains("ingested 1 table of 1 entry"), "{said}");
    assert!(!place.path("c.sst").exists(), "moved");
    assert!(place.esker(["verify", "DB"]).text().starts_with("sound"));
    place.esker(["compact", "DB"]).text();
    assert_eq!(place.esker(["get", "DB", "k0003"]).text(), "c");
    assert!(place.esker(["verify", "DB"]).text().starts_with("sound"));
}

#[test]
fn what_is_no_sorted_input_or_no_table_leaves_nothing() {
    let place = Place::new();
    place.file("unsorted.jsonl", &pairs([1, 3, 2], "x"));
    let said = place.esker(["build-table", "DIR/unsorted.jsonl", "DIR/t.sst"]).fails(2);
    assert!(said.contains("line 3") && said.contains("no table was written"), "{said}");
    let said = place.esker(["import", "DB", "DIR/unsorted.jsonl", "--sorted"]).fails(2);
    assert!(said.contains("line 3") && said.contains("nothing was imported"), "{said}");
    assert!(place.esker(["scan", "DB"]).text().is_empty());
    let left: Vec<_> = std::fs::read_dir(place.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("t.sst")), "{left:?}");

    place.file("sorted.jsonl", &pairs([1, 2, 3], "x"));
    place.esker(["build-table", "DIR/sorted.jsonl", "DIR/t.sst"]).text();
    assert!(place.esker(["build-table", "DIR/sorted.jsonl", "DIR/t.sst"]).fails(2).contains("exists already"));
    let mut bytes = std::fs::read(place.path("t.sst")).unwrap();
    bytes[30] ^= 1;
    place.file("damaged.sst", &bytes);
    assert!(place.esker(["ingest", "DB", "DIR/damaged.sst", "--move"]).fails(1).contains("checksum"));
    assert!(place.path("damaged.sst").exists(), "it is where it was");
    assert!(place.esker(["ingest", "DB", "DIR/none.sst"]).fails(2).contains("none.sst"));
    assert!(place.esker(["scan", "DB"]).text().is_empty());
    let report = place.esker(["import", "DB", "DIR/sorted.jsonl", "--sorted", "--json"]).json();
    assert_eq!(json!([report["records"], report["replaced"], report["skipped"]]), json!([3, 0, 0]));
    assert_eq!(place.esker(["scan", "DB"]).text(), "k0001\tx\nk0002\tx\nk0003\tx\n");
}

#[test]
fn changes_are_printed_as_they_were_committed() {
    let place = Place::new();
    let options = esker::Options { wal_retain_bytes: Some(1 << 30), ..Default::default() };
    let engine = esker::Engine::builder(&place.db).options(options).open().unwrap();
    let users = engine.keyspace("users", esker::KeyspaceOptions::default()).unwrap();
    engine.put("a\t", "1").unwrap();
    users.put("ada", [0xff]).unwrap();
    engine.delete_range("b", "c").unwrap();
    engine.bulk_load([("m", "1"), ("n", "2")]).unwrap();
    engine.close().unwrap();
    drop((users, engine));
    place.esker(["put", "DB", "z", "by the tool"]).text();
    let lines = place.esker(["changes", "DB"]).text();
    let expected = "1\tdefault\tput\ta\\t\t1\n2\tusers\tput\tada\t\\xff\n3\tdefault\tdelete-range\tb\tc\n4\tdefault\tingest\tm\tn\n5\tdefault\tput\tz\tby the tool\n";
    assert_eq!(lines, expected);
    assert_eq!(place.esker(["changes", "DB", "--since", "4"]).text().lines().count(), 1);
    assert_eq!(
        place.esker(["changes", "DB", "--keyspace", "users", "--json"]).json(),
        json!({ "seq": 2, "keyspace_id": 1, "keyspace": "users", "kind": "put", "key": "ada", "value_hex": "ff" })
    );
    let said = place.esker(["changes", "DB", "--since", "99"]).fails(2);
    assert!(said.contains("99"), "{said}");

    let other = Place::new();
    other.esker(["put", "DB", "a", "1"]).text();
    let said = other.esker(["changes", "DB", "--since", "0"]).fails(2);
    assert!(said.contains("from 1 on"), "{said}");
    assert!(other.esker(["changes", "DB"]).text().is_empty());
}

#[test]
fn changes_say_what_expires_and_what_does_not() {
    let place = Place::new();
    let options = esker::Options { wal_retain_bytes: Some(1 << 30), ..Default::default() };
    let engine = esker::Engine::builder(&place.db).options(options).open().unwrap();
    let ttl = Some(std::time::Duration::from_secs(9_000));
    let sessions = engine.keyspace("sessions", esker::KeyspaceOptions { ttl, ..Default::default() }).unwrap();
    sessions.put("7", "ada").unwrap();
    engine.write(esker::WriteBatch::new().put_forever_in(&sessions, "8", "grace").put_forever("9", "edsger")).unwrap();
    engine.close().unwrap();
    drop((sessions, engine));
    let lines = place.esker(["changes", "DB"]).text();
    let (expiring, rest) = lines.split_once('\n').unwrap();
    assert!(expiring.starts_with("1\tsessions\tput-expiring\t") && expiring.ends_with("\t7\tada"), "{expiring}");
    assert_eq!(rest, "2\tsessions\tput-forever\t8\tgrace\n3\tdefault\tput\t9\tedsger\n");
    let json = place.esker(["changes", "DB", "--since", "1", "--json", "--keyspace", "sessions"]).json();
    assert_eq!(json["kind"], json!("put-forever"));
    assert!(json["expires_unix_ms"].is_null());
}

/// An option of a newer version was none at all to the tool, and a put of its took away the logs that the store kept.
#[test]
fn kept_logs_outlast_the_tool_though_it_does_not_know_the_options() {
    let place = Place::new();
    let options = esker::Options { wal_retain_bytes: Some(1 << 30), ..Default::default() };
    let engine = esker::Engine::builder(&place.db).options(options).open().unwrap();
    engine.put("a", "1").unwrap();
    engine.close().unwrap();
    drop(engine);
    let names = place.files().into_iter().map(|(name, ..)| name);
    let path = place.db.join(names.filter(|name| name.starts_with("OPTIONS-")).max().unwrap());
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text + "an_option_to_come = 1\n").unwrap();
    place.esker(["put", "DB", "b", "2"]).text();
    assert_eq!(place.esker(["changes", "DB"]).text(), "1\tdefault\tput\ta\t1\n2\tdefault\tput\tb\t2\n");
}
