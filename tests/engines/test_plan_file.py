"""The manifest beside a plan: what does not match is one sentence with the command that rebuilds it, and no manifest,
however damaged or hostile, does more than that."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from simulated.simulate import VERSIONS, simulate

from nddr_deploy.build.__main__ import _parser
from nddr_deploy.build.recipe import build_engine
from nddr_deploy.engines import open_engine
from nddr_deploy.engines.cuda import Gpu
from nddr_deploy.engines.plan_file import PlanFile
from nddr_deploy.errors import ModelFileError, NddrError

GPU = Gpu("NVIDIA Simulated", "8.6", 8 << 30, "13.0")
BUILT_BY = "10.13.3.9"


@pytest.fixture(scope="session")
def built_once(handmade: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    plan = tmp_path_factory.mktemp("plan") / "model.trt"
    with simulate("10.13"):
        build_engine(handmade().path, plan, timing_cache=None)
    return plan


@pytest.fixture
def plan(built_once: Path, tmp_path: Path) -> Path:
    """A pair of its own for each test."""
    for path in (built_once, built_once.with_name("model.trt.json")):
        shutil.copy(path, tmp_path / path.name)
    return tmp_path / "model.trt"


def change(beside: Path, /, **changed: Any) -> None:
    """`change(plan, gpu="x", model__batch=3)` writes these into the manifest."""
    about = json.loads(beside.with_name("model.trt.json").read_text())
    for key, value in changed.items():
        *path, last = key.split("__")
        place = about
        for name in path:
            place = place[name]
        place[last] = value
    beside.with_name("model.trt.json").write_text(json.dumps(about))


def refused(plan: Path, tensorrt: str = BUILT_BY, gpu: Gpu = GPU) -> str:
    """The sentence; one line."""
    with pytest.raises(ModelFileError) as caught:
        PlanFile.read(plan).check_fits(tensorrt, gpu)
    said = str(caught.value)
    assert str(plan) in said
    assert "\n" not in said
    return said


def command_in(said: str) -> Any:
    """What nddr-build's own parser makes of the command in a sentence."""
    _, begin, command = said.partition("nddr-build ")
    assert begin, said
    return _parser().parse_args(shlex.split(command))


def test_a_pair_as_it_was_built_is_taken(plan: Path) -> None:
    file = PlanFile.read(plan)

    file.check_fits(BUILT_BY, GPU)
    assert file.about.precision == "fp16"


@pytest.mark.parametrize(
    ("tensorrt", "gpu", "words"),
    [
        ("10.13.3.8", GPU, ("TensorRT 10.13.3.9", "10.13.3.8")),
        ("10.14.0.1", GPU, ("TensorRT 10.13.3.9", "10.14.0.1")),
        ("11.4.0.106", GPU, ("TensorRT 10.13.3.9", "11.4.0.106")),
        (BUILT_BY, Gpu("NVIDIA H200", "9.0", 1, "13.0"), ("NVIDIA Simulated", "8.6", "NVIDIA H200", "9.0")),
        (BUILT_BY, Gpu("NVIDIA Simulated", "8.9", 1, "13.0"), ("8.6", "8.9")),
        (BUILT_BY, Gpu("NVIDIA A10", "8.6", 1, "13.0"), ("NVIDIA Simulated", "NVIDIA A10")),
    ],
)
def test_another_tensorrt_or_gpu_is_named_with_the_command_that_rebuilds(
    plan: Path, tensorrt: str, gpu: Gpu, words: tuple[str, ...]
) -> None:
    said = refused(plan, tensorrt, gpu)

    for word in words:
        assert word in said
    again = command_in(said)
    assert (again.model, again.output, again.precision) == ("model.onnx", str(plan), "fp16")


