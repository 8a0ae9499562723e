"""One long training on a tree of pictures: checkpoints, progress, and no step lost or done twice.

Everything a run knows is one checkpoint file that replaces the former in one move.  Whatever kills
the run, the next start goes on from there as if it had never been interrupted.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from remi_lib import distributed
from remi_lib.checks import at_least
from remi_lib.critics import ImageCritic
from remi_lib.devices import denormals_flushed
from remi_lib.distributed import gather, share, world
from remi_lib.experiments.imagenet.trees import Batches, Pictures, Tree, feed
from remi_lib.images import ImageSet
from remi_lib.losses import title
from remi_lib.paths import atomic, cache_dir
from remi_lib.progress import progress, say
from remi_lib.replication.store import config_key
from remi_lib.tasks import Ensemble, ImageTask, Member, member_config
from remi_lib.training import all_lost, ascend, divergence, tidy

MODULE = "remi_lib.experiments.imagenet.evaluation"  # a result is filed by it and this one
FLUSH = 20  # steps between looks at what the device has recorded


@dataclass(frozen=True)
class LongRun:
    """One training with Adam on a tree; its members share the seed and every batch.

    ``augment``: see :func:`~.trees.picture_transform`.
    """

    task: ImageTask
    members: tuple[Member, ...]
    epochs: int
    lr: float = 1e-3
    augment: str = "resize"

    def __post_init__(self) -> None:
        if len({(m.seed, m.batch) for m in self.members}) != 1:
            raise ValueError("members: those of a run share one seed and one batch size")
        at_least("epochs", self.epochs, 1)
        if not self.task.stacks and len(self.members) != 1:
            raise ValueError(f"members: {self.task.net} trains one at a time")
        if self.task.net == "convnet" and self.task.precision != "float32":
            raise ValueError(
                f"precision: {self.task.precision!r} is not allowed with the small network, whose "
                "batch norm is float32; use float32, or net resnet18"
            )
        if self.task.size is None:
            raise ValueError("size: None is not allowed; files differ in size, name one")

    @property
    def size(self) -> int:
        assert self.task.size is not None
        return self.task.size

    @property
    def seed(self) -> int:
        return self.members[0].seed

    @property
    def batch(self) -> int:
        return self.members[0].batch

    @property
    def name(self) -> str:
        """What progress calls it: "clb nwj, seed 0"."""
        losses = self.members[0].loss if len(self.members) == 1 else f"{len(self.members)} losses"
        return f"{self.task.benchmark} {losses}, seed {self.seed}"

    def config(self, tree: Tree) -> dict[str, Any]:
        """The run on this tree as plain data, what its result is filed under."""
        members = [member_config(m) for m in self.members]
        return {**asdict(self), "members": members, "tree": tree.fingerprint}

    def folder(self, tree: Tree) -> Path:
        return cache_dir() / f"longrun-{config_key(self.config(tree), MODULE)}"


@dataclass
class State:
    """What a checkpoint holds besides the networks; ``statistics`` (steps so far, M, names)."""

    step: int = 0
    seconds: float = 0.0
    names: list[str] = field(default_factory=list)
    statistics: list[Tensor] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)


class HalfPrecision(nn.Module):
    """A network in bfloat16 autocast, and nothing beyond it: what it feeds stays float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16):
            return self.network(x)


def critic_of(task: ImageTask, members: Sequence[Member], data: ImageSet) -> ImageCritic:
    """The critic of a task on a tree: the network of each member, with a head in SLB.

    In bfloat16 the encoder is; SLB's head makes scores, and scores are float32.
    """
    seeds = [m.seed for m in members]
    encoder = task.encoder(seeds, 3, data.train_x.shape[-1])
    if task.precision == "bfloat16":
        encoder = HalfPrecision(encoder)
    outputs = data.classes if task.benchmark == "slb" else task.outputs
    return ImageCritic(encoder, seeds, task.width, outputs, task.scale, task.temperature)


