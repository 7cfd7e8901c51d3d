"""What the columns of a person's table are for: texts, classes, scores, names of rows.

The rules are few and can be told to the person. A column of labels has few different values for its rows, or numbers; a
column of text has many, and long ones. Two columns of text are a pair where their names are alike, or where the texts
of a row have more words in common than those of different rows. Beside other labels, a column that is called `genre`,
`source` and the like says where rows are from.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Literal

import pyarrow as pa

from mtbert.data.formats.base import Table
from mtbert.data.formats.cells import as_texts, is_time, is_value
from mtbert.data.label_cells import as_lists, is_list

Role = Literal["id", "text", "class", "score", "number", "list", "time", "comma", "address", "nothing"]

MOST_CLASSES = 1000
ROWS_A_CLASS = 3  # on average, at least
MOST_WHOLE_NUMBERS = 21  # different ones that may be classes: 0 to 20
WORDS_IN_A_NAME = 3.0  # of a class, on average, at most
SEPARATORS = ("|", ";", ",")  # between the labels of a row, where they stand in one cell
ALIKE = 500  # rows whose texts are compared
SHARED = 0.2  # of the words of a row's two texts, that they share where more than two columns hold texts
NAMES_OF_ROWS = re.compile(
    r"(?i:(?:.*[\W_])?(?:[a-z]?id|idx|index|guid|uuid|nr|key)\d*(?:[\W_].*)?|unnamed: \d+|)|.*[a-z]I[Dd]\d*"
)
NAMES_OF_SCORES = re.compile(r"score|rating|similarity|relatedness|points|grade|stars|percent", re.IGNORECASE)
NAMES_OF_ORIGINS = re.compile(
    r"(?:.*[\W_])?(?:genre|domain|source|origin|file|file_?name|year|data_?set|corpus|annotator|worker|language|lang)"
    r"(?:[\W_]?[a-z\d])?",
    re.IGNORECASE,
)
NUMBERED = re.compile(r"[!-~]*\d[!-~]*")  # as in tr-0017
DAY = re.compile(r"\d{4}-\d\d?-\d\d?([T ].*)?|\d\d?[./]\d\d?[./]\d{2,4}( .*)?|\d\d?:\d\d(:\d\d)?")
COMMA = re.compile(r"[-+]?\d+(,\d+)?")  # a number with a comma for the decimal point
ADDRESS = re.compile(r"(?:[a-z]+://|www\.)\S+", re.IGNORECASE)  # of a page
PARTNERS = (
    {"a", "b"}, {"first", "second"}, {"left", "right"}, {"one", "two"}, {"x", "y"},
    {"premise", "hypothesis"}, {"source", "target"}, {"original", "paraphrase"},
    {"query", "document"}, {"query", "passage"}, {"query", "doc"},
    {"question", "answer"}, {"question", "context"}, {"question", "passage"}, {"question", "sentence"},
)  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A column of a table as texts, with '' where a row has nothing there."""

    name: str
    cells: list[str]
    nested: bool = False  # whether it holds lists or records
    time: bool = False
    lists: Sequence[Sequence[str]] = ()  # what its lists hold, one a row; none where it holds no lists
    named: bool = True  # by the person, so that its name tells something
    separator: str = ""  # what stands between the entries of its lists, where they were read from texts

    @cached_property
    def counts(self) -> Counter[str]:
        """How often each value stands there, empty ones aside."""
        counts = Counter(self.cells)
        counts.pop("", None)
        return counts

    @cached_property
    def labels(self) -> Counter[str]:
        """How often each value, or each entry of its lists, stands there."""
        return Counter(entry for entries in self.lists for entry in entries) if self.lists else self.counts

    @property
    def holds_sets(self) -> bool:
        """Whether its lists are several labels a row: few different ones, none twice in a row, two or more in some."""
        few = 2 <= len(self.labels) <= min(MOST_CLASSES, self.labels.total() / ROWS_A_CLASS)
        each_once = all(len(set(entries)) == len(entries) for entries in self.lists)
        return few and each_once and max(map(len, self.lists)) > 1

    @cached_property
    def filled(self) -> int:
        return sum(self.counts.values())

    @cached_property
    def numbers(self) -> list[float]:
        """The different values as numbers; empty where one of them is none."""
        return [float(value) for value in self.counts] if all(map(is_number, self.counts)) else []

    @property
    def whole(self) -> bool:
        """Whether all values are whole numbers."""
        return bool(self.numbers) and all(number.is_integer() for number in self.numbers)

    @property
    def length(self) -> float:
        """Characters of a cell on average."""
        return sum(len(value) * count for value, count in self.counts.items()) / max(1, self.filled)

    @property
    def words(self) -> float:
        """Words of a cell on average."""
        return sum(len(value.split()) * count for value, count in self.counts.items()) / max(1, self.filled)

    @cached_property
    def role(self) -> Role:
        """What it is for, judged by itself."""
        different = len(self.counts)
        if self.nested or _all_match(re.compile(r"\[.*\]", re.DOTALL), self.counts):
            return "list"
        if self.time or _all_match(DAY, self.counts):
            return "time"
        if different < 2:
            return "nothing"
        if not self.numbers and _all_match(COMMA, self.counts):
            return "comma"
        if 2 * sum(bool(ADDRESS.fullmatch(value)) for value in self.counts) > different:
            return "address"  # `none` may stand between them
        all_different = different == self.filled
        if NAMES_OF_ROWS.fullmatch(self.name) and (self.numbers or self.words <= 1):
            return "id"
        few = different <= max(2, min(MOST_CLASSES, self.filled / ROWS_A_CLASS))
        if self.numbers:
            if not self.whole:
                return "score"
            counted_through = max(self.numbers) - min(self.numbers) + 1 == different
            indices = counted_through and min(self.numbers) in (0, 1) and not NAMES_OF_SCORES.search(self.name)
            if few and (different <= MOST_WHOLE_NUMBERS or indices):
                return "class"
            return "id" if counted_through and different == self.filled > 2 else "number"
        if few and self.words <= WORDS_IN_A_NAME and self.length <= 60:
            return "class"
        if all_different and self.words <= 1 and _all_match(NUMBERED, self.counts):
            return "id"
        return "text"

    @property
    def tells_origin(self) -> bool:
        """Whether it is called as what says where a row is from, which is seldom what is to be learned."""
        return self.named and bool(NAMES_OF_ORIGINS.fullmatch(self.name))

    @property
    def ordered(self) -> bool:
        """Whether its classes are numbers without a gap, of which there are more than two, as marks are."""
        return self.whole and len(self.numbers) > 2 and max(self.numbers) - min(self.numbers) + 1 == len(self.numbers)

    def among(self, rows: Sequence[int]) -> Column:
        """The same column of some rows."""
        lists = [self.lists[row] for row in rows] if self.lists else ()
        cells = [self.cells[row] for row in rows]
        return Column(self.name, cells, self.nested, self.time, lists, self.named, self.separator)

    def split(self, separator: str) -> Column:
        """The same column, what stands between separators in a cell as a list: an empty cell is an empty list."""
        lists = [[part for part in map(str.strip, cell.split(separator)) if part] for cell in self.cells]
        return Column(self.name, ["filled"] * len(lists), True, False, lists, self.named, separator)


