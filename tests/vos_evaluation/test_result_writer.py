"""Index maps with palettes, and the folders of the benchmarks."""

import zipfile

import numpy as np
import pytest
from PIL import Image

from mvbench_plugins.common.palette_png import davis_palette, read_palette, write_index_map
from mvbench_plugins.datasets.vos import read_index_mask
from mvbench_plugins.datasets.vos.result_writer import LAYOUTS, ResultWriter


def test_palette_is_that_of_the_benchmarks():
    palette = davis_palette()
    assert palette.shape == (256, 3) and len(np.unique(palette, axis=0)) == 256
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128), 8: (64, 0, 0)}
    assert {label: tuple(palette[label].tolist()) for label in known} == known
    assert palette[255].tolist() == [224, 224, 192]  # VOC's colour of unlabelled pixels
    with pytest.raises(ValueError, match='read-only'):
        palette[1] = 0


def test_labels_and_palette_come_back(tmp_path):
    labels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    own = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8)
    write_index_map(tmp_path / 'a.png', labels, own)
    np.testing.assert_array_equal(read_index_mask(tmp_path / 'a.png'), labels)
    np.testing.assert_array_equal(read_palette(tmp_path / 'a.png'), own)
    with pytest.raises(ValueError, match=r'b.png: found labels int64 \(8, 32\), expected uint8'):
        write_index_map(tmp_path / 'b.png', labels.astype(int), own)


def test_missing_colours_are_those_of_davis(tmp_path):
    short = Image.new('P', (4, 4))
    short.putpalette([9, 8, 7, 6, 5, 4])
    short.save(tmp_path / 'short.png')
    palette = read_palette(tmp_path / 'short.png')
    assert palette[:2].tolist() == [[9, 8, 7], [6, 5, 4]]
    np.testing.assert_array_equal(palette[2:], davis_palette()[2:])
    Image.new('L', (4, 4), 255).save(tmp_path / 'grey.png')
    for source in (tmp_path / 'grey.png', None):
        np.testing.assert_array_equal(read_palette(source), davis_palette())
    (tmp_path / 'text.png').write_text('no picture')
    with pytest.raises(ValueError, match='text.png: no image that can be read'):
        read_palette(tmp_path / 'text.png')


@pytest.mark.parametrize('layout', LAYOUTS)
def test_folders_and_archive(tmp_path, layout):
    writer = ResultWriter(tmp_path / 'new' / 'run.v1', layout)
    mask = np.full((5, 7), 3, np.uint8)
    names = [writer.write('dog', f'{frame:05d}', mask) for frame in (5, 0)]
    folder = 'Annotations/' if layout in ('youtube_vos', 'lvos') else ''
    assert names == [f'{folder}dog/00005.png', f'{folder}dog/00000.png']
    np.testing.assert_array_equal(read_index_mask(tmp_path / 'new' / 'run.v1' / names[0]), mask)
    archive = writer.pack(names[:1])
    assert archive == tmp_path / 'new' / 'run.v1.zip'
    with zipfile.ZipFile(archive) as file:
        assert file.namelist() == names[:1]
        assert file.read(names[0]) == (tmp_path / 'new' / 'run.v1' / names[0]).read_bytes()


def test_palette_is_that_of_the_annotation(tmp_path):
    own = davis_palette()[::-1].copy()
    write_index_map(tmp_path / 'annotation.png', np.zeros((2, 2), np.uint8), own)
    writer = ResultWriter(tmp_path / 'out')
    name = writer.write('v', '00000', np.ones((2, 2), np.uint8), tmp_path / 'annotation.png')
    np.testing.assert_array_equal(read_palette(tmp_path / 'out' / name), own)


def test_bad_places_are_refused(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(NotADirectoryError, match='file is a file, expected a folder or a new name'):
        ResultWriter(tmp_path / 'file')
    with pytest.raises(ValueError, match="layout: found 'coco', expected one of .*'mose'"):
        ResultWriter(tmp_path / 'out', 'coco')
