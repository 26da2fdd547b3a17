"""The command line. Progress goes to stderr; with --json, stdout carries one document and nothing else."""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress
from typing import Any

import click

from ringkas.commands.bench import bench
from ringkas.commands.build import build
from ringkas.commands.bundle import bundle
from ringkas.commands.cache import cache
from ringkas.commands.demo_page import demo_page
from ringkas.commands.doctor import doctor
from ringkas.commands.embed import embed
from ringkas.commands.evaluate import evaluate
from ringkas.commands.inspect import inspect
from ringkas.commands.options import (
    BAD_INPUT,
    CLOSED_PIPE,
    DEFECT,
    INTERRUPTED,
    PARITY_FELL_SHORT,
)
from ringkas.commands.prune import prune
from ringkas.commands.rebuild import rebuild
from ringkas.commands.serve import serve
from ringkas.commands.sign import sign
from ringkas.commands.verify import verify
from ringkas.errors import RingkasError, WishError
from ringkas.version import __version__


class _Group(click.Group):
    """Prints bad input or usage as one line on stderr and exits with status 2."""

    def make_context(
        self, info_name: str | None, args: list[str], *others: Any, **extra: Any
    ) -> click.Context:
        try:
            return super().make_context(info_name, args, *others, **extra)
        except click.exceptions.NoArgsIsHelpError:
            raise  # a bare `ringkas` prints the help
        except click.UsageError as error:
            _say(_usage(error))
            raise click.exceptions.Exit(BAD_INPUT) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # here a pipe that was closed can still be told
            return result
        except WishError as error:
            _say(str(error))
            ctx.exit(PARITY_FELL_SHORT)
        except RingkasError as error:
            _say(str(error))
        except click.UsageError as error:
            _say(_usage(error))
        except KeyboardInterrupt:
            _say("interrupted; nothing was left half-written")
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:  # its reader had enough, and wants to hear nothing of it
            _forget_stdout()
            ctx.exit(CLOSED_PIPE)
        except (click.exceptions.Exit, click.Abort):
            raise
        except MemoryError:
            _say("there is not enough memory; nothing was left half-written")
        except OSError as error:
            _say(f"{error.filename or 'input or output'}: {error.strerror or error}")
        except Exception:
            traceback.print_exc()
            _say("this is a defect of ringkas: please report it with the lines above")
            ctx.exit(DEFECT)
        ctx.exit(BAD_INPUT)


def _forget_stdout() -> None:
    """Points stdout at nothing: what is left in its buffer would fail once more when Python ends."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _say(line: str) -> None:
    click.echo(f"ringkas: {line}", err=True)


def _usage(error: click.UsageError) -> str:
    command = error.ctx.command_path if error.ctx else "ringkas"
    return f"{error.format_message()} See: {command} --help"


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="ringkas")
def cli() -> None:
    """Turn a text-embedding checkpoint into small, fast, verified artifacts, and run them.

    \b
    ringkas build demo --target onnx-fp32 --target onnx-fp16 --out dist
    ringkas verify dist/onnx-fp16 --reference demo
    echo "how do I reset my password?" | ringkas embed dist/onnx-fp32 --output vectors.npy
    ringkas inspect dist/onnx-fp16

    MODEL is a checkpoint folder, a hub id such as intfloat/multilingual-e5-small, or a built-in checkpoint
    that comes as Python packages: `demo` (all-MiniLM-L6-v2) or `demo-e5` (multilingual-e5-small, to
    within 4-bit rounding). A folder of such a name is ./demo.

    \b
    Exit status:
      0    done, and parity held
      1    a judgement fell short: parity, a wish, or bench --compare
      2    bad input or usage: one line on stderr says what, why, and what to do
      3    a defect of ringkas
      130  interrupted (Ctrl-C)
      141  the reader of the output closed its pipe
    """


_COMMANDS = (
    build, bundle, prune, rebuild, verify, evaluate, embed, serve, bench, inspect, sign, demo_page, doctor,
    cache,
)  # fmt: skip
for command in _COMMANDS:
    cli.add_command(command)


def main() -> None:
    """The `ringkas` command."""
    if sys.stdout is not None and hasattr(sys.stdout, "reconfigure"):
        # A table may hold any text, whatever the locale can write.
        sys.stdout.reconfigure(errors="backslashreplace")
    cli()
