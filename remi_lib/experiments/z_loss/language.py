"""A character-level language model on text that ships with Python, and where its log Z goes."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from pydoc_data.topics import topics

import pandas as pd
import torch
from torch import Tensor, nn

from remi_lib.devices import denormals_flushed
from remi_lib.losses import Loss, make_loss
from remi_lib.progress import progress
from remi_lib.replication.store import Tables, cached
from remi_lib.scores import class_pairs
from remi_lib.streams import as_global_stream, generator

HEADS = 4
WEIGHTS = (0.0, 1e-4, 1e-2)  # of the z-loss: none, PaLM's and a hundred times it
LICENCE = Path(os.__file__).with_name("LICENSE.txt")


@dataclass(frozen=True)
class Model:
    """A decoder of ``layers`` blocks, ``width`` wide, ``context`` long, and its training."""

    layers: int
    width: int
    context: int
    batch: int
    steps: int
    rate: float


@dataclass(frozen=True)
class Text:
    """Characters as numbers, the last tenth held out."""

    train: Tensor
    test: Tensor
    letters: int
    digest: str


def load_text() -> Text:
    """The licence text of Python and its help topics, part of the language reference.

    Both differ between versions of Python, so the digest belongs to a result's key.
    """
    text = LICENCE.read_text(encoding="utf-8") if LICENCE.is_file() else ""
    text += "".join(topics[name] for name in sorted(topics))
    letters = sorted(set(text))
    place = {letter: i for i, letter in enumerate(letters)}
    numbers = torch.tensor([place[letter] for letter in text])
    cut = len(numbers) * 9 // 10
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Text(numbers[:cut], numbers[cut:], len(letters), digest)


class Decoder(nn.Module):
    """A GPT-like network: torch's own pre-norm blocks under a causal mask."""

    def __init__(self, model: Model, letters: int) -> None:
        super().__init__()
        self.letters = nn.Embedding(letters, model.width)
        self.places = nn.Embedding(model.context, model.width)
        block = nn.TransformerEncoderLayer(
            model.width,
            HEADS,
            4 * model.width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        norm = nn.LayerNorm(model.width)
        self.blocks = nn.TransformerEncoder(block, model.layers, norm, enable_nested_tensor=False)
        self.head = nn.Linear(model.width, letters, bias=False)
        mask = nn.Transformer.generate_square_subsequent_mask(model.context)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, context, letters) of the next character after each of ``x`` (B, context)."""
        h = self.letters(x) + self.places.weight
        return self.head(self.blocks(h, mask=self.get_buffer("mask"), is_causal=True))

    def size(self) -> int:
        """How many parameters there are."""
        return sum(p.numel() for p in self.parameters())


def run(model: Model, precisions: Sequence[str], seeds: int, every: int) -> Tables:
    """Tables ``course`` (log Z of the batch) and ``final`` (test loss), a row per run."""
    text = load_text()
    config = {
        "model": asdict(model),
        "text": text.digest,
        **{"precisions": list(precisions), "seeds": seeds, "every": every},
    }

    def compute() -> Tables:
        tables: dict[str, list[pd.DataFrame]] = {"course": [], "final": []}
        for precision, weight, seed in product(precisions, WEIGHTS, range(seeds)):
            own = {"precision": precision, "weight": weight, "seed": seed}
            for name, rows in _trained(model, text, weight, precision, seed, every).items():
                tables[name].append(pd.DataFrame(rows).assign(**own))
        return {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}

    return cached("z_loss_language", config, __name__, compute)


@denormals_flushed()
def _trained(
    model: Model, text: Text, weight: float, precision: str, seed: int, every: int
) -> dict[str, list[dict]]:
    with as_global_stream(seed, "z_loss decoder"):
        net = Decoder(model, text.letters)
    loss = make_loss("reinfonce_rows", weight, -math.log(text.letters))
    adam = torch.optim.AdamW(net.parameters(), model.rate, weight_decay=0.0)
    stream = generator(seed, "z_loss text")
    course = []
    with progress(model.steps, f"language model, {precision}, weight {weight:g}") as bar:
        for step in range(model.steps):
            start = torch.randint(
                len(text.train) - model.context - 1, (model.batch,), generator=stream
            )
            adam.zero_grad()
            objective, log_z = _scored(net, loss, _windows(text.train, start, model), precision)
            (-objective).backward()
            adam.step()
            if (step + 1) % every == 0:
                course.append({"step": step + 1, "log_z": log_z})
            bar.update()
    return {"course": course, "final": [_tested(net, model, text, precision)]}


def _windows(text: Tensor, start: Tensor, model: Model) -> Tensor:
    """Windows (n, context + 1) of a text, from each start (n,) on."""
    return text[start[:, None] + torch.arange(model.context + 1)]


def _scored(net: Decoder, loss: Loss, window: Tensor, precision: str) -> tuple[Tensor, float]:
    """The objective of a batch of windows, and its mean log sum e^T."""
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        t = net(window[:, :-1]).flatten(0, 1)
    table = class_pairs(t.float(), window[:, 1:].flatten())
    bound = loss(table)
    return bound.objective, float(bound.product_term.detach()) + math.log(t.shape[-1])


def _tested(net: Decoder, model: Model, text: Text, precision: str) -> dict[str, float]:
    """Mean loss, with and without the softmax, and log Z over the held-out text."""
    start = torch.arange(0, len(text.test) - model.context - 1, model.context)
    with torch.no_grad():
        window = _windows(text.test, start[:512], model)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            t = net(window[:, :-1]).float()
        log_z = t.logsumexp(-1)
        own = t.gather(-1, window[:, 1:].unsqueeze(-1)).squeeze(-1)
    return {
        "nll": (log_z - own).mean().item(),
        "nll_bare": -own.mean().item(),
        "log_z": log_z.mean().item(),
        "log_z_sd": log_z.std().item(),
        "parameters": net.size(),
    }
