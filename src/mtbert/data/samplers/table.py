"""The table of samplers, by their names in a recipe."""

from __future__ import annotations

from mtbert.data.samplers.at_random import Annealed, Proportional, SquareRoot, Temperature, Weighted
from mtbert.data.samplers.base import Sampler
from mtbert.data.samplers.in_turn import (
    CycleToLongest,
    EqualRoundRobin,
    Interleaved,
    RoundRobin,
    StopAtShortest,
    Tail,
)
from mtbert.data.samplers.joint import Joint, JointByRatio, JointRows
from mtbert.data.samplers.sequential import EqualSplit, Sequential
from mtbert.registry import Registry

SAMPLERS: Registry[Sampler] = Registry(
    "sampler",
    {
        "proportional": Proportional,
        "square_root": SquareRoot,
        "temperature": Temperature,
        "annealed": Annealed,
        "weighted": Weighted,
        "round_robin": RoundRobin,
        "cycle_to_longest": CycleToLongest,
        "stop_at_shortest": StopAtShortest,
        "equal_round_robin": EqualRoundRobin,
        "interleaved": Interleaved,
        "tail": Tail,
        "sequential": Sequential,
        "equal_split": EqualSplit,
        "joint": Joint,
        "joint_by_ratio": JointByRatio,
        "joint_rows": JointRows,
    },
)
