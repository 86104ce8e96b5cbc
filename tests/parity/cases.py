"""Recorded cases of the published implementations: recipes for what goes in, numbers that came out.

A case is ``<name>.json`` (a recipe for every weight, under its official checkpoint key, and for every input; tolerance
of every output) beside ``<name>.npz`` (recorded outputs, and inputs no recipe can give). Weights and inputs are redrawn
from their recipes, so that a full-size model costs a few kilobytes.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass
class Comparison:
    """The table of one case and its verdict."""

    rows: list[str]
    failed: list[str]
    compared: int


@dataclass
class Case:
    """One recorded case."""

    path: Path
    meta: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def system(self) -> str:
        """Name of the published system, lower case."""
        return self.meta['system'].lower()

    @property
    def kind(self) -> str:
        """What was recorded: an inference, a training step, single modules; or their task, or nothing."""
        return self.meta.get('kind') or self.meta.get('task') or ''

    @property
    def official_config(self) -> str:
        """Stem of the official config file, or what is said in place of one."""
        config = self.meta['reference']['config']
        return config if ' ' in config else Path(config).stem

    def state_dict(self) -> dict[str, Tensor]:
        """Drawn weights under official key names."""
        return {key: self._draw(f'weight:{key}', recipe) for key, recipe in self.meta['state_dict'].items()}

    def inputs(self) -> dict[str, Tensor]:
        """Drawn inputs."""
        return {key: self._draw(f'input:{key}', recipe) for key, recipe in self.meta['inputs'].items()}

    def _draw(self, name: str, recipe: Mapping[str, Any]) -> Tensor:
        if 'npz' in recipe:
            return torch.as_tensor(self.arrays[recipe['npz']])
        dtype = getattr(torch, recipe.get('dtype', 'float32'))
        if 'value' in recipe:
            return torch.tensor(recipe['value'], dtype=dtype).reshape(recipe['shape'])
        # One stream per tensor: the order of drawing does not matter.
        generator = np.random.Generator(np.random.Philox(key=[int(self.meta['seed']), zlib.crc32(name.encode())]))
        shape = tuple(recipe['shape'])
        if 'low' not in recipe:
            values = generator.standard_normal(shape, dtype=np.float32) * recipe['std'] + recipe['mean']
            values = np.abs(values) if recipe.get('positive') else values
        elif dtype.is_floating_point:
            values = generator.random(shape, dtype=np.float32) * (recipe['high'] - recipe['low']) + recipe['low']
        else:
            values = generator.integers(recipe['low'], recipe['high'], shape)
        return torch.as_tensor(np.asarray(values)).to(dtype).reshape(shape)

    def compare(self, got: Mapping[str, Tensor], left_out: Mapping[str, str] = {}) -> Comparison:
        """Compare outputs at their recorded tolerance, sampled ones at the recorded positions.

        Args:
            got: outputs under their recorded names.
            left_out: outputs our design does not have, with the reason.
        """
        result = Comparison([], [], 0)
        for name, spec in self.meta['outputs'].items():
            if name in left_out:
                result.rows.append(f'{name:<72} left out: {left_out[name]}')
                continue
            result.compared += 1
            verdict, passed = self._compare_one(name, spec, got.get(name))
            result.rows.append(f'{name:<72} {verdict}{"" if passed else "   FAILED"}')
            if not passed:
                result.failed.append(name)
        return result

    def _compare_one(self, name: str, spec: Mapping[str, Any], value: Tensor | None) -> tuple[str, bool]:
        if value is None:
            return 'missing', False
        value = torch.as_tensor(value).detach().cpu()
        if list(value.shape) != list(spec['shape']):
            return f'shape {tuple(value.shape)}, recorded {tuple(spec["shape"])}', False
        value = value.double().flatten()
        if 'index' in spec:
            value = value[torch.as_tensor(self.arrays[spec['index']]).long()]
        want = torch.as_tensor(self.arrays[f'output:{name}']).double().flatten()
        outside = ~torch.isclose(value, want, rtol=spec['rtol'], atol=spec['atol'])
        error = float((value - want).norm() / want.norm().clamp_min(1e-12))
        passed = np.isfinite(error) and float(outside.float().mean()) <= spec.get('allow', 0.0)
        return f'rel {error:9.2e}  outside {int(outside.sum()):5d} of {outside.numel():5d}', bool(passed)


def load_case(path: str | Path) -> Case:
    """Load a case by its path, with or without suffix.

    Raises:
        FileNotFoundError: one of the two files is missing.
    """
    path = Path(path)
    stem = path.with_suffix('') if path.suffix in ('.json', '.npz') else path
    files = [stem.with_name(stem.name + suffix) for suffix in ('.json', '.npz')]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f'{file} not found: a case is a .json and a .npz file beside each other')
    with np.load(files[1]) as archive:
        arrays = {key: archive[key] for key in archive.files}
    return Case(stem, json.loads(files[0].read_text()), arrays)
