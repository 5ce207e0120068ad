"""Each method as a GPU runs it: in bf16, in fp16, and as torch.compile captures it. On a CPU, where all can be compared."""

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from ssl_isic.backbones import BackboneConfig
from ssl_isic.data.loading import Batch
from ssl_isic.data.views import ViewsConfig
from ssl_isic.methods import MethodConfig
from ssl_isic.methods.method import MethodSettings, RunShape
from ssl_isic.task import StepHooks, Task

IMAGES, SIZE = 8, 64
ROUNDING = {torch.bfloat16: 0.1, torch.float16: 0.03}
"""Of a whole pass; how much it is depends on the CPU. bf16 has 8 bits, fp16 11."""
EVERYWHERE = ["simclr", "dino", "vicreg", "lejepa"]
CASES = [
    *((method, model) for method in EVERYWHERE for model in ("test_vit", "test_resnet", "test_efficientnet")),
    ("mae", "test_vit"),
    ("dinov2", "test_vit"),
]


def build(method: str, model: str) -> tuple[Task, Batch]:
    """A method at its defaults, but for a narrow head, and one batch of its views."""
    narrow: dict[str, Any] = {} if method == "mae" else {"hidden_size": 64}
    config: MethodSettings = TypeAdapter(MethodConfig).validate_python({"name": method, **narrow})
    torch.manual_seed(0)
    task = config.build(BackboneConfig(model=model), RunShape(SIZE, 10, 100))
    views_of, rng = config.build_views(ViewsConfig(size=SIZE, local_size=SIZE // 2)), np.random.default_rng(0)
    images = [rng.integers(0, 256, (96, 96, 3), dtype=np.uint8) for _ in range(IMAGES)]
    views = zip(*(views_of(image, seed=(k,)) for k, image in enumerate(images)), strict=True)
    stacked = [torch.from_numpy(np.stack(view)) for view in views]
    return task.train(), {"views": stacked, "row": torch.arange(IMAGES)}


def one_pass(task: Task, batch: Batch, dtype: torch.dtype) -> dict[str, float]:
    """What one pass logs, and the length of the gradient."""
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
        outputs = task(task.before_transfer(batch, 0), 0)
    scale = 1024.0 if dtype is torch.float16 else 1.0  # what keeps the small gradients of fp16 from becoming 0
    (outputs["loss"] * scale).backward()
    gradients = [p.grad / scale for p in task.parameters() if p.grad is not None]
    assert {gradient.dtype for gradient in gradients} == {torch.float32}
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
    return {name: float(value.detach()) for name, value in (outputs | {"gradient": norm}).items()}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("method", "model"), CASES)
def test_half_precision_gives_the_loss_and_gradient_of_float32_but_for_its_rounding(
    method: str, model: str, dtype: torch.dtype
) -> None:
    task, batch = build(method, model)
    plain = one_pass(task, batch, torch.float32)
    task, _ = build(method, model)
    rounded = one_pass(task, batch, dtype)
    assert rounded != plain, f"nothing ran in {dtype}"
    assert rounded == pytest.approx(plain, rel=ROUNDING[dtype], abs=2e-3)
    if method.startswith("dino"):
        assert rounded["loss"] == pytest.approx(plain["loss"], rel=2e-3), "of a softmax in bf16 it would be 8e-3"
    if isinstance(task, StepHooks):
        task.after_step(0)
    assert {value.dtype for value in task.state_dict().values()} <= {torch.float32, torch.int64}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's own, of its capture
@pytest.mark.parametrize("method", [*EVERYWHERE, "mae", "dinov2"])
def test_what_torch_compile_captures_is_the_method(method: str) -> None:
    task, batch = build(method, "test_vit")
    plain = one_pass(task, batch, torch.bfloat16)
    task, _ = build(method, "test_vit")
    captured = list[int]()

    def counted(graph: torch.fx.GraphModule, example_inputs: list[Any]) -> Any:
        captured.append(len(example_inputs))
        return graph.forward

    torch.compiler.reset()
    for network in task.networks():
        network.compile(backend=counted)
    assert one_pass(task, batch, torch.bfloat16) == pytest.approx(plain, rel=1e-5, abs=1e-6)
    assert captured
