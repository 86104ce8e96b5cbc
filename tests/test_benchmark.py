"""The benchmark tool: figures that are known exactly, comparisons, and errors. Times themselves are not judged."""

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement
from torch import nn

from mvbench_plugins.common.benchmark import Subject, measure, peak_bytes, time_parts, time_steps
from mvbench_plugins.common.flops import count_flops
from mvbench_plugins.common.random_inputs import (
    boxed_cloud_inputs,
    clip_inputs,
    detection_inputs,
    labelled_cloud_inputs,
    make_inputs,
    register_inputs,
    video_inputs,
)

spec = importlib.util.spec_from_file_location('benchmark_tool', Path(__file__).parents[1] / 'tools' / 'benchmark.py')
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)

# A stock detector. Its backbone asks for weights that do not exist: the benchmark must not look for them.
RETINANET = """
default_scope = 'mmdet'
model = dict(
    type='RetinaNet',
    data_preprocessor=dict(type='DetDataPreprocessor', mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4]),
    backbone=dict(
        type='ResNet', depth=18, base_channels=8, out_indices=(1, 2, 3), norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='/nowhere/weights.pth')),
    neck=dict(type='FPN', in_channels=[16, 32, 64], out_channels=16, num_outs=3, norm_cfg=dict(type='SyncBN')),
    bbox_head=dict(
        type='RetinaHead', num_classes=5, in_channels=16, stacked_convs=1, feat_channels=16,
        anchor_generator=dict(
            type='AnchorGenerator', octave_base_scale=4, scales_per_octave=1, ratios=[1.0], strides=[8, 16, 32]),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True), loss_bbox=dict(type='L1Loss')),
    train_cfg=dict(
        assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0, ignore_iof_thr=-1),
        sampler=dict(type='PseudoSampler'), allowed_border=-1, pos_weight=-1),
    test_cfg=dict(nms_pre=100, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=10))
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=1.0), clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1))))
"""


class ToyPreprocessor(nn.Module):
    """Hands its data through."""

    def forward(self, data, training=False):
        return data


@register_inputs('ToyPreprocessor')
def toy_inputs(model, batch, shape, train, cfg):
    return dict(inputs=torch.ones(batch, *shape, 8))


@MODELS.register_module()
class ToyAttention(BaseModel):
    """Attention over height x width tokens of 8 channels, which reports how often it was called."""

    def __init__(self, need_weights=False, has_tensor_mode=True, countable=True):
        super().__init__(data_preprocessor=ToyPreprocessor())
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.need_weights, self.has_tensor_mode, self.countable = need_weights, has_tensor_mode, countable
        self.calls, self.dtypes = 0, []

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if mode == 'tensor' and not self.has_tensor_mode:
            raise NotImplementedError('no tensor mode')
        if not self.countable and len(inputs) == 1:  # the count is of one sample
            raise NotImplementedError('cannot be counted')
        self.calls += 1
        tokens = inputs.flatten(1, 2)
        if self.training or not self.need_weights:
            result = self.attention(tokens, tokens, tokens, need_weights=self.need_weights)[0]
        else:  # a mask makes the layer add it within the product (baddbmm)
            result = self.attention(
                tokens, tokens, tokens, attn_mask=tokens.new_zeros(tokens.shape[1], tokens.shape[1])
            )[0]
        self.dtypes.append(result.dtype)
        if mode == 'loss':
            return dict(loss=result.square().mean())
        return [BaseDataElement(result=result)] if mode == 'predict' else result

    def benchmark_info(self):
        return dict(calls=self.calls)


def toy_config(**kwargs):
    return Config(
        dict(
            default_scope='mmdet',
            model=dict(type='mmengine.ToyAttention', **kwargs),
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=1.0)),
        )
    )


@pytest.fixture(scope='module')
def config_file(tmp_path_factory):
    path = tmp_path_factory.mktemp('benchmark') / 'retinanet.py'
    path.write_text(RETINANET)
    return str(path)


def run_tool(config_file, tmp_path, *options):
    out = tmp_path / 'new_folder' / 'out.json'
    small = ['--device', 'cpu', '--threads', '1', '--shape', '64', '100', '--iters', '3', '--warmup', '1']
    tool.main([config_file, *small, '--out', str(out), *options])
    return json.loads(out.read_text())


