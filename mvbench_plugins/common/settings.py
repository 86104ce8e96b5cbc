"""Settings that come as a dict of a config, such as ``train_cfg`` and ``test_cfg`` of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def complete_settings(name: str, given: Mapping[str, Any] | None, **defaults: Any) -> dict[str, Any]:
    """Defaults, and what is given in their place.

    Args:
        name: what the config calls them, for the message.
        given: some or all of them, or None.
        defaults: all that there are.

    Raises:
        ValueError: there is no such setting.
    """
    unknown = sorted((given or {}).keys() - defaults.keys())
    if unknown:
        raise ValueError(f'{name}: found {unknown}, expected some of {sorted(defaults)}')
    return defaults | dict(given or {})
