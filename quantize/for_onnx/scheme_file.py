"""An expert's scheme: a TOML or JSON file that says what differs from a target's own scheme."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from ringkas.errors import TargetError
from ringkas.quantize.for_onnx.schemes import OnnxScheme, scheme

_READERS = {".toml": tomllib.loads, ".json": json.loads}


def read_scheme(file: Path) -> OnnxScheme:
    """The scheme in `file`: `target` names the one it starts from, every other field replaces that one's.

    The manifest of an artifact, `ringkas.json`, is such a file too: it gives the scheme that made it.
    A file that names `wide` layers gets those and no others, unless it states `bits_per_weight` too, which
    contradicts it.

    Raises:
        TargetError: it cannot be read, or a field is unknown, missing or impossible; the message names it.
    """
    stated = _read(file)
    if isinstance(stated.get("scheme"), dict) and "format_version" in stated:
        stated = _of_manifest(stated)
    if not isinstance(stated.get("target"), str):
        raise TargetError(
            f"{file} does not say which target it alters", fix='Begin it with: target = "onnx-int4"'
        )
    try:
        base = msgspec.structs.asdict(scheme(stated["target"]))
    except TargetError as error:
        raise TargetError(f"{file} alters no target", why=error.what, fix=error.fix) from None
    if "wide" in stated or stated.get("bits") == 8:
        base["bits_per_weight"] = None
    if stated.get("bits") == 8:
        base["block"] = 0
    if stated.get("table_bits", 4) != 4:
        base["table_block"] = 0
    try:
        return msgspec.convert(base | stated, OnnxScheme)
    except msgspec.ValidationError as error:
        raise TargetError(
            f"{file} is no scheme", why=str(error).replace("$.", ""), fix=f"The fields: {', '.join(base)}"
        ) from None


def _of_manifest(manifest: dict[str, Any]) -> dict[str, Any]:
    """The scheme that an artifact was made by; its manifest records beside it what came of it."""
    kept = {name: value for name, value in manifest["scheme"].items() if name in OnnxScheme.__struct_fields__}
    if kept.get("bits_per_weight") is None:
        kept.pop("bits_per_weight", None)
    return {"target": manifest.get("target"), **kept}


def _read(file: Path) -> dict[str, Any]:
    reader = _READERS.get(file.suffix)
    if reader is None:
        raise TargetError(f"{file} is neither .toml nor .json", fix="Name it by what it holds")
    try:
        stated = reader(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise TargetError(f"cannot read {file}", why=error.strerror or str(error)) from None
    except ValueError as error:  # of both readers, and of text that is not UTF-8
        raise TargetError(
            f"{file} is not valid {file.suffix.removeprefix('.').upper()}", why=str(error)
        ) from None
    if not isinstance(stated, dict):
        raise TargetError(f"{file} holds no fields", fix='Begin it with: {"target": "onnx-int4"}')
    return stated
