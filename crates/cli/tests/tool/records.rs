//! `import` and `export`.

use super::*;
use serde_json::{Value, json};

/// Without what differs from run to run.
fn counts(report: &Value) -> Value {
    json!([report["records"], report["replaced"], report["skipped"]])
}

#[test]
fn json_lines_come_back_byte_for_byte_in_key_order() {
    let place = Place::new();
    let lines =
        ["{\"id\": 2, \"x\":1.0}", " {\"x\":{\"id\":9},\"id\":\"10\"} ", "{\"id\":\"\u{e9}\\n\"}\r", "{\"id\":\"\"}"];
    let text = format!("{}\n\n{}\n{}\n{}", lines[0], lines[1], lines[2], lines[3]);
    place.file("in.jsonl", text.as_bytes());
    let report = place.esker(["import", "DB", "DIR/in.jsonl", "--key", "id", "--json"]).json();
    assert_eq!(counts(&report), json!([4, 0, 0]));
    assert_eq!(place.esker(["get", "DB", "10"]).text(), lines[1]);
    assert_eq!(place.esker(["get", "DB", "2"]).text(), lines[0]);
    let exported = place.esker(["export", "DB", "--format", "jsonl"]).text();
    assert_eq!(exported, [lines[3], lines[1], lines[0], lines[2]].map(|line| format!("{line}\n")).concat());
    assert_eq!(place.esker(["export", "DB", "--key", "id"]).text(), exported);
}

#[test]
fn csv_comes_back_byte_for_byte_after_its_header() {
    let place = Place::new();
    let header = "n,\"the id\",x\r";
    let records = ["1,b,\"two\nlines, \"\"quoted\"\"\"\r", "2,\"a\"\"\",\r", "3,c,z\r"];
    let sorted = [records[1], records[0], records[2]];
    place.file("in.csv", format!("\u{feff}{header}\n{}\n", records.join("\n")).as_bytes());
    place.esker(["import", "DB", "DIR/in.csv", "--key", "the id"]).text();
    assert_eq!(place.esker(["get", "DB", "a\""]).text(), records[1]);
    let expected = format!("{header}\n{}\n", sorted.join("\n"));
    let export = ["export", "DB", "--format", "csv", "--header", header];
    assert_eq!(place.esker(export).text(), expected);
    assert_eq!(place.esker(["export", "DB", "--format=csv", "--key=the id", "--header", header]).text(), expected);

    let again = Place::new();
    again.esker_fed(["import", "DB", "-", "--format", "csv", "--key", "the id"], expected.as_bytes()).text();
    assert_eq!(again.esker(export).text(), expected);
}

#[test]
fn tsv_with_and_without_quotes() {
    let place = Place::new();
    place.file("in.tsv", b"size\tid\n5\" disk\tb\n\"a\tb\"\ta\n");
    place.esker(["import", "DB", "DIR/in.tsv", "--key", "id"]).text();
    assert_eq!(place.esker(["export", "DB", "--format", "tsv"]).text(), "\"a\tb\"\ta\n5\" disk\tb\n");

    let place = Place::new();
    place.file("in.tsv", b"size\tid\n\"5 inch\tb\n");
    assert!(place.esker(["import", "DB", "DIR/in.tsv", "--key", "id"]).fails(2).contains("never closed"));
    place.esker(["import", "DB", "DIR/in.tsv", "--key", "id", "--no-quotes"]).text();
    assert_eq!(place.esker(["get", "DB", "b"]).text(), "\"5 inch\tb");
    let export = place.esker(["export", "DB", "--format=tsv", "--no-quotes", "--key=id", "--header=size\tid"]);
    assert_eq!(export.text(), "size\tid\n\"5 inch\tb\n");
}

