"""What the shapes of larger models cost: loading, memory, bytes, the time and memory of a build.

    python benchmarks/load_and_size.py [--shared FOLDER] [--only ROW]... [--json FILE]

Weights are random (so fidelity is not measured), shapes and the XLM-R tokenizer are real. Each row runs in a
process of its own; memory is that process's peak, or how much it grew by what is measured.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from results_file import write_result

THREADS = 2
KOEN_ROWS = 41_348
SMALL = {
    "architectures": ["BertModel"], "model_type": "bert", "hidden_size": 384, "num_hidden_layers": 12,
    "num_attention_heads": 12, "intermediate_size": 1536, "max_position_embeddings": 512,
    "type_vocab_size": 2, "vocab_size": 250_037, "pad_token_id": 0,
}  # fmt: skip
LARGE = {
    "architectures": ["XLMRobertaModel"], "model_type": "xlm-roberta", "hidden_size": 1024,
    "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
    "max_position_embeddings": 514, "type_vocab_size": 1, "vocab_size": 250_002, "pad_token_id": 1,
    "bos_token_id": 0, "eos_token_id": 2, "layer_norm_eps": 1e-5,
}  # fmt: skip
# What each row may take, and what it should.
FLOORS = {
    "session": {"seconds": 0.35, "grown_mb": 180},
    "facade": {"seconds": 1.6, "peak_mb": 520},
    "pruned": {"folder_mb": 24},
    "large": {"seconds": 300, "peak_mb": 8000},
}
GOALS = {"facade": {"seconds": 0.5, "peak_mb": 250}, "pruned": {"folder_mb": 21}}


def main() -> None:
    root = Path(__file__).resolve().parents[1]
    shared = Path(os.environ.get("RINGKAS_SHARED", root.parent / "shared"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=shared / "data", help="has xlmr/tokenizer.json.gz")
    parser.add_argument("--only", action="append", choices=list(FLOORS))
    parser.add_argument("--repeat", type=int, default=3, help="of the rows that load")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    wanted = options.only or list(FLOORS)
    found: dict[str, Any] = {"weights": "random", "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if {"session", "facade", "pruned"}.intersection(wanted):
            make_checkpoint(place / "small", SMALL, options.shared)
        if {"session", "facade"}.intersection(wanted):
            say("building onnx-int8 of the e5-small shape")
            child("build", place / "small", place / "dist", "onnx-int8", "little")
        for row in ("session", "facade"):
            if row in wanted:
                runs = [child(row, place / "dist" / "onnx-int8") for _ in range(options.repeat)]
                found[row] = {key: min(run[key] for run in runs) for key in runs[0]}
        if "pruned" in wanted:
            say(f"building onnx-int4 of the e5-small shape cut to {KOEN_ROWS} rows")
            found["pruned"] = child("pruned", place / "small", place / "pruned")
        if "large" in wanted:
            make_checkpoint(place / "large", LARGE, options.shared)
            say("building onnx-int8 of the XLM-R-large shape")
            found["large"] = child("build", place / "large", place / "large-dist", "onnx-int8", "full")
    report = {row: value | met(row, value) if row in FLOORS else value for row, value in found.items()}
    print(json.dumps(report, indent=1))
    if options.json:
        write_result(options.json, report)


def met(row: str, value: dict[str, float]) -> dict[str, Any]:
    """Whether the row's floor, and its goal if it has one, is met."""
    tables = {"floor_met": FLOORS, "goal_met": GOALS}
    return {
        name: all(value[key] <= limit for key, limit in table[row].items())
        for name, table in tables.items()
        if row in table
    }


def child(row: str, *arguments: object) -> dict[str, float]:
    command = [sys.executable, __file__, "--run", row, *map(str, arguments)]
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "RINGKAS_CACHE_MB": "0"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    say(f"{row}: {result}")
    return result


