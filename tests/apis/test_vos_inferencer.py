"""VOSInferencer and tools/infer_vos.py: what the model gets, what comes out, and that nothing piles up."""

from __future__ import annotations

import json
import runpy
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from video_files import read_frames
from vos_world import (
    COLORS,
    HEIGHT,
    SECOND,
    WIDTH,
    ColorFollower,
    follower_config,
    frame,
    index_map,
    read_mask,
    write_frames,
    write_mask,
    write_video,
)

from mvbench_plugins.apis import VOSInferencer

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'infer_vos.py'
COUNT = 10
pytestmark = [pytest.mark.filterwarnings('ignore:Checkpoint is not loaded'), pytest.mark.usefixtures('scope_det')]


@pytest.fixture
def inferencer() -> VOSInferencer:
    return VOSInferencer(follower_config(), device='cpu', show_progress=False)


@pytest.fixture
def checkpoint(inferencer, tmp_path) -> Path:
    """Weights of the follower with their config, as the runner saves them."""
    path = tmp_path / 'follower.pth'
    state = dict(state_dict=inferencer.model.state_dict(), meta=dict(cfg=inferencer.cfg.pretty_text))
    torch.save(state, path)
    return path


@pytest.fixture
def frames(tmp_path) -> Path:
    return write_frames(tmp_path / 'frames', COUNT)


def video_array(count: int = COUNT) -> np.ndarray:
    return np.stack([frame(number) for number in range(count)])


def test_objects_are_followed_from_where_they_are_given(inferencer):
    masks = {0: index_map(0), SECOND: index_map(SECOND)}
    result = inferencer(video_array(), masks, return_masks=True)
    model = inferencer.model
    # The first object is known when the second is given.
    expected = [(number, COUNT, {0: [1], SECOND: [2]}.get(number, [])) for number in range(COUNT)]
    assert model.seen == expected
    for label, color in COLORS.items():
        assert model.colors[label].tolist() == list(color)  # RGB
    for number, record in enumerate(result['predictions']):
        assert (record['frame'], record['name']) == (number, f'{number:05d}')
        assert (record['mask'] == index_map(number)).all()
    second = dict(id=2, area=256, box=[70 - SECOND, 36, 86 - SECOND, 52])
    assert result['predictions'][SECOND]['objects'][1] == second
    assert [len(record['objects']) for record in result['predictions']] == [1] * SECOND + [2] * (COUNT - SECOND)
    assert result['visualization'] is None
    info = dict(source=f'array of shape ({COUNT}, {HEIGHT}, {WIDTH}, 3)', width=WIDTH, height=HEIGHT, fps=30.0)
    assert result['video'] == info | dict(frames=COUNT)
    assert 'mask' not in inferencer(video_array(2), index_map(0))['predictions'][0]


def test_a_whole_annotation_gives_each_object_once(inferencer, frames, tmp_path):
    for number in range(COUNT):
        write_mask(tmp_path / 'masks' / f'{5 * number + 5:02d}.png', index_map(number))
    inferencer(frames, tmp_path / 'masks')
    assert [labels for *_, labels in inferencer.model.seen] == [[1]] + [[]] * 5 + [[2]] + [[]] * 3


def test_frames_before_the_first_object_are_passed_over(inferencer):
    video, first = video_array(), index_map(4)
    # An empty first mask only says that there is nothing yet.
    result = inferencer(video, {0: np.zeros_like(first), 4: first}, return_masks=True)
    assert inferencer.model.seen == [(number, COUNT - 4, [1] if number == 0 else []) for number in range(COUNT - 4)]
    assert [len(record['objects']) for record in result['predictions']] == [0] * 4 + [1] * 6
    assert all(not record['mask'].any() for record in result['predictions'][:4])


def test_boxes_and_points_become_rectangles_and_discs(inferencer):
    box = (0, 7, (8, 10, 24, 26))
    points = [(SECOND, 9, (70.0, 44.0)), (SECOND, 9, (74, 40))]
    result = inferencer(video_array(), boxes=[box], points=points, point_radius=3, return_masks=True)
    assert [labels for *_, labels in inferencer.model.seen if labels] == [[7], [9]]
    expected = np.array([0, 7, 9], np.uint8)[index_map(COUNT - 1)]
    assert (result['predictions'][-1]['mask'] == expected).all()


