//! Every target: which one is told by the name that the program is built under.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    esker_fuzz::target(env!("CARGO_BIN_NAME")).expect("as many programs as targets").run(data);
});
