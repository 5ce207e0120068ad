"""How a student is asked to match its teacher: on other views of the same image, never on the same view."""

from torch import Tensor


def across_views(target_TBK: Tensor, log_p_VBK: Tensor) -> Tensor:
    """Mean over images and over pairs of a teacher's view and another one of the student's of their cross-entropy.

    The T views of the teacher are the first of the student's V.

    Source: Caron et al. 2021, https://arxiv.org/abs/2104.14294, equation 3.
    """
    teachers, images = target_TBK.shape[:2]
    # sums over views first: a product of each two would contract over B * K at once, on few of a GPU's processors
    all_pairs = (target_TBK.sum(dim=0) * log_p_VBK.sum(dim=0)).sum()
    same_view = (target_TBK * log_p_VBK[:teachers]).sum()
    return (same_view - all_pairs) / (images * teachers * (len(log_p_VBK) - 1))
