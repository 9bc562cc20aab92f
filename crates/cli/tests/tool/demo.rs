//! `demo`: small here, a million records by default.

use super::*;

#[test]
fn the_demo_proves_what_it_says_and_cleans_up() {
    let place = Place::new();
    for records in [1, 250, 20_000] {
        let mut command = command(["demo", "--json", "--records", &records.to_string()]);
        command.env("TMPDIR", place.dir.path());
        let report = ran(command).json();
        let number = |name: &str| report[name].as_u64().unwrap_or_else(|| panic!("{name} in {report}"));
        assert_eq!(number("records"), records);
        assert!(number("acknowledged") >= records / 2 && number("recovered") >= number("acknowledged"), "{report}");
        assert!(number("recovered") <= records);
        let entries = report["levels"].as_array().unwrap().iter().map(|level| level["entries"].as_u64().unwrap());
        assert_eq!(entries.sum::<u64>(), records, "compacted: {report}");
        assert!(files(place.dir.path()).is_empty(), "nothing is left behind");
    }
}

#[test]
fn the_demo_can_leave_its_store() {
    let place = Place::new();
    let words = place.esker(["demo", "--records", "3000", "--keep", "DB"]).text();
    assert!(words.contains("killed (SIGKILL)") && words.contains("none is torn") && words.contains("L"), "{words}");
    assert_eq!(place.esker(["scan", "DB", "--keys-only"]).text().lines().count(), 3000);
    assert!(place.esker(["demo", "--keep", "DB"]).fails(2).contains("is not empty; give a new folder"));
    assert!(place.esker(["demo", "--records", "0"]).fails(2).contains("0"));
}

#[test]
fn a_demo_that_nobody_listens_to_cleans_up() {
    let place = Place::new();
    let mut command = command(["demo", "--records", "3000"]);
    let mut child = command.env("TMPDIR", place.dir.path()).spawn().expect("the tool starts");
    drop(child.stdout.take());
    assert_eq!(
        child.wait_with_output().unwrap(),
        std::process::Output { status: Default::default(), stdout: vec![], stderr: vec![] }
    );
    assert!(files(place.dir.path()).is_empty(), "nothing is left behind");
}
