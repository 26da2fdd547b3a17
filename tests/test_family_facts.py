"""Every fact of every family, held against transformers' own model: a forgotten one fails by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import cache, partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ringkas.errors import CheckpointError
from ringkas.export.to_gguf.architecture import Architecture
from ringkas.families import FAMILIES
from ringkas.family import ROLE_NAMES, Family, Gguf, Handling, Positions, Role
from ringkas.runtimes.reference import encoder_inputs

# Each number is another, so that a shape says which size it is.
WIDTH, INNER, LAYERS, HEADS, SHARED, ROWS, PLACES, PAD = 32, 88, 3, 4, 2, 50, 40, 1
SIZES = {
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "vocab_size": ROWS,
    "max_position_embeddings": PLACES,
}


@dataclass(frozen=True)
class Subject:
    """A family's row, and transformers' model of that type with random weights, made without the row."""

    family: Family
    config: Any
    encoder: nn.Module

    @property
    def stated(self) -> dict[str, Any]:
        return dict(self.config.to_dict())

    def linear(self) -> dict[str, nn.Linear]:
        return {name: m for name, m in self.encoder.named_modules() if isinstance(m, nn.Linear)}


@cache
def tiny_config(model_type: str) -> Any:
    """A small configuration."""
    from transformers import AutoConfig

    return AutoConfig.for_model(model_type, **tiny_sizes(model_type))


def tiny_sizes(model_type: str) -> dict[str, Any]:
    """Its arguments; a size has the name that transformers' own attribute map gives it."""
    from transformers import AutoConfig

    own = dict(
        SIZES, num_key_value_heads=SHARED, head_dim=WIDTH // HEADS, pad_token_id=PAD, bos_token_id=0,
        eos_token_id=2, cls_token_id=0, sep_token_id=2, mask_token_id=3, layer_norm_eps=1e-5,
        local_attention=4, sliding_window=3, hidden_dim=INNER,
    )  # fmt: skip
    names = type(AutoConfig.for_model(model_type)).attribute_map
    return {names.get(name, name): value for name, value in own.items()}


@cache
def encoder_of(model_type: str, loading: tuple[tuple[str, Any], ...]) -> nn.Module:
    from transformers import AutoModel

    torch.manual_seed(7)
    config = tiny_config(model_type)
    config.use_cache = False
    encoder: nn.Module = AutoModel.from_config(config, attn_implementation="eager", **dict(loading)).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder


def subject(family: Family) -> Subject:
    loading = tuple(family.loading.items())
    return Subject(family, tiny_config(family.name), encoder_of(family.name, loading))


# Longer than the windows of tiny_config.
IDS = torch.tensor([[0, 7, 9, 11, 5, 12, 9, 2], [0, 8, 6, 10, 7, 2, PAD, PAD]])
MASK = (IDS != PAD).long()


def hidden(encoder: nn.Module, **inputs: Tensor) -> Tensor:
    """The last hidden state at the real tokens of two texts of which one is padded."""
    with torch.no_grad():
        found: Tensor = encoder(**inputs).last_hidden_state[MASK.bool()]
    return found


def own_hidden(one: Subject) -> Tensor:
    """As transformers computes it from ids and mask alone."""
    return hidden(one.encoder, input_ids=IDS, attention_mask=MASK)


def is_same(found: Tensor, expected: Tensor) -> bool:
    return bool(torch.allclose(found, expected, atol=1e-5))


def given(one: Subject, **changes: bool) -> Tensor:
    """As the reference computes it, by the row's facts and the `changes` to them."""
    family = replace(one.family, **changes)  # type: ignore[arg-type]
    return hidden(one.encoder, **encoder_inputs(family, IDS, MASK, torch.float32))


class Counter(TorchDispatchMode):
    """Counts the operators that run while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def operators(one: Subject, **changes: bool) -> int:
    """How many the encoder runs, called by the row's facts and the `changes` to them."""
    with Counter() as counter:
        given(one, **changes)
    return counter.count


