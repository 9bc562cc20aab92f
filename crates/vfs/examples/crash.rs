//! Which sync is missing? Two ways to replace a file, crashed after every operation.
//!
//! `cargo run -p esker-vfs --example crash`

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use esker_vfs::{CrashPolicy, MemVfs, TraceVfs, Vfs, read_file, replace_file};

/// What one writes without thinking of power cuts.
fn replace_carelessly(vfs: &dyn Vfs, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temp = Path::new("/settings.new");
    vfs.create_new(temp)?.append(bytes)?;
    vfs.rename(temp, path)
}

/// Replaces a file, and counts what all the crashes on the way leave of it.
fn crash_everywhere(replace: fn(&dyn Vfs, &Path, &[u8]) -> io::Result<()>) -> io::Result<BTreeMap<String, usize>> {
    let vfs = MemVfs::new();
    let path = Path::new("/settings");
    replace_file(&*vfs, path, b"old")?;
    let start = vfs.operations();
    replace(&*vfs, path, b"new")?;

    let mut outcomes = BTreeMap::new();
    for operations in start..=vfs.operations() {
        for seed in 0..100 {
            let left = vfs.crash_image(operations, CrashPolicy::Subset(seed));
            let outcome = match read_file(&left, path, 100) {
                Ok(bytes) => format!("\"{}\"", bytes.escape_ascii()),
                Err(error) => error.to_string(),
            };
            *outcomes.entry(outcome).or_default() += 1;
        }
    }
    Ok(outcomes)
}

fn main() -> io::Result<()> {
    let careless = crash_everywhere(replace_carelessly)?;
    println!("carelessly:   {careless:?}");
    assert!(careless.contains_key("\"\""), "the new name may be durable before the bytes are");

    let careful = crash_everywhere(replace_file)?;
    println!("replace_file: {careful:?}");
    assert_eq!(careful.keys().collect::<Vec<_>>(), ["\"new\"", "\"old\""]);

    // The same, as a rule about the order of operations.
    let trace = TraceVfs::new(MemVfs::new());
    replace_carelessly(&*trace, Path::new("/settings"), b"new")?;
    let reason = trace.check_synced_before("/settings", trace.count()).unwrap_err();
    println!("the trace says: {reason}");
    Ok(())
}
