"""Rates on an accelerator, as a table for RESULTS.md: `python benchmarks/accelerator.py [ENCODER]`.

Training steps in bfloat16 beside transformers.Trainer in bfloat16, prediction beside sentence-transformers, and texts
that are asked for one by one, as the server's clients do. ENCODER is a folder or a name, minilm where it is left out.
Without an accelerator it measures the CPU, and says so.
"""

from __future__ import annotations

import asyncio
import json
import random
import string
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from mtbert.bench.training import bench_train
from mtbert.data.kinds.regression import Regression
from mtbert.model.devices import best_device
from mtbert.model.multitask import MultiTask
from mtbert.recipe.reading import read_recipe
from mtbert.runs.build import Experiment, build
from mtbert.server.queue import Worker
from mtbert.serving.predictor import Predictor

BERT_BASE = {"name": "random", "layers": 12, "width": 768, "heads": 12, "inner": 3072}
ROWS, STEPS, TEXTS = 2048, 40, 20_000
PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # dense bfloat16, in operations a second, by their data sheets
CLIENTS = 1000


def texts(length: int, count: int) -> list[str]:
    """Texts of exactly `length` tokens with the two that every tokenizer here adds: letters are words of their own."""
    draw = random.Random(length)
    return [" ".join(draw.choices(string.ascii_lowercase, k=length - 2)) for _ in range(count)]


def experiment(encoder: dict[str, Any], batch_size: int, length: int, folder: Path) -> Experiment:
    """One task over texts of one length."""
    rows = [{"text": text, "label": number % 2} for number, text in enumerate(texts(length, ROWS))]
    for split, some in (("train", rows), ("dev", rows[:64])):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    task = {"kind": "classification", "text": "text", "label": "label", "classes": ["0", "1"]}
    optimizer = {"name": "adamw", "lr": 1e-5}
    stage = {"sampler": "proportional", "steps": STEPS, "batch_size": batch_size, "optimizer": optimizer}
    recipe = {
        "encoder": encoder,
        "data": str(folder),
        "precision": "bfloat16",
        "tasks": {"any": {**task, "train": "train.jsonl", "dev": "dev.jsonl"}},
        "stages": [stage],
    }
    return build(read_recipe(recipe))


def operations(one: Experiment, batch_size: int, length: int) -> float:
    """Multiplications and additions of a step's matrix products, forward and backward."""
    shape, tokens = one.model.encoder.shape, batch_size * length
    weights = shape.layers * (4 * shape.width**2 + 2 * shape.width * shape.inner)
    return 3 * (2 * weights * tokens + shape.layers * 4 * tokens * length * shape.width)


def training(encoders: dict[str, dict[str, Any]], card: str) -> None:
    peak = next((rate for name, rate in PEAK.items() if name in card), None)
    print("| encoder | batch | length | ours, sentences/s | Trainer, bfloat16 | ratio | floor share | share of peak |")
    print("|---|---|---|---|---|---|---|---|")
    for name, encoder in encoders.items():
        for batch_size in (32, 256):
            for length in (32, 128):
                with tempfile.TemporaryDirectory() as folder:
                    one = experiment(encoder, batch_size, length, Path(folder))
                    found = bench_train(one, "trainer-bfloat16", STEPS)
                rate = operations(one, batch_size, length) * found.ours / batch_size
                share = "" if peak is None else f"{rate / peak:.3f}"
                print(
                    f"| {name} | {batch_size} | {length} | {found.ours:.0f} | {found.theirs:.0f} | {found.ratio:.2f} "
                    f"| {found.floor_share:.2f} | {share} |",
                    flush=True,
                )


def prediction(encoder: dict[str, Any]) -> None:
    from sentence_transformers import SentenceTransformer

    from mtbert.model.checkpoints import save_encoder

    task = Regression(name="any", text=("text",), label="none", range=(0, 1))
    mixed = [text for length in (8, 16, 32, 64) for text in texts(length, TEXTS // 4)]
    random.Random(0).shuffle(mixed)
    with tempfile.TemporaryDirectory() as folder:
        one = experiment(encoder, 32, 32, Path(folder))
        save_encoder(one.model.encoder, one.tokenizer, Path(folder) / "encoder")
        peer = SentenceTransformer(str(Path(folder) / "encoder"), device=best_device().type)
    predictor = Predictor(MultiTask(one.model.encoder, [task]).to(best_device()), one.tokenizer)
    sides = {
        "ours": lambda: predictor.outputs("any", mixed),
        "sentence-transformers encode": lambda: peer.encode(mixed, show_progress_bar=False),
        f"ours, asked one by one by {CLIENTS} at once": lambda: asyncio.run(served(predictor, mixed)),
    }
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(4):
        for name, side in sides.items():
            started = time.perf_counter()
            side()
            if turn:  # the first warms up
                taken[name].append(time.perf_counter() - started)
    print("| prediction, float32 | texts/s |")
    print("|---|---|")
    for name, seconds in taken.items():
        print(f"| {name} | {len(mixed) / sorted(seconds)[1]:.0f} |", flush=True)


async def served(predictor: Predictor, mixed: list[str]) -> None:
    """Every text as a request of its own through the server's queue, without HTTP."""
    worker = Worker({"model": predictor}, CLIENTS * 2, torch.get_num_threads())

    async def client(own: list[str]) -> None:
        for text in own:
            await worker.ask("model", ["any"], [text])

    await asyncio.gather(*(client(mixed[number::CLIENTS]) for number in range(CLIENTS)))
    worker.close()


def main() -> None:
    encoder = {"name": sys.argv[1] if len(sys.argv) > 1 else "minilm"}
    device = best_device()
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{card}, torch {torch.__version__}\n")
    prediction(encoder)
    print()
    training({"minilm": encoder, "random BERT-base": BERT_BASE}, card)


if __name__ == "__main__":
    main()
