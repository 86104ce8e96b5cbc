"""Validation and test in two passes: features of all clips first, then scores with everyone's memory."""

from __future__ import annotations

from typing import NamedTuple

import torch
from mmaction.registry import LOOPS
from mmaction.structures import ActionDataSample
from mmengine.dist import all_gather_object, is_distributed
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner, TestLoop, ValLoop
from mmengine.runner.amp import autocast
from mmengine.structures import InstanceData
from torch.utils.data import DataLoader
from tqdm import tqdm

from .detector import CycleACR
from .hooks import cycleacr_of

_CLIPS_AT_ONCE = 32  # of the second pass, which is light: with 1024 features, 40 MB of memory


class _Seen(NamedTuple):
    """A clip after the first pass: its data sample and features, on the CPU."""

    sample: ActionDataSample
    features: InstanceData


class _TwoPasses:
    """What the two loops share: everything but the names of the hooks.

    The backbone runs once per clip. With several processes each keeps its own clips and all share the actor features,
    so that the numbers are those of one process. The memory is emptied before and after: a run that was killed leaves
    nothing behind. Hooks for single iterations are called in the first pass, with data samples that have no predictions
    yet.
    """

    mode: str
    # those of the stock loops
    runner: Runner
    dataloader: DataLoader
    evaluator: Evaluator
    fp16: bool

    def run(self) -> dict:
        """Both passes and the metrics.

        Raises:
            TypeError: the model is no CycleACR.
        """
        model = cycleacr_of(self.runner)
        self._hook(f'before_{self.mode}')
        self._hook(f'before_{self.mode}_epoch')
        self.runner.model.eval()
        model.memory.clear()
        try:
            with torch.no_grad():
                seen = self._first_pass(model)
                self._share(model, seen)
                self._second_pass(model, seen)
        finally:
            model.memory.clear()
        metrics = self.evaluator.evaluate(len(self.dataloader.dataset))
        self._hook(f'after_{self.mode}_epoch', metrics=metrics)
        self._hook(f'after_{self.mode}')
        return metrics

    def _hook(self, name: str, **kwargs) -> None:
        self.runner.call_hook(name, **kwargs)

    def _first_pass(self, model: CycleACR) -> list[_Seen]:
        seen = []
        for index, batch in enumerate(self.dataloader):
            self._hook(f'before_{self.mode}_iter', batch_idx=index, data_batch=batch)
            data = model.data_preprocessor(batch, False)
            with autocast(enabled=self.fp16):
                features = model.extract(data['inputs'], data['data_samples'])
            samples = [sample.cpu() for sample in data['data_samples']]
            seen += [_Seen(sample, feature.cpu()) for sample, feature in zip(samples, features, strict=True)]
            self._hook(f'after_{self.mode}_iter', batch_idx=index, data_batch=batch, outputs=samples)
        return seen

    @staticmethod
    def _share(model: CycleACR, seen: list[_Seen]) -> None:
        """Fill the memory with the clips of all processes."""
        limit = model.memory.max_per_second
        own = [
            # Copies: a view would be sent with all that it is a view of.
            (clip.sample.video_id, int(clip.sample.timestamp), clip.features.actor_features[:limit].clone())
            for clip in seen
        ]
        for part in all_gather_object(own) if is_distributed() else [own]:
            for video, second, features in part:
                model.memory.update(video, second, features)

    def _second_pass(self, model: CycleACR, seen: list[_Seen]) -> None:
        device = next(model.parameters()).device
        starts = tqdm(
            range(0, len(seen), _CLIPS_AT_ONCE), desc='second pass', disable=self.runner.rank != 0, leave=False
        )
        for start in starts:
            clips = seen[start : start + _CLIPS_AT_ONCE]
            features = [clip.features.to(device) for clip in clips]
            samples = [clip.sample.to(device) for clip in clips]
            keys = [(sample.video_id, int(sample.timestamp)) for sample in samples]
            with autocast(enabled=self.fp16):
                memory = model.memory.assemble(keys, [feature.actor_features for feature in features])
                outputs = model.classify(features, memory, samples)
            self.evaluator.process(data_samples=outputs, data_batch=None)


@LOOPS.register_module()
class MemoryValLoop(_TwoPasses, ValLoop):
    """``ValLoop`` in two passes; same arguments."""

    mode = 'val'


@LOOPS.register_module()
class MemoryTestLoop(_TwoPasses, TestLoop):
    """``TestLoop`` in two passes; same arguments."""

    mode = 'test'
