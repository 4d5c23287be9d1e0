"""Codecs and cameras."""

from __future__ import annotations

from doctor_machines import CODECS, cpu_machine, finding

from nddr_deploy.doctor.ask import Answer
from nddr_deploy.doctor.diagnosis import judge
from nddr_deploy.doctor.facts import Camera

SUBJECT = "Video and cameras"


def test_an_ffmpeg_without_h264_is_missing_it() -> None:
    decode = {**CODECS["decode"], "h264": False}
    diagnosis = judge(cpu_machine(pyav=Answer({"version": "18.1.0", "decode": decode, "encode": {"aac": True}})))

    reading, writing = finding(diagnosis, SUBJECT, "reading videos"), finding(diagnosis, SUBJECT, "writing videos")

    assert (reading.state, writing.state) == ("missing", "missing")
    assert reading.found.endswith("but not H.264")
    assert reading.do == ("pip install --force-reinstall --only-binary=av av -c constraints.txt",)


def test_an_opencv_that_wants_a_display_is_told_to_give_way_to_the_headless_one() -> None:
    broken = Answer(problem="ImportError: libGL.so.1: cannot open shared object file: No such file or directory")

    diagnosis = judge(cpu_machine(opencv=broken))

    found = finding(diagnosis, SUBJECT, "OpenCV")
    assert found.state == "problem"
    assert "pip install --force-reinstall opencv-python-headless -c constraints.txt" in found.do
    assert found.do[-1] == "sudo apt-get install libgl1 libglib2.0-0"
    assert next(command for command in diagnosis.commands if command.name == "nddr-infer").ways == ()


def test_cameras_are_named_and_their_second_devices_left_out() -> None:
    diagnosis = judge(
        cpu_machine(
            cameras=(
                Camera("/dev/video0", "HD Webcam", True, Answer({"name": "HD Webcam", "captures": True})),
                Camera("/dev/video1", "HD Webcam", True, Answer({"name": "HD Webcam", "captures": False})),
            )
        )
    )

    named = [found for found in diagnosis.findings if found.what.startswith("camera")]

    assert [(found.what, found.found) for found in named] == [
        ("camera /dev/video0", "HD Webcam (--input camera:0)"),
    ]


def test_a_camera_that_the_user_may_not_open_names_the_group() -> None:
    diagnosis = judge(cpu_machine(cameras=(Camera("/dev/video0", "HD Webcam", False),)))

    found = finding(diagnosis, SUBJECT, "camera /dev/video0")

    assert found.state == "missing"
    assert found.do[0] == "sudo usermod --append --groups video $USER"


def test_a_camera_that_hangs_is_a_problem() -> None:
    hanging = Answer(problem="gave no answer within 20 s and was ended")

    diagnosis = judge(cpu_machine(cameras=(Camera("/dev/video0", "HD Webcam", True, hanging),)))

    assert finding(diagnosis, SUBJECT, "camera /dev/video0").state == "problem"
