"""The stages of prove.py: each takes the setting and returns what it measured, or says why it cannot."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

_REPOSITORY = Path(__file__).resolve().parents[2]
_PRECISIONS = ("fp16", "bf16", "int8", "fp8")
# Dense bf16 operations and bytes a second of the vendor's datasheets, by a part of the card's name.
DATASHEETS = {"H200": (990e12, 4.8e12), "H100": (990e12, 3.35e12), "A100": (312e12, 2.0e12)}
# IgniteMS, TensorRT fp16 on one A100 40 GB, passages of about 68 tokens.
IGNITE = {"e5-small": 41_842, "XLM-R-large": 5_610}


class Absent(Exception):
    """A stage cannot run here; the message says why."""


@dataclass(frozen=True)
class Setting:
    """Where and how large. `carried` holds what travelled: artifacts, weights."""

    device: str
    rehearsal: bool
    carried: Path
    scratch: Path

    @property
    def seconds(self) -> float:
        return 0.02 if self.rehearsal else 0.3


Result = dict[str, Any]


def machine(setting: Setting) -> Result:
    """The card, its driver, the versions, and what it reaches: a copy's bytes and a product's operations."""
    import torch

    names = ("torch", "transformers", "onnxruntime-gpu", "onnxruntime", "tensorrt", "tensorrt-rtx", "numpy")
    found: Result = {"python": platform.python_version(), "processor": platform.processor()}
    found["versions"] = {name: _version(name) for name in names if _version(name)}
    if setting.device == "cuda":
        query = "--query-gpu=name,driver_version,memory.total,clocks.sm,clocks.mem,power.limit"
        done = subprocess.run(
            ["nvidia-smi", query, "--format=csv,noheader"], capture_output=True, text=True, check=False
        )
        found["nvidia_smi"] = done.stdout.strip()
        found["gpu"] = torch.cuda.get_device_name()
    size = 256 if setting.rehearsal else 8192
    left, right = (torch.randn(size, size, device=setting.device, dtype=torch.bfloat16) for _ in range(2))
    seconds = _seconds(setting, lambda: left @ right)
    found["bf16_tflops"] = round(2 * size**3 / seconds / 1e12, 3)
    source = torch.zeros(
        (1 << 20) if setting.rehearsal else (1 << 32), dtype=torch.uint8, device=setting.device
    )
    target = torch.empty_like(source)
    found["copy_gbytes"] = round(
        2 * source.numel() / _seconds(setting, lambda: target.copy_(source)) / 1e9, 2
    )
    return found


def throughput(name: str) -> Callable[[Setting], Result]:
    """PyTorch in 16 bits, padded and packed, launched and captured, on the grid, as shares of the floor."""

    def stage(setting: Setting) -> Result:
        import workloads as w

        shape = w.rehearsed(w.SHAPES[name]) if setting.rehearsal else w.SHAPES[name]
        grid = [[tokens] * texts for texts, tokens in (w.REHEARSED_GRID if setting.rehearsal else w.GRID)]
        grid.append(w.passage_lengths(8 if setting.rehearsal else 256))
        rows: list[Result] = []
        for dtype in ("bfloat16", "float16"):
            for form, run, start in _forms(setting, shape, dtype):
                for lengths in grid:
                    rows.append({"dtype": dtype, "form": form} | _row(setting, shape, lengths, run, start))
        return {"shape": vars(shape), "rows": rows}

    stage.__doc__ = throughput.__doc__
    return stage


def _forms(setting: Setting, shape: Any, dtype: str) -> Iterator[tuple[str, Any, Any]]:
    import torch
    import workloads as w

    from ringkas.runtimes.engines import pytorch_packed

    reference = w.reference_of(shape, dtype, setting.device, "sdpa")
    yield "padded", w.padded_runner(reference, setting.device), None
    del reference
    if setting.device == "cuda":
        torch.cuda.empty_cache()
    pytorch_packed.register()
    reference = w.reference_of(shape, dtype, setting.device, pytorch_packed.ATTENTION)
    for form, capture in (("packed, launched", False), ("packed, one graph", True)):
        if capture and setting.device != "cuda":
            continue
        yield (form, *w.packed_runner(shape, reference, capture=capture))


def _row(setting: Setting, shape: Any, lengths: list[int], run: Any, start: Any) -> Result:
    import workloads as w

    batch = w.batch_of(shape, lengths)
    row = {"texts": len(lengths), "tokens": sum(lengths), "longest": max(lengths)}
    row |= w.milliseconds(lambda: run(batch), setting.seconds)
    if start is not None:
        row["queued_ms"] = w.queued_milliseconds(lambda: start(batch), 3 if setting.rehearsal else 20)
    floor = floor_ms(setting, shape, lengths)
    if floor is not None:
        row |= {"floor_ms": round(floor, 4), "share_of_floor": round(floor / row["ms"], 3)}
    return row


def floor_ms(setting: Setting, shape: Any, lengths: list[int]) -> float | None:
    """The least time of a batch on this card by its datasheet; None for a card that is not in the table."""
    import torch

    name = torch.cuda.get_device_name() if setting.device == "cuda" else ""
    peaks = next((peaks for part, peaks in DATASHEETS.items() if part in name), None)
    if peaks is None:
        return None
    operations = sum(shape.operations(1, tokens) for tokens in lengths)
    return 1e3 * max(operations / peaks[0], 2 * shape.weights / peaks[1])


def parity(setting: Setting) -> Result:
    """The PyTorch engine on the device against the reference on the CPU, by language."""
    from ringkas import load_reference_encoder, texts

    model, probe = _model(), texts.probe()
    if setting.rehearsal:
        probe = {language: lines[:2] for language, lines in probe.items()}
    found: Result = {"model": model}
    with load_reference_encoder(model, device="cpu") as reference:
        expected = {language: reference.encode(list(lines)) for language, lines in probe.items()}
    for dtype in ("float32", "bfloat16", "float16"):
        with load_reference_encoder(model, device=setting.device, dtype=dtype) as encoder:
            vectors = {language: encoder.encode(list(lines)) for language, lines in probe.items()}
        found[dtype] = {language: _closeness(expected[language], vectors[language]) for language in probe}
    return found


def passages(setting: Setting) -> Result:
    """Texts a second on passages of about 68 tokens, ids in and vectors out, and with the tokenizer."""
    import workloads as w

    from ringkas import load_reference_encoder, questions
    from ringkas.runtimes.engines import pytorch_packed
    from ringkas.runtimes.packing import pack

    found: Result = {}
    for name, count in (("e5-small", 65_536), ("XLM-R-large", 16_384)):
        shape = w.rehearsed(w.SHAPES[name]) if setting.rehearsal else w.SHAPES[name]
        lengths = sorted(w.passage_lengths(64 if setting.rehearsal else count), reverse=True)
        pytorch_packed.register()
        reference = w.reference_of(shape, "bfloat16", setting.device, pytorch_packed.ATTENTION)
        _, start = w.packed_runner(shape, reference, capture=True)
        batches = [w.batch_of(shape, lengths[row : row + 256]) for row in range(0, len(lengths), 256)]
        for batch in {pack(batch, 0).bucket: batch for batch in batches}.values():
            start(batch)()  # every graph is captured before the clock starts
        began = time.perf_counter()
        for wait in [start(batch) for batch in batches]:
            wait()
        rate = len(lengths) / (time.perf_counter() - began)
        found[name] = {"texts": len(lengths), "tokens": sum(lengths), "texts_per_s": round(rate, 1)}
        found[name] |= {"ignite_a100_texts_per_s": IGNITE[name]}
    written = [passage for asked in questions.questions().values() for passage in questions.passages(asked)]
    corpus = [" ".join(written[row : row + 2]) for row in range(len(written) - 1)]
    corpus = corpus[:16] if setting.rehearsal else corpus * 20
    with load_reference_encoder(_model(), device=setting.device, dtype="bfloat16") as encoder:
        encoder.encode(corpus)
        began = time.perf_counter()
        encoder.encode(corpus)
        found["with the tokenizer"] = {"texts": len(corpus), "model": _model()}
        found["with the tokenizer"]["texts_per_s"] = round(len(corpus) / (time.perf_counter() - began), 1)
    return found


def streams(setting: Setting) -> Result:
    """Single texts of 32 tokens from 1, 2, 4 and 8 threads: texts a second, and the latency's tail."""
    import workloads as w

    from ringkas.runtimes.engines import pytorch_packed

    shape = w.rehearsed(w.SHAPES["e5-small"]) if setting.rehearsal else w.SHAPES["e5-small"]
    pytorch_packed.register()
    reference = w.reference_of(shape, "bfloat16", setting.device, pytorch_packed.ATTENTION)
    run, _ = w.packed_runner(shape, reference, capture=True)
    batch, calls = w.batch_of(shape, [32]), 4 if setting.rehearsal else 500
    run(batch)

    def client(_: int) -> list[float]:
        samples = []
        for _ in range(calls):
            began = time.perf_counter()
            run(batch)
            samples.append(1e3 * (time.perf_counter() - began))
        return samples

    found: Result = {}
    for threads in (1, 2, 4, 8):
        began = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            samples = [sample for part in pool.map(client, range(threads)) for sample in part]
        rate = len(samples) / (time.perf_counter() - began)
        p50, p99 = np.percentile(samples, [50, 99])
        found[str(threads)] = {
            "texts_per_s": round(rate, 1),
            "p50_ms": round(p50, 4),
            "p99_ms": round(p99, 4),
        }
    return found


