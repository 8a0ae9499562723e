"""Parameter files: what a notebook declares, and whether a file fits it."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from remi_lib.replication.store import read_yaml

# Per key a test of a value, or of each item of a list, and what it allows in words.
Rules = Mapping[str, tuple[Callable[[Any], bool], str]]


class ParameterError(ValueError):
    """A parameter file that does not fit its notebook; the message names file, key and value."""


def declared(notebook: Path) -> dict[str, Any]:
    """The names and values of a notebook's cell tagged ``parameters``."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    tagged = [c for c in cells if "parameters" in c["metadata"].get("tags", [])]
    if len(tagged) != 1:
        raise ParameterError(f"{notebook}: needs exactly one cell tagged 'parameters'")
    values = {}
    for node in ast.parse("".join(tagged[0]["source"])).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            values[node.targets[0].id] = ast.literal_eval(node.value)
        elif not isinstance(node, ast.Expr):
            raise ParameterError(f"{notebook}: the parameters cell may only assign literals")
    return values


def check(notebook: Path, parameters: Path, rules: Rules | None = None) -> dict[str, Any]:
    """The values of a parameter file, verified against the notebook and the ``rules``."""
    expected = declared(notebook)
    try:
        given = read_yaml(parameters) or {}
    except ValueError as error:
        raise ParameterError(str(error)) from error
    if not isinstance(given, dict):
        raise ParameterError(f"{parameters}: must hold 'key: value' lines")
    for key, value in given.items():
        if key not in expected:
            raise ParameterError(
                f"{parameters}: unknown key {key!r}; {notebook.name} declares: "
                + ", ".join(expected)
            )
        _check_type(parameters, key, value, expected[key])
        if rules and key in rules:
            test, allowed = rules[key]
            for item in value if isinstance(value, list) else [value]:
                if not test(item):
                    raise ParameterError(f"{parameters}: {key}: {item!r} is not allowed; {allowed}")
    profile = parameters.parent.name
    if given.get("profile", expected.get("profile", profile)) != profile:  # whose figures it writes
        raise ParameterError(f"{parameters}: profile: must be {profile!r}")
    return given


def _check_type(file: Path, key: str, value: Any, default: Any) -> None:
    if default is None:
        return
    if isinstance(default, list) and isinstance(value, list):
        if default and not value:
            raise ParameterError(f"{file}: {key}: needs at least one item")
        for item in value if default else []:
            _check_type(file, key, item, default[0])
        return
    wanted = type(default)
    fits = isinstance(value, wanted) and isinstance(value, bool) == (wanted is bool)
    if wanted is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    if not fits:
        hint = " (YAML reads 1e-3 as text: write 1.0e-3)" if isinstance(value, str) else ""
        raise ParameterError(
            f"{file}: {key}: {value!r} is {type(value).__name__}, "
            f"the notebook declares {wanted.__name__}{hint}"
        )
