"""OpenVINO and PyTorch."""

from __future__ import annotations

from nddr_deploy.doctor.facts import Facts
from nddr_deploy.doctor.finding import MISSING, OK, PROBLEM, Finding, extra
from nddr_deploy.doctor.gpu import driver_name, driver_runs, gpu_count, update_driver


def examine(facts: Facts) -> list[Finding]:
    return [*_openvino(facts), *_torch(facts)]


def _openvino(facts: Facts) -> list[Finding]:
    answer, subject = facts.openvino, "OpenVINO"
    if answer.missing:
        return [Finding(subject, "OpenVINO", MISSING, "not installed", ("pip install openvino -c constraints.txt",))]
    if not answer.ok:
        do = "pip install --force-reinstall openvino -c constraints.txt"
        return [
            Finding(subject, "OpenVINO", PROBLEM, f"installed, but it does not load: {answer.problem}", (do,))
        ]  # fmt: skip
    devices = answer.get("devices") or {}
    found = [Finding(subject, "OpenVINO", OK, str(answer.get("version")).partition("-")[0])]
    if "CPU" not in devices:
        do = "pip install --force-reinstall openvino -c constraints.txt"
        found.append(Finding(subject, "devices", PROBLEM, "no CPU, which nddr-deploy runs it on", (do,)))
    else:
        others = [f"{name} ({title})" for name, title in devices.items() if name != "CPU"]
        unused = f"; also {', '.join(others)}, which nddr-deploy does not use" if others else ""
        found.append(Finding(subject, "devices", OK, f"CPU{unused}"))
    return found


def _torch(facts: Facts) -> list[Finding]:
    answer, subject = facts.torch, "PyTorch"
    if answer.missing:
        return [
            Finding(subject, "PyTorch", MISSING, "not installed; only training and export need it", (extra("train"),))
        ]
    if not answer.ok:
        do = "pip install --force-reinstall torch -c constraints.txt"
        return [Finding(subject, "PyTorch", PROBLEM, f"installed, but it does not load: {answer.problem}", (do,))]
    built = f", for CUDA {answer.get('cuda')}" if answer.get("cuda") else ", for CPUs"
    found = [Finding(subject, "PyTorch", OK, answer.get("version").partition("+")[0] + built)]
    if gpu_count(facts):
        found.append(_gpu(facts))
    return found


def _gpu(facts: Facts) -> Finding:
    cuda = facts.torch.get("cuda")
    if facts.torch.get("usable"):
        return Finding("PyTorch", "GPU", OK, "PyTorch uses it")
    if not cuda:
        found = "this build of PyTorch is for CPUs only"
        do: tuple[str, ...] = ("pip uninstall --yes torch", extra("train"))
        if facts.system.tegra:
            do = ("Install NVIDIA's build of PyTorch for your JetPack: https://pypi.jetson-ai-lab.io",)
        return Finding("PyTorch", "GPU", MISSING, found, do)
    major = int(str(cuda).partition(".")[0])
    if driver_runs(facts, major) is False:
        found = f"PyTorch is built for CUDA {cuda}; this is {driver_name(facts)}"
        older = "Or take a build for an older CUDA: https://pytorch.org/get-started/locally"
        return Finding("PyTorch", "GPU", PROBLEM, found, (update_driver(facts, major), older))
    found = f"PyTorch (for CUDA {cuda}) finds no GPU, although the driver does"
    return Finding("PyTorch", "GPU", PROBLEM, found, ("python -c 'import torch; torch.cuda.init()'",))
