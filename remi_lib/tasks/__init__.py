"""What an ensemble is trained on: a critic, its data, and the table the two make.

A task knows how to build the critic of its members, to draw each member's batches from the
member's own random stream, and to turn a batch into :class:`~remi_lib.scores.Scores`.
"""

from __future__ import annotations

from remi_lib.tasks.gaussian import TRANSFORMS, CorrelatedGaussian, StairBatch, StaircaseTask
from remi_lib.tasks.images import BENCHMARKS, NETS, PRECISIONS, ImageTask
from remi_lib.tasks.members import (
    BLOCK,
    TERMS,
    Ensemble,
    Member,
    Recorder,
    Task,
    grid,
    member_config,
    terms,
)
from remi_lib.tasks.one_hot import OneHot, OneHotTask

__all__ = [
    "BENCHMARKS",
    "BLOCK",
    "NETS",
    "PRECISIONS",
    "TERMS",
    "TRANSFORMS",
    "CorrelatedGaussian",
    "Ensemble",
    "ImageTask",
    "Member",
    "OneHot",
    "OneHotTask",
    "Recorder",
    "StairBatch",
    "StaircaseTask",
    "Task",
    "grid",
    "member_config",
    "terms",
]
