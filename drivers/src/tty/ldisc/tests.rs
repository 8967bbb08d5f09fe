//! The discipline alone: what is typed, what is read, what is echoed.

use super::*;
use alloc::string::String;

struct Rig {
    d: LineDiscipline,
    t: Termios,
    events: Vec<Event>,
    echo: Vec<u8>,
}
impl Rig {
    fn new() -> Self {
        Rig { d: LineDiscipline::new(), t: Termios::default(), events: Vec::new(), echo: Vec::new() }
    }
    fn type_(&mut self, s: &[u8]) -> &mut Self {
        for &b in s {
            let ev = &mut self.events;
            self.d.receive(&self.t, b, &mut self.echo, &mut |e| ev.push(e));
        }
        self
    }
    fn read(&mut self, n: usize) -> String {
        let mut b = alloc::vec![0; n];
        let got = self.d.read(&self.t, &mut b);
        String::from_utf8_lossy(&b[..got]).into_owned()
    }
    fn echoed(&mut self) -> String {
        String::from_utf8(core::mem::take(&mut self.echo)).unwrap()
    }
}

#[test]
fn a_line_is_read_only_when_it_is_whole() {
    let mut r = Rig::new();
    r.type_(b"ab");
    assert!(!r.d.has_input(&r.t));
    r.type_(b"c\r");
    assert_eq!(r.echoed(), "abc\r\n");
    assert_eq!(r.read(2), "ab");
    assert_eq!(r.read(9), "c\n");
    assert!(!r.d.has_input(&r.t));
}

#[test]
fn one_read_gives_one_line() {
    let mut r = Rig::new();
    r.type_(b"one\ntwo\nthr");
    assert_eq!(r.d.readable(&r.t), 8);
    assert_eq!(r.read(100), "one\n");
    assert_eq!(r.read(100), "two\n");
    assert!(!r.d.has_input(&r.t));
}

#[test]
fn end_of_file_ends_a_line_without_being_part_of_it() {
    let mut r = Rig::new();
    r.type_(b"x\x04");
    assert_eq!(r.read(100), "x");
    assert!(!r.d.has_input(&r.t));
    r.type_(b"\x04");
    assert!(r.d.has_input(&r.t));
    assert_eq!(r.read(100), "");
    // A buffer that the line fills exactly must not be followed by a read of 0.
    r.type_(b"ab\x04cd\n");
    assert_eq!(r.read(2), "ab");
    assert_eq!(r.read(9), "cd\n");
}

#[test]
fn erasing_edits_the_line_and_the_screen() {
    let mut r = Rig::new();
    r.type_(b"abc\x7f\x7fX\n");
    assert_eq!(r.read(100), "aX\n");
    assert_eq!(r.echoed(), "abc\x08 \x08\x08 \x08X\r\n");
    r.type_(b"one two\x17three\n");
    assert_eq!(r.read(100), "one three\n");
    r.type_(b"junk\x15ok\n");
    assert_eq!(r.read(100), "ok\n");
    r.type_(b"\x7f\x7f\x15\x17ok\n");
    assert_eq!(r.read(100), "ok\n");
    r.t.set_i(flag::IUTF8, true);
    r.type_("aé\x7f\n".as_bytes());
    assert_eq!(r.read(100), "a\n");
    r.echoed();
    r.type_(b"a\tb\x7f\x7f");
    assert!(r.echoed().ends_with("\x08 \x08\x08\x08\x08\x08\x08\x08\x08"));
}

#[test]
fn erasing_stops_at_a_finished_line() {
    let mut r = Rig::new();
    r.type_(b"done\nab\x7f\x7f\x7f\x7f\x15\n");
    assert_eq!(r.read(100), "done\n");
    assert_eq!(r.read(100), "\n");
}

#[test]
fn signals_flush_and_are_echoed() {
    let mut r = Rig::new();
    r.type_(b"half\x03");
    assert_eq!(r.events, [Event::FlushOutput, Event::Signal(Signal::Interrupt)]);
    assert_eq!(r.echoed(), "^C", "echo that was not sent yet is thrown away too");
    r.type_(b"ok\n");
    assert_eq!(r.read(100), "ok\n");
    r.t.set_l(flag::ISIG, false);
    r.events.clear();
    r.type_(b"\x03\n");
    assert_eq!(r.events, [Event::Readable]);
    assert_eq!(r.read(100), "\x03\n");
}

