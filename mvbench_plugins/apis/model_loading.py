"""From the name of a config and a checkpoint file to a model that is fully loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner.checkpoint import _load_checkpoint, _load_checkpoint_to_model
from torch import nn

import mvbench_plugins.common.checkpoint  # noqa: F401  (loads local files with errors that name them)
from mvbench_plugins import compat
from mvbench_plugins.common.suite_configs import suite_configs


def find_config(model: str | Path) -> Path:
    """Path of a config file that is given by its path, or by the name of a config of this suite.

    Raises:
        FileNotFoundError: there is none.
    """
    if Path(model).is_file():
        return Path(model)
    found = sorted(suite_configs().glob(f'*/{Path(model).name.removesuffix(".py")}.py'))
    if found and Path(model).name == str(model):
        return found[0]
    raise FileNotFoundError(
        f'config {model} does not exist: neither a file (current folder: {Path.cwd()}) nor the name of a config of '
        'this suite'
    )


def read_config(model: str | Path, options: Mapping) -> Config:
    """The config that :func:`find_config` finds, with settings of it overridden.

    Args:
        model: path, or name of a config of this suite.
        options: values by dotted names, as of ``--cfg-options``.

    Raises:
        FileNotFoundError: there is no such config.
    """
    compat.quiet_pkg_resources()
    config = Config.fromfile(find_config(model))
    config.merge_from_dict(dict(options))
    return config


def check_device(device: str | None) -> None:
    """See whether the device is there, before anything is loaded.

    Raises:
        ValueError: it is a GPU, and PyTorch finds none.
    """
    if device is not None and torch.device(device).type == 'cuda' and not torch.cuda.is_available():
        raise ValueError(f'device {device!r}: PyTorch finds no GPU here; use cpu')


def read_checkpoint(weights: str | None, cfg: Config) -> dict | None:
    """Reads a checkpoint, if there is one; an empty config takes over what the checkpoint holds.

    Args:
        weights: its file.
        cfg: config of the model.

    Raises:
        ValueError: neither of the two tells the config.
    """
    if weights is None:
        if not cfg:
            raise ValueError('found neither a config nor a checkpoint, expected one of them')
        return None
    checkpoint = _load_checkpoint(weights, map_location='cpu')
    if not cfg:
        cfg.update(_stored_config(checkpoint, weights)._cfg_dict)
    return checkpoint


def _stored_config(checkpoint: Mapping, source: str) -> Config:
    """The config that a checkpoint holds, as the runner saves it.

    Args:
        checkpoint: the loaded file.
        source: its name, for the message.

    Raises:
        ValueError: it holds none.
    """
    info = (checkpoint.get('message_hub') or {}).get('runtime_info') or {}
    text = info.get('cfg') or (checkpoint.get('meta') or {}).get('cfg')
    if text is None:
        raise ValueError(f'checkpoint {source} does not hold its config: give the config file too')
    return Config.fromstring(text, file_format='.py')


def load_strictly(model: nn.Module, checkpoint: dict, source: str) -> None:
    """Loads all weights, or none: a model with random parts would give silent nonsense.

    Args:
        model: to load into.
        checkpoint: the loaded file.
        source: name of the config, for the message.

    Raises:
        ValueError: the checkpoint is of another model.
    """
    try:
        _load_checkpoint_to_model(model, checkpoint, strict=True)
    except RuntimeError as error:
        raise ValueError(
            f'the checkpoint does not fit the model of {source}: {" ".join(str(error).split())}. Give the config that '
            'belongs to it'
        ) from error
