"""A request to stop: noted however often it comes, and agreed on by all ranks at one step."""

import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_isic import interrupt
from ssl_isic.interrupt import StopAgreement, StopRequest


def test_more_sigterms_change_nothing_and_a_sigint_after_one_acts() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        assert not stop.arrived
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.arrived
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class TwoRanks:
    """Stands for Accelerate on two ranks that take as long as each other; the other one is never asked to stop."""

    num_processes, device = 2, torch.device("cpu")

    def __init__(self) -> None:
        self.asked = 0

    def reduce(self, value: Tensor, reduction: str) -> Tensor:
        assert reduction == "sum"
        self.asked += 1
        return value * torch.tensor([1.0, 2.0])


@pytest.mark.parametrize(("step_s", "steps"), [(0.01, 200), (0.5, 4), (3.0, 1)])
def test_ranks_ask_each_other_every_two_seconds_and_after_each_slow_step(
    step_s: float, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(interrupt, "time", SimpleNamespace(monotonic=lambda: now[0]))
    ranks: Any = TwoRanks()
    agreement, asked_after, reached = StopAgreement(ranks, step=70), list[int](), list[int]()
    for step in range(71, 71 + 3 * steps):
        now[0] += step_s
        if agreement.reached(arrived=step > 71 + steps, step=step):
            reached.append(step)
        if ranks.asked > len(asked_after):
            asked_after.append(step)
    assert asked_after == [71, 71 + steps, 71 + 2 * steps]
    assert reached == [71 + 2 * steps], "asked at the next occasion, and then all ranks stop"


def test_one_process_asks_no_one() -> None:
    agreement = StopAgreement(SimpleNamespace(num_processes=1), step=0)  # type: ignore[arg-type]
    assert [agreement.reached(arrived, step) for step, arrived in enumerate((False, True), 1)] == [False, True]
