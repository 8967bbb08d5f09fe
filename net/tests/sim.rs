//! Sockets under simulation: several processors, seeded preemption at every atomic access, simulated time. Bytes arrive in order and
//! none is lost, nobody sleeps for ever, what messages hold is neither lost nor kept.
//!
//! `NIGHTSHIFT_SEEDS=10000 cargo test -p net --test sim --release` for a long campaign; `NIGHTSHIFT_SEED=n` replays one.

use std::sync::Arc;

use base::{Cred, Errno, Result};
use frame::{
    atomic::{AtomicU32, Ordering::SeqCst},
    sim,
    sync::{Completion, once::Once},
};
use linux_raw_sys::net as uapi;
use net::{RecvMsg, SendMsg, cmsg, unix, unix::Fault};
use sched::kthread;
use vfs::{Ctx, FdTable, File, FileOps, IoDst, IoSrc, OpenFlags};

const SEEDS: u64 = 200;

/// The process of these tests: one table of descriptors for all threads.
struct Program;
impl net::caller::Caller for Program {
    fn ctx(&self) -> Result<Ctx> {
        Err(Errno::EPERM)
    }
    fn cred(&self) -> Arc<Cred> {
        Arc::new(Cred::root())
    }
    fn file(&self, fd: i32) -> Result<Arc<File>> {
        fds().get_any(fd)
    }
    fn nofile(&self) -> u64 {
        1024
    }
}
fn fds() -> &'static FdTable {
    static FDS: Once<FdTable> = Once::new();
    FDS.call_once(FdTable::new)
}

fn boot(f: impl FnOnce() + Send + 'static) {
    mm::init();
    sched::init_boot_cpu();
    let main = move || {
        sched::start_other_cpus();
        sched::start_daemons().unwrap();
        net::caller::install(&Program);
        net::init().unwrap();
        f();
        frame::boot::power_off()
    };
    let init = sched::spawn_init(None, Box::new(main)).unwrap();
    sim::watch_task(&init, "init");
    sched::start_kthreadd().unwrap();
    init.start();
    sched::cpu_idle()
}

fn spawn(name: &str, f: impl FnOnce() + Send + 'static) -> Arc<Completion> {
    let done = Arc::new(Completion::new());
    let d = done.clone();
    let run = move |_: &kthread::Kthread| {
        f();
        d.complete();
        0
    };
    let h = kthread::spawn(name, run).unwrap();
    sim::watch_task(h.task(), name);
    done
}

fn pair(kind: u32) -> (Arc<File>, Arc<File>) {
    let (a, b) = net::pair(uapi::AF_UNIX as i32, kind, 0).unwrap();
    let cred = Arc::new(Cred::root());
    let file = |s| net::new_file(s, OpenFlags::empty(), &cred).unwrap();
    (file(a), file(b))
}

fn set_sndbuf(f: &File, n: u32) {
    let sock = net::of(f).unwrap();
    net::options::set(sock, uapi::SOL_SOCKET, uapi::SO_SNDBUF, &n.to_ne_bytes()).unwrap();
}

/// What byte `i` of a stream is.
fn byte(i: usize) -> u8 {
    (i * 31 + i / 251) as u8
}

/// Writes until `total` bytes are sent or nobody receives; how many were.
fn write_all(f: &File, total: usize) -> usize {
    let mut sent = 0;
    while sent < total {
        let n = (sim::random(6000) as usize + 1).min(total - sent);
        let chunk: Vec<u8> = (sent..sent + n).map(byte).collect();
        match f.write(&mut IoSrc::kernel(&chunk)) {
            Ok(n) => sent += n,
            Err(Errno::EPIPE | Errno::ECONNRESET) => break,
            Err(e) => panic!("write: {e}"),
        }
    }
    sent
}

/// Reads until the end or `most` bytes; how many came.
fn read_all(f: &File, most: usize) -> usize {
    let (mut got, mut b) = (0, [0; 2500]);
    while got < most {
        let n = sim::random(2499) as usize + 1;
        match f.read(&mut IoDst::kernel(&mut b[..n])) {
            Ok(0) | Err(Errno::ECONNRESET) => break,
            Ok(n) => {
                assert!((0..n).all(|i| b[i] == byte(got + i)), "a byte is out of order after {got}");
                got += n;
            }
            Err(e) => panic!("read: {e}"),
        }
    }
    got
}

