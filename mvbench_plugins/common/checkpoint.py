"""Checkpoints: conversion rules, direct loading of official files, and errors that say what to do."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import load_from_http
from torch import Tensor, nn

from .inert_unpickler import load_plain_pickle, unreadable


class Rule(NamedTuple):
    """How one family of official keys is renamed.

    Attributes:
        pattern: regular expression that must match the whole key.
        replacement: new key as in :func:`re.sub`, or None to leave the entry out.
    """

    pattern: str
    replacement: str | None


class Conversion(NamedTuple):
    """A converted state dict, and the official entries left out because the model has no use for them."""

    state_dict: dict[str, Tensor]
    dropped: dict[str, Tensor]

    def with_part(self, prefix: str, part: Conversion) -> Conversion:
        """Together with that of a part of the model, whose names stand below ``prefix``."""
        converted, dropped = ({prefix + key: value for key, value in entries.items()} for entries in part)
        return Conversion(self.state_dict | converted, self.dropped | dropped)


def apply_rules(state_dict: Mapping[str, Tensor], rules: Sequence[Rule]) -> Conversion:
    """Rename every key by the first rule that matches it; keys without a rule pass unchanged.

    Raises:
        ValueError: two keys would get the same name.
    """
    converted: dict[str, Tensor] = {}
    dropped: dict[str, Tensor] = {}
    for key, value in state_dict.items():
        rule = next((rule for rule in rules if re.fullmatch(rule.pattern, key)), None)
        if rule is None:
            name = key
        elif rule.replacement is None:
            dropped[key] = value
            continue
        else:
            name = re.sub(rule.pattern, rule.replacement, key)
        if name in converted:
            raise ValueError(f'checkpoint conversion: two entries would be named {name!r}, one of them {key!r}')
        converted[name] = value
    return Conversion(converted, dropped)


def strip_module(state_dict: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Names without the ``module.`` that ``DistributedDataParallel`` puts in front of all of them."""
    if all(isinstance(key, str) and key.startswith('module.') for key in state_dict):
        return {key.removeprefix('module.'): value for key, value in state_dict.items()}
    return state_dict


def convert_named(
    convert: Callable[[dict[str, Tensor]], Conversion], state_dict: Mapping[str, Tensor], source: object
) -> Conversion:
    """Convert weights, which may be those of another model or no weights at all.

    Args:
        convert: the plugin's conversion.
        state_dict: weights.
        source: the file, for messages.

    Raises:
        ValueError: naming the file: entries that are no tensors by name, or weights that the rules do not fit.
    """
    strange = [key for key, value in state_dict.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if strange:
        raise ValueError(f'{source}: entries that are no tensors among the weights: {strange[:10]}')
    try:
        return convert(dict(state_dict))
    except (LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f'{source}: the weights are damaged or of another model, the conversion cannot go on '
            f'({type(error).__name__}: {error}). Download the file again, or take the one that belongs to the config.'
        ) from error


def find_state_dict(checkpoint: Mapping) -> Mapping[str, Tensor]:
    """The weights inside a loaded checkpoint: under a customary key, which may be nested, or the mapping itself.

    Raises:
        ValueError: neither holds a mapping of names to tensors.
    """
    for key in ('state_dict', 'model_state', 'model', 'module', 'network'):
        if isinstance(checkpoint.get(key), Mapping):
            try:
                return find_state_dict(checkpoint[key])
            except ValueError:
                continue
    if any(isinstance(value, Tensor) for value in checkpoint.values()):
        return checkpoint
    raise ValueError(
        f'no weights found: expected a mapping of names to tensors, at the top or under "state_dict", "model_state", '
        f'"model", "module" or "network"; found the keys {sorted(map(str, checkpoint))[:10]}'
    )


def strict_mismatches(model: nn.Module, state_dict: Mapping[str, Tensor]) -> list[str]:
    """One line for each entry that keeps a state dict from loading strictly into a model; empty when it would."""
    expected = model.state_dict()
    return [
        *(f'missing     {key} {list(value.shape)}' for key, value in expected.items() if key not in state_dict),
        *(f'unknown     {key} {list(value.shape)}' for key, value in state_dict.items() if key not in expected),
        *(
            f'shape       {key} {list(state_dict[key].shape)}, the model has {list(value.shape)}'
            for key, value in expected.items()
            if key in state_dict and state_dict[key].shape != value.shape
        ),
    ]


def accept_official_checkpoints(model: nn.Module, convert: Callable[[dict[str, Tensor]], Conversion]) -> None:
    """Let a model load official files directly, and refuse files of another model.

    mmengine loads without ``strict`` and only logs what does not match, so that a wrong file silently leaves a model
    with random weights. With this, loading fails unless at least half of the model's own entries outside of its
    backbone are found with their shapes. (Another class count or a renamed branch still loads, with mmengine's
    warning.)

    Args:
        model: the top-level model.
        convert: the plugin's conversion; must pass the plugin's own names unchanged.
    """
    _convert_on_load(
        model,
        convert,
        elsewhere='backbone.',
        remedy='Use the config that belongs to the checkpoint. To take only the backbone from it, set '
        "model.backbone.init_cfg=dict(type='Pretrained', checkpoint=FILE, prefix='backbone.').",
    )


def accept_official_backbones(backbone: nn.Module, convert: Callable[[dict[str, Tensor]], Conversion]) -> None:
    """The same for a backbone that loads officially released pretrained files (``init_cfg`` or ``pretrained``).

    Args:
        backbone: the backbone.
        convert: conversion of the names inside of the backbone; must pass the backbone's own names unchanged.
    """
    _convert_on_load(backbone, convert, None, 'Use the pretrained file that belongs to this backbone.')


def _convert_on_load(
    module: nn.Module, convert: Callable[[dict[str, Tensor]], Conversion], elsewhere: str | None, remedy: str
) -> None:
    def hook(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, local_metadata: dict, *_) -> None:
        own = {key: state_dict.pop(key) for key in list(state_dict) if key.startswith(prefix)}
        source = local_metadata.get('source', 'The checkpoint')
        weights = {key[len(prefix) :]: value for key, value in own.items()}
        converted = convert_named(convert, weights, source).state_dict
        state_dict.update({prefix + key: value for key, value in converted.items()})
        expected = {k: v for k, v in module.state_dict().items() if elsewhere is None or not k.startswith(elsewhere)}
        matched = [k for k, v in expected.items() if k in converted and converted[k].shape == v.shape]
        # A backbone that is loaded as a part of its model has nothing to say about files without it.
        if len(matched) * 2 < len(expected) and not (prefix and not own):
            outside = f' outside of {elsewhere.rstrip(".")}' if elsewhere else ''
            raise ValueError(
                f'{source} holds weights of another model: '
                f'{len(matched)} of the {len(expected)} entries of {type(module).__name__}{outside} '
                f'were found. It has entries such as {sorted(own)[:3]}, expected are such as {sorted(expected)[:3]}. '
                f'{remedy}'
            )

    module.register_load_state_dict_pre_hook(hook)


def load_blobs(path: Path) -> dict[str, Tensor]:
    """Weights of a plain pickle of numpy arrays: the ``*.pkl`` files of the Caffe2 era.

    Args:
        path: file that holds a mapping of names to arrays, at the top or under ``blobs`` or ``model``.

    Raises:
        ValueError: the file is no such pickle; objects other than arrays and plain containers are never built.
    """
    content = load_plain_pickle(path)
    for candidate in (*(content.get(key) for key in ('blobs', 'model')), content) if isinstance(content, dict) else ():
        if isinstance(candidate, dict):
            arrays = {
                key: value
                for key, value in candidate.items()
                if isinstance(key, str) and isinstance(value, np.ndarray) and value.dtype.kind in 'biuf'
            }
            if arrays:
                return {key: _tensor(value) for key, value in arrays.items()}
    raise ValueError(f'checkpoint {path} holds no arrays by name, expected them at the top, under "blobs" or "model"')


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array, array.dtype.newbyteorder('=')))


