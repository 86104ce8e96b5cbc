"""EVA-02 with its pyramid once more, straight from the papers and in float64, on weights under official names."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def _cubic_matrix(out: int, into: int) -> Tensor:
    """Bicubic interpolation along one axis: what each of ``out`` cells takes of ``into`` cells of the same extent."""
    matrix = torch.zeros(out, into, dtype=torch.float64)
    for i in range(out):
        place = (i + 0.5) * into / out - 0.5
        for j in range(int(place // 1) - 1, int(place // 1) + 3):
            t = abs(place - j)
            if t <= 1:
                weight = 1.25 * t**3 - 2.25 * t**2 + 1
            else:
                weight = -0.75 * (t**3 - 5 * t**2 + 8 * t - 4)
            matrix[i, min(max(j, 0), into - 1)] += weight
    return matrix


def _resize(table: Tensor, height: int, width: int) -> Tensor:
    """``[H, W, C]`` to ``[height, width, C]``."""
    return torch.einsum('ih,jw,hwc->ijc', _cubic_matrix(height, len(table)), _cubic_matrix(width, len(table[0])), table)


def _norm(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return scaled * weights[f'{name}.weight'] + weights[f'{name}.bias']


def _linear(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ weights[f'{name}.weight'].T + weights[f'{name}.bias']


def _turns(grid: int, head: int) -> Tensor:
    """exp(i angle) of each token and pair of channels of a square grid, ``[grid, grid, head / 2]`` complex."""
    angles = torch.zeros(grid, grid, head // 2, dtype=torch.float64)
    for row in range(grid):
        for column in range(grid):
            for pair in range(head // 2):
                position, index = (row, pair) if pair < head // 4 else (column, pair - head // 4)
                angles[row, column, pair] = position * 16 / grid / 10000 ** (2 * index / (head // 2))
    return torch.polar(torch.ones_like(angles), angles)


def _attention(weights: dict[str, Tensor], name: str, x: Tensor, turns: Tensor, heads: int) -> Tensor:
    """Among the tokens of one image or window, ``[N, C]``."""
    query = x @ weights[f'{name}.q_proj.weight'].T + weights[f'{name}.q_bias']
    key = x @ weights[f'{name}.k_proj.weight'].T
    value = x @ weights[f'{name}.v_proj.weight'].T + weights[f'{name}.v_bias']
    mixed = []
    for part in range(heads):
        size = x.shape[1] // heads
        q, k, v = (y[:, part * size : (part + 1) * size] for y in (query, key, value))
        q, k = (torch.view_as_real(torch.view_as_complex(y.reshape(len(y), -1, 2)) * turns).flatten(1) for y in (q, k))
        logits = q @ k.T / size**0.5
        weight = (logits - logits.amax(1, keepdim=True)).exp()
        mixed.append(weight / weight.sum(1, keepdim=True) @ v)
    return _linear(weights, f'{name}.proj', torch.cat(mixed, dim=1))


def _block(weights: dict[str, Tensor], design: dict, index: int, x: Tensor) -> Tensor:
    """One image ``[h, w, C]``."""
    name, heads = f'backbone.net.blocks.{index}', design['num_heads']
    height, width, dims = x.shape
    y = _norm(weights, f'{name}.norm1', x)
    if index in design['global_blocks']:
        turns = _turns(design['rotary_grid'], dims // heads)
        turns = torch.complex(_resize(turns.real, height, width), _resize(turns.imag, height, width))
        y = _attention(weights, f'{name}.attn', y.flatten(0, 1), turns.flatten(0, 1), heads).view(x.shape)
    else:
        window = design['window']
        turns = _turns(window, dims // heads).flatten(0, 1)
        out = torch.zeros_like(y)
        for top in range(0, height, window):
            for left in range(0, width, window):
                inside = y[top : top + window, left : left + window]
                cell = torch.zeros(window, window, dims, dtype=y.dtype)
                cell[: inside.shape[0], : inside.shape[1]] = inside
                cell = _attention(weights, f'{name}.attn', cell.flatten(0, 1), turns, heads).view(cell.shape)
                out[top : top + window, left : left + window] = cell[: inside.shape[0], : inside.shape[1]]
        y = out
    x = x + y
    y = _norm(weights, f'{name}.norm2', x)
    gate = _linear(weights, f'{name}.mlp.w1', y)
    y = gate * gate.sigmoid() * _linear(weights, f'{name}.mlp.w2', y)
    return x + _linear(weights, f'{name}.mlp.w3', _norm(weights, f'{name}.mlp.ffn_ln', y))


def _upsample(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """Each cell of ``[h, w, C]`` becomes 2x2 cells."""
    height, width, _ = x.shape
    cells = torch.einsum('hwc,coij->hiwjo', x, weights[f'{name}.weight'])
    return cells.reshape(2 * height, 2 * width, -1) + weights[f'{name}.bias']


def _level(weights: dict[str, Tensor], level: int, first: int, x: Tensor) -> Tensor:
    for i in (first, first + 1):
        name = f'backbone.simfp_{level}.{i}'
        kernel = weights[f'{name}.weight']
        x = F.conv2d(x.permute(2, 0, 1), kernel, padding=kernel.shape[-1] // 2).permute(1, 2, 0)
        x = _norm(weights, f'{name}.norm', x)
    return x


def reference(weights: dict[str, Tensor], design: dict, image: Tensor) -> list[Tensor]:
    """All levels of one image ``[3, H, W]``, ``[h, w, out_channels]``."""
    patch, dims = design['patch_size'], design['embed_dims']
    height, width = (size // patch for size in image.shape[1:])
    patches = image.view(3, height, patch, width, patch).permute(1, 3, 0, 2, 4).flatten(2)
    x = patches @ weights['backbone.net.patch_embed.proj.weight'].flatten(1).T
    x = x + weights['backbone.net.patch_embed.proj.bias']
    x = x + _resize(weights['backbone.net.pos_embed'][0, 1:].view(14, 14, dims), height, width)
    for index in range(design['depth']):
        x = _block(weights, design, index, x)
    finest = _norm(weights, 'backbone.simfp_2.1', _upsample(weights, 'backbone.simfp_2.0', x))
    finest = _upsample(weights, 'backbone.simfp_2.3', finest * 0.5 * (1 + torch.erf(finest / 2**0.5)))
    coarse = x[: height // 2 * 2, : width // 2 * 2].reshape(height // 2, 2, width // 2, 2, dims).amax((1, 3))
    levels = [
        _level(weights, 2, 4, finest),
        _level(weights, 3, 1, _upsample(weights, 'backbone.simfp_3.0', x)),
        _level(weights, 4, 0, x),
        _level(weights, 5, 1, coarse),
    ]
    return [*levels, levels[-1][::2, ::2]]