def make_checkpoint(folder: Path, config: dict[str, Any], shared: Path) -> None:
    """A sentence-transformers folder with random weights; e5's prompts."""
    import torch
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(20240607)
    own = dict(config)
    model = AutoModel.from_config(AutoConfig.for_model(own.pop("model_type"), **own)).eval()
    model.save_pretrained(folder)
    tokenizer = gzip.decompress((shared / "xlmr" / "tokenizer.json.gz").read_bytes())
    (folder / "tokenizer.json").write_bytes(tokenizer)
    files = {
        "config.json": config,
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512, "pad_token": "<pad>",
            "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>",
        },
        "modules.json": [
            {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for index, (path, kind) in enumerate(
                [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
            )
        ],
        "1_Pooling/config.json": {
            "word_embedding_dimension": config["hidden_size"], "pooling_mode_mean_tokens": True,
        },
        "sentence_bert_config.json": {"max_seq_length": 512, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": {"query": "query: ", "passage": "passage: "}},
    }  # fmt: skip
    for name, value in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(value), encoding="utf-8")


def quick_scheme(target: str) -> Any:
    """The target's own, calibrated on little: neither bytes nor loading depend on how weights are rounded."""
    from msgspec.structs import replace

    from ringkas.quantize.for_onnx.schemes import SCHEMES

    return replace(SCHEMES[target], calibration_tokens=400, sensitivity_tokens=60)


def run_build(model: str, out: str, target: str, calibration: str) -> dict[str, float]:
    """The whole `build`: reading, quantising, writing, verifying; and the least it could take here.

    The floor is the float32 products of PyTorch's pass over the probe set, which verifying needs, and of the
    calibration, at the speed of one large product before and after; all else, the quantised graph's own pass
    over the probe set included, would have to take no time.
    """
    from ringkas import build_all, open_checkpoint
    from ringkas.export.build import BuildOptions
    from ringkas.progress import Progress

    checkpoint = open_checkpoint(model)
    speed = [product_gops()]
    started = time.perf_counter()
    options = BuildOptions(scheme=quick_scheme(target) if calibration == "little" else None)
    (built,) = build_all(checkpoint, [target], out, options, Progress())
    seconds = time.perf_counter() - started
    speed.append(product_gops())
    tokens = probe_tokens(checkpoint) + built.artifact.manifest.scheme["calibration"]["tokens"]
    giga_operations = 2e-9 * tokens * product_weights(checkpoint.config)
    return {
        "seconds": round(seconds, 1),
        "peak_mb": peak_mb(),
        "float_tokens": tokens,
        "product_gops_before": round(speed[0], 1),
        "product_gops_after": round(speed[1], 1),
        "least_seconds": round(giga_operations / max(speed), 1),
    }


def product_gops() -> float:
    """Billions of operations a second of a feed-forward's product, float32: the best of forty."""
    import torch

    inputs, weight = torch.randn(512, 1024), torch.randn(4096, 1024)
    taken = []
    for _ in range(40):
        started = time.perf_counter()
        torch.nn.functional.linear(inputs, weight)
        taken.append(time.perf_counter() - started)
    return 2e-9 * inputs.numel() * len(weight) / min(taken)


def product_weights(config: Any) -> int:
    """The weights of the linear layers."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    return int(config["num_hidden_layers"]) * (4 * width * width + 2 * width * inner)


def probe_tokens(checkpoint: Any) -> int:
    from ringkas import texts
    from ringkas.tokens import TextTokenizer

    sample = [text for part in texts.probe(checkpoint.languages).values() for text in part]
    return sum(map(len, TextTokenizer(checkpoint.path, checkpoint.spec).encode(sample)))


def run_pruned(model: str, out: str) -> dict[str, float]:
    from ringkas import build_all, open_checkpoint
    from ringkas.export.build import BuildOptions
    from ringkas.export.vocabulary.prune import PruneOptions

    options = BuildOptions(prune=PruneOptions(("ko", "en"), {}, KOEN_ROWS), scheme=quick_scheme("onnx-int4"))
    (built,) = build_all(open_checkpoint(model), ["onnx-int4"], out, options)
    scheme, certificate = built.artifact.manifest.scheme, built.artifact.manifest.vocabulary
    assert certificate is not None
    files = {name: round(entry.size / 1e6, 2) for name, entry in built.artifact.manifest.files.items()}
    return {
        "folder_mb": round(built.artifact.size / 1e6, 2),
        "rows": certificate["rows"]["after"],
        "bits_per_weight": scheme["stored_bits_per_weight"],
        "graph_mb": files["onnx/model.onnx"],
        "tokenizer_mb": files["tokenizer.json"],
    }


def run_session(artifact: str) -> dict[str, float]:
    """Opening the session alone, onnxruntime itself imported before."""
    import onnxruntime  # noqa: F401

    from ringkas.artifact import open_artifact
    from ringkas.runtimes.engines.onnxruntime_engine import open_session

    path = open_artifact(artifact).model_path
    before, started, cpu = resident_mb(), time.perf_counter(), time.process_time()
    session = open_session(path, THREADS)
    taken = time.perf_counter() - started
    assert session is not None
    return {
        "seconds": round(taken, 3),
        "cpu_seconds": round(time.process_time() - cpu, 3),
        "grown_mb": round(resident_mb() - before, 1),
        "peak_mb": peak_mb(),
    }


def run_facade(artifact: str) -> dict[str, float]:
    """From a process with nothing imported to the first text's vector."""
    started = time.perf_counter()
    import ringkas

    encoder = ringkas.load(artifact, threads=THREADS, allow_failed=True)
    encoder.encode_query("how much protein should a female eat")
    return {
        "seconds": round(time.perf_counter() - started, 3),
        "cpu_seconds": round(time.process_time(), 3),
        "peak_mb": peak_mb(),
    }


def peak_mb() -> float:
    return _status("VmHWM")


def resident_mb() -> float:
    return _status("VmRSS")


def _status(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return round(int(found[1]) * 1024 / 1e6, 1)


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


RUNS: dict[str, Callable[..., dict[str, float]]] = {
    "build": run_build,
    "pruned": run_pruned,
    "session": run_session,
    "facade": run_facade,
}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        print(json.dumps(RUNS[sys.argv[2]](*sys.argv[3:])))
    else:
        main()
