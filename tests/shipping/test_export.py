"""What is exported says what the model says: graphs, the script beside them, folders of other libraries."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import sentence_transformers
import torch
import transformers

import mtbert
from mtbert.app.cli import app
from mtbert.data.batches import Examples
from mtbert.errors import Mistake
from mtbert.model.checkpoints import load_model, save_model
from mtbert.model.files import seal
from mtbert.model.multitask import MultiTask
from mtbert.model.task_modules.table import TASK_MODULES
from mtbert.runs.decisions import Calibrated, write_decisions
from mtbert.runs.evaluate import to_be_scored
from mtbert.runs.folder import BEST, Run
from mtbert.scoring.decisions import Decision, HeldOut
from mtbert.scoring.evaluation import evaluate, outputs_of
from mtbert.serving.predictor import Predictor
from mtbert.shipping import export as exporting
from mtbert.shipping.certificate import certify
from mtbert.shipping.export import Refused, Wanted, export
from mtbert.shipping.graph import INPUTS, GraphModel, GraphOriginal, write_graph
from mtbert.shipping.standalone import Model
from tests.support.small import WORDS, recipe_over, with_more_kinds, write_small_data
from tests.support.tiny_models import SENTENCES, make_model, shaken

# heads, poolings and readings that are not those of the recipe of the small data
VARIED: dict[str, dict[str, Any]] = {
    "mood": {"pooling": "pooler"},
    "same": {"head": "one_logit", "pooling": "pooler", "segments": "zeros"},
    "both": {"of": "same", "symmetric": True, "pooling": "cls"},
    "short": {"of": "mood", "max_length": 8},
    "angle": {"of": "near", "head": "cosine"},
    "bent": {"of": "near", "head": "sigmoid", "pooling": "cls"},
    "raw": {"of": "near", "scaled": False, "pairs": "joint"},
    "cumulative": {"of": "stars", "method": "cumulative"},
    "soft": {"of": "stars", "method": "soft", "pooling": "cls"},
    "topics": {"thresholds": {"art": 0.3}},
    "chosen": {"of": "mood"},
    "moved": {"of": "mood"},
    "torn": {"of": "mood"},
    "weighed": {"of": "same"},
    "climbed": {"of": "stars"},
    "risen": {"of": "stars", "method": "cumulative"},
    "heated": {"of": "topics", "thresholds": {"art": 0.3}},
    "known": {"of": "mood", "head": {"name": "linear", "beside": ["vector"]}},
    "compared": {
        "of": "same",
        "symmetric": True,
        "head": {"name": "linear", "beside": ["cosine", "difference", "product", "vector"]},
    },
    "apart": {"of": "near", "head": {"name": "linear", "beside": ["cosine", "vector"]}},
}
# what is decided of some, at which temperature: the script obeys it
DECIDED: dict[str, tuple[float, tuple[str, ...]]] = {
    "chosen": (3.0, ("sure_from",)),
    "weighed": (0.5, ("threshold",)),
    "soft": (1.0, ("sure_from",)),
    "moved": (2.0, ("offsets",)),
    "torn": (2.0, ("offsets", "sure_from")),
    "climbed": (3.0, ("offsets",)),
    "risen": (1.0, ("offsets",)),
    "topics": (2.0, ("thresholds",)),
    "heated": (3.0, ()),
    "stars": (4.0, ()),
}
TEXTS = [text for text in [*SENTENCES, *WORDS] if text][:24]
LONG = "film tea river " * 180


def tasks_of(recipe: dict[str, Any]) -> dict[str, Any]:
    """The tasks of the small data, variations of them, and one for each task module, which serves it alone."""
    tasks, small = {}, recipe["tasks"]
    for name, varied in VARIED.items():
        tasks[name] = small[varied.get("of", name)] | {key: value for key, value in varied.items() if key != "of"}
    return (
        tasks
        | {"near": small["near"], "stars": small["stars"], "names": small["names"]}
        | {"cut": small["names"] | {"max_length": 8, "scheme": "none"}}
        | {f"with_{name}": small["near"] for name in TASK_MODULES}
    )


def halving(model: Predictor, task: str) -> Decision:
    """A decision at the middle of what a model says of TEXTS, so that it tells these apart."""
    temperature, parts = DECIDED[task]
    rows: list[Any] = TEXTS if len(model.task(task).text) == 1 else [(text, "warm") for text in TEXTS]
    shares = model.task(task).probabilities(model.outputs(task, rows) / temperature)
    middle = {name: float(np.median(column)) for name, column in shares.items()}
    known: dict[str, Any] = {
        "threshold": list(middle.values())[-1],
        "offsets": {name: -float(np.log(share)) for name, share in middle.items()},
        "thresholds": middle,
        "sure_from": float(np.quantile(np.max(list(shares.values()), axis=0), 0.3)),
    }
    return Decision(temperature, **{part: known[part] for part in parts})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with every kind of task, and with every module, whose weights are so large that each matters."""
    folder = tmp_path_factory.mktemp("exported")
    recipe = with_more_kinds(recipe_over(write_small_data(folder / "data")))
    recipe["encoder"]["layers"] = 1  # a graph has one encoder for each module
    recipe["tasks"] = tasks_of(recipe)
    recipe["modules"] = [{"name": name, "tasks": [f"with_{name}"]} for name in TASK_MODULES]
    recipe["stages"] = [{"steps": 1, "batch_size": 4, "evaluate_every": 1}]
    mtbert.train(recipe, out=folder / "run")
    run = Run(folder / "run")
    model, tokenizer = load_model(run.part(BEST))
    run.replace(BEST, lambda new: save_model(shaken(model), tokenizer, new))
    nothing = HeldOut(0, 0, 0, 0, None, None, None, None)
    undecided = mtbert.load(run.folder)
    decisions = {task: Calibrated(halving(undecided, task), None, None, 24, nothing) for task in DECIDED}
    write_decisions(run, decisions)
    return run


