"""AUC, average precision, ROC curves and calibration bins of single score columns, from scikit-learn."""

import numpy as np
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from common import write

rng = np.random.default_rng(20250519)
cases = []
for name, n, prevalence, decimals in [
    ("plain", 160, 0.4, None),
    ("ties", 240, 0.3, 1),
    ("heavy_ties", 120, 0.5, 0),
    ("rare", 150, 0.03, 3),
    ("common", 90, 0.95, 2),
    ("two", 2, 0.5, None),
]:
    truth = (rng.random(n) < prevalence).astype(int)
    truth[0], truth[1] = 0, 1
    score = 1 / (1 + np.exp(-(rng.normal(size=n) + 1.2 * truth - 0.5)))
    if decimals is not None:
        score = np.round(score, decimals)
    case = {"name": name, "scores": score, "truth": truth}
    case["roc_auc"] = roc_auc_score(truth, score)
    case["average_precision"] = average_precision_score(truth, score)
    for key, drop in (("roc", True), ("roc_all", False)):
        fpr, tpr, threshold = roc_curve(truth, score, drop_intermediate=drop)
        case[key] = {"fpr": fpr, "tpr": tpr, "threshold": threshold}
    bins = 10
    prob_true, prob_pred = calibration_curve(truth, score, n_bins=bins, strategy="uniform")
    # ECE by its definition over the same right-closed equal-width bins.
    index = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], score)
    weight = np.bincount(index, minlength=bins)
    weight = weight[weight > 0] / n
    case["calibration"] = {
        "bins": bins,
        "accuracy": prob_true,
        "confidence": prob_pred,
        "weight": weight,
        "ece": float((weight * np.abs(prob_true - prob_pred)).sum()),
    }
    cases.append(case)

write(
    "ranking",
    "sklearn.metrics roc_auc_score, average_precision_score, roc_curve (with and without drop_intermediate); "
    "sklearn.calibration.calibration_curve, strategy uniform; ECE = sum of weight * |accuracy - confidence| over its bins",
    {"cases": cases},
)
