//! Names that somebody chose with care: of keyspaces, operators, filters, folders.

use super::*;
use esker::{Background, Engine, KeyspaceOptions, LeveledOptions, Options};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;

/// Runs a command line as a shell does, in the folder of `place`, where `esker` is the tool.
fn shell(place: &Place, line: &str) -> Ran {
    let bin = Path::new(env!("CARGO_BIN_EXE_esker")).parent().unwrap();
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(line).current_dir(place.dir.path()).stdin(Stdio::null());
    shell.env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()));
    ran(shell)
}

/// A folder whose name is its own worst enemy.
fn odd_place() -> Place {
    let place = Place::new();
    let name = OsString::from_vec(b"it's; touch PWNED #\n\xff $(touch PWNED) %s \\n\n".to_vec());
    Place { db: place.dir.path().join(name), ..place }
}

/// What `doctor` says is to be done next about what it finds, of which `word` is a part.
fn next(place: &Place, word: &str) -> Vec<String> {
    let report: serde_json::Value = serde_json::from_slice(&place.esker(["doctor", "DB", "--json"]).out).unwrap();
    let signs = report["signs"].as_array().unwrap().iter();
    signs
        .filter(|sign| sign["what"].as_str().unwrap().contains(word))
        .map(|sign| sign["next"].as_str().unwrap().to_owned())
        .collect()
}

/// The name of a keyspace stood as it was between quotes in a command that `doctor` printed: `x'; touch PWNED; echo '` had whoever pasted it run that, and `a'b` gave no command at all.
#[test]
fn commands_that_doctor_prints_do_what_they_say_whatever_the_names_are() {
    let place = odd_place();
    let compaction = LeveledOptions { l0_trigger: 30, l0_slowdown: 40, l0_stop: 50, ..LeveledOptions::default() };
    let options = Options { compaction, flush_on_close: false, ..Options::default() };
    let open = |options| Engine::builder(&place.db).options(options).background(Background::Manual).open().unwrap();
    let engine = open(options.clone());
    let names = [
        "a'b",
        "x'; touch PWNED; echo '",
        "$(touch PWNED)`touch PWNED`\"",
        "--salvage",
        "-",
        "two\nlines'",
        "\u{1b}[31m%s\\n\r",
        "\u{9b}31m\u{202e}",
        "grüße",
        "~",
        "ends\n",
    ];
    for name in names {
        let keyspace = engine.keyspace(name, KeyspaceOptions::default()).unwrap();
        for i in 0..6 {
            keyspace.put([i], "x").unwrap();
            engine.flush().unwrap();
        }
    }
    engine.close().unwrap();
    let lower = LeveledOptions { l0_trigger: 3, l0_slowdown: 4, l0_stop: 5, ..options.compaction.clone() };
    open(Options { compaction: lower, ..options }).close().unwrap();
    let commands = next(&place, "in level 0");
    assert_eq!(commands.len(), names.len(), "{commands:#?}");
    for command in &commands {
        assert!(!command.contains(char::is_control), "{command:?}");
        let said = shell(&place, command).text();
        // Of a name that no shell takes at the end of a word, all are.
        let all = format!("compacted {} keyspaces", names.len() + 1);
        let is_named = command.contains(" --keyspace=");
        assert!(said.starts_with(if is_named { "compacted 1 keyspace " } else { &all }), "{command}: {said}");
    }
    assert_eq!(commands.iter().filter(|command| command.contains(" --keyspace=")).count(), names.len() - 1);
    assert!(!place.path("PWNED").exists());
}

#[test]
fn a_folder_of_any_name_is_pasted_into_a_shell_whole() {
    let place = odd_place();
    place.esker(["put", "DB", "k", "v"]).text();
    place.esker(["compact", "DB"]).text();
    let said = place.esker(["doctor", "DB"]).text();
    let deep = said.lines().find_map(|line| line.split_once("read: ")).expect("the last line").1.to_owned();
    assert!(shell(&place, &deep).text().starts_with("sound: "), "{deep}");

    let above = Place { db: place.dir.path().to_owned(), ..Place::new() };
    let below = next(&above, "none of a store").pop().unwrap();
    assert!(shell(&place, below.split_once("below: ").unwrap().1).text().starts_with("nothing is wrong"), "{below}");

    fs::remove_file(place.db.join("LOCK")).unwrap();
    fs::create_dir(place.db.join("LOCK")).unwrap();
    let touch = next(&place, "LOCK").pop().unwrap();
    fs::remove_dir(place.db.join("LOCK")).unwrap();
    shell(&place, touch.split_once("file of it: ").unwrap().1).text();
    assert!(next(&place, "LOCK").is_empty() && place.db.join("LOCK").exists());

    fs::remove_file(place.newest_manifest()).unwrap();
    let advice = next(&place, "manifest").pop().unwrap();
    let repair = advice.split_once(" by ").and_then(|(_, rest)| rest.rsplit_once(" by ")).unwrap().1;
    let repaired = shell(&place, repair);
    assert!(place.path("NEW").join("CURRENT").exists(), "{repair}: {}", repaired.err);
    fs::remove_dir_all(place.path("NEW")).unwrap();
    let hint = place.esker(["verify", "DB", "--deep"]).fails(1);
    let hint = hint.rsplit_once(" (").unwrap().1.strip_suffix(')').unwrap();
    shell(&place, hint);
    assert!(place.path("NEW").join("CURRENT").exists(), "{hint}");
    let pointer = place.esker(["get", "DB", "k"]).fails(1);
    let pointer = format!("esker doctor {}", pointer.rsplit_once("esker doctor ").unwrap().1);
    assert!(shell(&place, &pointer).err.contains("manifest"), "{pointer}");
    assert!(!place.path("PWNED").exists());
}

