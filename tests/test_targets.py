"""The table of targets agrees with everything that is looked up by it."""

from __future__ import annotations

import pytest

from ringkas import RingkasError
from ringkas.export.build import NEEDED, WRITERS
from ringkas.quantize.for_gguf.schemes import GGUF_TARGETS
from ringkas.runtimes.encoder import ENGINES
from ringkas.runtimes.parity.floors import floor_of
from ringkas.targets import TARGETS, target


@pytest.mark.parametrize("name", list(TARGETS))
def test_target_has_an_engine_a_writer_and_a_floor(name: str) -> None:
    one = target(name)
    assert one.name == name
    assert one.engine in ENGINES
    assert one.engine in WRITERS
    assert one.engine in NEEDED
    assert 0.9 < floor_of(one.precision).cosine_min < 1


def test_every_gguf_scheme_is_a_target_of_its_precision() -> None:
    found = {name: one.precision for name, one in TARGETS.items() if one.engine == "llama.cpp"}
    assert found == {name: scheme.precision for name, scheme in GGUF_TARGETS.items()}


def test_unknown_target_lists_the_known() -> None:
    with pytest.raises(RingkasError, match="Choose from: pytorch-fp32, onnx-fp32, onnx-fp16"):
        target("onnx-fp64")
