"""The token cache: a convenience that gives the tokens that were computed, and never stands in the way."""

from __future__ import annotations

import builtins
import errno
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mtbert.data import token_cache
from mtbert.data.token_cache import cache_folder
from mtbert.data.tokenizer import Tokenizer
from mtbert.data.tokens import Tokens
from mtbert.errors import Mistake
from tests.support.cases import each as each_case

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "film", "Film", "good", "a", "##a", "b", "##b", "c"]
TEXTS = ["good film", "", "abab ba", "zzz good", "🙂🙂 ok", "a" * 101, "   ", "good good", "film film film", "a b c"]


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer.from_pieces(VOCABULARY)


def each(tokens: Tokens) -> list[list[int]]:
    return [tokens.flat[a:b].tolist() for a, b in zip(tokens.starts[:-1], tokens.starts[1:], strict=True)]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MTBERT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tokens"


def column(texts: list[str]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(texts, pa.string())])


def test_the_cache_gives_the_tokens_that_were_computed(
    cache: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = tokenizer.encode(TEXTS)
    first = tokenizer.encode_once(column(TEXTS))

    def never(self: Tokenizer, texts: Iterable[str]) -> None:
        raise AssertionError("tokenised twice")

    monkeypatch.setattr(Tokenizer, "_encoded", never)
    second = tokenizer.encode_once(column(TEXTS))
    for tokens in (first, second):
        assert each(tokens) == each(computed)
        assert tokens.flat.dtype == np.int32
    assert isinstance(second.flat, np.memmap)


@pytest.mark.parametrize(
    "cut",
    [
        pa.chunked_array([[text] for text in TEXTS]),
        pa.chunked_array([TEXTS[:4], [], TEXTS[4:]], pa.string()),
        pa.chunked_array([pa.array(["before", *TEXTS, "after"]).slice(1, len(TEXTS))]),
        pa.chunked_array([pa.array(["x", *TEXTS[:6]]).slice(1), pa.array([*TEXTS[6:], "y"]).slice(0, len(TEXTS) - 6)]),
        pa.chunked_array([pa.array(TEXTS, pa.large_string())]),
        pa.chunked_array([pa.array(["before", *TEXTS, "after"], pa.large_string()).slice(1, len(TEXTS))]),
    ],
    ids=["one by one", "an empty chunk", "a slice", "two slices", "large", "a large slice"],
)
def test_the_cache_does_not_care_how_arrow_cut_the_column(
    cut: pa.ChunkedArray, cache: Path, tokenizer: Tokenizer
) -> None:
    tokenizer.encode_once(column(TEXTS))
    assert each(tokenizer.encode_once(cut)) == each(tokenizer.encode(TEXTS))
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize(
    "texts",
    [["ab", "c"], ["a", "bc"], ["abc"], ["abc", ""], ["", "abc"], ["c", "ab"], [], [""], ["", ""]],
    ids=str,
)
def test_other_texts_have_other_tokens(texts: list[str], cache: Path, tokenizer: Tokenizer) -> None:
    tokenizer.encode_once(column(["a", "b", "c"]))
    assert each(tokenizer.encode_once(column(texts))) == each(tokenizer.encode(texts))
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("empty", [pa.chunked_array([], pa.string()), pa.chunked_array([[]], pa.string())])
def test_a_column_without_rows_has_no_tokens(empty: pa.ChunkedArray, cache: Path, tokenizer: Tokenizer) -> None:
    assert len(tokenizer.encode_once(empty)) == 0


@pytest.mark.parametrize("size", [1, 3, len(TEXTS), 1000])
def test_the_cache_is_written_a_chunk_at_a_time(
    size: int, cache: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = tokenizer.encode(TEXTS)
    monkeypatch.setattr("mtbert.data.tokenizer.CHUNK", size)
    assert each(tokenizer.encode_once(column(TEXTS))) == each(computed)


def test_other_tokenizers_have_other_entries(cache: Path, tokenizer: Tokenizer) -> None:
    cased = Tokenizer.from_pieces(VOCABULARY, lowercase=False)
    assert each(tokenizer.encode_once(column(["Film"]))) == [[VOCABULARY.index("film")]]
    assert each(cased.encode_once(column(["Film"]))) == [[VOCABULARY.index("Film")]]


def test_two_runs_may_write_the_same_tokens(cache: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = Tokenizer._encoded
    times = []

    def overtaken(self: Tokenizer, texts: Iterable[str]) -> Any:
        monkeypatch.setattr(Tokenizer, "_encoded", encoded)
        self.encode_once(column(TEXTS))  # another run finishes first
        times.append(1)
        return encoded(self, texts)

    monkeypatch.setattr(Tokenizer, "_encoded", overtaken)
    assert each(tokenizer.encode_once(column(TEXTS))) == each(tokenizer.encode(TEXTS))
    assert times == [1]
    assert len(list(cache.iterdir())) == 1


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MTBERT_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    monkeypatch.delenv("MTBERT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "there"))
    assert cache_folder() == tmp_path / "there" / "mtbert"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "mtbert"


# ---- a cache that cannot be written or read


@pytest.fixture
def noted() -> Iterator[list[str]]:
    """What the library notes."""
    notes: list[str] = []
    listening = logging.Handler()
    listening.emit = lambda record: notes.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("mtbert").addHandler(listening)
    yield notes
    logging.getLogger("mtbert").removeHandler(listening)


def test_without_a_home_training_goes_on(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, noted: list[str]
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("MTBERT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert each(tokenizer.encode_once(column(TEXTS))) == each(tokenizer.encode(TEXTS))
    assert noted[0].startswith("the token cache is not used: there is no home folder")
    assert token_cache.entries() == []
    with pytest.raises(Mistake, match="there is no home folder; MTBERT_CACHE can name another place"):
        token_cache.clear()


def test_a_file_in_its_place_is_noted_and_left_alone(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noted: list[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("MTBERT_CACHE", str(place))
        assert each(tokenizer.encode_once(column(TEXTS))) == each(tokenizer.encode(TEXTS))
    assert (tmp_path / "file").read_text() == "mine"
    assert len(noted) == 2
    assert all(note.startswith("the token cache is not used: ") for note in noted)


def test_nothing_is_printed_by_the_library() -> None:
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("mtbert").handlers)


# what the cache asks of the disk, each of which may be refused, at its first call or a later one
CALLS: list[tuple[Any, str]] = [
    *((Path, name) for name in ("mkdir", "rename", "open", "read_text", "write_text", "iterdir", "stat", "is_dir")),
    *((os, name) for name in ("utime", "stat", "scandir", "kill")),
    *((np, name) for name in ("save", "load")),
    *((shutil, name) for name in ("rmtree",)),
    (tempfile, "mkdtemp"),
    (builtins, "open"),
]


@each_case(
    call=[(place, name) for place, name in CALLS],
    refused_from=[1, 2, 3],
    error=[errno.ENOSPC, errno.EACCES, errno.EIO],
    there=[False, True],
)
def test_whatever_the_disk_refuses_the_tokens_are_right(
    call: tuple[Any, str],
    refused_from: int,
    error: int,
    there: bool,
    tokenizer: Tokenizer,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MTBERT_CACHE", str(tmp_path_factory.mktemp("cache")))
    expected = each(tokenizer.encode(TEXTS))
    if there:
        tokenizer.encode_once(column(TEXTS))
    place, name = call
    real, calls = getattr(place, name), 0

    def refusing(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls >= refused_from:
            raise OSError(error, os.strerror(error))
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(place, name, refusing)
        refused = each(tokenizer.encode_once(column(TEXTS)))
    assert refused == expected
    assert each(tokenizer.encode_once(column(TEXTS))) == expected  # nothing torn is left behind


def with_a_file(path: Path) -> None:
    with_nothing(path)
    path.write_text("x")


def with_a_folder(path: Path) -> None:
    with_nothing(path)
    path.mkdir()


def with_a_link_to_nowhere(path: Path) -> None:
    with_nothing(path)
    path.symlink_to("nowhere")


def with_nothing(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 4)


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"0000")


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def of_another_kind(path: Path) -> None:
    path.write_text("[1]")


@each_case(
    part=[".", "flat.npy", "starts.npy", "sums.json"],
    damage=[with_a_file, with_a_folder, with_a_link_to_nowhere, with_nothing, cut, longer, emptied, of_another_kind],
)
def test_a_damaged_entry_is_made_anew(
    part: str, damage: Callable[[Path], None], cache: Path, tokenizer: Tokenizer
) -> None:
    tokenizer.encode_once(column(TEXTS))
    (entry,) = cache.iterdir()
    if part == "." and damage in (cut, longer, emptied, of_another_kind):
        return  # of files only
    damage(entry / part)
    assert each(tokenizer.encode_once(column(TEXTS))) == each(tokenizer.encode(TEXTS))
    (again,) = cache.iterdir()
    assert sorted(path.name for path in again.iterdir()) == ["flat.npy", "starts.npy", "sums.json"]


def test_a_flipped_byte_anywhere_is_found(cache: Path, tokenizer: Tokenizer) -> None:
    expected = each(tokenizer.encode_once(column(TEXTS)))
    (entry,) = cache.iterdir()
    for path in sorted(entry.iterdir()):
        for place in range(0, path.stat().st_size, 7):
            content = bytearray((entry / path.name).read_bytes())
            content[place] ^= 16
            (entry / path.name).write_bytes(content)
            assert each(tokenizer.encode_once(column(TEXTS))) == expected, (path.name, place)


# ---- what is left behind, and how much may be kept


def test_what_a_killed_writer_left_is_removed(cache: Path, tokenizer: Tokenizer) -> None:
    program = (
        "import os, signal\n"
        "from mtbert.data import token_cache\n"
        "def dying():\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "    yield\n"
        f"token_cache.cached({'a' * 32!r}, dying)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(cache.iterdir())) == 1
    (cache / "tmp_of_an_earlier_version").mkdir()
    os.utime(cache / "tmp_of_an_earlier_version", (0, 0))
    (cache / "another.1.still_writing").mkdir()

    tokenizer.encode_once(column(TEXTS))
    assert len([path for path in cache.iterdir() if len(path.name) == 32]) == 1
    assert {path.name for path in cache.iterdir() if len(path.name) != 32} == {"another.1.still_writing"}


def test_the_least_recently_used_goes_first(cache: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        tokenizer.encode_once(column([f"a b c {number}"]))
        newest = max(cache.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        os.utime(newest, (1_000 + number, 1_000 + number))
    entries = token_cache.entries()
    assert [entry.used for entry in entries] == [1_000, 1_001, 1_002, 1_003]
    tokenizer.encode_once(column(["a b c 0"]))  # used again

    monkeypatch.setenv("MTBERT_CACHE_GIB", str(3.5 * entries[0].bytes / 2**30))
    tokenizer.encode_once(column(["a b c 4"]))
    left = {entry.folder for entry in token_cache.entries()}
    assert len(left) == 3
    assert {entries[0].folder, entries[3].folder} < left


def test_a_cache_of_no_size_keeps_nothing_and_gives_the_tokens(
    cache: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTBERT_CACHE_GIB", "0")
    assert each(tokenizer.encode_once(column(TEXTS))) == each(tokenizer.encode(TEXTS))
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("given", ["much", "-1", "nan"])
def test_a_size_that_is_none_is_a_mistake(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTBERT_CACHE_GIB", given)
    with pytest.raises(Mistake, match=f"MTBERT_CACHE_GIB is '{given}', not a number of GiB"):
        token_cache.size_limit()


def test_a_cleared_cache_is_empty_and_tokens_in_use_stay(cache: Path, tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode_once(column(TEXTS))
    (cache / "tmp_left").mkdir()
    assert len(token_cache.entries()) == 1
    token_cache.clear()
    token_cache.clear()
    assert list(cache.iterdir()) == []
    assert each(tokens) == each(tokenizer.encode(TEXTS))
