from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nddr_deploy.errors import ConfigError
from nddr_deploy.network.resize import Resize
from nddr_deploy.resize import CONVENTIONS, Convention, Grid

SIZES = [
    ((5, 7), (11, 3)),
    ((8, 12), (64, 96)),
    ((41, 41), (5, 6)),
    ((1, 1), (4, 5)),
    ((6, 4), (1, 1)),
    ((9, 9), (9, 9)),
]


def reference(x: np.ndarray, size_hw: tuple[int, int], convention: Convention) -> np.ndarray:
    """Float64, written from the definition of bilinear interpolation."""
    grid = Grid.between((x.shape[2], x.shape[3]), size_hw, convention)
    for axis, source in ((2, grid.rows), (3, grid.columns)):
        lower = np.floor(source).astype(int)
        upper = np.minimum(lower + 1, x.shape[axis] - 1)
        fraction = (source - lower).reshape(-1, *[1] * (3 - axis))
        x = x.take(lower, axis) * (1 - fraction) + x.take(upper, axis) * fraction
    return x


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize(("size_in", "size_out"), SIZES)
def test_resize_matches_the_definition_in_float64(
    convention: Convention, size_in: tuple[int, int], size_out: tuple[int, int]
) -> None:
    x = torch.rand(2, 3, *size_in)

    found = Resize(convention)(x, torch.empty(1, 1, *size_out))

    # float32 positions of a few dozen pixels are off by some 1e-6
    np.testing.assert_allclose(found, reference(x.double().numpy(), size_out, convention), rtol=0, atol=5e-6)


def test_half_pixel_is_cv2_and_align_corners_is_torch() -> None:
    x = torch.rand(1, 1, 6, 9)

    half_pixel = Resize("half_pixel")(x, (25, 31))[0, 0]
    corners = Resize("align_corners")(x, (25, 31))

    np.testing.assert_allclose(half_pixel, cv2.resize(x[0, 0].numpy(), (31, 25)), rtol=0, atol=1e-6)
    assert torch.equal(corners, F.interpolate(x, (25, 31), mode="bilinear", align_corners=True))


def test_asymmetric_subsamples_whole_factors() -> None:
    x = torch.rand(1, 2, 8, 12)

    assert torch.equal(Resize("asymmetric")(x, (2, 3)), x[:, :, ::4, ::4])


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_resizing_to_the_same_size_changes_nothing(convention: Convention) -> None:
    x = torch.rand(1, 2, 7, 5)

    torch.testing.assert_close(Resize(convention)(x, x), x, rtol=0, atol=1e-6)  # a product with 1 / 1


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_resizing_in_bfloat16_reads_the_right_places(convention: Convention) -> None:
    ramp = torch.linspace(0, 1, 40).reshape(1, 1, 1, 40).repeat(1, 1, 2, 1)

    found = Resize(convention)(ramp.bfloat16(), (2, 321)).float()

    expected = Resize(convention)(ramp, (2, 321))
    torch.testing.assert_close(found, expected, rtol=0, atol=6e-3)  # bfloat16 values up to 1 have steps of 2^-8


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_gradients_of_resizing_are_right(convention: Convention) -> None:
    x = torch.rand(1, 1, 3, 4, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(lambda x: Resize(convention)(x, (5, 3)), x)


def test_an_unknown_convention_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"resize: 'half-pixel' is unknown.*Did you mean 'half_pixel'"):
        Resize("half-pixel")  # type: ignore[arg-type]