class Trainer:
    """A run under way: its networks, its optimiser, its state, and the file it is kept in."""

    def __init__(self, run: LongRun, tree: Tree, device: torch.device) -> None:
        self.run, self.tree, self.device = run, tree, device
        self.data = tree.image_set(run.size)
        self.per_epoch = len(tree.train) // run.batch
        self.steps = run.epochs * self.per_epoch
        self.critic = critic_of(run.task, run.members, self.data).to(device)
        self.shared = distributed.parallel(self.critic, device)
        self.ensemble = Ensemble(run.members, device)
        self.recorded = run.task.recorder(self.ensemble, device)
        self.update = torch.optim.Adam(
            self.critic.parameters(), lr=run.lr, fused=device.type != "mps"
        )
        self.state = State()

    def outputs(self, images: Tensor, critic: nn.Module | None = None) -> Tensor:
        """Logits or embeddings (M, B, .) of uint8 images, in float32."""
        return (critic or self.critic)(self.data.normalized(images))

    def step(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """One step of ascent on the whole batch, of which this process holds a share."""
        outputs = gather(self.outputs(images, self.shared), dim=1)
        scores = self.run.task.table(outputs, gather(labels).expand(outputs.shape[:2]))
        return ascend(scores, self.ensemble.loss, self.update, self.recorded)

    def save(self, path: Path) -> None:
        """Everything, in one file that replaces the former one as a whole."""
        rng = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            rng["cuda"] = torch.cuda.get_rng_state(self.device)
        with atomic(path) as temporary:
            torch.save(
                {
                    "critic": self.critic.state_dict(),
                    "update": self.update.state_dict(),
                    "rng": rng,
                    "state": asdict(self.state),
                },
                temporary,
            )

    def load(self, path: Path) -> bool:
        """Go on from a checkpoint; False, which is said, if there is none that can be read."""
        if not path.is_file():
            return False
        try:
            found = torch.load(path, map_location=self.device, weights_only=True)
            state = State(**found["state"])
        except Exception as error:
            say(f"{self.run.name}: checkpoint unreadable ({type(error).__name__}), from the start")
            return False
        self.critic.load_state_dict(found["critic"])
        self.update.load_state_dict(found["update"])
        torch.set_rng_state(found["rng"]["cpu"].cpu())
        if "cuda" in found["rng"] and self.device.type == "cuda":
            torch.cuda.set_rng_state(found["rng"]["cuda"].cpu(), self.device)
        self.state = state
        self.state.statistics = [x.cpu() for x in state.statistics]
        return True

    def history(self, blocks: Sequence[Tensor], start: int = 0) -> pd.DataFrame:
        """Recorded steps (n, M, names), the first being ``start``: a row per member and step."""
        values, names = torch.cat(list(blocks)).double().numpy(), self.state.names
        steps = np.arange(start, start + len(values))
        found = tidy(self.run.members, steps, values, names)
        return found[[*names, "member", "loss", "seed", "step"]]


class Watch:
    """Says so when a member stops being finite, at which step and in which term, and if it ends."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.lost: set[int] = set()

    def see(self, block: Tensor, start: int) -> None:
        ends = divergence(self.trainer.history([block], start)).set_index("member")
        run = self.trainer.run
        for i, row in ends.iterrows():
            member = f"{run.task.benchmark} {title(row['loss'])}, seed {run.seed}"
            if pd.notna(row["step"]) and i not in self.lost:
                self.lost.add(i)
                say(f"{member}: not finite from step {row['step']:.0f} on ({row['first_term']})")
            elif pd.isna(row["step"]) and i in self.lost:
                self.lost.remove(i)
                say(f"{member}: finite again by step {start + len(block) - 1}")


@denormals_flushed()
def train(
    run: LongRun,
    tree: Tree,
    device: torch.device,
    checkpoint: Path | None = None,
    workers: int = 0,
    minutes: float = 10.0,
    label: str | None = None,
) -> Trainer:
    """Train a run to its end, from its checkpoint if there is one.

    Ends early when no member is finite any more; the rest of the statistics is NaN.
    """
    trainer = Trainer(run, tree, device)
    first = world().rank == 0
    if checkpoint is not None and trainer.load(checkpoint) and first:
        say(f"{run.name}: goes on at step {trainer.state.step} of {trainer.steps}")
    state, watch = trainer.state, Watch(trainer)
    rows: list[Tensor] = []
    saved = started = time.perf_counter()
    pictures = Pictures(tree.train, run.size, run.augment, True, run.seed)
    steps = state.step if _all_lost(state) else trainer.steps
    order = Batches(len(pictures), run.batch, steps, run.seed, state.step, *world())
    with progress(trainer.steps * run.batch, label if first else None, "img") as bar:
        bar.unit_scale = True
        bar.initial = bar.n = bar.last_print_n = state.step * run.batch
        for batch in feed(pictures, order, workers, device):
            seen = trainer.step(batch.images, batch.labels)
            rows.append(torch.stack(list(seen.values()), -1))
            state.names = list(seen)
            state.unreadable |= dict(batch.unreadable)
            state.step += 1
            if state.step % FLUSH and state.step < steps:
                continue
            state.statistics.append(torch.stack(rows).cpu())
            rows = []
            known = share((_all_lost(state), state.unreadable))
            over = all(lost for lost, _ in known)
            state.unreadable = {k: v for _, files in known for k, v in files.items()}
            if first:
                watch.see(state.statistics[-1], state.step - len(state.statistics[-1]))
            bar.set_postfix_str(_two_terms(trainer), refresh=False)
            bar.update(state.step * run.batch - bar.n)
            now = time.perf_counter()
            due = over or state.step == steps or now - saved >= 60 * minutes
            if checkpoint is not None and first and due:
                state.seconds += now - started
                saved = started = now
                trainer.save(checkpoint)
            if over:
                break
    state.seconds += time.perf_counter() - started
    return trainer


def _all_lost(state: State) -> bool:
    """Whether no member's objective was finite in any batch since the last look."""
    return bool(state.statistics) and all_lost(state.statistics[-1], state.names)


def _two_terms(trainer: Trainer) -> str:
    """The two terms of the last batch, of one member after the other."""
    state, members = trainer.state, trainer.run.members
    i = state.step // FLUSH % len(members)
    first, second = (
        state.statistics[-1][-1, i, state.names.index(name)].item()
        for name in ("joint_term", "product_term")
    )
    return f"{title(members[i].loss)} {first:.3g} - {second:.3g}"
