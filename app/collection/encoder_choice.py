"""Which encoder a command means, kept as JSON in the collection, and opened only when something must be encoded."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...encoder.config import Attention, EncoderConfig, Method, Pooling, Precision, Runtime
from ...encoder.models.registry import find
from ...index.errors import EncoderMismatchError
from ..errors import AppError
from .talk import Talk

if TYPE_CHECKING:
    from ...encoder.protocol import Encoder, EncoderInfo
    from ...index.protocol import CollectionSettings


IDENTITY = ("model", "adapters", "attention", "method", "pooling", "max_tokens", "dim")
"""Fields of EncoderConfig that decide what a vector means; the others only say how it is computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderChoice:
    """What a person said about the encoder; None is unsaid."""

    model: str | None = None
    adapters: tuple[Path, ...] = ()
    attention: Attention | None = None
    method: Method | None = None
    pooling: Pooling | None = None
    max_tokens: int | None = None
    dim: int | None = None
    precision: Precision = Precision.AUTO
    runtime: Runtime = Runtime.AUTO
    device: str = "auto"
    batch_tokens: int | None = None

    @property
    def names_encoder(self) -> bool:
        """Whether anything was said about which encoder it is, not only how to compute."""
        return any(getattr(self, name) for name in IDENTITY)

    def naming(self, config: EncoderConfig) -> EncoderChoice:
        """Return this choice with the encoder of `config`, computed as was said here."""
        return replace(self, **{name: getattr(config, name) for name in IDENTITY})

    def config(self, base: EncoderConfig | None = None) -> EncoderConfig:
        """Return the whole configuration: what was said, over `base` as long as the model is the same."""
        start = base or EncoderConfig()
        model = start.model if self.model is None else absolute_model(self.model)
        if model != start.model:
            start = EncoderConfig(model=model)
        said = {name: getattr(self, name) for name in IDENTITY[2:] if getattr(self, name) is not None}
        return replace(
            start,
            adapters=tuple(folder.expanduser().absolute() for folder in self.adapters) or start.adapters,
            precision=self.precision,
            runtime=self.runtime,
            device=self.device,
            batch_tokens=self.batch_tokens,
            **said,
        )


def absolute_model(model: str) -> str:
    """Return a folder as an absolute path, so that a query from another folder finds it; any other name as it is."""
    folder = Path(model).expanduser()
    return str(folder.absolute()) if find(model) is None and folder.exists() else model


def config_to_json(config: EncoderConfig) -> str:
    """Return what a collection remembers of `config`."""
    values = {name: getattr(config, name) for name in IDENTITY}
    values["adapters"] = [str(folder) for folder in config.adapters]
    return json.dumps(values, sort_keys=True)


def config_from_json(text: str) -> EncoderConfig:
    """Return the configuration in `text`, as `config_to_json` wrote it."""
    values = json.loads(text)
    return EncoderConfig(
        model=values["model"],
        adapters=tuple(Path(folder) for folder in values["adapters"]),
        attention=Attention(values["attention"]),
        method=Method(values["method"]),
        pooling=None if values["pooling"] is None else Pooling(values["pooling"]),
        max_tokens=values["max_tokens"],
        dim=values["dim"],
    )


class LazyEncoder:
    """An encoder that is loaded when it is first needed."""

    def __init__(self, config: EncoderConfig, talk: Talk, *, expected: CollectionSettings | None = None) -> None:
        """`expected` is the collection it must fit."""
        self.config = config
        self._talk = talk
        self._expected = expected
        self._info: EncoderInfo | None = None
        self._encoder: Encoder | None = None

    def info(self) -> EncoderInfo:
        """Return who the encoder is, fetching its files if they are not here; loads no torch.

        Raises EncoderMismatchError when it does not fit the collection.
        """
        if self._info is None:
            from ...encoder.models.identity import identify

            info = identify(self.config, cache=self._talk.cache, progress=self._talk.pulling)
            if self._expected is not None:
                require_same(info, self._expected, self.config)
            self._info = info
        return self._info

    def open(self) -> Encoder:
        """Return the encoder, loaded and proved."""
        if self._encoder is None:
            info = self.info()
            loading = self._talk.loading or (lambda name: nullcontext())
            with loading(info.name):
                from ...encoder.open import open_encoder

                self._encoder = open_encoder(self.config, cache=self._talk.cache, progress=self._talk.pulling)
        return self._encoder

    def dense_weight(self) -> float | None:
        """Return the share of the dense side that the model recommends, None when it recommends none."""
        entry = find(self.config.model)
        if entry is not None and entry.source == "builtin":
            return entry.sidecar.dense_weight
        from ...encoder.models.resolve import resolve

        return resolve(self.config, cache=self._talk.cache, progress=self._talk.pulling).sidecar.dense_weight


