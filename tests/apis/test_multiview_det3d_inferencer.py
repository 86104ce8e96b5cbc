"""MultiViewDet3DInferencer and tools/infer_multiview.py: what goes into the model, and what files hold."""

from __future__ import annotations

import json
import runpy
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet3d.registry import DATASETS
from multiview_world import SCENE, VERSION, OracleDetector, ToyTables, oracle_config, sparsebev_config
from nuscenes.eval.common.loaders import load_prediction
from nuscenes.eval.detection.data_classes import DetectionBox
from video_files import read_frames

from mvbench_plugins.apis import MultiViewDet3DInferencer
from mvbench_plugins.apis.multiview_frames import NuScenesFrames
from mvbench_plugins.sparsebev.dataset import CLASSES

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'infer_multiview.py'
pytestmark = [pytest.mark.filterwarnings('ignore:Checkpoint is not loaded'), pytest.mark.usefixtures('scope_3d')]


@pytest.fixture(scope='module')
def tokens(toy_multiview) -> list[str]:
    return ToyTables(toy_multiview).tokens()


@pytest.fixture(scope='module')
def drive(write_drive, tmp_path_factory) -> Path:
    """Ten frames at 6 Hz."""
    return write_drive(tmp_path_factory.mktemp('drives') / 'drive')


@pytest.fixture
def inferencer(toy_multiview) -> MultiViewDet3DInferencer:
    """With the oracle."""
    return MultiViewDet3DInferencer(oracle_config(toy_multiview), device='cpu', show_progress=False)


@pytest.fixture
def all_knowing(inferencer) -> MultiViewDet3DInferencer:
    """With an oracle that knows the annotations."""
    dataset = DATASETS.build(inferencer.cfg.test_dataloader.dataset)
    for frame in NuScenesFrames(dataset, [SCENE, 'scene-0093']):
        boxes, labels = frame.gt_bboxes_3d.tensor, torch.from_numpy(frame.gt_labels_3d)
        assert len(labels) >= 4
        inferencer.model.answers[frame.name] = boxes, labels
    return inferencer


@pytest.fixture
def checkpoint(inferencer, tmp_path) -> Path:
    """Weights of the oracle with their config and names of classes, as the runner saves them."""
    meta = dict(cfg=inferencer.cfg.pretty_text, dataset_meta=dict(classes=CLASSES[::-1]))
    torch.save(dict(state_dict=inferencer.model.state_dict(), meta=meta), tmp_path / 'oracle.pth')
    return tmp_path / 'oracle.pth'


def test_samples_and_scenes_are_found_by_token_and_by_name(inferencer, tokens, toy_multiview):
    tables = ToyTables(toy_multiview)
    other = tables.tokens('scene-0093')
    (scene_token,) = (token for token, record in tables.scene.items() if record['name'] == SCENE)
    for names, expected in (
        (tokens[2], tokens[2:3]),
        (SCENE, tokens),
        (scene_token, tokens),
        ([other[1], SCENE], [other[1], *tokens]),
    ):
        inferencer.model.seen.clear()
        result = inferencer(names)
        assert inferencer.model.seen == expected == [record['token'] for record in result['predictions']]
    assert result['visualization'] == []
    record = result['predictions'][0]
    assert record['bboxes_3d'][0] == pytest.approx([0, 10, -1.8, 4, 2, 1.5, np.pi / 2, 0, 5], abs=1e-6)
    assert (record['labels_3d'], record['box_type_3d']) == ([0], 'LiDAR')
    assert record['scores_3d'] == pytest.approx([0.9])
    assert abs(record['timestamp'] - tables.sample[other[1]]['timestamp'] / 1e6) < 0.05


def test_batches_and_data_samples(inferencer, tokens):
    samples = inferencer(SCENE, batch_size=3, return_datasamples=True)['predictions']
    assert [sample.token for sample in samples] == tokens
    assert samples[0].lidar2img.shape == (18, 4, 4) and len(samples[0].pred_instances_3d) == 1


def test_submission_holds_annotations_that_were_found_where_the_tables_have_them(all_knowing, tokens, tmp_path):
    all_knowing(SCENE, nuscenes_out=tmp_path / 'new' / 'results.json')
    assert [path.name for path in (tmp_path / 'new').iterdir()] == ['results.json']
    found, meta = load_prediction(str(tmp_path / 'new' / 'results.json'), 500, DetectionBox)
    assert meta['use_camera'] and not meta['use_lidar']
    assert sorted(found.sample_tokens) == sorted(tokens)
    root = Path(all_knowing.cfg.test_dataloader.dataset.data_root)
    annotations = json.loads((root / VERSION / 'sample_annotation.json').read_text())
    for token in tokens:
        real = [each for each in annotations if each['sample_token'] == token]
        boxes = found[token]
        assert len(boxes) >= 3
        for box in boxes:
            error = [np.abs(np.subtract(box.translation, each['translation'])).max() for each in real]
            nearest = real[int(np.argmin(error))]
            assert min(error) < 1e-3
            np.testing.assert_allclose(box.size, nearest['size'], atol=1e-3)


