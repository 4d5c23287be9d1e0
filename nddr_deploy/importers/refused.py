"""Networks of the same repositories that are no NDDR-CNN, or not one with a single meaning: refused by name."""

from __future__ import annotations

import re

from nddr_deploy.errors import UnsupportedError
from nddr_deploy.importers.base import Foreign

# A key of the file (from its beginning) -> what the file then is.
OTHER_MODELS = (
    (r"net[12]_alphas|path_costs|paths\.", "MTL-NAS's search network, which has several candidate paths at a time"),
    (r"cross_stitch\.", "that repository's cross-stitch network"),
    (r"backbone\.([^.]+\.)?(stage[234]|transition[123])\.", "a network on an HRNet"),
    (r"(initial_task_prediction_heads|multi_modal_distillation)\.", "PAD-Net or MTI-Net"),
    (r"(scale_\d|fpm_scale_\d|distillation_scale_\d|heads_scale_\d|feature_aggregation)", "MTI-Net"),
    (r"(backbone\.)?(shared_layer|.*attention|encoder_att|encoder_block_att)", "MTAN"),
    (r"decoders?\.", "a single-task or shared-encoder baseline"),
)


def check_other_models(foreign: Foreign) -> None:
    """Raise UnsupportedError where the file is a known network that cannot be carried over."""
    if foreign.setting("ARCH.SEARCHSPACE"):
        raise _refusal(foreign, f"ARCH.SEARCHSPACE {foreign.setting('ARCH.SEARCHSPACE')!r}", OTHER_MODELS[0][1])
    for pattern, what in OTHER_MODELS:
        found = next((key for key in foreign.shapes if re.match(pattern, key)), None)
        if found is not None:
            raise _refusal(foreign, repr(found), what)
    if foreign.with_prefix("net1.") and not foreign.with_prefix("nddrs."):
        first = foreign.with_prefix("net1.")[0]
        raise _refusal(foreign, f"{first!r} but no 'nddrs.*'", "a single-task or shared-feature baseline")
    if foreign.with_prefix("vgg_16") and not foreign.with_prefix("nddr_"):
        first = foreign.with_prefix("vgg_16")[0]
        raise _refusal(foreign, f"{first!r} but no 'nddr_*'", "a single-task or shared baseline")
    if foreign.with_prefix("backbone.") and foreign.with_prefix("heads.") and not foreign.with_prefix("nddr."):
        first = foreign.with_prefix("backbone.")[0]
        raise _refusal(foreign, f"{first!r} but no 'nddr.*'", "a multi-task network without NDDR fusion")


def _refusal(foreign: Foreign, found: str, what: str) -> UnsupportedError:
    return UnsupportedError(
        f"{foreign.path} is no NDDR-CNN: it has {found}, so it is {what}. Give a checkpoint of an NDDR network."
    )
