#!/usr/bin/env python3
"""Linear probing of a frozen ViT on MedMNIST, after the published recipe, in plain PyTorch.

Paper:       Doerrich, Di Salvo, Brockmann, Ledig: "Rethinking model prototyping through the MedMNIST+ dataset
             collection", Scientific Reports 15, 7669 (2025), s41598-025-92156-9.
Repository:  sdoerrich97/rethinking-model-prototyping-MedMNISTPlus @ b67b772 ("theirs" below).
Metrics:     medmnist 3.0.2 (PyPI), medmnist/evaluator.py, written again here without scikit-learn.
Backbone:    a Hugging Face `Dinov2Model` folder (config.json, model.safetensors). Theirs has ten timm/torchvision
             models and no DINOv2; only the backbone differs from theirs.

What of theirs is followed, with file and line:
 1. Images stay at their own size in the middle of a 224x224 canvas, no resizing; 98 px on each side for 28 px
    (train.py:285-287). Order: to RGB (train.py:296 as_rgb, medmnist/dataset.py:141), ToTensor, Normalize, *then* Pad
    with 0 (train.py:289-293): the border is the mean colour, not black.
 2. Mean and std are those of the timm default_cfg (train.py:282-283); timm's DINOv2 entries have ImageNet's.
 3. No augmentation in training (train.py:289-293, 296): features of the frozen backbone may be computed once. Theirs
    trains in train() mode (train.py:113), which changes nothing for a ViT without dropout and drop path.
 4. AdamW over all parameters with only lr 1e-4 given (train.py:86, config.yaml:11), hence timm's and torch's defaults:
    betas (0.9, 0.999), eps 1e-8, weight decay 0.01, on the bias too. Frozen ones have no gradient and do not decay.
 5. Cosine schedule over 100 epochs towards 0, no warm-up (train.py:87). step(epoch=e) runs at the end of epoch e with
    e, not e+1 (train.py:138), so it lags by one epoch: epochs 0 and 1 both run at 1e-4, epoch 99 at the value for 98.
 6. Cross entropy on as many outputs as labels, two for binary sets; also for ordinal RetinaMNIST (train.py:95).
 7. Batches of 64, the last short one kept, reshuffled each epoch (train.py:300, config.yaml:12).
 8. Validation loss is the mean of the batch means (train.py:165, 177) in batches of 256 (config.yaml:13): for
    PneumoniaMNIST's 524 images (256+256+12) the last 12 count for a third.
 9. "Better" is strictly lower validation loss; five epochs in a row without it end the run (train.py:103, 184-198), at
    most 100 epochs (config.yaml:10). The best epoch's weights are kept and tested (train.py:209, evaluate.py:63-65).
10. One generator, seeded with the seed, serves both loaders (train.py:270-271, 300-301), so each validation pass also
    draws a number from it between two shuffles. The global seed is set apart (train.py:267).
11. Accuracy of binary sets: softmax of class 1 > 0.5, exactly 0.5 counts as class 0; otherwise argmax
    (evaluator.py:186-193). AUC: of class 1 for binary sets, otherwise the plain mean over classes of one against the
    rest (evaluator.py:151-163). On float32 softmax outputs (evaluate.py:124), all test images at once.

Where this program departs from theirs: the head starts as nn.Linear does (--init linear). In theirs it is made by timm
(train.py:54), which for ViTs gives truncated normal weights of std 0.02 and a zero bias: --init timm does that. Theirs
uses the seeds 9930641, 115149041 and 252139603 (config.yaml:22), and `if args.seed` (train.py:248) ignores a seed of 0.
"""
import argparse
import copy
import csv
import os

import numpy as np
import torch
from PIL import Image
from timm.scheduler import CosineLRScheduler
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, TensorDataset
from torchvision import transforms

CANVAS = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EPOCHS, PATIENCE, LR, BATCH, BATCH_EVAL = 100, 5, 1e-4, 64, 256
SPLITS = ("train", "val", "test")
DATASETS = {"breast": ("binary-class", 2), "pneumonia": ("binary-class", 2), "retina": ("ordinal-regression", 5)}


def transform(size):
    total = max(0, CANVAS - size)
    before, after = total // 2, total - total // 2
    return transforms.Compose([
        transforms.ToTensor(),
        transforms.Normalize(mean=MEAN, std=STD),
        transforms.Pad((before, before, after, after), fill=0, padding_mode="constant"),
    ])


@torch.no_grad()
def extract(model, images, batch=32):
    """Class token after the final norm, float32, in the order of `images`."""
    prepare = transform(images.shape[1])
    features = []
    for i in range(0, len(images), batch):
        x = torch.stack([prepare(Image.fromarray(image).convert("RGB")) for image in images[i:i + batch]])
        features.append(model(pixel_values=x).last_hidden_state[:, 0].clone())
    return torch.cat(features).numpy().astype(np.float32)


def load_features(name, npz, folder, weights):
    """The saved features of the three splits; those not there yet are computed and saved."""
    model, features = None, {}
    for split in SPLITS:
        path = os.path.join(folder, f"{name}_{split}.npy")
        if not os.path.exists(path):
            if model is None:
                from transformers import Dinov2Model
                model = Dinov2Model.from_pretrained(weights).eval()
            np.save(path, extract(model, npz[f"{split}_images"]))
        features[split] = np.load(path)
        assert len(features[split]) == len(npz[f"{split}_labels"]), path
    return features