def test_picture_of_a_sample(all_knowing, tokens, tmp_path):
    result = all_knowing(tokens[1], out=tmp_path / 'a' / 'x.png', return_vis=True, view_width=256)
    (picture,) = result['visualization']
    assert picture.shape == (2 * 144, 3 * 256 + 2 * 144, 3)
    assert (cv2.imread(str(tmp_path / 'a' / 'x.png')) == picture).all()
    (bare,) = all_knowing(tokens[1], return_vis=True, view_width=256, pred_score_thr=1.0)['visualization']
    views, above = (np.split((picture != bare).any(-1), [3 * 256], axis=1)[part] for part in (0, 1))
    assert views.mean() > 0.01 and above.mean() > 0.005
    # the LiDAR sweep of the toy set: thousands of returns around the car
    assert ((bare[:, 3 * 256 :].min(-1) == bare[:, 3 * 256 :].max(-1)) & (bare[:, 3 * 256 :, 0] >= 80)).sum() > 150
    (true,) = all_knowing(tokens[1], return_vis=True, view_width=256, pred_score_thr=1.0, draw_gt=True)['visualization']
    assert (true[(true != bare).any(-1)].min(-1) > 120).mean() > 0.5  # white, softened at its edges


def test_scene_becomes_a_video_or_a_folder(inferencer, tokens, tmp_path):
    result = inferencer(SCENE, out=tmp_path / 'new' / 'scene.mp4', view_width=64)
    assert result['visualization'] == [str(tmp_path / 'new' / 'scene.mp4')]
    frames = read_frames(tmp_path / 'new' / 'scene.mp4')
    assert len(frames) == 4 and frames[0].shape == (72, 3 * 64 + 72, 3)
    assert cv2.VideoCapture(str(tmp_path / 'new' / 'scene.mp4')).get(cv2.CAP_PROP_FPS) == pytest.approx(2)
    inferencer(SCENE, out=tmp_path / 'fast.avi', view_width=64, fps=25)
    assert cv2.VideoCapture(str(tmp_path / 'fast.avi')).get(cv2.CAP_PROP_FPS) == pytest.approx(25)
    result = inferencer(SCENE, out=tmp_path / 'pictures', view_width=64)
    assert result['visualization'] == [
        str(tmp_path / 'pictures' / f'000{number}_{token}.jpg') for number, token in enumerate(tokens)
    ]
    assert all(Path(path).is_file() for path in result['visualization'])


def test_interrupt_keeps_what_was_found(inferencer, tokens, tmp_path):
    inferencer.model.interrupt = (2, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        inferencer(SCENE, out=tmp_path / 'a.mp4', json_out=tmp_path / 'a.json', nuscenes_out=tmp_path / 'n.json')
    content = json.loads((tmp_path / 'a.json').read_text())
    assert content['complete'] is False and content['classes'] == list(CLASSES)
    assert [frame['token'] for frame in content['frames']] == tokens[:2]
    assert len(read_frames(tmp_path / 'a.mp4')) == 2
    assert not (tmp_path / 'n.json').exists()  # the devkit would take it for all


def test_stream_yields_as_it_goes(inferencer, tokens):
    stream = inferencer.stream(SCENE)
    assert inferencer.model.seen == []
    assert next(stream).token == tokens[0]
    assert inferencer.model.seen == tokens[:1]
    assert [sample.token for sample in stream] == tokens[1:]


def test_drive_and_single_frame_in_folders(inferencer, drive, tmp_path):
    result = inferencer(drive, out=tmp_path / 'drive.mp4', view_width=64)
    assert [record['token'] for record in result['predictions']] == [str(drive / f'frame {n}') for n in range(1, 11)]
    assert len(read_frames(tmp_path / 'drive.mp4')) == 10
    assert cv2.VideoCapture(str(tmp_path / 'drive.mp4')).get(cv2.CAP_PROP_FPS) == pytest.approx(6, rel=1e-3)
    history = [drive / 'frame 1', drive / 'frame 2']
    (sample,) = inferencer(drive / 'frame 3', history=history, return_datasamples=True)['predictions']
    assert {Path(path).parent.name for path in sample.img_path} == {'frame 3', 'frame 1'}


def test_online_mode_computes_each_picture_once_and_finds_the_same(toy_multiview, drive):
    torch.manual_seed(0)
    offline, online = (
        MultiViewDet3DInferencer(sparsebev_config(toy_multiview), None, 'cpu', mode, show_progress=False)
        for mode in (False, True)
    )
    for linear in (offline.model.pts_bbox_head.decoder.layer.sampling.sampling_offset, offline.model.img_neck):
        torch.nn.init.normal_(next(linear.parameters()), std=0.3)
    online.model.load_state_dict(offline.model.state_dict())
    pictures = []
    online.model.img_backbone.register_forward_hook(lambda _, inputs, __: pictures.append(len(inputs[0])))
    for inputs, count, reach in (([SCENE, 'scene-0093'], 8, 6), (drive, 10, 7)):
        expected = offline(inputs)['predictions']
        pictures.clear()
        found = online(inputs)['predictions']
        assert pictures == [6] * count
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours['bboxes_3d'], theirs['bboxes_3d'], rtol=1e-4, atol=1e-4)
            assert ours['labels_3d'] == theirs['labels_3d']
        # two steps of half a second, which are six frames of the drive; at least twice the number of frames
        assert online.model.memory.max_frames == reach and len(online.model.memory) <= reach
    assert offline(drive / 'frame 10')['predictions'][0]['bboxes_3d'] != expected[-1]['bboxes_3d']  # the past matters


