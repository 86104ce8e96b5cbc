"""Watching the fixed point: how fast the equilibrium iteration settles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from mmdet.registry import HOOKS
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor

from mvbench_plugins.ops.pyramid_sampling import FlatPyramid

from .decoder_layer import DecoderState
from .fixed_point import relative_residual


@HOOKS.register_module()
class EquilibriumResidualHook(Hook):
    """Logs the relative residual ``|q_k - q_{k-1}| / |q_{k-1}|`` of every application k of the equilibrium layer.

    Measured during validation and testing, on the images of the first process: one scalar per application in the
    visualizer (``equilibrium/residual_k``), one line in the log, and a picture of the convergence curve in the run's
    ``vis_data`` folder. A curve that falls and stays low means that fewer ``refinement_steps`` will do.

    Args:
        interval: measure every so many batches.
    """

    def __init__(self, interval: int = 10) -> None:
        self.interval = interval
        self._sums: list[Tensor] = []
        self._num_images = 0
        self._application: int | None = None
        self._handles: list = []

    def _watch(self, runner: Runner) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        layers: Sequence[torch.nn.Module] = getattr(getattr(model, 'roi_head', None), 'bbox_head', ())
        if len(layers) != 2:
            raise ValueError(
                f'EquilibriumResidualHook needs a DEQDetRoIHead with its two layers, found {type(model).__name__} with '
                f'{len(layers)}: remove the hook from custom_hooks of this config'
            )
        self._sums, self._num_images = [], 0
        self._handles = [
            layers[0].register_forward_hook(self._on_start),
            layers[1].register_forward_hook(self._on_application),
        ]

    def _on_start(self, *_) -> None:
        if self._application is not None:
            self._application = 0

    def _on_application(
        self, layer: torch.nn.Module, args: tuple[FlatPyramid, DecoderState], output: DecoderState
    ) -> None:
        if self._application is None:
            return
        residual = relative_residual(output.content, args[1].content).sum()
        if self._application == len(self._sums):
            self._sums.append(torch.zeros_like(residual))
        self._sums[self._application] += residual
        self._num_images += len(output.content) if self._application == 0 else 0
        self._application += 1

    def _before_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None, mode: str = 'train') -> None:
        self._application = 0 if mode != 'train' and batch_idx % self.interval == 0 else None

    def before_val_epoch(self, runner: Runner) -> None:
        """Start listening."""
        self._watch(runner)

    def before_test_epoch(self, runner: Runner) -> None:
        """Start listening."""
        self._watch(runner)

    def _after_epoch(self, runner: Runner, mode: str = 'train') -> None:
        if mode == 'train':
            return
        for handle in self._handles:
            handle.remove()
        self._application = None
        self._report(runner, mode)

    @master_only
    def _report(self, runner: Runner, mode: str) -> None:
        curve = [(total / max(self._num_images, 1)).item() for total in self._sums]
        step = runner.epoch if mode == 'val' else 0
        for k, value in enumerate(curve, start=1):
            runner.visualizer.add_scalar(f'equilibrium/residual_{k}', value, step)
        picture = Path(runner.log_dir) / 'vis_data' / f'equilibrium_residual_{mode}_{step}.png'
        _draw_curve(curve, picture)
        shown = ' '.join(f'{value:.1e}' for value in curve)
        print_log(f'Relative residual per equilibrium step: {shown} (curve: {picture})', 'current')


def _draw_curve(curve: list[float], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.semilogy(range(1, len(curve) + 1), curve, marker='o')
    axes.set(xlabel='application of the equilibrium layer', ylabel='relative residual of the content')
    axes.grid(True, which='both', alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
