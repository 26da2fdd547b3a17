"""ONNX as a format: which graph a target gets, and how the artifact is used without ringkas."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ringkas.artifact import Artifact, Manifest
from ringkas.checkpoint import Checkpoint
from ringkas.export import finish
from ringkas.export.finish import Job, Written
from ringkas.export.model_card import normalised
from ringkas.export.to_onnx import graph
from ringkas.export.to_onnx.browser import DATA_SUFFIX
from ringkas.export.to_onnx.quantized import Calibration, write_quantized
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

`sentence_embedding` is pooled{normalized}, float32, shape (batch, {dimension}). The graph needs
onnxruntime {least} or later. {loaders}{beside}
With transformers.js, in a browser or in Node (`config.json` says which graph is meant):

```js
import {{ AutoModel, AutoTokenizer }} from "@huggingface/transformers";

const tokenizer = await AutoTokenizer.from_pretrained(PATH);
const model = await AutoModel.from_pretrained(PATH{place});
const inputs = await tokenizer(["{prompt}how to fix a bicycle tyre"], {{ padding: true, truncation: true }});
const {{ sentence_embedding }} = await model(inputs);
```

With fastembed, which takes the graph's own vectors when it is told of them:

```
TextEmbedding.add_custom_model(NAME, pooling=PoolingType.DISABLED, normalization=False, dim={dimension},
    sources=ModelSource(hf=NAME), model_file="{model_file}"{additional}, output_name="sentence_embedding")
TextEmbedding(NAME, specific_model_path=PATH)
```
"""
# The first onnxruntime that runs a target's graphs: tests/export/to_onnx/test_least_runtime.py.
LEAST_ONNXRUNTIME: Mapping[str, str] = {
    "onnx-fp32": "1.18",
    "onnx-fp16": "1.18",
    "onnx-int8": "1.18",
    "onnx-int4": "1.19",
    "onnx-int3": "1.19",
}
_USUAL_NAME = """It also loads with
`SentenceTransformer(PATH, backend="onnx")` and Optimum's `ORTModelForFeatureExtraction`.
"""
_BESIDE = """
The weights of the token table are in `{data}`, which has to stay beside the graph. A client that
opens a graph from bytes, as Spring AI does, needs one file: `ringkas build --single-file` makes it, up to
2 GB.
"""


def check(checkpoint: Checkpoint, target: Target, options: BuildOptions) -> None:
    """Every family can become a graph."""


def write(job: Job) -> Written:
    """The graph, quantised by the target's scheme or the one that was asked for."""
    options, name = job.options, job.target.name
    file = graph.TRANSFORMERS_JS_FILES[name] if options.transformers_js else graph.MODEL_FILE
    if options.flat:
        file = graph.FLAT_FILE
    scheme = options.scheme or SCHEMES.get(name)
    record: Mapping[str, object] = {"weights": job.target.precision, "opset": graph.OPSET}
    if scheme is not None:
        following = SCHEMES.get(job.following.name) if job.following else None
        calibration = Calibration(job.progress, following, job.shared)
        file, record = write_quantized(
            job.checkpoint, scheme, job.folder, file, calibration, single_file=options.single_file
        )
    else:
        precision = job.target.precision
        graph.write_graph(job.checkpoint, precision, job.folder, file, single_file=options.single_file)
    if options.flat:
        graph.accept_token_types(job.folder / file)
    return Written(file, {**record, **({"single_file": True} if options.single_file else {})})


def judge(job: Job, artifact: Artifact, probe: Probe) -> ParityReport:
    """By ONNX Runtime."""
    return finish.judge_artifact(artifact, probe, job.progress)


def card(manifest: Manifest, folder: Path) -> str:
    spec = manifest.encoding
    prompt = spec.prompts.get(spec.query_prompt() or "", "")
    data = f"{manifest.model_file}{DATA_SUFFIX}"
    beside = (folder / data).is_file()
    return _CARD.format(
        model_file=manifest.model_file,
        prompt=prompt.replace("\n", "\\n"),
        normalized=normalised(spec),
        dimension=spec.dimension,
        max_length=spec.max_length,
        least=LEAST_ONNXRUNTIME[manifest.target],
        loaders=_USUAL_NAME if manifest.model_file == graph.MODEL_FILE else "",
        place=', { subfolder: "" }' if manifest.model_file == graph.FLAT_FILE else "",
        beside=_BESIDE.format(data=data) if beside else "",
        additional=f', additional_files=["{data}"]' if beside else "",
    )