@pytest.fixture(scope="module")
def graphs(run: Run) -> Path:
    """The run as graphs; with such weights eight bits change a lot."""
    out = run.folder.parent / "graphs"
    export(Wanted(run.folder, int8=True, bound=2.0), "onnx", out)
    return out


@pytest.fixture(scope="module")
def model(run: Run) -> Predictor:
    return mtbert.load(run.folder)


@pytest.fixture(scope="module")
def alone(graphs: Path) -> Path:
    """The export with its float32 graph only, so that the script takes that one."""
    folder = graphs.parent / "alone"
    folder.mkdir()
    for name in ("model.onnx", "original.onnx", "tasks.json", "tokenizer.json", "predict.py"):
        (folder / name).write_bytes((graphs / name).read_bytes())
    seal(folder)
    return folder


# ---- graphs


def test_a_graph_gives_the_outputs_of_every_kind_of_task_and_every_module(run: Run, graphs: Path) -> None:
    """From the same vectors beside, which are rounded to float16: where that goes the other way tells another test."""
    scored = to_be_scored(run.folder)
    graph = GraphModel(graphs / "model.onnx", 1)
    assert {f"with_{name}" for name in TASK_MODULES} < set(scored.sets)
    for name, examples in scored.whole().items():
        for batch_size in (1, 5, 64):
            found, due = graph.outputs(examples.task, examples, batch_size), outputs_of(scored.model, examples)
            assert due.std() > 1e-2, name  # constant outputs would prove nothing
            torch.testing.assert_close(found, due, atol=1e-4, rtol=0)


