"""The errors a user can meet. Each says what is wrong, why, and what to do, on one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_LONGEST_REASON = 500  # of what other libraries say, some of which quote whole files


class RingkasError(Exception):
    """Bad input or usage: the command line prints it as one line and exits with status 2."""

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        # Names out of a file may be as long as the file.
        what = what if len(what) <= _LONGEST_REASON else f"{what[:400]} ... {what[-90:]}"
        why = why if len(why) <= _LONGEST_REASON else f"{why[:_LONGEST_REASON]} ..."
        self.what, self.why, self.fix = what, why, fix
        cause = ": ".join(part for part in (what, why) if part)
        super().__init__(" ".join(_sentence(part) for part in (cause, fix) if part))

    def __reduce__(self) -> tuple[object, ...]:
        """For another process: whatever a kind of error is made from, it comes out as it went in."""
        return _remade, (type(self), self.what, self.why, self.fix)


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


def _remade(kind: type[RingkasError], what: str, why: str, fix: str) -> RingkasError:
    error = kind.__new__(kind)
    RingkasError.__init__(error, what, why=why, fix=fix)
    return error


@contextmanager
def panics_as_errors() -> Iterator[None]:
    """A panic of a library in Rust as `RuntimeError`: its own type derives from BaseException alone."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise RuntimeError(str(error).partition("\n")[0]) from None


def _sentence(text: str) -> str:
    """One line: what a damaged or hostile file says of itself moves no cursor and clears no screen."""
    text = " ".join(text.split())
    text = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return text if text[-1:] in (".", "!", "?") else text + "."
