"""Adds to metrics.json the scores its rank metrics were computed from, after recomputing every value from its logits.

The 300 binary logits have one decimal, so many score differences are equal in exact arithmetic and differ only by the
rounding of exp(): the published AUC is the one of `exp(l) / sum(exp(l))` in float64 with numpy's AVX-512 exp. Without
AVX-512 numpy itself finds 0.48496, a correctly rounded exp finds 0.48496, exact ties give 0.48621. The file therefore
carries the scores; run this on a machine with AVX-512 or leave the file alone.
"""

import json

import numpy as np
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    cohen_kappa_score,
    precision_recall_fscore_support,
    roc_auc_score,
)

from common import HERE


def softmax(logits):
    e = np.exp(np.asarray(logits))
    return e / e.sum(1, keepdims=True)


def close(a, b):
    assert abs(a - b) < 1e-12, (a, b)


path = HERE / "metrics.json"
doc = json.loads(path.read_text())

c = doc["multiclass5"]
y, p = np.array(c["y"]), softmax(c["logits"])
prf = precision_recall_fscore_support(y, p.argmax(1), average="macro", zero_division=0)
close(accuracy_score(y, p.argmax(1)), c["accuracy"])
for got, key in zip(prf, ("precision", "recall", "f1")):
    close(got, c[key])
close(cohen_kappa_score(y, p.argmax(1)), c["kappa"])
close(cohen_kappa_score(y, p.argmax(1), weights="quadratic"), c["qkappa"])
close(roc_auc_score(y, p, multi_class="ovo"), c["auc_ovo"])

c = doc["binary"]
p = softmax(c["logits"])[:, 1]
close(roc_auc_score(c["y"], p), c["auc"])
c["scores"] = p.tolist()

c = doc["multilabel4"]
y, p = np.array(c["y"]), 1 / (1 + np.exp(-np.array(c["logits"])))
prf = precision_recall_fscore_support(y, p > 0.5, average="macro", zero_division=0)
for got, key in zip(prf, ("precision", "recall", "f1")):
    close(got, c[key])
close(accuracy_score(y, p > 0.5), c["subset_accuracy"])
close(average_precision_score(y, p), c["mAP"])
# A label without positives counts 0.5 (PROTOCOL 7.3).
auc = [roc_auc_score(y[:, k], p[:, k]) if y[:, k].any() else 0.5 for k in range(y.shape[1])]
for got, want in zip(auc, c["auc"]):
    close(got, want)
close(sum(auc) / len(auc), c["mean_auc"])

path.write_text(json.dumps(doc) + "\n")
