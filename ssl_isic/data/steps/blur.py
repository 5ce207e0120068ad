"""Gaussian blur."""

from typing import ClassVar, Literal

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ssl_isic.data.steps.step import Image, Limits, Parameters, Step, uniform
from ssl_isic.transfer import to_device

SIGMAS_KEPT = 3.5
"""The kernel ends at this many sigmas, as in Pillow and albumentations."""


class GaussianBlur(Step):
    """Blur by a Gaussian of random width. Source: Chen et al. 2020, appendix A."""

    name: Literal["gaussian_blur"] = "gaussian_blur"
    sigma: Limits = (0.1, 2.0)
    """Standard deviation of the Gaussian, px of the view, [smallest, largest]."""
    drawn: ClassVar = ("sigma",)

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Parameters:
        return (uniform(rng, self.sigma),)

    def apply(self, image: Image, parameters: Parameters) -> Image:
        (sigma,) = parameters
        radius = int(SIGMAS_KEPT * sigma)
        if radius == 0:
            return image
        kernel = cv2.getGaussianKernel(2 * radius + 1, sigma, cv2.CV_32F)
        blurred: Image = cv2.sepFilter2D(image, -1, kernel, kernel)  # twice as fast as GaussianBlur, and as exact
        return blurred

    def apply_batch(self, images: Tensor, parameters: Tensor) -> Tensor:
        radius = int(SIGMAS_KEPT * float(parameters[:, 0].max()))
        places = torch.arange(-radius, radius + 1, dtype=parameters.dtype)
        kernels_B_K = torch.exp(-0.5 * (places / parameters) ** 2)
        kernels_B_K = kernels_B_K.where(places.abs() <= torch.floor(SIGMAS_KEPT * parameters), 0.0)
        kernels_B_K = to_device((kernels_B_K / kernels_B_K.sum(dim=1, keepdim=True)).to(images.dtype), images.device)
        return _along_rows(_along_rows(images, kernels_B_K).transpose(2, 3), kernels_B_K).transpose(2, 3)


def _along_rows(images: Tensor, kernels_B_K: Tensor) -> Tensor:
    """Each image (B, 3, H, W) convolved with its own kernel along W; borders are mirrored, without the edge twice."""
    count, channels, height, width = images.shape
    radius = kernels_B_K.shape[1] // 2
    mirrored = to_device(torch.from_numpy(np.pad(np.arange(width), radius, mode="reflect")), images.device)
    rows = images[..., mirrored].reshape(1, count, channels * height, width + 2 * radius)
    return nn.functional.conv2d(rows, kernels_B_K[:, None, None], groups=count).reshape(images.shape)
