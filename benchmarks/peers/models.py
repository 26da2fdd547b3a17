"""What each peer loads, made from the demo checkpoint by the peer's own tools, and only once."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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


def _write_checkpoint(place: Path) -> None:
    """The demo checkpoint's sentence-transformers folder."""
    from ringkas import open_checkpoint

    shutil.copytree(open_checkpoint("demo").path, place)


def _write_optimum(place: Path) -> None:
    """Optimum's export and its dynamically quantised forms, in sentence-transformers' layout."""
    _run(interpreter("optimum"), _HERE / "make_onnx.py", CHECKPOINT.make(), place)


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


CHECKPOINT = Model("checkpoint", _write_checkpoint)
OPTIMUM = Model(
    "optimum",
    _write_optimum,
    (*ENVIRONMENTS["optimum"].requirements, (_HERE / "make_onnx.py").read_text("utf-8")),
)
LLAMA_CPP_SOURCE = Model("llama.cpp-source", _write_source, ENVIRONMENTS["llama.cpp"].requirements)
LLAMA_CPP_F16, LLAMA_CPP_Q8_0 = _converted("f16"), _converted("q8_0")
