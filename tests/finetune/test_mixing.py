"""MixUp and CutMix against the papers' formulas, in pixels, targets and gradients; and that a killed run mixes on exactly."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import finetune.classifier
from finetune.classifier import Classifier, HeadConfig
from finetune.losses import BCEConfig, FocalConfig, classification_loss
from finetune.mixing import MixingConfig, Pairing, draw_from_torch, draw_pairing, mixed
from finetune.train import main
from ssl_isic.backbones import BackboneConfig
from ssl_isic.stepper import seed_step

MIXUP = MixingConfig(probability=1, cutmix=0, mixup_alpha=0.8)
CUTMIX = MixingConfig(probability=1, cutmix=1)
NONE_POSITIVE = np.zeros(6, bool)


def batch(count: int = 6, height: int = 12, width: int = 9) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    images = torch.randn(count, 3, height, width, generator=rng, dtype=torch.float64)
    target = torch.rand(count, generator=rng, dtype=torch.float64)
    return images, target, torch.rand(count, generator=rng, dtype=torch.float64) + 0.1


def pairing(config: MixingConfig, seed: int = 0) -> Pairing:
    drawn = draw_pairing(config, np.random.default_rng(seed), NONE_POSITIVE, 12, 9)
    assert drawn is not None
    return drawn


def test_mixup_is_its_equation() -> None:
    images, target, _ = batch()
    drawn = pairing(MIXUP)
    made = mixed(images, target, torch.ones(6, dtype=torch.float64), drawn)
    for i, (j, lam) in enumerate(zip(drawn.partner, drawn.share, strict=True)):
        assert torch.allclose(made.images[i], lam * images[i] + (1 - lam) * images[j])
        assert made.target[i].item() == pytest.approx(lam * target[i].item() + (1 - lam) * target[j].item())
    assert made.weight.tolist() == pytest.approx([1] * 6)


def test_cutmix_pastes_a_box_and_counts_its_pixels() -> None:
    images, target, weight = batch()
    for seed in range(20):
        drawn = pairing(CUTMIX, seed)
        assert drawn.boxes is not None
        made = mixed(images, target, weight, drawn)
        for i, (j, lam) in enumerate(zip(drawn.partner, drawn.share, strict=True)):
            top, bottom, left, right = drawn.boxes[i]
            expected = images[i].clone()
            expected[:, top:bottom, left:right] = images[j][:, top:bottom, left:right]
            assert torch.equal(made.images[i], expected)
            if i != j:
                assert lam == pytest.approx((made.images[i, 0] == images[i, 0]).double().mean().item())
            assert made.target[i].item() == pytest.approx(
                (lam * weight[i] * target[i] + (1 - lam) * weight[j] * target[j]).item() / made.weight[i].item()
            )


def test_lambda_is_beta() -> None:
    shares = np.concatenate([pairing(MIXUP, seed).share for seed in range(2000)])
    assert shares.mean() == pytest.approx(0.5, abs=0.01)
    assert shares.var() == pytest.approx(1 / (4 * (2 * 0.8 + 1)), rel=0.05)  # the variance of beta(a, a)
    assert len(set(pairing(MIXUP).share)) == 6, "each image has its own"
    areas = [1 - pairing(CUTMIX, seed).share for seed in range(2000)]
    assert 0.25 < np.mean(areas) < 0.5, "0.5 for uniform lambda, less what lies beyond the border"


def test_how_often_and_which() -> None:
    config = MixingConfig(probability=0.6, cutmix=0.25)
    drawn = [draw_pairing(config, np.random.default_rng(seed), NONE_POSITIVE, 12, 9) for seed in range(2000)]
    taken = [each for each in drawn if each is not None]
    assert len(taken) / 2000 == pytest.approx(0.6, abs=0.04)
    assert np.mean([each.boxes is not None for each in taken]) == pytest.approx(0.25, abs=0.04)


def test_like_is_mixed_with_like() -> None:
    config = MixingConfig(probability=1, partners="like")
    positive = np.array([True, False, False, True, False, False])
    for seed in range(20):
        drawn = draw_pairing(config, np.random.default_rng(seed), positive, 12, 9)
        assert drawn is not None
        assert (positive[drawn.partner] == positive).all()
        assert sorted(drawn.partner) == list(range(6))
    alone = draw_pairing(config, np.random.default_rng(0), np.arange(6) == 2, 12, 9)
    assert alone is not None
    assert alone.partner[2] == 2, "a positive alone stays as it is"


@pytest.mark.parametrize("loss", [FocalConfig(alpha=0.3, gamma=1.5), BCEConfig(positive_weight=4.0)])
@pytest.mark.parametrize("config", [MIXUP, CUTMIX])
def test_loss_and_gradients_are_the_papers_mixed_loss(loss: FocalConfig | BCEConfig, config: MixingConfig) -> None:
    """lambda w_i loss(f(x), y_i) + (1 - lambda) w_j loss(f(x), y_j), with soft targets and weights."""
    images, target, weight = batch()
    net = torch.randn(3 * 12 * 9, dtype=torch.float64, requires_grad=True)
    drawn = pairing(config)
    made = mixed(images, target, weight, drawn)
    logits = made.images.flatten(1) @ net / 10
    ours = classification_loss(loss, logits, made.target, made.weight)
    plain = torch.zeros((), dtype=torch.float64)
    for i, (j, lam) in enumerate(zip(drawn.partner, drawn.share, strict=True)):
        for part, row in ((lam, i), (1 - lam, j)):
            alone = classification_loss(loss, logits[i : i + 1], target[row : row + 1], weight[row : row + 1])
            plain = plain + part * alone / 6
    assert ours.item() == pytest.approx(plain.item(), rel=1e-9)
    (gradient,), (expected,) = (torch.autograd.grad(value, net, retain_graph=True) for value in (ours, plain))
    assert torch.allclose(gradient, expected, rtol=1e-8, atol=1e-12)


def test_two_weights_of_zero_make_no_nan() -> None:
    images, target, _ = batch()
    made = mixed(images, target, torch.zeros(6, dtype=torch.float64), pairing(MIXUP))
    assert made.weight.tolist() == [0] * 6
    assert torch.isfinite(made.target).all()


def test_it_is_a_function_of_seed_step_micro_batch_and_rank() -> None:
    def shares(*at: int) -> list[float]:
        seed_step(*at)
        drawn = draw_from_torch(MIXUP, torch.zeros(6), 12, 9)
        assert drawn is not None
        return drawn.share.tolist()

    here = shares(3, 10, 1, 0)
    torch.rand(7)
    assert shares(3, 10, 1, 0) == here
    for other in ((4, 10, 1, 0), (3, 11, 1, 0), (3, 10, 0, 0), (3, 10, 1, 1)):
        assert shares(*other) != here


def test_off_draws_nothing() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    assert draw_from_torch(MixingConfig(), torch.zeros(6), 12, 9) is None
    assert torch.equal(torch.get_rng_state(), state)


def test_the_classifier_trains_on_what_is_mixed_and_scores_what_is_not() -> None:
    torch.manual_seed(0)
    head, backbone = HeadConfig(dropout=0.0), BackboneConfig(model="test_resnet")
    classifier = Classifier(head, BCEConfig(), backbone, 32, 0.25, MIXUP).eval()
    pixels = torch.randint(0, 256, (6, 32, 32, 3), dtype=torch.uint8)
    batch_ = {"views": [pixels], "target": torch.tensor([1.0, 0, 0, 1, 0, 0]), "weight": torch.ones(6)}
    seed_step(0, 5, 0, 0)
    loss = classifier(batch_, 5)["loss"]
    seed_step(0, 5, 0, 0)
    drawn = draw_from_torch(MIXUP, batch_["target"], 32, 32)
    assert drawn is not None
    made = mixed(classifier.normalize(pixels), batch_["target"], batch_["weight"], drawn)
    logits = classifier.model(made.images).squeeze(1)
    bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, made.target)
    assert loss.item() == pytest.approx(bce.item(), rel=1e-5)
    assert torch.equal(classifier.logits(pixels), classifier.logits(pixels))


class Killed(BaseException):
    """Stands for a kill: nothing in the code under test may catch it."""


def test_a_killed_run_that_mixes_ends_with_the_same_weights(
    tmp_path: Path, tiny_finetune: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(name: str, *words: str) -> dict[str, Tensor]:
        mixing = ["mixing.probability=0.9", "mixing.partners=like", "folds=[0]", "loop.save_every=2", *words]
        assert main([f"run_dir={tmp_path / name}", *tiny_finetune, *mixing]) == 0
        return load_file(tmp_path / name / "fold-0" / "model" / "model.safetensors")

    whole = run("whole")
    calls, loss = 0, classification_loss

    def killed_at_the_fourth(*arguments: Any) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise Killed
        return loss(*arguments)

    monkeypatch.setattr(finetune.classifier, "classification_loss", killed_at_the_fourth)
    with pytest.raises(Killed):
        run("killed")
    assert (tmp_path / "killed" / "fold-0" / "checkpoints" / "step-000000002").is_dir()
    monkeypatch.undo()
    resumed = run("killed")
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []
    plain = run("plain", "mixing.probability=0")
    assert any(not torch.equal(whole[name], plain[name]) for name in whole), "mixing changes what is learned"
