"""OpenAI's request, answer and error, as typed JSON: what changes vectors is honoured or refused."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from ringkas.runtimes.engine import Vectors
from ringkas.runtimes.long_texts import LongTexts

TokenId = Annotated[int, msgspec.Meta(ge=0)]


class Request(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /v1/embeddings`.

    `input` is a text, a list of texts, a list of token ids, or a list of such lists: the model's own ids,
    special tokens included. `input_type` and `truncation` are this server's additions.
    """

    input: msgspec.Raw
    model: str
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, msgspec.Meta(ge=1)] | None = None
    user: str | None = None
    input_type: Literal["query", "document"] | None = None
    truncation: LongTexts | None = None


class Refusal(Exception):
    """A request that cannot be answered: its status and OpenAI's error."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None, retry: int = 0
    ) -> None:
        super().__init__(message)
        self.status, self.retry = status, retry
        kind = "server_error" if status >= 500 else _KINDS.get(status, "invalid_request_error")
        self.body = msgspec.json.encode(
            {"error": {"message": message, "type": kind, "param": param, "code": code}}
        )


_KINDS = {401: "authentication_error", 429: "rate_limit_error"}
_requests = msgspec.json.Decoder(Request)
_text, _texts = msgspec.json.Decoder(str), msgspec.json.Decoder(list[str])
_ids, _id_lists = msgspec.json.Decoder(list[TokenId]), msgspec.json.Decoder(list[list[TokenId]])

Inputs = tuple[list[str], None] | tuple[None, list[list[int]]]


def parse(body: bytes | bytearray) -> tuple[Request, Inputs]:
    """The request, and its texts or its token lists.

    Raises:
        Refusal: 400, it is no such request.
    """
    try:
        request = _requests.decode(body)
        return request, _inputs(bytes(request.input).strip())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(
            400, f"The body is not a request for embeddings: {error}", code="invalid_body"
        ) from None


def _inputs(raw: bytes) -> Inputs:
    if raw[:1] == b'"':
        return [_text.decode(raw)], None
    inside = raw[1:].lstrip()[:1] if raw[:1] == b"[" else b""
    if inside == b'"':
        return _texts.decode(raw), None
    if inside == b"[":
        return None, _id_lists.decode(raw)
    if inside == b"]":
        raise Refusal(400, "'input' is an empty list", code="empty_input", param="input")
    if inside:
        return None, [_ids.decode(raw)]
    raise Refusal(
        400, "'input' must be a text, a list of texts, or lists of token ids", code="invalid_input",
        param="input",
    )  # fmt: skip


class Usage(msgspec.Struct):
    """Tokens that were encoded, special tokens included, and texts that were over the limit."""

    prompt_tokens: int
    total_tokens: int
    long_texts: int = 0


class Item(msgspec.Struct):
    """One vector: a list of numbers, or its little-endian float32 in base64."""

    embedding: list[float] | str
    index: int
    object: str = "embedding"


class Answer(msgspec.Struct):
    """The body of an answer."""

    data: list[Item]
    model: str
    usage: Usage
    object: str = "list"


_encoder = msgspec.json.Encoder()


def answer(vectors: Vectors, request: Request, tokens: int, long: int) -> bytes:
    """The JSON of an answer."""
    if request.encoding_format == "base64":
        rows = np.ascontiguousarray(vectors, dtype="<f4")
        found: list[Any] = [base64.b64encode(row.tobytes()).decode("ascii") for row in rows]
    else:
        found = vectors.tolist()  # doubles that a client rounds to the same float32
    items = [Item(one, index) for index, one in enumerate(found)]
    return _encoder.encode(Answer(items, request.model, Usage(tokens, tokens, long)))
