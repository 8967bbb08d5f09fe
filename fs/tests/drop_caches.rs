//! Dropping cached names: what is used stays, what is not goes, and nothing is lost.

use std::sync::Arc;

use base::cred::Cred;
use frame::sim;
use fs::tmpfs;
use vfs::*;

fn simulate(f: fn()) {
    let out = sim::run(sim::Config::from_seed(1), f);
    assert!(out.is_ok(), "{out:?}");
}

fn fresh() -> Ctx {
    let sb = tmpfs::new_super("tmpfs", b"size=1m,mode=755").unwrap();
    let mount = Mount::new(&sb, sb.root().unwrap(), b"t", mount::MountFlags::RELATIME).unwrap();
    let root = Path { dentry: mount.root().clone(), mount };
    Ctx { root: root.clone(), cwd: root, cred: Arc::new(Cred::root()), umask: 0o022 }
}

fn make(c: &Ctx, p: &str) -> Arc<File> {
    open(c, None, p.as_bytes(), OpenFlags::RDWR | OpenFlags::CREAT, 0o644).unwrap()
}

fn used_names_stay() {
    let c = fresh();
    for d in ["/a", "/a/b", "/a/b/c", "/x"] {
        mkdir(&c, None, d.as_bytes(), 0o755).unwrap();
    }
    let held = make(&c, "/a/b/held");
    for f in ["/a/b/c/deep", "/a/loose", "/x/file"] {
        make(&c, f).write(&mut IoSrc::kernel(b"kept")).unwrap();
    }
    assert!(stat(&c, None, b"/x/nothing", LookupFlags::empty()).is_err());
    // c, deep, loose, x, file, and the name that does not exist; not a, b and held.
    assert_eq!(drop_caches::prune_tree(&c.root.dentry), 6);
    assert_eq!(drop_caches::prune_tree(&c.root.dentry), 0);
    for f in ["/a/b/c/deep", "/a/loose", "/x/file"] {
        assert_eq!(stat(&c, None, f.as_bytes(), LookupFlags::empty()).unwrap().size, 4, "{f}");
    }
    let again = open(&c, None, b"/a/b/held", OpenFlags::RDWR, 0).unwrap();
    assert!(Arc::ptr_eq(again.inode(), held.inode()), "an open file keeps its name and inode");
}

#[test]
fn what_is_used_stays_and_nothing_is_lost() {
    simulate(used_names_stay);
}

fn knob() {
    drop_caches::init().unwrap();
    let k = base::tree::proc().find("sys/vm/drop_caches").unwrap();
    assert_eq!(k.mode(), 0o200);
    assert_eq!(k.read(), Err(base::Errno::EIO));
    for bad in ["0", "5", "-1", "", "x", "\n"] {
        assert_eq!(k.write(bad.as_bytes()), Err(base::Errno::EINVAL), "{bad:?}");
    }
}

#[test]
fn only_one_to_four_can_be_written() {
    simulate(knob);
}