def accuracy(y, p, task):
    guess = p[:, -1] > 0.5 if task == "binary-class" else p.argmax(axis=-1)
    return float((guess == y).mean())


def auc_binary(positive, score):
    """Area under the ROC curve = P(score of a positive > score of a negative), ties count half."""
    pos, neg = score[positive], np.sort(score[~positive])
    below, upto = np.searchsorted(neg, pos, "left"), np.searchsorted(neg, pos, "right")
    return float((below + upto).sum() / (2 * len(pos) * len(neg)))


def auc(y, p, task):
    if task == "binary-class":
        return auc_binary(y == 1, p[:, -1])
    return float(np.mean([auc_binary(y == c, p[:, c]) for c in range(p.shape[1])]))


def make_head(width, classes, init):
    head = nn.Linear(width, classes)
    if init == "timm":
        nn.init.trunc_normal_(head.weight, std=0.02)
        nn.init.zeros_(head.bias)
    return head


def loader(dataset, sampler, batch, g):
    """The batches of DataLoader(dataset, batch, shuffle, generator=g), each taken by one indexing, which is quicker."""
    return DataLoader(dataset, sampler=BatchSampler(sampler, batch, drop_last=False), batch_size=None, generator=g)


def probe(data, task, classes, seed, init):
    """One run. `data`: split -> (features, labels). Epochs count from 0, as theirs do."""
    torch.manual_seed(seed)
    g = torch.Generator()
    g.manual_seed(seed)
    head = make_head(data["train"][0].shape[1], classes, init)
    train_set, val_set = TensorDataset(*data["train"]), TensorDataset(*data["val"])
    train_loader = loader(train_set, RandomSampler(train_set, generator=g), BATCH, g)
    val_loader = loader(val_set, SequentialSampler(val_set), BATCH_EVAL, g)

    optimizer = torch.optim.AdamW(head.parameters(), lr=LR)
    scheduler = CosineLRScheduler(optimizer, t_initial=EPOCHS, cycle_limit=1, t_in_epochs=True)
    criterion = nn.CrossEntropyLoss()
    best_loss, best_epoch, best_head, waited = np.inf, 0, copy.deepcopy(head), 0
    for epoch in range(EPOCHS):
        for x, y in train_loader:
            loss = criterion(head(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        scheduler.step(epoch=epoch)

        with torch.no_grad():
            val_loss = sum(criterion(head(x), y).item() for x, y in val_loader) / len(val_loader)
        if val_loss < best_loss:
            best_loss, best_epoch, best_head, waited = val_loss, epoch, copy.deepcopy(head), 0
        else:
            waited += 1
        if waited == PATIENCE:
            break

    x, y = data["test"]
    with torch.no_grad():
        p = torch.softmax(best_head(x), dim=1).numpy()
    y = y.numpy()
    return best_epoch, epoch, best_loss, accuracy(y, p, task), auc(y, p, task)


def main():
    parser = argparse.ArgumentParser(description="Linear probing after Doerrich et al. 2025 on MedMNIST.")
    parser.add_argument("--data", nargs="+", required=True, metavar="NAME=NPZ", help=f"names: {', '.join(DATASETS)}")
    parser.add_argument("--weights", help="folder of a Dinov2Model (needed only for features not saved yet)")
    parser.add_argument("--features", required=True, help="folder of the saved features")
    parser.add_argument("--out", required=True, help="CSV file to write")
    parser.add_argument("--seeds", type=int, default=10, help="run the seeds 0 to N-1 (10)")
    parser.add_argument("--init", choices=("linear", "timm"), default="linear", help="start of the head")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    os.makedirs(args.features, exist_ok=True)

    with open(args.out, "w", newline="") as out:
        table = csv.writer(out, lineterminator="\n")
        table.writerow(["dataset", "seed", "best_epoch", "stopped_epoch", "val_loss", "test_acc", "test_auc"])
        for name, path in (item.split("=", 1) for item in args.data):
            task, classes = DATASETS[name]
            npz = np.load(path)
            features = load_features(name, npz, args.features, args.weights)
            data = {s: (torch.from_numpy(features[s]), torch.from_numpy(npz[f"{s}_labels"]).squeeze(1).long())
                    for s in SPLITS}
            runs = []
            for seed in range(args.seeds):
                runs.append(probe(data, task, classes, seed, args.init))
                best, stopped, loss, acc, area = runs[-1]
                table.writerow([name, seed, best, stopped, f"{loss:.6f}", f"{acc:.6f}", f"{area:.6f}"])
                out.flush()
            _, _, loss, acc, area = np.array(runs).T
            print(f"{name}: val_loss {loss.mean():.4f} sd {loss.std(ddof=1):.4f}, test_acc {acc.mean():.4f} "
                  f"sd {acc.std(ddof=1):.4f}, test_auc {area.mean():.4f} sd {area.std(ddof=1):.4f}", flush=True)


if __name__ == "__main__":
    main()
