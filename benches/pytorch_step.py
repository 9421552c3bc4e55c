"""One measurement of PyTorch, as JSON: the step that `medft bench forward|train` times, on timm's model.

The step of `train`: forward, mean cross-entropy, backward, gradient norm clipped to 1, AdamW (lr 1e-4, weight decay 1e-5).
The step of `forward`: forward without a graph. Random weights, random images, scaled_dot_product_attention. Eager and float32
unless `--precision` says otherwise; `bf16` is autocast with float32 weights, `tf32` float32 with TF32 products. With `--compile`
the same through torch.compile stands under `compiled`.
"""

import argparse
import contextlib
import json
import resource
import statistics
import time

import timm
import torch

MODELS = {
    "dinov2-s": ("vit_small_patch14_dinov2.lvd142m", "token"),
    "dinov2-b": ("vit_base_patch14_dinov2.lvd142m", "token"),
    "mae-b": ("vit_base_patch16_224.mae", "avg"),
    "mae-l": ("vit_large_patch16_224.mae", "avg"),
    "aimv2-l": ("aimv2_large_patch14_224.apple_pt", "avg"),
    "sam2-b": ("sam2_hiera_base_plus.fb_r896_2pt1", "avg"),
}


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main():
    p = argparse.ArgumentParser()
    p.add_argument("what", choices=["forward", "train"])
    p.add_argument("--backbone", choices=sorted(MODELS), default="dinov2-s")
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--size", type=int, default=224)
    p.add_argument("--steps", type=int, default=3)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--device", default="cpu")
    p.add_argument("--precision", choices=["f32", "tf32", "bf16", "f16"], default="f32")
    p.add_argument("--compile", action="store_true", help="measure torch.compile too, after eager")
    p.add_argument("--adamw", choices=["fused", "foreach"], default="fused")
    a = p.parse_args()

    torch.set_num_threads(a.threads)
    torch.set_num_interop_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = a.precision == "tf32"
    result = measure(a, compiled=False)
    if a.compile:
        try:
            result["compiled"] = measure(a, compiled=True)
        except Exception as e:  # the eager figure stands also where the compiler fails
            result["compiled"] = {"failed": f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"}
    print(json.dumps(result))


def measure(a, compiled):
    torch.manual_seed(0)
    name, pool = MODELS[a.backbone]
    train = a.what == "train"
    cuda = a.device.startswith("cuda")
    # timm's Hiera takes any size as it is.
    size = {} if a.backbone.startswith("sam2") else {"img_size": a.size}
    model = timm.create_model(name, pretrained=False, num_classes=5, global_pool=pool, **size)
    model = model.train(train).to(a.device)
    if compiled:
        model = torch.compile(model)
    x = (torch.rand(a.batch, 3, a.size, a.size) * 2 - 1).to(a.device)
    y = (torch.arange(a.batch) % 5).to(a.device)
    half = {"bf16": torch.bfloat16, "f16": torch.float16}.get(a.precision)
    cast = (lambda: torch.autocast(x.device.type, half)) if half else contextlib.nullcontext
    if train:
        optim = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=1e-5, **{a.adamw: True})

    def step():
        if not train:
            with torch.inference_mode(), cast():
                return model(x).float().sum().item()
        with cast():
            logits = model(x)
        loss = torch.nn.functional.cross_entropy(logits.float(), y)
        optim.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optim.step()
        return loss.item()

    if cuda:
        torch.cuda.reset_peak_memory_stats()
    wall, cpu = [], []
    # The first steps warm caches and allocator, and compile; a second one on a GPU, which is fast enough.
    warm = 2 if cuda else 1
    for i in range(a.steps + warm):
        t, c = time.perf_counter(), cpu_seconds()
        step()
        if cuda:
            torch.cuda.synchronize()
        if i >= warm:
            wall.append(time.perf_counter() - t)
            cpu.append(cpu_seconds() - c)
    return {
        "engine": f"PyTorch {torch.__version__}{' compiled' if compiled else ''}, timm {timm.__version__}",
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "what": a.what,
        "subject": a.backbone,
        "batch": a.batch,
        "threads": torch.get_num_threads(),
        "seconds": wall,
        "cpu_seconds": cpu,
        "seconds_median": statistics.median(wall),
        "cpu_seconds_median": statistics.median(cpu),
        "images_per_s": a.batch / statistics.median(wall),
        "peak_device_bytes": torch.cuda.max_memory_allocated() if cuda else None,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


if __name__ == "__main__":
    main()
