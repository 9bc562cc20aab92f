use super::*;
use crate::ManifestError;

/// Runs a story: edits, each with what it must lead to. Blank lines separate them; state carries over, and an edit that is refused leaves
/// everything as it was.
fn story(text: &str) {
    let mut version = Version::new();
    for step in text.split("\n\n") {
        let (edit, expected) = step.split_once("----").expect("an edit, ----, and an outcome");
        let edit: VersionEdit = edit.parse().unwrap();
        assert_eq!(VersionEdit::decode(&edit.encode()).as_ref(), Ok(&edit));
        let outcome = match version.apply(&edit) {
            Ok(next) => {
                next.check().unwrap();
                assert_eq!(
                    Version::new().apply(&next.snapshot()).unwrap(),
                    next,
                    "a snapshot makes the version it is of"
                );
                version = next;
                levels(&version)
            }
            Err(ManifestError::Edit(error)) => format!("error: {error}"),
            Err(other) => panic!("{other}"),
        };
        let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        assert_eq!(outcome.lines().collect::<Vec<_>>(), expected, "after\n{edit}");
    }
}

/// Each level that has tables, as `default L1: 000004[a..c] 000005[d..f]`.
fn levels(version: &Version) -> String {
    let mut lines = String::new();
    for keyspace in version.keyspaces.values() {
        for level in Level::all().filter(|level| !keyspace.level(*level).is_empty()) {
            let table = |t: &Arc<TableMeta>| {
                format!(" {}[{}..{}]", t.number, t.smallest.user_key.escape_ascii(), t.largest.user_key.escape_ascii())
            };
            let tables: String = keyspace.level(level).iter().map(table).collect();
            lines += &format!("{} {level}:{tables}\n", keyspace.name);
        }
    }
    lines
}

#[test]
fn tables_are_flushed_merged_and_moved() {
    story(
        "reserve seq 100
         reserve file 50
         ----

         add 0 L0 000004 a#3,PUT .. m#9,PUT
         flushed 0 9
         ----
         default L0: 000004[a..m]

         add 0 L0 000005 c#12,PUT .. z#14,DEL
         flushed 0 14
         ----
         default L0: 000005[c..z] 000004[a..m]

         remove 0 L0 000004
         remove 0 L0 000005
         add 0 L2 000007 n#10,PUT .. z#13,PUT
         add 0 L2 000006 a#3,PUT .. m#9,PUT
         ----
         default L2: 000006[a..m] 000007[n..z]

         remove 0 L2 000007
         add 0 L6 000007 n#10,PUT .. z#13,PUT
         ----
         default L2: 000006[a..m]
         default L6: 000007[n..z]",
    );
}

#[test]
fn level_zero_is_kept_newest_first_whatever_order_tables_come_in() {
    story(
        "reserve seq 100
         reserve file 50
         add 0 L0 000009 a#1,PUT .. m#2,PUT
         add 0 L0 000004 a#30,PUT .. m#31,PUT
         ----
         default L0: 000004[a..m] 000009[a..m]

         add 0 L0 000003 b#10,PUT .. z#20,PUT
         ----
         default L0: 000004[a..m] 000003[b..z] 000009[a..m]",
    );
}