def onnx_cuda(setting: Setting) -> Result:
    """The artifact onnx-fp16 with ONNX Runtime's CUDA provider: parity from its own probe, and times."""
    if find_spec("onnxruntime") is None:
        raise Absent("onnxruntime is not installed")
    import onnxruntime

    providers = onnxruntime.get_available_providers()
    if setting.device == "cuda" and "CUDAExecutionProvider" not in providers:
        raise Absent(
            f"onnxruntime {onnxruntime.__version__} has only {', '.join(providers)}: carry onnxruntime-gpu"
        )
    return _encoded(setting, _artifact(setting, "onnx-fp16"))


def tensorrt(engine: str) -> Callable[[Setting], Result]:
    """Plans built here from deferred artifacts, run and verified: fp16, bf16, int8, fp8."""

    def stage(setting: Setting) -> Result:
        from ringkas.runtimes.engines.tensorrt_library import LIBRARIES, find_library

        if find_library(engine, building=True) is None:
            raise Absent(f"{LIBRARIES[engine].name}'s builder is not installed")
        found: Result = {}
        for precision in _PRECISIONS[:1] if setting.rehearsal else _PRECISIONS:
            try:
                shipped = _artifact(setting, f"tensorrt-rtx-{precision}", f"tensorrt-{precision}")
                found[precision] = _rebuilt(setting, shipped, f"{engine}-{precision}")
            except Absent as error:
                found[precision] = {"absent": str(error)}
        if all("absent" in one for one in found.values()):
            raise Absent("; ".join(sorted({one["absent"] for one in found.values()})))
        return found

    stage.__doc__ = tensorrt.__doc__
    return stage


