"""ONNX Runtime, and what its providers for GPUs need beside it."""

from __future__ import annotations

from nddr_deploy.doctor import trt
from nddr_deploy.doctor.facts import Facts, Provider
from nddr_deploy.doctor.finding import MISSING, NOT_HERE, OK, PROBLEM, Finding, extra
from nddr_deploy.doctor.gpu import driver_name, driver_runs, expects_gpu, gpu_count, needs_driver, update_driver
from nddr_deploy.doctor.packages import install_gpu

SUBJECT = "ONNX Runtime"
PROVIDERS = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
TITLES = {"cuda": "CUDA provider", "tensorrt": "TensorRT provider"}
# The package that brings a library of CUDA; "{}" is "-cu12", and nothing from CUDA 13 on.
PACKAGES = {
    "libcudart": "nvidia-cuda-runtime{}",
    "libcublas": "nvidia-cublas{}",
    "libcublasLt": "nvidia-cublas{}",
    "libcufft": "nvidia-cufft{}",
    "libcurand": "nvidia-curand{}",
    "libnvrtc": "nvidia-cuda-nvrtc{}",
}


def examine(facts: Facts) -> list[Finding]:
    return [_version(facts), *(_provider(facts, name) for name in PROVIDERS)]


def cuda_major(facts: Facts) -> int | None:
    """The CUDA version that the installed ONNX Runtime is built for; None where it has no provider for GPUs."""
    provider = facts.providers.get("cuda", Provider())
    return provider.major("libcudart") or provider.major("libcublas")


def has_provider(facts: Facts, name: str) -> bool:
    return name in facts.providers and PROVIDERS[name] in (facts.onnxruntime.get("providers") or ())


def _version(facts: Facts) -> Finding:
    answer = facts.onnxruntime
    install = install_gpu(facts) if expects_gpu(facts) and not facts.system.tegra else (extra("cpu"),)
    if answer.missing:
        return Finding(SUBJECT, "ONNX Runtime", MISSING, "not installed", install)
    if not answer.ok:
        twins = " ".join(sorted(name for name in facts.packages if name.startswith("onnxruntime")))
        do = (f"pip uninstall --yes {twins or 'onnxruntime'}", *install[-1:])
        return Finding(SUBJECT, "ONNX Runtime", PROBLEM, f"installed, but it does not load: {answer.problem}", do)
    cuda = cuda_major(facts)
    return Finding(
        SUBJECT, "ONNX Runtime", OK, answer.get("version") + (f", for CUDA {cuda}" if cuda else ", for CPUs")
    )


def _provider(facts: Facts, name: str) -> Finding:
    what = TITLES[name]
    if facts.onnxruntime.ok and has_provider(facts, name):
        if facts.providers[name].problem:
            do = "pip install --force-reinstall onnxruntime-gpu -c constraints.txt"
            return Finding(SUBJECT, what, PROBLEM, facts.providers[name].problem, (do,))
        return _fit(facts, name)
    if not expects_gpu(facts):
        return Finding(SUBJECT, what, NOT_HERE, "for machines with an NVIDIA GPU")
    if name == "tensorrt" and has_provider(facts, "cuda"):
        return Finding(SUBJECT, what, NOT_HERE, "this build of ONNX Runtime has none; backend tensorrt needs none")
    if facts.system.tegra:
        do = "Install NVIDIA's build of onnxruntime-gpu for your JetPack: https://pypi.jetson-ai-lab.io"
        return Finding(SUBJECT, what, MISSING, "this build of ONNX Runtime has none", (do,))
    found = "this build of ONNX Runtime has none" if facts.onnxruntime.ok else "ONNX Runtime is not usable"
    return Finding(SUBJECT, what, MISSING, found, install_gpu(facts))


def _fit(facts: Facts, name: str) -> Finding:
    """A provider that is installed: with the TensorRT, the libraries and the driver of this machine."""
    provider, what = facts.providers[name], TITLES[name]
    wanted, cuda = provider.major("libnvinfer"), cuda_major(facts)
    if gpu_count(facts) and cuda is not None and driver_runs(facts, cuda) is False:
        found = f"it is built for {needs_driver(cuda)}; this is {driver_name(facts)}"
        return Finding(SUBJECT, what, PROBLEM, found, (update_driver(facts, cuda), *_older_build(facts, cuda)))
    if wanted is not None and any(_stem(library) == "libnvinfer" for library in provider.lacking()):
        return _other_tensorrt(facts, wanted)
    if provider.lacking():
        state = MISSING if expects_gpu(facts) else NOT_HERE
        found = f"it needs {', '.join(provider.lacking())}, not found"
        return Finding(SUBJECT, what, state, found, _bring(facts, provider) if state == MISSING else ())
    needs = f"with TensorRT {wanted}" if wanted else "with its CUDA and cuDNN libraries" if provider.needs else "here"
    return Finding(SUBJECT, what, OK, needs)


def _other_tensorrt(facts: Facts, wanted: int) -> Finding:
    """The TensorRT that the provider is linked with is not here."""
    what, cuda = TITLES["tensorrt"], trt.cuda_major(facts) or cuda_major(facts)
    # the package without a suffix brings the build for CUDA 13
    do = f"pip install 'tensorrt{f'-cu{cuda}' if cuda and cuda < 13 else ''}=={wanted}.*'"
    if facts.tensorrt.ok:
        found = f"it is linked with TensorRT {wanted}; TensorRT {facts.tensorrt.get('version')} is installed"
        return Finding(SUBJECT, what, PROBLEM, found, (do,))
    if not expects_gpu(facts):
        return Finding(SUBJECT, what, NOT_HERE, "for machines with an NVIDIA GPU")
    return Finding(SUBJECT, what, MISSING, f"it needs TensorRT {wanted}, which does not load here", (do,))


def _older_build(facts: Facts, cuda: int) -> tuple[str, ...]:
    """From 1.27 on PyPI's ONNX Runtime is built for CUDA 13, from 1.19 for CUDA 12, before for CUDA 11."""
    if cuda == 13 and driver_runs(facts, 12):
        return ("Or take a build for CUDA 12:", "pip install 'onnxruntime-gpu<1.27'")
    return ()


def _bring(facts: Facts, provider: Provider) -> tuple[str, ...]:
    """The command that installs the libraries that a provider lacks."""
    if facts.provider_extras:
        return (f"pip install 'onnxruntime-gpu[cuda,cudnn]=={facts.onnxruntime.get('version')}'",)
    cuda = cuda_major(facts) or 12
    suffix = f"-cu{cuda}" if cuda < 13 else ""
    packages = []
    for library in provider.lacking():
        stem = _stem(library)
        if stem == "libcudnn":
            packages.append(f"'nvidia-cudnn-cu{cuda}=={provider.major(stem)}.*'")
        elif stem in PACKAGES:
            packages.append(PACKAGES[stem].format(suffix))
    if not packages:
        return ("Install CUDA from https://developer.nvidia.com/cuda-downloads",)
    return (f"pip install {' '.join(dict.fromkeys(packages))}",)


def _stem(library: str) -> str:
    return library.partition(".so")[0]
