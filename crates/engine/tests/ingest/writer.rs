//! `SstWriter`: what it takes, and that it leaves nothing half done.

use super::*;

#[test]
fn a_writer_of_tables_takes_keys_in_order_and_leaves_nothing_half_done() {
    let (_, vfs) = memory();
    let create = |name: &str| SstWriter::create_on(Arc::clone(&vfs), format!("/out/{name}"), &SstOptions::default());
    let mut writer = create("t").unwrap();
    writer.put("", "the empty key").unwrap();
    writer.put("b", "").unwrap();
    for key in ["", "a", "b"] {
        assert_eq!(writer.put(key, "x").unwrap_err().kind(), ErrorKind::InvalidArgument, "{key:?}");
        assert_eq!(writer.delete(key).unwrap_err().kind(), ErrorKind::InvalidArgument, "{key:?}");
    }
    assert_eq!(writer.put(vec![b'c'; 65_536], "x").unwrap_err().kind(), ErrorKind::InvalidArgument);
    writer.put(vec![b'c'; 65_535], "the longest key").unwrap();
    let names = vfs.list("/out".as_ref()).unwrap();
    assert!(
        names.len() == 1 && names[0].starts_with("esker-") && names[0].ends_with(".sst.tmp"),
        "it has no name yet: {names:?}"
    );
    let facts = writer.finish().unwrap();
    assert_eq!((facts.entries, facts.deletions, facts.smallest.len(), facts.largest.len()), (3, 0, 0, 65_535));
    assert_eq!(vfs.list("/out".as_ref()).unwrap(), ["t"]);
    assert_eq!(create("t").unwrap_err().kind(), ErrorKind::InvalidArgument, "there is one");
    let mut dropped = create("u").unwrap();
    dropped.put("a", "1").unwrap();
    drop(dropped);
    assert_eq!(create("v").unwrap().finish().unwrap_err().kind(), ErrorKind::InvalidArgument, "nothing in it");
    assert_eq!(vfs.list("/out".as_ref()).unwrap(), ["t"], "neither leaves anything");
    let bad = SstOptions { filter_bits_per_key: 65, ..SstOptions::default() };
    assert_eq!(SstWriter::create("/nowhere", &bad).unwrap_err().kind(), ErrorKind::InvalidArgument);

    let engine = open(&vfs);
    engine.ingest(["/out/t"], &MOVE).unwrap();
    assert_eq!(engine.get("").unwrap().unwrap(), b"the empty key");
    assert_eq!(engine.get([b'c'; 65_535]).unwrap().unwrap(), b"the longest key");
    assert_eq!(engine.iter().count(), 3);
}

/// They wrote to one temporary file: the later one removed the earlier one's, which then gave the later one's its name, half written.
#[test]
fn two_writers_of_one_table_do_not_meet_and_the_first_that_ends_has_it() {
    let (_, vfs) = memory();
    let create = || SstWriter::create_on(Arc::clone(&vfs), "/out/t", &SstOptions::default()).unwrap();
    let (mut first, mut second, third) = (create(), create(), create());
    first.put("a", "first").unwrap();
    second.put("b", "second").unwrap();
    second.put("c", "second").unwrap();
    assert_eq!(vfs.list("/out".as_ref()).unwrap().len(), 3);
    drop(third);
    assert_eq!(second.finish().unwrap().entries, 2);
    first.put("b", "first").unwrap();
    assert_eq!(first.finish().unwrap_err().kind(), ErrorKind::InvalidArgument, "there is one by now");
    assert_eq!(vfs.list("/out".as_ref()).unwrap(), ["t"]);
    let engine = open(&vfs);
    engine.ingest(["/out/t"], &MOVE).unwrap();
    assert_eq!(all(&default(&engine)), "b=second c=second");

    // On a file system that knows no second names, too.
    let faults = FaultVfs::new(Arc::clone(&vfs));
    faults.add(Rule::new(Operation::HardLink, Fault::Errno(EOPNOTSUPP)));
    let vfs: Arc<dyn Vfs> = faults;
    let path = table(&vfs, "u", &[("u", "1")]);
    assert_eq!(vfs.list("/out".as_ref()).unwrap(), ["u"]);
    engine.ingest([path], &COPY).unwrap();
    assert_eq!(engine.get("u").unwrap().unwrap(), b"1");
}

/// The temporary file was called as the table and 21 bytes more, which no file system takes behind a name of 235.
#[test]
fn a_table_may_have_the_longest_name_that_a_file_may_have() {
    let dir = tempfile::tempdir().unwrap();
    let names = || std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    let write = |name: &str| {
        let mut writer = SstWriter::create(dir.path().join(name), &SstOptions::default())?;
        writer.put("k", name)?;
        writer.finish()
    };
    for len in [1, 234, 235, 255] {
        let name = "n".repeat(len);
        let facts = write(&name).unwrap();
        assert_eq!(names(), [&*name]);
        std::fs::remove_file(facts.path).unwrap();
    }
    assert_eq!(write(&"n".repeat(256)).unwrap_err().kind(), ErrorKind::Io);
    assert!(names().is_empty());
}

/// Where the directory could not be synced, the table stayed at its path though finishing it had failed, and was in the way of the next one.
#[test]
fn a_table_that_could_not_be_finished_is_not_there() {
    for operation in [Operation::SyncDir, Operation::Sync] {
        let (memory, vfs) = memory();
        let faults = FaultVfs::new(vfs);
        let vfs: Arc<dyn Vfs> = Arc::clone(&faults) as _;
        let mut writer = SstWriter::create_on(Arc::clone(&vfs), "/out/t", &SstOptions::default()).unwrap();
        writer.put("a", "1").unwrap();
        faults.add(Rule::new(operation, Fault::EIO));
        assert_eq!(writer.finish().unwrap_err().kind(), ErrorKind::Io, "{operation:?}");
        assert!(memory.list("/out".as_ref()).unwrap().is_empty(), "{operation:?}");
        faults.clear();
        table(&vfs, "t", &[("a", "2")]);
    }
}
