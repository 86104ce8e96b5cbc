"""What the last releases of the mm libraries need on today's PyTorch and numpy.

One small function for each break; its docstring tells the error it cures and the release that will make it
unnecessary. Every function may be called again, and leaves alone what works: a name that numpy still has stays
numpy's own, and a machine with an accelerator keeps mmengine's distributed set-up. :func:`apply` runs them all; each
plugin calls it on import, and the tools call it before they read a config.

The releases meant here are mmengine 0.10.7, mmcv 2.1.0, mmdet 3.3.0, mmaction2 1.2.0 and mmdet3d 1.4.0, on
PyTorch >= 2.6 (the first that loads checkpoints with ``weights_only=True``).
"""

import os
import pickle
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import IO, Any

import mmengine.dist.utils as dist_utils
import mmengine.hooks.checkpoint_hook as mmengine_checkpoint_hook
import mmengine.runner as mmengine_runner
import mmengine.runner.checkpoint as mmengine_checkpoint
import mmengine.runner.runner as mmengine_runner_module
import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.logging import HistoryBuffer
from mmengine.model import MMDistributedDataParallel
from mmengine.runner import Runner
from mmengine.visualization import Visualizer

from .common.whole_files import written_whole
from .common.work_dir_lock import locked_work_dir
from .version_check import check_foundation, check_operators

_HISTORY_STATISTICS = ('current', 'max', 'mean', 'min')


def apply() -> None:
    """Applies every repair of this module.

    Raises:
        ImportError: torch or mmengine is of a version that the repairs are not for, or mmcv was compiled for another
            torch; see :mod:`.version_check`.
    """
    check_foundation()
    check_operators()
    quiet_pkg_resources()
    allow_mmengine_checkpoints()
    distrust_urls()
    save_checkpoints_whole()
    lock_work_dirs()
    allow_cpu_process_groups()
    allow_cpu_model_wrapper()
    keep_size_of_pictures()
    restore_numpy_nan()
    restore_numpy_inf()
    restore_numpy_float()
    restore_numpy_trapz()
    restore_numpy_in1d()


def quiet_pkg_resources() -> None:
    """Silences the one warning that every command prints and nobody can act on.

    Cures: ``UserWarning: pkg_resources is deprecated as an API`` from mmengine's ``get_installed_path``, which every
    ``_base_ = 'mmdet::...'`` calls. The suite pins setuptools < 82, the last that has pkg_resources.
    Upstream: open-mmlab/mmcv#3325. Unnecessary once mmengine (0.10.7 and before) stops importing pkg_resources.
    """
    warnings.filterwarnings('ignore', message='pkg_resources is deprecated as an API', category=UserWarning)


def allow_mmengine_checkpoints() -> None:
    """Lets ``torch.load(weights_only=True)`` read the checkpoints that mmengine's Runner writes, and no more.

    Cures: ``_pickle.UnpicklingError: Weights only load failed ... Unsupported global: GLOBAL
    mmengine.logging.history_buffer.HistoryBuffer was not an allowed global by default`` on resume, test, ``load_from``
    and in every inferencer: beside tensors such a file holds log histories, numpy arrays and numpy scalars.
    The files also name ``builtins.getattr``, to store four methods of HistoryBuffer. The real getattr would let a
    hostile file reach any object, so a stand-in that knows just these four methods takes its place while loading.
    Tables in a data set's metainfo, as SemanticKITTI's, come as ``ConfigDict``: a dict, here without lazy objects.
    Upstream: open-mmlab/mmengine#1655 and pull request #1650. Unnecessary once a release of mmengine after 0.10.7
    contains that.
    """
    multiarray = np._core.multiarray if hasattr(np, '_core') else np.core.multiarray
    scalars = [type(np.dtype(code)) for code in '?bBhHiIlLqQefdgFD']
    torch.serialization.add_safe_globals(
        [
            HistoryBuffer,
            ConfigDict,
            (_history_getattr, 'builtins.getattr'),
            np.ndarray,
            np.dtype,
            *scalars,
            # numpy 1 and numpy 2 write different module paths for the same two functions
            (multiarray._reconstruct, 'numpy.core.multiarray._reconstruct'),
            (multiarray._reconstruct, 'numpy._core.multiarray._reconstruct'),
            (multiarray.scalar, 'numpy.core.multiarray.scalar'),
            (multiarray.scalar, 'numpy._core.multiarray.scalar'),
        ]
    )


