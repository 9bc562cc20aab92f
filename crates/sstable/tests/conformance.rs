//! Tables under the suite that every internal iterator must pass.

mod support;

use esker_testkit::iterator_suite::{self, Lends};
use support::{MODES, build, codecs, options, try_open};

/// Small blocks, so that every boundary between blocks is met, and large ones, so that a search within a block has something to do.
#[test]
fn tables_do_what_an_internal_iterator_must() {
    for codec in codecs() {
        for (block_size_bytes, mode) in
            [(1, MODES[0]), (64, MODES[1]), (200, MODES[2]), (4096, MODES[0]), (1 << 20, MODES[1])]
        {
            iterator_suite::run_filled(|entries| {
                try_open(&build(entries, options(block_size_bytes, codec)), mode).unwrap().iter()
            });
        }
    }
}

#[test]
fn tables_lend_what_follows() {
    for codec in codecs() {
        for (block_size_bytes, mode) in [(64, MODES[0]), (4096, MODES[1]), (4096, MODES[2])] {
            iterator_suite::run_lending(Lends::BothWays, |entries| {
                try_open(&build(entries, options(block_size_bytes, codec)), mode).unwrap().iter()
            });
        }
    }
}

#[test]
fn an_iterator_that_fills_no_cache_does_so_too() {
    for codec in codecs() {
        iterator_suite::run_filled(|entries| {
            try_open(&build(entries, options(100, codec)), MODES[1]).unwrap().iter_once()
        });
    }
}
