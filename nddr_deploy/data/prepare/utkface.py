"""UTKFace: faces whose names hold age and gender, brought into the layout of `folder`.

A picture's name is AGE_GENDER_RACE_DATE.jpg.chip.jpg (aligned crops) or AGE_GENDER_RACE_DATE.jpg, gender 0 = male,
1 = female. Its part of the data depends on nothing but the name before the first dot: see `shares.split_of`.

Source:
    Zhang, Song and Qi, Age Progression/Regression by Conditional Adversarial Autoencoder, CVPR 2017.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from nddr_deploy.data.folder_files import GENDERS
from nddr_deploy.data.pictures import read_picture
from nddr_deploy.data.prepare.archive import Member, members
from nddr_deploy.data.prepare.faces import Face, FaceSummary, write_faces
from nddr_deploy.errors import InputError
from nddr_deploy.files import check_place, finished_file
from nddr_deploy.progress import progress_bar

SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}
NAME = re.compile(r"(?P<name>(?P<age>[0-9]{1,3})_(?P<gender>[01])_[0-4]_[0-9]{1,20})\.jpg(\.chip\.jpg)?")
MOST_BYTES = 20_000_000  # of one picture: the largest of the data set has 3 MB


def prepare_utkface(
    source: str | os.PathLike[str], output: str | os.PathLike[str], *, show_progress: bool = False
) -> FaceSummary:
    """Write UTKFace as a folder that the data set `folder` reads.

    Pictures are checked by decoding them and written as they are. Where one run was stopped, the next goes on. Of
    pictures with the same bytes and different names the first name counts: the data set holds some of them with
    different ages, and in different splits they would be learned and asked for.

    Args:
        source: a folder of pictures, a tar file or a zip file; folders inside do not matter.
        output: the folder to write; made if it is missing.
        show_progress: draw a progress bar on stderr.

    Returns:
        What was kept and dropped, and why.

    Raises:
        InputError: the source does not exist or is no archive, it holds no usable face, or the output cannot be
            written to.
        UnreadableError: the archive is damaged or cut off.
    """
    found = members(source)
    images = Path(output) / "images"
    try:
        images.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {images} cannot be made: {error.strerror}. Choose another output.") from error
    check_place(images / "any.jpg")
    summary = FaceSummary(str(source), pictures="checked")
    faces: dict[str, Face] = {}
    names_of: dict[str, list[str]] = {}  # by what the picture holds
    with progress_bar("pictures", None, shown=show_progress) as advance:
        for member in found:
            advance(1)
            summary.read += 1
            kept = _keep(member, images, faces)
            if isinstance(kept, str):
                summary.dropped[kept] += 1
                continue
            face, digest = kept
            faces[face.name] = face
            names_of.setdefault(digest, []).append(face.name)
    for names in names_of.values():
        for name in sorted(names)[1:]:
            summary.dropped["the same picture as another name"] += 1
            del faces[name]
            _picture(images, name).unlink()
    write_faces(Path(output), list(faces.values()), SHARES, summary, persons=False)
    return summary


def _keep(member: Member, images: Path, faces: dict[str, Face]) -> tuple[Face, str] | str:
    """Write a member's picture, and give its face and what its bytes hash to; or say why not."""
    parts = NAME.fullmatch(member.name)
    if parts is None:
        return "not named AGE_GENDER_RACE_DATE.jpg"
    if member.size > MOST_BYTES:
        return f"larger than {MOST_BYTES // 1_000_000} MB"
    face = Face(parts["name"], int(parts["age"]), GENDERS[int(parts["gender"])], person=parts["name"])
    if face.name in faces:
        return "the same name as another picture"
    content = member.read()
    final = _picture(images, face.name)
    if not (final.is_file() and final.read_bytes() == content):
        try:
            with finished_file(final, flushed=False) as temporary:  # the next run compares it, as above
                temporary.write_bytes(content)
                read_picture(temporary)
        except InputError:
            return "damaged picture"
    return face, hashlib.sha256(content).hexdigest()


def _picture(images: Path, name: str) -> Path:
    """Made of what `NAME` lets through, digits and underscores: never outside of `images`."""
    return images / f"{name}.jpg"
