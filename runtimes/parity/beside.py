"""The reference's share of a build in a process of its own, while the artifacts are written.

Much of a conversion keeps a single core busy: Python imports PyTorch and transformers, traces a graph, rounds
a channel at a time. What the reference computes, and what its witness says, need none of that, so they take
what is left of the processor meanwhile. A witness that disagrees is heard before any artifact is finished.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from _thread import interrupt_main
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from functools import cache
from threading import Event, Thread
from typing import Any

import psutil

from ringkas.checkpoint import Checkpoint
from ringkas.errors import RingkasError
from ringkas.families import FAMILIES
from ringkas.progress import Progress
from ringkas.runtimes.engine import usable_cores
from ringkas.runtimes.parity.kept_probe import KeptProbe
from ringkas.runtimes.parity.probe import Probe
from ringkas.runtimes.parity.verify import reference_probe

# Weights in float32 of so many bytes: a smaller reference is done before another process has started.
_WORTH_IT = 100_000_000
# Of free memory: the weights, twice in either process, and what another process takes beside them.
_COPIES, _BESIDE = 4, 2**31
# A little lower than the writing's, which all wait for; on a busy machine a much lower one would get nothing.
_NICENESS = 3
# What the other process is told when this one has nothing left to do but wait for it.
_ALL_CORES = b"\n"


@contextmanager
def probing(
    checkpoint: Checkpoint, weight_bytes: int, *, witness: bool, progress: Progress
) -> Iterator[Callable[[], Probe]]:
    """Gives what returns `reference_probe` of a checkpoint, or raises as that does.

    What an earlier run kept is taken. Else, where it is worth it and there are cores and memory for it,
    another process makes the probe, at a lower priority, while the block runs.

    Args:
        checkpoint: whose weights fit into memory.
        weight_bytes: what they take in float32.
        witness: ask the checkpoint's own library whether it computes the same.
        progress: where stages are announced.
    """

    kept = KeptProbe(checkpoint, witness=witness, progress=progress)
    known = kept.find()
    if known is not None:
        yield lambda: known
        return

    def made_here() -> Probe:
        return reference_probe(checkpoint, checkpoint.languages, witness=witness, progress=progress)

    free = psutil.virtual_memory().available
    if usable_cores() < 2 or weight_bytes < _WORTH_IT or free < _COPIES * weight_bytes + _BESIDE:
        probe = kept.made_by(made_here)
        yield lambda: probe
        return
    stated = {one.name: getattr(checkpoint, one.name) for one in fields(Checkpoint) if one.name != "family"}
    with subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # The same packages, and none from the folder that happens to be the current one.
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONSAFEPATH": "1"},
    ) as child:
        assert child.stdin is not None
        try:
            with suppress(BrokenPipeError):  # it died: no answer will say so
                pickle.dump((stated, witness, progress), child.stdin)
                child.stdin.flush()  # and open as long as this process lives
            yield cache(lambda: kept.made_by(lambda: _answer(child, made_here)))
        finally:
            child.kill()
            with suppress(BrokenPipeError):
                child.stdin.close()


def _answer(child: subprocess.Popen[bytes], made_here: Callable[[], Probe]) -> Probe:
    """What the other process answers; where it died, for lack of memory as it may be, it is done here."""
    assert child.stdin is not None
    assert child.stdout is not None
    with suppress(BrokenPipeError):
        child.stdin.write(_ALL_CORES)
        child.stdin.flush()
    answer: object = None
    with suppress(EOFError, pickle.UnpicklingError):
        answer = pickle.load(child.stdout)
    if isinstance(answer, RingkasError):
        raise answer
    return answer if isinstance(answer, Probe) else made_here()


def main() -> None:
    """The other process: what is asked comes in on stdin, and a probe or an error goes out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal tells both; who asked ends this one
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # libraries print
    stated, witness, progress = pickle.load(sys.stdin.buffer)
    asking = os.dup(sys.stdin.fileno())
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())  # libraries look at it while they load
    awaited = Event()
    Thread(target=_listen, args=(asking, awaited), daemon=True).start()
    found: Any
    try:
        _take_cores(awaited)
        checkpoint = Checkpoint(**stated, family=FAMILIES[stated["spec"].family])
        found = reference_probe(checkpoint, checkpoint.languages, witness=witness, progress=progress)
    except RingkasError as error:
        found = error
    with answers:
        pickle.dump(found, answers)


def _take_cores(awaited: Event) -> None:
    """Half of the cores, and all of them once the answer is awaited.

    PyTorch asks the thread that calls it how many it may use, so that the main thread has to be interrupted
    to say so: by the signal that is of no other use here.
    """
    import torch

    most = torch.get_num_threads()
    torch.set_num_threads(max(1, most // 2))
    signal.signal(signal.SIGINT, lambda *_: torch.set_num_threads(most))
    if awaited.is_set():
        torch.set_num_threads(most)


def _listen(asking: int, awaited: Event) -> None:
    """Hears when the answer is awaited, and ends this process when the one that asked has ended."""
    while os.read(asking, 1):
        awaited.set()
        interrupt_main()
    os._exit(1)


if __name__ == "__main__":
    main()