def test_files_hold_what_was_found(inferencer, frames, tmp_path):
    first = write_mask(tmp_path / 'first.png', index_map(0))
    out = tmp_path / 'new' / 'out'
    result = inferencer(frames, first, out_dir=out, save=['overlay', 'masks', 'frames', 'json'], fps=12)
    assert sorted(path.name for path in out.iterdir()) == ['frames', 'masks', 'objects.json', 'overlay.mp4']
    names = [f'{5 * number + 5:02d}' for number in range(COUNT)]
    assert {path.name for path in (out / 'masks').iterdir()} == {f'{name}.png' for name in names}
    assert {path.name for path in (out / 'frames').iterdir()} == {f'{name}.jpg' for name in names}
    for number, name in enumerate(names):
        labels = read_mask(out / 'masks' / f'{name}.png')
        assert (labels == np.where(index_map(number) == 1, 1, 0)).all()
    with Image.open(out / 'masks' / '05.png') as image:
        assert image.getpalette()[:9] == [0, 0, 0, 200, 100, 50, 10, 20, 30]
    content = json.loads((out / 'objects.json').read_text())
    assert content == dict(video=result['video'], complete=True, frames=result['predictions'])
    assert content['video']['fps'] == 12 and content['video']['source'] == str(frames)
    assert result['visualization'] == str(out / 'overlay.mp4')
    pictures = read_frames(out / 'overlay.mp4')
    assert len(pictures) == COUNT and pictures[0].shape == (8 * HEIGHT, 8 * WIDTH, 3)


def test_video_file_takes_masks_by_index(inferencer, tmp_path):
    video = write_video(tmp_path / 'video.mp4', COUNT)
    for number in (0, SECOND):
        write_mask(tmp_path / 'masks' / f'{number:05d}.png', index_map(number))
    result = inferencer(video, tmp_path / 'masks', out_dir=tmp_path / 'out', save=['masks'])
    assert {length for _, length, _ in inferencer.model.seen} == {None}  # headers may be wrong
    assert result['visualization'] is None and result['video']['fps'] == 25
    for number in range(COUNT):
        found, true = read_mask(tmp_path / 'out' / 'masks' / f'{number:05d}.png'), index_map(number)
        # The codec blurs colours at borders.
        assert np.mean(found[true > 0] == true[true > 0]) > 0.8 and np.mean(found[true == 0] > 0) < 0.05


def test_only_the_chosen_files_are_written(inferencer, tmp_path):
    inferencer(video_array(2), index_map(0), out_dir=tmp_path / 'a')
    assert sorted(path.name for path in (tmp_path / 'a').iterdir()) == ['masks', 'overlay.mp4']
    inferencer(video_array(2), index_map(0), out_dir=tmp_path / 'b', save=['json'])
    assert [path.name for path in (tmp_path / 'b').iterdir()] == ['objects.json']


class Living:
    """How many of the objects that passed are still in memory."""

    def __init__(self) -> None:
        self._all: list[weakref.ref] = []

    def watch(self, thing: object) -> object:
        self._all.append(weakref.ref(thing))
        return thing

    def __len__(self) -> int:
        return sum(reference() is not None for reference in self._all)


def test_memory_is_constant_in_the_length_of_a_video(inferencer, tmp_path):
    for way in ('stream', 'call'):
        alive = Living()
        source = (alive.watch(frame(number)) for number in range(100))
        most = []
        inferencer.model.act = lambda _, alive=alive, most=most: most.append(len(alive))
        if way == 'stream':
            samples = Living()
            for sample in inferencer.stream(source, index_map(0)):
                samples.watch(sample.pred_sem_seg.sem_seg)
                most.append(len(samples))
        else:
            inferencer(source, index_map(0), out_dir=tmp_path, save=['overlay', 'masks', 'frames', 'json'])
        assert len(most) >= 100 and max(most) <= 3


def test_stream_yields_as_it_goes_and_is_drawn(inferencer):
    stream = inferencer.stream((frame(number) for number in range(COUNT)), index_map(0))
    assert inferencer.model.seen == []
    sample = next(stream)
    assert inferencer.model.seen == [(0, None, [1])]
    assert (sample.frame_index, sample.frame_name) == (0, '00000')
    (picture,) = inferencer.visualize([frame(0)], [sample])
    assert picture.shape == (8 * HEIGHT, 8 * WIDTH, 3)
    assert [sample.frame_index for sample in stream] == list(range(1, COUNT))


def test_two_streams_do_not_mix(inferencer):
    first = inferencer.stream(video_array(), index_map(0))
    next(first)
    second = inferencer.stream(video_array(), index_map(0))
    next(second)
    with pytest.raises(RuntimeError, match='another video was begun before its end'):
        next(first)
    assert len(list(second)) == COUNT - 1


def test_options_reach_the_model():
    chosen = VOSInferencer(
        follower_config(), device='cpu', size=48, amp=True, mem_every=2, max_memory_frames=3, show_progress=False
    )
    assert chosen.model.test_cfg == dict(mem_every=2, topk=None, max_memory_frames=3)
    assert chosen.model.data_preprocessor.test_size == 48
    chosen(video_array(2), index_map(0))
    assert chosen.model.dtypes == {torch.bfloat16}
    plain = VOSInferencer(follower_config(), device='cpu', show_progress=False)
    assert plain.model.test_cfg == dict(mem_every=5, topk=None) and plain.model.data_preprocessor.test_size == 480
    plain(video_array(2), index_map(0))
    assert plain.model.dtypes == {torch.float32}