#[test]
fn pairs_move_a_keyspace_of_any_bytes_there_and_back() {
    let place = Place::new();
    for (key, value) in [("00", ""), ("ff80", "0a09"), ("61", "c3a9"), ("", "00"), ("6222", "5c")] {
        place.esker(["put", "DB", key, value, "--hex", "--keyspace", "blobs"]).text();
    }
    let pairs = place.esker(["export", "DB", "--keyspace", "blobs"]).text();
    assert_eq!(
        pairs,
        "{\"key\":\"\",\"value\":\"\\u0000\"}\n{\"key\":\"\\u0000\",\"value\":\"\"}\n{\"key\":\"a\",\"value\":\"\u{e9}\"}\n\
         {\"key\":\"b\\\"\",\"value\":\"\\\\\"}\n{\"key_hex\":\"ff80\",\"value\":\"\\n\\t\"}\n"
    );
    let there = Place::new();
    let report = there.esker_fed(["import", "DB", "-", "--keyspace=other", "--json"], pairs.as_bytes()).json();
    assert_eq!(counts(&report), json!([5, 0, 0]));
    assert_eq!(there.esker(["export", "DB", "--keyspace=other", "--format=pairs"]).text(), pairs);
    assert_eq!(there.esker(["export", "DB"]).text(), "", "nothing went into the default keyspace");

    let in_hex = there.esker(["export", "DB", "--keyspace=other", "--hex"]).text();
    assert!(in_hex.starts_with("{\"key_hex\":\"\",\"value_hex\":\"00\"}\n"), "{in_hex}");
    let back = Place::new();
    back.esker_fed(["import", "DB", "-"], in_hex.as_bytes()).text();
    assert_eq!(back.esker(["export", "DB"]).text(), pairs);
}

#[test]
fn import_says_how_many_records_replaced_an_earlier_one() {
    let place = Place::new();
    let line = |n: u32| format!("{{\"id\":{n}}}\n");
    let first: String = [1, 2, 1, 3, 1].map(line).concat();
    let report = place.esker_fed(["import", "DB", "-", "--key", "id", "--json"], first.as_bytes()).json();
    assert_eq!(counts(&report), json!([5, 2, 0]), "two of the three with id 1, within one batch");
    let second: String = (0..2500).chain(2490..2510).map(line).collect();
    let report = place.esker_fed(["import", "DB", "-", "--key", "id", "--json"], second.as_bytes()).json();
    assert_eq!(counts(&report), json!([2520, 13, 0]), "three of the store, ten of this file, over several batches");
    let words = place.esker_fed(["import", "DB", "-", "--key", "id"], line(7).as_bytes()).text();
    assert!(words.starts_with("imported 1 record, 1 replaced an earlier one;"), "{words}");
    place.esker(["delete", "DB", "7"]).text();
    let report = place.esker_fed(["import", "DB", "-", "--key", "id", "--json"], line(7).as_bytes()).json();
    assert_eq!(counts(&report), json!([1, 0, 0]), "what was deleted is not replaced");
}

#[test]
fn a_bad_line_is_named_and_what_came_before_it_is_stored() {
    let place = Place::new();
    let text = "{\"id\":1}\n{\"id\":2}\n{\"id\":3\n{\"id\":4}\nnot json\n{\"no\":5}\n{\"id\":6}\n";
    place.file("in.jsonl", text.as_bytes());
    let message = place.esker(["import", "DB", "DIR/in.jsonl", "--key", "id"]).fails(2);
    assert!(
        message.contains("in.jsonl: the first 2 records were imported, then it stopped: line 3: column 7: "),
        "{message}"
    );
    assert!(message.ends_with("mend it, or add --skip-bad to go on without it"), "{message}");
    let no_key = place.esker(["import", "DIR/other", "DIR/in.jsonl"]).fails(2);
    assert!(no_key.ends_with("add --key FIELD"), "{no_key}");
    assert_eq!(place.esker(["scan", "DB", "--keys-only"]).text(), "1\n2\n");

    let ran = place.esker(["import", "DB", "DIR/in.jsonl", "--key", "id", "--skip-bad", "--json"]);
    assert_eq!(ran.code, 0);
    assert_eq!(counts(&serde_json::from_slice(&ran.out).unwrap()), json!([4, 2, 3]));
    let lines: Vec<&str> = ran.err.lines().collect();
    assert_eq!(lines.len(), 3, "{}", ran.err);
    for (line, number) in lines.iter().zip([3, 5, 6]) {
        assert!(line.contains(&format!("in.jsonl: line {number}: ")) && line.ends_with("; skipped"), "{line}");
    }
    assert_eq!(place.esker(["scan", "DB", "--keys-only"]).text(), "1\n2\n4\n6\n");
}

