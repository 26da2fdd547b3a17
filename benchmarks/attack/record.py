"""What became of each try: counted by attack, written after every batch, and gone on from."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from results_file import write_result

# Fine: said no in one line, or gave what the untouched thing gives.
REFUSED, SAME = "refused", "same"
# Fine only where the attacker wrote the checksums anew: it is then another model.
OTHER = "other vectors"
# Never fine.
CRASH, HANG, MEMORY, DEFECT, UNCLEAR, LOST = (
    "crash", "hang", "over 2 GB", "traceback", "unclear message", "lost",
)  # fmt: skip
_EXAMPLES = 12


@dataclass(frozen=True)
class Try:
    """One try: the attack's name, what came of it, and for a bad one how to see it again."""

    attack: str
    outcome: str
    bad: bool = False
    note: str = ""


@dataclass
class Tally:
    """All tries of one attack."""

    tries: int = 0
    seconds: float = 0.0
    outcomes: dict[str, int] = field(default_factory=dict)
    bad: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, one: Try, seconds: float) -> None:
        self.tries += 1
        self.seconds = round(self.seconds + seconds, 3)
        self.outcomes[one.outcome] = self.outcomes.get(one.outcome, 0) + 1
        if one.bad:
            self.bad += 1
            if len(self.examples) < _EXAMPLES:
                self.examples.append(one.note)


@dataclass
class Record:
    """The tallies of one kind of attack; `file` None keeps them in memory."""

    kind: str
    file: Path | None = None
    tallies: dict[str, Tally] = field(default_factory=dict)
    measured: dict[str, object] = field(default_factory=dict)

    @classmethod
    def resume(cls, kind: str, file: Path) -> Record:
        """What the file holds so far, or nothing yet."""
        record = cls(kind, file)
        if file.is_file():
            stored = json.loads(file.read_text("utf-8"))
            record.tallies = {name: Tally(**fields) for name, fields in stored["attacks"].items()}
            record.measured = stored.get("measured", {})
        return record

    @property
    def tries(self) -> int:
        return sum(tally.tries for tally in self.tallies.values())

    @property
    def bad(self) -> int:
        return sum(tally.bad for tally in self.tallies.values())

    def write(self) -> None:
        if self.file is None:
            return
        attacks = {name: vars(tally) for name, tally in sorted(self.tallies.items())}
        found = {"kind": self.kind, "tries": self.tries, "bad": self.bad}
        write_result(self.file, found | {"measured": self.measured, "attacks": attacks})

    def table(self) -> str:
        """The tallies as Markdown."""
        lines = ["| attack | tries | outcomes | bad | minutes |", "|---|---|---|---|---|"]
        for name, tally in sorted(self.tallies.items()):
            outcomes = ", ".join(f"{count:,} {kind}" for kind, count in sorted(tally.outcomes.items()))
            lines.append(
                f"| {name} | {tally.tries:,} | {outcomes} | {tally.bad} | {tally.seconds / 60:.1f} |"
            )
        return "\n".join(lines)


# From the number of the next try to the tries of one batch.
Batch = Callable[[int], Iterator[Try]]


@dataclass(frozen=True)
class Budget:
    """How long a run goes on: until either is used up."""

    seconds: float = float("inf")
    tries: float = float("inf")


def run(record: Record, batch: Batch, budget: Budget) -> Record:
    """Runs batches until the budget is used up; what is known is written after each."""
    until, most = time.monotonic() + budget.seconds, record.tries + budget.tries
    while record.tries < most and time.monotonic() < until:
        began = time.monotonic()
        for one in batch(record.tries):
            now = time.monotonic()
            record.tallies.setdefault(one.attack, Tally()).add(one, now - began)
            began = now
        record.write()
    return record


def rows(records: Sequence[Record]) -> str:
    """One line for each kind of attack."""
    lines = ["| kind | tries | outcomes | bad | minutes |", "|---|---|---|---|---|"]
    for record in records:
        outcomes: dict[str, int] = {}
        for tally in record.tallies.values():
            for kind, count in tally.outcomes.items():
                outcomes[kind] = outcomes.get(kind, 0) + count
        shown = ", ".join(f"{count:,} {kind}" for kind, count in sorted(outcomes.items()))
        minutes = sum(tally.seconds for tally in record.tallies.values()) / 60
        lines.append(f"| {record.kind} | {record.tries:,} | {shown} | {record.bad} | {minutes:.0f} |")
    return "\n".join(lines)
