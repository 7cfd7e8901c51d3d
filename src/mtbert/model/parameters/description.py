"""Which parts of a model some parameters are, in words: 'heads', 'modules lhuc', 'encoder layers 0-3'."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from itertools import groupby
from typing import NamedTuple

from mtbert.model.multitask import MultiTask
from mtbert.model.parameters.names import is_bias, is_norm, part_of, place_of


class Piece(NamedTuple):
    """Where in the encoder a parameter stands, and what it is."""

    place: str  # 'embeddings', 'layer 0', 'pooler'
    kind: str  # 'weights', 'biases', 'norm scales', 'norm shifts'


# kinds that have a word in common
COMMON = {
    frozenset({"norm scales", "norm shifts"}): "norms",
    frozenset({"biases", "norm shifts"}): "biases",
    frozenset({"weights", "norm scales"}): "weights",
}


def sizes_of(model: MultiTask, names: Collection[str]) -> dict[str, int]:
    """The sizes of these parameters summed by part: heads, modules by entry of the recipe, the encoder.

    What is chosen as a whole is one part; what is not is said by task, layers or kind of parameter.
    """
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    chosen = {name: size for name, size in sizes.items() if name in names}
    found: Counter[str] = Counter()
    for part, describe in (("heads", _heads), ("modules", _modules), ("encoder", _encoder)):
        said = describe(model, [name for name in sizes if part_of(name) == part], chosen)
        for name, words in said.items():
            found[words] += chosen[name]
    return dict(found)


def _heads(model: MultiTask, names: list[str], chosen: Mapping[str, int]) -> dict[str, str]:
    """Chosen name -> its part."""
    whole = all(name in chosen for name in names)
    return {name: "heads" if whole else f"head {name.split('.')[1]}" for name in names if name in chosen}


def _modules(model: MultiTask, names: list[str], chosen: Mapping[str, int]) -> dict[str, str]:
    entries = Counter(plan.name for plan in model.plans)
    said = [
        f"modules {plan.name}" + (f" of {' and '.join(plan.tasks or model.tasks)}" if entries[plan.name] > 1 else "")
        for plan in model.plans
    ]
    return {name: said[int(name.split(".")[2])] for name in names if name in chosen}


def _encoder(model: MultiTask, names: list[str], chosen: Mapping[str, int]) -> dict[str, str]:
    pieces = {name: _piece(name) for name in names}
    kinds = {pieces[name].kind for name in names if name in chosen}
    left = {pieces[name].kind for name in names if name not in chosen}
    if not kinds & left:
        said = f"encoder {_said(kinds)}" if left else "encoder"
        return {name: said for name in names if name in chosen}
    return _places(pieces, chosen)


def _places(pieces: Mapping[str, Piece], chosen: Mapping[str, int]) -> dict[str, str]:
    """Layers that follow each other are said together where the same of them was chosen."""
    kinds: dict[str, str] = {}
    for place in dict.fromkeys(pieces[name].place for name in pieces if name in chosen):
        own = [name for name in pieces if pieces[name].place == place]
        some = {pieces[name].kind for name in own if name in chosen}
        kinds[place] = "" if all(name in chosen for name in own) else f" {_said(some)}"

    said: dict[str, str] = {}
    for (_, kind), run in groupby(enumerate(kinds), lambda one: (_number(one[1], one[0]), kinds[one[1]])):
        places = [place for _, place in run]
        joined = places[0] if len(places) == 1 else f"{places[0].replace('layer', 'layers')}-{places[-1].split()[1]}"
        said |= dict.fromkeys(places, f"encoder {joined}{kind}")
    return {name: said[pieces[name].place] for name in pieces if name in chosen}


def _number(place: str, position: int) -> int | str:
    """The same for layers that follow each other, and for nothing else."""
    layer = re.fullmatch(r"layer (\d+)", place)
    return int(layer[1]) - position if layer else place


def _piece(name: str) -> Piece:
    plain, norm = ("biases", "norm shifts") if is_bias(name) else ("weights", "norm scales")
    return Piece(place_of(name), norm if is_norm(name) else plain)


def _said(kinds: Collection[str]) -> str:
    return COMMON.get(frozenset(kinds)) or " and ".join(sorted(kinds))
