"""Small files of every format to break, and what being refused means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from foreign_afanet import image_weights, pixel_weights
from foreign_files import mtlnas_content, nddrpytorch_content, state_dict
from foreign_resnet import ResNet
from foreign_resnet import weights_of as resnet_weights
from foreign_tf import variables_of, write_npz
from foreign_tf import weights_of as tf_weights
from foreign_vgg import Vgg
from foreign_vgg import weights_of as vgg_weights
from torch import Tensor

from nddr_deploy.errors import NddrError
from nddr_deploy.export.recipe import export_checkpoint

PLAIN = Vgg()
TWO = ResNet(("depth", "semseg"))
QUICK = pytest.mark.usefixtures("no_search_for_sizes")

# One key that no detection rests on, by format.
KEYS = {
    "mtlnas": "nddrs.nddrs.3.bn2.running_var",
    "nddrpytorch": "net2.head.1.running_mean",
    "vandenhende": "module.heads.depth.0.convs.2.1.running_var",
    "afanet_pixel": "B_decoder.last_conv.1.running_mean",
    "afanet_image": "layer3.2.B_bn2.running_var",
}


@cache
def weights(format: str) -> Mapping[str, Tensor]:
    if format in ("mtlnas", "nddrpytorch"):
        return vgg_weights(PLAIN)
    if format == "vandenhende":
        return state_dict(resnet_weights(TWO), "module.")
    return pixel_weights() if format == "afanet_pixel" else image_weights()


def content(format: str, tensors: Mapping[str, Tensor]) -> object:
    """A file of that format with these tensors."""
    if format == "mtlnas":
        return mtlnas_content(tensors, PLAIN)
    if format == "nddrpytorch":
        return nddrpytorch_content(tensors, PLAIN)
    return state_dict(tensors)


def refused(file: Path, *found: str, size_hw: tuple[int, int] = (64, 96), **options: Any) -> str:
    """Export refuses the file, says all of `found`, in one line, and writes nothing."""
    before = sorted(file.parent.rglob("*"))
    with pytest.raises(NddrError) as caught:
        export_checkpoint(file, file.parent / "model.onnx", size_hw=size_hw, **options)
    message = str(caught.value)
    for part in found:
        assert part in message
    assert "\n" not in message
    assert caught.value.exit_status == 2
    assert sorted(file.parent.rglob("*")) == before
    return message


def tf_file(change: Callable[[dict[str, Any]], object], folder: Path) -> Path:
    variables = variables_of(tf_weights())
    change(variables)
    return write_npz(folder / "variables.npz", variables)
