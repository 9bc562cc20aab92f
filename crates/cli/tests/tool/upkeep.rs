//! `stats`, `compact`, `checkpoint`, `verify` of a sound store.

use super::*;

fn filled() -> Place {
    let place = Place::new();
    let records: String = (0..3000).map(|n| format!("{{\"key\":\"{n:05}\",\"value\":\"{n}\"}}\n")).collect();
    for _ in 0..2 {
        place.esker_fed(["import", "DB", "-"], records.as_bytes()).text();
    }
    place.esker(["put", "DB", "id", "ada", "--keyspace", "users"]).text();
    place
}

fn entries(keyspace: &serde_json::Value) -> (u64, u64) {
    let levels = keyspace["levels"].as_array().expect("levels");
    let sum = |name: &str| levels.iter().map(|level| level[name].as_u64().unwrap()).sum();
    (sum("entries") + keyspace["memtable_entries"].as_u64().unwrap(), sum("bytes"))
}

#[test]
fn compact_leaves_one_version_of_each_key() {
    let place = filled();
    place.esker(["delete", "DB", "00007"]).text();
    let words = place.esker(["compact", "DB"]).text();
    assert!(words.starts_with("compacted "), "{words}");
    let stats = place.esker(["stats", "DB", "--json"]).json();
    let (default, users) = (&stats["keyspaces"][0], &stats["keyspaces"][1]);
    assert_eq!((&default["name"], entries(default).0), (&"default".into(), 2999));
    assert_eq!((&users["name"], entries(users).0), (&"users".into(), 1));
    assert!((default["space_amplification"].as_f64().unwrap() - 1.0).abs() < 1e-9, "{default}");
    assert_eq!(default["table_bytes"].as_u64().unwrap(), entries(default).1);
    assert!(stats["written_bytes"].as_u64().unwrap() > 2 * 3000 * 6, "all that was ever written: {stats}");
    assert_eq!(place.esker(["scan", "DB", "--keys-only"]).text().lines().count(), 2999);

    let only = place.esker(["stats", "DB", "--json", "--keyspace", "users"]).json();
    assert_eq!(only["keyspaces"].as_array().unwrap().len(), 1);
    let words = place.esker(["stats", "DB"]).text();
    for expected in ["keyspace default", "keyspace users", "L", "2,999", "space amplification 1.00", "bytes written"] {
        assert!(words.contains(expected), "{expected} in {words}");
    }
    for word in ["stats", "compact"] {
        assert!(place.esker([word, "DB", "--keyspace", "user"]).fails(2).contains("there is no keyspace 'user'"));
    }
    assert!(place.esker(["compact", "DB", "--json", "--keyspace=users"]).json()["seconds"].is_number());
}

#[test]
fn a_checkpoint_is_a_store_of_its_own() {
    let place = filled();
    place.esker(["checkpoint", "DB", "DIR/copy"]).text();
    let before = place.esker(["export", "DIR/copy"]).text();
    assert_eq!(before.lines().count(), 3000);
    assert_eq!(place.esker(["get", "DIR/copy", "id", "--keyspace=users"]).text(), "ada");
    place.esker(["put", "DB", "00000", "later"]).text();
    assert!(
        place.esker(["checkpoint", "DB", "DIR/copy"]).fails(2).contains("copy"),
        "what is there is not overwritten"
    );
    std::fs::remove_dir_all(&place.db).unwrap();
    assert!(place.esker(["export", "DIR/copy"]).text() == before, "it needs nothing of the original");
    place.esker(["verify", "DIR/copy"]).text();
    assert!(place.esker(["checkpoint", "DIR/copy", "DB", "--json"]).json()["to"].is_string());
}

#[test]
fn verify_says_what_it_looked_at() {
    let place = filled();
    let report = place.esker(["verify", "DB", "--json"]).json();
    assert_eq!(report["damaged"].as_array().map(Vec::len), Some(0), "{report}");
    assert!(report["tables"].as_u64().unwrap() >= 2 && report["entries"].as_u64().unwrap() >= 3001, "{report}");
    assert!(place.esker(["verify", "DB"]).text().starts_with("sound: "));
}
