# Content vectors of 384 channels; the feature pyramid keeps 256.
_base_ = './deqdet_swin-l_300-query_8xb2-1x_coco.py'

model = dict(rpn_head=dict(proposal_feature_channel=384), roi_head=dict(bbox_head=dict(content_dim=384)))
