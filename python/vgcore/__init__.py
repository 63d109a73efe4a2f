"""vgcore: how gradients vanish or explode through very deep networks, and why. The map of what users import.

Knows where everything is and loads what is heavy (studies, data, pictures, test strategies) when it is first
used.

Example:
    >>> import numpy as np, vgcore as vg
    >>> net = vg.mlp(depth=1000, width=16, activation="sigmoid", init="glorot_normal", rng=0)
    >>> flow = net.probe(np.ones((4, 16), np.float32), cotangent=np.ones((4, 16), np.float32))
    >>> bool(flow.log10_grad_norm[0] < -500)  # not 0.0: a float's range does not end the measurement
    True
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import (
    _core,
    activations,
    cells,
    constraints,
    initializers,
    losses,
    norms,
    optimizers,
    parametrizations,
    schedules,
)
from . import clipping as clips
from ._loading import load
from .branches import Concat, Dropout, Highway, Residual
from .clipping import AGC, ClipLayer, ClipNorm, ClipValue, NormBand, SignGradient, UnitNorm
from .config import config, get_num_threads, set_num_threads
from .constraints import MaxNormConstraint, OrthogonalConstraint, SpectralConstraint
from .errors import (
    ArgumentError,
    BusyError,
    DTypeError,
    LabelError,
    MemoryBudgetError,
    MissingDependencyError,
    NonFiniteError,
    ShapeError,
    UnknownNameError,
    VgcoreError,
)
from .flow import GradientFlow
from .gradients import Gradients, Truncation
from .layers import Activation, Dense, Layer, Repeat
from .models import mlp, rnn
from .network import Network
from .normalisation import BatchNorm, GroupNorm, LayerNorm, RMSNorm
from .optimizers import LAMB, LARS, SGD, Adagrad, Adam, AdamW, RMSprop, ScaleFree
from .recurrent import Recurrent

if TYPE_CHECKING:
    from . import callbacks, datasets, depth, mitigations, plotting, pretraining, sklearn, testing, theory
    from .chunking import Chunker, chunker
    from .diagnosis import Diagnosis, diagnose
    from .doctor import Prescription
    from .history import History
    from .stats import Stats, gradient_stats
    from .study import Study, StudyResult

__version__: str = _core.config()["version"]

__all__ = [
    "AGC",
    "LAMB",
    "LARS",
    "SGD",
    "Activation",
    "Adagrad",
    "Adam",
    "AdamW",
    "ArgumentError",
    "BatchNorm",
    "BusyError",
    "Chunker",
    "ClipLayer",
    "ClipNorm",
    "ClipValue",
    "Concat",
    "DTypeError",
    "Dense",
    "Diagnosis",
    "Dropout",
    "GradientFlow",
    "Gradients",
    "GroupNorm",
    "Highway",
    "History",
    "LabelError",
    "Layer",
    "LayerNorm",
    "MaxNormConstraint",
    "MemoryBudgetError",
    "MissingDependencyError",
    "Network",
    "NonFiniteError",
    "NormBand",
    "OrthogonalConstraint",
    "Prescription",
    "RMSNorm",
    "RMSprop",
    "Recurrent",
    "Repeat",
    "Residual",
    "ScaleFree",
    "ShapeError",
    "SignGradient",
    "SpectralConstraint",
    "Stats",
    "Study",
    "StudyResult",
    "Truncation",
    "UnitNorm",
    "UnknownNameError",
    "VgcoreError",
    "__version__",
    "activations",
    "callbacks",
    "cells",
    "chunker",
    "clips",
    "config",
    "constraints",
    "datasets",
    "depth",
    "diagnose",
    "get_num_threads",
    "gradient_stats",
    "initializers",
    "load",
    "losses",
    "mitigations",
    "mlp",
    "norms",
    "optimizers",
    "parametrizations",
    "plotting",
    "pretraining",
    "rnn",
    "schedules",
    "set_num_threads",
    "sklearn",
    "testing",
    "theory",
]

#: What is loaded when it is first asked for: name here -> module it lives in ("" for a module itself).
_LAZY = {
    "Chunker": "chunking",
    "Diagnosis": "diagnosis",
    "Prescription": "doctor",
    "History": "history",
    "Stats": "stats",
    "Study": "study",
    "StudyResult": "study",
    "callbacks": "",
    "chunker": "chunking",
    "datasets": "",
    "depth": "",
    "diagnose": "diagnosis",
    "gradient_stats": "stats",
    "mitigations": "",
    "plotting": "",
    "pretraining": "",
    "sklearn": "",
    "testing": "",
    "theory": "",
}


def __getattr__(name: str) -> Any:
    """Load a part of the package when it is first used."""
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = import_module(f".{module or name}", __name__)
    if module:
        value = getattr(value, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, those that are loaded later too."""
    return sorted({*__all__, *globals()})
