"""Which edit recomputes what: each kind of line is edited in a copy of the library."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from remi_lib.replication import imports, store

LIBRARY = imports.PACKAGE


def keyed() -> set[str]:
    """Every module whose digest is part of the key of a stored result."""
    found = set()
    for module in imports.modules():
        tree = imports.parsed(module)
        texts = {
            node.targets[0].id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Constant)
        }
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if getattr(call.func, "id", "") in ("cached", "config_key"):
                for argument in call.args[1:3]:
                    if isinstance(argument, ast.Name):
                        name = module if argument.id == "__name__" else texts.get(argument.id, "")
                        found.add(str(name))
                    elif isinstance(argument, ast.Constant):
                        found.add(argument.value)
    return {name for name in found if name.startswith("remi_lib.")}


KEYED = sorted(keyed())


@pytest.mark.parametrize("module", KEYED)
def test_no_stored_result_is_keyed_by_the_words_of_a_verdict(module):
    assert not [name for name in imports.reached([module]) if ".verdicts" in name]


@pytest.fixture
def copied(tmp_path, monkeypatch) -> Path:
    package = tmp_path / "remi_lib"
    shutil.copytree(LIBRARY, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(imports, "PACKAGE", package)
    imports._public.cache_clear()
    yield package
    imports._public.cache_clear()
    store.code_digest.cache_clear()


def digests() -> dict[str, str]:
    """The digest of every module that is a key."""
    store.code_digest.cache_clear()
    return {module: store.code_digest(module) for module in KEYED}


def changed(edit: Callable[[], None]) -> set[str]:
    """The modules whose digest an edit changes."""
    before = digests()
    edit()
    after = digests()
    return {module for module in KEYED if before[module] != after[module]}


def rewrite(path: Path, change: Callable[[str], str]) -> Callable[[], None]:
    def edit() -> None:
        before = path.read_text(encoding="utf-8")
        after = change(before)
        assert after != before, f"{path.name}: the edit is none"
        path.write_text(after, encoding="utf-8")

    return edit


def flipped(text: str) -> str:
    """The first difference in a module made a sum: a sign error, whatever the formula."""
    tree = ast.parse(text)
    node = next(n for n in ast.walk(tree) if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Sub))
    node.op = ast.Add()
    return ast.unparse(tree)


def reworded(text: str) -> str:
    """Another docstring and a comment."""
    head, _, rest = text.partition('"""')
    return f'{head}"""Other words.  {rest}\n# and a remark\n'


def extended(text: str) -> str:
    """A statement more: it stands for any edit of a module that computes nothing."""
    return text + '\n_EDITED = "edited"\n'


def files_of(package: Path, module: str) -> list[Path]:
    """The file of a module, or the files of a folder."""
    path = package.joinpath(*module.split("."))
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def subtracting(package: Path, module: str) -> Path:
    """A file of the module that has a difference to flip."""
    for path in files_of(package, module):
        if any(isinstance(n, ast.Sub) for n in ast.walk(ast.parse(path.read_text("utf-8")))):
            return path
    raise AssertionError(module)


def test_results_are_keyed():
    assert "remi_lib.training" in KEYED
    assert len(KEYED) >= 5


@pytest.mark.parametrize("module", ["losses", "scores", "critics", "tasks", "training"])
def test_an_edit_to_what_computes_recomputes(copied, module):
    path = subtracting(copied, module)
    assert "remi_lib.training" in changed(rewrite(path, flipped))


@pytest.mark.parametrize(
    "module",
    [
        "replication.claims",  # a table's heading, a threshold's wording
        "replication.scoreboard",  # a title
        "replication.pages",
        "replication.store",
        "replication.notebooks",
        "experiments.plots",
        "experiments.published",
        "experiments.rules",
        "progress",
        "paths",
    ],
)
def test_an_edit_to_what_shows_recomputes_nothing(copied, module):
    for path in files_of(copied, module):
        assert changed(rewrite(path, extended)) == set()


@pytest.mark.parametrize("module", ["remi_lib.training", "remi_lib.losses"])
def test_an_edit_to_a_docstring_or_the_layout_recomputes_nothing(copied, module):
    path = imports.source(module)
    assert changed(rewrite(path, reworded)) == set()
    assert changed(rewrite(path, lambda text: ast.unparse(ast.parse(text)))) == set()


def test_an_edit_to_a_claim_recomputes_nothing(copied):
    path = copied / "data" / "claims" / "01_drift.yaml"
    assert changed(rewrite(path, lambda text: text.replace("statement:", "statement:  "))) == set()


def _judges(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name.startswith("judge")


def test_verdicts_and_computing_live_apart():
    judging = {
        module
        for module in imports.modules()
        if any(_judges(node) for node in imports.parsed(module).body)
    }
    reached = set(imports.reached(KEYED, without=store.NOT_COMPUTING))
    assert not reached & judging
