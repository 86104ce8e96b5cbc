"""Inferencers, one per task. They are imported on first use, since each needs another toolbox."""

from importlib import import_module
from typing import Any

_MODULES = {
    'ActionDetInferencer': 'action_det_inferencer',
    'MultiViewDet3DInferencer': 'multiview_det3d_inferencer',
    'PersonDetector': 'person_detector',
    'VOSInferencer': 'vos_inferencer',
}

__all__ = ['ActionDetInferencer', 'MultiViewDet3DInferencer', 'PersonDetector', 'VOSInferencer']


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'{__name__}.{_MODULES[name]}'), name)
