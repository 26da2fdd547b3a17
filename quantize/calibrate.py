"""Calibration: what the inputs of each linear layer look like on the calibration texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, zip_longest

import torch
from torch import Tensor, nn

from ringkas import texts
from ringkas.checkpoint import Checkpoint
from ringkas.errors import TextError
from ringkas.family import Family, Role
from ringkas.runtimes.batching import batches
from ringkas.runtimes.reference import Reference
from ringkas.tokens import TextTokenizer, pad

# Of one forward pass: enough that adding its products costs little beside making them.
_BATCH_TOKENS = 1024
_PANEL = 256  # rows of a product that are made together
# What the covariances that are held at a time may take: with more, the texts are run once for each part.
_MOST_BYTES = 2**31


@dataclass(frozen=True)
class Group:
    """Linear layers that share one input, by their names in the encoder."""

    role: Role
    names: tuple[str, ...]


@dataclass(frozen=True)
class Inputs:
    """One group's input over all tokens seen: per channel, and the covariance between channels.

    `covariance` is (in, in), or (in,), the variance of each channel, where it is not wanted.
    """

    low: Tensor
    high: Tensor
    mean: Tensor
    covariance: Tensor
    tokens: int

    def within(self, covariance_width: int | None) -> Inputs:
        """The same, with the variances alone if the input is wider than that."""
        return self if _has_covariance(len(self.mean), covariance_width) else self.without_covariance()

    def without(self, channels: Tensor) -> Inputs:
        """The same with those channels always zero."""
        covariance = self.covariance.index_fill(0, channels, 0.0)
        if covariance.dim() == 2:
            covariance.index_fill_(1, channels, 0.0)
        low, high, mean = (one.index_fill(0, channels, 0.0) for one in (self.low, self.high, self.mean))
        return replace(self, low=low, high=high, mean=mean, covariance=covariance)

    def moment(self) -> Tensor:
        """The second moment, (in, in); or its diagonal, (in,), the mean square of each channel."""
        if self.covariance.dim() == 1:
            return self.covariance + self.mean.square()
        return self.covariance + torch.outer(self.mean, self.mean)

    def without_covariance(self) -> Inputs:
        """The same with the variances alone."""
        square = self.covariance.dim() == 2
        return replace(self, covariance=self.covariance.diagonal().clone()) if square else self


def groups(encoder: nn.Module, family: Family) -> list[Group]:
    """Every linear layer of the encoder, in groups that share an input."""
    depth = len(encoder.get_submodule(family.layers))  # type: ignore[arg-type]
    return [
        Group(role, tuple(f"{family.layers}.{index}.{name}" for name in role.layers))
        for index in range(depth)
        for role in family.roles
    ]


def calibration_texts(checkpoint: Checkpoint) -> dict[str, tuple[str, ...]]:
    """By language: the user's own texts, if there are any, and then the built-in ones of that language."""
    built_in, own = texts.calibration(checkpoint.languages), checkpoint.calibration_texts
    return {tag: (*own.get(tag, ()), *built_in.get(tag, ())) for tag in {**built_in, **own}}


def calibration_source(checkpoint: Checkpoint) -> str:
    """Where the texts come from, as an artifact records it."""
    built_in = "the built-in calibration set"
    return f"the corpus's calibration part, then {built_in}" if checkpoint.calibration_texts else built_in


def token_ids(checkpoint: Checkpoint, most_tokens: int) -> list[Sequence[int]]:
    """Calibration texts of the checkpoint's languages, a language at a time, with its prompts in turn."""
    by_language = calibration_texts(checkpoint).values()
    mixed = [text for row in zip_longest(*by_language) for text in row if text is not None]
    prompts = cycle(sorted({"", *checkpoint.spec.prompts.values()}))
    tokenizer = TextTokenizer(checkpoint.path, checkpoint.spec)
    rows = tokenizer.encode([prompt + text for prompt, text in zip(prompts, mixed, strict=False)])
    fitting = first_tokens(rows, most_tokens)
    if not fitting:
        raise TextError("there is no calibration text", why="zero texts set no ranges")
    return fitting


