"""What the main process refuses ends every rank: the main one with its line, the others without a word."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import ssl_isic.refusals
from ssl_isic.errors import InputError, command
from ssl_isic.refusals import refused_on_all


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `work` as the main process and as another one, whose lists `gather_object` puts together."""

    def run(work: Any) -> list[BaseException | None]:
        sent: list[str] = []
        left: list[str] = []
        monkeypatch.setattr(ssl_isic.refusals, "gather_object", lambda said: sent.extend(said) or sent)
        ends: list[BaseException | None] = []
        for is_main in (True, False):
            state = SimpleNamespace(destroy_process_group=lambda: left.append("left"))
            accelerator: Any = SimpleNamespace(is_main_process=is_main, state=state)
            try:
                with refused_on_all(accelerator):
                    if is_main:
                        work()
                ends.append(None)
            except (InputError, SystemExit) as error:
                ends.append(error)
        assert len(left) == sum(end is not None for end in ends), "who is refused leaves the others first"
        return ends

    return run


def test_a_refusal_of_the_main_process_ends_all(launched: Any) -> None:
    def refuse() -> None:
        raise InputError("runs/a holds another run")

    main, other = launched(refuse)
    assert isinstance(main, InputError)
    assert str(main) == "runs/a holds another run"
    assert isinstance(other, SystemExit)
    assert other.code == 2


def test_without_one_all_go_on(launched: Any) -> None:
    assert launched(lambda: None) == [None, None]


@pytest.mark.parametrize("refused", [False, True])
def test_a_command_that_is_done_leaves_its_process_group(refused: bool, tmp_path: Path) -> None:
    """One that is refused does not: others may still be waiting in it, and the launcher ends them."""
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)

    @command
    def main(argv: Sequence[str]) -> None:
        torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
        if refused:
            raise InputError("no such file")

    try:
        assert main([]) == (2 if refused else 0)
        assert torch.distributed.is_initialized() == refused
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
