"""The table of combiners, by their names in a recipe."""

from __future__ import annotations

from mtbert.registry import Registry
from mtbert.training.combiners.balance import IMTLG, MGDA, AlignedMTL, CAGrad, UPGrad
from mtbert.training.combiners.base import Combiner
from mtbert.training.combiners.plain import Mean, Sum
from mtbert.training.combiners.surgery import GradDrop, GradVac, PCGrad

COMBINERS: Registry[Combiner] = Registry(
    "combiner",
    {
        "sum": Sum,
        "mean": Mean,
        "pcgrad": PCGrad,
        "gradvac": GradVac,
        "graddrop": GradDrop,
        "mgda": MGDA,
        "cagrad": CAGrad,
        "upgrad": UPGrad,
        "imtl_g": IMTLG,
        "aligned_mtl": AlignedMTL,
    },
)
