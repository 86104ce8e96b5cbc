_base_ = './deqdet_swin-l_300-query_8xb2-crop-ms-2x_coco.py'

model = dict(rpn_head=dict(num_proposals=900))
