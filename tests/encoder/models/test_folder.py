"""What a folder of model files holds, read without torch."""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from searchctl.encoder.models.folder import stored_weights


def test_weights_are_counted_from_the_headers_whatever_they_are_stored_in(tmp_path: Path) -> None:
    narrow = {"a": np.zeros((3, 4), np.float16), "b": np.zeros(5)}
    save_file(narrow, tmp_path / "x.safetensors", metadata={"format": "pt"})
    save_file({"c": np.zeros(())}, tmp_path / "y.safetensors")
    assert 18 == stored_weights([tmp_path / "x.safetensors", tmp_path / "y.safetensors"])
