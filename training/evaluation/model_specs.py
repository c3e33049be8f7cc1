"""What a user calls a model, made into one: the encoder itself, its ablations, other encoders, bm25."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...encoder.config import Attention, EncoderConfig, Method, Pooling
from ...encoder.models import registry
from ...encoder.models.pull import HUB_NAME
from ...encoder.models.resolve import resolve
from ..errors import EvaluationError
from ..recipe import Stage, adapter_name
from ..sentence_transformer import st_folder
from .bm25 import LABEL as BM25
from .bm25 import Bm25Model
from .encoder_model import EncoderModel
from .sentence_transformer import SentenceTransformerModel

if TYPE_CHECKING:
    from ...encoder.models.cache import PullCallback


MODEL = "model"
"""The encoder asked for, as configured."""
ABLATIONS = {
    "uni": (Attention.CAUSAL, Method.PLAIN, Pooling.WEIGHTED_MEAN),
    "bi": (Attention.BIDIRECTIONAL, Method.PLAIN, Pooling.MEAN),
    "echo": (Attention.CAUSAL, Method.ECHO, Pooling.MEAN),
}
"""The untrained base in the three ways of the paper's Tables 1 and 5, by name."""
STAGES = tuple(stage.value for stage in Stage)
STEPS = (*ABLATIONS, *STAGES)
KNOWN = (MODEL, *STEPS, BM25)


def parse_model(
    spec: str,
    *,
    base: EncoderConfig,
    cache: Path | None = None,
    progress: PullCallback | None = None,
    others: Sequence[str] = (),
) -> EncoderModel | SentenceTransformerModel | Bm25Model:
    """Return the model that `spec` means, labelled by itself or as in "label=spec".

    `others` are names that the caller knows itself, for the error to tell.

    "NAME:POOLING" is a step of the encoder pooled in another way: model, uni, bi, echo, a training stage or an adapter.
    In this order: model, uni, bi, echo, a training stage (`base` with the adapters up to the one of that name), bm25;
    a name of the registry; a folder, of sentence-transformers when it holds modules.json; an installed package that
    carries a sentence-transformers model; any adapter of `base` by its folder's name, mntp/step-001000 also as mntp; a
    hub name. Another encoder keeps the device, precision and batch size of `base` and nothing else. Raises
    EvaluationError, for an unknown name with those that are close and for one that two adapters have.
    """
    label, name = split_spec(spec)
    maker = _Maker(base=base, cache=cache, progress=progress)
    if name == BM25:
        return Bm25Model(label or name)
    step, pooling = _split_pooling(name, maker)
    if pooling is not None:
        shown = f"{label_of(base)}:{pooling}" if step == MODEL else name
        return maker.encoder(label or shown, replace(_step(step, maker), pooling=pooling))
    if name == MODEL:
        return maker.encoder(label or label_of(base), base)
    if name in STEPS:
        return maker.encoder(label or name, _step(name, maker))
    return _found(label, name, maker, others)


def _step(name: str, maker: _Maker) -> EncoderConfig:
    if name == MODEL:
        return maker.base
    return ablation(name, maker.base) if name in ABLATIONS else maker.stage(name)


def _split_pooling(name: str, maker: _Maker) -> tuple[str, Pooling | None]:
    """Return a step of the encoder and the pooling asked for, ("uni", last) for uni:last; else `name` and None.

    Raises EvaluationError for a pooling that there is not, and for one of something else than a step.
    """
    step, sign, wanted = name.rpartition(":")
    if not sign or Path(name).expanduser().exists():
        return name, None
    is_step = step in (MODEL, *STEPS) or any(step in _names(folder) for folder in maker.chain())
    if is_step and wanted in list(Pooling):
        return step, Pooling(wanted)
    if is_step:
        raise EvaluationError(
            f"model {name!r}: no pooling is called {wanted!r}, expected {', '.join(Pooling)}, as in {step}:last"
        )
    if wanted in list(Pooling):
        raise EvaluationError(
            f"model {name!r}: a pooling goes with a step of the model, which {step!r} is not; expected "
            f"{', '.join((MODEL, *STEPS))} or the name of an adapter, as in uni:{wanted}"
        )
    return name, None


def _found(
    label: str | None, name: str, maker: _Maker, others: Sequence[str]
) -> EncoderModel | SentenceTransformerModel:
    """Return the model whose files must be looked for."""
    path = Path(name).expanduser()
    is_place = registry.find(name) is None and path.exists()
    label = label or (path.resolve().name if is_place else name)
    folder = None if registry.find(name) is not None else st_folder(name)
    if folder is not None:
        return maker.baseline(label, name, folder)
    if is_place or registry.find(name) is not None:
        return maker.other(label, name)
    chain = [each for folder in maker.chain() for each in _names(folder)]
    if name in chain:
        return maker.encoder(label, maker.stage(name))
    if HUB_NAME.fullmatch(name):
        return maker.other(label, name)
    raise EvaluationError(_unknown(name, chain, others), next_command=("models", "list"))


