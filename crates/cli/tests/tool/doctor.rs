//! `doctor`: each thing that can be wrong is told in words, with the next command, and nothing is written.

use super::*;
use esker::{Background, Engine, FilterDecision, KeyspaceOptions, LeveledOptions, Options, WriteOptions};
use esker_format::checksum::crc32c;

/// Runs it, sees that nothing has changed, and returns exit code and signs, each as one text.
#[track_caller]
fn signs(place: &Place) -> (i32, Vec<String>) {
    let before = place.files();
    let ran = place.esker(["doctor", "DB", "--json"]);
    assert_eq!(place.files(), before, "it wrote");
    let report: serde_json::Value =
        serde_json::from_slice(&ran.out).unwrap_or_else(|_| panic!("{}: {}", ran.line, ran.err));
    let words = String::from_utf8(place.esker(["doctor", "DB"]).out).unwrap();
    let one = |sign: &serde_json::Value| {
        let part = |name: &str| sign[name].as_str().expect(name).to_owned();
        assert!(words.contains(&part("what")) && words.contains(&part("next")), "{words}");
        format!("{}: {} | {} | {}", part("rank"), part("what"), part("meaning"), part("next"))
    };
    let signs: Vec<String> = report["signs"].as_array().unwrap().iter().map(one).collect();
    assert_eq!(ran.code == 0, ran.err.is_empty(), "{}", ran.err);
    (ran.code, signs)
}

#[track_caller]
fn sees(place: &Place, code: i32, words: &[&str]) {
    let (found, signs) = signs(place);
    let is_seen = signs.iter().any(|sign| words.iter().all(|word| sign.contains(word)));
    assert!(found == code && is_seen, "code {found}, no sign with {words:?} in {signs:#?}");
}

fn store() -> Place {
    let place = Place::new();
    place.esker(["put", "DB", "a", "1"]).text();
    place.esker(["compact", "DB"]).text();
    place
}

fn small(options: Options) -> Options {
    Options { flush_on_close: false, ..options }
}

#[test]
fn a_sound_store() {
    let place = store();
    let words = place.esker(["doctor", "DB"]).text();
    assert!(words.starts_with("nothing is wrong") && words.contains("esker verify "), "{words}");
    assert_eq!(place.esker(["doctor", "DB", "--json"]).json()["rank"], "fine");
}

#[test]
fn what_is_no_store() {
    let place = Place::new();
    assert!(place.esker(["doctor", "DB"]).fails(2).contains("no folder"));
    std::fs::create_dir(&place.db).unwrap();
    sees(&place, 1, &["closed: the folder is empty", "esker put"]);
    std::fs::write(place.db.join("notes.txt"), "x").unwrap();
    sees(&place, 1, &["closed: the folder holds 1 file, and none of a store"]);
    std::fs::rename(&store().db, place.db.join("inner")).unwrap();
    sees(&place, 1, &["there is a store in the folder below", "inner"]);
    let file = place.path("file");
    std::fs::write(&file, "x").unwrap();
    assert!(place.esker(["doctor", "DIR/file"]).fails(1).contains("this is a file"));
}

#[test]
fn who_has_it_open() {
    let place = store();
    // By hand, so that it changes nothing meanwhile.
    let engine = Engine::builder(&place.db).background(Background::Manual).open().unwrap();
    let own = format!("process {} (", std::process::id());
    sees(&place, 1, &["closed: ", &own, "Never remove LOCK"]);
    std::fs::remove_file(place.db.join("LOCK")).unwrap();
    sees(&place, 1, &["closed: ", &own, "Never remove LOCK"]);
    std::fs::write(place.db.join("LOCK"), "").unwrap();
    sees(&place, 1, &["closed: ", &own, "Never remove LOCK"]);
    engine.close().unwrap();
    assert_eq!(signs(&place).0, 0);
    std::fs::remove_file(place.db.join("LOCK")).unwrap();
    sees(&place, 1, &["closed: the file LOCK is missing", "touch "]);
}

