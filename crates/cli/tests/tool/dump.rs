//! `dump`: single files, sound and damaged.

use super::damage::{flip, store};
use super::*;

fn dump(kind: &str, file: &Path, json: bool) -> Ran {
    ran(command(
        [OsStr::new("dump"), kind.as_ref(), file.as_os_str()].into_iter().chain(json.then_some("--json".as_ref())),
    ))
}

/// Lines that are not about the file as a whole.
fn lines(out: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(out).unwrap();
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

fn all_json(out: &[u8]) -> Vec<serde_json::Value> {
    let text = std::str::from_utf8(out).unwrap();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// With a bad footer, which is but the last 64 bytes, nothing at all was printed of a table, and with a bad index neither.
#[test]
fn dump_finds_the_blocks_of_a_table_without_its_footer_or_index() {
    let place = store();
    let table = place.newest(".sst");
    let sound = lines(&dump("sst", &table, false).bytes());
    let bytes = std::fs::read(&table).unwrap();
    // The footer says where the index is, behind its version and id.
    let in_index = (bytes.len() / 2..bytes.len()).step_by(16);
    let mut without_index = 0;
    for at in [bytes.len() - 10].into_iter().chain(in_index) {
        std::fs::write(&table, &bytes).unwrap();
        flip(&table, at);
        let damaged = dump("sst", &table, false);
        let left = lines(&damaged.out);
        without_index += u64::from(damaged.err.contains("index"));
        assert!(left.len() > 2500, "{at}: {} lines: {}", left.len(), damaged.err);
        let mut sound = sound.iter();
        assert!(left.iter().all(|line| sound.any(|other| other == line)), "{at}: in order, and as they were");
        assert!(damaged.code == 1 || damaged.err.is_empty(), "{at}: {}", damaged.err);
        assert!(!damaged.err.contains(" more)"), "{at}: told once: {}", damaged.err);
    }
    assert!(without_index > 0);
    std::fs::write(&table, &bytes).unwrap();
    flip(&table, bytes.len() - 10);
    flip(&table, 5000);
    let damaged = dump("sst", &table, false);
    let text = String::from_utf8(damaged.out.clone()).unwrap();
    assert!(text.contains("# entries are missing behind key '"), "{}", text.lines().last().unwrap());
    let last = all_json(&dump("sst", &table, true).out).pop().unwrap();
    assert!(last["error"].as_str().unwrap().contains("footer"), "{last}");
}

#[test]
fn dump_prints_a_table_around_its_damage() {
    let place = store();
    let table = place.newest(".sst");
    let sound = dump("sst", &table, false).bytes();
    let (sound_lines, text) = (lines(&sound), String::from_utf8(sound).unwrap());
    assert_eq!(sound_lines.len(), 3000);
    assert!(sound_lines[7].ends_with(" put 00007\tvalue of 7"), "{}", sound_lines[7]);
    assert!(text.contains("# 3000 entries of 3000 keys"), "{}", &text[..500]);
    let json = all_json(&dump("sst", &table, true).bytes());
    assert_eq!((json.len(), &json[0]["entries"], &json[8]["value"]), (3001, &3000.into(), &"value of 7".into()));

    flip(&table, 5000);
    let damaged = dump("sst", &table, false);
    let left = lines(&damaged.out);
    let missing: Vec<&String> = sound_lines.iter().filter(|line| !left.contains(line)).collect();
    assert!(left.len() > 2500 && !missing.is_empty() && left.len() + missing.len() == 3000, "{} left", left.len());
    assert_eq!((&left[0], left.last()), (&sound_lines[0], sound_lines.last()));
    assert!(damaged.fails(1).contains("checksum"));
    let last = all_json(&dump("sst", &table, true).out).pop().unwrap();
    assert!(last["error"].as_str().unwrap().contains("checksum"), "{last}");

    let bytes = std::fs::read(&table).unwrap();
    let cut = place.file("cut.sst", &bytes[..bytes.len() / 2]);
    dump("sst", &cut, false).fails(1);
}

#[test]
fn dump_prints_a_log_up_to_its_damage() {
    let place = store();
    let log = place.newest(".wal");
    let sound = dump("wal", &log, false).bytes();
    let sound = lines(&sound);
    assert_eq!(sound.len(), 2, "{sound:?}");
    assert!(sound[0].ends_with(" put in the log\t\\tyes") && sound[1].ends_with(" delete 00000"), "{sound:?}");
    let json = all_json(&dump("wal", &log, true).bytes());
    assert_eq!(
        (&json[1]["key"], &json[1]["value"], &json[2]["kind"]),
        (&"in the log".into(), &"\tyes".into(), &"delete".into())
    );

    let second = std::fs::read(&log).unwrap().windows(5).position(|bytes| bytes == b"00000").unwrap();
    flip(&log, second);
    let damaged = dump("wal", &log, false);
    assert_eq!(lines(&damaged.out), sound[..1]);
    let message = damaged.fails(1);
    assert!(message.contains("checksum"), "{message}");
    flip(&log, 3);
    assert!(dump("wal", &log, false).fails(1).contains("header"));
}

#[test]
fn dump_prints_a_manifest_edit_by_edit() {
    let place = store();
    let manifest = place.newest_manifest();
    let items = lines(&dump("manifest", &manifest, false).bytes());
    assert!(items.iter().any(|item| item.contains(": create keyspace 0 \"default\"")), "{items:?}");
    assert!(items.iter().any(|item| item.contains(": add 0 L")), "{items:?}");
    let json = all_json(&dump("manifest", &manifest, true).bytes());
    assert!(json.iter().any(|edit| edit["edit"].to_string().contains("create keyspace")), "{json:?}");

    let last: usize = items.last().unwrap().split(':').next().unwrap().parse().unwrap();
    flip(&manifest, last + 30); // in the payload: the record's header has 24 bytes
    let damaged = dump("manifest", &manifest, false);
    let left = lines(&damaged.out);
    assert!(!left.is_empty() && left.len() < items.len() && items.starts_with(&left), "{left:?}");
    damaged.fails(1);
}

#[test]
fn dump_of_what_is_no_such_file() {
    let place = Place::new();
    let text = place.file("text", "nothing of ours, but long enough for a header of any kind\n".repeat(9).as_bytes());
    for kind in ["wal", "sst", "blob", "manifest"] {
        let message = dump(kind, &text, false).fails(1);
        assert!(message.contains("text"), "{message}");
        assert!(dump(kind, &place.path("none"), false).fails(2).contains("No such file"));
        assert!(dump(kind, place.dir.path(), false).fails(2).contains("is a folder"));
    }
    assert!(dump("tar", &text, false).fails(2).contains("wal, sst, blob, manifest"));
}

#[test]
fn dump_prints_a_blob_file_up_to_its_damage_and_what_refers_to_it() {
    let place = Place::new();
    let records: String =
        (0..5).map(|n| format!("{{\"key\":\"{n}\",\"value\":\"{}\"}}\n", n.to_string().repeat(5000))).collect();
    place.esker_fed(["import", "DB", "-"], records.as_bytes()).text();
    let stats = place.esker(["stats", "DB", "--json"]).json();
    assert_eq!(
        (&stats["keyspaces"][0]["blob_files"], &stats["keyspaces"][0]["blob_garbage_bytes"]),
        (&1.into(), &0.into())
    );
    assert!(place.esker(["stats", "DB"]).text().contains("in 1 blob file: "));
    assert!(place.esker(["verify", "DB"]).text().contains("1 blob file of 5 values"));

    let blob = place.newest(".blob");
    let sound = lines(&dump("blob", &blob, false).bytes());
    assert_eq!(sound.len(), 5);
    assert!(sound[1].starts_with("5048 5000 1111"), "{}", sound[1]);
    let json = all_json(&dump("blob", &blob, true).bytes());
    assert_eq!((&json[0]["records"], &json[3]["offset"], &json[3]["bytes"]), (&5.into(), &10056.into(), &5000.into()));
    assert_eq!(json[3]["value"].as_str().unwrap(), "2".repeat(5000));
    let table = place.newest(".sst");
    let references = lines(&dump("sst", &table, false).bytes());
    assert!(references[1].contains(" blob 1\t") && references[1].ends_with(" 5048 5000"), "{}", references[1]);
    assert_eq!(all_json(&dump("sst", &table, true).bytes())[2]["offset"], 5048);

    flip(&blob, 6000);
    let damaged = dump("blob", &blob, false);
    assert_eq!(lines(&damaged.out), sound[..1]);
    assert!(damaged.fails(1).contains("record at 5048: checksum"));
    assert!(place.esker(["verify", "DB"]).fails(1).contains("record at 5048: checksum"));
    assert_eq!(place.esker(["get", "DB", "4"]).text(), "4".repeat(5000));
    assert!(place.esker(["get", "DB", "1"]).fails(1).contains(".blob"));
}
