_base_ = ['./deqdet_r50_300-query_8xb2-crop-ms-2x_coco.py', './_base_/swin.py']

model = dict(backbone={{_base_.swin_s}}, neck=dict(in_channels=[96, 192, 384, 768]))
optim_wrapper = dict(paramwise_cfg={{_base_.swin_paramwise}})
