"""The ASGI application: routes, limits on bodies, the key, errors in OpenAI's form."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ringkas.runtimes.serve.description import PAGE, describe
from ringkas.runtimes.serve.limits import Limits
from ringkas.runtimes.serve.metrics import Metrics
from ringkas.runtimes.serve.models import Model
from ringkas.runtimes.serve.protocol import Inputs, Refusal, Request, answer, parse

_JSON = (b"content-type", b"application/json")
_TOLD_TO_RETRY = b"retry-after"


class Embeddings:
    """`POST /v1/embeddings`: plain ASGI, since it is what a server spends its time on."""

    def __init__(self, models: Sequence[Model], limits: Limits, key: str | None, metrics: Metrics) -> None:
        self._limits, self._metrics = limits, metrics
        self._key = None if key is None else key.encode()
        self._held = 0
        self._by_name = {
            name: (model, name[len(model.name) + 1 :]) for model in models for name in model.names()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        held, name = _Held(), ""
        try:
            check_key(scope, self._key)
            async with asyncio.timeout(self._limits.body_seconds):
                body = await self._body(receive, held)
            started = time.perf_counter()
            request, inputs = parse(body)
            model, suffix = self._model(request)
            name = model.name
            data = await self._answer(request, inputs, model, suffix, started)
            await _send(send, 200, data)
            self._metrics.request(name, 200)
        except Refusal as error:
            await self._refuse(send, error, name)
        except TimeoutError:
            await self._refuse(send, Refusal(408, "The body came too slowly", code="timeout"), name)
        except _Gone:
            self._metrics.request(name, 499)
        finally:
            self._held -= held.size

    async def _body(self, receive: Receive, held: _Held) -> bytearray:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            chunk = message.get("body", b"")
            held.size += len(chunk)
            self._held += len(chunk)
            if held.size > self._limits.body_bytes:
                if message.get("more_body", False):
                    await self._discard(receive)
                raise Refusal(
                    413, f"The body has more than {self._limits.body_bytes} bytes: part it", code="too_large"
                )
            if self._held > self._limits.held_bytes:
                raise Refusal(429, "The server is busy: try again later", code="memory_full", retry=1)
            body += chunk
            if not message.get("more_body", False):
                return body

    async def _discard(self, receive: Receive) -> None:
        """Reads the rest of a body that is too large, as much again at most.

        A connection that is closed on unread bytes is reset, and the refusal may be lost with it.
        """
        left = self._limits.body_bytes
        while left > 0:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            left -= len(message.get("body", b""))
            if not message.get("more_body", False):
                return

    def _model(self, request: Request) -> tuple[Model, str]:
        try:
            return self._by_name[request.model]
        except KeyError:
            listed = ", ".join(self._by_name)
            raise Refusal(
                404, f"There is no model {request.model[:200]!r}; there is: {listed}", code="model_not_found",
                param="model",
            ) from None  # fmt: skip

    async def _answer(
        self, request: Request, inputs: Inputs, model: Model, suffix: str, started: float
    ) -> bytes:
        texts, ids = inputs
        count = len(texts or ids or ())
        if count > self._limits.inputs:
            raise Refusal(
                400, f"'input' has {count} entries, more than {self._limits.inputs}", code="too_many_inputs",
                param="input",
            )  # fmt: skip
        vectors, rows = await model.encode(request, suffix, texts, ids)
        data = answer(vectors, request, rows.tokens, rows.long)
        self._metrics.of(model.name).answered(
            time.perf_counter() - started, rows.texts, rows.tokens, rows.long
        )
        return data

    async def _refuse(self, send: Send, error: Refusal, model: str) -> None:
        self._metrics.request(model, error.status)
        await _send(send, error.status, error.body, error.retry, close=error.status in (408, 413))


class _Held:
    size = 0


class _Gone(Exception):
    """The client hung up before its body was whole."""


def check_key(scope: Scope, key: bytes | None) -> None:
    """Raises `Refusal` (401) unless the request has the key; in constant time."""
    if key is None:
        return
    given = dict(scope["headers"]).get(b"authorization", b"").removeprefix(b"Bearer ")
    if not hmac.compare_digest(given, key):
        raise Refusal(401, "The API key is missing or wrong", code="invalid_api_key")


async def _send(send: Send, status: int, body: bytes, retry: int = 0, *, close: bool = False) -> None:
    headers = [_JSON, (b"content-length", str(len(body)).encode())]
    if retry:
        headers.append((_TOLD_TO_RETRY, str(retry).encode()))
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class _Pages:
    """All but embeddings: what is asked for now and then."""

    def __init__(self, models: Sequence[Model], key: str | None, metrics: Metrics) -> None:
        self._models, self._metrics = models, metrics
        self._key = None if key is None else key.encode()
        self._made = int(time.time())
        self._names = [name for model in models for name in model.names()]

    async def list_models(self, request: HttpRequest) -> Response:
        check_key(request.scope, self._key)
        return _json({"object": "list", "data": [self._entry(name) for name in self._names]})

    async def one_model(self, request: HttpRequest) -> Response:
        check_key(request.scope, self._key)
        name = request.path_params["name"]
        if name not in self._names:
            raise Refusal(404, f"There is no model {name[:200]!r}", code="model_not_found", param="model")
        return _json(self._entry(name))

    async def health(self, request: HttpRequest) -> Response:
        return _json({"status": "ok", "models": [model.name for model in self._models]})

    async def metrics(self, request: HttpRequest) -> Response:
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4")

    async def openapi(self, request: HttpRequest) -> Response:
        return _json(describe(self._names))

    async def docs(self, request: HttpRequest) -> Response:
        return HTMLResponse(PAGE)

    def _entry(self, name: str) -> Mapping[str, Any]:
        return {"id": name, "object": "model", "created": self._made, "owned_by": "ringkas"}


def make_app(
    models: Sequence[Model], limits: Limits, *, key: str | None = None, metrics: Metrics | None = None
) -> Starlette:
    """The application; it closes the models when it ends."""
    metrics = metrics or Metrics()
    for model in models:
        metrics.queue(model.name, partial(getattr, model.batcher, "queued_tokens"))
    pages = _Pages(models, key, metrics)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        for model in models:
            model.close()

    routes = [
        Route("/v1/embeddings", Embeddings(models, limits, key, metrics), methods=["POST"]),
        Route("/v1/models", pages.list_models),
        Route("/v1/models/{name:path}", pages.one_model),
        Route("/health", pages.health),
        Route("/ready", pages.health),
        Route("/metrics", pages.metrics),
        Route("/openapi.json", pages.openapi),
        Route("/docs", pages.docs),
    ]
    handlers: Any = {Refusal: _refused, HTTPException: _http_error, Exception: _defect}
    return Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


async def _refused(request: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return Response(error.body, error.status, media_type="application/json")


async def _http_error(request: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    said = f"{request.method} {request.url.path[:200]}: {error.detail}"
    headers = dict(error.headers or {})
    return Response(Refusal(error.status_code, said).body, error.status_code, headers, "application/json")


async def _defect(request: HttpRequest, error: Exception) -> Response:
    said = f"{type(error).__name__}: the server could not answer"
    return Response(Refusal(500, said, code="internal_error").body, 500, media_type="application/json")
