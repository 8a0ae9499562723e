"""One long training: what a plain loop gives, killed or not, with damage named as it happens."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from remi_lib import class_pairs, make_loss, same_label_pairs
from remi_lib.experiments.imagenet import evaluation, longrun, training, trees
from remi_lib.experiments.imagenet.longrun import Resources, execute, finish, read_job, write_job
from remi_lib.experiments.imagenet.textures import Textures, write_tree
from remi_lib.experiments.imagenet.training import LongRun, Trainer, train
from remi_lib.experiments.imagenet.trees import Tree, open_tree
from remi_lib.replication.store import read_tables
from remi_lib.tasks import ImageTask, Member
from tests.conftest import refuses

CPU = torch.device("cpu")
FIVE = ("infonce", "mine", "nwj", "remine", "renwj")


@pytest.fixture(scope="session")
def tree(tmp_path_factory) -> Tree:
    root = tmp_path_factory.mktemp("pictures")
    write_tree(Textures(classes=6, train=10, val=4, side=32), root)
    return open_tree("textures", root)


def run_of(benchmark="slb", losses=FIVE, epochs=3, batch=12, seed=0, **options) -> LongRun:
    members = tuple(
        Member(loss, seed, batch, 0.1 if loss.startswith("re") else None) for loss in losses
    )
    task = ImageTask("textures", benchmark, **{"size": 8, "width": 64, **options.pop("task", {})})
    return LongRun(task, members, epochs, 5e-3, **options)


@pytest.mark.parametrize("benchmark", ["slb", "clb"])
def test_statistics_are_those_of_a_plain_loop(tree, benchmark):
    run = run_of(benchmark, ("remine",), epochs=2)
    images, labels = [], []
    for i in range(len(tree.train)):
        picture = Image.open(tree.train.path(i)).convert("RGB").resize((8, 8), Image.BILINEAR)
        images.append(torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1))
        labels.append(tree.train.labels[i])
    x, y = torch.stack(images).float() / 127.5 - 1, torch.stack(labels)
    critic = training.critic_of(run.task, run.members, tree.image_set(8))
    adam = torch.optim.Adam(critic.parameters(), lr=5e-3)
    loss, seen = make_loss("remine", 0.1), []
    for keys in trees.Batches(60, 12, 10, seed=0):
        chosen = torch.tensor([number for _, number in keys])
        make = class_pairs if benchmark == "slb" else same_label_pairs
        bound = loss(make(critic(x[chosen])[0], y[chosen]))
        adam.zero_grad()
        (-bound.objective).backward()
        adam.step()
        seen.append([bound.joint_term.item(), bound.product_term.item(), bound.mi.item()])
    trainer = train(run, tree, CPU)
    ours = trainer.history(trainer.state.statistics)
    columns = ["joint_term", "product_term", "mi"]
    np.testing.assert_allclose(ours[columns], np.array(seen), rtol=2e-3, atol=1e-3)


def test_results_do_not_depend_on_workers_or_on_repetition(tree, tmp_path, monkeypatch):
    run = run_of("clb", ("mine", "remine"), augment="crop")
    found = []
    for i, workers in enumerate((0, 2)):
        monkeypatch.setenv("REMI_CACHE", str(tmp_path / str(i)))
        found.append(finish([run], tree, Resources("cpu", workers)))
    pd.testing.assert_frame_equal(found[0].batches, found[1].batches)
    drop = {"columns": "seconds"}
    pd.testing.assert_frame_equal(found[0].summary.drop(**drop), found[1].summary.drop(**drop))


def test_finished_runs_come_from_the_cache(tree, capsys, monkeypatch):
    runs = [run_of("slb", ("mine",)), run_of("clb", ("mine",))]
    first = finish(runs, tree, Resources("cpu"), at_once=2)
    monkeypatch.setattr(longrun, "train", None)
    again = finish([*runs, runs[0]], tree, Resources("cpu"))
    assert "2 runs, 2 from the cache" in capsys.readouterr().out
    pd.testing.assert_frame_equal(first.batches, again.batches)
    assert first.batches.groupby("run").size().tolist() == [15, 15]
    assert not list(runs[0].folder(tree).parent.glob("*-checkpoint"))


SCRIPT = """
import sys, torch
torch.set_num_threads(1)
from tests.experiments.test_longrun import run_of
from remi_lib.experiments.imagenet.trees import open_tree
from remi_lib.experiments.imagenet.longrun import Resources, execute
run = run_of("clb", epochs=80, augment="crop")
execute(run, open_tree("textures", sys.argv[1]), Resources("cpu", workers=1, minutes=0))
"""


def test_killed_at_any_moment_it_ends_as_if_it_had_not_been(tree, tmp_path, monkeypatch):
    """SIGKILL, again and again: neither a gap nor a duplicate, and the same numbers."""
    run = run_of("clb", epochs=80, augment="crop")
    monkeypatch.setenv("REMI_CACHE", str(tmp_path / "killed"))
    folder = run.folder(tree)
    checkpoint = longrun._checkpoint(folder)
    moments, steps = random.Random(os.getpid()), [0]
    for attempt in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tree.root)], start_new_session=True
        )
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        while process.poll() is None:
            if checkpoint.exists() and checkpoint.stat().st_mtime_ns != before and attempt < 2:
                time.sleep(moments.uniform(0, 0.4))
                break
            time.sleep(0.005)
        if process.poll() is not None:
            assert process.returncode == 0
            break
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if checkpoint.exists():
            steps.append(torch.load(checkpoint, weights_only=True)["state"]["step"])
    assert len(steps) >= 3, steps  # killed twice or more on the way
    assert steps == sorted(set(steps)), steps  # every start went on from the last
    killed = read_tables(folder)
    monkeypatch.setenv("REMI_CACHE", str(tmp_path / "undisturbed"))
    calm = finish([run], tree, Resources("cpu"))
    for table in (killed["batches"], calm.batches):
        for _, member in table.groupby("member"):
            assert member["step"].tolist() == list(range(80 * 5))
    names = ["joint_term", "product_term", "penalty", "mi", "pairs", "log_partition"]
    np.testing.assert_allclose(killed["batches"][names], calm.batches[names], rtol=1e-5, atol=1e-6)
    for column in ("accuracy", "val_joint", "diverged_step", "images"):
        np.testing.assert_allclose(
            killed["summary"][column].astype(float), calm.summary[column].astype(float), rtol=1e-5
        )


def test_a_run_takes_up_its_checkpoint(tree, tmp_path, capsys):
    """In one process: stopped half-way by an error, the rest is what it would have been."""
    run = run_of("slb", ("mine", "nwj"), epochs=9)
    path = tmp_path / "state.pt"
    whole = train(run, tree, CPU)
    feed, count = training.feed, iter(range(10**6))

    def failing(*arguments):
        for batch in feed(*arguments):
            if next(count) == 30:
                raise OSError("the disk is gone")
            yield batch

    training.feed = failing
    try:
        with pytest.raises(OSError, match="the disk is gone"):
            train(run, tree, CPU, path, minutes=0)
    finally:
        training.feed = feed
    rest = train(run, tree, CPU, path, minutes=0)
    assert "slb 2 losses, seed 0: goes on at step 20 of 45" in capsys.readouterr().out
    for a, b in zip(whole.critic.parameters(), rest.critic.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    pd.testing.assert_frame_equal(
        whole.history(whole.state.statistics), rest.history(rest.state.statistics)
    )


def test_what_a_killed_writer_left_is_swept_away_and_garbage_is_not_trusted(tree, capsys):
    run = run_of("slb", ("mine",))
    checkpoint = longrun._checkpoint(run.folder(tree))
    checkpoint.parent.mkdir(parents=True)
    leftover = checkpoint.parent / ".state-abc.pt"
    leftover.write_bytes(b"half a checkpo")
    checkpoint.write_bytes(b"garbage")
    execute(run, tree, Resources("cpu"))
    assert "checkpoint unreadable" in capsys.readouterr().out
    assert not leftover.exists()
    assert read_tables(run.folder(tree)) is not None


def test_divergence_is_reported_when_it_happens(tree, monkeypatch):
    said, looks = [], []
    monkeypatch.setattr(training, "say", said.append)
    see = training.Watch.see

    def seen(watch, block, start):
        see(watch, block, start)
        looks.append((start, len(said)))

    monkeypatch.setattr(training.Watch, "see", seen)
    run = run_of("clb", ("mine", "nwj"), epochs=20)
    train(replace(run, task=replace(run.task, width=512)), tree, CPU)
    assert said == ["clb NWJ, seed 0: not finite from step 0 on (product_term)"]
    assert looks == [(start, 1) for start in range(0, 100, 20)]  # said at the first look


def test_when_everyone_is_lost_the_run_ends_and_reads_nan(tree):
    run = replace(run_of("clb", ("nwj",), epochs=30), lr=1e4)
    run = replace(run, task=replace(run.task, width=512))
    found = finish([run], tree, Resources("cpu"))
    row = found.summary.iloc[0]
    assert row["diverged_step"] == 0
    assert row["first_term"] == "product_term"
    assert math.isnan(row["accuracy"])
    assert row["images"] < 30 * 60
    assert found.batches["step"].tolist() == list(range(150))
    assert found.batches["mi"].iloc[-1:].isna().all()


def test_a_member_that_recovers_is_taken_back(monkeypatch, tree):
    said = []
    monkeypatch.setattr(training, "say", said.append)
    trainer = Trainer(run_of("slb", ("mine",)), tree, CPU)
    trainer.state.names = ["joint_term", "product_term", "penalty", "mi"]
    watch, fine = training.Watch(trainer), torch.zeros(20, 1, 4)
    bad = fine.clone()
    bad[15:, 0, 1] = math.inf
    for i, block in enumerate((fine, bad, fine)):
        watch.see(block, 20 * i)
    assert said == [
        "slb MINE, seed 0: not finite from step 35 on (product_term)",
        "slb MINE, seed 0: finite again by step 59",
    ]


def test_unreadable_files_are_counted_in_the_result(tmp_path):
    write_tree(Textures(classes=3, train=5, val=3, side=32), tmp_path / "tree")
    for split in ("train", "val"):
        path = tmp_path / "tree" / split / "fire_zigzag" / "0001.jpg"
        path.write_bytes(path.read_bytes()[:300])
    tree = open_tree("folder", tmp_path / "tree")
    found = finish([run_of("clb", ("mine",), batch=5)], tree, Resources("cpu"))
    assert found.unreadable["file"].unique().tolist() == ["fire_zigzag/0001.jpg"]
    assert found.summary["unreadable"].tolist() == [1]
    assert found.summary["images"].tolist() == [45]  # nothing else was lost


@pytest.mark.parametrize("benchmark", ["slb", "clb"])
def test_evaluation_is_a_plain_loops(tree, benchmark):
    trainer = train(run_of(benchmark, ("mine", "infonce")), tree, CPU)
    found = evaluation.evaluate(trainer)
    (train_out, train_y), (out, y) = (
        evaluation._outputs(trainer, split, 0, None) for split in (tree.train, tree.val)
    )
    for member in range(2):
        right = 0
        for i in range(len(y)):
            if benchmark == "slb":
                guess = out[member, i].argmax()
            else:
                guess = train_y[(train_out[member] @ out[member, i]).argmax()]
            right += int(guess == y[i])
        assert found["accuracy"][member] == pytest.approx(right / len(y))
        make = class_pairs if benchmark == "slb" else same_label_pairs
        table = make(out[member], y)
        assert found["val_joint"][member] == pytest.approx(table.joint_mean().item(), rel=1e-4)
        second = table.log_mean_exp().item()
        assert found["val_log_partition"][member] == pytest.approx(second, rel=1e-4)


# Precision: the network in bfloat16, scores and losses in float32.


@pytest.mark.parametrize("benchmark", ["slb", "clb"])
def test_bf16_stops_at_the_network(tree, benchmark):
    task = {"net": "resnet18", "width": 512, "precision": "bfloat16"}
    run = run_of(benchmark, ("mine",), epochs=1, task=task)
    run = replace(run, task=replace(run.task, width=512))
    trainer = Trainer(run, tree, CPU)
    inside = []
    for module in trainer.critic.encoder.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda *found: inside.append(found[-1].dtype))
    outputs = trainer.outputs(torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8))
    assert set(inside) == {torch.bfloat16}
    coarse = outputs.to(torch.bfloat16).float()
    assert (outputs == coarse).all() == (benchmark == "clb")  # SLB's head is no part of it
    table = run.task.table(outputs, torch.tensor([[0, 0, 1, 1]]))
    bound = trainer.ensemble.loss(table)
    assert {x.dtype for x in (outputs, table.values, *bound)} == {torch.float32}
    assert all(p.dtype == torch.float32 for p in trainer.critic.parameters())
    trained = train(run, tree, CPU)
    # Unnormalised scores may explode within steps; what the first step recorded is a number.
    assert np.isfinite(trained.history(trained.state.statistics)["mi"].iloc[0])


def test_jobs_travel_as_files(tree, tmp_path):
    run = run_of("clb", ("mine", "renwj"), augment="crop")
    write_job(tmp_path / "job.json", run, tree, Resources("cpu", 3, 2, 0.5))
    again, same, resources = read_job(tmp_path / "job.json")
    assert again == run
    assert again.folder(same) == run.folder(tree)
    assert resources == Resources("cpu", 3, 2, 0.5)
    json.loads((tmp_path / "job.json").read_text())


def test_where_the_tree_lies_is_no_part_of_a_run(tree):
    moved = replace(tree, root=Path("/elsewhere"))
    assert run_of().folder(moved) == run_of().folder(tree)
    assert run_of(seed=1).folder(tree) != run_of().folder(tree)


test_bad_runs_are_named = refuses(
    (lambda: run_of(epochs=0), "epochs: 0 is not allowed"),
    (
        lambda: run_of(task={"net": "resnet18", "width": 512}),
        "members: resnet18 trains one at a time",
    ),
    (lambda: run_of(task={"precision": "bfloat16"}), "precision: 'bfloat16' is not allowed"),
    (lambda: LongRun(ImageTask(), (Member("mine"),), 1), "size: None is not allowed"),
    (
        lambda: LongRun(ImageTask(size=8), (Member("mine", 0), Member("nwj", 1)), 1),
        "members: those of a run share one seed",
    ),
)


def test_a_batch_that_does_not_fit_is_named(tree):
    with pytest.raises(ValueError, match="batch: 61 is larger than the training split, 60"):
        train(run_of(batch=61), tree, CPU)