def test_onnxruntime_leaves_sums_and_layer_norms_apart(graphs: Path, tmp_path: Path) -> None:
    """What it would make of them, SkipLayerNormalization, takes it longer on a CPU than the two."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    for name in ("model.onnx", "model.int8.onnx", "original.onnx", "original.int8.onnx"):
        onnxruntime.InferenceSession(graphs / name, options, providers=["CPUExecutionProvider"])
        operators = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
        assert "LayerNormalization" in operators
        assert "SkipLayerNormalization" not in operators


def test_nothing_is_said_of_what_goes_on_in_the_exporter(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from mtbert.shipping.graph import write_graph, write_int8; "
        "from tests.support.tiny_models import make_model; graph = pathlib.Path(sys.argv[1]) / 'model.onnx'; "
        "write_graph(make_model(), graph); write_int8(graph, graph.with_name('int8.onnx'))"
    )
    said = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    assert (said.stdout, said.stderr) == ("", "")


def test_a_graph_asks_for_words_and_vectors_only_where_a_task_has_use_for_them(graphs: Path, tmp_path: Path) -> None:
    write_graph(make_model(), tmp_path / "model.onnx")
    named = [[one.name for one in onnx.load(one / "model.onnx").graph.input] for one in (tmp_path, graphs)]
    assert named == [[*INPUTS], [*INPUTS, "words", "first", "second"]]


def test_the_graph_of_the_original_encoder_gives_its_vectors(run: Run, graphs: Path) -> None:
    """Within a unit of float16, and mostly the same: nothing but rounding is between them."""
    model, tokenizer = load_model(run.part(BEST))
    assert isinstance(model, MultiTask)
    assert model.original is not None
    tokens = tokenizer.encode([*SENTENCES, LONG, "tea", *WORDS])
    found = GraphOriginal(graphs / "original.onnx", 1, tokenizer, model.original).vectors(tokens, lambda done: None)
    due = model.original.vectors(tokens).float()
    assert due.std() > 0.5
    torch.testing.assert_close(found, due, atol=1e-6, rtol=2**-10)
    assert (found == due).float().mean() > 0.98


@pytest.mark.long
def test_a_graph_gives_the_outputs_for_two_thousand_texts(run: Run, graphs: Path) -> None:
    model, tokenizer = load_model(run.part(BEST))
    graph = GraphModel(graphs / "model.onnx", 1)
    draw = np.random.default_rng(0).integers
    texts = [" ".join(np.array(WORDS)[draw(0, len(WORDS), draw(1, 60))]) for _ in range(4000)]
    for name, task in model.tasks.items():
        columns: list[Any] = [texts[:2000], texts[2000:]][: len(task.text)]
        if task.reads_words:
            columns = [[text.split() for text in column] for column in columns]
        apart = model.apart([name])
        examples = Examples.from_texts(task, columns, tokenizer, model.encoder.shape.positions, apart=apart)
        found, due = graph.outputs(task, examples), outputs_of(model, examples)
        assert due.std() > 1e-2, name
        print(f"{name}: {float((found - due).abs().max()):.1e}")
        torch.testing.assert_close(found, due, atol=1e-4, rtol=0)


def test_eight_bits_are_for_the_encoders_products_alone(graphs: Path) -> None:
    graph = onnx.load(graphs / "model.int8.onnx").graph
    assert {node.op_type for node in graph.node} & {"MatMulInteger", "DynamicQuantizeMatMul"}
    floats = [one.name for one in graph.initializer if one.data_type == onnx.TensorProto.FLOAT]
    assert {f"model.encoder.{name}_embedding.weight" for name in ("word", "position", "segment")} < set(floats)
    eight = [one for one in graph.initializer if one.data_type == onnx.TensorProto.INT8 and len(one.dims) == 2]
    assert eight
    assert [one.name for one in eight if ".heads." in one.name] == []
    assert all(np.abs(onnx.numpy_helper.to_array(one)).max() <= 64 for one in eight)  # seven bits


def test_the_certificate_holds_the_runs_own_scores(run: Run, graphs: Path) -> None:
    certificate = json.loads((graphs / "certificate.json").read_text())
    scored = to_be_scored(run.folder)
    assert certificate["passed"]
    assert certificate["rows"] == {name: len(rows) for name, rows in scored.sets.items()}
    for name, metrics in evaluate(scored.model, scored.whole()).tasks.items():
        said = certificate["tasks"][name]
        assert said["torch"]["scores"] == metrics
        assert said["torch"]["difference"] == 0
        # of float16, to which vectors beside are rounded, the last place may differ
        assert said["onnx"]["difference"] < (1e-3 if name in ("known", "compared", "apart") else 1e-4)
        assert said["onnx"]["equal"] == 1
        assert said["int8"]["difference"] > said["onnx"]["difference"]
        low, high = said["onnx"]["intervals"][next(iter(metrics))]
        assert low <= high
    assert set(certificate["rates"]) == {"torch", "onnx", "int8"}


def test_scores_that_fall_are_refused_and_nothing_is_written(
    run: Run, graphs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (graphs / "model.onnx").read_bytes()
    monkeypatch.setattr(exporting, "write_graph", lambda model, path: path.write_bytes(whole))
    honest = GraphModel.outputs
    monkeypatch.setattr(GraphModel, "outputs", lambda graph, task, examples: -honest(graph, task, examples))
    with pytest.raises(Refused, match=r"falls from .* in onnx"):
        export(Wanted(run.folder), "onnx", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_certificate_compares_with_its_first_side(run: Run) -> None:
    scored = to_be_scored(run.folder, tasks=["mood", "near"])
    sets = scored.whole()

    def shifted(task: Any, examples: Examples) -> torch.Tensor:
        outputs = outputs_of(scored.model, examples)
        return outputs.flip(-1) if task.name == "mood" else outputs * 2

    sides: dict[str, Callable[..., torch.Tensor]] = {
        "torch": lambda task, examples: outputs_of(scored.model, examples),
        "other": shifted,
    }
    found = certify(sides, sets, 0.0, {"processor": "any", "threads": 1})
    largest = float(sides["torch"](None, sets["near"]).abs().max())
    assert found.tasks["near"]["other"].difference == pytest.approx(largest, rel=1e-6)
    due = sides["torch"](None, sets["mood"])
    assert found.tasks["mood"]["other"].equal == pytest.approx(float((due.argmax(-1) == 1).float().mean()))
    # a doubling leaves a correlation as it is, to the last bit
    assert [said for said in found.fallen if "near" in said] == []


# ---- the script beside a graph


def test_the_script_runs_without_mtbert_and_torch(alone: Path, model: Predictor) -> None:
    hidden = "import sys; sys.modules |= dict.fromkeys(('mtbert', 'torch')); sys.argv = sys.argv[1:]; import runpy; "
    run = [sys.executable, "-c", f"{hidden}runpy.run_path(sys.argv[0], run_name='__main__')"]
    said = subprocess.run(
        [*run, alone / "predict.py", "both", "good film", "warm"], capture_output=True, text=True, check=True
    )
    (due,) = model.probabilities("both", [("good film", "warm")])
    assert json.loads(said.stdout)["probabilities"] == pytest.approx(due, abs=1e-4)


@pytest.mark.parametrize("task", [*VARIED, "near", "stars"])
def test_the_script_says_what_the_model_says(model: Predictor, alone: Path, task: str) -> None:
    texts = [*SENTENCES, LONG, "tea"]
    pairs = [*zip(texts, reversed(texts), strict=True), (LONG, LONG + "tea"), ("good film", LONG)]
    rows: list[Any] = pairs if len(model.model.tasks[task].text) == 2 else texts
    found = Model(alone).answers(task, [[row] if isinstance(row, str) else list(row) for row in rows])
    if model.model.tasks[task].scored:
        assert [one["prediction"] for one in found] == pytest.approx(model.predict(task, rows), abs=1e-4)
        return
    for one, due in zip(found, model.said(task, model.outputs(task, rows)), strict=True):
        assert one["prediction"] == due["prediction"]
        assert one["probabilities"] == pytest.approx(due["probabilities"], abs=1e-4)


@pytest.mark.parametrize("task", ["names", "cut"])
def test_the_script_tags_words_as_the_model_does(model: Predictor, alone: Path, task: str) -> None:
    """Words of several pieces, more than there is room for, one of which nothing is left, and none at all."""
    texts = [*SENTENCES, LONG, "film \u200d tea unbelievable river", "tea", ""]
    found = [one["prediction"] for one in Model(alone).answers(task, [[text] for text in texts])]
    due = model.predict(task, [text.split() for text in texts])
    assert found == [[tag for _, tag in tags] for tags in due]
    assert [len(tags) for tags in found] == [len(text.split()) for text in texts]
    assert len({tag for tags in found for tag in tags if tag}) > 1  # one tag for everything would prove little
    assert ("" in found[-4]) == (task == "cut")


@pytest.mark.parametrize("task", DECIDED)
def test_what_was_decided_changes_what_the_script_says(model: Predictor, alone: Path, task: str) -> None:
    rows: list[Any] = SENTENCES if len(model.task(task).text) == 1 else [(text, "warm") for text in SENTENCES]
    undecided = Predictor(model.model, model.tokenizer)
    found = Model(alone).answers(task, [[row] if isinstance(row, str) else list(row) for row in rows])
    plain = undecided.said(task, undecided.outputs(task, rows))
    shares = [[one["probabilities"][name] for one in plain] for name in plain[0]["probabilities"]]
    decided = [[one["probabilities"][name] for one in found] for name in plain[0]["probabilities"]]
    said = [one["prediction"] for one in found] != [one["prediction"] for one in plain]
    assert said or np.abs(np.subtract(shares, decided)).max() > 0.01


def test_the_script_answers_as_mtbert_predict_does_whatever_was_decided(run: Run, alone: Path, tmp_path: Path) -> None:
    script = Model(alone)
    rows = [{"text": text, "first": text, "second": "warm"} for text in TEXTS]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for task, (_, parts) in DECIDED.items():
        files = ["--input", str(tmp_path / "rows.jsonl"), "--output", str(tmp_path / f"{task}.jsonl")]
        app(["predict", str(run.folder), "--task", task, *files], standalone_mode=False)
        due = [json.loads(line) for line in (tmp_path / f"{task}.jsonl").read_text().splitlines()]
        found = script.answers(task, [[row[column] for column in script.tasks[task]["text"]] for row in rows])
        for one, line in zip(found, due, strict=True):
            assert one["prediction"] == line["prediction"], task
            shares = [line[f"probability_{name}"] for name in one["probabilities"]]
            assert list(one["probabilities"].values()) == pytest.approx(shares, abs=1e-4), task
        said = {str(one["prediction"]) for one in found}
        assert len(said) > 1 or not parts, task  # one answer to everything would prove little
        assert ("not sure" in said) == ("sure_from" in parts), task


@pytest.mark.parametrize("name", ["model.onnx", "original.onnx", "tasks.json", "tokenizer.json", "manifest.json"])
def test_a_damaged_export_says_nothing(alone: Path, tmp_path: Path, name: str) -> None:
    for one in alone.iterdir():
        (tmp_path / one.name).write_bytes(one.read_bytes())
    content = bytearray((tmp_path / name).read_bytes())
    content[0 if name == "manifest.json" else len(content) // 2] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SystemExit, match=f"{name} is damaged; export the model again"):
        Model(tmp_path)


@pytest.mark.parametrize("name", ["model.onnx", "original.onnx", "tasks.json", "tokenizer.json", "manifest.json"])
def test_an_export_without_one_of_its_files_says_which(alone: Path, tmp_path: Path, name: str) -> None:
    for one in alone.iterdir():
        if one.name != name:
            (tmp_path / one.name).write_bytes(one.read_bytes())
    ran = subprocess.run([sys.executable, tmp_path / "predict.py", "mood", "tea"], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == f"{tmp_path / name} is missing; export the model again\n"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "there is no task '' of 0 text(s), but: mood TEXT, same FIRST SECOND, "),
        (["mod", "tea"], "there is no task 'mod' of 1 text(s), but: mood TEXT, same FIRST SECOND, "),
        (["same", "tea"], "there is no task 'same' of 1 text(s), but: mood TEXT, same FIRST SECOND, "),
    ],
)
def test_the_script_says_what_it_can_be_asked(alone: Path, given: list[str], said: str) -> None:
    ran = subprocess.run([sys.executable, alone / "predict.py", *given], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (1, "", 1)
    assert ran.stderr.startswith(said)


# ---- folders of other libraries


@pytest.mark.parametrize("task", ["mood", "same"])
def test_transformers_opens_a_task_with_the_same_logits(run: Run, model: Predictor, tmp_path: Path, task: str) -> None:
    export(Wanted(run.folder, task), "transformers", tmp_path / "out")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    classes = model.model.tasks[task].class_names
    assert theirs.config.id2label == dict(enumerate(classes))
    texts = [text for text in SENTENCES if text]
    others = [] if task == "mood" else [texts[::-1]]
    given = tokenizer(texts, *others, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        logits = theirs(**given).logits
    rows: list[Any] = texts if task == "mood" else list(zip(texts, *others, strict=True))
    torch.testing.assert_close(logits, model.outputs(task, rows), atol=1e-5, rtol=0)


def test_transformers_gives_calibrated_probabilities_and_it_is_said_what_it_does_not_decide(
    run: Run, model: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    monkeypatch.setattr(exporting.NOTES, "warning", notes.append)
    copy = Run(Path(shutil.copytree(run.folder, tmp_path / "run")))
    decision = Decision(temperature=2.5, sure_from=0.9)
    write_decisions(copy, {"mood": Calibrated(decision, None, 0.9, 20, HeldOut(*[0.1] * 8))})
    export(Wanted(copy.folder, "mood"), "transformers", tmp_path / "out")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    texts = [text for text in SENTENCES if text]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        logits = theirs(**tokenizer(texts, padding=True, truncation=True, return_tensors="pt")).logits
    torch.testing.assert_close(logits, model.outputs("mood", texts) / 2.5, atol=1e-5, rtol=0)
    assert [note.split(":")[0] for note in notes] == [
        "what is written of 'mood' has the temperature of mtbert calibrate, and says the likeliest class"
    ]


@pytest.mark.parametrize("task", ["short", "near", "with_lora"])
def test_sentence_transformers_opens_a_task_with_the_same_vectors(
    run: Run, model: Predictor, tmp_path: Path, task: str
) -> None:
    export(Wanted(run.folder, task), "sentence-transformers", tmp_path / "out")
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path / "out"), device="cpu")
    texts = [text for text in SENTENCES if text]
    found = theirs.encode(texts, show_progress_bar=False)
    network = model.model
    assert isinstance(network, MultiTask)
    examples = Examples.from_texts(network.tasks[task], [texts] * len(network.tasks[task].text), model.tokenizer, 512)
    batch = examples.batch(np.arange(len(texts)))
    with torch.no_grad():
        x = network.embed(batch)
        for state in network.states(x, batch):
            x = state
        due = network.poolings[task](x, batch, network.encoder)[: len(texts)]
    np.testing.assert_allclose(found, due.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("form", "task", "said"),
    [
        ("transformers", "short", r"it pools by 'mean' \(train with `pooling: pooler`\); --format onnx writes every"),
        ("transformers", "near", r"encodes its two texts apart \(train with `pairs: joint`\); it pools by 'mean'"),
        ("transformers", "both", "the mean over both orders of a pair"),
        ("transformers", "angle", r"its head is 'cosine' \(train with `head: linear`\)"),
        ("transformers", "with_pals", "cannot be exported with its module 'pals'"),
        ("sentence-transformers", "same", "reads its two texts as one sequence.*`pairs: separate`"),
        ("sentence-transformers", "mood", "pools by 'pooler', which sentence-transformers has not"),
        ("sentence-transformers", "mod", "unknown task 'mod'; did you mean 'mood'"),
        ("transformers", None, r"--format transformers writes one task: name it with --task \(tasks: mood, same"),
        ("encoder", None, r"--format encoder writes one task: name it with --task \(tasks: mood, same.*--format onnx"),
        ("onnx", "mood", "writes all tasks as one graph; leave --task out"),
        ("onx", None, "unknown export format 'onx'; did you mean 'onnx'"),
    ],
)
def test_what_cannot_be_exported_is_said_and_nothing_is_written(
    run: Run, tmp_path: Path, form: str, task: str | None, said: str
) -> None:
    with pytest.raises(Mistake, match=said):
        export(Wanted(run.folder, task), form, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_it_says_what_to_install(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(Mistake, match=r"this needs onnxruntime: pip install 'mtbert\[onnx\]'"):
        export(Wanted(run.folder, int8=True), "onnx", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
