"""The README.md of an artifact, written from its manifest."""

from __future__ import annotations

import msgspec

from ringkas.artifact import Artifact, Manifest, seal
from ringkas.builtin import published_name
from ringkas.export.to_onnx.graph import MODEL_FILE
from ringkas.export.vocabulary.certificate import to_markdown
from ringkas.runtimes.parity.judge import ParityReport

# These lose nothing that a search could show.
_WIDE = ("fp32", "fp16", "bf16")
_LLAMA_POOLING = {"lasttoken": "last"}

_TENSORRT = """`model.plan`, once it is built, is for LIBRARY; `triton/` is a model repository for Triton:

```
tritonserver --model-repository triton
```

Inputs are `input_ids` and `attention_mask`, int32, shape (batch, sequence), padded on the right, at most
{max_length} tokens made with `tokenizer.json`; the output `sentence_embedding` is pooled{normalized},
float32, shape (batch, {dimension}).

On another GPU, or with another version, `ringkas rebuild PATH --target TARGET --out DIR` builds the plan
again from `onnx/model.onnx` and verifies it there, without PyTorch."""

_WITHOUT_RINGKAS = {
    "onnxruntime": """```python
import numpy, onnxruntime, tokenizers

tokenizer = tokenizers.Tokenizer.from_file("tokenizer.json")
tokenizer.no_padding()
tokenizer.enable_truncation({max_length})
session = onnxruntime.InferenceSession("{model_file}")
ids = numpy.array([tokenizer.encode("{prompt}how to fix a bicycle tyre").ids])
vector = session.run(["sentence_embedding"], {{"input_ids": ids, "attention_mask": numpy.ones_like(ids)}})[0]
```

`sentence_embedding` is pooled{normalized}, float32, shape (batch, {dimension}). It also loads with
{loaders}.""",
    "llama.cpp": """```
llama-server -m {model_file} --embedding --pooling {pooling} --ubatch-size {max_length}
```

and for Ollama, `ollama create NAME -f Modelfile` with a `Modelfile` of one line:

```
FROM ./{model_file}
```

Put the prompt, if there is one, before the text yourself, and scale the vectors to length 1: not every server
does.""",
    "tensorrt": _TENSORRT.replace("LIBRARY", "TensorRT"),
    "tensorrt-rtx": _TENSORRT.replace("LIBRARY", "TensorRT-RTX"),
    "pytorch": """```python
from sentence_transformers import SentenceTransformer

vectors = SentenceTransformer(PATH).encode(["how to fix a bicycle tyre"])
```""",
}


_USUAL_NAME = """`SentenceTransformer(PATH, backend="onnx")` and Optimum's `ORTModelForFeatureExtraction`"""
_TRANSFORMERS_JS_NAME = "transformers.js, which finds the graph by its `dtype`"


def model_card(manifest: Manifest) -> str:
    """Markdown with the front matter that model hubs read."""
    spec = manifest.encoding
    base = published_name(manifest.source.model)
    prompt = spec.prompts.get(spec.query_prompt() or "", "")
    normalized = ", normalised" if spec.normalize else ""
    usage = _WITHOUT_RINGKAS[manifest.engine].format(
        model_file=manifest.model_file,
        prompt=prompt.replace("\n", "\\n"),
        normalized=normalized,
        dimension=spec.dimension,
        max_length=spec.max_length,
        pooling=_LLAMA_POOLING.get(spec.pooling.modes[0], spec.pooling.modes[0]),
        loaders=_USUAL_NAME if manifest.model_file == MODEL_FILE else _TRANSFORMERS_JS_NAME,
    )
    revision = f" at revision `{manifest.source.revision}`" if manifest.source.revision else ""
    return f"""{_front_matter(manifest, base)}
# {manifest.name}, {manifest.target}

Made by ringkas (`pip install ringkas`) from `{base}`{revision}. How near its vectors are to the original's
is measured in `parity.json`; `ringkas verify .` measures it again on your machine, without PyTorch.
{_note(manifest.source.note)}
| | |
|---|---|
| vectors | {spec.dimension} dimensions, {"+".join(spec.pooling.modes)} pooling{normalized} |
| longest text | {spec.max_length} tokens |
| languages | {", ".join(manifest.languages) or "those of the original"} |
{_execution(manifest)}
## Use it

```python
import ringkas

encoder = ringkas.load(PATH)
vectors = encoder.encode_query(["how to fix a bicycle tyre"])
```

Without ringkas:

{usage}
{_prompts(spec.prompts)}{_vocabulary(manifest)}{_search(manifest)}"""


def _front_matter(manifest: Manifest, base: str) -> str:
    lines = ["---", "library_name: sentence-transformers", "pipeline_tag: sentence-similarity"]
    if "/" in base and not base.startswith((".", "/", "~")):
        lines += [f"base_model: {base}", "base_model_relation: quantized"]
    if manifest.source.licence:
        lines.append(f"license: {manifest.source.licence}")
    if manifest.languages:
        lines += ["language:", *(f"- {language}" for language in manifest.languages)]
    lines += ["tags:", "- ringkas", f"- {manifest.target}", "---"]
    return "\n".join(lines)


def _note(note: str) -> str:
    return f"\n**{note}**\n" if note else ""


def _execution(manifest: Manifest) -> str:
    return f"| plan | {manifest.execution} |\n" if manifest.execution else ""


def _vocabulary(manifest: Manifest) -> str:
    return "\n" + to_markdown(manifest.vocabulary) if manifest.vocabulary else ""


def state_search(artifact: Artifact, report: ParityReport) -> Artifact:
    """The artifact with what it is worth at search in its manifest and its model card."""
    if not report.search:
        return artifact
    manifest = msgspec.structs.replace(artifact.manifest, search=list(msgspec.to_builtins(report.search)))
    (artifact.path / "README.md").write_text(model_card(manifest), encoding="utf-8")
    return seal(artifact.path, manifest)


def _search(manifest: Manifest) -> str:
    """A table for an artifact that may have lost something: a vocabulary that was cut, or fewer bits."""
    if not manifest.search or (manifest.vocabulary is None and manifest.precision in _WIDE):
        return ""
    first = manifest.search[0]
    lines = [
        "\n## What it costs at search\n",
        f"nDCG@10 on ringkas's own {first['questions']} questions and {first['passages']} passages",
        "a language, beside the original's.",
        "So few questions resolve little: the interval is that of the difference, at 95%.\n",
        "| language | nDCG@10 | original | difference | top 10 kept |",
        "|---|---:|---:|---|---:|",
    ]
    for row in manifest.search:
        before, after = row["reference_ndcg_at_10"], row["ndcg_at_10"]
        lines.append(
            f"| {row['language']} | {after:.3f} | {before:.3f} | {after - before:+.3f} "
            f"({row['low']:+.3f} to {row['high']:+.3f}) | {row['top10_overlap']:.1%} |"
        )
    return "\n".join(lines) + "\n"


def _prompts(prompts: dict[str, str]) -> str:
    stated = {name: text for name, text in prompts.items() if text}
    if not stated:
        return ""
    rows = [f"| {name} | `{text}` |".replace("\n", "\\n") for name, text in stated.items()]
    return "\n## Prompts\n\n| name | put before the text |\n|---|---|\n" + "\n".join(rows) + "\n"