#[test]
fn an_edit_that_does_not_fit_is_refused() {
    story(
        "reserve seq 100
         reserve file 50
         add 0 L1 000004 c#3,PUT .. f#9,PUT
         add 0 L1 000005 h#3,PUT .. k#9,PUT
         add 0 L0 000006 c#20,PUT .. f#29,PUT
         ----
         default L0: 000006[c..f]
         default L1: 000004[c..f] 000005[h..k]

         remove 0 L1 000006
         ----
         error: table 000006 is not in keyspace 0 L1

         remove 0 L1 000004
         remove 0 L1 000004
         ----
         error: table 000004 is not in keyspace 0 L1

         remove 0 L7 000004
         ----
         error: L7 is not a level

         add 0 L255 000007 a#3,PUT .. b#9,PUT
         ----
         error: L255 is not a level

         remove 3 L1 000004
         ----
         error: there is no keyspace 3

         add 3 L1 000007 a#3,PUT .. b#9,PUT
         ----
         error: there is no keyspace 3

         flushed 3 9
         ----
         error: there is no keyspace 3

         add 0 L2 000004 a#3,PUT .. b#9,PUT
         ----
         error: table 000004 is there already

         add 0 L2 000007 a#3,PUT .. b#9,PUT
         add 0 L3 000007 a#3,PUT .. b#9,PUT
         ----
         error: table 000007 is there already

         add 0 L1 000007 f#2,PUT .. g#9,PUT
         ----
         error: keyspace 0 L1: tables 000004 and 000007 are out of order or overlap

         add 0 L1 000007 a#2,PUT .. z#9,PUT
         ----
         error: keyspace 0 L1: tables 000007 and 000004 are out of order or overlap

         add 0 L1 000007 d#2,PUT .. e#9,PUT
         ----
         error: keyspace 0 L1: tables 000004 and 000007 are out of order or overlap",
    );
}

/// Two runs of level 0 of which neither is the newer one: a look-up that stops at the first hit could return the older version.
#[test]
fn level_zero_runs_that_share_a_key_must_not_share_sequence_numbers() {
    story(
        "reserve seq 100
         reserve file 50
         add 0 L0 000001 a#10,PUT .. f#20,PUT
         add 0 L0 000002 g#10,PUT .. k#20,PUT
         add 0 L0 000003 a#21,PUT .. z#30,PUT
         ----
         default L0: 000003[a..z] 000002[g..k] 000001[a..f]

         add 0 L0 000004 f#20,PUT .. f#20,PUT
         ----
         error: keyspace 0 L0: tables 000001 and 000004 are out of order or overlap

         add 0 L0 000004 h#5,PUT .. p#40,PUT
         ----
         error: keyspace 0 L0: tables 000003 and 000004 are out of order or overlap

         add 0 L0 000004 l#12,PUT .. p#15,PUT
         ----
         default L0: 000003[a..z] 000002[g..k] 000001[a..f] 000004[l..p]",
    );
}

#[test]
fn a_table_that_contradicts_itself_or_the_counters_is_refused() {
    story(
        "reserve seq 100
         reserve file 50
         ----

         add 0 L0 000050 a#3,PUT .. b#9,PUT
         ----
         error: table 000050: its number was not given out

         add 0 L0 000000 a#3,PUT .. b#9,PUT
         ----
         error: table 000000: its number was not given out

         add 0 L0 000001 b#3,PUT .. a#9,PUT
         ----
         error: table 000001: its smallest key lies behind its largest

         add 0 L0 000001 a#3,PUT .. a#9,PUT
         ----
         error: table 000001: its smallest key lies behind its largest

         add 0 L0 000001 a#3,PUT .. b#101,PUT
         ----
         error: table 000001: its largest sequence number was not given out

         add 0 L0 000001 a#3,PUT .. b#9,PUT seqs 9..3
         ----
         error: table 000001: its smallest sequence number is above its largest

         add 0 L0 000001 a#3,PUT .. b#9,PUT seqs 4..20
         ----
         error: table 000001: the sequence number of a bound is out of its range

         add 0 L0 000001 a#3,PUT .. b#9,PUT entries 2 deletions 3
         ----
         error: table 000001: it counts more tombstones than entries, or has neither entries nor range tombstones

         add 0 L0 000001 a#3,PUT .. b#9,PUT entries 0
         ----
         error: table 000001: it counts more tombstones than entries, or has neither entries nor range tombstones

         add 0 L0 000001 a#3,RANGEDEL .. b#9,PUT
         ----
         error: table 000001: a bound is that of a range tombstone, and it has none

         add 0 L0 000001 a#3,RANGEDEL .. b#9,PUT ranges 0 \"a\" \"b\"
         ----
         error: table 000001: its range tombstones are none, or hold no key

         add 0 L0 000001 a#3,RANGEDEL .. b#9,PUT ranges 1 \"b\" \"b\"
         ----
         error: table 000001: its range tombstones are none, or hold no key

         reserve seq 101
         add 0 L0 000001 a#3,PUT .. b#101,PUT
         add 0 L1 000002 c#3,RANGEDEL .. d#3,RANGEDEL entries 0 ranges 1 \"c\" \"d\"
         ----
         default L0: 000001[a..b]
         default L1: 000002[c..d]",
    );
}

