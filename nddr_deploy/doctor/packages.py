"""What pip installed: is it all there, new enough, and does nothing stand in another's folder?"""

from __future__ import annotations

from nddr_deploy.doctor.facts import Facts, Need
from nddr_deploy.doctor.finding import MISSING, NOT_HERE, OK, PROBLEM, Finding, extra, numbers
from nddr_deploy.doctor.gpu import driver_runs, expects_gpu, update_driver

PURPOSES = {
    "": "needed always",
    "cpu": "run on a CPU",
    "gpu": "run on a GPU",
    "train": "train, export",
    "data": "prepare data",
}
# Distributions of one library: their files lie in one folder, so whichever came last broke the others.
TWINS = {
    "onnxruntime": (
        "onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-training", "onnxruntime-directml",
        "onnxruntime-rocm", "onnxruntime-migraphx", "ort-nightly", "ort-nightly-gpu",
    ),
    "OpenCV": (
        "opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python",
    ),
}  # fmt: skip
# The newest that fit each other and a driver that runs no CUDA 13.
FOR_CUDA_12 = "pip install 'onnxruntime-gpu[cuda,cudnn]<1.27' 'tensorrt-cu12==10.*' 'cuda-bindings<13'"
# What a need is also met by.
STAND_INS = {"onnxruntime": TWINS["onnxruntime"], "opencv-python-headless": TWINS["OpenCV"]}


def examine(facts: Facts) -> list[Finding]:
    purposes = [_purpose(facts, name) for name in PURPOSES]
    return [_ours(facts), *purposes, *_onnxruntime_twins(facts), *_opencv_twins(facts), *_tensorrt_parts(facts)]


def install_gpu(facts: Facts) -> tuple[str, ...]:
    """What installs the packages for this machine's GPU: of a CUDA that its driver runs, and none beside its twin."""
    if facts.system.tegra:
        return ("Not with pip on a Jetson: see TensorRT and ONNX Runtime below.",)
    others = [name for name in TWINS["onnxruntime"] if name in facts.packages and name != "onnxruntime-gpu"]
    first = (f"pip uninstall --yes {' '.join(others)}",) if others else ()
    if driver_runs(facts, 13) is False:
        return (
            f"With {update_driver(facts, 13).removeprefix('Install ')}",
            *first,
            extra("gpu"),
            "Or, for the driver that is here:",
            *first,
            FOR_CUDA_12,
        )
    return (*first, extra("gpu"))


def lacking(facts: Facts, of: str) -> list[str]:
    """The packages of an extra (or, "", those needed always) that are not installed."""
    return [need.name for need in facts.needs if need.extra == of and not _version_of(facts, need)]


def _ours(facts: Facts) -> Finding:
    version = facts.packages.get("nddr-deploy")
    if version is None:
        return Finding(
            "Packages", "nddr-deploy", MISSING, "runs from its source folder; its needs cannot be checked",
            ("pip install -e . -c constraints.txt",),
        )  # fmt: skip
    return Finding("Packages", "nddr-deploy", OK, version)


def _purpose(facts: Facts, of: str) -> Finding:
    """One line for all packages of a purpose."""
    what = PURPOSES[of] + (f" [{of}]" if of else "")
    needs = [need for need in facts.needs if need.extra == of]
    missing = lacking(facts, of)
    old = [need for need in needs if _is_old(facts, need)]
    if old:
        found = ", ".join(f"{need.name} {_version_of(facts, need)} is older than {need.floor}" for need in old)
        wanted = " ".join(f"'{need.name}>={need.floor}'" for need in old)
        return Finding("Packages", what, PROBLEM, found, (f"pip install --upgrade {wanted} -c constraints.txt",))
    if not missing:
        found = f"all {len(needs)}" if not of else ", ".join(_named(facts, need) for need in needs)
        return Finding("Packages", what, OK, found if needs else "nothing to check")
    found = f"not installed: {', '.join(missing)}"
    if not of:  # pip never leaves nddr-deploy like this
        return Finding("Packages", what, PROBLEM, found, ("pip install nddr-deploy -c constraints.txt",))
    if of == "gpu" and not expects_gpu(facts):
        return Finding("Packages", what, NOT_HERE, "for machines with an NVIDIA GPU")
    return Finding("Packages", what, MISSING, found, _install(facts, of, missing))


