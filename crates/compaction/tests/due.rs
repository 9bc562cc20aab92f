//! What is picked for its own sake: what has expired, range tombstones, references to what is collected; and ties.

mod notation;

use esker_compaction::{Busy, LeveledOptions, Picker};
use esker_format::{Expiries, FileNo, SeqNo};
use esker_manifest::{KeyspaceVersion, Level, RangeUse, TableMeta};
use notation::{define, options, show};
use std::ops::Bound;
use std::sync::Arc;

/// A tree of which table `number` is changed.
fn with(tree: &str, number: u64, change: impl Fn(&mut TableMeta)) -> KeyspaceVersion {
    let (mut version, _) = define(tree);
    let found = version.levels.iter_mut().flatten().find(|table| table.number == FileNo(number));
    change(Arc::make_mut(found.unwrap()));
    version
}

fn expiring(earliest_ms: u64, half_ms: Option<u64>) -> impl Fn(&mut TableMeta) {
    move |table| table.expiries = Some(Expiries { entries: 6, earliest_ms, latest_ms: 900, half_ms })
}

/// Range tombstones over all keys; `entries` more in the table.
fn hiding(count: u64, entries: u64) -> impl Fn(&mut TableMeta) {
    move |table| {
        table.entries = entries;
        table.ranges = Some(RangeUse { count, begin: b"a"[..].into(), end: b"zz"[..].into() });
    }
}

#[test]
fn a_table_is_rewritten_for_one_entry_that_has_expired_or_one_range_tombstone() {
    let pick = |version: &KeyspaceVersion, gone_ms| {
        let (lower, upper) = (Bound::Unbounded, Bound::Unbounded);
        show(Picker::new(options()).pick_rewrite(version, &Busy::new(), lower, upper, SeqNo(9), gone_ms).as_ref())
    };
    let tree = "L6: 1:a-c@9";
    let version = with(tree, 1, expiring(100, None));
    assert_eq!((pick(&version, 99).as_str(), pick(&version, 100).as_str()), ("none", "L6[1] -> L6 merge"));
    assert_eq!(pick(&with(tree, 1, hiding(1, 10)), 0), "L6[1] -> L6 merge");
    assert_eq!(pick(&define(tree).0, 1000), "none");
}

#[test]
fn what_is_due_in_level_0_goes_down_with_what_it_overlaps_there_and_nothing_else() {
    let version = with("L0: 9:a-d@9 8:a-d@9 7:x-z@9", 8, expiring(100, Some(500)));
    let pick = |gone_ms| show(Picker::new(options()).pick_idle(&version, &Busy::new(), SeqNo(9), gone_ms).as_ref());
    assert_eq!((pick(499).as_str(), pick(500).as_str()), ("none", "L0[9 8] -> L6 merge"));
}

#[test]
fn range_tombstones_are_brought_down_if_they_stand_alone_or_hide_half_a_table() {
    let pick =
        |version: KeyspaceVersion| show(Picker::new(options()).pick_idle(&version, &Busy::new(), SeqNo(9), 0).as_ref());
    assert_eq!(pick(with("L6: 1:a-z@9", 1, hiding(1, 0))), "L6[1] -> L6 merge", "nothing else is in it");
    assert_eq!(pick(with("L0: 9:a-c@9 8:a-c@9", 9, hiding(1, 10))), "L0[9 8] -> L6 merge", "of level 0");
    let over = "L4: 9:q-zzz@9\nL6: 1:a-c@9";
    assert_eq!(pick(with(over, 9, hiding(1, 10))), "L4[9] -> L4 merge", "of a deeper level");
    let newer = with("L5: 1:a-zzz@9", 1, |table| {
        hiding(1, 10)(table);
        table.ranges.as_mut().unwrap().end = b"b"[..].into();
    });
    assert_eq!(pick(newer), "none", "it hides little, even of its own table");
}

