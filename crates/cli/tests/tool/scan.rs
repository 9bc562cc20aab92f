//! `scan`, and what holds for all that print much.

use super::*;
use std::io::{BufRead, BufReader, Read};

fn fruit() -> Place {
    let place = Place::new();
    let pairs = ["apple", "apricot", "banana", "cherry", "date"]
        .map(|key| format!("{{\"key\":\"{key}\",\"value\":\"{}\"}}\n", key.len()));
    place.esker_fed(["import", "DB", "-"], pairs.concat().as_bytes()).text();
    place
}

#[test]
fn ranges_both_ways() {
    let place = fruit();
    let keys = |options: &[&str]| {
        let words = ["scan".into(), place.db.clone(), "--keys-only".into()].into_iter();
        let ran = ran(command(words.chain(options.iter().map(PathBuf::from))));
        ran.text().lines().map(|key| key[..2].to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(keys(&[]), "ap ap ba ch da");
    assert_eq!(keys(&["--prefix", "ap"]), "ap ap");
    assert_eq!(keys(&["--prefix", "apricot"]), "ap");
    assert_eq!(keys(&["--prefix", "x"]), "");
    assert_eq!(keys(&["--from", "banana"]), "ba ch da", "the start is included");
    assert_eq!(keys(&["--to", "banana"]), "ap ap", "the end is not");
    assert_eq!(keys(&["--from", "b", "--to", "d"]), "ba ch");
    assert_eq!(keys(&["--from", "d", "--to", "b"]), "");
    assert_eq!(keys(&["--from", "d", "--to", "b", "--reverse"]), "");
    assert_eq!(keys(&["--prefix", "a", "--from", "apq"]), "ap");
    assert_eq!(keys(&["--reverse"]), "da ch ba ap ap");
    assert_eq!(keys(&["--reverse", "--from", "banana", "--to", "date"]), "ch ba");
    assert_eq!(keys(&["--limit", "2"]), "ap ap");
    assert_eq!(keys(&["--reverse", "--limit", "2"]), "da ch");
    assert_eq!(keys(&["--reverse", "--prefix", "a", "--limit", "1"]), "ap");
    assert_eq!(keys(&["--limit", "0"]), "");
}

#[test]
fn a_line_is_key_tab_value() {
    let place = fruit();
    assert_eq!(place.esker(["scan", "DB", "--prefix", "ap"]).text(), "apple\t5\napricot\t7\n");
    assert_eq!(place.esker(["scan", "DB", "--prefix", "ap", "--keys-only"]).text(), "apple\napricot\n");
    assert_eq!(place.esker(["scan", "DB", "--to=61f0", "--limit=1", "--hex"]).text(), "6170706c65\t35\n");
    assert_eq!(place.esker(["scan", "DB", "--limit=1", "--json"]).text(), "{\"key\":\"apple\",\"value\":\"5\"}\n");
    assert_eq!(place.esker(["scan", "DB", "--limit=1", "--json", "--keys-only"]).text(), "{\"key\":\"apple\"}\n");
}

#[test]
fn what_would_break_a_line_is_escaped() {
    let place = Place::new();
    place.esker(["put", "DB", "a\tb\\", "c\nd\u{e9}"]).text();
    assert_eq!(place.esker(["scan", "DB"]).text(), "a\\tb\\\\\tc\\nd\u{e9}\n");
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let place = Place::new();
    let records: String =
        (0..20_000).map(|n| format!("{{\"key\":\"{n:08}\",\"value\":\"{}\"}}\n", "x".repeat(50))).collect();
    place.esker_fed(["import", "DB", "-"], records.as_bytes()).text();
    for word in ["scan", "export"] {
        let mut child = command([word.into(), place.db.clone()]).spawn().expect("the tool starts");
        let mut first = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut first).unwrap();
        assert!(first.contains("00000000"), "{first}");
        drop(out); // as `head -1` does
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""), "{word}");
    }
}

#[test]
fn output_that_does_not_fit_is_an_error() {
    let full = Path::new("/dev/full");
    if !full.exists() {
        eprintln!("no /dev/full here: nothing to see");
        return;
    }
    let place = fruit();
    let mut command = command(["scan".into(), place.db.clone()]);
    command.stdout(std::fs::File::options().write(true).open(full).unwrap());
    assert!(ran(command).fails(2).starts_with("writing to standard output: No space left"));
}
