//! The mount tree: one name space for the process, so one test.

use std::sync::Arc;

use base::{Errno, cred::Cred};
use frame::sim;
use vfs::*;

fn names() {
    let root = fs::init().unwrap();
    let c = Ctx { root: root.clone(), cwd: root, cred: Arc::new(Cred::root()), umask: 0o022 };
    for d in ["/mnt", "/src", "/src/in", "/new"] {
        mkdir(&c, None, d.as_bytes(), 0o755).unwrap();
    }
    let mount = |src: &str, at: &str, ty: Option<&str>, flags: u32, data: &str| {
        do_mount(&c, src.as_bytes(), at.as_bytes(), ty.map(str::as_bytes), flags, data.as_bytes())
    };
    let make = |p: &str| open(&c, None, p.as_bytes(), OpenFlags::WRONLY | OpenFlags::CREAT, 0o644);
    const RDONLY: u32 = 1;
    const REMOUNT: u32 = 32;
    const BIND: u32 = 4096;
    const MOVE: u32 = 8192;
    assert_eq!(mount("t", "/mnt", Some("nofs"), 0, ""), Err(Errno::ENODEV));
    assert_eq!(mount("t", "/mnt", Some("tmpfs"), 0, "bad=1"), Err(Errno::EINVAL));
    mount("t", "/mnt", Some("tmpfs"), 2 | 4, "size=1m,nr_inodes=100").unwrap();
    assert_eq!(
        mounts_text(&c.root).unwrap().lines().last().unwrap(),
        "t /mnt tmpfs rw,nosuid,nodev,relatime,size=1024k,nr_inodes=100 0 0"
    );
    let f = make("/mnt/a").unwrap();
    assert_ne!(f.inode().dev(), c.root.inode().dev());
    assert_eq!(umount(&c, b"/mnt", 0), Err(Errno::EBUSY));
    assert_eq!(mount("", "/mnt", None, REMOUNT | RDONLY, ""), Err(Errno::EBUSY));
    drop(f);
    mount("", "/mnt", None, REMOUNT | RDONLY, "").unwrap();
    assert_eq!(make("/mnt/b").unwrap_err(), Errno::EROFS);
    assert_eq!(mkdir(&c, None, b"/mnt/d", 0o755), Err(Errno::EROFS));
    mount("", "/mnt", None, REMOUNT, "").unwrap();
    assert_eq!(rename(&c, None, b"/mnt/a", None, b"/a", RenameFlags::empty()), Err(Errno::EXDEV));
    assert_eq!(rmdir(&c, None, b"/mnt"), Err(Errno::EBUSY));
    // Bind, read-only bind, `..` out of it.
    mount("/src", "/new", None, BIND, "").unwrap();
    mount("", "/new", None, REMOUNT | BIND | RDONLY, "").unwrap();
    assert_eq!(make("/new/in/x").unwrap_err(), Errno::EROFS);
    make("/src/in/x").unwrap();
    assert!(stat(&c, None, b"/new/in/../../mnt/a", LookupFlags::FOLLOW).is_ok());
    let p = lookup(&c, None, b"/new/in/x", LookupFlags::empty()).unwrap();
    assert_eq!(d_path(&p, &c.root).unwrap().text, b"/new/in/x");
    drop(p);
    assert!(mountinfo_text(&c.root).unwrap().contains(" /src /new ro - rootfs rootfs rw"));
    umount(&c, b"/new", 0).unwrap();
    mount("/mnt", "/new", None, MOVE, "").unwrap();
    assert!(stat(&c, None, b"/new/a", LookupFlags::FOLLOW).is_ok());
    assert_eq!(stat(&c, None, b"/mnt/a", LookupFlags::FOLLOW).unwrap_err(), Errno::ENOENT);
    // Detached while in use.
    let f = open(&c, None, b"/new/a", OpenFlags::RDONLY, 0).unwrap();
    umount(&c, b"/new", 2).unwrap();
    assert_eq!(f.inode().nlink(), 1);
    assert_eq!(umount(&c, b"/new", 0), Err(Errno::EINVAL));
    assert_eq!(mounts_text(&c.root).unwrap().lines().count(), 1);
}

#[test]
fn mounts_bind_move_and_go() {
    let out = sim::run(sim::Config::from_seed(1), names);
    assert!(out.is_ok(), "{out:?}");
}
