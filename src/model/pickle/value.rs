//! What a checkpoint's pickle may speak of: permitted names, storages, views, and the values they are kept as.

/// Number of a value in the arena.
pub(crate) type Id = u32;

/// The element type of a storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElementType {
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

impl ElementType {
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
pub(crate) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(ElementType),
    /// A class whose objects stand beside the weights (arguments of the training run, a version, a metric). They are
    /// accepted as values without content.
    Opaque,
}

pub(super) const GLOBALS: &[(&str, &[&str], Global)] = &[
    ("collections", &["OrderedDict"], Global::OrderedDict),
    (
        "torch._utils",
        &["_rebuild_tensor_v2", "_rebuild_tensor"],
        Global::RebuildTensor,
    ),
    ("torch._utils", &["_rebuild_parameter"], Global::RebuildParameter),
    ("torch", &["DoubleStorage"], Global::Storage(ElementType::F64)),
    ("torch", &["FloatStorage"], Global::Storage(ElementType::F32)),
    ("torch", &["HalfStorage"], Global::Storage(ElementType::F16)),
    ("torch", &["BFloat16Storage"], Global::Storage(ElementType::BF16)),
    ("torch", &["LongStorage"], Global::Storage(ElementType::I64)),
    ("torch", &["IntStorage"], Global::Storage(ElementType::I32)),
    ("torch", &["ShortStorage"], Global::Storage(ElementType::I16)),
    ("torch", &["CharStorage"], Global::Storage(ElementType::I8)),
    ("torch", &["ByteStorage"], Global::Storage(ElementType::U8)),
    ("torch", &["BoolStorage"], Global::Storage(ElementType::Bool)),
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
pub(crate) struct Storage {
    pub kind: ElementType,
    /// Name of the entry below `data/`.
    pub key: String,
    /// Number of elements.
    pub len: u64,
}

/// A strided view into a storage. Sizes and strides in elements; every element lies inside the storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    /// Index into [`Pickle::storages`].
    pub storage: usize,
    pub offset: u64,
    pub size: Vec<usize>,
    pub stride: Vec<u64>,
}

/// A value of the pickle.
#[derive(Debug, Clone)]
pub(crate) enum Value {
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
    pub(super) fn what(&self) -> &'static str {
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
pub(crate) struct Pickle {
    pub(super) values: Vec<Value>,
    pub(super) root: Id,
    /// All storages that persistent ids named, whether a tensor uses them or not.
    pub storages: Vec<Storage>,
}

impl Pickle {
    pub(crate) fn root(&self) -> &Value {
        self.get(self.root)
    }

    pub(crate) fn get(&self, id: Id) -> &Value {
        &self.values[id as usize]
    }

    /// What a value is, in words.
    pub(crate) fn what(&self, id: Id) -> &'static str {
        self.get(id).what()
    }

    /// The value of a string key of a dictionary.
    pub(crate) fn lookup(&self, dict: &[(Id, Id)], key: &str) -> Option<&Value> {
        dict.iter()
            .find(|(k, _)| matches!(self.get(*k), Value::Str(s) if s == key))
            .map(|(_, v)| self.get(*v))
    }
}

/// Why a pickle is refused: where, and what is wrong. The caller knows the file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub expected: String,
    pub found: String,
}

pub(super) type Result<T> = std::result::Result<T, Refused>;

pub(super) fn refuse<T>(expected: impl Into<String>, found: impl Into<String>) -> Result<T> {
    Err(Refused {
        expected: expected.into(),
        found: found.into(),
    })
}
