"""The long-term memory in checkpoints."""

from __future__ import annotations

from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from .detector import CycleACR


@HOOKS.register_module()
class MemoryBankHook(Hook):
    """Keeps the training memory in checkpoints, so that a resumed run goes on with it.

    It takes about 4 KB per person: some 2 GB for AVA, in each checkpoint. Leave the hook out where that is too much; a
    resumed run then starts with an empty memory.
    """

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the memory, which is the same in all processes."""
        model = cycleacr_of(runner)
        checkpoint['memory_bank'] = dict(entries=model.train_memory.state_dict(), last_loss=model.last_loss)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take the memory back, when training is resumed."""
        if runner._resume and 'memory_bank' in checkpoint:
            model = cycleacr_of(runner)
            model.train_memory.load_state_dict(checkpoint['memory_bank']['entries'])
            model.last_loss = checkpoint['memory_bank']['last_loss']


def cycleacr_of(runner: Runner) -> CycleACR:
    """The model of a run, without what distributes it.

    Raises:
        TypeError: it is no CycleACR.
    """
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    if not isinstance(model, CycleACR):
        raise TypeError(
            f'this loop (or hook) is for CycleACR, the model is {type(model).__name__}: use ValLoop and TestLoop'
        )
    return model
