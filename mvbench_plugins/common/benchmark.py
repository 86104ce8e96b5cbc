"""What a model costs: time per step, memory, parameters and multiply-adds.

``tools/benchmark.py`` is the command line of this module. A :class:`Subject` is a model built from a config together
with random inputs and, for training, the optimizer of its config. One :meth:`Subject.step` is what the runner does for
one batch: it includes the data preprocessor, the post-processing and, in training, backward pass and optimizer.
"""

import copy
import gc
import inspect
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import load_checkpoint
from mmengine.runner.amp import autocast
from torch import Tensor, nn
from tqdm import tqdm

from mvbench_plugins.common.flops import count_flops
from mvbench_plugins.common.random_inputs import make_inputs


def strip_pretrained(cfg: Any) -> None:
    """Removes, in place, every instruction to fetch pretrained weights from a (nested) model config."""
    if isinstance(cfg, dict):
        if isinstance(cfg.get('pretrained'), str):
            cfg['pretrained'] = None
        init_cfg = cfg.get('init_cfg')
        if isinstance(init_cfg, (list, tuple)):
            cfg['init_cfg'] = [rule for rule in init_cfg if rule.get('type') != 'Pretrained'] or None
        elif init_cfg is not None and init_cfg.get('type') == 'Pretrained':
            cfg['init_cfg'] = None
    if isinstance(cfg, (dict, list, tuple)):
        for value in cfg.values() if isinstance(cfg, dict) else cfg:
            strip_pretrained(value)


