"""What the user calls a model, made into files: registry name, hub name, folder, GGUF file or adapter folder."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from pathlib import Path

from ..config import EncoderConfig
from ..errors import ModelFilesError, PullError, UnknownModelError
from .cache import PullCallback, PullProgress, models_folder, placing, pulled, revision_of
from .folder import (
    ADAPTER_CONFIG,
    MODULES,
    check_adapter_folder,
    check_model_folder,
    has_weights,
    is_adapter,
    read_json,
)
from .gguf_convert import convert_apart
from .hash_cache import content_hash
from .projection import projection_shape
from .pull import HUB_NAME, pull
from .registry import ENTRIES, ModelEntry, find
from .sidecar import FILE_NAME, Sidecar, read_sidecar

LOCAL = "local"
SHIPPED = Path(__file__).parent.parent / "adapters"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedModel:
    """The files of one model and how to use them."""

    name: str
    """As the user gave it."""
    revision: str
    """Version of a wheel, commit of a hub model, or "local"."""
    folder: Path
    """Base model as transformers loads it: complete, without adapters of its own."""
    plain: str
    """What names `folder`: the user's name, or what the lowest adapter says that it was trained on."""
    adapters: tuple[Path, ...]
    """Applied and merged in this order: the model's own chain, then those of the configuration."""
    projection: Path | None
    """Maps pooled states to vectors, once all adapters are applied."""
    sidecar: Sidecar
    """Settings of the last in the chain that has any; its `adapters` are already in the field above."""
    licence: str | None
    entry: ModelEntry | None


def resolve(
    config: EncoderConfig,
    *,
    cache: Path | None = None,
    progress: PullCallback | None = None,
    shipped: Path = SHIPPED,
) -> ResolvedModel:
    """Return the files of `config.model`, pulled or converted when missing, all checked to be there and whole.

    Order: registry name, folder or GGUF file, hub name. Raises UnknownModelError for anything else, ModelFilesError
    for a damaged or incomplete folder, PullError when files cannot be fetched.
    """
    model = _Resolver(cache=cache, progress=progress, shipped=shipped).model(config.model)
    for folder in config.adapters:
        check_adapter_folder(folder)
    if config.chain is not None and config.chain > len(model.adapters):
        raise ModelFilesError(
            f"chain is {config.chain}: {config.model} names {len(model.adapters)} adapters, expected at most that"
        )
    whole = config.chain is None or config.chain == len(model.adapters)
    return replace(
        model,
        name=config.model,
        adapters=(*model.adapters[: config.chain], *config.adapters),
        # It was fitted to the states that all of them give.
        projection=model.projection if whole else None,
    )