def columns_of(table: Table) -> list[Column]:
    """The columns of a table that can be told apart by their names."""
    return [
        _column(name, table.columns.column(name))
        for name in table.names
        if name in table.columns.column_names and table.names.count(name) == 1
    ]


def _column(name: str, cells: pa.ChunkedArray) -> Column:
    if is_value(cells.type):
        texts = [(text or "").strip() for text in as_texts(cells).to_pylist()]
        column = Column(name, texts)
        return replace(column, lists=_entries(cells)) if column.role == "list" else column
    if is_list(cells.type):
        entries = _entries(cells)
        whole = ["" if cell is None else "filled" for cell in cells.to_pylist()]
        return Column(name, whole, nested=True, lists=entries)
    filled = ["" if cell is None else "filled" for cell in cells.to_pylist()]
    return Column(name, filled, nested=not is_time(cells.type), time=is_time(cells.type))


def _entries(cells: pa.ChunkedArray) -> list[list[str]]:
    """What each list holds, as texts; nothing where a row has none."""
    lists, _ = as_lists(cells, "|")
    return [[str(entry) for entry in entries or ()] for entries in lists.to_pylist()]


def sets_split(columns: Sequence[Column]) -> list[Column]:
    """The same columns, those split whose cells are several labels with a separator between them.

    Such are fewer labels than there are different cells, each of them a name, as `audio, phone`, `phone` and `audio`
    are of two. A column that may be a text is left whole where there is no other.
    """
    split = {one.name: sets for one in columns if (sets := _sets(one)) is not None}
    other_texts = any(one.role == "text" and one.name not in split for one in columns)
    return [split[one.name] if one.name in split and (one.role == "class" or other_texts) else one for one in columns]


