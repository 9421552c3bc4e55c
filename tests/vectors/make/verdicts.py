"""What verdicts are made of: F, prediction intervals, Welch, equivalence over a data set, permutations of tau, Obuchowski."""

import itertools

import numpy as np
from scipy import stats

from common import write

rng = np.random.default_rng(2025)
t, f = stats.t, stats.f
ALPHA = 0.05

f_tail = [[d1, d2, x, f.sf(x, d1, d2)] for d1 in (1, 2, 11, 13.5) for d2 in (1, 4.2, 22, 200) for x in (1e-3, 0.4, 1.0, 3.3, 50.0)]
f_quant = [[d1, d2, p, f.ppf(p, d1, d2)] for d1 in (2, 11, 13) for d2 in (2, 7.7, 22, 400) for p in (0.001, 0.025, 0.5, 0.975, 0.999)]


def value(values, published, reading, runs, sd0, margin):
    """Our seeds against a published mean; Welch's interval by scipy where the source has a deviation, never narrower than either side's."""
    n, s = len(values), np.std(values, ddof=1)
    d = np.mean(values) - published
    if sd0 is None or runs < 2:
        tests = [(np.sqrt(s**2 / n + s**2 / runs), n - 1)]
    else:
        r = stats.ttest_ind_from_stats(np.mean(values), s, n, published, sd0, runs, equal_var=False)
        se = abs((np.mean(values) - published) / r.statistic)
        ci = [abs(r.pvalue - 2 * t.sf(abs(r.statistic), k)) for k in (n - 1, runs - 1)]
        va, vb = s**2 / n, sd0**2 / runs
        df = (va + vb) ** 2 / (va**2 / (n - 1) + vb**2 / (runs - 1))
        assert abs(r.pvalue - 2 * t.sf(abs(r.statistic), df)) < 1e-12 and ci
        tests = [(se, df), (np.sqrt(va), n - 1), (np.sqrt(vb), runs - 1)]
    half = lambda level: max(t.ppf((1 + level) / 2, df) * se for se, df in tests)
    tail = lambda x: max(t.sf(x / se, df) for se, df in tests)
    around = lambda h: [d - h, d + h]
    return {
        "values": values, "published": published, "reading": reading, "runs": runs, "sd0": sd0, "margin": margin,
        "se": tests[0][0], "df": tests[0][1],
        "interval": around(half(1 - 2 * ALPHA) + reading),
        "interval_ours": around(t.ppf(1 - ALPHA, n - 1) * s / np.sqrt(n)),
        "prediction": around(half(1 - ALPHA) + reading),
        "p_same": max(tail(margin - reading - d), tail(margin - reading + d)),
        "p_differs": max(tail(abs(d) - margin - reading), min(1, 2 * tail(max(abs(d) - reading, 0)))),
    }


reproduction = []
for n in (2, 3, 5, 10):
    for runs, sd0 in ((1, None), (3, None), (3, 0.004), (12, 0.0005)):
        for bias in (0.0, 0.004, 0.03):
            v = (0.9 + bias + 0.003 * rng.normal(size=n)).tolist()
            reproduction.append(value(v, 0.9, 0.0006, runs, sd0, 0.005))


def together(points, margin):
    d, v, nu, reading = (np.array(c) for c in zip(*points))
    k = len(d)
    r = reading.mean()
    se = d.std(ddof=1) / np.sqrt(k)
    low, high = stats.t.interval(1 - 2 * ALPHA, k - 1, loc=d.mean(), scale=se)
    noise2, rmse2 = v.mean(), (d**2).mean()
    df = v.sum() ** 2 / (v**2 / nu).sum()
    tail = lambda x: t.sf(x / se, k - 1)
    m = abs(d.mean())
    by_mean = max(tail(m - margin - r), min(1, 2 * tail(max(m - r, 0))))
    least2 = (np.maximum(np.abs(d) - reading, 0) ** 2).mean()
    by_scatter = f.sf(least2 / (noise2 + margin**2), k, df)
    ratio2 = rmse2 / noise2
    return {
        "points": points, "margin": margin,
        "interval": [low - r, high + r],
        "rmse": np.sqrt(rmse2), "noise": np.sqrt(noise2),
        "ratio_interval": [np.sqrt(ratio2 / f.ppf(1 - ALPHA / 2, k, df)), np.sqrt(ratio2 / f.ppf(ALPHA / 2, k, df))],
        "p_same": max(tail(margin - r - d.mean()), tail(margin - r + d.mean())),
        "p_differs": min(1, 2 * min(by_mean, by_scatter)),
    }