def test_inference_report(config_file, tmp_path, capsys):
    report = run_tool(config_file, tmp_path, '--batch', '2')
    assert report['environment']['device'] == 'cpu' and report['environment']['threads'] == 1
    assert report['settings']['batch'] == 2 and report['settings']['shape'] == [64, 100]
    (result,) = report['models']
    cfg = Config.fromfile(config_file)
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model)
    assert result['parameters']['total'] == sum(p.numel() for p in model.parameters())
    latency = result['latency_ms']
    assert len(latency['times']) == 3 and 0 < latency['p10'] <= latency['median'] <= latency['p90']
    parts = result['parts_ms']
    assert {'data_preprocessor', 'backbone', 'neck', 'bbox_head', 'other'} == set(parts)
    assert min(parts.values()) >= 0 and max(parts, key=parts.get) in ('backbone', 'bbox_head')
    assert result['throughput'] == pytest.approx(2e3 / latency['median'])
    memory = result['memory_bytes']
    assert memory['peak'] == memory['resident'] + memory['step']
    # The two images in float32, as the preprocessor makes them, are the least that a step needs.
    assert memory['step'] > 2 * 3 * 64 * 100 * 4
    assert result['flops']['total'] > 1e6 and result['flops']['reason'] is None
    table = capsys.readouterr().out
    assert f'{result["parameters"]["total"] / 1e6:.3f} M' in table and 'samples/s' in table and 'B / A' not in table


def test_train_against_itself_and_frozen(config_file, tmp_path, capsys):
    itself = run_tool(config_file, tmp_path, '--train', '--vs', config_file)
    assert {itself['ratios'][key] for key in ('parameters', 'flops')} == {1.0}
    assert itself['ratios']['peak_memory'] == pytest.approx(1.0, rel=0.01)
    assert itself['ratios']['latency_p10'] <= itself['ratios']['latency'] <= itself['ratios']['latency_p90']
    printed = capsys.readouterr().out
    spread = ' - '.join(f'{itself["ratios"][key]:.3f}' for key in ('latency_p10', 'latency_p90'))
    assert 'ratio B / A: the figure of B divided by that of A, below 1 where B needs less' in printed
    assert f'p10 - p90 {spread}' in printed

    frozen = ('--vs', config_file, '--vs-cfg-options', 'model.backbone.frozen_stages=4')
    report = run_tool(config_file, tmp_path, '--train', *frozen)
    a, b = report['models']
    assert report['ratios']['parameters'] == 1.0
    assert b['parameters']['trainable'] < a['parameters']['trainable']
    saved = a['parameters']['trainable'] - b['parameters']['trainable']
    # What is frozen needs neither the two moments of AdamW nor a gradient (nor the activations for it).
    assert a['memory_bytes']['resident'] - b['memory_bytes']['resident'] == pytest.approx(8 * saved, rel=0.01)
    assert a['memory_bytes']['step'] - b['memory_bytes']['step'] > 4 * saved


def test_training_leaves_the_weights(config_file):
    subject = Subject(Config.fromfile(config_file), shape=(64, 64), train=True)
    before = {name: value.clone() for name, value in subject.model.named_parameters()}
    subject.step()
    optimizer = subject.optim_wrapper.optimizer
    assert len(optimizer.state) == len([p for p in subject.model.parameters() if p.requires_grad])
    assert all(torch.equal(before[name], value) for name, value in subject.model.named_parameters())


def test_detection_inputs():
    model = nn.ModuleDict(dict(head=nn.Identity(), mask_head=nn.Identity()))
    model['head'].num_classes, model['mask_head'].num_classes = 3, 80
    data = detection_inputs(model, 2, (48, 64), True, Config())
    assert [tuple(image.shape) for image in data['inputs']] == [(3, 48, 64)] * 2
    for sample in data['data_samples']:
        boxes, masks = sample.gt_instances.bboxes.tensor, sample.gt_instances.masks
        assert boxes.min() >= 0 and (boxes[:, 2:] <= torch.tensor([64, 48])).all()
        assert (boxes[:, 2:] - boxes[:, :2]).min() >= 5
        assert set(sample.gt_instances.labels.tolist()) <= {0, 1, 2}
        assert masks.masks.shape == (len(boxes), 48, 64) and masks.areas.min() > 0
    assert 'gt_instances' not in detection_inputs(model, 1, (48, 64), False, Config())['data_samples'][0]


def test_clip_inputs(config_dir):
    cfg = Config.fromfile(config_dir / 'stmixer' / 'stmixer_r18_toy.py')
    data = clip_inputs(nn.Identity(), 2, (48, 64), True, cfg)
    assert [tuple(clip.shape) for clip in data['inputs']] == [(3, 8, 48, 64)] * 2
    for sample in data['data_samples']:
        people = sample.gt_instances
        assert sample.img_shape == (48, 64) and people.labels.shape == (8, 9)
        assert people.bboxes.min() >= 0 and (people.bboxes[:, 2:] <= torch.tensor([64, 48])).all()
    del cfg.test_dataloader.dataset.pipeline[0]
    with pytest.raises(ValueError, match=r'stmixer_r18_toy.py: .*pipeline has 0 steps with clip_len'):
        clip_inputs(nn.Identity(), 1, (48, 64), False, cfg)


