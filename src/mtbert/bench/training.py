"""A training step against transformers.Trainer: same encoder, data, batch size, dropout and threads, in alternation."""

from __future__ import annotations

import inspect
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mtbert.bench.floor import Floor
from mtbert.bench.peers import peer
from mtbert.bench.rate import Rate
from mtbert.data.batches import Batch, Stream
from mtbert.errors import Mistake, unknown
from mtbert.model.checkpoints import save_encoder
from mtbert.model.devices import PRECISIONS, wait_for
from mtbert.runs.build import Experiment


class Peer(NamedTuple):
    """How transformers.Trainer is set; by default it neither groups batches by length nor uses bfloat16."""

    grouped: bool
    bfloat16: bool


PEERS = {
    "transformers": Peer(grouped=False, bfloat16=False),
    "trainer-grouped": Peer(grouped=True, bfloat16=False),
    "trainer-bfloat16": Peer(grouped=False, bfloat16=True),
    "trainer-grouped-bfloat16": Peer(grouped=True, bfloat16=True),
}
BLOCK = 4  # steps of one side before it is the other's turn


@dataclass(frozen=True)
class TrainBench:
    """What `mtbert bench train` measured; rates are sentences a second, medians over blocks of steps."""

    against: str
    ours: float
    theirs: float
    ratio: float
    precision: str  # ours, and that of the floor's products
    floor_share: float  # time of the matrix products alone / time of our steps
    padding_waste: float  # share of our positions that hold no token
    padding_waste_theirs: float
    ours_quartiles: tuple[float, float]
    theirs_quartiles: tuple[float, float]
    steps: int
    batch_size: int
    threads: int
    dropout: float
    attention_dropout: float


@dataclass
class Side:
    """What one side did, block by block."""

    shapes: list[tuple[int, int]] = field(default_factory=list)  # (S, L) of every batch
    tokens: int = 0
    sentences: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    in_block: int = 0

    def note(self, mask: Tensor, sentences: int) -> None:
        """A batch was drawn: mask (S, L)."""
        self.shapes.append((mask.shape[0], mask.shape[1]))
        self.tokens += int(mask.sum())
        self.in_block += sentences

    def close(self, seconds: float) -> None:
        """A block is over."""
        self.sentences.append(self.in_block)
        self.seconds.append(seconds)
        self.in_block = 0

    @property
    def rate(self) -> Rate:
        return Rate.of(self.sentences, self.seconds)

    @property
    def waste(self) -> float:
        return 1 - self.tokens / sum(sequences * length for sequences, length in self.shapes)


class Watched:
    """A stream that tells a side what it drew."""

    def __init__(self, stream: Stream, side: Side) -> None:
        self.stream, self.side = stream, side

    def draw(self, number: int = 0, of: int = 1) -> Batch:
        batch = self.stream.draw(number, of)
        self.side.note(batch.mask, len(batch))
        return batch


def bench_train(experiment: Experiment, against: str, steps: int) -> TrainBench:
    """Time `steps` optimiser steps of each side; raises Mistake where the peer is unknown or not installed."""
    if against not in PEERS:
        raise Mistake(unknown("peer", against, PEERS))
    shape, batch_size = experiment.model.encoder.shape, experiment.recipe.stages[0].batch_size
    if not isinstance(batch_size, int):
        raise Mistake(f"{against} has one batch size for all tasks: set stages.0.batch_size=32, or another number")
    ours, theirs, floors = Side(), Side(), []
    trainer = experiment.stage(0).trainer
    trainer.streams = {task: Watched(stream, ours) for task, stream in trainer.streams.items()}  # type: ignore[misc]
    floor = Floor(shape, max(batch_size * 2 * 128, 8192), PRECISIONS[experiment.precision], trainer.device)

    def our_turn() -> None:
        first = len(ours.shapes)
        started = time.perf_counter()
        for _ in range(BLOCK):
            trainer.take_step()
        wait_for(trainer.device)
        ours.close(time.perf_counter() - started)
        floors.append(sum(floor.seconds(*met) for met in ours.shapes[first:]))

    _run_trainer(experiment, PEERS[against], steps, theirs, our_turn)

    # the first block of each side warms up and does not count
    for side in (ours, theirs):
        del side.sentences[0], side.seconds[0]
    mine, other = ours.rate, theirs.rate
    return TrainBench(
        against,
        mine.median,
        other.median,
        mine.median / other.median,
        experiment.precision,
        sum(floors[1:]) / sum(ours.seconds),
        ours.waste,
        theirs.waste,
        (mine.low, mine.high),
        (other.low, other.high),
        steps,
        batch_size,
        torch.get_num_threads(),
        shape.dropout,
        shape.attention_dropout,
    )


