"""The server scenario over HTTP: OpenAI-like servers side by side, whoever made them."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence

import msgspec

from ringkas.machine import tool_versions
from ringkas.progress import QUIET, Progress
from ringkas.runtimes.measure.arrivals import serve_rounds
from ringkas.runtimes.measure.bench import BenchResult, BenchRow
from ringkas.runtimes.measure.cases import SERVER, Case
from ringkas.runtimes.measure.http_client import Server
from ringkas.runtimes.measure.machine import describe_machine
from ringkas.runtimes.measure.rounds import Procedure, measured, open_workers
from ringkas.runtimes.measure.worker import Subject

_WORKER = (sys.executable, "-m", "ringkas.runtimes.measure.http_worker")


def bench_servers(
    servers: Sequence[Server], texts: Sequence[str], plan: Procedure, progress: Progress = QUIET
) -> BenchResult:
    """Seeks the highest rate of single texts that each server answers within the bound.

    Raises:
        RingkasError: a server does not answer, or gives no embeddings.
    """
    machine = describe_machine()
    subjects = [Subject(one.url, command=_WORKER, model=json.dumps([one.url, one.model])) for one in servers]
    case = Case(SERVER, SERVER, tuple(texts), 0)
    with open_workers(subjects, plan.threads, progress) as workers:
        served = {one.name: one for one in serve_rounds(workers, case, plan, progress)}
        # The memory is the driver's, which nobody asks for.
        records = [msgspec.structs.replace(measured(worker, ()), memory=None) for worker in workers]
    rows = tuple(BenchRow(measured=record, served=served[record.name]) for record in records)
    return BenchResult(
        rows=rows, plan=plan, machine=machine, tools=tool_versions(), compared_on="",
        texts_sha256=hashlib.sha256("\n".join(texts).encode("utf-8")).hexdigest(),
    )  # fmt: skip