def test_video_inputs(config_dir):
    cfg = Config.fromfile(config_dir / 'jointformer' / 'jointformer_toy.py')
    (video,) = video_inputs(nn.Identity(), 1, (48, 64), False, cfg)['data_samples']
    assert [frame.frame_id for frame in video] == [*range(6)]
    assert [frame.annotated for frame in video] == ['gt_sem_seg' in frame for frame in video] == [True] + [False] * 5
    assert video[0].gt_sem_seg.sem_seg.unique().tolist() == [0, 1, 2]
    data = video_inputs(nn.Identity(), 2, (48, 64), True, cfg)
    assert [tuple(clip.shape) for clip in data['inputs']['img']] == [(3, 3, 48, 64)] * 2
    assert all('gt_sem_seg' in frame for clip in data['data_samples'] for frame in clip)
    with pytest.raises(ValueError, match='--batch 2: videos are segmented one at a time'):
        video_inputs(nn.Identity(), 2, (48, 64), False, cfg)


def test_cloud_inputs():
    """Points are where the model looks, and annotations fit them."""
    voxel_layer = SimpleNamespace(point_cloud_range=[-54.0, -54.0, -5.0, 54.0, 54.0, 3.0])
    model = SimpleNamespace(
        data_preprocessor=SimpleNamespace(num_features=5, voxel_layer=voxel_layer),
        decode_head=SimpleNamespace(num_classes=20),
        pts_bbox_head=SimpleNamespace(class_names=[['car'], ['truck', 'bus']]),
    )
    data = labelled_cloud_inputs(model, 1, (1, 1), True, Config())
    (cloud,), (sample,) = data['inputs']['points'], data['data_samples']
    labels = sample.gt_pts_seg.pts_semantic_mask
    assert cloud.shape == (120_000, 5) and len(labels) == len(cloud) and labels.unique().tolist() == [*range(20)]

    data = boxed_cloud_inputs(model, 1, (1, 1), True, Config())
    (cloud,), (sample,) = data['inputs']['points'], data['data_samples']
    assert cloud.shape == (250_000, 5) and cloud[:, :2].abs().max() < 54 and cloud[:, 2].abs().max() < 3
    assert len(sample.gt_instances_3d) == 20 and set(sample.gt_instances_3d.labels_3d.tolist()) == {0, 1, 2}
    assert 'gt_instances_3d' not in boxed_cloud_inputs(model, 1, (1, 1), False, Config())['data_samples'][0]


def test_parts_add_up():
    """What a child does inside of another of its own methods counts once; methods are as before afterwards."""
    now = 0.0

    def work(seconds):
        nonlocal now
        now += seconds

    class Head(nn.Module):
        def forward(self):
            work(2)

        def predict(self):
            work(1)
            self()

    class Stub:
        train, compiled, device = False, False, torch.device('cpu')
        model = nn.ModuleDict(dict(head=Head(), idle=nn.Identity()))

        def step(self):
            self.model['head'].predict()
            work(4)

    assert time_parts(Stub(), 2, lambda: now) == dict(head=3000.0, other=4000.0)
    assert not {'forward', 'predict'} & set(vars(Stub.model['head']))


def test_peak_of_known_allocations():
    def step():
        first = torch.zeros(2**20)  # 4 MiB
        second = torch.zeros(2**20)  # 8 MiB
        del first  # 4 MiB
        third = torch.zeros(2 * 2**20)  # 12 MiB
        del second, third
        torch.zeros(2**20)

    assert peak_bytes(step, torch.device('cpu')) == pytest.approx(12 * 2**20, rel=0.02)
    assert peak_bytes(lambda: None, torch.device('cpu')) == 0


@pytest.mark.parametrize('need_weights', [True, False], ids=['baddbmm', 'scaled_dot_product_attention'])
@pytest.mark.parametrize('has_tensor_mode', [True, False])
def test_flops_of_attention(need_weights, has_tensor_mode):
    subject = Subject(toy_config(need_weights=need_weights, has_tensor_mode=has_tensor_mode), shape=(5, 4), batch=3)
    flops = measure([subject], iters=1, warmup=1)[0]['flops']
    tokens, channels = 20, 8
    assert flops['total'] == 4 * tokens * channels**2 + 2 * tokens**2 * channels
    assert flops['path'] == ('tensor' if has_tensor_mode else 'predict')