def shipped_adapters(name: str, *, shipped: Path = SHIPPED) -> tuple[tuple[Path, ...], Sidecar | None]:
    """Return the adapter folders that come with searchctl for the registry model `name`, in order, and their settings.

    They lie in a folder as `searchctl train` writes it; () and None without one.
    """
    sidecar = read_sidecar(shipped / name)
    return ((), None) if sidecar is None else (_beside(shipped / name, sidecar), sidecar)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Resolver:
    cache: Path | None
    progress: PullCallback | None
    shipped: Path
    seen: tuple[Path, ...] = ()
    """Adapter folders on the way to here; in the first of them the user's name ended."""
    settled: bool = False
    """Whether one of them says how the model is to be used."""

    def model(self, name: str) -> ResolvedModel:
        entry = find(name)
        if entry is not None:
            return self._known(entry)
        path = Path(name).expanduser()
        if path.is_dir():
            return self._folder(path, name)
        if path.is_file():
            return self._file(path, name)
        if HUB_NAME.fullmatch(name):
            return self._hub(name)
        raise UnknownModelError(_unknown(name), next_command=("models", "list"))

    def _known(self, entry: ModelEntry) -> ResolvedModel:
        if entry.source == "builtin":
            raise ModelFilesError(f"{entry.name} is built in and has no model folder, so nothing can be trained on it")
        folder = pull(entry.name, progress=self.progress, cache=self.cache)
        check_model_folder(folder)
        # As the base of an adapter a name means the plain weights, as in peft: what the adapter was trained on top of,
        # it names in its own chain.
        adapters, sidecar = ((), None) if self.seen else shipped_adapters(entry.name, shipped=self.shipped)
        return ResolvedModel(
            name=entry.name,
            revision=revision_of(folder),
            folder=folder,
            plain=entry.name,
            adapters=adapters,
            projection=None if sidecar is None else _projection(self.shipped / entry.name, sidecar),
            # Not the one in the cache: that is as old as the pull, these belong to this version of searchctl.
            sidecar=sidecar or entry.sidecar,
            licence=entry.licence,
            entry=entry,
        )

    def _hub(self, name: str) -> ResolvedModel:
        folder = pulled(name, cache=self.cache)
        if folder is None:
            try:
                folder = pull(name, progress=self.progress, cache=self.cache)
            except PullError as error:
                hint = _suggestion(name)
                also = f"There is no folder {name} here either{'; ' + hint if hint else '.'}"
                raise PullError(f"{error} ({also})") from error
        return replace(self._folder(folder, name), revision=revision_of(folder))

    def _folder(self, folder: Path, name: str) -> ResolvedModel:
        if is_adapter(folder):
            if has_weights(folder):
                # transformers would apply such an adapter by itself while loading, and then again in our chain.
                raise ModelFilesError(
                    f"{folder} holds a model and an adapter: move {ADAPTER_CONFIG} and its weights to a folder inside, "
                    'and name that in searchctl.json, {"adapters": ["NAME"]}'
                )
            return self._adapter(folder, name)
        if not has_weights(folder):
            sidecar = read_sidecar(folder)
            if sidecar is not None and sidecar.base is not None:
                return self._trained(folder, sidecar, sidecar.base, name)
            ggufs = sorted(folder.glob("*.gguf"))
            if len(ggufs) == 1:
                return self._file(ggufs[0], name)
            if ggufs:
                listed = ", ".join(path.name for path in ggufs)
                raise ModelFilesError(f"{folder} holds {len(ggufs)} GGUF files ({listed}): give one of them as --model")
        check_model_folder(folder)
        return self._local(name, weights=folder, beside=folder)

    def _trained(self, folder: Path, sidecar: Sidecar, named: str, name: str) -> ResolvedModel:
        """Return the plain weights that a folder of adapters names, with these adapters and no others on top."""
        here = folder.resolve()
        if here in self.seen:
            raise ModelFilesError(f"{folder}: its base leads back to itself. Fix base in {folder / FILE_NAME}.")
        if find(named) is None and (folder / named).is_dir():
            named = str(folder / named)
        try:
            base = replace(self, seen=(*self.seen, here), settled=True).model(named)
        except UnknownModelError as error:
            raise UnknownModelError(
                f"{folder / FILE_NAME}: base is {named!r}, which is not here. {error} Or write the right one there."
            ) from error
        return replace(
            base,
            name=name,
            revision=LOCAL,
            # The folder names all it was trained on: adapters that the base has come to bring were not among them.
            adapters=_beside(folder, sidecar),
            projection=_projection(folder, sidecar),
            sidecar=sidecar,
        )

    def _file(self, path: Path, name: str) -> ResolvedModel:
        """Return a GGUF file's model, converted once into the cache under the hash of its content."""
        if path.suffix.lower() != ".gguf":
            raise ModelFilesError(f"{path} is a file, expected a GGUF file or a model folder: give the folder it is in")
        target = models_folder(self.cache) / f"gguf-{content_hash(path, cache=self.cache)[:32]}"
        with placing(target, self.progress) as staging:
            if staging is not None:
                size = path.stat().st_size
                self._tell(PullProgress(stage="convert", done=0, total=None))
                convert_apart(path.resolve(), staging / "model")
                check_model_folder(staging / "model")
                self._tell(PullProgress(stage="convert", done=size, total=size))
        try:
            check_model_folder(target)
        except ModelFilesError as error:
            raise ModelFilesError(
                f"{error} It was made of {path} and is damaged: remove {target}, and it is made again."
            ) from error
        return self._local(name, weights=target, beside=path.parent)

    def _local(self, name: str, *, weights: Path, beside: Path) -> ResolvedModel:
        sidecar = read_sidecar(beside)
        if sidecar is None and not self.settled and (beside / MODULES).is_file():
            raise ModelFilesError(_unread_settings(beside), next_command=("eval", "run", "--baseline", str(beside)))
        sidecar = sidecar or Sidecar()
        return ResolvedModel(
            name=name,
            revision=LOCAL,
            folder=weights,
            plain=name,
            adapters=_beside(beside, sidecar),
            projection=_projection(beside, sidecar),
            sidecar=sidecar,
            licence=None,
            entry=None,
        )

    def _tell(self, event: PullProgress) -> None:
        if self.progress is not None:
            self.progress(event)

    def _adapter(self, folder: Path, name: str) -> ResolvedModel:
        """Return the base that a peft folder names; its chain is the base's, the sidecar's, then this adapter.

        A sidecar that names a base says that the adapter was trained on its plain weights: then without the base's own.
        """
        here = folder.resolve()
        if here in self.seen:
            raise ModelFilesError(f"adapter {folder}: its base leads back to itself. Fix base_model_name_or_path.")
        check_adapter_folder(folder)
        named = _base_name(folder)
        sidecar = read_sidecar(folder)
        try:
            base = replace(self, seen=(*self.seen, here), settled=self.settled or sidecar is not None).model(named)
        except UnknownModelError as error:
            raise UnknownModelError(
                f"adapter {folder} was trained on {named}, which is not here. {error} Or write the right one into "
                f"base_model_name_or_path of {ADAPTER_CONFIG}."
            ) from error
        earlier = () if sidecar is None else _beside(folder, sidecar)
        below = () if sidecar is not None and sidecar.base is not None else base.adapters
        return replace(
            base,
            name=name,
            revision=LOCAL,
            adapters=(*below, *earlier, folder),
            projection=base.projection if sidecar is None else _projection(folder, sidecar),
            sidecar=sidecar or base.sidecar,
        )


