//! Builds the kernel image: cargo for the bare target, then the symbol table for the kernel's own backtraces.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// Which of the two builds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// What is used and measured.
    Plain,
    /// Lock order, context and poisoning are verified at run time.
    Checked,
}

impl Profile {
    fn cargo_name(self) -> &'static str {
        match self {
            Profile::Plain => "release",
            Profile::Checked => "checked",
        }
    }
}

/// The workspace's folder.
pub fn workspace() -> PathBuf {
    // This program is run by cargo from its own workspace.
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Builds the image and returns its path.
pub fn build(profile: Profile) -> Result<PathBuf> {
    let root = workspace();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(&cargo)
        .current_dir(&root)
        .args(["build", "-p", "kernel", "--target", "x86_64-unknown-none", "--profile", profile.cargo_name()])
        // Flags that a caller set for the host's programs are not the kernel's.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()
        .with_context(|| format!("cannot run {}", cargo.to_string_lossy()))?;
    if !status.success() {
        bail!(
            "the kernel does not build ({status}); if the target is missing: rustup target add x86_64-unknown-none"
        );
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let dir = target.join("x86_64-unknown-none").join(profile.cargo_name());
    let (elf, out) = (dir.join("kernel"), dir.join("nightshift"));
    let bytes = std::fs::read(&elf).with_context(|| elf.display().to_string())?;
    let image = crate::ksyms::embed(&bytes).context("embedding the symbol table")?;
    std::fs::write(&out, image).with_context(|| out.display().to_string())?;
    Ok(out)
}
