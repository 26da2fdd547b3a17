"""Time and memory of cutting a checkpoint of XLM-R-large's shape (2.2 GB, random weights) to two languages.

    python benchmarks/prune_speed.py [--shared FOLDER] [--layers 24] [--rounds 3] [--out FILE]

Each round is a process of its own. Reports the seconds of each stage, wall and CPU time, and the peak of
resident memory, of which pages of the mapped weights are a part; the goal is a minute on two quiet cores
and 1.5 times the size on disk.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from results_file import write_result

from ringkas.checkpoint import open_checkpoint
from ringkas.export.vocabulary.prune import PruneOptions, prune_checkpoint
from ringkas.progress import Progress

LARGE = {
    "architectures": ["XLMRobertaModel"],
    "model_type": "xlm-roberta",
    "hidden_size": 1024,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "vocab_size": 250_002,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "layer_norm_eps": 1e-5,
    "hidden_act": "gelu",
}
DEVIATION = 0.02  # of weights as transformers initialises them


class Stages(Progress):
    """Remembers how long each stage took."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        with super().stage(name):
            yield
        self.seconds[name] = round(time.perf_counter() - started, 2)


def main() -> None:
    root = Path(__file__).resolve().parent
    shared = Path(os.environ.get("RINGKAS_SHARED", root.parents[1] / "shared"))
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shared", type=Path, default=shared / "data", help="holds xlmr/tokenizer.json.gz")
    parser.add_argument("--languages", default="ko,en")
    parser.add_argument("--rows", type=int, default=41_348)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=root / "results" / "vocabulary" / "prune_speed.json")
    parser.add_argument("--child", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(prune(options.child, options.languages.split(","), options.rows)))
        return
    with tempfile.TemporaryDirectory() as folder:
        config = LARGE | {"num_hidden_layers": options.layers}
        size = make_checkpoint(Path(folder) / "large", options.shared, config)
        rounds = []
        for _ in range(options.rounds):
            command = [sys.executable, __file__, "--languages", options.languages]
            command += ["--rows", str(options.rows), "--child", folder]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            rounds.append(json.loads(done.stdout.splitlines()[-1]))
    report = {
        "checkpoint_bytes": size,
        "languages": options.languages,
        "layers": options.layers,
        "seconds": float(np.median([one["seconds"] for one in rounds])),
        "cpu_seconds": float(np.median([one["cpu_seconds"] for one in rounds])),
        "peak_over_size": round(max(one["peak_bytes"] for one in rounds) / size, 2),
        "rounds": rounds,
    }
    write_result(options.out, report)
    print(json.dumps(report, indent=1))


def prune(folder: Path, languages: list[str], rows: int) -> dict[str, Any]:
    """One pruning of `folder`/large, in this process."""
    target, progress = folder / "pruned", Stages()
    started, busy = time.perf_counter(), time.process_time()
    checkpoint = open_checkpoint(str(folder / "large"))
    prune_checkpoint(checkpoint, PruneOptions(tuple(languages), max_tokens=rows), target, progress=progress)
    report = {
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - busy, 1),
        "peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "load_average": round(os.getloadavg()[0], 1),
        "stages": progress.seconds,
    }
    shutil.rmtree(target)
    return report


def make_checkpoint(folder: Path, shared: Path, config: Mapping[str, Any]) -> int:
    """Writes a plain transformers folder with random weights; returns the bytes of its weights."""
    import torch
    from transformers import AutoConfig, AutoModel

    folder.mkdir()
    own = dict(config)
    with torch.device("meta"):
        model = AutoModel.from_config(AutoConfig.for_model(own.pop("model_type"), **own))
    shapes = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
    header, offset = {}, 0
    for name, shape in shapes.items():
        size = 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    chance = np.random.default_rng(0)
    with (folder / "model.safetensors").open("wb") as stream:
        encoded = json.dumps(header).encode()
        stream.write(struct.pack("<Q", len(encoded)) + encoded)
        for name, shape in shapes.items():
            # Norms near one, so that vectors stay vectors through 24 layers.
            mean = 1.0 if name.endswith("LayerNorm.weight") else 0.0
            for rows in np.array_split(np.arange(shape[0]), max(1, shape[0] // 8192)):
                values = chance.standard_normal((len(rows), *shape[1:]), dtype=np.float32)
                stream.write((mean + DEVIATION * values).tobytes())
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer = gzip.decompress((shared / "xlmr" / "tokenizer.json.gz").read_bytes())
    (folder / "tokenizer.json").write_bytes(tokenizer)
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512, **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return (folder / "model.safetensors").stat().st_size


if __name__ == "__main__":
    main()
