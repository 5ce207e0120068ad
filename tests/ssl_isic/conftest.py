"""A server of files that can be told to misbehave, and shards of the small lesions."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ssl_isic.data.shard_writing import ShardsConfig, write_shards


@dataclass
class FileServer:
    """Files of `folder` at `url`. The next answers but for the index's are what `faults` says, one each."""

    folder: Path
    url: str = ""
    faults: list[str] = field(default_factory=list)
    """drop: the connection is cut in the middle of the body; short: half a body; 500: an error; wrong: other bytes."""
    requests: list[str] = field(default_factory=list)
    """Names of the files that were asked for."""

    def tars(self) -> list[str]:
        """Names of the shards that were asked for."""
        return [name for name in self.requests if name.endswith(".tar")]


class _Handler(BaseHTTPRequestHandler):
    files: FileServer

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        self.files.requests.append(name)
        path = self.files.folder / name
        fault = self.files.faults.pop(0) if self.files.faults and name.endswith(".tar") else ""
        if fault == "500" or not path.is_file():
            self.send_error(500 if fault else 404)
            return
        body = path.read_bytes()
        sent = {"drop": body[: len(body) // 2], "short": body[: len(body) // 2], "wrong": body[::-1]}.get(fault, body)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) if fault == "drop" else len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def serve() -> Iterator[Callable[[type[BaseHTTPRequestHandler]], str]]:
    """Starts a server on this machine that answers by a handler, and returns its URL."""
    with ExitStack() as servers:

        def start(handler: type[BaseHTTPRequestHandler]) -> str:
            server = servers.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), handler))
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            servers.callback(thread.join)
            servers.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_port}"

        yield start


@pytest.fixture
def file_server(shards: Path, serve: Callable[[type[BaseHTTPRequestHandler]], str]) -> FileServer:
    """Serves the folder `shards` at `url`."""
    files = FileServer(shards)
    files.url = serve(type("Handler", (_Handler,), {"files": files}))
    return files


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory, lesions: Path) -> Path:
    """The 48 images of `lesions` in 6 or more shards of 20 kB."""
    folder = tmp_path_factory.mktemp("shards") / "lesions"
    index = write_shards(ShardsConfig(images=lesions, out=folder, shard_mb=0.02))
    assert 6 <= len(index.shards) <= 12
    return folder
