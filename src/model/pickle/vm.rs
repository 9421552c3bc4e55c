//! A pickle machine that can build tensors' descriptions and nothing else.
//!
//! Python's pickle is a program. This machine knows the instructions that `torch.save` writes (protocols 2 to 5) and a
//! list of the names such a program may call; each name means a description made here, so nothing of the file is ever
//! executed, imported or looked up. Whatever is not on the list ends the reading.
//!
//! Values live in one arena and refer to each other by number: a list that holds itself, or a million nested tuples, cost
//! no recursion here, neither when they are read nor when they are dropped.

use std::collections::BTreeMap;

/// Most values a pickle may build; a checkpoint of 700 tensors with its optimiser builds some 60,000.
const MAX_VALUES: usize = 4_000_000;
/// Most items that calls may copy together: a long list handed over again and again must not cost quadratic time.
const MAX_COPIED: usize = 4 * MAX_VALUES;
/// Longest name of a module or class.
const MAX_NAME: usize = 256;
/// Most axes of a tensor.
const MAX_RANK: usize = 16;

/// Number of a value in the arena.
pub type Id = u32;

/// The element type of a storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl Kind {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }
}

/// What a permitted name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Kind),
    /// A class whose objects stand beside the weights (arguments of the training run, a version, a metric). They are
    /// accepted as values without content.
    Opaque,
}

const GLOBALS: &[(&str, &[&str], Global)] = &[
    ("collections", &["OrderedDict"], Global::OrderedDict),
    (
        "torch._utils",
        &["_rebuild_tensor_v2", "_rebuild_tensor"],
        Global::RebuildTensor,
    ),
    ("torch._utils", &["_rebuild_parameter"], Global::RebuildParameter),
    ("torch", &["DoubleStorage"], Global::Storage(Kind::F64)),
    ("torch", &["FloatStorage"], Global::Storage(Kind::F32)),
    ("torch", &["HalfStorage"], Global::Storage(Kind::F16)),
    ("torch", &["BFloat16Storage"], Global::Storage(Kind::BF16)),
    ("torch", &["LongStorage"], Global::Storage(Kind::I64)),
    ("torch", &["IntStorage"], Global::Storage(Kind::I32)),
    ("torch", &["ShortStorage"], Global::Storage(Kind::I16)),
    ("torch", &["CharStorage"], Global::Storage(Kind::I8)),
    ("torch", &["ByteStorage"], Global::Storage(Kind::U8)),
    ("torch", &["BoolStorage"], Global::Storage(Kind::Bool)),
    (
        "torch",
        &[
            "Size", "device", "float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8",
            "bool",
        ],
        Global::Opaque,
    ),
    ("argparse", &["Namespace"], Global::Opaque),
    ("types", &["SimpleNamespace"], Global::Opaque),
    ("easydict", &["EasyDict"], Global::Opaque),
    ("yacs.config", &["CfgNode"], Global::Opaque),
    ("collections", &["defaultdict", "Counter"], Global::Opaque),
    ("pathlib", &["PosixPath", "PurePosixPath"], Global::Opaque),
    (
        "__builtin__",
        &[
            "set",
            "frozenset",
            "dict",
            "list",
            "int",
            "float",
            "bytearray",
            "complex",
            "slice",
        ],
        Global::Opaque,
    ),
    (
        "builtins",
        &[
            "set",
            "frozenset",
            "dict",
            "list",
            "int",
            "float",
            "bytearray",
            "complex",
            "slice",
        ],
        Global::Opaque,
    ),
    ("_codecs", &["encode"], Global::Opaque),
    ("numpy", &["dtype", "ndarray"], Global::Opaque),
    ("numpy.core.multiarray", &["scalar", "_reconstruct"], Global::Opaque),
    ("numpy._core.multiarray", &["scalar", "_reconstruct"], Global::Opaque),
];

/// Elements of one archive entry, as a persistent id describes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    pub kind: Kind,
    /// Name of the entry below `data/`.
    pub key: String,
    /// Number of elements.
    pub len: u64,
}

/// A strided view into a storage. Sizes and strides in elements; every element lies inside the storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Index into [`Pickle::storages`].
    pub storage: usize,
    pub offset: u64,
    pub size: Vec<usize>,
    pub stride: Vec<u64>,
}

/// A value of the pickle.
#[derive(Debug, Clone)]
pub enum Value {
    None,
    Bool,
    Int(i64),
    Str(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(usize),
    Tensor(View),
    /// Something whose content no reader of weights needs: a float, bytes, a set, an object of an opaque class.
    Opaque,
}

impl Value {
    fn what(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool => "a truth value",
            Self::Int(_) => "an integer",
            Self::Str(_) => "a string",
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dictionary",
            Self::Global(_) => "a class or function",
            Self::Storage(_) => "a storage",
            Self::Tensor(_) => "a tensor",
            Self::Opaque => "an object",
        }
    }
}

