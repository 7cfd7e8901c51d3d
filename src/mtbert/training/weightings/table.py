"""The table of loss weightings, by their names in a recipe."""

from __future__ import annotations

from mtbert.registry import Registry
from mtbert.training.weightings.base import Weighting
from mtbert.training.weightings.dwa import DynamicWeightAverage
from mtbert.training.weightings.famo import FAMO
from mtbert.training.weightings.fixed import Fixed
from mtbert.training.weightings.gradnorm import GradNorm
from mtbert.training.weightings.uncertainty import Uncertainty

WEIGHTINGS: Registry[Weighting] = Registry(
    "loss weighting",
    {"fixed": Fixed, "uncertainty": Uncertainty, "dwa": DynamicWeightAverage, "gradnorm": GradNorm, "famo": FAMO},
)
