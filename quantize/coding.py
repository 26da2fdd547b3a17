"""Tables as codes: a byte for three or four neighbours of a row, chosen by what errors cost the vectors.

Which errors cost little is told by the gradients of the vectors; so an error is steered there, as in GPTQ: a
row's places are coded one after the other, and each repays what those before it owe. The entries of a place
are fitted to what its values would have to be by then (product quantisation with compensated errors).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ringkas.quantize import codebooks, workers
from ringkas.quantize.gptq import Array, Panel, by_importance, compensate, damped

# How many values a byte stands for, by the bits that one then takes: 2.67 and 2.
VALUES = {3: 3, 2: 4}
_PANEL = 64  # values of a row that are coded together, about
# Rows that the entries are fitted to, and those that are coded together.
_FITTED_ROWS, _ROWS, _SEED = 16_384, 16_384, 4
_EQUAL = np.ones((1, 1), np.float32)


def round_table(table: Tensor, moment: Tensor, damping: float, values: int) -> tuple[Tensor, Tensor]:
    """A code for each `values` neighbours of a row, of a codebook for each such place in a row.

    Args:
        table: float (rows, width), `width` a multiple of `values`.
        moment: (width, width), what errors cost: e' moment e, for those of one row.
        damping: the share of the moment's mean diagonal that is added to it.
        values: how many a code stands for.

    Returns:
        The codes, uint8 (rows, width / values), and the entries, float16 (width / values, 256, values).
    """
    safe = damped(moment, damping)
    order, panel = by_importance(safe, values), _PANEL // values * values
    books = _Books(table.shape[1] // values)

    def rounded(rows: Tensor) -> Tensor:
        rounder = _CodeRounder(books, rows.shape, values)
        compensate(rows, safe, order, panel, rounder)
        return torch.from_numpy(rounder.codes).T

    drawn = torch.randperm(len(table), generator=torch.Generator().manual_seed(_SEED))[:_FITTED_ROWS]
    rounded(table[drawn])
    codes = torch.cat(list(workers.each(rounded, torch.split(table, _ROWS))))
    return codes.contiguous(), torch.stack([torch.from_numpy(book) for book in books.entries()])


class _Books:
    """The codebooks of a table's places, each fitted to the rows that come first."""

    def __init__(self, places: int) -> None:
        self._books: list[Array | None] = [None] * places

    def __call__(self, place: int, goal: Array, turn: Array) -> Array:
        """The entries (256, values) of a place; `turn` times an entry should be near a row of `goal`."""
        book = self._books[place]
        if book is None:
            seen = codebooks.fit(goal, _EQUAL)
            book = np.linalg.solve(turn, seen.T).T.astype(np.float16).astype(np.float32)
            self._books[place] = book
        return book

    def entries(self) -> list[npt.NDArray[np.float16]]:
        return [book.astype(np.float16) for book in self._books if book is not None]


class _CodeRounder:
    """Gives the values of a place together, to the cheapest entry; `codes` is (width / values, rows)."""

    def __init__(self, books: _Books, shape: torch.Size, values: int) -> None:
        self._books, self._values = books, values
        self.codes: npt.NDArray[np.uint8] = np.empty((shape[1] // values, shape[0]), np.uint8)

    def __call__(self, panel: Panel) -> Array:
        values, errors = np.empty_like(panel.exact), np.empty_like(panel.exact)
        for at in range(0, len(values), self._values):
            own = slice(at, at + self._values)
            # Within a place, too, an earlier value's error is a later one's debt.
            debts, root = np.tril(panel.debts[own, own]), np.sqrt(panel.importance[own])[:, None]
            wanted = panel.wanted[own] + panel.debts[own, :at] @ errors[:at]
            wanted += np.tril(debts, -1) @ panel.exact[own]
            place, turn = panel.channels[at] // self._values, root * debts
            goal = np.ascontiguousarray((root * wanted).T)
            book = self._books(place, goal, turn)
            code = codebooks.nearest(goal, _EQUAL, book @ turn.T)
            values[own] = book[code].T
            errors[own] = panel.exact[own] - values[own]
            self.codes[place] = code
        return values
