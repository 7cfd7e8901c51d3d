"""What the untrained encoder knows, beside transformers and a search over all thresholds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mtbert.data.batches import Examples
from mtbert.data.kinds.classification import Classification
from mtbert.data.kinds.regression import Regression
from mtbert.data.labels import plain
from mtbert.model.checkpoints import load_encoder
from mtbert.model.sentences import cosines, sentence_vectors
from mtbert.scoring.zero_shot import applies_to, best_threshold, zero_shot_metrics
from tests.support.tiny_models import MOOD, NEAR, SAME, SENTENCES, publish, tiny_bert, tiny_encoder, tiny_tokenizer


def test_a_sentence_vector_is_the_mean_of_transformers_last_states(tmp_path: Path) -> None:
    theirs = tiny_bert()
    encoder, tokenizer = load_encoder(publish(theirs, tmp_path)), tiny_tokenizer()
    texts = SENTENCES[:3]
    found = sentence_vectors(encoder, tokenizer.encode(texts), tokenizer, batch_size=2)
    for text, vector in zip(texts, found, strict=True):
        ids = [tokenizer.first, *tokenizer.encode([text]).flat.tolist(), tokenizer.separator]
        with torch.no_grad():
            expected = theirs(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0)
        torch.testing.assert_close(vector, expected, atol=1e-5, rtol=1e-5)


def test_the_best_threshold_is_that_of_a_search_over_all() -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        size = int(generator.integers(1, 12))
        values, labels = generator.integers(0, 5, size) / 5, generator.integers(0, 2, size).astype(float)
        found = best_threshold(values, labels)
        right = (np.where(values >= found.cosine, found.above, 1 - found.above) == labels).sum()
        every = [
            (np.where(values >= cosine, above, 1 - above) == labels).sum()
            for cosine in [*values, np.inf]
            for above in (0, 1)
        ]
        assert right == max(every)


def pairs(task: Classification | Regression, labels: list[float]) -> Examples:
    tokenizer = tiny_tokenizer()
    columns = [tokenizer.encode(SENTENCES[:4]), tokenizer.encode(SENTENCES[2:6])]
    return Examples(task, columns, tokenizer, 20, np.array(labels))


def test_scores_are_correlated_with_the_cosine_and_classes_told_apart_by_it() -> None:
    encoder, tokenizer = tiny_encoder(), tiny_tokenizer()
    near = pairs(NEAR, [0.0, 1.0, 3.0, 2.0])
    values = cosines(encoder, near.tokens, tokenizer).numpy()
    found = zero_shot_metrics(encoder, tokenizer, near, None)
    assert near.labels is not None
    assert found["pearson"] == pytest.approx(np.corrcoef(values, plain(near.labels))[0, 1])
    ordered = pairs(SAME, (values > np.median(values)).astype(float).tolist())
    assert zero_shot_metrics(encoder, tokenizer, ordered, ordered)["accuracy"] == 1.0


def test_single_texts_and_many_classes_have_no_zero_shot_row() -> None:
    three = Classification(name="t", text=["a", "b"], label="y", classes=3)
    assert [applies_to(task) for task in (MOOD, SAME, NEAR, three)] == [False, True, True, False]
