//! Tables that are built outside: where they come in, and what their claim keeps away; and rewrites for a filter.

mod notation;

use esker_compaction::{Busy, Picker, place};
use esker_format::{FileNo, KeyspaceId};
use esker_manifest::Level;
use notation::{define, options, show, table};
use std::ops::Bound;

#[test]
fn a_table_goes_as_low_as_nothing_of_its_keys_lies_above_or_beside_it() {
    let place_in = |tree: &str, from: &str, to: &str| place(&define(tree).0, &Busy::new(), &table(99, from, to, 9, 0));
    assert_eq!(place_in("", "a", "z"), Level::BOTTOM);
    let tree = "L0: 9:c-c@9\nL3: 5:f-h@9\nL6: 1:k-p@9";
    assert_eq!(place_in(tree, "q", "z"), Level(6));
    assert_eq!(place_in(tree, "p", "z"), Level(5), "over its last key");
    assert_eq!(place_in(tree, "h", "p"), Level(2));
    assert_eq!(place_in(tree, "c", "z"), Level(0), "level 0 takes any");
    assert_eq!(place_in(tree, "d", "e"), Level(6));
}

#[test]
fn a_claim_keeps_plans_and_other_tables_away_until_it_is_released() {
    let (version, mut busy) = define("L0: 14:a-f@9 13:b-d@9 12:c-e@9 11:a-c@9");
    let picker = Picker::new(options());
    let picked = |busy: &Busy| show(picker.pick(&version, busy).as_ref());
    let merged = "L0[14 13 12 11] -> L6 merge";
    busy.claim(version.id, Level(6), &table(99, "f", "k", 9, 0));
    assert_eq!((picked(&busy), busy.plans(version.id)), ("none".into(), 1));
    let (empty, _) = define("");
    assert_eq!(place(&empty, &busy, &table(100, "k", "m", 9, 0)), Level(5));
    assert_eq!(place(&empty, &busy, &table(100, "l", "m", 9, 0)), Level(6));

    busy.release(FileNo(98));
    assert_eq!(picked(&busy), "none", "that is another one");
    busy.release(FileNo(99));
    assert_eq!((picked(&busy), busy.plans(version.id)), (merged.into(), 0));
    busy.claim(KeyspaceId(2), Level(6), &table(99, "f", "k", 9, 0));
    busy.claim(version.id, Level(5), &table(98, "f", "k", 9, 0));
    assert_eq!(picked(&busy), merged, "another keyspace, another level");
}

#[test]
fn for_a_filter_each_table_at_the_bottom_of_its_keys_is_rewritten_once() {
    let (version, mut busy) = define(
        "L0: 9:a-z@9
         L5: 5:a-b@9 6:s-t@9
         L6: 1:a-c@9 2:d-f@9 3:g-p@9",
    );
    let picker = Picker::new(options());
    let pick = |busy: &Busy, lower: &'static str, written_from| {
        let lower = Bound::Included(lower.as_bytes());
        show(picker.pick_to_filter(&version, busy, lower, Bound::Unbounded, FileNo(written_from)).as_ref())
    };
    assert_eq!(pick(&busy, "a", 9), "L5[6] -> L5 merge", "1 lies below 5");
    assert_eq!(pick(&busy, "a", 6), "L6[1] -> L6 merge", "6 was written since");
    assert_eq!(pick(&busy, "d", 6), "L6[2] -> L6 merge");
    busy.exclude(FileNo(2));
    assert_eq!(pick(&busy, "d", 6), "L6[3] -> L6 merge");
    assert_eq!(pick(&busy, "d", 3), "none");
    assert_eq!(pick(&busy, "q", 6), "none");
}
