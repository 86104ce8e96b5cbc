"""Tells a user whose torch or OpenMMLab packages are missing or of another generation what to do, before one fails."""

import importlib
import importlib.util
import re
from importlib import metadata

Version = tuple[int, ...]

# Module name -> (distribution, first supported version, first version that is not supported any more).
_SUPPORTED: dict[str, tuple[str, Version, Version]] = {
    # the first that loads checkpoints with weights_only=True, and lets a stand-in take the place of a name in them
    'torch': ('torch', (2, 6, 0), (3, 0, 0)),
    'mmengine': ('mmengine', (0, 10, 0), (1, 0, 0)),
    'mmcv': ('mmcv', (2, 1, 0), (2, 2, 0)),
    'mmdet': ('mmdet', (3, 2, 0), (3, 4, 0)),
    'mmaction': ('mmaction2', (1, 2, 0), (1, 3, 0)),
    'mmdet3d': ('mmdet3d', (1, 4, 0), (1, 5, 0)),
}
# What a toolbox asserts or imports itself besides the foundation, in the order in which a user should mend it.
_NEEDS = {
    'mmdet': ('mmcv', 'mmdet'),
    'mmaction': ('mmcv', 'mmaction'),
    'mmdet3d': ('mmcv', 'mmdet', 'mmdet3d'),
}
_SETUP = 'run `bash tools/setup_env.sh` in a checkout of mvbench_plugins'


def check_foundation() -> None:
    """Verifies what every toolbox and every command needs: torch, mmengine and setuptools' pkg_resources.

    Only package metadata is read; nothing heavy is imported.

    Raises:
        ImportError: A package is missing, too old or too new. The message names it, what was found, what is expected
            and the command that mends it.
    """
    # setuptools 82 dropped pkg_resources, without which `_base_ = 'mmdet::...'` and every mim command fail.
    if importlib.util.find_spec('pkg_resources') is None:
        raise ImportError(
            f'mvbench_plugins: pkg_resources is missing (setuptools {_found("setuptools") or "not"} installed), '
            "expected setuptools<82, because mmengine and mim import it. Run: pip install 'setuptools<82'"
        )
    _check_package('torch')
    _check_package('mmengine')


def check_toolbox(name: str) -> None:
    """Verifies that a toolbox and the packages below it are installed in versions the suite supports.

    Args:
        name: Module name of the toolbox: ``'mmdet'``, ``'mmaction'`` or ``'mmdet3d'``.

    Raises:
        ImportError: As :func:`check_foundation`.
        ValueError: ``name`` is none of the toolboxes.
    """
    if name not in _NEEDS:
        raise ValueError(f'unknown toolbox {name!r}, expected one of {", ".join(_NEEDS)}')
    check_foundation()
    for module in _NEEDS[name]:
        _check_package(module)


def check_operators() -> None:
    """Verifies that mmcv's compiled operators load, if they are there. Imports mmcv.

    Raises:
        ImportError: They do not, as after an update of torch: compiled code goes with one version of torch only.
    """
    try:
        importlib.import_module('mmcv._ext')
    except ModuleNotFoundError:
        return  # check_toolbox tells who has no mmcv, or one without operators
    except ImportError as error:
        raise ImportError(
            f'mvbench_plugins: the operators of mmcv {_found("mmcv")} do not load with torch {_found("torch")}; '
            f'they were probably compiled for another one. To compile them anew, {_SETUP}. The loader said: {error}'
        ) from error


def _check_package(module: str) -> None:
    distribution, minimum, limit = _SUPPORTED[module]
    expected = f'>={_text(minimum)},<{_text(limit)}'
    found = _found(distribution)
    if found is not None and minimum <= _parse(found) < limit:
        return
    if module == 'mmcv':
        lite = ' (mmcv-lite is installed, but it has no compiled operators)' if _found('mmcv-lite') else ''
        remedy = f'To compile mmcv 2.1.0 with its operators for your torch, {_SETUP}{lite}'
    elif module == 'torch':
        remedy = (
            f"Run: pip install 'torch{expected}' (the build for your CPU or CUDA version), then {_SETUP}, which "
            "compiles mmcv's operators for it"
        )
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
    """Returns the leading numbers of a version, three at least: ``'2.1rc1+cu130'`` gives ``(2, 1, 0)``."""
    numbers = [int(number) for number in re.findall(r'\d+', re.split(r'[^\d.]', version)[0])]
    return (*numbers, *[0] * (3 - len(numbers)))


def _text(version: Version) -> str:
    return '.'.join(map(str, version))
