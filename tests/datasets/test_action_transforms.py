"""Transforms of action detection: the published numbers, and what they say about bad input."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from mmaction.datasets.transforms import PackActionInputs

from mvbench_plugins.datasets.action.transforms import (
    ClipBoxes,
    DecodeVideoClip,
    FlipClip,
    LoadClipFrames,
    OpenVideo,
    ResizeShortSide,
    SampleKeyFrameClip,
    ShuffleFrames,
    clip_indices,
)


@pytest.mark.parametrize(
    'key_frame, total, clip_len, interval, rate, want',
    [
        # The key frame is element clip_len // 2.
        (90, 1000, 4, 16, 1.0, [58, 74, 90, 106]),
        (90, 1000, 5, 1, 1.0, [88, 89, 90, 91, 92]),
        (90, 1000, 1, 16, 1.0, [90]),
        # Ends repeat the first and the last frame.
        (0, 1000, 4, 16, 1.0, [0, 0, 0, 16]),
        (10, 12, 8, 2, 1.0, [2, 4, 6, 8, 10, 11, 11, 11]),
        (0, 1, 4, 2, 1.0, [0, 0, 0, 0]),
        (99, None, 4, 16, 1.0, [67, 83, 99, 115]),
        # Counted at 30 frames per second, stored at 25: the same moments, rounded to the nearest frame.
        (90, 1000, 4, 16, 25 / 30, [48, 62, 75, 88]),
        # Half frames round upwards, for odd and even numbers alike.
        (3, 1000, 3, 2, 0.5, [1, 2, 3]),
        (7, 1000, 3, 2, 0.5, [3, 4, 5]),
        (60, 1000, 4, 15, 2.0, [60, 90, 120, 150]),
    ],
)
def test_clip_indices(key_frame, total, clip_len, interval, rate, want):
    frames = clip_indices(key_frame, total, clip_len, interval, rate)
    assert frames.tolist() == want and frames.dtype == np.int64


@pytest.mark.parametrize('clip_len, interval', [(4, 16), (16, 4), (32, 2)])
def test_published_clips(clip_len, interval):
    """All cover the same 64 frames: range(centre - 32, centre + 32, interval)."""
    assert clip_indices(500, 27000, clip_len, interval).tolist() == list(range(468, 532, interval))


def _sample(**results) -> dict:
    return dict(dict(video_id='v', timestamp=905, img_key='v,0905', key_frame=150, total_frames=1000), **results)


def test_sampling_of_frames_on_disk():
    """File numbers: the start index is added once."""
    results = SampleKeyFrameClip(4, 16)(_sample(start_index=1, frame_dir='d', fps=30))
    assert results['frame_inds'].tolist() == [119, 135, 151, 167]
    assert (results['clip_len'], results['num_clips']) == (4, 1)
    # Twice the same: no jitter.
    assert SampleKeyFrameClip(4, 16)(_sample(start_index=1))['frame_inds'].tolist() == [119, 135, 151, 167]


def test_sampling_of_a_video_of_another_rate():
    results = SampleKeyFrameClip(4, 16)(_sample(filename='v.mp4', fps=30, avg_fps=25.0, total_frames=130))
    assert results['frame_inds'].tolist() == [98, 112, 125, 129]
    # Data sets that count stored frames do not convert.
    assert SampleKeyFrameClip(3, 1)(_sample(fps=None, avg_fps=25.0))['frame_inds'].tolist() == [149, 150, 151]


def test_key_frame_beyond_the_end():
    with pytest.raises(ValueError, match=r'v\.mp4: key frame v,0905 lies at frame 125, the video has 100'):
        SampleKeyFrameClip(4, 16)(_sample(filename='v.mp4', fps=30, avg_fps=25.0, total_frames=100))
    with pytest.raises(ValueError, match='frames/v: key frame v,0905 lies at frame 150, the video has 10'):
        SampleKeyFrameClip(4, 16)(_sample(frame_dir='frames/v', total_frames=10))


def test_shuffled_frames_keep_the_key_frame():
    np.random.seed(0)
    frames = np.arange(100, 116)
    orders = [ShuffleFrames()(dict(frame_inds=frames))['frame_inds'] for _ in range(20)]
    assert all(sorted(order) == frames.tolist() and order[8] == 108 for order in orders)
    assert len({tuple(order) for order in orders}) == 20
    assert frames.tolist() == list(range(100, 116)), 'the input was changed'


def _clip(height: int, width: int, boxes: list | None = None) -> dict:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(2)]
    results = dict(imgs=images, img_shape=(height, width))
    if boxes is not None:
        results['gt_bboxes'] = np.array(boxes, np.float32).reshape(-1, 4)
    return results


@pytest.mark.parametrize(
    'shape, scale, want',
    [
        ((360, 640), 256, (256, 455)),  # 455.1
        ((270, 480), 256, (256, 455)),
        ((480, 852), 256, (256, 454)),  # 454.4
        ((100, 145), 50, (50, 73)),  # 72.5 rounds up
        ((640, 360), 256, (455, 256)),
        ((300, 300), 256, (256, 256)),
        ((128, 200), 256, (256, 400)),  # enlarges
    ],
)
def test_resized_shape(shape, scale, want):
    results = ResizeShortSide(scale)(_clip(*shape))
    assert results['img_shape'] == want and all(image.shape == (*want, 3) for image in results['imgs'])
    reference = cv2.resize(_clip(*shape)['imgs'][1], want[::-1], interpolation=cv2.INTER_LINEAR)
    assert (results['imgs'][1] == reference).all()


def test_resized_boxes_take_the_ratio_of_the_short_side():
    results = ResizeShortSide(50)(_clip(100, 145, [[10, 20, 145, 100]]))
    # Not 73 / 145 in x.
    assert results['gt_bboxes'].tolist() == [[5, 10, 72.5, 50]] and results['gt_bboxes'].dtype == np.float32


def test_scale_is_one_of_the_choices():
    np.random.seed(0)
    drawn = [min(ResizeShortSide([32, 40])(_clip(64, 80))['img_shape']) for _ in range(40)]
    assert set(drawn) == {32, 40} and 8 < drawn.count(32) < 32


def test_flip():
    clip = _clip(40, 60, [[10, 5, 30, 20], [0, 0, 59, 39]])
    images, boxes = [image.copy() for image in clip['imgs']], clip['gt_bboxes'].copy()
    flipped = FlipClip(1.0)(clip)
    for got, image in zip(flipped['imgs'], images, strict=True):
        assert (got == image[:, ::-1]).all()
    assert flipped['gt_bboxes'].tolist() == [[29, 5, 49, 20], [0, 0, 59, 39]]  # x becomes 60 - 1 - x
    again = FlipClip(1.0)(flipped)
    assert (again['gt_bboxes'] == boxes).all() and (again['imgs'][0] == images[0]).all()
    assert (FlipClip(0.0)(_clip(40, 60, boxes))['gt_bboxes'] == boxes).all()


def test_flip_probability():
    np.random.seed(0)
    first = [FlipClip(0.5)(_clip(4, 4, [[0, 0, 1, 1]]))['gt_bboxes'][0, 0] for _ in range(200)]
    assert 70 < first.count(2) < 130 and first.count(0) == 200 - first.count(2)


def test_clipped_boxes():
    results = ClipBoxes()(_clip(40, 60, [[-3, -1, 60, 40], [10, 10, 59, 39], [70, 50, 80, 60]]))
    assert results['gt_bboxes'].tolist() == [[0, 0, 59, 39], [10, 10, 59, 39], [59, 39, 59, 39]]


def test_clips_without_annotations():
    """At inference there are no boxes."""
    results = _clip(40, 60)
    for transform in (ResizeShortSide(20), FlipClip(1.0), ClipBoxes()):
        results = transform(results)
    assert 'gt_bboxes' not in results and results['img_shape'] == (20, 30)


def test_no_people_on_the_key_frame():
    results = _clip(40, 60, [])
    for transform in (ResizeShortSide(20), FlipClip(1.0), ClipBoxes()):
        results = transform(results)
    assert results['gt_bboxes'].shape == (0, 4)


@pytest.fixture
def frames(tmp_path) -> dict:
    """Four frames, v_000001.jpg to v_000004.jpg, red to blue, and a sample that asks for three of them."""
    for number in range(1, 5):
        image = np.zeros((20, 30, 3), np.uint8)
        image[..., 2], image[..., 0] = 255 - 60 * number, 60 * number  # BGR
        cv2.imwrite(str(tmp_path / f'v_{number:06d}.png'), image)
    return dict(
        frame_dir=str(tmp_path),
        filename_tmpl='v_{:06d}.png',
        frame_inds=np.array([1, 3, 3]),
        modality='RGB',
        img_key='v,0905',
        gt_bboxes=np.array([[0.1, 0.2, 0.5, 1.0]], np.float32),
    )


def test_loaded_frames(frames):
    results = LoadClipFrames()(frames)
    assert [image[0, 0].tolist() for image in results['imgs']] == [[195, 0, 60], [75, 0, 180], [75, 0, 180]]  # RGB
    assert results['img_shape'] == (20, 30)
    np.testing.assert_allclose(results['gt_bboxes'], [[3, 4, 15, 20]], rtol=1e-6)


def test_missing_frame(frames):
    Path(frames['frame_dir'], 'v_000003.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'v_000003\.png of key frame v,0905 does not exist.*prepare_data'):
        LoadClipFrames()(frames)


@pytest.mark.parametrize('content', [b'', b'no picture'], ids=['empty', 'garbage'])
def test_corrupt_frame(frames, content):
    Path(frames['frame_dir'], 'v_000003.png').write_bytes(content)
    with pytest.raises(ValueError, match=r'v_000003\.png of key frame v,0905 cannot be decoded'):
        LoadClipFrames()(frames)


def _write_video(path: Path, fps: float = 25.0, num_frames: int = 50) -> None:
    """Frame i has the grey value 4 * i."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), fps, (64, 48))
    for i in range(num_frames):
        writer.write(np.full((48, 64, 3), 4 * i, np.uint8))
    writer.release()


