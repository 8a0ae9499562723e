"""Notebook 12's parts: known answers first, then a few steps of each study."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from remi_lib import make_loss
from remi_lib.experiments.z_loss import classifier, contrastive, language, plug_in, report
from remi_lib.experiments.z_loss.members import MemberAdam, StackedMLP, drawn
from remi_lib.replication.claims import Ledger
from remi_lib.scores import all_pairs, off_diagonal


@pytest.fixture(autouse=True)
def progress(tmp_path, monkeypatch):
    monkeypatch.setenv("REMI_PROGRESS", str(tmp_path / "progress"))


def test_adam_of_each_member_is_torchs():
    start, target = torch.randn(2, 2, 3), torch.randn(3)
    rates, decays = torch.tensor([0.01, 0.3]), torch.tensor([0.0, 0.1])
    together = nn.Parameter(start.clone())
    adam = MemberAdam(iter([together]), rates, decays)
    alone = [nn.Parameter(x.clone()) for x in start]
    theirs = [
        torch.optim.AdamW([p], rate.item(), weight_decay=decay.item())
        for p, rate, decay in zip(alone, rates, decays, strict=True)
    ]
    for _ in range(5):
        (together - target).square().sum().backward()
        adam.step()
        for p, optimizer in zip(alone, theirs, strict=True):
            optimizer.zero_grad()
            (p - target).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(together.detach(), torch.stack([p.detach() for p in alone]))


def test_a_member_is_its_seed_alone():
    x = torch.randn(1, 4, 5)
    pair, single = (StackedMLP(seeds, (5, 6, 2), "test") for seeds in ((3, 7), (7,)))
    torch.testing.assert_close(pair(x)[1:], single(x))
    batches = list(drawn([7, 3, 7], 10, 2, 4))
    assert all(torch.equal(b[0], b[2]) and not torch.equal(b[0], b[1]) for b in batches)


def test_sensitivity_of_known_losses():
    final = pd.DataFrame(
        {"remedy": "none", "seed": 0, "rate": [0.1, 0.2, 0.3, 0.4], "nll": [1.0, 0.5, 9.0, np.nan]}
    )
    table = classifier.sensitivity(final, ceiling=2.0)
    assert table["best"].tolist() == [0.5]
    assert table["sensitivity"].tolist() == [(0.5 + 0 + 1.5 + 1.5) / 4]


def test_readings_of_a_known_table():
    t = torch.log(torch.tensor([[[0.8, 0.2], [0.3, 0.7]], [[8.0, 2.0], [3.0, 7.0]]]))
    read = classifier.readings(t, torch.tensor([0, 0]))
    nll = -(math.log(0.8) + math.log(0.3)) / 2
    torch.testing.assert_close(read["nll"], torch.tensor([nll, nll]))
    torch.testing.assert_close(read["nll_bare"], torch.tensor([nll, nll - math.log(10)]))
    torch.testing.assert_close(read["log_z_95"], torch.tensor([0.0, math.log(10)]))
    torch.testing.assert_close(read["accuracy"], torch.tensor([0.5, 0.5]))
    # One bin holds the hit at 0.8, another the miss at 0.7: (0.2 + 0.7) / 2.
    torch.testing.assert_close(read["ece"], torch.tensor([0.45, 0.45]))
    lost = classifier.readings(torch.full((1, 2, 2), math.nan), torch.tensor([0, 0]))
    assert all(value.isnan().all() for value in lost.values())


def test_centred_logits_and_clipped_gradients_touch_their_members_alone():
    trials = [
        classifier.Trial(name, classifier.REMEDIES[name], 1e-2, 0)
        for name in ("none", "mu-centering", "clipping")
    ]
    three = classifier.train("test", trials, "digits", 3, 8, 8)
    one = classifier.train("test", trials[:1], "digits", 3, 8, 8)
    assert three["nll"][0] == pytest.approx(one["nll"][0], rel=1e-5)
    assert three["log_z"][1] >= math.log(10)  # the mean logit is 0, so e^T has a mean above 1


def test_the_apart_pin_is_a_log_mean_exp_without_the_diagonal():
    t = torch.randn(6, 6, dtype=torch.float64, requires_grad=True)
    bound = make_loss("reinfonce_apart", 0.3, 0.5)(all_pairs(t))
    others = off_diagonal(t).rows()
    torch.testing.assert_close(bound.penalty, 0.3 * (others - 0.5).square().mean())
    torch.testing.assert_close(bound.mi, make_loss("infonce")(all_pairs(t)).mi)
    assert torch.autograd.grad(bound.objective, t)[0].isfinite().all()


def test_pinned_rows_cap_their_joint_scores():
    scores = all_pairs(10 * torch.randn(8, 8, dtype=torch.float64))
    above = scores.values.diagonal() - scores.rows()
    assert (above <= math.log(8)).all()


def test_the_decoder_does_not_look_ahead():
    model = language.Model(1, 8, 6, 2, 1, 1e-3)
    net = language.Decoder(model, 5)
    x = torch.randint(5, (1, 6))
    later = x.clone()
    later[0, 4] = (x[0, 4] + 1) % 5
    first, second = net(x), net(later)
    torch.testing.assert_close(first[:, :4], second[:, :4])
    assert not torch.allclose(first[:, 4:], second[:, 4:])


def test_the_text_is_pythons_own():
    text = language.load_text()
    assert len(text.train) > 9 * len(text.test) - 10
    assert text.letters < 256
    assert int(torch.cat([text.train, text.test]).max()) == text.letters - 1


def test_the_scale_is_trained_and_clamped():
    start = math.log(1 / 0.07)
    tables = contrastive.learned_scale(["float32"], 0.1, 2, "digits", 4, 8, 2, rate=3.0)
    final = tables["final"].set_index(["guard", "seed"])["scale"]
    assert (final["clamp"] <= contrastive.CLAMP * (1 + 1e-6)).all()
    assert (final.groupby("guard").mean() != math.exp(start)).all()
    assert tables["final"]["finite"].all()


def test_the_identity_on_random_tables():
    assert report.identity_errors(50, 0.3)["error"].max() < 1e-12


def tables() -> dict[str, pd.DataFrame]:
    trials = classifier.rate_trials([1e-3, 1e-2], 2)
    settings = [(True, 1.0), (True, 0.2), (True, 0.07), (False, 1.0)]
    return {
        "identity": report.identity_errors(5, 0.1),
        "rates": classifier.run("rates", trials, "digits", 2, 8, 4),
        "idle": contrastive.idle(settings, 0.1, 2, "digits", 4, 8, 4),
        "scale": contrastive.learned_scale(["float32", "bfloat16"], 0.1, 2, "digits", 2, 8, 2)[
            "final"
        ],
        "calibration": classifier.run(
            "weights", classifier.weight_trials([0.0, 0.1], 2), "digits", 2, 8, 4
        ),
        "plug_in": plug_in.run([2.0, 4.0], 4, 8, 4, 0.1, 2),
        "language": language.run(
            language.Model(1, 8, 4, 2, 2, 1e-3), ["float32", "bfloat16"], 2, 1
        )["final"],
    }


def test_every_claim_is_judged_and_a_second_run_is_read_back(monkeypatch):
    first, ledger = tables(), Ledger("12_z_loss", "tiny")
    report.judge(ledger, first, math.log(10), 8)
    ledger.save()
    assert set(ledger.entries) == set(ledger.due())
    for module, name in ((classifier, "train"), (contrastive, "_embedded"), (plug_in, "train")):
        monkeypatch.setattr(module, name, None)
    for name, frame in tables().items():
        pd.testing.assert_frame_equal(frame, first[name])


def test_pictures_are_drawn():
    found = tables()
    scale = contrastive.learned_scale(["float32", "bfloat16"], 0.1, 2, "digits", 2, 8, 2)
    spoken = language.run(language.Model(1, 8, 4, 2, 2, 1e-3), ["float32", "bfloat16"], 2, 1)
    figures = [
        report.rates_figure(found["rates"], math.log(10)),
        report.idle_figure(found["idle"]),
        report.scale_figure(scale["course"], contrastive.CLAMP),
        report.calibration_figure(found["calibration"]),
        report.plug_in_figure(found["plug_in"], 8),
        report.language_figure(spoken["course"]),
    ]
    for figure in figures:
        assert all(ax.has_data() for ax in figure.axes)
    lost = pd.DataFrame({"a": ["x", "x"], "v": [1.0, np.inf]})
    assert report.means(lost, ["a"], ["v"])["v"].tolist() == ["non-finite 1/2"]


def test_tables_are_headed_in_words():
    found = tables()
    rows = {"calibration": ["weight"], "language": ["precision", "weight"], "plug_in": ["level"]}
    for name, by in rows.items():
        numbers = [c for c in found[name] if c in report.HEADINGS and c not in by and c != "pin"]
        table = report.means(found[name], by, numbers)
        assert len(numbers) > 1
        assert list(table) == [report.HEADINGS[c] for c in numbers]
    assert table.index.name == "true MI (nats)"
