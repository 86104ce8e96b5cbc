"""Sparse convolutions of mmdet3d's own resolution: what they need on a CPU, and clear words where they are missing.

mmdet3d takes spconv 2 where it is installed and mmcv's operators otherwise. The latter exist for CUDA only. spconv's
CPU build (2.3.8) needs three things: its backward pass asks for a CUDA stream, and with several threads it now and then
gets a row wrong, both of which :func:`prepare_cpu` cures; and it refuses a bias in evaluation mode (``cpu don't support
act and bias``), which is why this plugin adds biases outside of its layers.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

_INSTALL = 'pip install --no-deps spconv==2.3.8 cumm==0.7.11 pccm ccimport pybind11 fire termcolor lark portalocker'
_INSTALL_CUDA = 'the build of spconv for your CUDA version, such as pip install spconv-cu124'


def has_spconv() -> bool:
    """Whether mmdet3d builds its sparse layers from spconv 2."""
    from mmdet3d.models.layers.spconv import IS_SPCONV2_AVAILABLE

    return IS_SPCONV2_AVAILABLE


@functools.cache
def prepare_cpu() -> None:
    """Let spconv's CPU build compute correctly, forward and backward; does nothing for other builds.

    Cures ``AssertionError: Torch not compiled with CUDA enabled`` (spconv issue 366): the stream is asked for before
    the device of the tensors is looked at, and never used on a CPU. And gathers and scatters in one thread: in two or
    more, rows are lost or counted twice in a part of the calls. Products stay in all threads.
    """
    if not has_spconv():
        return
    from spconv.cppconstants import CPU_ONLY_BUILD

    if not CPU_ONLY_BUILD:
        return
    ops, cppcore = (importlib.import_module(f'spconv.pytorch.{name}') for name in ('ops', 'cppcore'))
    for module in (ops, cppcore):
        vars(module)['get_current_stream'] = lambda: 0
    for name in ('gather_cpu', 'scatter_add_cpu'):
        setattr(ops.SpconvOps, name, staticmethod(_in_one_thread(getattr(ops.SpconvOps, name))))


def _in_one_thread(function: Callable[..., None]) -> Callable[..., None]:
    def call(*args: object) -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            function(*args)
        finally:
            torch.set_num_threads(threads)

    return call


def check_backend(device: torch.device) -> None:
    """See whether sparse convolutions exist for a device.

    Raises:
        RuntimeError: neither spconv nor mmcv has them; says what to install.
    """
    if has_spconv():
        from spconv.cppconstants import CPU_ONLY_BUILD

        if CPU_ONLY_BUILD and device.type != 'cpu':
            raise RuntimeError(
                f'LinK detection on {device}: the installed spconv is its CPU build. Install instead '
                f'{_INSTALL_CUDA}, or run on the CPU'
            )
    elif device.type == 'cpu':
        raise RuntimeError(
            'LinK detection on a CPU needs spconv 2, which is not installed (the sparse convolutions of mmcv are for '
            f'CUDA only). Install it: {_INSTALL}'
        )


def accept_both_layouts(conv: nn.Module) -> None:
    """Let a sparse convolution load weights in the layout of spconv 2 as well as in that of spconv 1 and mmcv.

    The first is ``[out, z, y, x, in]``, the other ``[z, y, x, in, out]``. mmdet3d tells them apart by a version in the
    metadata of a state dict, which plain mappings of names to tensors do not have; here their shapes tell.

    Args:
        conv: sparse convolution whose channel counts differ from its kernel size.
    """

    def hook(conv: nn.Module, state_dict: dict[str, Tensor], prefix: str, local_metadata: dict, *_: object) -> None:
        key = f'{prefix}weight'
        if key not in state_dict:
            return
        value, shape = state_dict[key], conv.weight.shape
        if value.shape != shape:
            value = next((v for v in (value.movedim(-1, 0), value.movedim(0, -1)) if v.shape == shape), value)
        if has_spconv() and local_metadata.get('version') != 2 and value.shape == shape:
            value = value.movedim(0, -1)  # which mmdet3d's loader undoes
        state_dict[key] = value

    conv.register_load_state_dict_pre_hook(hook)
