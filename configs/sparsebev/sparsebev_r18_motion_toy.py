# Goes on from the toy model, which places and names what it sees, and teaches it how things head and move. A metre is
# worth a metre per second and more than a radian there, but the gradient of a place reaches the network through the
# width of the range, some ten times as large; and where most things stand, an L1 loss is least for standing still.
_base_ = './sparsebev_r18_toy.py'

load_from = 'work_dirs/sparsebev_r18_toy/epoch_16.pth'
model = dict(
    pts_bbox_head=dict(
        denoising=None,
        code_weights=[0.25, 0.25, 0.5, 0.5, 0.5, 0.5, 2.0, 2.0, 1.0, 1.0],
        loss_bbox=dict(_delete_=True, type='mmdet.SmoothL1Loss', beta=1.0, loss_weight=0.5),
    ),
    train_cfg=dict(assigner=dict(reg_weight=1.0)),
)

# A flip mirrors what heading and motion look like.
train_pipeline = [
    *_base_.train_pipeline[:4],
    dict(type='ResizeCropFlipImages', crop_size=(96, 256), ratio_range=(0.7, 1.0), flip_prob=0.0),
    *_base_.train_pipeline[5:],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

max_epochs = 24
train_cfg = dict(max_epochs=max_epochs, val_interval=8)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, T_max=max_epochs, eta_min_ratio=0.02, convert_to_iter_based=True),
]
optim_wrapper = dict(optimizer=dict(lr=6e-4), paramwise_cfg=dict(_delete_=True))
