//! Pipes between tasks, under many schedules.

#[path = "../../frame/tests/common/mod.rs"]
mod common;

use std::sync::Arc;

use base::cred::Cred;
use frame::{boot::power_off, sim, task::Task};
use fs::pipe;
use vfs::*;

const LINES: u8 = 20;

/// A writer sends more than fits; the reader must get all of it in order, and then the end.
fn transfer() {
    common::boot(|| {
        let cred = Arc::new(Cred::root());
        pipe::init().unwrap();
        let (r, w) = pipe::create(OpenFlags::empty(), &cred).unwrap();
        pipe::set_size(&w, 4096, &cred).unwrap();
        let writer = Task::new(
            Box::new(move || {
                for i in 0..LINES {
                    assert_eq!(w.write(&mut IoSrc::kernel(&[i; 1000])), Ok(1000));
                }
                drop(w);
            }),
            false,
        )
        .unwrap();
        writer.start();
        let mut got = Vec::new();
        loop {
            let mut b = [0; 700];
            match r.read(&mut IoDst::kernel(&mut b)).unwrap() {
                0 => break,
                n => got.extend_from_slice(&b[..n]),
            }
        }
        let want: Vec<u8> = (0..LINES).flat_map(|i| [i; 1000]).collect();
        assert!(got == want, "{} bytes", got.len());
        power_off()
    })
}

#[test]
fn all_bytes_arrive_in_order() {
    sim::campaign("pipe", 200, |_| transfer());
}