def test_video_file(tmp_path):
    path = tmp_path / 'v.mp4'
    _write_video(path)
    results = OpenVideo()(_sample(filename=str(path), key_frame=30, fps=30, gt_bboxes=np.array([[0, 0.5, 0.5, 1.0]])))
    assert results['total_frames'] == 50 and results['avg_fps'] == pytest.approx(25)
    results = DecodeVideoClip()(SampleKeyFrameClip(4, 6)(results))
    assert results['frame_inds'].tolist() == [15, 20, 25, 30]
    shades = [image.mean() for image in results['imgs']]
    assert shades == pytest.approx([60, 80, 100, 120], abs=5)
    np.testing.assert_allclose(results['gt_bboxes'], [[0, 24, 32, 48]])


def test_missing_video(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'nowhere\.mp4 does not exist.*data_prefix'):
        OpenVideo()(dict(filename=str(tmp_path / 'nowhere.mp4')))


@pytest.mark.parametrize('damage', ['empty', 'garbage', 'header only'])
def test_damaged_video(tmp_path, damage):
    path = tmp_path / 'damaged.mp4'
    _write_video(path)
    whole = path.read_bytes()
    path.write_bytes({'empty': b'', 'garbage': b'no video at all' * 50, 'header only': whole[:200]}[damage])
    with pytest.raises(ValueError, match=r'damaged\.mp4 (cannot be decoded|has no frames).*again'):
        OpenVideo()(dict(filename=str(path)))


