//! The engine against a map of versions: made-up runs of everything that it can do, crashes at random operations among them.
//!
//! A run that fails is printed as a script; with `Driver::run` it runs again. Those kept in `testdata/model` failed once. `cargo xtask stress --suite model` makes as many as there is time for.

#[path = "model/driver.rs"]
mod driver;
#[path = "model/options.rs"]
mod options;

use driver::Driver;
use esker_testkit::model::{Mix, Script, ops_strategy};
use esker_testkit::stress;
use proptest::prelude::*;
use std::fs;
use std::path::Path;

#[test]
fn the_engine_does_what_a_map_of_versions_does() {
    // Half of the runs for those that were made for this, which come first.
    let any_set = prop_oneof![0..options::by_hand().len(), 0..options::sets().len()];
    let runs = (ops_strategy(Mix::All, 20..160).prop_map(Script), any_set);
    stress::property("model", 128, &runs, |(script, set)| {
        Driver::run(&script, options::sets().swap_remove(set));
        script.0.len() as u64
    });
}

#[test]
fn what_once_failed_is_right_under_all_options() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/model");
    let scripts: Vec<_> = fs::read_dir(kept).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!scripts.is_empty(), "there are some");
    for path in scripts {
        println!("{}", path.display());
        let script: Script = fs::read_to_string(path).unwrap().parse().unwrap();
        options::sets().into_iter().for_each(|options| Driver::run(&script, options));
    }
}
