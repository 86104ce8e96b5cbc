"""Every repair of compat.py: the break shows without it, is gone with it, and what works is left alone."""

import importlib
import importlib.util
import inspect
import os
import pickle
import shutil
import socket
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import mmengine.dist.utils as dist_utils
import mmengine.runner.checkpoint as mmengine_checkpoint
import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.logging import HistoryBuffer, MessageHub, MMLogger
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from torch import distributed, nn

from mvbench_plugins import compat


class ToyModel(BaseModel):
    """One linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, inputs: torch.Tensor, mode: str = 'tensor') -> Any:
        out = self.layer(inputs)
        return dict(loss=out.square().mean()) if mode == 'loss' else list(out)


class NumpyScore(BaseMetric):
    """Reports a numpy scalar, as most metrics do; the runner keeps it in its message hub."""

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.append(1.0)

    def compute_metrics(self, results: list) -> dict:
        return dict(score=np.float64(np.mean(results)))


@pytest.fixture(scope='module')
def runner_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as the stock Runner writes it: EMA, schedulers, log histories and a best score."""
    work_dir = tmp_path_factory.mktemp('run')
    data = dict(
        batch_size=2,
        num_workers=0,
        dataset=[dict(inputs=torch.ones(2) * i) for i in range(4)],
        sampler=dict(type='DefaultSampler', shuffle=True),
        collate_fn=dict(type='default_collate'),
    )
    with pytest.MonkeyPatch.context() as patch:
        for shared in (DefaultScope, MMLogger, MessageHub, Visualizer):
            patch.setattr(shared, '_instance_dict', OrderedDict())
        Runner(
            ToyModel(),
            str(work_dir),
            train_dataloader=data,
            val_dataloader=data,
            train_cfg=dict(by_epoch=True, max_epochs=2),
            val_cfg=dict(),
            val_evaluator=Evaluator(NumpyScore()),
            optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
            param_scheduler=[dict(type='LinearLR', end=2), dict(type='MultiStepLR', milestones=[1])],
            default_hooks=dict(
                checkpoint=dict(type='CheckpointHook', interval=1, save_best='score', rule='greater'),
                logger=dict(type='LoggerHook', interval=1),
            ),
            custom_hooks=[dict(type='EMAHook')],
            randomness=dict(seed=0),
        ).train()
    return work_dir / 'epoch_2.pth'


@pytest.fixture
def without_safe_globals() -> Iterator[None]:
    """torch's own allow-list only."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    yield
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(before)


def test_runner_checkpoint_loads_only_with_allow_list(runner_checkpoint: Path, without_safe_globals: None) -> None:
    with pytest.raises(pickle.UnpicklingError, match='HistoryBuffer'):
        torch.load(runner_checkpoint, weights_only=True)
    compat.allow_mmengine_checkpoints()
    allowed = len(torch.serialization.get_safe_globals())
    compat.allow_mmengine_checkpoints()
    assert len(torch.serialization.get_safe_globals()) == allowed, 'a second call must add nothing'

    checkpoint = torch.load(runner_checkpoint, weights_only=True)
    history = checkpoint['message_hub']['log_scalars']['train/loss']
    assert isinstance(history, HistoryBuffer) and history.data[0].shape == (4,)
    assert history.statistics('mean') == pytest.approx(history.data[0].mean())
    assert checkpoint['message_hub']['runtime_info']['best_score'] == 1.0
    assert checkpoint['meta']['epoch'] == 2 and 'optimizer' in checkpoint and 'ema_state_dict' in checkpoint


def test_tables_of_a_data_set_load(tmp_path: Path, without_safe_globals: None) -> None:
    """The runner stores a data set's metainfo, in which SemanticKITTI has its label tables."""
    compat.allow_mmengine_checkpoints()
    torch.save({'meta': {'dataset_meta': ConfigDict(label_mapping={0: 19, 1: 3})}}, tmp_path / 'epoch_1.pth')
    meta = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)['meta']['dataset_meta']
    assert meta.label_mapping == {0: 19, 1: 3}


