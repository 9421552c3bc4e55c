"""What the vector scripts share: where they write, how, and which versions made them."""

import json
import math
import pathlib
import platform

import numpy
import scipy
import sklearn
import statsmodels

HERE = pathlib.Path(__file__).resolve().parent.parent


def clean(x):
    """JSON without NaN literals: undefined values are the string "nan", infinities "inf" and "-inf"."""
    if isinstance(x, dict):
        return {str(k): clean(v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return [clean(v) for v in x]
    if isinstance(x, numpy.ndarray):
        return clean(x.tolist())
    if isinstance(x, numpy.generic):
        return clean(x.item())
    if isinstance(x, float) and not math.isfinite(x):
        return "nan" if math.isnan(x) else ("inf" if x > 0 else "-inf")
    return x


def write(name, recipe, body):
    """Writes `<name>.json` with the versions and the recipe beside the cases."""
    doc = {
        "recipe": recipe,
        "versions": {
            "python": platform.python_version(),
            "numpy": numpy.__version__,
            "scipy": scipy.__version__,
            "scikit-learn": sklearn.__version__,
            "statsmodels": statsmodels.__version__,
        },
        **clean(body),
    }
    with open(HERE / f"{name}.json", "w") as f:
        f.write("{\n")
        f.write(",\n".join(f" {json.dumps(k)}: {json.dumps(v)}" for k, v in doc.items()))
        f.write("\n}\n")
