//! What the picker picks, tree by tree.

mod notation;

use esker_compaction::{Busy, LeveledOptions, Picker};
use esker_format::{FileNo, KeyspaceId, SeqNo};
use notation::{define, options, show};
use std::ops::Bound;

fn picks(tree: &str, expected: &str) {
    picks_with(options(), tree, expected);
}

#[track_caller]
fn picks_with(options: LeveledOptions, tree: &str, expected: &str) {
    let (version, busy) = define(tree);
    assert_eq!(show(Picker::new(options).pick(&version, &busy).as_ref()), expected, "{tree}");
}

#[test]
fn a_small_tree_rests() {
    picks("", "none");
    picks("L0: 3:a-f@900 2:a-f@900 1:a-f@900", "none");
    picks("L6: 1:a-f@90000", "none");
}

#[test]
fn level_0_goes_to_the_bottom_while_that_is_small() {
    picks("L0: 4:a-f@9 3:b-d@9 2:c-e@9 1:a-c@9", "L0[4 3 2 1] -> L6 merge");
    picks(
        "L0: 14:a-f@9 13:b-d@9 12:c-e@9 11:a-c@9
         L6: 1:a-a@20 2:e-h@20 3:x-z@20",
        "L0[14 13 12 11] L6[1 2] -> L6 merge",
    );
}

#[test]
fn the_base_level_rises_as_the_bottom_grows() {
    let level_0 = "L0: 14:a-f@9 13:b-d@9 12:c-e@9 11:a-c@9";
    for (bottom, base) in [(64, 6), (65, 5), (640, 5), (650, 4), (6_400, 4), (65_000, 2), (65_000_000, 1)] {
        let tree = format!("{level_0}\nL6: 1:s-z@{bottom}");
        picks(&tree, &format!("L0[14 13 12 11] -> L{base} merge"));
    }
}

#[test]
fn level_0_never_jumps_over_a_level_in_use() {
    picks(
        "L0: 15:a-b@9 14:a-f@9 13:b-d@9 12:c-e@9 11:a-c@9
         L4: 2:b-b@1
         L6: 1:a-z@10",
        "L0[15 14 13 12 11] L4[2] -> L4 merge, deeper 1",
    );
}

#[test]
fn level_0_takes_all_that_overlaps_step_by_step() {
    // From 11 by way of 13 to 14; 12 stays.
    picks("L0: 14:e-h@9 13:c-e@9 12:x-z@9 11:a-c@9", "L0[14 13 11] -> L6 merge");
}

#[test]
fn a_table_of_level_0_that_overlaps_nothing_is_moved() {
    picks("L0: 14:m-p@9 13:i-l@9 12:e-h@9 11:a-d@9\nL6: 1:t-z@60", "L0[11] -> L6 move");
    picks("L0: 14:m-p@9 13:i-l@9 12:e-h@9 11:a-d@9\nL6: 1:d-z@60", "L0[11] L6[1] -> L6 merge");
}

#[test]
fn tombstones_with_nothing_below_are_dropped_rather_than_moved() {
    picks("L0: 14:m-p@9 13:i-l@9 12:e-h@9 11:a-d@9!6", "L0[11] -> L6 merge");
    picks("L0: 14:m-p@9 13:i-l@9 12:e-h@9 11:a-d@9!5", "L0[11] -> L6 move");
}

#[test]
fn a_table_is_rewritten_where_the_codec_changes_unless_it_is_stored_in_the_new_one() {
    let tree = "L0: 14:m-p@9 13:i-l@9 12:e-h@9 11:a-d@9";
    let at = |level| LeveledOptions { codec_changes_at: Some(esker_manifest::Level(level)), ..options() };
    picks_with(at(6), tree, "L0[11] -> L6 recode");
    picks_with(at(4), tree, "L0[11] -> L6 recode");
    picks_with(at(6), "L0: 14:m-p@9 13:i-l@9 12:e-h@9 11:a-d@9!6", "L0[11] -> L6 merge");
    let deep = "L4: 2:a-b@9 3:d-e@90\nL5: 4:a-a@20\nL6: 1:s-z@6400";
    picks_with(at(5), deep, "L4[3] -> L5 recode");
    picks_with(at(4), deep, "L4[3] -> L5 move");
}

