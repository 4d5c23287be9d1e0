"""From a table's file to trainings: which there are, what they start from, and what makes two of them the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from nddr_deploy.errors import ConfigError, InputError
from nddr_deploy.experiments.plan import Run, all_runs, data_fingerprint, make_plan
from nddr_deploy.experiments.spec import merged, read_table
from nddr_deploy.network.build import build_empty
from nddr_deploy.tasks import Age, Classification, Normals, Segmentation, Task
from nddr_deploy.training.config_file import config_from_dict

TABLES = Path(__file__).parents[2] / "examples" / "tables"
NAMES = sorted(path.stem for path in TABLES.glob("table*.yaml"))
PROTOCOL: dict[str, Any] = {
    "tasks": ["segmentation", "normals"],
    "columns": {"segmentation": ["mIoU"]},
    "scales": {
        "tiny": {
            "judged_on": {"split": "test", "options": {"count": 2}},
            "every": {"steps": 2, "loss": {"weights": {"normals": 5}}, "network": {"backbone": "resnet18"}},
            "single": {"optimiser": {"lr": 0.05}},
            "fused": {"optimiser": {"lr": 0.001}},
            "long": {"steps": 4},
            "pretrained": {"tasks": ["segmentation"], "data": {"options": {"seed": 1}}},
        }
    },
}


def table(folder: Path, rows: dict[str, Any], **protocol: Any) -> Path:
    (folder / "shared.yaml").write_text(yaml.safe_dump(merged(PROTOCOL, protocol)))
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({"title": "Mine", "protocol": "shared", "rows": rows}, sort_keys=False))
    return path


def only(folder: Path, row: dict[str, Any], seed: int = 0, **protocol: Any) -> tuple[Run, ...]:
    return make_plan(read_table(table(folder, {"it": row}, **protocol), "tiny"), [seed]).cells["it", seed]


def test_settings_go_upon_each_other_and_none_takes_away() -> None:
    below = {"a": {"b": 1, "c": 2}, "d": 3}

    assert merged(below, {"a": {"b": 5}, "e": {"f": 1}}) == {"a": {"b": 5, "c": 2}, "d": 3, "e": {"f": 1}}
    assert merged(below, {"a": {"c": None}, "d": None}) == {"a": {"b": 1}}
    assert below == {"a": {"b": 1, "c": 2}, "d": 3}


def test_a_fused_network_starts_from_one_single_task_network_per_task(tmp_path: Path) -> None:
    (run,) = only(tmp_path, {"settings": {"network": {"fusion": "sluice"}}}, seed=3)

    assert run.settings["tasks"] == ["segmentation", "normals"]
    assert run.settings["optimiser"]["lr"] == 0.001
    assert set(run.starts) == {"segmentation", "normals"}
    for task, start in run.starts.items():
        assert start.settings["tasks"] == [task]
        assert start.settings["network"]["fusion"] == "none"
        assert start.settings["optimiser"]["lr"] == 0.05
        assert start.settings["seed"] == start.seed == 3
        assert not start.starts
    assert run.starts["segmentation"].settings["loss"]["weights"] == {}
    assert run.starts["normals"].settings["loss"]["weights"] == {"normals": 5}


def test_the_single_task_row_is_one_network_per_task_and_the_start_of_the_others(tmp_path: Path) -> None:
    path = table(tmp_path, {"single": {"stage": "single", "each": True, "start": "random"}, "NDDR": {}})
    plan = make_plan(read_table(path, "tiny"), [0])

    assert [run.digest for run in plan.cells["single", 0]] == [
        start.digest for start in plan.cells["NDDR", 0][0].starts.values()
    ]
    assert len(plan.runs()) == 3


def test_single_task_networks_that_train_on_start_from_themselves_with_the_fused_settings(tmp_path: Path) -> None:
    runs = only(tmp_path, {"each": True, "start": "single"})
    (fused,) = only(tmp_path, {})

    for run, task in zip(runs, ("segmentation", "normals"), strict=True):
        assert run.settings["tasks"] == [task]
        assert run.settings["network"]["fusion"] == "none"
        assert run.settings["optimiser"]["lr"] == 0.001
        assert {name: start.digest for name, start in run.starts.items()} == {task: fused.starts[task].digest}


def test_a_long_run_has_the_single_task_settings_but_its_own_steps(tmp_path: Path) -> None:
    (run,) = only(tmp_path, {"stage": "long", "start": "random", "settings": {"network": {"fusion": "shared"}}})

    assert run.settings["optimiser"]["lr"] == 0.05
    assert run.settings["steps"] == 4
    assert not run.starts


def test_a_pretrained_start_is_one_network_on_other_data_for_all_streams(tmp_path: Path) -> None:
    (run,) = only(tmp_path, {"start": "pretrained"})

    (start,) = run.starts.values()
    assert list(run.starts) == ["streams"]
    assert start.settings["tasks"] == ["segmentation"]
    assert start.settings["data"]["options"]["seed"] == 1


def test_a_rows_ablation_leaves_its_single_task_networks_as_they_are(tmp_path: Path) -> None:
    (usual,) = only(tmp_path, {})
    (slow,) = only(tmp_path, {"settings": {"optimiser": {"fusion_lr_factor": 1}, "network": {"fusion": "sluice"}}})

    assert slow.digest != usual.digest
    assert {start.digest for start in slow.starts.values()} == {start.digest for start in usual.starts.values()}


def test_the_digest_knows_what_decides_the_result_and_nothing_else(tmp_path: Path) -> None:
    def digest(row: dict[str, Any] | None = None, seed: int = 0, **every: Any) -> str:
        return only(tmp_path, row or {}, seed, scales={"tiny": {"every": every}})[0].digest

    usual = digest()
    assert digest(log_every=7, threads=1, checkpoint_every=1, eval_every=1) == usual  # change nothing of the weights
    assert digest({"settings": {"optimiser": {"fusion_lr_factor": 100.0}}}) == usual  # the default, spelled out
    assert digest(seed=1) != usual
    assert digest(steps=3) != usual
    assert digest({"start": "random"}) != usual
    assert only(tmp_path, {}, scales={"tiny": {"judged_on": {"split": "val"}}})[0].digest != usual
    assert only(tmp_path, {}, scales={"tiny": {"single": {"steps": 9}}})[0].digest != usual  # through its start


def test_real_data_count_by_their_lists_and_not_by_where_they_lie(tmp_path: Path) -> None:
    path = table(tmp_path, {"it": {"start": "random"}}, scales={"tiny": {"every": {"data": {"name": "folder"}}}})
    digests = []
    for folder, text in (("a", "one\n"), ("b", "one\n"), ("c", "two\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "train.txt").write_text(text)
        plan = make_plan(read_table(path, "tiny"), [0], data=str(tmp_path / folder))
        (run,) = plan.cells["it", 0]
        assert run.settings["data"]["options"]["path"] == str(tmp_path / folder)
        digests.append(run.digest)

    assert digests[0] == digests[1] != digests[2]


def test_a_weight_file_starts_what_would_start_at_random(tmp_path: Path) -> None:
    file = tmp_path / "vgg.pth"
    file.write_bytes(b"weights")
    path = table(tmp_path, {"NDDR": {}, "other": {"start": "pretrained"}})

    plan = make_plan(read_table(path, "tiny"), [0], pretrained=str(file))

    fused, other = plan.cells["NDDR", 0][0], plan.cells["other", 0][0]
    assert all(start.settings["start"] == {"imagenet": str(file)} for start in fused.starts.values())
    assert "start" not in fused.settings
    assert other.settings["start"] == {"imagenet": str(file)}
    assert not other.starts


@pytest.mark.parametrize("name", NAMES)
def test_every_table_of_the_paper_makes_runs_that_nddr_train_accepts(name: str) -> None:
    plan = make_plan(read_table(TABLES / f"{name}.yaml", "tiny"), [0, 1])

    runs = plan.runs()
    places = {run.digest: number for number, run in enumerate(runs)}
    assert len(places) == len(runs)
    for run in runs:
        assert all(places[start.digest] < places[run.digest] for start in run.starts.values())
    assert len({run.key for run in runs}) == len(runs)


def test_tables_share_their_runs() -> None:
    plans = [make_plan(read_table(TABLES / f"{name}.yaml", "small"), [0]) for name in ("table1", "table2", "table4")]

    together = all_runs(plans)

    default = {plans[0].cells["(0.9, 0.1)", 0][0].digest, plans[1].cells["100", 0][0].digest}
    assert default == {plans[2].cells["NDDR", 0][0].digest}
    assert len(together) == sum(len(plan.runs()) for plan in plans) - 2 * 3  # NDDR and its two starts are in all three


def test_the_papers_own_numbers_are_those_of_its_table_4() -> None:
    rows = {row.name: row.paper for row in read_table(TABLES / "table4.yaml", "full").rows}

    assert rows["NDDR"] == (13.9, 10.2, 53.5, 79.5, 88.8, 36.2, 66.4)
    assert rows["single task"] == (15.6, 12.3, 46.4, 75.5, 86.5, 33.5, 64.1)
    assert rows["single task, as long"] == ()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"it": {"stage": "fuse"}}, "it: stage: 'fuse' is unknown. Choose one of: single, fused, long"),
        ({"it": {"start": "singel"}}, "Did you mean 'single'"),
        ({"it": {"setings": {}}}, "'setings' is unknown"),
        ({"it": {"paper": [1.0, 2.0]}}, "the paper has 2 numbers, the table 1 columns"),
    ],
)
def test_a_wrong_row_is_one_sentence(tmp_path: Path, rows: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_table(table(tmp_path, rows), "tiny")


@pytest.mark.parametrize(
    ("own", "protocol", "message"),
    [
        ({"rows": None}, {}, r"mine.yaml: rows: expected at least one"),
        ({"rows": ["NDDR"]}, {}, r"mine.yaml: rows: expected settings.*found \['NDDR'\]"),
        ({"rows": {"it": "NDDR"}}, {}, r"mine.yaml: rows.it: expected settings.*found 'NDDR'"),
        ({"rows": {"it": {"settings": {"network": "vgg16"}}}}, {}, r"rows.it.settings.network: expected settings"),
        ({"rows": {"it": {"paper": ["13.9"]}}}, {}, r"it: paper: expected numbers"),
        ({"rows": {"it": {"each": "yes"}}}, {}, r"it: each: expected true or false"),
        ({"rows": {"it": {"each": True, "start": "pretrained"}}}, {}, r"it: each: true starts from single or random"),
        ({"rows": {"it": {"settings": {"network": {"fusion": "shared"}}}}}, {}, r"shared trunk .* Set start: random"),
        ({"settings": [1]}, {}, r"mine.yaml: settings: expected settings"),
        ({"scales": {"tiny": {"evry": {}}}}, {}, r"mine.yaml, tiny: section: 'evry' is unknown.* Did you mean 'every'"),
        ({"scales": {"tiny": {"every": 3}}}, {}, r"mine.yaml: scales.tiny.every: expected settings"),
        ({}, {"scales": {}}, r"scale of mine: 'tiny' is unknown"),
        ({}, {"tasks": "age"}, r"shared.yaml: tasks: expected names"),
        ({}, {"columns": {}}, r"shared.yaml: columns: expected metrics"),
        ({}, {"columns": {"segmentation": "mIoU"}}, r"columns.segmentation: expected names"),
        ({}, {"columns": {"depth": ["rmse"]}}, r"columns: task: 'depth' is unknown"),
        ({}, {"scales": {"tiny": {"judged_on": {"options": {}}}}}, r"judged_on: expected a split"),
        ({}, {"scales": {"tiny": {"judged_on": "test"}}}, r"judged_on: expected settings"),
    ],
)
def test_what_is_wrong_in_a_tables_files_is_one_sentence(
    tmp_path: Path, own: dict[str, Any], protocol: dict[str, Any], message: str
) -> None:
    (tmp_path / "shared.yaml").write_text(yaml.safe_dump({**PROTOCOL, **protocol}))
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"title": "Mine", "protocol": "shared", "rows": {"it": {}}, **own}))

    with pytest.raises(ConfigError, match=message):
        read_table(path, "tiny")


def test_empty_sections_are_as_good_as_none(tmp_path: Path) -> None:
    sections = dict.fromkeys(("every", "single", "fused", "long", "pretrained"))
    values = {**PROTOCOL, "scales": {"tiny": {**sections, "judged_on": {"split": "val", "options": None}}}}
    (tmp_path / "shared.yaml").write_text(yaml.safe_dump(values))
    path = tmp_path / "mine.yaml"
    path.write_text("title: Mine\nprotocol: shared\nsettings:\nscales: {tiny: }\nrows: {it: {settings: }, other: }\n")

    spec = read_table(path, "tiny")

    assert [row.settings for row in spec.rows] == [{}, {}]
    assert spec.judged_on == {"split": "val"}
    assert len(make_plan(spec, [0]).runs()) == 3


def test_processes_decide_the_result_where_there_are_several(tmp_path: Path) -> None:
    spec = read_table(table(tmp_path, {"it": {}}), "tiny")

    digests = [make_plan(spec, [0], processes=count).cells["it", 0][0].digest for count in (1, 2, 3)]

    assert len(set(digests)) == 3
    assert digests[0] == make_plan(spec, [0]).cells["it", 0][0].digest


def test_labels_and_pictures_in_files_count_by_name_and_size(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("one\n")
    for part in ("images", "normals"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "one.png").write_bytes(b"1234")
    before = data_fingerprint(tmp_path)

    (tmp_path / "normals" / "one.png").write_bytes(b"12345")

    assert data_fingerprint(tmp_path) != before


def test_a_weight_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    spec = read_table(table(tmp_path, {"it": {}}), "tiny")
    with pytest.raises(InputError, match=r"vgg.pth cannot be read \(No such file"):
        make_plan(spec, [0], pretrained=str(tmp_path / "vgg.pth"))


def test_a_scale_that_a_table_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"scale of mine: 'huge' is unknown. Choose one of: tiny"):
        read_table(table(tmp_path, {"it": {}}), "huge")


def test_real_data_and_weights_that_were_not_given_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=r"table4 at scale full needs real data with segmentation and normals. Make a folder of it with nddr-data",
    ):
        make_plan(read_table(TABLES / "table4.yaml", "full"), [0])
    (tmp_path / "train.txt").write_text("one\n")
    with pytest.raises(ConfigError, match=r"starts from pretrained weights. Give a torchvision weight file"):
        make_plan(read_table(TABLES / "table3.yaml", "full"), [0], data=str(tmp_path))


@pytest.mark.parametrize("scale", ["small", "full"])
@pytest.mark.parametrize("name", NAMES)
def test_every_table_makes_networks_that_can_be_built_at_every_scale(tmp_path: Path, name: str, scale: str) -> None:
    (tmp_path / "train.txt").write_text("one\n")
    (tmp_path / "vgg.pth").write_bytes(b"weights")
    tasks: dict[str, Task] = {
        "segmentation": Segmentation("segmentation", classes=tuple(f"class {number}" for number in range(40))),
        "normals": Normals("normals"),
        "age": Age("age", classes=100),
        "gender": Classification("gender", classes=("male", "female")),
    }

    spec = read_table(TABLES / f"{name}.yaml", scale)
    file = str(tmp_path / "vgg.pth") if scale == "full" else None
    plan = make_plan(spec, [0], data=str(tmp_path), pretrained=file)

    for run in plan.runs():
        config = config_from_dict(run.settings)
        network = build_empty(config.network, [tasks[task] for task in config.tasks])
        if scale == "full":
            widest = max(parameter.shape[0] for parameter in network.parameters() if parameter.ndim == 4)
            assert widest >= 256
            assert config.steps >= 20_000
        if len(config.tasks) == 2 and config.network.fusion not in ("none", "shared"):
            assert network.fusion_parameters()
            assert config.optimiser.lr == 1e-3  # the paper's base rate