#[test]
fn keyspaces_come_and_go_and_their_ids_are_never_used_again() {
    story(
        r#"reserve seq 100
         reserve file 50
         create keyspace 1 "users" "ttl=1"
         create keyspace 5 "orders" ""
         add 5 L0 000001 a#3,PUT .. b#9,PUT
         ----
         orders L0: 000001[a..b]

         create keyspace 5 "more" ""
         ----
         error: keyspace id 5 can't be given out, the next one is 6

         create keyspace 6 "users" ""
         ----
         error: there is a keyspace "users" already

         drop keyspace 0
         ----
         error: the keyspace `default` can't be dropped, renamed, or missing

         drop keyspace 2
         ----
         error: there is no keyspace 2

         drop keyspace 5
         create keyspace 6 "orders" ""
         ----

         create keyspace 5 "again" ""
         ----
         error: keyspace id 5 can't be given out, the next one is 7

         add 5 L0 000002 a#3,PUT .. b#9,PUT
         ----
         error: there is no keyspace 5

         create keyspace 4294967295 "last" ""
         ----
         error: keyspace id 4294967295 can't be given out, the next one is 7

         drop keyspace 6
         add 6 L0 000002 a#3,PUT .. b#9,PUT
         ----
         error: there is no keyspace 6"#,
    );
}

#[test]
fn counters_never_go_back_and_nothing_passes_the_reservation() {
    story(
        "reserve seq 100
         reserve file 50
         oldest log 000010
         log start 4000
         log durable 4096
         clock 1000
         written 5000
         flushed 0 50
         ----

         reserve seq 99
         ----
         error: reserved sequence number would go back from 100 to 99

         reserve file 49
         ----
         error: reserved file number would go back from 50 to 49

         oldest log 000009
         ----
         error: oldest log would go back from 10 to 9

         log start 3999
         ----
         error: log start would go back from 4000 to 3999

         log start 4097
         ----
         error: log start 4097 is not below the limit 4097

         log durable 4095
         ----
         error: log durable would go back from 4096 to 4095

         clock 999
         ----
         error: clock would go back from 1000 to 999

         written 4999
         ----
         error: bytes written would go back from 5000 to 4999

         flushed 0 49
         ----
         error: flushed sequence number would go back from 50 to 49

         flushed 0 101
         ----
         error: flushed sequence number 101 is not below the limit 101

         oldest log 000050
         ----
         error: oldest log 50 is not below the limit 50

         next keyspace 0
         ----
         error: next keyspace would go back from 1 to 0",
    );
    let whole = "reserve file 9 \n oldest log 000007 \n log start 4096 \n log durable 4096";
    let told = Version::new().apply(&whole.parse().unwrap()).unwrap();
    assert!(Version { log_durable: crate::Lsn(4095), ..told }.check().is_err());
    let past_all = VersionEdit { reserve_seq: Some(SeqNo(SeqNo::MAX.0 + 1)), ..VersionEdit::default() };
    assert!(Version::new().apply(&past_all).is_err());
}