@CheckpointLoader.register_scheme(prefixes='', force=True)
def load_local_checkpoint(filename: str, map_location: str | None = None) -> dict:
    """Mmengine's loader of local files, with errors that name the file and the remedy.

    The file's path is noted in the state dict's metadata for later messages.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no readable checkpoint, or asks for objects that are not on the allow-list.
    """
    path = Path(filename).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint {path} does not exist: check the path (current folder: {Path.cwd()})')
    if path.suffix == '.pkl':
        return _with_source(dict(state_dict=load_blobs(path)), path)
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:
        foreign = re.search(r'unsupported (global|class).*', str(error), re.IGNORECASE)
        if foreign:
            raise ValueError(
                f'checkpoint {path} contains Python objects besides tensors and was refused, since loading it could '
                f'run foreign code. If it is an officially released file, convert it: python '
                f'tools/convert_checkpoint.py PLUGIN {path} OUT.pth. ({foreign.group()})'
            ) from error
        raise unreadable(path, error) from error
    if not isinstance(checkpoint, dict):
        raise ValueError(f'checkpoint {path} holds a {type(checkpoint).__name__}, expected a dict of weights')
    if 'state_dict' not in checkpoint:
        try:
            checkpoint = dict(state_dict=find_state_dict(checkpoint))
        except ValueError as error:
            raise ValueError(f'checkpoint {path}: {error}') from None
    weights = checkpoint['state_dict']
    if not isinstance(weights, Mapping) or not all(isinstance(key, str) for key in weights):
        raise ValueError(f'checkpoint {path}: "state_dict" is no mapping of names to tensors; take another file')
    return _with_source(checkpoint, path)


@CheckpointLoader.register_scheme(prefixes=('http://', 'https://'), force=True)
def load_from_url(filename: str, map_location: str | None = None) -> dict:
    """Mmengine's loader of URLs, with an error that names the URL and the remedy, and with the same metadata.

    Weights stay where the file has them: stock backbones of mmaction look for those of their URLs elsewhere than under
    ``state_dict``.

    Raises:
        ValueError: the file cannot be downloaded, or is no readable checkpoint.
    """
    try:
        checkpoint = load_from_http(filename, map_location)
    except Exception as error:
        raise ValueError(
            f'checkpoint {filename} cannot be loaded: check the address and the connection, or download the file by '
            f'other means and give its path. ({type(error).__name__}: {error})'
        ) from error
    if isinstance(checkpoint, dict) and 'state_dict' in checkpoint:
        return _with_source(checkpoint, filename)
    return checkpoint


def _with_source(checkpoint: dict, source: Path | str) -> dict:
    """Note the file and its version in the state dict's metadata, where the hooks of a model find them."""
    weights = checkpoint['state_dict']
    metadata = getattr(weights, '_metadata', OrderedDict())
    metadata.setdefault('', {}).update(source=f'checkpoint {source}', file_version=checkpoint.get('version'))
    checkpoint['state_dict'] = OrderedDict(weights)
    checkpoint['state_dict']._metadata = metadata
    return checkpoint