def collection_encoder(settings: CollectionSettings | None, choice: EncoderChoice, talk: Talk) -> LazyEncoder:
    """Return the collection's own encoder, loaded when first needed; where it has none yet, the one that is chosen.

    Raises EncoderMismatchError when `choice` names another one.
    """
    base = None if settings is None else config_from_json(settings.encoder_config)
    encoder = LazyEncoder(choice.config(base), talk, expected=settings)
    if choice.names_encoder and settings is not None:
        encoder.info()
    return encoder


def require_same(info: EncoderInfo, settings: CollectionSettings, config: EncoderConfig) -> None:
    """Raise EncoderMismatchError naming both when vectors of `info` cannot be compared with the collection's.

    `config` is the one that `info` is of: its options are in the command that the error names.
    """
    if info.fingerprint == settings.encoder_fingerprint and info.dim == settings.dim:
        return
    base = config_from_json(settings.encoder_config)
    # The same options, and other vectors: searchctl was updated, or the model's files were.
    updated = _decisive(config) == _decisive(base)
    why = (
        "it was updated since, and its vectors changed. Embed the collection again with it"
        if updated
        else "their vectors cannot be compared. Leave the encoder's options out to use the collection's own, or embed "
        "the collection again with this one"
    )
    raise EncoderMismatchError(
        f"the collection was made with encoder {settings.encoder_name} (fingerprint "
        f"{settings.encoder_fingerprint[:12]}, {settings.dim} dimensions), this command has {info.name} (fingerprint "
        f"{info.fingerprint[:12]}, {info.dim} dimensions): {why}, which can be "
        "taken back and reads no file again; index --rebuild reads them",
        next_command=promote_command(config),
    )


def _decisive(config: EncoderConfig) -> EncoderConfig:
    """Return the configuration without what changes no vector."""
    return replace(config, device="auto", precision=Precision.AUTO, runtime=Runtime.AUTO, batch_tokens=None)


def promote_command(config: EncoderConfig, *more: str) -> tuple[str, ...]:
    """Return the words of the command that makes `config` a collection's encoder, in its precision."""
    words = ["models", "promote", config.model, *_options(config, EncoderConfig(model=config.model))]
    if config.precision is not Precision.AUTO:
        words += ["--precision", str(config.precision)]
    return (*words, *more)


def _options(config: EncoderConfig, base: EncoderConfig) -> list[str]:
    """Return the options that turn `base`, which a command starts from, into `config`, without that of the model."""
    start = base if base.model == config.model else EncoderConfig(model=config.model)
    words: list[str] = []
    if config.adapters != start.adapters:
        words += [word for folder in config.adapters for word in ("--adapter", str(folder))]
    for name in IDENTITY[2:]:
        value = getattr(config, name)
        if value is not None and value != getattr(start, name):
            words += [f"--{name.replace('_', '-')}", str(value)]
    return words


def require_model(model: str | None) -> None:
    """Raise AppError for a name that is empty, as an unset shell variable leaves it."""
    if model is not None and not model.strip():
        raise AppError(
            f"the model is {model!r}: expected a name, a folder, or a hub name owner/name",
            next_command=("models", "list"),
        )


def choice_of(
    *,
    model: str | None,
    adapter: list[Path] | None,
    pooling: Pooling | None,
    attention: Attention | None,
    method: Method | None,
    dim: int | None,
    max_tokens: int | None,
    precision: Precision,
    runtime: Runtime = Runtime.AUTO,
    device: str,
    batch_tokens: int | None,
) -> EncoderChoice:
    """Return the encoder options of a command as one value.

    Raises AppError for an empty model name and for an adapter folder that is not there.
    """
    require_model(model)
    for folder in adapter or []:
        if not folder.expanduser().is_dir():
            raise AppError(f"--adapter is {folder}: no such folder, expected one that holds adapter_config.json")
    return EncoderChoice(
        model=model,
        adapters=tuple(adapter or ()),
        pooling=pooling,
        attention=attention,
        method=method,
        dim=dim,
        max_tokens=max_tokens,
        precision=precision,
        runtime=runtime,
        device=device,
        batch_tokens=batch_tokens,
    )
