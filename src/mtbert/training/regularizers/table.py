"""Every regularizer there is."""

from __future__ import annotations

from mtbert.registry import Registry
from mtbert.training.regularizers.base import Regularizer
from mtbert.training.regularizers.bregman import Bregman, BregmanR2Exact, BregmanRefresh
from mtbert.training.regularizers.l2_to_pretrained import L2ToPretrained
from mtbert.training.regularizers.noise import Gaussian, NoiseStability
from mtbert.training.regularizers.r_drop import RDrop
from mtbert.training.regularizers.smart import Smart, SmartMtdnn
from mtbert.training.regularizers.smart_weight import SmartWeight, smart_r2_exact

REGULARIZERS: Registry[Regularizer] = Registry(
    "regularizer",
    {
        "smart": Smart,
        "smart_mtdnn": SmartMtdnn,
        "smart_weight": SmartWeight,
        "smart_r2_exact": smart_r2_exact,
        "bregman": Bregman,
        "bregman_refresh": BregmanRefresh,
        "bregman_r2_exact": BregmanR2Exact,
        "gaussian": Gaussian,
        "noise_stability": NoiseStability,
        "r_drop": RDrop,
        "l2_to_pretrained": L2ToPretrained,
    },
)