class Reduced:
    """Pickles as the call ``function(*arguments)``."""

    def __init__(self, function: Callable, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


@pytest.mark.parametrize(
    'kind', ['os.system', 'eval', 'getattr of a class', 'getattr of a method', 'getattr of a module']
)
def test_hostile_checkpoint_is_refused(kind: str, tmp_path: Path) -> None:
    compat.apply()
    flag = tmp_path / 'flag'
    payload = {
        'os.system': Reduced(os.system, f'touch {flag}'),
        'eval': Reduced(eval, f'open({str(flag)!r}, "w")'),
        'getattr of a class': Reduced(getattr, HistoryBuffer, '__init__'),
        'getattr of a method': Reduced(getattr, Reduced(getattr, HistoryBuffer, 'mean'), '__globals__'),
        'getattr of a module': Reduced(getattr, torch.Tensor, 'numpy'),
    }[kind]
    torch.save(dict(state_dict=dict(weight=torch.zeros(1)), extra=payload), tmp_path / 'hostile.pth')
    with pytest.raises(pickle.UnpicklingError, match='(?i)unsupported (global|class)'):
        torch.load(tmp_path / 'hostile.pth', weights_only=True)
    assert not flag.exists()


def test_downloaded_file_is_read_as_a_local_one(
    runner_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch.hub takes a file that is in its cache as downloaded."""
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    monkeypatch.setattr(mmengine_checkpoint, 'load_url', torch.hub.load_state_dict_from_url)
    cache, flag = tmp_path / 'checkpoints', tmp_path / 'flag'
    cache.mkdir()
    shutil.copy(runner_checkpoint, cache / 'own.pth')
    torch.save(dict(state_dict={}, extra=Reduced(os.system, f'touch {flag}')), cache / 'hostile.pth')
    compat.distrust_urls()
    compat.distrust_urls()
    assert mmengine_checkpoint.load_from_http('http://localhost:9/own.pth')['meta']['epoch'] == 2
    with pytest.raises(pickle.UnpicklingError, match='(?i)unsupported (global|class)'):
        mmengine_checkpoint.load_from_http('http://localhost:9/hostile.pth')
    assert not flag.exists()


def unpatched(function: Callable) -> Callable:
    """mmengine's own function below the repair, if a plugin has applied it in this process already."""
    inner = inspect.getclosurevars(function).nonlocals
    return inner.get('launch') or inner.get('init') or function


@pytest.fixture
def stock_mmengine(monkeypatch: pytest.MonkeyPatch) -> None:
    """mmengine's distributed functions as released, and a machine that mmengine takes for one without accelerator."""
    monkeypatch.setattr(compat, 'get_device', lambda: 'cpu')
    for name in ('_init_dist_pytorch', '_init_dist_slurm', '_init_dist_mpi'):
        monkeypatch.setattr(dist_utils, name, unpatched(getattr(dist_utils, name)))
    monkeypatch.setattr(MMDistributedDataParallel, '__init__', unpatched(MMDistributedDataParallel.__init__))


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The environment of the only worker of a launcher; afterwards no process group is left."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    names = dict(RANK=0, LOCAL_RANK=0, WORLD_SIZE=1, MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
    names.update(SLURM_PROCID=0, SLURM_LOCALID=0, SLURM_NTASKS=1, SLURM_NODELIST='localhost')
    names.update(OMPI_COMM_WORLD_SIZE=1, OMPI_COMM_WORLD_RANK=0, OMPI_COMM_WORLD_LOCAL_RANK=0)
    for name, value in names.items():
        monkeypatch.setenv(name, str(value))
    yield
    if distributed.is_initialized():
        distributed.destroy_process_group()


@pytest.mark.parametrize('launcher', ['pytorch', 'slurm', 'mpi'])
def test_process_group_on_cpu(
    launcher: str, stock_mmengine: None, one_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_cuda(device: int) -> None:
        raise AttributeError("module 'torch._C' has no attribute '_cuda_setDevice'")

    monkeypatch.setattr(torch.cuda, 'set_device', no_cuda)
    with pytest.raises(AttributeError, match='_cuda_setDevice'):
        dist_utils.init_dist(launcher)
    compat.allow_cpu_process_groups()
    repaired = dist_utils._init_dist_pytorch
    compat.allow_cpu_process_groups()
    assert dist_utils._init_dist_pytorch is repaired, 'a second call must not wrap again'
    dist_utils.init_dist(launcher)
    assert distributed.get_backend() == 'gloo'
    assert torch.cuda.set_device is no_cuda


def test_model_wrapper_on_cpu(stock_mmengine: None, one_process: None) -> None:
    compat.allow_cpu_process_groups()
    dist_utils.init_dist('pytorch')
    with pytest.raises(ValueError, match='device_ids'):
        MMDistributedDataParallel(ToyModel(), device_ids=[0])
    compat.allow_cpu_model_wrapper()
    repaired = MMDistributedDataParallel.__init__
    compat.allow_cpu_model_wrapper()
    assert MMDistributedDataParallel.__init__ is repaired, 'a second call must not wrap again'
    wrapped = MMDistributedDataParallel(ToyModel(), device_ids=[0], detect_anomalous_params=True)
    assert wrapped.detect_anomalous_params
    wrapped(torch.ones(1, 2), mode='loss')['loss'].backward()
    assert wrapped.module.layer.weight.grad is not None


def test_distributed_is_left_alone_on_gpu(stock_mmengine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat, 'get_device', lambda: 'cuda')
    before = dist_utils._init_dist_pytorch, MMDistributedDataParallel.__init__
    compat.allow_cpu_process_groups()
    compat.allow_cpu_model_wrapper()
    assert (dist_utils._init_dist_pytorch, MMDistributedDataParallel.__init__) == before


def load_source(package: str, path: str) -> ModuleType:
    """One file or folder of an installed toolbox by itself, without the seconds that the whole toolbox takes."""
    source = Path(importlib.util.find_spec(package).submodule_search_locations[0], path)
    name = f'source_of_{source.stem}'
    init = source / '__init__.py'
    spec = (
        importlib.util.spec_from_file_location(name, init, submodule_search_locations=[str(source)])
        if init.exists()
        else importlib.util.spec_from_file_location(name, source)
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def ava_class_without_ground_truth(tmp_path: Path) -> bool:
    metrics = load_source('mmaction', 'evaluation/functional/ava_evaluation/metrics.py')
    return np.isnan(metrics.compute_average_precision(None, None))


def extract_frames(tmp_path: Path) -> bool:
    video = str(tmp_path / 'video.avi')
    writer = cv2.VideoWriter(video, cv2.VideoWriter_fourcc(*'MJPG'), 5, (64, 32))
    writer.write(np.zeros((32, 64, 3), np.uint8))
    writer.release()
    _, frames = load_source('mmaction', 'utils/misc.py').frame_extract(video, short_side=16, out_dir=str(tmp_path))
    return frames[0].shape == (16, 32, 3)


def youtube_vis_recall(tmp_path: Path) -> bool:
    evaluator = load_source('mmdet', 'evaluation/functional/ytviseval.py').YTVISeval()
    evaluator.params.vidIds = evaluator.params.catIds = [1]
    evaluator._paramsEval = evaluator.params
    hit = np.ones((len(evaluator.params.iouThrs), 1))
    found = dict(dtScores=np.array([0.9]), dtMatches=hit, dtIgnore=0 * hit, gtIgnore=np.zeros(1))
    evaluator.evalImgs = [found] * len(evaluator.params.areaRng)
    evaluator.accumulate()
    return (evaluator.eval['recall'] == 1).all()


def average_recall(tmp_path: Path) -> bool:
    accuracy = load_source('mmaction', 'evaluation/functional/accuracy.py')
    truth = dict(video=np.array([[0.0, 1.0]]))
    proposals = dict(video=np.array([[0.0, 1.0, 0.9]]))
    *_, area = accuracy.average_recall_at_avg_proposals(truth, proposals, 1, max_avg_proposals=1)
    return 0 < area <= 100


def scannet_instances(tmp_path: Path) -> bool:
    package = load_source('mmdet3d', 'evaluation/functional/scannet_utils').__name__
    evaluate = importlib.import_module(f'{package}.evaluate_semantic_instance')
    gt_ids = np.array([1001, 1001, 2001])
    pred = dict(a=dict(label_id=1, conf=1.0, mask=np.array([1, 1, 1])))
    options = evaluate.get_options(dict(min_region_sizes=np.array([1])))
    _, pred_to_gt = evaluate.assign_instances_for_scan(pred, gt_ids, options, (1,), ('chair',), {1: 'chair'})
    return pred_to_gt['chair'][0]['void_intersection'] == 1


@pytest.mark.parametrize(
    ('name', 'repair', 'use'),
    [
        ('NAN', compat.restore_numpy_nan, ava_class_without_ground_truth),
        ('Inf', compat.restore_numpy_inf, extract_frames),
        ('float', compat.restore_numpy_float, youtube_vis_recall),
        ('trapz', compat.restore_numpy_trapz, average_recall),
        ('in1d', compat.restore_numpy_in1d, scannet_instances),
    ],
)
def test_numpy_name(
    name: str, repair: Callable, use: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(np, name, raising=False)
    with pytest.raises(AttributeError, match=name):
        use(tmp_path)
    repair()
    assert use(tmp_path)

    own = object()
    monkeypatch.setattr(np, name, own)
    repair()
    assert getattr(np, name) is own, 'a name that numpy has must stay as it is'


def test_in1d_flattens() -> None:
    assert compat._in1d([[1, 2], [3, 4]], [2, 3], invert=True).tolist() == [True, False, False, True]


def test_pkg_resources_warning_is_silent() -> None:
    def warn() -> None:
        warnings.warn('pkg_resources is deprecated as an API. See the documentation', UserWarning)

    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter('always')
        warn()
        compat.quiet_pkg_resources()
        warn()
        warnings.warn('another trouble', UserWarning)
    assert [str(warning.message)[:13] for warning in shown] == ['pkg_resources', 'another troub']


def test_boxes_beyond_the_image_leave_no_margin() -> None:
    compat.apply()
    image = np.full((40, 60, 3), 90, np.uint8)
    visualizer = Visualizer.get_instance('margin')
    for _ in range(2):  # the second image starts anew
        visualizer.set_image(image)
        visualizer.draw_bboxes(np.array([[-30.0, -30.0, 20.0, 20.0]]), edge_colors='r')
        drawn = visualizer.get_image()
        assert drawn.shape == image.shape
        np.testing.assert_array_equal(drawn[30:], image[30:])


def test_apply_runs_every_repair(monkeypatch: pytest.MonkeyPatch) -> None:
    own = [name for name, value in vars(compat).items() if getattr(value, '__module__', '') == compat.__name__]
    repairs = [name for name in own if not name.startswith('_') and name != 'apply']
    called = []
    for name in repairs:
        monkeypatch.setattr(compat, name, lambda name=name: called.append(name))
    compat.apply()
    assert len(repairs) >= 9 and sorted(called) == sorted(repairs)
