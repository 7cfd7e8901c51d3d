"""Make the documentation site in build/: `make docs`. Everything comes from the repository, nothing is fetched.

Beside the pages in docs/ it writes one for every family of methods, from the tables, and one for the Python interface,
from docstrings. Ends with a message and exit code 1 where a link leads nowhere.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import yaml

import mtbert
from mtbert.recipe.catalogue import Method, Option, list_methods
from mtbert.runs.folder import Run
from mtbert.runs.listener import Listener
from mtbert.serving.predictor import Predictor
from mtbert.training.loggers.base import Logger

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build"
ELSEWHERE = {"README.md": "index.md", "CHANGELOG.md": "CHANGELOG.md", "CONTRIBUTING.md": "CONTRIBUTING.md"}
LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)]*)?\))")


def main() -> None:
    """Write the source, build the site, check its links."""
    shutil.rmtree(BUILD / "source", ignore_errors=True)
    shutil.rmtree(BUILD / "site", ignore_errors=True)
    nav = write_source(BUILD / "source")
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    (BUILD / "mkdocs.yml").write_text(yaml.safe_dump(config | {"nav": nav}, sort_keys=False), encoding="utf-8")
    builder = ["zensical", "build"] if find_spec("zensical") else ["mkdocs", "build", "--strict"]
    subprocess.run([sys.executable, "-m", *builder, "-f", str(BUILD / "mkdocs.yml")], check=True, cwd=BUILD)
    dead = dead_links(BUILD / "site")
    for line in dead:
        print(f"dead link: {line}", file=sys.stderr)
    print(f"{BUILD / 'site' / 'index.html'}: {len(list((BUILD / 'site').rglob('*.html')))} pages")
    sys.exit(1 if dead else 0)


def write_source(folder: Path) -> list[Any]:
    """The pages as Markdown in a folder, and the site's list of them."""
    pages = {path: ELSEWHERE[path.name] for path in ROOT.glob("*.md") if path.name in ELSEWHERE}
    pages |= {path: path.relative_to(ROOT / "docs").as_posix() for path in sorted((ROOT / "docs").rglob("*.md"))}
    pages |= {path: f"results/{path.stem.lower()}.md" for path in sorted((ROOT / "benchmarks").glob("*.md"))}
    for path, name in pages.items():
        _write(folder / name, _moved(path, name, pages, folder))
    made = {"api.md": api_page(), "notebook.md": notebook_page(ROOT / "docs" / "notebook.ipynb")}
    families = {f"methods/{_file(family)}.md": (family, methods) for family, methods in list_methods().items()}
    made |= {name: family_page(family, methods) for name, (family, methods) in families.items()}
    for name, content in made.items():
        _write(folder / name, content)
    nav: list[Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    for part in nav:
        if "Methods" in part:
            part["Methods"] += [{family.capitalize(): name} for name, (family, _) in families.items()]
        if "Results" in part:
            part["Results"] = sorted(name for name in pages.values() if name.startswith("results/"))
    return nav


def family_page(family: str, methods: dict[str, Method]) -> str:
    """All methods of a table: what each does, its source, its options and a line of a recipe."""
    parts = [f"# {family.capitalize()}", "Made from the table that recipes name from; `mtbert methods` prints it."]
    for name, method in methods.items():
        text = "\n".join(line for line in method.text.splitlines() if not line.startswith("Source:")).strip()
        parts += [f"## {name}", _escaped(text)]
        for source in method.sources:
            where = f", {source.place}" if source.place else ""
            parts.append(
                f"Source: [{source.work}]({source.link}){where}" if source.link else f"Source: {source.work}{where}"
            )
        if method.size:
            parts.append(f"Size with the defaults: {method.size}.")
        if method.options:
            rows = [
                f"| `{one}` | {_cell(option.values)} | {_usual(option)} |" for one, option in method.options.items()
            ]
            parts.append("\n".join(["| option | values | default |", "|---|---|---|", *rows]))
        parts.append(f"```yaml\n{method.example}\n```")
    return "\n\n".join(parts) + "\n"


def api_page() -> str:
    """The Python interface, from docstrings."""
    parts = ["# Python", "Everything else is inside, and may change."]
    for name in mtbert.__all__:
        parts += [*_documented(f"mtbert.{name}", getattr(mtbert, name))]
    for kind in (Predictor, Run, Listener, Logger):
        parts += _documented(kind.__name__, kind)
        for name, member in vars(kind).items():
            if name.startswith("_") or not (inspect.isfunction(member) or isinstance(member, property)):
                continue
            parts += _documented(f"{kind.__name__}.{name}", member, "###")
    return "\n\n".join(parts) + "\n"


def notebook_page(path: Path) -> str:
    """A notebook as a page: its text, and its code in blocks."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
    return "\n\n".join(parts) + "\n"


def dead_links(site: Path) -> list[str]:
    """Every link of the site's pages to a file, or to a place in one, that is not there."""
    read = {path: _Links(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    dead = []
    for path, page in read.items():
        for link in page.links:
            if re.match(r"[a-z]+:|//", link) or path.name == "404.html":
                continue
            file, _, anchor = link.partition("#")
            target = Path(os.path.normpath(path.parent / unquote(file))) if file else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                dead.append(f"{path.relative_to(site)}: {link}")
            elif anchor and target in read and unquote(anchor) not in read[target].places:
                dead.append(f"{path.relative_to(site)}: {link} (no such place)")
    return sorted(set(dead))


class _Links(HTMLParser):
    """The links of a page, what it loads, and the places in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = {"", "__top"}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name in ("href", "src"):
                self.links.append(value)
            if value and name in ("id", "name"):
                self.places.add(value)


def _moved(path: Path, name: str, pages: dict[Path, str], folder: Path) -> str:
    """A page with its links as the site has them; files that it names are copied beside."""

    def link(found: re.Match[str]) -> str:
        before, target, after = found.groups()
        if "://" in target:
            return found[0]
        there = Path(os.path.normpath(path.parent / target))
        return f"{before}{os.path.relpath(_place(there, pages, folder), Path(name).parent)}{after}"

    return LINK.sub(link, path.read_text(encoding="utf-8"))


def _place(there: Path, pages: dict[Path, str], folder: Path) -> str:
    """Where a file or a folder of the repository is on the site."""
    if there in pages:
        return pages[there]
    inside = there.relative_to(ROOT).as_posix()
    if there.is_dir():
        lines = []
        for one in sorted(there.iterdir()):
            if one.is_file():
                place = os.path.relpath(_place(one, pages, folder), f"files/{inside}")
                lines.append(f"- [{one.name}]({place})")
        _write(folder / "files" / inside / "index.md", f"# {inside}/\n\n" + "\n".join(lines) + "\n")
        return f"files/{inside}/index.md"
    target = folder / "files" / inside
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(there, target)
    return f"files/{inside}"


def _documented(name: str, member: Any, level: str = "##") -> Iterator[str]:
    about = member.fget if isinstance(member, property) else member
    text = inspect.getdoc(about)
    if not text:
        return
    yield f"{level} {name}"
    if not isinstance(member, property):
        with contextlib.suppress(TypeError, ValueError):
            yield f"```python\n{name.rpartition('.')[2]}{inspect.signature(member)}\n```"
    yield _escaped(text)


def _escaped(text: str) -> str:
    """A docstring as Markdown: examples in blocks, signs of HTML as they are read."""
    text = re.sub(r"((?:^>>> .*\n?)(?:^.+\n?)*)", r"```python\n\1\n```\n", text, flags=re.MULTILINE)
    return re.sub(r"<(?=\w)", "&lt;", text)


def _usual(option: Option) -> str:
    return "required" if option.required else f"`{_cell(option.default)}`"


def _cell(text: object) -> str:
    return str(text).replace("|", "\\|")


def _file(family: str) -> str:
    return family.replace(" ", "_")


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
