//! `put`, `get`, `delete`.

use super::*;
use serde_json::json;

#[test]
fn a_value_is_given_back_as_it_is_until_it_is_deleted() {
    let place = Place::new();
    assert_eq!(place.esker(["put", "DB", "greeting", "hello\tworld\n"]).text(), "");
    assert_eq!(place.esker(["get", "DB", "greeting"]).text(), "hello\tworld\n");
    place.esker(["put", "DB", "greeting", "bye"]).text();
    assert_eq!(place.esker(["get", "DB", "greeting"]).text(), "bye", "and no newline added");
    place.esker(["delete", "DB", "greeting"]).text();
    let gone = place.esker(["get", "DB", "greeting"]).fails(1);
    assert_eq!(gone, "there is no key 'greeting' in keyspace 'default'");
    assert_eq!(place.esker(["delete", "DB", "greeting"]).text(), "", "deleting what is not there is fine");
}

#[test]
fn a_range_is_removed_up_to_its_end_and_shown_by_dump_and_stats() {
    let place = Place::new();
    for key in ["a", "b", "b1", "c", "d"] {
        place.esker(["put", "DB", key, key]).text();
    }
    assert_eq!(place.esker(["delete-range", "DB", "b", "c"]).text(), "");
    assert_eq!(place.esker(["scan", "DB"]).text(), "a\ta\nc\tc\nd\td\n");
    assert_eq!(place.esker(["delete-range", "DB", "b", "c"]).text(), "", "nothing is left there, which is fine");
    assert!(place.esker(["delete-range", "DB", "c", "c"]).fails(2).contains("give the smaller key first"));
    assert!(place.esker(["delete-range", "DB", "c", "a"]).fails(2).contains("give the smaller key first"));

    let stats: serde_json::Value = serde_json::from_str(&place.esker(["stats", "DB", "--json"]).text()).unwrap();
    let levels = stats["keyspaces"][0]["levels"].as_array().unwrap();
    let ranges: u64 = levels.iter().map(|level| level["range_tombstones"].as_u64().unwrap()).sum();
    assert!(ranges > 0, "{stats}");
    let dumps: Vec<String> = std::fs::read_dir(&place.db)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sst"))
        .map(|path| place.esker(["dump", "sst", path.to_str().unwrap()]).text())
        .collect();
    assert!(dumps.iter().any(|dump| dump.lines().any(|line| line.ends_with(" delete-range b\tc"))), "{dumps:?}");
    place.esker(["compact", "DB"]).text();
    assert_eq!(place.esker(["scan", "DB"]).text(), "a\ta\nc\tc\nd\td\n");
}

#[test]
fn a_value_with_a_time_to_live_is_shown_with_its_time_and_goes() {
    let place = Place::new();
    place.esker(["put", "DB", "long", "v", "--ttl", "2h"]).text();
    place.esker(["put", "DB", "short", "v", "--ttl", "1ms"]).text();
    place.esker(["put", "DB", "ever", "v"]).text();
    assert_eq!(place.esker(["get", "DB", "long"]).text(), "v");
    let when = place.esker(["get", "DB", "long", "--expires"]).text();
    let (unix_ms, left) = when.trim_end().split_once(" in ").unwrap();
    assert!(unix_ms.parse::<u64>().unwrap() > 1_600_000_000_000 && left == "2 hours", "{when}");
    assert_eq!(place.esker(["get", "DB", "ever", "--expires"]).text(), "never\n");
    let json = |key| -> serde_json::Value {
        serde_json::from_str(&place.esker(["get", "DB", key, "--expires", "--json"]).text()).unwrap()
    };
    assert_eq!(json("long")["expires_unix_ms"], json!(unix_ms.parse::<u64>().unwrap()));
    assert_eq!(json("ever"), json!({ "key": "ever", "value": "v", "expires_unix_ms": null }));
    std::thread::sleep(std::time::Duration::from_millis(2));
    place.esker(["get", "DB", "short"]).fails(1);
    for bad in ["0s", "5", "1w"] {
        place.esker(["put", "DB", "k", "v", "--ttl", bad]).fails(2);
    }

    let stats: serde_json::Value = serde_json::from_str(&place.esker(["stats", "DB", "--json"]).text()).unwrap();
    let levels = stats["keyspaces"][0]["levels"].as_array().unwrap();
    let expiring: u64 = levels.iter().map(|level| level["expiring"].as_u64().unwrap()).sum();
    assert!(expiring > 0 && stats["keyspaces"][0]["ttl_ms"].is_null(), "{stats}");
    assert!(place.esker(["stats", "DB"]).text().contains("expiring"));
    let dumps: Vec<String> = std::fs::read_dir(&place.db)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sst"))
        .map(|path| place.esker(["dump", "sst", path.to_str().unwrap()]).text())
        .collect();
    assert!(dumps.concat().contains(&format!(" put-expiring {unix_ms} long\tv")), "{dumps:?}");
}

