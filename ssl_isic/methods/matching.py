"""How a student is asked to match its teacher: on other views of the same image, never on the same view."""

import torch
from torch import Tensor


def across_views(target_TBK: Tensor, log_p_VBK: Tensor) -> Tensor:
    """Mean over images and over pairs of a teacher's view and another one of the student's of their cross-entropy.

    The T views of the teacher are the first of the student's V.

    Source: Caron et al. 2021, https://arxiv.org/abs/2104.14294, equation 3.
    """
    entropy_TV = -torch.einsum("tbk,vbk->tv", target_TBK, log_p_VBK) / target_TBK.shape[1]
    same = entropy_TV.diagonal()
    return (entropy_TV.sum() - same.sum()) / (entropy_TV.numel() - len(same))