#[test]
fn a_level_gives_up_the_table_that_drags_along_the_least() {
    picks(
        "L5: 11:a-c@40 12:d-f@40 13:g-i@40
         L6: 1:a-b@100 2:c-d@100 3:e-g@100 4:h-i@100 5:k-z@100",
        "L5[11] L6[1 2] -> L6 merge",
    );
    picks(
        "L5: 11:a-c@40 12:d-f@20 13:g-i@60
         L6: 1:a-b@100 2:c-d@100 3:e-g@100 4:h-i@100 5:k-z@100",
        "L5[13] L6[3 4] -> L6 merge",
    );
}

#[test]
fn the_level_furthest_over_its_target_comes_first() {
    let lower = "L4: 11:a-c@70\nL5: 12:d-f@900\nL6: 1:s-z@6400";
    picks(lower, "L5[12] -> L6 move");
    picks(&format!("L0: 24:a-d@9 23:a-d@9 22:a-d@9 21:a-d@9\n{lower}"), "L5[12] -> L6 move");
    let full = "L0: 28:a-d@9 27:a-d@9 26:a-d@9 25:a-d@9 24:a-d@9 23:a-d@9 22:a-d@9 21:a-d@9";
    picks(&format!("{full}\n{lower}"), "L0[28 27 26 25 24 23 22 21] L4[11] -> L4 merge, grandparents 12, deeper 12");
}

#[test]
fn a_move_that_would_overlap_too_much_two_levels_down_is_a_merge() {
    let tree = |bytes| format!("L4: 11:a-f@70\nL5: 12:x-y@10\nL6: 1:a-b@{bytes} 2:c-d@50 3:s-z@6400");
    picks(&tree(50), "L4[11] -> L5 move, grandparents 1 2, deeper 1 2");
    picks(&tree(51), "L4[11] -> L5 merge, grandparents 1 2, deeper 1 2");
}

#[test]
fn levels_above_the_base_are_drained() {
    picks("L2: 2:c-d@1\nL6: 1:a-z@9", "L2[2] -> L3 move, deeper 1");
    picks("L5: 2:c-d@1\nL6: 1:a-z@9", "L5[2] L6[1] -> L6 merge");
}

#[test]
fn levels_above_the_base_are_drained_in_their_turn() {
    // One that is to be empty counts as full, and by its size beside the base size, 64: 130 of 64 are as much as 66 there.
    let tree = |above| format!("L2: 2:d-f@{above}\nL4: 11:a-c@130\nL6: 1:s-z@6400");
    picks(&tree(65), "L4[11] -> L5 move");
    picks(&tree(66), "L2[2] -> L3 move");
}

#[test]
fn what_is_busy_is_kept_away_from() {
    let four = "L0: 14:a-f@9 13:b-d@9 12:c-e@9 11:a-c@9";
    picks(&format!("{four}\nL6: 1:f-g@9\nbusy: 1"), "none");
    // With 13 busy only the older ones could go, and three tables are no reason to.
    picks(&format!("{four}\nbusy: 13"), "none");
    picks("L0: 15:a-f@9 14:a-f@9 13:b-d@9 12:c-e@9 11:a-c@9\nbusy: 13", "L0[12 11] -> L6 merge");
    picks("L0: 15:a-f@9 14:a-f@9 13:b-d@9 12:c-e@9 11:a-c@9\nbusy: 11", "none");
    picks("L0: 15:m-p@9 14:a-f@9 13:b-d@9 12:c-e@9 11:a-c@9\nbusy: 11", "L0[15] -> L6 move");
}

#[test]
fn an_older_busy_table_met_late_stops_the_plan() {
    // 15 reaches 12 by way of 13, and 12 must not be left behind by 15 and 13.
    picks("L0: 15:a-c@9 14:x-z@9 13:c-f@9 12:e-h@9 11:s-s@9 10:t-t@9\nL6: 1:s-z@9\nbusy: 12 1", "none");
}

