//! Bad use gets a clear error, and loses and makes nothing.

use super::*;
use esker::Engine;

/// Every command that only works on a store that is there.
const NEED_A_STORE: [&[&str]; 8] = [
    &["get", "DB", "k"],
    &["delete", "DB", "k"],
    &["scan", "DB"],
    &["export", "DB"],
    &["stats", "DB"],
    &["verify", "DB"],
    &["compact", "DB"],
    &["checkpoint", "DB", "DIR/copy"],
];

fn run(place: &Place, words: &[&str]) -> Ran {
    ran(command(words.iter().map(|word| place.word(word))))
}

#[test]
fn a_missing_folder_is_an_error_and_stays_missing() {
    let place = Place::new();
    for words in NEED_A_STORE {
        let message = run(&place, words).fails(2);
        assert!(message.starts_with("there is no folder '") && message.contains("'esker put'"), "{message}");
        assert!(files(place.dir.path()).is_empty(), "{words:?}");
    }
}

#[test]
fn a_folder_without_a_store_is_an_error_and_stays_as_it_is() {
    let place = Place::new();
    std::fs::create_dir(&place.db).unwrap();
    std::fs::write(place.db.join("notes.txt"), "mine").unwrap();
    let before = place.files();
    for words in NEED_A_STORE {
        let message = run(&place, words).fails(2);
        assert!(message.contains("holds no store"), "{message}");
        assert_eq!(place.files(), before, "{words:?}");
    }
}

#[test]
fn a_file_is_no_store() {
    let place = Place::new();
    place.file("db", b"mine");
    place.file("pairs", b"{\"key\":\"a\",\"value\":\"b\"}\n");
    for words in NEED_A_STORE.into_iter().chain([&["put", "DB", "k", "v"][..], &["import", "DB", "DIR/pairs"]]) {
        let message = run(&place, words).fails(2);
        assert!(message.contains("is a file, and a store is a folder"), "{message}");
    }
    assert_eq!(std::fs::read(&place.db).unwrap(), b"mine");
}

#[test]
fn a_folder_that_can_not_be_made_is_an_error() {
    let place = Place::new();
    place.file("file", b"mine");
    let below_a_file = place.esker(["put", "DIR/file/db", "k", "v"]).fails(2);
    assert!(below_a_file.ends_with("Not a directory; a part of the path is a file: check the path"), "{below_a_file}");
    if Path::new("/proc/self").exists() {
        // Nobody may make folders here, not even root.
        let message = place.esker(["put", "/proc/esker/db", "k", "v"]).fails(2);
        assert!(message.contains("/proc/esker"), "{message}");
    }
}

#[test]
fn a_folder_without_permission_is_an_error() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    place.esker(["put", "DB", "k", "v"]).text();
    let mode = |mode| std::fs::set_permissions(&place.db, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o000);
    let refused = std::fs::read_dir(&place.db).is_err();
    let (put, get) = (place.esker(["put", "DB", "k", "w"]), place.esker(["get", "DB", "k"]));
    mode(0o700);
    if !refused {
        eprintln!("this user may do anything: permissions can't be tested");
        return;
    }
    assert!(put.fails(2).ends_with("check the permissions, or run it as a user who has them"));
    assert!(get.fails(2).contains("ermission"));
    assert_eq!(place.esker(["get", "DB", "k"]).text(), "v");
}

#[test]
fn the_command_line_is_explained_in_one_line() {
    let place = Place::new();
    let unknown_option = place.esker(["scan", "DB", "--revers"]).fails(2);
    assert!(unknown_option.contains("'--revers'") && unknown_option.contains("'--reverse'"), "{unknown_option}");
    assert!(place.esker(["scan", "DB", "--frobnicate"]).fails(2).contains("unexpected argument '--frobnicate'"));
    assert!(place.esker(["frobnicate", "DB"]).fails(2).contains("unrecognized subcommand 'frobnicate'"));
    assert!(place.esker(["put", "DB", "k"]).fails(2).contains("<VALUE>"));
    assert!(place.esker(["get"]).fails(2).contains("<DB> <KEY>"));
    assert!(place.esker(["scan", "DB", "--limit", "many"]).fails(2).contains("'many'"));
    assert!(place.esker(["import", "DB", "f", "--format", "xml"]).fails(2).contains("jsonl, csv, tsv, pairs"));
    assert!(
        place.esker(["scan", "DB", "--prefix", "--keys-only"]).fails(2).contains("a value is required for '--prefix")
    );
    assert!(place.esker([]).fails(2).contains("a command is needed"));
    assert!(place.esker(["--help"]).text().contains("Usage: esker"));
    assert!(place.esker(["--version"]).text().starts_with("esker "));
}

#[test]
fn a_store_in_use_is_refused() {
    let place = Place::new();
    let engine = Engine::open(&place.db).unwrap();
    engine.put("k", "v").unwrap();
    for words in [&["get", "DB", "k"][..], &["put", "DB", "k", "w"], &["stats", "DB"]] {
        let message = run(&place, words).fails(2);
        assert!(message.contains(" is open "), "{message}");
    }
    engine.close().unwrap();
    assert_eq!(place.esker(["get", "DB", "k"]).text(), "v");
}

