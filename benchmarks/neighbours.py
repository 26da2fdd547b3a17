"""How much a text's vector depends on the texts that are encoded with it: alone, and among all the others.

    python benchmarks/neighbours.py ARTIFACT... [--texts 52] [--json FILE]

The texts are the built-in probe's of the artifact's languages, short and long, so that batches are padded and
mixed as they come. An engine whose arithmetic is the same for every batch gives a cosine of 1.
"""

from __future__ import annotations

import argparse
import json
from itertools import chain, islice
from pathlib import Path
from typing import Any

from results_file import write_result

import ringkas
from ringkas import texts
from ringkas.runtimes.parity.judge import cosine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artifacts", nargs="+", type=Path)
    parser.add_argument("--texts", type=int, default=52)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [measure(path, options.texts) for path in options.artifacts]
    print(json.dumps(rows, indent=1))
    if options.json:
        write_result(options.json, rows)


def measure(path: Path, count: int) -> dict[str, Any]:
    """The least and the mean cosine of a text alone with the same text among `count`."""
    artifact = ringkas.open_artifact(path)
    spoken = texts.probe(artifact.manifest.languages or ["en", "ko", "th", "zh"])
    # One of each language in turn: short beside long, script beside script.
    mixed = list(islice(chain.from_iterable(zip(*spoken.values(), strict=False)), count))
    with ringkas.load(artifact) as encoder:
        together = encoder.encode(mixed)
        alone = [encoder.encode([text])[0] for text in mixed]
    found = [float(cosine(one[None], own[None])[0]) for one, own in zip(together, alone, strict=True)]
    return {
        "artifact": artifact.manifest.target,
        "model": artifact.manifest.name,
        "texts": len(mixed),
        "cosine_min": round(min(found), 8),
        "cosine_mean": round(sum(found) / len(found), 8),
    }


if __name__ == "__main__":
    main()
