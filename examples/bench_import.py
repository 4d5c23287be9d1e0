"""What importing and exporting a foreign checkpoint costs: seconds, and peak memory as a multiple of the file.

    python examples/bench_import.py THEIR_FILE --size 480x640 --json cost.json

Each is measured in a process of its own; what the imports of Python modules hold is taken off.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from nddr_deploy.command import parse_size


def measured(what: str, file: Path, size_hw: tuple[int, int]) -> dict[str, float]:
    """Run one step in this process; seconds, and MiB at the peak above what was held before it."""
    from nddr_deploy import export_checkpoint
    from nddr_deploy.benchmark.memory import peak_bytes
    from nddr_deploy.importers import import_checkpoint

    before = peak_bytes()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        if what == "import":
            import_checkpoint(file, Path(folder, "ckpt.pt"), size_hw=size_hw)
        else:
            export_checkpoint(file, Path(folder, "model.onnx"), size_hw=size_hw)
    seconds = time.monotonic() - start
    peak = peak_bytes() - before
    return {"seconds": round(seconds, 1), "peak_mib": round(peak / 2**20), "modules_mib": round(before / 2**20)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--size", type=parse_size, default=(480, 640), metavar="HxW")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--step", choices=("import", "export"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(measured(options.step, options.file, options.size)))
        return
    mib = options.file.stat().st_size / 2**20
    height, width = options.size
    report: dict[str, Any] = {"file": options.file.name, "file_mib": round(mib), "size": f"{height}x{width}"}
    report["machine"] = f"{platform.machine()}, Python {platform.python_version()}"
    for step in ("import", "export"):
        command = [sys.executable, __file__, str(options.file), "--size", report["size"], "--step", step]
        figures = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        report[step] = {**figures, "times_the_file": round(figures["peak_mib"] / mib, 2)}
        print(f"{step}: {figures['seconds']} s, {report[step]['times_the_file']} times the file's {mib:.0f} MiB")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
