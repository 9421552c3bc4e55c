//! The instructions that name, call and describe: where a pickle would run code, and here only makes descriptions.

use super::value::{GLOBALS, Global, Id, Result, Storage, Value, View, refuse};
use super::vm::{MAX_NAME, Machine};

/// Most axes of a tensor.
const MAX_RANK: usize = 16;

impl Machine<'_> {
    pub(super) fn global(&mut self, module: &str, name: &str) -> Result<()> {
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
    pub(super) fn call(&mut self, op: u8) -> Result<()> {
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
    pub(super) fn build(&mut self) -> Result<()> {
        self.pop()?;
        let to = self.top()?;
        match self.get(to) {
            Value::Dict(_) | Value::Opaque => Ok(()),
            v => refuse("an object to set attributes of", v.what()),
        }
    }

    /// `('storage', class, key, location, elements)`.
    pub(super) fn persistent(&mut self) -> Result<()> {
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