#[test]
fn operands_are_merged_and_shown_by_dump_and_stats() {
    let place = Place::new();
    assert!(place.esker(["merge", "DB", "n", "1"]).fails(2).contains("there is no folder"), "it makes none by itself");
    let message = place.esker(["merge", "DB", "n", "much", "--operator", "esker.counter"]).fails(2);
    assert!(message.contains("no number") && !place.db.exists(), "nor one for what it refuses: {message}");
    assert_eq!(place.esker(["merge", "DB", "n", "40", "--operator", "esker.counter"]).text(), "");
    place.esker(["merge", "DB", "n", "-8"]).text();
    place.esker(["merge", "DB", "6e", "0a00000000000000", "--hex"]).text();
    assert_eq!(place.esker(["get", "DB", "6e", "--hex"]).text(), "2a00000000000000");
    assert!(place.esker(["merge", "DB", "n", "much"]).fails(2).contains("no number"));
    assert!(place.esker(["merge", "DB", "n", "1", "--operator", "esker.max"]).fails(2).contains("esker.counter"));
    assert!(
        place.esker(["merge", "DB", "n", "1", "--operator", "mine", "--keyspace", "new"]).fails(2).contains("mine")
    );
    let words = ["merge", "DB", "k", "b", "--operator", "esker.append", "--keyspace", "log"];
    assert_eq!(place.esker(words).text(), "");
    place.esker(["merge", "DB", "k", "c", "--keyspace", "log"]).text();
    assert_eq!(place.esker(["scan", "DB", "--keyspace", "log"]).text(), "k\tbc\n");

    assert!(place.esker(["stats", "DB"]).text().contains("merge operator: esker.counter"));
    let stats: serde_json::Value = serde_json::from_str(&place.esker(["stats", "DB", "--json"]).text()).unwrap();
    assert_eq!(stats["keyspaces"][1]["merge_operator"], "esker.append");
    let tables = || {
        let files = std::fs::read_dir(&place.db).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|extension| extension == "sst"))
    };
    let dump: String =
        tables().map(|path| place.esker(["dump", "sst", path.to_str().unwrap(), "--hex"]).text()).collect();
    assert!(dump.contains(" merge 6e\t"), "{dump}");
    place.esker(["put", "DB", "x", "y", "--keyspace", "plain"]).text();
    assert!(place.esker(["merge", "DB", "x", "z", "--keyspace", "plain"]).fails(2).contains("no merge operator"));
}

#[test]
fn the_empty_key_and_the_empty_value_are_ordinary() {
    let place = Place::new();
    place.esker(["put", "DB", "", "nameless"]).text();
    place.esker(["put", "DB", "void", ""]).text();
    assert_eq!(place.esker(["get", "DB", ""]).text(), "nameless");
    assert_eq!(place.esker(["get", "DB", "void"]).text(), "");
    assert_eq!(place.esker(["scan", "DB"]).text(), "\tnameless\nvoid\t\n");
}

#[test]
fn words_that_look_like_options_and_numbers_can_be_stored() {
    let place = Place::new();
    place.esker(["put", "DB", "-5", "-0.25"]).text();
    place.esker(["put", "DB", "--", "--key", "-v"]).text();
    assert_eq!(place.esker(["get", "DB", "-5"]).text(), "-0.25");
    assert_eq!(place.esker(["get", "DB", "--", "--key"]).text(), "-v");
    assert_eq!(place.esker(["scan", "DB", "--prefix=--"]).text(), "--key\t-v\n");
}

