"""Messages that name what can be chosen."""

from __future__ import annotations

from nddr_deploy.errors import unknown_choice


def test_an_unknown_choice_names_all_choices_and_the_nearest():
    message = str(unknown_choice("fusion", "ndr", ["none", "nddr"]))

    assert message == "fusion: 'ndr' is unknown. Choose one of: none, nddr. Did you mean 'nddr'?"


def test_of_very_many_choices_only_the_nearest_are_named():
    layers = [f"stages.{stage}.depth.conv{conv}/Conv" for stage in range(9) for conv in range(9)]

    message = str(unknown_choice("keep", "stages.3.depth.conv4", layers))

    assert "Choose one of 81, as in: stages.3.depth.conv4/Conv, " in message
    assert message.count("/Conv") == 4  # three near ones, and the nearest once more
