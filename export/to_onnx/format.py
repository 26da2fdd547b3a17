"""ONNX as a format: which graph a target gets, and how the artifact is used without ringkas."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ringkas.artifact import Artifact, Manifest
from ringkas.checkpoint import Checkpoint
from ringkas.export import finish
from ringkas.export.finish import Job, Written
from ringkas.export.model_card import normalised
from ringkas.export.to_onnx import graph
from ringkas.export.to_onnx.quantized import write_quantized
from ringkas.quantize.for_onnx.schemes import SCHEMES
from ringkas.runtimes.parity.judge import ParityReport
from ringkas.runtimes.parity.probe import Probe
from ringkas.targets import Target

if TYPE_CHECKING:
    from ringkas.export.build import BuildOptions

_CARD = """```python
import numpy, onnxruntime, tokenizers

tokenizer = tokenizers.Tokenizer.from_file("tokenizer.json")
tokenizer.no_padding()
tokenizer.enable_truncation({max_length})
session = onnxruntime.InferenceSession("{model_file}")
ids = numpy.array([tokenizer.encode("{prompt}how to fix a bicycle tyre").ids])
vector = session.run(["sentence_embedding"], {{"input_ids": ids, "attention_mask": numpy.ones_like(ids)}})[0]
```

`sentence_embedding` is pooled{normalized}, float32, shape (batch, {dimension}). It also loads with
{loaders}."""
_USUAL_NAME = """`SentenceTransformer(PATH, backend="onnx")` and Optimum's `ORTModelForFeatureExtraction`"""
_TRANSFORMERS_JS_NAME = "transformers.js, which finds the graph by its `dtype`"


def check(checkpoint: Checkpoint, target: Target, options: BuildOptions) -> None:
    """Every family can become a graph."""


def write(job: Job) -> Written:
    """The graph, quantised by the target's scheme or the one that was asked for."""
    options, name = job.options, job.target.name
    file = graph.TRANSFORMERS_JS_FILES[name] if options.transformers_js else graph.MODEL_FILE
    scheme = options.scheme or SCHEMES.get(name)
    if scheme is not None:
        return Written(*write_quantized(job.checkpoint, scheme, job.folder, file, job.progress))
    graph.write_graph(job.checkpoint, job.target.precision, job.folder, file)
    return Written(file, {"weights": job.target.precision, "opset": graph.OPSET})


def judge(job: Job, artifact: Artifact, probe: Probe) -> ParityReport:
    """By ONNX Runtime."""
    return finish.judge_artifact(artifact, probe, job.progress)


def card(manifest: Manifest) -> str:
    spec = manifest.encoding
    prompt = spec.prompts.get(spec.query_prompt() or "", "")
    return _CARD.format(
        model_file=manifest.model_file,
        prompt=prompt.replace("\n", "\\n"),
        normalized=normalised(spec),
        dimension=spec.dimension,
        max_length=spec.max_length,
        loaders=_USUAL_NAME if manifest.model_file == graph.MODEL_FILE else _TRANSFORMERS_JS_NAME,
    )
