"""What a client may ask for, so that memory is bounded whatever comes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Of one server.

    Args:
        body_bytes: of one request; more is 413.
        inputs: texts or token lists in one request; more is 400.
        text_bytes: of one text; more is 400, since tokenising takes a hundred times that in memory.
        queue_tokens: that wait for one model; a request that finds no room is 429.
        held_bytes: of all bodies that are being answered; a request that finds no room is 429.
        body_seconds: a slower body is 408.
        connections: open at once; more are 503.
        wait_ms: how long a busy server waits for a batch to fill. An idle one never waits.
        grace_seconds: for requests in flight when the server is told to stop.
    """

    body_bytes: int = 8 << 20
    inputs: int = 2048
    text_bytes: int = 256 << 10
    queue_tokens: int = 1 << 18
    held_bytes: int = 64 << 20
    body_seconds: float = 30.0
    connections: int = 1024
    wait_ms: float = 2.0
    grace_seconds: int = 30
