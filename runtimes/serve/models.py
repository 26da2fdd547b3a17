"""The models that a server has: their names, their prompts, texts to rows, rows to vectors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ringkas.errors import TargetError, TextError
from ringkas.runtimes.encoder import Encoder
from ringkas.runtimes.engine import Vectors
from ringkas.runtimes.long_texts import LongTexts, RowMaker, Rows, join_windows
from ringkas.runtimes.serve.batcher import Batcher, QueueFull
from ringkas.runtimes.serve.limits import Limits
from ringkas.runtimes.serve.protocol import Refusal, Request
from ringkas.runtimes.vectors import truncate

# Tokenising fewer characters than this takes less time than handing them to another thread.
_INLINE_CHARACTERS = 8_192
# Characters that are tokenised in one call: it takes a hundred times that in memory.
_AT_ONCE = 256 << 10


@dataclass
class Model:
    """One artifact being served under `name`, and under `name:PROMPT` for each of its prompts."""

    name: str
    encoder: Encoder
    limits: Limits
    long_texts: LongTexts = "truncate"
    observe: Callable[[int, int], None] = lambda texts, tokens: None
    batcher: Batcher = field(init=False)

    def __post_init__(self) -> None:
        self.batcher = Batcher(self.encoder, self.limits, self.observe)
        self._makers: dict[tuple[str | None, LongTexts], RowMaker] = {}
        self._tokenising = ThreadPoolExecutor(1, thread_name_prefix="ringkas-tokenise")
        self._vocabulary = self.encoder.tokenizer.vocabulary_size()
        self._maker(None, self.long_texts)

    def names(self) -> list[str]:
        """What a request may call it: with and without each prompt."""
        spec = self.encoder.spec
        suffixes = dict.fromkeys([*spec.prompts, *(("query", "document") if spec.prompts else ())])
        return [self.name, *(f"{self.name}:{suffix}" for suffix in suffixes)]

    async def encode(
        self, request: Request, suffix: str, texts: list[str] | None, ids: list[list[int]] | None
    ) -> tuple[Vectors, Rows]:
        """The vectors of a request.

        Raises:
            Refusal: it asks for what this model or the server has not.
        """
        if ids is not None:
            rows = self._token_rows(request, suffix, ids)
        else:
            rows = await self._text_rows(request, suffix, texts or [])
        if rows.tokens > self.limits.queue_tokens:
            raise Refusal(
                400, f"The request has {rows.tokens} tokens, more than {self.limits.queue_tokens}: part it",
                code="too_many_tokens", param="input",
            )  # fmt: skip
        try:
            vectors = await self.batcher.submit(rows)
        except QueueFull as error:
            raise Refusal(
                429, "The server is busy: try again later", code="queue_full", retry=error.retry_s
            ) from None
        vectors = join_windows(self.encoder, rows, vectors)
        if request.dimensions is not None:
            try:
                vectors = truncate(vectors, request.dimensions, normalize=self.encoder.spec.normalize)
            except TargetError as error:
                raise Refusal(400, str(error), code="invalid_dimensions", param="dimensions") from None
        return vectors, rows

    def close(self) -> None:
        """Ends its threads and frees the engine."""
        self.batcher.close()
        self._tokenising.shutdown()
        self.encoder.close()

    async def _text_rows(self, request: Request, suffix: str, texts: list[str]) -> Rows:
        for position, text in enumerate(texts):
            # A character has at most four bytes, and most texts are short.
            if 4 * len(text) > self.limits.text_bytes and len(text.encode()) > self.limits.text_bytes:
                raise Refusal(
                    400, f"Text {position} has more than {self.limits.text_bytes} bytes: cut or part it",
                    code="text_too_long", param="input",
                )  # fmt: skip
        maker = self._maker(self._prompt(request, suffix), request.truncation or self.long_texts)
        try:
            if sum(map(len, texts)) <= _INLINE_CHARACTERS:
                return maker.rows(texts)
            loop = asyncio.get_running_loop()
            parts = [await loop.run_in_executor(self._tokenising, maker.rows, part) for part in _parts(texts)]
            return _joined(parts)
        except TextError as error:
            raise Refusal(400, str(error), code="context_length_exceeded", param="input") from None

    def _token_rows(self, request: Request, suffix: str, ids: list[list[int]]) -> Rows:
        if suffix or request.input_type:
            raise Refusal(
                400, "A prompt cannot be put before token ids: leave out input_type and the model's suffix",
                code="prompt_with_tokens", param="input_type",
            )  # fmt: skip
        limit = self.encoder.tokenizer.max_length
        for position, row in enumerate(ids):
            if not 0 < len(row) <= limit:
                raise Refusal(
                    400, f"Token list {position} has {len(row)} ids; a list has 1 to {limit}",
                    code="context_length_exceeded", param="input",
                )  # fmt: skip
            if max(row) >= self._vocabulary:
                raise Refusal(
                    400, f"Token list {position} holds {max(row)}, and the model has {self._vocabulary} ids, "
                    "which are its own, not OpenAI's: send texts",
                    code="invalid_token", param="input",
                )  # fmt: skip
        return Rows(ids, None, len(ids), sum(map(len, ids)), 0)

    def _prompt(self, request: Request, suffix: str) -> str | None:
        if suffix and request.input_type and suffix != request.input_type:
            raise Refusal(
                400, f"input_type {request.input_type!r} and the model's suffix {suffix!r} differ",
                code="two_prompts", param="input_type",
            )  # fmt: skip
        spec, wanted = self.encoder.spec, suffix or request.input_type
        if wanted in spec.prompts:
            return wanted
        known = {"query": spec.query_prompt, "document": spec.document_prompt}
        return (known[wanted]() or "") if wanted else None

    def _maker(self, prompt: str | None, policy: LongTexts) -> RowMaker:
        key = (prompt, policy)
        if key not in self._makers:
            self._makers[key] = RowMaker(self.encoder, prompt, policy)
        return self._makers[key]


def _parts(texts: Sequence[str]) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    size = 0
    for text in texts:
        if parts[-1] and size + len(text) > _AT_ONCE:
            parts.append([])
            size = 0
        parts[-1].append(text)
        size += len(text)
    return parts


def _joined(parts: Sequence[Rows]) -> Rows:
    ids = [row for part in parts for row in part.ids]
    texts = 0
    owners: list[int] = []
    for part in parts:
        owners += [texts + owner for owner in (part.owners or range(part.texts))]
        texts += part.texts
    windowed = any(part.owners is not None for part in parts)
    tokens, long = sum(part.tokens for part in parts), sum(part.long for part in parts)
    return Rows(ids, owners if windowed else None, texts, tokens, long, parts[0].pooled_from)