@pytest.mark.parametrize('share', [1.0, 0.5], ids=['all', 'second half'])
def test_damaged_pictures(tmp_path, share):
    """A file whose index survives while its pictures do not."""
    path = tmp_path / 'damaged.mp4'
    _write_video(path)
    content = bytearray(path.read_bytes())
    start, end = content.find(b'mdat') + 8, content.find(b'moov') - 4
    assert 8 < start < end
    start = round(end - share * (end - start))
    content[start:end] = bytes(end - start)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r'damaged\.mp4.*cannot be decoded'):
        DecodeVideoClip()(SampleKeyFrameClip(4, 6)(OpenVideo()(_sample(filename=str(path), key_frame=45))))


def test_video_without_a_suffix(tmp_path):
    """The stock class would look for NAME.mp4."""
    _write_video(tmp_path / 'v.mp4')
    path = (tmp_path / 'v.mp4').rename(tmp_path / 'plain')
    assert OpenVideo()(dict(filename=str(path)))['total_frames'] == 50


def test_packing_keeps_what_predictions_need(frames):
    """Through to the data sample of a test pipeline."""
    results = LoadClipFrames()({**frames, 'video_id': 'v', 'timestamp': 905, 'gt_labels': np.zeros((1, 9), np.float32)})
    results['imgs'] = np.zeros((3, 3, 20, 30), np.uint8)
    sample = PackActionInputs()(results)['data_samples']
    assert (sample.video_id, sample.timestamp, sample.img_shape) == ('v', 905, (20, 30))
    assert sample.gt_instances.bboxes.shape == (1, 4) and sample.gt_instances.labels.shape == (1, 9)
