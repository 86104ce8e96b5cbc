"""docs/own_data.md: its configs, on files as the page describes them, give a loss, predictions and a metric."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner

from mvbench_plugins.datasets.toy import write_davis, write_nuscenes, write_semantic_kitti

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / 'docs' / 'own_data.md'


def blocks(language: str) -> list[str]:
    return re.findall(rf'^```{language}\n(.*?)^```$', PAGE.read_text(), re.MULTILINE | re.DOTALL)


def block_named(name: str) -> str:
    (block,) = (block for block in blocks('python') if block.startswith(f'# {name}\n'))
    return block


def write_config(name: str, text: str) -> Path:
    """A config below the current folder, beside those of the suite."""
    folder = Path('configs', 'my')
    folder.mkdir(parents=True)
    for other in (ROOT / 'configs').iterdir():
        (folder.parent / other.name).symlink_to(other)
    path = folder / f'{name}.py'
    path.write_text(text)
    return path


def write_coco_files(root: Path) -> None:
    """The json of the page, with a picture for it."""
    (root / 'images').mkdir(parents=True)
    cv2.imwrite(str(root / 'images' / '0001.jpg'), np.full((240, 320, 3), 90, np.uint8))
    for name in ('train', 'val'):
        (root / f'{name}.json').write_text(blocks('json')[0])


def write_actions(root: Path) -> None:
    """The csv and the label map of the page, with a video of five seconds for it."""
    (root / 'videos').mkdir(parents=True)
    writer = cv2.VideoWriter(str(root / 'videos' / 'kitchen.mp4'), cv2.VideoWriter.fourcc(*'mp4v'), 25, (128, 96))
    for number in range(125):
        writer.write(np.full((96, 128, 3), number, np.uint8))
    writer.release()
    for name in ('train', 'val'):
        (root / f'{name}.csv').write_text(blocks('csv')[0])
    (label_map,) = (block for block in blocks('text') if block.startswith('item'))
    (root / 'actions.pbtxt').write_text(label_map)
    boxes = ''.join(f'kitchen,{second},0.3,0.2,0.56,0.97,0.9\n' for second in (2, 3))
    (root / 'person_boxes.csv').write_text(boxes)


def write_drives(root: Path) -> None:
    """A complete small set, and the info files by the function behind the command of the page."""
    from mvbench_plugins.sparsebev.sweeps import write_infos

    write_nuscenes(root, num_train=1, num_val=1, size=(160, 90), key_frames=2, azimuths=60)
    write_infos(root, 'v1.0-trainval', root, 'nuscenes_multiview')


def write_scans(root: Path) -> None:
    """Scans and labels, listed by the script of the page."""
    write_semantic_kitti(root, num_train=1, num_val=1, scans=2, azimuths=60)
    for path in root.glob('*.pkl'):
        path.unlink()
    script = Path('list_scans.py')
    script.write_text(block_named('list_scans.py'))
    runpy.run_path(str(script))


def write_masks(root: Path) -> None:
    write_davis(root, num_train=2, num_val=1, size=(96, 64))


def _base(plugin: str) -> Callable[[str], str]:
    return lambda text: re.sub(r"_base_ = '[^']*'", f"_base_ = '../{plugin}'", text)


def _cycleacr(text: str) -> str:
    """As the list below the config says."""
    text = _base('cycleacr/cycleacr_r18_toy.py')(text)
    return text.replace("ann_file='val.csv',", "ann_file='val.csv', person_file='person_boxes.csv',")


CASES = {
    'deqdet': ('deqdet_my', 'my_coco', write_coco_files, None),
    'stmixer': ('stmixer_my', 'my_actions', write_actions, None),
    'evad': ('stmixer_my', 'my_actions', write_actions, _base('evad/evad_vit-toy.py')),
    'cycleacr': ('stmixer_my', 'my_actions', write_actions, _cycleacr),
    'sparsebev': ('sparsebev_my', 'my_drives', write_drives, lambda text: text.replace('width = 1600', 'width = 160')),
    'link_det': ('link_det_my', 'my_drives', write_drives, None),
    'link_seg': ('link_seg_my', 'my_scans', write_scans, None),
    'jointformer': ('jointformer_my', 'my_masks', write_masks, None),
}


@pytest.mark.parametrize('case', CASES)
def test_config_of_the_page_trains_and_measures(case, tmp_path, monkeypatch):
    """Batches can be drawn; where the page changes the model, it takes one, predicts one, and the metric takes that."""
    name, data, write, change = CASES[case]
    monkeypatch.chdir(tmp_path)
    text = block_named(f'configs/my/{name}.py')
    path = write_config(name, change(text) if change else text)
    assert change is None or change(text) != text
    write(tmp_path / 'data' / data)
    cfg = Config.fromfile(path)
    assert 'toy_' not in str({key: cfg[key] for key in ('train_dataloader', 'val_dataloader', 'val_evaluator')})
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        train, val = (_loader(cfg[f'{split}_dataloader']) for split in ('train', 'val'))
        batches = [next(iter(loader)) for loader in (train, val)]
        evaluator = Evaluator(cfg.val_evaluator)
        evaluator.dataset_meta = val.dataset.metainfo
        if '\nmodel = ' not in text:  # that of the toy config, which other tests train
            return
        model = MODELS.build(cfg.model)
        model.init_weights()
        model.train()
        batch = model.data_preprocessor(batches[0], training=True)
        losses, _ = model.parse_losses(model(**batch, mode='loss'))
        losses.backward()
        assert torch.isfinite(losses)
        if case == 'cycleacr':  # predictions need its loop, which gathers the memory of all clips first
            return
        model.eval()
        with torch.no_grad():
            predictions = model.val_step(batches[1])
        assert len(predictions)
        evaluator.process(predictions, batches[1])


def _without(text: str, *starts: str) -> str:
    """The config without the statements that begin so, and without the pipelines they made."""
    kept = [line for line in text.splitlines() if not line.startswith(starts)]
    return re.sub(r', pipeline=\w+', '', '\n'.join(kept) + '\n')


def _deqdet_released(text: str) -> str:
    text = _base('deqdet/deqdet_r50_8xb2-1x_coco.py')(text)
    return _without(text, 'resize', 'train_pipeline', 'test_pipeline')


def _sparsebev_released(text: str) -> str:
    text = _base('sparsebev/sparsebev_r50-nuimg-pre_8xb1-36e_nus-704x256-400q.py')(text)
    return _without(text, 'width', 'crop', 'train_pipeline')


def _cycleacr_released(text: str) -> str:
    text = _base('cycleacr/cycleacr_slowfast-r50-pre_8xb4-32x2x1-50k_ava22-rgb.py')(text)
    cut = "dict(type='SampleKeyFrameClip', clip_len=64, frame_interval=1)"
    text = text.replace('_base_.train_pipeline[0]', cut).replace('[2:]', '[1:]').replace('    frame_list=None,\n', '')
    return text.replace("ann_file='val.csv',", "ann_file='val.csv', person_file='person_boxes.csv', image_file=None,")


def _jointformer_released(text: str) -> str:
    (block,) = re.findall(r'^  ```python\n(.*?)^  ```$', PAGE.read_text(), re.MULTILINE | re.DOTALL)
    text = _base('jointformer/jointformer_s012_6xb2-160k_davis17-ytvos19.py')(text)
    return _without(text, 'model', 'train_dataloader') + re.sub('^  ', '', block, flags=re.MULTILINE)


RELEASED = {
    'deqdet': _deqdet_released,
    'stmixer': _base('stmixer/stmixer_slowonly-r50-k400-pre_8xb2-4x16x1-12e_ava22-rgb.py'),
    'evad': _base('evad/evad_vit-b-ktp-k400-pre_8xb2-16x4x1-12e_ava22-rgb.py'),
    'cycleacr': _cycleacr_released,
    'sparsebev': _sparsebev_released,
    'link_seg': _base('link/linkunet_cosx-2x3_4xb2-25e_semantickitti-seg.py'),
    'jointformer': _jointformer_released,
}


@pytest.mark.parametrize('case', RELEASED)
def test_config_of_the_page_goes_over_to_a_released_one(case, tmp_path, monkeypatch):
    """As "full size" says: the data stay one's own, with their names."""
    name, data, write, _ = CASES[case]
    monkeypatch.chdir(tmp_path)
    path = write_config(name, RELEASED[case](block_named(f'configs/my/{name}.py')))
    write(tmp_path / 'data' / data)
    cfg = Config.fromfile(path)
    settings = str({key: cfg[key] for key in ('train_dataloader', 'val_dataloader', 'val_evaluator')})
    assert set(re.findall(r"'(data/[^/']*)", settings)) == {f'data/{data}'}
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        for split in ('train', 'val'):
            dataset = _loader(cfg[f'{split}_dataloader']).dataset
            assert dataset[0]
            if name in ('deqdet_my', 'stmixer_my'):
                assert tuple(dataset.metainfo['classes']) in (('bolt', 'nut'), ('stand', 'sit', 'drink'))


def _loader(settings: dict) -> torch.utils.data.DataLoader:
    return Runner.build_dataloader(dict(settings, num_workers=0, persistent_workers=False), seed=0)
