"""GGUF as a format: whether llama.cpp can compute the family, and how the file is used without ringkas."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ringkas.artifact import Artifact, Manifest
from ringkas.checkpoint import Checkpoint
from ringkas.errors import TargetError
from ringkas.export import finish
from ringkas.export.finish import Job, Written
from ringkas.export.memory import is_streamed
from ringkas.export.to_gguf.architecture import architecture_of
from ringkas.export.to_gguf.convert import write_gguf
from ringkas.quantize.for_gguf.schemes import gguf_scheme
from ringkas.runtimes.parity.judge import ParityReport
from ringkas.runtimes.parity.probe import Probe
from ringkas.targets import Target

if TYPE_CHECKING:
    from ringkas.export.build import BuildOptions

_POOLING = {"lasttoken": "last"}
_CARD = """```
llama-server -m {model_file} --embedding --pooling {pooling} --ubatch-size {max_length}
```

and for Ollama, `ollama create NAME -f Modelfile` with a `Modelfile` of one line:

```
FROM ./{model_file}
```

Put the prompt, if there is one, before the text yourself, and scale the vectors to length 1:
llama-cpp-python's `llama_cpp.server` does not. Cut texts to {max_length} tokens first, special ones included:
llama-server refuses a longer one ("increase the physical batch size", which helps nothing), the other cuts it
without its closing token and without a word. Open the file with its own context length
(`llama_cpp.Llama(..., embedding=True, n_ctx=0)`): in a larger one, such as llama-cpp-python's default, a
longer text reads positions that the file does not have, and llama.cpp ends the process."""


def check(checkpoint: Checkpoint, target: Target, options: BuildOptions) -> None:
    """Refuses what llama.cpp's graph cannot compute, and what is too large for the rounding asked for."""
    architecture_of(checkpoint)
    scheme = gguf_scheme(target.name)
    if is_streamed(checkpoint, options.memory) and scheme.runs_the_model:
        raise TargetError(
            f"{target.name} runs calibration texts, and {checkpoint.name} is larger than the memory",
            fix="Choose one that is rounded without: gguf-q8_0 or gguf-q4_0, for example",
        )


def write(job: Job) -> Written:
    streamed = is_streamed(job.checkpoint, job.options.memory)
    result = write_gguf(job.checkpoint, job.target.name, job.folder, job.progress, streamed=streamed)
    for warning in result.warnings:
        job.progress.say(f"{job.target.name}: {warning}")
    return Written(result.model_file, result.scheme)


def judge(job: Job, artifact: Artifact, probe: Probe) -> ParityReport:
    """By llama.cpp."""
    return finish.judge_artifact(artifact, probe, job.progress)


def card(manifest: Manifest, folder: Path) -> str:
    mode = manifest.encoding.pooling.modes[0]
    return _CARD.format(
        model_file=manifest.model_file,
        pooling=_POOLING.get(mode, mode),
        max_length=manifest.encoding.max_length,
    )
