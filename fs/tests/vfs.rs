//! The whole vfs over a tmpfs: does it answer as Linux does?

use std::{collections::BTreeMap, sync::Arc};

use base::{Errno, cred::Cred};
use frame::sim;
use fs::{initramfs, pipe, tmpfs};
use proptest::prelude::*;
use vfs::*;

/// Runs `f` where there is memory to hand out: in a simulated machine.
fn simulate(f: fn()) {
    let out = sim::run(sim::Config::from_seed(1), f);
    assert!(out.is_ok(), "{out:?}");
}

/// A fresh tmpfs, not in the mount tree, and who uses it.
fn fresh(options: &str) -> Ctx {
    let sb = tmpfs::new_super("tmpfs", options.as_bytes()).unwrap();
    let mount = Mount::new(&sb, sb.root().unwrap(), b"t", mount::MountFlags::RELATIME).unwrap();
    let root = Path { dentry: mount.root().clone(), mount };
    Ctx { root: root.clone(), cwd: root, cred: Arc::new(Cred::root()), umask: 0o022 }
}
fn small() -> Ctx {
    fresh("size=1m,nr_inodes=1000,mode=755")
}
fn user(ctx: &Ctx, uid: u32) -> Ctx {
    let mut c = Cred::root();
    (c.uid, c.euid, c.suid, c.fsuid) = (uid, uid, uid, uid);
    (c.gid, c.egid, c.sgid, c.fsgid) = (uid, uid, uid, uid);
    (c.cap_effective, c.cap_permitted) = (0, 0);
    Ctx { cred: Arc::new(c), ..ctx.clone() }
}
fn create(ctx: &Ctx, p: &str) -> base::Result<Arc<File>> {
    open(ctx, None, p.as_bytes(), OpenFlags::RDWR | OpenFlags::CREAT | OpenFlags::EXCL, 0o666)
}
fn stat_of(ctx: &Ctx, p: &str) -> base::Result<Metadata> {
    stat(ctx, None, p.as_bytes(), LookupFlags::FOLLOW)
}
fn write(f: &File, b: &[u8]) -> base::Result<usize> {
    f.write(&mut IoSrc::kernel(b))
}
fn read(f: &File, n: usize) -> base::Result<Vec<u8>> {
    let mut v = vec![0; n];
    let k = f.read(&mut IoDst::kernel(&mut v))?;
    v.truncate(k);
    Ok(v)
}
fn ren(ctx: &Ctx, a: &str, b: &str, f: RenameFlags) -> base::Result<()> {
    rename(ctx, None, a.as_bytes(), None, b.as_bytes(), f)
}
struct Names(Vec<String>, usize);
impl DirSink for Names {
    fn emit(&mut self, name: &[u8], _: u64, _: u8, _: u64) -> bool {
        if self.1 == 0 {
            return false;
        }
        self.1 -= 1;
        self.0.push(String::from_utf8(name.to_vec()).unwrap());
        true
    }
}
fn list(ctx: &Ctx, p: &str) -> Vec<String> {
    let d = open(ctx, None, p.as_bytes(), OpenFlags::DIRECTORY, 0).unwrap();
    let mut all = Vec::new();
    loop {
        let mut n = Names(Vec::new(), 3);
        d.readdir(&mut n).unwrap();
        if n.0.is_empty() {
            all.sort();
            return all;
        }
        all.extend(n.0);
    }
}