/// When LOCK was removed, a second process wrote beside the first: all that the first had stored was gone, and every check called the store sound.
#[test]
fn a_store_in_use_is_refused_whatever_becomes_of_its_lock_file() {
    let place = Place::new();
    let mut holder = command([Path::new("import"), &place.db, Path::new("-")]).stdin(Stdio::piped()).spawn().unwrap();
    let mut records = holder.stdin.take().unwrap();
    let mut feed = |numbers: std::ops::Range<u32>| {
        numbers.for_each(|n| writeln!(records, "{{\"key\":\"{n:05}\",\"value\":\"{n}\"}}").unwrap());
    };
    feed(0..3);
    while !place.db.join("CURRENT").exists() {
        assert!(holder.try_wait().unwrap().is_none(), "it has ended");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }

    let lock = place.db.join("LOCK");
    let removed = || std::fs::remove_file(&lock).unwrap();
    let made_anew = || std::fs::write(&lock, "").unwrap();
    let replaced = || std::fs::rename(place.file("other", b""), &lock).unwrap();
    for change in [&removed as &dyn Fn(), &made_anew, &replaced] {
        change();
        for words in [
            &["put", "DB", "before", "x"][..],
            &["get", "DB", "00000"],
            &["verify", "DB", "--deep"],
            &["repair", "DB", "DIR/new"],
        ] {
            let message = run(&place, words).fails(2);
            assert!(message.contains(" is open "), "{message}");
        }
    }
    assert!(!place.path("new").exists());

    feed(3..2000);
    drop(records);
    let done = holder.wait_with_output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    place.esker(["put", "DB", "behind", "x"]).text();
    let keys: Vec<String> = place.esker(["scan", "DB", "--keys-only"]).text().lines().map(str::to_owned).collect();
    assert_eq!(keys, (0..2000).map(|n| format!("{n:05}")).chain(["behind".to_owned()]).collect::<Vec<_>>());
    place.esker(["verify", "DB", "--deep"]).text();
}

#[test]
fn commands_that_only_read_change_no_file() {
    let place = Place::new();
    let engine = Engine::open(&place.db).unwrap();
    engine.put("k", "v").unwrap();
    std::mem::forget(engine.clone()); // as if killed: the log is left to be replayed
    let copy = place.path("copy");
    std::fs::create_dir(&copy).unwrap();
    for (name, ..) in place.files() {
        std::fs::copy(place.db.join(&name), copy.join(&name)).unwrap();
    }
    let before = files(&copy);
    for words in [
        &["get", "DIR/copy", "k"][..],
        &["scan", "DIR/copy"],
        &["export", "DIR/copy"],
        &["stats", "DIR/copy"],
        &["verify", "DIR/copy"],
    ] {
        assert!(!run(&place, words).bytes().is_empty());
        assert_eq!(files(&copy), before, "{words:?}");
    }
}

#[test]
fn an_import_that_can_not_begin_makes_no_store() {
    let place = Place::new();
    place.file("table.csv", b"a,b\n1,2\n");
    let cases: [(&[&str], &str); 7] = [
        (&["import", "DB", "DIR/none.jsonl", "--key", "id"], "No such file"),
        (&["import", "DB", "DIR/", "--key", "id"], "is a folder"),
        (&["import", "DB", "DIR/table.csv", "--key", "id"], "column \"id\" is not in the header; it has: a, b"),
        (&["import", "DB", "DIR/table.csv", "--format", "csv"], "Add --key FIELD"),
        (&["import", "DB", "DIR/table.csv", "--format", "pairs", "--key", "a"], "leave out --key"),
        (&["import", "DB", "DIR/table.csv", "--key", "a", "--record-limit", "1X"], "K, M or G"),
        (&["import", "DB", "/dev/null", "--format", "csv", "--key", "a"], "empty"),
    ];
    for (words, expected) in cases {
        let message = run(&place, words).fails(2);
        assert!(message.contains(expected), "{message}");
        assert!(!place.db.exists(), "{words:?}");
    }
}

/// Where a folder lies in the place of a file, or too few files may be open, nothing was said of what to do; and for a merge without an operator it was said in words of the library.
#[test]
fn errors_say_what_to_do_in_words_of_the_tool() {
    let place = Place::new();
    place.esker(["put", "DB", "k", "v"]).text();
    let message = place.esker(["merge", "DB", "k", "1"]).fails(2);
    assert!(message.contains("--operator NAME"), "{message}");
    let mut few = Command::new("sh");
    few.args(["-c", "ulimit -n 4; exec \"$0\" get \"$1\" k", env!("CARGO_BIN_EXE_esker")]).arg(&place.db);
    let message = ran(few).fails(2);
    assert!(message.contains("ulimit -n"), "{message}");
    std::fs::remove_file(place.db.join("LOCK")).unwrap();
    std::fs::create_dir(place.db.join("LOCK")).unwrap();
    let message = place.esker(["get", "DB", "k"]).fails(2);
    assert!(message.contains("move it away"), "{message}");
}
