use super::*;
use crate::ParseEditError;
use esker_format::ValueKind;
use proptest::prelude::*;

fn seq_no() -> impl Strategy<Value = SeqNo> {
    prop_oneof![0..1000u64, Just(SeqNo::MAX.0)].prop_map(SeqNo)
}

fn file_no() -> impl Strategy<Value = FileNo> {
    prop_oneof![0..1000u64, any::<u64>()].prop_map(FileNo)
}

fn keyspace_id() -> impl Strategy<Value = KeyspaceId> {
    prop_oneof![0..5u32, any::<u32>()].prop_map(KeyspaceId)
}

fn key() -> impl Strategy<Value = InternalKeyBuf> {
    let kind = prop::sample::select(vec![
        ValueKind::Put,
        ValueKind::Delete,
        ValueKind::Merge,
        ValueKind::Blob,
        ValueKind::RangeDelete,
        ValueKind::Expiring,
        ValueKind::ExpiringBlob,
    ]);
    let user_key = prop_oneof![".{0,6}".prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..300)];
    (user_key, seq_no(), kind).prop_map(|(user_key, seq, kind)| InternalKeyBuf {
        user_key: user_key.into(),
        trailer: Trailer::new(seq, kind),
    })
}

fn any_blob() -> impl Strategy<Value = BlobMeta> {
    (file_no(), any::<[u64; 4]>()).prop_map(|(number, n)| BlobMeta {
        number,
        file_id: FileId(n[0]),
        file_bytes: n[1],
        records: n[2],
        record_bytes: n[3],
    })
}

fn any_ingest() -> impl Strategy<Value = IngestMeta> {
    (keyspace_id(), seq_no(), any::<[u64; 2]>(), any::<Vec<u8>>(), any::<Vec<u8>>()).prop_map(
        |(keyspace, seq, [tables, entries], smallest, largest)| IngestMeta {
            keyspace,
            seq,
            tables,
            entries,
            smallest: smallest.into(),
            largest: largest.into(),
        },
    )
}

fn any_table() -> impl Strategy<Value = TableMeta> {
    let numbers = (file_no(), any::<[u64; 5]>());
    let used = (file_no(), any::<[u64; 2]>()).prop_map(|(file, [records, bytes])| BlobUse { file, records, bytes });
    let blobs = prop::collection::vec(used, 0..3);
    let ranges = prop::option::of((any::<u64>(), any::<Vec<u8>>(), any::<Vec<u8>>()));
    let ranges = ranges
        .prop_map(|ranges| ranges.map(|(count, begin, end)| RangeUse { count, begin: begin.into(), end: end.into() }));
    let expiries = prop::option::of(any::<[u64; 4]>()).prop_map(|expiries| {
        expiries.map(|[entries, earliest_ms, latest_ms, half]| Expiries {
            entries,
            earliest_ms,
            latest_ms,
            half_ms: Some(half).filter(|half| half % 4 > 0),
        })
    });
    let seqs = (seq_no(), seq_no(), prop::option::of(seq_no()));
    (numbers, key(), key(), seqs, blobs, ranges, expiries).prop_map(
        |((number, n), smallest, largest, (smallest_seq, largest_seq, table_seq), blobs, ranges, expiries)| TableMeta {
            number,
            file_id: FileId(n[0]),
            file_bytes: n[1],
            smallest,
            largest,
            smallest_seq,
            largest_seq,
            entries: n[2],
            deletions: n[3],
            created_unix_ms: n[4],
            blobs,
            ranges,
            table_seq,
            expiries,
        },
    )
}

fn any_edit() -> impl Strategy<Value = VersionEdit> {
    let place = || (keyspace_id(), any::<u8>().prop_map(Level));
    let counters = (
        any::<bool>(),
        prop::option::of(seq_no()),
        prop::option::of(file_no()),
        prop::option::of(file_no()),
        any::<[Option<u64>; 4]>(),
        prop::option::of(keyspace_id()),
        (prop::option::of((seq_no(), file_no())), prop::option::of((seq_no(), file_no()))),
    );
    let lists = (
        prop::collection::vec((keyspace_id(), ".{0,8}", ".{0,20}"), 0..3),
        prop::collection::vec(keyspace_id(), 0..3),
        prop::collection::vec((keyspace_id(), seq_no()), 0..3),
        prop::collection::vec((place(), any_table()), 0..4),
        prop::collection::vec((place(), file_no()), 0..4),
        prop::collection::vec((keyspace_id(), any_blob()), 0..3),
        prop::collection::vec(any_ingest(), 0..3),
    );
    (counters, lists).prop_map(|((snapshot, seq, file, log, n, next_keyspace, (clean, changes_from)), lists)| {
        VersionEdit {
            snapshot,
            reserve_seq: seq,
            reserve_file: file,
            oldest_log: log,
            log_start: n[3].map(Lsn),
            log_durable: n[0].map(Lsn),
            clock_ms: n[1],
            written_bytes: n[2],
            next_keyspace,
            create_keyspaces: lists.0,
            drop_keyspaces: lists.1,
            flushed: lists.2,
            add: lists.3.into_iter().map(|((keyspace, level), table)| (keyspace, level, table)).collect(),
            remove: lists.4.into_iter().map(|((keyspace, level), number)| (keyspace, level, number)).collect(),
            add_blobs: lists.5,
            ingests: lists.6,
            changes_from,
            clean: clean.map(|(last_seq, next_file)| CleanClose { last_seq, next_file }),
        }
    })
}