#[test]
fn files_keep_what_is_written() {
    simulate(try_files_keep_what_is_written);
}
fn try_files_keep_what_is_written() {
    let c = small();
    let f = create(&c, "/a").unwrap();
    let data: Vec<u8> = (0..20_000).map(|i| (i % 251) as u8).collect();
    assert_eq!(write(&f, &data).unwrap(), data.len());
    assert_eq!(f.lseek(0, 0).unwrap(), 0);
    assert_eq!(read(&f, 30_000).unwrap(), data);
    assert_eq!(read(&f, 10).unwrap(), b"");
    let m = stat_of(&c, "/a").unwrap();
    assert_eq!((m.size, m.blocks, m.mode & 0o777, m.nlink), (20_000, 40, 0o644, 1));
    // A hole reads as zeros, also after shrinking and growing.
    f.truncate(5000).unwrap();
    f.truncate(9000).unwrap();
    let mut v = vec![9; 9000];
    assert_eq!(f.pread(0, &mut IoDst::kernel(&mut v)).unwrap(), 9000);
    assert!(v[..5000] == data[..5000] && v[5000..].iter().all(|b| *b == 0));
    // Unlinked but open.
    unlink(&c, None, b"/a").unwrap();
    assert_eq!(stat_of(&c, "/a").unwrap_err(), Errno::ENOENT);
    assert_eq!(f.inode().nlink(), 0);
    assert_eq!(d_path(f.path(), &c.root).unwrap().into_display(), b"/a (deleted)");
    assert_eq!(f.pread(0, &mut IoDst::kernel(&mut v[..10])).unwrap(), 10);
    // O_APPEND writes at the end whatever the position.
    let a = open(&c, None, b"/log", OpenFlags::WRONLY | OpenFlags::CREAT | OpenFlags::APPEND, 0o600).unwrap();
    write(&a, b"one").unwrap();
    a.lseek(0, 0).unwrap();
    write(&a, b"two").unwrap();
    assert_eq!(stat_of(&c, "/log").unwrap().size, 6);
}

#[test]
fn space_and_inodes_end_exactly() {
    simulate(try_space_and_inodes_end_exactly);
}
fn try_space_and_inodes_end_exactly() {
    let c = fresh("size=16k,nr_inodes=4");
    let f = create(&c, "/a").unwrap();
    assert_eq!(write(&f, &[1; 20_000]).unwrap(), 16_384);
    assert_eq!(write(&f, &[1]).unwrap_err(), Errno::ENOSPC);
    let st = statfs(&c.root).unwrap();
    assert_eq!((st.blocks, st.bfree, st.files, st.ffree), (4, 0, 4, 2));
    create(&c, "/b").unwrap();
    link(&c, None, b"/b", None, b"/c", LookupFlags::empty()).unwrap();
    assert_eq!(create(&c, "/d").unwrap_err(), Errno::ENOSPC);
    unlink(&c, None, b"/c").unwrap();
    mkdir(&c, None, b"/d", 0o755).unwrap();
    f.truncate(1).unwrap();
    assert_eq!(statfs(&c.root).unwrap().bfree, 3);
    unlink(&c, None, b"/a").unwrap();
    assert_eq!(statfs(&c.root).unwrap().bfree, 3);
    drop(f);
    assert_eq!((statfs(&c.root).unwrap().bfree, statfs(&c.root).unwrap().ffree), (4, 1));
}

#[test]
fn paths_fail_as_on_linux() {
    let c = small();
    mkdir(&c, None, b"/d", 0o755).unwrap();
    create(&c, "/d/f").unwrap();
    let e = |p: &str| stat_of(&c, p).unwrap_err();
    assert_eq!(e(""), Errno::ENOENT);
    assert_eq!(e("/d/f/"), Errno::ENOTDIR);
    assert_eq!(e("/d/f/x"), Errno::ENOTDIR);
    assert_eq!(e(&"x".repeat(256)), Errno::ENAMETOOLONG);
    assert_eq!(e(&"/x".repeat(2048)), Errno::ENAMETOOLONG);
    assert_eq!(stat_of(&c, "/d/../d/./f").unwrap().ino, stat_of(&c, "/d/f").unwrap().ino);
    assert_eq!(stat_of(&c, "/../..").unwrap().ino, stat_of(&c, "/").unwrap().ino);
    symlink(&c, b"loop", None, b"/loop").unwrap();
    assert_eq!(e("/loop"), Errno::ELOOP);
    symlink(&c, b"d/f", None, b"/l").unwrap();
    symlink(&c, b"/d/", None, b"/ld").unwrap();
    assert_eq!(stat_of(&c, "/ld/f").unwrap().ino, stat_of(&c, "/l").unwrap().ino);
    assert_eq!(readlink(&c, None, b"/l").unwrap(), b"d/f");
    assert_eq!(readlink(&c, None, b"/d").unwrap_err(), Errno::EINVAL);
    let o = |p: &str, f: OpenFlags| open(&c, None, p.as_bytes(), f, 0o600).map(|_| ());
    assert_eq!(o("/l", OpenFlags::NOFOLLOW), Err(Errno::ELOOP));
    assert_eq!(o("/l", OpenFlags::CREAT | OpenFlags::EXCL), Err(Errno::EEXIST));
    assert_eq!(o("/d", OpenFlags::WRONLY), Err(Errno::EISDIR));
    assert_eq!(o("/d", OpenFlags::CREAT), Err(Errno::EISDIR));
    assert_eq!(o("/new/", OpenFlags::CREAT), Err(Errno::EISDIR));
    assert_eq!(o("/d/f", OpenFlags::DIRECTORY), Err(Errno::ENOTDIR));
    // Creating through a dangling link makes its target.
    symlink(&c, b"d/made", None, b"/dangling").unwrap();
    o("/dangling", OpenFlags::CREAT | OpenFlags::WRONLY).unwrap();
    assert!(stat_of(&c, "/d/made").is_ok());
    assert_eq!(mkdir(&c, None, b"/d", 0o755), Err(Errno::EEXIST));
    assert_eq!(mkdir(&c, None, b"/", 0o755), Err(Errno::EEXIST));
    assert_eq!(mkdir(&c, None, b"/no/x", 0o755), Err(Errno::ENOENT));
    assert_eq!(rmdir(&c, None, b"/d"), Err(Errno::ENOTEMPTY));
    assert_eq!(rmdir(&c, None, b"/d/."), Err(Errno::EINVAL));
    assert_eq!(rmdir(&c, None, b"/d/f"), Err(Errno::ENOTDIR));
    assert_eq!(unlink(&c, None, b"/d"), Err(Errno::EISDIR));
    assert_eq!(link(&c, None, b"/d", None, b"/d2", LookupFlags::empty()), Err(Errno::EPERM));
}

