"""A plain camera: exposure, white balance, blur, vignetting, shot and read noise, sRGB."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nddr_deploy.preprocess import Image

MIDDLE = 0.26  # mean linear value that the exposure aims at


@dataclass(frozen=True)
class Sensor:
    """One camera's settings.

    Attributes:
        exposure: factor on what the automatic exposure chose.
        balance: (3,) RGB factors of an imperfect white balance.
        blur: standard deviation in pixels of an image 128 pixels wide; grows with the width.
        full_well: electrons at full scale: shot noise is the root of their number.
        read_noise: standard deviation in parts of full scale.
        vignette: how much darker the corners are.
    """

    exposure: float
    balance: npt.NDArray[np.float32]
    blur: float
    full_well: float
    read_noise: float
    vignette: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Sensor:
        return cls(
            exposure=float(2 ** rng.normal(0, 0.3)),
            balance=rng.normal(1, 0.06, 3).astype(np.float32),
            blur=rng.uniform(0.3, 0.6),
            full_well=10 ** rng.uniform(3.0, 3.8),
            read_noise=rng.uniform(0.002, 0.008),
            vignette=rng.uniform(0.0, 0.25),
        )

    def expose(self, radiance: npt.NDArray[np.float32], rng: np.random.Generator, gain: float | None = None) -> Image:
        """Linear RGB (H, W, 3) -> sRGB uint8; `gain` replaces the automatic exposure, as for the frames of a video."""
        import cv2

        height, width = radiance.shape[:2]
        gain = automatic_gain(radiance) if gain is None else gain
        rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        columns = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
        fall = 1 - np.float32(0.5 * self.vignette) * (rows * rows + columns * columns)
        light = radiance * (fall * np.float32(gain * self.exposure))[..., None] * self.balance
        sigma = self.blur * max(1.0, width / 640)
        light = cv2.GaussianBlur(light, (0, 0), sigma)
        deviation = np.sqrt(np.maximum(light, 0) / np.float32(self.full_well) + np.float32(self.read_noise**2))
        light += deviation * rng.standard_normal(light.shape, dtype=np.float32)
        return to_srgb(light)


def automatic_gain(radiance: npt.NDArray[np.float32]) -> float:
    return MIDDLE / max(float(radiance.mean()), 1e-6)


_STEPS = 4096
_CODES = np.linspace(0, 1, _STEPS + 1)
_SRGB = np.round(
    255 * np.where(_CODES <= 0.0031308, 12.92 * _CODES, 1.055 * np.maximum(_CODES, 1e-9) ** (1 / 2.4) - 0.055)
).astype(np.uint8)


def to_srgb(light: npt.NDArray[np.float32]) -> Image:
    """Linear 0..1, clipped -> sRGB uint8."""
    return _SRGB[(np.clip(light, 0, 1) * _STEPS + 0.5).astype(np.int32)]
