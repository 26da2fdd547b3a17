"""Model repositories for NVIDIA's Triton server: the plan, and the graph for servers without TensorRT.

Each backend has a repository of its own (`triton`, `triton-onnx`), since a server refuses to start on a model
whose backend it lacks. Clients send token ids: pad the texts of a request, and batch requests of one length,
for Triton joins only requests of equal shapes. Fields: model_config.proto of triton-inference-server/common.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from ringkas.artifact import Manifest
from ringkas.export.to_onnx.graph import MODEL_FILE
from ringkas.quantize.for_tensorrt.schemes import tensorrt_scheme
from ringkas.runtimes.engines.tensorrt_profiles import BULK_BATCH_LIMIT, Profile
from ringkas.runtimes.engines.tensorrt_record import PLAN_FILE
from ringkas.spec import INPUTS, SENTENCE_OUTPUT, TOKEN_OUTPUT

PLAN_REPOSITORY, ONNX_REPOSITORY = "triton", "triton-onnx"
# How long a request may wait for others to share its batch.
_QUEUE_DELAY_US = 500
# The precisions that ONNX Runtime's own kernels cover on a GPU and that its CPU has judged.
_IN_ONNXRUNTIME = ("fp16", "int8")


def model_name(manifest: Manifest) -> str:
    """The checkpoint's name in the letters that a model repository allows."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", manifest.name).strip("-.") or "model"


def write_plan_repository(folder: Path, manifest: Manifest, profiles: Sequence[Profile]) -> None:
    """`triton/NAME` beside the plan; the server uses the profile with the largest batch."""
    widest = max(range(len(profiles)), key=lambda index: profiles[index].most.batch)
    config = _config(
        manifest,
        platform="tensorrt_plan",
        most=profiles[widest].most.batch,
        group=f'{{ count: 1 kind: KIND_GPU profile: [ "{widest}" ] }}',
    )
    _write(folder / PLAN_REPOSITORY / model_name(manifest), config, {PLAN_FILE: folder / PLAN_FILE})


def write_onnx_repository(folder: Path, manifest: Manifest) -> None:
    """`triton-onnx/NAME` beside the graph, where ONNX Runtime can run its precision."""
    if tensorrt_scheme(manifest.target).precision not in _IN_ONNXRUNTIME:
        return
    config = _config(
        manifest, platform="onnxruntime_onnx", most=BULK_BATCH_LIMIT, group="{ count: 1 kind: KIND_AUTO }"
    )
    graph = folder / MODEL_FILE
    beside = sorted(graph.parent.glob(f"{graph.name}_data"))  # the weights of a large one
    files = {file.name: file for file in (graph, *beside)}
    _write(folder / ONNX_REPOSITORY / model_name(manifest), config, files)


def _config(manifest: Manifest, platform: str, most: int, group: str) -> str:
    inputs = ", ".join(f'{{ name: "{name}" data_type: TYPE_INT32 dims: [ -1 ] }}' for name in INPUTS)
    outputs = [
        f'{{ name: "{SENTENCE_OUTPUT}" data_type: TYPE_FP32 dims: [ {manifest.encoding.dimension} ] }}'
    ]
    if not manifest.encoding.pooling.include_prompt:
        outputs.append(f'{{ name: "{TOKEN_OUTPUT}" data_type: TYPE_FP32 dims: [ -1, -1 ] }}')
    return f"""name: "{model_name(manifest)}"
platform: "{platform}"
max_batch_size: {most}
input [ {inputs} ]
output [ {", ".join(outputs)} ]
dynamic_batching {{ max_queue_delay_microseconds: {_QUEUE_DELAY_US} }}
instance_group [ {group} ]
"""


def _write(model: Path, config: str, files: Mapping[str, Path]) -> None:
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text(config, encoding="utf-8")
    for name, source in files.items():
        _link(source, model / "1" / name)


def _link(source: Path, place: Path) -> None:
    """The same bytes under a second name; a copy where the file system has no links."""
    try:
        os.link(source, place)
    except OSError:
        shutil.copyfile(source, place)