#[test]
fn outputs_of_running_plans_are_kept_away_from() {
    let tree = "L0: 14:a-f@9 13:b-d@9 12:c-e@9 11:a-c@9";
    let (version, mut busy) = define(tree);
    let picker = Picker::new(options());
    let plan = picker.pick(&version, &busy).unwrap();
    busy.add(&plan);
    assert_eq!(busy.plans(version.id), 1);

    // Newer tables come in: those that overlap the running plan can't go down, the others can.
    let (version, _) = define(&format!("L0: 18:g-h@9 17:a-b@9 16:a-b@9 15:f-g@9 {}", &tree[4..]));
    let expected = "L0[18 17 16 15] -> L0 merge, deeper 14 | 13 | 12 | 11";
    assert_eq!(show(picker.pick(&version, &busy).as_ref()), expected);
    let (version, _) = define(&format!("L0: 18:g-h@9 17:h-k@9 16:h-k@9 15:g-g@9 {}", &tree[4..]));
    assert_eq!(show(picker.pick(&version, &busy).as_ref()), "L0[18 17 16 15] -> L6 merge");

    // Another keyspace has the same keys and other tables.
    let (mut other, _) = define("L0: 34:a-f@9 33:b-d@9 32:c-e@9 31:a-c@9");
    other.id = KeyspaceId(2);
    assert_eq!(show(picker.pick(&other, &busy).as_ref()), "L0[34 33 32 31] -> L6 merge");
    assert_eq!(busy.plans(other.id), 0);

    busy.remove(&plan);
    assert_eq!((busy.plans(version.id), busy.uses(FileNo(14))), (0, false));
}

#[test]
fn a_table_that_came_between_two_inputs_waits() {
    // A job that merges 4 and 5 may write a table from a to f; 8 must not be put beside it meanwhile.
    let picker = Picker::new(options());
    let (version, mut busy) = define("L5: 4:a-b@9!1 5:e-f@9");
    let all = (Bound::Unbounded, Bound::Unbounded);
    let plan = picker.pick_range(&version, &busy, all.0, all.1).unwrap();
    assert_eq!(show(Some(&plan)), "L5[4 5] -> L6 merge");
    busy.add(&plan);
    let (version, _) = define("L5: 4:a-b@9 8:c-d@9 5:e-f@9");
    assert_eq!(show(picker.pick_range(&version, &busy, all.0, all.1).as_ref()), "none");
    busy.remove(&plan);
    assert_eq!(show(picker.pick_range(&version, &busy, all.0, all.1).as_ref()), "L5[4 8 5] -> L6 move");
}

#[test]
#[should_panic(expected = "conflicts with a running plan")]
fn one_plan_is_not_registered_twice() {
    let (version, mut busy) = define("L0: 14:a-f@9 13:b-d@9 12:c-e@9 11:a-c@9");
    let plan = Picker::new(options()).pick(&version, &busy).unwrap();
    busy.add(&plan);
    busy.add(&plan);
}

#[test]
fn level_0_merges_into_itself_while_the_way_down_is_blocked() {
    let blocked = "L6: 1:a-z@60\nbusy: 1";
    let seven = "L0: 17:a-f@9 16:a-f@9 15:a-f@9 14:a-f@9 13:a-f@9 12:a-f@9 11:a-f@9";
    picks(&format!("{seven}\n{blocked}"), "none");
    let eight = seven.replace("L0:", "L0: 18:b-c@9");
    picks(&format!("{eight}\n{blocked}"), "L0[18 17 16 15 14 13 12 11] -> L0 merge, deeper 1");
    // What an earlier merge made, 12, is too large to be worth it again; it and 11 are older and may hold what tombstones hide.
    let mixed = eight.replace("12:a-f@9", "12:b-d@90").replace("11:a-f@9", "11:d-e@9");
    picks(&format!("{mixed}\n{blocked}"), "L0[18 17 16 15 14 13] -> L0 merge, deeper 12 | 11 | 1");
    let mixed = eight.replace("12:a-f@9", "12:b-d@40").replace("11:a-f@9", "11:d-e@9");
    picks(&format!("{mixed}\n{blocked}"), "L0[18 17 16 15 14 13] -> L0 merge, deeper 12 | 11 | 1");
    // A merge takes a hundred bytes at most.
    picks(
        &format!("{}\n{blocked}", eight.replace("@9", "@24")),
        "L0[18 17 16 15] -> L0 merge, deeper 14 | 13 | 12 | 11 | 1",
    );
    picks(&format!("{}\n{blocked}", eight.replace("@9", "@26")), "none");
    // Never across a busy one.
    picks(&format!("{eight}\n{blocked} 16"), "L0[15 14 13 12 11] -> L0 merge, deeper 1");
    picks(&format!("{eight}\n{blocked} 14 16 18"), "none");
}

