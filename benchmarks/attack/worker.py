"""What the child does: opens what it is told, and says whether it was refused or what vectors came out."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attack.record import DEFECT, MEMORY, REFUSED, UNCLEAR

VECTORS = "vectors"
# Enough to touch every part of an encoder: short, long, odd, empty.
TEXTS = (
    "how do I reset my password?",
    "The cat sat on the mat.",
    "",
    "naïve café, 12,345.67 $ - (ok) [x]",
    "one of the first people in the world to work for the new year " * 4,
)
MOST_MEMORY = 2 << 30
# Above what is judged, so that the machine survives what would take all of it.
_MOST_DATA = 8 << 30
_LONGEST_MESSAGE = 1000


def load(folder: Path) -> str:
    """The vectors of an artifact."""
    import ringkas

    with ringkas.load(folder, threads=1) as encoder:
        return _digest(encoder.encode(TEXTS))


def verify(folder: Path) -> str:
    """The verdict on an artifact, which reads its probe and its map of ids too."""
    import ringkas

    report = ringkas.verify(folder, record=False, threads=1)
    return hashlib.sha256(f"{report.passed} {report.cosine_min} {report.top10_overlap}".encode()).hexdigest()


def checkpoint(folder: Path) -> str:
    """The vectors of a checkpoint by the reference."""
    from ringkas.runtimes.encoder import load_reference_encoder

    with load_reference_encoder(folder, threads=1) as encoder:
        return _digest(encoder.encode(TEXTS))


def plan(folder: Path) -> str:
    """A TensorRT plan as far as it goes without a GPU: checked, its record read, deserialised."""
    from ringkas.artifact import open_artifact
    from ringkas.runtimes.encoder import engine_module
    from ringkas.runtimes.engines.tensorrt_library import get_log, load_library
    from ringkas.runtimes.engines.tensorrt_record import read_record
    from ringkas.tokens import TextTokenizer

    artifact = open_artifact(folder)
    artifact.check_files(quickly=True)
    engine_module(artifact, None, None)
    read_record(artifact.manifest.scheme)
    ids = TextTokenizer(artifact.path, artifact.manifest.encoding).encode(TEXTS)
    trt = load_library(artifact.manifest.engine, building=False)
    engine = trt.Runtime(get_log(trt)).deserialize_cuda_engine(artifact.model_path.read_bytes())
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)] if engine else None
    return hashlib.sha256(f"{ids} {names}".encode()).hexdigest()


def texts(folder: Path, seed: str, count: int) -> dict[str, Any]:
    """Hostile texts through an encoder."""
    from attack.texts import texts_job

    return texts_job(folder, seed, count)


def threads(folder: Path, **options: Any) -> dict[str, Any]:
    """A round of many threads, many encoders, forks or signals."""
    from attack.threads import threads_job

    return threads_job(**options)


JOBS: dict[str, Callable[[Path], Any]] = {
    "load": load, "verify": verify, "checkpoint": checkpoint, "plan": plan,
    "texts": texts, "threads": threads,
}  # fmt: skip


def attempt(job: Callable[..., Any], folder: Path, **options: Any) -> dict[str, Any]:
    """What comes of a job: vectors, a refusal, or what must not be."""
    from ringkas.errors import RingkasError

    _forget_peak()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = job(folder, **options)
        answer = {"outcome": VECTORS, **(found if isinstance(found, dict) else {"digest": found})}
    except RingkasError as error:
        clear = "\n" not in str(error) and len(str(error)) <= _LONGEST_MESSAGE
        answer = {"outcome": REFUSED if clear else UNCLEAR, "message": str(error)[:2000]}
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a panic of Rust's is no Exception
        lines = traceback.format_exc().splitlines()
        where = next((line.strip() for line in reversed(lines) if "/ringkas/" in line), "")
        answer = {"outcome": DEFECT, "message": f"{type(error).__name__}: {str(error)[:300]} at {where}"}
    peak = _peak()
    if peak > MOST_MEMORY:
        return {"outcome": MEMORY, "message": f"{peak >> 20} MiB; {answer}", "last": True}
    return answer


def main() -> None:
    """Jobs on stdin, one JSON document a line; answers on what stdout was, which libraries print on."""
    resource.setrlimit(resource.RLIMIT_DATA, (_MOST_DATA, _MOST_DATA))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        options = json.loads(line)
        job, folder = JOBS[options.pop("job")], Path(options.pop("folder"))
        print(json.dumps(attempt(job, folder, **options)), file=answers, flush=True)


def _digest(vectors: Any) -> str:
    return hashlib.sha256(vectors.tobytes()).hexdigest()


def _forget_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:  # another system: the peak is the process's own, since it began
        return


def _peak() -> int:
    """The most memory since `_forget_peak`, in bytes."""
    try:
        lines: Sequence[str] = Path("/proc/self/status").read_text("utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM")), 0)
