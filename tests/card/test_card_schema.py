"""What a card holds, and what is refused where a stranger wrote it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from card_subjects import WHY

from nddr_deploy.card.card_file import LARGEST_BYTES, card_path, find_card, page_path, read_card
from nddr_deploy.card.elements import PRECISIONS as NAMES
from nddr_deploy.card.fields import Precision
from nddr_deploy.card.function_checks import ELSEWHERE
from nddr_deploy.card.schema import Card
from nddr_deploy.engines.table import PRECISIONS
from nddr_deploy.errors import ModelFileError


def test_a_card_reads_back_as_it_was_written(card: Card, tmp_path: Path) -> None:
    (tmp_path / "model.card.json").write_text(card.to_json())

    assert read_card(tmp_path / "model.card.json") == card


def test_it_lies_beside_the_model_under_its_name() -> None:
    assert card_path("runs/model.int8.onnx") == Path("runs/model.int8.card.json")
    assert page_path("runs/model.int8.onnx") == Path("runs/model.int8.card.html")


def test_a_model_without_a_card_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"no card \(model.card.json beside it\).*--card"):
        find_card(tmp_path / "model.onnx")


def test_every_layer_is_listed_with_its_precision_and_why_it_was_left(card: Card) -> None:
    assert [(layer.node, layer.precision, layer.reason) for layer in card.layers] == [
        ("segmentation.conv", "int8", ""),
        ("normals.conv", "int8", ""),
        ("age.conv", "fp32", WHY),
    ]


def test_the_chain_leads_from_the_checkpoint_to_the_fp32_file(card: Card) -> None:
    assert [(link.role, link.file) for link in card.chain] == [("checkpoint", "ckpt.pt"), ("onnx", None)]


def test_one_missed_budget_makes_the_card_say_so(card: Card) -> None:
    met = [head for head in card.heads if head.met is not False]

    assert card.met is False
    assert card.model_copy(update={"heads": tuple(met)}).met is True
    assert card.model_copy(update={"heads": ()}).met is None


def test_a_card_knows_every_precision_that_engines_run_in() -> None:
    assert set(get_args(Precision)) == set(PRECISIONS) == set(NAMES) == set(ELSEWHERE)


def _set(values: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split("/")
    place: Any = values
    for key in parents:
        place = place[int(key) if key.isdigit() else key]
    place[last] = value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("format", "nddr-card/2"),
        ("extra", 1),
        ("model/name", "../../etc/passwd"),
        ("model/sha256", "abc"),
        ("model/bytes", -1),
        ("model/bytes", "12"),  # a number as text is no number
        ("model/network", "clear\x1b[2Jscreen"),
        ("heads/0/after", float("inf")),
        ("heads/0/after", "0.75"),
        ("heads/0/task", "x" * 301),
        ("probes/size_hw", [10**9, 10**9]),  # pictures of an exabyte
        ("probes/images", 10**6),
        ("probes/raw/segmentation/values", [0.0] * 5000),
        ("created", "yesterday"),
        ("layers", [{"node": "x", "op": "Conv", "precision": "int2"}]),
    ],
)
def test_a_strangers_card_is_refused_in_one_sentence(card: Card, tmp_path: Path, path: str, value: Any) -> None:
    values = json.loads(card.to_json())
    _set(values, path, value)
    file = tmp_path / "model.card.json"
    file.write_text(json.dumps(values))

    with pytest.raises(ModelFileError, match="no card that can be used") as caught:
        read_card(file)

    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"format": NaN}'])
def test_what_is_no_json_of_ours_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.card.json").write_bytes(content)

    with pytest.raises(ModelFileError, match="no card that can be used"):
        read_card(tmp_path / "model.card.json")


def test_a_file_far_too_large_is_not_even_read(tmp_path: Path) -> None:
    file = tmp_path / "model.card.json"
    with file.open("wb") as content:
        content.truncate(LARGEST_BYTES + 1)

    with pytest.raises(ModelFileError, match="is no card: it has 17 MB"):
        read_card(file)


def test_a_folder_or_nothing_of_that_name_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.card.json"):
        with pytest.raises(ModelFileError, match="cannot be read"):
            read_card(path)
