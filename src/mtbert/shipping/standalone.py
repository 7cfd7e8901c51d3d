"""What the model beside this file says: python predict.py TASK TEXT [SECOND TEXT]; needs onnxruntime and tokenizers."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tokenizers


def sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


SHARES: dict[str, Any] = {  # from outputs to the probability of each class: (B, outputs) -> (B, C)
    "softmax": lambda z: np.exp(z - z.max(-1, keepdims=True)) / np.exp(z - z.max(-1, keepdims=True)).sum(-1)[:, None],
    "sigmoid": sigmoid,
    "cumulative": lambda z: -np.diff(sigmoid(z), prepend=1, append=0),
    "corn": lambda z: -np.diff(sigmoid(z).cumprod(-1), prepend=1, append=0),
}
SAID: dict[str, Any] = {  # the place of the class that is said: (B, C) -> (B,)
    "likeliest": lambda p, at: p.argmax(-1),
    "second": lambda p, at: (p[:, 1] >= at).astype(int),
    "offset": lambda p, at: (np.log(np.maximum(p, 1e-300)) + at).argmax(-1),
    "median": lambda p, at: (p.cumsum(-1)[:, :-1] < 0.5).sum(-1),
}


class Model:
    """An exported model: its graph (model.int8.onnx where there is one), its tokenizer and its tasks."""

    def __init__(self, folder: Path) -> None:
        for name, digest in json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["sha256"].items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
                raise SystemExit(f"{folder / name} is damaged; export the model again")
        self.tasks = json.loads((folder / "tasks.json").read_text(encoding="utf-8"))
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.session = onnxruntime.InferenceSession(min(folder.glob("*.onnx")))
        self.options = onnxruntime.RunOptions()
        self.options.only_execute_path_to_fetches = True  # other tasks of the graph cost nothing

    def answers(self, name: str, rows: list[list[str]]) -> list[dict[str, Any]]:
        """What is said of every row, a list of one text or two, with the probability of each class."""
        task = self.tasks[name]
        orders = [rows, [row[::-1] for row in rows]] if task["symmetric"] else [rows]
        outputs: Any = np.mean([self.outputs(name, order) for order in orders], axis=0, dtype=np.float64)
        if task["says"] == "score":
            return [{"prediction": float(one)} for one in np.interp(outputs[:, 0], task["ends"], task["range"])]
        names, shares = task["classes"], SHARES[task["shares"]](outputs / task["temperature"])
        judged = shares if task["decided"] else SHARES[task["shares"]](outputs)
        if task["says"] == "each":
            said: list[Any] = [[names[place] for place in row.nonzero()[0]] for row in judged > task["threshold"]]
        else:
            places = SAID[task["says"]](judged, task["threshold"])
            sure = shares[range(len(rows)), places] >= task["sure_from"]
            said = [names[place] if fine else "not sure" for place, fine in zip(places, sure, strict=True)]
        probabilities = [dict(zip(names, row, strict=True)) for row in shares.tolist()]
        return [{"prediction": a, "probabilities": b} for a, b in zip(said, probabilities, strict=True)]

    def outputs(self, name: str, rows: list[list[str]]) -> Any:
        """The graph's outputs for a task: (B, outputs)."""
        task = self.tasks[name]
        if task["pairs"] == "separate" and len(task["text"]) == 2:  # all first texts, then all second ones
            rows = [[row[side]] for side in (0, 1) for row in rows]
        read = [self.sequence(row, task["max_length"] - 1 - len(row)) for row in rows]
        for one in read:
            one.pad(max(map(len, read)), pad_id=self.tokenizer.token_to_id("[PAD]"))
        parts = {"input_ids": "ids", "token_type_ids": "type_ids", "attention_mask": "attention_mask"}
        given = {name: np.array([getattr(one, part) for one in read]) for name, part in parts.items()}
        given["token_type_ids"] *= task["segments"] == "pair"
        return self.session.run([name], given, self.options)[0]

    def sequence(self, row: list[str], room: int) -> Any:
        """The tokens of one text or two, cut to the room that special tokens leave, a pair's longer text first."""
        parts = [self.tokenizer.encode(text, add_special_tokens=False) for text in row]
        others = [len(part) for part in reversed(parts)] if len(parts) == 2 else [0]
        for place, (part, other) in enumerate(zip(parts, others, strict=True)):
            part.truncate(max(room - other, (room + 1 - place) // 2))
        return self.tokenizer.post_process(parts[0], parts[1] if len(parts) == 2 else None)


if __name__ == "__main__":
    print(json.dumps(Model(Path(__file__).parent).answers(sys.argv[1], [sys.argv[2:]])[0], ensure_ascii=False))