/// Reads leap over what a range tombstone hides; where there are several they need not.
#[test]
fn for_reads_a_range_tombstone_that_hides_a_table_stays_where_it_is() {
    let reads = |version: KeyspaceVersion| show(Picker::new(options()).pick_for_reads(&version, &Busy::new()).as_ref());
    let tree = "L0: 9:a-c@9 8:a-c@9";
    assert_eq!(reads(with(tree, 9, hiding(1, 10))), "none");
    assert_eq!(reads(with(tree, 9, hiding(2, 10))), "L0[9 8] -> L6 merge");
    let little = with(tree, 9, |table| {
        hiding(1, 10)(table);
        table.ranges.as_mut().unwrap().end = b"aa"[..].into();
    });
    assert_eq!(reads(little), "L0[9 8] -> L6 merge");
}

#[test]
fn for_reads_the_higher_heap_comes_first_and_of_two_alike_the_older() {
    let reads = |options: LeveledOptions, tree: &str| {
        let (version, busy) = define(tree);
        show(Picker::new(options).pick_for_reads(&version, &busy).as_ref())
    };
    assert_eq!(reads(options(), "L0: 15:a-b@9 14:b-d@9 13:a-d@9 12:n-q@9 11:m-p@9"), "L0[15 14 13] -> L6 merge");
    assert_eq!(reads(options(), "L0: 14:n-q@9 13:m-p@9 12:b-d@9 11:a-d@9"), "L0[12 11] -> L6 merge");
    // 12 and 11 were ingested together: within level 0 they are not cut apart.
    let at_2 = LeveledOptions { codec_changes_at: Some(Level(2)), ..options() };
    assert_eq!(reads(at_2, "L0: 13:a-b@9 12#11:a-b@9 11:c-d@9"), "L0[13 12] -> L6 merge");
}

#[test]
fn a_merge_within_level_0_takes_a_hundred_bytes_and_no_more() {
    let tables = |bytes: u64| (11..19).rev().map(|n| format!(" {n}:a-f@{bytes}")).collect::<String>();
    let (version, busy) = define(&format!("L0:{}\nL6: 1:a-z@60\nbusy: 1", tables(25)));
    let plan = Picker::new(options()).pick(&version, &busy);
    assert_eq!(show(plan.as_ref()), "L0[18 17 16 15] -> L0 merge, deeper 14 | 13 | 12 | 11 | 1");
}

#[test]
fn a_plan_conflicts_by_an_input_or_by_where_it_writes_and_ends_alone() {
    let picker = Picker::new(options());
    let (version, mut busy) = define("L5: 4:a-b@9!1 5:x-z@9!1");
    let pick = |busy: &Busy, from: &'static [u8]| {
        picker.pick_range(&version, busy, Bound::Included(from), Bound::Unbounded).unwrap()
    };
    let left = picker.pick_range(&version, &busy, Bound::Unbounded, Bound::Excluded(b"c")).unwrap();
    let right = pick(&busy, b"c");
    busy.add(&left);
    assert!(busy.conflicts(&left) && !busy.conflicts(&right));
    let mut elsewhere = left.clone();
    elsewhere.output_level = Level(4);
    assert!(busy.conflicts(&elsewhere), "by its input");
    let (other, _) = define("L5: 7:b-c@9");
    let beside = picker.pick_range(&other, &Busy::new(), Bound::Unbounded, Bound::Unbounded).unwrap();
    assert!(busy.conflicts(&beside), "by where it writes");

    busy.add(&right);
    busy.remove(&left);
    assert!(busy.conflicts(&right) && !busy.conflicts(&left) && busy.plans(version.id) == 1);
}

#[test]
fn levels_that_are_empty_and_on_the_way_owe_nothing() {
    let debt = |tree: &str| Picker::new(options()).debt_bytes(&define(tree).0);
    assert_eq!(debt("L5: 2:a-b@900\nL6: 1:a-z@6400"), 260 + 260 * 6400 / 900);
}
