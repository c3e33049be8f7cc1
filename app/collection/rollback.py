"""Back to the encoder before a promotion: the kept generation and the collection change places."""

from __future__ import annotations

from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...encoder.errors import EncoderError
from ...encoder.models.cache import folder_bytes
from ...index.lock import write_lock
from ...index.protocol import Collection
from ..errors import AppError
from .encoder_choice import EncoderChoice, LazyEncoder, config_from_json, promote_command
from .generations import (
    Filled,
    Generation,
    Switched,
    comparable,
    described,
    kept_generation,
    read_successor,
    write_successor,
)
from .opening import open_collection, open_folder
from .sources import read_sources
from .swap import previous_folder, swap_keeping
from .talk import Talk

if TYPE_CHECKING:
    from ...encoder.protocol import EncoderInfo
    from ...index.protocol import CollectionSettings
    from .indexing import IndexHooks


def roll_back(path: Path, talk: Talk, hooks: IndexHooks, *, confirmed: bool = False) -> Switched:
    """Put the kept generation back in the place of the collection `path`, and keep the collection in its stead.

    Nothing is embedded. Raises AppError when no
    generation is kept, when its encoder is not available any more, and, unless `confirmed`, when the collection has
    changed or was made again otherwise since.
    """
    open_collection(path, Talk()).close()  # completes a half-made catalogue, which takes the lock itself
    with write_lock(path), closing(open_folder(path)) as current:  # swapped meanwhile?
        settings, kept = current.settings, kept_generation(path)
        if kept is None or settings is None:
            raise AppError(
                f"no generation is kept beside {path}: only a promotion keeps one",
                next_command=("models", "promote", "MODEL"),
            )
        if kept.settings is None:
            raise AppError(f"the generation kept in {kept.folder} cannot be read: {kept.problem}. Nothing was changed")
        info = _kept_encoder(kept, kept.settings, talk)
        promoted = _promoted(settings, kept.folder, kept.settings)
        with closing(open_folder(kept.folder)) as previous:
            differences = _differences(current, previous) + _other_making(settings, promoted)
        if differences and not confirmed:
            raise _refused(promoted, kept.settings, differences)
        current.close()
        write_successor(path, kept.settings)
        with (hooks.shield or nullcontext)():
            swap_keeping(path, kept.folder, step=talk.step)
    return Switched(
        settings=kept.settings,
        before=settings,
        max_tokens=info.max_tokens,
        changed=True,
        filled=Filled(),
        kept_bytes=folder_bytes(previous_folder(path)),
    )


def _kept_encoder(kept: Generation, settings: CollectionSettings, talk: Talk) -> EncoderInfo:
    """Return who the encoder of the kept generation is. Raises AppError when it is not available any more."""
    config = config_from_json(settings.encoder_config)
    lost = (
        f"the generation kept in {kept.folder} was made with {settings.encoder_name} (fingerprint "
        f"{settings.encoder_fingerprint[:12]}), without which no question can be put to it"
    )
    encoder = LazyEncoder(EncoderChoice().naming(config).config(), talk)
    try:
        info = encoder.info()
    except EncoderError as error:
        raise AppError(f"nothing was changed: {lost}: {error}") from error
    if (info.fingerprint, info.dim) != (settings.encoder_fingerprint, settings.dim):
        raise AppError(
            f"{lost}, and {config.model} is another encoder now (fingerprint {info.fingerprint[:12]}). Nothing was "
            f"changed: put the files of that encoder back, or delete {kept.folder}"
        )
    return info


def _differences(current: Collection, previous: Collection) -> list[str]:
    """Return in words what going back from one to the other would not bring along, [] for nothing."""
    now = {path: file.content_hash for path, file in current.files().items()}
    then = {path: file.content_hash for path, file in previous.files().items()}
    places = {source.path for source in read_sources(current.path)}
    counts = {
        "added": len(now.keys() - then.keys()),
        "changed": sum(then.get(path, hash_) != hash_ for path, hash_ in now.items()),
        "removed": len(then.keys() - now.keys()),
        "indexed for the first time": len(places - {source.path for source in read_sources(previous.path)}),
    }
    nouns = {what: "path" if what.startswith("indexed") else "document" for what in counts}
    return [f"{n:,} {nouns[what]}{'' if n == 1 else 's'} {what}" for what, n in counts.items() if n]


def _promoted(now: CollectionSettings, folder: Path, kept: CollectionSettings) -> CollectionSettings:
    """Return how the collection was made that took the place of the one kept in `folder`."""
    # A promotion keeps the chunks as they are: so much is known without the record.
    return read_successor(folder) or replace(now, chunk_tokens=kept.chunk_tokens, chunk_overlap=kept.chunk_overlap)


def _other_making(now: CollectionSettings, promoted: CollectionSettings) -> list[str]:
    """Return in words how a rebuild has made the collection otherwise than it was at the switch."""
    words = []
    if (now.chunk_tokens, now.chunk_overlap) != (promoted.chunk_tokens, promoted.chunk_overlap):
        words.append(
            f"chunks of {now.chunk_tokens} tokens ({now.chunk_overlap} shared) in place of {promoted.chunk_tokens} "
            f"({promoted.chunk_overlap} shared)"
        )
    if not comparable(now, promoted):
        words.append(f"the encoder {described(now)} in place of {described(promoted)}")
    return words


def _refused(promoted: CollectionSettings, kept: CollectionSettings, differences: list[str]) -> AppError:
    return AppError(
        f"the collection has changed since {described(promoted)} took the place of {described(kept)}: "
        f"{', '.join(differences)}. The kept generation does not have that. Promote its encoder to go back and keep "
        "the changes, which embeds only what is new; or --rollback --yes goes back to what was then, today's "
        "generation is kept in its stead, and the next run of index brings the files up to date",
        next_command=promote_command(config_from_json(kept.encoder_config)),
    )