/// A run of level 0 was cut between tables that had been ingested together, and so have one sequence number. The table that came of it lay on both sides of the one left
/// behind, in age and by its keys; the manifest refused it, and writing stopped.
#[test]
fn level_0_is_not_cut_between_tables_that_were_ingested_together() {
    let blocked = "L6: 1:a-z@60\nbusy: 1";
    let tree = |runs: &str| format!("L0: {runs} 14:a-f@9 13:a-f@9 12:a-f@9 11:a-f@9\n{blocked}");
    let whole = "L0[18 17 16 15 14 13 12 11] -> L0 merge, deeper 1";
    picks(&tree("18#15:g-h@9 17#15:e-f@9 16#15:c-d@9 15:a-b@9"), whole);
    // 15 is busy, and so are those that came with it.
    let four = "L0[14 13 12 11] -> L0 merge, deeper 1";
    picks(&format!("{} 15", tree("18#15:g-h@9 17#15:e-f@9 16#15:c-d@9 15:a-b@9")), four);
    picks(&format!("{} 18", tree("18#15:g-h@9 17#15:e-f@9 16#15:c-d@9 15:a-b@9")), four);
    // It would end before 12, which is too large, and leaves 13 to it.
    let tree = tree("18:a-f@9 17:a-f@9 16:a-f@9 15:a-f@9");
    let large = tree.replace("13:a-f@9 12:a-f@9", "13#12:a-c@9 12:d-f@90");
    picks(&large, "L0[18 17 16 15 14] -> L0 merge, deeper 13 | 12 | 11 | 1");
    // What reads ask for would stay in level 0 too; 13 is on its way down.
    let at_2 = LeveledOptions { codec_changes_at: Some(esker_manifest::Level(2)), ..options() };
    reads_get(at_2.clone(), "L0: 13#12:c-d@9 12:a-b@9 11:a-h@9", "L0[13 12 11] -> L0 merge");
    reads_get(at_2, "L0: 13#12:c-d@9 12:a-b@9 11:a-h@9\nbusy: 13", "L0[12 11] -> L6 merge");
}

#[test]
fn a_range_goes_down_step_by_step_to_the_bottom() {
    let (version, busy) = define(
        "L0: 14:a-f@9 13:s-z@9
         L4: 5:a-b@9 6:c-g@9 7:h-k@9
         L5: 4:x-z@9
         L6: 1:a-c@9 2:d-f@9 3:g-z@9",
    );
    let picker = Picker::new(options());
    let pick = |from: &'static [u8], to: &'static [u8]| {
        show(picker.pick_range(&version, &busy, Bound::Included(from), Bound::Excluded(to)).as_ref())
    };
    assert_eq!(pick(b"e", b"f"), "L0[14] L4[5 6] -> L4 merge, deeper 1 2 3");
    assert_eq!(pick(b"t", b"u"), "L0[13] -> L4 move, grandparents 4, deeper 4 | 3");
    assert_eq!(pick(b"h", b"x"), "L0[13] -> L4 move, grandparents 4, deeper 4 | 3");
    assert_eq!(pick(b"h", b"s"), "L4[7] -> L5 move, grandparents 3, deeper 3");
    assert_eq!(pick(b"g", b"s"), "L4[6 7] -> L5 move, grandparents 1 2 3, deeper 1 2 3");
    assert_eq!(pick(b"l", b"s"), "none");

    let whole = |tree| {
        let (version, busy) = define(tree);
        show(picker.pick_range(&version, &busy, Bound::Unbounded, Bound::Unbounded).as_ref())
    };
    assert_eq!(whole("L5: 4:x-z@9\nL6: 1:a-y@9"), "L5[4] L6[1] -> L6 merge");
    assert_eq!(whole("L5: 4:x-z@9\nL6: 1:a-w@9"), "L5[4] -> L6 move");
    assert_eq!(whole("L5: 4:x-z@9!1\nL6: 1:a-w@9"), "L5[4] -> L6 merge", "one tombstone is reason enough");
    assert_eq!(whole("L5: 4:x-z@9\nL6: 1:a-y@9\nbusy: 1"), "none");
    assert_eq!(whole("L6: 1:a-y@9!9"), "none");
    // A plan takes a hundred bytes of the upper level at most, but one table at least.
    assert_eq!(whole("L5: 4:a-b@60 5:c-d@40 6:e-f@1"), "L5[4 5] -> L6 move");
    assert_eq!(whole("L5: 4:a-b@200 5:c-d@40"), "L5[4] -> L6 move");
    // Each table that is moved may overlap a hundred bytes.
    assert_eq!(whole("L4: 4:a-b@9 5:c-d@9\nL6: 1:a-d@200"), "L4[4 5] -> L5 move, grandparents 1, deeper 1");
    assert_eq!(whole("L4: 4:a-b@9 5:c-d@9\nL6: 1:a-d@201"), "L4[4 5] -> L5 merge, grandparents 1, deeper 1");
}

