# The same frames by turns: one earlier, one later.
_base_ = './nuscenes-trainval_1600x640_future.py'

train_pipeline = [
    dict(type='LoadMultiFrameImages', num_frames=15, order='interleaved'),
    *_base_.train_pipeline[1:],
]
test_pipeline = [
    dict(type='LoadMultiFrameImages', num_frames=15, order='interleaved', test_mode=True),
    *_base_.test_pipeline[1:],
]

train_dataloader = dict(
    dataset=dict(
        datasets=[dict(dataset, pipeline=train_pipeline) for dataset in _base_.train_dataloader.dataset.datasets]
    )
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
