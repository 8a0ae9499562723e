"""`make data`: torchvision fetches and verifies, and what cannot be had is said."""

from __future__ import annotations

from urllib.error import URLError

from remi_lib.experiments import __main__ as command


def test_without_a_network_every_set_is_named(tmp_path, monkeypatch, capsys):
    def unreachable(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setenv("REMI_DATA", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    assert command.main(["data"]) == 1
    said = capsys.readouterr().err
    for name in ("cifar10", "cifar100", "mnist"):
        assert f"error: {name}: " in said
    assert "no network" in said
