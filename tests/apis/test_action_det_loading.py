"""ActionDetInferencer and tools/infer_action.py: where weights, config and names come from, and what the tool takes."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fake_action_detector import (
    detector_config,
    make_inferencer,
    numbered_frames,
)
from mmengine.config import Config
from video_files import read_frames

from mvbench_plugins.apis import ActionDetInferencer

pytestmark = pytest.mark.filterwarnings('ignore:Checkpoint is not loaded')
TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'infer_action.py'


@pytest.fixture(scope='module')
def checkpoint(inferencer: ActionDetInferencer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights with their config and with names of actions, as the runner saves them."""
    path = tmp_path_factory.mktemp('weights') / 'detector.pth'
    meta = dict(cfg=inferencer.cfg.pretty_text, dataset_meta=dict(classes=['none', *'ABCDEFGH']))
    torch.save(dict(state_dict=inferencer.model.state_dict(), meta=meta), path)
    return path


@pytest.fixture
def run_tool(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def run(*arguments: object) -> None:
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments), '--no-progress'])
        runpy.run_path(str(TOOL), run_name='__main__')

    return run


def test_weights_config_and_names_from_a_checkpoint_alone(checkpoint):
    loaded = ActionDetInferencer(weights=checkpoint, device='cpu', show_progress=False)
    (detection,) = loaded(numbered_frames(250))['predictions'][8]['detections']
    assert [action['name'] for action in detection['actions']] == list('HGFEDCBA')


def test_label_map_goes_before_other_names(inferencer, checkpoint, tmp_path):
    labels = tmp_path / 'labels.pbtxt'
    labels.write_text('item {\n  name: "jump"\n  id: 8\n}\n')
    loaded = ActionDetInferencer(inferencer.cfg, checkpoint, device='cpu', show_progress=False, label_map=labels)
    (detection,) = loaded(numbered_frames(250), action_thr=0.95)['predictions'][8]['detections']
    assert [action['name'] for action in detection['actions']] == ['jump', 'action 7', 'action 6']


def test_label_file_of_the_dataset_with_chosen_classes(tmp_path):
    entries = [f'item {{\n  name: "name {number}"\n  id: {number}\n}}\n' for number in range(1, 81)]
    (tmp_path / 'labels.pbtxt').write_text(''.join(entries))
    chosen = [3, 5, 9, 12, 40, 41, 79, 80]
    settings = dict(data_root=str(tmp_path), label_file='labels.pbtxt', custom_classes=chosen, metainfo=None)
    (detection,) = make_inferencer(**settings)(numbered_frames(250))['predictions'][8]['detections']
    assert [action['name'] for action in detection['actions']] == [f'name {number}' for number in chosen[::-1]]


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda cfg: cfg.test_dataloader.dataset.pipeline.pop(1), r'step SampleKeyFrameClip.*OpenVideo'),
        (lambda cfg: cfg.test_dataloader.dataset.pipeline.pop(2), r'one of LoadClipFrames'),
        (lambda cfg: cfg.pop('test_dataloader'), r'found \[\]'),
        (
            lambda cfg: cfg.test_dataloader.dataset.pop('type'),
            r"neither fps nor type, found \['metainfo', 'pipeline'\]",
        ),
    ],
)
def test_config_without_key_frames_is_refused(change, message):
    cfg = detector_config()
    change(cfg)
    with pytest.raises(ValueError, match=message):
        ActionDetInferencer(cfg, device='cpu')


def test_checkpoint_of_another_model_is_refused(inferencer, tmp_path):
    torch.save(dict(state_dict=dict(other=torch.ones(1))), tmp_path / 'other.pth')
    with pytest.raises(ValueError, match=r'does not fit the model(.|\n)*gain(.|\n)*Give the config that belongs to it'):
        ActionDetInferencer(inferencer.cfg, tmp_path / 'other.pth', device='cpu')


def test_checkpoint_that_cannot_serve_alone_is_refused(tmp_path):
    torch.save(dict(state_dict=dict(gain=torch.ones(()))), tmp_path / 'bare.pth')
    with pytest.raises(ValueError, match=r'bare\.pth does not hold its config: give the config file too'):
        ActionDetInferencer(weights=tmp_path / 'bare.pth', device='cpu')
    (tmp_path / 'text.pth').write_text('no weights')
    with pytest.raises(ValueError, match=r'text\.pth'):
        ActionDetInferencer(weights=tmp_path / 'text.pth', device='cpu')


def test_names_that_do_not_fit_the_model_are_refused():
    with pytest.raises(ValueError, match=r'3 names of actions from id 6 to 8|do not fit the 8'):
        make_inferencer(metainfo=dict(classes=dict.fromkeys(range(1, 12), 'x')))(numbered_frames(40))
    with pytest.raises(ValueError, match='11 names of actions .* do not fit the 8 actions'):
        make_inferencer(metainfo=dict(classes=['x'] * 11))(numbered_frames(40))


def test_tool_writes_video_and_json(run_tool, inferencer, checkpoint, video, tmp_path, capsys):
    config, out, path = tmp_path / 'config.py', tmp_path / 'out.mp4', tmp_path / 'out.json'
    inferencer.cfg.dump(config)
    run_tool(video, '--config', config, '--checkpoint', checkpoint, '--out', out, '--json', path, '--device', 'cpu')
    assert f'75 frames, 3 key frames, 3 people: {out} and {path}' in capsys.readouterr().out
    assert len(read_frames(out)) == 75
    assert json.loads(path.read_text())['key_frames'] == inferencer(video)['predictions']


def test_tool_passes_options_on(run_tool, checkpoint, inferencer, video, tmp_path):
    config, path = tmp_path / 'config.py', tmp_path / 'out.json'
    inferencer.cfg.dump(config)
    options = [
        '--step',
        10,
        '--max-seconds',
        1,
        '--batch-size',
        2,
        '--action-thr',
        0.1,
        '--person-thr',
        0.2,
        '--fps',
        60,
    ]
    changes = ['--cfg-options', 'test_dataloader.dataset.fps=60']
    run_tool(video, '--config', config, '--checkpoint', checkpoint, '--json', path, *options, *changes)
    changed = Config.fromfile(config)
    changed.test_dataloader.dataset.fps = 60
    expected = ActionDetInferencer(changed, checkpoint, show_progress=False)(
        video, step=10, max_seconds=1, batch_size=2, action_thr=0.1, pred_score_thr=0.2, fps=60
    )
    content = json.loads(path.read_text())
    assert content['key_frames'] == expected['predictions']
    assert len(content['key_frames']) == 6 and content['key_frames'][5]['detections'][0]['actions']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['missing.mp4', '--json', 'out.json'], 'video missing.mp4 does not exist'),
        (['missing.mp4', '--config', 'missing.py', '--json', 'out.json'], 'config missing.py does not exist'),
        (
            ['missing.mp4', '--json', 'out.json', '--label-map', 'missing.pbtxt'],
            'label map missing.pbtxt does not exist',
        ),
        (['missing.mp4', '--json', 'out.json', '--device', 'cuda:77'], 'cuda:77'),
    ],
)
def test_tool_tells_mistakes_in_one_line(run_tool, checkpoint, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=f'error: .*{message}'):
        run_tool(*arguments, '--checkpoint', checkpoint)


def test_tool_wants_something_to_write(run_tool, checkpoint, capsys):
    with pytest.raises(SystemExit):
        run_tool('video.mp4', '--checkpoint', checkpoint)
    assert 'give --out, --json or both' in capsys.readouterr().err
