"""`gram` and `unit_vectors`: values and derivatives; the precision of products."""

import pytest
import torch
from torch.nn import functional

from kalmanssl.utils.torch_ops import fast_products, gram, unit_vectors


def test_gram_and_its_gradients_equal_those_of_the_matrix_product():
    v = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(gram(v), v @ v.T)
    assert torch.autograd.gradcheck(gram, v)
    assert torch.autograd.gradgradcheck(gram, v)
    weight = torch.arange(36, dtype=torch.float64).reshape(6, 6)  # not symmetric
    actual, expected = (torch.autograd.grad((weight * product).sum(), v)[0] for product in (gram(v), v @ v.T))
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("shape", [(5,), (7, 3), (2, 4, 6)])
def test_unit_vectors_and_their_gradients_equal_those_of_torch(shape):
    generator = torch.Generator().manual_seed(0)
    u, weight = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    u.requires_grad_()
    expected = functional.normalize(u, dim=-1)
    torch.testing.assert_close(unit_vectors(u), expected, rtol=1e-14, atol=0)
    one, other = (torch.autograd.grad((z * weight).sum(), u)[0] for z in (unit_vectors(u), expected))
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def test_first_and_second_derivatives_of_unit_vectors_equal_finite_differences():
    u = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(unit_vectors, u)
    assert torch.autograd.gradgradcheck(unit_vectors, u)


def test_unit_vectors_of_zeros_are_zero_with_finite_gradients():
    u = torch.zeros(2, 3, requires_grad=True)
    z = unit_vectors(u)
    assert (z == 0).all()
    assert torch.autograd.grad(z.sum(), u)[0].isfinite().all()


def test_gradient_of_unit_vectors_is_orthogonal_to_the_vector():
    u = torch.tensor([[3.0, 4.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(unit_vectors(u)[0, 0], u)
    torch.testing.assert_close(gradient, torch.tensor([[0.128, -0.096]]))
    assert (gradient * u).sum().abs().item() < 1e-6


@pytest.mark.parametrize("shape", [(300, 120, 256), (64, 64, 64), (7, 3, 5)])
def test_fast_products_have_the_precision_of_float32_and_end_with_the_block(shape):
    rows, inner, columns = shape
    left, right = torch.randn(rows, inner), torch.randn(inner, columns)
    usual = left @ right
    setting = getattr(torch.backends.mkldnn, "matmul", None)
    before = None if setting is None else setting.fp32_precision
    with fast_products():
        product, batched = left @ right, torch.bmm(left[None], right[None])[0]
    exact = left.double() @ right.double()
    for found in (product, batched):
        assert (found - exact).abs().max() < 1e-5 * exact.abs().max()
    assert before is None or setting.fp32_precision == before
    assert torch.equal(left @ right, usual)