def _base_name(folder: Path) -> str:
    """Return the model that an adapter was trained on: a name, or a folder, which may be relative to the adapter's."""
    named = read_json(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        raise ModelFilesError(
            f"{folder / ADAPTER_CONFIG}: base_model_name_or_path is {named!r}, expected the model it was trained on "
            "(a name of the registry, a hub name, or a folder)",
            next_command=("models", "list"),
        )
    if find(named) is None and (folder / named).is_dir():
        return str(folder / named)
    return named


def _beside(folder: Path, sidecar: Sidecar) -> tuple[Path, ...]:
    adapters = tuple(folder / name for name in sidecar.adapters)
    for adapter in adapters:
        check_adapter_folder(adapter)
    return adapters


def _projection(folder: Path, sidecar: Sidecar) -> Path | None:
    if sidecar.projection is None:
        return None
    projection_shape(folder / sidecar.projection)
    return folder / sidecar.projection


def _unread_settings(folder: Path) -> str:
    return (
        f"{folder} is a sentence-transformers folder ({MODULES}) without {FILE_NAME}: its pooling and prompts would be "
        f"ignored, and the vectors be others. If "
        "searchctl exported it: use the original, or export that with --format merged. To use its weights "
        f'in another way: write {FILE_NAME} into it, as in {{"pooling": "mean"}}. The next command measures it as it is'
    )


def _unknown(name: str) -> str:
    hint = _suggestion(name)
    what = f"no model is called {name!r}, and there is no such folder or GGUF file."
    return f"{what}{' ' + hint[0].upper() + hint[1:] if hint else ''}"


def _suggestion(name: str) -> str:
    known = [entry.name for entry in ENTRIES] + [entry.reference for entry in ENTRIES if entry.source == "hub"]
    by_lower = {each.lower(): each for each in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=2, cutoff=0.6)
    return f"did you mean {' or '.join(by_lower[each] for each in close)}?" if close else ""
