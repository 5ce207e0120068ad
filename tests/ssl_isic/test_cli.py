"""The table of stages."""

import importlib

import pytest

from ssl_isic.cli import STAGES, main


def test_help_lists_every_stage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {stage}" in shown and purpose in shown for stage, (_, purpose) in STAGES.items())


def test_an_unknown_stage_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrian"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "pretrian" in error
    assert "pretrain" in error


def test_ctrl_c_while_a_stage_is_imported_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib, "import_module", interrupted)
    assert main(["pretrain"]) == 130
    assert capsys.readouterr().err == "ssl-isic: interrupted before anything began\n"


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_each_stage_lists_its_keys(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    module, _ = STAGES[stage]
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(module).main(["--help"])
    assert stopped.value.code == 0
    assert f"usage: ssl-isic {stage}" in capsys.readouterr().out
