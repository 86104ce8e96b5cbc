"""Reading foreign pickles without running foreign code.

Released checkpoints of this family often pickle objects of their own code base (config nodes, memory pools) beside the
tensors. The unpickler here builds tensors and plain containers only; everything else becomes an inert placeholder.
Annotation files hold numpy arrays and plain containers; there, anything else is refused.
"""

from __future__ import annotations

import builtins
import codecs
import pickle
import zipfile
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

_BUILTINS = 'bool bytearray bytes complex dict float frozenset int list set slice str tuple'.split()
_REBUILD = '_rebuild_tensor _rebuild_tensor_v2 _rebuild_parameter'.split()
_ALLOWED: dict[tuple[str, str], Any] = {
    ('collections', 'OrderedDict'): OrderedDict,
    ('torch', 'Size'): torch.Size,
    ('torch', 'device'): torch.device,
    ('numpy', 'ndarray'): np.ndarray,
    ('numpy', 'dtype'): np.dtype,
    ('_codecs', 'encode'): codecs.encode,
}
_ALLOWED |= {(module, name): getattr(builtins, name) for module in ('builtins', '__builtin__') for name in _BUILTINS}
_ALLOWED |= {('torch._utils', name): getattr(torch._utils, name) for name in _REBUILD}
_ALLOWED |= {('torch', name): value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
_ALLOWED |= {
    (f'numpy.{core}.multiarray', name): getattr(np._core.multiarray, name)
    for core in ('core', '_core')
    for name in ('_reconstruct', 'scalar')
}
_PLAIN = {key: value for key, value in _ALLOWED.items() if not key[0].startswith('torch')}
_PLAIN |= {('collections', 'defaultdict'): defaultdict}
_PLAIN |= {(f'numpy.{core}.numeric', '_frombuffer'): np._core.numeric._frombuffer for core in ('core', '_core')}


class Placeholder:
    """Stands for an object of a class that is not built; accepts whatever a pickle does to it and does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Placeholder:
        """Accepts any arguments."""
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> Placeholder:
        """Stands for the result of a foreign function, too."""
        return self

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def _ignore(self, value: Any) -> None:
        pass

    append = extend = add = _ignore

    def __hash__(self) -> int:
        return id(self)


def load_inert(path: str | Path) -> tuple[Any, Counter[str]]:
    """Load a PyTorch checkpoint to the CPU, building tensors and plain containers only.

    Args:
        path: file written by ``torch.save``, of any age.

    Returns:
        The content, and how often each foreign class or function was asked for and replaced.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a readable checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint {path} does not exist')
    if _is_program(path):
        raise ValueError(f'checkpoint {path} is a TorchScript program, not a file of weights')
    replaced: Counter[str] = Counter()

    class InertUnpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if (module, name) in _ALLOWED:
                return _ALLOWED[module, name]
            replaced[f'{module}.{name}'] += 1
            return type(name.rpartition('.')[2], (Placeholder,), {'__module__': module})

    inert_pickle = ModuleType('inert_pickle')
    vars(inert_pickle).update(
        Unpickler=InertUnpickler, load=lambda file, **kwargs: InertUnpickler(file, **kwargs).load()
    )
    try:
        content = torch.load(path, map_location='cpu', pickle_module=inert_pickle, weights_only=False)
    except Exception as error:
        raise unreadable(path, error) from error
    return content, replaced


def _is_program(path: Path) -> bool:
    try:
        return any(name.endswith('/constants.pkl') for name in zipfile.ZipFile(path).namelist())
    except Exception:  # no zip archive, or a damaged one, which the loader will tell
        return False


def load_plain_pickle(path: str | Path) -> Any:
    """Load a pickle of numpy arrays and plain containers, such as the annotation files that Python 2 wrote.

    Args:
        path: file written by ``pickle.dump`` of Python 2 or 3, any protocol.

    Returns:
        The content; byte strings of Python 2 are read as latin1 text.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a readable pickle, or one that asks for any other class or function.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'annotation file {path} does not exist: check data_root and ann_file')

    class PlainUnpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if (module, name) not in _PLAIN:
                raise pickle.UnpicklingError(f'it asks for {module}.{name}, which is not built from a file of data')
            return _PLAIN[module, name]

    try:
        with path.open('rb') as file:
            return PlainUnpickler(file, encoding='latin1').load()
    except Exception as error:  # a damaged pickle raises nearly anything
        raise ValueError(
            f'{path} ({path.stat().st_size} bytes) cannot be read as a pickle of arrays and plain containers: '
            f'{str(error) or type(error).__name__}. Download or copy it again.'
        ) from error


def as_array(value: Any) -> np.ndarray:
    """A value of a pickle as an array; an empty one of objects where it is none, such as rows of unequal lengths."""
    try:
        return np.asarray(value)
    except ValueError:
        return np.empty(0, object)


def unreadable(path: Path, error: Exception) -> ValueError:
    """The error for a file that is no checkpoint, or only a part of one."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ValueError(
        f'checkpoint {path} ({path.stat().st_size} bytes) cannot be read: it is truncated or no PyTorch checkpoint. '
        f'Download or copy it again. ({reason})'
    )
