"""The clients: a row for each: its environment, how it is run, on which targets, and where it differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ringkas.export.to_onnx.format import LEAST_ONNXRUNTIME

GRAPHS = ("onnx-fp32", "onnx-fp16", "onnx-int8", "onnx-int4")
PLAIN = ("pytorch-fp32",)
FILES = ("gguf-q8_0",)
# The graphs as transformers.js calls them.
DTYPES = {"onnx-fp32": "fp32", "onnx-fp16": "fp16", "onnx-int8": "q8", "onnx-int4": "q4"}
# The minor versions of onnxruntime that have an environment.
ONNXRUNTIMES = tuple(f"1.{minor}" for minor in range(18, 33))

# Whose behaviour it is where a kind of text gets another vector than the facade's, and why.
_JS_NFD = "transformers.js puts NFKC in the place of the charsmap, so it composes decomposed letters"
_JS_LONG = "transformers.js cuts the closing special token off with the rest"
_STRIPS = "sentence-transformers 5 strips white space before it tokenises"
_LLAMA = dict.fromkeys(
    ("NFD", "specials written out", "white space at both ends"),
    "llama.cpp's own tokenizer reads it otherwise than tokenizer.json does",
)
# In another runtime, or another version, the float steps between two products of 8 bits end in other last
# bits, so that levels at an edge fall on its other side. Float graphs agree; those of 8 bits are as near to
# the original as they are here.
_EDGE = "float steps end in other last bits there, so 8-bit levels at an edge fall on the other side"
NEAR = 0.999
_IN_8_BITS = ("onnx-int8", "onnx-int4")


def _runs(version: str, least: str) -> bool:
    return [int(part) for part in version.split(".")] >= [int(part) for part in least.split(".")]


@dataclass(frozen=True)
class Client:
    """One client and one way to call it.

    Args:
        name: as its users know it.
        call: what is called, for the table.
        environment: its row of benchmarks/peers/environments.py; "" is this one.
        script: the runner in this folder, and its arguments. `{dtype}` is filled in, and for Node
            `{packages}`, `{browser}` and `{chromium}`.
        targets: which artifacts it loads.
        differs: by kind of text, why its vectors are others than the facade's.
        near: by target, why all its vectors are a little off, at a cosine of `NEAR` or more.
        server: which server must run: `ringkas`, `llama-server` or `llama_cpp.server`.
        needs: what it loads: `folder`, `named` as transformers.js has it, `flat`, or `embedded`.
        remark: what else its user must know.
        missing: why it cannot be run at all.
    """

    name: str
    call: str
    environment: str
    script: tuple[str, ...]
    targets: tuple[str, ...]
    differs: Mapping[str, str] = field(default_factory=dict)
    near: Mapping[str, str] = field(default_factory=dict)
    server: str = ""
    needs: str = "folder"
    remark: str = ""
    missing: str = ""


def _transformers_js(name: str, call: str, script: tuple[str, ...], **more: Any) -> Client:
    differs = {"NFD": _JS_NFD, "over the limit": _JS_LONG}
    return Client(name, call, "node", script, GRAPHS, differs, needs="named", **more)


CLIENTS: tuple[Client, ...] = (
    Client(
        "sentence-transformers 6",
        "SentenceTransformer(PATH)",
        "",
        ("run_sentence_transformers.py", "torch"),
        PLAIN,
    ),
    Client(
        "sentence-transformers 6, ONNX",
        'SentenceTransformer(PATH, backend="onnx")',
        "",
        ("run_sentence_transformers.py", "onnx"),
        ("onnx-fp32",),
        missing="it needs transformers 5, and Optimum's ONNX side (optimum-onnx 0.1.0) one below 4.58",
    ),
    Client(
        "sentence-transformers 5",
        "SentenceTransformer(PATH)",
        "sentence-transformers-5",
        ("run_sentence_transformers.py", "torch"),
        PLAIN,
        {"white space at both ends": _STRIPS},
    ),
    Client(
        "sentence-transformers 5, ONNX",
        'SentenceTransformer(PATH, backend="onnx")',
        "sentence-transformers-5",
        ("run_sentence_transformers.py", "onnx"),
        GRAPHS,
        {"white space at both ends": _STRIPS},
    ),
    Client(
        "Optimum",
        "ORTModelForFeatureExtraction",
        "sentence-transformers-5",
        ("run_optimum.py",),
        GRAPHS,
        remark="mean of `last_hidden_state` by hand",
    ),
    Client(
        "fastembed",
        'output_name="sentence_embedding"',
        "fastembed",
        ("run_fastembed.py", "own"),
        GRAPHS,
    ),
    Client(
        "fastembed, pooled",
        "PoolingType.MEAN, normalization=True",
        "fastembed",
        ("run_fastembed.py", "mean"),
        GRAPHS,
    ),
    _transformers_js(
        "transformers.js, Node",
        'pipeline("feature-extraction", …, { dtype })',
        ("run_transformers_js.mjs", "{packages}", "{dtype}"),
    ),
    _transformers_js(
        "transformers.js, Chromium",
        "AutoModel, as it comes",
        ("run_chromium.mjs", "{packages}", "{browser}", "{chromium}", "{dtype}"),
        near=dict.fromkeys(_IN_8_BITS, _EDGE),
    ),
    *(
        Client(
            f"onnxruntime-web, {build}, Node",
            "InferenceSession, `wasm`",
            "node",
            ("run_onnxruntime_web.mjs", "{packages}", build),
            GRAPHS,
            near=dict.fromkeys(_IN_8_BITS, _EDGE),
            remark="the facade's token ids",
        )
        for build in ("plain", "asyncify")
    ),
    *(
        Client(
            f"onnxruntime {version}",
            "InferenceSession",
            f"onnxruntime-{version}",
            ("run_onnxruntime.py",),
            tuple(target for target in GRAPHS if _runs(version, LEAST_ONNXRUNTIME[target])),
            near=dict.fromkeys(_IN_8_BITS, _EDGE),
            remark="the facade's token ids",
        )
        for version in ONNXRUNTIMES
    ),
    Client(
        "llama_cpp.server",
        "openai: embeddings.create",
        "llama-servers",
        ("run_openai.py",),
        FILES,
        {**_LLAMA, "over the limit": "it cuts the text silently, the closing token with it"},
        dict.fromkeys(FILES, _EDGE),
        server="llama_cpp.server",
        remark="its vectors are not normalised",
    ),
    Client(
        "llama-server",
        "openai: embeddings.create",
        "llama-servers",
        ("run_openai.py",),
        FILES,
        {**_LLAMA, "over the limit": "it refuses the text"},
        dict.fromkeys(FILES, _EDGE),
        server="llama-server",
    ),
    Client("LangChain", "HuggingFaceEmbeddings", "langchain", ("run_langchain.py", "folder"), PLAIN),
    Client(
        "LangChain, ringkas serve",
        "OpenAIEmbeddings",
        "langchain",
        ("run_langchain.py", "server"),
        ("onnx-int8",),
        server="ringkas",
    ),
    Client("LlamaIndex", "HuggingFaceEmbedding", "llama-index", ("run_llama_index.py", "folder"), PLAIN),
    Client(
        "LlamaIndex, ringkas serve",
        "OpenAIEmbedding",
        "llama-index",
        ("run_llama_index.py", "server"),
        ("onnx-int8",),
        server="ringkas",
    ),
    Client(
        "openai, ringkas serve",
        "embeddings.create",
        "llama-servers",
        ("run_openai.py",),
        ("onnx-int8",),
        server="ringkas",
    ),
    Client(
        "Chroma",
        "SentenceTransformerEmbeddingFunction",
        "chroma",
        ("run_chroma.py", "folder"),
        PLAIN,
    ),
    Client(
        "Chroma, its ONNX class",
        "ONNXMiniLM_L6_V2 on `--flat`",
        "chroma",
        ("run_chroma.py", "onnx"),
        GRAPHS,
        {"over the limit": "its class cuts at 256 tokens, whatever the model's limit"},
        needs="flat",
    ),
    Client("Haystack", "SentenceTransformersTextEmbedder", "haystack", ("run_haystack.py",), PLAIN),
    Client(
        "txtai",
        'Embeddings(method="sentence-transformers")',
        "txtai",
        ("run_txtai.py", "sentence-transformers"),
        PLAIN,
    ),
    Client("txtai, its pooling", "Embeddings(PATH)", "txtai", ("run_txtai.py", "transformers"), PLAIN),
    Client("mteb", "SentenceTransformerEncoderWrapper", "mteb-shared", ("run_mteb.py",), PLAIN),
    Client(
        "DuckDB",
        "SELECT embedding FROM …parquet",
        "stores",
        ("run_stores.py", "duckdb"),
        ("onnx-int8",),
        needs="embedded",
    ),
    Client(
        "sqlite-vec",
        "vec0, vec_to_json",
        "stores",
        ("run_stores.py", "sqlite_vec"),
        ("onnx-int8",),
        needs="embedded",
    ),
)
