"""The table of formats agrees with everything that is looked up by it."""

from __future__ import annotations

import inspect
from importlib import import_module

import pytest

from ringkas import RingkasError
from ringkas.export.finish import Writer, writer_of
from ringkas.extras import PARTS
from ringkas.formats import FORMATS
from ringkas.quantize.for_gguf.schemes import GGUF_TARGETS
from ringkas.quantize.for_tensorrt.schemes import TENSORRT_SCHEMES, tensorrt_scheme
from ringkas.runtimes.parity.floors import FLOORS
from ringkas.targets import target, targets

FUNCTIONS = ("check", "write", "judge", "card")


@pytest.mark.parametrize("name", list(targets()))
def test_target_is_its_own_and_has_a_floor(name: str) -> None:
    one = target(name)
    assert one.name == name
    assert [own for own in FORMATS.values() if name in own.targets] == [one.format]
    assert one.precision in FLOORS


@pytest.mark.parametrize("name", FORMATS)
def test_format_has_its_parts(name: str) -> None:
    one = FORMATS[name]
    assert one.needs in {purpose for purpose, _, _ in PARTS}
    assert one.engine in one.engines
    for module in one.engines.values():
        parameters = inspect.signature(import_module(module).open_engine).parameters
        assert list(parameters)[:3] == ["artifact", "threads", "device"]
    writer: object = writer_of(target(next(iter(one.targets))))
    for function in FUNCTIONS:
        own, wanted = (inspect.signature(getattr(one, function)).parameters for one in (writer, Writer))
        assert ["self", *own] == list(wanted), function


def test_every_scheme_is_a_target_of_its_precision_and_the_other_way_round() -> None:
    assert FORMATS["gguf"].targets == {name: scheme.precision for name, scheme in GGUF_TARGETS.items()}
    for one in FORMATS.values():
        if one.plans:
            assert {tensorrt_scheme(name).precision for name in one.targets} == set(TENSORRT_SCHEMES)


def test_unknown_target_lists_all_that_are_known() -> None:
    with pytest.raises(RingkasError) as raised:
        target("onnx-fp64")
    assert raised.value.fix == "Choose from: " + ", ".join(targets())


def test_every_target_says_of_how_many_bits_it_is() -> None:
    bits = {name: one.bits for name, one in targets().items()}
    assert set(bits.values()) == {3, 4, 5, 6, 8, 16, 32}
    assert (bits["onnx-int4"], bits["gguf-q5_0-gptq"], bits["tensorrt-fp8"]) == (4, 5, 8)
