//! The engine against a map of versions: made-up runs of everything that it can do, crashes at random operations among them.
//!
//! A run that fails is printed as a script; with `Driver::run` it runs again. `cargo xtask stress --suite model` makes as many as there is time for.

#[path = "model/driver.rs"]
mod driver;
#[path = "model/options.rs"]
mod options;

use driver::Driver;
use esker_testkit::model::{Mix, Script, ops_strategy};
use esker_testkit::stress;
use proptest::prelude::*;

#[test]
fn the_engine_does_what_a_map_of_versions_does() {
    let runs = (ops_strategy(Mix::All, 20..160).prop_map(Script), 0..options::sets().len());
    stress::property("model", 256, &runs, |(script, set)| {
        Driver::run(&script, options::sets().swap_remove(set));
        script.0.len() as u64
    });
}
