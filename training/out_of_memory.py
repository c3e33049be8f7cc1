"""What to do when memory ran out in training: which settings need less, and where the run goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .checkpoints import newest_step
from .errors import TrainingError
from .recipe import MntpStage, Stage, stage_settings
from .trained_folder import CHECKPOINTS

if TYPE_CHECKING:
    from .chain import TrainRequest


def out_of_memory(error: BaseException, request: TrainRequest, stage: Stage) -> TrainingError:
    """Return the error that says what needs less memory in `stage`, and how --resume goes on with it."""
    settings = stage_settings(request.recipe, stage)
    smaller = [f"{stage}.chunk below {settings.chunk}"] if settings.chunk > 1 else []
    if not isinstance(settings, MntpStage) and not settings.cached:
        smaller.append(f"{stage}.cached = true")
    smaller += [f"{stage}.length below {settings.length}", f"{stage}.batch below {settings.batch}"]
    option = "" if request.checkpointing else "--gradient-checkpointing"
    folder = request.output / CHECKPOINTS / stage.value
    step = newest_step(folder)
    said = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    ran = f"{stage}: memory ran out on {request.device} ({said})"
    recipe = f"in the recipe {', '.join(smaller[:-1])} or {smaller[-1]}"
    if step is None:
        less = f"{option}, or {recipe}" if option else recipe
        return TrainingError(f"{ran}. Less is needed with {less}; with --resume the run then goes on with this stage")
    on = f"the last checkpoint, step {step}"
    first = (
        f"{option} needs less, and with --resume the run goes on from {on}" if option else f"--resume goes on from {on}"
    )
    return TrainingError(
        f"{ran}. {first}. Other ways to need less are {recipe}: they change what is trained, so that this stage begins "
        f"anew; remove {folder} before --resume"
    )
