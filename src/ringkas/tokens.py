"""Token ids from `tokenizer.json`, the same for every engine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer, normalizers

from ringkas.compact import open_compact
from ringkas.cutting import boundary, may_cut
from ringkas.errors import CheckpointError, panics_as_errors
from ringkas.files import read_whole
from ringkas.forks import ForkSafeLock, is_forked
from ringkas.spec import EncodingSpec
from ringkas.tokenizer_config import changes_tokenizer, resolve

TOKENIZER_FILE = "tokenizer.json"
# A text with more characters than this for each token that is kept is tried cut; none is shorter than a page.
_CHARACTERS_A_TOKEN, _PAGE = 16, 8192
_LONGEST_REASON = 300  # some quote what they could not read
# The compact form is slower by the text: in a call with more, opening `tokenizer.json` pays.
COMPACT_TEXTS = 512

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TokenBatch:
    """One padded batch: `input_ids` and `attention_mask`, both int64 of shape (batch, sequence)."""

    input_ids: Ids
    attention_mask: Ids


class TextTokenizer:
    """Texts to token ids, truncated as the checkpoint says, special tokens kept. Safe to share by threads.

    A large vocabulary's compact form, where the folder has one, serves until a call has many texts, or one
    that it is not for: then `tokenizer.json` is opened, and stays.
    """

    def __init__(self, folder: Path, spec: EncodingSpec) -> None:
        self._file = folder / TOKENIZER_FILE
        self._spec = spec
        self._lock = ForkSafeLock()
        self._opened: Tokenizer | None = None
        self._cuttable: bool | None = None
        self._compact = open_compact(folder, spec)
        if self._compact is None:
            self._full()
        self.pad_id, self.max_length = spec.pad_id, spec.max_length

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of each text, special tokens included. The texts must be valid UTF-8 strings."""
        long = self._long_texts(texts)
        if long:
            found = {row: self._encode_long(texts[row]) for row in long}
            others = iter(self._encode([text for row, text in enumerate(texts) if row not in found]))
            return [found[row] if row in found else next(others) for row in range(len(texts))]
        return self._encode(texts)

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        if self._compact is not None and self._opened is None and len(texts) <= COMPACT_TEXTS:
            rows = [self._compact.encode(text, self._spec) for text in texts]
            return [
                self._full().encode(text).ids if row is None else row
                for row, text in zip(rows, texts, strict=True)
            ]
        return [encoding.ids for encoding in self._encodings(texts)]

    def encode_parts(self, texts: Sequence[str]) -> list[list[list[int]]]:
        """The ids of each whole text, in parts of at most `max_length`: the first is what `encode` gives.

        Every part has its special tokens; only a text over the limit has more than one.
        """
        return [[one.ids, *(more.ids for more in one.overflowing)] for one in self._encodings(texts)]

    def _encodings(self, texts: Sequence[str]) -> Sequence[Encoding]:
        """By the thread pool of `tokenizers`, but for a single text, and in a forked process.

        Its threads do not come along through a fork, and a child would wait for them.
        """
        full = self._full()
        if len(texts) == 1 or is_forked():
            return [full.encode(text) for text in texts]
        encodings: Sequence[Encoding] = full.encode_batch_fast(list(texts))
        return encodings

    def special_counts(self) -> tuple[int, int]:
        """How many special tokens stand before and after the ids of a text."""
        mask = self._full().encode("a").special_tokens_mask
        before = mask.index(0) if 0 in mask else len(mask)
        return before, len(mask) - before - mask.count(0)

    def vocabulary_size(self) -> int:
        """How many ids there are, added tokens included."""
        return int(self._full().get_vocab_size(with_added_tokens=True))

    def _long_texts(self, texts: Sequence[str]) -> list[int]:
        """Which texts are so long that it pays to tokenise a beginning of them, and may be."""
        most = max(_PAGE, _CHARACTERS_A_TOKEN * self._spec.max_length)
        long = [row for row, text in enumerate(texts) if len(text) > most]
        return long if long and self._spec.truncation_side == "right" and self._may_cut() else []

    def _encode_long(self, text: str) -> list[int]:
        """The ids of a text of which only the beginning is kept: see cutting.py for why they are the same."""
        end = boundary(text, max(_PAGE, _CHARACTERS_A_TOKEN * self._spec.max_length) // 2)
        while end < len(text):
            ids = self._encode([text[:end]])[0]
            if len(ids) >= self._spec.max_length:
                return ids
            end = boundary(text, 2 * end)
        return self._encode([text])[0]

    def _may_cut(self) -> bool:
        if self._cuttable is None:
            if self._compact is not None:
                self._cuttable = may_cut(self._compact.shell, self._compact.added)
            else:
                added = [token.content for token in self._full().get_added_tokens_decoder().values()]
                self._cuttable = may_cut(self._full(), added)
        return self._cuttable

    def prompt_length(self, prompt: str) -> int:
        """The number of leading tokens that `prompt` takes, its closing special token not counted."""
        ids = self._full().encode(prompt).ids
        special = {id for id, token in self._full().get_added_tokens_decoder().items() if token.special}
        return len(ids) - (1 if ids and ids[-1] in special else 0)

    def _full(self) -> Tokenizer:
        with self._lock:
            if self._opened is None:
                opened = _open(self._file)
                opened.no_padding()
                opened.enable_truncation(self._spec.max_length, direction=self._spec.truncation_side)
                if self._spec.lower_case:
                    _lower_case_first(opened)
                self._opened = opened
            return self._opened


def pad(token_ids: Sequence[Sequence[int]], pad_id: int) -> TokenBatch:
    """Rows of ids, padded on the right to the longest."""
    if len(token_ids) == 1:  # nothing to pad: the common case of a single text stays fast
        only = np.array(token_ids, dtype=np.int64)
        return TokenBatch(only, np.ones_like(only))
    lengths = np.array([len(row) for row in token_ids], dtype=np.int64)
    width = int(lengths.max())
    mask = np.arange(width) < lengths[:, None]
    input_ids = np.full(mask.shape, pad_id, dtype=np.int64)
    input_ids[mask] = np.concatenate([np.asarray(row, dtype=np.int64) for row in token_ids])
    return TokenBatch(input_ids, mask.astype(np.int64))


def require_tokenizer(path: Path) -> None:
    """Raises `CheckpointError` where the file `tokenizer.json` is not there."""
    if not path.is_file():
        raise CheckpointError(
            f"{path} is missing",
            why="token ids come from tokenizer.json alone, the same for every engine",
            fix="Make it with transformers: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
        )


def _open(path: Path) -> Tokenizer:
    require_tokenizer(path)
    try:
        data = read_whole(path)
        if changes_tokenizer(path.parent):
            data = json.dumps(resolve(json.loads(data), path.parent)).encode("utf-8")
        with panics_as_errors():
            return Tokenizer.from_buffer(data)
    except CheckpointError:
        raise
    except Exception as error:  # the tokenizers package raises bare Exception
        why = str(error).partition("\n")[0]
        raise CheckpointError(f"{path} cannot be read as a tokenizer", why=why[:_LONGEST_REASON]) from None


def _lower_case_first(tokenizer: Tokenizer) -> None:
    # sentence-transformers' `do_lower_case`, for checkpoints whose own normalizer keeps the case.
    own = tokenizer.normalizer
    lower = normalizers.Lowercase()
    tokenizer.normalizer = lower if own is None else normalizers.Sequence([lower, own])
