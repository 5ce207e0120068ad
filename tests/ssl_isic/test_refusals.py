"""What the main process refuses ends every rank: the main one with its line, the others without a word."""

from types import SimpleNamespace
from typing import Any

import pytest

import ssl_isic.refusals
from ssl_isic.errors import InputError
from ssl_isic.refusals import refused_on_all


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `work` as the main process and as another one, whose lists `gather_object` puts together."""

    def run(work: Any) -> list[BaseException | None]:
        sent: list[str] = []
        monkeypatch.setattr(ssl_isic.refusals, "gather_object", lambda said: sent.extend(said) or sent)
        ends: list[BaseException | None] = []
        for is_main in (True, False):
            accelerator: Any = SimpleNamespace(is_main_process=is_main)
            try:
                with refused_on_all(accelerator):
                    if is_main:
                        work()
                ends.append(None)
            except (InputError, SystemExit) as error:
                ends.append(error)
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