#[test]
fn a_clean_close_lowers_the_reservation_to_what_was_given_out_until_the_next_edit() {
    let setup =
        "reserve seq 100 \n reserve file 50 \n oldest log 000007 \n add 0 L1 000008 a#3,PUT .. b#9,PUT \n flushed 0 9";
    let version = Version::new().apply(&setup.parse().unwrap()).unwrap();
    let refused = |edit: &str| version.apply(&edit.parse().unwrap()).unwrap_err().to_string();
    assert_eq!(refused("clean seq 8 file 9"), "flushed sequence number 9 is not below the limit 9");
    assert_eq!(refused("clean seq 9 file 8"), "table 000008: its number was not given out");
    assert_eq!(refused("clean seq 9 file 7"), "oldest log 7 is not below the limit 7");
    assert_eq!(refused("clean seq 101 file 9"), "last sequence number at close 101 is not below the limit 101");
    assert_eq!(refused("clean seq 9 file 51"), "next file number at close 51 is not below the limit 51");

    let closed = version.apply(&"clean seq 9 file 9".parse().unwrap()).unwrap();
    assert_eq!((closed.last_seq, closed.next_file, closed.clean_close), (SeqNo(9), FileNo(9), true));
    assert_eq!(Version::new().apply(&closed.snapshot()).unwrap(), closed);

    let reopened = closed.apply(&VersionEdit::default()).unwrap();
    assert!(!reopened.clean_close, "an engine that has done something has not closed cleanly yet");
}

#[test]
fn a_snapshot_needs_the_default_keyspace() {
    let apply = |edit: &str| Version::new().apply(&edit.parse().unwrap()).map_err(|error| error.to_string());
    let missing = Err("the keyspace `default` can't be dropped, renamed, or missing".to_owned());
    assert_eq!(apply("snapshot bytewise"), missing);
    assert_eq!(apply("snapshot bytewise \n create keyspace 0 \"other\" \"\""), missing);
    assert_eq!(apply("snapshot bytewise \n create keyspace 1 \"default\" \"\""), missing);
    assert_eq!(apply("snapshot bytewise \n create keyspace 0 \"default\" \"\""), Ok(Version::new()));
}

/// `check` is the second path: it finds what `apply` would not have let in.
#[test]
fn check_finds_a_version_that_no_edit_makes() {
    let setup = "reserve seq 100 \n reserve file 50 \n add 0 L1 000004 a#3,PUT .. c#9,PUT \n add 0 L1 000005 d#3,PUT .. f#9,PUT";
    let sound = Version::new().apply(&setup.parse().unwrap()).unwrap();
    let with = |change: fn(&mut Version)| {
        let mut version = sound.clone();
        change(&mut version);
        version.check().map_err(|error| error.to_string())
    };
    fn default(version: &mut Version) -> &mut KeyspaceVersion {
        Arc::make_mut(version.keyspaces.get_mut(&KeyspaceId::DEFAULT).unwrap())
    }
    let found = |what: &str| Err(what.to_owned());
    assert_eq!(with(|_| ()), Ok(()));
    let overlap = found("keyspace 0 L1: tables 000005 and 000004 are out of order or overlap");
    assert_eq!(with(|v| default(v).levels[1].reverse()), overlap);
    let twice = |v: &mut Version| {
        let table = Arc::clone(&default(v).levels[1][0]);
        default(v).levels[2].push(table);
    };
    assert_eq!(with(twice), found("table 000004 is there already"));
    assert_eq!(with(|v| v.next_file = FileNo(5)), found("table 000005: its number was not given out"));
    assert_eq!(with(|v| v.last_seq = SeqNo(8)), found("table 000004: its largest sequence number was not given out"));
    assert_eq!(with(|v| v.next_keyspace = KeyspaceId(0)), found("keyspace id 0 can't be given out, the next one is 0"));
    assert_eq!(
        with(|v| drop(v.keyspaces.insert(KeyspaceId(0), Arc::new(KeyspaceVersion::new(KeyspaceId(0), "x", ""))))),
        found("the keyspace `default` can't be dropped, renamed, or missing")
    );
    assert_eq!(
        with(|v| default(v).flushed_seq = SeqNo(101)),
        found("flushed sequence number 101 is not below the limit 101")
    );
}

mod interleaving {
    use super::*;
    use proptest::prelude::*;

    fn run(number: u64, keys: (u8, u8), seqs: (u64, u64)) -> Arc<TableMeta> {
        let ((a, b), (c, d)) = ((keys.0.min(keys.1), keys.0.max(keys.1)), (seqs.0.min(seqs.1), seqs.0.max(seqs.1)));
        let text = format!("{number} \\x{a:02x}#{d},PUT .. \\x{b:02x}#{c},PUT seqs {c}..{d}");
        Arc::new(text.parse().unwrap())
    }