proptest! {
    #[test]
    fn any_edit_comes_back_from_its_bytes_and_from_its_text(edit in any_edit()) {
        prop_assert_eq!(VersionEdit::decode(&edit.encode()), Ok(edit.clone()));
        prop_assert_eq!(edit.to_string().parse(), Ok(edit));
    }

    #[test]
    fn any_cut_is_an_error_or_a_shorter_edit(edit in any_edit()) {
        let bytes = edit.encode();
        for cut in 0..bytes.len() {
            if let Ok(shorter) = VersionEdit::decode(&bytes[..cut]) {
                prop_assert_eq!(&shorter.encode()[..], &bytes[..cut], "cut at a field's end, whole fields are left");
            }
        }
    }

    #[test]
    fn any_bytes_are_an_edit_or_an_error(bytes: Vec<u8>) {
        if let Ok(edit) = VersionEdit::decode(&bytes) {
            prop_assert!(edit.encode().len() <= bytes.len(), "fields may have been skipped, none made up");
        }
    }

    #[test]
    fn a_changed_byte_never_panics(edit in any_edit(), at: prop::sample::Index, to: u8) {
        let mut bytes = edit.encode();
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = to;
            if let Ok(changed) = VersionEdit::decode(&bytes) {
                let _ = crate::Version::new().apply(&changed);
            }
        }
    }
}

fn refused(bytes: &[u8]) -> DecodeError {
    VersionEdit::decode(bytes).unwrap_err()
}

#[test]
fn a_field_not_known_is_skipped_unless_its_tag_forbids_it() {
    let edit = VersionEdit { reserve_seq: Some(SeqNo(300)), ..VersionEdit::default() };
    for tag in 0..=255u8 {
        let known = matches!(tag, TAG_SNAPSHOT..=TAG_INGEST | TAG_WRITTEN_BYTES..=TAG_LOG_START);
        let mut bytes = vec![tag, 3, b'n', b'e', b'w'];
        bytes.extend(edit.encode());
        match VersionEdit::decode(&bytes) {
            _ if known => {}
            Ok(read) => assert!(tag < MUST_UNDERSTAND && read == edit, "{tag:#x}"),
            Err(error) => {
                assert!(tag >= MUST_UNDERSTAND, "{tag:#x}");
                assert_eq!(error, DecodeError::Unsupported { what: "field tag", offset: 0, found: u64::from(tag) });
            }
        }
    }
}

#[test]
fn descriptions_may_grow_by_fields_under_the_same_rule() {
    let edit: VersionEdit = "create keyspace 1 \"a\" \"\" \n add 0 L1 000004 a#1,PUT .. b#2,PUT".parse().unwrap();
    for (tag, only) in [
        (TAG_CREATE_KEYSPACE, VersionEdit { add: Vec::new(), ..edit.clone() }),
        (TAG_ADD_TABLE, VersionEdit { create_keyspaces: Vec::new(), ..edit }),
    ] {
        let encoded = only.encode();
        assert_eq!((encoded[0], usize::from(encoded[1])), (tag, encoded.len() - 2));
        let grown = |extension: &[u8]| {
            let mut bytes = [&encoded[..], extension].concat();
            bytes[1] += extension.len() as u8;
            VersionEdit::decode(&bytes)
        };
        assert_eq!(grown(&[0x02, 1, 77]), Ok(only.clone()));
        assert_eq!(grown(&[0x02, 1, 77, 0x03, 0]), Ok(only.clone()));
        assert!(grown(&[0x9f, 1, 77]).unwrap_err().is_unsupported());
        assert!(matches!(grown(&[0x02, 2, 77]), Err(DecodeError::Truncated { .. })));
    }
}

