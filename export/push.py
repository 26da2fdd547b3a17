"""A bundle goes to a model hub: what would be sent is known, and checked, before anything is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ringkas.artifact import open_artifact, variants_of
from ringkas.errors import ArtifactError, TargetError
from ringkas.extras import require
from ringkas.files import expand
from ringkas.progress import QUIET, Progress


@dataclass(frozen=True)
class Upload:
    """What a push sends: to which repository, which files, and how many bytes they are."""

    repository: str
    files: tuple[str, ...]
    bytes: int


def plan_upload(folder: str | Path, repository: str) -> Upload:
    """What `push` would send, after it has checked all that can be checked without a hub.

    Raises:
        TargetError: the repository's name is none.
        ArtifactError: a file was altered, or a variant's parity fell short.
    """
    require("export", "huggingface_hub")
    from huggingface_hub import ModelCard
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    folder = expand(folder)
    try:
        validate_repo_id(repository)
        named = repository.count("/") == 1
    except HFValidationError:
        named = False
    if not named:
        raise TargetError(f"{repository!r} names no repository", fix="Write it as org/name")
    for variant in variants_of(folder):
        opened = open_artifact(folder, variant)
        opened.check_files()
        report = opened.parity()
        if report is None or not report.passed:
            raise ArtifactError(
                f"{folder} is not pushed", why=f"the parity of {variant} fell short, or is unknown",
                fix="Leave that variant out of the bundle",
            )  # fmt: skip
    try:
        ModelCard.load(folder / "README.md", ignore_metadata_errors=False)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{folder / 'README.md'} is no model card", why=str(error)) from None
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return Upload(
        repository,
        tuple(file.relative_to(folder).as_posix() for file in files),
        sum(file.stat().st_size for file in files),
    )


def push(folder: str | Path, repository: str, progress: Progress = QUIET) -> Upload:
    """Sends a bundle to `repository` on the hub that huggingface_hub is set to, which it makes if need be.

    Raises:
        ArtifactError: the hub refused it; what it says is passed on.
    """
    upload = plan_upload(folder, repository)
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    hub = HfApi()
    try:
        with progress.stage(
            f"pushing {len(upload.files)} files, {upload.bytes / 1e6:.1f} MB, to {repository}"
        ):
            hub.create_repo(repository, exist_ok=True)
            hub.upload_folder(
                repo_id=repository, folder_path=expand(folder), commit_message="Bundle made by ringkas"
            )
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise ArtifactError(
            f"{repository} was not pushed",
            why=(str(error).splitlines() or [type(error).__name__])[0],
            fix="Check the name, the connection and your token: hf auth login",
        ) from None
    return upload
