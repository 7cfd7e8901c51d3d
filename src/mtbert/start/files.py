"""Which of a person's files belong together, as training, dev and test rows of one table, and how each is read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mtbert.data.formats.base import Asked, Quotes, Table
from mtbert.data.formats.table import FORMATS
from mtbert.data.tables import read_table
from mtbert.errors import Gathering, Mistake
from mtbert.start.columns import Column, columns_of, is_number

SPLITS = {
    "train": {"train", "training", "trn"},
    "dev": {"dev", "devel", "development", "val", "valid", "validation", "eval", "trial"},
    "test": {"test", "testing", "heldout"},
}
COMMON_NAMES = {"", "data", "dataset", "datasets", "files", "raw"}  # folders named so say nothing of a task
QUOTES: tuple[Quotes, ...] = ("checked", "none", "trusted")  # in the order in which they are tried
NAMES_BY_ROLE = {"id": "id", "text": "text", "class": "label", "score": "score", "list": "labels"}


@dataclass(frozen=True)
class File:
    """A file as it was read, and how its quotes are meant."""

    path: Path
    columns: list[Column]
    quotes: Quotes
    doubtful: int  # rows that may hold what is not theirs, or that could not be read
    left_out: int  # those that could not be read
    header: tuple[str, ...] = ()  # the names of its columns, where it has no line of names

    @property
    def rows(self) -> int:
        return len(self.columns[0].cells) if self.columns else 0

    def named(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)


@dataclass
class FileSet:
    """The files of one table: split -> file."""

    name: str
    files: dict[str, File] = field(default_factory=dict)


def read_sets(paths: Sequence[Path]) -> list[FileSet]:
    """The sets that these files and folders hold; raises Mistakes for all that cannot be read."""
    gathering, sets = Gathering(), dict[tuple[Path, str], FileSet]()
    found = list(dict.fromkeys(path for given in paths for path in _files_in(given, gathering)))
    names = {path: _name_and_split(path) for path in found}
    trained = {(path.parent, name) for path, (name, split, _) in names.items() if split == "train"}
    for path, (name, split, before) in names.items():
        if split != "train" and (path.parent, name) not in trained and (path.parent, before) in trained:
            name = before  # sst-test-student beside sst-train
        with gathering.going_on():
            file = read_file(path)
            place = sets.setdefault((path.parent, name), FileSet(_usable(name, path)))
            if split in place.files:
                raise Mistake(
                    f"{path} and {place.files[split].path} are both {split} rows of '{place.name}', by their names; "
                    "give one of them, or rename it"
                )
            place.files[split] = file
    gathering.stop()
    for one in sets.values():
        if "train" not in one.files:  # a lone file called test.csv is what there is to learn from
            split = next(split for split in ("dev", "test") if split in one.files)
            if len(one.files) > 1:
                there = ", ".join(str(file.path) for file in one.files.values())
                raise Mistake(f"'{one.name}' has no training rows: {there}; name a file with `train` in its name too")
            one.files["train"] = one.files.pop(split)
        _name_columns(one)
    return list(sets.values())


def _name_columns(files: FileSet) -> None:
    """Name the columns of files without a line of names, in all of them by what they are for in the training file."""
    train = files.files["train"]
    if not train.header:
        return
    roles = [NAMES_BY_ROLE.get(column.role, "column") for column in train.columns]
    names = [role if roles.count(role) == 1 else f"{role}_{1 + roles[:n].count(role)}" for n, role in enumerate(roles)]
    for split, file in files.files.items():
        if not file.header or len(file.header) != len(names):
            # few rows may hide that the first line is one of them; it may have more cells than most lines
            file = read_file(file.path, train.header)
        columns = [replace(column, name=name, named=False) for column, name in zip(file.columns, names, strict=True)]
        files.files[split] = replace(file, columns=columns, header=tuple(names))


def read_file(path: Path, header: tuple[str, ...] = ()) -> File:
    """A file, its quotes meant as they fit it best; raises Mistake where it cannot be read.

    Where its first line names no columns, or a `header` is given, the columns are numbered.
    """
    best: tuple[float, Quotes, Table] | None = None
    refused: Mistake | None = None
    for quotes in QUOTES:
        try:
            table = read_table(path, Asked(None, quotes, header))
        except Mistake as mistake:
            refused = refused or mistake
            continue
        for doubt in table.doubts:
            if doubt.sort == "bytes":  # not to be left out: saved anew, the file has no such rows
                raise doubt.refusal(path)
        in_doubt = _share_in_doubt(table)
        if best is None or in_doubt < best[0]:
            best = in_doubt, quotes, table
        if not table.doubts:
            break
    if best is None:
        assert refused is not None  # every way to read it was tried
        raise refused
    _, quotes, table = best
    columns = columns_of(table)
    if not table.typed and not header:
        if _is_a_row(table.names, columns):
            return read_file(path, tuple(f"column_{1 + place}" for place in range(len(table.names))))
        twice = [name for name in table.names if name and table.names.count(name) > 1]
        if twice:
            raise Mistake(f"{path}: several columns are named '{twice[0]}'; rename all but one")
    if not columns or not columns[0].cells:
        raise Mistake(f"{path} is empty: it has no rows below its header")
    return File(path, columns, quotes, len(table.doubts), _left_out(table), header)


def _share_in_doubt(table: Table) -> float:
    """Of the rows; not their number, for quotes that are left open make few rows of many."""
    return len(table.doubts) / float(max(1, table.columns.num_rows + _left_out(table)))


def _left_out(table: Table) -> int:
    return sum(doubt.row is None for doubt in table.doubts)


def _is_a_row(names: Sequence[str], columns: Sequence[Column]) -> bool:
    """Whether the first line of a CSV or TSV file looks like the others, and so names no columns."""
    text = any(len(name.split()) > 6 for name in names)
    number = any(is_number(one.name) and one.role in ("class", "score", "number") for one in columns)
    label = any(one.role == "class" and one.name.strip() in one.counts for one in columns)
    return text or number or label or any(is_number(name) and names.count(name) > 1 for name in names)


def _files_in(given: Path, gathering: Gathering) -> Iterable[Path]:
    """A file, a folder that is one table, or the files in a folder and in those below it."""
    if not given.is_dir():
        return [given]
    if (given / "state.json").exists():
        return [given]
    if (given / "dataset_dict.json").exists():
        return sorted(path for path in given.iterdir() if path.is_dir())
    inside = sorted(path for path in given.rglob("*") if path.suffix.lower() in FORMATS and path.is_file())
    if not inside:
        gathering.messages.append(f"{given} holds no file that can be read (endings: {', '.join(FORMATS)})")
    if len(inside) > 1 and {path.suffix for path in inside} <= {".parquet", ".arrow"}:
        splits = [_name_and_split(path)[1] for path in inside]
        if splits == ["train"] * len(inside):  # the parts of one table
            return [given]
    return inside


def _name_and_split(path: Path) -> tuple[str, str, str]:
    """What a file is called without the word for its split, the split (train where none is named), and what stands
    before that word.
    """
    stem = re.sub(r"-\d+-of-\d+", "", path.name if path.is_dir() else path.stem)
    words = [word for word in re.split(r"[\W_]+|(?<=[a-z])(?=[A-Z])", stem) if word]
    for index in reversed(range(len(words))):
        for split, spelt in SPLITS.items():
            if words[index].lower() in spelt:
                return _joined(words[:index] + words[index + 1 :]), split, _joined(words[:index])
    return _joined(words), "train", _joined(words)


def _joined(words: Sequence[str]) -> str:
    return "_".join(words).lower()


def _usable(name: str, path: Path) -> str:
    """The name, or that of the folder where the files are called train and dev only."""
    if name not in COMMON_NAMES:
        return name
    return next((one.name for one in path.resolve().parents if one.name.lower() not in COMMON_NAMES), "task")
