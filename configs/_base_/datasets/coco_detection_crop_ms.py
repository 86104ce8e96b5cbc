# The DETR recipe: flip, then a random short side, or crop first and then a random short side.
_base_ = './coco_detection.py'

_random_short_side = dict(
    type='RandomChoiceResize',
    scales=[
        (480, 1333),
        (512, 1333),
        (544, 1333),
        (576, 1333),
        (608, 1333),
        (640, 1333),
        (672, 1333),
        (704, 1333),
        (736, 1333),
        (768, 1333),
        (800, 1333),
    ],
    keep_ratio=True,
)
_pre_crop_short_side = dict(type='RandomChoiceResize', scales=[(400, 1333), (500, 1333), (600, 1333)], keep_ratio=True)
_crop = dict(type='RandomCrop', crop_type='absolute_range', crop_size=(384, 600), allow_negative_crop=True)

train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomChoice', transforms=[
        [_random_short_side],
        [_pre_crop_short_side, _crop, _random_short_side],
    ]),
    dict(type='PackDetInputs'),
]  # yapf: disable
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