def architectures(one: Subject) -> Iterator[str]:
    if one.family.architectures[0] != type(one.encoder).__name__:
        yield f"the first is not {type(one.encoder).__name__}"


def layers(one: Subject) -> Iterator[str]:
    found = one.encoder.get_submodule(one.family.layers)
    if not isinstance(found, nn.ModuleList) or len(found) != LAYERS:
        yield f"{one.family.layers} is no list of {LAYERS} layers"


def roles(one: Subject) -> Iterator[str]:
    if tuple(role.name for role in one.family.roles) != ROLE_NAMES:
        yield f"they are not {', '.join(ROLE_NAMES)}, in this order"
    prefix = one.encoder.get_submodule(one.family.layers)
    real = {name for name, module in prefix[0].named_modules() if isinstance(module, nn.Linear)}  # type: ignore[index]
    named = {name for role in one.family.roles for name in role.layers}
    if real != named:
        yield f"linear layers without a role or roles without a layer: {sorted(real ^ named)}"
    outside = [name for name in one.linear() if not name.startswith(one.family.layers)]
    if outside:
        yield f"linear layers outside the transformer layers: {outside}"
    inputs: dict[str, Tensor] = {}
    handles = [
        prefix[0]
        .get_submodule(name)
        .register_forward_pre_hook(  # type: ignore[index, operator]
            lambda module, values, name=name: inputs.setdefault(name, values[0])
        )
        for name in sorted(real & named)
    ]
    own_hidden(one)
    for handle in handles:
        handle.remove()
    if list(inputs) != [name for role in one.family.roles for name in role.layers if name in inputs]:
        yield f"they are computed in another order: {list(inputs)}"
    for role in one.family.roles:
        if len({inputs[name].data_ptr() for name in role.layers if name in inputs}) > 1:
            yield f"the layers of {role.name} do not share an input"


def token_table(one: Subject) -> Iterator[str]:
    table = one.encoder.get_submodule(one.family.token_table)
    if table is not one.encoder.get_input_embeddings():  # type: ignore[operator]
        yield f"{one.family.token_table} is not the encoder's table of tokens"


def final_norm(one: Subject) -> Iterator[str]:
    inside = (f"{one.family.layers}.", f"{one.family.token_table}.")
    names = {name.rpartition(".")[0] for name, _ in one.encoder.named_parameters()}
    outside = sorted(name for name in names if not f"{name}.".startswith(inside))
    if one.family.final_norm and outside != [one.family.final_norm]:
        yield f"beside the layers and the table there is {outside}"
    if not one.family.final_norm and len(outside) == 1:
        yield f"beside the layers and the table there is {outside[0]} alone"


def heads(one: Subject) -> Iterator[str]:
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    mapping = AutoModelForMaskedLM._model_mapping
    kind = AutoModelForMaskedLM if type(one.config) in mapping else AutoModelForCausalLM
    for name, value in kind.from_config(one.config).state_dict().items():
        table = name.endswith(f"{one.family.token_table}.weight")
        if value.ndim and len(value) == ROWS and not table and not name.endswith(one.family.heads):
            yield f"{name} has a row a token and is not among them"


def positions(one: Subject) -> Iterator[str]:
    tables = [m for m in one.encoder.modules() if isinstance(m, nn.Embedding) and len(m.weight) == PLACES]
    rotary = one.family.positions is Positions.ROTARY
    if rotary != (not tables):
        yield f"there are {len(tables)} position tables"
        return
    if one.family.max_positions(one.stated) != PLACES - (0 if rotary else _first_row(one, tables[0])):
        yield "the first token's row is another"


def _first_row(one: Subject, table: nn.Embedding) -> int:
    """The row of the position table that the first token uses, by trying each."""
    expected = own_hidden(one)
    for row in range(PLACES):
        before = table.weight.data[row].clone()
        table.weight.data[row] = 100 * torch.arange(WIDTH)
        changed = not is_same(own_hidden(one), expected)
        table.weight.data[row] = before
        if changed:
            return row
    raise AssertionError("no row of the position table is used")