def test_config_and_names_come_from_the_checkpoint(checkpoint, tokens, tmp_path):
    inferencer = MultiViewDet3DInferencer(weights=checkpoint, device='cpu', show_progress=False)
    assert isinstance(inferencer.model, OracleDetector)
    inferencer(tokens[0], json_out=tmp_path / 'a.json')
    assert json.loads((tmp_path / 'a.json').read_text())['classes'] == list(CLASSES[::-1])


def test_config_of_the_suite_is_found_by_name():
    cfg = MultiViewDet3DInferencer('sparsebev_r18_toy', device='cpu').cfg
    assert Path(cfg.filename).name == 'sparsebev_r18_toy.py'


def test_wrong_models_are_refused(toy_multiview, inferencer, checkpoint, tmp_path):
    with pytest.raises(FileNotFoundError, match='config sparsebev_r19 does not exist: neither a file'):
        MultiViewDet3DInferencer('sparsebev_r19', checkpoint)
    torch.save(dict(state_dict=inferencer.model.state_dict()), tmp_path / 'bare.pth')
    with pytest.raises(ValueError, match=r'bare\.pth does not hold its config: give the config file'):
        MultiViewDet3DInferencer(weights=tmp_path / 'bare.pth')
    torch.save(dict(state_dict=dict(other=torch.zeros(1))), tmp_path / 'other.pth')
    with pytest.raises(ValueError, match=r'does not fit the model of the config: .*other.*Give the config that'):
        MultiViewDet3DInferencer(inferencer.cfg, tmp_path / 'other.pth', 'cpu')
    cfg = oracle_config(toy_multiview)
    cfg.test_dataloader.dataset.pipeline[0] = dict(type='LoadMultiViewImageFromFiles')
    with pytest.raises(ValueError, match='must have one step LoadMultiFrameImages, found'):
        MultiViewDet3DInferencer(cfg, device='cpu')
    cfg.test_dataloader.dataset.pipeline[0] = dict(type='LoadMultiFrameImages', num_frames=3, order='future')
    with pytest.raises(ValueError, match="online: this model looks into the future .order='future'"):
        MultiViewDet3DInferencer(cfg, device='cpu', online=True)


@pytest.mark.parametrize(
    ('inputs', 'options', 'expected'),
    [
        ('scene-9999', {}, r"'scene-9999' is neither a folder nor a sample token or a scene of .*scene-0092"),
        (SCENE, dict(batch_size=0), 'batch_size: found 0'),
        (SCENE, dict(history=['x']), 'history: expected for a folder'),
        (SCENE, dict(out='x.gif'), r'out: found x\.gif, expected \.mp4'),
        (SCENE, dict(out='x.jpg'), r'out: found x\.jpg for 4 frames, expected a folder or \.mp4'),
        (SCENE, dict(json_out='x.txt'), r'json_out: found x\.txt, expected .*\.json'),
        (SCENE, dict(nuscenes_out='x.txt'), r'nuscenes_out: found x\.txt'),
        (SCENE, dict(view_width=101), 'view_width: found 101'),
        (SCENE, dict(fps=0), 'fps: found 0'),
        ('DRIVES', {}, 'drive: expected one folder at a time; earlier frames belong into history'),
        ('DRIVE', dict(draw_gt=True), 'draw_gt: only samples of nuScenes'),
        ('DRIVE', dict(nuscenes_out='x.json'), 'nuscenes_out: only samples of nuScenes'),
    ],
)
def test_wrong_inputs_and_options_are_refused_before_anything_is_computed(
    inferencer, drive, tmp_path, monkeypatch, inputs, options, expected
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=expected):
        inferencer(dict(DRIVE=drive, DRIVES=[drive, drive]).get(inputs, inputs), **options)
    assert inferencer.model.seen == [] and not list(tmp_path.iterdir())


