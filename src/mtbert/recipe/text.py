"""A recipe as text: YAML without its traps, the line each part stands on, and key=value overrides."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mtbert.errors import Mistake, Place


class RecipeText:
    """A recipe as it came, and the lines its parts stand on."""

    def __init__(self, source: str | Path | Mapping[str, Any]) -> None:
        self.node: yaml.Node | None = None
        self._overridden: dict[str, str] = {}
        if isinstance(source, Mapping):
            self.name, self.folder = "recipe", Path()
            self.content: dict[str, Any] = _copied(source)
            return
        path = Path(source)
        self.name, self.folder = str(path), path.parent
        if not path.is_file():
            raise Mistake(f"there is no recipe {path}")
        try:
            loader = _Loader(path.read_text(encoding="utf-8"))
            self.node = loader.get_single_node()
            content = loader.construct_document(self.node) if self.node else None
        except UnicodeDecodeError:
            raise Mistake(f"{path} is not text in UTF-8") from None
        except yaml.MarkedYAMLError as error:
            line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
            raise Mistake(f"{path}{line}: {error.problem}") from None
        except yaml.YAMLError as error:
            raise Mistake(f"{path}: {error}") from None
        if not isinstance(content, dict):
            raise Mistake(f"{path} is not a recipe: it holds no `tasks:` and `stages:`")
        self.content = content

    def override(self, assignment: str) -> None:
        """Apply one `stages.0.batch_size=64`."""
        key, equals, value = assignment.partition("=")
        if not equals:
            raise Mistake(f"'{assignment}' is neither an option nor key=value")
        try:
            parsed = yaml.load(value, _Loader)
        except yaml.YAMLError:
            raise Mistake(f"{assignment}: '{value}' is not a YAML value") from None

        *path, last = key.split(".")
        place: Any = self.content
        for step in path:
            place = _entered(place, step, assignment)
        if isinstance(place, list):
            place[_index(place, last, assignment)] = parsed
        elif isinstance(place, dict):
            place[last] = parsed
        else:
            raise Mistake(f"{assignment}: '{'.'.join(path)}' holds {place!r}, which has no '{last}'")
        self._overridden[key] = assignment

    def say(self, place: Place, message: str) -> str:
        """A message about a place in the recipe, with file and line."""
        where = ".".join(map(str, place))
        return f"{self.at(place)}: {where + ': ' if where else ''}{message}"

    def at(self, place: Place) -> str:
        """'recipe.yaml, line 12' for a place in the recipe, or the nearest that the file shows."""
        spelt = ".".join(map(str, place))
        for key, assignment in self._overridden.items():
            if spelt == key or spelt.startswith(f"{key}."):
                return f"command line, {assignment}"
        if self.node is None:
            return self.name
        node, line = self.node, 0
        for depth, step in enumerate(place, start=1):
            if isinstance(node, yaml.MappingNode):
                found = [(key, value) for key, value in node.value if key.value == str(step)]
                if not found:
                    added = ".".join(map(str, place[:depth])) + "."
                    by = next((given for key, given in self._overridden.items() if key.startswith(added)), None)
                    if by:
                        return f"command line, {by}"
                    break
                # the last, as a key of one's own stands behind those it merged in
                line, node = found[-1][0].start_mark.line, found[-1][1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                line = node.start_mark.line
        return f"{self.name}, line {line + 1}"


def _entered(place: Any, step: str, assignment: str) -> Any:
    if isinstance(place, list):
        index = _index(place, step, assignment)
        if isinstance(place[index], str):
            place[index] = {"name": place[index]}
        return place[index]
    if not isinstance(place, dict):
        raise Mistake(f"{assignment}: {place!r} has no '{step}'")
    if isinstance(place.get(step), str):  # `optimizer: adamw` is short for `optimizer: {name: adamw}`
        place[step] = {"name": place[step]}
    return place.setdefault(step, {})


def _index(entries: list[Any], step: str, assignment: str) -> int:
    if not step.isdecimal() or int(step) >= len(entries):
        raise Mistake(f"{assignment}: there is no entry {step}; entries are 0 to {len(entries) - 1}")
    return int(step)


def _copied(given: Any) -> Any:
    """Nested dicts and lists anew, so that overrides do not reach the caller's; everything else as it is."""
    if isinstance(given, Mapping):
        return {key: _copied(value) for key, value in given.items()}
    return [_copied(value) for value in given] if isinstance(given, (list, tuple)) else given


class _Loader(yaml.SafeLoader):
    """YAML without its traps: a key given twice is an error, `5e-5` is a number, `yes`, `no`, `010` and `1:30` are
    texts.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [
            (tag, pattern)
            for tag, pattern in resolvers
            if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._own_keys_checked: set[yaml.MappingNode] = set()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Check the keys before those that are merged in (`<<:`) join them."""
        if node not in self._own_keys_checked:
            self._own_keys_checked.add(node)
            _check_keys(node)
        super().flatten_mapping(node)

    def construct_yaml_timestamp(self, node: Any) -> Any:
        try:
            return super().construct_yaml_timestamp(node)
        except ValueError:
            raise yaml.constructor.ConstructorError(
                None, None, f"there is no day '{node.value}'; put texts that look like one in quotes", node.start_mark
            ) from None


def _check_keys(node: yaml.MappingNode) -> None:
    first: dict[str, int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "a key is a word, not a list or braces", key.start_mark)
        if key.value in first:
            raise yaml.constructor.ConstructorError(
                None, None, f"'{key.value}' is given twice (first on line {first[key.value] + 1})", key.start_mark
            )
        first[key.value] = key.start_mark.line


def as_text(content: Any) -> str:
    """YAML that this reader and others read alike."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def as_line(content: Any) -> str:
    """The same in one line: lists and mappings in brackets."""
    line: str = yaml.dump(
        content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=True, width=10**6
    )
    return line.removesuffix("...\n").rstrip()  # the mark behind a lone word or number


class _Dumper(yaml.SafeDumper):
    """Puts every text in quotes that _Loader or another reader would take for something else."""


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _Loader.construct_yaml_timestamp)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
# only what is written as it was read: no octal (010) or hexadecimal, no base 60 (1:30), no signs between digits (1_000)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^(?:0|-?[1-9][0-9]*)$"), list("-0123456789"))
_FLOAT = re.compile(
    r"^[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|Inf)|\.(?:nan|NaN))$"
)
for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
