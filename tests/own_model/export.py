"""Logits of exported models: python export.py FOLDER... with images as lines of stdin.

Prints one JSON object a folder: its path, and for each image the logits that timm or transformers compute. Images are prepared by Pillow
as preprocessor_config.json says; transformers' own image processor is held against that too.
"""
import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
import numpy as np
import torch
from PIL import Image


def prepared(path, p):
    grey = len(p["image_mean"]) == 1
    img = Image.open(path).convert("L" if grey else "RGB")
    size = p["size"]
    if "shortest_edge" in size:
        short = min(img.size)
        w, h = (int(size["shortest_edge"] * s / short) for s in img.size)
    else:
        w, h = size["width"], size["height"]
    img = img.resize((w, h), Image.Resampling(p["resample"]))
    c = p["crop_size"]["height"]
    left, top = round((w - c) / 2), round((h - c) / 2)
    x = np.asarray(img.crop((left, top, left + c, top + c)), dtype=np.float32) / 255
    x = (x.reshape(c, c, -1) - np.float32(p["image_mean"])) / np.float32(p["image_std"])
    return torch.from_numpy(x.transpose(2, 0, 1).copy())


images = [line.strip() for line in sys.stdin if line.strip()]
for folder in sys.argv[1:]:
    config = json.load(open(f"{folder}/config.json"))
    p = json.load(open(f"{folder}/preprocessor_config.json"))
    x = torch.stack([prepared(i, p) for i in images])
    out = {"folder": folder}
    if "architectures" in config:
        from transformers import AutoImageProcessor, AutoModelForImageClassification

        model, info = AutoModelForImageClassification.from_pretrained(folder, output_loading_info=True)
        assert not any(info[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
        with torch.no_grad():
            out["logits"] = model.eval()(pixel_values=x).logits.tolist()
        out["labels"] = [model.config.id2label[i] for i in range(x.new_tensor(out["logits"]).shape[1])]
        theirs = AutoImageProcessor.from_pretrained(folder)([Image.open(i).convert("RGB") for i in images], return_tensors="pt")
        out["processor_difference"] = (theirs["pixel_values"] - x).abs().max().item()
    else:
        import timm

        model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        with torch.no_grad():
            out["logits"] = model(x).tolist()
        out["labels"] = model.pretrained_cfg["label_names"]
        data = timm.data.resolve_model_data_config(model)
        theirs = timm.data.create_transform(**data, is_training=False)
        theirs = torch.stack([theirs(Image.open(i).convert("RGB")) for i in images])
        out["processor_difference"] = (theirs - x).abs().max().item()
    print(json.dumps(out))
