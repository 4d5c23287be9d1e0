"""Does the model still compute what it did when the card was made?"""

from __future__ import annotations

from collections.abc import Mapping

from nddr_deploy.card.measured import Probe, Probes
from nddr_deploy.card.probes import IMAGES, compare_probes, images_hash, take_probes
from nddr_deploy.card.verification import Check
from nddr_deploy.engines.base import Engine
from nddr_deploy.errors import InputError
from nddr_deploy.evaluate.probe_images import probe_images

# Of an output's range, root mean square. Measured on two trained ResNet-18 with three heads: the same backend on the
# same machine repeats itself to the bit, on one thread or two, while one int8 weight moved by one step shows from 2e-5
# to 6e-3 (not at all in a channel that no probe image reaches: that is for the hashes to find). Another runtime differs
# by 2e-7 in fp32, 3e-3 in bf16 and 7e-3 in int8, where roundings fall to the other side; INT8 and FP32 themselves are
# 1e-2 to 2.6e-2 apart.
REPEATED = 1e-6
ELSEWHERE = {"fp32": 1e-4, "bf16": 1e-2, "fp16": 1e-2, "int8": 2e-2, "int8+bf16": 2e-2}
LABELS_ELSEWHERE = 0.05  # share of pixels: what lies between two classes falls to either side
NO_NUMBERS = "NaN or infinity"
MOST_PIXELS = 2**26  # of a picture: a stranger's card could ask for more than fits into memory
FARTHER = 1.25  # times as far from FP32 as it was, which the tolerance comes on top of


def check_probes(engine: Engine, card: Probes) -> tuple[tuple[Check, ...], Probes | None]:
    """Every output on the probe images, and what was found; None where nothing can be compared with it."""
    reason = cannot_compare(engine, card)
    if reason:
        return (Check("function", "probe images", "", "", "skipped", reason),), None
    try:
        found = take_probes(engine, seed=card.seed, size_hw=card.size_hw)
    except InputError as error:  # a card is of numbers
        return (Check("function", "probe images", "numbers", NO_NUMBERS, "changed", str(error)),), None
    limit, why = tolerance(card, found)
    then, now = _comparable(card, found)
    checks = []
    for difference in compare_probes(then, now):
        allowed = _allowed(limit, now.get(difference.task))
        right = not difference.problem and difference.typical <= allowed
        checks.append(
            Check(
                "function",
                difference.task,
                f"at most {allowed:.0e}",
                difference.problem or f"{difference.typical:.1e}",
                "same" if right else "changed",
                why,
            )
        )
    return tuple(checks), found


def cannot_compare(engine: Engine, card: Probes) -> str:
    """Why the probe images cannot be run; empty where they can."""
    manifest = engine.manifest
    size = f"{card.size_hw[1]} x {card.size_hw[0]} px"
    if card.size_hw[0] * card.size_hw[1] > MOST_PIXELS:
        return f"the card's are {size}, more than this check draws"
    if card.size_hw != manifest.size_hw and "size" not in manifest.dynamic:
        return f"the card's are {size}, and this model takes another size"
    if card.images != IMAGES or images_hash(probe_images(card.size_hw, IMAGES)) != card.sha256:
        return "NumPy draws other pictures here than where the card was made"
    return ""


def tolerance(then: Probes, now: Probes) -> tuple[float, str]:
    """What two runs may differ by, and why."""
    here = (now.backend, now.precision, now.runtime, now.machine.cpu, now.machine.flags)
    if here == (then.backend, then.precision, then.runtime, then.machine.cpu, then.machine.flags):
        return REPEATED, "the card's runtime on the card's kind of machine, which repeats itself"
    limit = max(ELSEWHERE[then.precision], ELSEWHERE[now.precision])
    return limit, f"the card was made with {then.backend} {then.precision} on {then.machine.cpu}"


def check_parity_kept(card: Probes, found: Probes, reference: Engine | None) -> tuple[Check, ...]:
    """Is the model as near to FP32 as it was? By the card's FP32 values, or by an FP32 engine's here.

    Args:
        card, found: the probes then and now.
        reference: open on the FP32 model; None takes the card's values.
    """
    fp32: Mapping[str, Probe] = card.reference
    if reference is not None:
        reason = cannot_compare(reference, card)
        if reason:
            return (Check("parity", "with FP32", "", "", "skipped", reason),)
        of_reference = take_probes(reference, seed=card.seed, size_hw=card.size_hw)
        fp32 = of_reference.raw if found.raw else of_reference.decoded
    if not fp32:
        return (Check("parity", "with FP32", "", "", "skipped", "the card has no FP32 values; give --reference"),)
    if set(fp32) != set(found.outputs) or any(fp32[task].shape != found.outputs[task].shape for task in fp32):
        return (Check("parity", "with FP32", "", "", "skipped", "FP32 has other outputs than this model"),)
    limit, _ = tolerance(card, found)
    before = {
        difference.task: difference.typical for difference in compare_probes(card.reference or fp32, card.outputs)
    }
    checks = []
    for difference in compare_probes(fp32, found.outputs):
        then = before.get(difference.task, float("nan"))
        right = difference.typical <= FARTHER * then + _allowed(limit, found.outputs.get(difference.task))
        checks.append(
            Check(
                "parity",
                difference.task,
                f"{100 * then:.2f} %",
                f"{100 * difference.typical:.2f} %",
                "same" if right else "changed",
            )
        )
    return tuple(checks)


def _allowed(limit: float, probe: Probe | None) -> float:
    """Labels are not near each other: a few fall to the other side in any arithmetic but the same."""
    return LABELS_ELSEWHERE if probe is not None and probe.labels and limit > REPEATED else limit


def _comparable(then: Probes, now: Probes) -> tuple[Mapping[str, Probe], Mapping[str, Probe]]:
    """Raw outputs where both have them; a plan that decodes is compared by its results."""
    if then.raw and now.raw:
        return then.raw, now.raw
    return then.decoded, now.decoded
