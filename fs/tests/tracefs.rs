//! tracefs by way of the files: formats, errors, and the older place in debugfs, as Linux 6.12 was seen to answer.

use std::sync::Arc;

use base::{Errno, cred::Cred};
use frame::sim;
use vfs::*;

base::trace_event! {
    /// Something to switch on.
    pub struct files_alpha in "files" {
        number: i32 = "int",
    }
    format r#""number=%d", REC->number"#;
    print "number={number}"
}
base::trace_event! {
    /// Something else.
    pub struct files_beta in "files" {
        number: i32 = "int",
    }
    format r#""number=%d", REC->number"#;
    print "number={number}"
}

struct Guest(Ctx);

impl Guest {
    fn read(&self, path: &str) -> base::Result<String> {
        let f = open(&self.0, None, path.as_bytes(), OpenFlags::RDONLY | OpenFlags::NONBLOCK, 0)?;
        let mut all = Vec::new();
        let mut b = [0; 100];
        loop {
            match f.read(&mut IoDst::kernel(&mut b)) {
                Ok(0) => break,
                Ok(n) => all.extend(&b[..n]),
                Err(Errno::EAGAIN) if !all.is_empty() => break,
                Err(e) => return Err(e),
            }
        }
        Ok(String::from_utf8(all).unwrap())
    }
    fn write_with(&self, path: &str, text: &str, flags: OpenFlags) -> base::Result<usize> {
        let f = open(&self.0, None, path.as_bytes(), OpenFlags::WRONLY | flags, 0)?;
        f.write(&mut IoSrc::kernel(text.as_bytes()))
    }
    /// `echo TEXT >PATH`.
    fn echo(&self, text: &str, path: &str) -> base::Result<usize> {
        self.write_with(path, text, OpenFlags::TRUNC)
    }
}

/// The same records in pages: whole, in pieces, and not twice.
fn raw_pages(g: &Guest) {
    assert!(g.read("/t/events/header_page").unwrap().contains("field: char data;\toffset:16;\tsize:4080;"));
    assert!(g.read("/t/events/header_event").unwrap().ends_with("data max type_len  == 28\n"));
    let pipe = b"/t/per_cpu/cpu0/trace_pipe_raw";
    let f = open(&g.0, None, pipe, OpenFlags::RDONLY | OpenFlags::NONBLOCK, 0).unwrap();
    let read = |b: &mut [u8]| f.read(&mut IoDst::kernel(b));
    let mut page = [0; 5000];
    assert_eq!(read(&mut page), Err(Errno::EAGAIN));
    let id = files_beta::event().id();
    let record = |number: i32| [&id.to_ne_bytes()[..], &[0; 6], &number.to_ne_bytes()].concat();
    // The common flags depend on the caller.
    let same = |got: &[u8], number: i32| got[..2] == record(number)[..2] && got[8..12] == record(number)[8..];
    base::trace!(files_beta { number: 5 });
    base::trace!(files_beta { number: 6 });
    assert_eq!(read(&mut page[..30]), Ok(30));
    // What comes now is for the next page.
    base::trace!(files_beta { number: 7 });
    assert_eq!(read(&mut page[30..]), Ok(4066));
    assert_eq!((page[8], page[16], page[32] & 31), (32, 3, 3));
    assert!(same(&page[20..], 5) && same(&page[36..], 6) && page[48..4096].iter().all(|b| *b == 0));
    assert_eq!(read(&mut page), Ok(4096));
    assert!(page[8] == 16 && same(&page[20..], 7));
    assert_eq!((read(&mut page), g.read("/t/trace_pipe")), (Err(Errno::EAGAIN), Err(Errno::EAGAIN)));
    // More than one page holds: nothing is left out between them.
    let mut next = 100;
    (next..next + 1000).for_each(|number| base::trace!(files_beta { number }));
    while read(&mut page).is_ok() {
        let end = 16 + usize::from(u16::from_ne_bytes([page[8], page[9]]));
        for at in (20..end).step_by(16) {
            assert!(same(&page[at..], next), "{next}");
            next += 1;
        }
    }
    assert_eq!(next, 1100);
}

