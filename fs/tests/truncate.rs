//! Truncation of a tmpfs file against page faults that make its pages, under many schedules.

#[path = "../../frame/tests/common/mod.rs"]
mod common;

use std::sync::Arc;

use base::{Errno, cred::Cred};
use frame::{boot::power_off, sim, sync::Completion, task::Task};
use fs::tmpfs;
use vfs::*;

const PAGES: u64 = 4;

/// Faults run while the file is cut to nothing; when both have ended, no page may lie beyond the end, where it would come back
/// with its old contents when the file grows.
fn cut_under_faults() {
    common::boot(|| {
        let sb = tmpfs::new_super("tmpfs", b"size=1m").unwrap();
        let mount = Mount::new(&sb, sb.root().unwrap(), b"t", mount::MountFlags::RELATIME).unwrap();
        let root = Path { dentry: mount.root().clone(), mount };
        let cred = Arc::new(Cred::root());
        let ctx = Ctx { root: root.clone(), cwd: root, cred, umask: 0 };
        let f = open(&ctx, None, b"f", OpenFlags::RDWR | OpenFlags::CREAT, 0o600).unwrap();
        let object = f.ops().map_object(&f).unwrap();
        for _ in 0..4 {
            f.truncate(PAGES * PAGE_SIZE as u64).unwrap();
            let (o, done) = (object.clone(), Arc::new(Completion::new()));
            let ended = done.clone();
            let faults = Task::new(
                Box::new(move || {
                    for i in 0..PAGES {
                        match o.page(i, true) {
                            Ok(p) => p.write(0, b"old"),
                            Err(e) => assert_eq!(e, Errno::ENXIO),
                        }
                    }
                    ended.complete();
                }),
                false,
            )
            .unwrap();
            faults.start();
            f.truncate(0).unwrap();
            done.wait();
            assert!((0..PAGES).all(|i| !object.is_resident(i)), "a page beyond the end");
        }
        power_off()
    })
}

#[test]
fn no_page_stays_beyond_the_end() {
    sim::campaign("tmpfs_truncate", 500, |_| cut_under_faults());
}
