"""From a frame to what a network reads. One definition, used by training, export and every engine.

Frames are RGB uint8 (H, W, 3). A model takes `images`: uint8 (N, H, W, 3); the arithmetic of `Preprocess` happens
inside the model (`network.image_input.ImageInput` in PyTorch, the first nodes of the ONNX graph), so no engine can get
it wrong. What happens outside is only `Fit`: bringing a frame of any size to the model's size and the results back.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from nddr_deploy.errors import ConfigError, InputError, unknown_choice
from nddr_deploy.resize import Convention, Grid, source_coordinates

Image = npt.NDArray[np.uint8]
FitMode = Literal["letterbox", "stretch"]
FIT_MODES: tuple[FitMode, ...] = get_args(FitMode)


@dataclass(frozen=True)
class Preprocess:
    """`(pixel * scale - mean) / std`, per channel, after putting the channels in `order`.

    Attributes:
        scale: factor on the 0..255 value: 1/255 (torchvision) or 1 (Caffe-style networks).
        mean, std: in the scaled value range and in the order of `order`.
        order: "rgb" or "bgr", what the first convolution expects.
    """

    scale: float = 1 / 255
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    order: Literal["rgb", "bgr"] = "rgb"

    def __post_init__(self) -> None:
        if self.order not in ("rgb", "bgr"):
            raise unknown_choice("preprocess.order", self.order, ("rgb", "bgr"))
        finite = np.isfinite((self.scale, *self.mean, *self.std)).all()
        if not finite or len(self.mean) != 3 or len(self.std) != 3 or min(self.scale, *self.std) <= 0:
            raise ConfigError(
                "preprocess: expected a positive scale, three means and three positive deviations, all finite; got "
                f"{self.scale}, {self.mean}, {self.std}."
            )

    @property
    def mean_pixel(self) -> tuple[int, int, int]:
        """The RGB uint8 colour that becomes (nearly) zero: what padding is filled with."""
        values = [min(255, max(0, round(value / self.scale))) for value in self.mean]
        red, green, blue = values if self.order == "rgb" else values[::-1]
        return red, green, blue

    def apply(self, images: Image) -> npt.NDArray[np.float32]:
        """uint8 (N, H, W, 3) RGB -> float32 (N, 3, H, W): the reference that the graph is tested against."""
        values = images.astype(np.float32)
        if self.order == "bgr":
            values = values[..., ::-1]
        mean, std = (np.array(three, dtype=np.float32) for three in (self.mean, self.std))
        values = (values * np.float32(self.scale) - mean) / std
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2), dtype=np.float32)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocess:
        return cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})


@dataclass(frozen=True)
class Fit:
    """How a frame lies in the model's image, and how results find back to the frame's own pixels.

    `letterbox` keeps the shape of things (a network's normals and depth assume that) and pads the rest with the mean
    colour, frame centred; `stretch` fills the image.

    Attributes:
        frame_hw, size_hw: of the frame and of the model's image.
        top, left, height, width: the rectangle of the model's image that shows the frame.
    """

    frame_hw: tuple[int, int]
    size_hw: tuple[int, int]
    top: int
    left: int
    height: int
    width: int

    @classmethod
    def of(cls, frame_hw: tuple[int, int], size_hw: tuple[int, int], mode: FitMode = "letterbox") -> Fit:
        if min(frame_hw) < 1:
            raise InputError(f"A frame of {frame_hw[0]}x{frame_hw[1]} pixels is empty.")
        if mode == "stretch":
            return cls(frame_hw, size_hw, 0, 0, *size_hw)
        if mode != "letterbox":
            raise unknown_choice("fit", mode, FIT_MODES)
        factor = min(size_hw[0] / frame_hw[0], size_hw[1] / frame_hw[1])
        height = min(size_hw[0], max(1, round(frame_hw[0] * factor)))
        width = min(size_hw[1], max(1, round(frame_hw[1] * factor)))
        return cls(frame_hw, size_hw, (size_hw[0] - height) // 2, (size_hw[1] - width) // 2, height, width)

    def apply(self, frame: Image, padding: tuple[int, int, int] = (124, 116, 104)) -> Image:
        """RGB uint8 (H, W, 3) of `frame_hw` -> the model's image, uint8 of `size_hw`. Area-averaged when shrinking."""
        if frame.shape != (*self.frame_hw, 3) or frame.dtype != np.uint8:
            raise InputError(f"Expected a uint8 RGB frame {(*self.frame_hw, 3)}; got {frame.dtype} {frame.shape}.")
        if self.frame_hw == self.size_hw:
            return frame
        import cv2

        shrinks = self.height * self.width < self.frame_hw[0] * self.frame_hw[1]
        interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        content = cv2.resize(frame, (self.width, self.height), interpolation=interpolation)
        if (self.height, self.width) == self.size_hw:
            return np.asarray(content, dtype=np.uint8)
        image = np.empty((*self.size_hw, 3), dtype=np.uint8)
        image[:] = padding
        image[self.top : self.top + self.height, self.left : self.left + self.width] = content
        return image

    def grid(self, source_hw: tuple[int, int], convention: Convention = "half_pixel") -> Grid:
        """Where each pixel of the frame reads a (h, w) map that covers the model's whole image.

        Args:
            source_hw: (h, w) of the map: a raw output (h < H), or a decoded result (h = H).
            convention: how the network's raw output is meant to be resized to the model's image.
        """

        def axis(frame: int, start: int, extent: int, size: int, source: int) -> npt.NDArray[np.float64]:
            inside = (np.arange(frame, dtype=np.float64) + 0.5) * (extent / frame) - 0.5  # in the rectangle
            inside = np.clip(inside, 0, extent - 1) + start  # in the model's image
            return source_coordinates(inside, source, size, convention)

        rows = axis(self.frame_hw[0], self.top, self.height, self.size_hw[0], source_hw[0])
        columns = axis(self.frame_hw[1], self.left, self.width, self.size_hw[1], source_hw[1])
        return Grid(source_hw, rows, columns)
