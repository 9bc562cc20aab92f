//! Opens an engine in a temporary folder, writes, scans, closes.

use esker::{Engine, WriteBatch};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let engine = Engine::open(dir.path())?;
    let mut batch = WriteBatch::new();
    for (key, value) in [("b", "2"), ("a", "1"), ("c", "3")] {
        batch.put(key, value);
    }
    engine.write(&batch)?;
    for item in engine.range("a".."c") {
        let (key, value) = item?;
        println!("{} = {}", key.escape_ascii(), value.escape_ascii());
    }
    engine.close()?;
    Ok(())
}
