"""The curriculum of the training data: how far apart the frames of a clip lie, and when affine maps end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from mvbench_plugins.datasets.vos.clip_sample import VOSClipSample
from mvbench_plugins.datasets.vos.geometry import RandomVOSAffine


@HOOKS.register_module()
class VOSCurriculumHook(Hook):
    """Sets ``max_jump`` of every ``VOSClipSample`` by the progress, and switches ``RandomVOSAffine`` off for the tail.

    Both live in shared memory: running workers of the data loader see the change, only batches that they have prepared
    already are of the old kind. After a resumption the values are those of the iteration that goes on.

    Args:
        iterations: length of the main part, of which the fractions are; what the training has beyond is the fine-tuning
            tail. None: all of the training, no tail.
        max_jumps: pairs of (fraction of ``iterations`` from which it holds, ``max_jump``), the first from 0.
        tail_max_jump: ``max_jump`` of the tail.
    """

    def __init__(
        self,
        iterations: int | None = None,
        max_jumps: Sequence[tuple[float, int]] = ((0.0, 5), (0.1, 10), (0.3, 15), (0.9, 5)),
        tail_max_jump: int = 5,
    ) -> None:
        starts = [start for start, _ in max_jumps]
        if not starts or starts[0] != 0 or starts != sorted(starts) or starts[-1] > 1:
            raise ValueError(
                'VOSCurriculumHook: max_jumps must be (fraction, max_jump) pairs with rising fractions from 0 to at '
                f'most 1, found {max_jumps}'
            )
        self.iterations = iterations
        self.max_jumps = [(float(start), int(jump)) for start, jump in max_jumps]
        self.tail_max_jump = tail_max_jump
        self._current: tuple[int, bool] | None = None
        self._samplers: list[VOSClipSample] = []
        self._affine_maps: list[RandomVOSAffine] = []

    def settings_at(self, iteration: int, max_iters: int) -> tuple[int, bool]:
        """``max_jump``, and whether affine maps are on, at an iteration from 0."""
        iterations = self.iterations or max_iters
        if iteration >= iterations:
            return self.tail_max_jump, False
        return [jump for start, jump in self.max_jumps if iteration >= round(start * iterations)][-1], True

    def before_train(self, runner: Runner) -> None:
        """Find the transforms.

        Raises:
            ValueError: no ``VOSClipSample`` in the training data, or ``iterations`` exceeds the training.
        """
        if self.iterations is not None and self.iterations > runner.max_iters:
            raise ValueError(
                f'VOSCurriculumHook: iterations={self.iterations} is more than max_iters={runner.max_iters} of the '
                'training; the main part cannot be longer than the whole'
            )
        transforms = list(_transforms_of(runner.train_dataloader.dataset))
        self._samplers = [transform for transform in transforms if isinstance(transform, VOSClipSample)]
        self._affine_maps = [transform for transform in transforms if isinstance(transform, RandomVOSAffine)]
        if not self._samplers:
            raise ValueError(
                'VOSCurriculumHook: the pipelines of train_dataloader have no VOSClipSample whose max_jump it could '
                'set; remove the hook from custom_hooks (static images need none)'
            )
        self._current = None
        self._apply(runner.iter, runner.max_iters)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Change the transforms where a new part begins; the next batch is drawn before the next iteration begins."""
        self._apply(runner.iter + 1, runner.max_iters)

    def _apply(self, iteration: int, max_iters: int) -> None:
        settings = self.settings_at(iteration, max_iters)
        if settings == self._current:
            return
        self._current = settings
        for sampler in self._samplers:
            sampler.max_jump = settings[0]
        for affine_map in self._affine_maps:
            affine_map.enabled = settings[1]
        affine = 'on' if settings[1] else 'off'
        print_log(f'Clips from iteration {iteration}: max_jump {settings[0]}, affine maps {affine}', 'current')


def _transforms_of(node: Any) -> Iterator[Any]:
    """All transforms below a data set, a wrapper of data sets, or a transform that wraps others."""
    for name in ('datasets', 'dataset', 'pipeline', 'transforms'):
        below = getattr(node, name, ())
        for child in below if isinstance(below, (list, tuple)) else [below]:
            yield child
            yield from _transforms_of(child)