def additive_mask(one: Subject) -> Iterator[str]:
    fits = _fits(one, "additive_mask")
    if fits != one.family.additive_mask:
        yield f"the encoder takes one: {fits}"


def _fits(one: Subject, fact: str) -> bool:
    """Whether the encoder gives the same numbers when it is handed this."""
    try:
        return is_same(given(one, **{fact: True}), own_hidden(one))
    except (RuntimeError, ValueError, TypeError):
        return False


def token_types(one: Subject) -> Iterator[str]:
    saves = _fits(one, "token_types")
    saves = saves and operators(one, token_types=True) < operators(one, token_types=False)
    if saves != one.family.token_types:
        yield f"handing them over fits and saves operators: {saves}"


def position_ids(one: Subject) -> Iterator[str]:
    fits = one.family.positions is Positions.FROM_ZERO and _fits(one, "position_ids")
    if fits != one.family.position_ids:
        yield f"the encoder takes those of its table: {fits}"


def loading(one: Subject) -> Iterator[str]:
    state = {name: parameter for name, parameter in one.encoder.named_parameters()}
    one.encoder.zero_grad()
    output = one.encoder(input_ids=IDS, attention_mask=MASK).last_hidden_state
    for name, gradient in zip(
        state, torch.autograd.grad(output.sum(), list(state.values()), allow_unused=True), strict=True
    ):
        if gradient is None:
            yield f"{name} plays no part in the hidden states, and is loaded"


def plain_attention(one: Subject) -> Iterator[str]:
    """What export/to_onnx/attention.py relies on: the interface is used, with a mask by key alone."""
    from transformers import AttentionInterface

    calls = 0

    def plain(
        module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float, **_: Any
    ) -> Any:
        nonlocal calls
        calls += 1
        added = torch.where(attention_mask[:, :1, :1, :] == 0, 0.0, -1e9)
        scores = torch.softmax(query @ key.transpose(2, 3) * scaling + added, dim=-1)
        return (scores @ value).transpose(1, 2), None

    AttentionInterface.register("plain_for_the_test", plain)
    config: Any = one.encoder.config
    expected, before = own_hidden(one), config._attn_implementation
    config._attn_implementation = "plain_for_the_test"
    try:
        found = given(one)
        fits = calls == LAYERS and is_same(found, expected)
    except (RuntimeError, TypeError, ValueError):
        fits = False
    finally:
        config._attn_implementation = before
    if fits != one.family.plain_attention:
        yield f"it is plain: {fits}"


def biased_attention(one: Subject) -> Iterator[str]:
    """What export/to_onnx/attention.py relies on: the module's own sum, and that it has no other form."""
    exchanged = one.encoder._supports_sdpa  # type: ignore[truthy-bool]
    if exchanged != (not one.family.biased_attention):
        yield f"transformers can exchange its attention: {exchanged}"
    if not one.family.biased_attention:
        return
    prefix: Any = one.encoder.get_submodule(one.family.layers)
    own = [layer.get_submodule(one.family.biased_attention) for layer in prefix]

    def summed(module: Any, states: Any, attention_mask: Any, position_bias: Any, **_: Any) -> Any:
        query, key, value = (
            part(states).unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (module.q, module.k, module.v)
        )
        scores = query @ key.transpose(2, 3) * (HEADS / WIDTH) ** 0.5 + position_bias[:1]
        weights = torch.softmax(scores + attention_mask[:, :1, :1, :], dim=-1)
        return (module.o((weights @ value).transpose(1, 2).flatten(2)),)

    expected = own_hidden(one)
    for module in own:
        module.forward = partial(summed, module)
    try:
        found = given(one)
    finally:
        for module in own:
            del module.forward
    if not is_same(found, expected):
        yield f"{one.family.biased_attention} computes something else"


def _outputs(one: Subject, role: str) -> int:
    linear = one.linear()
    names = next(own.layers for own in one.family.roles if own.name == role)
    return sum(linear[f"{one.family.layers}.0.{name}"].out_features for name in names)


