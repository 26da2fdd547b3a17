"""What comes from a model hub: fetched whole, or refused.

An interrupted download leaves a folder that lacks files, and so does a program that fetched only some.
A model without its pooling, its prompts or a Dense layer would open as another model.
"""

from __future__ import annotations

from pathlib import Path

from ringkas.errors import CheckpointError
from ringkas.extras import require

# What decides what a model computes, and what else is read where it is there.
_DECIDES = ["*.json", "*.safetensors", "[0-9]_*/*"]
_FETCHED = [*_DECIDES, "*.txt", "*.model", "*.npy", "README.md"]
_IGNORED = ["onnx/*", "openvino/*", "*.bin", "*.pt", "*.onnx"]


def fetch(source: str, revision: str | None) -> Path:
    """Fetches what is read of the hub's `source` into the hub's own cache, or finds it whole there.

    Raises:
        CheckpointError: it is in neither place.
    """
    require("export", "huggingface_hub")
    from huggingface_hub import HfApi, snapshot_download

    try:
        folder = Path(
            snapshot_download(source, revision=revision, allow_patterns=_FETCHED, ignore_patterns=_IGNORED)
        )
        # Without a connection that is whatever lies in the cache, whole or not.
        files = _listed(source, folder.name, cache_dir=folder.parents[2])
        if files is None:
            files = HfApi().list_repo_files(source, revision=folder.name)
    except Exception as error:  # network, authorisation and absence each raise types of their own
        reason = str(error).strip().splitlines()
        raise CheckpointError(
            f"{source} is not a folder here and could not be fetched from the hub",
            why=f"{type(error).__name__}: {reason[0] if reason else 'no reason given'}",
            fix="Check the name and the connection, or download it elsewhere and name the folder",
        ) from None
    _refuse_lacking(folder, source, files)
    return folder


def refuse_part(folder: Path, name: str, commit: str, *, cached: bool) -> None:
    """Refuses a folder that is known to lack what the hub's `name` has.

    Args:
        folder: a snapshot in the hub's cache, or a folder of the user's that files were fetched into.
        name: what the hub calls it, for the message.
        commit: the one that its files are of.
        cached: it is a snapshot in the hub's cache.

    Raises:
        CheckpointError: a file is known to be missing that decides what the model computes.
    """
    try:
        if cached:
            files = _listed(name, commit, cache_dir=folder.parents[2])
        else:
            files = _listed(name, commit, local_dir=folder)
    except ImportError:  # no huggingface_hub, or one older than the extra brings
        return
    if files is not None:
        _refuse_lacking(folder, name, files)


def _listed(
    name: str, commit: str, *, cache_dir: Path | None = None, local_dir: Path | None = None
) -> list[str] | None:
    """The names of the hub's files at `commit`, as snapshot_download left them beside what it fetched.

    None where there is no such list, or one that is damaged and so says nothing.
    """
    from huggingface_hub import get_cached_repo_tree

    try:
        tree = get_cached_repo_tree(name, revision=commit, cache_dir=cache_dir, local_dir=local_dir)
    except Exception:  # the client reads it as it stands: JSON of another shape, nested too deep
        return None
    return [file.path for file in tree]


def _refuse_lacking(folder: Path, name: str, files: list[str]) -> None:
    from huggingface_hub.utils import filter_repo_objects  # type: ignore[attr-defined]

    wanted = filter_repo_objects(files, allow_patterns=_DECIDES, ignore_patterns=_IGNORED)
    lacking = [file for file in wanted if not (folder / file).is_file()]
    if lacking:
        more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
        raise CheckpointError(
            f"{folder} has only a part of {name}",
            why=f"without {', '.join(map(repr, lacking[:3]))}{more} it is another model",
            fix="Fetch it again, or copy the folder elsewhere if it is meant to be so",
        )
