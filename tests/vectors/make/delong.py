"""DeLong, DeLong and Clarke-Pearson (1988) by their definition: all pairs, structural components, in O(n*m)."""

import numpy as np
from scipy import stats

from common import write

rng = np.random.default_rng(1988)


def components(score, truth):
    pos, neg = score[truth == 1], score[truth == 0]
    psi = (pos[:, None] > neg[None, :]) + 0.5 * (pos[:, None] == neg[None, :])
    return psi.mean(), psi.mean(1), psi.mean(0)


cases = []
for name, n, decimals, columns in [
    ("two", 120, None, 2),
    ("ties", 150, 1, 2),
    ("three", 90, 2, 3),
    ("small", 9, 1, 2),
    ("same", 40, 2, 2),
]:
    truth = (rng.random(n) < 0.4).astype(int)
    truth[:4] = [0, 1, 0, 1]
    shared = rng.normal(size=n)
    scores = [0.8 * shared + rng.normal(size=n) + (0.9 + 0.4 * k) * truth for k in range(columns)]
    if decimals is not None:
        scores = [np.round(s, decimals) for s in scores]
    if name == "same":
        scores[1] = scores[0]
    parts = [components(s, truth) for s in scores]
    auc = np.array([p[0] for p in parts])
    m, k = int(truth.sum()), int(n - truth.sum())
    cov = np.cov(np.array([p[1] for p in parts]), ddof=1) / m + np.cov(np.array([p[2] for p in parts]), ddof=1) / k
    var = cov[0, 0] + cov[1, 1] - 2 * cov[0, 1]
    diff = auc[0] - auc[1]
    z = diff / np.sqrt(var) if var > 0 else 0.0
    half = stats.norm.ppf(0.975) * np.sqrt(cov[0, 0])
    cases.append(
        {
            "name": name,
            "truth": truth,
            "scores": scores,
            "auc": auc,
            "covariance": cov,
            "difference": diff,
            "z": z,
            "p": 2 * stats.norm.sf(abs(z)),
            "interval95_first": [auc[0] - half, auc[0] + half],
        }
    )

write("delong", "AUC, covariance and paired test of the first two columns, from all pairs (numpy)", {"cases": cases})
