"""Tests that join seeds and test images: two one-sided t tests on a summed variance, and DeLong on means over seeds.

TOST: variance of the mean = s^2/n over seeds + (bootstrap standard error)^2, Satterthwaite's degrees of freedom from n-1 and B-1,
p values and interval from scipy.stats.t. One seed: only the images vary.

DeLong: the area of a cell is the mean over its seeds; components and covariance from all pairs by the definition (numpy).
"""

import numpy as np
from scipy import stats

from common import write

rng = np.random.default_rng(2505)

tost = []
for n, sd, se, replicates, shift, margin, reading in [
    (3, 0.002, 0.004, 1000, 0.001, 0.01, 0.0001),
    (5, 0.004, 0.002, 1000, -0.003, 0.01, 0.0),
    (5, 0.0005, 0.006, 200, 0.0, 0.005, 0.0004),
    (2, 0.001, 0.0, 1000, 0.02, 0.005, 0.001),
    (1, 0.0, 0.003, 500, 0.002, 0.01, 0.0),
    (10, 0.003, 0.001, 50, 0.012, 0.005, 0.0),
]:
    published = 0.9
    x = np.round(published + shift + sd * rng.normal(size=n), 6)
    seeds = x.var(ddof=1) / n if n > 1 else 0.0
    total = seeds + se**2
    df = total**2 / (seeds**2 / max(n - 1, 1) + se**4 / (replicates - 1))
    inner = margin - reading
    t_lower = (x.mean() - (published - inner)) / np.sqrt(total)
    t_upper = (x.mean() - (published + inner)) / np.sqrt(total)
    half = stats.t.ppf(0.95, df) * np.sqrt(total)
    tost.append(
        {
            "values": x,
            "standard_error": se,
            "replicates": replicates,
            "published": published,
            "margin": margin,
            "reading": reading,
            "df": df,
            "p_lower": stats.t.sf(t_lower, df),
            "p_upper": stats.t.cdf(t_upper, df),
            "ci90": [x.mean() - half, x.mean() + half],
        }
    )


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
    "scipy.stats.t on a summed variance with Satterthwaite's degrees of freedom; DeLong on means over seeds from all pairs (numpy)",
    {"tost": tost, "delong": delong},
)
