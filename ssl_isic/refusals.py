"""What only the main process finds wrong ends the other processes too: on other machines they would wait for an hour."""

from collections.abc import Iterator
from contextlib import contextmanager

from accelerate import Accelerator
from accelerate.utils import gather_object

from ssl_isic.errors import EXIT_INPUT, InputError


@contextmanager
def refused_on_all(accelerator: Accelerator) -> Iterator[None]:
    """A context that every rank enters: an `InputError` of the main process ends them all, and it alone says why."""
    said = list[str]()
    try:
        yield
    except InputError as error:
        said.append(str(error))
    refusals: list[str] = gather_object(said)
    if refusals:
        accelerator.state.destroy_process_group()
        raise InputError(refusals[0]) if accelerator.is_main_process else SystemExit(EXIT_INPUT)
