"""Weights on a hub: fetched once, found again without it, and each wrong name in one line."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from torch import Tensor

from ssl_isic.backbones import BackboneConfig, build_backbone, save_backbone
from ssl_isic.errors import InputError
from ssl_isic.evaluation.source import BackboneSource, Embedder, open_backbone
from ssl_isic.saved_weights import on_this_machine

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "clinic/lesions"


@dataclass
class Hub:
    """What a Hugging Face hub answers for the one repository `NAME`, whose revisions are main and v1."""

    folder: Path
    url: str = ""
    requests: list[str] = field(default_factory=list)
    """Paths of the files that were sent."""


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        files = {path.name: path for path in self.hub.folder.iterdir()}
        resolve = f"/{NAME}/resolve/{COMMIT}/"
        path, api = self.path.partition("?")[0], f"/api/models/{NAME}"
        if path in (f"{api}/revision/{name}" for name in ("main", "v1")):
            siblings = [{"rfilename": name} for name in files]
            self._send(json.dumps({"id": NAME, "sha": COMMIT, "siblings": siblings}).encode(), body)
        elif path == f"{api}/tree/{COMMIT}":
            tree = [{"type": "file", "path": name, "oid": name, "size": files[name].stat().st_size} for name in files]
            self._send(json.dumps(tree).encode(), body)
        elif self.path.startswith(resolve) and (name := self.path.removeprefix(resolve)) in files:
            if body:
                self.hub.requests.append(name)
            self._send(files[name].read_bytes(), body, {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT})
        else:
            known = path.startswith(f"{api}/")
            self.send_response(404)
            self.send_header("X-Error-Code", "RevisionNotFound" if known else "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _send(self, content: bytes, body: bool, headers: dict[str, str] | None = None) -> None:
        self.send_response(200)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(tmp_path: Path, serve: Callable[[type[BaseHTTPRequestHandler]], str]) -> Hub:
    """A hub with a small backbone, as pretraining writes one."""
    torch.manual_seed(1)
    save_backbone(build_backbone(BackboneConfig(model="test_resnet"), 32), tmp_path / "served", 32, ["hair"])
    hub = Hub(tmp_path / "served")
    hub.url = serve(type("Handler", (_Handler,), {"hub": hub}))
    return hub


NOBODY = "http://127.0.0.1:9"


def ask(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the hub at `url`, as a new process would with that HF_ENDPOINT."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    on_this_machine.cache_clear()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield
    on_this_machine.cache_clear()


def test_a_folder_on_the_hub_is_what_it_is_here_and_is_fetched_once(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def features(weights: str) -> Tensor:
        source = BackboneSource(weights=weights)
        assert (source.architecture(), source.image_size(), source.cleaning()) == ("test_resnet", 32, ["hair"])
        with torch.no_grad():
            found: Tensor = Embedder(open_backbone(source, 32))(pixels)
        return found

    ask(hub.url, monkeypatch)
    here = features(str(hub.folder))
    assert not hub.requests
    assert torch.equal(features(f"hf-hub:{NAME}"), here)
    assert sorted(hub.requests) == ["config.json", "model.safetensors"]
    ask(NOBODY, monkeypatch)
    assert torch.equal(features(f"hf-hub:{NAME}"), here), "from the cache"
    ask(hub.url, monkeypatch)
    assert torch.equal(features(f"hf-hub:{NAME}@v1"), here)
    assert len(hub.requests) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("clinic/other", "the hub has no clinic/other that may be read; check OWNER/NAME"),
        (f"{NAME}@v9", f"{NAME} has no revision v9 on the hub"),
        ("not a name/at/all", "hf-hub:not a name/at/all cannot be fetched: "),
        ("", "hf-hub: cannot be fetched: "),
    ],
)
def test_what_the_hub_does_not_have_is_one_line(
    name: str, message: str, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(hub.url, monkeypatch)
    with pytest.raises(InputError) as refused:
        open_backbone(BackboneSource(model="test_resnet", weights=f"hf-hub:{name}"), 32)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_no_network_and_no_weights_are_one_line(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(NOBODY, monkeypatch)
    with pytest.raises(InputError, match="was not fetched before, and the hub cannot be reached; give a folder"):
        open_backbone(BackboneSource(weights=f"hf-hub:{NAME}"), 32)
    ask(hub.url, monkeypatch)
    (hub.folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="no such file"):
        open_backbone(BackboneSource(weights=f"hf-hub:{NAME}"), 32)
