//! What this kernel calls itself.

/// `uname -r`: the interface that this kernel offers is Linux 6.12's.
pub const RELEASE: &str = "6.12.0-nightshift";
/// `uname -v`.
pub const VERSION: &str = "#1 SMP PREEMPT Nightshift";

/// The build's number, the first word of [`VERSION`], as reports show it.
pub fn build() -> &'static str {
    VERSION.split(' ').next().unwrap_or(VERSION)
}
