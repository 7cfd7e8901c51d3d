"""A run's kept model on the hub: pushed with its card, without what only training needs, and no pickle."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from mtbert.errors import Mistake
from mtbert.model.files import seal
from mtbert.runs.extras import needed
from mtbert.runs.folder import BEST, RECIPE, Run
from mtbert.shipping.card import card

CARD = "README.md"


def push(folder: Path, name: str, *, private: bool = True, data: Path | None = None) -> str:
    """Upload a run's kept model, its recipe and its card as ORG/NAME; the commit, by which others load it.

    The name of the data folder in the recipe is left out. Raises Mistake where the hub refuses.
    """
    hub, errors = needed("huggingface_hub", "hub"), needed("huggingface_hub.errors", "hub")
    run = Run.open(folder)
    with tempfile.TemporaryDirectory() as place:
        model = Path(place) / "model"
        shutil.copytree(run.part(BEST), model)
        (model / CARD).write_text(card(folder, data), encoding="utf-8")
        recipe = run.recipe().model_copy(update={"data": "."})
        (model / RECIPE).write_text(recipe.as_yaml(), encoding="utf-8")
        seal(model)
        try:
            api = hub.HfApi()
            api.create_repo(name, private=private, exist_ok=True)
            return str(api.upload_folder(repo_id=name, folder_path=model, commit_message="A model of mtbert").oid)
        except (errors.HfHubHTTPError, errors.HFValidationError, OSError) as error:
            reason = str(error).strip().split("\n")[0]
            raise Mistake(f"{name} could not be pushed to the hub: {reason}") from None
