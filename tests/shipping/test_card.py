"""The card of a model, and the model on the hub: a stand-in for the hub keeps what was pushed."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import yaml

import mtbert
from mtbert.errors import Mistake
from mtbert.runs.folder import Run
from mtbert.shipping.card import card
from mtbert.shipping.hub import push
from tests.support.small import recipe_over, write_small_data


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("card")
    recipe = recipe_over(write_small_data(folder / "data"))
    recipe["stages"][0] |= {"steps": 2, "evaluate_every": 2}
    return mtbert.train(recipe, out=folder / "run")


def front(text: str) -> Any:
    _, content, _ = text.split("---\n", 2)
    return yaml.safe_load(content)


def test_the_card_holds_scores_hashes_and_what_the_hub_reads(run: Run) -> None:
    text = card(run.folder)
    (model,) = front(text)["model-index"]
    found = {one["task"]["name"]: {m["type"]: m["value"] for m in one["metrics"]} for one in model["results"]}
    assert found == {
        task: {metric: round(value, 4) for metric, value in metrics.items()}
        for task, metrics in run.scores["dev"]["tasks"].items()
    }
    for one in run.environment["data"].values():
        assert one["sha256"] in text
    accuracy = run.scores["dev"]["tasks"]["mood"]["accuracy"]
    assert f"| mood | accuracy | {accuracy:.4f} | 0." in text
    assert "| near | regression | a and b |" in text
    assert "`random`" in text


def test_without_the_rows_the_card_has_the_scores_of_training_and_says_so(run: Run, tmp_path: Path) -> None:
    copy = shutil.copytree(run.folder, tmp_path / "copy")
    recipe = copy / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(str(run.folder.parent / "data"), str(tmp_path / "gone")))
    text = card(copy)
    assert "without intervals" in text
    assert f"| mood | accuracy | {run.scores['dev']['tasks']['mood']['accuracy']:.4f} |  |" in text


class Hub:
    """What was pushed, in a folder."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def create_repo(self, name: str, private: bool, exist_ok: bool) -> None:
        assert private
        if "/" not in name:
            raise OSError("no such name")

    def upload_folder(self, repo_id: str, folder_path: Path, commit_message: str) -> Any:
        shutil.copytree(folder_path, self.place)
        return SimpleNamespace(oid="c" * 40)


def test_a_model_on_the_hub_says_what_it_said_here(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: Hub(tmp_path / "pushed"))
    commit = push(run.folder, "org/name")
    names = {path.name for path in (tmp_path / "pushed").rglob("*") if path.is_file()}
    assert {"README.md", "recipe.yaml", "model.json", "tasks.safetensors"} < names
    assert str(run.folder.parent) not in (tmp_path / "pushed" / "recipe.yaml").read_text()

    asked: list[Any] = []

    def download(name: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision))
        assert not any(pattern.endswith((".bin", ".pt", ".py", "*")) for pattern in allow_patterns)
        return str(tmp_path / "pushed")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    model = mtbert.load("org/name", revision=commit)
    assert asked == [("org/name", "c" * 40)]
    assert model.predict("mood", ["good film"]) == mtbert.load(run.folder).predict("mood", ["good film"])


def test_what_the_hub_refuses_and_a_revision_of_a_folder_are_mistakes(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: Hub(tmp_path / "pushed"))
    with pytest.raises(Mistake, match="name could not be pushed to the hub: no such name"):
        push(run.folder, "name")
    with pytest.raises(Mistake, match="is a local folder, which has no revision 'v1'"):
        mtbert.load(run.folder, revision="v1")
