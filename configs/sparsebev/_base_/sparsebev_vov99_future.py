# VoVNet-99, 15 frames of past and future, 1600 queries, a fifth level.
_base_ = './sparsebev_r50.py'

model = dict(
    # Its pretraining took blue first.
    data_preprocessor=dict(mean=[103.53, 116.28, 123.675], std=[57.375, 57.12, 58.395], bgr_to_rgb=False),
    img_backbone=dict(
        _delete_=True,
        type='VoVNetV2',
        frozen_stages=1,
        with_cp=True,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/dd3d_det_final.pth', prefix='img_backbone.'),
    ),
    img_neck=dict(in_channels=[256, 512, 768, 1024], num_outs=5),
    pts_bbox_head=dict(num_query=1600, num_frames=15, num_levels=5),
    test_cfg=dict(frames_at_once=1),  # 90 images of 1600x640 at once would take tens of GB
)