/// The result of a pickle.
#[derive(Debug)]
pub struct Pickle {
    values: Vec<Value>,
    root: Id,
    /// All storages that persistent ids named, whether a tensor uses them or not.
    pub storages: Vec<Storage>,
}

impl Pickle {
    pub fn root(&self) -> &Value {
        self.get(self.root)
    }

    pub fn get(&self, id: Id) -> &Value {
        &self.values[id as usize]
    }

    /// What a value is, in words.
    pub fn what(&self, id: Id) -> &'static str {
        self.get(id).what()
    }

    /// The value of a string key of a dictionary.
    pub fn lookup(&self, dict: &[(Id, Id)], key: &str) -> Option<&Value> {
        dict.iter()
            .find(|(k, _)| matches!(self.get(*k), Value::Str(s) if s == key))
            .map(|(_, v)| self.get(*v))
    }
}

/// Why a pickle is refused: where, and what is wrong. The caller knows the file.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    pub expected: String,
    pub found: String,
}

type Result<T> = std::result::Result<T, Refused>;

fn refuse<T>(expected: impl Into<String>, found: impl Into<String>) -> Result<T> {
    Err(Refused {
        expected: expected.into(),
        found: found.into(),
    })
}

/// Runs a pickle.
///
/// # Errors
/// [`Refused`] for an instruction, a name or an argument that `torch.save` does not write for tensors, and for a pickle that
/// is cut off or exceeds the limits.
pub fn run(bytes: &[u8]) -> Result<Pickle> {
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

struct Machine<'b> {
    bytes: &'b [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack at open marks.
    marks: Vec<usize>,
    memo: BTreeMap<u32, Id>,
    storages: Vec<Storage>,
    /// Storage key → index in `storages`.
    keys: BTreeMap<String, usize>,
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

    fn push(&mut self, v: Value) -> Result<()> {
        if self.values.len() >= MAX_VALUES {
            return refuse(format!("at most {MAX_VALUES} values"), "more");
        }
        self.values.push(v);
        self.stack.push((self.values.len() - 1) as Id);
        Ok(())
    }

    fn pop(&mut self) -> Result<Id> {
        // A mark guards what lies below it.
        if self.marks.last().is_some_and(|&m| m >= self.stack.len()) {
            return refuse("a value", "a mark");
        }
        self.stack.pop().map_or_else(|| refuse("a value", "an empty stack"), Ok)
    }

    fn top(&mut self) -> Result<Id> {
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

    fn get(&self, id: Id) -> &Value {
        &self.values[id as usize]
    }

    fn tuple(&self, id: Id, what: &str) -> Result<&[Id]> {
        match self.get(id) {
            Value::Tuple(t) => Ok(t),
            v => refuse(format!("a tuple ({what})"), v.what()),
        }
    }

    fn str(&self, id: Id, what: &str) -> Result<&str> {
        match self.get(id) {
            Value::Str(s) => Ok(s),
            v => refuse(format!("a string ({what})"), v.what()),
        }
    }

    /// A non-negative integer.
    fn natural(&self, id: Id, what: &str) -> Result<u64> {
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

    fn charge(&mut self, n: usize) -> Result<()> {
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

    fn global(&mut self, module: &str, name: &str) -> Result<()> {
        if module.len() > MAX_NAME || name.len() > MAX_NAME {
            return refuse(format!("names of at most {MAX_NAME} bytes"), "a longer one");
        }
        match GLOBALS.iter().find(|(m, n, _)| *m == module && n.contains(&name)) {
            Some((_, _, g)) => self.push(Value::Global(*g)),
            None => refuse(
                "only names that describe tensors",
                format!(
                    "{:?}, which medft does not know and will not call",
                    format!("{module}.{name}")
                ),
            ),
        }
    }

    /// REDUCE, NEWOBJ and NEWOBJ_EX: what a permitted name makes of its arguments.
    fn call(&mut self, op: u8) -> Result<()> {
        if op == 0x92 {
            self.pop()?;
        }
        let args = self.pop()?;
        let callee = self.pop()?;
        self.charge(self.tuple(args, "arguments")?.len())?;
        let args = self.tuple(args, "arguments")?.to_vec();
        match self.get(callee) {
            Value::Global(Global::Opaque) => self.push(Value::Opaque),
            Value::Global(Global::OrderedDict) => {
                let d = match args.as_slice() {
                    [] => Vec::new(),
                    [list] => {
                        if let Value::List(l) = self.get(*list) {
                            self.charge(l.len())?;
                        }
                        self.items(*list)?
                    }
                    _ => return refuse("an OrderedDict of one list", format!("{} arguments", args.len())),
                };
                self.push(Value::Dict(d))
            }
            Value::Global(Global::RebuildTensor) if op == b'R' => {
                let view = self.tensor(&args)?;
                self.push(Value::Tensor(view))
            }
            Value::Global(Global::RebuildParameter) if op == b'R' => match args.first().map(|&a| (a, self.get(a))) {
                Some((id, Value::Tensor(_))) => {
                    self.stack.push(id);
                    Ok(())
                }
                _ => refuse("a parameter made of a tensor", "something else"),
            },
            v => refuse("something that can be called", v.what()),
        }
    }

    /// The pairs of a list of pairs.
    fn items(&self, list: Id) -> Result<Vec<(Id, Id)>> {
        let Value::List(l) = self.get(list) else {
            return refuse("a list of pairs", self.get(list).what());
        };
        l.iter()
            .map(|&id| match self.get(id) {
                Value::Tuple(p) | Value::List(p) if p.len() == 2 => Ok((p[0], p[1])),
                v => refuse("a pair", v.what()),
            })
            .collect()
    }

    /// `(storage, offset, sizes, strides, …)`: the rest (gradient flag, hooks) says nothing about values.
    fn tensor(&self, args: &[Id]) -> Result<View> {
        let &[storage, offset, size, stride, ..] = args else {
            return refuse(
                "a tensor of storage, offset, sizes and strides",
                format!("{} values", args.len()),
            );
        };
        let Value::Storage(storage) = *self.get(storage) else {
            return refuse("a storage", self.get(storage).what());
        };
        let offset = self.natural(offset, "offset")?;
        let (size, stride) = (self.tuple(size, "sizes")?, self.tuple(stride, "strides")?);
        if size.len() != stride.len() || size.len() > MAX_RANK {
            return refuse(
                format!("a stride for each of at most {MAX_RANK} axes"),
                format!("{} sizes and {} strides", size.len(), stride.len()),
            );
        }
        let naturals =
            |ids: &[Id], what: &str| -> Result<Vec<u64>> { ids.iter().map(|&i| self.natural(i, what)).collect() };
        let (size, stride) = (naturals(size, "a size")?, naturals(stride, "a stride")?);
        let len = self.storages[storage].len;
        // A view may repeat elements (stride 0), but only a small one: a few bytes must not become gigabytes.
        let most = len.max(1 << 20);
        let count = size.iter().try_fold(1u64, |a, &s| a.checked_mul(s));
        let last = size
            .iter()
            .zip(&stride)
            .try_fold(offset, |a, (&s, &t)| a.checked_add(s.saturating_sub(1).checked_mul(t)?));
        match (count, last) {
            (Some(0), _) => {}
            (Some(n), Some(last)) if n <= most && last < len => {}
            _ => {
                return refuse(
                    format!("a view into a storage of {len} elements"),
                    format!("sizes {size:?}, strides {stride:?}, offset {offset}"),
                );
            }
        }
        Ok(View {
            storage,
            offset,
            size: size
                .iter()
                .map(|&s| usize::try_from(s).or_else(|_| refuse("a size", s.to_string())))
                .collect::<Result<_>>()?,
            stride,
        })
    }

    /// BUILD sets attributes: a dictionary keeps none here (`_metadata` of a state dict), an opaque object has none.
    fn build(&mut self) -> Result<()> {
        self.pop()?;
        let to = self.top()?;
        match self.get(to) {
            Value::Dict(_) | Value::Opaque => Ok(()),
            v => refuse("an object to set attributes of", v.what()),
        }
    }

    /// `('storage', class, key, location, elements)`.
    fn persistent(&mut self) -> Result<()> {
        let id = self.pop()?;
        let &[tag, class, key, _, len, ..] = self.tuple(id, "persistent id")? else {
            return refuse("a persistent id of five values", "fewer");
        };
        if self.str(tag, "persistent id")? != "storage" {
            return refuse("a storage", "another persistent id");
        }
        let Value::Global(Global::Storage(kind)) = *self.get(class) else {
            return refuse("a storage class", self.get(class).what());
        };
        let storage = Storage {
            kind,
            key: self.str(key, "key of a storage")?.to_owned(),
            len: self.natural(len, "number of elements")?,
        };
        let index = match self.keys.get(&storage.key) {
            Some(&i) if self.storages[i] == storage => i,
            Some(_) => {
                return refuse(
                    format!("storage {} described once", storage.key),
                    "two different descriptions",
                );
            }
            None => {
                self.keys.insert(storage.key.clone(), self.storages.len());
                self.storages.push(storage);
                self.storages.len() - 1
            }
        };
        self.push(Value::Storage(index))
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