def ablation(name: str, base: EncoderConfig) -> EncoderConfig:
    """Return the configuration of a key of ABLATIONS: the bare base, without any adapter."""
    attention, method, pooling = ABLATIONS[name]
    return replace(base, adapters=(), chain=0, attention=attention, method=method, pooling=pooling)


def label_of(config: EncoderConfig) -> str:
    """Return the heading of an encoder: its name, or that of its folder."""
    path = Path(config.model).expanduser()
    return path.resolve().name if registry.find(config.model) is None and path.exists() else config.model


def require_unique(labels: Sequence[str]) -> None:
    """Raise EvaluationError when two models would have the same heading."""
    twice = [label for label, count in Counter(labels).items() if count > 1]
    if twice:
        raise EvaluationError(
            f"{Counter(labels)[twice[0]]} models are called {twice[0]!r}: name them apart, as in other={twice[0]}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Maker:
    base: EncoderConfig
    cache: Path | None
    progress: PullCallback | None

    def encoder(self, label: str, config: EncoderConfig) -> EncoderModel:
        return EncoderModel(label, config, cache=self.cache, progress=self.progress)

    def other(self, label: str, model: str) -> EncoderModel:
        """Return another encoder with its own settings, on the machine's side as `base`."""
        entry = registry.find(model)
        if entry is not None and entry.source == "builtin":
            return self.encoder(label, EncoderConfig(model=entry.name))
        base = self.base
        return self.encoder(
            label,
            EncoderConfig(
                model=model,
                precision=base.precision,
                runtime=base.runtime,
                device=base.device,
                batch_tokens=base.batch_tokens,
            ),
        )

    def baseline(self, label: str, name: str, folder: Path) -> SentenceTransformerModel:
        return SentenceTransformerModel(label, folder, name=name, device=self.base.device, cache=self.cache)

    def chain(self) -> tuple[Path, ...]:
        """Return all adapters of `base`, its model's own and those given, in the order of their use."""
        entry = registry.find(self.base.model)
        if entry is not None and entry.source == "builtin":
            return ()
        config = replace(self.base, chain=None)
        return resolve(config, cache=self.cache, progress=self.progress).adapters

    def stage(self, name: str) -> EncoderConfig:
        """Return `base` with its adapters up to the one called `name`. Raises EvaluationError for none, and for two."""
        chain = self.chain()
        found = [at for at, folder in enumerate(chain, start=1) if name in _names(folder)]
        if not found:
            has = f"has the adapters {', '.join(map(adapter_name, chain))}" if chain else "has no adapters"
            raise EvaluationError(
                f"{self.base.model} {has}, none called {name!r}: train it, or leave {name} out",
                next_command=("train", "run"),
            )
        if len(found) > 1:
            listed = ", ".join(str(chain[at - 1]) for at in found)
            raise EvaluationError(
                f"{self.base.model} has {len(found)} adapters called {name!r}: {listed}. Expected the name of one: "
                "rename the folders, or give only one of them as --adapter"
            )
        own = len(chain) - len(self.base.adapters)
        return replace(self.base, chain=min(found[0], own), adapters=self.base.adapters[: max(0, found[0] - own)])


def _names(folder: Path) -> tuple[str, ...]:
    """Return the names by which an adapter may be asked for: mntp/step-001000 is mntp and step-001000."""
    return adapter_name(folder), folder.absolute().name


def split_spec(spec: str) -> tuple[str | None, str]:
    """Return label and rest; an existing path keeps its "="."""
    label, sign, rest = spec.partition("=")
    if not sign or Path(spec).expanduser().exists() or "/" in label:
        return None, spec
    if not label.strip() or not rest:
        raise EvaluationError(f"model {spec!r}: expected LABEL=NAME, as in tuned=runs/mine")
    return label.strip(), rest


def _unknown(spec: str, chain: Sequence[str], others: Sequence[str]) -> str:
    known = list(dict.fromkeys([*KNOWN, *others, *chain, *registry.names()]))
    close = difflib.get_close_matches(spec.lower(), known, n=3, cutoff=0.6)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    return (
        f"no model is called {spec!r}.{hint} Expected {', '.join((*KNOWN, *others))}, a name of the registry, "
        "a folder, a hub name owner/name, or an installed package that carries a sentence-transformers model"
    )
