"""Checks of arguments, each with an error that begins with the argument at fault.

Ground, which imports nothing of the library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor

Number = TypeVar("Number", int, float)


def one_of(key: str, value: object, allowed: Iterable[object]) -> None:
    """Raise ValueError unless ``value`` is one of the ``allowed``."""
    choices = list(allowed)
    if value not in choices:
        listed = ", ".join(map(str, choices))
        raise ValueError(f"{key}: {value!r} is not allowed; choose one of {listed}")


def at_least(key: str, value: float, least: float) -> None:
    """Raise ValueError unless ``value`` is ``least`` or more; NaN is not."""
    if not value >= least:
        raise ValueError(f"{key}: {value} is not allowed; must be at least {least}")


def number(key: str, text: str, kind: type[Number]) -> Number:
    """The int or float that a text spells; ValueError if it spells none."""
    try:
        return kind(text)
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise ValueError(f"{key}: {text!r} is not allowed; must be {wanted}") from None


def within(key: str, value: float | Tensor, test: Callable[[Tensor], Tensor], allowed: str) -> None:
    """Raise ValueError unless every element of ``value`` passes; ``allowed`` says what does."""
    if not bool(test(torch.as_tensor(value)).all()):
        raise ValueError(f"{key}: {value} is not allowed; must be {allowed}")


def require_all(condition: Tensor, message: str) -> None:
    """Raise ValueError with ``message`` unless every element of a boolean tensor is true.

    On a GPU and in a compiled graph nobody waits for the answer: the device asserts when it gets
    there, and the error is torch's.
    """
    if condition.device.type == "cpu" and not torch.compiler.is_compiling():
        if not condition.all():
            raise ValueError(message)
    elif condition.device.type in ("cpu", "cuda"):
        torch._assert_async(condition.all(), message)
