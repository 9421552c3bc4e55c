"""Bootstrap replicates: the resampled rows are written out and given to scikit-learn as they are.

Indices: replicate r draws from splitmix64 with state 0x5EED ^ ((r + 1) * 0x9E3779B97F4A7C15); every 64-bit number gives two
32-bit numbers, low half first; a 32-bit number x becomes (x * n) >> 32 unless the low half of x * n is below
2**32 mod n (Lemire's rejection).
"""

import warnings

import numpy as np
from sklearn.metrics import accuracy_score, average_precision_score, cohen_kappa_score, f1_score, recall_score, roc_auc_score

from common import write

warnings.filterwarnings("ignore")
MASK = (1 << 64) - 1


def splitmix(replicate):
    state = (0x5EED ^ ((replicate + 1) * 0x9E3779B97F4A7C15)) & MASK
    while True:
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        z ^= z >> 31
        yield z & 0xFFFFFFFF
        yield z >> 32


def draw(n, replicate):
    source, out = splitmix(replicate), []
    while len(out) < n:
        m = next(source) * n
        if (m & 0xFFFFFFFF) >= (1 << 32) % n:
            out.append(m >> 32)
    return np.array(out)


def ovo(y, p, classes):
    if len(np.unique(y)) < classes:
        return float("nan")
    return roc_auc_score(y, p, multi_class="ovo", labels=range(classes))


def per_label(y, p, f):
    return [f(y[:, k], p[:, k]) for k in range(y.shape[1])]


def auc(y, s):
    return roc_auc_score(y, s) if 0 < y.sum() < len(y) else float("nan")


def precision(y, s):
    return average_precision_score(y, s) if y.any() else float("nan")


rng = np.random.default_rng(1979)
n, classes, labels, replicates = 130, 4, 5, 70
y = rng.choice(classes, size=n, p=[0.58, 0.3, 0.115, 0.005])
y[:classes] = range(classes)
logits = rng.normal(size=(n, classes)) + 1.1 * np.eye(classes)[y]
p = np.exp(logits)
p = np.round(p / p.sum(1, keepdims=True), 2)
p[:, 0] = 1 - p[:, 1:].sum(1)
t = (rng.random((n, labels)) < [0.4, 0.1, 0.02, 0.6, 0.25]).astype(int)
t[0], t[1] = 0, 1
q = np.round(1 / (1 + np.exp(-(rng.normal(size=(n, labels)) + 1.3 * t - 0.7))), 2)
yhat = p.argmax(1)

out = {k: [] for k in ("accuracy", "recall", "f1", "quadratic_kappa", "roc_auc_ovo", "label_auc", "mAP")}
for r in range(replicates):
    i = draw(n, r)
    out["accuracy"].append(accuracy_score(y[i], yhat[i]))
    out["recall"].append(recall_score(y[i], yhat[i], average="macro", zero_division=0))
    out["f1"].append(f1_score(y[i], yhat[i], average="macro", zero_division=0))
    out["quadratic_kappa"].append(cohen_kappa_score(y[i], yhat[i], weights="quadratic", labels=range(classes)))
    out["roc_auc_ovo"].append(ovo(y[i], p[i], classes))
    out["label_auc"].append(per_label(t[i], q[i], auc))
    out["mAP"].append(float(np.mean(per_label(t[i], q[i], precision))))

write(
    "resample",
    "splitmix64 rows (see make/resample.py), scikit-learn on the resampled rows; a resample that lost a class or all positives of a label is nan",
    {
        "n": n,
        "classes": classes,
        "labels": labels,
        "replicates": replicates,
        "truth": y,
        "predicted": yhat,
        "probs": p,
        "label_truth": t,
        "label_probs": q,
        "first_rows": draw(n, 0)[:12],
        **out,
        "interval95_accuracy": np.percentile(out["accuracy"], [2.5, 97.5]),
    },
)
