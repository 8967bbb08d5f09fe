//! The host program: sets the machine up, builds the image, packs an initramfs, boots QEMU.
//!
//! `cargo run` without arguments is the whole of it for a new user: what is missing gets installed (or the command is
//! printed), the kernel is built and booted, and its shell is on this terminal.
#![forbid(unsafe_code)]

pub mod cli;
pub mod guest;
pub mod image;
pub mod initramfs;
pub mod ksyms;
pub mod lab;
pub mod setup;
pub mod top;
pub mod trace;