#[test]
fn renames_move_replace_and_exchange() {
    let c = small();
    for d in ["/a", "/b", "/a/x"] {
        mkdir(&c, None, d.as_bytes(), 0o755).unwrap();
    }
    create(&c, "/f").unwrap();
    let none = RenameFlags::empty();
    assert_eq!(ren(&c, "/a", "/a/x/y", none), Err(Errno::EINVAL));
    assert_eq!(ren(&c, "/a/x", "/a", none), Err(Errno::ENOTEMPTY));
    assert_eq!(ren(&c, "/f", "/a", none), Err(Errno::EISDIR));
    assert_eq!(ren(&c, "/a", "/f", none), Err(Errno::ENOTDIR));
    assert_eq!(ren(&c, "/f", "/a", RenameFlags::NOREPLACE), Err(Errno::EEXIST));
    assert_eq!(ren(&c, "/.", "/q", none), Err(Errno::EBUSY));
    let held = lookup(&c, None, b"/a/x", LookupFlags::empty()).unwrap();
    ren(&c, "/a/x", "/b/z", none).unwrap();
    assert_eq!(d_path(&held, &c.root).unwrap().text, b"/b/z");
    assert_eq!((stat_of(&c, "/a").unwrap().nlink, stat_of(&c, "/b").unwrap().nlink), (2, 3));
    ren(&c, "/f", "/b", RenameFlags::EXCHANGE).unwrap();
    assert_eq!(stat_of(&c, "/b").unwrap().file_type(), FileType::Regular);
    assert_eq!(d_path(&held, &c.root).unwrap().text, b"/f/z");
    ren(&c, "/a", "/f/z", none).unwrap();
    assert_eq!(create(&c, "/f/z/in").map(|_| ()), Ok(()));
    // The replaced directory is dead for those who stand in it.
    let inside = Ctx { cwd: held, ..c.clone() };
    assert_eq!(create(&inside, "late").unwrap_err(), Errno::ENOENT);
    assert_eq!(list(&c, "/"), [".", "..", "b", "f"]);
}

