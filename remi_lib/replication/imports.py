"""Which module uses which, read from the source: nothing is run, so nothing has to be installed.

python3 remi_lib/replication/imports.py > build/deps.mk     what notebooks are made with

The code key of a cached result and make's prerequisites are both made of this.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
READ = {"experiments.published": "*.csv", "replication.registry": "datasets.yaml"}  # of data/
# What notebooks show of the runs of the overnight profile, as make finds it.
LARGER = "$(wildcard figures/overnight/*.csv figures/overnight/claims/*.json)"


def source(module: str) -> Path:
    """The file of a module of the package; the package's own ``__init__`` for a folder."""
    path = PACKAGE.parent.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def modules() -> list[str]:
    """Every module of the package, by its dotted name."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return found


def parsed(module: str) -> ast.Module:
    """The syntax tree of a module of the package, not to be changed: others are given it too."""
    return _tree(text_of(module))


def text_of(module: str) -> str:
    """The source text of a module of the package, as it is now."""
    return source(module).read_text(encoding="utf-8")


@cache
def _tree(text: str) -> ast.Module:
    return ast.parse(text)


@cache
def _public() -> dict[str, str]:
    """Where each name that the package itself offers comes from."""
    nodes = [node for node in ast.walk(parsed(PACKAGE.name)) if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in nodes for alias in node.names}


def imports(tree: ast.AST) -> list[str]:
    """The modules of the package that a piece of code imports, anywhere in it.

    ``from remi_lib import make_loss`` needs the module that ``make_loss`` is from, no other.
    """
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            found += [name for name in names if name.split(".")[0] == PACKAGE.name]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE.name):
            for name in (alias.name for alias in node.names):
                if source(f"{node.module}.{name}").is_file():
                    found.append(f"{node.module}.{name}")
                elif node.module == PACKAGE.name and name in _public():
                    found.append(_public()[name])
            found.append(str(node.module))
    return found


def reached(start: Iterable[str], without: tuple[str, ...] = ()) -> list[str]:
    """The modules named and all that they import, directly or not, sorted.

    ``without``: prefixes of modules to leave out, with what only they import.
    """
    seen: set[str] = set()
    todo = list(start)
    while todo:
        name = todo.pop()
        if name not in seen and not name.startswith(without or ("\n",)):
            seen.add(name)
            todo += [] if name == PACKAGE.name else imports(parsed(name))
    return sorted(seen)


def used_by(notebook: Path) -> list[str]:
    """What a notebook is made with, from the checkout's root: modules, their data, its claims."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    tree = ast.parse(code)
    names = reached(imports(tree))
    beside = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    own = [notebook.parent / f"{name}.py" for name in beside if name and "." not in name]
    data = PACKAGE / "data"
    claims = [data / "claims" / f"{notebook.stem}.yaml"]
    files = [*map(source, names), *(p for p in [*own, *claims] if p.is_file())]
    for module, read in READ.items():
        if f"{PACKAGE.name}.{module}" in names:
            files += sorted(data.glob(read))
    found = [path.relative_to(PACKAGE.parent).as_posix() for path in files]
    return [*found, LARGER] if f"{PACKAGE.name}.experiments.overnight" in names else found


def main() -> None:
    """Print a line of prerequisites for each notebook, as make reads it."""
    root = PACKAGE.parent
    for notebook in sorted((root / "notebooks").glob("[0-9]*.ipynb")):
        print(f"$(OUT)/{notebook.name}: {' '.join(used_by(notebook))}")


if __name__ == "__main__":
    main()
