"""Tokens a second of the compiled encoder beside torch and sentence-transformers, all sides in turn in one process.

    searchctl models export smollm2-135m -o exported --format sentence-transformers
    python benchmarks/encode.py --exported exported --baseline MINILM-FOLDER --rounds 5

Texts are the paragraphs of docs/ and questions of some 15 tokens. `--exported` is this encoder as sentence-transformers
loads it, `--baseline` any sentence-transformers model; both may be left out. Each side encodes all texts once a round,
after one round that does not count; the table has medians. The last column is the share of what matrix products on this
machine allow: of their floating point operations a second, measured in the same rounds, what the layers take.
"""

from __future__ import annotations

import argparse
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from searchctl.encoder.config import EncoderConfig, Precision, Runtime
from searchctl.encoder.open import open_encoder
from searchctl.encoder.protocol import Encoder, Role

DOCS = Path(__file__).parent.parent / "docs"
Side = Callable[[list[str]], object]


def paragraphs() -> list[str]:
    texts = [text for path in sorted(DOCS.glob("*.md")) for text in re.split(r"\n\s*\n", path.read_text("utf-8"))]
    return [text for text in texts if len(text) > 120 and not text.startswith(("```", "|", "#"))][:240]


def questions(texts: list[str]) -> list[str]:
    return [" ".join(text.split()[:10]) + "?" for text in texts]


def product_rate(width: int, inner: int, rows: int = 1024) -> float:
    """Return floating point operations a second of a product as large as those of a layer."""
    left = np.random.default_rng(0).random((rows, width), dtype=np.float32)
    right = np.random.default_rng(1).random((width, inner), dtype=np.float32)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < 0.5:
        left @ right
        count += 1
    return 2 * rows * width * inner * count / (time.perf_counter() - began)


def layer_weights(encoder: Any) -> int:
    """Return how many numbers the linear layers hold: two operations a token each."""
    weights = (module.weight for module in encoder.model.modules() if type(module).__name__ == "Linear")
    return sum(weight.numel() for weight in weights)


def ours(encoder: Encoder) -> Side:
    return lambda texts: encoder.encode(texts, role=Role.DOCUMENT)


def theirs(folder: Path) -> Side:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": "float32"})
    return lambda texts: model.encode(texts, batch_size=32, show_progress_bar=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=EncoderConfig().model)
    parser.add_argument("--exported", type=Path)
    parser.add_argument("--baseline", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()

    def opened(runtime: Runtime) -> Any:
        config = EncoderConfig(model=asked.model, runtime=runtime, precision=Precision.FP32, device="cpu")
        return open_encoder(config)

    torch_side = opened(Runtime.TORCH)
    compiled = opened(Runtime.COMPILED)
    sides: dict[str, Side] = {"compiled": ours(compiled), "torch fp32": ours(torch_side)}
    if asked.exported:
        sides["sentence-transformers, same encoder"] = theirs(asked.exported)
    if asked.baseline:
        sides[f"sentence-transformers, {asked.baseline.name}"] = theirs(asked.baseline)
    texts = paragraphs()
    work = {"paragraphs": texts, "questions": questions(texts)}
    tokens = {name: sum(len(ids.ids) for ids in compiled.tokenizer.encode_batch(of)) for name, of in work.items()}
    taken: dict[tuple[str, str], list[float]] = {}
    rates: list[float] = []
    config = torch_side.model.config
    for turn in range(asked.rounds + 1):
        rates.append(product_rate(config.hidden_size, config.intermediate_size))
        for name, of in work.items():
            for side, encode in sides.items():
                began = time.perf_counter()
                encode(of)
                if turn:
                    taken.setdefault((name, side), []).append(time.perf_counter() - began)
    rate, operations = statistics.median(rates), 2 * layer_weights(torch_side)
    print(f"matrix products: {rate / 1e9:,.0f} GFLOP/s; layers: {operations / 1e6:.1f} MFLOP a token")
    print("| texts | side | texts/s | tokens/s | beside compiled | of the matrix product |")
    print("| --- | --- | --- | --- | --- | --- |")
    for (name, side), seconds in taken.items():
        median = statistics.median(seconds)
        ratio = statistics.median(a / b for a, b in zip(taken[name, "compiled"], seconds, strict=True))
        own = (
            ""
            if "baseline" in side or not side.startswith(("compiled", "torch"))
            else (f"{tokens[name] / median * operations / rate:.0%}")
        )
        print(
            f"| {name} ({tokens[name]:,} tokens) | {side} | {len(work[name]) / median:,.0f} | "
            f"{tokens[name] / median:,.0f} | {ratio:.2f} | {own} |"
        )


if __name__ == "__main__":
    main()
