"""Checkpoints that come with code of their own (`auto_map` in config.json), which is never run.

Where transformers has a class for the model type, that class is loaded instead. Whether it is the same model
is a matter of three proofs, each of which refuses: every key of config.json is one that the class reads, or
has the value at which the class computes the same (`Family.fixed`); every tensor of the file has a place in
it; and the witness, which runs no such code either, agrees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ringkas.errors import CheckpointError
from ringkas.families import FAMILIES
from ringkas.family import Config, Family

AUTO_MAP = "auto_map"
# Model types that are known to such code alone, and what to do about them.
_ELSEWHERE: Mapping[str, str] = {
    # transformers' own GteModel names this conversion as its checkpoint.
    "new": "transformers calls this architecture gte: use a conversion, such as "
    "alibaba-nlp-community/gte-multilingual-base",
}
_NEVER = "code that comes with a checkpoint is never run"
_SAVED = "Use a checkpoint that transformers' own class has saved"


def names_code(config: Config) -> bool:
    """Whether a `config.json` names code of the checkpoint's own."""
    return bool(config.get(AUTO_MAP))


def check_served(path: Path, config: Config) -> None:
    """Raises `CheckpointError` for code of a checkpoint's own in whose place nothing can be loaded."""
    model_type = config.get("model_type")
    if not names_code(config) or model_type in FAMILIES:
        return
    raise CheckpointError(
        f"{path} asks for remote code (auto_map in config.json)",
        why=f"{_NEVER}, and none of the classes served here stands for the model type {model_type!r}",
        fix=_ELSEWHERE.get(str(model_type)) or "Supported model types: " + ", ".join(sorted(FAMILIES)),
    )


def check_fixed(path: Path, config: Config, family: Family) -> None:
    """Raises `CheckpointError` where a key says what transformers' class does not compute."""
    for key, allowed in family.fixed.items():
        if key in config and config[key] is not None and config[key] not in allowed:
            raise CheckpointError(
                f"{path / 'config.json'} sets {key} to {config[key]!r}, which is not supported",
                why=f"transformers' {family.architectures[0]} computes what it means at "
                f"{' or '.join(map(repr, allowed))} alone",
                fix=f"{_SAVED}, where that is the same model",
            )


def check_understood(path: Path, config: Config, remarks: Sequence[str]) -> None:
    """Raises `CheckpointError` where such code may read what transformers' class does not."""
    if names_code(config) and remarks:
        raise CheckpointError(
            f"{path} asks for remote code (auto_map in config.json)",
            why=f"{_NEVER}, and it may compute something else than transformers' own class: {remarks[0]}",
            fix=_SAVED,
        )


def check_tensors(path: Path, config: Config, problem: str | None) -> None:
    """The same of tensors that transformers' class has no place for."""
    check_understood(path, config, [problem] if problem else [])
