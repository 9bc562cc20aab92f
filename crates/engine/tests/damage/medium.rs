//! Tables and blob files on places of their device that it can't read.

use crate::{DIR, builder, calm, files};
use esker::vfs::{Fault, FaultVfs, MemVfs, Operation, Rule, Vfs};
use esker::{Background, Engine, ErrorKind, Event, Options};
use std::sync::{Arc, Mutex};

/// One sector that could not be read, in one file, when it was opened: and nothing of the whole store could be read, of no keyspace and in no way of reading.
#[test]
fn a_file_that_the_device_cant_give_is_kept_and_all_other_keys_are_served() {
    one_file(".sst", Operation::OpenRead);
    one_file(".sst", Operation::LenBytes);
    one_file(".blob", Operation::OpenRead);
}

fn one_file(kind: &str, operation: Operation) {
    let options = Options { blob_bytes_min: 1 << 10, ..calm() };
    let memory = MemVfs::new();
    let engine = builder(&memory, options.clone()).open().unwrap();
    for letter in ["a", "b", "c"] {
        (0..50).for_each(|i| engine.put(format!("{letter}{i:02}"), letter).unwrap());
        engine.put(format!("{letter}-large"), letter.repeat(2000)).unwrap();
        engine.flush().unwrap();
    }
    engine.close().unwrap();
    drop(engine);

    let middle = files(&memory).into_iter().filter(|path| path.to_string_lossy().ends_with(kind)).nth(1).unwrap();
    let faults = FaultVfs::new(memory as Arc<dyn Vfs>);
    faults.add(Rule::new(operation, Fault::EIO).path(&format!("*{}", middle.file_name().unwrap().display())));
    let open = || {
        let vfs = Arc::clone(&faults) as Arc<dyn Vfs>;
        Engine::builder(DIR).vfs(vfs).options(options.clone()).background(Background::Manual).open()
    };
    // Whoever opened for reading only was not told, of damage neither.
    let told = Arc::new(Mutex::new(0));
    let hears = Arc::clone(&told);
    let heard = move |event: &Event| *hears.lock().unwrap() += u32::from(matches!(event, Event::Quarantined { .. }));
    let vfs = Arc::clone(&faults) as Arc<dyn Vfs>;
    drop(Engine::builder(DIR).vfs(vfs).options(options.clone()).read_only(true).listener(heard).open().unwrap());
    assert_eq!(*told.lock().unwrap(), 1, "{kind}, {operation:?}");
    let engine = open().unwrap_or_else(|error| panic!("{kind}, {operation:?}: {error}"));
    for letter in ["a", "c"] {
        assert!((0..50).all(|i| engine.get(format!("{letter}{i:02}")).unwrap().unwrap() == letter.as_bytes()));
        assert_eq!(engine.prefix(letter).filter(Result::is_ok).count(), 51);
    }
    let refused = engine.get("b-large").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Io, "{refused}");
    assert_eq!(engine.get("b07").is_ok(), kind == ".blob");
    assert_eq!(engine.metrics().quarantined_tables.len(), 1);
    // Whatever it answers, it takes nothing away.
    let _ = engine.compact_range(..);
    engine.put("a new key", "is written").unwrap();
    let _ = engine.close();
    drop(engine);
    faults.clear();
    assert_eq!(open().unwrap().iter().collect::<Result<Vec<_>, _>>().unwrap().len(), 3 * 51 + 1);
}

/// Opens a store in which every operation of a kind on some files fails, and says what the listener heard.
fn open_over(
    memory: &Arc<MemVfs>,
    options: &Options,
    rule: Rule,
) -> esker::Result<(Engine, Arc<FaultVfs>, Vec<String>)> {
    let faults = FaultVfs::new(Arc::clone(memory) as Arc<dyn Vfs>);
    faults.add(rule);
    let told = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&told);
    let heard = move |event: &Event| {
        if let Event::BackgroundError(error) = event {
            hears.lock().unwrap().push(error.to_string());
        }
    };
    let vfs = Arc::clone(&faults) as Arc<dyn Vfs>;
    let builder = Engine::builder(DIR).vfs(vfs).options(options.clone()).background(Background::Manual);
    let engine = builder.listener(heard).open()?;
    let told = std::mem::take(&mut *told.lock().unwrap());
    Ok((engine, faults, told))
}

/// A log that only the feed still needs, or the options that nothing depends on: one sector there that could not be read, and the whole store could not be opened.
#[test]
fn a_file_that_no_key_needs_keeps_nobody_from_opening() {
    for operation in [Operation::OpenRead, Operation::LenBytes, Operation::Read, Operation::Metadata] {
        let memory = MemVfs::new();
        let options = Options { wal_retain_bytes: Some(u64::MAX), ..calm() };
        let engine = builder(&memory, options.clone()).open().unwrap();
        engine.put("first", "1").unwrap();
        engine.flush().unwrap();
        engine.put("last", "1").unwrap();
        engine.close().unwrap();
        drop(engine);
        let named = |end: &str| files(&memory).into_iter().filter(|path| path.to_string_lossy().contains(end)).min();

        let log = named(".wal").unwrap();
        let name = log.file_name().unwrap().to_str().unwrap().to_owned();
        let rule = Rule::new(operation, Fault::EIO).path(&format!("*{name}"));
        let (engine, faults, told) =
            open_over(&memory, &options, rule).unwrap_or_else(|error| panic!("{name}, {operation:?}: {error}"));
        assert_eq!(told.iter().filter(|error| error.contains(&name)).count(), 1, "{operation:?}: {told:?}");
        assert_eq!(engine.get("first").unwrap().unwrap(), b"1");
        engine.put("new", "1").unwrap();
        // A feed that comes there says so; none leaves it out.
        let feed = engine.changes_since(0).and_then(|changes| changes.collect::<Result<Vec<_>, _>>());
        if operation != Operation::Metadata {
            assert_eq!(feed.unwrap_err().kind(), ErrorKind::Io, "{operation:?}");
        }
        faults.clear();
        let feed = engine.changes_since(0).and_then(|changes| changes.collect::<Result<Vec<_>, _>>());
        assert_eq!(feed.unwrap().len(), 3, "it was kept, and tells of all: {operation:?}");
        engine.close().unwrap();
        drop(engine);

        let stored = named("OPTIONS").unwrap();
        let name = stored.file_name().unwrap().to_str().unwrap().to_owned();
        let rule = Rule::new(operation, Fault::EIO).path(&format!("*{name}"));
        let (engine, _, told) =
            open_over(&memory, &options, rule).unwrap_or_else(|error| panic!("{name}, {operation:?}: {error}"));
        assert_eq!(told.len(), usize::from(operation != Operation::Metadata), "{operation:?}: {told:?}");
        assert!(told.iter().all(|error| error.contains(&name)), "{told:?}");
        assert_eq!(engine.get("last").unwrap().unwrap(), b"1");
        if operation != Operation::Metadata {
            assert_ne!(named("OPTIONS").unwrap(), stored, "stored anew, and the old file is gone");
        }
        engine.checkpoint("/copy").unwrap();
        engine.close().unwrap();
        drop(engine);
        let again = builder(&memory, options.clone()).open().unwrap();
        assert_eq!(again.iter().collect::<Result<Vec<_>, _>>().unwrap().len(), 3);
    }
}
