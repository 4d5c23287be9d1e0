"""Reading one picture file as people see it: upright, RGB, 8 bits."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from stat import S_ISDIR
from typing import TYPE_CHECKING

import numpy as np

from nddr_deploy.errors import InputError
from nddr_deploy.preprocess import Image

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
MAX_PIXELS = 100_000_000
BACKGROUND = (255, 255, 255)  # behind transparent pixels: what a page or a viewer shows


def read_picture(path: str | os.PathLike[str]) -> Image:
    """Read a picture as RGB uint8 (H, W, 3), upright.

    The EXIF orientation is applied. 16-bit values are scaled to 8 bits (65535 -> 255, rounded). CMYK goes through its
    colour profile where the file holds one. Grey and palette pictures become RGB; transparent pixels lie on white.
    Of an animation or a file of many pictures, the first one counts.

    Raises:
        InputError: the file is missing, empty, cut off, not a picture, larger than 100 million pixels, or holds
            floating-point values, whose range nothing tells.
    """
    from PIL import ImageOps

    file = Path(path)
    try:
        status = file.stat()
    except OSError as error:
        raise InputError(f"The picture {file} does not exist, or may not be read.") from error
    if S_ISDIR(status.st_mode):
        raise InputError(f"{file} is a folder; expected a picture file.")
    if status.st_size == 0:
        raise InputError(f"The picture {file} is empty (0 bytes). Copy it again.")
    picture = _open(file)
    with picture:
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise _too_large(file, f"{width}x{height}")
        try:
            picture.load()
            ImageOps.exif_transpose(picture, in_place=True)  # in place: nothing is copied where nothing is turned
            return _to_rgb(picture, file)
        except InputError:
            raise
        except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, zlib.error, ...
            raise InputError(f"The picture {file} is damaged or cut off: {_reason(error)}. Copy it again.") from error


def _open(file: Path) -> Picture:
    from PIL import Image as pillow
    from PIL import UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pillow.DecompressionBombWarning)  # our own limit follows, as an error
            return pillow.open(file)
    except pillow.DecompressionBombError as error:
        raise _too_large(file, "so many") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{file} is not a picture in a known format; expected for example JPEG or PNG.") from error
    except Exception as error:
        raise InputError(f"The picture {file} cannot be opened: {_reason(error)}.") from error


def _to_rgb(picture: Picture, file: Path) -> Image:
    """Any mode of Pillow -> RGB uint8 (H, W, 3)."""
    if picture.mode.startswith("I"):  # 16 bits, also where Pillow holds them in 32
        values = np.asarray(picture).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise InputError(f"{file} holds values from {values.min()} to {values.max()}; expected 8 or 16 bits.")
        grey = ((values * 255 + 32767) // 65535).astype(np.uint8)
        return np.ascontiguousarray(np.broadcast_to(grey[..., None], (*grey.shape, 3)))
    if picture.mode == "F":
        raise InputError(f"{file} holds floating-point values; expected 8 or 16 bits per channel. Convert it first.")
    if picture.mode == "CMYK":
        picture = _cmyk_to_rgb(picture)
    elif picture.has_transparency_data:
        from PIL import Image as pillow

        picture = picture.convert("RGBA")
        behind = pillow.new("RGBA", picture.size, (*BACKGROUND, 255))
        picture = pillow.alpha_composite(behind, picture)
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"), dtype=np.uint8)


def _cmyk_to_rgb(picture: Picture) -> Picture:
    """Through the embedded colour profile if there is a usable one, else the plain formula."""
    profile = picture.info.get("icc_profile")
    if profile:
        from io import BytesIO

        from PIL import ImageCms

        try:
            converted = ImageCms.profileToProfile(
                picture, ImageCms.ImageCmsProfile(BytesIO(profile)), ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
        except ImageCms.PyCMSError:  # a broken profile: every viewer falls back to the plain formula
            converted = None
        if converted is not None:
            return converted
    return picture.convert("RGB")


def _too_large(file: Path, found: str) -> InputError:
    return InputError(
        f"The picture {file} has {found} pixels; expected at most {MAX_PIXELS // 1_000_000} million. Shrink it first."
    )


def _reason(error: Exception) -> str:
    return str(error).strip().rstrip(".") or type(error).__name__
