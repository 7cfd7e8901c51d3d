"""What the model beside this file says: python predict.py TASK TEXT [SECOND TEXT]; needs onnxruntime and tokenizers."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tokenizers

FOLDER = Path(__file__).parent
TASKS = json.loads((FOLDER / "tasks.json").read_text(encoding="utf-8"))
TOKENIZER = tokenizers.Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
SESSION = onnxruntime.InferenceSession(sorted(FOLDER.glob("*.onnx"))[0])  # model.int8.onnx where it was asked for
OPTIONS = onnxruntime.RunOptions()
OPTIONS.only_execute_path_to_fetches = True


def answers(name: str, rows: list[list[str]]) -> Any:
    """The probability of each class, the score, or else the outputs, for every row: a list of one text or of two."""
    task = TASKS[name]
    orders = [rows, [row[::-1] for row in rows]] if task["symmetric"] else [rows]
    outputs = np.mean([outputs_of(name, order) for order in orders], axis=0)
    if task["kind"] == "classification":
        shares = np.exp(outputs - outputs.max(-1, keepdims=True))
        return [dict(zip(task["classes"], row / row.sum(), strict=True)) for row in shares.astype(float)]
    if "range" not in task:
        return outputs.tolist()
    low, high = task["range"]
    return np.clip(low + (high - low) * outputs[:, 0] if task["scaled"] else outputs[:, 0], low, high).tolist()


def outputs_of(name: str, rows: list[list[str]]) -> Any:
    """The graph's outputs for a task: (B, outputs)."""
    task = TASKS[name]
    if task["pairs"] == "separate" and len(task["text"]) == 2:  # all first texts, then all second ones
        rows = [[row[side]] for side in (0, 1) for row in rows]
    sequences = [sequence(row, task["max_length"] - 1 - len(row)) for row in rows]
    for one in sequences:
        one.pad(max(map(len, sequences)), pad_id=TOKENIZER.token_to_id("[PAD]"))
    segments = np.array([one.type_ids for one in sequences]) * (task["segments"] == "pair")
    tokens, mask = (np.array([getattr(one, part) for one in sequences]) for part in ("ids", "attention_mask"))
    return SESSION.run([name], {"input_ids": tokens, "token_type_ids": segments, "attention_mask": mask}, OPTIONS)[0]


def sequence(row: list[str], room: int) -> Any:
    """One text or two as tokens, cut to the room that special tokens leave; a pair loses those of its longer text."""
    parts = [TOKENIZER.encode(text, add_special_tokens=False) for text in row]
    others = [len(part) for part in reversed(parts)] if len(parts) == 2 else [0]
    for place, (part, other) in enumerate(zip(parts, others, strict=True)):
        part.truncate(max(room - other, (room + 1 - place) // 2))
    return TOKENIZER.post_process(parts[0], parts[1] if len(parts) == 2 else None)


if __name__ == "__main__":
    print(json.dumps(answers(sys.argv[1], [sys.argv[2:]])[0], ensure_ascii=False))