#[test]
fn tombstones_at_the_bottom_are_rewritten_once_no_snapshot_needs_them() {
    let (version, mut busy) = define(
        "L5: 5:a-b@9!1 6:s-t@9!1
         L6: 1:a-c@9 2:d-f@9!1 3:g-z@9!9",
    );
    let picker = Picker::new(options());
    let pick = |busy: &Busy, droppable| {
        let plan = picker.pick_rewrite(&version, busy, Bound::Unbounded, Bound::Included(b"y"), SeqNo(droppable), 0);
        show(plan.as_ref())
    };
    assert_eq!(pick(&busy, 1), "none");
    assert_eq!(pick(&busy, 2), "L6[2] -> L6 merge");
    busy.exclude(FileNo(2));
    assert_eq!(pick(&busy, 2), "none");
    assert_eq!(pick(&busy, 9), "L6[3] -> L6 merge", "5 and 6 still have something below");
}

#[test]
fn an_idle_tree_sheds_its_tombstones() {
    let picker = Picker::new(options());
    let pick = |tree, droppable| {
        let (version, busy) = define(tree);
        show(picker.pick_idle(&version, &busy, SeqNo(droppable), 0).as_ref())
    };
    assert_eq!(pick("L6: 1:a-c@9!5", 9), "none");
    assert_eq!(pick("L6: 1:a-c@9!6", 9), "L6[1] -> L6 merge");
    assert_eq!(pick("L6: 1:a-c@9!6", 0), "none");
    assert_eq!(pick("L5: 4:a-c@9!6\nL6: 1:b-b@9", 9), "L5[4] L6[1] -> L6 merge");
    assert_eq!(pick("L5: 4:a-c@9!6\nL6: 1:d-d@9", 9), "L5[4] -> L5 merge");
    assert_eq!(pick("L4: 4:a-c@9!6\nL6: 1:b-b@9", 9), "L4[4] -> L5 move, grandparents 1, deeper 1");
    assert_eq!(pick("L0: 9:a-d@9!6\nL6: 1:b-b@9", 9), "L0[9] L6[1] -> L6 merge");
    assert_eq!(pick("L0: 9:a-d@9!6 8:d-f@9\nL6: 1:b-b@9", 9), "L0[9 8] L6[1] -> L6 merge");
}

#[test]
fn debt_and_brake() {
    let picker = Picker::new(options());
    let pressure = |tree: &str| picker.pressure(&define(tree).0);
    let debt = |tree: &str| picker.debt_bytes(&define(tree).0);
    assert_eq!(debt("L6: 1:a-z@9000"), 0);
    assert_eq!(debt("L0: 3:a-b@10 2:a-b@10 1:a-b@10"), 0);
    // 40 come down and merge with the 60 that are there.
    assert_eq!(debt("L0: 5:a-b@10 4:a-b@10 3:a-b@10 2:a-b@10\nL6: 1:a-z@60"), 100);
    // 40 too many in L5; each byte of them merges with 6 in L6.
    assert_eq!(debt("L5: 2:a-b@100\nL6: 1:a-z@600"), 40 * 7);
    // 100 too many in L4, each with 4 in L5; then 116 are too many there.
    assert_eq!(debt("L4: 3:a-b@164\nL5: 2:a-b@656\nL6: 1:a-z@6400"), 100 * 5 + 116 + 116 * 6400 / 756);

    let files = |n: u64| {
        let tables: Vec<String> = (1..=n).rev().map(|i| format!("{i}:a-b@1")).collect();
        let tree = format!("L0: {}", tables.join(" "));
        pressure(&tree).brake
    };
    assert_eq!(files(11), 0.0);
    assert!(0.0 < files(12) && files(12) < files(19) && files(19) < 1.0);
    assert_eq!(files(20), 1.0);
    assert_eq!(pressure("L1: 3:a-b@1000\nL6: 1:a-z@10").brake, 1.0, "a debt of thousands");
}

