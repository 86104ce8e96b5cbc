"""Inference on given people from the command line, and what is refused before anything is done."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_person_models import (
    numbered_frames,
    write_csv,
)

from mvbench_plugins.apis import ActionDetInferencer, PersonDetector

pytestmark = [
    pytest.mark.filterwarnings('ignore:Checkpoint is not loaded'),
    pytest.mark.filterwarnings('ignore:the video has'),
]
TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'infer_action.py'


@pytest.fixture(scope='module')
def checkpoint(recaller: ActionDetInferencer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('weights') / 'recaller.pth'
    torch.save(dict(state_dict=recaller.model.state_dict(), meta=dict(cfg=recaller.cfg.pretty_text)), path)
    return path


@pytest.fixture
def run_tool(monkeypatch: pytest.MonkeyPatch, checkpoint: Path) -> Callable[..., None]:
    def run(*arguments: object) -> None:
        words = [str(TOOL), *map(str, arguments), '--checkpoint', str(checkpoint), '--no-progress']
        monkeypatch.setattr(sys, 'argv', words)
        runpy.run_path(str(TOOL), run_name='__main__')

    return run


def test_tool_takes_people_from_a_detector_or_a_file(run_tool, recaller, video, detector_files, tmp_path):
    config, weights = detector_files
    path = tmp_path / 'out.json'
    options = ['--json', path, '--device', 'cpu', '--det-score-thr', 0.4, '--lookahead', 1, '--action-thr', 0.01]
    run_tool(video, '--det-config', config, '--det-checkpoint', weights, '--det-label', 2, *options)
    by_hand = dict(det_score_thr=0.4, lookahead=1, action_thr=0.01)
    cars = PersonDetector(config, weights, label=2)
    expected = recaller(video, person_boxes=cars, **by_hand)['predictions']
    assert json.loads(path.read_text())['key_frames'] == expected
    assert [detection['person_score'] for detection in expected[1]['detections']] == [0.95]
    boxes = write_csv(tmp_path / 'boxes.csv', 'box,7,0.25,0.5,0.5,1.0,0.45')
    run_tool(video, '--person-boxes', boxes, '--first-second', 6, *options)
    expected = recaller(video, person_boxes=boxes, first_second=6, **by_hand)['predictions']
    assert json.loads(path.read_text())['key_frames'] == expected
    assert [len(record['detections']) for record in expected] == [0, 1, 0]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--det-config', 'person.py'], '--det-config and --det-checkpoint belong together'),
        (['--person-images', 'images.json'], '--person-images needs --person-boxes'),
        (['--det-config', 'person.py', '--person-boxes', 'boxes.csv'], 'not allowed with argument'),
    ],
)
def test_tool_refuses_options_that_do_not_go_together(run_tool, capsys, arguments, message):
    with pytest.raises(SystemExit):
        run_tool('video.mp4', '--json', 'out.json', *arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([], 'this model tells actions of people that are given to it.*--person-boxes FILE'),
        (['--person-boxes', 'missing.csv'], 'file of person boxes missing.csv does not exist'),
        (['--det-config', 'a.py', '--det-checkpoint', 'a.pth'], 'person detector: a.py does not exist'),
    ],
)
def test_tool_tells_what_is_missing_in_one_line(run_tool, video, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=f'error: {message}'):
        run_tool(video, '--json', 'out.json', *arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('people', 'message'),
    [
        ({0: [[0.1, 0.1, 0.5, 0.9]]}, r'these look like fractions.*multiply x by 96, y by 64'),
        ({0: [[1, 1, 9, 9]], 30: [[10, 10, 192, 20]]}, r'\[30\], row 0: found box \[10.*the video has 96 x 64 pixels'),
        ({0: [[1, 1, 9, 9], [5, 5, 3, 9]]}, r'person_boxes\[0\], row 1: .*expected finite x1 < x2 and y1 < y2'),
        ({0: [[1, 1, 9, float('nan')]]}, r'row 0: found box .*nan'),
        ({0: [[1, 1, 9, 9, float('nan')]]}, r'row 0: found score nan, expected one in \[0, 1\]'),
        ({0: [[1, 1, 9, 9, 97]]}, r'found score 97'),
        ({0: [1, 1, 9, 9]}, r'person_boxes\[0\]: found shape \(4,\)'),
        ({0: [[1, 1, 9]]}, r'found shape \(1, 3\)'),
        ({0: 'box'}, r"person_boxes\[0\]: found 'box'"),
        ({0: [[1, 1, 9, 9], [1, 2]]}, r'person_boxes\[0\]: found \[\['),
        ({0: [], 1: []}, r'key 1 is not the 0-based index of a key frame; these are 0, 30, 60'),
        ({1.0: []}, r'key 1.0 is not'),
        ({-30: []}, r'key -30 is not'),
        ([[]] * 4, r'found 4 entries, expected one array for each of the 3 key frames'),
        (np.zeros((1, 4)), r'found 1 entries, expected one array for each of the 3'),
        (np.zeros((3, 4)), r'person_boxes\[0\]: found shape \(4,\), expected numbers \[n, 4\]'),
    ],
)
def test_wrong_arrays_are_refused_before_anything_is_done(recaller, monkeypatch, tmp_path, people, message):
    monkeypatch.chdir(tmp_path)
    recaller.model.extracted.clear()
    with pytest.raises(ValueError, match=message):
        recaller(numbered_frames(75), person_boxes=people, out='out.mp4', json_out='out.json')
    assert not list(tmp_path.iterdir()) and not recaller.model.extracted


@pytest.mark.parametrize(
    ('row', 'options', 'message'),
    [
        ('box,1,10,20,60,90,0.9', {}, r'boxes\.csv.*fractions'),
        ('box,1,0.1,0.1,0.5,0.5,nan', {}, r'boxes\.csv.*score.*nan'),
        ('film,1,0.1,0.1,0.5,0.5,0.9', {}, r"boxes\.csv has no boxes of video 'box'.* such as film"),
        ('box,902,0.1,0.1,0.5,0.5,0.9', {}, r'for the seconds 902 to 902, but the video covers 0 to 2.*first_second'),
        ('box,1,0.1,0.1,0.5,0.5,0.9', dict(first_second=2), 'the video covers 2 to 4'),
        ('box,1,0.1,0.1,0.5,0.5,0.9', dict(interval=0.5), r'whole seconds, but key frames lie 0\.5 s apart'),
    ],
)
def test_wrong_files_are_refused_before_anything_is_done(recaller, video, tmp_path, row, options, message):
    path = write_csv(tmp_path / 'boxes.csv', row)
    with pytest.raises(ValueError, match=message):
        recaller(video, person_boxes=path, out=tmp_path / 'out.mp4', **options)
    assert not (tmp_path / 'out.mp4').exists()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(), 'Give their boxes: person_boxes='),
        (dict(person_boxes={}, lookahead=3), 'lookahead: found 3, expected 0 to 2 key frames'),
        (dict(person_boxes={}, lookahead=-1), 'lookahead: found -1'),
        (dict(person_boxes={}, det_score_thr=80), r'det_score_thr: found 80, expected a number in \[0, 1\]'),
    ],
)
def test_options_that_a_model_of_given_people_refuses(recaller, options, message):
    with pytest.raises(ValueError, match=message):
        recaller.stream(numbered_frames(40), **options)
    with pytest.raises(TypeError, match='person_boxes: found int'):
        recaller.stream(numbered_frames(40), person_boxes=3)


@pytest.mark.parametrize('options', [dict(person_boxes={}), dict(lookahead=0), dict(det_score_thr=0.5)])
def test_model_that_finds_people_refuses_given_ones(inferencer, options):
    with pytest.raises(ValueError, match=f'{next(iter(options))}: this model finds people itself'):
        inferencer.stream(numbered_frames(40), **options)


def test_detectors_that_do_not_fit_are_refused(detector_files, tmp_path):
    config, weights = detector_files
    with pytest.raises(FileNotFoundError, match=r'person detector: .*missing\.pth does not exist'):
        PersonDetector(config, tmp_path / 'missing.pth', 'cpu')
    with pytest.raises(ValueError, match='label 3 is none of its 3 classes'):
        PersonDetector(config, weights, 'cpu', label=3)
    meta = dict(dataset_meta=dict(classes=('disc', 'square')))
    torch.save(torch.load(weights) | dict(meta=meta), tmp_path / 'solids.pth')
    with pytest.raises(ValueError, match=r"none of its classes is called 'person': disc, square; .*--det-label"):
        PersonDetector(config, tmp_path / 'solids.pth', 'cpu')
    torch.save(dict(state_dict=dict(other=torch.ones(1))), tmp_path / 'other.pth')
    with pytest.raises(ValueError, match=r'other\.pth lacks 1 weights of the model, such as score'):
        PersonDetector(config, tmp_path / 'other.pth', 'cpu')
