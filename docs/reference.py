"""Writes docs/cli.md, the command line's reference, from `--help`: `python docs/reference.py [--check]`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ringkas.cli import cli

PAGE = Path(__file__).parent / "cli.md"
_WIDTH = 100


def reference() -> str:
    """The page's whole text: the help of `ringkas` and of each of its commands."""
    sections = ["# Command line\n\nWritten by `python docs/reference.py` from `--help`.\n"]
    sections.append(_section("ringkas", cli, None))
    group = click.Context(cli, info_name="ringkas")
    sections += [_section(f"ringkas {name}", cli.commands[name], group) for name in sorted(cli.commands)]
    return "\n".join(sections)


def _section(title: str, command: click.Command, parent: click.Context | None) -> str:
    context = click.Context(
        command,
        info_name=title.rsplit(" ", 1)[-1],
        parent=parent,
        terminal_width=_WIDTH,
        max_content_width=_WIDTH,
        help_option_names=["-h", "--help"],
    )
    lines = (line.rstrip() for line in command.get_help(context).splitlines())
    return f"## {title}\n\n```\n" + "\n".join(lines) + "\n```\n"


if __name__ == "__main__":
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(reference(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != reference():
        sys.exit("docs/cli.md is not what --help says: run python docs/reference.py")
