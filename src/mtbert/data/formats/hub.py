"""Data sets of the hub, read through the library `datasets`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mtbert.errors import Mistake


@dataclass(frozen=True)
class HubSplit:
    """One split of a data set of the hub, or of a folder that is laid out as one."""

    name: str  # ORG/NAME, or the folder
    split: str
    config: str | None = None
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.name}, split '{self.split}'"

    def load(self) -> Any:
        """The split as a datasets.Dataset, downloaded where it is not on this machine yet.

        Raises Mistake where the extra `hub` is missing, or there is no such data set, configuration or split.
        """
        try:
            import datasets
        except ImportError:
            raise Mistake(f"{self} needs the library datasets: pip install 'mtbert[hub]'") from None
        try:
            return datasets.load_dataset(self.name, self.config, split=self.split, revision=self.revision)
        except (datasets.exceptions.DatasetsError, ValueError, OSError) as error:
            said = " ".join(str(error).split())[:300]
            raise Mistake(f"the data set {self} cannot be had ({said or type(error).__name__})") from None