#[test]
fn literal_next_takes_anything() {
    let mut r = Rig::new();
    r.type_(b"\x16\x03\x16\x7f\n");
    assert_eq!(r.read(100), "\x03\x7f\n");
    assert!(r.events.iter().all(|e| *e == Event::Readable));
}

#[test]
fn raw_mode_gives_each_character_at_once() {
    let mut r = Rig::new();
    r.t.make_raw();
    r.type_(b"a\r\x03");
    assert_eq!(r.d.readable(&r.t), 3);
    assert_eq!(r.read(10), "a\r\x03");
    assert_eq!(r.echoed(), "");
}

#[test]
fn leaving_canonical_mode_frees_the_unfinished_line() {
    let mut r = Rig::new();
    r.type_(b"abc");
    let old = r.t.clone();
    r.t.set_l(flag::ICANON, false);
    r.d.settings_changed(&old, &r.t);
    assert_eq!(r.read(10), "abc");
}

#[test]
fn a_line_too_long_is_cut_and_can_still_end() {
    let mut r = Rig::new();
    r.type_(&[b'x'; 5000]);
    r.type_(b"\n");
    let line = r.read(9999);
    assert_eq!(line.len(), BUFFER);
    assert!(line.ends_with("x\n"));
}

#[test]
fn flow_control_stops_and_starts() {
    let mut r = Rig::new();
    r.type_(b"\x13");
    assert!(r.d.is_stopped());
    r.type_(b"\x11");
    assert!(!r.d.is_stopped());
    assert_eq!(r.events, [Event::Stop, Event::Start]);
}

#[test]
fn output_processing() {
    let mut r = Rig::new();
    let mut out = Vec::new();
    r.d.output(&r.t, b"a\nb\tc", usize::MAX, &mut out);
    assert_eq!(out, b"a\r\nb\tc");
    out.clear();
    r.t.set_o(flag::XTABS, true);
    assert_eq!(r.d.output(&r.t, b"\ta", 6, &mut out), 0, "a tab is never divided");
    r.d.output(&r.t, b"\ta", usize::MAX, &mut out);
    assert_eq!(out, b"       a", "column 9 needs seven spaces");
}

#[test]
fn room_ends_where_a_reader_must_come() {
    let mut r = Rig::new();
    r.t.make_raw();
    r.type_(&[b'x'; BUFFER - 1]);
    assert_eq!(r.d.room(&r.t), 0);
    r.read(100);
    assert_eq!(r.d.room(&r.t), 100);
    // A line that nobody can read yet may always end; one behind a whole line waits for the reader.
    let mut r = Rig::new();
    r.type_(&[b'x'; BUFFER + 5]);
    assert_eq!(r.d.room(&r.t), 1);
    let mut r = Rig::new();
    r.type_(b"line\n");
    r.type_(&[b'x'; BUFFER - 6]);
    assert_eq!(r.d.room(&r.t), 0);
}

#[test]
fn parmrk_doubles_and_external_processing_passes_everything() {
    let mut r = Rig::new();
    r.t.set_i(flag::PARMRK, true);
    r.type_(b"\xff\n");
    let mut b = [0; 9];
    assert_eq!(r.d.read(&r.t, &mut b), 3);
    assert_eq!(&b[..3], b"\xff\xff\n");
    let mut r = Rig::new();
    r.t.set_l(flag::EXTPROC, true);
    r.type_(b"a\x03\x7f");
    assert_eq!(r.read(9), "a\x03\x7f");
    assert_eq!(r.echoed(), "");
}

#[test]
fn entering_canonical_mode_makes_one_line_of_what_is_there() {
    let mut r = Rig::new();
    r.t.make_raw();
    r.type_(b"ab\ncd");
    let old = r.t.clone();
    r.t.set_l(flag::ICANON, true);
    r.d.settings_changed(&old, &r.t);
    assert_eq!(r.read(100), "ab\ncd");
}

#[test]
fn stopping_by_hand_outlasts_xon() {
    let mut r = Rig::new();
    r.d.set_held(true);
    r.type_(b"\x11");
    assert!(r.d.is_stopped() && r.events.is_empty());
    r.d.set_held(false);
    assert!(!r.d.is_stopped());
}

#[test]
fn reprint_and_printed_erase() {
    let mut r = Rig::new();
    r.type_(b"ab\x12");
    assert_eq!(r.echoed(), "ab^R\r\nab");
    let mut r = Rig::new();
    r.t.set_l(flag::ECHOPRT, true);
    r.type_(b"ab\x7f\x7fc");
    assert_eq!(r.echoed(), "ab\\ba/c");
}
