"""Calibration: what the inputs of each linear layer look like on the calibration texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle, zip_longest
from typing import Any

import torch
from torch import Tensor, nn

from ringkas import texts
from ringkas.checkpoint import Checkpoint
from ringkas.errors import TextError
from ringkas.quantize.schemes import ROLES, Role
from ringkas.runtimes.reference import Reference
from ringkas.tokens import TextTokenizer


@dataclass(frozen=True)
class Group:
    """Linear layers that share one input, by their names in the encoder."""

    role: Role
    names: tuple[str, ...]


@dataclass(frozen=True)
class Inputs:
    """One group's input over all tokens seen: per channel, and the covariance between channels."""

    low: Tensor
    high: Tensor
    mean: Tensor
    covariance: Tensor
    tokens: int


def groups(encoder: nn.Module, family: str) -> list[Group]:
    """Every linear layer of the encoder, in groups that share an input."""
    found: dict[tuple[str, str], list[str]] = {}
    roles: dict[str, Role] = {role.name: role for role in ROLES[family]}
    for name, module in encoder.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        for role in roles.values():
            ending = next((ending for ending in role.endings if name.endswith(ending)), None)
            if ending is not None:
                found.setdefault((name.removesuffix(ending), role.name), []).append(name)
                break
    return [Group(roles[role], tuple(names)) for (_, role), names in found.items()]


def calibration_texts(checkpoint: Checkpoint) -> dict[str, tuple[str, ...]]:
    """By language: the user's own texts, if there are any, and then the built-in ones of that language."""
    built_in, own = texts.calibration(checkpoint.languages), checkpoint.calibration_texts
    return {tag: (*own.get(tag, ()), *built_in.get(tag, ())) for tag in {**built_in, **own}}


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
    reference: Reference, wanted: Sequence[Group], rows: Iterable[Sequence[int]]
) -> dict[Group, Inputs]:
    """Runs the texts one at a time, so that no padding is counted, and gathers each group's input."""
    modules = dict(reference.encoder.named_modules())
    gathered: dict[Group, _Gathered] = {group: _Gathered() for group in wanted}
    handles = [modules[group.names[0]].register_forward_pre_hook(_adder(gathered[group])) for group in wanted]
    try:
        with torch.inference_mode():
            for row in rows:
                ids = torch.tensor([row], dtype=torch.int64)
                reference(ids, torch.ones_like(ids))
    finally:
        for handle in handles:
            handle.remove()
    return {group: one.result() for group, one in gathered.items()}


class _Gathered:
    def __init__(self) -> None:
        self.low = self.high = self.total = self.products = torch.zeros(())
        self.tokens = 0

    def add(self, values: Tensor) -> None:
        if self.tokens == 0:
            self.low, self.high = values.amin(0), values.amax(0)
        self.low, self.high = (
            torch.minimum(self.low, values.amin(0)),
            torch.maximum(self.high, values.amax(0)),
        )
        self.total = self.total + values.sum(0)
        self.products = torch.addmm(self.products, values.T, values) if self.tokens else values.T @ values
        self.tokens += len(values)

    def result(self) -> Inputs:
        mean = self.total / self.tokens
        covariance = self.products / self.tokens - torch.outer(mean, mean)
        return Inputs(self.low.clone(), self.high.clone(), mean.clone(), covariance.clone(), self.tokens)


def _adder(gathered: _Gathered) -> Any:
    def add(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        gathered.add(inputs[0].reshape(-1, inputs[0].shape[-1]).float())

    return add
