"""TensorRT, and cuda-bindings, which it is driven with: do they load, and do they fit the driver and the GPU?"""

from __future__ import annotations

from nddr_deploy.doctor.facts import Facts
from nddr_deploy.doctor.finding import MISSING, NOT_HERE, OK, PROBLEM, Finding, extra, numbers
from nddr_deploy.doctor.gpu import (
    driver_name,
    driver_runs,
    expects_gpu,
    gpu_count,
    needs_driver,
    update_driver,
)
from nddr_deploy.doctor.packages import install_gpu

SUBJECT = "TensorRT"
KNOWN = ((8,), (10,), (11,))  # major versions that nddr-deploy drives; of 8 only 8.6
# From a version on, the compute capabilities that it has code for: the lowest, and the highest, where it is known.
COMPUTE = {(8, 6): ((5, 0), (9, 0)), (10, 0): ((7, 0), None), (10, 5): ((7, 5), None)}
COMPUTE_CUDA_13 = (7, 5)  # CUDA 13 left Maxwell, Pascal and Volta out


def examine(facts: Facts) -> list[Finding]:
    return [_version(facts), *_fit(facts), _bindings(facts)]


def cuda_major(facts: Facts) -> int | None:
    """The CUDA version that the installed TensorRT is for; None where its packages do not tell, as on a Jetson."""
    majors = set(facts.cuda_majors.values())
    return majors.pop() if len(majors) == 1 else None


def _version(facts: Facts) -> Finding:
    trt = facts.tensorrt
    if trt.missing:
        return _missing(facts)
    if not trt.ok:
        return Finding(SUBJECT, "TensorRT", PROBLEM, f"installed, but it does not load: {trt.problem}", _mend(facts))
    version, library = numbers(trt.get("version")), _library_version(trt.get("library"))
    if version[:1] not in KNOWN or version < (8, 6):
        found = f"{trt.get('version')}; nddr-deploy knows 8.6, 10.x and 11.x"
        return Finding(SUBJECT, "TensorRT", PROBLEM, found, _mend(facts))
    if library and library != version[: len(library)]:
        other = ".".join(map(str, library))
        found = f"its Python part is {trt.get('version')}, but the loader finds libnvinfer {other}"
        return Finding(SUBJECT, "TensorRT", PROBLEM, found, ("unset LD_LIBRARY_PATH", *_mend(facts)))
    major = cuda_major(facts)
    return Finding(SUBJECT, "TensorRT", OK, trt.get("version") + (f", for CUDA {major}" if major else ""))


def _missing(facts: Facts) -> Finding:
    if facts.system.tensorrt_in and not facts.python.sees_system:
        return _unseen(facts)
    if not expects_gpu(facts):
        return Finding(SUBJECT, "TensorRT", NOT_HERE, "for machines with an NVIDIA GPU")
    if facts.system.tegra:
        do: tuple[str, ...] = ("sudo apt-get install nvidia-jetpack", "python3 -m venv --system-site-packages .venv")
    else:
        do = install_gpu(facts)
    return Finding(SUBJECT, "TensorRT", MISSING, "not installed", do)


def _unseen(facts: Facts) -> Finding:
    """The system has a TensorRT, but this virtual environment does not look there."""
    versions = facts.system.tensorrt_in
    ours = ".".join(map(str, facts.python.version[:2]))
    python = f"python{ours}" if ours in versions or "3" in versions else f"python{versions[-1]}"
    found = "the system has one, which this virtual environment does not see"
    if python != f"python{ours}":
        found = f"the system has one for Python {versions[-1]}, but this is Python {ours}"
    return Finding(SUBJECT, "TensorRT", MISSING, found, (f"{python} -m venv --system-site-packages .venv",))


def _mend(facts: Facts) -> tuple[str, ...]:
    parts = sorted(name for name in facts.packages if name.startswith("tensorrt"))
    if not parts or facts.system.tegra:
        return ("sudo apt-get install --reinstall python3-libnvinfer",)
    return (f"pip uninstall --yes {' '.join(parts)}", extra("gpu"))


def _library_version(number: int | None) -> tuple[int, int, int] | None:
    """What getInferLibVersion says: 101303 is (10, 13, 3), and before TensorRT 10 8601 is (8, 6, 1)."""
    if not number:
        return None
    if number < 10_000:
        return number // 1000, number // 100 % 10, number % 100
    return number // 10_000, number // 100 % 100, number % 100