#[test]
fn another_format_version_or_order_is_unsupported() {
    let snapshot = VersionEdit { snapshot: true, ..VersionEdit::default() }.encode();
    assert_eq!(snapshot, b"\x80\x0a\x01\x08bytewise");
    let with = |at: usize, byte: u8| {
        let mut bytes = snapshot.clone();
        bytes[at] = byte;
        refused(&bytes)
    };
    assert_eq!(with(2, 2), DecodeError::Unsupported { what: "manifest format version", offset: 2, found: 2 });
    assert_eq!(with(4, b'B'), DecodeError::Unsupported { what: "comparator", offset: 3, found: 8 });
}

#[test]
fn a_counter_comes_once_and_fills_its_field() {
    let clock = |bytes: &[u8]| [&[TAG_CLOCK_MS][..], bytes].concat();
    assert_eq!(VersionEdit::decode(&clock(&[1, 9])).unwrap().clock_ms, Some(9));
    assert!(matches!(refused(&clock(&[1, 9, TAG_CLOCK_MS, 1, 9])), DecodeError::Invalid { .. }));
    assert!(matches!(refused(&clock(&[2, 9, 9])), DecodeError::Invalid { what: "end of field", .. }));
    assert!(matches!(refused(&clock(&[0, 9])), DecodeError::Invalid { what: "end of field", .. }));
    assert!(matches!(refused(&clock(&[1])), DecodeError::Truncated { .. }));
    assert!(matches!(refused(&clock(&[0xff, 0xff, 0xff, 0xff, 0x0f, 9])), DecodeError::Truncated { .. }));
}

#[test]
fn numbers_that_no_engine_writes_are_refused() {
    let mut table: TableMeta = "000004 a#1,PUT .. b#2,PUT".parse().unwrap();
    let add = |table: &TableMeta| {
        let add = vec![(KeyspaceId(0), Level(0), table.clone())];
        VersionEdit::decode(&VersionEdit { add, ..VersionEdit::default() }.encode())
    };
    table.smallest.user_key = vec![b'a'; KEY_BYTES_MAX].into();
    assert!(add(&table).is_ok());
    table.smallest.user_key = vec![b'a'; KEY_BYTES_MAX + 1].into();
    assert!(matches!(add(&table), Err(DecodeError::Invalid { what: "smallest key", found: 65_536, .. })));
    table.smallest.user_key = b"a"[..].into();
    table.largest.trailer = Trailer::from_bits(0x0206);
    assert!(add(&table).unwrap_err().is_unsupported(), "a value kind to come");
    let over = VersionEdit { reserve_seq: Some(SeqNo(SeqNo::MAX.0 + 1)), ..VersionEdit::default() };
    assert!(matches!(refused(&over.encode()), DecodeError::Invalid { .. }));
    let mut name = VersionEdit { create_keyspaces: vec![(KeyspaceId(1), "x".into(), String::new())], ..over }.encode();
    let at = name.iter().rposition(|byte| *byte == b'x').unwrap();
    name[at] = 0xff;
    assert!(VersionEdit::decode(&name).is_err(), "a name is UTF-8");
}

#[test]
fn text_reads_as_in_the_notes_and_a_slip_is_named() {
    let edit: VersionEdit = "
        reserve seq 1048576
        create keyspace 1 \"new\\x20users\" \"\"
        remove 1 L0 000004
        add 1 L1 000007 a#9,PUT .. c#3,DEL entries 4 deletions 1
        flushed 1 9"
        .parse()
        .unwrap();
    assert_eq!(edit.create_keyspaces[0].1, "new users");
    assert_eq!(
        edit.to_string(),
        "reserve seq 1048576\n\
         create keyspace 1 \"new\\x20users\" \"\"\n\
         remove 1 L0 000004\n\
         add 1 L1 000007 a#9,PUT .. c#3,DEL seqs 3..9 entries 4 deletions 1 bytes 1000 id 0000000000000007 created 0\n\
         flushed 1 9\n"
    );
    for slip in [
        "reserve seq",
        "reserve seq x",
        "reserve seq 1 2",
        "reserve",
        "snapshot",
        "snapshot reversed",
        "add 0 1 000007 a#9,PUT .. c#3,DEL",
        "add 0 L1 000007 a#9,PUT .. c",
        "add 0 L1 000007 a#9,PUT .. c#3,OTHER",
        "add 0 L1 000007 a\\xzz#9,PUT .. c#3,PUT",
        "add 0 L1 000007 a#9,PUT .. c#3,DEL entries",
        "add 0 L1 000007 a#9,PUT .. c#99999999999999999999,DEL",
        "create keyspace 1 users \"\"",
        "hello",
    ] {
        assert_eq!(slip.parse::<VersionEdit>(), Err(ParseEditError(slip.to_owned())), "{slip}");
    }
}
