"""GGUF files against the PyTorch reference, ggml's own quantizers and llama.cpp's own converter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ringkas import texts as text_sets
from ringkas.artifact import Artifact, Manifest, Source, seal
from ringkas.checkpoint import Checkpoint, open_checkpoint
from ringkas.errors import CheckpointError, TargetError
from ringkas.family import Family
from ringkas.runtimes.encoder import Encoder, load_reference_encoder
from ringkas.tokens import TextTokenizer

pytest.importorskip("gguf", reason="gguf is not installed: pip install 'ringkas[gguf]'")
pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed: pip install 'ringkas[gguf]'")

from ringkas.export.to_gguf import GGUF_TARGETS, GgufResult, write_gguf
from ringkas.export.to_gguf.architecture import architecture_of
from ringkas.export.to_gguf.llama_quantize import Importance, llama_quantize
from ringkas.export.to_gguf.tensors import POSITIONS
from ringkas.export.vocabulary.prune import PruneOptions, prune_checkpoint
from ringkas.quantize.for_gguf.blocks import FORMATS, LevelGrid, pack
from ringkas.quantize.for_gguf.ggml import ggml_quantize
from ringkas.quantize.for_gguf.gptq import round_compensated
from ringkas.quantize.for_gguf.importance import measure_importance
from ringkas.runtimes.engines.llama_engine import LlamaEngine
from ringkas.runtimes.engines.llama_header import read_header
from ringkas.runtimes.reference import load_reference


@dataclass(frozen=True)
class Converted:
    checkpoint: Checkpoint
    folder: Path
    result: GgufResult

    @property
    def file(self) -> Path:
        return self.folder / self.result.model_file

    def artifact(self) -> Artifact:
        scheme = GGUF_TARGETS["gguf-f32"]
        manifest = Manifest(
            name="x",
            target=scheme.name,
            engine="llama.cpp",
            precision=scheme.precision,
            source=Source("x"),
            encoding=self.checkpoint.spec,
            model_file=self.result.model_file,
        )
        return Artifact(self.folder, manifest)

    def encode(self, texts: list[str]) -> np.ndarray[Any, Any]:
        with LlamaEngine(self.artifact(), threads=1) as engine:
            tokenizer = TextTokenizer(self.checkpoint.path, self.checkpoint.spec)
            return Encoder(self.checkpoint.spec, tokenizer, engine).encode(texts)


def convert(checkpoint: Checkpoint, target: str, folder: Path) -> Converted:
    folder.mkdir(parents=True, exist_ok=True)
    return Converted(checkpoint, folder, write_gguf(checkpoint, target, folder))


def cosines(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray((a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)))


@pytest.fixture(scope="module")
def demo() -> Checkpoint:
    return open_checkpoint("demo")


@pytest.fixture(scope="module")
def english() -> list[str]:
    """The 1,004 English SIB-200 sentences; the built-in English probe where there are none."""
    folder = Path(os.environ.get("RINGKAS_SHARED", Path(__file__).parents[4] / "shared"))
    file = folder / "data" / "sib200" / "en.txt"
    return file.read_text("utf-8").splitlines() if file.is_file() else list(text_sets.probe(("en",))["en"])


@pytest.fixture(scope="module")
def english_reference(english: list[str]) -> np.ndarray[Any, Any]:
    with load_reference_encoder("demo", threads=1) as encoder:
        return encoder.encode(english)


# Size in bytes, least and mean cosine on real weights. Sizes hold the tokenizer.
DEMO_FLOORS = {
    "gguf-f16": (46_300_000, 0.9999, 0.9999),
    "gguf-bf16": (46_300_000, 0.9995, 0.9999),
    "gguf-q8_0": (25_400_000, 0.999, 0.9995),
    "gguf-q4_k_m": (15_500_000, 0.985, 0.9915),
    "gguf-iq4_nl": (14_200_000, 0.966, 0.98),
    "gguf-iq4_nl-gptq": (14_200_000, 0.975, 0.983),
    "gguf-q5_0-gptq": (15_500_000, 0.986, 0.991),
}


SAMPLED = ("gguf-q8_0", "gguf-q4_k_m", "gguf-iq4_nl-gptq")


@pytest.mark.parametrize(
    ("target", "count"),
    [
        *(pytest.param(target, 150, id=f"{target}-sample") for target in SAMPLED),
        *(pytest.param(target, None, id=f"{target}-all", marks=pytest.mark.full) for target in DEMO_FLOORS),
    ],
)
def test_real_weights_stay_near_the_reference(
    demo: Checkpoint,
    english: list[str],
    english_reference: np.ndarray[Any, Any],
    tmp_path: Path,
    target: str,
    count: int | None,
) -> None:
    most_bytes, least, mean = DEMO_FLOORS[target]
    converted = convert(demo, target, tmp_path)
    found = cosines(converted.encode(english[:count]), english_reference[:count])
    assert found.min() >= least
    assert found.mean() >= mean
    assert converted.file.stat().st_size <= most_bytes
    assert converted.file.name == f"all-MiniLM-L6-v2-23M-{GGUF_TARGETS[target].encoding}.gguf"
    json.dumps(converted.result.scheme)


@pytest.mark.full
def test_importance_helps_and_shuffled_importance_does_not(
    demo: Checkpoint, english: list[str], english_reference: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    scheme, part = GGUF_TARGETS["gguf-iq4_nl"], slice(0, 200)
    converted = convert(demo, "gguf-iq4_nl", tmp_path)
    assert converted.result.scheme["calibration"]["method"] == "importance matrix"
    assert converted.result.scheme["calibration"]["tokens"] > 1000
    assert "calibration" not in convert(demo, "gguf-q6_k", tmp_path).result.scheme

    measured = measure_importance(demo, load_reference(demo))
    architecture, chance = architecture_of(demo), np.random.default_rng(0)
    right = {architecture.gguf_name(name): value for name, value in measured.by_tensor.items()}
    shuffled = {name: chance.permutation(value) for name, value in right.items()}
    written = parts(converted.file)
    floats = convert(demo, "gguf-f32", tmp_path).file

    def mean_loss(importance: Importance | None) -> float:
        llama_quantize(floats, converted.file, scheme, importance)
        return 1 - float(cosines(converted.encode(english[part]), english_reference[part]).mean())

    assert mean_loss(right) < 0.9 * min(mean_loss(shuffled), mean_loss(None))
    llama_quantize(floats, converted.file, scheme, right)
    assert parts(converted.file)[1] == written[1]
    assert written[0] == "gguf-iq4_nl"  # and not the name of what llama.cpp rounded


def parts(file: Path) -> tuple[str, dict[str, bytes]]:
    """The target that a file names, and the bytes of its tensors."""
    from gguf import GGUFReader

    reader = GGUFReader(file)
    return reader.fields["ringkas.target"].contents(), {
        one.name: one.data.tobytes() for one in reader.tensors
    }


@pytest.mark.parametrize("target", ["gguf-iq4_nl", "gguf-q4_k_m"])
def test_importance_changes_no_type(
    shapes: Any, tiny_unigram: Any, random_checkpoint: Any, tmp_path: Path, target: str
) -> None:
    # llama.cpp's IQ4_NL keeps every eighth layer's ffn_down in Q5_K unless there is an importance matrix.
    shape = shapes["bert"](tiny_unigram, num_hidden_layers=8, intermediate_size=512)
    checkpoint = replace(random_checkpoint(shape), languages=("en",))
    floats = convert(checkpoint, "gguf-f32", tmp_path).file
    plain = tmp_path / "plain.gguf"
    llama_quantize(floats, plain, GGUF_TARGETS[target])
    kinds = {name: tensor.kind for name, tensor in read_header(plain).tensors.items()}
    written = read_header(convert(checkpoint, target, tmp_path).file).tensors
    assert {name: tensor.kind for name, tensor in written.items()} == kinds
    if target == "gguf-iq4_nl":
        assert kinds["blk.0.ffn_down.weight"] == "Q5_K"


def test_fall_backs_are_reported(demo: Checkpoint, tmp_path: Path) -> None:
    result = convert(demo, "gguf-q4_k_m", tmp_path).result
    assert result.scheme["fallbacks"]["blk.0.attn_k.weight"] == "Q4_K -> Q5_0"
    assert result.scheme["types"]["token table"] == {"IQ4_NL": 1}
    assert any("rows of 384" in warning for warning in result.warnings)
    assert not convert(demo, "gguf-q8_0", tmp_path).result.scheme["fallbacks"]


@pytest.fixture(scope="module")
def random_checkpoint(
    make_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Checkpoint]:
    return lambda shape: open_checkpoint(make_checkpoint(tmp_path_factory.mktemp("random") / "model", shape))


SIB200 = ("en", "zh", "ko", "th", "vi", "id", "ms", "fil", "my", "km", "lo", "ta")

# The family, what differs from its shape, and the languages that the vocabulary is cut to.
SHAPES: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "e5-small, pad 0": ("bert", {"pad_token_id": 0}, ()),
    "e5-small, pad 1, 250,037 rows": ("bert", {"pad_token_id": 1, "vocab_size": 250_037}, ()),
    "e5-small, pruned to ko and en": ("bert", {"pad_token_id": 0, "vocab_size": 250_037}, ("ko", "en")),
    "XLM-R-base": ("xlm-roberta", {}, ()),
}
PRUNED_ROWS = 41_348
SAMPLE = 12


@pytest.mark.parametrize(
    ("name", "sentences"),
    [
        ("e5-small, pruned to ko and en", SAMPLE),
        ("XLM-R-base", SAMPLE),
        *(pytest.param(name, 1004, marks=pytest.mark.full) for name in SHAPES),
    ],
)
def test_random_weights_with_the_real_xlmr_vocabulary(
    request: pytest.FixtureRequest,
    lines_of: Any,
    random_checkpoint: Any,
    tmp_path: Path,
    sentences: int,
    name: str,
) -> None:
    shapes, tokenizer = (request.getfixturevalue(fixture) for fixture in ("shapes", "xlmr_tokenizer"))
    family, overrides, languages = SHAPES[name]
    width = request.getfixturevalue("narrow") if sentences == SAMPLE else {}
    checkpoint = random_checkpoint(shapes[family](tokenizer, **overrides, **width))
    rows = overrides.get("vocab_size", 250_002)
    if languages:
        options, rows = PruneOptions(languages, max_tokens=PRUNED_ROWS), PRUNED_ROWS
        checkpoint = prune_checkpoint(checkpoint, options, tmp_path / "pruned")
    converted = convert(checkpoint, "gguf-f32", tmp_path)
    texts = [line for language in SIB200 for line in lines_of(language)[:sentences]]
    with load_reference_encoder(checkpoint.path, threads=1) as encoder:
        found = cosines(converted.encode(texts), encoder.encode(texts)).reshape(len(SIB200), -1)
    print({language: float(least) for language, least in zip(SIB200, found.min(axis=1), strict=True)})
    assert found.shape[1] == min(sentences, len(lines_of("km")))
    assert found.min() >= 0.99999
    assert len(read_header(converted.file).metadata["tokenizer.ggml.tokens"]) == rows


def test_modernbert_with_a_gemma_vocabulary(
    shapes: Any, gemma_tokenizer: Any, lines_of: Any, random_checkpoint: Any, tmp_path: Path
) -> None:
    checkpoint = random_checkpoint(shapes["modernbert"](gemma_tokenizer))
    # Longer than the 128 tokens of local attention, so that both kinds of layer count.
    texts = [" ".join(lines_of(language)[:8]) for language in ("en", "th", "ko")] + lines_of("ta")[:10]
    with load_reference_encoder(checkpoint.path, threads=1) as encoder:
        reference = encoder.encode(texts)
    assert cosines(convert(checkpoint, "gguf-f32", tmp_path).encode(texts), reference).min() >= 0.99999


@pytest.fixture(scope="module")
def tiny(shapes: Any, tiny_unigram: Any, random_checkpoint: Any) -> Checkpoint:
    return random_checkpoint(shapes["xlm-roberta"](tiny_unigram, num_hidden_layers=1, hidden_size=384))


def test_a_wrong_position_offset_is_seen(tiny: Checkpoint, tmp_path: Path) -> None:
    class Sabotaged(Family):
        def position_offset(self, config: Any) -> int:
            return super().position_offset(config) - 1

    texts = list(text_sets.probe(("en",))["en"])
    with load_reference_encoder(tiny.path, threads=1) as encoder:
        reference = encoder.encode(texts)
    facts = {one.name: getattr(tiny.family, one.name) for one in fields(Family)}
    wrong = replace(tiny, family=Sabotaged(**facts))
    assert cosines(convert(tiny, "gguf-f32", tmp_path / "right").encode(texts), reference).min() > 0.99999
    spec = replace_spec(wrong)
    assert cosines(convert(spec, "gguf-f32", tmp_path / "wrong").encode(texts), reference).min() < 0.999


def replace_spec(checkpoint: Checkpoint) -> Checkpoint:
    import msgspec

    return replace(checkpoint, spec=msgspec.structs.replace(checkpoint.spec, max_length=256))


@pytest.mark.parametrize("target", ["gguf-f32", "gguf-q8_0", "gguf-q4_0"])
def test_a_swapped_tensor_is_seen(tiny: Checkpoint, tmp_path: Path, target: str) -> None:
    texts = list(text_sets.probe(("en",))["en"])[:8]
    converted = convert(tiny, target, tmp_path)
    right = converted.encode(texts)
    header = read_header(converted.file)
    one, two = (header.tensors[f"blk.0.attn_{name}.weight"] for name in ("q", "v"))
    data = bytearray(converted.file.read_bytes())
    first, second = (bytes(data[t.offset : t.offset + t.size]) for t in (one, two))
    data[one.offset : one.offset + one.size], data[two.offset : two.offset + two.size] = second, first
    converted.file.write_bytes(data)
    assert cosines(converted.encode(texts), right).min() < 0.999


def test_an_activation_that_is_not_stated_is_transformers_own(tiny: Checkpoint, tmp_path: Path) -> None:
    unstated = replace(tiny, config={key: value for key, value in tiny.config.items() if key != "hidden_act"})
    assert len(unstated.config) == len(tiny.config) - 1
    right = convert(tiny, "gguf-f32", tmp_path / "stated").encode(["a text"])
    assert (convert(unstated, "gguf-f32", tmp_path / "not stated").encode(["a text"]) == right).all()


def test_only_what_llama_cpp_computes_is_converted(
    shapes: Any, tiny_unigram: Any, random_checkpoint: Any, tmp_path: Path
) -> None:
    shape = shapes["bert"](tiny_unigram, num_hidden_layers=1)
    with pytest.raises(TargetError, match="hidden_act = 'relu'"):
        convert(random_checkpoint(shapes["bert"](tiny_unigram, hidden_act="relu")), "gguf-f32", tmp_path)
    pooled = replace(shape, pooling={"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": False})
    with pytest.raises(TargetError, match="pools by max"):
        convert(random_checkpoint(pooled), "gguf-f32", tmp_path)
    with pytest.raises(TargetError, match="no GGUF target"):
        convert(random_checkpoint(shape), "gguf-q3", tmp_path)
    short = shapes["bert"](tiny_unigram, num_hidden_layers=1, vocab_size=50)
    with pytest.raises(CheckpointError, match="50 rows"):
        convert(random_checkpoint(short), "gguf-f32", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["Q8_0", "Q5_0", "Q5_1", "Q4_0", "Q4_1"])
def test_both_packages_round_alike(kind: str) -> None:
    import gguf

    weights = np.random.default_rng(1).normal(size=(64, 384)).astype(np.float32)
    assert (gguf.quantize(weights, gguf.GGMLQuantizationType[kind]) == ggml_quantize(weights, kind)).all()


@pytest.mark.parametrize("kind", FORMATS)
def test_our_blocks_are_read_as_we_meant_them(kind: str) -> None:
    import gguf
    import torch

    weights = torch.from_numpy(np.random.default_rng(2).normal(size=(128, 32)).astype(np.float32))
    grid = LevelGrid(kind)
    scales = grid.search(weights, torch.ones(32))
    codes = grid.codes(weights, scales)
    read = gguf.dequantize(pack(kind, codes, scales), gguf.GGMLQuantizationType[kind])
    np.testing.assert_allclose(read, grid.values(codes, scales).numpy(), atol=1e-6)
    theirs = gguf.dequantize(ggml_quantize(weights.numpy(), kind), gguf.GGMLQuantizationType[kind])
    assert np.square(read - weights.numpy()).mean() <= 1.01 * np.square(theirs - weights.numpy()).mean()


def test_compensation_lowers_the_error_of_the_outputs() -> None:
    import gguf
    import torch

    torch.manual_seed(0)
    inputs = torch.randn(2000, 64) @ torch.randn(64, 96) + 0.1 * torch.randn(2000, 96)
    weights = torch.randn(32, 96)
    square = inputs.T @ inputs
    blocks, rounded = round_compensated(
        weights, square + 0.01 * square.diagonal().mean() * torch.eye(96), "IQ4_NL"
    )
    kind = gguf.GGMLQuantizationType.IQ4_NL
    np.testing.assert_allclose(gguf.dequantize(blocks, kind), rounded.numpy(), atol=1e-6)
    nearest = torch.from_numpy(gguf.dequantize(ggml_quantize(weights.numpy(), "IQ4_NL"), kind))
    wanted = inputs @ weights.T
    ours, theirs = ((inputs @ w.T - wanted).square().mean() for w in (rounded, nearest))
    assert ours < 0.6 * theirs


@pytest.fixture(scope="module")
def shallow_xlmr(shapes: Any, narrow: Any, xlmr_tokenizer: Any, random_checkpoint: Any) -> Checkpoint:
    # llama.cpp's converter looks for the charsmap at the top of the normalizer only.
    plain = xlmr_tokenizer | {"normalizer": xlmr_tokenizer["normalizer"]["normalizers"][0]}
    return random_checkpoint(shapes["xlm-roberta"](plain, num_hidden_layers=1, **narrow))


def test_one_token_type_survives_llama_cpps_quantizer(tiny: Checkpoint, tmp_path: Path) -> None:
    converted = convert(tiny, "gguf-q4_k_m", tmp_path)
    assert np.isfinite(converted.encode(["hello"])).all()


# llama-cpp-python's source package holds it; `make install-all` unpacks it there.
LLAMA_CPP = Path(os.environ.get("RINGKAS_LLAMA_CPP", Path(__file__).parents[3] / ".venv" / "llama.cpp"))
CONVERTER = LLAMA_CPP / "convert_hf_to_gguf.py"


@pytest.mark.skipif(
    not CONVERTER.is_file(), reason="no llama.cpp: `make install-all`, or RINGKAS_LLAMA_CPP=its folder"
)
@pytest.mark.parametrize(
    "kind",
    [
        "f32",
        pytest.param("q8_0", marks=pytest.mark.full),
        pytest.param("f16", marks=pytest.mark.full),
        pytest.param("bf16", marks=pytest.mark.full),
    ],
)
@pytest.mark.parametrize("model", ["WordPiece BERT", "XLMRobertaModel"])
def test_the_tensors_are_those_of_llama_cpps_converter(
    demo: Checkpoint, request: pytest.FixtureRequest, tmp_path: Path, model: str, kind: str
) -> None:
    checkpoint = demo if model == "WordPiece BERT" else request.getfixturevalue("shallow_xlmr")
    theirs = tmp_path / "theirs.gguf"
    command = [
        sys.executable,
        str(CONVERTER),
        str(checkpoint.path),
        "--outfile",
        str(theirs),
        "--outtype",
        kind,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"llama.cpp's converter fails on this checkpoint: {done.stderr.splitlines()[-1]}")
    ours = convert(checkpoint, f"gguf-{kind}", tmp_path).file
    a, b = read_header(ours), read_header(theirs)
    assert a.tensors.keys() == b.tensors.keys()
    first, second = ours.read_bytes(), theirs.read_bytes()
    limit = checkpoint.spec.max_length
    for name, tensor in a.tensors.items():
        other = b.tensors[name]
        # Positions beyond the checkpoint's limit are cut: they are its last rows.
        rows = limit if name == POSITIONS else other.shape[-1]
        assert (tensor.shape, tensor.kind) == ((*other.shape[:-1], rows), other.kind), name
        own = first[tensor.offset : tensor.offset + tensor.size]
        assert own == second[other.offset : other.offset + other.size][: len(own)], name
    assert a.metadata["tokenizer.ggml.tokens"] == b.metadata["tokenizer.ggml.tokens"]
    assert a.metadata["tokenizer.ggml.token_type"] == b.metadata["tokenizer.ggml.token_type"]


def test_the_file_says_what_it_is(demo: Checkpoint, tmp_path: Path) -> None:
    converted = convert(demo, "gguf-f16", tmp_path)
    metadata = read_header(converted.file).metadata
    wanted = {
        "general.architecture": "bert",
        "general.license": "apache-2.0",
        "general.size_label": "23M",
        "general.base_model.0.repo_url": "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
        "bert.pooling_type": 1,
        "bert.attention.causal": False,
        "bert.context_length": 256,  # its limit, of 512 positions
        "tokenizer.ggml.bos_token_id": 101,
        "tokenizer.ggml.eos_token_id": 102,
        "tokenizer.ggml.padding_token_id": 0,
        "ringkas.target": "gguf-f16",
    }
    assert {key: metadata.get(key) for key in wanted} == wanted
    assert metadata["general.languages"] == [b"en"]
    assert seal(tmp_path, converted.artifact().manifest).manifest.files[converted.file.name].size > 0
