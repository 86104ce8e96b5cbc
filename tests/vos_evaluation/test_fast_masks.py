"""Masks read fast are those that Pillow reads, whatever the file looks like."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from mvbench_plugins.common.palette_png import davis_palette, write_index_map
from mvbench_plugins.datasets.vos import read_index_mask
from mvbench_plugins.evaluation import fast_masks
from mvbench_plugins.evaluation.fast_masks import read_mask

MASK = np.random.default_rng(0).integers(0, 9, (13, 22), np.uint8)


def png(kind: str) -> bytes:
    """A mask as other programs write it."""
    buffer = io.BytesIO()
    if kind == 'filtered':  # OpenCV's grey images have filtered rows
        return cv2.imencode('.png', MASK)[1].tobytes()
    if kind == 'many chunks':
        rows = zlib.compress(np.pad(MASK, ((0, 0), (1, 0))).tobytes())
        parts = [rows[start : start + 10] for start in range(0, len(rows), 10)]
        chunks = [(b'IHDR', struct.pack('>IIBBBBB', 22, 13, 8, 0, 0, 0, 0)), *((b'IDAT', part) for part in parts)]
        chunks.append((b'IEND', b''))
        body = (struct.pack('>I', len(c)) + k + c + struct.pack('>I', zlib.crc32(k + c)) for k, c in chunks)
        return b'\x89PNG\r\n\x1a\n' + b''.join(body)
    image = Image.fromarray(MASK)
    if kind == 'binary':
        image = Image.fromarray(MASK > 4)
    if kind == '4 bits':
        image.putpalette(davis_palette()[:16].tobytes())
        image.save(buffer, 'PNG', bits=4)
    else:
        image.save(buffer, 'BMP' if kind == 'bmp' else 'PNG')
    return buffer.getvalue()


@pytest.mark.parametrize('kind', ['grey', 'filtered', 'many chunks', 'binary', '4 bits', 'bmp'])
def test_equal_to_pillow(tmp_path, kind):
    (tmp_path / 'mask.png').write_bytes(png(kind))
    found = read_mask(tmp_path / 'mask.png')
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, read_index_mask(tmp_path / 'mask.png'))
    if kind != 'binary':
        np.testing.assert_array_equal(found, MASK)


def test_palette_images_are_read_without_pillow(tmp_path, monkeypatch):
    write_index_map(tmp_path / 'mask.png', MASK, davis_palette())
    monkeypatch.setattr(fast_masks, 'read_index_mask', None)
    np.testing.assert_array_equal(read_mask(tmp_path / 'mask.png'), MASK)


def test_broken_files_are_named(tmp_path):
    path = tmp_path / 'mask.png'
    with pytest.raises(FileNotFoundError, match='mask.png: no such mask'):
        read_mask(path)
    write_index_map(path, MASK, davis_palette())
    whole = path.read_bytes()
    no_header = whole[:8] + whole[-12:]
    for broken in (b'', whole[:20], whole[:-30], b'text', whole[:900] + bytes(20) + whole[920:], no_header):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match='mask.png: the mask cannot be read'):
            read_mask(path)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (5, 5, 3), np.uint8)).save(path)
    with pytest.raises(ValueError, match="mask.png: found a picture of mode 'RGB' with colours"):
        read_mask(path)
