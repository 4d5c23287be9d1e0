"""The foreign formats. To add one: write `importers/x.py`, and a line here."""

from __future__ import annotations

IMPORTERS = {
    "mtlnas": "nddr_deploy.importers.mtlnas:MTLNAS",
    "nddrpytorch": "nddr_deploy.importers.nddrpytorch:NDDRPYTORCH",
    "tf": "nddr_deploy.importers.tf:TF",
    "vandenhende": "nddr_deploy.importers.vandenhende:VANDENHENDE",
    "afanet_pixel": "nddr_deploy.importers.afanet_pixel:AFANET_PIXEL",
    "afanet_image": "nddr_deploy.importers.afanet_image:AFANET_IMAGE",
}
