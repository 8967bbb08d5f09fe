//! `cargo run -- lab NAME`: boots an experiment of `lab/`.

use std::path::Path;

use anyhow::{Result, bail};

use crate::{guest, image, initramfs};

/// The experiments, by name.
pub fn names() -> Result<Vec<String>> {
    let mut v: Vec<String> = std::fs::read_dir(image::workspace().join("lab"))?
        .filter_map(|e| e.ok())
        .filter(|e| e.path().join("experiment.sh").is_file())
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    v.sort();
    Ok(v)
}

/// The initramfs of one experiment.
pub fn pack(name: &str, token: &str) -> Result<tempfile::NamedTempFile> {
    let script = image::workspace().join("lab").join(name).join("experiment.sh");
    if name.contains('/') || !script.is_file() {
        bail!("no experiment {name}; there are: {}", names()?.join(" "));
    }
    initramfs::pack(initramfs::Contents::Script { text: &std::fs::read_to_string(script)?, token })
}

/// Runs one and returns its status and what it printed.
pub fn run(m: &guest::Machine, kernel: &Path, name: &str, seconds: u64) -> Result<guest::Output> {
    let token = initramfs::token();
    let rd = pack(name, &token)?;
    guest::capture_initrd(m, kernel, rd.path(), &token, "", seconds)
}
