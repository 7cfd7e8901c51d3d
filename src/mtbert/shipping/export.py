"""The kept model of a run, written for others: `mtbert export`."""

from __future__ import annotations

import importlib.metadata
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from mtbert.data.tokenizer import Tokenizer
from mtbert.errors import Mistake, unknown
from mtbert.model.checkpoints import load_model, merged, save_encoder
from mtbert.model.files import seal, write_json
from mtbert.model.multitask import MultiTask
from mtbert.model.sentences import SENTENCE
from mtbert.runs.decisions import read_decisions
from mtbert.runs.environment import processor
from mtbert.runs.evaluate import to_be_scored
from mtbert.runs.extras import needed
from mtbert.runs.folder import BEST, Run
from mtbert.runs.output import refuse_run
from mtbert.runs.writing import write_folder
from mtbert.scoring.decisions import NOT_SURE, PLAIN
from mtbert.scoring.evaluation import outputs_of
from mtbert.shipping.beside_graph import described
from mtbert.shipping.certificate import Certificate, certify
from mtbert.shipping.graph import GraphModel, GraphOriginal, write_graph, write_int8, write_original
from mtbert.shipping.hugging_face import save_classifier, save_sentences

GRAPHS = {"onnx": "model.onnx", "int8": "model.int8.onnx"}  # side of the certificate -> file
ORIGINALS = {"onnx": "original.onnx", "int8": "original.int8.onnx"}  # the same of the original encoder
TASKS, CERTIFICATE, SCRIPT = "tasks.json", "certificate.json", "predict.py"
STANDALONE = "standalone.py"  # the script as it stands here; to import it would run it
BOUND = 0.005

NOTES = logging.getLogger("mtbert")


@dataclass(frozen=True)
class Wanted:
    """What is to be exported, and how: `bound` is how far the score of a task may fall in a graph."""

    run: Path
    task: str | None = None
    int8: bool = False
    bound: float = BOUND
    data: Path | None = None


class Refused(Exception):
    """A graph whose scores fall by more than they may: nothing was written, and the certificate says why."""

    def __init__(self, certificate: Certificate) -> None:
        super().__init__("; ".join(certificate.fallen))
        self.certificate = certificate


def export(wanted: Wanted, form: str, out: Path) -> Certificate | None:
    """Write a run's kept model into a folder that is absent or empty; the certificate of a graph.

    Raises Mistake for a format that there is not or that the model cannot be written in, for one of one task where none
    is named, and the reverse; and Refused.
    """
    if form not in FORMATS:
        raise Mistake(unknown("export format", form, FORMATS))
    chosen = FORMATS[form]
    if chosen.one_task and wanted.task is None:
        tasks, whole = Run.open(wanted.run).recipe(wanted.data).tasks, [n for n in FORMATS if not FORMATS[n].one_task]
        raise Mistake(
            f"--format {form} writes one task: name it with --task (tasks: {', '.join(tasks)}); "
            f"--format {' or '.join(whole)} writes all of them"
        )
    if wanted.task is not None and not chosen.one_task:
        raise Mistake(f"--format {form} writes all tasks as one graph; leave --task out")
    refuse_run(out)
    made: list[Certificate | None] = []
    write_folder(out, lambda folder: made.append(chosen.write(wanted, folder)))
    return made[0]


