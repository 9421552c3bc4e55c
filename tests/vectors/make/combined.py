"""DeLong on means over seeds: the area of a cell is the mean over its seeds; components and covariance from all pairs by the definition (numpy).
"""

import numpy as np
from scipy import stats

from common import write

rng = np.random.default_rng(2505)

def components(score, truth):
    pos, neg = score[truth == 1], score[truth == 0]
    psi = (pos[:, None] > neg[None, :]) + 0.5 * (pos[:, None] == neg[None, :])
    return psi


delong = []
for n, decimals, seeds in [(80, None, (3, 3)), (110, 1, (2, 5)), (25, 2, (1, 3))]:
    truth = (rng.random(n) < 0.45).astype(int)
    truth[:4] = [0, 1, 0, 1]
    shared = rng.normal(size=n)
    cells = []
    for k, count in enumerate(seeds):
        column = [0.9 * shared + rng.normal(size=n) + (0.8 + 0.5 * k) * truth for _ in range(count)]
        cells.append([np.round(c, decimals) if decimals is not None else c for c in column])
    psi = [np.mean([components(c, truth) for c in cell], axis=0) for cell in cells]
    m, q = int(truth.sum()), int(n - truth.sum())
    cov = np.cov(np.array([p.mean(1) for p in psi]), ddof=1) / m + np.cov(np.array([p.mean(0) for p in psi]), ddof=1) / q
    auc = np.array([p.mean() for p in psi])
    var = cov[0, 0] + cov[1, 1] - 2 * cov[0, 1]
    z = (auc[0] - auc[1]) / np.sqrt(var)
    delong.append(
        {"truth": truth, "cells": cells, "auc": auc, "covariance": cov, "z": z, "p": 2 * stats.norm.sf(abs(z))}
    )

write(
    "combined",
    "DeLong on means over seeds from all pairs (numpy)",
    {"delong": delong},
)
