"""Outputs and gradients of timm's plain ViT on tiny, seeded random configurations, and the sizes of the published ones.

python make.py    (torch, timm, safetensors)
"""

import json
import os

import timm
import torch
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

HERE = os.path.dirname(os.path.abspath(__file__))
VERSIONS = {"torch": torch.__version__, "timm": timm.__version__}
# Of each registered builder a small model; everything else (norms, biases, pooling) is the builder's own.
SHAPE = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}
PUBLISHED = ["vit_base_patch16_224", "vit_base_patch16_224.dino", "vit_base_patch16_clip_224"]


def case(builder, seed, file):
    torch.manual_seed(seed)
    model = timm.create_model(builder, num_classes=0, **SHAPE).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            # Norms near 1, everything else wide enough that no branch is lost in rounding.
            near = 1.0 if name.endswith("weight") and "norm" in name else 0.0
            p.copy_(near + 0.2 * torch.randn_like(p))
    x = torch.randn(2, 3, 32, 32, requires_grad=True)
    out = {}
    patches = model.patch_embed(x)
    out["patch_embed"] = patches
    h = model._pos_embed(patches)
    out["embed"] = h
    h = model.norm_pre(h)
    if not isinstance(model.norm_pre, torch.nn.Identity):
        out["norm_pre"] = h
    for i, block in enumerate(model.blocks):
        h = block(h)
        out[f"block.{i}"] = h
    h = model.norm(h)
    out["norm"] = h
    whole = model.forward_features(x)
    assert torch.equal(whole, h)
    out["feature"] = model.forward_head(h, pre_logits=True)
    out["tokens"] = h[:, 1:]
    save = {"input": x.detach()}
    save |= {f"out.{n}": t.detach().contiguous() for n, t in out.items()}
    for loss, grad, name in [("loss", "grad", "feature"), ("tloss", "tgrad", "tokens")]:
        w = torch.randn_like(out[name])
        value = (out[name] * w).sum()
        names, params = zip(*model.named_parameters())
        grads = torch.autograd.grad(value, (x, *params), retain_graph=True)
        save[f"{loss}.weight"] = w
        save[f"{loss}.value"] = value.detach().reshape(())
        save[f"{grad}.input"] = grads[0]
        save |= {f"{grad}.param.{n}": g for n, g in zip(names, grads[1:])}
    save_file({n: t.contiguous() for n, t in save.items()}, os.path.join(HERE, f"{file}.io.safetensors"))
    save_file({n: t.detach().contiguous() for n, t in model.state_dict().items()}, os.path.join(HERE, f"{file}.weights.safetensors"))
    block = model.blocks[0]
    return {
        "file": file,
        "timm": builder,
        "seed": seed,
        "config": {
            "embed_dim": model.embed_dim,
            "depth": len(model.blocks),
            "num_heads": block.attn.num_heads,
            "mlp_ratio": block.mlp.fc1.out_features // model.embed_dim,
            "patch": SHAPE["patch_size"],
            "img": SHAPE["img_size"],
            "layer_norm_eps": block.norm1.eps,
            "pre_norm": not isinstance(model.norm_pre, torch.nn.Identity),
        },
    }


def size(name):
    # A tag of this builder's default: what the bare name stands for.
    cfg = timm.models.get_pretrained_cfg(name)
    model = timm.create_model(name, num_classes=0).eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        feature = model(torch.zeros(1, 3, 224, 224))
    tokens = model.forward_features(torch.zeros(1, 3, 224, 224))[:, 1:]
    return {
        "tag": cfg.tag,
        "mean": list(cfg.mean),
        "std": list(cfg.std),
        "total_params": sum(p.numel() for p in model.parameters()),
        "total_params_without_classifier_head": sum(p.numel() for p in model.parameters()),
        "gmacs_224": round(counter.get_total_flops() / 2e9, 3),
        "feature_dim": feature.shape[1],
        "tokens_224": tokens.shape[1],
        "tokens_shape": list(tokens.shape),
        "layer_decay_groups": groups(model),
    }


def groups(model):
    """The layer of every parameter, as timm's layer decay numbers them."""
    from timm.models import group_parameters

    layers = group_parameters(model, model.group_matcher(coarse=False), return_values=False, reverse=True)
    return {name: int(layers[name]) for name, _ in model.named_parameters()}


cases = [case("vit_base_patch16_224", 1, "plain"), case("vit_base_patch16_clip_224", 2, "pre_norm")]
with open(os.path.join(HERE, "vit.json"), "w") as f:
    json.dump({"versions": VERSIONS, "cases": cases, "published": {n: size(n) for n in PUBLISHED}}, f, indent=1)
    f.write("\n")
