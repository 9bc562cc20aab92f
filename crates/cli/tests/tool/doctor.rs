//! `doctor`: each thing that can be wrong is told in words, with the next command, and nothing is written.

use super::*;
use esker::vfs::{LockMode, OsVfs, Vfs};
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

/// Where a repair or a checkpoint was at work it advised to put something there.
#[test]
fn where_a_store_is_being_made() {
    let place = Place::new();
    std::fs::create_dir(&place.db).unwrap();
    let lock = OsVfs.lock(&place.db.join("LOCK"), LockMode::Exclusive).unwrap();
    for file in ["LOCK", "000003.sst"] {
        std::fs::write(place.db.join(file), "").unwrap();
        sees(
            &place,
            1,
            &["closed: ", "is at work here", "a repair or a checkpoint is under way", "wait for it to end"],
        );
        let (_, signs) = signs(&place);
        let says = |words| signs.iter().any(|sign| sign.contains(words));
        assert!(!says("esker put") && !says("esker repair") && !says("end that process"), "{signs:#?}");
    }
    drop(lock);
    sees(&place, 1, &["closed: the file CURRENT is missing", "esker repair"]);
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
    assert_eq!(signs(&place).0, 0, "it is made by who opens it for writing");
    assert!(!place.db.join("LOCK").exists());
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
    sees(&place, 1, &["keyspace k has 6 tables in level 0", "esker compact ", "--keyspace=k"]);
}

/// `doctor` said that the manifest is damaged where it may not be read, or is a folder, and had the store restored.
#[test]
fn a_manifest_that_may_not_be_read_is_not_called_damaged() {
    let place = store();
    let manifest = place.newest_manifest();
    let denied = place.without_rights(&manifest, ["doctor", "DB"]);
    let words = String::from_utf8(denied.out).unwrap();
    assert!(words.contains("does not open: the manifest can't be read: ") && words.contains("change the permissions"));
    assert!(!words.contains("repair") && !words.contains("damaged"), "{words}");
    let (options, ..) = place.files().into_iter().find(|(name, ..)| name.starts_with("OPTIONS-")).unwrap();
    let options = place.db.join(options);
    let denied = place.without_rights(&options, ["doctor", "DB"]);
    let words = String::from_utf8(denied.out).unwrap();
    assert!(
        words.contains("the stored options can't be read: ") && words.contains("change the permissions"),
        "{words}"
    );
    assert!(!words.contains("damaged"), "{words}");
    std::fs::remove_file(&options).unwrap();
    std::fs::create_dir(&options).unwrap();
    sees(&place, 1, &["broken: the stored options are damaged", "stores its own options"]);
    std::fs::remove_dir(&options).unwrap();
    std::fs::remove_file(&manifest).unwrap();
    std::fs::create_dir(&manifest).unwrap();
    sees(&place, 1, &["closed: the manifest can't be read: ", "esker repair "]);
}

