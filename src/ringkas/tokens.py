"""Token ids from `tokenizer.json`, the same for every engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, normalizers

from ringkas.errors import CheckpointError
from ringkas.spec import EncodingSpec

TOKENIZER_FILE = "tokenizer.json"

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TokenBatch:
    """One padded batch: `input_ids` and `attention_mask`, both int64 of shape (batch, sequence)."""

    input_ids: Ids
    attention_mask: Ids


class TextTokenizer:
    """Texts to token ids, truncated as the checkpoint says, special tokens kept. Safe to share by threads."""

    def __init__(self, folder: Path, spec: EncodingSpec) -> None:
        self._tokenizer = _open(folder / TOKENIZER_FILE)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(spec.max_length)
        if spec.lower_case:
            _lower_case_first(self._tokenizer)
        self.pad_id, self.max_length = spec.pad_id, spec.max_length

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of each text, special tokens included. The texts must be valid UTF-8 strings."""
        if len(texts) == 1:  # no thread pool for one text
            return [self._tokenizer.encode(texts[0]).ids]
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def prompt_length(self, prompt: str) -> int:
        """The number of leading tokens that `prompt` takes, its closing special token not counted."""
        ids = self._tokenizer.encode(prompt).ids
        special = {id for id, token in self._tokenizer.get_added_tokens_decoder().items() if token.special}
        return len(ids) - (1 if ids and ids[-1] in special else 0)

    def vocabulary_size(self) -> int:
        """One more than the highest id that a text can get."""
        return 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values())


def pad(token_ids: Sequence[Sequence[int]], pad_id: int) -> TokenBatch:
    """Rows of ids, padded on the right to the longest."""
    lengths = np.array([len(row) for row in token_ids], dtype=np.int64)
    width = int(lengths.max())
    mask = np.arange(width) < lengths[:, None]
    input_ids = np.full(mask.shape, pad_id, dtype=np.int64)
    input_ids[mask] = np.concatenate([np.asarray(row, dtype=np.int64) for row in token_ids])
    return TokenBatch(input_ids, mask.astype(np.int64))


def _open(path: Path) -> Tokenizer:
    if not path.is_file():
        raise CheckpointError(
            f"{path} is missing",
            why="token ids come from tokenizer.json alone, the same for every engine",
            fix="Make it with transformers: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
        )
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the tokenizers package raises bare Exception
        raise CheckpointError(f"{path} cannot be read as a tokenizer", why=str(error)) from None


def _lower_case_first(tokenizer: Tokenizer) -> None:
    # sentence-transformers' `do_lower_case`, for checkpoints whose own normalizer keeps the case.
    own = tokenizer.normalizer
    lower = normalizers.Lowercase()
    tokenizer.normalizer = lower if own is None else normalizers.Sequence([lower, own])