@pytest.mark.parametrize('amp', [False, True])
def test_jointformer_returns_the_masks_that_it_is_given(config_dir, amp):
    cfg = Config.fromfile(config_dir / 'jointformer' / '_base_' / 'jointformer.py')
    dims = (16, 24, 48)
    cfg.model.backbone.update(embed_dims=dims, depths=(1, 1, 2), num_heads=3)
    cfg.model.mask_head.update(embed_dims=dims)
    chosen = VOSInferencer(
        cfg, device='cpu', size=HEIGHT, amp=amp, mem_every=2, max_memory_frames=3, show_progress=False
    )
    second = index_map(SECOND) == 2
    result = chosen(video_array(5), {1: index_map(1), 3: 2 * second.astype(int)}, return_masks=True)
    masks = [record['mask'] for record in result['predictions']]
    assert len(masks) == 5 and not masks[0].any()
    assert (masks[1] == index_map(1)).all()
    assert ((masks[3] == 2) == second).all()
    assert {*np.unique(masks[2])} <= {0, 1} and {*np.unique(masks[4])} <= {0, 1, 2}


def test_unreadable_frame_is_named_and_what_was_finished_stays(inferencer, frames, tmp_path):
    (frames / '25.png').write_bytes(b'no picture')
    with pytest.raises(ValueError, match=r'frame .*25\.png .10 bytes. cannot be decoded'):
        inferencer(frames, index_map(0), out_dir=tmp_path / 'out', save=['overlay', 'masks', 'json'])
    assert len(list((tmp_path / 'out' / 'masks').iterdir())) == 4
    assert len(read_frames(tmp_path / 'out' / 'overlay.mp4')) == 4
    content = json.loads((tmp_path / 'out' / 'objects.json').read_text())
    assert content['complete'] is False and len(content['frames']) == 4


def test_object_beyond_the_end_of_a_stream_is_told(inferencer):
    source = (frame(number) for number in range(3))
    with pytest.warns(UserWarning, match='ended at frame 2, before the object given at frame 8'):
        inferencer(source, {0: index_map(0), 8: index_map(8)})


def test_config_comes_from_the_checkpoint(checkpoint):
    model = VOSInferencer(weights=checkpoint, device='cpu', size=32).model
    assert isinstance(model, ColorFollower) and model.data_preprocessor.test_size == 32


def test_wrong_models_and_options_are_refused(checkpoint, tmp_path):
    with pytest.raises(
        ValueError, match='the config: found the model RetinaNet, expected one that goes through videos'
    ):
        VOSInferencer(dict(model=detector_config()), device='cpu')
    torch.save(dict(state_dict=dict(other=torch.zeros(1))), tmp_path / 'other.pth')
    with pytest.raises(ValueError, match=r'does not fit the model of the config: .*other'):
        VOSInferencer(follower_config(), tmp_path / 'other.pth', 'cpu')
    for options in (dict(size=8), dict(mem_every=0), dict(max_memory_frames=0)):
        with pytest.raises(ValueError, match=f'{next(iter(options))}: found {next(iter(options.values()))}, expected'):
            VOSInferencer(follower_config(), device='cpu', **options)


def detector_config() -> dict:
    """A small model that is no segmenter of videos."""
    head = dict(type='RetinaHead', num_classes=1, in_channels=8, feat_channels=8, stacked_convs=1)
    return dict(
        type='RetinaNet',
        backbone=dict(type='ResNet', depth=18, base_channels=8),
        neck=dict(type='FPN', in_channels=[8, 16, 32, 64], out_channels=8, num_outs=5),
        bbox_head=head,
    )


@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        (dict(save=['video']), r"save: found \['video'\], expected some of overlay, masks, frames, json"),
        (dict(save='masks'), "save: found 'masks'"),
        (dict(save=[]), r'save: found \[\]'),
        (dict(out_dir='FILE'), r'out_dir: .*first\.png is a file, expected a folder'),
        (dict(out_dir='HERE'), r'out_dir: .* holds the input .*masks/first\.png, which would be overwritten'),
        (dict(fps=-1), 'fps: found -1'),
    ],
)
def test_wrong_outputs_are_refused_before_anything_is_computed(inferencer, tmp_path, options, expected):
    first = write_mask(tmp_path / 'masks' / 'first.png', index_map(0))
    places = dict(FILE=first, HERE=tmp_path)
    options['out_dir'] = places.get(options.get('out_dir'), tmp_path / 'out')
    with pytest.raises(ValueError, match=expected):
        inferencer(video_array(), first, **options)
    assert inferencer.model.seen == [] and [path.name for path in tmp_path.iterdir()] == ['masks']


