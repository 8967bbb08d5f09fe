//! From the text of a filter to its steps. Messages and their places are Linux's.

use alloc::{boxed::Box, vec::Vec};

use super::{ACCEPT, Event, Filter, Op, Pred, REFUSE, Source, Step, Value, cut, find};

/// What is wrong with a filter, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Error {
    /// `None`: Linux has no words for it and shows `Error: (0)`.
    pub what: Option<&'static str>,
    /// Where the `^` stands.
    pub at: usize,
}

type Result<T> = core::result::Result<T, Error>;

const TOO_MANY_CLOSE: &str = "Too few '('";
const TOO_MANY_OPEN: &str = "Too many '('";
const MISSING_QUOTE: &str = "Missing matching quote";
const NO_FILTER: &str = "No filter found";
const MEANINGLESS: &str = "Meaningless filter expression";
const TOO_MANY_PREDS: &str = "Too many terms in predicate expression";
const NOT_FOUND: &str = "Field not found";
const INVALID_OP: &str = "Invalid operator";
const ILLEGAL_OP: &str = "Illegal operation for field type";
const INVALID_VALUE: &str = "Invalid value (did you forget quotes)?";
const ILLEGAL_INT: &str = "Illegal integer value";
const EXPECT_STRING: &str = "Expecting string field";
const EXPECT_NUMBER: &str = "Expecting numeric field";
pub(super) const NO_MEMORY: &str = "Couldn't allocate memory";

/// How deep parentheses and negations may nest: the compiler is recursive, its stack is a kernel's.
const MAX_DEPTH: u32 = 32;
/// The longest string to compare with, as on Linux.
const MAX_STRING: usize = 256;

enum Expr {
    Pred(Box<Pred>),
    Not(Box<Expr>),
    All(Vec<Expr>),
    Any(Vec<Expr>),
}

/// Compiles `text` for `event`.
pub fn compile(event: &Event, text: &str) -> Result<Filter> {
    let mut p = Parser { event, text: text.as_bytes(), at: 0, depth: 0, preds: 0 };
    let done = p.check_pairs().and_then(|()| p.any()).and_then(|e| p.end().map(|()| e));
    let expr = done.map_err(|e| Error { at: e.at.min(text.len()), ..e })?;
    let mut steps = Vec::new();
    steps.try_reserve_exact(p.preds).map_err(|_| Error { what: Some(NO_MEMORY), at: 0 })?;
    let entry = emit(&mut steps, expr, ACCEPT, REFUSE);
    Ok(Filter { steps, entry })
}

/// Appends the steps of an expression, last operand first, and says where it begins.
fn emit(steps: &mut Vec<Step>, e: Expr, if_true: u32, if_false: u32) -> u32 {
    match e {
        Expr::Pred(pred) => {
            steps.push(Step { pred: *pred, if_true, if_false });
            steps.len() as u32 - 1
        }
        Expr::Not(e) => emit(steps, *e, if_false, if_true),
        Expr::All(list) => list.into_iter().rev().fold(if_true, |next, e| emit(steps, e, next, if_false)),
        Expr::Any(list) => list.into_iter().rev().fold(if_false, |next, e| emit(steps, e, if_true, next)),
    }
}

struct Parser<'a> {
    event: &'a Event,
    text: &'a [u8],
    at: usize,
    depth: u32,
    preds: usize,
}

fn fail<T>(what: &'static str, at: usize) -> Result<T> {
    Err(Error { what: Some(what), at })
}

fn push<T>(list: &mut Vec<T>, v: T) -> Result<()> {
    list.try_reserve(1).map_err(|_| Error { what: Some(NO_MEMORY), at: 0 })?;
    list.push(v);
    Ok(())
}

