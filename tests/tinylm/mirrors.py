"""A mirror on this machine: what it does with a request is told by the path, and every request is written down."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Serve = Callable[["Request"], None]


@dataclass
class Mirror:
    """What the server has. pages: behaviour by path, such as `/good`. asked: (path, first byte asked for)."""

    pages: dict[str, Serve] = field(default_factory=dict)
    asked: list[tuple[str, int]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    address: str = ""

    def at(self, path: str) -> str:
        """The address of a page."""
        return f"{self.address}{path}"


class Request(BaseHTTPRequestHandler):
    """One request; `mirror` is set by `running`."""

    mirror: Mirror

    def do_GET(self) -> None:
        """Write it down and behave as the path tells."""
        self.mirror.asked.append((self.path, self.first))
        self.mirror.pages[self.path](self)

    @property
    def first(self) -> int:
        """The first byte asked for."""
        return int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))

    def give(self, content: bytes, *, stop_after: int | None = None, ranges: bool = True) -> None:
        """Send what is asked for of `content`; only `stop_after` bytes of it, then hang up, where that is given."""
        start = self.first if ranges else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : None if stop_after is None else start + stop_after])

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def running() -> Iterator[Mirror]:
    """A mirror that answers until the end; pages that wait for `ended` are let go."""
    mirror = Mirror()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Request,), {"mirror": mirror}))
    server.daemon_threads = True
    mirror.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield mirror
    finally:
        mirror.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