def _write_graphs(wanted: Wanted, folder: Path) -> Certificate:
    """All tasks as one graph, the tokenizer, a script that needs no mtbert, and the certificate."""
    runtime = needed("onnxruntime", "onnx")
    needed("onnxscript", "onnx")
    scored = to_be_scored(wanted.run, wanted.data, list(Run.open(wanted.run).recipe(wanted.data).tasks))
    model = scored.model.cpu()
    if not isinstance(model, MultiTask):
        raise Mistake(f"{wanted.run} holds an ensemble, which is several models: export one of its runs")
    write_graph(model, folder / GRAPHS["onnx"])
    original = model.original if model.apart(model.tasks) else None
    if original is not None:
        write_original(original, folder / ORIGINALS["onnx"])
    if wanted.int8:
        for files in [GRAPHS] if original is None else [GRAPHS, ORIGINALS]:
            write_int8(folder / files["onnx"], folder / files["int8"])
    threads = torch.get_num_threads()
    machine = {
        "processor": processor(),
        "threads": threads,
        "versions": {"torch": torch.__version__, "onnxruntime": runtime.__version__, "mtbert": _version()},
    }

    def at_work(side: str) -> GraphModel:
        if original is None:
            return GraphModel(folder / GRAPHS[side], threads)
        reader = GraphOriginal(folder / ORIGINALS[side], threads, scored.tokenizer, original)
        return GraphModel(folder / GRAPHS[side], threads, reader.vectors)

    sides = {side: at_work(side).outputs for side in (GRAPHS if wanted.int8 else ["onnx"])}
    model_side = {"torch": lambda task, examples: outputs_of(model, examples)}
    certificate = certify({**model_side, **sides}, scored.whole(), wanted.bound, machine)
    if certificate.fallen:
        raise Refused(certificate)
    write_json(certificate.as_dict(), folder / CERTIFICATE)
    positions, decided = model.encoder.shape.positions, read_decisions(Run.open(wanted.run).part(BEST), model.tasks)
    decisions = {name: decided[name].decision if name in decided else PLAIN for name in model.tasks}
    alone = 0 if original is None else min(SENTENCE.max_length, original.encoder.shape.positions)
    tasks = {
        name: described(task, positions, decisions[name], alone if model.beside[name] else 0)
        for name, task in model.tasks.items()
    }
    write_json(tasks, folder / TASKS)
    (folder / "tokenizer.json").write_text(scored.tokenizer.definition, encoding="utf-8")
    shutil.copyfile(Path(__file__).with_name(STANDALONE), folder / SCRIPT)
    seal(folder)
    return certificate


def _write_vectors(save: Callable[[MultiTask, Tokenizer, str, Path], None], wanted: Wanted, folder: Path) -> None:
    """What a task makes of a text before its head, in a format of another library."""
    save(*_of_one_task(wanted), folder)


def _write_classifier(wanted: Wanted, folder: Path) -> None:
    """One task for transformers, at the temperature that was fitted."""
    model, tokenizer, task = _of_one_task(wanted)
    decided = read_decisions(Run.open(wanted.run).part(BEST), model.tasks).get(task)
    decision = PLAIN if decided is None else decided.decision
    save_classifier(model, tokenizer, task, folder, decision.temperature)
    if not decision.says_the_likeliest:
        NOTES.warning(
            f"what is written of '{task}' has the temperature of mtbert calibrate, and says the likeliest class: "
            f"transformers knows no thresholds and no '{NOT_SURE}'"
        )


def _of_one_task(wanted: Wanted) -> tuple[MultiTask, Tokenizer, str]:
    model, tokenizer = load_model(Run.open(wanted.run).part(BEST))
    assert wanted.task is not None  # `export` has seen to it
    if wanted.int8:
        raise Mistake("--int8 is for --format onnx")
    return model, tokenizer, wanted.task


def _save_merged(model: MultiTask, tokenizer: Tokenizer, task: str, folder: Path) -> None:
    save_encoder(merged(model, task), tokenizer, folder)


def _version() -> str:
    return importlib.metadata.version("mtbert")


class Format(NamedTuple):
    """How a model is written, and whether that is one of its tasks."""

    write: Callable[[Wanted, Path], Certificate | None]
    one_task: bool = True


FORMATS = {
    "encoder": Format(partial(_write_vectors, _save_merged)),
    "onnx": Format(_write_graphs, one_task=False),
    "transformers": Format(_write_classifier),
    "sentence-transformers": Format(partial(_write_vectors, save_sentences)),
}
