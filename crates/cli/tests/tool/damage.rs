//! Damaged files: found, told, and read as far as they can be.

use super::*;
use esker::{Engine, Options, WriteOptions};
use esker_format::checksum::crc32c;
use esker_testkit::disk::run;
use esker_testkit::stress;
use std::os::unix::ffi::OsStrExt;

/// A store with one table of some thousand keys, and keys in the log alone.
pub(super) fn store() -> Place {
    let place = Place::new();
    let records: String = (0..3000).map(|n| format!("{{\"key\":\"{n:05}\",\"value\":\"value of {n}\"}}\n")).collect();
    place.esker_fed(["import", "DB", "-"], records.as_bytes()).text();
    place.esker(["compact", "DB"]).text();
    let engine =
        Engine::builder(&place.db).options(Options { flush_on_close: false, ..Options::default() }).open().unwrap();
    engine.put("in the log", "\tyes").unwrap();
    engine.delete("00000").unwrap();
    engine.close().unwrap();
    place
}

pub(super) fn flip(file: &Path, offset: usize) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[offset] ^= 0x10;
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn a_flipped_bit_in_a_table_is_found() {
    let place = store();
    let table = place.newest(".sst");
    flip(&table, 5000);
    let message = place.esker(["verify", "DB"]).fails(1);
    assert!(message.contains(".sst") && message.contains("checksum"), "{message}");
    let found = place.esker(["verify", "DB", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&found.out).unwrap();
    assert_eq!((found.code, report["damaged"].as_array().unwrap().len()), (1, 1), "{report}");
    let message = place.esker(["scan", "DB"]).fails(1);
    assert!(message.contains("checksum") && message.contains("'esker verify'"), "{message}");
    assert_eq!(place.esker(["get", "DB", "02999"]).text(), "value of 2999", "other blocks keep serving");
}

#[test]
fn a_store_whose_manifest_is_damaged_is_not_opened_and_not_changed() {
    let place = store();
    let manifest = place.newest_manifest();
    flip(&manifest, 64 + 30); // in the first edit
    let before = place.files();
    for words in [["verify", "DB"], ["scan", "DB"], ["compact", "DB"]] {
        let message = place.esker(words).fails(1);
        assert!(message.contains("MANIFEST-"), "{message}");
        assert_eq!(place.files(), before, "{words:?}");
    }
}

/// `verify` stops at the first damage of a table, and is of no use where the store does not open.
#[test]
fn verify_deep_says_all_that_is_wrong_also_of_a_store_that_does_not_open() {
    let place = store();
    let words = place.esker(["verify", "DB", "--deep"]).text();
    assert!(words.starts_with("sound: ") && words.contains("3,000 entries"), "{words}");
    let table = place.newest(".sst");
    flip(&table, 5000);
    flip(&table, 15000);
    flip(&place.newest_manifest(), 64 + 30);
    let before = place.files();
    let found = place.esker(["verify", "DB", "--deep", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&found.out).unwrap();
    let findings = report["findings"].as_array().unwrap();
    assert_eq!((found.code, &report["ok"], findings.len()), (1, &false.into(), 3), "{report}");
    assert_eq!(findings.iter().filter(|finding| finding["offset"].is_number()).count(), 3, "{report}");
    let ran = place.esker(["verify", "DB", "--deep"]);
    let words = String::from_utf8(ran.out.clone()).unwrap();
    assert_eq!(words.matches("means: ").count(), 3, "{words}");
    assert!(ran.fails(1).contains("(esker repair "));
    assert_eq!(place.files(), before);
    assert!(place.esker(["verify", "DIR/none", "--deep"]).fails(2).contains("no folder"));
}

/// The hint at `repair` stood behind every advice: of a store of a newer version too, which it would have made an older one of, and of files that may not be read.
#[test]
fn repair_is_hinted_at_only_where_it_helps() {
    let place = store();
    let denied = place.without_rights(&place.newest(".sst"), ["verify", "DB", "--deep"]).fails(2);
    assert!(denied.contains("not known") && denied.contains("the rights"), "{denied}");
    assert!(!denied.contains("damage") && !denied.contains("repair"), "{denied}");
    let manifest = place.newest_manifest();
    let mut bytes = std::fs::read(&manifest).unwrap();
    bytes[8] = 9; // its version
    let checksum = crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&checksum.to_le_bytes());
    std::fs::write(&manifest, bytes).unwrap();
    let newer = place.esker(["verify", "DB", "--deep"]).fails(1);
    assert!(newer.contains("the version that wrote it") && !newer.contains("repair"), "{newer}");
    std::fs::remove_file(&manifest).unwrap();
    assert!(place.esker(["verify", "DB", "--deep"]).fails(1).contains("(esker repair "));
}

/// Whoever had no right to read a table was given a store without its keys.
#[test]
fn repair_is_refused_to_who_may_not_read_it_all() {
    let place = store();
    let table = place.newest(".sst");
    let denied = place.without_rights(&table, ["repair", "DB", "DIR/new"]).fails(2);
    assert!(denied.contains(table.file_name().unwrap().to_str().unwrap()), "{denied}");
    assert!(denied.contains("ermission denied"), "{denied}");
    assert!(!place.path("new").exists());
}

/// A store that does not open led to `dump`, which shows one file of those who know which, and not to `doctor`.
#[test]
fn a_store_that_does_not_open_leads_to_doctor() {
    let place = store();
    std::fs::remove_file(place.newest_manifest()).unwrap();
    let message = place.esker(["get", "DB", "00001"]).fails(1);
    assert!(message.contains("esker doctor ") && !message.contains("dump"), "{message}");
}

#[test]
fn compact_says_that_it_left_damage_where_it_was() {
    let place = store();
    std::fs::remove_file(place.newest(".sst")).unwrap();
    let ran = place.esker(["compact", "DB"]);
    assert_eq!((ran.code, ran.err.lines().count()), (1, 1), "{}", ran.err);
    assert!(ran.err.contains("1 damaged table was left as it is; 'esker verify'"), "{}", ran.err);
    assert_eq!(place.esker(["get", "DB", "in the log"]).text(), "\tyes");
}

/// A store as a kill leaves it, after three writes of this kind, and the second of them damaged.
fn killed(options: &WriteOptions) -> Place {
    let place = Place::new();
    let engine = Engine::open(place.path("killed")).unwrap();
    for key in ["first", "second", "third"] {
        engine.put_with(key, "value", options).unwrap();
    }
    std::fs::create_dir(&place.db).unwrap();
    for (name, ..) in files(&place.path("killed")) {
        std::fs::copy(place.path("killed").join(&name), place.db.join(&name)).unwrap();
    }
    let log = place.newest(".wal");
    let second = std::fs::read(&log).unwrap().windows(6).position(|bytes| bytes == b"second").unwrap();
    flip(&log, second);
    place
}

/// What nothing vouches for may be left out by recovery, but not without a word.
#[test]
fn what_recovery_leaves_out_of_a_log_is_told() {
    let place = killed(&WriteOptions::default());
    for word in ["verify", "stats"] {
        let words = place.esker([word, "DB"]).text();
        assert!(words.contains("note: not all of a log was read: ") && words.contains(".wal: "), "{words}");
        let report = place.esker([word, "DB", "--json"]).json();
        assert_eq!(report["left_out_of_recovery"].as_array().map(Vec::len), Some(1), "{report}");
    }
    let ran = place.esker(["put", "DB", "fourth", "value"]);
    assert_eq!((ran.code, ran.err.lines().count()), (0, 1), "{}", ran.err);
    assert!(ran.err.starts_with("esker: a log was not whole (") && ran.err.contains(".wal.aside'"), "{}", ran.err);
    assert_eq!(place.esker(["scan", "DB", "--keys-only"]).text(), "first\nfourth\n");
    assert_eq!(place.esker(["put", "DB", "fifth", "value"]).err, "", "told once");
    assert!(!place.esker(["verify", "DB"]).text().contains("note"));
}

#[test]
fn what_was_promised_is_given_up_only_with_salvage() {
    let place = killed(&WriteOptions::sync());
    let before = place.files();
    let message = place.esker(["put", "DB", "fourth", "value"]).fails(1);
    assert!(message.contains("add --salvage") && !message.contains("RecoveryMode"), "{message}");
    let looked = place.esker(["scan", "DB", "--keys-only", "--salvage"]);
    assert_eq!((looked.code, looked.out.as_slice()), (0, &b"first\n"[..]), "{}", looked.err);
    assert!(looked.err.starts_with("esker: --salvage: opened without what is lost: "), "{}", looked.err);
    assert_eq!(place.files(), before, "looking changes nothing");

    let ran = place.esker(["put", "DB", "fourth", "value", "--salvage"]);
    assert_eq!((ran.code, ran.err.lines().count()), (0, 2), "{}", ran.err);
    assert!(ran.err.contains("opened without what is lost") && ran.err.contains(".wal.aside'"), "{}", ran.err);
    assert!(std::fs::metadata(place.newest(".wal.aside")).is_ok());
    assert_eq!(place.esker(["scan", "DB", "--keys-only"]).text(), "first\nfourth\n", "sound again, without it");
    assert_eq!(place.esker(["put", "DB", "fifth", "value", "--salvage"]).err, "", "nothing to give up");
}

#[test]
fn repair_makes_a_store_of_what_is_left_and_says_what_is_lost() {
    let place = store();
    place.esker(["put", "DB", "id", "ada", "--keyspace", "users"]).text();
    let sound = place.esker(["repair", "DB", "DIR/sound", "--json"]).json();
    assert_eq!((&sound["whole"], &sound["exact"]), (&true.into(), &true.into()), "{sound}");
    assert!(place.esker(["export", "DIR/sound"]).text() == place.esker(["export", "DB"]).text());
    assert_eq!(place.esker(["get", "DIR/sound", "id", "--keyspace=users"]).text(), "ada");

    let table = place.newest(".sst");
    let largest = place.files().into_iter().filter(|(name, ..)| name.ends_with(".sst")).max_by_key(|(_, len, _)| *len);
    let table = largest.map_or(table, |(name, ..)| place.db.join(name));
    flip(&table, 5000);
    let before = place.files();
    let ran = place.esker(["repair", "DB", "DIR/new"]);
    let words = String::from_utf8(ran.out.clone()).unwrap();
    assert!(
        words.contains("lost: ")
            && words.contains("of keyspace 'default', keys '")
            && words.contains("keyspace users: 1 key"),
        "{words}"
    );
    assert!(ran.fails(1).contains("1 loss, 1 remark"));
    assert_eq!(place.files(), before);
    place.esker(["verify", "DIR/new", "--deep"]).text();
    let left = place.esker(["scan", "DIR/new", "--keys-only"]).text().lines().count();
    assert!((2700..3000).contains(&left), "{left} of 3000");

    for to in ["DB", "DIR/db/new", "DIR/sound"] {
        let message = place.esker(["repair", "DB", to]).fails(2);
        assert!(message.contains("not to be touched") || message.contains("not empty"), "{to}: {message}");
    }
    std::os::unix::fs::symlink(&place.db, place.path("link")).unwrap();
    assert!(place.esker(["repair", "DB", "DIR/link/new"]).fails(2).contains("not to be touched"));
    // Once `nowhere` was made, this led through the link.
    assert!(place.esker(["repair", "DB", "DIR/nowhere/../link/new"]).fails(2).contains("does not exist"));
    assert!(place.esker(["repair", "DB", "DIR/sound/../link/new"]).fails(2).contains("not to be touched"));
    assert!(!place.db.join("new").exists() && !place.path("nowhere").exists());
    assert!(place.esker(["repair", "DIR/none", "DIR/new2"]).fails(2).contains("no directory"));
    assert!(!place.path("new2").exists());
}

/// A second mount of the damaged store was taken for another folder, and one that holds a file with a name that is no UTF-8 for an empty one.
#[test]
fn repair_sees_the_same_folder_and_every_file_in_the_new_one() {
    let place = store();
    let full = place.path("full");
    std::fs::create_dir(&full).unwrap();
    std::fs::write(full.join(OsStr::from_bytes(b"\xff")), "mine").unwrap();
    assert!(place.esker(["repair", "DB", "DIR/full"]).fails(2).contains("not empty"));
    assert_eq!(std::fs::read_dir(&full).unwrap().count(), 1);

    let twice = place.path("twice");
    std::fs::create_dir(&twice).unwrap();
    if let Err(why) = run(&format!("mount --bind {} {}", place.db.display(), twice.display())) {
        return stress::skip("repair into a second mount", &why);
    }
    let before = place.files();
    let same = ["DIR/twice", "DIR/twice/new"].map(|to| place.esker(["repair", "DB", to]));
    run(&format!("umount {}", twice.display())).unwrap();
    assert_eq!(place.files(), before);
    for ran in same {
        assert!(ran.fails(2).contains("not to be touched"));
    }
}

/// A link in the place of a table is followed to be read; what goes is the link. Files of other names are left alone.
#[test]
fn links_lead_to_no_file_being_changed() {
    let place = store();
    let table = place.newest(".sst");
    let outside = place.path("outside");
    std::fs::rename(&table, &outside).unwrap();
    std::os::unix::fs::symlink(&outside, &table).unwrap();
    std::os::unix::fs::symlink(&outside, place.db.join("999999.sst")).unwrap();
    let others = ["notes.txt", "1.sst", "0000001.sst", "CURRENT.bak", "..sst"];
    for other in others {
        std::fs::write(place.db.join(other), "mine").unwrap();
    }
    let bytes = std::fs::read(&outside).unwrap();
    let before = place.esker(["export", "DB"]).text();
    place.esker(["verify", "DB", "--deep"]).text();
    place.esker(["put", "DB", "x", "y"]).text();
    place.esker(["compact", "DB"]).text();
    assert_eq!(place.esker(["export", "DB"]).text().lines().count(), before.lines().count() + 1);
    assert!(
        std::fs::symlink_metadata(&table).is_err() && std::fs::symlink_metadata(place.db.join("999999.sst")).is_err()
    );
    assert!(std::fs::read(&outside).unwrap() == bytes, "what the link led to");
    for other in others {
        assert_eq!(std::fs::read(place.db.join(other)).unwrap(), b"mine", "{other}");
    }
}

/// Opening a pipe waits for whoever writes to it: repair and doctor hung.
#[test]
fn pipes_of_files_names_are_not_waited_for() {
    let place = store();
    let pipe = |name: &str| {
        assert!(Command::new("mkfifo").arg(place.db.join(name)).status().unwrap().success());
    };
    pipe("000999.sst");
    pipe("000998.wal");
    let found = place.esker(["repair", "DB", "DIR/new", "--json"]).json();
    assert!(found["whole"] == true && found["unused"].to_string().contains("000999.sst"), "{found}");
    std::fs::remove_file(place.db.join("LOCK")).unwrap();
    pipe("LOCK");
    assert!(place.esker(["doctor", "DB"]).fails(1).contains("not a regular file"));
    assert_ne!(place.esker(["verify", "DB", "--deep"]).code, 0);
    assert_ne!(place.esker(["repair", "DB", "DIR/new2"]).code, 0);
}