def test_inputs_are_not_overwritten(inferencer, frames, tmp_path):
    """Frames in the folder ``frames`` of the output, and an overlay video that is followed again."""
    video = write_video(tmp_path / 'overlay.mp4', 2)
    for source, kind in ((frames, 'frames'), (video, 'overlay')):
        with pytest.raises(ValueError, match=r'out_dir: .* holds the input .*, which would be overwritten'):
            inferencer(source, index_map(0), out_dir=tmp_path, save=[kind])
        inferencer(source, index_map(0), out_dir=tmp_path, save=['json'])


def test_frames_of_an_iterator_are_checked(inferencer):
    with pytest.raises(ValueError, match=r'iterator of frames: frame 1 is float64 \(64, 96, 3\), expected uint8'):
        inferencer(iter([frame(0), frame(1) / 255]), index_map(0))
    with pytest.raises(TypeError, match='cannot read a video from list'):
        inferencer([frame(0)], index_map(0))


def test_frames_of_one_name_are_refused(inferencer, frames):
    (frames / '05.jpg').write_bytes((frames / '05.png').read_bytes())
    with pytest.raises(ValueError, match=r'frames .*05\.\w+ and 05\.\w+ have one name'):
        inferencer(frames, index_map(0))


def test_no_other_toolbox_is_needed():
    code = (
        'import sys; sys.modules.update(mmaction=None, mmdet3d=None); from mvbench_plugins.apis import VOSInferencer; '
        'import mvbench_plugins.apis.vos_hook'
    )
    subprocess.run([sys.executable, '-c', code], check=True, cwd=TOOL.parents[1])


@pytest.fixture
def run_tool(monkeypatch, checkpoint) -> Callable[..., None]:
    def run(*arguments: object) -> None:
        arguments = [*arguments, '--checkpoint', checkpoint, '--device', 'cpu', '--no-progress']
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments)])
        runpy.run_path(str(TOOL), run_name='__main__')

    return run


def test_tool_follows_masks_boxes_and_points(run_tool, frames, tmp_path, capsys):
    first = write_mask(tmp_path / 'first.png', index_map(0))
    out = tmp_path / 'out'
    prompts = ['--point', 6, 2, 72, 44, '--point-radius', 4, '--box', 8, 3, 0, 0, 6, 6]
    run_tool(frames, '--mask', first, *prompts, '--out', out, '--save', 'masks', 'json', '--amp', '--size', 32)
    assert f'{COUNT} frames, 3 objects: masks, json below {out}' in capsys.readouterr().out
    content = json.loads((out / 'objects.json').read_text())
    assert [found['id'] for found in content['frames'][7]['objects']] == [1, 2]
    assert (read_mask(out / 'masks' / '40.png') == index_map(7)).all()


def test_tool_finishes_its_files_when_it_is_told_to_end(run_tool, frames, tmp_path, monkeypatch, capsys):
    predict = ColorFollower.predict

    def interrupted(model: ColorFollower, inputs: dict, data_samples: list) -> list:
        if len(model.seen) == 3:
            signal.raise_signal(signal.SIGTERM)
        return predict(model, inputs, data_samples)

    monkeypatch.setattr(ColorFollower, 'predict', interrupted)
    with pytest.raises(SystemExit, match='130'):
        run_tool(frames, '--box', 0, 1, 8, 10, 24, 26, '--out', tmp_path / 'out', '--save', 'overlay', 'json')
    assert 'what was found until now stands in' in capsys.readouterr().err
    assert len(read_frames(tmp_path / 'out' / 'overlay.mp4')) == 3
    content = json.loads((tmp_path / 'out' / 'objects.json').read_text())
    assert content['complete'] is False and len(content['frames']) == 3


@pytest.mark.parametrize(
    ('arguments', 'expected'),
    [
        ([], 'no object to follow: give --mask, --box or --point'),
        (['--box', 0.5, 1, 0, 0, 9, 9], '--box: found FRAME 0.5 and LABEL 1, expected whole numbers'),
        (['--mask', 'gone.png'], 'error: gone.png: no such mask'),
        (['--point', 0, 1, 500, 9], 'error: point of label 1 at frame 0: found (500.0, 9.0), expected x, y inside'),
        (['--point', 0, 1, 5, 9, '--cfg-options', 'a=1'], '--cfg-options needs --config'),
    ],
)
def test_tool_ends_with_one_message(run_tool, frames, tmp_path, capsys, arguments, expected):
    with pytest.raises(SystemExit) as error:
        run_tool(frames, '--out', tmp_path / 'out', *arguments)
    assert expected in str(error.value) + capsys.readouterr().err
    assert not (tmp_path / 'out').exists()
