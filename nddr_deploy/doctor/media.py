"""Videos and cameras."""

from __future__ import annotations

from nddr_deploy.doctor.facts import Camera, Facts
from nddr_deploy.doctor.finding import MISSING, NOT_HERE, OK, PROBLEM, Finding

DECODED = {"h264": "H.264", "hevc": "H.265", "mjpeg": "MJPEG", "vp9": "VP9", "av1": "AV1"}
OWN_FFMPEG = "pip install --force-reinstall --only-binary=av av -c constraints.txt"
SUBJECT = "Video and cameras"


def examine(facts: Facts) -> list[Finding]:
    return [*_pyav(facts), _opencv(facts), *_cameras(facts)]


def _pyav(facts: Facts) -> list[Finding]:
    answer = facts.pyav
    if not answer.ok:
        found = "not installed" if answer.missing else f"installed, but it does not load: {answer.problem}"
        return [Finding(SUBJECT, "PyAV", PROBLEM, found, (OWN_FFMPEG,))]
    decoded, encoded = answer.get("decode") or {}, answer.get("encode") or {}
    readable = [title for name, title in DECODED.items() if decoded.get(name)]
    unreadable = [title for name, title in DECODED.items() if not decoded.get(name)]
    findings = [Finding(SUBJECT, "PyAV", OK, answer.get("version"))]
    if unreadable:
        found = f"its FFmpeg reads {', '.join(readable) or 'none of them'}, but not {', '.join(unreadable)}"
        findings.append(Finding(SUBJECT, "reading videos", MISSING, found, (OWN_FFMPEG,)))
    else:
        findings.append(Finding(SUBJECT, "reading videos", OK, ", ".join(readable)))
    if encoded.get("libx264"):
        sound = "with sound" if encoded.get("aac") else "without sound, for want of AAC"
        findings.append(Finding(SUBJECT, "writing videos", OK, f"H.264 by x264, {sound}"))
    else:
        found = "its FFmpeg has no x264, which nddr-infer writes videos with"
        findings.append(Finding(SUBJECT, "writing videos", MISSING, found, (OWN_FFMPEG,)))
    return findings


def _opencv(facts: Facts) -> Finding:
    answer = facts.opencv
    if answer.ok:
        return Finding(SUBJECT, "OpenCV", OK, answer.get("version"))
    if answer.missing:
        install = "pip install opencv-python-headless -c constraints.txt"
        return Finding(SUBJECT, "OpenCV", PROBLEM, "not installed", (install,))
    do: tuple[str, ...] = ("pip install --force-reinstall opencv-python-headless -c constraints.txt",)
    if "libGL" in answer.problem or "libgthread" in answer.problem:
        do = (
            "pip uninstall --yes opencv-python opencv-contrib-python",
            *do,
            "Or, to keep it:",
            "sudo apt-get install libgl1 libglib2.0-0",
        )
    return Finding(SUBJECT, "OpenCV", PROBLEM, f"installed, but it does not load: {answer.problem}", do)


def _cameras(facts: Facts) -> list[Finding]:
    # The second device of a camera, which gives no pictures, is left out.
    shown = [camera for camera in facts.cameras if not (camera.allowed and camera.answer.get("captures") is False)]
    if not shown:
        where = "; a container sees one when started with: docker run --device /dev/video0 ..."
        note = where if facts.system.container else ""
        return [Finding(SUBJECT, "cameras", NOT_HERE, f"none{note}")]
    return [_camera(camera) for camera in shown]


def _camera(camera: Camera) -> Finding:
    what = f"camera {camera.path}"
    if not camera.allowed:
        join = ("sudo usermod --append --groups video $USER", "Log out and in again.")
        return Finding(SUBJECT, what, MISSING, f"{camera.name}; this user may not open it", join)
    if not camera.answer.ok:
        found = f"{camera.name}; it cannot be asked: {camera.answer.problem}"
        return Finding(SUBJECT, what, PROBLEM, found, ("Unplug the camera and plug it in again.",))
    number = camera.path.removeprefix("/dev/video")
    return Finding(SUBJECT, what, OK, f"{camera.name} (--input camera:{number})")
