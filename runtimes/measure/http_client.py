"""The least of an HTTP client, so that what is measured is the server: one request at a time a connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ringkas.errors import RingkasError


@dataclass(frozen=True)
class Server:
    """Where an OpenAI-like server is: `http://host:port`, with or without `/v1`, and what it is asked for.

    `model` None takes the first that it lists; `key` goes with every request.
    """

    url: str
    model: str | None = None
    key: str | None = None

    def address(self) -> tuple[str, int]:
        """Host and port.

        Raises:
            RingkasError: it is no http address.
        """
        parts = urlsplit(self.url)
        if parts.scheme != "http" or not parts.hostname:
            raise RingkasError(f"{self.url} is no http address", fix="Write it as http://127.0.0.1:8080")
        return parts.hostname, parts.port or 80

    def path(self, name: str) -> str:
        """Of `embeddings` or `models`."""
        base = urlsplit(self.url).path.rstrip("/").removesuffix("/embeddings").removesuffix("/v1")
        return f"{base}/v1/{name}"

    def request(self, name: str, body: bytes | None = None) -> bytes:
        """A whole HTTP request."""
        host, port = self.address()
        lines = [f"{'GET' if body is None else 'POST'} {self.path(name)} HTTP/1.1", f"host: {host}:{port}"]
        if self.key:
            lines.append(f"authorization: Bearer {self.key}")
        if body is not None:
            lines += ["content-type: application/json", f"content-length: {len(body)}"]
        return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


@dataclass
class Connections:
    """Kept open between requests; a new one where all are busy."""

    server: Server
    _idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)

    async def send(self, request: bytes) -> tuple[int, bytes]:
        """The status and the body of the answer. A connection that was closed meanwhile is opened anew."""
        while True:
            old = bool(self._idle)
            reader, writer = self._idle.pop() if old else await self._open()
            try:
                writer.write(request)
                status, body, keep = await _read(reader)
            except (OSError, asyncio.IncompleteReadError):
                writer.close()
                if old:
                    continue
                raise
            if keep:
                self._idle.append((reader, writer))
            else:
                writer.close()
            return status, body

    async def close(self) -> None:
        for _, writer in self._idle:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
        self._idle.clear()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self.server.address()
        try:
            return await asyncio.open_connection(host, port)
        except OSError as error:
            raise RingkasError(
                f"no server answers at {self.server.url}", why=error.strerror or str(error)
            ) from None


async def _read(reader: asyncio.StreamReader) -> tuple[int, bytes, bool]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    keep = headers.get("connection", "").lower() != "close" and first.startswith("HTTP/1.1")
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    elif "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    else:
        body, keep = await reader.read(), False
    return int(first.split(" ")[1]), body, keep


def body_of(texts: str | Sequence[str], model: str) -> bytes:
    """The JSON of a request for embeddings."""
    return json.dumps({"model": model, "input": texts}, ensure_ascii=False).encode()


async def first_model(connections: Connections) -> str:
    """The first model that a server lists.

    Raises:
        RingkasError: it lists none.
    """
    status, body = await connections.send(connections.server.request("models"))
    try:
        name = json.loads(body)["data"][0]["id"]
    except (ValueError, KeyError, IndexError, TypeError):
        name = None
    if status != 200 or not isinstance(name, str):
        raise RingkasError(
            f"{connections.server.url} lists no model", why=f"status {status}", fix="Name one with --model"
        )
    return name


def vectors_in(status: int, body: bytes) -> list[list[float]]:
    """The vectors of an answer, in order.

    Raises:
        RingkasError: it is another answer.
    """
    try:
        document: Any = json.loads(body)
        rows: list[Any] = document["data"] if status == 200 else []
        ordered = sorted(rows, key=lambda row: row["index"])
        found: list[list[float]] = [row["embedding"] for row in ordered]
    except (ValueError, KeyError, TypeError):
        found = []
    if not found:
        said = body[:200].decode("utf-8", errors="replace")
        raise RingkasError("the server gave no embeddings", why=f"status {status}: {said}")
    return found