def first_tokens(rows: Iterable[Sequence[int]], most: int) -> list[Sequence[int]]:
    """As many of `rows`, from the first, as have at most so many tokens together; at least one."""
    chosen: list[Sequence[int]] = []
    for row in rows:
        if chosen and sum(map(len, chosen)) + len(row) > most:
            break
        chosen.append(row)
    return chosen


def collect(
    reference: Reference,
    wanted: Sequence[Group],
    rows: Sequence[Sequence[int]],
    covariance_width: int | None = None,
) -> dict[Group, Inputs]:
    """Runs the texts in batches of similar length and gathers each group's input; no padding is counted.

    Of inputs wider than `covariance_width` only the variances are gathered.
    """
    modules = dict(reference.encoder.named_modules())
    gathered: dict[Group, _Gathered] = {group: _Gathered(covariance_width) for group in wanted}
    real = torch.empty(0, dtype=torch.int64)

    def adder(one: _Gathered) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda module, inputs: one.add(inputs[0].flatten(0, 1).index_select(0, real).float())

    handles = [modules[group.names[0]].register_forward_pre_hook(adder(gathered[group])) for group in wanted]
    try:
        with torch.no_grad():
            for positions in batches([len(row) for row in rows], _BATCH_TOKENS):
                # Any id pads: what it gives is masked, and left out.
                batch = pad([rows[position] for position in positions], pad_id=0)
                mask = torch.from_numpy(batch.attention_mask)
                real = mask.flatten().nonzero()[:, 0]
                reference(torch.from_numpy(batch.input_ids), mask)
    finally:
        for handle in handles:
            handle.remove()
    return {group: one.result() for group, one in gathered.items()}


def collected(
    reference: Reference, wanted: Sequence[Group], rows: Sequence[Sequence[int]]
) -> Iterator[tuple[Group, Inputs]]:
    """As `collect`, a group at a time and in order, with no more covariances in memory than need be."""
    modules = dict(reference.encoder.named_modules())
    part: list[Group] = []
    held = 0
    for group in wanted:
        linear = modules[group.names[0]]
        assert isinstance(linear, nn.Linear)
        size = 4 * linear.in_features**2
        if part and held + size > _MOST_BYTES:
            yield from _released(collect(reference, part, rows))
            part, held = [], 0
        part.append(group)
        held += size
    yield from _released(collect(reference, part, rows))


def _released(gathered: dict[Group, Inputs]) -> Iterator[tuple[Group, Inputs]]:
    for group in list(gathered):
        yield group, gathered.pop(group)


def _has_covariance(width: int, covariance_width: int | None) -> bool:
    return covariance_width is None or width <= covariance_width


class _Gathered:
    def __init__(self, covariance_width: int | None = None) -> None:
        self.covariance_width = covariance_width
        self.low = self.high = self.total = self.products = torch.zeros(())
        self.tokens = 0

    def add(self, values: Tensor) -> None:
        width = values.shape[1]
        alone = not _has_covariance(width, self.covariance_width)
        if self.tokens == 0:
            self.low, self.high = values.amin(0), values.amax(0)
            self.products = torch.zeros(width) if alone else torch.zeros(width, width)
        self.low = torch.minimum(self.low, values.amin(0))
        self.high = torch.maximum(self.high, values.amax(0))
        self.total = self.total + values.sum(0)
        if alone:
            self.products += values.square().sum(0)
        else:
            for start in range(0, width, _PANEL):  # what lies below the diagonal is its mirror
                panel = slice(start, start + _PANEL)
                self.products[panel, start:].addmm_(values[:, panel].T, values[:, start:])
        self.tokens += len(values)

    def result(self) -> Inputs:
        """The statistics; the products become the covariance in place, since they are the largest of all."""
        mean = self.total / self.tokens
        if self.products.dim() == 1:
            covariance = self.products.div_(self.tokens).addcmul_(mean, mean, value=-1).clamp_(min=0)
        else:
            below = self.products.triu(1).T
            covariance = self.products.triu_().add_(below).div_(self.tokens).addr_(mean, mean, alpha=-1)
        return Inputs(self.low, self.high, mean, covariance, self.tokens)
