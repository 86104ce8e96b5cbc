"""Settings of the property tests: the same examples in every run, on any machine, and no files of their own."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    'suite',
    deadline=None,  # machines differ; `garbage.answer` ends what hangs
    derandomize=True,
    database=None,
    max_examples=60,
    # Files are written anew for each example, into one folder of the test.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile('suite')