#[test]
fn hex_takes_and_gives_any_bytes() {
    let place = Place::new();
    place.esker(["put", "DB", "00fF", "0a80", "--hex"]).text();
    assert_eq!(place.esker(["--hex", "get", "DB", "00ff"]).text(), "0a80");
    assert_eq!(place.esker(["scan", "DB", "--hex"]).text(), "00ff\t0a80\n");
    place.esker(["delete", "DB", "00ff", "--hex"]).text();
    assert!(place.esker(["get", "DB", "00ff", "--hex"]).fails(1).contains("'00ff'"));
    assert!(place.esker(["get", "DB", "0", "--hex"]).fails(2).contains("odd number"));
    assert!(place.esker(["put", "DB", "k", "00", "--hex"]).fails(2).contains("odd number"));
    assert!(place.esker(["put", "DB", "00", "zz", "--hex"]).fails(2).contains("'zz' is not hex"));
}

#[test]
fn bytes_of_the_command_line_need_not_be_utf8() {
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    let run = |word: &str, rest: &[&[u8]]| {
        let words = [OsStr::new(word), place.db.as_os_str()];
        ran(command(words.into_iter().chain(rest.iter().map(|bytes| OsStr::from_bytes(bytes)))))
    };
    run("put", &[b"\xff", b"\x80\x81"]).text();
    assert_eq!(run("get", &[b"\xff"]).bytes(), b"\x80\x81");
    assert_eq!(run("get", &[b"\xff", b"--json"]).json(), json!({"key_hex": "ff", "value_hex": "8081"}));
    assert_eq!(run("scan", &[b"--prefix", b"\xff"]).text(), "\\xff\t\\x80\\x81\n");
}

#[test]
fn json_names_key_and_value() {
    let place = Place::new();
    place.esker(["put", "DB", "k\"", "v\n"]).text();
    assert_eq!(place.esker(["get", "DB", "k\"", "--json"]).json(), json!({"key": "k\"", "value": "v\n"}));
    assert_eq!(
        place.esker(["get", "DB", "6b22", "--json", "--hex"]).json(),
        json!({"key_hex": "6b22", "value_hex": "760a"})
    );
}

#[test]
fn keyspaces_do_not_see_each_other() {
    let place = Place::new();
    place.esker(["put", "DB", "k", "in default"]).text();
    place.esker(["put", "DB", "k", "in users", "--keyspace", "users"]).text();
    assert_eq!(place.esker(["get", "DB", "k"]).text(), "in default");
    assert_eq!(place.esker(["get", "DB", "k", "--keyspace", "users"]).text(), "in users");
    place.esker(["delete", "DB", "k", "--keyspace=users"]).text();
    place.esker(["get", "DB", "k", "--keyspace=users"]).fails(1);
    assert_eq!(place.esker(["get", "DB", "k"]).text(), "in default");

    for words in [["get", "DB", "k", "--keyspace=user"], ["delete", "DB", "k", "--keyspace=user"]] {
        assert_eq!(place.esker(words).fails(2), "there is no keyspace 'user'; the store has: default, users");
    }
    assert_eq!(
        place.esker(["stats", "DB", "--json"]).json()["keyspaces"].as_array().unwrap().len(),
        2,
        "none was made"
    );
}

#[test]
fn a_key_may_have_65535_bytes_and_no_more() {
    let place = Place::new();
    let (longest, longer) = ("k".repeat(65_535), "k".repeat(65_536));
    let refused = place.esker(["put", "DB", &longer, "v"]).fails(2);
    assert_eq!(refused, "the key has 65536 bytes, and at most 65535 are allowed; shorten it");
    assert!(!place.db.exists(), "no store is made for a put that is refused");
    place.esker(["put", "DB", &longest, "v"]).text();
    assert_eq!(place.esker(["get", "DB", &longest]).text(), "v");
    let gone = place.esker(["get", "DB", &longer]);
    assert!(gone.code != 0 && gone.err.len() < 300, "an error line stays readable: {}", gone.err);
}
