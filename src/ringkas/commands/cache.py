"""`ringkas cache`: what is kept between runs."""

from __future__ import annotations

import click

from ringkas.commands.options import json_option, print_json


@click.command()
@click.option("--clear", "cleared", is_flag=True, help="Let go of all that is kept.")
@json_option
def cache(cleared: bool, as_json: bool) -> None:
    """Show what is kept for the next run, and where.

    A build keeps how PyTorch encodes the probe set and what its witness said, by the content of the
    checkpoint's files. RINGKAS_CACHE names another folder; RINGKAS_CACHE_MB how much may be kept (256, and 0
    keeps nothing): what was used least recently goes first.
    """
    from ringkas import cache as store
    from ringkas.commands.printing import print_cache

    found = store.clear() if cleared else store.entries()
    if not as_json:
        print_cache(found, cleared=cleared)
        return
    rows = [{"kind": one.kind, "bytes": one.bytes, "last_used": one.used} for one in found]
    print_json(
        {
            "folder": str(store.kept_folder()),
            "most_bytes": store.most_bytes(),
            "cleared" if cleared else "kept": rows,
        }
    )
