"""Texts at a border of the model's own: the float model, its token vectors moved a little at random.

    python benchmarks/sensitive_texts.py demo-e5 SIB200/km.txt --noise 0.08

A text falls when its centred cosine (after subtracting the language's mean vector) with the unmoved model's
drops below --floor. No rounding is in it: what falls here, no 8 bits can be asked to keep. Of the texts that
fall furthest it says which token moved most, and that token's cosine layer by layer. Results go into
benchmarks/results/sensitive_texts_NAME.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from handlings import RESULTS, vectors
from results_file import write_result
from torch import Tensor

from ringkas import open_checkpoint
from ringkas.progress import Progress
from ringkas.runtimes.parity.judge import centred_cosine
from ringkas.runtimes.reference import Reference, load_reference
from ringkas.tokens import TextTokenizer

SHOWN = 4  # of the texts that fall furthest


class Noise:
    """Moves the output of the token table by so much of each vector's length; none until `seed` is set."""

    def __init__(self, share: float) -> None:
        self.share, self.seed = share, 0

    def __call__(self, _module: Any, _inputs: Any, output: Tensor) -> Tensor:
        if not self.seed:
            return output
        random = torch.randn(output.shape, generator=torch.Generator().manual_seed(self.seed))
        return output + self.share * output.norm(dim=-1, keepdim=True) * random / output.shape[-1] ** 0.5


def by_layer(reference: Reference, noise: Noise, seed: int, row: list[int]) -> dict[str, Any]:
    """The token that `seed` moves furthest, its place in the text, and its cosine behind each layer."""
    ids = torch.tensor([row])
    states = []
    for one in (0, seed):
        noise.seed = one
        with torch.inference_mode():
            made = reference.encoder(
                input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True
            )
        states.append(torch.stack(made.hidden_states)[:, 0])
    cosines = torch.cosine_similarity(*states, dim=-1)
    place = int(cosines.amin(0).argmin())
    others = torch.cat([cosines[:, :place], cosines[:, place + 1 :]], 1)
    return {
        "place": place,
        "token_id": row[place],
        "cosine_by_layer": [round(float(value), 3) for value in cosines[:, place]],
        "other_tokens_least": round(float(others.min()), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("texts", nargs="+", type=Path)
    parser.add_argument("--noise", type=float, default=0.01, help="of the length of a token's vector")
    parser.add_argument("--floor", type=float, default=0.998)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--prompt", default="query: ")
    options = parser.parse_args()
    checkpoint = open_checkpoint(options.model)
    tokenizer = TextTokenizer(checkpoint.path, checkpoint.spec)
    reference = load_reference(checkpoint)
    noise, found = Noise(options.noise), {}
    reference.encoder.get_submodule(checkpoint.family.token_table).register_forward_hook(noise)
    with Progress().steps("encoding", len(options.texts) * (1 + options.seeds)) as done:
        for file in options.texts:
            rows = tokenizer.encode([options.prompt + line for line in file.read_text("utf-8").splitlines()])
            made = []
            for seed in range(1 + options.seeds):
                noise.seed = seed
                made.append(vectors(reference, rows, tokenizer.pad_id))
                done()
            moved = np.stack([centred_cosine(made[0], one) for one in made[1:]])
            worst = np.argsort(moved.min(0))[:SHOWN]
            found[file.stem] = {
                "texts": len(rows),
                "median": round(float(np.median(moved)), 5),
                "fell_by_seed": [int(one) for one in (moved < options.floor).sum(1)],
                "fell_by_any": int((moved.min(0) < options.floor).sum()),
                "furthest": [
                    {"text": int(text), "centred": round(float(moved[:, text].min()), 4)}
                    | by_layer(reference, noise, 1 + int(moved[:, text].argmin()), rows[text])
                    for text in worst
                ],
            }
            print(file.stem, found[file.stem], flush=True)
    settings = {"noise": options.noise, "floor": options.floor, "prompt": options.prompt}
    name = f"sensitive_texts_{Path(options.model).name}.json"
    write_result(RESULTS / name, settings | {"by_file": found})


if __name__ == "__main__":
    main()
