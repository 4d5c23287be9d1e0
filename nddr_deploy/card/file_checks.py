"""Is this the file that the card is of, and was it made from the same files?"""

from __future__ import annotations

from pathlib import Path

from nddr_deploy.card.content import changed_weights, content_of
from nddr_deploy.card.schema import Card
from nddr_deploy.card.verification import Check
from nddr_deploy.engines.plan_file import PlanFile
from nddr_deploy.files import sha256
from nddr_deploy.graph.metadata import manifest_of, read_model

SHOWN = 3  # names of changed weights


def check_file(path: Path, card: Card) -> tuple[Check, ...]:
    """The hash chain of an ONNX file, or of a TensorRT plan that was built from one.

    Raises:
        ModelFileError: the file is damaged, or no file of ours.
    """
    return _check_plan(path, card) if path.suffix == ".trt" else _check_onnx(path, card)


def check_reference(path: Path, card: Card) -> Check:
    """Is the FP32 file given the one in the card's chain?"""
    found = sha256(path)
    known = {link.sha256: link.role for link in card.chain}
    if found in known:
        return Check("file", "reference", known[found], path.name, "same")
    detail = "not in the card's chain"
    return Check("file", "reference", "–", path.name, "note", detail)


def _check_onnx(path: Path, card: Card) -> tuple[Check, ...]:
    model = read_model(path)
    found = sha256(path)
    hashes = manifest_of(model, source=str(path)).hashes
    chain = _check_chain(hashes, card)
    if found == card.model.sha256:
        return (Check("file", "bytes", _short(card.model.sha256), _short(found), "same"), *chain)
    then, now = card.model.content, content_of(model, source=str(path))
    weights = changed_weights(then, now)
    equal = then == now
    saved = "saved again: graph, manifest and every weight are equal" if equal else "another file than the card's"
    return (
        Check("file", "bytes", _short(card.model.sha256), _short(found), "note", saved),
        Check("file", "graph", _short(then.graph), _short(now.graph), "same" if then.graph == now.graph else "changed"),
        Check(
            "file",
            "manifest",
            _short(then.manifest),
            _short(now.manifest),
            "same" if then.manifest == now.manifest else "changed",
        ),
        Check(
            "file",
            "weights",
            f"{len(then.weights)} tensors",
            f"{len(now.weights)} tensors",
            "changed" if weights else "same",
            f"{len(weights)} differ: {_some(weights)}" if weights else "",
        ),
        *chain,
    )


def _check_plan(path: Path, card: Card) -> tuple[Check, ...]:
    about = PlanFile.read(path).about
    onnx = about.model.hashes.get("onnx", "")
    of_plan = Check("file", "plan", "", _short(about.plan), "same", "the plan that its manifest describes")
    same = onnx == card.model.sha256
    detail = "" if same else "the plan was built from another file than the card's"
    built = Check("file", "built from", _short(card.model.sha256), _short(onnx), "same" if same else "changed", detail)
    # "onnx" of the plan's manifest is the file it was built from; the file's own manifest may have used that name, too.
    earlier = {role: value for role, value in about.model.hashes.items() if role != "onnx"}
    return (of_plan, built, *_check_chain(earlier, card))


def _check_chain(hashes: dict[str, str], card: Card) -> tuple[Check, ...]:
    """What the model says it was made from, against what the card says."""
    checks = []
    for link in card.chain:
        if link.role in hashes:
            same = hashes[link.role] == link.sha256
            checks.append(
                Check(
                    "file",
                    f"made from {link.role}",
                    _short(link.sha256),
                    _short(hashes[link.role]),
                    "same" if same else "changed",
                    "" if same else "by its manifest, the model was made from another file",
                )
            )
    return tuple(checks)


def _short(value: str) -> str:
    return f"{value[:12]}…" if value else "–"


def _some(names: tuple[str, ...]) -> str:
    """A stranger's names, with nothing in them that a terminal would obey."""
    shown = [name if name.isprintable() else ascii(name) for name in names[:SHOWN]]
    return ", ".join(shown) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
