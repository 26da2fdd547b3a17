"""The libraries that bear witness: what each computes from a folder, by its own code alone.

Nothing here may use what ringkas read of the folder, except where it is told what to assume of a plain
transformers folder, which says nothing of pooling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ringkas.checkpoint import Checkpoint
from ringkas.runtimes.engine import Vectors

# A batch is as wide as its longest text, and some texts are made to fill it.
_BATCH = 2


@dataclass(frozen=True)
class Call:
    """One way to ask for a vector that reaches the settings of prompts, and what ours gave.

    Args:
        verb: `encode`, `encode_query` or `encode_document`.
        prompt: given as explicit text; None leaves it to the library's own rule.
        own_prompt: the text that ours put before it.
        name: of the prompt, for a message.
        vector: ours, of shape (dimension,).
    """

    verb: str
    prompt: str | None
    own_prompt: str
    name: str
    vector: Vectors


class Library(Protocol):
    """A checkpoint as its own library opens it. Making one raises whatever the library objects to."""

    package: str
    name: str
    modules: tuple[str, ...]
    notes: tuple[str, ...]

    def __init__(self, checkpoint: Checkpoint) -> None: ...

    @property
    def tokenizer_class(self) -> str: ...

    @property
    def prompts(self) -> Mapping[str, str]:
        """Its named prompts, placeholders left out."""

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, truncated, special tokens included."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of shape (n, dimension), without any prompt."""

    def ask(self, call: Call, text: str) -> tuple[Vectors, str]:
        """The vector of `text` as `call` asks for it, and the prompt that was put before it."""


class SentenceTransformers:
    """`SentenceTransformer(FOLDER)`, in float32 as the reference is."""

    package = name = "sentence-transformers"
    modules: tuple[str, ...] = ("sentence_transformers", "torch")

    def __init__(self, checkpoint: Checkpoint) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        self._model = SentenceTransformer(
            str(checkpoint.root),
            device="cuda" if torch.cuda.is_available() else "cpu",
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"dtype": torch.float32, "use_safetensors": True},
        )
        self._model.eval()
        self.notes: tuple[str, ...] = _limit_positions(self._model, "max_seq_length", checkpoint, self.name)

    @property
    def tokenizer_class(self) -> str:
        return type(self._model.tokenizer).__name__

    @property
    def prompts(self) -> Mapping[str, str]:
        return {name: text for name, text in self._model.prompts.items() if text}

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        rows: list[list[int]] = []
        for start in range(0, len(texts), _BATCH):
            batch = self._model.preprocess(list(texts[start : start + _BATCH]))
            pairs = zip(batch["input_ids"], batch["attention_mask"], strict=True)
            rows += [ids[mask.bool()].tolist() for ids, mask in pairs]
        return rows

    def encode(self, texts: Sequence[str]) -> Vectors:
        return self._encode("encode", list(texts), prompt="")

    def ask(self, call: Call, text: str) -> tuple[Vectors, str]:
        if call.prompt is not None:
            return self._encode(call.verb, text, prompt=call.prompt), call.prompt
        candidates = _CANDIDATES.get(call.verb, ())
        name = next((name for name in candidates if name in self._model.prompts), None)
        chosen = self._model.prompts.get(name or self._model.default_prompt_name or "")
        return self._encode(call.verb, text), chosen or ""

    def _encode(self, verb: str, texts: Any, **options: Any) -> Vectors:
        encode = getattr(self._model, verb)
        vectors = encode(texts, batch_size=_BATCH, show_progress_bar=False, convert_to_numpy=True, **options)
        return np.asarray(vectors, dtype=np.float32)


# The prompts that its verbs look for, in its own order: to say which it chose, not to choose.
_CANDIDATES = {"encode_query": ("query",), "encode_document": ("document", "passage", "corpus")}


class Transformers:
    """`AutoModel` and `AutoTokenizer` of a plain folder, mean-pooled and normalised as was assumed."""

    package = name = "transformers"
    modules: tuple[str, ...] = ("transformers", "torch")

    def __init__(self, checkpoint: Checkpoint) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer

        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        self._torch = torch
        self._tokenizer = AutoTokenizer.from_pretrained(str(checkpoint.path), **options)
        self._model = AutoModel.from_pretrained(
            str(checkpoint.path), dtype=torch.float32, use_safetensors=True, **options
        ).eval()
        assumed = "the folder says nothing of pooling: mean pooling and length one were assumed"
        self.notes: tuple[str, ...] = (
            assumed,
            *_limit_positions(self._tokenizer, "model_max_length", checkpoint, self.name),
        )

    @property
    def tokenizer_class(self) -> str:
        return type(self._tokenizer).__name__

    @property
    def prompts(self) -> Mapping[str, str]:
        return {}

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [list(self._tokenizer(text, truncation=True)["input_ids"]) for text in texts]

    def encode(self, texts: Sequence[str]) -> Vectors:
        vectors = []
        for text in texts:
            inputs = self._tokenizer(text, truncation=True, return_tensors="pt")
            with self._torch.inference_mode():
                hidden = self._model(**inputs).last_hidden_state[0].double().numpy()
            mean = hidden.mean(axis=0)
            vectors.append(mean / np.linalg.norm(mean))
        return np.asarray(vectors, dtype=np.float32)

    def ask(self, call: Call, text: str) -> tuple[Vectors, str]:
        # It has no verbs and knows no prompts: whoever uses it writes them before the text.
        return self.encode([call.own_prompt + text])[0], call.own_prompt


LIBRARIES: Mapping[str, type[SentenceTransformers] | type[Transformers]] = {
    "sentence-transformers": SentenceTransformers,
    "transformers": Transformers,
}


def fast_ids(checkpoint: Checkpoint, texts: Sequence[str]) -> list[list[int]]:
    """Token ids by `tokenizer.json` as transformers' general class loads it: the truth."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(str(checkpoint.path), local_files_only=True)
    encoded = tokenizer(list(texts), truncation=True, max_length=checkpoint.spec.max_length)
    return [list(ids) for ids in encoded["input_ids"]]


def _limit_positions(owner: Any, attribute: str, checkpoint: Checkpoint, name: str) -> tuple[str, ...]:
    """Lowers a limit that is past the positions of config.json, and says so: past them it fails on texts."""
    stated, positions = getattr(owner, attribute), checkpoint.family.max_positions(checkpoint.config)
    if stated is not None and stated <= positions:
        return ()
    setattr(owner, attribute, positions)
    limit = f"{stated} tokens" if stated is not None and stated < 10**9 else "no limit"
    return (f"{name} states {limit}, but config.json has {positions} positions: artifacts truncate there",)
