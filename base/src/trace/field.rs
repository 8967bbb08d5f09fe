//! Types of the fields of a trace event: how a value lies in a record, and how it is taken out again.
//!
//! Records have the layout of a C structure, as the event's `format` file describes it: each field at its natural
//! alignment, strings of any length behind the structure with a `__data_loc` word that says where (offset from the
//! record's start in the low half, length with the NUL in the high half).

use core::fmt;

use super::record::Record;

/// What kind of value a field holds: decides its declaration in `format` and which operators a filter may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A number (or pointer).
    Number,
    /// That many numbers.
    Array(usize),
    /// Characters up to a NUL, in that many bytes.
    Chars(usize),
    /// `__data_loc char[]`: a string of any length.
    Text,
}

/// A field as `format` and filters know it.
#[derive(Clone, Copy, Debug)]
pub struct FieldDef {
    pub name: &'static str,
    /// C's name of the type, of one element for arrays.
    pub c_type: &'static str,
    pub kind: Kind,
    pub size: usize,
    pub align: usize,
    pub signed: bool,
}

impl FieldDef {
    /// Describes a field of type `T`.
    pub const fn of<T: Field>(name: &'static str, c_type: &'static str) -> FieldDef {
        FieldDef { name, c_type, kind: T::KIND, size: T::SIZE, align: T::ALIGN, signed: T::SIGNED }
    }
}

/// Where `fields[n]` lies in a record; for `n` = the number of fields, where the structure ends.
pub const fn offset(fields: &[FieldDef], n: usize) -> usize {
    let mut at = super::record::COMMON;
    let mut i = 0;
    while i < fields.len() {
        at = at.next_multiple_of(fields[i].align);
        if i == n {
            return at;
        }
        at += fields[i].size;
        i += 1;
    }
    at
}

/// A type of field.
pub trait Field {
    /// What the trace point gives.
    type In<'a>: Copy;
    /// What the print format is given.
    type Out<'r>;
    const KIND: Kind;
    const SIZE: usize;
    const ALIGN: usize;
    const SIGNED: bool;
    /// Writes it at `at`.
    fn put(v: Self::In<'_>, at: usize, r: &mut Record);
    /// Reads it; zero or empty where the record is too short.
    fn get(bytes: &[u8], at: usize) -> Self::Out<'_>;
}

macro_rules! numbers {
    ($($t:ty, $signed:literal;)*) => {
        $(impl Field for $t {
            type In<'a> = $t;
            type Out<'r> = $t;
            const KIND: Kind = Kind::Number;
            const SIZE: usize = size_of::<$t>();
            const ALIGN: usize = align_of::<$t>();
            const SIGNED: bool = $signed;
            #[inline]
            fn put(v: $t, at: usize, r: &mut Record) {
                r.set(at, &v.to_ne_bytes());
            }
            fn get(bytes: &[u8], at: usize) -> $t {
                let b = bytes.get(at..at + Self::SIZE).and_then(|b| b.try_into().ok());
                b.map_or(0, <$t>::from_ne_bytes)
            }
        }
        impl<const N: usize> Field for [$t; N] {
            type In<'a> = [$t; N];
            type Out<'r> = [$t; N];
            const KIND: Kind = Kind::Array(N);
            const SIZE: usize = N * size_of::<$t>();
            const ALIGN: usize = align_of::<$t>();
            const SIGNED: bool = $signed;
            #[inline]
            fn put(v: [$t; N], at: usize, r: &mut Record) {
                for (i, v) in v.iter().enumerate() {
                    r.set(at + i * size_of::<$t>(), &v.to_ne_bytes());
                }
            }
            fn get(bytes: &[u8], at: usize) -> [$t; N] {
                core::array::from_fn(|i| <$t as Field>::get(bytes, at + i * size_of::<$t>()))
            }
        })*
    };
}
numbers! {
    u8, false; u16, false; u32, false; u64, false; usize, false;
    i8, true; i16, true; i32, true; i64, true; isize, true;
}

impl Field for bool {
    type In<'a> = bool;
    type Out<'r> = bool;
    const KIND: Kind = Kind::Number;
    const SIZE: usize = 1;
    const ALIGN: usize = 1;
    const SIGNED: bool = false;
    #[inline]
    fn put(v: bool, at: usize, r: &mut Record) {
        r.set(at, &[u8::from(v)]);
    }
    fn get(bytes: &[u8], at: usize) -> bool {
        bytes.get(at) == Some(&1)
    }
}

/// A task's name: `char comm[16]`.
pub struct Comm;

/// Bytes of [`Comm`], with its NUL.
pub const COMM_LEN: usize = 16;

impl Field for Comm {
    type In<'a> = [u8; COMM_LEN];
    type Out<'r> = Text<'r>;
    const KIND: Kind = Kind::Chars(COMM_LEN);
    const SIZE: usize = COMM_LEN;
    const ALIGN: usize = 1;
    const SIGNED: bool = false;
    #[inline]
    fn put(v: [u8; COMM_LEN], at: usize, r: &mut Record) {
        r.set(at, &v);
    }
    fn get(bytes: &[u8], at: usize) -> Text<'_> {
        Text(until_nul(bytes.get(at..at + COMM_LEN).unwrap_or_default()))
    }
}

/// A string of any length: `__data_loc char[]`. Cut to what fits into a record.
pub struct Str;

impl Field for Str {
    type In<'a> = &'a [u8];
    type Out<'r> = Text<'r>;
    const KIND: Kind = Kind::Text;
    const SIZE: usize = 4;
    const ALIGN: usize = 4;
    const SIGNED: bool = false;
    fn put(v: &[u8], at: usize, r: &mut Record) {
        let loc = r.append(v);
        r.set(at, &loc.to_ne_bytes());
    }
    fn get(bytes: &[u8], at: usize) -> Text<'_> {
        Text(text_at(bytes, at))
    }
}

/// The bytes that the `__data_loc` word at `at` points to, without the NUL.
pub(super) fn text_at(bytes: &[u8], at: usize) -> &[u8] {
    let loc = u32::get(bytes, at) as usize;
    let (from, len) = (loc & 0xffff, loc >> 16);
    until_nul(bytes.get(from..from + len).unwrap_or_default())
}

/// The part before the first NUL.
pub(super) fn until_nul(b: &[u8]) -> &[u8] {
    &b[..b.iter().position(|&c| c == 0).unwrap_or(b.len())]
}

/// An address. Printed as Linux's `%p` does: not the address but a number that stands for it, the same for the same
/// address while the machine is up.
pub struct Ptr;

impl Field for Ptr {
    type In<'a> = usize;
    type Out<'r> = Hashed;
    const KIND: Kind = Kind::Number;
    const SIZE: usize = 8;
    const ALIGN: usize = 8;
    const SIGNED: bool = false;
    #[inline]
    fn put(v: usize, at: usize, r: &mut Record) {
        r.set(at, &(v as u64).to_ne_bytes());
    }
    fn get(bytes: &[u8], at: usize) -> Hashed {
        Hashed(u64::get(bytes, at))
    }
}

/// Bytes that are printed as text, whatever they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Text<'r>(pub &'r [u8]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.utf8_chunks() {
            f.write_str(c.valid())?;
            if !c.invalid().is_empty() {
                f.write_str("?")?;
            }
        }
        Ok(())
    }
}

/// What stands for an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hashed(pub u64);

impl fmt::Display for Hashed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = if self.0 == 0 { 0 } else { u64::from(super::hash::pointer(self.0)) };
        write!(f, "{shown:016x}")
    }
}