fn boxed<T>(v: T) -> Result<Box<T>> {
    frame::heap::try_box(v).ok_or(Error { what: Some(NO_MEMORY), at: 0 })
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }
    fn skip_space(&mut self) {
        while self.peek().is_some_and(|c| c.is_ascii_whitespace()) {
            self.at += 1;
        }
    }
    fn eat(&mut self, what: &[u8]) -> bool {
        let found = self.text[self.at..].starts_with(what);
        if found {
            self.at += what.len();
        }
        found
    }

    /// Quotes and parentheses must pair, whatever stands between.
    fn check_pairs(&self) -> Result<()> {
        let mut quote: Option<(u8, usize)> = None;
        let mut open = Vec::new();
        for (i, &c) in self.text.iter().enumerate() {
            match (quote, c) {
                (Some((q, _)), _) if c == q => quote = None,
                (Some(_), _) => {}
                (None, b'\'' | b'"') => quote = Some((c, i)),
                (None, b'(') => push(&mut open, i)?,
                (None, b')') if open.pop().is_none() => return fail(TOO_MANY_CLOSE, i),
                _ => {}
            }
        }
        match (quote, open.last()) {
            (Some((_, i)), _) => fail(MISSING_QUOTE, i),
            (None, Some(&i)) => fail(TOO_MANY_OPEN, i),
            (None, None) => Ok(()),
        }
    }

    fn end(&mut self) -> Result<()> {
        self.skip_space();
        if self.at < self.text.len() { fail(TOO_MANY_PREDS, self.at) } else { Ok(()) }
    }

    fn any(&mut self) -> Result<Expr> {
        let first = self.all()?;
        let mut list = Vec::new();
        push(&mut list, first)?;
        loop {
            self.skip_space();
            if !self.eat(b"||") {
                return Ok(Expr::Any(list));
            }
            let e = self.all()?;
            push(&mut list, e)?;
        }
    }

    fn all(&mut self) -> Result<Expr> {
        let first = self.one()?;
        let mut list = Vec::new();
        push(&mut list, first)?;
        loop {
            self.skip_space();
            if !self.eat(b"&&") {
                return Ok(Expr::All(list));
            }
            let e = self.one()?;
            push(&mut list, e)?;
        }
    }

    fn one(&mut self) -> Result<Expr> {
        self.skip_space();
        if self.depth == MAX_DEPTH {
            return fail(MEANINGLESS, self.at);
        }
        self.depth += 1;
        let e = match self.peek() {
            Some(b'!') => {
                self.at += 1;
                let e = self.one()?;
                Expr::Not(boxed(e)?)
            }
            Some(b'(') => {
                self.at += 1;
                let e = self.any()?;
                self.skip_space();
                if !self.eat(b")") {
                    return fail(TOO_MANY_PREDS, self.at);
                }
                e
            }
            // A filter that ends where a term is missing.
            None if self.preds == 0 && self.text.is_empty() => return Err(Error { what: None, at: 0 }),
            None if self.preds == 0 => return fail(NO_FILTER, self.at),
            None => return fail(MEANINGLESS, self.at),
            Some(_) => Expr::Pred(boxed(self.pred()?)?),
        };
        self.depth -= 1;
        Ok(e)
    }

    /// A predicate. Linux counts the places of its faults from one.
    fn pred(&mut self) -> Result<Pred> {
        let from = self.at;
        let is_name = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
        while self.peek().is_some_and(is_name) {
            self.at += 1;
        }
        let name = core::str::from_utf8(&self.text[from..self.at]).unwrap_or_default();
        if name.is_empty() {
            return Err(Error { what: None, at: 0 });
        }
        let Some((source, is_text)) = find(self.event, name) else { return fail(NOT_FOUND, self.at + 1) };
        self.skip_space();
        let op = self.op()?;
        self.skip_space();
        let value = match self.peek() {
            Some(q @ (b'"' | b'\'')) => self.string(q, op, is_text)?,
            Some(b'-' | b'0'..=b'9') => self.number(op, is_text, source)?,
            _ => return fail(INVALID_VALUE, self.at + 1),
        };
        self.preds += 1;
        Ok(Pred { source, op, value })
    }

    fn op(&mut self) -> Result<Op> {
        const OPS: [(&[u8], Op); 8] = [
            (b"==", Op::Eq),
            (b"!=", Op::Ne),
            (b"<=", Op::Le),
            (b">=", Op::Ge),
            (b"<", Op::Lt),
            (b">", Op::Gt),
            (b"&", Op::And),
            (b"~", Op::Glob),
        ];
        for (s, op) in OPS {
            if self.eat(s) {
                return Ok(op);
            }
        }
        fail(INVALID_OP, self.at + 1)
    }

    fn string(&mut self, quote: u8, op: Op, is_text: bool) -> Result<Value> {
        let at = self.at + 1;
        if !matches!(op, Op::Eq | Op::Ne | Op::Glob) {
            return fail(ILLEGAL_OP, at);
        }
        if !is_text {
            return fail(EXPECT_NUMBER, at);
        }
        let rest = &self.text[at..];
        let Some(len) = rest.iter().position(|&c| c == quote) else { return fail(MISSING_QUOTE, self.at) };
        if len >= MAX_STRING {
            return fail("Operand too long", at);
        }
        let mut v = Vec::new();
        v.try_reserve_exact(len).map_err(|_| Error { what: Some(NO_MEMORY), at: 0 })?;
        v.extend_from_slice(&rest[..len]);
        self.at += len + 2;
        Ok(Value::Text(v))
    }

    fn number(&mut self, op: Op, is_text: bool, source: Source) -> Result<Value> {
        let from = self.at;
        if is_text {
            return fail(EXPECT_STRING, from + 1);
        }
        if op == Op::Glob {
            return fail(ILLEGAL_OP, from + 1);
        }
        self.at += 1;
        while self.peek().is_some_and(|c| c.is_ascii_alphanumeric()) {
            self.at += 1;
        }
        let text = core::str::from_utf8(&self.text[from..self.at]).unwrap_or_default();
        let (size, signed) = match source {
            Source::Number { size, signed, .. } => (size, signed),
            _ => (8, true),
        };
        match integer(text, signed) {
            Some(v) => Ok(Value::Number(cut(v, size, signed))),
            None => fail(ILLEGAL_INT, from + 1),
        }
    }
}

/// A number as C writes it: `0x`, octal after a zero. Negative ones for signed fields alone.
fn integer(s: &str, signed: bool) -> Option<i64> {
    let (negative, digits) = match s.strip_prefix('-') {
        Some(d) => (true, d),
        None => (false, s),
    };
    let v = if let Some(h) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        u64::from_str_radix(h, 16)
    } else if digits.len() > 1 && digits.starts_with('0') {
        u64::from_str_radix(digits, 8)
    } else {
        digits.parse()
    }
    .ok()?;
    match (signed, negative) {
        (true, true) if v <= 1 << 63 => Some((v as i64).wrapping_neg()),
        (true, false) if v < 1 << 63 => Some(v as i64),
        (false, false) => Some(v as i64),
        _ => None,
    }
}
