"""The sparse 3D part of CenterPoint, with LinK's block beside the 3x3x3 convolutions of every level."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from mmcv.cnn import build_conv_layer, build_norm_layer
from mmdet3d.models.layers import make_sparse_convmodule
from mmdet3d.models.layers.sparse_block import SparseConvTensor, SparseSequential, replace_feature
from mmdet3d.registry import MODELS
from mmengine.model import BaseModule
from mmengine.runner import amp
from torch import Tensor, nn

from .linear_kernel_block import LinearKernelBlock
from .spconv_cpu import accept_both_layouts, check_backend, prepare_cpu
from .voxel_set import VoxelSet

_X_FIRST = [0, 3, 2, 1]  # columns of (b, z, y, x) in the order (b, x, y, z)


class BiasedSparseBasicBlock(nn.Module):
    """Residual block of two submanifold 3x3x3 convolutions, each with a bias in front of its norm.

    The biases are added outside of the convolutions, see :mod:`mvbench_plugins.link.spconv_cpu`.

    Args:
        channels: channels of input and output.
        indice_key: name of the voxel set, for which spconv looks for neighbours once.
        norm_cfg: config of the norms.
    """

    def __init__(self, channels: int, indice_key: str, norm_cfg: dict) -> None:
        super().__init__()
        conv_cfg = dict(type='SubMConv3d', indice_key=indice_key)
        self.conv1 = build_conv_layer(conv_cfg, channels, channels, 3, padding=1, bias=False)
        self.conv1_bias = nn.Parameter(torch.empty(channels))
        self.bn1 = build_norm_layer(norm_cfg, channels)[1]
        self.conv2 = build_conv_layer(conv_cfg, channels, channels, 3, padding=1, bias=False)
        self.conv2_bias = nn.Parameter(torch.empty(channels))
        self.bn2 = build_norm_layer(norm_cfg, channels)[1]
        bound = 1 / math.sqrt(27 * channels)
        nn.init.uniform_(self.conv1_bias, -bound, bound)
        nn.init.uniform_(self.conv2_bias, -bound, bound)

    def forward(self, x: SparseConvTensor) -> SparseConvTensor:
        """Same voxels, same channels."""
        shortcut = x.features
        out = self.conv1(x)
        out = self.conv2(replace_feature(out, self.bn1(out.features + self.conv1_bias).relu()))
        return replace_feature(out, (self.bn2(out.features + self.conv2_bias) + shortcut).relu())


class LinKSparseLevel(nn.Module):
    """One resolution: two residual blocks beside LinK's block, added after a convolution and a norm each.

    Args:
        channels: channels of this level.
        level: number of the level; names its voxel set.
        down: what makes this level out of the one before, None for the first.
        linear_kernel: arguments of :class:`~mvbench_plugins.link.linear_kernel_block.LinearKernelBlock`; None: a plain
            3x3x3 convolution with a norm takes the block's place, as a baseline.
        norm_cfg: config of the norms.
    """

    def __init__(
        self, channels: int, level: int, down: nn.Module | None, linear_kernel: dict | None, norm_cfg: dict
    ) -> None:
        super().__init__()
        key = f'subm{level}'
        tail = dict(kernel_size=3, padding=1, indice_key=key, norm_cfg=norm_cfg)
        self.down = down
        self.conv = nn.Sequential(*(BiasedSparseBasicBlock(channels, key, norm_cfg) for _ in range(2)))
        self.conv_tail = make_sparse_convmodule(channels, channels, order=('conv', 'norm'), **tail)
        self.link_tail = make_sparse_convmodule(channels, channels, order=('conv', 'norm'), **tail)
        self.linear_kernel = linear_kernel
        if linear_kernel is None:
            self.link = make_sparse_convmodule(channels, channels, **tail)
        else:
            # Phases repeat once along the channels, while released files hold rows for all channels.
            groups = 2 if linear_kernel.get('mode', 'cos') in ('cos', 'x') else 1
            self.link = LinearKernelBlock(channels, groups=groups, num_phases=channels, **linear_kernel)

    def forward(self, x: SparseConvTensor) -> SparseConvTensor:
        """From the voxels of the level before (of this one, for the first) to those of this level."""
        if self.down is not None:
            x = self.down(x)
        entry = x.features
        out = self.conv(x)
        near = self.conv_tail(out).features
        # In the convolutions' tensor, which knows the neighbours by now.
        if self.linear_kernel is None:
            far = self.link(replace_feature(out, entry))
        else:
            far = replace_feature(out, self.link(entry, VoxelSet(x.indices[:, _X_FIRST])))
        far = self.link_tail(far)
        return replace_feature(far, (near + far.features).relu())


@MODELS.register_module()
class LinKSparseEncoder(BaseModule):
    """Voxels to a bird's-eye view, in the place of mmdet3d's ``SparseEncoder``.

    Runs in float32 even under autocast: the phases of the linear kernel reach hundreds and thousands.

    Args:
        in_channels: features of a voxel.
        sparse_shape: (nz + 1, ny, nx) of the voxel grid.
        channels: channels of the levels; each level after the first halves the resolution.
        paddings: (z, y, x) or one number for all, of the strided convolutions in front of the levels after the first.
        output_channels: channels C of the output, per height.
        linear_kernel: arguments of :class:`~mvbench_plugins.link.linear_kernel_block.LinearKernelBlock`; edges are in
            voxels of each level. None: 3x3x3 convolutions in place of the blocks.
        norm_cfg: config of the norms.
        init_cfg: initialisation, as everywhere in mm.

    Raises:
        ValueError: there is not one padding for each level after the first.
    """

    def __init__(
        self,
        in_channels: int,
        sparse_shape: Sequence[int],
        channels: Sequence[int] = (16, 32, 64, 128),
        paddings: Sequence[int | Sequence[int]] = (1, 1, (0, 1, 1)),
        output_channels: int = 128,
        linear_kernel: dict | None = dict(mode='cos', block_size=7, num_blocks=3),
        norm_cfg: dict = dict(type='BN1d', eps=1e-3, momentum=0.01),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if len(paddings) != len(channels) - 1:
            raise ValueError(
                f'paddings: found {len(paddings)}, expected one for each of the {len(channels)} levels but the first'
            )
        prepare_cpu()
        self.in_channels = in_channels
        self.sparse_shape = list(sparse_shape)
        self.conv_input = make_sparse_convmodule(
            in_channels, channels[0], 3, padding=1, indice_key='subm1', norm_cfg=norm_cfg
        )
        self.levels = nn.ModuleDict()  # by their number, from 1
        self.levels['1'] = LinKSparseLevel(channels[0], 1, None, linear_kernel, norm_cfg)
        for level, (before, width, padding) in enumerate(zip(channels[:-1], channels[1:], paddings, strict=True), 2):
            padding = padding if isinstance(padding, int) else tuple(padding)
            down = self._strided(before, width, 3, 2, padding, f'down{level}', norm_cfg)
            self.levels[str(level)] = LinKSparseLevel(width, level, down, linear_kernel, norm_cfg)
        self.extra_conv = self._strided(channels[-1], output_channels, (3, 1, 1), (2, 1, 1), 0, 'down_height', norm_cfg)
        self.output_channels = output_channels
        for module in self.modules():
            weight = getattr(module, 'weight', None)
            if isinstance(weight, nn.Parameter) and weight.dim() == 5:
                accept_both_layouts(module)

    @staticmethod
    def _strided(
        in_channels: int, out_channels: int, kernel: object, stride: object, padding: object, key: str, norm_cfg: dict
    ) -> SparseSequential:
        return make_sparse_convmodule(
            in_channels,
            out_channels,
            kernel,
            stride=stride,
            padding=padding,
            indice_key=key,
            conv_type='SparseConv3d',
            norm_cfg=norm_cfg,
        )

    @amp.autocast(enabled=False)
    def forward(self, voxel_features: Tensor, coors: Tensor, batch_size: int) -> Tensor:
        """Encode the voxels of a batch.

        Args:
            voxel_features: ``[N, in_channels]``.
            coors: ``[N, 4]``, (b, z, y, x).
            batch_size: number B of samples; samples may have no voxels.

        Returns:
            ``[B, C * D, H, W]`` with H along y and W along x; channel c of height z is ``c * D + z``. Zeros for a batch
            without any voxel.

        Raises:
            RuntimeError: there are no sparse convolutions for the device.
            ValueError: in training, fewer than two voxels in all.
        """
        check_backend(voxel_features.device)
        if self.training and len(voxel_features) < 2:
            raise ValueError(
                f'found {len(voxel_features)} voxels in a training batch of {batch_size}, expected at least 2: the '
                'point clouds are empty or outside of point_cloud_range; check the files and the range'
            )
        if len(voxel_features) == 0:
            return voxel_features.new_zeros(int(batch_size), *self._output_shape())
        coors = coors.int().contiguous()  # spconv reads them as they lie in memory
        x = SparseConvTensor(voxel_features.float(), coors, self.sparse_shape, int(batch_size))
        x = self.conv_input(x)
        for level in self.levels.values():
            x = level(x)
        x = self.extra_conv(x)
        # Not x.dense(): spconv's indexes with a list, which newer versions of torch are to read otherwise.
        dense = x.features.new_zeros(x.batch_size, *x.spatial_shape, self.output_channels)
        dense = dense.index_put(tuple(x.indices.long().T), x.features)  # [B, D, H, W, C]
        return dense.permute(0, 4, 1, 2, 3).flatten(1, 2)

    def _output_shape(self) -> tuple[int, int, int]:
        """Of one sample; every strided convolution has a kernel of 3 along its strided axes."""
        shape = list(self.sparse_shape)
        strided = [level.down[0] for level in self.levels.values() if level.down is not None] + [self.extra_conv[0]]
        for conv in strided:
            shape = [
                (size + 2 * padding - kernel) // stride + 1
                for size, padding, kernel, stride in zip(
                    shape, conv.padding, conv.kernel_size, conv.stride, strict=True
                )
            ]
        depth, height, width = shape
        return self.output_channels * depth, height, width