def _install(facts: Facts, of: str, missing: list[str]) -> tuple[str, ...]:
    if of == "cpu" and "onnxruntime" not in missing:  # onnxruntime-gpu is there: [cpu] would put its twin beside it
        return (f"pip install {' '.join(missing)} -c constraints.txt",)
    return install_gpu(facts) if of == "gpu" else (extra(of),)


def _version_of(facts: Facts, need: Need) -> str:
    """The installed version of a package or of what stands in for it; "" where there is none."""
    names = (need.name, *STAND_INS.get(need.name, ()))
    if need.name == "tensorrt":
        names = (*names, *(name for name in facts.packages if name.startswith("tensorrt-cu") and name[11:].isdigit()))
        if facts.tensorrt.ok:
            return next(
                (facts.packages[name] for name in names if name in facts.packages), facts.tensorrt.get("version")
            )
    return next((facts.packages[name] for name in names if name in facts.packages), "")


def _is_old(facts: Facts, need: Need) -> bool:
    version = _version_of(facts, need)
    return bool(version and need.floor and numbers(version) < numbers(need.floor))


def _named(facts: Facts, need: Need) -> str:
    names = (need.name, *STAND_INS.get(need.name, ()))
    name = next((name for name in names if name in facts.packages), need.name)
    return f"{name} {_version_of(facts, need)}"


def _onnxruntime_twins(facts: Facts) -> list[Finding]:
    twins = [name for name in TWINS["onnxruntime"] if name in facts.packages]
    if len(twins) < 2:
        return []
    of = "gpu" if expects_gpu(facts) else "cpu"
    found = f"{_and(twins)} are both installed, in one folder: whichever came last broke the other"
    do = (f"pip uninstall --yes {' '.join(twins)}", extra(of))
    return [Finding("Packages", "one ONNX Runtime", PROBLEM, found, do)]


def _opencv_twins(facts: Facts) -> list[Finding]:
    twins = [name for name in TWINS["OpenCV"] if name in facts.packages]
    if len(twins) < 2:
        return []
    found = f"{_and(twins)} are both installed, in one folder: whichever came last broke the other"
    do = (f"pip uninstall --yes {' '.join(twins)}", "pip install opencv-python-headless -c constraints.txt")
    return [Finding("Packages", "one OpenCV", PROBLEM, found, do)]


def _tensorrt_parts(facts: Facts) -> list[Finding]:
    """TensorRT is several distributions: of one version, and for one CUDA version, for they share folders, too."""
    parts = {name: version for name, version in facts.packages.items() if _is_part(name)}
    majors = {facts.cuda_majors[name] for name in parts if name in facts.cuda_majors}
    do = (f"pip uninstall --yes {' '.join(sorted(parts))}", extra("gpu"))
    if len(majors) > 1:
        found = f"TensorRT is installed for {_and([f'CUDA {major}' for major in sorted(majors)])}, in one folder"
        return [Finding("Packages", "one TensorRT", PROBLEM, found, do)]
    versions = {version.partition(".post")[0] for version in parts.values()}
    if len(versions) > 1:
        found = "parts of different versions: " + ", ".join(f"{name} {parts[name]}" for name in sorted(parts))
        return [Finding("Packages", "one TensorRT", PROBLEM, found, do)]
    return []


def _is_part(name: str) -> bool:
    stem = name.removesuffix("-libs").removesuffix("-bindings")
    return stem == "tensorrt" or (stem.startswith("tensorrt-cu") and stem[11:].isdigit())


def _and(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
