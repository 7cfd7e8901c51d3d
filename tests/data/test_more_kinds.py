"""Ordered classes, several labels and labels of words beside second implementations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import seqeval.metrics
import sklearn.metrics
import torch
from coral_pytorch.dataset import corn_label_from_logits
from coral_pytorch.losses import corn_loss
from pydantic import ValidationError
from torch.distributions import Bernoulli, kl_divergence

from mtbert.data.kinds.metrics import quadratic_kappa
from mtbert.data.kinds.spans import Tags
from mtbert.data.kinds.table import KINDS
from mtbert.data.kinds.tokens import Tokens
from mtbert.data.labels import Labels, Ragged, plain
from mtbert.data.tables import read_rows
from mtbert.errors import Mistake, Mistakes
from tests.data.test_kinds import of_words, ordinal, several


def random_tags(names: list[str], rows: int, seed: int) -> Ragged:
    generator = np.random.default_rng(seed)
    return Ragged.of([generator.integers(0, len(names), generator.integers(1, 9)).tolist() for _ in range(rows)])


def said(labels: Ragged, names: list[str]) -> list[list[str]]:
    return [[names[int(one)] for one in row] for row in labels]


# ---- ordered classes


def test_corn_is_the_loss_of_coral_pytorch_and_its_labels() -> None:
    task, generator = ordinal(classes=5), torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(64, 4, generator=generator)
    labels = torch.randint(0, 5, (64,), generator=generator)
    conditions = (labels + 1).clamp(max=4).sum()  # that apply to the rows: theirs is the mean over these
    ours = task.losses(logits, labels).sum() / conditions
    torch.testing.assert_close(ours, corn_loss(logits, labels, num_classes=5), rtol=0, atol=1e-6)
    assert plain(task.decode(logits)).tolist() == corn_label_from_logits(logits).tolist()


def test_the_loss_of_cumulative_logits_is_that_of_differences_of_sigmoids() -> None:
    task, generator = ordinal("cumulative", 4), torch.Generator().manual_seed(0)
    logits = torch.randn(50, 3, generator=generator).sort(-1, descending=True).values
    labels = torch.randint(0, 4, (50,), generator=generator)
    above = torch.cat([torch.ones(50, 1), logits.double().sigmoid(), torch.zeros(50, 1)], -1)
    shares = above[:, :-1] - above[:, 1:]
    expected = -shares.gather(1, labels[:, None])[:, 0].log()
    torch.testing.assert_close(task.losses(logits, labels).double(), expected, rtol=0, atol=1e-6)
    columns = np.stack(list(task.probabilities(logits).values()), 1)
    np.testing.assert_allclose(columns, shares.numpy(), atol=1e-6)


def test_the_logarithms_of_shares_survive_logits_far_apart_and_near() -> None:
    for method in ("corn", "cumulative"):
        task = ordinal(method, 3)
        outputs = torch.tensor([[80.0, -80.0], [1e-4, 0.0], [-60.0, -90.0], [90.0, 60.0]])
        assert task.losses(outputs, torch.tensor([1, 1, 2, 0])).isfinite().all()
        assert task.divergence(outputs, outputs.flip(0)).isfinite().all()


def test_soft_labels_give_neighbours_their_share() -> None:
    task = ordinal("soft", 3, sharpness=2.0)
    logits = torch.tensor([[0.3, -1.0, 2.0]])
    share = np.exp([-2.0, 0.0, -2.0]) / np.exp([-2.0, 0.0, -2.0]).sum()
    expected = -(share * logits.double().log_softmax(-1).numpy()).sum()
    assert task.losses(logits, torch.tensor([1])).item() == pytest.approx(expected, abs=1e-6)


def test_plain_ordered_classes_learn_as_classification_does() -> None:
    logits, labels = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 5
    expected = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(ordinal("plain").losses(logits, labels), expected)


@pytest.mark.parametrize("method", ["corn", "cumulative", "soft"])
def test_the_divergence_of_ordered_classes_is_that_of_their_probabilities(method: str) -> None:
    task, generator = ordinal(method, 5), torch.Generator().manual_seed(1)
    one, other = (torch.randn(20, task.outputs, generator=generator).sort(-1, descending=True).values for _ in range(2))
    p, q = (np.stack(list(task.probabilities(outputs).values()), 1) for outputs in (one, other))
    expected = (p * np.log(p / q) + q * np.log(q / p)).sum(1)
    np.testing.assert_allclose(task.divergence(one, other).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_quadratic_kappa_is_that_of_scikit_learn(seed: int) -> None:
    x, y = np.random.default_rng(seed).integers(0, 5, (2, 60)).astype(float)
    assert quadratic_kappa(x, y) == pytest.approx(
        sklearn.metrics.cohen_kappa_score(y, x, weights="quadratic"), abs=1e-9
    )
    metrics = ordinal(classes=5).metrics(x, y)
    assert metrics["off_by_one"] == np.mean(np.abs(x - y) <= 1)
    assert metrics["mean_absolute_error"] == pytest.approx(sklearn.metrics.mean_absolute_error(y, x))


def test_names_without_an_order_have_to_be_given_in_theirs() -> None:
    task = KINDS["ordinal"](name="t", text="text", label="label")
    assert task.completed({"3": 4, "1": 2, "10": 1}).class_names == ("1", "3", "10")
    with pytest.raises(Mistake, match="name the `classes` from the lowest to the highest"):
        task.completed({"low": 3, "high": 4})


def test_cumulative_logits_have_their_head_and_no_other() -> None:
    assert ordinal("cumulative").head == "thresholds"
    assert ordinal("corn").head == "linear"
    with pytest.raises(ValidationError, match="one score and thresholds"):
        ordinal("cumulative", head={"name": "linear", "activation": "relu"})


# ---- several labels


def test_the_loss_of_several_labels_is_torchs_and_leaves_gaps_out() -> None:
    task, generator = several(), torch.Generator().manual_seed(0)
    logits = torch.randn(4, 3, generator=generator)
    targets = torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, torch.nan, 0], [torch.nan] * 3])
    losses = task.losses(logits, targets)
    binary = torch.nn.BCEWithLogitsLoss()
    torch.testing.assert_close(losses[0], binary(logits[0], targets[0]))
    torch.testing.assert_close(losses[2], binary(logits[2, [0, 2]], targets[2, [0, 2]]))
    assert losses[3] == 0


def test_the_divergence_of_several_labels_is_the_mean_of_the_coins() -> None:
    task, generator = several(), torch.Generator().manual_seed(0)
    u, v = (torch.randn(30, 3, generator=generator) for _ in range(2))
    p, q = Bernoulli(logits=u), Bernoulli(logits=v)
    expected = (kl_divergence(p, q) + kl_divergence(q, p)).mean(-1)
    torch.testing.assert_close(task.divergence(u, v), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_f1_of_several_labels_is_that_of_scikit_learn(seed: int) -> None:
    x, y = np.random.default_rng(seed).integers(0, 2, (2, 40, 3)).astype(float)
    x[:, 2] = y[:, 2] = 0  # a label that nobody names
    task = several(metric="weighted_f1")
    metrics = task.metrics(x, y)
    for average in ("macro", "micro", "weighted"):
        expected = sklearn.metrics.f1_score(y, x, average=average, zero_division=0)
        assert metrics[f"{average}_f1"] == pytest.approx(expected, abs=1e-9)
    assert metrics["all_right"] == sklearn.metrics.accuracy_score(y, x)
    assert next(iter(metrics)) == "weighted_f1"
    precision, _, f1, support = sklearn.metrics.precision_recall_fscore_support(y, x, zero_division=0)
    classes = task.class_scores(x, y)
    assert classes is not None
    assert [one.f1 for one in classes.classes] == pytest.approx(f1.tolist())
    assert [one.precision for one in classes.classes] == pytest.approx(precision.tolist())
    assert [one.support for one in classes.classes] == support.tolist()


def test_gaps_are_not_scored() -> None:
    labels = np.array([[1.0, np.nan, 0], [np.nan, 1, 0]])
    assert several().metrics(np.array([[1.0, 0, 0], [0, 1, 0]]), labels)["all_right"] == 1.0


def test_thresholds_are_of_all_labels_or_by_name() -> None:
    outputs = torch.tensor([[0.5, 0.5, 0.5]])  # a probability of 0.62
    assert plain(several(thresholds=0.7).decode(outputs)).tolist() == [[0, 0, 0]]
    assert plain(several(thresholds={"short": 0.7}).decode(outputs)).tolist() == [[1, 0, 1]]
    with pytest.raises(ValidationError, match="did you mean 'short'"):
        several(thresholds={"shrt": 0.7})


# ---- labels of words


@pytest.mark.parametrize("scheme", ["IOB2", "BIOES"])
def test_spans_are_counted_as_seqeval_does_broken_tags_included(scheme: str) -> None:
    prefixes = "BI" if scheme == "IOB2" else "BIES"
    names = ["O", *(f"{prefix}-{kind}" for kind in ("PER", "LOC") for prefix in prefixes)]
    task = of_words(names, scheme=scheme)
    for seed in range(8):
        there = random_tags(names, 40, seed)
        found = Ragged(np.where(np.random.default_rng(seed).random(len(there.flat)) < 0.6, there.flat, 0), there.starts)
        metrics, pair = task.metrics(found, there), (said(there, names), said(found, names))
        for name, take in (("f1", "f1_score"), ("precision", "precision_score"), ("recall", "recall_score")):
            assert metrics[f"span_{name}"] == pytest.approx(getattr(seqeval.metrics, take)(*pair), abs=1e-9)
        assert metrics["accuracy"] == pytest.approx(seqeval.metrics.accuracy_score(*pair))
        report = seqeval.metrics.classification_report(*pair, output_dict=True, zero_division=0)
        classes = task.class_scores(found, there)
        assert classes is not None
        assert {one.name: (one.f1, one.support) for one in classes.classes} == {
            kind: (pytest.approx(report[kind]["f1-score"]), report[kind]["support"]) for kind in ("PER", "LOC")
        }


@pytest.mark.parametrize(
    ("scheme", "tags", "word"),
    [
        ("IOB2", ["O", "B-PER", "I-PER", "B-PER"], None),
        ("IOB2", ["I-PER", "O"], 0),
        ("IOB2", ["O", "B-PER", "I-LOC"], 2),
        ("BIOES", ["B-PER", "I-PER", "E-PER", "S-LOC", "O"], None),
        ("BIOES", ["O", "E-PER"], 1),
        ("BIOES", ["B-PER", "S-LOC"], 1),
        ("BIOES", ["O", "B-PER"], 1),  # never ends
    ],
)
def test_tags_that_break_the_scheme_are_found(scheme: Any, tags: list[str], word: int | None) -> None:
    known = Tags(Tags(tuple(dict.fromkeys(tags)), scheme).whole(), scheme)
    places = Ragged.of([[known.names.index("O")], [known.names.index(tag) for tag in tags]])
    assert {row: at for row, (at, _) in known.broken(places).items()} == ({} if word is None else {1: word})


def test_words_beyond_the_end_say_nothing_and_count_as_wrong() -> None:
    task = of_words()
    logits = torch.zeros(1, 3, 5)
    logits[0, :, 1] = 5.0
    outputs = task.placed(logits, torch.tensor([[1, 2, -1]]))
    found = task.decode(outputs)
    assert task.say(next(iter(found))) == ["B-PER", "B-PER", "O"]
    assert task.metrics(found, Ragged.of([[1, 1, 1]]))["accuracy"] == pytest.approx(2 / 3)
    assert task.losses(outputs, torch.tensor([[1, 1, 3]])) == pytest.approx(
        task.losses(outputs, torch.tensor([[1, 1, 1]]))
    )


# ---- read from files


def read(tmp_path: Path, kind: str, lines: list[str], ending: str = ".jsonl", **settings: Any) -> Labels:
    path = tmp_path / f"rows{ending}"
    path.write_text("\n".join(lines) + "\n")
    rows = read_rows(KINDS[kind](**{"name": "t", "text": "text", "label": "label"} | settings), path)
    assert rows.labels is not None
    return rows.labels


@pytest.mark.parametrize(
    ("lines", "ending"),
    [
        (
            ['{"text": "a", "label": ["x", "y"]}', '{"text": "b", "label": []}', '{"text": "c", "label": ["y"]}'],
            ".jsonl",
        ),
        (["text,label", "a,x|y", "b,", "c,y"], ".csv"),
        (["text\tlabel", 'a\t["x", "y"]', "b\t[]", 'c\t["y"]'], ".tsv"),
        (["text,x,y", "a,1,true", "b,0,False", "c,0,1.0"], ".csv"),
    ],
    ids=["lists", "separated", "JSON in TSV", "columns"],
)
def test_several_labels_are_read_as_people_have_them(tmp_path: Path, lines: list[str], ending: str) -> None:
    label = ["x", "y"] if "text,x,y" in lines else "label"
    found = read(tmp_path, "multilabel", lines, ending, label=label)
    assert plain(found).tolist() == [[1, 1], [0, 0], [0, 1]]


def test_columns_of_labels_may_have_gaps(tmp_path: Path) -> None:
    found = plain(read(tmp_path, "multilabel", ["text,x,y", "a,1,", "b,0,1"], ".csv", label=["x", "y"]))
    assert np.isnan(found).tolist() == [[False, True], [False, False]]


@pytest.mark.parametrize(
    ("kind", "lines", "words"),
    [
        ("multilabel", ['{"text": "a", "label": ["x", "z"]}'], r"line 1: column 'label': label 'z' is not one of x, y"),
        ("multilabel", ['{"text": "a", "label": 3}'], "label column 'label' holds int64, not lists"),
        ("multilabel", ['{"text": "a", "label": ["x"]}', '{"text": "b", "label": {"x": 1}}'], "is no list"),
        (
            "multilabel",
            ['{"text": "a", "label": null}', '{"text": "b", "label": ["x"]}'],
            "line 1: .*there is no label",
        ),
        ("classification", ['{"text": "a", "label": ["x"]}'], "several labels a row are for `kind: multilabel`"),
        ("tokens", ['{"text": ["a", "b"], "label": ["x"]}'], "line 1: .*1 labels for 2 words of column 'text'"),
        (
            "tokens",
            ['{"text": ["a", "b"], "label": ["x", "z"]}'],
            "line 1: column 'label', word 2: label 'z' is not one",
        ),
        ("tokens", ['{"text": 3, "label": ["x", "z"]}'], "words are lists of texts"),
    ],
)
def test_labels_that_are_none_are_named(tmp_path: Path, kind: str, lines: list[str], words: str) -> None:
    settings = {"scheme": "none"} if kind == "tokens" else {}
    with pytest.raises(Mistake, match=words):
        read(tmp_path, kind, lines, classes=["x", "y"], **settings)


def test_a_tag_that_breaks_the_scheme_names_row_and_word(tmp_path: Path) -> None:
    lines = ['{"text": ["a", "b"], "label": ["O", "B-PER"]}', '{"text": ["a", "b"], "label": ["O", "I-PER"]}']
    with pytest.raises(Mistake, match="line 2: column 'label', word 2: I-PER after O, which IOB2 does not allow"):
        read(tmp_path, "tokens", lines)


def test_tags_that_training_lacks_are_made_whole() -> None:
    task = Tokens(name="t", text="words", label="tags").completed({"O": 5, "B-PER": 2})
    assert task.classes == ("O", "B-PER", "I-PER")


@pytest.mark.parametrize("scheme", ["IOB2", "BIOES"])
def test_a_tag_that_only_its_scheme_has_is_no_class_without_rows(scheme: str) -> None:
    task = Tokens(name="t", text="words", label="tags", scheme=scheme)
    begin = "B" if scheme == "IOB2" else "S"
    made = task.completed({f"{begin}-LOC": 5, f"{begin}-PER": 2})
    names = made.classes
    here = Ragged(np.array([float(names.index(f"{begin}-LOC"))]), np.array([0, 1]))
    assert {name for name in made.absent(here) if name.endswith("-LOC")} == set()
    assert "O" not in made.absent(here)
    assert f"{begin}-PER" in made.absent(here)  # of whose spans none is here
    plain_tags = Tokens(name="t", text="words", label="tags", scheme="none", classes=list(names))
    assert set(plain_tags.absent(here)) == {*names} - {f"{begin}-LOC"}


def test_words_are_lists_or_texts_or_a_conll_file(tmp_path: Path) -> None:
    lines = {
        ".jsonl": ['{"text": ["EU", "rejects"], "label": ["B-ORG", "O"]}', '{"text": ["no"], "label": ["O"]}'],
        ".csv": ["text,label", "EU rejects,B-ORG O", "no,O"],
        ".conll": ["-DOCSTART- -X- O O", "", "EU NNP B-NP B-ORG", "rejects VBZ B-VP O", "", "no DT B-NP O"],
    }
    for ending, text in lines.items():
        settings = {"text": "words", "label": "tags"} if ending == ".conll" else {}
        found = read(tmp_path, "tokens", text, ending, classes=["O", "B-ORG", "I-ORG"], **settings)
        assert [row.tolist() for row in found] == [[1, 0], [0]]


def test_lines_of_conll_that_cannot_be_read_hide_no_other_problem(tmp_path: Path) -> None:
    fine = "no DT O\n\n" * 60
    text = f"EU NNP B-ORG\n\nrejects VBZ\ncalls NN O\n\nBöln NN O\n\nEU NNP B-ORK\n\n{fine}"
    (tmp_path / "in.conll").write_bytes(text.encode("latin-1"))
    task = KINDS["tokens"](name="t", text="words", label="tags", classes=["O", "B-ORG", "I-ORG"])
    with pytest.raises(Mistakes) as caught:
        read_rows(task, tmp_path / "in.conll")
    assert [message.partition("in.conll, ")[2].partition(";")[0] for message in caught.value.messages] == [
        "line 3: 2 columns, where words and tags in 3 are due",
        "line 6: byte 0xf6 is not UTF-8 text (Böln in Windows-1252)",
        "line 8: column 'tags', word 1: label 'B-ORK' is not one of O, B-ORG, I-ORG, nor an index from 0 to 2",
    ]
    left = read_rows(task.model_copy(update={"bad_rows": "skip"}), tmp_path / "in.conll")
    assert left.texts[0].to_pylist() == ["EU", *["no"] * 60]


def test_a_word_of_conll_is_named_by_its_own_line(tmp_path: Path) -> None:
    lines = ["# a comment", "EU B-ORG", "says O", "no I-PER !", "", "-DOCSTART- O", "", "a O", "b O", "c I-ORG", ""]
    lines += ["d O", "e O", "f B-PLACE"]
    for number, name in enumerate(["one.conll", "two.conll"]):
        (tmp_path / name).write_text("\n".join(line.replace(" !", "") for line in lines[6 * number :]) + "\n")
    task = KINDS["tokens"](name="t", text="words", label="tags", classes=["O", "B-ORG", "I-ORG", "B-PER", "I-PER"])
    with pytest.raises(Mistakes) as caught:
        read_rows(task, tmp_path / "one.conll")
    places = {message.partition(": ")[0].rpartition(" ")[2]: message for message in caught.value.messages}
    for wrong in ("no I-PER !", "c I-ORG", "f B-PLACE"):
        (message,) = (one for place, one in places.items() if int(place) == lines.index(wrong) + 1)
        assert wrong.split()[1] in message
    (tmp_path / "fine.conll").write_text("a O\n\nb O\n\nc O\n")
    with pytest.raises(Mistakes, match=r"line 4 of two\.conll: column 'tags', word 3: I-ORG after O"):
        read_rows(task, [tmp_path / "fine.conll", tmp_path / "two.conll"])
    skipping = task.model_copy(update={"bad_rows": "skip"})
    (tmp_path / "three.conll").write_text("a O\n\nb O\nc I-PER\n")
    (skipped,) = read_rows(skipping, tmp_path / "three.conll").skipped
    assert skipped.startswith("line 4: ")


def test_labels_that_make_no_classes_hide_no_bad_row(tmp_path: Path) -> None:
    """The rows' own mistakes are the same as where the labels do make classes, which one good row more sees to."""
    bad = {
        "tokens": ["a b\tO O", "c\tO O", "d\t", 'e\t["O', "\tO"],
        "classification": ["a\tx", "b\t", "\tx"],
        "ordinal": ["a\t1", "b\t", "\t1"],
        "multilabel": ["a\tx", 'b\t["x', "\tx"],
        "regression": ["a\t1", "b\t", "c\tmany", "\t1"],
    }
    good = {
        "tokens": "w\tB-PER",
        "classification": "w\ty",
        "ordinal": "w\t2",
        "multilabel": "w\ty",
        "regression": "w\t2",
    }
    assert bad.keys() == good.keys() == set(KINDS)
    for kind, lines in bad.items():
        task, said = KINDS[kind](name="t", text="text", label="label"), []
        for more in ([good[kind]], []):
            (tmp_path / "in.tsv").write_text("\n".join(["text\tlabel", *lines, *more]) + "\n")
            with pytest.raises(Mistakes) as caught:
                read_rows(task, tmp_path / "in.tsv")
            said.append(caught.value.messages)
        of_rows, all_of_them = said
        assert len(of_rows) > 1
        assert [one for one in all_of_them if "two or more different" not in one] == list(of_rows)
        assert len(all_of_them) == len(of_rows) + 1


def test_words_without_tags_are_no_conll(tmp_path: Path) -> None:
    (tmp_path / "in.conll").write_text("EU\nrejects\n")
    task = KINDS["tokens"](name="t", text="words", label="tags")
    with pytest.raises(Mistake, match=r"in\.conll, line 1: 1 column, where words and tags in at least 2 are due$"):
        read_rows(task, tmp_path / "in.conll")


def test_a_row_without_a_label_is_left_out_where_the_task_says_so(tmp_path: Path) -> None:
    lines = ['{"text": "a", "label": "x"}', '{"text": "b", "label": null}', '{"text": "c", "label": "y"}']
    with pytest.raises(Mistake, match="`missing: skip`"):
        read(tmp_path, "classification", lines)
    assert plain(read(tmp_path, "classification", lines, missing="skip")).tolist() == [0, 1]
