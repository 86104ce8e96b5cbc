# VOST: 255 is not annotated, and clips with much of it are drawn again.
_base_ = './clips.py'

train_dataloader = dict(
    dataset=dict(
        type='VOSTDataset',
        data_root='data/VOST',
        split='train',
        min_frames=4,
        pipeline=[
            _base_.sparse_clip,
            *_base_.augmentation,
            dict(type='SelectVOSObjects', max_objects=3, ignore_void=True, max_void=0.2),
            dict(type='PackVOSInputs'),
        ],
    )
)
