"""What comes from a model hub: fetched whole, or refused.

An interrupted download leaves a folder that lacks files, and so does a program that fetched only some.
A model without its pooling, its prompts or a Dense layer would open as another model.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from ringkas.errors import CheckpointError
from ringkas.extras import require

_ASKED_FOR = ["*.json", "*.safetensors", "[0-9]_*/*", "*.txt", "*.model", "*.npy", "README.md"]
_NOT_ASKED_FOR = ["onnx/*", "openvino/*", "*.bin", "*.pt", "*.onnx"]

# What decides what a model computes, at the root or in a module's folder.
_DECIDES = re.compile(
    r"(\d_\w+/)?("
    r"(config|modules|config_sentence_transformers|sentence_[\w-]+_config|tokenizer|tokenizer_config"
    r"|added_tokens|special_tokens_map|adapter_config|quantize_config|quant_config|ringkas_vocabulary)\.json"
    r"|model(-\d+-of-\d+)?\.safetensors(\.index\.json)?)"
)

# What huggingface_hub leaves in a folder of the user's that it fetched files into: of each, its commit first.
_LEFT = Path(".cache", "huggingface")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ANY_ID = "any/model"  # such a folder may be called as no model of the hub can be


def fetch(source: str, revision: str | None) -> Path:
    """Fetches what is read of the hub's `source` into the hub's own cache, or finds it whole there.

    Raises:
        CheckpointError: it is in neither place.
    """
    require("export", "huggingface_hub")
    from huggingface_hub import HfApi, snapshot_download

    try:
        folder = Path(
            snapshot_download(
                source, revision=revision, allow_patterns=_ASKED_FOR, ignore_patterns=_NOT_ASKED_FOR
            )
        )
    except Exception as error:  # network, authorisation and absence each raise types of their own
        raise CheckpointError(
            f"{source} is not a folder here and could not be fetched from the hub",
            why=_first_line(error),
            fix="Check the name and the connection, or download it elsewhere and name the folder",
        ) from None
    # Without a connection that is whatever lies in the cache, whole or not.
    files = _listed(source, folder.name, cache_dir=folder.parents[2])
    if files is None:
        try:
            files = HfApi().list_repo_files(source, revision=folder.name)
        except Exception as error:
            raise CheckpointError(
                f"{source} is in the hub's cache, and nobody can tell whether all of it is",
                why=_first_line(error),
                fix=f"Connect once, or name its folder if it is whole: {folder}",
            ) from None
    _refuse_lacking(folder, source, files, "Run it again with a connection")
    return folder


def fetched_commit(folder: Path) -> str | None:
    """The hub's commit of a folder of the user's that huggingface_hub fetched files into."""
    found = (
        _commit_of(folder, file) for file in ("config.json", "modules.json", "0_Transformer/config.json")
    )
    return next((commit for commit in found if commit is not None), None)


def refuse_part_of_cache(snapshot: Path, name: str) -> None:
    """Refuses a snapshot in the hub's cache that is known to lack what the hub's `name` has.

    Raises:
        CheckpointError: a file is known to be missing that decides what the model computes.
    """
    files = _listed(name, snapshot.name, cache_dir=snapshot.parents[2])
    _refuse_lacking(
        snapshot, name, files or (), "Fetch it again, or copy the folder elsewhere if it is meant"
    )


def refuse_part(folder: Path, commit: str) -> None:
    """Refuses a folder of the user's whose files were fetched in part, or are of two commits.

    Raises:
        CheckpointError: a file that decides what the model computes is known to be missing, or of another
            commit than `commit`.
    """
    meant = f"Fetch it again, or remove {folder / _LEFT} if it is meant"
    files = _listed(_ANY_ID, commit, local_dir=folder) or ()
    _refuse_lacking(folder, "a model of the hub", files, meant)
    for file in filter(_DECIDES.fullmatch, files):
        if _commit_of(folder, file) not in (None, commit):
            raise CheckpointError(
                f"{folder} has files of two commits of the hub",
                why=f"{file} is of another than {commit[:8]}: a download was interrupted",
                fix=meant,
            )


def _listed(
    name: str, commit: str, *, cache_dir: Path | None = None, local_dir: Path | None = None
) -> list[str] | None:
    """The names of the hub's files at `commit`, as snapshot_download left them beside what it fetched.

    None where there is no such list, or one that is damaged and so says nothing.
    """
    try:
        from huggingface_hub import get_cached_repo_tree

        tree = get_cached_repo_tree(name, revision=commit, cache_dir=cache_dir, local_dir=local_dir)
    except Exception:  # no client or an older one; it reads the list as it stands, of whatever JSON
        return None
    return [file.path for file in tree]


def _refuse_lacking(folder: Path, name: str, files: Iterable[str], fix: str) -> None:
    lacking = [file for file in filter(_DECIDES.fullmatch, files) if not os.path.isfile(folder / file)]
    if lacking:
        more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
        raise CheckpointError(
            f"{folder} has only a part of {name}",
            why=f"without {', '.join(lacking[:3])}{more} it is another model",
            fix=fix,
        )


def _commit_of(folder: Path, file: str) -> str | None:
    try:
        first = (folder / _LEFT / "download" / f"{file}.metadata").read_text("utf-8").splitlines()[:1]
    except (OSError, UnicodeDecodeError):
        return None
    return first[0] if first and _COMMIT.fullmatch(first[0]) else None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"
