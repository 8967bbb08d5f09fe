//! The texts of `/proc/PID/mounts` and `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).

use alloc::{string::String, sync::Arc, vec::Vec};
use core::fmt::Write;

use base::Result;

use crate::{
    mount::{Mount, MountFlags, NAMESPACE},
    mount_ops::all_mounts,
    path::{Path, d_path},
    types::{major, minor},
};

/// Blanks, backslashes and hashes would break the columns.
fn mangle(out: &mut String, bytes: &[u8]) {
    for b in bytes {
        match b {
            b' ' | b'\t' | b'\n' | b'\\' | b'#' => {
                let _ = write!(out, "\\{b:03o}");
            }
            _ if b.is_ascii() => out.push(*b as char),
            // Text files here are strings; what is not ASCII is escaped the same way.
            _ => {
                let _ = write!(out, "\\{b:03o}");
            }
        }
    }
}

fn mount_options(out: &mut String, m: &Mount) {
    for (f, s) in [
        (MountFlags::NOSUID, ",nosuid"),
        (MountFlags::NODEV, ",nodev"),
        (MountFlags::NOEXEC, ",noexec"),
        (MountFlags::NOATIME, ",noatime"),
        (MountFlags::NODIRATIME, ",nodiratime"),
        (MountFlags::RELATIME, ",relatime"),
        (MountFlags::NOSYMFOLLOW, ",nosymfollow"),
    ] {
        if m.flags().contains(f) {
            out.push_str(s);
        }
    }
}

/// The mounts that can be reached from `root`, with their places, in the order in which they were made.
fn reachable(root: &Path) -> Result<Vec<(Arc<Mount>, Vec<u8>)>> {
    let mut all = all_mounts(&NAMESPACE.lock());
    all.sort_by_key(|m| m.id());
    let mut list = Vec::new();
    for m in all {
        let here = Path { dentry: m.root().clone(), mount: m.clone() };
        let t = d_path(&here, root)?;
        if t.reachable {
            list.push((m, t.text));
        }
    }
    Ok(list)
}

/// `/proc/PID/mounts` for a process with this root.
pub fn mounts_text(root: &Path) -> Result<String> {
    let mut s = String::new();
    for (m, at) in reachable(root)? {
        mangle(&mut s, m.source());
        s.push(' ');
        mangle(&mut s, &at);
        s.push(' ');
        s.push_str(m.sb().fs_name());
        s.push_str(if m.is_read_only() { " ro" } else { " rw" });
        mount_options(&mut s, &m);
        m.sb().ops().show_options(&mut s);
        s.push_str(" 0 0\n");
    }
    Ok(s)
}

/// `/proc/PID/mountinfo` for a process with this root.
pub fn mountinfo_text(root: &Path) -> Result<String> {
    let mut s = String::new();
    for (m, at) in reachable(root)? {
        let parent = m.mountpoint().map_or(m.id(), |p| p.mount.id());
        let dev = m.sb().dev;
        // Strings grow or abort nothing here: `write!` cannot fail otherwise.
        let _ = write!(s, "{} {parent} {}:{} ", m.id(), major(dev), minor(dev));
        mangle(&mut s, &root_in_fs(&m)?);
        s.push(' ');
        mangle(&mut s, &at);
        s.push_str(if m.flags().contains(MountFlags::RDONLY) { " ro" } else { " rw" });
        mount_options(&mut s, &m);
        s.push_str(" - ");
        s.push_str(m.sb().fs_name());
        s.push(' ');
        mangle(&mut s, m.source());
        s.push_str(if m.sb().is_read_only() { " ro" } else { " rw" });
        m.sb().ops().show_options(&mut s);
        s.push('\n');
    }
    Ok(s)
}

/// The path of the mount's root inside its file system (other than `/` for bind mounts).
fn root_in_fs(m: &Arc<Mount>) -> Result<Vec<u8>> {
    let mut parts = Vec::new();
    let mut d = m.root().clone();
    let deleted = d.is_deleted();
    while let Some(p) = d.parent() {
        parts.push(d.name()?);
        d = p;
    }
    let mut v = Vec::new();
    for n in parts.iter().rev() {
        v.push(b'/');
        v.extend_from_slice(n.as_bytes());
    }
    if v.is_empty() {
        v.push(b'/');
    }
    if deleted {
        v.extend_from_slice(b"//deleted");
    }
    Ok(v)
}
