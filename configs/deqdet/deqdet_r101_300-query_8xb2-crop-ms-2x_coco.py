_base_ = './deqdet_r50_300-query_8xb2-crop-ms-2x_coco.py'

model = dict(backbone=dict(depth=101, init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet101')))
