use super::*;

fn addr(port: u32, groups: u32) -> Vec<u8> {
    shown(Dst { port, groups }).to_vec()
}

fn listener(port: u32, groups: u32) -> Box<dyn Socket> {
    let s = create(uapi::SOCK_RAW, nl::NETLINK_KOBJECT_UEVENT).unwrap();
    s.bind(&addr(port, groups)).unwrap();
    s
}

fn recv(s: &dyn Socket) -> Result<(Vec<u8>, RecvMsg)> {
    let mut b = [0; 100];
    let mut m = RecvMsg { nonblock: true, want_name: true, ..RecvMsg::default() };
    let n = s.recv(&mut m, &mut IoDst::kernel(&mut b))?;
    Ok((b[..n.min(100)].to_vec(), m))
}

/// One test at a time: all listeners of a process hear all its events.
fn alone() -> frame::sync::MutexGuard<'static, ()> {
    static CLASS: LockClass = LockClass::new("netlink_tests");
    static ONE: Mutex<()> = Mutex::new(&CLASS, ());
    ONE.lock()
}

#[test]
fn events_reach_the_members_of_group_one() {
    let _alone = alone();
    let (a, b, c) = (listener(101, 1), listener(102, 3), listener(103, 2));
    uevent(b"add@/x\0");
    for s in [&a, &b] {
        let (bytes, m) = recv(&**s).unwrap();
        assert_eq!(bytes, b"add@/x\0");
        assert_eq!(m.name.unwrap()[..], addr(0, 1)[..]);
    }
    assert_eq!(recv(&*c).err(), Some(Errno::EAGAIN));
    assert!(!c.poll(None).contains(PollFlags::IN));
    assert_eq!(a.bind(&addr(7, 1)), Err(Errno::EINVAL));
    a.set_option(uapi::SOL_NETLINK, nl::NETLINK_DROP_MEMBERSHIP, &1u32.to_ne_bytes()).unwrap();
    uevent(b"add@/y\0");
    assert_eq!(recv(&*a).err(), Some(Errno::EAGAIN));
}

#[test]
fn a_slow_listener_is_told_of_the_overrun() {
    let _alone = alone();
    let s = listener(201, 1);
    s.options().rcvbuf.store(1000, Relaxed);
    for _ in 0..4 {
        uevent(&[b'x'; 10]);
    }
    assert!(s.poll(None).contains(PollFlags::ERR));
    assert_eq!(recv(&*s).err(), Some(Errno::ENOBUFS));
    assert!(recv(&*s).is_ok());
}

#[test]
fn ports_are_taken_once_and_types_checked() {
    let _alone = alone();
    let _s = listener(301, 0);
    let t = create(uapi::SOCK_DGRAM, nl::NETLINK_KOBJECT_UEVENT).unwrap();
    assert_eq!(t.bind(&addr(301, 0)), Err(Errno::EADDRINUSE));
    assert_eq!(t.bind(&[16, 0]), Err(Errno::EINVAL));
    assert_eq!(create(uapi::SOCK_STREAM, 15).err(), Some(Errno::ESOCKTNOSUPPORT));
    assert_eq!(create(uapi::SOCK_RAW, nl::NETLINK_ROUTE).err(), Some(Errno::EPROTONOSUPPORT));
    assert_eq!(t.peer_name().map(|n| n.len()), Ok(ADDR_LEN));
    assert_eq!(t.listen(1), Err(Errno::EOPNOTSUPP));
}