def _sets(column: Column) -> Column | None:
    if column.role not in ("class", "text") or column.numbers:
        return None
    for separator in SEPARATORS:
        sets = column.split(separator)
        fewer = len(sets.labels) < len(column.counts)
        words = sum(len(label.split()) * count for label, count in sets.labels.items())
        if fewer and sets.holds_sets and words <= WORDS_IN_A_NAME * sets.labels.total():
            return sets
    return None


def is_number(text: str) -> bool:
    """Whether a text is a number that is neither infinite nor none at all."""
    try:
        return math.isfinite(float(text.replace("_", "no digit")))
    except ValueError:
        return False


def _all_match(pattern: re.Pattern[str], values: Counter[str]) -> bool:
    return bool(values) and all(pattern.fullmatch(value) for value in values)


def ways_to_read(columns: Sequence[Column]) -> list[tuple[str, ...]]:
    """The columns of text that a task may read, a pair or one, the likeliest way first; empty where none is text."""
    texts = sorted((one for one in columns if one.role == "text"), key=_richness, reverse=True)
    pairs = [_Pair(*sorted(two, key=columns.index)) for two in combinations(texts, 2)]
    alike = [pair for pair in pairs if pair.named_alike]
    if not alike:
        least = SHARED if len(texts) > 2 else 0.0
        alike = sorted((pair for pair in pairs if pair.shared > least), key=lambda pair: -pair.shared)
    alike.sort(key=lambda pair: (not pair.shared, pair.words_in_names))
    rest = [pair for pair in pairs if pair not in alike]
    return [*(pair.names for pair in alike), *((one.name,) for one in texts), *(pair.names for pair in rest)]


class _Pair:
    """Two columns of text that may be the two texts of each row."""

    def __init__(self, one: Column, other: Column) -> None:
        self.names = one.name, other.name
        self.named_alike = one.named and other.named and names_alike(*self.names)
        self.words_in_names = sum(len(_words(name)) for name in self.names)  # `sentence1_parse` is made of `sentence1`
        self.shared = _shared_words(one, other)


def _richness(column: Column) -> float:
    return column.length * len(column.counts) / max(1, column.filled)


def names_alike(one: str, other: str) -> bool:
    """Whether two columns are named as the two texts of a pair.

    >>> names_alike("#1 String", "#2 String"), names_alike("premise", "hypothesis"), names_alike("title", "body")
    (True, True, False)
    """
    if re.sub(r"\d+", "", one) == re.sub(r"\d+", "", other):
        return True
    ours, theirs = _words(one), _words(other)
    if len(ours) != len(theirs):
        return False
    differing = [{a.lower(), b.lower()} for a, b in zip(ours, theirs, strict=True) if a.lower() != b.lower()]
    return len(differing) == 1 and differing[0] in PARTNERS


def _words(name: str) -> list[str]:
    return re.split(r"[\W_]+|(?<=[a-z])(?=[A-Z])", name)


def _shared_words(one: Column, other: Column) -> float:
    """How much of their words the two texts of a row share, where that shows that the columns hold texts of one sort:
    those of a row share more than those of two; otherwise 0.

    A title has words in common with what stands below it, too, but is far shorter.
    """
    if max(one.length, other.length) > 2 * min(one.length, other.length):
        return 0.0
    rows = [row for row in range(len(one.cells)) if one.cells[row] and other.cells[row]][:ALIKE]
    if len(rows) < 3:
        return 0.0
    ours, theirs = ([set(column.cells[row].casefold().split()) for row in rows] for column in (one, other))
    together = sum(_common(ours, theirs)) / len(rows)
    half = len(rows) // 2
    apart = sum(_common(ours, [*theirs[half:], *theirs[:half]])) / len(rows)
    return together if together > 2 * apart + 0.02 else 0.0


def _common(ours: Sequence[set[str]], theirs: Sequence[set[str]]) -> Iterator[float]:
    return (len(a & b) / max(1, len(a | b)) for a, b in zip(ours, theirs, strict=True))


def words_and_tags(columns: Sequence[Column]) -> tuple[Column, Column] | None:
    """A column of words and one of a label for each: lists of equal lengths, fewer different ones in the latter."""
    lists = [one for one in columns if one.role == "list" and one.lists]
    for words in lists:
        for tags in lists:
            aligned = all(len(a) == len(b) for a, b in zip(words.lists, tags.lists, strict=True))
            if words is not tags and aligned and 2 <= len(tags.labels) <= min(len(words.labels) - 1, MOST_CLASSES):
                return words, tags
    return None


def say_the_same(one: Column, other: Column) -> bool:
    """Whether two columns of classes are the same labels in two spellings, as numbers and as names."""
    pairs = set(zip(one.cells, other.cells, strict=True))
    return len(pairs) == len(set(one.cells)) == len(set(other.cells))