/// Both directions of a stream at once; each side ends in its own way, and the other always learns.
fn streams() {
    let (a, b) = pair(uapi::SOCK_STREAM);
    set_sndbuf(&a, 1);
    set_sndbuf(&b, 1);
    let total = sim::random(12_000) as usize + 1;
    let half_close = sim::random(2) == 0;
    let early = sim::random(3) == 0;
    let sent = Arc::new(AtomicU32::new(0));
    let (s, w) = (sent.clone(), a.clone());
    let writer = spawn("writer", move || {
        s.store(write_all(&w, total) as u32, SeqCst);
        if half_close {
            net::of(&w).unwrap().shutdown(net::socket::shut::SEND).unwrap();
        }
        drop(w);
    });
    let back = a;
    let reader_of_a = spawn("answers", move || {
        read_all(&back, usize::MAX);
    });
    let reader = spawn("reader", move || {
        let most = if early { sim::random(total as u64) as usize } else { usize::MAX };
        // With a half-close the end comes by itself; without, the other side stays open until it was answered.
        let most = if half_close { most } else { most.min(total) };
        let got = read_all(&b, most);
        if !early {
            assert_eq!(got, total, "bytes were lost");
        }
        write_all(&b, 500);
        drop(b);
    });
    for d in [writer, reader_of_a, reader] {
        d.wait();
    }
    assert!(early || sent.load(SeqCst) as usize == total);
}

/// Several senders to one datagram socket whose queue is short: every message arrives once, in its sender's order.
fn datagrams() {
    let cred = Arc::new(Cred::root());
    let socket = || {
        let s = net::create(uapi::AF_UNIX as i32, uapi::SOCK_DGRAM, 0).unwrap();
        net::new_file(s, OpenFlags::empty(), &cred).unwrap()
    };
    let to = socket();
    let name = b"\x01\0\0receiver";
    net::of(&to).unwrap().bind(name).unwrap();
    const SENDERS: u8 = 3;
    const EACH: u8 = 12;
    let senders: Vec<_> = (0..SENDERS)
        .map(|id| {
            let f = socket();
            spawn(&format!("sender/{id}"), move || {
                if sim::random(2) == 0 {
                    net::of(&f).unwrap().connect(name, false).unwrap();
                    (0..EACH).for_each(|i| assert_eq!(f.write(&mut IoSrc::kernel(&[id, i])), Ok(2)));
                    return;
                }
                for i in 0..EACH {
                    let m = SendMsg { name: Some(name), ..SendMsg::default() };
                    assert_eq!(net::of(&f).unwrap().send(&m, &mut IoSrc::kernel(&[id, i])), Ok(2));
                }
            })
        })
        .collect();
    let mut next = [0; SENDERS as usize];
    for _ in 0..SENDERS * EACH {
        let mut b = [0; 8];
        assert_eq!(to.read(&mut IoDst::kernel(&mut b)), Ok(2));
        assert_eq!(b[1], next[b[0] as usize], "a message of a sender was overtaken");
        next[b[0] as usize] += 1;
    }
    senders.iter().for_each(|s| s.wait());
}

/// Clients connect while the server accepts, and while it stops doing so.
fn connections() {
    let cred = Arc::new(Cred::root());
    let make = move || {
        let s = net::create(uapi::AF_UNIX as i32, uapi::SOCK_STREAM, 0).unwrap();
        net::new_file(s, OpenFlags::empty(), &cred).unwrap()
    };
    let name = b"\x01\0\0server";
    let server = make();
    net::of(&server).unwrap().bind(name).unwrap();
    net::of(&server).unwrap().listen(sim::random(2) as u32).unwrap();
    let clients: Vec<_> = (0..4u8)
        .map(|id| {
            let f = make();
            spawn(&format!("client/{id}"), move || {
                if let Err(e) = net::of(&f).unwrap().connect(name, false) {
                    assert_eq!(e, Errno::ECONNREFUSED);
                    return;
                }
                let mut b = [0; 4];
                // Answered, or closed with the listener.
                match f.write(&mut IoSrc::kernel(&[id])) {
                    Ok(1) => match f.read(&mut IoDst::kernel(&mut b)) {
                        Ok(1) => assert_eq!(b[0], id),
                        Ok(0) | Err(Errno::ECONNRESET) => {}
                        r => panic!("read: {r:?}"),
                    },
                    // The reset is told to whoever asks first, a write that has begun included.
                    r => assert!(matches!(r, Err(Errno::EPIPE | Errno::ECONNRESET)), "write: {r:?}"),
                }
            })
        })
        .collect();
    for _ in 0..sim::random(4) {
        let s = net::of(&server).unwrap().accept(false).unwrap();
        let mut b = [0; 4];
        let n = s.recv(&mut RecvMsg::default(), &mut IoDst::kernel(&mut b)).unwrap();
        let _ = s.send(&SendMsg::default(), &mut IoSrc::kernel(&b[..n]));
    }
    drop(server);
    clients.iter().for_each(|c| c.wait());
}

