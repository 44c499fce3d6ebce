"""Running the services in the foreground: settings, logging, signals, and the line that says it is ready."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from services.cli.service_options import by_key
from services.cli.session import Session

Ready = Callable[[str], None]


def run_control_plane(session: Session, config: Path | None, flags: Mapping[str, Any]) -> None:
    """Serve the control plane until a signal."""
    from services import main_control_plane
    from services.settings import load_control_plane

    loaded = load_control_plane(config, os.environ, by_key(flags))
    ready = _ready(session, "control plane", "next: tunesmith node --control-plane {address}")
    _serve(lambda stop: main_control_plane.run(loaded, stop=stop, ready=ready))


def run_node(session: Session, config: Path | None, flags: Mapping[str, Any]) -> None:
    """Serve a trainer node until a signal."""
    from services import main_trainer_node
    from services.cli.train_extra import require_train_extra
    from services.settings import load_node

    require_train_extra()
    loaded = load_node(config, os.environ, by_key(flags))
    ready = _ready(session, "trainer node", f"it joins the control plane at {loaded.control_plane}")
    _serve(lambda stop: main_trainer_node.run(loaded, stop=stop, ready=ready))


def run_local(session: Session, flags: Mapping[str, Any], *, until_stdin_closes: bool) -> None:
    """Serve everything until a signal, or until whoever started it has gone."""
    from services import main_local
    from services.cli.train_extra import require_train_extra
    from services.settings import load

    require_train_extra()
    given = {f"local.{name}": value for name, value in flags.items()}
    loaded = load(main_local.LocalConfig, "local", environ=os.environ, flags=given)
    ready = _ready(session, "Tunesmith", _NEXT.format(models=shlex.quote(str(loaded.models))))

    async def serve(stop: asyncio.Event) -> None:
        if until_stdin_closes:
            _stop_with_stdin(stop)
        await main_local.run(loaded, stop=stop, ready=ready)

    _serve(serve)


_NEXT = """
In another terminal:
  tunesmith model make-tiny {models}/tiny && tunesmith dataset make-demo demo-clips
  tunesmith dataset import demo-clips/rated.jsonl --to mine && tunesmith experiment create first --dataset mine
  tunesmith run submit --experiment first --base-model tiny --epochs 3
"""


def _ready(session: Session, what: str, then: str) -> Ready:
    """What to do when the program answers: a line for programs on stdout, words for people on stderr."""

    def ready(address: str) -> None:
        session.server = address  # which the commands that are printed have to name
        if session.out.for_people:
            session.out.note(f"{what} answers at {address}; Ctrl-C stops it\n{then.format(address=address)}")
        else:
            session.out.pairs([("event", "ready"), ("address", address)])

    return ready


def _serve(program: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    from services.logs import configure_logging
    from services.process import run_until_signalled

    configure_logging()
    run_until_signalled(program)


def _stop_with_stdin(stop: asyncio.Event) -> None:
    """Stop when stdin is closed: the process that started this one and kept its end open is gone."""
    loop = asyncio.get_running_loop()

    def wait() -> None:
        while sys.stdin.buffer.read(1024):
            pass
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=wait, name="stdin", daemon=True).start()