def test_normalisations_and_interpolations_are_estimated():
    """As mmengine does: two operations per value of a batch norm, five of a layer norm (four without weights), and four
    per interpolated value.
    """

    class Layers(nn.Module):
        def __init__(self):
            super().__init__()
            self.data_preprocessor = ToyPreprocessor()
            self.norms = nn.Sequential(nn.BatchNorm2d(3), nn.LayerNorm(6))

        def forward(self, inputs, mode):
            maps = nn.functional.layer_norm(self.norms(inputs), (6,))
            return nn.functional.interpolate(maps, scale_factor=2, mode='bilinear')

    inputs = torch.ones(2, 3, 5, 6)
    assert count_flops(Layers(), dict(inputs=inputs))['total'] == (2 + 5 + 4 + 4 * 4) * inputs.numel()


def test_model_that_cannot_be_counted_costs_only_the_count():
    subjects = [Subject(toy_config(countable=countable), shape=(5, 4), batch=2) for countable in (False, True)]
    a, b = measure(subjects, iters=2, warmup=1)
    assert a['flops']['total'] is None and 'NotImplementedError: cannot be counted' in a['flops']['reason']
    assert tool.compare(a, b)['flops'] is None and tool.compare(b, b)['flops'] == 1.0
    # Training mode and what is trained are restored by the count.
    trained = Subject(toy_config(), shape=(5, 4), train=True)
    count_flops(trained.model, trained.data)
    assert trained.model.training and all(p.requires_grad for p in trained.model.parameters())


def test_modules_report_for_themselves():
    subject = Subject(toy_config(), shape=(5, 4))
    assert measure([subject], iters=3, warmup=2)[0]['info'] == {'model': {'calls': 5}}


def test_subjects_alternate():
    order = []

    class Recorder:
        device = torch.device('cpu')

        def __init__(self, name):
            self.step = lambda: order.append(name)

    times = time_steps([Recorder('A'), Recorder('B')], iters=2, warmup=1)
    assert order == ['A', 'B'] * 3 and [len(t) for t in times] == [2, 2]


@pytest.mark.parametrize('train', [True, False])
def test_amp_and_compile_on_cpu(train):
    cfg = toy_config()
    cfg.compile = dict(backend='eager')
    torch._dynamo.utils.counters.clear()
    subject = Subject(cfg, shape=(5, 4), train=train, amp=True, compile=True)
    subject.step()
    assert subject.model.dtypes == [torch.bfloat16]
    assert torch._dynamo.utils.counters['frames']['ok'] > 0


def test_checkpoint(tmp_path):
    good, bad = tmp_path / 'good.pth', tmp_path / 'bad.pth'
    weights = {name: value + 1 for name, value in Subject(toy_config()).model.state_dict().items()}
    torch.save(dict(state_dict=weights), good)
    loaded = Subject(toy_config(), checkpoint=str(good)).model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in loaded.items())
    torch.save(dict(state_dict={'other': torch.zeros(1)}), bad)
    with pytest.raises(ValueError, match=r'(?s)bad\.pth does not fit .*other.*Give the config that belongs'):
        Subject(toy_config(), checkpoint=str(bad))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--shape', '0', '64'], 'argument --shape: expected a positive whole number, found 0'),
        (['--batch', '-1'], 'argument --batch: expected a positive whole number, found -1'),
        (['--device', 'gpu'], "--device: expected cpu, cuda or cuda:N, found 'gpu'"),
        (['--device', 'cuda:99'], 'CUDA devices here; use --device cpu'),
        (['--vs', 'missing.py'], 'config missing.py does not exist: check the path'),
        (['--vs-cfg-options', 'a=1'], '--vs-cfg-options needs --vs CONFIG2'),
    ],
)
def test_errors(options, message, config_file, capsys):
    with pytest.raises(SystemExit) as caught:
        tool.main([config_file, *options])
    assert message in f'{caught.value.code}\n{capsys.readouterr().err}'


def test_error_of_incomplete_config(tmp_path):
    path = tmp_path / 'no_optimizer.py'
    path.write_text(RETINANET.partition('optim_wrapper')[0])
    with pytest.raises(SystemExit, match=r"no_optimizer\.py: the config has no field 'optim_wrapper'"):
        tool.main([str(path), '--train', '--device', 'cpu'])


def test_error_of_unknown_inputs():
    class Odd(nn.Module):
        data_preprocessor = nn.Identity()

    with pytest.raises(ValueError, match='data preprocessor Identity of Odd; known are .*DetDataPreprocessor'):
        make_inputs(Odd(), 1, (4, 4), False, Config())
