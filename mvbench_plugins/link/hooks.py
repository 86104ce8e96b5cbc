"""What a run of a detector looks after besides its epochs."""

from __future__ import annotations

from mmdet3d.datasets.transforms import LoadPointsFromMultiSweeps
from mmdet3d.engine.hooks import DisableObjectSampleHook
from mmdet3d.registry import HOOKS
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.runner import Runner


@HOOKS.register_module()
class ResumableDisableObjectSampleHook(DisableObjectSampleHook):
    """``DisableObjectSampleHook`` that also holds for a run that is resumed past its epoch.

    The stock hook acts at the start of that one epoch: a run that starts later would paste objects to its end.

    Args:
        disable_after_epoch: epochs with pasted objects.
    """

    disable_after_epoch: int

    def before_train(self, runner: Runner) -> None:
        """Act at the first epoch of this run, if the one to act at has passed."""
        self.disable_after_epoch = max(self.disable_after_epoch, runner.epoch)


@HOOKS.register_module()
class MissingSweepsHook(Hook):
    """Warns of an info file without any sweep, where the pipeline asks for some.

    A single key frame may have none, as the first one of a scene. But without any, key frames would stand in for all
    sweeps without a word.
    """

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def before_train(self, runner: Runner) -> None:
        """Looks at the training data."""
        self._check(runner, runner.train_dataloader.dataset)

    def before_val(self, runner: Runner) -> None:
        """Looks at the validation data."""
        self._check(runner, runner.val_dataloader.dataset)

    def before_test(self, runner: Runner) -> None:
        """Looks at the test data."""
        self._check(runner, runner.test_dataloader.dataset)

    def _check(self, runner: Runner, dataset: object) -> None:
        while not isinstance(dataset, BaseDataset) and hasattr(dataset, 'dataset'):  # such as CBGSDataset
            dataset = dataset.dataset
        if not isinstance(dataset, BaseDataset) or dataset.ann_file in self._seen:
            return
        self._seen.add(dataset.ann_file)
        wanted = [
            transform.sweeps_num
            for transform in dataset.pipeline.transforms
            if isinstance(transform, LoadPointsFromMultiSweeps) and transform.sweeps_num > 0
        ]
        if wanted and not any(dataset.get_data_info(index).get('lidar_sweeps') for index in range(len(dataset))):
            runner.logger.warning(
                f'{dataset.ann_file}: none of its {len(dataset)} samples has lidar_sweeps, of which the pipeline takes '
                f'{wanted[0]}. Each key frame stands in for all of them, and detections will be worse. Write the file '
                "with mmdet3d's create_data.py, or set sweeps_num=0 to train and test on key frames"
            )