    proptest! {
        /// The sweep finds a pair exactly if comparing each with each does.
        #[test]
        fn the_sweep_agrees_with_all_pairs(runs in prop::collection::vec(((0u8..40, 0u8..40), (1u64..60, 1u64..60)), 0..12)) {
            let tables: Vec<_> = (1..).zip(runs).map(|(number, (keys, seqs))| run(number, keys, seqs)).collect();
            let meet = |a: &TableMeta, b: &TableMeta| {
                a.overlaps(b) && a.smallest_seq <= b.largest_seq && b.smallest_seq <= a.largest_seq
            };
            let expected = (0..tables.len()).any(|i| tables[i + 1..].iter().any(|other| meet(&tables[i], other)));
            let found = interleaved(&tables);
            prop_assert_eq!(found.is_some(), expected);
            if let Some((a, b)) = found {
                prop_assert!(a.number != b.number && meet(a, b));
            }
        }
    }
}

/// No field says that a blob file goes: it does with the last reference to it.
#[test]
fn blob_files_come_with_references_and_go_with_the_last() {
    let live = |version: &Version| -> Vec<(u64, u64, u64)> {
        version.blobs().map(|(_, blob)| (blob.meta.number.0, blob.live_records, blob.garbage_bytes())).collect()
    };
    let apply = |version: &Version, edit: &str| -> Result<Version, ManifestError> {
        let next = version.apply(&edit.parse().unwrap())?;
        next.check().unwrap();
        assert_eq!(Version::new().apply(&next.snapshot()).unwrap(), next, "a snapshot makes the version it is of");
        Ok(next)
    };
    let refused = |version: &Version, edit: &str| version.apply(&edit.parse().unwrap()).unwrap_err().to_string();
    let version = apply(&Version::new(), "reserve seq 100\n reserve file 50\n create keyspace 1 \"a\" \"\"").unwrap();
    let blob = "blob 0 000009 bytes 1080 records 10 record-bytes 1000 id 0f";
    let both = apply(
        &version,
        &format!(
            "{blob}\n add 0 L6 000004 a#1,BLOB .. b#2,BLOB blob 000009 records 2 bytes 200
             add 0 L6 000005 c#1,BLOB .. d#2,BLOB blob 000009 records 2 bytes 300"
        ),
    )
    .unwrap();
    assert_eq!(live(&both), [(9, 4, 500)]);
    let one = apply(&both, "remove 0 L6 000004").unwrap();
    assert_eq!(live(&one), [(9, 2, 700)]);
    // A move is a removal and an addition, and lets go of nothing.
    let moved = "remove 0 L6 000005\n add 0 L5 000005 c#1,BLOB .. d#2,BLOB blob 000009 records 2 bytes 300";
    assert_eq!(live(&apply(&one, moved).unwrap()), [(9, 2, 700)]);
    assert_eq!(live(&apply(&one, "remove 0 L6 000005").unwrap()), []);

    let add = |uses: &str| format!("add 0 L0 000006 e#1,PUT .. f#2,PUT {uses}");
    let refusals = [
        (&version, blob.to_owned(), "no table refers to it"),
        (&version, add("blob 000009 records 2 bytes 200"), "is not there"),
        (&one, add("blob 000009 records 9 bytes 200"), "more than it holds"),
        (&one, add("blob 000009 records 1 bytes 701"), "more than it holds"),
        (&one, add("blob 000009 records 0 bytes 0"), "no record"),
        (&one, add("blob 000009 records 1 bytes 8 blob 000009 records 1 bytes 8"), "out of order"),
        (&one, format!("{blob}\n {}", add("blob 000009 records 1 bytes 8")), "its number is taken"),
        (&one, "add 0 L0 000009 e#1,PUT .. f#2,PUT".into(), "its number is taken"),
        (&one, "blob 0 000005 bytes 1080 records 1 record-bytes 1000 id 0f".into(), "its number is taken"),
        (&one, "blob 0 000099 bytes 1080 records 1 record-bytes 1000 id 0f".into(), "not given out"),
        (&one, "blob 0 000010 bytes 1080 records 0 record-bytes 1000 id 0f".into(), "no record"),
        (&one, "blob 0 000010 bytes 10 records 1 record-bytes 1000 id 0f".into(), "more bytes"),
        (&one, "blob 0 000010 bytes 1080 records 126 record-bytes 1000 id 0f".into(), "more records"),
        // Another keyspace's file.
        (&one, "add 1 L0 000006 e#1,PUT .. f#2,PUT blob 000009 records 1 bytes 8".into(), "is not there"),
    ];
    for (version, edit, expected) in refusals {
        let error = refused(version, &edit);
        assert!(error.contains(expected), "{edit}: {error}");
    }
}

