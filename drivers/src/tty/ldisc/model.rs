//! The discipline against a model that knows lines as lists: nothing is lost, nothing is invented, nothing changes places.

use alloc::{collections::VecDeque, vec, vec::Vec};

use proptest::prelude::*;

use super::*;

/// What a terminal in canonical mode is: what is still to be read of each line. An end-of-file character ends a line without
/// being part of it.
#[derive(Default)]
struct Model {
    lines: VecDeque<VecDeque<u8>>,
    current: Vec<u8>,
}

impl Model {
    fn receive(&mut self, c: u8) {
        match c {
            0x7f => drop(self.current.pop()),
            0x15 => self.current.clear(),
            b'\n' => {
                self.current.push(c);
                self.end();
            }
            0x04 => self.end(),
            _ => self.current.push(c),
        }
    }
    fn end(&mut self) {
        self.lines.push_back(core::mem::take(&mut self.current).into());
    }
    fn read(&mut self, n: usize) -> Option<Vec<u8>> {
        let line = self.lines.front_mut()?;
        let n = n.min(line.len());
        let got = line.drain(..n).collect();
        // With nothing left there is no end to be read later.
        if line.is_empty() {
            self.lines.pop_front();
        }
        Some(got)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Type(Vec<u8>),
    Read(usize),
}

fn steps(chars: &'static [u8]) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        prop::collection::vec(prop::sample::select(chars), 1..30).prop_map(Step::Type),
        (1usize..40).prop_map(Step::Read),
    ];
    prop::collection::vec(step, 1..60)
}

fn feed(d: &mut LineDiscipline, t: &Termios, c: u8) {
    d.receive(t, c, &mut Vec::new(), &mut |_| {});
}

proptest! {
    #[test]
    fn lines_are_what_the_model_says(steps in steps(b"abc\n\x7f\x15\x04 ")) {
        let (mut d, t, mut m) = (LineDiscipline::new(), Termios::default(), Model::default());
        for s in steps {
            match s {
                Step::Type(bytes) => for c in bytes {
                    feed(&mut d, &t, c);
                    m.receive(c);
                },
                Step::Read(n) => {
                    let mut b = vec![0; n];
                    let got = d.has_input(&t).then(|| { let k = d.read(&t, &mut b); b[..k].to_vec() });
                    prop_assert_eq!(got, m.read(n));
                }
            }
        }
    }

    /// A line of any kind, fed as far as there is room, with readers of any size: every byte comes out, in order.
    #[test]
    fn bytes_are_conserved(
        raw: bool, parmrk: bool, n in 1usize..20_000, line in 1usize..4000,
        moves in prop::collection::vec((1usize..6000, 1usize..6000), 1..20)
    ) {
        let mut t = Termios::default();
        if raw {
            t.make_raw();
        }
        t.set_i(flag::PARMRK, parmrk && !raw);
        let byte = |i: usize| if raw { (i % 251) as u8 } else if i % line == line - 1 { b'\n' } else { b'a' + (i % 23) as u8 };
        let (mut d, mut sent, mut seen) = (LineDiscipline::new(), 0, 0);
        let mut turn = 0;
        // The last line is complete, so that everything can be read.
        let n = if raw { n } else { n.div_ceil(line) * line };
        while seen < n {
            let (give, take) = moves[turn % moves.len()];
            turn += 1;
            for _ in 0..give {
                if sent == n || d.room(&t) == 0 {
                    break;
                }
                feed(&mut d, &t, byte(sent));
                sent += 1;
            }
            let mut b = vec![0; take];
            let k = if d.has_input(&t) { d.read(&t, &mut b) } else { 0 };
            for &c in &b[..k] {
                prop_assert_eq!(c, byte(seen));
                seen += 1;
            }
            prop_assert!(turn < 200_000, "no progress at {} of {}", seen, sent);
        }
        prop_assert_eq!(sent, n);
    }

    /// Output in pieces, whatever room there is, is the output of the whole.
    #[test]
    fn output_in_pieces_is_the_same(
        text in prop::collection::vec(prop::sample::select(&b"ab\t\n\r\x08"[..]), 0..200),
        rooms in prop::collection::vec(0usize..12, 1..20), tabs: bool
    ) {
        let mut t = Termios::default();
        t.set_o(flag::XTABS, tabs);
        let mut whole = Vec::new();
        LineDiscipline::new().output(&t, &text, usize::MAX, &mut whole);
        let (mut d, mut done, mut out, mut turn) = (LineDiscipline::new(), 0, Vec::new(), 0);
        while done < text.len() {
            let room = if turn % 3 == 2 { MAX_EXPANSION } else { rooms[turn % rooms.len()] };
            let before = out.len();
            done += d.output(&t, &text[done..], room, &mut out);
            prop_assert!(out.len() - before <= room);
            turn += 1;
        }
        prop_assert_eq!(out, whole);
    }
}
