"""What TensorBoard reads: python board.py FOLDER prints JSON, run -> tag -> [[step, value], ...]."""
import json
import sys

from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

all_runs = EventMultiplexer().AddRunsFromDirectory(sys.argv[1])
all_runs.Reload()
out = {}
for run, tags in all_runs.Runs().items():
    out[run] = {t: [[e.step, e.value] for e in all_runs.Scalars(run, t)] for t in tags["scalars"]}
print(json.dumps(out))
