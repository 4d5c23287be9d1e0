from __future__ import annotations

import numpy as np
import pytest
import torch
from network_samples import narrow
from torch import fx

from nddr_deploy.network import ImageInput, ImageModel
from nddr_deploy.preprocess import Preprocess

CAFFE = Preprocess(scale=1.0, mean=(104.00698793, 116.66876762, 122.67891434), std=(1.0, 1.0, 1.0), order="bgr")
ODD = Preprocess(scale=2 / 255, mean=(1.0, 0.9, 0.8), std=(0.5, 0.7, 2.0), order="bgr")


def frames(height: int = 33, width: int = 47) -> np.ndarray:
    images = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    images[0, 0, 0], images[0, 0, 1] = 0, 255
    return images


@pytest.mark.parametrize("preprocess", [Preprocess(), CAFFE, ODD])
def test_image_input_is_the_reference_preprocessing(preprocess: Preprocess) -> None:
    found = ImageInput(preprocess)(torch.from_numpy(frames()))

    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, preprocess.apply(frames()), rtol=1e-6, atol=1e-5)  # float32, another order


def test_the_first_operation_on_the_image_is_the_cast_to_float() -> None:
    for preprocess in (Preprocess(), CAFFE):
        graph = fx.symbolic_trace(ImageInput(preprocess)).graph

        image, first = list(graph.nodes)[:2]

        assert image.op == "placeholder"
        assert (first.target, first.args) == ("to", (image, torch.float32))
        assert list(image.users) == [first]


def test_an_image_model_is_the_network_after_its_preprocessing() -> None:
    network = narrow("resnet18", "nddr")
    model = ImageModel(network, CAFFE).eval()

    outputs = model(torch.from_numpy(frames()))

    expected = network(torch.from_numpy(CAFFE.apply(frames())))
    for task in network.tasks:
        torch.testing.assert_close(outputs[task], expected[task], rtol=1e-5, atol=1e-5)


def test_preprocessing_adds_nothing_to_the_weights() -> None:
    network = narrow("resnet18", "nddr")

    keys = ImageModel(network, CAFFE).state_dict()

    assert list(keys) == [f"network.{key}" for key in network.state_dict()]
