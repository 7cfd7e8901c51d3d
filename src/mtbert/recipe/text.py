"""A recipe as text: YAML without its traps, what it takes from others, the line each part stands on, overrides."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mtbert.data.formats.table import FORMATS
from mtbert.errors import Mistake, Place, shown
from mtbert.recipe.tables import TABLE, labels_of_tables

LIKE = "like"  # the key that names the file from which a recipe takes what it does not say itself
FOR_ALL = {"task_defaults": "tasks", "stage_defaults": "stages"}  # what each task, each stage does not say itself
EVERY = "*"  # in an override: every entry at this place
DEEPEST = 64  # mappings and lists inside of each other
MOST_PARTS = 1_000_000  # keys and values of a recipe, those counted anew that an alias (`*name`) repeats


@dataclass(frozen=True)
class Override:
    """One `stages.0.batch_size=64`, and where it stands."""

    assignment: str
    where: str = "command line"

    def __str__(self) -> str:
        return f"{self.where}, {self.assignment}"


@dataclass(frozen=True)
class Written:
    """One file of a recipe, or a dict, as its author wrote it."""

    name: str
    folder: Path  # that its paths are relative to
    content: dict[str, Any]
    node: yaml.Node | None = None  # the same with line numbers

    def say(self, place: Place, message: str) -> str:
        """A message about a place, with file and line."""
        return f"{self.at(place)}: {'.'.join(map(str, place))}: {message}"

    def at(self, place: Place) -> str:
        """'recipe.yaml, line 12' for a place, or for the nearest that the file shows."""
        *_, line = self.way_to(place)
        return self.name if self.node is None else f"{self.name}, line {line + 1}"

    def way_to(self, place: Place) -> tuple[int, bool, int]:
        """How far the way to a place can be followed here: how many steps, whether another recipe may go on, the line.

        Where the way ends at a mapping, a recipe that this one is like may have the missing key.
        """
        here: Any = self.content if self.node is None else self.node
        line = 0
        for depth, step in enumerate(place):
            below = _below(here, step)
            if below is None:
                return depth, isinstance(here, (Mapping, yaml.MappingNode)), line
            here, line = below
        return len(place), False, line


def read_written(path: Path) -> Written:
    """A YAML file of keys and values; raises Mistake with file and line where it is none."""
    if path.suffix.lower() in FORMATS or (path.is_dir() and any(one.suffix in FORMATS for one in path.iterdir())):
        raise Mistake(f"{path} holds data and is no recipe; `mtbert init {path}` writes a recipe for it")
    if not path.is_file():
        raise Mistake(f"there is no recipe {path}")
    try:
        node, content = _parsed(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise Mistake(f"{path} is not text in UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise Mistake(f"{path}{line}: {error.problem}") from None
    except yaml.YAMLError as error:
        raise Mistake(f"{path}: {error}") from None
    if not isinstance(content, dict):
        raise Mistake(f"{path} is not a recipe: it holds no `tasks:` and `stages:`")
    return Written(str(path), path.parent, content, node)


def _parsed(text: str) -> tuple[yaml.Node | None, Any]:
    """The nodes of a YAML text, which know their lines, and what they say; raises YAMLError where it is none."""
    loader = _Loader(text)
    node = loader.get_single_node()
    if node is None:
        return None, None
    _count_parts(node, {})
    return node, loader.construct_document(node)


def _count_parts(node: yaml.Node, known: dict[int, int]) -> int:
    """How many keys and values a node stands for, all that its aliases repeat counted again."""
    if id(node) not in known:
        known[id(node)] = 0  # while it is being counted
        below = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for entry in below for part in (entry if isinstance(entry, tuple) else (entry,))]
        known[id(node)] = 1 + sum(_count_parts(part, known) for part in parts)
    count = known[id(node)]
    if count == 0:
        raise _error("an alias (`*name`) stands inside of what it names", node)
    if count > MOST_PARTS:
        raise _error(f"aliases (`*name`) repeat each other: more than {MOST_PARTS:,} keys and values stand here", node)
    return count


def _error(problem: str, where: yaml.Event | yaml.Node) -> yaml.MarkedYAMLError:
    mark: Any = where.start_mark
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def with_those_it_is_like(written: Written) -> list[Written]:
    """A recipe, the one that it is like, the one that this is like, and so on.

    Raises Mistake, with file and line of the `like`, for one that is no name of a file, names a file that is missing,
    or goes round in a circle.
    """
    chain = [written]
    while (given := chain[-1].content.get(LIKE)) is not None:
        last = chain[-1]
        if not isinstance(given, (str, Path)):
            raise Mistake(last.say((LIKE,), f"is {shown(given)}, not the name of a recipe's file"))
        path = last.folder / Path(given).expanduser()
        if any(one.node is not None and Path(one.name).resolve() == path.resolve() for one in chain):
            circle = " -> ".join([*(one.name for one in chain), str(path)])
            raise Mistake(last.say((LIKE,), f"goes round in a circle: {circle}"))
        if not path.is_file():
            raise Mistake(last.say((LIKE,), f"there is no recipe {path}"))
        chain.append(read_written(path))
    return chain


def merged(contents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a recipe says, and what it leaves to those it is like, which follow it nearest first.

    Mappings are merged key by key, at any depth; everything else is replaced, lists too, and null takes a key away. A
    text that meets a mapping is its `name`, as `adamw` is short for `{name: adamw}`.
    """
    result: dict[str, Any] = {}
    try:
        for content in reversed(contents):
            result = _merge(result, content)
    except RecursionError:
        raise Mistake("a mapping holds itself: an alias (`*name`) stands inside of what it names") from None
    result.pop(LIKE, None)
    return result


