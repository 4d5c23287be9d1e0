"""The report for people: Markdown tables. A figure that was not measured is a word, never a number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gpu_steps.passes import COMPILE
from gpu_steps.plan import NETWORKS

Report = Mapping[str, Any]
COPIES = {
    "h2d": "256 MiB from pinned memory to the GPU",
    "d2h": "256 MiB from the GPU to pinned memory",
    "d2d": "256 MiB within the GPU, counted once",
}
INT8_PAIR = "tensorrt int8 over tensorrt fp16"
LEGEND = (
    "Times of a pass over one image. GPU work: between two events on the GPU, without copies. Start: the host's own "
    "time to start that work. With copies: images to the GPU, work, results back. Infer: from call to result, by the "
    "clock, one after the other. Streamed: passes may overlap. Times floor: GPU work over what the fastest matrix "
    "product of that precision would take for the same arithmetic."
)
LAYERS = 6  # the slowest, told of each engine
FEWEST_FRAMES = 100  # of a video whose rate is told


def markdown(report: Report) -> str:
    gpu = report["gpu"]
    title = gpu["name"] if gpu else "a dry run: nothing was measured on a GPU"
    height, width = report["settings"]["size_hw"]
    versions = "; ".join(
        f"{where}: " + ", ".join(f"{name} {version}" for name, version in found.items())
        for where, found in report["versions"].items()
    )
    machine = report["machine"]
    parts = [
        f"# benchmarks/gpu.py on {title}",
        f"{report['date']}. {height}x{width}, batch 1, outputs decoded on the GPU. "
        f"{report['settings']['rounds']} alternating rounds of {report['settings']['seconds']:g} s per contender and "
        "kind of time. "
        f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}. {versions}.",
        "## Aims",
        _aims(report),
        *_floor(report),
    ]
    for network, name in NETWORKS.items():
        parts += _network(report, network, name)
    parts += ["## Not run", _not_run(report)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _aims(report: Report) -> str:
    rows = [[aim["text"], aim["verdict"], aim["shown"], aim["why"]] for aim in report["aims"]]
    return table(["aim", "verdict", "found", "reason"], rows)


def _floor(report: Report) -> list[str]:
    found = report["results"].get("floor")
    if not found:
        return []
    rates = [
        [precision, f"{rate['flops_per_s'] / 1e12:.1f} T/s", rate["kernel"]]
        for precision, rate in found["rates"].items()
    ]
    copies = [[name, f"{rate / 1e9:.1f} GB/s", COPIES[name]] for name, rate in found["copies"].items()]
    return ["## The floor: what PyTorch reached on this GPU", table(["what", "rate", "how"], rates + copies)]


def _network(report: Report, network: str, name: str) -> list[str]:
    results = report["results"]
    exported = results.get(f"export.{network}")
    parts = [f"## {name}"]
    if exported:
        flops = f"{exported['flops'] / 1e9:.1f} GFLOP a pass" if exported["flops"] else "arithmetic not counted"
        parts.append(
            f"{exported['network']}; {exported['parameters'] / 1e6:.1f} M parameters, {flops}; "
            f"{'; '.join(exported['notes'])}. "
            f"Labels: {exported['classes_seen']} classes, the largest on {exported['largest_class']:.0%} of the pixels."
        )
    passes = results.get(f"passes.{network}")
    if passes:
        parts += ["### Against peers", LEGEND, _rows(passes), _speedups(passes, COMPILE, INT8_PAIR), *_absent(passes)]
    builds = {step.split(".")[-1]: found for step, found in results.items() if step.startswith(f"build.{network}.")}
    if builds:
        parts += ["### Engines", _engines(builds)]
    variants = results.get(f"variants.{network}")
    if variants:
        parts += ["### Streams and merged convolutions", _rows(variants), _speedups(variants, "tensorrt fp16")]
    parts += [*_agreement(results, network), *_prepared(results, network), *_video(results, network)]
    return parts


def _rows(passes: Report) -> str:
    heads = ["", "GPU work, ms (p50, p99)", "to / from GPU, ms", "start, ms", "with copies, ms"]
    heads += ["infer, ms", "images/s streamed", "times floor", "bound by"]
    rows = []
    for name, row in passes["rows"].items():
        gpu, alone = row["gpu"], row["infer"]
        floor = f"{gpu['floor_multiple']:.2f}" if gpu["floor_multiple"] else "no floor measured"
        rows.append([
            name,
            f"{_ms(gpu['compute_s']['p50'])}, {_ms(gpu['compute_s']['p99'])}",
            f"{_ms(gpu['h2d_s']['p50'])} / {_ms(gpu['d2h_s']['p50'])}",
            _ms(gpu["enqueue_s"]["p50"]),
            _ms(gpu["with_copies_s"]["p50"]),
            _ms(alone["wall_s"]["p50"]),
            f"{gpu['images_per_s']['median']:.0f}",
            floor,
            gpu["bottleneck"],
        ])  # fmt: skip
    return table(heads, rows)


def _speedups(passes: Report, base: str, *others: str) -> str:
    """Of every row over `base`, and of the pairs `others`, by rounds."""
    rows = [
        [pair, *(_spread(kinds[kind]) for kind in ("compute", "one by one", "streamed"))]
        for pair, kinds in passes["speedups"].items()
        if pair.endswith(f" over {base}") or pair in others
    ]
    return table(["times faster, median (range of rounds)", "GPU work", "one by one", "streamed"], rows) if rows else ""


def _absent(passes: Report) -> list[str]:
    return ["\n".join(f"- {name}: not run: {reason}" for name, reason in passes["not_run"].items())]


def _engines(builds: Mapping[str, Report]) -> str:
    rows = []
    for variant, found in builds.items():
        parity = "; ".join(f"{head['task']} {head['relative']:.1e}" for head in found["parity"]["heads"])
        kept = str(len(found["kept_fp32"]))
        counts = found["realised"]["counts"]
        realised = ", ".join(f"{count} {precision}" for precision, count in counts.items()) + " layers"
        rows.append([variant, f"{found['build_s']:.0f} s", f"{found['bytes'] / 1e6:.1f} MB", realised, kept, parity])
    heads = ["engine", "build", "size", "realised", "kept in fp32", "off ONNX Runtime, of the range"]
    return "\n\n".join([table(heads, rows), *map(_layers, builds, builds.values())])


def _layers(variant: str, found: Report) -> str:
    """Where an engine's time goes, and in what its kernels add, as far as their names tell."""
    slowest = ", ".join(
        f"`{layer['name']}` {_ms(layer['s'])} ({layer['s'] / found['layers_s']:.0%})"
        for layer in found["slowest_layers"][:LAYERS]
    )
    refused = [task for task, passed in found["usual_parity"].items() if not passed]
    adding = f"{found['kernels_adding_in_fp16']} kernels add in FP16, {found['kernels_adding_in_fp32']} in FP32."
    verdict = f" nddr-build would refuse it for {', '.join(refused)}." if refused else ""
    return f"{variant}: slowest layers, alone, in ms: {slowest}. {adding}{verdict}"