#[test]
fn permissions_hold_for_users() {
    simulate(try_permissions_hold_for_users);
}
fn try_permissions_hold_for_users() {
    let c = small();
    let (u, v) = (user(&c, 100), user(&c, 200));
    mkdir(&c, None, b"/tmp", 0o777).unwrap();
    let tmp = lookup(&c, None, b"/tmp", LookupFlags::empty()).unwrap();
    chmod(&tmp, 0o1777, &c.cred).unwrap();
    create(&u, "/tmp/mine").unwrap();
    assert_eq!(unlink(&v, None, b"/tmp/mine"), Err(Errno::EPERM));
    assert_eq!(ren(&v, "/tmp/mine", "/tmp/yours", RenameFlags::empty()), Err(Errno::EPERM));
    assert_eq!(create(&v, "/no").unwrap_err(), Errno::EACCES);
    assert_eq!(open(&v, None, b"/tmp/mine", OpenFlags::WRONLY, 0).unwrap_err(), Errno::EACCES);
    let mine = lookup(&u, None, b"/tmp/mine", LookupFlags::empty()).unwrap();
    assert_eq!(chmod(&mine, 0o777, &v.cred), Err(Errno::EPERM));
    assert_eq!(chown(&mine, Some(200), None, &u.cred), Err(Errno::EPERM));
    assert_eq!(utimens(&mine, Some(SetTime::Now), Some(SetTime::Now), &v.cred), Err(Errno::EACCES));
    chmod(&mine, 0o4755, &u.cred).unwrap();
    chown(&mine, Some(100), None, &u.cred).unwrap();
    assert_eq!(mine.inode().mode() & 0o7777, 0o755);
    // A setgid directory hands its group on.
    mkdir(&c, None, b"/tmp/g", 0o777).unwrap();
    let g = lookup(&c, None, b"/tmp/g", LookupFlags::empty()).unwrap();
    chown(&g, None, Some(77), &c.cred).unwrap();
    chmod(&g, 0o2777, &c.cred).unwrap();
    mkdir(&u, None, b"/tmp/g/sub", 0o755).unwrap();
    let m = stat_of(&u, "/tmp/g/sub").unwrap();
    assert_eq!((m.gid, m.mode & 0o7777), (77, 0o2755));
    // Nobody searches a directory without x.
    chmod(&g, 0o666, &c.cred).unwrap();
    assert_eq!(stat_of(&u, "/tmp/g/sub").unwrap_err(), Errno::EACCES);
    assert!(access(&c, None, b"/tmp/g/sub", Access::READ, LookupFlags::FOLLOW, false).is_ok());
}

#[test]
fn temporary_files_get_a_name_later() {
    simulate(try_temporary_files_get_a_name_later);
}
fn try_temporary_files_get_a_name_later() {
    let c = small();
    let flags = OpenFlags::RDWR | OpenFlags::DIRECTORY | OpenFlags::TMPFILE_BIT;
    let f = open(&c, None, b"/", flags, 0o600).unwrap();
    write(&f, b"x").unwrap();
    assert_eq!(list(&c, "/"), [".", ".."]);
    link(&c, Some(f.path()), b"", None, b"/named", LookupFlags::EMPTY).unwrap();
    assert_eq!(stat_of(&c, "/named").unwrap().nlink, 1);
    let g = open(&c, None, b"/", flags | OpenFlags::EXCL, 0o600).unwrap();
    assert_eq!(link(&c, Some(g.path()), b"", None, b"/no", LookupFlags::EMPTY), Err(Errno::ENOENT));
}

#[test]
fn descriptors_are_the_lowest_free() {
    let c = small();
    let t = FdTable::new();
    let f = create(&c, "/a").unwrap();
    for n in 0..4 {
        assert_eq!(t.install(f.clone(), false, 100).unwrap(), n);
    }
    t.close(1).unwrap();
    t.close(0).unwrap();
    assert_eq!(t.close(0), Err(Errno::EBADF));
    assert_eq!(t.dup(2, 100).unwrap(), 0);
    assert_eq!(t.dup_from(2, 10, true, 100).unwrap(), 10);
    assert_eq!(t.dup_from(2, 0, false, 100).unwrap(), 1);
    assert_eq!(t.dup(2, 4).unwrap_err(), Errno::EMFILE);
    t.close_on_exec();
    assert_eq!(t.get(10).unwrap_err(), Errno::EBADF);
    assert_eq!(t.fork().unwrap().snapshot().len(), 4);
}

