//! A disk that can't give what was written to it. Linux as root, with loop devices.

use super::*;
use esker::{Background, Engine};
use esker_testkit::disk::{Disk, Kind};
use esker_testkit::random::Random;
use esker_testkit::stress;
use std::fs;
use std::os::unix::fs::FileExt;

const LETTERS: [char; 3] = ['a', 'b', 'c'];
const KEYS: usize = 1000;

/// A store with a table for each letter, of bytes that come once in it.
fn fill(db: &Path) {
    let engine = Engine::builder(db).background(Background::Manual).open().unwrap();
    let mut random = Random::new(7);
    for letter in LETTERS {
        for i in 0..KEYS {
            let value: String = (0..10).map(|_| format!("{:016x}", random.next())).collect();
            engine.put(format!("{letter}{i:04}"), value).unwrap();
        }
        engine.flush().unwrap();
    }
    engine.close().unwrap();
}

/// With one sector of a table that can't be read, every command that only reads, `doctor` too, died by SIGBUS and said nothing at all.
#[test]
fn a_sector_that_cant_be_read_is_told_and_ends_nobody() {
    for in_the_end in [false, true] {
        let disk = match Disk::new(Kind::Ext4, 64 << 20) {
            Ok(disk) => disk,
            Err(why) => return stress::skip("tool on a bad disk", &why),
        };
        let place = Place { db: disk.at.join("db"), ..Place::new() };
        fill(&place.db);
        disk.unmount();
        disk.mount_read_only().unwrap();
        let table = place.newest(".sst");
        let all_are_read = || {
            place.files().iter().all(|(name, ..)| place.db.join(name) == table || fs::read(place.db.join(name)).is_ok())
        };
        assert!(all_are_read());
        let len = fs::read(&table).unwrap().len();
        let at = if in_the_end { len - 1 } else { len / 2 } & !4095;
        disk.lose_page(&table, at);
        let file = fs::File::open(&table).unwrap();
        let unread: Vec<usize> =
            (0..len).step_by(4096).filter(|page| file.read_exact_at(&mut [0], *page as u64).is_err()).collect();
        if unread.is_empty() {
            return stress::skip("tool on a bad disk", "a loop device whose image is cut gives no EIO on this system");
        }
        assert!(unread == [at] && all_are_read(), "more is lost than one page: {unread:?}");
        let hit = table.file_name().unwrap().to_str().unwrap();

        for words in [["verify", "DB"], ["scan", "DB"], ["export", "DB"]] {
            is_told(&place, hit, &words, true);
        }
        is_told(&place, hit, &["verify", "DB", "--deep"], true);
        is_told(&place, hit, &["doctor", "DB"], in_the_end);
        is_told(&place, hit, &["get", "DB", "c0500"], true);
        is_told(&place, hit, &["dump", "sst", table.to_str().unwrap()], true);
        // All else is served on.
        assert_eq!(place.esker(["get", "DB", "a0500"]).text().len(), 160);
        place.esker(["stats", "DB"]).text();
        if !in_the_end {
            assert_eq!(place.esker(["get", "DB", "c0001"]).text().len(), 160);
            let dumped = place.esker(["dump", "sst", table.to_str().unwrap()]);
            let (text, err) = (String::from_utf8(dumped.out).unwrap(), dumped.err);
            let has = |i: usize| text.contains(&format!(" put c{i:04}\t"));
            assert!(has(1) && has(KEYS - 1) && !has(KEYS / 2), "what lies before and behind: {err}");
        }
    }
}

/// Runs it: it ends by itself, and if it fails, or must, it says where.
#[track_caller]
fn is_told(place: &Place, hit: &str, words: &[&str], must_fail: bool) {
    let ran = ran(command(words.iter().map(|word| place.word(word))));
    assert!(
        ran.code == 0 && !must_fail || ran.code > 0 && ran.err.contains(hit),
        "{words:?}: {} {}",
        ran.code,
        ran.err
    );
}
