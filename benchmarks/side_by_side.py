"""Many batches through a session of all threads in turn, and side by side through one of one thread.

    python benchmarks/side_by_side.py dist/onnx-int8 SIB200/en.txt --json FILE

Both in one process, in turn, on the same batches; a long call of `encode`, `embed` and the server go the
second way.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from results_file import write_result

import ringkas
from ringkas.runtimes.engine import Engine, usable_cores


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artifact", type=Path)
    parser.add_argument("sentences", type=Path)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    texts = options.sentences.read_text("utf-8").splitlines()[: options.count]
    with (
        ringkas.load(options.artifact, threads=options.threads) as turn,
        ringkas.load(options.artifact, threads=options.threads) as beside,
    ):
        beside.engine.prepare_many()
        ids = turn.tokenizer.encode(texts)
        setattr(turn.engine, "run_many", partial(Engine.run_many, turn.engine))  # noqa: B010 (as it was before)
        rates: dict[str, list[float]] = {"in turn": [], "side by side": []}
        for _ in range(options.rounds + 1):
            for way, encoder in zip(rates, (turn, beside), strict=True):
                started = time.perf_counter()
                encoder.encode_ids(ids)
                rates[way].append(len(ids) / (time.perf_counter() - started))
        difference = float(np.abs(turn.encode_ids(ids) - beside.encode_ids(ids)).max())
    found: dict[str, Any] = {f"{way}, texts/s": median(rate[1:]) for way, rate in rates.items()}
    ratios = [after / before for before, after in zip(*(rate[1:] for rate in rates.values()), strict=True)]
    found |= {
        "artifact": "/".join(options.artifact.resolve().parts[-2:]), "texts": len(texts),
        "tokens": sum(map(len, ids)), "threads": options.threads, "ratios": ratios,
        "median_ratio": median(ratios), "largest_difference": difference,
    }  # fmt: skip
    write_result(options.json, found)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