#[test]
fn pipes_move_bytes_and_tell_their_ends() {
    simulate(try_pipes_move_bytes_and_tell_their_ends);
}
fn try_pipes_move_bytes_and_tell_their_ends() {
    let cred = Arc::new(Cred::root());
    let (r, w) = pipe::create(OpenFlags::NONBLOCK, &cred).unwrap();
    assert_eq!(read(&r, 1).unwrap_err(), Errno::EAGAIN);
    assert_eq!(r.poll(None), PollFlags::empty());
    assert_eq!(w.poll(None), PollFlags::WRITABLE);
    write(&w, b"ab").unwrap();
    write(&w, b"cd").unwrap();
    assert_eq!(read(&r, 3).unwrap(), b"abc");
    assert_eq!(read(&r, 3).unwrap(), b"d");
    assert_eq!(write(&w, &[7; 100_000]).unwrap(), 65_536);
    assert_eq!(write(&w, b"x").unwrap_err(), Errno::EAGAIN);
    assert_eq!(pipe::set_size(&w, 4096, &cred), Err(Errno::EBUSY));
    assert_eq!(read(&r, 70_000).unwrap().len(), 65_536);
    assert_eq!(pipe::set_size(&w, 5000, &cred), Ok(8192));
    drop(w);
    assert_eq!(r.poll(None), PollFlags::HUP);
    assert_eq!(read(&r, 1).unwrap(), b"");
    let (r, w) = pipe::create(OpenFlags::empty(), &cred).unwrap();
    drop(r);
    assert_eq!(write(&w, b"x").unwrap_err(), Errno::EPIPE);
    assert_eq!(w.lseek(0, 0).unwrap_err(), Errno::ESPIPE);
}

#[test]
fn pages_go_into_a_pipe_without_a_copy() {
    simulate(try_pages_go_into_a_pipe_without_a_copy);
}
fn try_pages_go_into_a_pipe_without_a_copy() {
    let (c, cred) = (small(), Arc::new(Cred::root()));
    let f = create(&c, "/a").unwrap();
    let data: Vec<u8> = (0..10_000).map(|i| (i * 7 % 256) as u8).collect();
    write(&f, &data).unwrap();
    let (r, w) = pipe::create(OpenFlags::NONBLOCK, &cred).unwrap();
    assert_eq!(copy::sendfile(&w, &f, Some(100), 20_000).unwrap(), (9900, 10_000));
    assert_eq!(read(&r, 20_000).unwrap(), data[100..]);
}

#[test]
fn epoll_reports_levels_edges_and_one_shots() {
    simulate(try_epoll_reports_levels_edges_and_one_shots);
}
fn try_epoll_reports_levels_edges_and_one_shots() {
    use vfs::epoll::{Ctl, Event, create, ctl, wait};
    let cred = Arc::new(Cred::root());
    let ep = create(&cred).unwrap();
    let get = || {
        let mut v = Vec::new();
        wait(&ep, 8, Some(0), &mut |e| {
            v.push((e.events, e.data));
            Ok(())
        })
        .unwrap();
        v
    };
    let (r, w) = pipe::create(OpenFlags::NONBLOCK, &cred).unwrap();
    const IN: u32 = 1;
    ctl(&ep, 3, &r, Ctl::Add(Event { events: IN, data: 33 })).unwrap();
    assert_eq!(ctl(&ep, 3, &r, Ctl::Add(Event { events: IN, data: 33 })), Err(Errno::EEXIST));
    assert_eq!(ctl(&ep, 9, &ep, Ctl::Delete), Err(Errno::EINVAL));
    assert_eq!(get(), []);
    write(&w, b"x").unwrap();
    assert_eq!(get(), [(IN, 33)]);
    assert_eq!(get(), [(IN, 33)]);
    ctl(&ep, 3, &r, Ctl::Modify(Event { events: IN | 1 << 31, data: 34 })).unwrap();
    assert_eq!(get(), [(IN, 34)]);
    assert_eq!(get(), []);
    write(&w, b"y").unwrap();
    assert_eq!(get(), [(IN, 34)]);
    ctl(&ep, 3, &r, Ctl::Modify(Event { events: IN | 1 << 30, data: 35 })).unwrap();
    assert_eq!(get(), [(IN, 35)]);
    write(&w, b"z").unwrap();
    assert_eq!(get(), []);
    ctl(&ep, 3, &r, Ctl::Modify(Event { events: IN, data: 36 })).unwrap();
    assert_eq!(get(), [(IN, 36)]);
    // A file that is closed is no longer watched.
    drop(r);
    assert_eq!(get(), []);
    let f = eventfd::create(1, 0, &cred).unwrap();
    ctl(&ep, 4, &f, Ctl::Add(Event { events: IN, data: 1 })).unwrap();
    assert_eq!(get(), [(IN, 1)]);
    assert_eq!(read(&f, 8).unwrap(), 1u64.to_ne_bytes());
    assert_eq!(get(), []);
    // Instances that would watch each other are refused.
    let other = create(&cred).unwrap();
    ctl(&ep, 5, &other, Ctl::Add(Event { events: IN, data: 2 })).unwrap();
    assert_eq!(ctl(&other, 6, &ep, Ctl::Add(Event { events: IN, data: 2 })), Err(Errno::ELOOP));
}