def distrust_urls() -> None:
    """Lets mmengine read what it downloads with ``weights_only=True``, as ``torch.load`` reads local files.

    Cures: no error. ``torch.hub.load_state_dict_from_url``, which mmengine calls, runs whatever code a file asks for
    unless it is told not to.
    Upstream: no issue found. Unnecessary once torch (2.13 and before) changes that default.
    """
    if not isinstance(mmengine_checkpoint.load_url, partial):
        mmengine_checkpoint.load_url = partial(mmengine_checkpoint.load_url, weights_only=True)


def save_checkpoints_whole() -> None:
    """Lets a checkpoint on a local disk, and the file ``last_checkpoint``, replace older ones only when it is whole.

    Cures: ``RuntimeError: PytorchStreamReader failed reading zip archive`` on resume, after a run was killed, or found
    the disk full, while it saved. mmengine writes over the files in place, and after a new best score it saves the
    checkpoint that ``last_checkpoint`` names a second time. It also removes outdated ones, such as the best one until
    then, before the new one is written; here they wait for that.
    Upstream: no issue found. Unnecessary once mmengine (0.10.7 and before) writes to a temporary name first.
    """
    save = mmengine_checkpoint.save_checkpoint
    if save.__module__ == __name__:
        return
    outdated: list[str] = []

    class LateRemoval(LocalBackend):
        def remove(self, filepath: str | os.PathLike) -> None:
            outdated.append(os.fspath(filepath))

    def backend_of_hook(out_dir: str, backend_args: dict | None = None) -> Any:
        outdated.clear()  # of a run before, in this process, that failed to write the new one
        backend = get_file_backend(out_dir, backend_args=backend_args)
        return LateRemoval() if type(backend) is LocalBackend else backend

    def save_checkpoint(
        checkpoint: dict, filename: str, file_client_args: dict | None = None, backend_args: dict | None = None
    ) -> None:
        elsewhere = file_client_args is not None or '://' in filename
        if elsewhere or not isinstance(get_file_backend(filename, backend_args=backend_args), LocalBackend):
            save(checkpoint, filename, file_client_args, backend_args)
            return
        os.makedirs(os.path.dirname(filename) or '.', exist_ok=True)
        try:
            with written_whole(filename) as part:
                save(checkpoint, part, backend_args=backend_args)
        except OSError as error:
            error.add_note('Earlier checkpoints are whole: go on from the last one with --resume, once this is mended')
            raise
        for path in outdated:
            if path != filename:
                os.remove(path)
        outdated.clear()

    mmengine_checkpoint_hook.get_file_backend = backend_of_hook
    for module in (mmengine_checkpoint, mmengine_runner, mmengine_runner_module):
        module.save_checkpoint = save_checkpoint
    # the hook opens one file only, last_checkpoint
    mmengine_checkpoint_hook.open = _open_whole


def lock_work_dirs() -> None:
    """Lets only one run at a time train in a work dir; the first of its processes holds a lock file.

    Cures: no error. Two runs with one work dir write checkpoints of the same names, and remove each other's.
    Upstream: no issue found. Unnecessary once ``Runner.train`` of mmengine (0.10.7 and before) refuses that.
    """
    train = Runner.train
    if train.__module__ == __name__:
        return

    def train_alone(self: Runner) -> torch.nn.Module:
        with locked_work_dir(self.work_dir) if is_main_process() else nullcontext():
            return train(self)

    train_alone.__doc__ = train.__doc__
    Runner.train = train_alone


def allow_cpu_process_groups() -> None:
    """Lets mmengine's launchers start processes on a machine without an accelerator, over gloo.

    Cures: ``AttributeError: module 'torch._C' has no attribute '_cuda_setDevice'`` and, behind it, ``RuntimeError:
    Distributed package doesn't have NCCL built in``: mmengine selects a GPU and the NCCL backend without looking.
    Upstream: no issue found. Unnecessary once mmengine (0.10.7 and before) checks for CUDA in ``init_dist``.
    """
    if get_device() != 'cpu':
        return
    for name in ('_init_dist_pytorch', '_init_dist_slurm', '_init_dist_mpi'):
        launch = getattr(dist_utils, name)
        if launch.__module__ != __name__:
            setattr(dist_utils, name, _over_gloo(launch))


def allow_cpu_model_wrapper() -> None:
    """Lets mmengine's model wrapper hold a model that lives on the CPU.

    Cures: ``ValueError: DistributedDataParallel device_ids and output_device arguments only work with single-device/
    multiple-device GPU modules or CPU modules, but got device_ids [0]``: the Runner always passes the local rank.
    Upstream: no issue found. Unnecessary once mmengine (0.10.7 and before) checks for CUDA in ``Runner.wrap_model``.
    """
    init = MMDistributedDataParallel.__init__
    if get_device() != 'cpu' or init.__module__ == __name__:
        return

    def init_on_cpu(self: MMDistributedDataParallel, *args: Any, **kwargs: Any) -> None:
        kwargs.pop('device_ids', None)
        init(self, *args, **kwargs)

    MMDistributedDataParallel.__init__ = init_on_cpu


