"""What the model beside this file says: python predict.py TASK TEXT [SECOND TEXT]; needs onnxruntime and tokenizers."""

import hashlib
import json
import sys
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tokenizers


def sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


SHARES: dict[str, Any] = {  # from outputs to the probability of each class: (B, outputs) -> (B, C)
    "softmax": lambda z: np.exp(z - np.logaddexp.reduce(z, axis=-1, keepdims=True)),
    "sigmoid": sigmoid,
    "cumulative": lambda z: -np.diff(sigmoid(z), prepend=1, append=0),
    "corn": lambda z: -np.diff(sigmoid(z).cumprod(-1), prepend=1, append=0),
}
SAID: dict[str, Any] = {  # from probabilities to the class that is said, or which are: (B, C) -> (B,) or (B, C)
    "likeliest": lambda p, offsets: (np.log(np.maximum(p, 1e-300)) + offsets).argmax(-1),
    "median": lambda p, _: (p.cumsum(-1)[:, :-1] < 0.5).sum(-1),
    "each": lambda p, thresholds: p > thresholds,
}


class Model:
    """An exported model: its graph (model.int8.onnx where there is one), its tokenizer and its tasks."""

    def __init__(self, folder: Path) -> None:
        file = folder / "manifest.json"
        try:
            for name, digest in json.loads(file.read_bytes())["sha256"].items():
                file = folder / name
                if hashlib.sha256(file.read_bytes()).hexdigest() != digest:
                    raise ValueError
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            sys.exit(f"{file} is {'damaged' if file.exists() else 'missing'}; export the model again")
        self.tasks = json.loads((folder / "tasks.json").read_bytes())
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.session = onnxruntime.InferenceSession(min(folder.glob("model*.onnx")))
        self.more = {one.name: one.shape[1] for one in self.session.get_inputs()[3:]}  # beside tokens -> width
        originals = sorted(folder.glob("original*.onnx"))
        self.original: Any = onnxruntime.InferenceSession(originals[0]) if originals else None
        self.options = onnxruntime.RunOptions()
        self.options.only_execute_path_to_fetches = True  # other tasks of the graph cost nothing

    def answers(self, name: str, rows: list[list[str]]) -> list[dict[str, Any]]:
        """What is said of every row, a list of one text or two, with the probability of each class."""
        task = self.tasks[name]
        z: Any = np.mean([self.outputs(name, rows, order) for order in task["reads"]], axis=0, dtype=np.float64)
        if task["says"] == "words":
            tags = np.where(z[..., 0] > 0, np.array(task["classes"])[z[..., 1:].argmax(-1)], task["unsaid"])
            return [{"prediction": some[there].tolist()} for some, there in zip(tags, z[..., 0] != 0, strict=True)]
        if task["says"] == "score":
            return [{"prediction": float(one)} for one in np.interp(z[:, 0], task["ends"], task["range"])]
        shares, judged = (SHARES[task["shares"]](z / temperature) for temperature in task["temperatures"])
        names, place = np.array(task["classes"]), SAID[task["says"]](judged, task["by"])
        if task["says"] == "each":
            said = [names[row].tolist() for row in place]
        else:
            said = np.where(shares[range(len(rows)), place] < task["sure_from"], "not sure", names[place]).tolist()
        columns = [dict(zip(task["classes"], row, strict=True)) for row in shares.tolist()]
        return [{"prediction": a, "probabilities": b} for a, b in zip(said, columns, strict=True)]

    def outputs(self, name: str, rows: list[list[str]], order: list[list[int]]) -> Any:
        """The graph's outputs, with the texts at these places in each of a row's sequences: (B, outputs)."""
        task, places = self.tasks[name], [place for places in order for place in places]
        most, words = task["max_length"], task["says"] == "words"
        read = [self.sequence([row[place] for place in group], most, words) for group in order for row in rows]
        given = self.padded(read, task["segments"] == "pair")
        for wanted, place in zip([one for one in self.more if one != "words"], [*places, None], strict=False):
            vectors: Any = np.zeros(self.more[wanted], np.float32)  # where the task asks for none
            if task["alone"] and place is not None:
                alone = self.padded([self.sequence([row[place]], task["alone"]) for row in rows])
                vectors = self.original.run(["vector"], alone)[0]
            given[wanted] = np.resize(vectors, (len(read), self.more[wanted]))
        if "words" in self.more:
            starts = [self.starts(row[0], most) if words else [] for _ in order for row in rows]
            longest = max(1, *map(len, starts))
            given["words"] = np.array([one + [0] * (longest - len(one)) for one in starts])
        return self.session.run([name], given, self.options)[0]

    def padded(self, read: list[Any], pairs: bool = True) -> dict[str, Any]:
        """Sequences as a graph reads them, the second texts of pairs in a segment of their own: (S, L) each."""
        for one in read:
            one.pad(max(map(len, read)), pad_id=self.tokenizer.token_to_id("[PAD]"))
        ids, types, mask = np.array([[one.ids, one.type_ids, one.attention_mask] for one in read]).swapaxes(0, 1)
        return {"input_ids": ids, "token_type_ids": types * pairs, "attention_mask": mask}

    def sequence(self, texts: list[str], most: int, words: bool = False) -> Any:
        """The tokens of one text or two between special tokens, cut to so many, a pair's longer text first."""
        parts: list[Any] = [self.encoded(text) for text in texts]
        if words:
            parts = [tokenizers.Encoding.merge(self.pieces(text) or [self.encoded("")]) for text in texts]
        room, total = most - 1 - len(parts), sum(map(len, parts))
        for place, part in enumerate(parts):
            part.truncate(max(room - (total - len(part)), (room + 1 - place) // 2))
        return self.tokenizer.post_process(*parts)

    def starts(self, text: str, most: int) -> list[int]:
        """Where the first piece of each word of a text stands in its sequence, -1 beyond its end."""
        ends = accumulate(map(len, self.pieces(text)), initial=0)
        return [start + 1 if start < most - 2 else -1 for start in ends][:-1]

    def pieces(self, text: str) -> list[Any]:
        """The tokens of each word that white space parts; of which nothing is left is an unknown word."""
        return [self.encoded(word) or self.encoded("[UNK]") for word in text.split()]

    def encoded(self, text: str) -> Any:
        return self.tokenizer.encode(text, add_special_tokens=False)


if __name__ == "__main__":
    model, name, texts = Model(Path(__file__).parent), "".join(sys.argv[1:2]), sys.argv[2:]
    if name not in model.tasks or len(texts) != len(model.tasks[name]["text"]):
        known = ", ".join(f"{name} {' '.join(task['text']).upper()}" for name, task in model.tasks.items())
        sys.exit(f"there is no task '{name}' of {len(texts)} text(s), but: {known}")
    print(json.dumps(model.answers(name, [texts])[0], ensure_ascii=False))
