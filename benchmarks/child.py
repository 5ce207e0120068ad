"""A command run in a process of its own, and the most memory that it and all below it held."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from ssl_isic.errors import InputError


def run_child(words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> int:
    """Run a command, its words in `folder`/output.txt; returns its peak memory, bytes. InputError when it fails."""
    folder.mkdir(parents=True)
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT, env=environment)
        peak = 0
        while process.poll() is None:
            peak = max(peak, held_bytes(process.pid))
            try:
                process.wait(timeout=1.0)
            except subprocess.TimeoutExpired:
                continue
    if process.returncode:
        raise InputError(f"a run ended with exit code {process.returncode}; see {folder / 'output.txt'}")
    return peak


def held_bytes(pid: int) -> int:
    """Memory of a process and all below it; a page that n processes share counts 1/n in each (Linux)."""
    held = 0
    try:
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            held += process.memory_full_info().pss
    except psutil.Error:
        pass  # it ended while it was looked at
    return held
