"""LinK: from a recorded case to our outputs."""

from __future__ import annotations

from typing import Any

from adapters.link_segmentation import run_blocks, run_segmentation
from mmdet3d.utils import register_all_modules

import mvbench_plugins.link  # noqa: F401  registers


def run(case) -> tuple[dict[str, Any], dict[str, str]]:
    """Our outputs for a case under their recorded names, and what is left out."""
    register_all_modules()
    settings = case.meta['settings']
    kind = 'modules' if {'det', 'seg'} & set(settings) else 'segmentation' if 'network' in settings else 'detection'
    case.meta.setdefault('kind', kind)  # this system's cases do not say it themselves
    if kind == 'modules':
        return run_blocks(case), {}
    if kind == 'segmentation':
        return run_segmentation(case), {}
    # Detection needs spconv, which the other cases do without.
    from adapters import link_detection

    return link_detection.run(case)
