"""From files to voxels, and from predictions to numbers."""

from __future__ import annotations

from pathlib import Path

import mmengine
import numpy as np
import pytest
import torch
from link_clouds import make_batch, make_cloud, small_model
from mmdet3d.models import Det3DDataPreprocessor
from mmdet3d.registry import DATASETS, METRICS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate

from mvbench_plugins.link import NuScenesLidarSegDataset, VoxelSegDataPreprocessor

SIZE = 0.2
KITTI = 'linkunet_cosx-2x3_4xb2-25e_semantickitti-seg'
NUSCENES = 'linkencoder_cosx-2x3_4xb16-80e_nus-seg'


def _preprocessor(**kwargs) -> VoxelSegDataPreprocessor:
    return VoxelSegDataPreprocessor(voxel_size=SIZE, **kwargs)


def test_voxels_are_those_of_the_stock_preprocessor():
    """Whose own way there needs a GPU; its numbering of voxels does not."""
    clouds = [make_cloud(500), make_cloud(300, seed=1)]
    labels = [torch.arange(len(cloud)) for cloud in clouds]
    batch = _preprocessor()(make_batch(clouds, labels))
    voxels, coors = batch['inputs']['voxels']['voxels'], batch['inputs']['voxels']['coors']
    stock = Det3DDataPreprocessor()
    for i, (cloud, sample) in enumerate(zip(clouds, batch['data_samples'], strict=True)):
        grid = np.round(cloud[:, :3].numpy() / np.float32(SIZE)).astype(np.int32)
        grid -= grid.min(0)
        first, inverse = stock.sparse_quantize(grid, return_index=True, return_inverse=True)
        mine = coors[:, 0] == i
        assert np.array_equal(coors[mine, 1:], grid[first])
        assert torch.equal(voxels[mine], cloud[first])
        assert np.array_equal(sample.point2voxel_map, inverse)
        assert np.array_equal(sample.gt_pts_seg.voxel_semantic_mask, first)
        assert torch.equal(sample.batch_idx, coors[mine, 0])
        assert len(first) < len(cloud)


def test_too_many_voxels_are_drawn_in_training_only():
    cloud = make_cloud(500)
    labels = [torch.arange(500)]
    preprocessor = _preprocessor(max_voxels=50)
    everything = preprocessor.eval()(make_batch([cloud], labels))['inputs']['voxels']['voxels']
    assert len(everything) > 50
    drawn = [preprocessor.train()(make_batch([cloud], labels), training=True) for _ in range(2)]
    known = set(map(tuple, everything.tolist()))
    for batch in drawn:
        voxels = batch['inputs']['voxels']['voxels']
        assert len(set(map(tuple, voxels.tolist()))) == 50 and set(map(tuple, voxels.tolist())) <= known
        assert torch.equal(cloud[batch['data_samples'][0].gt_pts_seg.voxel_semantic_mask], voxels)
    assert not torch.equal(drawn[0]['inputs']['voxels']['voxels'], drawn[1]['inputs']['voxels']['voxels'])


def test_bad_points_are_named():
    preprocessor, cloud = _preprocessor(), make_cloud(10)
    strange = cloud.clone()
    strange[7, 1] = float('nan')
    with pytest.raises(ValueError, match=r'scan_1.bin: 1 of 10 points hold values that are not finite.* point 7'):
        preprocessor(make_batch([cloud, strange]))
    with pytest.raises(
        ValueError, match=r'scan_0.bin: found points of shape \[8, 5\], expected \[N, 4\]; set load_dim'
    ):
        preprocessor(make_batch([cloud.flatten().view(8, 5)]))
    with pytest.raises(ValueError, match='scan_0.bin: 10 points, but 9 labels'):
        preprocessor(make_batch([cloud], [torch.zeros(9, dtype=torch.long)]))


def test_metric_counts_unlabelled_answers_as_wrong():
    """Classes a, b, c and answer 3 for unlabelled; nothing is c."""
    metric = METRICS.build(dict(type='UnlabelledSegMetric'))
    metric.dataset_meta = dict(label2cat={0: 'a', 1: 'b', 2: 'c'}, ignore_index=3)
    truth = np.array([0, 0, 0, 0, 1, 1, 3, 3])
    answer = torch.tensor([0, 0, 3, 1, 1, 3, 0, 3])
    sample = dict(pred_pts_seg=dict(pts_semantic_mask=answer), eval_ann_info=dict(pts_semantic_mask=truth))
    metric.process({}, [sample])
    got = metric.evaluate(1)
    assert (got['a'], got['b']) == pytest.approx((2 / 4, 1 / 3)) and np.isnan(got['c'])
    assert got['miou'] == pytest.approx((2 / 4 + 1 / 3) / 2)
    assert got['miou_official'] == pytest.approx((2 / 4 + 1 / 3 + 1) / 3)
    assert got['acc'] == pytest.approx(3 / 6) and 'unlabelled' not in got
    assert metric.dataset_meta['label2cat'] == {0: 'a', 1: 'b', 2: 'c'}


