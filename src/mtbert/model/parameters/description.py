"""Names in words for groups of parameters: 'heads', 'modules lhuc', 'encoder layers 0-3'."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from mtbert.model.multitask import MultiTask
from mtbert.model.parameters.names import is_bias, is_norm, part_of, place_of


class Piece(NamedTuple):
    """Where in the encoder a parameter is, and what kind of parameter it is."""

    place: str  # 'embeddings', 'layer 0', 'pooler'
    kind: str  # 'weights', 'biases', 'norm scales', 'norm shifts'


# kinds that have a common name when they come together
COMMON = {
    frozenset({"norm scales", "norm shifts"}): "norms",
    frozenset({"biases", "norm shifts"}): "biases",
    frozenset({"weights", "norm scales"}): "weights",
}


def sizes_of(model: MultiTask, names: Collection[str]) -> dict[str, int]:
    """Part of the model in words -> how many numbers its parameters hold, for the parameters of these names.

    A part that is chosen as a whole is named as a whole; otherwise it is told apart by task, by layers or by kind of
    parameter.
    """
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    chosen = {name: size for name, size in sizes.items() if name in names}
    found: Counter[str] = Counter()
    for part, describe in (("heads", _heads), ("modules", _modules), ("encoder", _encoder)):
        said = describe(model, [name for name in sizes if part_of(name) == part], chosen)
        for name, words in said.items():
            found[words] += chosen[name]
    return dict(found)


def layers_together(places: Sequence[str], to: str) -> dict[str, str]:
    """Place -> how to say it: layers that follow each other are said together, any other place is said by itself.

    >>> layers_together(["embeddings", "layer 0", "layer 1", "layer 3"], to=" to ")
    {'embeddings': 'embeddings', 'layer 0': 'layers 0 to 1', 'layer 1': 'layers 0 to 1', 'layer 3': 'layer 3'}
    """
    said: dict[str, str] = {}
    # layers that follow each other have the same difference between their number and their position
    for _, run in groupby(enumerate(places), lambda numbered: _number(numbered[1], numbered[0])):
        together = [place for _, place in run]
        first, last = together[0], together[-1]
        words = first if len(together) == 1 else f"{first.replace('layer', 'layers')}{to}{last.split()[1]}"
        said |= dict.fromkeys(together, words)
    return said


def _heads(model: MultiTask, names: list[str], chosen: Mapping[str, int]) -> dict[str, str]:
    """Chosen parameter -> the words for its head, or for all heads if every one of them is chosen."""
    whole = all(name in chosen for name in names)
    return {name: "heads" if whole else f"head {name.split('.')[1]}" for name in names if name in chosen}


def _modules(model: MultiTask, names: list[str], chosen: Mapping[str, int]) -> dict[str, str]:
    """Chosen parameter -> the words for its entry of the recipe, with its tasks if several entries have its name."""
    entries = Counter(plan.name for plan in model.plans)
    said = [
        f"modules {plan.name}" + (f" of {' and '.join(plan.tasks or model.tasks)}" if entries[plan.name] > 1 else "")
        for plan in model.plans
    ]
    return {name: said[int(name.split(".")[2])] for name in names if name in chosen}


def _encoder(model: MultiTask, names: list[str], chosen: Mapping[str, int]) -> dict[str, str]:
    """Chosen parameter -> the words for its kind if all of that kind are chosen, otherwise for its place."""
    pieces = {name: _piece(name) for name in names}
    kinds = {pieces[name].kind for name in names if name in chosen}
    left = {pieces[name].kind for name in names if name not in chosen}
    if not kinds & left:
        said = f"encoder {_said(kinds)}" if left else "encoder"
        return {name: said for name in names if name in chosen}
    return _places(pieces, chosen)


def _places(pieces: Mapping[str, Piece], chosen: Mapping[str, int]) -> dict[str, str]:
    """Chosen parameter -> the words for its place and, where not all of the place is chosen, for its kind."""
    kinds: dict[str, str] = {}  # place -> the kinds chosen there
    for place in dict.fromkeys(pieces[name].place for name in pieces if name in chosen):
        own = [name for name in pieces if pieces[name].place == place]
        some = {pieces[name].kind for name in own if name in chosen}
        kinds[place] = "" if all(name in chosen for name in own) else f" {_said(some)}"

    said: dict[str, str] = {}
    for kind, run in groupby(kinds, kinds.__getitem__):
        said |= {place: f"encoder {words}{kind}" for place, words in layers_together(list(run), to="-").items()}
    return {name: said[pieces[name].place] for name in pieces if name in chosen}


def _number(place: str, position: int) -> int | str:
    """A value that layers which follow each other at following positions share, and nothing else does."""
    layer = re.fullmatch(r"layer (\d+)", place)
    return int(layer[1]) - position if layer else place


def _piece(name: str) -> Piece:
    """Where a parameter of the encoder is and of what kind, as its name says."""
    plain, norm = ("biases", "norm shifts") if is_bias(name) else ("weights", "norm scales")
    return Piece(place_of(name), norm if is_norm(name) else plain)


def _said(kinds: Collection[str]) -> str:
    """Kinds of parameters in words."""
    return COMMON.get(frozenset(kinds)) or " and ".join(sorted(kinds))