#[test]
fn targets_follow_from_the_bottom() {
    let picker = Picker::new(options());
    let targets = |tree| picker.targets(&define(tree).0).map(|target| target.unwrap_or(0));
    assert_eq!(targets(""), [0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(targets("L6: 1:a-z@600"), [0, 0, 0, 0, 0, 60, 0]);
    // No less than a quarter of the base size.
    assert_eq!(targets("L6: 1:a-z@70"), [0, 0, 0, 0, 0, 16, 0]);
    assert_eq!(targets("L6: 1:a-z@650"), [0, 0, 0, 0, 16, 60, 0]);
    assert_eq!(targets("L6: 1:a-z@30000"), [0, 0, 0, 30, 300, 3000, 0]);
    assert_eq!(targets("L4: 1:a-z@30000"), [0, 0, 0, 30, 300, 3000, 0]);
}

#[track_caller]
fn reads_get(options: LeveledOptions, tree: &str, expected: &str) {
    let (version, busy) = define(tree);
    let picker = Picker::new(options);
    assert_eq!(show(picker.pick_for_reads(&version, &busy).as_ref()), expected, "{tree}");
}

#[test]
fn reads_get_level_0_merged_however_few_tables_it_has() {
    reads_get(options(), "", "none");
    reads_get(options(), "L0: 11:a-f@9", "none");
    reads_get(options(), "L0: 12:a-f@9 11:c-h@9", "L0[12 11] -> L6 merge");
    reads_get(options(), "L0: 12:a-f@9 11:c-h@9\nL6: 1:e-k@9 2:x-z@9", "L0[12 11] L6[1] -> L6 merge");
    reads_get(options(), "L0: 11:a-f@9\nL6: 1:e-k@9", "L0[11] L6[1] -> L6 merge");
    // Runs that don't overlap cost a seek no second look.
    reads_get(options(), "L0: 13:m-p@9 12:i-l@9 11:a-d@9\nL6: 1:s-z@9", "none");
    // Of two heaps, the higher.
    reads_get(options(), "L0: 15:n-q@9 14:m-p@9 13:a-b@9 12:b-d@9 11:a-d@9", "L0[13 12 11] -> L6 merge");
    reads_get(options(), "L0: 12:a-f@9 11:c-h@9\nbusy: 11", "none");
    reads_get(options(), "L0: 12:a-f@9 11:c-h@9\nL6: 1:e-k@9\nbusy: 1", "none");
}

#[test]
fn for_reads_level_0_stays_in_its_codec_while_it_meets_nothing_and_is_small() {
    let at = |level| LeveledOptions { codec_changes_at: Some(esker_manifest::Level(level)), ..options() };
    reads_get(at(2), "L0: 12:a-f@9 11:c-h@9", "L0[12 11] -> L0 merge");
    reads_get(at(0), "L0: 12:a-f@9 11:c-h@9", "L0[12 11] -> L6 merge");
    reads_get(at(2), "L0: 12:a-f@9 11:c-h@9\nL6: 1:e-k@9", "L0[12 11] L6[1] -> L6 merge");
    reads_get(at(2), "L0: 12:a-f@51 11:c-h@50", "L0[12 11] -> L6 merge");
    // 12 stands between them in age, and stays.
    reads_get(at(2), "L0: 13:a-f@9 12:x-z@9 11:c-h@9", "L0[13 11] -> L6 merge");
}

#[test]
fn what_reads_ask_for_costs_by_entries_and_bytes_and_spares_runs() {
    let relief = |options: LeveledOptions, tree| Picker::new(options).relief(&define(tree).0);
    // Tables of the notation have ten entries.
    let found = relief(options(), "L0: 12:a-f@900 11:c-h@900\nL6: 1:e-k@50").unwrap();
    assert_eq!((found.runs, found.cost_ns), (2, 3 * 10 * 50 + 1_850));
    assert_eq!(relief(options(), "L0: 11:a-f@9"), None);
    let off = LeveledOptions { compact_for_reads: false, ..options() };
    assert_eq!(relief(off, "L0: 12:a-f@900 11:c-h@900"), None);
    let huge = format!("L0: 12:a-f@{} 11:c-h@{}", u64::MAX, u64::MAX);
    assert_eq!(relief(options(), &huge).unwrap().cost_ns, u64::MAX);
}