fn guest() -> Guest {
    let root = fs::init().unwrap();
    base::trace::register(&[files_alpha::event(), files_beta::event()]);
    let g = Guest(Ctx { root: root.clone(), cwd: root, cred: Arc::new(Cred::root()), umask: 0o022 });
    for (d, kind) in [("/t", "tracefs"), ("/d", "debugfs")] {
        mkdir(&g.0, None, d.as_bytes(), 0o755).unwrap();
        do_mount(&g.0, b"x", d.as_bytes(), Some(kind.as_bytes()), 0, b"").unwrap();
    }
    g
}

fn files() {
    let g = guest();
    // Switching.
    assert_eq!(g.read("/t/available_events").unwrap(), "files:files_alpha\nfiles:files_beta\n");
    assert_eq!(g.read("/t/set_event").unwrap(), "");
    assert_eq!(g.read("/t/buffer_size_kb").unwrap(), "7 (expanded: 1408)\n");
    assert_eq!(g.echo("files:files_alpha files_beta", "/t/set_event"), Ok(18));
    assert_eq!(g.read("/t/set_event").unwrap(), "files:files_alpha\n");
    assert_eq!(g.read("/t/events/files/enable").unwrap(), "X\n");
    assert_eq!(g.read("/t/buffer_size_kb").unwrap(), "1410\n");
    for (word, ok) in [
        ("nosuch", false),
        ("files:nosuch", false),
        ("!nosuch", false),
        ("files:files_*", false),
        ("", true),
        (" ", true),
        ("files", true),
        ("!files_alpha", true),
        ("*:files_alpha", true),
        ("!*:*", true),
        (":", true),
        ("!files:", true),
    ] {
        let done = g.write_with("/t/set_event", &format!("{word}\n"), OpenFlags::APPEND);
        assert_eq!(done.is_ok(), ok, "{word}: {done:?}");
        if !ok {
            assert_eq!(done, Err(Errno::EINVAL));
        }
    }
    assert_eq!(g.read("/t/events/enable").unwrap(), "0\n");
    assert_eq!(g.echo("2\n", "/t/events/files/files_beta/enable"), Err(Errno::EINVAL));
    g.echo("1\n", "/t/events/files/files_beta/enable").unwrap();
    assert_eq!(g.read("/t/set_event").unwrap(), "files:files_beta\n");
    // Recording.
    assert_eq!(g.echo("hello\n", "/t/trace_marker"), Ok(6));
    base::trace!(files_alpha { number: 1 });
    base::trace!(files_beta { number: 2 });
    let text = g.read("/t/trace").unwrap();
    assert!(
        text.starts_with("# tracer: nop\n#\n# entries-in-buffer/entries-written: 2/2   #P:1\n#\n"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 14);
    assert!(
        text.ends_with(": files_beta: number=2\n") && text.contains(": tracing_mark_write: hello\n"),
        "{text}"
    );
    // No task runs here: what is recorded has no number.
    assert_eq!(g.read("/t/saved_cmdlines").unwrap(), "");
    // The pipe takes them out, one reader at a time.
    let held = open(&g.0, None, b"/t/trace_pipe", OpenFlags::RDONLY | OpenFlags::NONBLOCK, 0).unwrap();
    assert_eq!(g.read("/t/trace_pipe").unwrap_err(), Errno::EBUSY);
    assert_eq!(g.read("/t/per_cpu/cpu0/trace_pipe").unwrap_err(), Errno::EBUSY);
    drop(held);
    assert_eq!(g.read("/t/trace_pipe").unwrap().lines().count(), 2);
    assert_eq!(g.read("/t/trace_pipe").unwrap_err(), Errno::EAGAIN);
    assert!(g.read("/t/trace").unwrap().contains("written: 0/0 "));
    assert!(g.read("/t/per_cpu/cpu0/stats").unwrap().ends_with("dropped events: 0\nread events: 2\n"));
    raw_pages(&g);
    // Holding still.
    g.echo("0", "/t/tracing_on").unwrap();
    assert_eq!(g.echo("x", "/t/trace_marker"), Err(Errno::EBADF));
    g.echo("1", "/t/tracing_on").unwrap();
    // Tasks: those that are wanted, and those that are not.
    let recorded = || {
        base::trace!(files_beta { number: 3 });
        g.read("/t/trace_pipe").is_ok()
    };
    assert!(recorded());
    g.echo("7 0", "/t/set_event_notrace_pid").unwrap();
    assert_eq!(g.read("/t/set_event_notrace_pid").unwrap(), "0\n7\n");
    assert!(!recorded());
    g.write_with("/t/set_event_notrace_pid", "", OpenFlags::TRUNC).unwrap();
    assert!(recorded());
    g.echo("7", "/t/set_event_pid").unwrap();
    assert!(!recorded());
    g.write_with("/t/set_event_pid", "0", OpenFlags::APPEND).unwrap();
    assert!(recorded());
    g.write_with("/t/set_event_pid", "", OpenFlags::TRUNC).unwrap();
    // Filters.
    const F: &str = "/t/events/files/files_beta/filter";
    assert_eq!(g.echo("nuber == 1\n", F), Err(Errno::EINVAL));
    assert_eq!(g.read(F).unwrap(), "nuber == 1\n      ^\nparse_error: Field not found\n\n");
    let log = g.read("/t/error_log").unwrap();
    let said =
        "] event filter parse error: error: Field not found\n  Command: nuber == 1\n                 ^\n";
    assert!(log.starts_with("[    ") && log.ends_with(said), "{log}");
    for _ in 0..20 {
        assert_eq!(g.echo("number ==\n", F), Err(Errno::EINVAL));
    }
    assert_eq!(g.read("/t/error_log").unwrap().matches("Command: number ==\n").count(), 8);
    g.echo("\n", "/t/error_log").unwrap();
    assert_eq!(g.read("/t/error_log").unwrap(), "");
    g.echo("number > 5\n", F).unwrap();
    assert_eq!(g.read(F).unwrap(), "number > 5\n");
    base::trace!(files_beta { number: 5 });
    base::trace!(files_beta { number: 6 });
    assert_eq!(g.read("/t/trace").unwrap().matches("files_beta").count(), 1);
    g.echo("0\n", F).unwrap();
    assert_eq!(g.read(F).unwrap(), "none\n");
    // Opening for writing clears.
    g.echo("\n", "/t/trace").unwrap();
    assert_eq!(g.read("/t/trace").unwrap().lines().count(), 12);
    assert_eq!(
        g.read("/t/events/files/files_beta/format").unwrap().lines().last(),
        Some("print fmt: \"number=%d\", REC->number")
    );
    // Sizes and clocks.
    g.echo("100", "/t/buffer_size_kb").unwrap();
    assert_eq!(g.read("/t/buffer_size_kb").unwrap(), "103\n");
    assert_eq!(g.echo("0", "/t/buffer_size_kb"), Err(Errno::EINVAL));
    assert!(g.read("/t/trace_clock").unwrap().starts_with("[local] global counter "));
    assert_eq!(g.echo("zork", "/t/trace_clock"), Err(Errno::EINVAL));
    // The older place, mounted by walking through it; it keeps its parent busy.
    assert_eq!(g.read("/d/tracing/set_event").unwrap(), "files:files_beta\n");
    assert!(mounts_text(&g.0.root).unwrap().contains("tracefs /d/tracing tracefs rw"));
    assert_eq!(umount(&g.0, b"/d", 0), Err(Errno::EBUSY));
    g.echo("", "/t/set_event").unwrap();
    assert_eq!(g.read("/d/tracing/set_event").unwrap(), "");
    assert_eq!(mkdir(&g.0, None, b"/t/x", 0o755), Err(Errno::EPERM));
}

#[test]
fn files_answer_as_linux_s() {
    let out = sim::run(sim::Config::from_seed(1), files);
    assert!(out.is_ok(), "{out:?}");
}
