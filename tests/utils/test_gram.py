"""Inner products of rows, and their gradients."""

import torch

from kalmanssl.utils.torch_ops import gram


def test_value_and_gradients():
    v = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(gram(v), v @ v.T)
    assert torch.autograd.gradcheck(gram, v)
    assert torch.autograd.gradgradcheck(gram, v)
    weight = torch.arange(36, dtype=torch.float64).reshape(6, 6)  # not symmetric
    mine, plain = (torch.autograd.grad((weight * product).sum(), v)[0] for product in (gram(v), v @ v.T))
    torch.testing.assert_close(mine, plain)
