"""Types of the compiled module. Private: the package around it checks arguments and documents behaviour."""

from collections.abc import Mapping
from typing import Any, Literal, final, overload

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Network",
    "Trainer",
    "activation",
    "catalogue",
    "check_part",
    "clip",
    "config",
    "get_num_threads",
    "gradient_stats",
    "initialize",
    "measure_peak",
    "set_num_threads",
]

def config() -> dict[str, Any]: ...
def set_num_threads(n: int) -> None: ...
def get_num_threads() -> int: ...
def measure_peak(dtype: str, threads: int, seconds: float) -> float: ...
def catalogue(kind: str) -> list[dict[str, Any]]: ...
@overload
def activation(
    name: str, params: Mapping[str, float], x: NDArray[Any], what: Literal["value", "derivative"]
) -> NDArray[Any]: ...
@overload
def activation(
    name: str, params: Mapping[str, float], x: NDArray[Any], what: Literal["scaled_derivative"]
) -> tuple[NDArray[Any], NDArray[Any]]: ...
def initialize(
    name: str,
    params: Mapping[str, Any],
    rows: int,
    cols: int,
    dtype: str,
    seed: int,
    tensor: int,
    layer: int,
) -> NDArray[Any]: ...
def check_part(kind: str, spec: Mapping[str, Any]) -> None: ...
def clip(clips: list[dict[str, Any]], gradients: list[Any], dtype: str) -> list[Any]: ...
def gradient_stats(a: NDArray[Any]) -> dict[str, Any]: ...

@final
class Network:
    def __new__(
        cls, layers: list[dict[str, Any]], in_features: int, dtype: str, seed: int, *, stored: bool = True
    ) -> Network: ...
    @property
    def in_features(self) -> int: ...
    @property
    def out_features(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    @property
    def num_parameters(self) -> int: ...
    @property
    def num_steps(self) -> int: ...
    @property
    def axis(self) -> str: ...
    @property
    def num_units(self) -> int: ...
    def parameters(self) -> list[tuple[str, tuple[int, ...]]]: ...
    def buffers(self) -> list[tuple[str, tuple[int, ...]]]: ...
    def derived(self) -> list[str]: ...
    def get(self, name: str) -> NDArray[Any]: ...
    def set(self, name: str, value: NDArray[Any]) -> None: ...
    def forward(
        self,
        x: NDArray[Any],
        *,
        lengths: NDArray[Any] | None = None,
        state: list[NDArray[Any]] | None = None,
        training: tuple[int, int] | None = None,
    ) -> Any: ...
    def run(
        self,
        x: NDArray[Any],
        target: NDArray[Any] | None,
        loss: Mapping[str, Any] | None,
        cotangent: NDArray[Any] | None,
        *,
        mode: str,
        lr: float | None,
        stats: str,
        memory_budget: int | None,
        lengths: NDArray[Any] | None = None,
        state: list[NDArray[Any]] | None = None,
        truncate: int | None = None,
        inputs: bool = True,
        training: tuple[int, int] | None = None,
    ) -> dict[str, Any]: ...
    def lyapunov(
        self,
        x: NDArray[Any],
        *,
        k: int,
        state: list[NDArray[Any]] | None = None,
        memory_budget: int | None = None,
    ) -> NDArray[np.float64]: ...
    def memory_estimate(
        self, batch: int, steps: int, mode: str, stats: str, *, least: bool = False
    ) -> int: ...
    def plan(
        self,
        batch: int,
        steps: int,
        mode: str,
        stats: str,
        memory_budget: int | None,
        *,
        inputs: bool = True,
    ) -> tuple[str, float]: ...
    def clone(self) -> Network: ...

@final
class Trainer:
    def __new__(
        cls,
        network: Network,
        optimizer: dict[str, Any],
        clips: list[dict[str, Any]],
        constraints: list[tuple[dict[str, Any], list[str]]],
        loss: dict[str, Any],
        *,
        batch_size: int,
        seed: int,
        shuffle: bool,
        truncate: int | None = None,
    ) -> Trainer: ...
    def load(self, x: NDArray[Any], y: NDArray[Any], lengths: NDArray[Any] | None = None) -> None: ...
    def run(
        self, rates: NDArray[Any], *, every: int, stats: str, memory_budget: int | None = None
    ) -> dict[str, Any]: ...
    def progress(self) -> tuple[int, int, int, int]: ...
    def units(self) -> tuple[list[str], NDArray[Any], bytes]: ...
    def state(self) -> dict[str, Any]: ...
    def load_state(self, state: dict[str, Any]) -> None: ...
