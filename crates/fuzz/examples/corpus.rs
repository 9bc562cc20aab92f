//! Writes the corpus of all fuzz targets, from files that this version writes: `testdata/fuzz/TARGET/N`.

use std::fs;
use std::path::Path;

fn main() -> std::io::Result<()> {
    // Run by itself it writes; run with an argument, as all examples are tried in an empty directory, elsewhere.
    let root = std::env::args().nth(1).unwrap_or("testdata/fuzz".into());
    let mut total = 0;
    for target in esker_fuzz::TARGETS {
        let dir = Path::new(&root).join(target.name);
        fs::create_dir_all(&dir)?;
        for (n, bytes) in esker_fuzz::corpus(target.name).iter().enumerate() {
            total += bytes.len();
            fs::write(dir.join(format!("{n}")), bytes)?;
        }
    }
    println!("{total} bytes in {root}");
    Ok(())
}