def test_submission_needs_the_classes_of_nuscenes(inferencer, tmp_path):
    inferencer.model.dataset_meta = dict(classes=['fish', *CLASSES[1:]])
    with pytest.raises(ValueError, match='nuscenes_out: the model tells classes that nuScenes has not: fish'):
        inferencer(SCENE, nuscenes_out=tmp_path / 'n.json')
    assert inferencer.model.seen == []


def test_online_mode_refuses_what_has_a_past_that_it_has_not_seen(toy_multiview, drive, tokens):
    online = MultiViewDet3DInferencer(sparsebev_config(toy_multiview), device='cpu', online=True)
    for inputs, options in ((tokens[2], {}), (drive / 'frame 3', dict(history=[drive / 'frame 1']))):
        with pytest.raises(ValueError, match='online mode remembers past frames, and has not seen those'):
            online(inputs, **options)
    with pytest.raises(ValueError, match='batch_size: found 2, expected 1 in online mode'):
        online(SCENE, batch_size=2)


def test_missing_info_file_and_missing_picture_are_named(toy_multiview, inferencer, drive, tmp_path):
    cfg = oracle_config(toy_multiview)
    cfg.test_dataloader.dataset.ann_file = 'gone.pkl'
    lost = MultiViewDet3DInferencer(cfg, device='cpu', show_progress=False)
    with pytest.raises(FileNotFoundError, match=r"'mistyped' is no folder, .*gone\.pkl.*create_nuscenes_sweeps"):
        lost('mistyped')
    assert len(lost(drive)['predictions']) == 10  # folders need no nuScenes


@pytest.fixture
def run_tool(monkeypatch) -> Callable[..., None]:
    def run(*arguments: object) -> None:
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments), '--no-progress'])
        runpy.run_path(str(TOOL), run_name='__main__')

    return run


def test_tool_writes_all_files(run_tool, checkpoint, tmp_path, capsys):
    out, records, submission = tmp_path / 'o.mp4', tmp_path / 'o.json', tmp_path / 'n.json'
    arguments = ['--checkpoint', checkpoint, '--device', 'cpu', '--view-width', '64', '--draw-gt', '--batch-size', 2]
    run_tool(SCENE, *arguments, '--out', out, '--json', records, '--nuscenes-json', submission)
    assert f'4 frames, 4 boxes of score 0.3 or more: {out} and {records} and {submission}' in capsys.readouterr().out
    assert len(read_frames(out)) == 4
    assert len(json.loads(records.read_text())['frames']) == 4
    assert len(json.loads(submission.read_text())['results']) == 4


def test_tool_finishes_its_files_when_it_is_told_to_end(run_tool, checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(OracleDetector, 'interrupt', (3, signal.SIGTERM))
    out, records = tmp_path / 'o.mp4', tmp_path / 'o.json'
    with pytest.raises(SystemExit, match='130'):
        run_tool(SCENE, '--checkpoint', checkpoint, '--device', 'cpu', '--out', out, '--json', records)
    assert 'what was found until now stands in' in capsys.readouterr().err
    assert len(read_frames(out)) == len(json.loads(records.read_text())['frames']) == 3


@pytest.mark.parametrize(
    ('arguments', 'expected'),
    [
        ([SCENE], 'nothing to write'),
        ([SCENE, '--out', 'x.mp4', '--cfg-options', 'a=1'], '--cfg-options needs --config'),
        (['FOLDER', 'FOLDER', '--out', 'x.mp4'], 'give one folder only'),
        (['nothing', '--out', 'x.mp4'], "error: 'nothing' is neither a folder nor a sample token"),
        ([SCENE, '--out', 'x.mp4', '--checkpoint', 'gone.pth'], 'checkpoint gone.pth does not exist'),
    ],
)
def test_tool_ends_with_one_message(run_tool, checkpoint, tmp_path, capsys, arguments, expected):
    arguments = [str(tmp_path) if argument == 'FOLDER' else argument for argument in arguments]
    with pytest.raises(SystemExit) as error:
        run_tool('--checkpoint', checkpoint, '--device', 'cpu', *arguments)
    assert expected in str(error.value) + capsys.readouterr().err
