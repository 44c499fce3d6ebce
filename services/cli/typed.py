"""What a person has to type: the commands that we print work as they stand, on this machine, for this server."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

NAME = "tunesmith"
_TO_A_SERVER = re.compile(
    rf"(?<![\w./-]){NAME}"
    r"(?= (?:experiment|dataset(?! make-demo)|run|adapter|version|node (?:list|get)"
    r"|model (?:list|get|report|label|download))\b)"
)
_LOCAL = re.compile(rf"(?<![\w./-]){NAME}(?= (?:demo|up|dataset|node|control-plane|train|lm|model|completion)\b)")


def typed(text: str, *, server: str = "") -> str:
    """`text` with every command of ours in it as it has to be typed. server: to be named where it is not the usual."""
    name = program()
    asking = f"{name} --server {server}" if server else name
    return _LOCAL.sub(lambda _: name, _TO_A_SERVER.sub(lambda _: asking, text))


def program() -> str:
    """`tunesmith` where the shell finds this very program by that name, else the path by which it was called."""
    called = Path(sys.argv[0])
    if called.name != NAME or not called.is_file():  # such as python -m
        return NAME
    found = shutil.which(NAME)
    return NAME if found and os.path.samefile(found, called) else shlex.quote(str(called))
