//! Boot parameters: the kernel command line, split as Linux splits it.
//!
//! Words are separated by spaces; double quotes keep spaces together. After `--` everything belongs to init. In names
//! `-` and `_` are the same. Source: kernel-parameters documentation.

use alloc::{string::String, vec::Vec};

use frame::sync::once::Once;

/// The command line, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Params {
    pairs: Vec<(String, Option<String>)>,
    /// Arguments after `--`.
    pub init_args: Vec<String>,
}

impl Params {
    /// Splits a command line. Any text is accepted: an unclosed quote ends at the end of the line.
    pub fn parse(line: &str) -> Params {
        let mut p = Params::default();
        let mut after_dashes = false;
        for word in words(line) {
            if after_dashes {
                p.init_args.push(word);
            } else if word == "--" {
                after_dashes = true;
            } else if let Some((k, v)) = word.split_once('=') {
                p.pairs.push((k.into(), Some(v.into())));
            } else {
                p.pairs.push((word, None));
            }
        }
        p
    }
    /// The value of the last `name=value`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().rev().find(|(k, v)| same(k, name) && v.is_some()).and_then(|(_, v)| v.as_deref())
    }
    /// True if the bare word (or `name=value`) was given.
    pub fn flag(&self, name: &str) -> bool {
        self.pairs.iter().any(|(k, _)| same(k, name))
    }
    /// All in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.pairs.iter().map(|(k, v)| (k.as_str(), v.as_deref()))
    }
}

fn same(a: &str, b: &str) -> bool {
    a.len() == b.len()
        && a.bytes()
            .zip(b.bytes())
            .all(|(x, y)| x == y || (x == b'-' || x == b'_') && (y == b'-' || y == b'_'))
}

fn words(line: &str) -> Vec<String> {
    let (mut out, mut word, mut quoted, mut any) = (Vec::new(), String::new(), false, false);
    for c in line.chars() {
        match c {
            '"' => (quoted, any) = (!quoted, true),
            c if c.is_ascii_whitespace() && !quoted => {
                if any {
                    out.push(core::mem::take(&mut word));
                    any = false;
                }
            }
            c => {
                word.push(c);
                any = true;
            }
        }
    }
    if any {
        out.push(word);
    }
    out
}

static PARAMS: Once<Params> = Once::new();

fn all() -> &'static Params {
    PARAMS.call_once(|| Params::parse(&frame::boot::info().command_line))
}
/// The value of the last `name=value` of the boot command line.
pub fn get(name: &str) -> Option<&'static str> {
    all().get(name)
}
/// True if the word was on the boot command line.
pub fn flag(name: &str) -> bool {
    all().flag(name)
}
/// The whole, taken apart.
pub fn params() -> &'static Params {
    all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_like_linux() {
        let p = Params::parse(r#"quiet console=ttyS0 a-b=1 x="two words" console=tty0 -- one "two 2""#);
        assert!(p.flag("quiet") && !p.flag("noisy"));
        assert_eq!(p.get("console"), Some("tty0"));
        assert_eq!(p.get("a_b"), Some("1"));
        assert_eq!(p.get("x"), Some("two words"));
        assert_eq!(p.init_args, ["one", "two 2"]);
    }

    #[test]
    fn odd_lines_do_no_harm() {
        for l in ["", "   ", "=", "\"", "a=\"b c", "--", "-- --"] {
            Params::parse(l);
        }
        assert_eq!(Params::parse("a=\"b c").get("a"), Some("b c"));
    }
}
