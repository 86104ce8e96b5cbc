"""Loading, resizing and the whole pipelines of the configs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet3d.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from PIL import Image

from mvbench_plugins.sparsebev.frames import CAMERAS
from mvbench_plugins.sparsebev.transforms import LoadMultiFrameImages, ResizeCropFlipImages


def test_frames_are_loaded_in_order_and_repeat_where_there_is_no_more(make_dataset):
    dataset = make_dataset('val')
    item = LoadMultiFrameImages(num_frames=4, test_mode=True)(dataset.get_data_info(1))
    past = dataset.get_data_info(1)['past']
    frames = [dataset.get_data_info(1)['key_frame'], past[2], past[2], past[2]]
    assert item['img_path'] == [path for frame in frames for path in frame.img_paths]
    assert item['img_timestamp'].dtype == np.float64 and item['img_timestamp'].shape == (24,)
    np.testing.assert_array_equal(item['img_timestamp'], np.concatenate([frame.timestamps for frame in frames]))
    assert item['lidar2img'].shape == (24, 4, 4) and item['lidar2img'].dtype == np.float64
    assert len(item['img']) == 24 and item['img_shape'] == item['ori_shape'] == (90, 160)
    for path, image in zip(item['img_path'], item['img'], strict=True):
        np.testing.assert_array_equal(image, cv2.imread(path))  # BGR, as released weights were trained


def test_a_first_sample_sees_its_own_frame_only(make_dataset):
    """The documented fallback: no past, so the key frame with its own times and matrices."""
    for options in (dict(test_mode=True), {}):
        item = LoadMultiFrameImages(num_frames=3, **options)(make_dataset('val').get_data_info(0))
        assert item['img_path'][:6] == item['img_path'][6:12] == item['img_path'][12:]
        for name in ('img_timestamp', 'lidar2img', 'img'):
            values = np.array(item[name])
            np.testing.assert_array_equal(values[:6], values[6:12])
            np.testing.assert_array_equal(values[:6], values[12:])


def test_remembering_loads_the_key_frame_only(make_dataset):
    whole, key = (
        LoadMultiFrameImages(num_frames=3, test_mode=True, key_frame_only=only)(make_dataset('val').get_data_info(2))
        for only in (False, True)
    )
    assert len(key['img']) == 6 and key['img_path'] == whole['img_path']
    np.testing.assert_array_equal(key['img'], whole['img'][:6])
    np.testing.assert_array_equal(key['lidar2img'], whole['lidar2img'])


def test_one_frame_is_the_key_frame(make_dataset):
    item = LoadMultiFrameImages(num_frames=1)(make_dataset('val').get_data_info(2))
    assert [Path(path).parent.name for path in item['img_path']] == list(CAMERAS)


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (dict(order='newest'), "order: found 'newest'"),
        (dict(num_frames=0), 'num_frames: found 0'),
        (dict(num_frames=8, order='future'), 'odd number'),
        (dict(num_frames=7, order='interleaved', key_frame_only=True), 'cannot be remembered'),
    ],
)
def test_wrong_arguments_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        LoadMultiFrameImages(**options)


def test_draws_for_training_and_tests():
    train, test = ResizeCropFlipImages((256, 704), ratio_range=(0.38, 0.55)), ResizeCropFlipImages((256, 704))
    ratio, place, flip = test.draw((900, 1600))
    assert (ratio, place, flip) == (pytest.approx(0.44), 0, False)
    assert test.draw((90, 320)) == (pytest.approx(256 / 90), (910 - 704) / 2, False)
    np.random.seed(0)
    drawn = [train.draw((900, 1600)) for _ in range(300)]
    ratios, places, flips = (np.array(values) for values in zip(*drawn, strict=True))
    assert 0.38 <= ratios.min() < 0.39 and 0.54 < ratios.max() <= 0.55 and 0.4 < flips.mean() < 0.6
    room = np.maximum(0, (1600 * ratios).astype(int) - 704)
    assert np.all(places <= room) and places.max() > 100 and np.all(places[room == 0] == 0)
    np.random.seed(0)
    assert [train.draw((900, 1600)) for _ in range(300)] == drawn
    for prob in (0, 1):
        train = ResizeCropFlipImages((256, 704), ratio_range=(0.38, 0.55), flip_prob=prob)
        assert {train.draw((900, 1600))[2] for _ in range(30)} == {bool(prob)}


def test_crops_keep_the_bottom_and_fill_with_zeros():
    image = np.random.default_rng(0).integers(1, 256, (90, 160, 3), np.uint8)
    whole = np.asarray(Image.fromarray(image).resize((80, 45), Image.Resampling.BICUBIC))
    transform = ResizeCropFlipImages((30, 60))
    np.testing.assert_array_equal(transform.apply(image, 0.5, 12.9, False), whole[15:, 12:72])
    np.testing.assert_array_equal(transform.apply(image, 0.5, 12.9, True), whole[15:, 12:72][:, ::-1])
    large = ResizeCropFlipImages((50, 100)).apply(image, 0.5, 0.0, False)
    np.testing.assert_array_equal(large[5:, :80], whole)
    assert not large[:5].any() and not large[:, 80:].any()
    results = transform(dict(img=[image, image[::-1], image], lidar2img=np.stack([np.eye(4)] * 3)))
    assert results['img'][0] is results['img'][2] and results['img_shape'] == (30, 60)
    assert not np.array_equal(results['img'][0], results['img'][1])


@pytest.fixture
def config(config_dir, toy_root, info_dir):
    """``config(name)`` reads a base config and points it at the toy set."""

    def read(name: str) -> Config:
        cfg = Config.fromfile(config_dir / '_base_' / 'datasets' / name)
        for split in ('train', 'val'):
            dataset = cfg[f'{split}_dataloader'].dataset
            assert dataset.ann_file == f'nuscenes_multiview_infos_{split}.pkl'
            dataset.update(data_root=str(toy_root), ann_file=str(info_dir / dataset.ann_file))
        assert cfg.val_evaluator.ann_file == f'{cfg.data_root}nuscenes_multiview_infos_val.pkl'
        assert cfg.test_dataloader.dataset.data_root == cfg.val_evaluator.data_root == cfg.data_root
        return cfg

    return read


@pytest.mark.parametrize(
    ('name', 'frames', 'size'), [('nuscenes_multiview.py', 8, (256, 704)), ('toy_nuscenes.py', 2, (96, 256))]
)
def test_configs_lead_from_files_to_batches(config, name, frames, size):
    cfg = config(name)
    preprocessor = MODELS.build(
        dict(type='SparseBEVDataPreprocessor', mean=[0, 0, 0], std=[1, 1, 1], color_augmentation=False)
    )
    for split, training in (('train', True), ('val', False)):
        dataset = DATASETS.build(cfg[f'{split}_dataloader'].dataset)
        batch = preprocessor(pseudo_collate([dataset[1], dataset[2]]), training=training)
        images = batch['inputs']['imgs']
        assert images.shape == (2, frames * 6, 3, *size) and images.dtype == torch.float32
        for sample, index in zip(batch['data_samples'], (1, 2), strict=True):
            meta = sample.metainfo
            assert meta['pad_shape'] == meta['img_shape'] == size and meta['ori_shape'] == (90, 160)
            assert meta['lidar2img'].shape == (frames * 6, 4, 4) and meta['lidar2img'].dtype == np.float64
            assert meta['img_timestamp'].shape == (frames * 6,) and len(meta['img_path']) == frames * 6
            info = dataset.get_data_info(index)
            assert (meta['sample_idx'], meta['token']) == (index, info['token'])
            assert meta['scene_token'] == info['scene_token']
            if training:
                boxes, labels = sample.gt_instances_3d.bboxes_3d, sample.gt_instances_3d.labels_3d
                assert boxes.tensor.shape == (len(labels), 9) and labels.dtype == torch.int64 and len(labels) > 3
                assert boxes.in_range_bev([-51.2 * 1.5, -51.2 * 1.5, 51.2 * 1.5, 51.2 * 1.5]).all()
                assert 0 <= labels.min() and labels.max() < 10


def test_training_items_repeat_under_a_seed(config):
    dataset = DATASETS.build(config('toy_nuscenes.py').train_dataloader.dataset)

    def item(seed: int):
        np.random.seed(seed)
        found = dataset[2]
        return found['inputs']['img'], found['data_samples'].lidar2img, found['data_samples'].gt_instances_3d.bboxes_3d

    first, again, other = item(1), item(1), item(2)
    assert torch.equal(first[0], again[0]) and not torch.equal(first[0], other[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert torch.equal(first[2].tensor, again[2].tensor) and not torch.equal(first[2].tensor, other[2].tensor)
