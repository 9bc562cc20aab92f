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
