"""The hub way of a model, against a small hub on this machine: linked files, gated, missing, offline, older formats."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from searchctl.encoder.config import EncoderConfig
from searchctl.encoder.models.resolve import resolve
from searchctl.encoder.models.sidecar import Sidecar, read_sidecar, write_sidecar
from searchctl.encoder.prompts import PromptFormat

COMMIT = "c0ffee" * 6 + "c0de"

# A process of its own: the hub's library reads its settings when it is imported.
PULL = """
import json, sys
from pathlib import Path
from searchctl.encoder.models.pull_hub import pull_hub
from searchctl.encoder.models.registry import find
name, endpoint, cache = sys.argv[1:]
entry = find(name)
events = []
try:
    folder = pull_hub(entry.reference if entry else name, entry=entry, endpoint=endpoint, cache=Path(cache),
                      progress=events.append)
    result = {"folder": str(folder)}
except Exception as error:
    result = {"error": type(error).__name__, "message": str(error)}
result["events"] = [[event.stage, event.done, event.total] for event in events]
result["torch"] = "torch" in sys.modules
print(json.dumps(result))
"""


class Hub:
    """Serves folders as repositories, as the hub's library asks for them."""

    def __init__(self) -> None:
        self.repositories: dict[str, Path] = {}
        self.gated: set[str] = set()
        self.downloads: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.answer(self, body=True)

            def do_HEAD(self) -> None:
                hub.answer(self, body=False)

            def log_message(self, *_args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler, *, body: bool) -> None:
        parts = urlsplit(request.path).path.strip("/").split("/")
        is_api = parts[:2] == ["api", "models"]
        name = "/".join(parts[2:4] if is_api else parts[:2])
        headers = {"X-Repo-Commit": COMMIT, "ETag": '"none"'}
        if name in self.gated and not (is_api and "revision" in parts):
            return self.send(request, 403, b"", headers | {"X-Error-Code": "GatedRepo"}, body=body)
        folder = self.repositories.get(name)
        if folder is None:
            return self.send(request, 404, b"", headers | {"X-Error-Code": "RepoNotFound"}, body=body)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        names = [path.relative_to(folder).as_posix() for path in files]
        if is_api and "tree" in parts:
            content = [
                {"type": "file", "path": each, "size": path.stat().st_size, "oid": str(n) * 40}
                for n, (each, path) in enumerate(zip(names, files, strict=True))
            ]
            return self.send(request, 200, json.dumps(content).encode(), headers, body=body)
        if is_api:
            info = {"id": name, "sha": COMMIT, "siblings": [{"rfilename": each} for each in names]}
            return self.send(request, 200, json.dumps(info).encode(), headers, body=body)
        path = folder / "/".join(parts[4:])
        if not path.is_file():
            return self.send(request, 404, b"", headers | {"X-Error-Code": "EntryNotFound"}, body=body)
        if body:
            self.downloads.append(path.name)
        headers["ETag"] = f'"{names.index(path.relative_to(folder).as_posix()):040x}"'
        return self.send(request, 200, path.read_bytes(), headers, body=body)

    @staticmethod
    def send(
        request: BaseHTTPRequestHandler, status: int, content: bytes, headers: dict[str, str], *, body: bool
    ) -> None:
        request.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(content))}).items():
            request.send_header(key, value)
        request.end_headers()
        if body:
            request.wfile.write(content)

    def pull(self, name: str, cache: Path, *, offline: bool = False, endpoint: str | None = None) -> dict[str, object]:
        settings = {"HF_HUB_OFFLINE": "1" if offline else "0", "HF_HOME": str(cache.parent / "hf"), "NO_PROXY": "*"}
        done = subprocess.run(
            [sys.executable, "-c", PULL, name, endpoint or self.endpoint, str(cache)],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | settings | {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"},
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == "", "nothing but the callback tells of progress"
        result: dict[str, object] = json.loads(done.stdout)
        return result


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()
    yield hub
    hub.server.shutdown()
    hub.server.server_close()


@pytest.fixture
def source(tmp_path: Path, tiny_folder: Path) -> Path:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "source"))
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.safetensors").write_bytes(b"another copy")
    (folder / "modeling_x.py").write_text("raise RuntimeError('never run')")
    (folder / "README.md").write_text("card")
    return folder


def test_model_is_fetched_whole_checked_and_stored_once(hub: Hub, source: Path, tmp_path: Path) -> None:
    hub.repositories["someone/tiny"] = source
    cache = tmp_path / "cache"
    result = hub.pull("someone/tiny", cache)
    folder = cache / "models" / f"someone--tiny-{COMMIT}"
    assert result["folder"] == str(folder)
    assert result["torch"] is False
    assert not {"README.md", "modeling_x.py"} & set(hub.downloads)
    assert hub.downloads.count("model.safetensors") == 1
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (folder / name).read_bytes() == (source / name).read_bytes()
    blobs = list((cache / "hub").rglob("blobs/*"))
    assert any(blob.samefile(folder / "model.safetensors") for blob in blobs), "one copy on the disk"
    assert read_sidecar(folder) == Sidecar()
    events = result["events"]
    assert isinstance(events, list)
    assert events[-1][0] == "download"
    assert events[-1][1] == events[-1][2] > (source / "model.safetensors").stat().st_size
    # Found again without a word to the hub, and used without its library.
    hub.downloads.clear()
    assert hub.pull("someone/tiny", cache, offline=True)["folder"] == str(folder)
    assert resolve(EncoderConfig(model="someone/tiny"), cache=cache).revision == COMMIT
    assert hub.downloads == []