/// Quotes make no word of what the tool takes for an option: `esker doctor '-x'` was printed, and refused.
#[test]
fn a_folder_that_looks_like_an_option_is_one_all_the_same() {
    let place = Place::new();
    shell(&place, "esker put -- -x k v").text();
    let said = shell(&place, "esker doctor -- -x").text();
    let deep = said.lines().find_map(|line| line.split_once("read: ")).expect("the last line").1.to_owned();
    assert!(shell(&place, &deep).text().starts_with("sound: "), "{deep}");
}

/// A newline in a keyspace's name began a line of its own, as `lost: ..` in what `repair` says, or one on standard error; escapes came to the terminal.
#[test]
fn no_name_forges_a_line_or_commands_a_terminal() {
    const ODD: &str = "x\nforged: \u{1b}[31m\r\u{9b}31m\u{202e}";
    let place = Place::new();
    let place = Place { db: place.dir.path().join("db\nforged: \u{1b}[31m"), ..place };
    let options = Options { wal_retain_bytes: Some(1 << 20), ..Options::default() };
    let engine = Engine::builder(&place.db).options(options).open().unwrap();
    let keyspace = engine.keyspace(ODD, KeyspaceOptions::default()).unwrap();
    keyspace.put("k", "v").unwrap();
    keyspace.put("kk", "v".repeat(5000)).unwrap();
    engine.close().unwrap();
    place.esker(["put", "DB", "more", "v", "--keyspace", ODD]).text();
    let seen = |words: &[&str]| {
        let ran = ran(command(words.iter().map(|word| place.word(word))));
        let (out, err) = (String::from_utf8(ran.out).unwrap(), ran.err);
        for text in [&out, &err] {
            assert!(!text.lines().any(|line| line.starts_with("forged")), "{words:?}: {text}");
            let hidden = |c: char| c.is_control() && c != '\n' && c != '\t' || c == '\u{202e}';
            assert!(!text.contains(hidden), "{words:?}: {text:?}");
        }
        assert!(err.lines().count() <= 1, "{words:?}: {err}");
        out + &err
    };
    let name = r"x\nforged: \x1b[31m\x0d\xc2\x9b31m\xe2\x80\xae";
    assert!(seen(&["stats", "DB"]).contains(name));
    assert!(seen(&["changes", "DB"]).contains(name));
    assert!(seen(&["get", "DB", "none", "--keyspace", ODD]).contains(name));
    assert!(seen(&["get", "DB", "none", "--keyspace", "forged\nforged"]).contains(r"forged\nforged"));
    assert!(seen(&["checkpoint", "DB", "DIR/copy\nforged: of it"]).contains(r"copy\nforged: of it"));
    assert!(seen(&["get", "DIR/none\nforged: at all", "k"]).contains(r"none\nforged: at all"));
    assert!(seen(&["forged\nforged"]).contains("forged"));
    seen(&["doctor", "DB"]);
    let manifest = place.newest_manifest();
    assert!(seen(&["dump", "manifest", manifest.to_str().unwrap()]).contains(r"x\x0aforged:"));
    let table = place.newest(".sst");
    let file = place.path("table\nforged: whole");
    fs::copy(&table, &file).unwrap();
    let bytes = fs::read(&table).unwrap();
    fs::write(&table, [&[!bytes[0]], &bytes[1..]].concat()).unwrap();
    assert!(seen(&["repair", "DB", "DIR/new\nforged: it"]).contains(r"of keyspace 'x\nforged: "));
    for words in [["verify", "DB"], ["doctor", "DB"], ["compact", "DB"]] {
        seen(&words);
    }
    seen(&["verify", "DB", "--deep"]);
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    assert!(seen(&["dump", "sst", file.to_str().unwrap()]).contains(r"table\nforged: whole"));
    let bad = place.file("bad\nforged: line", b"{\"key\":1}\n");
    assert!(seen(&["import", "DB", bad.to_str().unwrap(), "--skip-bad"]).contains(r"bad\nforged: line"));
}