def gated(one: Subject) -> Iterator[str]:
    found = _outputs(one, "feed-forward input") / INNER
    if found != 1 + one.family.gated:
        yield f"the feed-forward makes {found} times its inner width"


def grouped_heads(one: Subject) -> Iterator[str]:
    shared = SHARED if one.family.grouped_heads else HEADS
    found, expected = _outputs(one, "attention input"), WIDTH + 2 * WIDTH * shared // HEADS
    if found != expected:
        yield f"queries, keys and values are {found} wide together, not {expected}"


def _sees_ahead(encoder: nn.Module) -> bool:
    """Whether what comes after a token changes its hidden state."""
    ids = torch.tensor([[0, 7, 9, 11, 5]])
    with torch.no_grad():
        whole, start = (encoder(input_ids=part).last_hidden_state[:, :3] for part in (ids, ids[:, :3]))
    return not is_same(whole, start)


def causal(one: Subject) -> Iterator[str]:
    found = not _sees_ahead(one.encoder)
    if found != one.family.causal:
        yield f"what comes after a token leaves it as it is: {found}"


# The config keys by which transformers makes a decoder attend both ways.
TWO_WAYS = {"is_causal": False, "use_bidirectional_attention": True}


def two_ways(one: Subject) -> Iterator[str]:
    from transformers import AutoConfig, AutoModel

    if not one.family.causal:
        if one.family.two_ways:
            yield "it attends both ways in any case"
        return
    for key, value in TWO_WAYS.items():
        config = AutoConfig.for_model(one.family.name, **tiny_sizes(one.family.name), **{key: value})
        found = _sees_ahead(AutoModel.from_config(config, attn_implementation="eager").eval())
        if found != (one.family.two_ways.get(key) == value):
            yield f"with {key} = {value} it attends both ways: {found}"


def config_names(one: Subject) -> Iterator[str]:
    for name, size in SIZES.items():
        if one.family.value(one.stated, name) != size:
            yield f"{name} is not found"


def defaults(one: Subject) -> Iterator[str]:
    from transformers import AutoConfig

    own = AutoConfig.for_model(one.family.name).to_dict()
    yield from (
        f"{name} is {own.get(name)!r} there, not {value!r}"
        for name, value in one.family.defaults.items()
        if own.get(name) != value
    )


def fixed(one: Subject) -> Iterator[str]:
    for name in one.family.fixed:
        if name in one.stated:
            yield f"transformers' class reads {name}"


def gguf(one: Subject) -> Iterator[str]:
    yield from _gguf(one, one.family.gguf)


def gguf_two_ways(one: Subject) -> Iterator[str]:
    other = one.family.gguf_two_ways
    if other is not None:
        yield from _gguf(one, other)
        return
    # llama.cpp's windows of a causal graph reach back alone.
    if one.family.two_ways and isinstance(one.family.gguf, Gguf) and one.family.gguf.windows:
        yield "a causal graph with windows cannot attend both ways"


def _gguf(one: Subject, facts: Gguf | str) -> Iterator[str]:  # noqa: C901 (one comparison after another)
    if isinstance(facts, str):
        if not facts:
            yield "there is neither a row nor a reason"
        return
    pytest.importorskip("gguf", reason="no gguf: make install-all")
    architecture = Architecture(facts, LAYERS)
    sizes = {
        "width": WIDTH, "inner": INNER, "vocabulary": ROWS, "token_types": one.stated.get("type_vocab_size"),
        "context": one.family.max_positions(one.stated), "three_widths": 3 * WIDTH, "two_inner": 2 * INNER,
        "head": WIDTH // HEADS, "queries": WIDTH, "shared": WIDTH * SHARED // HEADS,
        "dense_inner": 0,
    }  # fmt: skip
    expected = {
        template.removesuffix("?").format(layer): (template, tuple(sizes[name] for name in reversed(names)))
        for template, names in facts.shapes.items()
        for layer in range(LAYERS)
    }
    found: set[str] = set()
    for name, value in one.encoder.state_dict().items():
        try:
            own = architecture.gguf_name(name)
        except CheckpointError:
            yield f"the gguf package's map has no {name}"
            continue
        found.add(own)
        shape = tuple(value.shape)
        if own == "position_embd.weight":
            shape = (shape[0] - one.family.position_offset(one.stated), *shape[1:])
        if own not in expected:
            yield f"shapes: {own} ({name}) is not among them"
        elif shape != expected[own][1]:
            yield f"shapes: {own} is {shape}, not {expected[own][1]}"
    yield from (
        f"shapes: {name} is in no encoder"
        for name, (template, _) in expected.items()
        if name not in found and not template.endswith("?")
    )
    if facts.epsilon[0] is not None and facts.epsilon[0] not in one.stated:
        yield f"epsilon: there is no {facts.epsilon[0]} in the configuration"
    if not {"hidden_act", "hidden_activation"} & facts.required.keys():
        yield "required: the activation is not among them"
    if one.family.positions is Positions.ROTARY and "rope.freq_base" not in facts.keys(one.stated):
        yield "keys: a rotary family states its rope.freq_base"


