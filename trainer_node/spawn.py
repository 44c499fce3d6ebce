"""Starting the training process: by exec, in a session of its own, with only the environment it needs.

Never by fork: children forked beside a live gRPC server died of SIGSEGV. And not by asyncio's subprocess, which kills
its children when the event loop closes: ours must outlive the service.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence

from trainer_node.job_folder import HostSettings, JobFolder
from trainer_node.memory_limit import oom_counter, oom_kills
from trainer_node.openmp import PASSIVE
from trainer_node.process_watch import ChildProcess, start_mark

_PASSED_ON = """
    PATH HOME USER LOGNAME LANG LANGUAGE LC_ALL LC_CTYPE TZ TMPDIR PYTHONPATH LD_LIBRARY_PATH XDG_CACHE_HOME
    CUDA_VISIBLE_DEVICES CUDA_DEVICE_ORDER NVIDIA_VISIBLE_DEVICES NVIDIA_DRIVER_CAPABILITIES
    HF_HOME HF_HUB_CACHE HF_ENDPOINT HF_HUB_OFFLINE TRANSFORMERS_OFFLINE
    SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE HTTPS_PROXY HTTP_PROXY NO_PROXY https_proxy http_proxy no_proxy
"""
PASSED_ON = frozenset(_PASSED_ON.split())
"""What a training may inherit. Tokens and passwords of the service are not among it, nor is a URL that holds one."""


def spawn(
    command: Sequence[str], folder: JobFolder, host: HostSettings
) -> tuple[subprocess.Popen[bytes], ChildProcess]:
    """Start `command` on a job folder. Its output goes to the folder's files, behind what is there."""
    with folder.stdout.open("ab") as stdout, folder.stderr.open("ab") as stderr:
        counter = oom_counter()
        kills = oom_kills(counter)
        popen = subprocess.Popen(
            [*command, str(folder.path.absolute())],  # the child starts in that folder
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=child_environment(os.environ, host),
            cwd=folder.path,
            start_new_session=True,
        )
    child = ChildProcess(pid=popen.pid, started=start_mark(popen.pid), oom_file=counter, oom_kills=kills)
    return popen, child


def child_environment(own: Mapping[str, str], host: HostSettings) -> dict[str, str]:
    """The environment of a training process."""
    passed = {name: value for name, value in own.items() if name in PASSED_ON and not _holds_password(value)}
    settings = {
        **PASSIVE,  # two trainings, or a training and a service, share the cores
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HOME": str(host.cache_dir / "huggingface"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONUNBUFFERED": "1",  # a line that was printed is in its file, whatever kills the process
        "PYTHONSAFEPATH": "1",  # nothing is imported from the job's folder
    }
    if host.threads:
        settings["OMP_NUM_THREADS"] = str(host.threads)
    return settings | passed


def _holds_password(value: str) -> bool:
    return "://" in value and "@" in value.partition("://")[2].partition("/")[0]