def _merge(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in own.items():
        before = {"name": result[key]} if isinstance(result.get(key), str) else result.get(key)
        if value is None and key in result:
            del result[key]
        elif isinstance(value, Mapping):
            result[key] = _merge(before if isinstance(before, Mapping) else {}, value)
        else:
            result[key] = value
    return result


class RecipeText:
    """A recipe as it came, with what it takes from those it is like, and the lines on which its parts stand."""

    def __init__(self, source: str | Path | Mapping[str, Any]) -> None:
        own = Written("recipe", Path(), _copied(source)) if isinstance(source, Mapping) else read_written(Path(source))
        self.folder = own.folder
        self._chain = with_those_it_is_like(own)
        self._overridden: dict[str, Override] = {}
        self.content = {key: value for key, value in own.content.items() if key != LIKE}
        if len(self._chain) > 1:
            self.content = merged([own.content, *(one.content | _data_folder(one) for one in self._chain[1:])])

    def override(self, given: str | Override) -> None:
        """Apply one `stages.0.batch_size=64`, of the command line unless it says where it stands."""
        by = Override(given) if isinstance(given, str) else given
        keys, equals, value = by.assignment.partition("=")
        if not equals:
            raise Mistake(f"'{by.assignment}' is neither an option nor key=value")
        if keys == LIKE:
            raise Mistake(f"{by}: overrides come after what a recipe is like; write `like` into the recipe")
        try:
            _, parsed = _parsed(value)
        except yaml.YAMLError:
            raise Mistake(f"{by}: '{value}' is not a YAML value") from None

        for key in self._named(keys.split("."), by):
            self._set(key, _copied(parsed), by)

    def spelt_out(self) -> dict[str, Any]:
        """The content with the tasks of its tables among the others, and with what is said for all tasks or all stages
        merged into each, by the rule of `like`.
        """
        content = {key: value for key, value in self.content.items() if key not in (*FOR_ALL, TABLE)}
        of_tables = labels_of_tables(self.content, self.say)
        if of_tables and isinstance(content.get("tasks") or {}, Mapping):
            spelt = {name: _over(one.shared, one.own) for name, one in of_tables.items()}
            content["tasks"] = _merge(spelt, content.get("tasks") or {})
        for key, section in FOR_ALL.items():
            shared, entries = self.content.get(key) or {}, content.get(section)
            if not isinstance(shared, Mapping):
                raise Mistake(self.say((key,), f"holds {shown(shared)} where keys and values are expected"))
            if not shared:
                continue
            if isinstance(entries, Mapping):
                content[section] = {name: _over(shared, entry) for name, entry in entries.items()}
            elif isinstance(entries, list):
                content[section] = [_over(shared, entry) for entry in entries]
        return content

    def _named(self, path: Sequence[str], by: Override) -> list[str]:
        """The keys that an override means: `tasks.*.dropout` is one for each task."""
        if EVERY not in path:
            return [".".join(path)]
        place: Any = self.content
        before, after = path[: path.index(EVERY)], path[path.index(EVERY) + 1 :]
        for step in before:
            if isinstance(place, list):
                place = place[_index(place, step, by)]
            else:
                place = place.get(step) if isinstance(place, dict) else None
        if before == ["tasks"] and isinstance(place, (dict, type(None))):
            place = dict.fromkeys(labels_of_tables(self.content, self.say)) | (place or {})
        if not isinstance(place, (dict, list)) or not place:
            raise Mistake(f"{by}: there is nothing at '{'.'.join(before)}' for `*` to mean")
        entries = list(place) if isinstance(place, dict) else range(len(place))
        return [key for entry in entries for key in self._named([*before, str(entry), *after], by)]

    def _set(self, key: str, parsed: Any, by: Override) -> None:
        *path, last = key.split(".")
        place: Any = self.content
        for step in path:
            place = _entered(place, step, by)
        if isinstance(place, list):
            place[_index(place, last, by)] = parsed
        elif isinstance(place, dict):
            place[last] = parsed
        else:
            raise Mistake(f"{by}: '{'.'.join(path)}' holds {shown(place)}, which has no '{last}'")
        self._overridden[key] = by

    def say(self, place: Place, message: str) -> str:
        """A message about a place in the recipe, with file and line."""
        where = ".".join(map(str, place))
        return f"{self.at(place)}: {where + ': ' if where else ''}{message}"

    def at(self, place: Place) -> str:
        """'recipe.yaml, line 12' for a place in the recipe, or the nearest that its files show."""
        spelt = ".".join(map(str, place))
        for key, by in self._overridden.items():
            if spelt == key or spelt.startswith(f"{key}."):
                return str(by)
        written, depth = self._saying(place)
        if depth < len(place):
            elsewhere = self._elsewhere(place, own=max(depth - 2, 0))
            if elsewhere is not None:
                return self.at(elsewhere)
        if depth < len(place):
            added = ".".join(map(str, place[: depth + 1])) + "."
            below = next((by for key, by in self._overridden.items() if key.startswith(added)), None)
            if below:
                return str(below)
        return written.at(place)

    def _elsewhere(self, place: Place, own: int) -> Place | None:
        """Where else a key of a task or a stage stands: in a table, or where all of them have it.

        None unless that shows more of the way behind the task or the stage than the `own` steps that are shown there.
        """
        if len(place) < 2:
            return None
        best, most, tail = None, own, place[2:]
        heads: list[Place] = [(key,) for key, section in FOR_ALL.items() if section == place[0]]
        label = labels_of_tables(self.content, self.say).get(str(place[1])) if place[0] == "tasks" else None
        if label is not None:
            heads.insert(0, label.table)
            shows = self._steps_to((*label.place, *tail)) - len(label.place)
            if shows > own or own == 0:  # where neither shows more, the task begins where its label stands
                best, most = (*label.place, *tail), shows
        for head in heads:
            shows = self._steps_to((*head, *tail)) - len(head)
            if shows > most:
                best, most = (*head, *tail), shows
        return best

    def _steps_to(self, place: Place) -> int:
        """How many steps of the way to a place the files show, all of them where an override says what stands there."""
        spelt = ".".join(map(str, place))
        said = any(spelt == key or spelt.startswith(f"{key}.") for key in self._overridden)
        return len(place) if said else self._saying(place)[1]

    def _saying(self, place: Place) -> tuple[Written, int]:
        """The file that says what stands at a place, or else shows most of the way there, and how many steps of it."""
        best, furthest = self._chain[0], -1
        for written in self._chain:
            depth, may_go_on, _ = written.way_to(place)
            if depth > furthest:
                best, furthest = written, depth
            if not may_go_on:
                break  # what it says here replaces what the others say
        return best, furthest


def _over(shared: Mapping[str, Any], entry: Any) -> Any:
    """An entry with what is said for all where it says nothing itself; one that is no mapping is left to the reader."""
    return _merge(_copied(shared), entry) if isinstance(entry, Mapping) else entry


def _data_folder(written: Written) -> dict[str, Any]:
    """Where the data of a recipe is that another one is like: found from its own folder, which is the default too."""
    said = written.content.get("data")
    if said is None and written.content.get(LIKE) is not None:
        return {}  # left to the one that it is like
    if not isinstance(said, (str, type(None))):
        return {"data": said}
    return {"data": str((written.folder / (said or ".")).resolve())}


def _below(here: Any, step: str | int) -> tuple[Any, int] | None:
    """What stands at a key, or at a number in a list, and on which line; None where there is nothing."""
    if isinstance(here, yaml.MappingNode):
        entries = [(value, key.start_mark.line) for key, value in here.value if key.value == str(step)]
        return entries[-1] if entries else None  # the last, as a key of one's own stands behind those it merged in
    if isinstance(here, yaml.SequenceNode):
        found = here.value[step] if isinstance(step, int) and step < len(here.value) else None
        return None if found is None else (found, found.start_mark.line)
    if isinstance(here, yaml.ScalarNode):
        return (here, here.start_mark.line) if step == "name" else None  # `adamw` is short for `{name: adamw}`
    known = (isinstance(here, Mapping) and step in here) or (
        isinstance(here, list) and isinstance(step, int) and step < len(here)
    )
    return (here[step], 0) if known else None


def _entered(place: Any, step: str, by: Override) -> Any:
    if isinstance(place, list):
        index = _index(place, step, by)
        if isinstance(place[index], str):
            place[index] = {"name": place[index]}
        return place[index]
    if not isinstance(place, dict):
        raise Mistake(f"{by}: {shown(place)} has no '{step}'")
    if isinstance(place.get(step), str):  # `optimizer: adamw` is short for `optimizer: {name: adamw}`
        place[step] = {"name": place[step]}
    return place.setdefault(step, {})


def _index(entries: list[Any], step: str, by: Override) -> int:
    if not step.isdecimal() or int(step) >= len(entries):
        raise Mistake(f"{by}: there is no entry {step}; entries are 0 to {len(entries) - 1}")
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
        self._depth = 0

    def get_event(self) -> yaml.Event:
        """The next event, looked at before a node is made of it: nodes inside of each other take a stack."""
        event: yaml.Event = super().get_event()  # type: ignore[no-untyped-call]
        self._depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if self._depth > DEEPEST:
            raise _error(f"more than {DEEPEST} lists and mappings stand inside of each other", event)
        if isinstance(event, yaml.ScalarEvent) and "\0" in event.value:
            raise _error("the character NUL, which no name and no path may hold, stands here", event)
        return event

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