def _write_scan(root: Path, name: str, points: np.ndarray, labels: np.ndarray) -> dict:
    """A scan in KITTI's files; returns its entry of an info file."""
    for folder, array, suffix in (('points', points, '.bin'), ('labels', labels, '.label')):
        (root / folder).mkdir(parents=True, exist_ok=True)
        array.tofile(root / folder / f'{name}{suffix}')
    return dict(
        sample_idx=name,
        lidar_points=dict(lidar_path=f'points/{name}.bin', num_pts_feats=points.shape[1]),
        pts_semantic_mask_path=f'labels/{name}.label',
    )


@pytest.mark.parametrize(
    ('config', 'infos', 'raw', 'wanted'),
    [
        # car in motion with an instance number, unlabelled, road, traffic sign
        (KITTI, 'semantickitti_infos', [252 + (5 << 16), 0, 40, 81], [0, 19, 8, 18]),
        # car, noise, vegetation, barrier
        (NUSCENES, 'nuscenes_infos', [17, 0, 30, 9], [3, 16, 15, 0]),
    ],
)
def test_files_of_a_data_set_train_and_are_measured(config, infos, raw, wanted, config_dir, tmp_path):
    """The configs' own pipelines on files of their kind."""
    cfg = Config.fromfile(config_dir / 'link' / f'{config}.py')
    nuscenes = infos.startswith('nuscenes')
    entries = []
    for i in range(2):
        cloud = make_cloud(80, seed=i).numpy()
        if nuscenes:
            cloud = np.pad(cloud, [(0, 0), (0, 1)])
        entries.append(
            _write_scan(tmp_path, f'{i:06d}', cloud, np.tile(raw, 20).astype(np.uint8 if nuscenes else np.uint32))
        )
    for split in ('train', 'val'):
        mmengine.dump(dict(metainfo={}, data_list=entries), tmp_path / f'{infos}_{split}.pkl')
    datasets = []
    for split in ('train', 'val'):
        spec = cfg[f'{split}_dataloader'].dataset
        spec.update(data_root=str(tmp_path) + '/', data_prefix=dict(pts='', pts_semantic_mask=''))
        datasets.append(DATASETS.build(spec))
    train, val = datasets
    model = small_model(config_dir, config)
    batch = pseudo_collate([train[0], train[1]])
    assert batch['data_samples'][0].gt_pts_seg.pts_semantic_mask.tolist() == wanted * 20
    original = torch.from_numpy(make_cloud(80).numpy())
    moved = batch['inputs']['points'][0]
    assert moved.shape == (80, 4) and not torch.allclose(moved[:, :2], original[:, :2])
    scale = moved[:, :3].norm(dim=1) / original[:, :3].norm(dim=1)
    assert scale.std() < 1e-4 and 0.95 <= scale.mean() <= 1.05
    losses = model(**model.train().data_preprocessor(batch, training=True), mode='loss')
    assert all(torch.isfinite(loss) for loss in losses.values())

    metric = METRICS.build(cfg.val_evaluator)
    metric.dataset_meta = val.metainfo
    sample = val[0]
    torch.testing.assert_close(sample['inputs']['points'], original)
    for result in model.eval().val_step(pseudo_collate([sample, val[1]])):
        metric.process({}, [result.to_dict()])
    assert 0 <= metric.evaluate(2)['miou'] <= 1


def test_nuscenes_classes_of_the_challenge(tmp_path):
    """All 32 categories, by name of class."""
    mmengine.dump(dict(metainfo={}, data_list=[]), tmp_path / 'infos.pkl')
    dataset = NuScenesLidarSegDataset(
        metainfo=dict(classes=NuScenesLidarSegDataset.METAINFO['classes']),
        data_root=str(tmp_path),
        ann_file='infos.pkl',
        lazy_init=True,
    )
    names = [*dataset.metainfo['classes'], '-']
    got = [names[label] for label in dataset.seg_label_mapping]
    walker, gone = 'pedestrian', '-'
    assert got == [
        gone, gone, walker, walker, walker, gone, walker, gone, gone, 'barrier', gone, gone, 'traffic_cone', gone,
        'bicycle', 'bus', 'bus', 'car', 'construction_vehicle', gone, gone, 'motorcycle', 'trailer', 'truck',
        'driveable_surface', 'other_flat', 'sidewalk', 'terrain', 'manmade', gone, 'vegetation', gone,
    ]  # fmt: skip
