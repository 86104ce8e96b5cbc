_base_ = [
    './_base_/deqdet_r50.py',
    '../_base_/datasets/coco_detection.py',
    './_base_/schedule_1x.py',
]
