_base_ = [
    './_base_/deqdet_r50.py',
    '../_base_/datasets/coco_detection_crop_ms.py',
    './_base_/schedule_2x.py',
]

model = dict(rpn_head=dict(num_proposals=300), test_cfg=dict(rcnn=dict(max_per_img=300)))
