//! Crashes that were thought of before, or that a made-up run has found.

use crate::driver::Driver;
use crate::options;
use esker_testkit::model::Script;

fn run(script: &str) {
    for options in options::by_hand() {
        Driver::run(&script.parse::<Script>().unwrap(), options);
    }
}

/// A flush put the first half of a batch in a table while the other half, the newest thing in the log, was not synced: the log is to be synced for what comes
/// later in the same batch too, not only for what is older.
#[test]
fn a_table_ahead_of_the_log_tears_no_batch() {
    for crash in ["synced", "1", "2", "3"] {
        run(&format!("create 1\n write memory 1:a=10 0:a=10\n compact 1 - -\n crash {crash}"));
        run(&format!("create 1\n write memory 0:b=10 1:b=10\n compact 1 - -\n crash {crash}"));
        run(&format!(
            "create 1\n create 2\n write memory 0:z=5\n write os 1:a=9 2:a=9 1:b=9\n compact 1 - -\n work 3\n crash {crash}"
        ));
    }
}

/// The log that the manifest needs first was begun but its header never reached the disk, while a newer log did and vouched for the older ones that were in tables by
/// then. Recovery did not know where the lost log began, took the line to break at its beginning, and refused to open.
#[test]
fn the_first_log_needed_may_have_lost_its_header() {
    for seed in 0..200 {
        run(&format!(
            "write sync 0:a=5000\n write memory 0:b=5000\n flush\n write memory 0:c=1\n write memory 0:d=5000\n write memory 0:e=5000\n write os 0:f=5\n crash {seed}"
        ));
    }
}
