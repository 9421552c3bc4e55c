//! A pickle machine that can build tensors' descriptions and nothing else.
//!
//! Python's pickle is a program. This machine knows the instructions that `torch.save` writes (protocols 2 to 5) and a
//! list of the names such a program may call; each name means a description made here, so nothing of the file is ever
//! executed, imported or looked up. Whatever is not on the list ends the reading.
//!
//! Values live in one arena and refer to each other by number: a list that holds itself, or a million nested tuples, cost
//! no recursion here, neither when they are read nor when they are dropped.

use super::value::{Id, Pickle, Refused, Result, Storage, Value, refuse};
use std::collections::BTreeMap;

/// Most values a pickle may build; a checkpoint of 700 tensors with its optimiser builds some 60,000.
const MAX_VALUES: usize = 4_000_000;
/// Most items that calls may copy together: a long list handed over again and again must not cost quadratic time.
const MAX_COPIED: usize = 4 * MAX_VALUES;
/// Longest name of a module or class.
pub(super) const MAX_NAME: usize = 256;

/// Runs a pickle.
///
/// # Errors
/// [`Refused`] for an instruction, a name or an argument that `torch.save` does not write for tensors, and for a pickle that
/// is cut off or exceeds the limits.
pub(crate) fn run(bytes: &[u8]) -> Result<Pickle> {
    let mut m = Machine {
        bytes,
        at: 0,
        values: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: BTreeMap::new(),
        storages: Vec::new(),
        keys: BTreeMap::new(),
        copied: 0,
    };
    loop {
        let start = m.at;
        let op = m.byte()?;
        if op == b'.' {
            let root = m.pop()?;
            return Ok(Pickle {
                values: m.values,
                root,
                storages: m.storages,
            });
        }
        m.step(op).map_err(|e| Refused {
            found: format!("{} (byte {start} of the pickle)", e.found),
            ..e
        })?;
    }
}

pub(super) struct Machine<'b> {
    bytes: &'b [u8],
    at: usize,
    values: Vec<Value>,
    pub(super) stack: Vec<Id>,
    /// Heights of the stack at open marks.
    marks: Vec<usize>,
    memo: BTreeMap<u32, Id>,
    pub(super) storages: Vec<Storage>,
    /// Storage key → index in `storages`.
    pub(super) keys: BTreeMap<String, usize>,
    copied: usize,
}

