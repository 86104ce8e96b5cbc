"""Online mode: the same numbers as offline, with one frame computed per sample."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from mmengine.runner.checkpoint import load_state_dict
from mmengine.structures import InstanceData
from sparsebev_batches import make_sample, predict
from torch import nn

NUM_FRAMES = 3


def _batch(number: int, key_frame_only: bool = True, scene: str = 'scene', size: tuple[int, int] = (48, 96)) -> dict:
    images, sample = make_sample(1, NUM_FRAMES, number, size, scene)
    return dict(inputs=dict(img=[images[:6] if key_frame_only else images]), data_samples=[sample])


def _model(build, online: bool = True) -> nn.Module:
    return build(head=dict(num_frames=NUM_FRAMES), test_cfg=dict(online=online)).eval()


def _watch(model: nn.Module) -> list[int]:
    """Numbers of images that the backbone gets from now on."""
    seen: list[int] = []
    model.img_backbone.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    return seen


def _assert_same(found: Iterable[InstanceData], expected: Iterable[InstanceData]) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.scores_3d, other.scores_3d, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(one.bboxes_3d.tensor, other.bboxes_3d.tensor, atol=1e-4, rtol=1e-4)


def test_equals_offline_through_two_scenes(build):
    offline, online = _model(build, online=False), _model(build)
    seen = _watch(online)
    drive = [(number, scene) for scene in ('first', 'second') for number in range(5)]
    for number, scene in drive:
        expected = predict(offline, _batch(number, key_frame_only=False, scene=scene))
        _assert_same(predict(online, _batch(number, scene=scene)), expected)
    assert seen == [6] * len(drive)


def test_other_images_than_those_remembered_matter(build):
    """The past is really looked at: with other past images, the same key frame gives something else."""
    model = _model(build)
    results = []
    for flip in (False, True):
        model.eval()  # a new loop
        for number in range(2):
            batch = _batch(number)
            if flip and number == 0:
                batch['inputs']['img'] = [255 - images for images in batch['inputs']['img']]
            last = predict(model, batch)
        results.append(last[0].scores_3d)
    assert (results[0] - results[1]).abs().max() > 1e-5


def test_missing_frames_are_computed_where_images_are_given(build):
    model = _model(build)
    seen = _watch(model)
    expected = predict(_model(build, online=False), _batch(7, key_frame_only=False))
    _assert_same(predict(model, _batch(7, key_frame_only=False)), expected)
    assert seen == [6, 6, 6]
    predict(model, _batch(8, key_frame_only=False))
    assert seen == [6, 6, 6, 6], 'past frames are remembered'


def test_samples_out_of_order(build):
    model = _model(build)
    predict(model, _batch(0))
    with pytest.raises(
        ValueError, match=r'sample scene-5 needs frame 1, scene/4-0.jpg, which is not among .* 1 frames'
    ):
        predict(model, _batch(5))


@pytest.mark.parametrize('change', ['scene', 'time', 'size', 'loop', 'weights'])
def test_everything_is_forgotten(build, change):
    """In another scene, when time goes backwards, with images of another size, in a new loop, with other weights."""
    model = _model(build)
    for number in (0, 1, 2):
        predict(model, _batch(number))
    assert len(model.memory) == 3
    if change in ('loop', 'weights'):
        model.train(False) if change == 'loop' else load_state_dict(model, model.state_dict())
        assert len(model.memory) == 0
        return
    nexts = dict(scene=_batch(0, scene='other'), time=_batch(0), size=_batch(0, size=(48, 64)))
    if change == 'size':  # not of an earlier time
        sample = nexts['size']['data_samples'][0]
        sample.set_metainfo(dict(img_timestamp=sample.img_timestamp + 10))
    predict(model, nexts[change])
    assert len(model.memory) == 1


def test_memory_is_bounded_and_the_oldest_goes_first(build):
    model = _model(build)
    for number in range(12):
        predict(model, _batch(number))
    assert len(model.memory) == 2 * NUM_FRAMES
    assert list(model.memory._frames) == [f'scene/{number}-0.jpg' for number in range(6, 12)]


def test_features_do_not_hold_the_whole_batch_or_a_graph(build):
    """What is kept are numbers of one frame."""
    model = _model(build)
    predict(model, _batch(0))
    (views,) = model.memory._frames.values()
    assert views.value.shape[:3] == (1, 1, 6) and not views.value.requires_grad
    assert views.value.untyped_storage().nbytes() == views.value.numel() * views.value.element_size()


def test_the_key_frame_is_always_computed(build):
    """The same sample again, as benchmarks do: its own images count, nothing else is computed."""
    model = _model(build)
    for number in (0, 1, 2):
        predict(model, _batch(number))
    seen = _watch(model)
    first, second = predict(model, _batch(2)), predict(model, _batch(2))
    _assert_same(first, second)
    assert seen == [6, 6]


def test_training_of_an_online_model_takes_all_frames(build):
    model = _model(build).train()
    images, sample = make_sample(2, NUM_FRAMES, 9)
    data = model.data_preprocessor(dict(inputs=dict(img=[images]), data_samples=[sample]), training=True)
    assert sum(model(**data, mode='loss').values()).isfinite() and len(model.memory) == 0


def test_batches_are_refused(build):
    model = _model(build)
    batch = _batch(0)
    two = dict(inputs=dict(img=batch['inputs']['img'] * 2), data_samples=batch['data_samples'] * 2)
    with pytest.raises(ValueError, match='test_cfg.online: found a batch of 2, expected one sample at a time'):
        predict(model, two)


def test_several_processes_are_refused_from_the_start(build, monkeypatch):
    """Before an epoch of training is lost; without online mode they are welcome."""
    monkeypatch.setattr('mvbench_plugins.sparsebev.online.get_world_size', lambda: 4)
    with pytest.raises(ValueError, match='test_cfg.online: found 4 processes, expected one, .* test_cfg.online=False'):
        _model(build)
    assert _model(build, online=False).memory is None


@pytest.mark.parametrize('field', ['img_path', 'img_timestamp'])
def test_missing_file_names_and_times(build, field):
    batch = _batch(0)
    delattr(batch['data_samples'][0], field)
    with pytest.raises(ValueError, match='sample scene-0 has .*0 .* img_timestamp, expected one of each .* meta_keys'):
        predict(_model(build), batch)


def test_a_recomputed_key_frame_replaces_what_was_remembered(build):
    """Other images under the name of a frame that comes again: the later samples see these."""
    model, fresh = _model(build), _model(build)
    changed = _batch(0)
    changed['inputs']['img'] = [255 - images for images in changed['inputs']['img']]
    predict(model, _batch(0))
    for one in (model, fresh):
        predict(one, changed)
    _assert_same(predict(model, _batch(1)), predict(fresh, _batch(1)))
