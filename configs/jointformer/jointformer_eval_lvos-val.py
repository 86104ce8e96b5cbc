# LVOS val.
_base_ = './_base_/scored.py'

model = dict(test_cfg=dict(max_memory_frames=3, topk=dict(k=120)))
test_dataloader = dict(dataset=dict(type='LVOSDataset', data_root='data/LVOS', split='val'))
val_dataloader = test_dataloader
val_evaluator = dict(layout='lvos')
test_evaluator = val_evaluator