impl<'b> Machine<'b> {
    fn take(&mut self, n: u64) -> Result<&'b [u8]> {
        let left = &self.bytes[self.at..];
        match usize::try_from(n).ok().and_then(|n| left.get(..n)) {
            Some(s) => {
                self.at += s.len();
                Ok(s)
            }
            None => refuse(
                "a complete pickle",
                format!("{n} bytes asked for where {} are left", left.len()),
            ),
        }
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut a = [0; N];
        a.copy_from_slice(self.take(N as u64)?);
        Ok(a)
    }

    fn line(&mut self) -> Result<&'b str> {
        let left = &self.bytes[self.at..];
        let Some(n) = left.iter().take(MAX_NAME + 1).position(|&b| b == b'\n') else {
            return refuse(format!("a name of at most {MAX_NAME} bytes"), "no end of it");
        };
        self.at += n + 1;
        text(&left[..n])
    }

    pub(super) fn push(&mut self, v: Value) -> Result<()> {
        if self.values.len() >= MAX_VALUES {
            return refuse(format!("at most {MAX_VALUES} values"), "more");
        }
        self.values.push(v);
        self.stack.push((self.values.len() - 1) as Id);
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Result<Id> {
        // A mark guards what lies below it.
        if self.marks.last().is_some_and(|&m| m >= self.stack.len()) {
            return refuse("a value", "a mark");
        }
        self.stack.pop().map_or_else(|| refuse("a value", "an empty stack"), Ok)
    }

    pub(super) fn top(&mut self) -> Result<Id> {
        let id = self.pop()?;
        self.stack.push(id);
        Ok(id)
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>> {
        match self.marks.pop() {
            Some(m) => Ok(self.stack.split_off(m.min(self.stack.len()))),
            None => refuse("a mark", "none"),
        }
    }

    pub(super) fn get(&self, id: Id) -> &Value {
        &self.values[id as usize]
    }

    pub(super) fn tuple(&self, id: Id, what: &str) -> Result<&[Id]> {
        match self.get(id) {
            Value::Tuple(t) => Ok(t),
            v => refuse(format!("a tuple ({what})"), v.what()),
        }
    }

    pub(super) fn str(&self, id: Id, what: &str) -> Result<&str> {
        match self.get(id) {
            Value::Str(s) => Ok(s),
            v => refuse(format!("a string ({what})"), v.what()),
        }
    }

    /// A non-negative integer.
    pub(super) fn natural(&self, id: Id, what: &str) -> Result<u64> {
        match self.get(id) {
            Value::Int(i) => u64::try_from(*i).or_else(|_| refuse(format!("{what} of at least 0"), i.to_string())),
            v => refuse(format!("an integer ({what})"), v.what()),
        }
    }

    fn step(&mut self, op: u8) -> Result<()> {
        match op {
            0x80 => match self.byte()? {
                2..=5 => Ok(()),
                p => refuse("pickle protocol 2 to 5", p.to_string()),
            },
            // A frame only announces how much follows.
            0x95 => {
                let n = u64::from_le_bytes(self.array()?);
                let at = self.at;
                self.take(n)?;
                self.at = at;
                Ok(())
            }
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => match self.marks.last() {
                Some(&m) if m == self.stack.len() => {
                    self.marks.pop();
                    Ok(())
                }
                _ => self.pop().map(drop),
            },
            b'1' => self.pop_mark().map(drop),
            b'2' => {
                let id = self.top()?;
                self.stack.push(id);
                Ok(())
            }
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.memo_op(op),
            b'N' => self.push(Value::None),
            0x88 | 0x89 => self.push(Value::Bool),
            b'J' | b'K' | b'M' | 0x8a | 0x8b | b'G' => self.number(op),
            b'X' | 0x8c | 0x8d => self.string(op),
            b'B' | b'C' | 0x8e | 0x96 => self.bytes_op(op),
            b')' | b't' | 0x85..=0x87 | b']' | b'l' | b'}' | b'd' | 0x8f | 0x91 => self.container(op),
            b'a' | b'e' | b's' | b'u' | 0x90 => self.fill(op),
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (module, name) = (
                    self.str(module, "module")?.to_owned(),
                    self.str(name, "name")?.to_owned(),
                );
                self.global(&module, &name)
            }
            b'R' | 0x81 | 0x92 => self.call(op),
            b'b' => self.build(),
            b'Q' => self.persistent(),
            _ => refuse("an instruction that torch.save writes", format!("0x{op:02x}")),
        }
    }

    pub(super) fn charge(&mut self, n: usize) -> Result<()> {
        self.copied += n;
        if self.copied > MAX_COPIED {
            return refuse(format!("at most {MAX_COPIED} items in calls"), "more");
        }
        Ok(())
    }

    fn memo_op(&mut self, op: u8) -> Result<()> {
        let key = match op {
            b'q' | b'h' => u32::from(self.byte()?),
            0x94 => self.memo.len() as u32,
            _ => u32::from_le_bytes(self.array()?),
        };
        if matches!(op, b'h' | b'j') {
            let Some(&id) = self.memo.get(&key) else {
                return refuse("a value stored before", format!("memo {key}, which is empty"));
            };
            self.stack.push(id);
        } else {
            let id = self.top()?;
            self.memo.insert(key, id);
        }
        Ok(())
    }

    fn number(&mut self, op: u8) -> Result<()> {
        let v = match op {
            b'J' => i64::from(i32::from_le_bytes(self.array()?)),
            b'K' => i64::from(self.byte()?),
            b'M' => i64::from(u16::from_le_bytes(self.array()?)),
            b'G' => {
                self.take(8)?;
                return self.push(Value::Opaque);
            }
            _ => {
                let n = match op {
                    0x8a => u64::from(self.byte()?),
                    _ => u64::from(u32::from_le_bytes(self.array()?)),
                };
                let b = self.take(n)?;
                if b.len() > 8 {
                    return self.push(Value::Opaque);
                }
                // Little-endian two's complement of any length; the empty one is 0.
                let fill = if b.last().is_some_and(|&x| x & 0x80 != 0) {
                    0xff
                } else {
                    0
                };
                let mut a = [fill; 8];
                a[..b.len()].copy_from_slice(b);
                i64::from_le_bytes(a)
            }
        };
        self.push(Value::Int(v))
    }

    fn string(&mut self, op: u8) -> Result<()> {
        let n = match op {
            b'X' => u64::from(u32::from_le_bytes(self.array()?)),
            0x8c => u64::from(self.byte()?),
            _ => u64::from_le_bytes(self.array()?),
        };
        let s = text(self.take(n)?)?.to_owned();
        self.push(Value::Str(s))
    }

    fn bytes_op(&mut self, op: u8) -> Result<()> {
        let n = match op {
            b'B' => u64::from(u32::from_le_bytes(self.array()?)),
            b'C' => u64::from(self.byte()?),
            _ => u64::from_le_bytes(self.array()?),
        };
        self.take(n)?;
        self.push(Value::Opaque)
    }

    fn container(&mut self, op: u8) -> Result<()> {
        let v = match op {
            b')' => Value::Tuple(Vec::new()),
            b't' => Value::Tuple(self.pop_mark()?),
            0x85..=0x87 => {
                let mut t = Vec::new();
                for _ in 0..=op - 0x85 {
                    t.push(self.pop()?);
                }
                t.reverse();
                Value::Tuple(t)
            }
            b']' => Value::List(Vec::new()),
            b'l' => Value::List(self.pop_mark()?),
            b'}' => Value::Dict(Vec::new()),
            b'd' => Value::Dict(pairs(&self.pop_mark()?)?),
            0x8f => Value::Opaque,
            _ => {
                self.pop_mark()?;
                Value::Opaque
            }
        };
        self.push(v)
    }

    /// Puts items into the list or dictionary below them.
    fn fill(&mut self, op: u8) -> Result<()> {
        let items = match op {
            b'a' => vec![self.pop()?],
            b's' => {
                let v = self.pop()?;
                vec![self.pop()?, v]
            }
            _ => self.pop_mark()?,
        };
        let into = self.top()?;
        match (&mut self.values[into as usize], op) {
            (Value::Opaque, _) => Ok(()),
            (Value::List(l), b'a' | b'e') => {
                l.extend(items);
                Ok(())
            }
            (Value::Dict(d), b's' | b'u') => {
                d.extend(pairs(&items)?);
                Ok(())
            }
            (v, _) => refuse("a list or a dictionary to fill", v.what()),
        }
    }
}

fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>> {
    if !items.len().is_multiple_of(2) {
        return refuse("keys and values", "an odd number of them");
    }
    Ok(items.chunks_exact(2).map(|p| (p[0], p[1])).collect())
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).or_else(|_| refuse("text in UTF-8", "other bytes"))
}