#[test]
fn what_can_be_wrong_with_the_manifest() {
    let place = store();
    let manifest = place.newest_manifest();
    let sound = std::fs::read(&manifest).unwrap();
    std::fs::remove_file(&manifest).unwrap();
    sees(&place, 1, &["closed: the manifest MANIFEST-", "is missing", "esker repair "]);

    let mut bytes = sound.clone();
    bytes[64 + 30] ^= 1;
    std::fs::write(&manifest, bytes).unwrap();
    sees(&place, 1, &["closed: the manifest is damaged", "esker repair "]);

    let mut bytes = sound.clone();
    bytes[8] = 9;
    let checksum = crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&checksum.to_le_bytes());
    std::fs::write(&manifest, bytes).unwrap();
    sees(&place, 1, &["closed: a newer version of esker", "esker --version"]);

    std::fs::write(&manifest, &sound).unwrap();
    assert_eq!(signs(&place).0, 0);
    std::fs::write(place.db.join("CURRENT"), "MANIFEST-000001\n").unwrap();
    sees(&place, 1, &["closed: the file CURRENT is damaged"]);
    std::fs::remove_file(place.db.join("CURRENT")).unwrap();
    sees(&place, 1, &["closed: the file CURRENT is missing", "esker repair "]);
}

#[test]
fn files_that_are_missing_cut_or_too_many() {
    let place = store();
    let table = place.newest(".sst");
    let bytes = std::fs::read(&table).unwrap();
    std::fs::copy(&table, place.db.join("000001.sst")).unwrap();
    sees(&place, 0, &["fine: 1 file of ", "the next open for writing removes them"]);
    std::fs::remove_file(place.db.join("000001.sst")).unwrap();
    std::fs::write(&table, &bytes[..bytes.len() / 2]).unwrap();
    sees(&place, 1, &["broken: ", ".sst has ", "cut short"]);
    std::fs::remove_file(&table).unwrap();
    sees(&place, 1, &["broken: ", ".sst is missing", "all other keys"]);
    std::fs::write(&table, &bytes).unwrap();
    std::fs::write(place.db.join("000000.wal.tmp"), "").unwrap();
    sees(&place, 1, &["broken: a sync of a log failed", "dmesg"]);
}

/// A torn end is none of anybody's worries; a hole in the middle is.
#[test]
fn logs_that_end_torn_or_are_damaged() {
    for (options, code, words) in [
        (WriteOptions::default(), 0, ["fine: a log ends in something that is not whole", "nothing: the next open"]),
        (WriteOptions::sync(), 1, ["closed: log ", "--salvage"]),
    ] {
        let (place, other) = (Place::new(), Place::new());
        let engine = Engine::open(&other.db).unwrap();
        for key in ["first", "second", "third"] {
            engine.put_with(key, "value", &options).unwrap();
        }
        std::fs::create_dir(&place.db).unwrap();
        for (name, ..) in other.files() {
            std::fs::copy(other.db.join(&name), place.db.join(&name)).unwrap();
        }
        drop(engine);
        let log = place.newest(".wal");
        let mut bytes = std::fs::read(&log).unwrap();
        let second = bytes.windows(6).position(|bytes| bytes == b"second").unwrap();
        bytes[second] ^= 1;
        std::fs::write(&log, bytes).unwrap();
        sees(&place, code, &words);
    }
}

#[test]
fn functions_that_are_not_there_and_tables_that_pile_up() {
    let place = Place::new();
    let compaction = LeveledOptions { l0_trigger: 30, l0_slowdown: 40, l0_stop: 50, ..LeveledOptions::default() };
    let options = Options { compaction, ..small(Options::default()) };
    let engine = Engine::builder(&place.db)
        .options(options.clone())
        .background(Background::Manual)
        .compaction_filter("mine", |_: u8, _: &[u8], _: &[u8]| FilterDecision::Keep)
        .open()
        .unwrap();
    let own = KeyspaceOptions { compaction_filter: Some("mine".into()), ..KeyspaceOptions::default() };
    let keyspace = engine.keyspace("k", own).unwrap();
    for i in 0..6 {
        keyspace.put([i], "x").unwrap();
        engine.flush().unwrap();
    }
    engine.close().unwrap();
    sees(&place, 0, &["fine: keyspace k has the compaction filter mine", "register"]);
    let compaction = LeveledOptions { l0_trigger: 30, l0_slowdown: 40, l0_stop: 50, ..LeveledOptions::default() };
    let lower = LeveledOptions { l0_trigger: 3, l0_slowdown: 4, l0_stop: 5, ..compaction };
    Engine::builder(&place.db)
        .options(Options { compaction: lower, ..small(Options::default()) })
        .background(Background::Manual)
        .open()
        .unwrap()
        .close()
        .unwrap();
    sees(&place, 1, &["keyspace k has 6 tables in level 0", "esker compact ", "--keyspace 'k'"]);
}
