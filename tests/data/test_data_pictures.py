from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from nddr_deploy.data.pictures import PICTURE_SUFFIXES, read_picture
from nddr_deploy.errors import InputError

REAL = Path(os.environ.get("NDDR_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
needs_real = pytest.mark.skipif(not (REAL / "odd").is_dir(), reason=f"no sample files in {REAL}; set NDDR_TEST_DATA")


def gradient(height: int = 24, width: int = 40) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 10, columns * 6, 255 - rows * 5], axis=-1).astype(np.uint8)


def test_a_png_is_read_as_it_is(tmp_path: Path) -> None:
    Image.fromarray(gradient()).save(tmp_path / "a.png")

    assert np.array_equal(read_picture(tmp_path / "a.png"), gradient())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_made_upright(tmp_path: Path, orientation: int) -> None:
    upright = gradient()
    stored = {  # how a camera stores the upright picture under each orientation (EXIF 2.3, tag 274)
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)

    assert np.array_equal(read_picture(tmp_path / "a.png"), upright)


def test_sixteen_bits_are_scaled_not_cut_off(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 32768, 65535, 257 * 200]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")

    picture = read_picture(tmp_path / "a.png")

    assert picture[0, :, 0].tolist() == [0, 0, 1, 128, 255, 200]  # value * 255 / 65535, rounded
    assert picture.shape == (1, 6, 3)


def test_grey_palette_and_one_bit_pictures_become_rgb(tmp_path: Path) -> None:
    grey = gradient()[..., 1]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(gradient()).quantize(16).save(tmp_path / "palette.png")
    Image.fromarray(grey > 100).save(tmp_path / "bits.png")

    assert np.array_equal(read_picture(tmp_path / "grey.png"), np.repeat(grey[..., None], 3, axis=2))
    assert np.abs(read_picture(tmp_path / "palette.png").astype(int) - gradient()).mean() < 20
    assert np.unique(read_picture(tmp_path / "bits.png")).tolist() == [0, 255]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparent_pixels_lie_on_white(tmp_path: Path, mode: str) -> None:
    picture = Image.new("RGBA", (3, 1), (100, 100, 100, 255))
    picture.putpixel((1, 0), (100, 100, 100, 0))
    picture.putpixel((2, 0), (100, 100, 100, 128))
    suffix = "tif" if mode == "PA" else "png"
    if mode == "PA":  # a palette with a transparent entry, as GIF and PNG have it
        palette = Image.new("P", (3, 1), 0)
        palette.putpalette([100, 100, 100, 200, 200, 200])
        palette.putpixel((1, 0), 1)
        palette.save(tmp_path / "a.png", transparency=1)
        suffix = "png"
    else:
        picture.convert(mode).save(tmp_path / f"a.{suffix}")

    row = read_picture(tmp_path / f"a.{suffix}")[0, :, 0].tolist()

    assert row[:2] == [100, 255]
    if mode != "PA":
        assert abs(row[2] - 177) <= 1  # half of 100 and half of 255


def test_cmyk_ink_becomes_the_colour_that_it_prints(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=95)
    Image.new("CMYK", (8, 8), (0, 0, 0, 255)).save(tmp_path / "black.tif")

    assert read_picture(tmp_path / "red.jpg")[4, 4].tolist() == pytest.approx([255, 0, 0], abs=4)  # JPEG is lossy
    assert read_picture(tmp_path / "black.tif")[4, 4].tolist() == [0, 0, 0]


def test_a_broken_colour_profile_does_not_stop_a_cmyk_picture(tmp_path: Path) -> None:
    wrong = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()  # an RGB profile on four inks
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", icc_profile=wrong, quality=95)

    assert read_picture(tmp_path / "a.jpg")[4, 4].tolist() == pytest.approx([255, 0, 0], abs=4)


def test_of_an_animation_the_first_picture_counts(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])

    assert read_picture(tmp_path / "a.gif")[0, 0].tolist() == [255, 0, 0]


def bomb(side: int) -> bytes:
    """The header of a PNG of side x side pixels, without the pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [11_000, 60_000])
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path: Path, side: int) -> None:
    (tmp_path / "bomb.png").write_bytes(bomb(side))

    with pytest.raises(InputError, match=r"bomb\.png.*at most 100 million"):
        read_picture(tmp_path / "bomb.png")


def test_what_is_no_picture_is_refused_in_one_sentence_that_names_the_file(tmp_path: Path) -> None:
    Image.fromarray(gradient(200, 200)).save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(gradient(200, 200)).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "broken.png").write_bytes(whole[:60] + bytes(40) + whole[100:])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("not a picture")
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "floats.tif")

    for name, expected in {
        "cut.jpg": "cut off",
        "cut.png": "cut off",
        "broken.png": "damaged",
        "empty.jpg": "empty",
        "text.jpg": "not a picture",
        "floats.tif": "floating-point",
        "missing.jpg": "does not exist",
        ".": "is a folder",
    }.items():
        with pytest.raises(InputError, match=expected) as caught:
            read_picture(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


@needs_real
def test_the_odd_files_look_like_the_picture_that_they_were_made_from() -> None:
    base = read_picture(REAL / "odd" / "base.jpg").astype(int)

    for name in ("cmyk.jpg", "exif_orientation_6.jpg"):
        assert np.abs(read_picture(REAL / "odd" / name) - base).mean() < 3  # compressed twice
    grey = read_picture(REAL / "odd" / "gray_16bit.png").astype(int)
    assert np.corrcoef(grey[..., 0].ravel(), base.mean(axis=2).ravel())[0, 1] > 0.98
    assert grey.max() == 255
    assert read_picture(REAL / "odd" / "size_1x1.png").shape == (1, 1, 3)


@needs_real
def test_every_photo_and_odd_file_is_read_or_refused_in_a_sentence() -> None:
    outcome = {}
    for file in sorted([*(REAL / "odd").iterdir(), *(REAL / "photos").iterdir()]):
        if file.suffix in PICTURE_SUFFIXES:
            try:
                outcome[file.name] = read_picture(file).shape[2]
            except InputError:
                outcome[file.name] = 0

    assert sorted(name for name, channels in outcome.items() if channels == 0) == [
        "text_named.jpg",
        "truncated_half.jpg",
        "zero_byte.jpg",
    ]