def keep_size_of_pictures() -> None:
    """Lets mmengine's visualizer draw what reaches beyond the image without a white margin around it.

    Cures: pictures of ``--show-dir`` and of the inferencers that are smaller within their frame, and shifted, when a
    box leaves the image: matplotlib enlarges the axes to show all of it.
    Upstream: no issue found. Unnecessary once mmengine (0.10.7 and before) ends autoscaling in ``set_image``.
    """
    set_image = Visualizer.set_image
    if set_image.__module__ == __name__:
        return

    def set_image_for_good(self: Visualizer, image: np.ndarray) -> None:
        set_image(self, image)
        self.ax_save.autoscale(False)

    Visualizer.set_image = set_image_for_good


def restore_numpy_nan() -> None:
    """``np.NAN``, gone with numpy 2.0.

    Cures: ``AttributeError: module 'numpy' has no attribute 'NAN'`` at the end of mmaction's AVA metric, when
    a class of the label map has no ground truth. Unnecessary with a release of mmaction2 after 1.2.0 (none announced).
    """
    _restore_numpy('NAN', np.nan)


def restore_numpy_inf() -> None:
    """``np.Inf``, gone with numpy 2.0.

    Cures: ``AttributeError: `np.Inf` was removed in the NumPy 2.0 release`` in mmaction's ``frame_extract`` and pose
    transforms. Unnecessary with a release of mmaction2 after 1.2.0 (none announced).
    """
    _restore_numpy('Inf', np.inf)


def restore_numpy_float() -> None:
    """``np.float``, gone with numpy 1.24.

    Cures: ``AttributeError: module 'numpy' has no attribute 'float'`` in mmdet's YouTube-VIS evaluator.
    Unnecessary with a release of mmdet after 3.3.0 (none announced).
    """
    _restore_numpy('float', float)


def restore_numpy_trapz() -> None:
    """``np.trapz``, gone with numpy 2.4; numpy 2.0 renamed it to ``trapezoid``.

    Cures: ``AttributeError: module 'numpy' has no attribute 'trapz'`` in mmaction's average recall.
    Unnecessary with a release of mmaction2 after 1.2.0 (none announced).
    """
    if hasattr(np, 'trapezoid'):
        _restore_numpy('trapz', np.trapezoid)


def restore_numpy_in1d() -> None:
    """``np.in1d``, gone with numpy 2.4; ``isin`` of the flattened array is the same.

    Cures: ``AttributeError: module 'numpy' has no attribute 'in1d'`` in mmaction's multi-modal metric and mmdet3d's
    instance evaluator. Unnecessary with releases of mmaction2 after 1.2.0 and mmdet3d after 1.4.0 (none announced).
    """
    _restore_numpy('in1d', _in1d)


def _history_getattr(owner: Any, name: str) -> Callable:
    """Stands for ``builtins.getattr`` while a checkpoint is read."""
    if owner is HistoryBuffer and name in _HISTORY_STATISTICS:
        return getattr(HistoryBuffer, name)
    raise pickle.UnpicklingError(
        f'Unsupported global: builtins.getattr with the arguments {owner!r} and {name!r}. Allowed are only '
        f'{_HISTORY_STATISTICS} of HistoryBuffer; files written by mmengine ask for nothing else, do not trust this one'
    )


@contextmanager
def _open_whole(path: str, mode: str) -> Iterator[IO]:
    """Stands for ``open`` where mmengine opens a file to write it."""
    with written_whole(path) as part, open(part, mode) as file:
        yield file


def _over_gloo(launch: Callable) -> Callable:
    """Wraps one of mmengine's launcher functions; ``torch.cuda.set_device`` rests while it runs."""

    def launch_over_gloo(backend: str, **kwargs: Any) -> None:
        set_device, torch.cuda.set_device = torch.cuda.set_device, lambda device: None
        try:
            launch('gloo', **kwargs)
        finally:
            torch.cuda.set_device = set_device

    return launch_over_gloo


def _restore_numpy(name: str, value: Any) -> None:
    if not hasattr(np, name):
        setattr(np, name, value)


def _in1d(ar1: Any, ar2: Any, assume_unique: bool = False, invert: bool = False) -> np.ndarray:
    return np.isin(np.ravel(ar1), ar2, assume_unique=assume_unique, invert=invert)