def _rebuilt(setting: Setting, shipped: Path, target: str) -> Result:
    command = [
        "rebuild",
        str(shipped),
        "--target",
        target,
        "--out",
        str(setting.scratch),
        "--overwrite",
        "--json",
    ]
    began = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": f"{_REPOSITORY / 'src'}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        [sys.executable, "-m", "ringkas", *command],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    row: Result = {"build_s": round(time.perf_counter() - began, 2), "exit_status": done.returncode}
    row["said"] = (done.stderr.strip().splitlines() or [""])[-1][:300]
    if done.returncode not in (0, 1):
        return row
    if setting.device != "cuda":
        return row | {"executed": False}
    return row | _encoded(setting, setting.scratch / target)


def _encoded(setting: Setting, artifact: Path) -> Result:
    """An artifact's parity with the vectors that it carries, and its times on the grid, on the device."""
    import workloads as w

    from ringkas import load
    from ringkas.runtimes.parity.probe import load_probe

    probe = load_probe(artifact)
    found: Result = {"artifact": artifact.name}
    with load(artifact, device=setting.device, allow_failed=True) as encoder:
        rows = range(len(probe))[:8] if setting.rehearsal else range(len(probe))
        vectors = encoder.encode_ids([probe.token_ids[row] for row in rows])
        found["parity"] = _closeness(probe.vectors[list(rows)].astype(np.float32), vectors)
        timings = {}
        for texts, tokens in w.REHEARSED_GRID if setting.rehearsal else w.GRID:
            if tokens <= encoder.spec.max_length:
                ids = np.random.default_rng(0).integers(999, 20_000, (texts, tokens)).tolist()
                timing = w.milliseconds(lambda ids=ids: encoder.encode_ids(ids, 1 << 20), setting.seconds)
                timings[f"{texts}x{tokens}"] = timing
    return found | {"timings": timings}


def _model() -> str:
    """demo-e5 where its weights are, else the demo model."""
    from ringkas import open_checkpoint
    from ringkas.errors import RingkasError

    reasons = []
    for name in ("demo-e5", "demo"):
        try:
            open_checkpoint(name)
        except RingkasError as error:
            reasons.append(str(error))
        else:
            return name
    raise Absent(f"no weights: {reasons[-1]}")


def _artifact(setting: Setting, *names: str) -> Path:
    for name in names:
        if (setting.carried / name).is_dir():
            return setting.carried / name
    raise Absent(f"no artifact {' or '.join(names)} in {setting.carried}: make gpu-artifacts, then carry it")


def _closeness(expected: np.ndarray, found: np.ndarray) -> Result:
    from ringkas.runtimes.parity.judge import cosine

    cosines = cosine(expected, found)
    return {
        "texts": len(cosines),
        "cosine_min": round(float(cosines.min()), 6),
        "cosine_mean": round(float(cosines.mean()), 6),
    }


def _seconds(setting: Setting, work: Callable[[], Any]) -> float:
    """The least of several calls, each waited for."""
    import torch

    wait = torch.cuda.synchronize if setting.device == "cuda" else (lambda: None)
    samples = []
    for _ in range(3 if setting.rehearsal else 12):
        began = time.perf_counter()
        work()
        wait()
        samples.append(time.perf_counter() - began)
    return min(samples)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


@dataclass(frozen=True)
class Stage:
    """`limit` is in seconds, on the GPU; what takes longer is ended."""

    limit: int
    run: Callable[[Setting], Result]


# In the order of their worth: what comes first is there even if the machine goes away.
STAGES = {
    "machine": Stage(60, machine),
    "parity": Stage(90, parity),
    "throughput, e5-small": Stage(75, throughput("e5-small")),
    "passages": Stage(75, passages),
    "throughput, XLM-R-large": Stage(90, throughput("XLM-R-large")),
    "throughput, MiniLM": Stage(45, throughput("MiniLM")),
    "streams": Stage(30, streams),
    "onnx-fp16, CUDA provider": Stage(45, onnx_cuda),
    "TensorRT-RTX": Stage(120, tensorrt("tensorrt-rtx")),
    "TensorRT": Stage(150, tensorrt("tensorrt")),
}
