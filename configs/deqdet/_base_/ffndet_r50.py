_base_ = './decoder_layer.py'

model = dict(roi_head=dict(type='FFNDetRoIHead', num_stages=6, bbox_head={{_base_.decoder_layer}}))