class CpuAmpOptimWrapper(OptimWrapper):
    """bfloat16 training on a CPU: ``AmpOptimWrapper`` refuses to, and bfloat16 needs no loss scaling."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Runs the forward pass of ``model`` under CPU autocast."""
        with super().optim_context(model), autocast(device_type='cpu'):
            yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps mmengine from logging a line for each parameter that it initialises or puts into a group."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('ERROR')
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Hides what C++ code prints: the CPU profiler announces itself and warns of every older tensor that is freed."""
    sys.stderr.flush()
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


class Subject:
    """A model under measurement.

    Args:
        cfg: Config with ``model``, ``default_scope`` and, for training, ``optim_wrapper``. Not modified.
        device: Where to run.
        batch: Samples per step.
        shape: (height, width) of the input images in pixels, before the preprocessor pads them.
        train: Measure training steps rather than inference.
        amp: Mixed precision: float16 on CUDA, bfloat16 on a CPU.
        compile: ``torch.compile`` the step as the runner does for ``compile=True``.
        checkpoint: Weights to load; random ones if None.

    Raises:
        ValueError: The config lacks ``model`` or, for training, ``optim_wrapper``.
    """

    def __init__(
        self,
        cfg: Config,
        device: str = 'cpu',
        batch: int = 1,
        shape: tuple[int, int] = (800, 1333),
        train: bool = False,
        amp: bool = False,
        compile: bool = False,
        checkpoint: str | None = None,
    ) -> None:
        for field in ['model'] + ['optim_wrapper'] * train:
            if field not in cfg:
                raise ValueError(
                    f'{cfg.filename}: the config has no field {field!r}, which a benchmark of '
                    f'{"training" if train else "inference"} needs; give the full config of a model'
                )
        self.cfg = cfg
        self.device, self.batch, self.shape = torch.device(device), batch, shape
        self.train, self.amp, self.compiled = train, amp, compile
        with _quiet():
            self.model = self._build_model(cfg, checkpoint)
            self.optim_wrapper = self._build_optim_wrapper(cfg) if train else None
        self.data = make_inputs(self.model, batch, shape, train, cfg)
        if compile:
            target = 'train_step' if train else 'test_step'
            options = cfg.get('compile') if isinstance(cfg.get('compile'), dict) else {}
            setattr(self.model, target, torch.compile(getattr(self.model, target), **options))

    def _build_model(self, cfg: Config, checkpoint: str | None) -> nn.Module:
        init_default_scope(cfg.get('default_scope', 'mmengine'))
        model_cfg = copy.deepcopy(cfg.model)
        strip_pretrained(model_cfg)
        torch.manual_seed(0)  # the same weights in every run, and in two runs of one config side by side
        model = MODELS.build(model_cfg)
        model.init_weights()
        if checkpoint is not None:
            try:
                load_checkpoint(model, checkpoint, map_location='cpu', strict=True)
            except RuntimeError as error:
                raise ValueError(
                    f'checkpoint {checkpoint} does not fit the model of {cfg.filename}: {error}. Give the config that '
                    'belongs to the checkpoint, or leave the checkpoint out to measure with random weights'
                ) from error
        return model.to(self.device).train(self.train)

    def _build_optim_wrapper(self, cfg: Config) -> OptimWrapper:
        wrapper_cfg = copy.deepcopy(cfg.optim_wrapper)
        self.amp = self.amp or wrapper_cfg.get('type') == 'AmpOptimWrapper'
        if self.amp and self.device.type == 'cuda':
            wrapper_cfg.type = 'AmpOptimWrapper'
        elif self.amp:
            wrapper_cfg.type = CpuAmpOptimWrapper
            for key in ('loss_scale', 'dtype'):
                wrapper_cfg.pop(key, None)
        wrapper = build_optim_wrapper(self.model, wrapper_cfg)
        # The optimizer works as ever but moves nothing: every step meets the same weights, hence the same work.
        for group in wrapper.optimizer.param_groups:
            group['lr'] = 0.0
        return wrapper

    def step(self) -> None:
        """Runs one batch, as the runner does."""
        if self.optim_wrapper is not None:
            self.model.train_step(self.data, self.optim_wrapper)
        else:
            with torch.no_grad(), autocast(device_type=self.device.type, enabled=self.amp):
                self.model.test_step(self.data)

    def parameters(self) -> dict[str, int]:
        """Counts the parameters: ``total`` and ``trainable``."""
        sizes = [(p.numel(), p.requires_grad) for p in self.model.parameters()]
        return dict(total=sum(n for n, _ in sizes), trainable=sum(n for n, grad in sizes if grad))

    def resident_bytes(self) -> int:
        """Bytes that stay between steps: parameters, buffers and the state of the optimizer."""
        tensors = [*self.model.parameters(), *self.model.buffers()]
        if self.optim_wrapper is not None:
            state = self.optim_wrapper.optimizer.state.values()
            tensors += [t for entries in state for t in entries.values() if isinstance(t, Tensor)]
        return sum(t.numel() * t.element_size() for t in tensors)

    def info(self) -> dict[str, dict]:
        """What the modules themselves report: the entries of each ``benchmark_info()``, by module name."""
        modules = (
            (name or 'model', getattr(module, 'benchmark_info', None)) for name, module in self.model.named_modules()
        )
        return {name: report() for name, report in modules if callable(report)}


class Timed(Protocol):
    """What :func:`time_steps` can time."""

    device: torch.device

    def step(self) -> object:
        """Computes something once."""


def time_steps(
    subjects: Sequence[Timed], iters: int, warmup: int, clock: Callable[[], float] = time.perf_counter
) -> list[list[float]]:
    """Times steps of several subjects in turn (A B A B ...), so that a drift of the machine meets all of them.

    Args:
        subjects: What to run, all on the same device.
        iters: Timed steps of each.
        warmup: Untimed steps of each before.
        clock: Tells the time in seconds; ``time.process_time`` leaves out what other programs take of the processor.

    Returns:
        For each subject ``iters`` times in milliseconds.
    """
    times: list[list[float]] = [[] for _ in subjects]
    for iteration in tqdm(range(warmup + iters), 'steps', disable=None):  # None: unless a terminal shows it
        for subject, record in zip(subjects, times):
            _synchronize(subject.device)
            start = clock()
            subject.step()
            _synchronize(subject.device)
            if iteration >= warmup:
                record.append((clock() - start) * 1e3)
    return times


def time_parts(subject: Subject, iters: int, clock: Callable[[], float] = time.perf_counter) -> dict[str, float]:
    """Times what the direct children of a model take of an inference step.

    Args:
        subject: What to run; neither compiled (its parts are fused) nor in training (the backward pass has no parts).
        iters: Steps.
        clock: See :func:`time_steps`.

    Returns:
        Median milliseconds by name of the child, and ``other``: the rest of the step. Empty for other subjects.
    """
    if subject.train or subject.compiled:
        return {}
    totals: dict[str, float] = defaultdict(float)
    records: dict[str, list[float]] = defaultdict(list)
    running: set[str] = set()
    replaced = []

    def timed(name: str, method: Callable) -> Callable:
        def run(*args: Any, **kwargs: Any) -> Any:
            if name in running:  # predict() calls forward(): the outer one counts
                return method(*args, **kwargs)
            running.add(name)
            _synchronize(subject.device)
            start = clock()
            try:
                return method(*args, **kwargs)
            finally:
                _synchronize(subject.device)
                totals[name] += (clock() - start) * 1e3
                running.discard(name)

        return run

    for name, child in subject.model.named_children():
        for method in _own_methods(child):
            setattr(child, method, timed(name, getattr(child, method)))
            replaced.append((child, method))
    try:
        for _ in range(iters):
            totals.clear()
            start = clock()
            subject.step()
            _synchronize(subject.device)
            totals['other'] = (clock() - start) * 1e3 - sum(totals.values())
            for name, value in totals.items():
                records[name].append(value)
    finally:
        for child, method in replaced:
            delattr(child, method)
    return {name: float(np.median(values)) for name, values in records.items()}


def _own_methods(module: nn.Module) -> set[str]:
    """Public methods of a module beyond those of every module: a detector often calls them, not ``forward()``."""
    classes = [cls for cls in type(module).__mro__ if issubclass(cls, nn.Module) and not issubclass(nn.Module, cls)]
    names = {name for cls in classes for name, value in vars(cls).items() if inspect.isfunction(value)}
    return {name for name in names if not name.startswith('_')}


def _synchronize(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def peak_bytes(step: Callable[[], Any], device: torch.device) -> int:
    """Runs ``step`` once and returns the peak of its tensor allocations above what was allocated at its start.

    On a CPU the allocations are taken from the profiler, so call this apart from anything that is timed. What oneDNN
    or BLAS allocate behind PyTorch's allocator is not seen, on either device.
    """
    gc.collect()
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        start = torch.cuda.memory_allocated(device)
        step()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - start
    activities = [torch.profiler.ProfilerActivity.CPU]
    with _silent_stderr(), torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
        step()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == '[memory]']
    changes = [e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())]
    return max(int(np.cumsum(changes).max(initial=0)), 0)


def measure(
    subjects: Sequence[Subject], iters: int = 20, warmup: int = 5, clock: Callable[[], float] = time.perf_counter
) -> list[dict]:
    """Measures each subject, its times by ``clock``; the timed steps of several alternate.

    Returns:
        One dict for each subject: ``parameters``; ``latency_ms`` (median, p10, p90 and all ``times``); ``parts_ms``
        (see :func:`time_parts`); ``throughput`` (samples per second at the median); ``memory_bytes`` (``resident``:
        parameters, buffers and optimizer state, ``step``: the peak of activations, gradients and workspaces above it,
        ``peak``: their sum); ``flops`` (see :func:`~mvbench_plugins.common.flops.count_flops`: one sample, inference
        path); ``info`` (what the modules of the model report of themselves).
    """
    all_times = time_steps(subjects, iters, warmup, clock)
    results = []
    for subject, times in zip(subjects, all_times):
        low, median, high = np.percentile(times, [10, 50, 90]).tolist()
        info = subject.info()
        parts = time_parts(subject, iters, clock)
        step_bytes = peak_bytes(subject.step, subject.device)
        resident = subject.resident_bytes()
        results.append(
            dict(
                parameters=subject.parameters(),
                latency_ms=dict(median=median, p10=low, p90=high, times=times),
                parts_ms=parts,
                throughput=subject.batch * 1e3 / median,
                memory_bytes=dict(resident=resident, step=step_bytes, peak=resident + step_bytes),
                flops=count_flops(subject.model, make_inputs(subject.model, 1, subject.shape, False, subject.cfg)),
                info=info,
            )
        )
    return results