class TheirModel(nn.Module):
    """transformers.BertModel with one linear head a task, for batches in which tasks are mixed."""

    def __init__(self, encoder: nn.Module, experiment: Experiment) -> None:
        super().__init__()
        self.encoder = encoder
        self.tasks = list(experiment.recipe.tasks.values())
        width = experiment.model.encoder.shape.width
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Dropout(task.dropout), nn.Linear(width, task.outputs)) for task in self.tasks
        )

    def forward(self, task: Tensor, target: Tensor, **inputs: Tensor) -> dict[str, Tensor]:
        states = self.encoder(**inputs).last_hidden_state
        mask = inputs["attention_mask"].to(states.dtype)
        pooled = torch.einsum("sld,sl->sd", states, mask) / mask.sum(1, keepdim=True)
        losses = []
        for index, (one, head) in enumerate(zip(self.tasks, self.heads, strict=True)):
            here = task == index
            if bool(here.any()):
                targets = target[here].to(one.target_type)
                losses.append(one.losses(head(pooled[here]), targets).sum())
        return {"loss": torch.stack(losses).sum() / len(task)}


def _run_trainer(experiment: Experiment, how: Peer, steps: int, side: Side, other_turn: Callable[[], None]) -> None:
    """Let transformers.Trainer train as its users would, and hand over after each of its blocks."""
    transformers = peer("transformers")
    peer("accelerate")  # the Trainer imports it late
    rows = _their_rows(experiment)
    device = next(experiment.model.parameters()).device

    class Alternate(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
        """Takes the time of each block of steps, batches included."""

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.started = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step % BLOCK == 0:
                wait_for(device)
                side.close(time.perf_counter() - self.started)
                other_turn()
                self.started = time.perf_counter()

    with tempfile.TemporaryDirectory() as folder:
        save_encoder(experiment.model.encoder, experiment.tokenizer, Path(folder))
        encoder = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False)
        pad = transformers.DataCollatorWithPadding(transformers.AutoTokenizer.from_pretrained(folder))

        def collate(examples: list[dict[str, Any]]) -> Any:
            batch = pad([{key: value for key, value in one.items() if key != "length"} for one in examples])
            side.note(batch["attention_mask"], len(examples))
            return batch

        stage = experiment.recipe.stages[0]
        arguments = transformers.TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=stage.batch_size,
            max_steps=steps,
            learning_rate=stage.optimizer.options["lr"],
            bf16=how.bfloat16,
            **_grouping(transformers, how.grouped),
            remove_unused_columns=False,
            use_cpu=device.type == "cpu",
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            seed=experiment.recipe.seed,
        )
        transformers.Trainer(TheirModel(encoder, experiment), arguments, collate, rows, callbacks=[Alternate()]).train()


def _grouping(transformers: ModuleType, grouped: bool) -> dict[str, Any]:
    """The argument that groups by length: transformers 5 has renamed it."""
    if "group_by_length" in inspect.signature(transformers.TrainingArguments).parameters:
        return {"group_by_length": grouped}
    return {"train_sampling_strategy": "group_by_length" if grouped else "random"}


def _their_rows(experiment: Experiment) -> list[dict[str, Any]]:
    """All tasks' examples in one list, tokenised as ours are."""
    rows = []
    for index, examples in enumerate(experiment.sets["train"].values()):
        for row in range(len(examples)):
            one = examples.batch([row])
            assert one.targets is not None  # training sets are labelled
            rows.append(
                {
                    "input_ids": one.tokens[0].tolist(),
                    "token_type_ids": one.segments[0].tolist(),
                    "attention_mask": one.mask[0].long().tolist(),
                    "length": one.tokens.shape[1],
                    "task": index,
                    "target": float(one.targets[0]),
                }
            )
    return rows