#[test]
fn file_locks_exclude() {
    use vfs::locks::{LockKind::*, Owner, Record, flock, get_lock, set_lock};
    let c = small();
    let a = create(&c, "/l").unwrap();
    let b = open(&c, None, b"/l", OpenFlags::RDWR, 0).unwrap();
    let rec = |owner| Record { kind: Exclusive, start: 0, end: 9, owner, pid: 7 };
    set_lock(&a, Some(Exclusive), rec(Owner::Posix(1)), false).unwrap();
    assert_eq!(set_lock(&b, Some(Shared), rec(Owner::Posix(2)), false), Err(Errno::EAGAIN));
    assert_eq!(get_lock(&b, &rec(Owner::Posix(2))).unwrap().unwrap().pid, 7);
    set_lock(&a, None, rec(Owner::Posix(1)), false).unwrap();
    set_lock(&b, Some(Shared), rec(Owner::ofd(&b)), false).unwrap();
    assert_eq!(set_lock(&a, Some(Exclusive), rec(Owner::Posix(1)), false), Err(Errno::EAGAIN));
    flock(&a, Some(Exclusive), true).unwrap();
    assert_eq!(flock(&b, Some(Shared), true), Err(Errno::EAGAIN));
    drop(a);
    flock(&b, Some(Shared), true).unwrap();
}

/// Builds a newc archive.
#[derive(Default)]
struct Cpio(Vec<u8>);
impl Cpio {
    fn add(mut self, name: &str, ino: u32, mode: u32, nlink: u32, data: &[u8]) -> Self {
        let n = [ino, mode, 1, 2, nlink, 1000, data.len() as u32, 0, 0, 5, 1, name.len() as u32 + 1, 0];
        self.0.extend(b"070701");
        n.iter().for_each(|v| self.0.extend(format!("{v:08X}").bytes()));
        self.0.extend(name.bytes());
        self.0.push(0);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }
    fn end(self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, 0, 1, b"").0
    }
}
fn gzip(data: &[u8]) -> Vec<u8> {
    let mut v = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    v.extend(miniz_oxide::deflate::compress_to_vec(data, 6));
    let mut crc = !0u32;
    for b in data {
        crc ^= *b as u32;
        for _ in 0..8 {
            crc = if crc & 1 != 0 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
        }
    }
    v.extend((!crc).to_le_bytes());
    v.extend((data.len() as u32).to_le_bytes());
    v
}
fn sample() -> Vec<u8> {
    Cpio::default()
        .add("dir", 1, 0o40755, 2, b"")
        .add("dir/a", 2, 0o100644, 2, b"")
        .add("dir/b", 2, 0o100644, 2, b"hello, world")
        .add("./suid", 3, 0o104755, 1, &[5; 9000])
        .add("link", 4, 0o120777, 1, b"dir/a")
        .add("console", 5, 0o20600, 1, b"")
        .end()
}
fn check_sample(c: &Ctx) {
    let (a, b) = (stat_of(c, "/dir/a").unwrap(), stat_of(c, "/dir/b").unwrap());
    assert_eq!((a.ino, a.size, a.nlink, a.mtime.sec, a.uid, a.gid), (b.ino, 12, 2, 1000, 1, 2));
    assert_eq!(stat_of(c, "/link").unwrap().ino, a.ino);
    let s = stat_of(c, "/suid").unwrap();
    assert_eq!((s.size, s.mode), (9000, 0o104755));
    let t = stat_of(c, "/console").unwrap();
    assert_eq!((t.file_type(), t.rdev), (FileType::Char, makedev(5, 1)));
    assert_eq!(stat_of(c, "/dir").unwrap().mtime.sec, 1000);
}