def _agreement(results: Report, network: str) -> list[str]:
    found = results.get(f"agreement.{network}")
    if not found:
        return []
    rows = [[variant, *_agrees(values)] for variant, values in found["engines"].items()]
    heads = ["engine", "labels equal", "worst picture", "normals: mean, median, p99 degrees"]
    return [f"### Agreement with PyTorch FP32 on {found['pictures']} rendered pictures", table(heads, rows)]


def _agrees(values: Mapping[str, float]) -> list[str]:
    degrees = ", ".join(f"{values[f'degrees_{name}']:.3f}" for name in ("mean", "median", "p99"))
    return [f"{values['labels_equal']:.3%}", f"{values['labels_equal_worst_picture']:.3%}", degrees]


def _prepared(results: Report, network: str) -> list[str]:
    """What was made and checked on the CPU."""
    lines = []
    merged, quantised, typed = (results.get(f"{step}.{network}") for step in ("merge", "quantise", "typed"))
    if merged:
        before, after = merged["convolutions"]
        off = max(merged["difference"].values())
        lines.append(f"- merged convolutions: {before} become {after}; outputs differ by {off:.1e} of their range")
    if quantised:
        labels, _, degrees = _agrees(quantised["onnxruntime"])
        lines.append(
            f"- Q/DQ graph: {quantised['pairs']} quantised tensors, {len(quantised['left_in_float'])} convolutions in "
            f"float; ONNX Runtime on the CPU: labels equal {labels}, normals {degrees} degrees"
        )
    if typed:
        off_by = ", ".join(f"{task} {share:.1e}" for task, share in typed["fp16_off"].items())
        lines.append(f"- FP16 graph in ONNX Runtime on the CPU, off FP32 by a share of the range: {off_by}")
        lines += [f"- graph written: {name}, opset {graph['opset']}" for name, graph in typed["graphs"].items()]
    return ["### Made and checked on the CPU", "\n".join(lines)] if lines else []


def _video(results: Report, network: str) -> list[str]:
    found = results.get(f"video.{network}")
    if not found:
        return []
    if found["frames"] < FEWEST_FRAMES:
        return ["### Video", f"{found['video']}: {found['frames']} frames went through; too few to tell a rate."]
    alone = [[stage, f"{rate:.0f}"] for stage, rate in found["alone_fps"].items()]
    text = (
        f"{found['video']}, {found['frames']} frames, {found['engine']} {found['precision']}, decoded, drawn and "
        f"encoded: {min(found['fps']):.1f} to {max(found['fps']):.1f} frames per second, {found['share']:.1%} of what "
        f"its slowest stage, {found['slowest_stage']}, reaches alone."
    )
    return ["### Video", text, table(["alone", "frames per second"], alone)]


def _not_run(report: Report) -> str:
    return "\n".join(f"- {step}: {reason}" for step, reason in report["not_run"].items()) or "Everything was run."


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in line) + " |" for line in lines
    )


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3f}"


def _spread(values: Mapping[str, float]) -> str:
    return f"{values['median']:.2f} ({values['min']:.2f}-{values['max']:.2f})"
