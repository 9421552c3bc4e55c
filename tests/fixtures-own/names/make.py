"""Writes the names and shapes of whole published models, as their own classes make them, without weights (meta device).

python make.py    (torch, torchvision, transformers, open_clip, timm)
"""

import json
import os

import open_clip
import timm
import torch
import transformers as hf

HERE = os.path.dirname(os.path.abspath(__file__))
VERSIONS = {"torch": torch.__version__, "transformers": hf.__version__, "open_clip": open_clip.__version__, "timm": timm.__version__}


def write(backbone, layout, make, more=None):
    with torch.device("meta"):
        state = make().state_dict()
    tensors = {n: list(t.shape) for n, t in state.items()} | (more or {})
    lines = ",\n".join(f"  {json.dumps(n)}: {json.dumps(s)}" for n, s in tensors.items())
    with open(os.path.join(HERE, f"{backbone}.{layout}.json"), "w") as f:
        f.write(f'{{\n "versions": {json.dumps(VERSIONS)},\n "tensors": {{\n{lines}\n }}\n}}\n')


def clip(name, **config):
    return lambda: getattr(open_clip, name)(**{k: v for k, v in config.items() if k not in ("custom_text", "model_cfg")})


def coca(name):
    return lambda: open_clip.CoCa(**{k: v for k, v in open_clip.get_model_config(name).items() if k != "custom_text"})


write("clip-b", "open_clip", clip("CLIP", **open_clip.get_model_config("ViT-B-16")))
write("coca-b", "open_clip", coca("coca_ViT-B-32"))
write("coca-l", "open_clip", coca("coca_ViT-L-14"))

vision = {"patch_size": 16, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
config = hf.CLIPConfig(vision_config=vision, text_config={"hidden_size": 512}, projection_dim=512)
# transformers before 4.31 wrote these buffers, and the published .bin file is from then.
old = {"text_model.embeddings.position_ids": [1, 77], "vision_model.embeddings.position_ids": [1, 197]}
write("clip-b", "hf", lambda: hf.CLIPModel(config), old)
write("mae-b", "hf", lambda: hf.ViTMAEForPreTraining(hf.ViTMAEConfig()))
write("dinov2-b", "hf", lambda: hf.Dinov2Model(hf.Dinov2Config(image_size=518, patch_size=14)))
large = hf.Aimv2VisionConfig(
    hidden_size=1024, intermediate_size=2816, num_hidden_layers=24, num_attention_heads=8, image_size=224, patch_size=14, use_head=False
)
write("aimv2-l", "hf", lambda: hf.Aimv2VisionModel(large))
write("mae-b", "timm", lambda: timm.create_model("vit_base_patch16_224.mae"))
write("deit-b", "timm", lambda: timm.create_model("deit_base_patch16_224"))