#[test]
fn archives_unpack_plain_compressed_and_joined() {
    simulate(try_archives_unpack_plain_compressed_and_joined);
}
fn try_archives_unpack_plain_compressed_and_joined() {
    for image in [sample(), gzip(&sample())] {
        let c = small();
        let mut all = image.clone();
        all.resize(all.len().next_multiple_of(512), 0);
        all.extend(gzip(&Cpio::default().add("late", 9, 0o100600, 1, b"x").end()));
        initramfs::unpack_into(&mut &all[..], &c.root);
        check_sample(&c);
        assert_eq!(stat_of(&c, "/late").unwrap().size, 1);
    }
}

#[test]
fn corrupt_archives_keep_what_was_good() {
    simulate(try_corrupt_archives_keep_what_was_good);
}
fn try_corrupt_archives_keep_what_was_good() {
    let c = small();
    let mut bad = sample();
    bad.truncate(bad.len() - 130);
    bad.extend(b"garbage!");
    initramfs::unpack_into(&mut &bad[..], &c.root);
    check_sample_start(&c);
}
fn check_sample_start(c: &Ctx) {
    assert_eq!(stat_of(c, "/dir/b").unwrap().size, 12);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// No image makes the unpacker panic or run for ever.
    #[test]
    fn any_image_is_answered(at in 0usize..1200, byte: u8, cut in 0usize..1500, zip: bool) {
        struct Nothing;
        impl initramfs::Sink for Nothing {
            fn file(&mut self, _: &initramfs::Header, _: &[u8]) -> Result<bool, initramfs::Error> { Ok(true) }
            fn data(&mut self, _: &[u8]) -> Result<(), initramfs::Error> { Ok(()) }
            fn end_file(&mut self) -> Result<(), initramfs::Error> { Ok(()) }
            fn symlink(&mut self, _: &initramfs::Header, _: &[u8], _: &[u8]) -> Result<(), initramfs::Error> { Ok(()) }
            fn node(&mut self, _: &initramfs::Header, _: &[u8]) -> Result<(), initramfs::Error> { Ok(()) }
            fn trailer(&mut self) -> Result<(), initramfs::Error> { Ok(()) }
        }
        let mut v = if zip { gzip(&sample()) } else { sample() };
        if let Some(b) = v.get_mut(at) { *b = byte; }
        v.truncate(cut);
        let _ = initramfs::unpack(&mut &v[..], &mut Nothing);
    }

    /// Making, removing and renaming in three directories, against a map.
    #[test]
    fn names_follow_a_model(ops in prop::collection::vec((0u8..4, 0usize..9, 0usize..9), 1..80)) {
        let c = small();
        let name = |i: usize| format!("/d{}/n{}", i / 3, i % 3);
        for d in 0..3 {
            mkdir(&c, None, format!("/d{d}").as_bytes(), 0o755).unwrap();
        }
        let mut model: BTreeMap<usize, u64> = BTreeMap::new();
        for (what, a, b) in ops {
            match what {
                0 => {
                    let r = create(&c, &name(a));
                    prop_assert_eq!(r.is_ok(), !model.contains_key(&a));
                    if let Ok(f) = r { model.insert(a, f.inode().ino); }
                }
                1 => {
                    let r = unlink(&c, None, name(a).as_bytes());
                    prop_assert_eq!(r.is_ok(), model.remove(&a).is_some());
                }
                2 => {
                    let r = ren(&c, &name(a), &name(b), RenameFlags::empty());
                    prop_assert_eq!(r.is_ok(), model.contains_key(&a));
                    if a != b && let Some(i) = model.remove(&a) { model.insert(b, i); }
                }
                _ => {
                    let r = ren(&c, &name(a), &name(b), RenameFlags::EXCHANGE);
                    prop_assert_eq!(r.is_ok(), model.contains_key(&a) && model.contains_key(&b));
                    if r.is_ok() {
                        let (x, y) = (model[&a], model[&b]);
                        model.insert(a, y);
                        model.insert(b, x);
                    }
                }
            }
            for i in 0..9 {
                prop_assert_eq!(stat_of(&c, &name(i)).ok().map(|m| m.ino), model.get(&i).copied());
            }
        }
        let files: usize = (0..3).map(|d| list(&c, &format!("/d{d}")).len() - 2).sum();
        prop_assert_eq!(files, model.len());
    }
}
