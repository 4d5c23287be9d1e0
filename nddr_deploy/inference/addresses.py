"""Stream addresses, and how they are shown: never with a password."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nddr_deploy.errors import ConfigError

if TYPE_CHECKING:
    from av import FFmpegError

STREAM_SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "srt", "udp", "tcp", "rtp")


def scheme_of(spec: str) -> str:
    """ "rtsp" of "rtsp://host/path", "camera" of "camera:0"; empty for files."""
    scheme, separator, rest = spec.partition(":")
    if separator and (rest.startswith("//") or scheme == "camera"):
        return scheme.lower()
    return ""


def display_address(address: str) -> str:
    """The address without user, password and query, which may hold a token: what messages and reports show."""
    try:
        parts = urlsplit(address)
        port = f":{parts.port}" if parts.port else ""
    except ValueError as error:
        scheme = address.partition(":")[0]
        raise ConfigError(f"The {scheme} address is not one: {error}. Write {scheme}://HOST[:PORT]/PATH.") from error
    hidden = "?..." if parts.query else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}{hidden}"


def reason(error: FFmpegError) -> str:
    """Why FFmpeg failed, in its words, without the address that its own message ends with."""
    if type(error).__name__ == "ExitError":
        return "no answer in time"
    return (error.strerror or type(error).__name__).strip()
