# ResNet-101 with a fifth level.
_base_ = './sparsebev_r50.py'

model = dict(
    img_backbone=dict(
        depth=101,
        init_cfg=dict(
            checkpoint='https://download.openmmlab.com/mmdetection3d/v0.1.0_models/nuimages_semseg/'
            'cascade_mask_rcnn_r101_fpn_1x_nuim/cascade_mask_rcnn_r101_fpn_1x_nuim_20201024_134804-45215b1e.pth'
        ),
    ),
    img_neck=dict(num_outs=5),
    pts_bbox_head=dict(num_levels=5),
)