def test_a_changed_plan_is_refused_whatever_byte_it_is(plan: Path) -> None:
    content = plan.read_bytes()
    for place in (0, len(content) // 2, len(content) - 1):
        plan.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert command_in(refused(plan)).output == str(plan)
    for other in (b"", content + b"\0", content[:-1]):
        plan.write_bytes(other)
        assert "is not the plan that model.trt.json describes" in refused(plan)


def test_the_plan_of_another_build_under_this_manifest_is_refused(
    plan: Path, handmade: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    with simulate("10.13"):
        other = build_engine(handmade().path, tmp_path / "other" / "b.trt", precision="fp32", timing_cache=None).path
    shutil.copy(other, plan)

    assert "is not the plan that model.trt.json describes" in refused(plan)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_does_not_match_is_found_before_tensorrt_reads_the_plan(
    handmade: Callable[..., Any], tmp_path: Path, version: str
) -> None:
    with simulate(version):
        plan = build_engine(handmade().path, tmp_path / "model.trt", timing_cache=None).path
    content = plan.read_bytes()
    plan.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    with simulate(version) as machine:
        with pytest.raises(ModelFileError, match="is not the plan"):
            open_engine(plan)
        assert not [name for name in machine.api.used if name.endswith("deserialize_cuda_engine")]
    plan.write_bytes(content)
    change(plan, gpu="NVIDIA H200")
    with simulate(version) as machine:
        with pytest.raises(ModelFileError, match="was built on NVIDIA H200"):
            open_engine(plan)
        assert not [name for name in machine.api.used if name.endswith("deserialize_cuda_engine")]
    change(plan, gpu="NVIDIA Simulated")
    with simulate(version), open_engine(plan):
        pass  # with its own GPU's name again it is taken


@pytest.mark.parametrize("beside", ["missing", "folder"])
def test_a_plan_without_a_manifest_is_refused_with_the_name_of_what_is_missing(plan: Path, beside: str) -> None:
    path = plan.with_name("model.trt.json")
    path.unlink()
    if beside == "folder":
        path.mkdir()

    said = refused(plan)

    assert "model.trt.json" in said
    assert command_in(said).output == str(plan)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"precision": "fp32", "outputs": "raw"},
    {"batch": (1, 2, 4)},
    {"batch": (3,), "size": [(32, 48)]},
    {"size": [(16, 24), (32, 24), (32, 48)], "batch": (1, 1, 2)},
    {"workspace_gib": 0.25, "opt_level": 0, "aux_streams": 0},
    {"workspace_gib": 1e-05, "opt_level": 1, "aux_streams": 1},
    {"version_compatible": True, "hardware_compatible": True},
    {"keep": ["age.conv", "/deep/normals conv"]},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_command_that_rebuilds_has_the_options_of_the_build(
    handmade: Callable[..., Any], tmp_path: Path, options: dict[str, Any]
) -> None:
    import onnx

    made = handmade(dynamic=("batch", "size"))
    model = onnx.load(made.path)
    for node in model.graph.node:
        node.name = {"age.map": "age.conv", "normals": "/deep/normals conv"}.get(node.output[0], node.output[0])
    folder = tmp_path / "it's a folder"
    folder.mkdir()
    onnx.save(model, folder / "my model.onnx")
    with simulate("10.13") as machine:
        plan = build_engine(folder / "my model.onnx", folder / "door 1.trt", timing_cache=None, **options).path
        (build,) = machine.world.builds

    again = command_in(refused(plan, "10.0.0.0"))

    assert again.output == str(plan)
    with simulate("10.13") as machine:
        build_engine(
            folder / again.model,
            again.output,
            precision=again.precision,
            size=again.size,
            batch=again.batch,
            outputs=again.outputs,
            keep=again.keep,
            workspace_gib=again.workspace,
            opt_level=again.opt_level,
            aux_streams=again.aux_streams,
            version_compatible=again.version_compatible,
            hardware_compatible=again.hardware_compatible,
            timing_cache=None,
        )
        (second,) = machine.world.builds
    assert (second.flags, second.profiles) == (build.flags, build.profiles)
    assert second.config.pools == build.config.pools
    for name in ("builder_optimization_level", "max_aux_streams"):
        assert getattr(second.config, name) == getattr(build.config, name)
    again_about, about = PlanFile.read(plan).about, command_in(refused(plan, "10.0.0.0"))
    assert about.precision == again_about.precision


@pytest.mark.parametrize("name", ["-rf.onnx", "--output.onnx"])
def test_a_model_whose_name_looks_like_an_option_is_still_named_as_a_file(plan: Path, name: str) -> None:
    change(plan, onnx=name)

    try:
        again = command_in(refused(plan, "10.0.0.0"))
    except SystemExit:
        pytest.fail("the command's own parser does not take it")

    assert Path(again.model).name == name


@pytest.mark.parametrize("keep", [["-x"], ["--output=/etc/passwd"]])
def test_a_kept_node_of_any_name_comes_back_as_it_was(
    handmade: Callable[..., Any], tmp_path: Path, keep: list[str]
) -> None:
    import onnx

    made = handmade()
    model = onnx.load(made.path)
    for node in model.graph.node:
        node.name = keep[0] if node.output[0] == "age.map" else node.output[0]
    onnx.save(model, tmp_path / "model.onnx")
    with simulate("10.13"):
        plan = build_engine(tmp_path / "model.onnx", keep=keep, timing_cache=None).path

    try:
        again = command_in(refused(plan, "10.0.0.0"))
    except SystemExit:
        pytest.fail("the command's own parser does not take it")

    assert list(again.keep) == keep
    assert again.output == str(plan)


def test_a_version_compatible_plan_runs_with_later_releases_of_its_major_version(plan: Path) -> None:
    change(plan, options={"version-compatible": True})
    file = PlanFile.read(plan)

    for later in (BUILT_BY, "10.13.3.10", "10.14", "10.99.0.1"):
        file.check_fits(later, GPU)
    for other in ("10.13.3.8", "10.9.0.34", "11.0", "8.6.1", "9.0"):
        assert command_in(refused(plan, other)).version_compatible
    assert "NVIDIA H200" in refused(plan, gpu=Gpu("NVIDIA H200", "9.0", 1, "13.0"))  # the GPU must be the same


def test_a_hardware_compatible_plan_runs_on_other_gpus_from_ampere_on(plan: Path) -> None:
    change(plan, options={"hardware-compatible": True})
    file = PlanFile.read(plan)

    for capability in ("8.0", "8.9", "9.0", "10.0", "12.0"):
        file.check_fits(BUILT_BY, Gpu("NVIDIA Other", capability, 1, "13.0"))
    for capability in ("7.5", "6.1", "5.3"):
        assert command_in(refused(plan, gpu=Gpu("NVIDIA Other", capability, 1, "13.0"))).hardware_compatible
    assert "10.14" in refused(plan, "10.14.0.1")  # the version must be the same


DAMAGED = {
    "empty": b"",
    "half": b'{"format": "nddr-deploy-plan/1", "mod',
    "no utf-8": b"\xff\xfe\x00",
    "null": b"null",
    "a list": b"[]",
    "a number": b"1",
    "deep": b"[" * 100_000,
    "deep and whole": b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    "no keys": b"{}",
    "another format": b'{"format": "nddr-deploy-plan/2"}',
    "nul": b"\0" * 100,
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_damaged_json_is_one_sentence(plan: Path, content: bytes) -> None:
    plan.with_name("model.trt.json").write_bytes(content)

    said = refused(plan)

    assert "model.trt.json cannot be read" in said
    assert command_in(said).output == str(plan)


HOSTILE: dict[str, dict[str, Any]] = {
    "a huge batch": {"profile__max": [10**30, 16, 24, 3]},
    "a huge model batch": {"model__batch": 10**30},
    "a batch of none": {"profile__min": [0, 16, 24, 3]},
    "a negative height": {"profile__opt": [1, -16, 24, 3]},
    "four channels": {"profile__max": [1, 16, 24, 4]},
    "three extents": {"profile__max": [1, 16, 24]},
    "text for a number": {"profile__max": "many"},
    "a number for text": {"gpu": 7},
    "a list for text": {"tensorrt": ["10", "13"]},
    "no tasks at all": {"model__tasks": None},
    "an unknown task": {"model__tasks": [{"kind": "os.system", "name": "x"}]},
    "an unknown precision": {"precision": "fp4"},
    "an unknown key": {"trust": "me"},
    "options as a list": {"options": ["--version-compatible"]},
    "nested options": {"options": {"keep": {"a": 1}}},
    "infinity": {"profile__min": float("inf")},
    "upside down": {"profile__min": [4, 16, 24, 3], "profile__opt": [2, 16, 24, 3]},
}


@pytest.mark.parametrize("changed", HOSTILE.values(), ids=HOSTILE)
def test_values_that_no_build_writes_are_one_sentence(plan: Path, changed: dict[str, Any]) -> None:
    change(plan, **changed)

    said = refused(plan)

    assert "cannot be read" in said
    assert next(iter(changed)).partition("__")[0] in said


@pytest.mark.parametrize("tensorrt", ["", "ten", "10.x", "..", "9" * 5000])
def test_a_version_that_is_none_is_refused(plan: Path, tensorrt: str) -> None:
    change(plan, tensorrt=tensorrt)

    assert "cannot be read (tensorrt: " in refused(plan)


@pytest.mark.parametrize("tensorrt", ["", "ten", "10.x", "..", "9" * 5000])
def test_a_version_that_is_none_is_refused_of_a_version_compatible_plan_too(plan: Path, tensorrt: str) -> None:
    change(plan, tensorrt=tensorrt, options={"version-compatible": True})

    refused(plan)


@pytest.mark.parametrize("capability", ["", "eight", "8.", "9" * 5000])
@pytest.mark.parametrize("compatible", [False, True])
def test_a_compute_capability_that_is_none_is_refused_or_does_not_matter(
    plan: Path, capability: str, compatible: bool
) -> None:
    change(plan, compute_capability=capability, options={"hardware-compatible": compatible})

    assert "cannot be read (compute_capability: " in refused(plan, gpu=Gpu("NVIDIA Old", "7.5", 1, "13.0"))


HOSTILE_TEXTS = {
    "lines": "x\ny.onnx",
    "a terminal's orders": "x\x1b[2J\x1b]0;owned\x07.onnx",
    "from right to left": "x\u202ecod.onnx",
    "a shell": "x.onnx; rm -rf ~; $(reboot) `reboot` '\"",
    "a path": "../../../../etc/passwd",
}


@pytest.mark.parametrize("where", ["onnx", "gpu", "tensorrt"])
@pytest.mark.parametrize("name", HOSTILE_TEXTS)
def test_what_a_manifest_says_is_printed_as_one_harmless_line(plan: Path, name: str, where: str) -> None:
    change(plan, **{where: HOSTILE_TEXTS[name]})

    said = refused(plan, BUILT_BY, Gpu("NVIDIA H200", "9.0", 1, "13.0"))

    assert said.isprintable()
    assert command_in(said).output == str(plan)


@pytest.mark.parametrize(
    "options",
    [
        {"output": "/etc/passwd"},
        {"report": "/etc/passwd"},
        {"x; rm -rf ~ #": True},
        {"timing-cache": "/etc/passwd"},
        {"opt-level": False},
        {"keep": "a\nb"},
        {"size": "16x24 --report /etc/passwd"},
    ],
    ids=str,
)
def test_options_that_no_build_writes_do_not_reach_the_command(plan: Path, options: dict[str, Any]) -> None:
    change(plan, options=options)

    said = refused(plan, "10.0.0.0")

    assert said.isprintable()
    try:
        again = command_in(said)
    except SystemExit:
        pytest.fail("the command's own parser does not take it")
    assert (again.output, again.report, again.timing_cache) == (str(plan), None, None)


@pytest.mark.parametrize("hostile", ["../../model.trt", "/etc/passwd", "x" * 64])
def test_a_hash_is_only_compared(plan: Path, hostile: str) -> None:
    change(plan, plan=hostile)

    assert "is not the plan that model.trt.json describes" in refused(plan)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_manifest_that_promises_other_heads_than_the_plan_has_is_refused(
    handmade: Callable[..., Any], tmp_path: Path, version: str
) -> None:
    with simulate(version):
        plan = build_engine(handmade().path, tmp_path / "model.trt", timing_cache=None).path
    tasks = json.loads(plan.with_name("model.trt.json").read_text())["model"]["tasks"]
    change(plan, model__tasks=tasks[:2])

    with simulate(version) as machine:
        with pytest.raises(ModelFileError, match="age"):
            open_engine(plan)
        assert machine.world.contexts == 0


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "profile",
    [
        {"max": [4, 16, 24, 3]},
        {"min": [1, 32, 48, 3], "opt": [1, 32, 48, 3], "max": [1, 32, 48, 3]},
        {"max": [60000, 16, 24, 3]},
    ],
    ids=str,
)
def test_a_manifest_that_promises_other_shapes_than_the_plan_takes_is_refused(
    handmade: Callable[..., Any], tmp_path: Path, version: str, profile: dict[str, Any]
) -> None:
    with simulate(version):
        plan = build_engine(handmade().path, tmp_path / "model.trt", timing_cache=None).path
    change(plan, **{f"profile__{name}": value for name, value in profile.items()})

    with simulate(version) as machine:
        with pytest.raises(NddrError, match=r"\(.*, 3\)"):
            open_engine(plan)
        assert machine.world.contexts == 0