sets = []
for k in (2, 5, 11):
    for bias in (0.0, 0.004, 0.02):
        rows = [[bias + 0.004 * rng.normal(), (0.004 * rng.uniform(0.5, 1.5)) ** 2, 2.0, 0.0006] for _ in range(k)]
        sets.append(together([[float(x) for x in row] for row in rows], 0.005))


def permutation(a, b):
    """Without ties scipy's exact distribution; with ties scipy's permutation test over all pairings."""
    tau = stats.kendalltau(a, b).statistic
    if len(set(a)) == len(a) and len(set(b)) == len(b):
        p = [stats.kendalltau(a, b, method="exact", alternative=w).pvalue for w in ("greater", "less")]
    else:
        # The concordance is a whole number, so that equal values compare equal.
        sign = lambda x: np.sign(np.subtract.outer(x, x))
        score = lambda x: (sign(np.asarray(a)) * sign(x)).sum() / 2
        p = [
            stats.permutation_test((np.array(b),), score, permutation_type="pairings", n_resamples=np.inf, alternative=w).pvalue
            for w in ("greater", "less")
        ]
    return {"a": a, "b": b, "tau": tau, "greater": p[0], "less": p[1]}


kendall = []
for n in (3, 5, 7, 11, 13):
    kendall.append(permutation(rng.normal(size=n).tolist(), rng.normal(size=n).tolist()))
for n in (5, 6, 7):
    tied = [float(x) for x in rng.integers(0, 3, size=n)]
    kendall.append(permutation(tied, rng.normal(size=n).tolist()))
    kendall.append(permutation(tied, [float(x) for x in rng.integers(0, 4, size=n)]))


def obuchowski(scores, truth, groups):
    """Obuchowski (1997), equations for the areas of clustered data, by the definition: every pair, every cluster."""
    pos, neg = np.flatnonzero(truth), np.flatnonzero(truth == 0)
    m, n, ids = len(pos), len(neg), sorted(set(groups))
    parts, auc = [], []
    for s in scores:
        psi = (s[pos][:, None] > s[neg][None, :]) + 0.5 * (s[pos][:, None] == s[neg][None, :])
        auc.append(psi.mean())
        v10, v01 = psi.mean(1), psi.mean(0)
        ten = np.array([sum(v10[i] - psi.mean() for i, p in enumerate(pos) if groups[p] == g) for g in ids])
        one = np.array([sum(v01[j] - psi.mean() for j, q in enumerate(neg) if groups[q] == g) for g in ids])
        parts.append((ten, one))
    i10, i01, i = len(set(groups[pos])), len(set(groups[neg])), len(ids)
    cov = np.zeros((len(scores), len(scores)))
    for a, b in itertools.product(range(len(scores)), repeat=2):
        s10 = i10 / ((i10 - 1) * m) * (parts[a][0] * parts[b][0]).sum()
        s01 = i01 / ((i01 - 1) * n) * (parts[a][1] * parts[b][1]).sum()
        s11 = i / (i - 1) * ((parts[a][0] * parts[b][1]).sum() + (parts[a][1] * parts[b][0]).sum())
        cov[a, b] = s10 / m + s01 / n + s11 / (m * n)
    return {"scores": [s.tolist() for s in scores], "truth": truth.tolist(), "groups": groups.tolist(), "auc": auc, "covariance": cov}


clustered = []
for size, each, decimals in ((20, 4, None), (15, 6, 1), (40, 1, 2)):
    groups = np.repeat(np.arange(size), each)
    truth = (rng.random(size * each) < 0.4).astype(int)
    shared = np.repeat(rng.normal(size=size), each)
    scores = [shared + rng.normal(size=size * each) + (0.5 + 0.5 * k) * truth for k in range(2)]
    if decimals is not None:
        scores = [np.round(s, decimals) for s in scores]
    clustered.append(obuchowski(scores, truth, groups))

write(
    "verdicts",
    "scipy.stats.f, t, ttest_ind_from_stats(equal_var=False), t.interval, kendalltau(method='exact'), permutation_test(pairings); Obuchowski by numpy from all pairs",
    {
        "f_upper_tail": f_tail,
        "f_quantile": f_quant,
        "reproduction": reproduction,
        "together": sets,
        "kendall": kendall,
        "obuchowski": clustered,
    },
)
