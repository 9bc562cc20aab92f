//! Files that are damaged, missing, stale, swapped, or come from elsewhere: an error that says so, or the right answer.

mod support;

use esker_format::checksum::crc32c;
use esker_format::{FileNo, SeqNo};
use esker_manifest::{Found, ManifestError, RecordError, Version, VersionEdit, VersionSet, probe};
use esker_vfs::{CrashPolicy, MemVfs, Vfs, read_file};
use std::sync::Arc;
use support::{create, directory, edit, forge, fresh, names, path, recover};

const MANIFEST: &str = "MANIFEST-000001";

/// A small manifest of some edits, the version after each, and where each ends.
fn small(vfs: &Arc<MemVfs>) -> (VersionSet, Vec<Arc<Version>>, Vec<u64>) {
    let mut set = create(vfs);
    assert_eq!(set.new_file_no().unwrap(), FileNo(2));
    let (mut versions, mut ends) = (vec![Arc::clone(set.current())], vec![set.manifest_bytes()]);
    for text in ["reserve seq 50", "create keyspace 1 \"k\" \"\"", "add 1 L0 000002 a#1,PUT .. b#2,DEL \n flushed 1 2"]
    {
        versions.push(set.commit(edit(text)).unwrap());
        ends.push(set.manifest_bytes());
    }
    (set, versions, ends)
}

fn closed(vfs: &Arc<MemVfs>) -> (Vec<Arc<Version>>, Vec<u64>) {
    let (mut set, mut versions, mut ends) = small(vfs);
    versions.push(set.close(VersionEdit::default(), SeqNo(9)).unwrap());
    let edit = edit("clean seq 9 file 3").encode();
    ends.push(ends.last().unwrap() + 24 + edit.len().next_multiple_of(8) as u64);
    (versions, ends)
}

/// The directory after `change` was done to one of its files.
fn changed(vfs: &MemVfs, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Arc<MemVfs> {
    let image = Arc::new(vfs.crash_now(CrashPolicy::All));
    image.edit(&path(name), change).unwrap();
    image
}

fn bytes_of(vfs: &MemVfs, name: &str) -> Vec<u8> {
    read_file(vfs, &path(name), u64::MAX).unwrap()
}

#[test]
fn every_bit_of_a_closed_manifest_matters_or_is_found_out() {
    let vfs = fresh();
    let (versions, ends) = closed(&vfs);
    let (last, end) = (versions.last().unwrap(), *ends.last().unwrap() as usize);
    for at in 0..end + 24 {
        for bit in 0..8 {
            let image = changed(&vfs, MANIFEST, |bytes| bytes[at] ^= 1 << bit);
            match recover(&image) {
                // Some bytes, as those that fill up to a multiple of 8, carry nothing.
                Ok(set) => assert_eq!(set.current(), last, "byte {at} bit {bit} went unnoticed"),
                Err(error) => assert!(at < end && error.is_corruption(), "byte {at} bit {bit}: {error}"),
            }
        }
    }
}

#[test]
fn in_a_manifest_that_was_not_closed_only_the_last_edit_may_pass_for_torn() {
    let vfs = fresh();
    let (set, versions, ends) = small(&vfs);
    drop(set);
    let [.., before, end] = ends[..] else { unreachable!() };
    for at in 0..end as usize + 8 {
        let image = changed(&vfs, MANIFEST, |bytes| bytes[at] ^= 0x10);
        match recover(&image) {
            Ok(set) if at >= before as usize && set.current() == &versions[2] => {}
            Ok(set) => assert_eq!(set.current(), &versions[3], "byte {at}"),
            Err(error) => assert!(at < before as usize && error.is_corruption(), "byte {at}: {error}"),
        }
    }
}

#[test]
fn every_length_of_a_manifest_is_an_error_or_the_edits_that_are_whole() {
    let vfs = fresh();
    let (versions, ends) = closed(&vfs);
    for len in 0..bytes_of(&vfs, MANIFEST).len() {
        let image = changed(&vfs, MANIFEST, |bytes| bytes.truncate(len));
        let whole = ends.partition_point(|end| *end <= len as u64);
        match recover(&image) {
            Ok(set) => assert_eq!(set.current(), &versions[whole - 1], "length {len}"),
            Err(error) => assert!(whole == 0 && error.is_corruption(), "length {len}: {error}"),
        }
    }
}

#[test]
fn every_bit_and_every_length_of_current_matter() {
    let vfs = fresh();
    let (set, ..) = small(&vfs);
    drop(set);
    let current = bytes_of(&vfs, "CURRENT");
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let image = changed(&vfs, "CURRENT", |bytes| change(bytes));
        let error = recover(&image).unwrap_err();
        assert!(matches!(error, ManifestError::Current { .. }) && error.is_corruption(), "{error}");
        let error = VersionSet::create(image, directory()).unwrap_err();
        assert!(matches!(error, ManifestError::EngineExists(_)), "a damaged engine is not made anew: {error}");
    };
    for at in 0..current.len() {
        for bit in 0..8 {
            refused(&|bytes| bytes[at] ^= 1 << bit);
        }
        refused(&|bytes| bytes.truncate(at));
    }
    refused(&|bytes| bytes.push(b'\n'));
    refused(&|bytes| bytes.extend([0; 4096]));
    refused(&|bytes| bytes.make_ascii_uppercase());
}

