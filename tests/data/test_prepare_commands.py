"""nddr-data: what it prints, its exit status, and that help is quick."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nddr_deploy.data import open_dataset
from nddr_deploy.data.__main__ import COMMANDS, main


def write_faces(root: Path) -> Path:
    root.mkdir()
    for age in range(1, 41):
        Image.new("RGB", (4, 4), (age, age, age)).save(root / f"{age}_{age % 2}_0_2017{age}.jpg")
    (root / "readme.txt").write_text("hello")
    return root


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_has_an_example_and_loads_nothing_heavy(command: str) -> None:
    program = (
        "import sys\n"
        "from nddr_deploy.data.__main__ import main\n"
        f"try: main([{command!r}, '--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'numba', 'cv2', 'PIL', 'scipy', 'h5py', 'numpy') if name in sys.modules])"
    )

    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert f"example:\n  nddr-data {command} " in run.stdout
    assert run.stdout.endswith("[]\n")


def test_utkface_prints_what_was_kept_and_dropped_and_where_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faces = write_faces(tmp_path / "faces")

    status = main(["utkface", str(faces), "--output", str(tmp_path / "out")])

    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    assert out.splitlines()[:3] == [
        f"      41 in {faces}",
        "      -1 not named AGE_GENDER_RACE_DATE.jpg",
        "      40 in labels.csv",
    ]
    assert out.endswith(f"{tmp_path / 'out'}\n")


def test_a_prepared_folder_passes_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["utkface", str(write_faces(tmp_path / "faces")), "--output", str(tmp_path / "out")])
    capsys.readouterr()

    status = main(["folder", str(tmp_path / "out")])

    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    assert "1 to 40 years, mean 20.5" in out
    assert "male 50.00 %, female 50.00 %" in out


def test_a_folder_with_problems_ends_with_status_2_and_lists_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["utkface", str(write_faces(tmp_path / "faces")), "--output", str(tmp_path / "out")])
    for picture in sorted((tmp_path / "out/images").iterdir())[:5]:
        picture.write_bytes(b"")
    capsys.readouterr()

    status = main(["folder", str(tmp_path / "out"), "--problems", "3"])

    out, err = capsys.readouterr()
    assert status == 2
    assert "pictures  4x4" in out
    assert [line.split(":")[0] for line in err.splitlines()] == ["wrong"] * 3 + ["error"]
    assert "has 5 problems; listed above: 3." in err


def test_imdb_wiki_takes_pictures_and_says_how_many_are_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scipy_io = pytest.importorskip("scipy.io", reason="scipy is not installed: pip install 'nddr-deploy[data]'")
    count = 60
    paths, names = np.empty((1, count), object), np.empty((1, count), object)
    for number in range(count):
        paths[0, number], names[0, number] = [f"00/{number}_x.jpg"], [f"Person {number}"]
    columns = {"dob": 723671.0, "photo_taken": 2009.0, "gender": 1.0, "face_score": 3.0, "second_face_score": np.nan}
    table = {name: np.full((1, count), value) for name, value in columns.items()}
    scipy_io.savemat(tmp_path / "wiki.mat", {"wiki": {**table, "full_path": paths, "name": names}})
    (tmp_path / "crop/00").mkdir(parents=True)
    for number in range(count - 1):
        Image.new("RGB", (4, 4)).save(tmp_path / f"crop/00/{number}_x.jpg")

    status = main(["imdb-wiki", f"{tmp_path}/wiki.mat", "--output", f"{tmp_path}/out", "--images", f"{tmp_path}/crop"])

    assert status == 0
    assert "      -1 missing picture: in no list" in capsys.readouterr().out.splitlines()
    assert open_dataset("folder", "train", path=str(tmp_path / "out"))[0].targets["age"] == 28


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("utkface {}/none.tar --output {}/out", "none.tar does not exist; expected a folder of pictures, a tar"),
        ("utkface {} --output {}/note.txt", "note.txt/images cannot be made"),
        ("imdb-wiki {}/none.mat --output {}/out", "none.mat does not exist; expected imdb.mat or wiki.mat"),
        ("folder {}/none", "none does not exist. Give a folder with the pictures in images/"),
        ("folder {} --problems 0", "--problems must be at least 1; got 0"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: str, sentence: str
) -> None:
    (tmp_path / "note.txt").write_text("hello")

    assert main([part.format(tmp_path) for part in arguments.split()]) == 2

    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert sentence in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]