/// Without descriptors left it advised to move `LOCK` away.
#[test]
fn who_has_no_descriptors_left_is_told_so() {
    let place = store();
    for limit in 4..16 {
        let mut few = Command::new("sh");
        few.args(["-c", r#"ulimit -n "$0"; exec "$1" doctor "$2""#, &limit.to_string()]);
        few.arg(env!("CARGO_BIN_EXE_esker")).arg(&place.db).stdin(Stdio::null());
        let ran = ran(few);
        // Not even the program could be loaded.
        if ran.code == 127 {
            continue;
        }
        let words = format!("{}{}", String::from_utf8_lossy(&ran.out), ran.err);
        assert!(
            !words.contains("damaged") && !words.contains("move away") && !words.contains("repair"),
            "{limit}: {words}"
        );
        assert!(ran.code == 0 || words.contains("'ulimit -n'"), "{limit}: {words}");
    }
    assert_eq!(signs(&place).0, 0);
}

/// Who opens a store for writing makes `LOCK` anew, and who reads needs none; that it was missing was told as graver than anything else, so that of a store without CURRENT too the last advice was `touch LOCK`.
#[test]
fn a_missing_lock_is_the_least_of_worries() {
    let place = store();
    std::fs::remove_file(place.db.join("LOCK")).unwrap();
    assert_eq!(signs(&place).0, 0);
    std::fs::remove_file(place.db.join("CURRENT")).unwrap();
    let message = place.esker(["doctor", "DB"]).fails(1);
    assert!(message.contains("CURRENT") && !message.contains("touch"), "{message}");
}

/// An old manifest came back, and the tables that it does not know, with the newest writes, were called `fine: they mean nothing` beside `does not open: .. holds writes`.
#[test]
fn files_that_the_manifest_does_not_name_are_kept_where_the_store_does_not_open() {
    let place = store();
    let keep = place.path("old");
    std::fs::create_dir(&keep).unwrap();
    let old = [place.newest_manifest(), place.db.join("CURRENT")];
    for file in &old {
        std::fs::copy(file, keep.join(file.file_name().unwrap())).unwrap();
    }
    place.esker(["put", "DB", "newer", "2"]).text();
    place.esker(["compact", "DB"]).text();
    for file in &old {
        std::fs::copy(keep.join(file.file_name().unwrap()), file).unwrap();
    }
    place.esker(["get", "DB", "newer"]).fails(1);
    let (code, signs) = signs(&place);
    let all = signs.join("\n");
    assert!(code == 1 && signs[0].starts_with("closed: "), "{all}");
    assert!(!all.contains("mean nothing") && !all.contains("removes them"), "{all}");
    assert!(all.contains("that the manifest does not name") && all.contains("leave them where they are"), "{all}");
}

/// A blob file that can't be opened was called a table, `000015.sst`, whose key range fails; and told twice once it was missing.
#[test]
fn blob_files_are_called_so_and_told_once() {
    let place = Place::new();
    place.esker(["put", "DB", "large", &"x".repeat(50_000)]).text();
    place.esker(["compact", "DB"]).text();
    let blob = place.newest(".blob");
    let name = blob.file_name().unwrap().to_str().unwrap();
    let mut bytes = std::fs::read(&blob).unwrap();
    bytes[3] ^= 1; // in its header
    std::fs::write(&blob, &bytes).unwrap();
    sees(&place, 1, &[&format!("broken: blob file {name} can't be opened"), "large values"]);
    assert!(!signs(&place).1.join("\n").contains("key range"));
    std::fs::remove_file(&blob).unwrap();
    let told = signs(&place).1;
    assert_eq!(told.iter().filter(|sign| sign.contains(&name[..6])).count(), 1, "{told:#?}");
}

/// `OPTIONS` has no checksum: a flipped bit in it was a newer version's doing, with the advice to open the store with that.
#[test]
fn what_is_damaged_in_the_options_is_not_taken_for_a_newer_version_alone() {
    let place = store();
    let names = place.files().into_iter().map(|(name, ..)| name);
    let file = place.db.join(names.filter(|name| name.starts_with("OPTIONS-")).max().unwrap());
    let sound = std::fs::read_to_string(&file).unwrap();
    for garbage in ["\u{0}\u{1}\u{2}", "no line of ours", &sound.replace("durability = os", "durability = \u{7}")] {
        std::fs::write(&file, garbage).unwrap();
        sees(&place, 1, &["broken: the stored options are damaged", "opening does not depend on the file"]);
        assert!(!signs(&place).1.join("\n").contains("newer version"));
    }
    for (line, flipped) in [("durability = os", "durability = or"), ("recovery = ", "secovery = ")] {
        assert!(sound.contains(line), "{sound}");
        std::fs::write(&file, sound.replace(line, flipped)).unwrap();
        sees(&place, 0, &["fine: the stored options can't all be read", "a newer version wrote it, or it is damaged"]);
    }
    std::fs::write(&file, sound.replace("= bytewise", "= bytewisd")).unwrap();
    sees(&place, 1, &["closed: ", "a newer version wrote it, or it is damaged", "write the line anew"]);
    let next = signs(&place).1.remove(0);
    let line = next.rsplit_once(", '").unwrap().1.trim_end_matches('\'');
    std::fs::write(&file, sound.replace("comparator = bytewise", line)).unwrap();
    assert_eq!(signs(&place).0, 0);
}
