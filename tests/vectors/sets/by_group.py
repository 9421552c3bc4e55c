"""The split by lesion of ISIC2019 in plain Python, from the rule's text. Run: python by_group.py FOLDER_OF_THE_LABEL_FILES"""

import csv
import hashlib
import random
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path


def by_group(groups, classes, held):
    n = len(classes)
    v = int(n * held)
    total = Counter(classes)
    kinds = range(max(total) + 1)
    take = [total[c] * v // n for c in kinds]
    for c in sorted(kinds, key=lambda c: (-(total[c] * v % n), c))[: v - sum(take)]:
        take[c] += 1
    places, odd = [], 0
    for c in kinds:
        odd += take[c] % 2
        val = take[c] // 2 + (take[c] % 2 == 1 and odd % 2 == 0)
        places.append([total[c] - take[c], val, take[c] - val])
    members = {}
    for row, group in enumerate(groups):
        members.setdefault(group or row, []).append(row)
    members = list(members.values())
    counts = [Counter(classes[row] for row in rows) for rows in members]
    order = list(range(len(members)))
    random.Random(42).shuffle(order)
    order.sort(key=lambda g: (-min(2, len(counts[g])), -len(members[g])))
    every = [sum(p[k] for p in places) for k in range(3)]
    left, left_all, parts = [list(p) for p in places], list(every), [[], [], []]
    for g in order:
        size = len(members[g])
        main = max(counts[g].items(), key=lambda c: (c[1], -c[0]))[0]
        room = [p for p in range(3) if left_all[p] >= size]
        best = [p for p in room if all(left[c][p] >= k for c, k in counts[g].items())]
        if best:
            part = max(best, key=lambda p: (Fraction(left[main][p], places[main][p]), -p))
        elif room:
            part = max(room, key=lambda p: (Fraction(left_all[p], every[p]), -p))
        else:
            part = max(range(3), key=lambda p: (left_all[p], -p))
        for c, k in counts[g].items():
            left[c][part] -= k
        left_all[part] -= size
        parts[part] += members[g]
    return [sorted(part) for part in parts]


def main(folder):
    truth, meta = (
        list(csv.DictReader((folder / f"ISIC_2019_Training_{name}.csv").open(newline="")))
        for name in ("GroundTruth", "Metadata")
    )
    names = ["MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC"]
    lesion = {row["image"]: row["lesion_id"] for row in meta}
    classes = [next(i for i, name in enumerate(names) if float(row[name])) for row in truth]
    for part in by_group([lesion[row["image"]] for row in truth], classes, 0.2):
        print(len(part), hashlib.sha256(",".join(map(str, part)).encode()).hexdigest()[:16])


main(Path(sys.argv[1]))
