# BL30K: rendered videos of flying things. Smaller crops, no affine maps, and no objects that only come into view.
_base_ = './clips.py'

_load, _whole, _each = _base_.augmentation
_whole['transforms'][1]['area'] = (0.25, 1.0)
_each['transforms'] = _each['transforms'][1:]
train_dataloader = dict(
    dataset=dict(
        type='VOSDataset',
        data_root='data/BL30K',
        min_frames=4,
        pipeline=[
            _base_.clip,
            _load,
            _whole,
            _each,
            dict(type='SelectVOSObjects', max_objects=3, small_object_areas=(100, 400, 900)),
            dict(type='PackVOSInputs'),
        ],
    )
)
