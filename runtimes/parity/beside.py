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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from functools import cache
from threading import Thread
from typing import Any

import psutil

from ringkas.checkpoint import Checkpoint
from ringkas.errors import RingkasError
from ringkas.families import FAMILIES
from ringkas.machine import share_cores
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


@contextmanager
def probing(
    checkpoint: Checkpoint, weight_bytes: int, *, witness: bool, progress: Progress
) -> Iterator[Callable[[], Probe]]:
    """Gives what returns `reference_probe` of a checkpoint, or raises as that does.

    What an earlier run kept is taken. Else, where it is worth it and there are cores and memory for it,
    another process makes the probe, at a lower priority, while the block runs. It may use every core: of a
    large model the reference takes longer than the writing.

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
    environment = os.environ | {
        # The same packages, and none from the folder that happens to be the current one.
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PYTHONSAFEPATH": "1",
    }
    share_cores(environment)
    stated = {one.name: getattr(checkpoint, one.name) for one in fields(Checkpoint) if one.name != "family"}
    with subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as child:
        assert child.stdin is not None
        try:
            with suppress(OSError):  # it died: no answer will say so
                pickle.dump((stated, witness, progress), child.stdin)
                child.stdin.flush()  # and open as long as this process lives
            yield cache(lambda: kept.made_by(lambda: _answer(child, made_here)))
        finally:
            child.kill()
            with suppress(OSError):
                child.stdin.close()


def _answer(child: subprocess.Popen[bytes], made_here: Callable[[], Probe]) -> Probe:
    """What the other process answers; where it died, for lack of memory as it may be, it is done here."""
    assert child.stdout is not None
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
    Thread(target=_end_with, args=(asking,), daemon=True).start()
    found: Any
    try:
        checkpoint = Checkpoint(**stated, family=FAMILIES[stated["spec"].family])
        found = reference_probe(checkpoint, checkpoint.languages, witness=witness, progress=progress)
    except RingkasError as error:
        found = error
    with answers:
        pickle.dump(found, answers)


def _end_with(asking: int) -> None:
    """Ends this process when the one that asked does, in whatever way: its end of the pipe is then closed."""
    while os.read(asking, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
