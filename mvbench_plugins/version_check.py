"""Tells a user whose OpenMMLab packages are missing or of another generation what to do before an import fails."""

import importlib.util
import re
from importlib import metadata

Version = tuple[int, ...]

# Module name -> (distribution, first supported version, first version that is not supported any more).
_SUPPORTED: dict[str, tuple[str, Version, Version]] = {
    'mmengine': ('mmengine', (0, 10, 0), (1, 0, 0)),
    'mmcv': ('mmcv', (2, 1, 0), (2, 2, 0)),
    'mmdet': ('mmdet', (3, 2, 0), (3, 4, 0)),
    'mmaction': ('mmaction2', (1, 2, 0), (1, 3, 0)),
    'mmdet3d': ('mmdet3d', (1, 4, 0), (1, 5, 0)),
}
# What a toolbox asserts or imports itself, in the order in which a user should mend it.
_NEEDS = {
    'mmdet': ('mmengine', 'mmcv', 'mmdet'),
    'mmaction': ('mmengine', 'mmcv', 'mmaction'),
    'mmdet3d': ('mmengine', 'mmcv', 'mmdet', 'mmdet3d'),
}
_SETUP = 'run `bash tools/setup_env.sh` in a checkout of mvbench_plugins'


def check_toolbox(name: str) -> None:
    """Verifies that a toolbox and the packages below it are installed in versions the suite supports.

    Only package metadata is read; nothing heavy is imported.

    Args:
        name: Module name of the toolbox: ``'mmdet'``, ``'mmaction'`` or ``'mmdet3d'``.

    Raises:
        ImportError: A package is missing, too old or too new. The message names it, what was found, what is expected
            and the command that mends it.
        ValueError: ``name`` is none of the toolboxes.
    """
    if name not in _NEEDS:
        raise ValueError(f'unknown toolbox {name!r}, expected one of {", ".join(_NEEDS)}')
    # setuptools 82 dropped pkg_resources, without which `_base_ = 'mmdet::...'` and every mim command fail.
    if importlib.util.find_spec('pkg_resources') is None:
        raise ImportError(
            f'mvbench_plugins: pkg_resources is missing (setuptools {_found("setuptools") or "not"} installed), '
            "expected setuptools<82, because mmengine and mim import it. Run: pip install 'setuptools<82'"
        )
    for module in _NEEDS[name]:
        _check_package(module)


def _check_package(module: str) -> None:
    distribution, minimum, limit = _SUPPORTED[module]
    expected = f'>={_text(minimum)},<{_text(limit)}'
    found = _found(distribution)
    if found is not None and minimum <= _parse(found) < limit:
        return
    if module == 'mmcv':
        lite = ' (mmcv-lite is installed, but it has no compiled operators)' if _found('mmcv-lite') else ''
        remedy = f'To compile mmcv 2.1.0 with its operators for your torch, {_SETUP}{lite}'
    else:
        # --no-deps: the metadata of the mm packages asks for numpy<2 and a second OpenCV.
        remedy = f"Run: pip install --no-deps '{distribution}{expected}' (or {_SETUP})"
    state = 'is not installed' if found is None else f'{found} is installed'
    raise ImportError(f'mvbench_plugins: {distribution} {state}, expected {distribution}{expected}. {remedy}')


def _found(distribution: str) -> str | None:
    """Returns the installed version, None if the distribution is not there."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _parse(version: str) -> Version:
    """Returns the leading numbers of a version: ``'2.1.0rc1+cu130'`` gives ``(2, 1, 0)``."""
    return tuple(int(number) for number in re.match(r'[\d.]*\d|', version).group().split('.') if number)


def _text(version: Version) -> str:
    return '.'.join(map(str, version))
