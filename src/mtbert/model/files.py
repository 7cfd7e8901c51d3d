"""The files of a model folder, read so that damage is one message that names the file.

`seal` writes the checksum of every file of a folder into its manifest.json; `verify` finds a changed byte by it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mtbert.errors import Mistake, shown

T = TypeVar("T")

MANIFEST = "manifest.json"
OUTPUTS = "outputs.safetensors"  # beside a kept model: task -> what it says of its dev rows (N, outputs)
REMEDY = "copy the folder anew from where it is whole, or train again"
AGAIN = "remove it: what it holds is computed again where it is asked for"
POINTER = b"version https://git-lfs.github.com/"  # how a file begins that Git LFS has put in the place of a large one


def seal(folder: Path) -> None:
    """Write the SHA-256 of every file under a folder into its manifest."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    sums = {path.relative_to(folder).as_posix(): checksum(path) for path in files}
    (folder / MANIFEST).write_text(_manifest(sums), encoding="utf-8")


def verify(folder: Path) -> None:
    """Compare every file that a folder's manifest names with its checksum; OUTPUTS may be gone, as a model gives them.

    A folder without a manifest, as transformers or format 1 of a run wrote it, passes. Raises Mistake naming the file
    that is missing or altered.
    """
    for name, expected in sealed(folder).items():
        path = folder / name
        if name == OUTPUTS and not path.exists():
            continue
        if not path.is_file():
            raise Mistake(f"{path} is missing: {folder / MANIFEST} names it; {REMEDY}")
        if checksum(path) != expected:
            _refuse_pointer(path)
            remedy = AGAIN if name == OUTPUTS else REMEDY
            raise Mistake(f"{path} is damaged: it is not the file that was written (by its SHA-256); {remedy}")


def sealed(folder: Path) -> dict[str, str]:
    """File -> SHA-256 as the manifest of a folder says; empty where it has none. Raises Mistake where it is damaged."""
    path = folder / MANIFEST
    if not path.exists():
        return {}
    content = read_json(path)
    sums = content.get("sha256")
    # any changed byte leaves text that is not what `seal` would have written
    if not isinstance(sums, dict) or _manifest(sums) != path.read_text(encoding="utf-8"):
        raise Mistake(f"{path} is damaged; {REMEDY}")
    for name, expected in sums.items():
        inside = not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts
        if not (isinstance(expected, str) and inside):
            raise Mistake(f"{path} is damaged; {REMEDY}")
    return sums


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Mistakes about what a file says begin with the file's name."""
    try:
        yield
    except Mistake as mistake:
        raise Mistake(f"{path}: {mistake}") from None


def checksum(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; raises Mistake where there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Mistake(f"there is no {path}") from None
    except RecursionError:
        raise Mistake(f"{path} is nested too deeply to be read") from None
    except ValueError as error:
        _refuse_pointer(path)
        raise Mistake(f"{path} is not JSON: {error}") from None
    except OSError as error:
        raise Mistake(f"{path} cannot be read: {error.strerror or error}") from None
    if not isinstance(content, dict):
        raise Mistake(f"{path} holds {shown(content, 60)} where an object with keys is expected")
    return content


def write_json(content: Any, path: Path) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; raises Mistake if it is missing, damaged, or a pointer of Git LFS."""
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except FileNotFoundError:
        raise Mistake(f"there is no {path}") from None
    except OSError as error:
        raise Mistake(f"{path} cannot be read: {error.strerror or error}") from None
    # beside its own error the library lets pass those of torch, for types and sizes that torch does not have
    except (SafetensorError, RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        _refuse_pointer(path)
        raise Mistake(f"{path} cannot be read: {error}") from None
    return tensors


def check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise Mistake where a tensor holds nan or inf."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise Mistake(f"{path} is damaged: '{name}' holds values that are not numbers (nan or inf); {REMEDY}")


def check_fit(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path, beside: str) -> None:
    """Raise Mistake unless names, types and shapes of the tensors found are those expected; `beside` says by what."""
    for name in sorted({*found, *expected}):
        if name not in found:
            raise Mistake(f"{path} does not fit {beside}: it has no '{name}'")
        if name not in expected:
            raise Mistake(f"{path} does not fit {beside}: it also holds '{name}'")
        ours, theirs = _said(expected[name]), _said(found[name])
        if ours != theirs:
            raise Mistake(f"{path} does not fit {beside}: '{name}' is {theirs}, not {ours}")


def checked(kind: Any, value: Any, place: str) -> Any:
    """A value of this type; raises Mistake naming its place in the file where it is none."""
    return validated(lambda: TypeAdapter(kind).validate_python(value), place)


def validated(validate: Callable[[], T], place: str) -> T:
    """What a validator of pydantic's gives; raises Mistake naming the place of the first value that it refuses."""
    try:
        return validate()
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, (place, *first["loc"]) if place else first["loc"]))
        raise Mistake(f"{where} is {shown(first['input'], 60)}: {first['msg'][0].lower()}{first['msg'][1:]}") from None


def _manifest(sums: Mapping[str, Any]) -> str:
    return json.dumps({"sha256": sums}, indent=2, ensure_ascii=False) + "\n"


def _refuse_pointer(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(len(POINTER)) == POINTER:
            raise Mistake(f"{path} is a pointer of Git LFS, not the file itself; fetch it with `git lfs pull`")


def _said(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