#[test]
fn current_that_names_what_is_not_there_is_corruption() {
    let vfs = fresh();
    drop(create(&vfs));
    let old = bytes_of(&vfs, "CURRENT");
    let old_manifest = bytes_of(&vfs, MANIFEST);
    recover(&vfs).unwrap().commit(edit("clock 1")).unwrap();

    let stale = changed(&vfs, "CURRENT", |bytes| *bytes = old);
    let error = recover(&stale).unwrap_err();
    assert!(matches!(error, ManifestError::ManifestMissing { .. }) && error.is_corruption());
    assert_eq!(error.to_string(), "/db/CURRENT names MANIFEST-000001, which is missing");

    let swapped = changed(&vfs, "MANIFEST-001002", |bytes| *bytes = old_manifest);
    let error = recover(&swapped).unwrap_err();
    assert_eq!((error.to_string().as_str(), error.is_corruption()), ("MANIFEST-001002: this is manifest 000001", true));
}

/// A missing CURRENT, taken for a new engine, would have everything swept away.
#[test]
fn a_directory_without_current_is_new_only_if_nothing_can_be_lost() {
    let found = |names: &[&str]| {
        let vfs = fresh();
        for name in names {
            vfs.create_new(&path(name)).unwrap();
        }
        let found = probe(&*vfs, directory());
        if matches!(found, Ok(Found::Nothing)) {
            assert!(matches!(recover(&vfs), Err(ManifestError::NoEngine(_))));
            drop(create(&vfs));
            recover(&vfs).unwrap();
        } else {
            assert!(recover(&vfs).is_err() && VersionSet::create(vfs.clone(), directory()).is_err());
            assert!(names.iter().all(|name| support::names(&vfs).contains(&name.to_string())), "nothing was touched");
        }
        found.map_err(|error| {
            assert!(error.is_corruption());
            error.to_string()
        })
    };
    let lost = |name: &str| Err(format!("/db/CURRENT is missing, but {name} is there: this was an engine"));
    assert_eq!(found(&[]), Ok(Found::Nothing));
    assert_eq!(found(&["LOCK", "OPTIONS-000007", "CURRENT.tmp", "notes.txt", "000001.sst.bak"]), Ok(Found::Nothing));
    assert_eq!(found(&["LOCK", "MANIFEST-000001", "CURRENT.tmp"]), Ok(Found::Nothing), "cut off before its first edit");
    assert_eq!(found(&["MANIFEST-000002"]), lost("MANIFEST-000002"), "creation makes number 1 only");
    assert_eq!(found(&["MANIFEST-000001", "000004.sst"]), lost("000004.sst"));
    assert_eq!(found(&["000004.sst"]), lost("000004.sst"));
    assert_eq!(found(&["000003.wal"]), lost("000003.wal"));
    assert_eq!(found(&["000003.wal.aside"]), lost("000003.wal.aside"));
    assert_eq!(found(&["000003.blob"]), lost("000003.blob"));

    let vfs = fresh();
    let (set, ..) = small(&vfs);
    drop(set);
    vfs.remove_file(&path("CURRENT")).unwrap();
    assert!(probe(&*vfs, directory()).is_err(), "an engine without tables has its keyspaces to lose");
    // Damaged, it may have held anything: what is missing is still CURRENT.
    vfs.edit(&path(MANIFEST), |bytes| bytes[70] ^= 1).unwrap();
    let error = probe(&*vfs, directory()).unwrap_err();
    assert!(matches!(error, ManifestError::CurrentMissing { .. }), "{error}");
}

/// Writes a manifest record by record, checksums and all, and opens it.
fn forged(records: &[&[u8]]) -> Result<Arc<Version>, ManifestError> {
    let vfs = fresh();
    drop(create(&vfs));
    vfs.remove_file(&path(MANIFEST)).unwrap();
    forge(&vfs, MANIFEST, FileNo(1), records);
    let found = VersionSet::read(&*vfs, directory()).map(|recovered| recovered.version);
    assert_eq!(recover(&vfs).is_ok(), found.is_ok());
    assert_eq!(names(&vfs), ["CURRENT", MANIFEST]);
    found
}

