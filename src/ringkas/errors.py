"""The errors a user can meet. Each says what is wrong, why, and what to do, on one line."""

from __future__ import annotations


class RingkasError(Exception):
    """Bad input or usage: the command line prints it as one line and exits with status 2."""

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        self.what, self.why, self.fix = what, why, fix
        cause = ": ".join(part for part in (what, why) if part)
        super().__init__(" ".join(_sentence(part) for part in (cause, fix) if part))


class CheckpointError(RingkasError):
    """The model to convert cannot be read, or is of a kind that is not supported."""


class ArtifactError(RingkasError):
    """An artifact folder is missing, incomplete, altered, too new, or failed its parity check."""


class TextError(RingkasError):
    """A text or a file of texts cannot be encoded."""


class TargetError(RingkasError):
    """A target, a prompt, a language or another named choice does not exist."""


class WishError(RingkasError):
    """Nothing that can be made is as near, as small or as fast as was asked: exit status 1."""


class MissingExtra(RingkasError):
    """A package is needed that the installed extras do not bring."""

    def __init__(self, package: str, extra: str, *, fix: str = "") -> None:
        super().__init__(
            f"{package} is not installed",
            why=f"this needs the extra [{extra}]",
            fix=fix or f"Run: pip install 'ringkas[{extra}]'",
        )


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text if text[-1] in ".!?" else text + "."