#[test]
fn a_table_built_outside_has_one_sequence_number() {
    let wrong = "error: table 000001: its table-wide sequence number is none, or not that of its entries";
    let holds = "error: table 000001: it was built outside, and refers to blob files or has range tombstones";
    story(&format!(
        "reserve seq 100
         reserve file 50
         ----

         add 0 L0 000001 a#0,PUT .. b#0,PUT table-seq 0
         ----
         {wrong}

         add 0 L0 000001 a#8,PUT .. b#9,PUT table-seq 9
         ----
         {wrong}

         add 0 L0 000001 a#9,PUT .. b#9,PUT table-seq 8
         ----
         {wrong}

         add 0 L0 000001 a#9,PUT .. b#9,PUT ranges 1 \"a\" \"b\" table-seq 9
         ----
         {holds}

         add 0 L0 000001 a#9,PUT .. b#9,BLOB blob 2 records 1 bytes 8 table-seq 9
         blob 0 2 bytes 200 records 1 record-bytes 8 id 00000000deadbeef
         ----
         {holds}

         add 0 L6 000001 a#9,PUT .. b#9,DEL table-seq 9
         add 0 L6 000003 c#9,PUT .. d#9,PUT table-seq 9
         ----
         default L6: 000001[a..b] 000003[c..d]"
    ));
}

#[test]
fn ingests_are_told_of_until_the_feed_of_changes_begins_behind_them() {
    let ingest = |seq: u64| format!("ingest 0 seq {seq} tables 1 entries 2 \"a\" \"b\"");
    let told = |version: &Version| version.ingests.iter().map(|ingest| ingest.seq.0).collect::<Vec<_>>();
    let apply = |version: &Version, text: String| {
        let next = version.apply(&text.parse().unwrap())?;
        next.check()?;
        assert_eq!(Version::new().apply(&next.snapshot())?, next);
        Ok::<_, ManifestError>(next)
    };
    let version = apply(&Version::new(), "reserve seq 100\nreserve file 50".into()).unwrap();
    let version = apply(&version, format!("{}\n{}", ingest(7), ingest(9))).unwrap();
    assert_eq!(told(&version), [7, 9]);
    for bad in [
        ingest(9),
        ingest(8),
        ingest(101),
        ingest(20).replace("tables 1", "tables 0"),
        ingest(20).replace("\"a\"", "\"c\""),
    ] {
        let error = apply(&version, bad.clone()).unwrap_err();
        assert!(matches!(error, ManifestError::Edit(EditError::Ingest { .. })), "{bad}: {error}");
    }
    let version = apply(&version, "changes from 8 log 4".into()).unwrap();
    assert_eq!((told(&version), version.changes_log), (vec![9], FileNo(4)));
    assert!(apply(&version, "changes from 7 log 4".into()).is_err(), "it never goes back");
    assert!(apply(&version, "changes from 9 log 3".into()).is_err());
    assert!(apply(&version, "changes from 101 log 4".into()).is_err(), "beyond what was given out");
    assert!(told(&apply(&version, format!("{}\nchanges from 30 log 4", ingest(20))).unwrap()).is_empty());
}