#[test]
fn edits_that_are_whole_but_wrong_are_told_apart() {
    let snapshot = Version::new().snapshot().encode();
    let fits = edit("reserve seq 5").encode();
    let misfit = edit("remove 0 L0 000009").encode();
    assert_eq!(forged(&[&snapshot, &fits]).unwrap().last_seq, SeqNo(5));

    let record = |records: &[&[u8]]| match forged(records).unwrap_err() {
        error @ ManifestError::Record { .. } if error.is_corruption() => error.to_string(),
        other => panic!("{other:?}"),
    };
    let position = 64 + 24 + snapshot.len().next_multiple_of(8);
    assert_eq!(
        record(&[&snapshot, &misfit]),
        format!("MANIFEST-000001: edit at {position}: table 000009 is not in keyspace 0 L0")
    );
    let front = "MANIFEST-000001: edit at 64: the first edit, and no other, must be a snapshot";
    assert_eq!(record(&[&fits, &fits]), front);
    assert_eq!(record(&[&snapshot, &snapshot]), front.replace("64", &position.to_string()));
    assert!(record(&[&snapshot, b"no edit"]).contains("field"));
    assert!(matches!(forged(&[]).unwrap_err(), ManifestError::NoEdit { .. }));
}

#[test]
fn what_only_a_newer_version_understands_is_unsupported_and_not_corruption() {
    let snapshot = Version::new().snapshot().encode();
    for newer in
        [b"\xff\x01x".to_vec(), snapshot.iter().enumerate().map(|(at, byte)| byte + u8::from(at == 2)).collect()]
    {
        let error = forged(&[&snapshot, &newer]).unwrap_err();
        assert!(matches!(&error, ManifestError::Record { source: RecordError::Decode(_), .. }));
        assert!(error.is_unsupported() && !error.is_corruption(), "{error}");
    }
    assert_eq!(*forged(&[&snapshot, b"\x7f\x01x"]).unwrap(), Version::new(), "what may be skipped is skipped");
}

#[test]
fn a_manifest_in_a_newer_log_format_is_unsupported_and_not_corruption() {
    let vfs = fresh();
    drop(create(&vfs));
    let newer = changed(&vfs, MANIFEST, |bytes| {
        bytes[8] += 1;
        let crc = crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    });
    let error = recover(&newer).unwrap_err();
    assert!(error.is_unsupported() && !error.is_corruption(), "{error}");
}

/// For whoever makes do with what is left: what the other edits say, also behind the one that was hit.
#[test]
fn a_damaged_edit_costs_what_it_said_and_no_more() {
    let vfs = fresh();
    let (set, versions, ends) = small(&vfs);
    drop(set);
    let whole = esker_manifest::salvage(&*vfs, directory()).unwrap();
    assert_eq!(whole.version.as_ref(), versions.last());
    for at in 0..ends[ends.len() - 1] as usize {
        let bad = changed(&vfs, MANIFEST, |bytes| bytes[at] ^= 0x20);
        let left = esker_manifest::salvage(&*bad, directory()).unwrap();
        if let Some(version) = &left.version {
            // The last edit may pass for torn.
            assert!(versions.contains(version), "byte {at}");
            continue;
        }
        assert!(left.error.is_some());
        if at >= 64 {
            // What was known at the end, but for what one edit said.
            assert!(left.edits + 1 >= ends.len() as u64, "byte {at}: {} edits of {}", left.edits, ends.len());
        }
        for (number, told) in &left.tables {
            assert!(
                versions
                    .iter()
                    .flat_map(|v| v.tables())
                    .any(|(id, _, t)| t.number == *number && (id, &**t) == (told.0, &told.1))
            );
        }
    }
}

/// Decoding must not be slow or greedy on a manifest that was made to be.
#[test]
fn a_hostile_manifest_ends_in_an_error_soon() {
    let mut counters = Version::new().snapshot();
    counters.reserve_seq = Some(SeqNo::MAX);
    counters.reserve_file = Some(FileNo(u64::MAX));
    let mut stacked = counters.clone();
    for n in 1..20_000u64 {
        let table = format!("{n:06} a#{n},PUT .. z#1,PUT seqs 1..{n}").parse().unwrap();
        stacked.add.push((esker_format::KeyspaceId(0), esker_manifest::Level(0), table));
    }
    assert!(forged(&[&stacked.encode()]).is_err());

    let spent = forged(&[&counters.encode()]).unwrap();
    assert_eq!(spent.next_file, FileNo(u64::MAX));
}

#[test]
fn numbers_that_are_used_up_are_an_error() {
    let vfs = fresh();
    drop(create(&vfs));
    vfs.create_new(&path("18446744073709551614.sst")).unwrap();
    let mut set = recover(&vfs).unwrap();
    let error = set.new_file_no().unwrap_err();
    assert!(matches!(error, ManifestError::Edit(_)), "{error}");
    let room = u64::MAX - 1000;
    assert_eq!(error.to_string(), format!("file number {} is not below the limit {room}", u64::MAX));
    assert!(set.commit(edit("clock 1")).is_err());
    assert_eq!(names(&vfs).len(), 3, "nothing was written");
}
