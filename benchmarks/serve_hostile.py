"""Ten thousand malformed or hostile requests at a server: the right status each, no crash, no growth.

python benchmarks/serve_hostile.py dist/onnx-int8 --count 10000 --json FILE
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from results_file import write_result

from ringkas.runtimes.measure.http_client import Connections, Server, body_of, first_model

# (body, the status that it deserves); MODEL stands for the model's name.
BODIES: tuple[tuple[bytes, int], ...] = (
    (b"", 400),
    (b"nonsense", 400),
    (b"[]", 400),
    (b"\xff\xfe\x00", 400),
    (b'{"model": "MODEL"}', 400),
    (b'{"model": "MODEL", "input": []}', 400),
    (b'{"model": "MODEL", "input": [[]]}', 400),
    (b'{"model": "MODEL", "input": [-1]}', 400),
    (b'{"model": "MODEL", "input": [99999999]}', 400),
    (b'{"model": "MODEL", "input": [1e999]}', 400),
    (b'{"model": "MODEL", "input": "\\ud83d"}', 400),
    (b'{"model": "MODEL", "input": ' + b"[" * 50_000, 400),
    (b'{"model": "MODEL", "input": "a", "dimensions": -5}', 400),
    (b'{"model": "MODEL", "input": "a", "nonsense": 1}', 400),
    (b'{"model": "MODEL", "input": ["' + b'","'.join([b"a"] * 3000) + b'"]}', 400),
    (b'{"model": "MODEL", "input": "' + b"x" * 400_000 + b'"}', 400),
    (b'{"model": "nonsense", "input": "a"}', 404),
    (b" " * ((8 << 20) + 1), 413),
    (b'{"model": "MODEL", "input": "\xea\xb0\x80"}', 200),
    (b'{"model": "MODEL", "input": ""}', 200),
    (b'{"model": "MODEL", "input": "' + b"word " * 20_000 + b'"}', 200),
)
RAW = (
    b"\x00" * 100,
    b"GET\r\n\r\n",
    b"POST /v1/embeddings HTTP/1.1\r\ncontent-length: -5\r\n\r\n",
    b"\r\n" * 500,
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    command = [sys.executable, "-m", "ringkas", "serve", str(options.artifact), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        url = next(match[1] for line in process.stderr if (match := re.search(r"on (http://\S+)", line)))
        found: dict[str, Any] = asyncio.run(attack(Server(url), process.pid, options.count))
        found["alive"] = process.poll() is None
        process.terminate()
    found |= {
        "artifact": options.artifact.name,
    }
    write_result(options.json, found)
    print(json.dumps(found))
    sys.exit(0 if found["alive"] and not found["wrong"] else 1)


async def attack(server: Server, pid: int, count: int) -> dict[str, Any]:
    """Whole requests with the wrong content, and connections that say too little, nonsense, or hang up."""
    connections, chance = Connections(server), random.Random(0)
    model = (await first_model(connections)).encode()
    statuses: Counter[int] = Counter()
    wrong: list[str] = []
    memory: list[float] = []
    for number in range(count):
        if number % (count // 10) == 0:
            memory.append(resident_mib(pid))
        if chance.random() < 0.3:
            await half(server, chance, model)
            continue
        body, expected = chance.choice(BODIES)
        request = server.request("embeddings", body.replace(b"MODEL", model))
        try:
            status, _ = await connections.send(request)
        except (OSError, asyncio.IncompleteReadError):
            status = 413 if expected == 413 else 0  # it was refused and hung up on before it was all sent
        statuses[status] += 1
        if status != expected:
            wrong.append(f"{body[:60]!r}: {status}, not {expected}")
    memory.append(resident_mib(pid))
    status, _ = await connections.send(server.request("embeddings", body_of("fine", model.decode())))
    await connections.close()
    return {
        "requests": count, "statuses": dict(statuses), "wrong": sorted(set(wrong)),
        "answers_after": status == 200, "resident_mib": memory,
    }  # fmt: skip


async def half(server: Server, chance: random.Random, model: bytes) -> None:
    """A connection that ends in the middle, or says what is no HTTP."""
    body, _ = chance.choice(BODIES)
    whole = server.request("embeddings", body.replace(b"MODEL", model))
    data = chance.choice((*RAW, whole[: chance.randrange(1, 400)]))
    with suppress(OSError):
        _, writer = await asyncio.open_connection(*server.address())
        writer.write(data)
        await writer.drain()
        writer.close()
        await writer.wait_closed()


def resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 2**20


if __name__ == "__main__":
    main()
