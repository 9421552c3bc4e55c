"""Writes the checkpoints of this folder with PyTorch, and what is in them to expected.json.

python make.py    (torch and numpy; nothing else)
"""

import argparse
import json
import os
import sys
import types

import numpy as np
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
expected = {}


def note(file, tensors):
    """Remembers shapes and values (as float32, which holds all of them) of the tensors a file must give."""
    expected[file] = {
        n: {"shape": list(t.shape), "values": t.detach().to(torch.float32).flatten().tolist()} for n, t in tensors.items()
    }


def save(file, obj, tensors, **how):
    torch.save(obj, os.path.join(HERE, file), **how)
    if tensors is not None:
        note(file, tensors)


def module(name, **content):
    """A module of the given name, for classes of packages that need not be installed."""
    m = types.ModuleType(name)
    for k, v in content.items():
        if isinstance(v, type):
            v.__module__ = name
            v.__qualname__ = v.__name__
        setattr(m, k, v)
    sys.modules[name] = m
    return m


torch.manual_seed(1)
net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4), torch.nn.Conv2d(2, 3, 2))
state = net.state_dict()

# A state dict as it comes (an OrderedDict with the attribute `_metadata`).
save("plain.pth", state, state)
save("plain.bin", state, state, pickle_protocol=4)
save("protocol5.pt", state, state, pickle_protocol=5)

# A training checkpoint: the weights under `model`, and beside them what MAE's and VMamba's scripts keep.
optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
loss = sum(p.square().sum() for p in net.parameters())
loss.backward()
optimizer.step()
EasyDict = type("EasyDict", (dict,), {})
CfgNode = type("CfgNode", (dict,), {"__init__": lambda self, *a: dict.__init__(self, *a)})
module("easydict", EasyDict=EasyDict)
module("yacs")
module("yacs.config", CfgNode=CfgNode)
easy = EasyDict(lr=1e-4, nested=EasyDict(a=[1, 2]))
easy.extra = 5
cfg = CfgNode({"MODEL": CfgNode({"NAME": "x"})})
cfg.__dict__["frozen"] = True
save(
    "nested.pth",
    {
        "model": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "big": 2**80,
        "negative": -7,
        "scaler": {"scale": 65536.0, "flag": True, "none": None},
        "args": argparse.Namespace(lr=1e-4, name="x", devices=[0, 1], pair=(1, 2), flags={"a", "b"}, raw=b"\x00\xff"),
        "easy": easy,
        "config": cfg,
        "best": np.float64(0.5),
        "array": np.arange(3),
        "size": torch.Size([1, 2]),
        "dtype": torch.float32,
        "device": torch.device("cpu"),
    },
    net.state_dict(),
)
save("state_dict.pth", {"state_dict": state, "step": 1}, state)

# Element types. Integers are listed but cannot be asked for.
base = torch.tensor([0.0, -1.5, 3.25, 1024.0, -0.0078125, 65280.0])
floats = {"f32": base, "f64": base.double(), "f16": base.half(), "bf16": base.bfloat16()}
integers = {str(t)[6:]: torch.arange(4).to(t) for t in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)}
integers["bool"] = torch.tensor([True, False])
save("types.pth", {**floats, **integers}, floats)

# Views: strides, offsets, shared storages, repeated elements, no axes, no elements, parameters.
grid = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
views = {
    "whole": grid,
    "transposed": grid.transpose(0, 2),
    "sliced": grid[1, 1:, ::2],
    "row": grid[1, 2],
    "expanded": torch.tensor([[2.0], [3.0]]).expand(2, 3),
    "scalar": torch.tensor(7.0),
    "element": grid[1, 0, 3],
    "empty": torch.zeros(0, 3),
    "empty_slice": grid[:, 3:],
    "parameter": torch.nn.Parameter(grid[0].t()),
    "channels_last": torch.arange(16, dtype=torch.float32).reshape(1, 2, 2, 4).to(memory_format=torch.channels_last),
}
save("views.pth", views, views)

# Refused: the old format, a program, a pickle that calls something, a key that is not a name.
save("legacy.pth", state, None, _use_new_zipfile_serialization=False)
torch.jit.save(torch.jit.script(torch.nn.Linear(2, 1)), os.path.join(HERE, "script.pt"))


class Evil:
    def __reduce__(self):
        return os.system, ("echo a checkpoint ran a command",)


save("evil.pth", {"model": {"w": torch.zeros(2)}, "hook": Evil()}, None)

with open(os.path.join(HERE, "expected.json"), "w") as f:
    json.dump({"torch": torch.__version__, "files": expected}, f, indent=0)