def _fit(facts: Facts) -> list[Finding]:
    if not facts.tensorrt.ok or not gpu_count(facts):
        return []
    version, cuda = numbers(facts.tensorrt.get("version")), cuda_major(facts)
    return [*_fit_driver(facts, version, cuda), *_fit_gpus(facts, version, cuda)]


def _fit_driver(facts: Facts, version: tuple[int, ...], cuda: int | None) -> list[Finding]:
    if cuda is None:
        return []
    runs = driver_runs(facts, cuda)
    if runs is None:
        return []
    if runs:
        return [Finding(SUBJECT, "fit with the driver", OK, f"CUDA {cuda} runs on {driver_name(facts)}")]
    do = [update_driver(facts, cuda)]
    older = cuda - 1
    if version >= (10,) and driver_runs(facts, older):
        parts = " ".join(sorted(name for name in facts.packages if name.startswith("tensorrt")))
        wanted = f"tensorrt-cu{older}=={facts.tensorrt.get('version').partition('.post')[0]}"
        do += [f"Or take the build for CUDA {older}:", f"pip uninstall --yes {parts}", f"pip install '{wanted}'"]
    found = f"it is built for {needs_driver(cuda)}; this is {driver_name(facts)}"
    return [Finding(SUBJECT, "fit with the driver", PROBLEM, found, tuple(do))]


def _fit_gpus(facts: Facts, version: tuple[int, ...], cuda: int | None) -> list[Finding]:
    lowest, highest = COMPUTE[max(start for start in COMPUTE if start <= max(version, (8, 6)))]
    if cuda is not None and cuda >= 13:
        lowest = max(lowest, COMPUTE_CUDA_13)
    found = []
    for gpu in facts.cuda.get("gpus"):
        compute = (gpu["compute"][0], gpu["compute"][1])
        if compute < lowest:
            bound, do = f"from {lowest[0]}.{lowest[1]}", _for_old_gpu(facts, compute)
        elif highest is not None and compute > highest:
            bound, do = f"up to {highest[0]}.{highest[1]}", extra("gpu")
        else:
            continue
        text = f"it runs on compute capability {bound}; the {gpu['name']} has {compute[0]}.{compute[1]}"
        found.append(Finding(SUBJECT, "fit with the GPU", PROBLEM, text, (do,)))
    return found


def _for_old_gpu(facts: Facts, compute: tuple[int, int]) -> str:
    if compute == COMPUTE[10, 0][0]:
        parts = " ".join(sorted(name for name in facts.packages if name.startswith("tensorrt")))
        return f"pip uninstall --yes {parts} && pip install 'tensorrt-cu12<10.5'"
    return "Run the .onnx file with onnxruntime or openvino on the CPU instead."


def _bindings(facts: Facts) -> Finding:
    """cuda-bindings; its major version is that of the CUDA that the driver must run."""
    answer = facts.cuda_bindings
    if answer.missing:
        if not expects_gpu(facts):
            return Finding(SUBJECT, "cuda-bindings", NOT_HERE, "for machines with an NVIDIA GPU")
        steps = ("pip install 'cuda-bindings<13'",) if facts.system.tegra else install_gpu(facts)
        return Finding(SUBJECT, "cuda-bindings", MISSING, "not installed", steps)
    if not answer.ok:
        do = "pip install --force-reinstall cuda-bindings -c constraints.txt"
        return Finding(SUBJECT, "cuda-bindings", PROBLEM, f"installed, but it does not load: {answer.problem}", (do,))
    version = str(answer.get("version"))
    major = next(iter(numbers(version)), 0)
    if gpu_count(facts):
        if driver_runs(facts, major) is False:
            found = f"{version} needs {needs_driver(major)}; this is {driver_name(facts)}"
            return Finding(SUBJECT, "cuda-bindings", PROBLEM, found, (f"pip install 'cuda-bindings<{major}'",))
        if not answer.get("gpus"):
            found = f"{version} finds no GPU ({answer.get('error')}), although the driver does"
            return Finding(SUBJECT, "cuda-bindings", PROBLEM, found, (update_driver(facts, major),))
    return Finding(SUBJECT, "cuda-bindings", OK, version)
