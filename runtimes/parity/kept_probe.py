"""The probe of a checkpoint, kept for the next build of it: other targets, or the same once more.

It follows from the checkpoint's files and from how they were read, from this code, its texts and the
libraries; all that is in its key.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from typing import Any

import msgspec
import numpy as np

from ringkas import cache
from ringkas.checkpoint import Checkpoint
from ringkas.progress import Progress
from ringkas.runtimes.parity.probe import Probe
from ringkas.runtimes.parity.witness import say

_KIND = "reference"
# What a probe does not follow from: where the files are, and what is only for other steps.
_OTHER = ("path", "source", "family", "calibration_texts")


class KeptProbe:
    """The probe of a checkpoint in its languages, in the user's cache.

    Args:
        checkpoint: whose reference makes the probe.
        witness: whether its own library is asked.
        progress: where the notes are said once more.
    """

    def __init__(self, checkpoint: Checkpoint, *, witness: bool, progress: Progress) -> None:
        self._progress = progress
        self._checkpoint, self._witness = checkpoint, witness
        self._key = ""
        if cache.most_bytes():
            with progress.stage("looking for what an earlier run kept"):
                self._key = self._key_now()

    def find(self) -> Probe | None:
        """The probe that an earlier run made, if it is there and whole."""
        data = cache.find(_KIND, self._key) if self._key else None
        if data is None:
            return None
        try:
            probe = msgspec.msgpack.decode(data, type=Probe, dec_hook=_array)
        except (msgspec.DecodeError, ValueError, KeyError):  # of another form, under this one's key
            return None
        self._progress.say("the probe set as PyTorch encodes it was kept by an earlier run (ringkas cache)")
        if probe.witness is not None:
            say(probe.witness, self._progress)
        return probe

    def made_by(self, make: Callable[[], Probe]) -> Probe:
        """What `make` gives, which is kept unless a file was changed meanwhile."""
        probe = make()
        if self._key and self._key == self._key_now():
            cache.keep(_KIND, self._key, msgspec.msgpack.encode(probe, enc_hook=_stored))
        return probe

    def _key_now(self) -> str:
        """The key by the files as they are; none where one has no readable content or name."""
        facts = {
            one.name: getattr(self._checkpoint, one.name)
            for one in fields(Checkpoint)
            if one.name not in _OTHER
        }
        with suppress(OSError, ValueError):
            return cache.key_of(_KIND, self._witness, facts, cache.folder_digest(self._checkpoint.root))
        return ""


def _stored(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        raise NotImplementedError(f"{type(value)} is no part of a probe")
    return {"shape": value.shape, "float32": np.ascontiguousarray(value, np.float32).tobytes()}


def _array(_kind: type, stored: Any) -> Any:
    return np.frombuffer(stored["float32"], np.float32).reshape(stored["shape"])
