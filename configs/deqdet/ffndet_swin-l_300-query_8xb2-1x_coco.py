_base_ = ['./ffndet_r50_8xb2-1x_coco.py', './_base_/swin.py']

model = dict(
    backbone={{_base_.swin_l}},
    neck=dict(in_channels=[192, 384, 768, 1536]),
    rpn_head=dict(num_proposals=300),
    test_cfg=dict(rcnn=dict(max_per_img=300)),
)
optim_wrapper = dict(paramwise_cfg={{_base_.swin_paramwise}})
