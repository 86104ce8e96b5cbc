# EVA-02-L with its own pyramid, 15 frames of past and future by turns, 1600 queries with twice the points. Only the first
# four frames are trained through the backbone.
_base_ = './sparsebev_r50.py'

num_grad_frames = 4
model = dict(
    data_preprocessor=dict(grid_mask_frames=num_grad_frames),
    img_backbone=dict(
        _delete_=True,
        type='EVA02SimplePyramid',
        drop_path_rate=0.3,
        out_channels=256,
        frozen_blocks=3,
        with_cp=True,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/eva02_L_coco_det_sys_o365.pth'),
    ),
    img_neck=None,
    num_grad_frames=num_grad_frames,
    pts_bbox_head=dict(num_query=1600, num_frames=15, num_levels=5, num_points=8),
    test_cfg=dict(frames_at_once=1),  # 90 images of 1600x640 at once would take tens of GB
)
