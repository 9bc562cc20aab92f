//! Places where nothing can be written any more: a full disk, and standard error on one.

use super::*;
use esker_testkit::disk::{Disk, Kind};
use esker_testkit::random::Random;
use esker_testkit::stress;
use std::fs::{self, File};

/// A file system of its own that is soon full.
fn small_disk(what: &'static str) -> Option<Disk> {
    Disk::new(Kind::Ext4, 24 << 20).map_err(|why| stress::skip(what, &why)).ok()
}

/// `merge` stored its operand, could not flush when it closed the store, and said to make room and run it again: who did had it counted twice.
#[test]
fn on_a_full_disk_what_did_not_count_failed_and_what_failed_did_not_count() {
    let Some(disk) = small_disk("tool on a full disk") else { return };
    let place = Place { db: disk.at.join("db"), ..Place::new() };
    place.esker(["merge", "DB", "n", "1", "--operator", "esker.counter"]).text();
    place.esker(["put", "DB", "large", &"x".repeat(100_000), "--keyspace", "other"]).text();
    let count = || place.esker(["get", "DB", "6e", "--hex"]).text();
    let junk = disk.at.join("junk");
    let (mut counted, mut refused) = (1, 0);
    for free_kib in [3 << 10, 2500, 2300, 2200, 2150, 2100, 2000, 1000, 0] {
        let mut file = File::create(&junk).unwrap();
        // What was only promised room is given it by the sync, and then there may be more.
        for _ in 0..3 {
            while file.write_all(&[1; 16 << 10]).is_ok() {}
            file.sync_all().unwrap();
        }
        let len = file.metadata().unwrap().len().saturating_sub(free_kib << 10);
        file.set_len(len).unwrap();
        file.sync_all().unwrap();
        let ran = place.esker(["merge", "DB", "n", "1"]);
        assert!([0, 2].contains(&ran.code), "{}", ran.err);
        counted += usize::from(ran.code == 0);
        refused += usize::from(ran.code != 0);
        assert_eq!(count(), format!("{counted:02x}00000000000000"), "{free_kib} KiB: {} {}", ran.code, ran.err);
        fs::remove_file(&junk).unwrap();
    }
    assert!(counted > 1 && refused > 0, "{counted} {refused}");
}

/// An import that the disk had no room for did not say how much of it was stored.
#[test]
fn an_import_that_stops_says_how_much_it_stored() {
    let Some(disk) = small_disk("an import on a full disk") else { return };
    let place = Place { db: disk.at.join("db"), ..Place::new() };
    let mut random = Random::new(1);
    let mut pairs = Vec::new();
    for n in 0..60_000 {
        // Nothing that a codec makes small.
        let noise: String = (0..64).map(|_| format!("{:016x}", random.next())).collect();
        writeln!(pairs, r#"{{"key":"{n:06}","value":"{noise}"}}"#).unwrap();
    }
    let message = place.esker_fed(["import", "DB", "-"], &pairs).fails(2);
    let (_, rest) = message.split_once("the first ").expect(&message);
    let (stored, rest) = rest.split_once(" records were imported, then it stopped: ").expect(&message);
    assert!(rest.contains("make room"), "{message}");
    let stored: usize = stored.replace(',', "").parse().expect(&message);
    assert_eq!(place.esker(["scan", "DB"]).text().lines().count(), stored, "{message}");

    fs::remove_dir_all(&place.db).unwrap();
    let message = place.esker_fed(["import", "DB", "-", "--sorted"], &pairs).fails(2);
    assert!(message.contains("-: nothing was imported: ") && message.contains("make room"), "{message}");
    assert_eq!(place.esker(["scan", "DB"]).text(), "", "{message}");
}

/// A file that takes no byte.
fn full(what: &'static str) -> Option<File> {
    let full = File::options().write(true).open("/dev/full").ok();
    if full.is_none() {
        stress::skip(what, "there is no /dev/full");
    }
    full
}

/// Where standard error could not be written to, the tool panicked, and its exit code said nothing.
#[test]
fn where_nothing_can_be_said_the_exit_code_tells() {
    let Some(full) = full("standard error on a full disk") else { return };
    let place = Place::new();
    place.esker(["put", "DB", "k", "v"]).text();
    for (words, code) in [(["get", "DB", "none"], 1), (["get", "DIR/none", "k"], 2)] {
        let mut mute = command(words.map(|word| place.word(word)));
        mute.stderr(full.try_clone().unwrap());
        assert_eq!(ran(mute).code, code, "{words:?}");
    }
}

/// A repair, or a checkpoint, that was whole and could not say so was told as one that had failed, to be run again; then its place was taken.
#[test]
fn what_is_done_is_done_though_it_can_not_be_said() {
    let Some(full) = full("standard output on a full disk") else { return };
    let place = Place::new();
    place.esker(["put", "DB", "k", "v"]).text();
    for words in [["checkpoint", "DB", "DIR/copy"], ["repair", "DB", "DIR/repaired"]] {
        let mut unsaid = command(words.map(|word| place.word(word)));
        unsaid.stdout(full.try_clone().unwrap());
        let ran = ran(unsaid);
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert!(ran.err.starts_with("esker: it is done; only that could not be written: "), "{}", ran.err);
        assert_eq!(place.esker(["get", words[2], "k"]).text(), "v");
    }
    let mut unsaid = command(["scan", "DB"].map(|word| place.word(word)));
    unsaid.stdout(full);
    assert_eq!(ran(unsaid).code, 2, "that was all there was to do");
}
