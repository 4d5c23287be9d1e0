"""What a simulated TensorRT is told before it builds: flags, profiles, the timing cache."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulated.tensorrt import World

CACHE = b"tcache"
Shape = tuple[int, ...]


class Profile:
    """See `IOptimizationProfile`."""

    def __init__(self) -> None:
        self.shapes: dict[str, tuple[Shape, Shape, Shape]] = {}
        self.extra_memory_target = 1.0

    def set_shape(self, name: str, least: Shape, usual: Shape, most: Shape) -> None:
        if len({len(least), len(usual), len(most)}) > 1:
            raise ValueError("Shape provided for opt is inconsistent with other shapes.")
        for what, low, high in (("opt", least, usual), ("max", usual, most)):
            if any(a > b for a, b in zip(low, high, strict=True)):
                raise ValueError(f"Shape provided for {what} is inconsistent with other shapes.")
        self.shapes[name] = (least, usual, most)

    def get_shape(self, name: str) -> list[Shape]:
        return list(self.shapes[name])

    def __bool__(self) -> bool:
        return bool(self.shapes)


class TimingCache:
    """See `ITimingCache`. What it was made on goes with it.

    Attributes:
        entries: kernels that were measured -> seconds.
    """

    def __init__(self, world: World, origin: dict[str, Any], entries: dict[str, float]) -> None:
        self._world, self.origin, self.entries = world, origin, entries

    @classmethod
    def read(cls, world: World, content: bytes) -> TimingCache | None:
        """None where it is damaged, or of another version."""
        if not content:
            return cls(world, here(world), {})
        try:
            data = json.loads(content.removeprefix(CACHE)) if content.startswith(CACHE) else {}
        except ValueError:
            return None
        if data.get("origin", {}).get("tensorrt") != world.version:
            return None
        return cls(world, data["origin"], data["entries"])

    def serialize(self) -> bytes:
        return CACHE + json.dumps({"origin": self.origin, "entries": self.entries}).encode()

    def combine(self, other: TimingCache, ignore_mismatch: bool) -> bool:
        if other.origin != self.origin and not ignore_mismatch:
            return False
        self.entries.update(other.entries)
        return True

    def reset(self) -> bool:
        self.entries = {}
        return True


class BuilderConfig:
    """See `IBuilderConfig`.

    Attributes:
        flags_set: names of builder flags.
        profiles: in their order.
        pools: name of a memory pool -> bytes.
        previews: names of preview features that are on.
        cache: None until one is set.
    """

    def __init__(self, world: World, logger: Any) -> None:
        self._world, self._logger = world, logger
        self.flags_set = {"TF32"}
        self.profiles: list[Profile] = []
        self.pools: dict[str, int] = {}
        self.previews: set[str] = set()
        self.tactic_sources: int | None = None
        self.cache: TimingCache | None = None
        self.profiling_verbosity: Any = "LAYER_NAMES_ONLY"
        self.builder_optimization_level = 3
        self.max_aux_streams = -1
        self.hardware_compatibility_level: Any = "NONE"
        self.progress_monitor: Any = None
        self.avg_timing_iterations = 1

    @property
    def num_optimization_profiles(self) -> int:
        return len(self.profiles)

    def set_flag(self, flag: Any) -> None:
        self.flags_set.add(flag.name)

    def clear_flag(self, flag: Any) -> None:
        self.flags_set.discard(flag.name)

    def get_flag(self, flag: Any) -> bool:
        return flag.name in self.flags_set

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        self.pools[pool.name] = size

    def get_memory_pool_limit(self, pool: Any) -> int:
        return self.pools.get(pool.name, self._world.gpu.kind.memory_bytes)

    def set_tactic_sources(self, sources: int) -> bool:
        self.tactic_sources = sources
        return True

    def get_tactic_sources(self) -> int:
        return self.tactic_sources or 0

    def set_preview_feature(self, feature: Any, enable: bool) -> None:
        (self.previews.add if enable else self.previews.discard)(feature.name)

    def get_preview_feature(self, feature: Any) -> bool:
        return feature.name in self.previews

    def add_optimization_profile(self, profile: Profile) -> int:
        if not profile:
            self._world.say_error(self._logger, "IBuilderConfig::addOptimizationProfile: the profile is empty")
            return -1
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, content: Any) -> TimingCache | None:
        found = TimingCache.read(self._world, bytes(content))
        if found is None:
            self._world.say_error(self._logger, "createTimingCache: the header of the timing cache does not match")
        return found

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        if cache.origin != here(self._world) and not ignore_mismatch:
            self._world.say_error(self._logger, "setTimingCache: the cache was made on another device")
            return False
        self.cache = cache
        return True

    def get_timing_cache(self) -> TimingCache | None:
        return self.cache


def here(world: World) -> dict[str, Any]:
    """What a timing cache holds for."""
    kind = world.gpu.kind
    return {"tensorrt": world.version, "gpu": kind.name, "capability": list(kind.compute_capability)}