/// How many tracked files there are.
static ALIVE: AtomicU32 = AtomicU32::new(0);
struct Tracked;
impl FileOps for Tracked {
    fn release(&self, _file: &File) {
        ALIVE.fetch_sub(1, SeqCst);
    }
}
fn tracked() -> Arc<File> {
    ALIVE.fetch_add(1, SeqCst);
    vfs::anon::new_file("[tracked]", Arc::new(Tracked), OpenFlags::RDWR, &Arc::new(Cred::root())).unwrap()
}

fn send_file(to: &File, f: &Arc<File>) {
    let fd = fds().install(f.clone(), false, 1024).unwrap();
    let mut control = cmsg::header(uapi::SOL_SOCKET, uapi::SCM_RIGHTS, 4).to_vec();
    control.extend((fd as u32).to_ne_bytes());
    let m = SendMsg { control: &control, ..SendMsg::default() };
    assert_eq!(net::of(to).unwrap().send(&m, &mut IoSrc::kernel(b"f")), Ok(1));
    fds().close(fd).unwrap();
}
fn recv_file(from: &File, flags: u32) -> Arc<File> {
    let mut m = RecvMsg { flags, ..RecvMsg::default() };
    let mut b = [0; 1];
    assert_eq!(net::of(from).unwrap().recv(&mut m, &mut IoDst::kernel(&mut b)), Ok(1));
    m.files.pop().expect("the descriptor was lost")
}

/// Sockets are passed through sockets while others close circles: what can be received is, and at the end nothing is left.
fn passing() {
    ALIVE.store(0, SeqCst);
    let (a, b) = pair(uapi::SOCK_STREAM);
    const ROUNDS: u32 = 5;
    let sender = spawn("passer", move || {
        for _ in 0..ROUNDS {
            let (x, y) = pair(uapi::SOCK_DGRAM);
            send_file(&x, &tracked());
            send_file(&a, &y);
        }
    });
    let receiver = spawn("receiver", move || {
        for _ in 0..ROUNDS {
            // Time for the collector to look at what is on its way.
            sched::time::sleep_ns(sim::random(300_000));
            if sim::random(2) == 0 {
                drop(recv_file(&b, uapi::MSG_PEEK));
            }
            let y = recv_file(&b, 0);
            recv_file(&y, 0);
        }
    });
    let circles = spawn("circles", move || {
        for _ in 0..ROUNDS {
            let (x, y) = pair(uapi::SOCK_STREAM);
            let (p, q) = pair(uapi::SOCK_STREAM);
            send_file(&x, &tracked());
            send_file(&x, &q);
            send_file(&p, &y);
            sched::time::sleep_ns(sim::random(300_000));
            if sim::random(2) == 0 {
                // As long as somebody holds it, it can be received from, whatever else it is in.
                recv_file(&y, 0);
            }
            if sim::random(2) == 0 {
                send_file(&x, &x);
            }
        }
    });
    for d in [sender, receiver, circles] {
        d.wait();
    }
    // A close has what is left looked for.
    drop(pair(uapi::SOCK_STREAM));
    let until = sched::time::now_ns() + 1_000_000_000;
    while ALIVE.load(SeqCst) != 0 {
        assert!(sched::time::now_ns() < until, "files that nobody can reach are kept");
        sched::time::sleep_ns(1_000_000);
    }
}

#[test]
fn bytes_of_streams_arrive_in_order() {
    sim::campaign("unix_streams", SEEDS, |_| boot(streams));
}
#[test]
fn datagrams_arrive_once() {
    sim::campaign("unix_datagrams", SEEDS, |_| boot(datagrams));
}
#[test]
fn connecting_races_with_closing() {
    sim::campaign("unix_connections", SEEDS, |_| boot(connections));
}
#[test]
fn passed_descriptors_are_neither_lost_nor_kept() {
    sim::campaign("unix_passing", SEEDS, |_| boot(passing));
}
#[test]
fn a_silent_close_is_found() {
    sim::expect_failure("unix_silent_close", SEEDS, |_| {
        boot(|| {
            unix::inject(Fault::SilentClose);
            streams();
        })
    });
}
#[test]
fn a_greedy_collector_is_found() {
    sim::expect_failure("unix_greedy", SEEDS, |_| {
        boot(|| {
            unix::inject(Fault::GreedyCollector);
            passing();
        })
    });
}