CHECKS: dict[str, Callable[[Subject], Iterator[str]]] = {
    check.__name__: check
    for check in (
        architectures, layers, roles, token_table, heads, positions, gguf, gguf_two_ways, additive_mask,
        token_types, position_ids, loading, plain_attention, biased_attention, gated, grouped_heads, causal,
        final_norm, two_ways, config_names, defaults, fixed,
    )
}  # fmt: skip


def problems(family: Family, fact: str) -> list[str]:
    """What is wrong with one fact of a family, each with the field's name first."""
    try:
        return [f"{family.name}.{fact}: {problem}" for problem in CHECKS[fact](subject(family))]
    except (AttributeError, KeyError, IndexError, TypeError, RuntimeError, StopIteration) as error:
        return [f"{family.name}.{fact}: {error!r}"]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_fact_of_every_family_is_transformers_own(name: str) -> None:
    assert [problem for fact in CHECKS for problem in problems(FAMILIES[name], fact)] == []


def test_every_column_has_a_check() -> None:
    assert set(CHECKS) == {field.name for field in fields(Family)} - {"name"}


def forgotten(family: Family, fact: str) -> Any:
    """What the row would say if nobody had thought of the fact."""
    value = getattr(family, fact)
    if isinstance(value, bool):
        return not value
    if isinstance(value, Gguf):
        if fact == "gguf_two_ways":
            return None
        return replace(value, shapes=dict(list(value.shapes.items())[:-1]))
    if fact == "positions":
        return next(one for one in Positions if one is not value)
    if fact == "roles":
        return (*value[:-1], Role(value[-1].name, ("nowhere",), Handling.ROW))
    return type(value)()


SABOTAGED_FAMILIES = ("bert", "xlm-roberta", "mpnet", "modernbert", "qwen3", "gemma3_text")
SABOTAGED = [
    (family, fact)
    for family in FAMILIES.values()
    for fact in CHECKS
    if getattr(family, fact) not in ({}, (), "", None) and family.name in SABOTAGED_FAMILIES
]


@pytest.mark.parametrize(("family", "fact"), SABOTAGED, ids=lambda one: getattr(one, "name", one))
def test_a_forgotten_fact_fails_by_its_name(family: Family, fact: str) -> None:
    found = problems(replace(family, **{fact: forgotten(family, fact)}), fact)
    assert found
    assert all(problem.startswith(f"{family.name}.{fact}: ") for problem in found)


@pytest.mark.parametrize("part", ["shapes", "required", "keys"])
def test_a_forgotten_part_of_the_gguf_row_fails_by_its_name(part: str) -> None:
    family = FAMILIES["modernbert"]
    assert isinstance(family.gguf, Gguf)
    nothing: Any = (lambda config: {}) if part == "keys" else {}
    found = problems(replace(family, gguf=replace(family.gguf, **{part: nothing})), "gguf")
    assert found
    assert all(problem.startswith(f"modernbert.gguf: {part}") for problem in found)
