"""Requests that wait are answered together: a bounded queue, and one thread that owns the models."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch

from mtbert.process import return_freed_memory
from mtbert.serving.engines import Question
from mtbert.serving.given import columns_of
from mtbert.serving.predictor import Predictor

Answer = dict[str, Any]  # task -> its prediction, and a probability for each class

TOGETHER = 512  # texts, at most, that are answered at a time


class Busy(Exception):
    """So many texts wait that more would wait too long."""


@dataclass(frozen=True)
class Asked:
    """Texts or pairs that wait for what some tasks of a model say of them; a pair is a list of two texts."""

    model: str
    tasks: tuple[str, ...]
    texts: Sequence[Any]
    answer: asyncio.Future[list[Answer]] = field(compare=False)


class Worker:
    """Answers what is asked, as many texts at a time as wait, on one thread.

    It never waits for more to come. What waits is taken in its turn; texts of one kind that wait together go through
    the encoder together, where they are sorted by length.
    """

    def __init__(self, models: dict[str, Predictor], most: int, threads: int) -> None:
        self.models = models
        self.most = most
        self.threads = threads
        self.waiting = 0  # texts that were asked for and not answered
        self.batches = self.answered = 0
        self._queue: deque[Asked] = deque()
        self._something = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def ask(self, model: str, tasks: Sequence[str], texts: Sequence[Any]) -> asyncio.Future[list[Answer]]:
        """What these tasks will say of each text; raises Busy where too many wait, and once the server is closing."""
        asked = Asked(model, tuple(tasks), texts, asyncio.get_running_loop().create_future())
        with self._something:
            if self._closing or (self.waiting and self.waiting + len(texts) > self.most):
                raise Busy
            self.waiting += len(texts)
            self._queue.append(asked)
            self._something.notify()
        return asked.answer

    def close(self) -> None:
        """Answer what was taken, and take nothing more."""
        with self._something:
            self._closing = True
            self._something.notify()
        self._thread.join()

    def _work(self) -> None:
        torch.set_num_threads(self.threads)
        while several := self._next():
            said = _answers(self.models, several)
            texts = sum(len(asked.texts) for asked in several)
            with self._something:
                self.waiting -= texts
                self.batches += 1
                self.answered += texts
            for asked, answers in zip(several, said, strict=True):
                with suppress(RuntimeError):  # the loop has ended, and with it whoever asked there
                    asked.answer.get_loop().call_soon_threadsafe(_give, asked.answer, answers)
            if texts > 1:  # what one text took of the heap serves the next one, and to trim it would cost that one time
                return_freed_memory()

    def _next(self) -> list[Asked]:
        """The next that wait, so many that they are answered together; none when the server is closing."""
        with self._something:
            while not self._queue and not self._closing:
                self._something.wait()
            taken: list[Asked] = []
            size = 0
            while self._queue and (not taken or size + len(self._queue[0].texts) <= TOGETHER):
                asked = self._queue.popleft()
                if asked.answer.cancelled():  # whoever asked has hung up
                    self.waiting -= len(asked.texts)
                    continue
                taken.append(asked)
                size += len(asked.texts)
            if taken or self._closing:
                return taken
        return self._next()


def _answers(models: Mapping[str, Predictor], several: Sequence[Asked]) -> list[list[Answer] | Exception]:
    """What is said to each that asked, text by text, or why not."""
    answers: list[list[Answer] | Exception] = [[{} for _ in asked.texts] for asked in several]
    for name in dict.fromkeys(asked.model for asked in several):
        places = [place for place, asked in enumerate(several) if asked.model == name]
        try:
            _answer_together(models[name], [(several[place], answers[place]) for place in places])
        except Exception as error:  # whatever it is, those that wait have to hear of it
            for place in places:
                answers[place] = error
    return answers


def _answer_together(model: Predictor, some: Sequence[tuple[Asked, Any]]) -> None:
    """Add what a model says to the answers of those that asked it: one pass for all texts that a pass can serve."""
    questions, whose = list[Question](), []
    for group in model.model.alike(model.tasks):
        own = [one for one in some if not set(group).isdisjoint(one[0].tasks)]
        if own:
            tasks = [name for name in group if any(name in asked.tasks for asked, _ in own)]
            texts = [text for asked, _ in own for text in asked.texts]
            questions.append(Question(tasks, columns_of(model.task(tasks[0]), texts)))
            whose.append(own)
    for own, outputs in zip(whose, model.answer(questions), strict=True):
        for name, one in outputs.items():
            said = iter(model.said(name, one))
            for asked, answers in own:
                for answer in answers:
                    said_of_text = next(said)
                    if name in asked.tasks:
                        answer[name] = said_of_text


def _give(answer: asyncio.Future[list[Answer]], said: Any) -> None:
    if answer.done():
        return
    if isinstance(said, Exception):
        answer.set_exception(said)
    else:
        answer.set_result(said)
