//! The engine against a map of versions: made-up runs of everything that it can do, crashes at random operations among them.
//!
//! A run that fails is printed as a script; with `Driver::run` it runs again. `PROPTEST_CASES` says how many runs; 256 if it is not set.

#[path = "model/driver.rs"]
mod driver;
#[path = "model/options.rs"]
mod options;

use driver::Driver;
use esker_testkit::model::{Mix, Script, ops_strategy};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_does_what_a_map_of_versions_does(
        script in ops_strategy(Mix::All, 20..160).prop_map(Script),
        set in 0..options::sets().len(),
    ) {
        Driver::run(&script, options::sets().swap_remove(set));
    }
}
