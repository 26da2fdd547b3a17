"""TensorRT as a format: a typed graph that its oracle judges, then the plan, here or on the device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ringkas.artifact import Artifact, Manifest
from ringkas.checkpoint import Checkpoint
from ringkas.errors import MissingExtra
from ringkas.export.finish import Job, Written
from ringkas.export.model_card import normalised
from ringkas.export.to_tensorrt.finish import finish_build, profiles_for
from ringkas.export.to_tensorrt.graph import write_typed_graph
from ringkas.export.to_tensorrt.plan import check_options
from ringkas.quantize.for_tensorrt.schemes import tensorrt_scheme
from ringkas.runtimes.engines.tensorrt_library import LIBRARIES, find_library
from ringkas.runtimes.engines.tensorrt_record import DEFERRED
from ringkas.runtimes.parity.judge import ParityReport
from ringkas.runtimes.parity.probe import Probe
from ringkas.targets import Target

if TYPE_CHECKING:
    from ringkas.export.build import BuildOptions

_CARD = """`model.plan`, once it is built, is for {library}; `triton/` is a model repository for Triton:

```
tritonserver --model-repository triton
```

Inputs are `input_ids` and `attention_mask`, int32, shape (batch, sequence), padded on the right, at most
{max_length} tokens made with `tokenizer.json`; the output `sentence_embedding` is pooled{normalized},
float32, shape (batch, {dimension}).

On another GPU, or with another version, `ringkas rebuild PATH --target TARGET --out DIR` builds the plan
again from `onnx/model.onnx` and verifies it there, without PyTorch."""


def check(checkpoint: Checkpoint, target: Target, options: BuildOptions) -> None:
    """What can be said of a plan before the graph is written: the builder, its options, the profiles."""
    library, plan = LIBRARIES[target.engine], options.plan
    if not plan.defer and find_library(target.engine, building=True) is None:
        raise MissingExtra(library.name, library.extra)
    check_options(target.engine, tensorrt_scheme(target.name), plan)
    profiles_for(checkpoint.path, checkpoint.spec, plan)


def write(job: Job) -> Written:
    return Written(*write_typed_graph(job.checkpoint, job.target.name, job.folder), execution=DEFERRED)


def judge(job: Job, artifact: Artifact, probe: Probe) -> ParityReport:
    """By the graph's oracle and then, where the plan is built and there is a GPU, by the plan."""
    return finish_build(job.checkpoint, artifact, probe, job.options.plan, job.progress)


def card(manifest: Manifest, folder: Path) -> str:
    spec = manifest.encoding
    return _CARD.format(
        library=LIBRARIES[manifest.engine].name,
        max_length=spec.max_length,
        normalized=normalised(spec),
        dimension=spec.dimension,
    )
