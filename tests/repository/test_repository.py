"""The repository itself: one source of versions, links that lead somewhere, no unsafe pickle."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Mapping
from importlib.metadata import Distribution, distributions

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import REFERENCE, ROOT
from tests.replication.test_notebooks import NOTEBOOKS, disagreements
from tools import soak

PINS = dict(
    line.lower().split("==")
    for name in ("constraints.txt", "requirements-compare.txt")  # `make compare` adds to .venv
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines()
    if "==" in line
)


PINNED = {canonicalize_name(name): version for name, version in PINS.items()}


def requested() -> list[str]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [re.split(r"[<>=\[]", x)[0] for x in lines if x and not x.startswith("#")]


def test_everything_asked_for_is_pinned():
    assert [name for name in requested() if canonicalize_name(name) not in PINNED] == []


def test_the_environment_is_the_lock():
    """What is installed here is what constraints.txt says, as far as it says anything."""
    # Of this environment only: Ray, once imported, adds a folder of its own to the path.
    here = distributions(path=[sysconfig.get_path("purelib")])
    found = {canonicalize_name(d.metadata["Name"]): d for d in here}
    installed = {name: d.version.split("+")[0] for name, d in found.items()}
    off = {k: (v, PINNED[k]) for k, v in installed.items() if k in PINNED and v != PINNED[k]}
    assert off == {}
    # A torch for CUDA, as PyPI has it for most of Linux, brings libraries that a torch for the
    # CPU lacks, in the versions that it wants itself.
    unpinned = set(installed) - set(PINNED) - brought_by("torch", found)
    assert unpinned - {"pip", "setuptools", "wheel", "remi-lib"} == set()


def brought_by(name: str, found: Mapping[str, Distribution]) -> set[str]:
    """A package, what it requires of the packages found, what that requires, and so on."""
    brought, new = set[str](), {name}
    while new:
        brought |= new
        lines = [line for known in new for line in found[known].requires or ()]
        new = {canonicalize_name(Requirement(line).name) for line in lines} & set(found) - brought
    return brought


def test_conda_and_make_install_from_the_same_files():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert pip == ["-c constraints.txt", "-r requirements.txt", "-e ."]
    assert "-c constraints.txt" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_core_dependencies_are_few():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {re.split(r"[<>=\[]", d)[0] for d in project["dependencies"]}
    assert not names & {"torchvision", "jupyter", "papermill", "matplotlib", "seaborn", "ray"}


def test_links_lead_somewhere():
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *NOTEBOOKS):
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            if not target.startswith(("http", "mailto:", "data:")):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def tracked() -> list[str]:
    git = shutil.which("git")
    done = git and subprocess.run([git, "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if not done or done.returncode:
        pytest.skip("not a git checkout")
    return done.stdout.split()


def test_soak_copies_what_the_notebooks_read(tmp_path):
    tables = {name for name in tracked() if re.match(r"figures/overnight/\w+\.csv", name)}
    copy = soak.checkout(tmp_path)
    assert tables
    assert all((copy / name).is_file() for name in tables)
    assert not (copy / "figures" / "tiny").exists()  # which it makes


def test_no_path_of_a_machine():
    pattern = re.compile(r"/(?:home|root|Users|work|tmp)/[\w.-]+/")
    for name in tracked():
        path = ROOT / name
        if path.suffix in (".ipynb", ".json", ".csv", ".md", ".yaml", ".html"):
            found = pattern.search(path.read_text(encoding="utf-8"))
            assert not found, f"{name}: {found}"


def test_nothing_is_unpickled_unchecked():
    for path in (ROOT / "remi_lib").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\bpickle\.loads?\b|read_pickle|joblib\.load", text), path.name
        for call in re.findall(r"torch\.load\([^)]*\)", text):
            assert "weights_only=True" in call, f"{path.name}: {call}"


def test_sizes():
    assert all(path.stat().st_size < 1_000_000 for path in NOTEBOOKS)
    figures = (ROOT / "figures" / "cpu").rglob("*")
    assert sum(p.stat().st_size for p in figures if p.is_file()) < 20_000_000


def test_hosted_ci_calls_the_same_command():
    workflow = yaml.safe_load(
        (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    )
    runs = [step.get("run") for step in workflow["jobs"]["test"]["steps"]]
    assert "make test" in runs
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_help_lists_every_target():
    help_ = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("all", "test", "check", "bench", "data", "html", "refresh", "lock", "clean"):
        assert re.search(rf"make {target}\b", help_.stdout), target


def test_a_corrupted_verdict_is_found(tmp_path):
    """What makes `make test` fail when one stored verdict is altered."""
    path = REFERENCE / "notebooks" / "03_target_constant.ipynb"
    ledger = REFERENCE / "figures" / "cpu" / "claims" / "03_target_constant.json"
    assert disagreements(path, ledger) == []
    entries = json.loads(ledger.read_text(encoding="utf-8"))
    entries[1]["verdict"] = "does not hold"
    (tmp_path / "ledger.json").write_text(json.dumps(entries), encoding="utf-8")
    assert len(disagreements(path, tmp_path / "ledger.json")) == 1


@pytest.mark.parametrize(
    ("module", "place", "mutation"),
    [
        ("losses", "terms.objective - penalty", None),
        ("losses", "terms.objective - penalty", "terms.objective + penalty"),
        ("bounds", "mi = joint_term - product_term", "mi = joint_term + product_term"),
        ("bounds", "scores.log_mean_exp() - 1", "scores.log_mean_exp() + 1"),
        (
            "bounds",
            "joint, product, product, mi, joint - product",
            "joint, product, product, mi, joint",
        ),
    ],
)
def test_a_flipped_sign_is_found(module, place, mutation, tmp_path):
    """One sign of a loss or a bound changed: the tests of the losses fail, and only then."""
    source = (ROOT / "remi_lib" / f"{module}.py").read_text(encoding="utf-8")
    assert source.count(place) == 1
    package = tmp_path / "remi_lib"
    shutil.copytree(ROOT / "remi_lib", package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / f"{module}.py").write_text(source.replace(place, mutation or place))
    copied = tmp_path / "test_losses.py"
    copied.write_text((ROOT / "tests" / "core" / "test_losses.py").read_text(encoding="utf-8"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(copied)],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode != 0) is (mutation is not None), done.stdout[-2000:]


def test_every_text_file_is_read_and_written_as_utf_8():
    """Python's default is the locale's encoding, which under LC_ALL=C is ASCII."""
    silent = []
    for path in (ROOT / "remi_lib").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(getattr(call, "func", None), "attr", "")
            if name in ("read_text", "write_text"):
                named = any(keyword.arg == "encoding" for keyword in call.keywords)
                positional = len(call.args) > (name == "write_text")
                if not (named or positional):
                    silent.append(f"{path.relative_to(ROOT)}:{call.lineno}")
    assert silent == []
