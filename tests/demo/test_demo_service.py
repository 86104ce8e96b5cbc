"""Each task from a work_dirs folder and an upload to a result; and choices that are refused."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from demo_runs import write_cameras, write_deqdet_run, write_picture, write_run, write_sweep, write_video

from mvbench_plugins.demo.catalogue import Catalogue
from mvbench_plugins.demo.pictures import OBJECT_COLORS
from mvbench_plugins.demo.runs import Result
from mvbench_plugins.demo.service import Choice, DemoService
from mvbench_plugins.demo.sessions import Sessions, Stopped
from mvbench_plugins.demo.tasks import TASKS

RANGE = [-12.8, -12.8, -5.0, 12.8, 12.8, 3.0]
LIDAR_DET = {
    'model.data_preprocessor.voxel_layer.point_cloud_range': RANGE,
    'model.pts_middle_encoder.sparse_shape': [41, 128, 128],
    'model.pts_bbox_head.bbox_coder.pc_range': RANGE[:2],
    'model.train_cfg.pts.point_cloud_range': RANGE,
    'model.train_cfg.pts.grid_size': [128, 128, 40],
    'model.test_cfg.pts.pre_max_size': 100,
}
LIDAR_SEG = {'model.backbone.channels': 8, 'model.decode_head.channels': 8}
RUNS = [
    ('deqdet', 'deqdet_r18_toy', {}),
    ('stmixer', 'stmixer_r18_toy', {}),
    ('sparsebev', 'sparsebev_r18_1-frame_toy', {}),
    ('link', 'link_det_toy', LIDAR_DET),
    ('link', 'link_seg_toy', LIDAR_SEG),
    ('jointformer', 'jointformer_toy', {}),
]
WEBM = b'\x1a\x45\xdf\xa3'


@pytest.fixture(scope='module')
def work_dirs(tmp_path_factory, config_dir) -> Path:
    folder = tmp_path_factory.mktemp('demo') / 'work_dirs'
    for plugin, name, options in RUNS:
        write_run(config_dir, folder, plugin, name, options)
    return folder


@pytest.fixture
def service(work_dirs) -> Iterator[DemoService]:
    with Sessions() as sessions:
        yield DemoService(sessions, Catalogue(work_dirs), 'cpu', max_bytes=10**8)


def choose(service: DemoService, title: str, upload: Path, **changes) -> Choice:
    """The newest checkpoint for a task, with its config."""
    name, checkpoint = next(iter(service.catalogue.checkpoints(TASKS[title]).items()))
    changes = dict(dict(config=checkpoint.config, checkpoint=name, weights=None), **changes)
    return Choice(title, upload=str(upload), score_thr=0.0, **changes)


def run(service: DemoService, title: str, upload: Path, **changes) -> tuple[Result, list[tuple]]:
    steps: list[tuple] = []
    result = service.run('visitor', choose(service, title, upload, **changes), lambda *step: steps.append(step))
    assert all(path.is_relative_to(service.sessions.root) and path.stat().st_size for path in result.files)
    return result, steps


def test_lists_hold_what_suits_a_task(work_dirs, tmp_path):
    for (_, name, _), task in zip(RUNS, TASKS.values(), strict=True):
        catalogue = Catalogue(work_dirs)
        assert list(catalogue.checkpoints(task)) == [f'{name}/epoch_1.pth']
        configs = catalogue.configs(task)
        assert next(iter(configs)) == f'{name}/{name}.py' and name in configs, 'that of the run, then the released ones'
    assert not any(
        'link_det' in name or 'deqdet' in name for name in catalogue.configs(TASKS['Video object segmentation'])
    )
    (tmp_path / 'official.pth').touch()
    (found,) = Catalogue(tmp_path).checkpoints(TASKS['Object detection']).values()
    assert found.config is None, 'without a config beside it, it is offered for all tasks'
    run = tmp_path / 'deqdet_r18_toy'
    shutil.copytree(work_dirs / run.name, run)
    os.utime(run / 'epoch_1.pth', (0, 0))
    names = list(Catalogue(tmp_path).checkpoints(TASKS['Object detection']))
    assert names == ['deqdet_r18_toy/epoch_1.pth', 'official.pth'], 'older, but known to suit'


def test_object_detection(service):
    upload = write_picture(service.sessions.root / 'photo of me.PNG')
    result, steps = run(service, 'Object detection', upload)
    assert result.summary == '16 objects of score 0 or more.' and steps == [(0, 1), (1, 1)]
    (picture,), (_, told) = result.pictures, result.files
    assert picture.read_bytes() != upload.read_bytes(), 'boxes are drawn'
    assert len(json.loads(told.read_text())['bboxes']) == 16


def test_action_detection(service):
    result, steps = run(service, 'Action detection', write_video(service.sessions.root / 'v.mp4'), seconds=1.2)
    assert result.video.read_bytes()[:4] == WEBM and 'at 2 key frames' in result.summary
    assert steps[-1] == (2, 2)


@pytest.mark.parametrize('frames', [1, 2])
def test_six_cameras(service, frames):
    upload = write_cameras(service.sessions.root / 'cameras.zip', frames)
    result, steps = run(service, '3D detection with six cameras', upload)
    assert steps[-1] == (frames, frames)
    assert len(json.loads(result.files[1].read_text())['frames']) == frames
    assert (result.video is None) == bool(result.pictures) == (frames == 1)


def test_the_example_is_run(service):
    upload = service.example('visitor', '3D detection with six cameras')
    assert upload.is_relative_to(service.sessions.folder('visitor'))
    result, _ = run(service, '3D detection with six cameras', upload)
    assert len(json.loads(result.files[1].read_text())['frames']) == 1
    with pytest.raises(ValueError, match="task: found 'Object detection', which has no example"):
        service.example('visitor', 'Object detection')


def test_lidar(service):
    found, _ = run(service, '3D detection with LiDAR', write_sweep(service.sessions.root / 'a.bin', 5))
    labelled, steps = run(service, 'Segmentation of LiDAR points', write_sweep(service.sessions.root / 'b.bin', 4))
    assert found.summary.endswith('boxes of score 0 or more.')
    assert labelled.summary.startswith('500 points of ') and labelled.pictures and steps == [(0, 1), (1, 1)]
    with pytest.raises(ValueError, match=r'^points c\.bin: found points of 4 values each, .* expected 5'):
        run(service, '3D detection with LiDAR', write_sweep(service.sessions.root / 'c.bin', 4))


def test_video_object_segmentation(service):
    layer = np.zeros((64, 96, 4), np.uint8)
    layer[20:44, 20:44] = (*OBJECT_COLORS[0], 255)
    upload = write_video(service.sessions.root / 'v.mp4')
    with pytest.raises(ValueError, match='no object is drawn'):
        run(service, 'Video object segmentation', upload)
    first = service.first_frame('visitor', str(upload))
    result, steps = run(service, 'Video object segmentation', upload, layers=[layer], seconds=0.5)
    assert first.exists(), 'it is still being drawn on'
    assert result.summary == '1 object in 5 frames.'
    assert steps[-1] == (5, 5) and result.video.read_bytes()[:4] == WEBM
    with zipfile.ZipFile(result.files[1]) as masks:
        assert len(masks.namelist()) == 5


def test_a_run_is_stopped(service):
    upload = write_video(service.sessions.root / 'v.mp4')
    steps: list[tuple] = []

    def leave_at_second(done: int, total: int | None) -> None:
        steps.append((done, total))
        if done == 1:
            service.sessions.leave('visitor')

    with pytest.raises(Stopped):
        service.run('visitor', choose(service, 'Action detection', upload, seconds=1.2), leave_at_second)
    assert steps == [(0, 2), (1, 2)] and not list(service.sessions.root.iterdir())


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_uploaded_checkpoints_run_no_code(service, work_dirs, tmp_path):
    trace = tmp_path / 'trace'
    picture = write_picture(service.sessions.root / 'p.png')
    weights = service.sessions.root / 'evil.pth'
    torch.save(dict(state_dict=dict(a=torch.zeros(1)), meta=Evil(trace)), weights)
    with pytest.raises(ValueError, match=r'evil\.pth contains Python objects besides tensors and was refused'):
        run(service, 'Object detection', picture, weights=str(weights))
    # The config that a checkpoint carries is a program, too.
    content = torch.load(work_dirs / 'deqdet_r18_toy' / 'epoch_1.pth')
    content['message_hub'] = dict(runtime_info=dict(cfg=f'open({str(trace)!r}, "w")'))
    torch.save(content, weights)
    assert run(service, 'Object detection', picture, weights=str(weights))[0].pictures
    with pytest.raises(ValueError, match=r'config: found None, expected one of the list'):
        run(service, 'Object detection', picture, weights=str(weights), config=None)
    with pytest.raises(ValueError, match=r'evil\.pkl: found a \.pkl file, expected \.pth, \.pt'):
        run(service, 'Object detection', picture, weights=shutil.copy(weights, weights.with_suffix('.pkl')))
    assert not trace.exists()


def test_weights_of_another_model_are_refused(service, work_dirs):
    picture = write_picture(service.sessions.root / 'p.png')
    content = torch.load(work_dirs / 'deqdet_r18_toy' / 'epoch_1.pth')
    del content['state_dict'][next(iter(content['state_dict']))]
    torch.save(content, service.sessions.root / 'w.pth')
    with pytest.raises(ValueError, match=r'does not fit the model of deqdet_r18_toy\.py: .*missing keys'):
        run(service, 'Object detection', picture, weights=str(service.sessions.root / 'w.pth'))


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(config='/etc/passwd'), r"config: found '/etc/passwd', expected one of the list for Object detection"),
        (dict(checkpoint='../x.pth'), r"checkpoint: found '\.\./x\.pth', expected one of the list, or an uploaded one"),
        (dict(seconds=float('inf')), r'inf seconds of video, expected .* up to 600'),
        (dict(weights='/etc/passwd'), r'passwd is not there any more: upload it again'),
    ],
)
def test_choices_that_are_not_offered(service, changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        run(service, 'Object detection', write_picture(service.sessions.root / 'p.png'), **changes)


def test_large_uploads_are_refused(service):
    service.max_bytes = 100
    with pytest.raises(ValueError, match=r'p\.png: found \d+ bytes, expected 100 at most'):
        run(service, 'Object detection', write_picture(service.sessions.root / 'p.png'))


def test_large_frames_are_refused(service):
    upload = write_video(service.sessions.root / 'v.mp4', frames=1, width=4096, height=4096)
    with pytest.raises(ValueError, match=r'^v\.mp4: found 4096 x 4096 pixels, expected 12 million at most'):
        run(service, 'Action detection', upload)


def test_compressed_checkpoints_are_refused(service, work_dirs):
    weights = service.sessions.root / 'w.pth'
    with zipfile.ZipFile(work_dirs / 'deqdet_r18_toy' / 'epoch_1.pth') as plain:
        with zipfile.ZipFile(weights, 'w', zipfile.ZIP_DEFLATED) as packed:
            for name in plain.namelist():
                packed.writestr(name, plain.read(name))
    with pytest.raises(ValueError, match=r'w\.pth: entry .* is compressed'):
        run(service, 'Object detection', write_picture(service.sessions.root / 'p.png'), weights=str(weights))


def test_a_model_stays_loaded_until_its_file_changes(tmp_path, config_dir):
    write_deqdet_run(config_dir, tmp_path)
    with Sessions() as sessions:
        service = DemoService(sessions, Catalogue(tmp_path), 'cpu', 10**8)
        scores = []
        for factor in (1.0, 1.0, 0.0):
            if not factor:
                path = tmp_path / 'deqdet_r18_toy' / 'epoch_1.pth'
                content = torch.load(path)
                content['state_dict'] = {key: value * factor for key, value in content['state_dict'].items()}
                torch.save(content, path)
            result, _ = run(service, 'Object detection', write_picture(sessions.root / 'p.png'))
            scores.append(json.loads(result.files[1].read_text())['scores'])
        assert scores[0] == scores[1] != scores[2]