def test_registry_entry_brings_its_template_and_the_repository_its_own(hub: Hub, source: Path, tmp_path: Path) -> None:
    hub.repositories["mistralai/Mistral-7B-Instruct-v0.2"] = hub.repositories["someone/tuned"] = source
    own = Sidecar(prompt=PromptFormat(prefix="own "), max_tokens=99)
    write_sidecar(source, own)
    tuned = hub.pull("someone/tuned", tmp_path / "cache")
    assert read_sidecar(Path(str(tuned["folder"]))) == own
    result = hub.pull("mistralai/Mistral-7B-Instruct-v0.2", tmp_path / "cache")
    folder = Path(str(result["folder"]))
    assert folder.name == f"mistral-7b-instruct-v0.2-{COMMIT}"
    sidecar = read_sidecar(folder)
    assert sidecar is not None
    assert sidecar.prompt.prefix == "[INST] "
    assert read_sidecar(source) == own


def test_gated_model_names_the_licence_step(hub: Hub, source: Path, tmp_path: Path) -> None:
    hub.repositories["google/gemma-3-270m"] = source
    hub.gated.add("google/gemma-3-270m")
    result = hub.pull("google/gemma-3-270m", tmp_path / "cache")
    assert result["error"] == "PullError"
    message = str(result["message"])
    assert "google/gemma-3-270m is gated: accept the licence" in message
    assert "`hf auth login`" in message


def test_unknown_repository_is_an_error_naming_it(hub: Hub, tmp_path: Path) -> None:
    result = hub.pull("someone/nothing", tmp_path / "cache")
    assert result["error"] == "PullError"
    assert "has no model someone/nothing" in str(result["message"])


@pytest.mark.parametrize("offline", [True, False])
def test_unreachable_hub_says_why_and_what_to_do(hub: Hub, tmp_path: Path, offline: bool) -> None:
    result = hub.pull("someone/tiny", tmp_path / "cache", offline=offline, endpoint="http://127.0.0.1:9")
    assert result["error"] == "PullError"
    message = str(result["message"])
    assert "someone/tiny is not in the cache" in message
    assert ("HF_HUB_OFFLINE is set" in message) == offline
    assert "--model PATH" in message


def drop_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(("damage", "part"), [(drop_weights, "no weights in the repository"), (cut_weights, "header")])
def test_repository_without_usable_weights_leaves_nothing(
    hub: Hub, source: Path, tmp_path: Path, damage: Callable[[Path], None], part: str
) -> None:
    damage(source)
    hub.repositories["someone/tiny"] = source
    result = hub.pull("someone/tiny", tmp_path / "cache")
    assert result["error"] == "ModelFilesError"
    assert part in str(result["message"])
    assert "someone/tiny" in str(result["message"])
    assert [path.suffix for path in (tmp_path / "cache" / "models").iterdir()] == [".lock"]


def test_sentence_transformers_repository_is_refused_as_its_folder_is(hub: Hub, source: Path, tmp_path: Path) -> None:
    (source / "searchctl.json").unlink(missing_ok=True)
    (source / "modules.json").write_text("[]")
    hub.repositories["someone/tiny"] = source
    result = hub.pull("someone/tiny", tmp_path / "cache")
    assert result["error"] == "ModelFilesError"
    assert "someone/tiny is a sentence-transformers model (modules.json) without searchctl.json" in str(
        result["message"]
    )
    write_sidecar(source, Sidecar(max_tokens=64))
    again = hub.pull("someone/tiny", tmp_path / "other")
    assert read_sidecar(Path(str(again["folder"]))) == Sidecar(max_tokens=64)
    assert not (Path(str(again["folder"])) / "modules.json").exists()


def test_adapter_repository_is_fetched_as_an_adapter(hub: Hub, source: Path, tmp_path: Path) -> None:
    hub.repositories["someone/base"] = source
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "someone/base"}))
    shutil.copy(source / "model.safetensors", adapter / "adapter_model.safetensors")
    hub.repositories["someone/adapter"] = adapter
    for name in ("someone/base", "someone/adapter"):
        assert "folder" in hub.pull(name, tmp_path / "cache")
    model = resolve(EncoderConfig(model="someone/adapter"), cache=tmp_path / "cache")
    assert model.folder.name.startswith("someone--base-")
    assert [path.name for path in model.adapters] == [f"someone--adapter-{COMMIT}"]


@pytest.mark.slow
def test_pickled_weights_of_an_older_repository_are_converted(hub: Hub, source: Path, tmp_path: Path) -> None:
    weights = load_file(source / "model.safetensors")
    torch.save(weights, source / "pytorch_model.bin")
    drop_weights(source)
    tokenizer = AutoTokenizer.from_pretrained(source)
    hub.repositories["someone/old"] = source
    result = hub.pull("someone/old", tmp_path / "cache")
    folder = Path(str(result["folder"]))
    assert not (folder / "pytorch_model.bin").exists()
    converted = load_file(folder / "model.safetensors")
    assert converted.keys() == weights.keys()
    assert all(torch.equal(converted[name], weights[name]) for name in weights)
    assert AutoTokenizer.from_pretrained(folder)("The capital").input_ids == tokenizer("The capital").input_ids
    resolve(EncoderConfig(model="someone/old"), cache=tmp_path / "cache")