#[test]
fn of_many_bad_lines_only_the_first_are_told() {
    let place = Place::new();
    let ran = place.esker_fed(["import", "DB", "-", "--skip-bad"], "x\n".repeat(1000).as_bytes());
    assert_eq!((ran.code, ran.err.lines().count()), (0, 21));
    assert!(
        String::from_utf8(ran.out)
            .unwrap()
            .starts_with("imported 0 records, 0 replaced an earlier one, 1,000 bad skipped;")
    );
}

#[test]
fn keys_and_records_that_are_too_long_are_bad_lines() {
    let place = Place::new();
    let text = format!("{{\"id\":\"{}\"}}\n{{\"id\":\"{}\"}}\n", "k".repeat(65_536), "k".repeat(65_535));
    let import = ["import", "DB", "-", "--key", "id", "--json"];
    let message = place.esker_fed(import, text.as_bytes()).fails(2);
    assert!(message.contains("line 1: the key has 65536 bytes, and at most 65535 are allowed"), "{message}");
    let ran = place.esker_fed(["import", "DB", "-", "--key", "id", "--skip-bad", "--json"], text.as_bytes());
    assert_eq!(counts(&serde_json::from_slice(&ran.out).unwrap()), json!([1, 0, 1]));
    let limited = ["import", "DB", "-", "--key", "id", "--record-limit", "64K"];
    let message = place.esker_fed(limited, text.as_bytes()).fails(2);
    assert!(
        message.contains("line 1: longer than the limit of 65536 bytes; raise it with --record-limit"),
        "{message}"
    );
}

#[test]
fn an_export_that_import_would_not_take_is_refused() {
    let place = Place::new();
    place.esker(["put", "DB", "a", "{\"id\":\"a\"}"]).text();
    place.esker(["put", "DB", "b", "{\"id\":\n\"b\"}"]).text();
    let message = place.esker(["export", "DB", "--format", "jsonl"]).fails(2);
    assert_eq!(
        message,
        "the value of key 'b' is not one line, or a blank one; use --format pairs, which takes any value"
    );
    place.esker(["put", "DB", "b", "{\"id\":\"c\"}"]).text();
    assert_eq!(place.esker(["export", "DB", "--format", "jsonl"]).text(), "{\"id\":\"a\"}\n{\"id\":\"c\"}\n");
    assert!(place.esker(["export", "DB", "--key", "id"]).fails(2).contains("of key 'b' names another key, 'c'"));
    assert!(place.esker(["export", "DB", "--key", "name"]).fails(2).contains("no field \"name\""));
    place.esker(["put", "DB", "b", "text"]).text();
    assert!(place.esker(["export", "DB", "--format", "jsonl"]).fails(2).contains("of key 'b' is not such a record"));
    place.esker(["put", "DB", "a", "1,2"]).text();
    place.esker(["put", "DB", "b", "1,2,3"]).text();
    let message = place.esker(["export", "DB", "--format=csv", "--header=x,y"]).fails(2);
    assert!(message.contains("of key 'b' is not such a record: 3 fields, and the header has 2"), "{message}");
    assert_eq!(place.esker(["export", "DB", "--format=csv"]).text(), "1,2\n1,2,3\n", "without a header nobody knows");
    place.esker(["put", "DB", "b", "1,\"2"]).text();
    assert!(place.esker(["export", "DB", "--format", "csv"]).fails(2).contains("of key 'b' is not one record"));
    for words in
        [["--header", "a"], ["--format=csv", "--json"], ["--format=jsonl", "--hex"], ["--format=pairs", "--key=a"]]
    {
        let refused = place.esker(["export", "DB", words[0], words[1]]).fails(2);
        assert!(refused.contains("leave "), "{refused}");
    }
}
