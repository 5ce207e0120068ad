"""What a user can mend is an `InputError`: one line, exit code 2. All else is our bug and keeps its traceback."""

import errno
import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

EXIT_OK = 0
EXIT_FOUND = 1
"""A check found what would make a result wrong."""
EXIT_INPUT = 2
EXIT_INTERRUPTED = 130
WORKER_ENDED = "DataLoader worker (pid"
"""How torch begins to say that a loading process died. It may do so anywhere, since it hears of it by a signal."""


class InputError(Exception):
    """Wrong input. The message is one line: which file, row or key; what is wrong; what to do."""


class InterruptedRun(Exception):
    """SIGINT or SIGTERM arrived and the work so far is saved. The message says how to go on."""


class Command(Protocol):
    """A stage's entry point."""

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        """Run with the words after the command's name (by default the process's); returns the exit code."""


def command(main: Callable[[Sequence[str]], int | None]) -> Command:
    """Wrap `main(argv)` so that it returns an exit code, its own or 0, and reports wrong input in one line on stderr."""

    @functools.wraps(main)
    def wrapped(argv: Sequence[str] | None = None) -> int:
        try:
            code = main(sys.argv[1:] if argv is None else argv)
        except InputError as error:
            return _report(str(error), EXIT_INPUT)
        except InterruptedRun as error:
            return _report(str(error), EXIT_INTERRUPTED)
        except KeyboardInterrupt:
            return _report("interrupted; run the same command again to go on from what is saved", EXIT_INTERRUPTED)
        except RuntimeError as error:
            if not str(error).startswith(WORKER_ENDED):
                raise
            return _report(_about_worker(str(error)), EXIT_INPUT)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            where = f" while writing {error.filename}" if error.filename else ""
            return _report(f"the disk is full{where}: free some space and run the same command again", EXIT_INPUT)
        _leave_processes()
        return EXIT_OK if code is None else code

    return wrapped


def _leave_processes() -> None:
    """End the launch's process group, where there is one: threads of it that are left at the end may abort the process."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _about_worker(message: str) -> str:
    what = message.partition("killed by signal: ")[2].partition(".")[0] or "without a word"
    full = "the shared memory (/dev/shm) may be full" if what == "Bus error" else "memory may have run out"
    return (
        f"a loading process ended ({what}): {full}; lower data.workers or data.prefetch, "
        "and run the same command again to go on from what is saved"
    )


def _report(message: str, code: int) -> int:
    rank = os.environ.get("RANK", "0")
    prefix = "" if rank == "0" else f"[rank {rank}] "
    print(f"{prefix}ssl-isic: {' '.join(message.split())}", file=sys.stderr, flush=True)
    return code
