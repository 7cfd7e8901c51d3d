"""The embedded main job: three small tasks in plain English, and a few questions to ask the trained model."""

from __future__ import annotations

from pathlib import Path

RECIPE = Path(__file__).parent / "recipe.yaml"

QUESTIONS: dict[str, list[str | tuple[str, str]]] = {
    "sentiment": ["I would happily sit through it all again tomorrow.", "A dull evening, and the soup was cold."],
    "paraphrase": [
        ("How can I sleep better at night?", "What helps against insomnia?"),
        ("How can I sleep better at night?", "Why do cats sleep so much?"),
    ],
    "similarity": [
        ("A girl is playing the violin on stage.", "A young woman performs a violin piece."),
        ("A girl is playing the violin on stage.", "The council voted to close the old bridge."),
    ],
}
