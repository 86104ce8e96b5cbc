# VOST val: J, and J_tr over the last quarter of each video.
_base_ = './_base_/scored.py'

model = dict(test_cfg=dict(max_memory_frames=3, topk=dict(k=30)))
test_dataloader = dict(dataset=dict(type='VOSTDataset', data_root='data/VOST', split='val'))
val_dataloader = test_dataloader
val_evaluator = dict(layout='vost', ignore_void=True)
test_evaluator = val_evaluator
