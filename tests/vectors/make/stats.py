"""Intervals and tests: scipy.stats, statsmodels and numpy."""

import decimal
import random

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from common import write

rng = np.random.default_rng(7)
body = {}

# Student's t and the normal distribution.
grid = []
for df in [1, 2, 3, 4, 5, 9, 14.5, 29, 99, 999, 22348, 1e6]:
    for p in [1e-10, 1e-4, 0.001, 0.005, 0.025, 0.05, 0.1, 0.4, 0.5, 0.6, 0.9, 0.95, 0.975, 0.995, 0.9999]:
        grid.append([df, p, stats.t.ppf(p, df)])
body["t_quantile"] = grid
body["t_upper_tail"] = [
    [df, t, stats.t.sf(t, df)]
    for df in [1, 2, 3, 4, 7.3, 30, 500, 22348, 1e6]
    for t in [-40.0, -5.0, -1.96, -0.3, 0.0, 1e-6, 0.3, 1.0, 1.96, 3.0, 8.0, 40.0]
]
body["normal_quantile"] = [[p, stats.norm.ppf(p)] for p in [1e-12, 1e-5, 0.005, 0.025, 0.1, 0.5, 0.8, 0.95, 0.975, 0.999]]
body["normal_two_sided"] = [[z, 2 * stats.norm.sf(abs(z))] for z in [-9.0, -2.5, -0.1, 0.0, 0.7, 1.96, 3.3, 6.0, 20.0]]

# One sample: interval and equivalence with a fixed value.
samples = []
for n, centre, sd in [(2, 0.94, 0.004), (3, 0.94, 0.004), (3, 0.8, 0.02), (5, 0.86, 0.003), (10, 0.91, 0.008), (40, 0.5, 0.1)]:
    x = np.round(rng.normal(centre, sd, size=n), 6)
    for published, margin, reading in [(centre, 0.01, 0.0), (centre + 0.004, 0.01, 0.0004), (centre - 0.03, 0.005, 0.0001)]:
        d = DescrStatsW(x)
        low, high = published - (margin - reading), published + (margin - reading)
        p, (t1, p1, df), (t2, p2, _) = d.ttost_mean(low, high)
        samples.append(
            {
                "values": x,
                "mean": x.mean(),
                "sd": x.std(ddof=1),
                "ci95": stats.t.interval(0.95, n - 1, loc=x.mean(), scale=stats.sem(x)),
                "ci90": stats.t.interval(0.90, n - 1, loc=x.mean(), scale=stats.sem(x)),
                "published": published,
                "margin": margin,
                "reading": reading,
                "df": df,
                "t_lower": t1,
                "p_lower": p1,
                "t_upper": t2,
                "p_upper": p2,
                "p": p,
            }
        )
body["one_sample"] = samples

# Two samples with unequal variances (Welch).
pairs = []
for na, nb, shift in [(3, 3, 0.0), (5, 3, 0.01), (2, 10, -0.02), (30, 25, 0.005)]:
    a = np.round(rng.normal(0.9, 0.01, size=na), 6)
    b = np.round(rng.normal(0.9 + shift, 0.02, size=nb), 6)
    w = stats.ttest_ind(a, b, equal_var=False)
    ci = w.confidence_interval(0.95)
    margin = 0.015
    p = CompareMeans(DescrStatsW(a), DescrStatsW(b)).ttost_ind(-margin, margin, usevar="unequal")[0]
    pairs.append(
        {
            "a": a,
            "b": b,
            "difference": a.mean() - b.mean(),
            "t": w.statistic,
            "df": w.df,
            "p": w.pvalue,
            "ci95": [ci.low, ci.high],
            "margin": margin,
            "tost_p": p,
        }
    )
body["welch"] = pairs

# Paired t test.
paired = []
for n, shift in [(3, 0.01), (5, 0.0), (13, 0.004)]:
    a = np.round(rng.normal(0.9, 0.02, size=n), 6)
    b = np.round(a + rng.normal(shift, 0.005, size=n), 6)
    r = stats.ttest_rel(a, b)
    ci = r.confidence_interval(0.95)
    paired.append({"a": a, "b": b, "t": r.statistic, "df": r.df, "p": r.pvalue, "ci95": [ci.low, ci.high]})
body["paired_t"] = paired

# Percentiles (numpy's default, linear).
body["percentile"] = []
for n in [1, 2, 7, 40, 1000]:
    x = np.round(rng.normal(size=n), 3 if n > 7 else 1)
    for level in [0.5, 0.9, 0.95, 0.99]:
        q = [100 * (1 - level) / 2, 100 * (1 + level) / 2]
        body["percentile"].append({"values": x, "level": level, "interval": np.percentile(x, q)})

# Holm.
body["holm"] = []
for p in [[0.01], [0.01, 0.04, 0.03, 0.005], [0.5, 0.5, 0.5], [0.0, 1.0, 0.2, 0.2, 1e-9], list(rng.random(20) ** 3)]:
    body["holm"].append({"p": p, "adjusted": multipletests(p, method="holm")[1]})

# Kendall's tau-b and RMSE.
body["kendall"] = []
for n, decimals in [(2, 3), (4, 3), (13, 3), (13, 2), (13, 1), (60, 1), (5, 0)]:
    a = np.round(rng.normal(0.9, 0.05, size=n), decimals)
    b = np.round(0.5 * a + rng.normal(0.4, 0.02, size=n), decimals)
    r = stats.kendalltau(a, b, variant="b")
    body["kendall"].append({"a": a, "b": b, "tau": r.statistic, "rmse": float(np.sqrt(np.mean((a - b) ** 2)))})

# Python's round(x, 3): correctly rounded from the exact binary value, ties to even.
source = random.Random(3)
values = [0.0, -0.0, 0.0005, 0.0015, 0.0025, 0.1235, 0.5005, 2.0005, 0.0625, 0.1875, 0.3125, 0.4375, 0.5625, 0.6875,
          0.8125, 0.9375, 0.00048828125, -0.0004, -0.0625, 0.9995, 0.99949999999999994, 1.0, 1e-300, 123456.0625, 1e22]
values += [k / 16 for k in range(-40, 41)]
values += [source.random() for _ in range(300)]
values += [(2 * source.randrange(1000) + 1) / 2000 for _ in range(300)]
for v in values:
    exact = decimal.Decimal(v).quantize(decimal.Decimal("0.001"), rounding=decimal.ROUND_HALF_EVEN,
                                        context=decimal.Context(prec=400))
    assert float(exact) == round(v, 3)
body["round3"] = [[v, round(v, 3)] for v in values]

write(
    "stats",
    "scipy.stats.t, norm, ttest_ind(equal_var=False), ttest_rel, kendalltau(variant='b'); statsmodels DescrStatsW.ttost_mean, "
    "CompareMeans.ttost_ind, multipletests(method='holm'); numpy.percentile; Python round, checked against decimal",
    body,
)
