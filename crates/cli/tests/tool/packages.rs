//! Real records: a sample of Debian's package list, made by the line in `docs/cookbook.md`.

use super::*;
use std::collections::BTreeMap;

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/packages.jsonl")
}

#[test]
fn package_records_go_in_and_come_out_as_they_were() {
    let text = std::fs::read_to_string(sample()).expect("the sample is checked in");
    let by_name: BTreeMap<String, &str> = text
        .lines()
        .map(|line| {
            let record: serde_json::Value = serde_json::from_str(line).expect("one JSON object a line");
            (record["Package"].as_str().expect("a name").to_owned(), line)
        })
        .collect();
    assert!(by_name.len() >= 200 && by_name.len() == text.lines().count(), "one record per key");

    let place = Place::new();
    let file = sample();
    let import = ["import", "DB", file.to_str().unwrap(), "--key", "Package", "--json"];
    let report = place.esker(import).json();
    assert_eq!((&report["records"], &report["replaced"]), (&by_name.len().into(), &0.into()));
    assert_eq!(place.esker(import).json()["replaced"], by_name.len(), "a second time replaces all");

    for name in ["sqlite3", "libpng++-dev", "0ad"] {
        assert_eq!(place.esker(["get", "DB", name]).text(), by_name[name]);
    }
    let with_prefix: Vec<&str> = by_name.keys().map(String::as_str).filter(|name| name.starts_with("libpng")).collect();
    assert!(with_prefix.len() > 3);
    let scanned = place.esker(["scan", "DB", "--prefix", "libpng", "--keys-only"]).text();
    assert_eq!(scanned.lines().collect::<Vec<_>>(), with_prefix);

    let expected: String = by_name.values().map(|line| format!("{line}\n")).collect();
    assert!(place.esker(["export", "DB", "--key", "Package"]).text() == expected, "byte for byte, in key order");
    place.esker(["compact", "DB"]).text();
    assert!(place.esker(["export", "DB", "--format", "jsonl"]).text() == expected);
    place.esker(["verify", "DB"]).text();
}
