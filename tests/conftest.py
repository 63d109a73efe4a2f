"""Test layer: how hard hypothesis looks (HYPOTHESIS_PROFILE = dev, ci or intense), and where shared helpers
are."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

try:
    from hypothesis import HealthCheck, settings
except ImportError:  # the tests that draw networks say so themselves
    settings = None  # type: ignore[assignment,misc]

if settings is not None:
    # A slow machine must not fail a test: no deadline.  In ci every run draws the same examples.
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    settings.register_profile("dev", max_examples=25, deadline=None, suppress_health_check=slow)
    settings.register_profile(
        "ci", max_examples=100, deadline=None, derandomize=True, suppress_health_check=slow
    )
    settings.register_profile("intense", max_examples=2000, deadline=None, suppress_health_check=slow)
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))
