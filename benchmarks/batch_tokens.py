"""How many tokens should a batch hold on a CPU? Times the facade over a mixed-length set at each budget.

    python benchmarks/batch_tokens.py dist/onnx-fp32 [--rounds 5] [--json FILE]

The budgets are interleaved; the vectors of each are compared with those of one text at a time.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from results_file import write_result

from ringkas import load, texts

BUDGETS = (1, 64, 128, 256, 512, 1024, 2048, 4096, 8192)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    sample = [*texts.probe(["en"])["en"], *texts.calibration(["en"])["en"]]
    with load(options.artifact, threads=options.threads) as encoder:
        alone = encoder.encode(sample, batch_tokens=1)
        samples: dict[int, list[float]] = {budget: [] for budget in BUDGETS}
        for _ in range(options.rounds):
            for budget in BUDGETS:
                started = time.perf_counter()
                vectors = encoder.encode(sample, batch_tokens=budget)
                samples[budget].append(time.perf_counter() - started)
                np.testing.assert_allclose(vectors, alone, atol=1e-4)
    best = min(float(np.median(values)) for values in samples.values())
    result = {
        str(budget): {
            "ms": round(1e3 * float(np.median(values)), 1),
            "to_best": round(np.median(values) / best, 3),
        }
        for budget, values in samples.items()
    }
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_result(options.json, {"texts": len(sample), "budgets": result})


if __name__ == "__main__":
    main()
