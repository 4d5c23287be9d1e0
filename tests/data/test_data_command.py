from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nddr_deploy.data import open_dataset
from nddr_deploy.data.__main__ import main
from nddr_deploy.data.preview import contact_sheet


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from nddr_deploy.data.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'numba', 'cv2', 'av', 'PIL') if name in sys.modules])"
    )

    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert run.stdout.endswith("[]\n")


def test_preview_writes_a_contact_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rooms.png"

    status = main(["preview", "rooms", str(file), "--count", "3", "--option", "size_hw=[48, 64]"])

    assert status == 0
    assert capsys.readouterr().out == f"{file}\n"
    with Image.open(file) as sheet:
        assert sheet.size == (2 * 4 * (64 + 4), 2 * (48 + 4) + 96)  # two strips of four panels; the legends below


def test_walkthrough_writes_a_video(tmp_path: Path) -> None:
    file = tmp_path / "walk.mp4"

    assert main(["walkthrough", str(file), "--seconds", "0.3", "--rate", "10", "--size", "48x64"]) == 0

    assert file.stat().st_size > 1000


def test_a_mistake_is_one_line_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["preview", "rooms", str(tmp_path / "a.png"), "--option", "cuont=3"]) == 2

    error = capsys.readouterr().err
    assert error.startswith("error: option of rooms: 'cuont' is unknown.")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_sheet_of_faces_shows_the_answers_as_text() -> None:
    dataset = open_dataset("faces", count=2, size_hw=(64, 64))

    sheet = contact_sheet(dataset, 2)

    assert sheet.shape == (68, 2 * 2 * 68, 3)
    assert not np.array_equal(sheet[:64, 68:132], sheet[:64, :64])
